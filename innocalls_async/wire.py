"""The API document's requests, as data: arguments in, a `Message` out. No I/O, no waiting.

Where the document contradicts itself, the choice is explained beside the code.

Source: the API document, "Call Bridging", "Call Status", "Call Edit", "Call Delete".
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias
from urllib.parse import SplitResult, quote, urlencode, urlsplit
from zoneinfo import ZoneInfo

from attrs import define, evolve, field, frozen

from innocalls_async.models import BridgeRequest
from innocalls_async.times import wall_time

__all__ = [
    "AUTHORIZE",
    "CREATE",
    "DEFAULT_BASE_URL",
    "DELETE",
    "EDIT",
    "OPERATIONS",
    "STATUS",
    "BodyFormat",
    "Message",
    "Operation",
    "Wire",
]

DEFAULT_BASE_URL: Final = "https://api.bridge.innocalls.com/api/v1"
USER_AGENT: Final = "innocalls-async"

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection", b"te"})
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")

BodyFormat: TypeAlias = Literal["multipart", "urlencoded"]

# The order is the document's.
_FORM: Final = (
    "call_flow_id",
    "first_callee_number",
    "first_callee_name",
    "second_callee_number",
    "second_callee_name",
    "call_time",
    "duration",
)


@frozen
class Operation:
    """One API action, as the document has it."""

    name: str
    method: str
    path: str
    query: tuple[str, ...] = ()
    form: tuple[str, ...] = ()
    required: frozenset[str] = frozenset()
    is_poll: bool = False


AUTHORIZE: Final = Operation("authorize", "GET", "/")
CREATE: Final = Operation(
    "create", "POST", "/call/bridge", form=_FORM, required=frozenset(_FORM) - {"call_time"}
)
# The sample POSTs to /call/bridge, the path that dials; its text says GET /call/status. We never
# take the path that dials to ask a question.
STATUS: Final = Operation(
    "status", "GET", "/call/status", query=("call_id", "call_flow_id"), is_poll=True
)
EDIT: Final = Operation(
    "edit", "PUT", "/call/bridge/{call_uuid}", form=_FORM, required=frozenset(_FORM)
)
DELETE: Final = Operation("delete", "DELETE", "/call/bridge/{call_uuid}")

OPERATIONS: Final = (AUTHORIZE, CREATE, STATUS, EDIT, DELETE)


@define
class Message:
    """One operation made ready to send: what every attempt of it puts on the wire.

    `target` is the path with its query, percent-encoded. `secrets` are the texts that no error
    or log may repeat.
    """

    operation: Operation
    target: str
    # Not shown: debuggers and error trackers print the variables of each frame.
    headers: list[tuple[bytes, bytes]] = field(repr=False)
    body: bytes = field(repr=False)
    request: BridgeRequest | None
    secrets: tuple[str, ...] = field(repr=False)

    def with_headers(self, headers: Mapping[str, str]) -> Message:
        """A copy that has these too, but for what is no header or is ours to set."""
        ours = {name.lower() for name, _ in self.headers} | _FRAMING
        return evolve(
            self,
            headers=[
                *self.headers,
                *(
                    (name.encode(), value.encode())
                    for name, value in headers.items()
                    if isinstance(name, str)
                    and isinstance(value, str)
                    and _HEADER_NAME.fullmatch(name)
                    and name.lower().encode() not in ours
                    and _HEADER_VALUE.fullmatch(value)
                ),
            ],
        )


class Wire:
    """Writes the messages of one client: its address, token, zone and body format."""

    def __init__(
        self,
        *,
        base_url: str,
        token: str,
        zone: ZoneInfo,
        body_format: BodyFormat = "multipart",
        allow_plain_http: bool = False,
    ) -> None:
        url = _check_base_url(base_url, allow_plain_http=allow_plain_http)
        _check_token(token)
        if body_format not in {"multipart", "urlencoded"}:
            raise ValueError(
                f"body_format: 'multipart' or 'urlencoded' is needed, not {body_format!r}"
            )
        self.origin = f"{url.scheme}://{url.netloc}"
        self.zone = zone
        self._path = url.path.rstrip("/")
        self.base_url = self.origin + self._path
        self._token = token
        self._headers = [
            (b"Host", url.netloc.encode()),
            (b"Authorization", b"Bearer " + token.encode()),
            # Without it, backends of this kind answer bad input with a redirect to a web page.
            (b"Accept", b"application/json"),
            # A small compressed reply can unpack to any size, so none is asked for.
            (b"Accept-Encoding", b"identity"),
            (b"User-Agent", USER_AGENT.encode()),
        ]
        # The samples send `--form`, a header sample says urlencoded: multipart unless told. Some
        # backends (PHP before 8.4) drop the multipart body of a PUT.
        self._write_form = _Multipart() if body_format == "multipart" else _Urlencoded()
        self._form_headers = [*self._headers, (b"Content-Type", self._write_form.content_type)]

    def authorize(self) -> Message:
        """`GET /`, with the content type that the document's sample has."""
        message = self._message(AUTHORIZE, self._path + "/", {})
        message.headers = [*message.headers, (b"Content-Type", _Urlencoded.content_type)]
        return message

    def create(self, request: BridgeRequest) -> Message:
        """`POST /call/bridge`. ValueError for a `call_time` that comes twice in the zone."""
        target = self._path + CREATE.path
        return self._message(CREATE, target, self._fields(request), request=request)

    def edit(self, call_id: str, request: BridgeRequest) -> Message:
        """`PUT /call/bridge/{call_uuid}`. The document requires `call_time` here."""
        fields = self._fields(request)
        if missing := sorted(EDIT.required - fields.keys()):
            raise ValueError(f"{', '.join(missing)}: an edit needs it, the document says")
        return self._message(EDIT, self._call_path(EDIT, call_id), fields, request=request)

    def status(self, call_id: str, call_flow_id: str) -> Message:
        """`GET /call/status?call_id=…&call_flow_id=…`."""
        values = (_check_id("call_id", call_id), _check_id("call_flow_id", call_flow_id))
        query = urlencode(list(zip(STATUS.query, values, strict=True)), quote_via=quote)
        return self._message(STATUS, f"{self._path}{STATUS.path}?{query}", {})

    def delete(self, call_id: str) -> Message:
        """`DELETE /call/bridge/{call_uuid}`."""
        return self._message(DELETE, self._call_path(DELETE, call_id), {})

    def _message(
        self,
        operation: Operation,
        target: str,
        fields: dict[str, str],
        request: BridgeRequest | None = None,
    ) -> Message:
        secrets: tuple[str, ...] = (self._token,)
        if request is None:
            return Message(operation, target, self._headers, b"", None, secrets)
        secrets = (self._token, request.first_callee_number, request.second_callee_number)
        body = self._write_form(fields)
        return Message(operation, target, self._form_headers, body, request, secrets)

    def _call_path(self, operation: Operation, call_id: str) -> str:
        segment = quote(_check_id("call_id", call_id), safe="")
        return self._path + operation.path.replace("{call_uuid}", segment)

    def _fields(self, request: BridgeRequest) -> dict[str, str]:
        if not isinstance(request, BridgeRequest):
            raise TypeError(f"a BridgeRequest is needed, not {type(request).__name__}")
        if not request.first_callee_number.isdigit():
            raise ValueError("first_callee_number: is masked; a masked request cannot be sent")
        fields = {
            "call_flow_id": request.call_flow_id,
            "first_callee_number": request.first_callee_number,
            "first_callee_name": request.first_callee_name,
            "second_callee_number": request.second_callee_number,
            "second_callee_name": request.second_callee_name,
        }
        if request.call_time is not None:
            fields["call_time"] = wall_time(request.call_time, self.zone)
        fields["duration"] = str(request.duration)
        return fields


class _Multipart:
    """`multipart/form-data` of text fields, which is most of what a form needs (RFC 7578).

    The boundary is 128 random bits made once, which no field's text can hold by accident.
    """

    def __init__(self) -> None:
        boundary = os.urandom(16).hex()
        self.content_type = f"multipart/form-data; boundary={boundary}".encode()
        self._heads = {
            name: f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
            for name in _FORM
        }
        self._end = f"--{boundary}--\r\n"

    def __call__(self, fields: dict[str, str]) -> bytes:
        heads = self._heads
        parts = [f"{heads[name]}{value}\r\n" for name, value in fields.items()]
        return "".join([*parts, self._end]).encode()


class _Urlencoded:
    content_type: Final = b"application/x-www-form-urlencoded"

    def __call__(self, fields: dict[str, str]) -> bytes:
        return urlencode(fields).encode()


def _check_token(token: str) -> None:
    # The value is never repeated: what is wrong with it may be one character of a good one.
    if not isinstance(token, str):
        raise TypeError(f"token: a str is needed, not {type(token).__name__}")
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ValueError(
            "token: must be printable ASCII without spaces or line ends, "
            "and without the word 'Bearer'"
        )


def _check_id(field: str, value: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{field}: a str is needed, not {type(value).__name__}")
    if not value or value.isspace():
        raise ValueError(f"{field}: must not be empty")
    if value in {".", ".."}:
        # The one pair of segments that percent-encoding does not protect.
        raise ValueError(f"{field}: {value!r} is no id")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{field}: holds half a character (a lone surrogate)") from None
    return value


def _check_base_url(base_url: str, *, allow_plain_http: bool) -> SplitResult:
    if not isinstance(base_url, str):
        raise TypeError(f"base_url: a str is needed, not {type(base_url).__name__}")
    try:
        url = urlsplit(base_url)
        port = url.port
    except ValueError:
        raise ValueError("base_url: is no URL") from None
    if url.scheme not in {"http", "https"} or not url.hostname or port == 0:
        raise ValueError(
            "base_url: an https:// URL with a host is needed (http:// will do for this machine)"
        )
    if not base_url.isascii() or re.search(r"[\x00-\x20\\]", base_url):
        raise ValueError("base_url: must be ASCII without spaces; write the host in its xn-- form")
    if url.username is not None or url.query or url.fragment:
        raise ValueError("base_url: must have no user, query or fragment")
    if url.scheme == "http" and not (allow_plain_http or _is_loopback(url.hostname)):
        raise ValueError(
            f"base_url: http:// to {url.hostname} would show the token to the network; "
            "use https://, or allow_plain_http=True if that is what you want"
        )
    return url


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
