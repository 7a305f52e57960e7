"""What reply headers say of the service's limit: how long to wait, and when to begin.

Sources: RFC 9110 section 10.2.3 (Retry-After), Laravel's throttle (X-RateLimit-*), the IETF draft
"RateLimit header fields for HTTP" in its older (RateLimit-Remaining) and newer (RateLimit) form.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["quota_pause", "retry_after"]

# Thirty years: nobody means more, and digits that are no time shall not travel on as one.
_LONGEST = 1e9
_SECONDS = re.compile(r"\d{1,12}(?:\.\d{1,9})?")
# A reset above this is a moment (seconds since 1970), below it a number of seconds from now.
_MOMENT_FROM = 1_000_000_000
_REMAINING = ("x-ratelimit-remaining", "ratelimit-remaining")
_RESET = ("x-ratelimit-reset", "ratelimit-reset")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the service asks to wait, from 0 to a billion; None if it does not say,
    or not so that it can be read. A date is measured against the reply's own Date, so that a
    clock that is off here does no harm."""
    text = headers.get("retry-after", "").strip()
    seconds = _until_reset(headers) if not text else _read_seconds(text)
    if text and seconds is None:
        seconds = _until_date(text, headers)
    return None if seconds is None else min(seconds, _LONGEST)


def quota_pause(headers: Mapping[str, str]) -> float | None:
    """Seconds to hold back because nothing is left of the quota; None while something is.

    0.0 where nothing is left and the reply does not say until when.
    """
    for name in _REMAINING:
        if name in headers:
            return (_until_reset(headers) or 0.0) if headers[name].strip() == "0" else None
    if "ratelimit" in headers:
        found = re.search(r";\s*r=(\d{1,12})", headers["ratelimit"])
        if found and int(found[1]) == 0:
            reset = re.search(r";\s*t=(\d{1,12})", headers["ratelimit"])
            return float(reset[1]) if reset else 0.0
    return None


def _read_seconds(text: str) -> float | None:
    return float(text) if _SECONDS.fullmatch(text) else None


def _until_date(text: str, headers: Mapping[str, str]) -> float | None:
    then = _read_date(text)
    return None if then is None else max(0.0, then - _server_now(headers))


def _until_reset(headers: Mapping[str, str]) -> float | None:
    for name in _RESET:
        reset = _read_seconds(headers.get(name, "").strip())
        if reset is not None:
            return max(0.0, reset - _server_now(headers)) if reset >= _MOMENT_FROM else reset
    return None


def _server_now(headers: Mapping[str, str]) -> float:
    now = _read_date(headers.get("date", ""))
    return time.time() if now is None else now


def _read_date(text: str) -> float | None:
    try:
        date = parsedate_to_datetime(text)
        # The asctime form (RFC 9110 section 5.6.7) names no zone; it is GMT all the same.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
