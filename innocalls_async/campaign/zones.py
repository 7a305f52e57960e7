"""Which time zones a phone number may be in.

The `phonenumbers` library knows the zones of a number by its type: a fixed line by its area code,
most mobiles and freephone numbers by their country alone.
"""

from __future__ import annotations

from functools import lru_cache
from zoneinfo import ZoneInfo

import phonenumbers
from phonenumbers.timezone import UNKNOWN_TIMEZONE, time_zones_for_number
from phonenumbers.tzdata import TIMEZONE_DATA, TIMEZONE_LONGEST_PREFIX

__all__ = ["callee_zones"]

_LONGEST_COUNTRY_CODE = 3


def callee_zones(number: str) -> frozenset[ZoneInfo]:
    """Every zone in which the phone of `number` (digits, country code first) may be.

    A number that the numbering plan does not know is placed by its country code: in any zone of
    that country. Empty where the country code tells nothing, as with satellite phones.
    """
    area, country = _area_and_country(number[:TIMEZONE_LONGEST_PREFIX])
    # In most countries both are the same one zone: a hundred times quicker than asking for the
    # number's type.
    return area if area == country else _zones_by_type(number) or country


@lru_cache(maxsize=65_536)
def _area_and_country(prefix: str) -> tuple[frozenset[ZoneInfo], frozenset[ZoneInfo]]:
    for length in range(1, _LONGEST_COUNTRY_CODE + 1):
        if int(prefix[:length]) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
            return _zones_of_prefix(prefix), _zones_of_prefix(prefix[:length])
    return frozenset(), frozenset()


def _zones_of_prefix(prefix: str) -> frozenset[ZoneInfo]:
    for length in range(len(prefix), 0, -1):
        if prefix[:length] in TIMEZONE_DATA:
            return _load(TIMEZONE_DATA[prefix[:length]])
    return frozenset()


def _zones_by_type(number: str) -> frozenset[ZoneInfo]:
    try:
        parsed = phonenumbers.parse(f"+{number}")
    except phonenumbers.NumberParseException:
        return frozenset()
    return _load(tuple(time_zones_for_number(parsed)))


@lru_cache(maxsize=4096)
def _load(names: tuple[str, ...]) -> frozenset[ZoneInfo]:
    return frozenset(ZoneInfo(name) for name in names if name != UNKNOWN_TIMEZONE)
