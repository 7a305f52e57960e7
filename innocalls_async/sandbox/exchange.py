"""A request and its reply as plain data: the in-process and the real server share them."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping

import attrs


@attrs.frozen
class Request:
    """One HTTP request, read whole; `path` is still percent-encoded, header names are lower."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


class Ending(enum.Enum):
    """How a connection treats a reply."""

    WHOLE = "whole"
    CUT = "cut"
    """Half of the body is sent, then the connection closes."""
    DROPPED = "dropped"
    """The connection closes and nothing is sent."""


@attrs.define
class Reply:
    """One HTTP reply, given after `delay` seconds."""

    status: int
    body: bytes
    headers: dict[str, str]
    ending: Ending = Ending.WHOLE
    delay: float = 0.0

    @property
    def sent_body(self) -> bytes:
        """The part of the body that reaches the client."""
        return self.body[: len(self.body) // 2] if self.ending is Ending.CUT else self.body

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers as bytes, with the Content-Length of the whole body."""
        length = str(len(self.body))
        pairs = [*self.headers.items(), ("content-length", length)]
        return [(name.encode("ascii"), value.encode("latin-1")) for name, value in pairs]


@attrs.define
class ApplicationError(Exception):
    """An error, which a profile renders; `errors` holds the messages of each wrong field."""

    status: int
    message: str
    errors: Mapping[str, list[str]] = attrs.field(factory=dict)
    headers: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)


def json_reply(status: int, content: object) -> Reply:
    """A reply whose body is `content` as JSON."""
    body = json.dumps(content).encode()
    return Reply(status, body, {"content-type": "application/json"})


def html_reply(status: int, title: str) -> Reply:
    """An HTML page that says `title`."""
    page = f"<!DOCTYPE html><html><head><title>{title}</title></head><body>{title}</body></html>"
    return Reply(status, page.encode(), {"content-type": "text/html; charset=UTF-8"})
