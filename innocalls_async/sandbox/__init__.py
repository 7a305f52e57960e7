"""A local service that implements the API document, for tests, demos and trials.

sandbox = Sandbox(rate=50, faults={"503": 0.05, "drop": 0.01})
async with sandbox.serve() as base_url: ...                      # a real port
httpx.AsyncClient(transport=sandbox.transport())                 # no socket
sandbox.account.dialled_twice                                    # what really happened

What it knows of the API it has from the document and not from the client: routes, forms, times,
states and errors are its own, so that a mistake of the one shows in the other. How people write
numbers, and how those are masked, it shares.
"""

from __future__ import annotations

try:
    from innocalls_async.sandbox.account import Account, CallRecord
    from innocalls_async.sandbox.faults import FAULTS, OPERATIONS, Fault, parse_faults
    from innocalls_async.sandbox.forms import CallForm
    from innocalls_async.sandbox.profiles import PROFILES
    from innocalls_async.sandbox.sandbox import Sandbox
except ModuleNotFoundError as error:
    error.add_note('The sandbox needs an extra: python -m pip install "innocalls-async[sandbox]"')
    raise

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
