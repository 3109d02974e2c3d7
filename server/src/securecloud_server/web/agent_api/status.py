"""The HTTP status of each error code. The code in the body is what counts for agents."""

from securecloud_protocol.errors import ErrorCode

STATUS = {
    ErrorCode.MALFORMED: 400,
    ErrorCode.UNSUPPORTED_VERSION: 400,
    ErrorCode.UNEXPECTED_TYPE: 400,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.NOT_AUTHENTICATED: 401,
    ErrorCode.ENROLMENT_REFUSED: 403,
    ErrorCode.UNKNOWN_DEVICE: 403,
    ErrorCode.IDENTITY_CONFLICT: 409,
    ErrorCode.EXPIRED: 409,
    ErrorCode.REPLAYED: 409,
    ErrorCode.STALE: 409,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.INTERNAL: 500,
}
