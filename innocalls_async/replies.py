"""The API document's replies: bytes in, a model or a typed error out. No I/O, no waiting.

Source: the API document, the sample replies and "Errors"; `success: false` inside a 200, `errors`
of a 422 and HTML error pages are how backends of this kind (Laravel) answer in practice.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from attrs import define, field

from innocalls_async.errors import (
    APIError,
    RateLimitedError,
    ResponseError,
    ServerError,
    ValidationError,
    error_for_status,
)
from innocalls_async.masking import mask_text
from innocalls_async.models import CallState, CallStatus, LegState, ScheduledCall
from innocalls_async.quota import limited_for, retry_after
from innocalls_async.times import parse_duration, parse_wall_time
from innocalls_async.wire import Message

if TYPE_CHECKING:
    from cattrs import Converter

__all__ = ["Reader", "Reply", "is_json"]

_BODY_KEPT = 4096
_TEXT_KEPT = 500  # of a message; always cut after it was masked, lest a secret be cut in half
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-correlation-id", "cf-ray")
# Headers that hold what another request could misuse.
_HEADERS_DROPPED = frozenset({"set-cookie", "authorization", "www-authenticate"})


@define
class Reply:
    """A whole HTTP reply; header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)  # it may repeat what was sent
    body: bytes = field(repr=False)


class Reader:
    """Reads the replies of one client; `zone` is what their naive times are in."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._converter: Converter | None = None
        self._readers: Mapping[str, Callable[[Message, Reply], Any]] = {
            "authorize": self._authorize,
            "create": self._create,
            "status": self._status,
            "edit": self._edit,
            "delete": self._delete,
        }

    def read(self, message: Message, reply: Reply) -> Any:
        """The operation's result; `APIError` (a subclass by cause) if it is no success."""
        if not 200 <= reply.status < 300:
            raise _api_error(message, reply)
        return self._readers[message.operation.name](message, reply)

    def _create(self, message: Message, reply: Reply) -> ScheduledCall:
        call_id = _data(message, reply).get("call_id")
        if not isinstance(call_id, str) or not call_id.strip():
            raise _broken(message, reply, "it has no call_id")
        assert message.request is not None  # noqa: S101 - a create has one
        return ScheduledCall(call_id, message.request)

    def _status(self, message: Message, reply: Reply) -> CallStatus:
        status = _data(message, reply).get("callStatus")
        if not isinstance(status, dict):
            raise _broken(message, reply, "it has no callStatus")
        if self._converter is None:
            self._converter = _make_converter(self._zone)
        known: CallStatus = self._converter.structure({**status, "raw": status}, CallStatus)
        return known

    def _edit(self, message: Message, reply: Reply) -> None:
        if _envelope(message, reply).get("success") is not True:
            raise _broken(message, reply, "it does not say whether it is a success")

    def _delete(self, message: Message, reply: Reply) -> None:
        # Whatever a 2xx says, the call is gone; only an explicit `success: false` is a no.
        _refusal_only(message, reply)

    def _authorize(self, message: Message, reply: Reply) -> None:
        # The document shows no reply to it, so any is taken but a web page: a login form or a
        # captive portal answers 200 too.
        if "html" in reply.headers.get("content-type", "").lower():
            raise _broken(message, reply, "it is a web page")
        _refusal_only(message, reply)


def _broken(message: Message, reply: Reply, reason: str) -> ResponseError:
    text = f"{message.operation.name}: the reply cannot be read: {reason}"
    return ResponseError(text, **_facts(message, reply))


def _api_error(message: Message, reply: Reply, status: int | None = None) -> APIError:
    """The typed error for a reply that says no; `status` where the body overrides HTTP's."""
    status = reply.status if status is None else status
    body = _json_or_none(reply)
    body = body if isinstance(body, dict) else {}
    said = mask_text(_said(body) or _reason(reply), message.secrets)[:_TEXT_KEPT]
    facts = _facts(message, reply, status)
    error: APIError
    if (kind := error_for_status(status)) is ValidationError:
        errors = _field_errors(body, message.secrets)
        said += "".join(f"; {field}: {' '.join(texts)}" for field, texts in errors.items())
        error = ValidationError(_told(message, status, said), errors=errors, **facts)
    else:
        told = _told(message, status, said)
        error = kind(f"{told.rstrip('.')}; {kind.advice}" if kind.advice else told, **facts)
    if isinstance(error, RateLimitedError):
        error.retry_after = limited_for(reply.headers)
    elif isinstance(error, ServerError):
        error.retry_after = retry_after(reply.headers)
    return error


def _told(message: Message, status: int, said: str) -> str:
    return f"{message.operation.name}: the service answered {status}" + (said and f": {said}")


def _facts(message: Message, reply: Reply, status: int | None = None) -> dict[str, Any]:
    secrets = message.secrets
    headers = {
        mask_text(name, secrets): mask_text(value, secrets)
        for name, value in reply.headers.items()
        if name not in _HEADERS_DROPPED
    }
    return {
        "status_code": reply.status if status is None else status,
        "body": _cut(mask_text(_text(reply), secrets)),
        "headers": headers,
        "request_id": next((headers[n] for n in _REQUEST_ID_HEADERS if n in headers), None),
    }


def _text(reply: Reply) -> str:
    # Masked before it is cut, so that no number is cut in half and so escapes; four times the
    # length is more than masking looks at.
    return reply.body[: 4 * _BODY_KEPT].decode("utf-8", "replace")


def _cut(text: str) -> str:
    return text.encode("utf-8", "replace")[:_BODY_KEPT].decode("utf-8", "ignore")


def _data(message: Message, reply: Reply) -> Mapping[str, Any]:
    # With what was asked for in it, a reply need not say `success: true` as well.
    data = _envelope(message, reply).get("data")
    if not isinstance(data, dict):
        raise _broken(message, reply, "it has no data")
    return data


def _envelope(message: Message, reply: Reply) -> Mapping[str, Any]:
    """The body's mapping, unless it says that it is no success."""
    try:
        body = _parse(reply)
    except ValueError as error:
        raise _broken(message, reply, str(error)) from None
    if not isinstance(body, dict):
        raise _broken(message, reply, "it is no JSON object")
    success = body.get("success")
    if success is False:
        raise _refusal(message, reply, body)
    if success is not True and success is not None:
        raise _broken(message, reply, "it does not say whether it is a success")
    return body


def _refusal_only(message: Message, reply: Reply) -> None:
    body = _json_or_none(reply)
    if isinstance(body, dict) and body.get("success") is False:
        raise _refusal(message, reply, body)


def _refusal(message: Message, reply: Reply, body: Mapping[str, Any]) -> APIError:
    status = str(body.get("status"))
    known = re.fullmatch(r"[345]\d\d", status)
    return _api_error(message, reply, int(status) if known else reply.status)


def _parse(reply: Reply) -> Any:
    """The body's JSON. ValueError, saying what is wrong, for anything but plain whole JSON."""
    encoding = reply.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise ValueError("it is compressed, which was not asked for")
    try:
        text = reply.body.removeprefix(codecs.BOM_UTF8).decode().strip(" \t\r\n")
        value, end = _decode(text)
    except _DuplicateKeyError:
        raise ValueError("a key comes twice in its JSON") from None
    except RecursionError:
        raise ValueError("its JSON is too deep") from None
    except ValueError:
        raise ValueError("it is not JSON") from None
    if end < len(text):
        raise ValueError("something follows its JSON")
    return value


class _DuplicateKeyError(Exception):
    """Two answers to one question: neither can be trusted."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise _DuplicateKeyError
    return mapping


# Made once: json.loads would make one for every reply.
_decode = json.JSONDecoder(object_pairs_hook=_unique).raw_decode


def is_json(reply: Reply) -> bool:
    """Whether the body is a JSON object, as the API's own replies are."""
    return isinstance(_json_or_none(reply), dict)


def _json_or_none(reply: Reply) -> Any:
    try:
        return _parse(reply)
    except ValueError:
        return None


def _said(body: Mapping[str, Any]) -> str:
    data = body.get("data")
    nested = data.get("message") if isinstance(data, dict) else None
    for text in (body.get("message"), body.get("error"), nested):
        if isinstance(text, str) and text.strip():
            return " ".join(text.split())
    return ""


def _reason(reply: Reply) -> str:
    """What a reply without JSON says, if it is short plain text ("Too Many Attempts.")."""
    if "html" in reply.headers.get("content-type", "").lower():
        return "a web page"
    text = " ".join(_text(reply).split())
    return text if len(text) <= 200 and not text.startswith(("<", "{", "[")) else ""


def _field_errors(body: Mapping[str, Any], secrets: tuple[str, ...]) -> dict[str, list[str]]:
    errors = body.get("errors")
    if not isinstance(errors, dict):
        return {}
    listed = {
        str(field): texts if isinstance(texts, list) else [texts] for field, texts in errors.items()
    }
    return {
        mask_text(field, secrets): [mask_text(str(text), secrets)[:_TEXT_KEPT] for text in texts]
        for field, texts in listed.items()
    }


def _make_converter(zone: ZoneInfo) -> Converter:
    # cattrs takes half as long to import as httpx, and only a status needs it.
    from cattrs import Converter  # noqa: PLC0415
    from cattrs.gen import make_dict_structure_fn, override  # noqa: PLC0415

    def time(value: object) -> datetime | None:
        return parse_wall_time(value, zone)

    fields: Mapping[str, Callable[[Any], object]] = {
        "scheduled_date_time": time,
        "actual_date_time": time,
        "call_duration": parse_duration,
        "caller_id": _read_text,
        "first_recipient_name": _read_text,
        "first_recipient_number": _read_text,
        "first_recipient_status": _read_leg_state,
        "second_recipient_name": _read_text,
        "second_recipient_number": _read_text,
        "second_recipient_status": _read_leg_state,
        "call_status": _read_call_state,
        "call_id": _read_text,
        "raw": dict,
    }
    overrides: dict[str, Any] = {
        name: override(rename=_camel_case(name), struct_hook=_hook(read))
        for name, read in fields.items()
    }
    converter = Converter()
    converter.register_structure_hook(
        CallStatus, make_dict_structure_fn(CallStatus, converter, **overrides)
    )
    return converter


def _hook(read: Callable[[Any], object]) -> Callable[[Any, Any], object]:
    return lambda value, _type: read(value)


def _camel_case(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _read_text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _read_call_state(value: object) -> CallState | None:
    return CallState(value) if isinstance(value, str) and value.strip() else None


def _read_leg_state(value: object) -> LegState | None:
    return LegState(value) if isinstance(value, str) and value.strip() else None
