"""A local service that implements the API document, for tests, demos and trials.

sandbox = Sandbox(rate=50, faults={"503": 0.05, "drop": 0.01})
async with sandbox.serve() as base_url: ...                      # a real port
httpx.AsyncClient(transport=sandbox.transport())                 # no socket
sandbox.account.dialled_twice                                    # what really happened
"""

from __future__ import annotations

from innocalls_async.sandbox.account import Account, CallRecord
from innocalls_async.sandbox.faults import FAULTS, OPERATIONS, Fault, parse_faults
from innocalls_async.sandbox.forms import CallForm
from innocalls_async.sandbox.profiles import PROFILES
from innocalls_async.sandbox.sandbox import Sandbox

__all__ = [
    "FAULTS",
    "OPERATIONS",
    "PROFILES",
    "Account",
    "CallForm",
    "CallRecord",
    "Fault",
    "Sandbox",
    "parse_faults",
]
