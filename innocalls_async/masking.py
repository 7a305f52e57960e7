"""What may be shown: numbers but for their last three digits, and never the token."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["mask_number", "mask_text"]

# A run of digits long enough to be a phone number, on its own: the digits inside a call id
# or a word stay, because they are what a person needs to find the call.
_NUMBER = re.compile(r"(?<![\w.-])\+?\d{7,}(?![\w-])")


def mask_number(number: str) -> str:
    """`201123456789` as `*********789`."""
    return "*" * (len(number) - 3) + number[-3:]


def mask_text(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without any of `secrets` and without anything that looks like a whole number."""
    for secret in secrets:
        if secret and secret in text:
            shown = mask_number(secret) if secret.isdigit() else "***"
            text = text.replace(secret, shown)
    return _NUMBER.sub(lambda found: mask_number(found.group()), text)
