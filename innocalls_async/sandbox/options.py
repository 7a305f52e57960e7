"""What the sandbox's options may be; each check raises a `ValueError` that says so."""

from __future__ import annotations

import math

import attrs

from innocalls_async.sandbox.profiles import PROFILES, Profile, ProfileName


def check_rate(_: object, option: attrs.Attribute[int | None], value: int | None) -> None:
    """A whole number of requests, or None."""
    if value is not None and not (isinstance(value, int) and value >= 1):
        raise ValueError(f"{option.name} must be a whole number from 1 up, not {value!r}")


def check_seconds(_: object, option: attrs.Attribute[float], value: float) -> None:
    """Finite and not negative; a speed too."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{option.name} must be finite and not negative, not {value!r}")


def check_period(_: object, option: attrs.Attribute[float], value: float) -> None:
    """Finite and more than zero."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{option.name} must be finite and more than 0, not {value!r}")


def find_profile(name: ProfileName) -> Profile:
    """The profile of that name."""
    try:
        return PROFILES[name]
    except KeyError:
        raise ValueError(f"unknown profile {name!r}: one of {', '.join(PROFILES)}") from None
