"""The rows of a ledger as its users have them: what is asked for, what became of it, and which."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from attrs import frozen

from innocalls_async.campaign.states import State
from innocalls_async.models import BridgeRequest

__all__ = ["Block", "Call", "Record", "Screen", "Selection", "Turn"]


@frozen
class Call:
    """One row: what is asked for, and the service's `call_id` once it has one."""

    row: int
    ref: str
    call_flow_id: str
    first_callee_number: str
    first_callee_name: str
    second_callee_number: str
    second_callee_name: str
    duration: int
    call_time: int | None
    asked_time: int | None
    call_id: str | None
    checks: int
    new_time: int | None
    at_once: bool = False  # its time is over or about to be: it goes without one

    def request(self, call_time: int | None = None) -> BridgeRequest:
        """It as a request; at `call_time` (unix seconds) instead of its own, if given."""
        moment = None if self.at_once else self.call_time
        moment = moment if call_time is None else call_time
        return BridgeRequest(
            self.call_flow_id,
            self.first_callee_number,
            self.first_callee_name,
            self.second_callee_number,
            self.second_callee_name,
            self.duration,
            None if moment is None else datetime.fromtimestamp(moment, UTC),
        )


@frozen
class Record:
    """What became of a row that was sending. `attempts` were made for it just now."""

    row: int
    state: State
    attempts: int
    call_id: str | None = None
    error: str | None = None
    ended_at: float | None = None


@frozen
class Block:
    """Why a pending row must not be sent, and what it is instead."""

    state: State
    error: str


Screen: TypeAlias = Callable[[Call, float], Call | Block]
"""Looks at a row about to be sent, at unix seconds: the call as it is to go, or why not."""


@frozen
class Turn:
    """What one turn of the books gave: rows that are `sending` now, how many were `blocked`
    instead, by state, and whether the end of what is pending was reached."""

    calls: Sequence[Call]
    blocked: Mapping[State, int]
    reached_end: bool


@frozen
class Selection:
    """Some rows: by number, by `ref`, or, with neither, all."""

    rows: Sequence[int] = ()
    refs: Sequence[str] = ()

    def condition(self) -> tuple[str, list[str]]:
        """As an SQL condition, and its parameters."""
        if not self.rows and not self.refs:
            return "1", []
        return (
            "(row IN (SELECT value FROM json_each(?)) OR ref IN (SELECT value FROM json_each(?)))",
            [json.dumps(list(self.rows)), json.dumps(list(self.refs))],
        )
