"""Nothing shown holds the token or a whole number."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innocalls_async.masking import mask_number, mask_text

NUMBERS = st.from_regex(r"[1-9][0-9]{6,14}", fullmatch=True)
TOKENS = st.from_regex(r"[\x21-\x7e]{6,40}", fullmatch=True)
NO_DIGITS = st.text(st.characters(exclude_categories=["Nd", "No", "Nl", "Cs"]))


@pytest.mark.parametrize(
    ("number", "shown"),
    [("201123456789", "*********789"), ("1234567", "****567"), ("123", "123"), ("", "")],
)
def test_a_number_is_masked_but_for_its_last_three_digits(number: str, shown: str) -> None:
    """The last three digits are enough to tell rows apart, and too few to dial."""
    assert mask_number(number) == shown


@settings(deadline=None)
@given(NO_DIGITS, NUMBERS, NO_DIGITS)
def test_a_known_number_is_masked_wherever_it_stands(before: str, number: str, after: str) -> None:
    """A number of the request is masked also inside a word."""
    assert mask_text(before + number + after, [number]) == before + mask_number(number) + after


@pytest.mark.parametrize("text", ["+20 112 345 6789", "20-112-345-6789", "(20) 112.345.6789"])
def test_a_known_number_is_masked_however_it_is_written(text: str) -> None:
    """A service may repeat it with separators of its own."""
    assert not re.search(r"\d{4}|11.?2", mask_text(f"not {text}!", ["201123456789"]))


@settings(deadline=None)
@given(st.text(), TOKENS, st.text())
def test_the_token_is_never_shown(before: str, token: str, after: str) -> None:
    """The token is taken out of any text, unless all that is left happens to spell it."""
    masked = mask_text(f"{before} {token} {after}", [token])
    if token not in before + after and "*" not in token:
        assert token not in masked


@settings(deadline=None)
@given(NUMBERS, st.sampled_from([" ", '"', ":", ",", "(", "/", "\n", "=", ""]))
def test_an_unknown_number_on_its_own_is_masked(number: str, mark: str) -> None:
    """What looks like a phone number is masked though nobody said that it is one."""
    masked = mask_text(f"to{mark or ' '}{number}{mark}")
    assert number not in masked
    assert masked.count("*") == len(number) - 3


@pytest.mark.parametrize(
    "text", ["+20 112 345 6789", "(+20)112-345-6789", "tel:+20.112.345/6789", "+20-112-345-6789."]
)
def test_an_unknown_number_with_a_plus_is_masked_however_it_is_written(text: str) -> None:
    """Its plus tells it from a date."""
    assert not re.search(r"\d{4}|11.?2", mask_text(f"not {text} here"))


@pytest.mark.parametrize("text", ["0112 345 6789", "112 345 6789", "20/112/345/6789"])
def test_a_known_number_is_masked_without_its_country_code(text: str) -> None:
    """As people of the country write it."""
    assert "345" not in mask_text(f"not {text} here", ["201123456789"])


def test_a_token_of_a_few_digits_hides_nothing_else() -> None:
    """It has no country code whose rest would be looked for."""
    assert mask_text("4 5, 4-5 and (45)", ["12345"]) == "4 5, 4-5 and (45)"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-04-23 00:57:00+02:00 is over",
        "no number here",
        "f2281763-e58a-4817-bc34-4b120c230cfbas",
        "5f0c1d2e3a4b5c6d7e8f9a0b",
        "HTTP 503 after 123456 ms",
    ],
)
def test_ids_and_small_numbers_stay(text: str) -> None:
    """What a person needs to find the call is left as it is."""
    assert mask_text(text, ["", "absent"]) == text
