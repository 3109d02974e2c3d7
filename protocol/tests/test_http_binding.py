"""Every error code has an HTTP status, and no HTTP library repeats a refused request by itself."""

from securecloud_protocol.errors import ErrorCode
from securecloud_protocol.http_binding import STATUS


def test_every_code_has_a_status_of_a_failure() -> None:
    assert set(STATUS) == set(ErrorCode)
    assert all(400 <= status < 600 for status in STATUS.values())
    assert not {408, 421, 425, 429} & {int(status) for status in STATUS.values()}
