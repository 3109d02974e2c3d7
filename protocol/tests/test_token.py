"""The enrolment token as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_world import World, refusal
from securecloud_protocol.encoding import b64u_encode
from securecloud_protocol.errors import ErrorCode, ProtocolError
from securecloud_protocol.token import EnrolmentToken, format_token, parse_token

SECRET = b64u_encode(bytes(32))


def test_a_token_comes_back_also_from_a_file_with_a_line_end(world: World) -> None:
    text = format_token(world.token)
    assert parse_token(text) == parse_token(f" {text}\n") == world.token
    assert text == f"sce.t0k3n.{b64u_encode(world.token.secret)}.{world.responder.fingerprint}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sce",
        f"sct.a.{SECRET}.{SECRET}",
        f"sce.A.{SECRET}.{SECRET}",
        f"sce..{SECRET}.{SECRET}",
        f"sce.{'a' * 65}.{SECRET}.{SECRET}",
        f"sce.a.{SECRET}",
        f"sce.a.{SECRET}.{SECRET}.x",
        f"sce.a.{SECRET[:-1]}.{SECRET}",
        f"sce.a.{SECRET[:-1]}B.{SECRET}",
        f"sce.a.{SECRET}.{SECRET[:-1]}B",
        f"sce.a.{SECRET}\n.{SECRET}",
        f"sce.\u0661.{SECRET}.{SECRET}",
    ],
)
def test_other_text_is_malformed(text: str) -> None:
    assert refusal(lambda: parse_token(text)) is ErrorCode.MALFORMED


@given(st.text())
def test_any_text_is_a_token_or_malformed(text: str) -> None:
    assert refusal(lambda: parse_token(text)) is ErrorCode.MALFORMED


def test_neither_error_nor_repr_repeats_the_secret() -> None:
    secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3J"
    with pytest.raises(ProtocolError) as caught:
        parse_token(f"sce.a.{secret}.tooshort")
    assert secret not in str(caught.value)
    assert "secret" not in repr(EnrolmentToken("a", b"secret", SECRET))


@pytest.mark.parametrize(
    "token",
    [
        EnrolmentToken("A", bytes(32), SECRET),
        EnrolmentToken("a", bytes(31), SECRET),
        EnrolmentToken("a", bytes(32), "x"),
    ],
)
def test_no_text_is_made_that_would_not_parse(token: EnrolmentToken) -> None:
    with pytest.raises(ValueError, match="enrolment token"):
        format_token(token)
