"""One connection to a KMIP server (KMIP 1.2, section 4; TTLV over TLS, profile section 3.1).

PyKMIP encodes and decodes. The connection is our own: its verifies the server's name, ends every
answer at one deadline however slowly it drips, and logs no message, for those hold keys.
"""

import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from kmip.core import attributes, enums, misc, objects, secrets
from kmip.core.factories.attributes import AttributeFactory
from kmip.core.messages import contents, messages, payloads
from kmip.core.utils import BytearrayStream

from securecloud_server.domain.errors import Unavailable

T = TypeVar("T")

_VERSION = enums.KMIPVersion.KMIP_1_2
_HEADER_BYTES = 8
_RESPONSE_TAG = b"\x42\x00\x7b\x01"
_LONGEST_ANSWER = 64 * 1024
_LONGEST_REASON = 200
_STATE = "State"
_GONE = frozenset({"DESTROYED", "DESTROYED_COMPROMISED"})


class Broken(Unavailable):
    """The connection is of no use any more; `unanswered` when it was closed before an answer."""

    def __init__(self, reason: str, *, unanswered: bool = False) -> None:
        super().__init__(f"the KMIP server {reason}")
        self.unanswered = unanswered


class Absent(Exception):
    """The server has no such object, or destroyed it."""


class Open(Protocol):
    """Makes a connection."""

    def __call__(self) -> "Link":
        """Return a fresh connection; raises Broken."""


def client_context(ca_file: str, certificate: str, key: str) -> ssl.SSLContext:
    """Return how to connect: TLS 1.2 or later, the server's name verified, with a certificate."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        reason = error.reason or "OpenSSL refuses them"
        raise Unavailable(
            f"the certificates for the KMIP server cannot be used: {reason}"
        ) from None
    except OSError as error:
        reason = f"{error.strerror} ({ca_file}, {certificate} or {key})"
        raise Unavailable(f"a certificate for the KMIP server cannot be read: {reason}") from None
    return context


def connector(host: str, port: int, context: ssl.SSLContext, seconds: float) -> Open:
    """Return what connects to this server; each step of a connection has `seconds`."""

    def connect() -> Link:
        try:
            plain = socket.create_connection((host, port), seconds)
            try:
                return Link(context.wrap_socket(plain, server_hostname=host), seconds)
            except BaseException:
                plain.close()
                raise
        except ssl.SSLCertVerificationError as error:
            raise Broken(f"has no certificate to trust: {error.verify_message}") from None
        except TimeoutError:
            raise Broken(f"did not let us connect within {seconds:g} s") from None
        except OSError as error:
            raise Broken(f"cannot be reached: {error.strerror or type(error).__name__}") from None

    return connect


class Link:
    """Asks one question after the other, for one thread at a time.

    `in_step` as long as every question got its answer; `used` once it has answered.
    """

    def __init__(self, stream: ssl.SSLSocket, seconds: float) -> None:
        self._stream = stream
        self._seconds = seconds
        self.in_step = True
        self.used = False

    def close(self) -> None:
        """Hang up."""
        self.in_step = False
        self._stream.close()

    def has_news(self) -> bool:
        """Say whether there is something to read though nothing was asked: mostly, the end."""
        try:
            return bool(select.select([self._stream], [], [], 0)[0])
        except (OSError, ValueError):
            return True

    # --- what a keystore asks

    def register(self, material: bytes, name: str) -> str:
        """Store a Secret Data object and return its identifier (section 4.3)."""
        key_block = objects.KeyBlock(
            key_format_type=misc.KeyFormatType(enums.KeyFormatType.OPAQUE),
            key_compression_type=None,
            key_value=objects.KeyValue(objects.KeyMaterial(material)),
            cryptographic_algorithm=None,
            cryptographic_length=None,
            key_wrapping_data=None,
        )
        kind = secrets.SecretData.SecretDataType(enums.SecretDataType.SEED)
        factory = AttributeFactory()
        named = attributes.Name.create(
            f"securecloud {name}", enums.NameType.UNINTERPRETED_TEXT_STRING
        )
        template = objects.TemplateAttribute(
            attributes=[
                factory.create_attribute(enums.AttributeType.NAME, named),
                factory.create_attribute(
                    enums.AttributeType.CRYPTOGRAPHIC_USAGE_MASK,
                    [enums.CryptographicUsageMask.EXPORT],
                ),
            ]
        )
        request = payloads.RegisterRequestPayload(
            object_type=enums.ObjectType.SECRET_DATA,
            template_attribute=template,
            managed_object=secrets.SecretData(kind, key_block),
        )
        (answer,) = self._ask((enums.Operation.REGISTER, request))
        return self._read(lambda: str(answer.unique_identifier))

    def activate(self, identifier: str) -> None:
        """Make it active (section 4.19)."""
        which = attributes.UniqueIdentifier(identifier)
        self._ask((enums.Operation.ACTIVATE, payloads.ActivateRequestPayload(which)))

    def get(self, identifier: str) -> tuple[str, bytes]:
        """Return its state and its material, asked for in one message (sections 4.11, 4.12).

        Get alone returns what was revoked, too.
        """
        attribute, got = self._ask(
            (enums.Operation.GET_ATTRIBUTES, _state_of(identifier)),
            (enums.Operation.GET, payloads.GetRequestPayload(unique_identifier=identifier)),
        )
        if {str(attribute.unique_identifier), str(got.unique_identifier)} != {identifier}:
            raise self._out_of_step("answered about another object")
        material = self._read(lambda: bytes(got.secret.key_block.key_value.key_material.value))
        return self._state(attribute), material

    def state(self, identifier: str) -> str:
        """Return its state (KMIP 1.2, section 3.22)."""
        (answer,) = self._ask((enums.Operation.GET_ATTRIBUTES, _state_of(identifier)))
        state = self._state(answer)
        if state in _GONE:
            raise Absent
        return state

    def revoke(self, identifier: str) -> None:
        """Deactivate it (section 4.20)."""
        reason = objects.RevocationReason(code=enums.RevocationReasonCode.CESSATION_OF_OPERATION)
        which = attributes.UniqueIdentifier(identifier)
        request = payloads.RevokeRequestPayload(which, reason)
        self._ask((enums.Operation.REVOKE, request))

    def destroy(self, identifier: str) -> None:
        """Destroy its material (section 4.21)."""
        which = attributes.UniqueIdentifier(identifier)
        self._ask((enums.Operation.DESTROY, payloads.DestroyRequestPayload(which)))

    def operations(self) -> frozenset[str]:
        """Return the names of what the server can do (section 4.25)."""
        request = payloads.QueryRequestPayload([enums.QueryFunction.QUERY_OPERATIONS])
        (answer,) = self._ask((enums.Operation.QUERY, request))
        return self._read(lambda: frozenset(each.name for each in answer.operations or ()))

    # --- messages

    def _ask(self, *questions: tuple[Any, Any]) -> Sequence[Any]:
        """Return the payload of each answer; Absent or Unavailable where one is a failure."""
        self.in_step = False
        answer = self._exchange(_request(questions))
        items = self._read(lambda: _answers(answer, questions))
        self.in_step = True
        for item in items:
            _require_success(item)
        return [item.response_payload for item in items]

    def _exchange(self, request: bytes) -> bytes:
        give_up = time.monotonic() + self._seconds
        got = b""
        try:
            self._stream.settimeout(self._seconds)
            self._stream.sendall(request)
            got = self._receive(b"", _HEADER_BYTES, give_up)
            if got[:4] != _RESPONSE_TAG:
                raise Broken("does not speak KMIP")
            length = int.from_bytes(got[4:8], "big")
            if length > _LONGEST_ANSWER:
                raise Broken(f"announced an answer of {length} octets")
            return self._receive(got, _HEADER_BYTES + length, give_up)
        except TimeoutError:
            raise Broken(f"did not answer within {self._seconds:g} s") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise Broken(f"hung up: {reason}", unanswered=self.used and not got) from None

    def _receive(self, begun: bytes, length: int, give_up: float) -> bytes:
        found = bytearray(begun)
        while len(found) < length:
            left = give_up - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._stream.settimeout(left)
            piece = self._stream.recv(length - len(found))
            if not piece:
                raise Broken("hung up", unanswered=self.used and not found)
            found += piece
        return bytes(found)

    def _read(self, parse: Callable[[], T]) -> T:
        """Return what `parse` does; whatever is wrong with an answer, it is the server's."""
        try:
            return parse()
        except Exception as error:
            raise self._out_of_step(f"sent what cannot be read ({type(error).__name__})") from None

    def _out_of_step(self, what: str) -> Broken:
        self.in_step = False
        return Broken(what)

    def _state(self, answer: Any) -> str:
        def parse() -> str:
            (found,) = [
                each.attribute_value.value
                for each in answer.attributes
                if each.attribute_name.value == _STATE
            ]
            return str(found.name)

        return self._read(parse)


def _state_of(identifier: str) -> Any:
    return payloads.GetAttributesRequestPayload(identifier, [_STATE])


def _request(questions: Sequence[tuple[Any, Any]]) -> bytes:
    items = [
        messages.RequestBatchItem(
            operation=contents.Operation(operation),
            # Needed as soon as there are two of them.
            unique_batch_item_id=contents.UniqueBatchItemID(b"%d" % number),
            request_payload=payload,
        )
        for number, (operation, payload) in enumerate(questions, 1)
    ]
    header = messages.RequestHeader(
        protocol_version=contents.ProtocolVersion(1, 2), batch_count=contents.BatchCount(len(items))
    )
    stream = BytearrayStream()
    messages.RequestMessage(header, items).write(stream, _VERSION)
    return bytes(stream.buffer)


def _answers(octets: bytes, questions: Sequence[tuple[Any, Any]]) -> Sequence[Any]:
    message = messages.ResponseMessage()
    message.read(BytearrayStream(octets), _VERSION)
    items: Sequence[Any] = message.batch_items
    failed = [item for item in items if not _succeeded(item)]
    # A failure ends a batch (section 6.13), so that later questions have no answer.
    if len(items) != len(questions) and items[-1:] != failed[:1]:
        raise ValueError("another number of answers than of questions")
    for item, (operation, _) in zip(items, questions, strict=False):
        if item.operation is not None and item.operation.value != operation:
            raise ValueError("the answer to another question")
        if item.operation is None and _succeeded(item):
            raise ValueError("a success of no operation")
    return items


def _succeeded(item: Any) -> bool:
    found: bool = item.result_status.value == enums.ResultStatus.SUCCESS
    return found


def _require_success(item: Any) -> None:
    if _succeeded(item):
        return
    reason = item.result_reason.value if item.result_reason is not None else None
    if reason in {enums.ResultReason.ITEM_NOT_FOUND, enums.ResultReason.OBJECT_DESTROYED}:
        raise Absent
    text = item.result_message.value if item.result_message is not None else ""
    said = "".join(each if each.isprintable() else "?" for each in str(text))[:_LONGEST_REASON]
    raise Unavailable(f"the KMIP server refused: {reason.name if reason else said or 'no reason'}")
