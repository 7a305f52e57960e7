"""What may be shown: numbers but for their last three digits, and never the token."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from html.entities import codepoint2name

__all__ = ["mask_number", "mask_text"]

# A run of digits long enough to be a phone number, on its own: the digits inside a call id
# or a word stay, because they are what a person needs to find the call.
_NUMBER = re.compile(r"(?<![\w.-])\+?\d{7,}(?![\w-])|\+\d(?:[ \u00a0()./-]{0,2}\d){6,14}(?!\d)")
_SEPARATORS = re.compile(r"[ \u00a0()./-]*")
# So many digits of a known number are its country code, which people leave out.
_CODE = 3
_SHORTEST_NUMBER = 7

# A token that can be guessed protects nothing, and masking "t" would leave no word readable.
_SHORTEST_TOKEN = 6


def mask_number(number: str) -> str:
    """`201123456789` as `*********789`."""
    return "*" * (len(number) - 3) + number[-3:]


def mask_text(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without any of `secrets` and without anything that looks like a whole number."""
    for secret in secrets:
        if not secret.isdigit():
            if len(secret) >= _SHORTEST_TOKEN:
                text = _as_written(secret).sub("***", text)
        elif (tail := _without_code(secret)) in _digits_of(text):
            for written in (secret, tail):
                text = re.sub(_SEPARATORS.pattern.join(written), mask_number(written), text)
    return _NUMBER.sub(lambda found: mask_number(_digits_of(found.group())), text)


def _without_code(number: str) -> str:
    return number[max(0, min(_CODE, len(number) - _SHORTEST_NUMBER)) :]


def _digits_of(text: str) -> str:
    return _SEPARATORS.sub("", text)


@functools.lru_cache(maxsize=16)
def _as_written(secret: str) -> re.Pattern[str]:
    """`secret` as JSON (PHP's writes `\\/`), a repr, a URL or HTML quotes it, in either case, as
    names of headers have only one."""
    return re.compile("".join(map(_character, secret)), re.IGNORECASE)


def _character(char: str) -> str:
    if char.isalnum():
        return char
    code = ord(char)
    entity = rf"&(?:#0*{code}|#x0*{code:x}|{codepoint2name.get(code, 'none')});"
    return rf"(?:\\*{re.escape(char)}|\\+u{code:04x}|%{code:02x}|{entity})"
