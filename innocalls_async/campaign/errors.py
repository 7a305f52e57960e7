"""What can go wrong with a campaign itself, apart from the service."""

from __future__ import annotations

from innocalls_async.errors import InnoCallsError

__all__ = ["CampaignError", "DiskError", "InputError", "LedgerBusyError", "LedgerError"]


class CampaignError(InnoCallsError):
    """A campaign cannot be carried out as asked."""


class InputError(CampaignError):
    """The input cannot be used; `problems` counts the rows that are no good, if rows are why."""

    def __init__(self, message: str = "", problems: int = 0) -> None:
        super().__init__(message)
        self.problems = problems

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.problems)


class LedgerError(CampaignError):
    """The ledger cannot be read or written, or the file is none."""


class DiskError(LedgerError):
    """The disk has no room for the ledger, or fails."""


class LedgerBusyError(LedgerError):
    """Another process owns the ledger."""
