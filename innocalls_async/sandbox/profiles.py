"""How a backend words its errors: as the document does, as Laravel does, or in a 200."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Literal

import attrs

from innocalls_async.sandbox.exchange import (
    ApplicationError,
    Reply,
    Request,
    html_reply,
    json_reply,
)

ProfileName = Literal["seed", "laravel", "envelope200"]

_LARAVEL_MESSAGES = {401: "Unauthenticated.", 429: "Too Many Attempts.", 500: "Server Error"}
_JSON_KINDS = frozenset(("*/*", "application/*", "application/json"))
# A proxy in front of the application answers these, in HTML whatever the client accepts.
_FROM_THE_PROXY = (408, 502, 504)


def reason(status: int) -> str:
    """The status's phrase, as in RFC 9110."""
    return HTTPStatus(status).phrase


def success(data: Mapping[str, object]) -> Reply:
    """The document's envelope, which every profile uses for success."""
    return json_reply(200, {"status": 200, "success": True, "data": data})


def _seed_error(problem: ApplicationError, _: Request) -> Reply:
    return json_reply(problem.status, _envelope(problem))


def _envelope200_error(problem: ApplicationError, _: Request) -> Reply:
    return json_reply(200, _envelope(problem))


def _envelope(problem: ApplicationError) -> dict[str, object]:
    return {"status": problem.status, "success": False, "message": problem.message}


def _laravel_error(problem: ApplicationError, request: Request) -> Reply:
    status = 422 if problem.errors else problem.status
    if not _wants_json(request):
        return _laravel_page(status)
    message = _LARAVEL_MESSAGES.get(status, problem.message)
    if not problem.errors:
        return json_reply(status, {"message": message})
    if more := len(problem.errors) - 1:
        message += f" (and {more} more error{'s' * (more > 1)})"
    return json_reply(status, {"message": message, "errors": problem.errors})


def _laravel_page(status: int) -> Reply:
    redirect = {401: "/login", 422: "/"}.get(status)
    if redirect is None:
        return html_reply(status, reason(status))
    page = html_reply(302, f"Redirecting to {redirect}")
    page.headers["location"] = redirect
    return page


@attrs.frozen
class Profile:
    """One backend's manner.

    The throttle and the faults stand in front of the application, so that their replies keep
    their HTTP status even where the application's own errors are 200s.
    """

    name: ProfileName
    application_error: Callable[[ApplicationError, Request], Reply]
    front_error: Callable[[ApplicationError, Request], Reply]
    refuses_other_formats: bool = True
    shows_limit: bool = False

    def fault_reply(self, status: int, request: Request) -> Reply:
        """The reply of a fault with this status."""
        if status in _FROM_THE_PROXY:
            return html_reply(status, f"{status} {reason(status)}")
        return self.front_error(ApplicationError(status, reason(status)), request)


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("seed", _seed_error, _seed_error),
        Profile(
            "laravel",
            _laravel_error,
            _laravel_error,
            refuses_other_formats=False,
            shows_limit=True,
        ),
        Profile("envelope200", _envelope200_error, _seed_error),
    )
}


def accepts_json(request: Request) -> bool:
    """Whether the Accept header leaves room for JSON."""
    if not request.headers.get("accept"):
        return True
    return not _JSON_KINDS.isdisjoint(_accepted(request))


def _wants_json(request: Request) -> bool:
    # Laravel's own test: only the first of the accepted types counts, and */* is not JSON.
    kinds = _accepted(request)
    return bool(kinds) and ("/json" in kinds[0] or "+json" in kinds[0])


def _accepted(request: Request) -> list[str]:
    items = (item.split(";") for item in request.headers.get("accept", "").lower().split(","))
    kinds = ((kind.strip(), [p.replace(" ", "") for p in params]) for kind, *params in items)
    return [kind for kind, params in kinds if kind and "q=0" not in params]
