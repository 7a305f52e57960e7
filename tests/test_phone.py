"""Numbers as people write them become the digits that are dialled, or nobody is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import a_request

from innocalls_async import BridgeRequest
from innocalls_async.phone import parse_number

E164 = st.from_regex(r"[1-9][0-9]{6,14}", fullmatch=True)
# ASCII, Arabic-Indic, Extended Arabic-Indic, Devanagari, full width
ZEROS = "0\u0660\u06f0\u0966\uff10"
SEPARATORS = [" ", "-", ".", "/", "\u00a0", "\u202f", "\u2011", "\u2013", "\u200f", "\ufeff", "\t"]
SEPARATORS_AT_THE_END = [it for it in SEPARATORS if it not in "./"]


@st.composite
def written(draw: st.DrawFn) -> tuple[str, str]:
    """A number's digits, and one of the many ways to write it."""
    digits = draw(E164)
    zero = ord(draw(st.sampled_from(ZEROS)))
    text = draw(st.sampled_from(["", "+", "00", "\uff0b", "\u202a+", " + "]))
    text = text.replace("0", chr(zero))
    for place, digit in enumerate(digits):
        # A dot or a slash before the last two would make them decimals or another number's.
        allowed = SEPARATORS if place < len(digits) - 3 else SEPARATORS_AT_THE_END
        text += chr(zero + int(digit)) + "".join(
            draw(st.lists(st.sampled_from(allowed), max_size=2))
        )
    return digits, text


@pytest.mark.parametrize("text", ["+20 112 345 6789\u00b9", "\u00b2011234567", "20112345678\u2468"])
def test_a_footnotes_mark_is_no_digit(text: str) -> None:
    """It would make the number another person's."""
    with pytest.raises(ValueError, match=r"^first_callee_number: holds a raised or circled digit"):
        parse_number(text, "first_callee_number")


@settings(deadline=None, max_examples=80)
@given(written())
def test_a_number_means_the_same_however_it_is_written(number: tuple[str, str]) -> None:
    """Prefixes, separators and scripts do not change the digits that are dialled."""
    digits, text = number
    assert parse_number(text, "first_callee_number") == digits


@pytest.mark.parametrize(
    "text", ["201123456789.0", "2011234567 89.00", "20112345678/9", "+20 112 345 678 / 79"]
)
def test_a_decimal_and_an_alternative_are_no_part_of_a_number(text: str) -> None:
    """What a spreadsheet or a person put behind a number would make it another person's."""
    with pytest.raises(ValueError, match="first_callee_number: ends like a decimal"):
        parse_number(text, "first_callee_number")


@settings(deadline=None, max_examples=150)
@given(st.text(st.characters(codec=None) | st.sampled_from("+0123456789٣ -()"), max_size=30))
def test_anything_else_is_a_value_error_that_names_the_field_only(text: str) -> None:
    """Garbage never crashes, and the error never repeats what was given."""
    try:
        assert re.fullmatch(r"[1-9][0-9]{6,14}", parse_number(text, "some_field"))
    except ValueError as error:
        said = str(error)
        assert said.startswith("some_field: ")
        assert not re.search(r"\d{5}", said)


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("201123456789", "201123456789"),
        ("+20 112 345 6789", "201123456789"),
        ("0020 112 345 6789", "201123456789"),
        ("(20) 112-345.6789", "201123456789"),
        ("٢٠١١٢٣٤٥٦٧٨٩", "201123456789"),
        ("+٩٦٦ ٥٠ ١٢٣ ٤٥٦٧", "966501234567"),  # noqa: RUF001 - as people write it
        ("\u202a+20 112 345 6789\u202c", "201123456789"),
        ("1234567", "1234567"),
        ("123456789012345", "123456789012345"),
    ],
)
def test_examples_that_are_read(text: str, digits: str) -> None:
    """What the documentation promises is read, and a request keeps it."""
    assert (
        a_request(second_callee_number=text, first_callee_number="97150123456").second_callee_number
        == digits
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "there is none"),
        (" - ", "there is none"),
        ("+", "there is none"),
        ("123456", "there are 6"),
        ("1234567890123456", "there are 16"),
        ("++201123456789", "other characters"),
        ("20112x456789", "other characters"),
        ("201123456789,201123456780", "other characters"),
        ("201123456789 ext 5", "other characters"),
        ("01123456789", "no country code"),
        ("+0201123456789", "no country code"),
        ("000201123456789", "no country code"),
        ("+44 (0) 20 7946 0958", r"'\(0\)' can be read two ways"),
    ],
)
def test_examples_that_are_refused(text: str, reason: str) -> None:
    """What leaves a doubt about who would be dialled is refused with its reason."""
    with pytest.raises(ValueError, match=f"^first_callee_number: .*{reason}"):
        a_request(first_callee_number=text)


@pytest.mark.parametrize("value", [None, 201123456789, b"201123456789", 2.0, ["201123456789"]])
@pytest.mark.parametrize("field", ["first_callee_number", "second_callee_number"])
def test_what_is_no_str_is_a_type_error(field: str, value: object) -> None:
    """A number of another type is a TypeError that names the field and the type, not the value."""
    with pytest.raises(TypeError, match=f"^{field}: .*{type(value).__name__}$") as caught:
        a_request(**{field: value})
    assert "201123456789" not in str(caught.value)


def test_a_request_keeps_plain_digits_as_they_are() -> None:
    """Digits that the API wants already pass through untouched."""
    request: BridgeRequest = a_request(first_callee_number="97150123456")
    assert request.first_callee_number == "97150123456"
