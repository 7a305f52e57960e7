"""Whatever the headers say, a pause is seconds that can be waited for, or none."""

from __future__ import annotations

import math
import time
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innocalls_async.quota import limited_for, quota_pause, retry_after

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
EPOCH = 1792567680  # the same moment
NAMES = st.sampled_from(
    [
        "retry-after",
        "date",
        "x-ratelimit-reset",
        "x-ratelimit-remaining",
        "ratelimit",
        "ratelimit-reset",
        "ratelimit-remaining",
    ]
)
DATES = st.from_regex(
    r"Wed, [0-9]{1,2} (Jan|Oct) -?[0-9]{2,6} [0-9]{2}:[0-9]{2}(:[0-9]{2})? ?(GMT|[+-]\d{4,9})?",
    fullmatch=True,
)
VALUES = (
    st.text()
    | st.from_regex(r"\s?[-+]?[0-9]{1,20}(\.[0-9]+)?(e[0-9]+)?", fullmatch=True)
    | st.sampled_from(["nan", "inf", "-1", "0", "", "1e999", "٣", '"p";r=0;t=5', DATE])
    | DATES
)


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(NAMES, VALUES))
def test_no_header_makes_a_pause_that_cannot_be_waited_for(headers: dict[str, str]) -> None:
    """Garbage, NaN, negative numbers and dates of any year never crash and never go backwards."""
    for seconds in (retry_after(headers), limited_for(headers), quota_pause(headers, 0.5)):
        assert seconds is None or 0 <= seconds < math.inf


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("999999999999", 1e9),
        ("-1", None),
        ("nan", None),
        ("1e3", None),
        ("9999999999999", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_in_seconds(text: str, seconds: float | None) -> None:
    """Plain decimal seconds are read, up to a billion, and nothing else is taken for them."""
    assert retry_after({"retry-after": text}) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wednesday, 21-Oct-26 07:28:30 GMT", 30.0),
        ("Wed Oct 21 07:28:30 2026", 30.0),
        ("Wed, 21 Oct 2026 07:28:30 -0000", 30.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
        ("Wed, 99 Oct 2026 07:27:00 GMT", None),
    ],
)
def test_a_date_is_measured_against_the_replys_own(text: str, seconds: float | None) -> None:
    """All three forms of RFC 9110 are read, and a clock that is off here does no harm."""
    assert retry_after({"retry-after": text, "date": DATE}) == seconds


def test_a_date_is_measured_against_our_clock_where_the_reply_has_none() -> None:
    """Without a Date of the reply's, the time here has to do."""
    seconds = retry_after({"retry-after": formatdate(time.time() + 100, usegmt=True)})
    assert seconds == pytest.approx(100, abs=2)


@pytest.mark.parametrize("name", ["x-ratelimit-reset", "ratelimit-reset"])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [("17", 17.0), (str(EPOCH + 42), 42.0), (str(EPOCH - 42), 0.0), ("later", None)],
)
def test_without_retry_after_a_reset_tells(name: str, value: str, seconds: float | None) -> None:
    """Of a 429, and of nothing else: a moment (Laravel) or a number of seconds (the IETF draft)."""
    assert limited_for({name: value, "date": DATE}) == seconds
    assert retry_after({name: value, "date": DATE}) is None
    assert limited_for({name: value, "date": DATE, "retry-after": "3"}) == 3.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"x-ratelimit-remaining": "1"}, None),
        ({"x-ratelimit-remaining": "0"}, 0.5),
        ({"x-ratelimit-remaining": " 0 ", "x-ratelimit-reset": "9"}, 9.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(EPOCH + 3)}, 3.0),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "4"}, 4.0),
        ({"ratelimit-remaining": "few", "ratelimit-reset": "4"}, None),
        ({"ratelimit": '"default";r=0;t=6'}, 6.0),
        ({"ratelimit": '"default"; r=00'}, 0.5),
        ({"x-ratelimit-remaining": "59", "ratelimit": '"day";r=0;t=8'}, 8.0),
        ({"ratelimit-remaining": "0", "x-ratelimit-remaining": "5"}, 0.5),
        (
            {"x-ratelimit-remaining": "5", "x-ratelimit-reset": "99", "ratelimit": '"a";r=0;t=2'},
            2.0,
        ),
        ({"ratelimit": '"default";r=5;t=6'}, None),
        ({"ratelimit": '"burst";r=5;t=1, "daily";r=0;t=60, "hourly";r=0;t=30'}, 60.0),
        ({"ratelimit": "limit=10, remaining=0, reset=7"}, 7.0),
        ({"ratelimit": "limit=10, remaining=3, reset=7"}, None),
        ({"x-ratelimit-remaining": "0", "retry-after": "2"}, 2.0),
        ({"ratelimit": "nothing of the kind"}, None),
    ],
)
def test_a_used_up_quota_says_how_long(headers: dict[str, str], seconds: float | None) -> None:
    """Only a quota of which nothing is left makes a pause."""
    assert quota_pause({**headers, "date": DATE}, 0.5) == seconds
