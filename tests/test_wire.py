"""What each operation puts on the wire, read back by decoders that are not ours."""

from __future__ import annotations

from datetime import datetime
from email.message import Message as Part
from email.parser import BytesParser
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import FIRST, SECOND, TOKEN, a_request

from innocalls_async import BridgeRequest
from innocalls_async.wire import DEFAULT_BASE_URL, OPERATIONS, BodyFormat, Message, Wire

CAIRO = ZoneInfo("Africa/Cairo")
MOMENT = datetime(2030, 4, 23, 10, 30, tzinfo=CAIRO)
FORMATS: list[BodyFormat] = ["multipart", "urlencoded"]
TEXTS = st.text(
    st.characters(codec="utf-8") | st.sampled_from("\r\n\"'%&=;+-\x00\\/منى🙂"), min_size=1
).filter(lambda text: not text.isspace())
NAMES = TEXTS.filter(lambda text: len(text) <= 250)


def a_wire(**options: Any) -> Wire:
    given: dict[str, Any] = {"base_url": DEFAULT_BASE_URL, "token": TOKEN, "zone": CAIRO}
    return Wire(**(given | options))


def headers(message: Message) -> dict[str, str]:
    pairs = [(name.decode().lower(), value.decode()) for name, value in message.headers]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def decode(message: Message) -> list[tuple[str, str]]:
    """The body's fields, read by the standard library alone."""
    content_type = headers(message)["content-type"]
    if content_type == "application/x-www-form-urlencoded":
        text = message.body.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, strict_parsing=True)
    # The parser takes a lone CR or LF for a line end like any other, so each byte of a part is
    # given to it as two hexadecimal digits.
    boundary = content_type.partition("boundary=")[2]
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    whole = BytesParser().parsebytes(head + _hexed(message.body, boundary.encode()))
    assert whole.is_multipart()
    assert not whole.defects
    return [_field(part) for part in whole.get_payload()]


def _hexed(body: bytes, boundary: bytes) -> bytes:
    parts = []
    for part in body.split(b"--" + boundary):
        head, gap, content = part.partition(b"\r\n\r\n")
        assert content.endswith(b"\r\n") or not gap
        parts.append(head + gap + content[:-2].hex().encode() + (b"\r\n" if gap else b""))
    return (b"--" + boundary).join(parts)


def _field(part: object) -> tuple[str, str]:
    assert isinstance(part, Part)
    assert part.get_content_disposition() == "form-data"
    content = part.get_payload()
    assert isinstance(content, str)
    return str(part.get_param("name", header="content-disposition")), bytes.fromhex(
        content
    ).decode()


def fields_of(request: BridgeRequest) -> list[tuple[str, str]]:
    fields = {name: str(value) for name, value in attrs.asdict(request).items()}
    if request.call_time is None:
        del fields["call_time"]
    else:
        fields["call_time"] = request.call_time.astimezone(CAIRO).strftime("%Y-%m-%d %H:%M:%S")
    return sorted(fields.items())


REQUESTS = st.builds(
    a_request,
    call_flow_id=TEXTS,
    first_callee_name=NAMES,
    second_callee_name=NAMES,
    duration=st.integers(1, 10**6),
    call_time=st.none() | st.just(MOMENT),
)


@pytest.mark.parametrize("body_format", FORMATS)
@settings(deadline=None, max_examples=150)
@given(request=REQUESTS)
def test_a_form_arrives_as_it_was(body_format: BodyFormat, request: BridgeRequest) -> None:
    """Line ends, quotes, NULs, Arabic and emoji reach the server as they were given."""
    message = a_wire(body_format=body_format).create(request)
    assert sorted(decode(message)) == fields_of(request)


@pytest.mark.parametrize("body_format", FORMATS)
def test_a_create_is_the_documents(body_format: BodyFormat) -> None:
    """Method, path, fields and their order are the sample's."""
    message = a_wire(body_format=body_format).create(a_request(call_time=MOMENT))
    assert (message.operation.method, message.target) == ("POST", "/api/v1/call/bridge")
    assert decode(message) == [
        ("call_flow_id", "5f0c1d2e3a4b5c6d7e8f9a0b"),
        ("first_callee_number", FIRST),
        ("first_callee_name", "Ahmed"),
        ("second_callee_number", SECOND),
        ("second_callee_name", "منى"),
        ("call_time", "2030-04-23 10:30:00"),
        ("duration", "2"),
    ]


def test_every_message_carries_the_same_headers() -> None:
    """The token, JSON asked for, no compression, and a content type where there is a body."""
    wire = a_wire()
    request = a_request(call_time=MOMENT)
    bare = [wire.status("a", "b"), wire.delete("a")]
    for message in [wire.authorize(), wire.create(request), wire.edit("a", request), *bare]:
        found = headers(message)
        kind = found.pop("content-type", None)
        assert found == {
            "host": "api.bridge.innocalls.com",
            "authorization": f"Bearer {TOKEN}",
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": "innocalls-async",
        }
        assert (kind is None) is (message in bare)


def test_authorize_is_the_documents() -> None:
    """`GET /` with the sample's content type, and no body."""
    message = a_wire().authorize()
    assert (message.operation.method, message.target, message.body) == ("GET", "/api/v1/", b"")
    assert headers(message)["content-type"] == "application/x-www-form-urlencoded"


def test_an_edit_is_the_documents() -> None:
    """`PUT` on the call's own path, with every field."""
    message = a_wire().edit("id-1", a_request(call_time=MOMENT))
    assert (message.operation.method, message.target) == ("PUT", "/api/v1/call/bridge/id-1")
    assert len(decode(message)) == 7


def test_an_edit_needs_a_call_time() -> None:
    """The document requires it, so it is missed before anything is sent."""
    with pytest.raises(ValueError, match=r"^call_time: an edit needs it"):
        a_wire().edit("id-1", a_request())


def test_only_a_create_goes_to_the_path_that_dials() -> None:
    """A status is a GET of its own path: the sample's POST to the path that dials is not taken."""
    posts = [operation.name for operation in OPERATIONS if operation.method == "POST"]
    assert posts == ["create"]
    message = a_wire().status("id-1", "flow")
    assert (message.operation.method, message.body) == ("GET", b"")
    assert message.target == "/api/v1/call/status?call_id=id-1&call_flow_id=flow"


@settings(deadline=None, max_examples=200)
@given(TEXTS, TEXTS)
def test_an_id_is_one_segment_and_one_value(call_id: str, flow: str) -> None:
    """Slashes, dots, line ends and ampersands in an id never reach another path or header."""
    wire = a_wire()
    if call_id in {".", ".."}:
        with pytest.raises(ValueError, match="is no id"):
            wire.delete(call_id)
        return
    target = wire.delete(call_id).target
    assert target.isascii()
    assert target.isprintable()
    path = urlsplit("https://host" + target).path.split("/")
    assert path[:-1] == ["", "api", "v1", "call", "bridge"]
    assert unquote(path[-1]) == call_id
    if flow not in {".", ".."}:
        query = urlsplit("https://host" + wire.status(call_id, flow).target).query
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
        assert pairs == [("call_id", call_id), ("call_flow_id", flow)]


@pytest.mark.parametrize("value", ["", " ", "\r\n", ".", "..", "\ud800"])
def test_an_id_that_is_none_is_a_value_error(value: str) -> None:
    """An id that would reach another path, or none, is refused by name."""
    with pytest.raises(ValueError, match=r"^call_id: "):
        a_wire().delete(value)
    with pytest.raises(ValueError, match=r"^call_flow_id: "):
        a_wire().status("id-1", value)


def test_wrong_types_are_type_errors() -> None:
    """An id that is no str and a request that is none are the caller's mistakes."""
    wire: Any = a_wire()
    with pytest.raises(TypeError, match=r"^call_id: a str is needed, not int$"):
        wire.delete(5)
    with pytest.raises(TypeError, match=r"^a BridgeRequest is needed, not dict$"):
        wire.create({"duration": 2})


def test_a_masked_request_is_never_sent() -> None:
    """What came out of a pickle or a report dials nobody."""
    with pytest.raises(ValueError, match=r"^first_callee_number: is masked"):
        a_wire().create(a_request().masked())


def test_a_time_that_comes_twice_is_never_sent() -> None:
    """A `call_time` that the service could read two ways is refused."""
    moment = datetime(2026, 10, 29, 23, 30, tzinfo=CAIRO)
    with pytest.raises(ValueError, match="comes twice in Africa/Cairo"):
        a_wire().create(a_request(call_time=moment))


def test_a_message_knows_its_secrets() -> None:
    """The token and both numbers are what no error may repeat."""
    assert a_wire().create(a_request()).secrets == (TOKEN, FIRST, SECOND)
    assert a_wire().delete("id-1").secrets == (TOKEN,)


class TestToken:
    @pytest.mark.parametrize(
        "token", ["a b", "a\nb", "a\r\nX: y", "tökén", "", "Bearer abc", "\x7f"]
    )
    def test_one_that_would_break_a_header_is_refused(self, token: str) -> None:
        """It is refused when the client is made, and never repeated."""
        with pytest.raises(ValueError, match=r"^token: must be printable ASCII") as caught:
            a_wire(token=token)
        assert len(token) < 3 or token not in str(caught.value)

    def test_one_of_another_type_is_a_type_error(self) -> None:
        """Bytes are no token."""
        with pytest.raises(TypeError, match=r"^token: a str is needed, not bytes$"):
            a_wire(token=b"abc")


class TestBaseURL:
    @pytest.mark.parametrize(
        ("base_url", "origin", "target"),
        [
            ("https://example.com", "https://example.com", "/"),
            ("https://example.com/", "https://example.com", "/"),
            ("https://example.com:8443/a/b/", "https://example.com:8443", "/a/b/"),
            ("http://localhost:8000/api/v1", "http://localhost:8000", "/api/v1/"),
            ("http://127.0.0.9:1", "http://127.0.0.9:1", "/"),
            ("http://[::1]:8000", "http://[::1]:8000", "/"),
            ("http://api.localhost", "http://api.localhost", "/"),
        ],
    )
    def test_it_may_be_https_or_loopback(self, base_url: str, origin: str, target: str) -> None:
        """The path of the address comes before the operation's."""
        wire = a_wire(base_url=base_url)
        assert wire.origin == origin
        assert wire.authorize().target == target

    @pytest.mark.parametrize(
        ("base_url", "reason"),
        [
            ("ftp://example.com", "https:// URL with a host"),
            ("example.com", "https:// URL with a host"),
            ("https://", "https:// URL with a host"),
            ("https://example.com:0", "https:// URL with a host"),
            ("https://example.com:x", "is no URL"),
            ("https://[::1", "is no URL"),
            ("https://exämple.com", "ASCII"),
            ("https://example.com/a b", "ASCII"),
            ("https://example.com\\@evil.com", "ASCII"),
            ("https://user@example.com", "no user, query or fragment"),
            ("https://user:secret@example.com", "no user, query or fragment"),
            ("https://example.com?a=b", "no user, query or fragment"),
            ("https://example.com#a", "no user, query or fragment"),
            ("http://example.com", "would show the token"),
            ("http://10.0.0.1", "would show the token"),
            ("http://localhost.evil.com", "would show the token"),
        ],
    )
    def test_others_are_refused(self, base_url: str, reason: str) -> None:
        """What is no plain address, or would show the token, is refused with its reason."""
        with pytest.raises(ValueError, match=f"^base_url: .*{reason}") as caught:
            a_wire(base_url=base_url)
        assert "secret" not in str(caught.value)

    def test_plain_http_is_taken_if_asked_for_by_name(self) -> None:
        """`allow_plain_http` is how to say that one means it."""
        wire = a_wire(base_url="http://10.0.0.1/api", allow_plain_http=True)
        assert wire.origin == "http://10.0.0.1"


def test_an_unknown_body_format_is_refused() -> None:
    """There are two, and the error names them."""
    with pytest.raises(ValueError, match=r"^body_format: 'multipart' or 'urlencoded' .* 'json'"):
        a_wire(body_format="json")
