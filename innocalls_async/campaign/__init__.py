"""Campaigns: a file of requests carried out durably, with a true account at the end.

Whatever dies and whenever, a row whose answer is not known is not sent again by itself. `Campaign`
is where to begin.
"""

from innocalls_async.campaign.campaign import Campaign, Progress
from innocalls_async.campaign.errors import (
    CampaignError,
    InputError,
    LedgerBusyError,
    LedgerError,
)
from innocalls_async.campaign.intake import InputOptions, PlanOptions
from innocalls_async.campaign.ledger import Ledger, Selection
from innocalls_async.campaign.rows import Problem
from innocalls_async.campaign.runner import Result
from innocalls_async.campaign.states import State

__all__ = [
    "Campaign",
    "CampaignError",
    "InputError",
    "InputOptions",
    "Ledger",
    "LedgerBusyError",
    "LedgerError",
    "PlanOptions",
    "Problem",
    "Progress",
    "Result",
    "Selection",
    "State",
]
