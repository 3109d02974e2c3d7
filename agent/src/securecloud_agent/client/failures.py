"""What can go wrong between agent and server, in words that say what to do."""

from securecloud_protocol.errors import ErrorCode, ProtocolError

from securecloud_agent.errors import AgentError


class UnreachableError(AgentError):
    """No server answered; asking again later may help."""

    code = "unreachable"


class NotWorkingError(UnreachableError):
    """Something is there and answers, and cannot work now; asking again later may help."""


class NotOfferedError(NotWorkingError):
    """What answered does not know the path; a server of an older version, or a proxy."""


class NotTrustedError(AgentError):
    """What answered is not proved to be the server; asking again will not help."""

    code = "not_trusted"


class RefusedError(AgentError):
    """The server refused a message with a closed code, or its answer was not acceptable."""

    def __init__(self, text: str, protocol_code: ErrorCode) -> None:
        super().__init__(text, protocol_code.value)
        self.protocol_code = protocol_code


_REMEDIES = {
    ErrorCode.MALFORMED: "the two sides do not understand each other; compare their versions",
    ErrorCode.TOO_LARGE: "the evidence is too large; a policy asks for too much at once",
    ErrorCode.UNSUPPORTED_VERSION: "agent and server speak different protocol versions; upgrade"
    " the older one",
    ErrorCode.UNEXPECTED_TYPE: "the two sides do not understand each other; compare their versions",
    ErrorCode.NOT_AUTHENTICATED: "one side does not recognise the other: the agent may have been"
    " retired, the server set up anew, or the TLS connection intercepted; see the server's log",
    ErrorCode.ENROLMENT_REFUSED: "the token is unknown, used, expired or revoked, or was made for"
    " another agent name; make a new one",
    ErrorCode.IDENTITY_CONFLICT: "an agent of this name is enrolled with another identity, which"
    " is never overwritten; retire that agent first, or choose another name",
    ErrorCode.UNKNOWN_DEVICE: "a device that was asked for is not registered for this agent",
    ErrorCode.EXPIRED: "the answer came too late; collecting facts took long, or the servers'"
    " clocks differ",
    ErrorCode.REPLAYED: "the server has seen this message before",
    ErrorCode.STALE: "what the server asked for changed meanwhile; ask again",
    ErrorCode.UNAVAILABLE: "the server cannot work now (database or keystore); see its /readyz",
    ErrorCode.INTERNAL: "the server failed; its log says why",
}


_ASK_AGAIN = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.INTERNAL})


def explain(error: ProtocolError, url: str, step: str) -> RefusedError | UnreachableError:
    """Return the operator's view of a protocol error that came up at `step` with `url`.

    A server that cannot work now is like one that is not there: ask later, or ask another.
    """
    # `detail` is ours: of the peer's words only the closed code gets here.
    text = f"{url}: {step}: {error.code.value} ({error.detail}): {_REMEDIES[error.code]}"
    if error.code in _ASK_AGAIN:
        return NotWorkingError(text, error.code.value)
    return RefusedError(text, error.code)
