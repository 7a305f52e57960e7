"""Phone numbers as people write them, made into the digits that the API wants."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["check_ending", "parse_number"]

# What people put between digits: spaces (also no-break and thin ones, which NFKC folds to a
# space), hyphens and dashes of every kind, dots, slashes, brackets; and the invisible marks that
# copying from a contact list or a right-to-left text leaves behind.
_SEPARATORS = re.compile(
    r"[\s\-.()/\u2010-\u2015\u2212\u00ad\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]+"
)
_TRUNK_ZERO = re.compile(r"\(\s*0\s*\)")
# "201123456789.0", as spreadsheets write a number, and "20112345678/9", as people write two.
_DECIMALS = re.compile(r"^[^.]*\.\s*\d{1,2}\s*$")
_OTHER_ENDING = re.compile(r"/\s*\d{1,2}\s*$")
_DIGITS = re.compile(r"[1-9][0-9]{6,14}")


def parse_number(value: str, field: str) -> str:
    """The 7 to 15 digits, country code first, of a number as a person wrote it.

    `+20 112 345 6789`, `0020…` and digits of any script are read. ValueError, naming `field` but
    not the number, for anything that leaves a doubt about who would be dialled; TypeError for
    anything that is no str.
    """
    if not isinstance(value, str):
        raise TypeError(f"{field}: a phone number is a str, not {type(value).__name__}")
    if value.isascii() and _DIGITS.fullmatch(value):
        return value
    if any(unicodedata.category(char) == "No" for char in value):
        # A footnote's mark or a number in a circle, which NFKC would make one more digit.
        raise ValueError(f"{field}: holds a raised or circled digit; write it without")
    text = unicodedata.normalize("NFKC", value)
    if _TRUNK_ZERO.search(text):
        # Some countries drop that zero after the country code, Italy keeps it.
        raise ValueError(f"{field}: '(0)' can be read two ways; write the number without it")
    check_ending(text, field)
    digits = _ascii_digits(_SEPARATORS.sub("", text))
    if digits.startswith("+"):
        digits = digits[1:]
    elif digits.startswith("00"):
        digits = digits[2:]
    if digits.startswith("0"):
        raise ValueError(
            f"{field}: the number starts with 0, so it has no country code; "
            "write it as +20…, 0020… or 20…"
        )
    if not _DIGITS.fullmatch(digits):
        raise ValueError(
            f"{field}: not a phone number: 7 to 15 digits with the country code are needed, "
            f"{_what_is_there(digits)}"
        )
    return digits


def check_ending(text: str, field: str) -> None:
    """ValueError for an ending that, read as digits, would make it another person's number."""
    if _DECIMALS.search(text) or _OTHER_ENDING.search(text):
        raise ValueError(
            f"{field}: ends like a decimal or like two numbers in one; write one number, and let "
            "a spreadsheet keep the column as text"
        )


def _ascii_digits(text: str) -> str:
    return "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text)


def _what_is_there(digits: str) -> str:
    if not digits:
        return "there is none"
    if digits.isdigit():
        return f"there are {len(digits)}"
    return "there are other characters too"
