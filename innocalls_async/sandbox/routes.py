"""Which operation a method and a path mean."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

import attrs

PREFIX = "/api/v1"

_AUTHORIZE = {"GET": "authorize"}
_PATHS: Mapping[str, Mapping[str, str]] = {
    "": _AUTHORIZE,
    "/": _AUTHORIZE,
    "/call/bridge": {"POST": "create"},
    "/call/status": {"GET": "status"},
}
_CALL = "/call/bridge/"
_CALL_METHODS = {"PUT": "edit", "DELETE": "delete"}


@attrs.frozen
class Route:
    """`operation` is None where the path has no such method; `methods` is empty off the map."""

    operation: str | None
    methods: tuple[str, ...] = ()
    call_id: str = ""


def find_route(method: str, path: str) -> Route:
    """The route of a still percent-encoded path, of which a call's id is one segment."""
    if not path.startswith(PREFIX):
        return Route(None)
    path = path.removeprefix(PREFIX)
    methods, call_id = _PATHS.get(path, {}), ""
    if not methods and path.startswith(_CALL) and "/" not in path.removeprefix(_CALL):
        methods, call_id = _CALL_METHODS, unquote(path.removeprefix(_CALL))
    return Route(methods.get(method), tuple(methods), call_id)
