"""An operation that is carried out beside whoever waits for it: what fan-outs and the creates of
request handlers have in common."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
from attrs import define, field

from innocalls_async.errors import InnoCallsError, OutcomeUnknownError
from innocalls_async.outcomes import InDoubt, Refused
from innocalls_async.pipeline import Run

__all__ = ["Worker", "in_doubt", "outcome_of", "spawn"]


@define(eq=False)
class Worker:
    """Carries out `run` inside `scope`."""

    scope: anyio.CancelScope = field(factory=anyio.CancelScope)
    run: Run | None = None

    def stop(self) -> None:
        """Cancel it; but what is on the wire ends its attempt, and is not retried."""
        if self.run is not None and self.run.is_on_the_wire:
            self.run.is_last = True
        else:
            self.scope.cancel()


def outcome_of(run: Run, index: int, item: Any, error: Exception) -> Refused | InDoubt:
    """The outcome of a run that ended in `error`."""
    # Not an error of ours: a caller's callback broke it on the wire.
    is_broken = run.is_in_doubt and not isinstance(error, InnoCallsError)
    if is_broken or isinstance(error, OutcomeUnknownError):
        return in_doubt(run, index, error)
    return Refused(index, item, error)


def in_doubt(run: Run, index: int, error: BaseException) -> InDoubt:
    """The outcome of a create that `error` left open."""
    request = run.message.request
    assert request is not None  # noqa: S101 - only a create is in doubt
    if not isinstance(error, OutcomeUnknownError):
        error = OutcomeUnknownError(f"{type(error).__name__}: {error}", request=request)
    return InDoubt(index, request, error)


_hosts: set[object] = set()  # asyncio itself keeps only weak references to tasks


def spawn(work: Callable[[], Coroutine[Any, Any, None]]) -> object:
    """Start `work` beside the caller, in nobody's task group, on either event loop."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return trio.lowlevel.spawn_system_task(work, context=contextvars.copy_context())
    task = asyncio.get_running_loop().create_task(work())
    _hosts.add(task)
    task.add_done_callback(_hosts.discard)
    return task
