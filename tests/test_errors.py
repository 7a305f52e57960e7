"""The error tree: which class for which status, and what an error holds."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from scripted import FIRST, SECOND, a_request

import innocalls_async as api
from innocalls_async.errors import error_for_status

# The document's error table, and what backends of its kind add.
TABLE: dict[int, type[api.APIError]] = {
    400: api.BadRequestError,
    401: api.AuthenticationError,
    403: api.PermissionDeniedError,
    404: api.NotFoundError,
    405: api.MethodNotAllowedError,
    406: api.NotAcceptableError,
    410: api.GoneError,
    418: api.TeapotError,
    422: api.ValidationError,
    429: api.RateLimitedError,
    500: api.ServerError,
    503: api.ServiceUnavailableError,
}
SUBCLASSES = [
    (api.InnoCallsError, Exception),
    (api.APIError, api.InnoCallsError),
    *((kind, api.APIError) for kind in TABLE.values()),
    (api.ServiceUnavailableError, api.ServerError),
    (api.RedirectError, api.APIError),
    (api.ResponseError, api.APIError),
    (api.NotSentError, api.InnoCallsError),
    (api.OutcomeUnknownError, api.InnoCallsError),
    (api.DeadlineExceededError, api.InnoCallsError),
]


@pytest.mark.parametrize(("kind", "parent"), SUBCLASSES)
def test_the_tree_is_the_documented_one(kind: type[Exception], parent: type[Exception]) -> None:
    """Catching a parent catches its children."""
    assert issubclass(kind, parent)


@pytest.mark.parametrize("kind", [api.NotSentError, api.OutcomeUnknownError, api.ResponseError])
def test_kinds_that_must_not_be_confused_are_apart(kind: type[Exception]) -> None:
    """Nobody who catches time-outs or server errors meets one of these by accident."""
    assert not issubclass(kind, api.ServerError | api.DeadlineExceededError)


def test_each_status_has_its_class() -> None:
    """The document's rows have classes of their own; 3xx, 5xx and the rest share one each."""
    expected = dict.fromkeys(range(100, 700), api.APIError)
    expected |= dict.fromkeys(range(300, 400), api.RedirectError)
    expected |= dict.fromkeys(range(500, 700), api.ServerError)
    expected |= TABLE
    assert {status: error_for_status(status) for status in expected} == expected


def test_an_api_error_holds_plain_data() -> None:
    """What the reply said is there, copied."""
    headers = {"x-request-id": "r-1"}
    error = api.NotFoundError("gone", status_code=404, body="{}", headers=headers, request_id="r-1")
    headers.clear()
    assert str(error) == error.message == "gone"
    assert (error.status_code, error.body, error.request_id) == (404, "{}", "r-1")
    assert error.headers == {"x-request-id": "r-1"}
    assert (error.attempts, error.elapsed) == (0, 0.0)


def test_a_bare_api_error_can_be_made() -> None:
    """Everything about a reply is optional, for those who raise one in a test of theirs."""
    error = api.ValidationError()
    assert (error.errors, error.headers, error.body, error.status_code) == ({}, {}, "", None)
    assert api.RateLimitedError().retry_after is None
    assert api.ServerError().retry_after is None


def samples() -> list[api.InnoCallsError]:
    facts: dict[str, Any] = {
        "status_code": 422,
        "body": "b",
        "headers": {"a": "b"},
        "request_id": "r",
    }
    kinds = dict.fromkeys([*TABLE.values(), api.APIError, api.RedirectError, api.ResponseError])
    errors: list[api.InnoCallsError] = [kind("said", **facts) for kind in kinds]
    errors += [api.NotSentError("said"), api.DeadlineExceededError("said"), api.InnoCallsError("s")]
    errors += [api.ValidationError("said", errors={"duration": ["is missing"]})]
    errors += [api.OutcomeUnknownError("said", cause=api.ResponseError("lost"))]
    for error in errors:
        error.attempts, error.elapsed = 3, 1.5
    return errors


@pytest.mark.parametrize("error", samples(), ids=lambda error: type(error).__name__)
def test_every_error_survives_pickle_and_copy(error: api.InnoCallsError) -> None:
    """An error that comes back from another process says what it said there."""
    for back in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301
        assert type(back) is type(error)
        assert str(back) == str(error)
        expected, found = dict(vars(error)), dict(vars(back))
        assert repr(found.pop("cause", None)) == repr(expected.pop("cause", None))
        assert found == expected


def test_a_pickled_doubt_has_its_numbers_masked() -> None:
    """The error in hand knows whom it is about; the one in a file does not tell."""
    error = api.OutcomeUnknownError("said", request=a_request())
    assert error.request == a_request()
    data = pickle.dumps(error)
    assert FIRST.encode() not in data
    assert SECOND.encode() not in data
    back = pickle.loads(data)  # noqa: S301
    assert back.request == a_request().masked()
    assert FIRST not in repr(vars(error))
