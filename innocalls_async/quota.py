"""What reply headers say of the service's limit: how long to wait, and when to begin.

Sources: RFC 9110 section 10.2.3 (Retry-After), Laravel's throttle (X-RateLimit-*), the IETF draft
"RateLimit header fields for HTTP" in its older (RateLimit-Remaining) and newer (RateLimit) form.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["limited_for", "quota_pause", "retry_after"]

# Thirty years: nobody means more, and digits that are no time shall not travel on as one.
_LONGEST = 1e9
_SECONDS = re.compile(r"\d{1,12}(?:\.\d{1,9})?")
# A reset above this is a moment (seconds since 1970), below it a number of seconds from now.
_MOMENT_FROM = 1_000_000_000
_COMBINED = re.compile(r"\bremaining\s*=")
_PART_LEFT = re.compile(r"\b(?:r|remaining)\s*=\s*(\d{1,12})")
_PART_RESET = re.compile(r"\b(?:t|reset)\s*=\s*(\d{1,12})")
_COUNT = re.compile(r"[0-9]{1,12}")
_KINDS = ("x-ratelimit", "ratelimit")
_QUOTA = frozenset({"x-ratelimit-remaining", "ratelimit-remaining", "ratelimit"})


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the service asks to wait, from 0 to a billion; None if it does not say,
    or not so that it can be read. A date is measured against the reply's own Date, so that a
    clock that is off here does no harm."""
    text = headers.get("retry-after", "").strip()
    seconds = _read_seconds(text)
    if text and seconds is None:
        seconds = _until_date(text, headers)
    return None if seconds is None else min(seconds, _LONGEST)


def limited_for(headers: Mapping[str, str]) -> float | None:
    """As `retry_after`, of a 429; where that does not say, until when the quota is used up."""
    seconds = retry_after(headers)
    return _latest(headers, used_up=lambda left: not left) if seconds is None else seconds


def quota_pause(headers: Mapping[str, str], unsaid: float) -> float | None:
    """Seconds to hold back because nothing is left of a quota, `unsaid` where the reply does not
    say how long; None while there is something left of each."""
    if _QUOTA.isdisjoint(headers) or all(left != 0 for left, _ in _quotas(headers)):
        return None
    seconds = retry_after(headers)
    seconds = _latest(headers, used_up=lambda left: left == 0) if seconds is None else seconds
    return unsaid if seconds is None else seconds


def _latest(headers: Mapping[str, str], *, used_up: Callable[[int | None], bool]) -> float | None:
    """Seconds until there is something left of each quota that is used up, at most a billion."""
    resets = [reset for left, reset in _quotas(headers) if used_up(left) and reset is not None]
    return min(max(resets), _LONGEST) if resets else None


def _quotas(headers: Mapping[str, str]) -> Iterator[tuple[int | None, float | None]]:
    """What is left of each quota that is told of, and the seconds until there is more."""
    for kind in _KINDS:
        left = headers.get(f"{kind}-remaining", "").strip()
        yield (int(left) if _COUNT.fullmatch(left) else None), _until_reset(headers, kind)
    yield from _policies(headers)


def _policies(headers: Mapping[str, str]) -> Iterator[tuple[int | None, float | None]]:
    """What is left of each policy's quota, and the seconds until there is more."""
    text = headers.get("ratelimit", "")
    # Until draft 07 it is one policy whose parts a comma divides, since then a list of policies.
    for policy in [text] if _COMBINED.search(text) else text.split(","):
        remaining, reset = _PART_LEFT.search(policy), _PART_RESET.search(policy)
        yield (int(remaining[1]) if remaining else None, float(reset[1]) if reset else None)


def _read_seconds(text: str) -> float | None:
    return float(text) if _SECONDS.fullmatch(text) else None


def _until_date(text: str, headers: Mapping[str, str]) -> float | None:
    then = _read_date(text)
    return None if then is None else max(0.0, then - _server_now(headers))


def _until_reset(headers: Mapping[str, str], kind: str) -> float | None:
    reset = _read_seconds(headers.get(f"{kind}-reset", "").strip())
    if reset is None or reset < _MOMENT_FROM:
        return reset
    return max(0.0, reset - _server_now(headers))


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
