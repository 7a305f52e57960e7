"""A rate limit without a burst at the seam of two windows."""

from __future__ import annotations

from collections import deque

import attrs


@attrs.define
class Throttle:
    """Admits at most `rate` requests in any window of `per` seconds; `rate` None admits all."""

    rate: int | None
    per: float
    highest: int = attrs.field(init=False, default=0)
    """The most requests that arrived in any one window, refused ones too."""
    _admitted: deque[float] = attrs.field(init=False, factory=deque)
    _arrived: deque[float] = attrs.field(init=False, factory=deque)

    def admit(self, now: float) -> float:
        """0 when the request may pass, else the seconds until the next one may."""
        self._arrived.append(now)
        self._forget(self._arrived, now)
        self._forget(self._admitted, now)
        self.highest = max(self.highest, len(self._arrived))
        if self.rate is not None and len(self._admitted) >= self.rate:
            return self._admitted[0] + self.per - now
        self._admitted.append(now)
        return 0.0

    @property
    def remaining(self) -> int:
        """How many more the window of the last arrival has room for."""
        return 0 if self.rate is None else self.rate - len(self._admitted)

    def _forget(self, times: deque[float], now: float) -> None:
        # The same sum as in `admit`: a rounding error must not refuse with nothing to wait for.
        while times and times[0] + self.per - now <= 0:
            times.popleft()
