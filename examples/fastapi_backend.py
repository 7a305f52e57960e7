"""A backend that schedules calls one at a time or by the list, and a page that tells how far it is.

    INNOCALLS_TOKEN=... uvicorn examples.fastapi_backend:app

`POST /calls` takes a request and answers with its call. `POST /batches` takes a list, answers at
once, and schedules it in the background; the page at `/` shows the batches.
"""

import asyncio
from collections import Counter
from html import escape

from attrs import define, field
from fastapi import FastAPI, HTTPException
from fastapi.responses import HTMLResponse

from innocalls_async import BridgeRequest, CallStatus, Outcome, ScheduledCall
from innocalls_async.integrations.fastapi import (
    PROBLEM_RESPONSES,
    BridgeClient,
    CancelOnDisconnect,
    TaggedOutcome,
    bridge_lifespan,
    install_error_handlers,
)


@define
class Batch:
    """A list of requests under way."""

    size: int
    outcomes: list[Outcome] = field(factory=list)
    cut_off: str | None = None

    @property
    def counts(self) -> Counter[str]:
        """How many came to which outcome."""
        return Counter(type(outcome).__name__ for outcome in self.outcomes)


batches: list[Batch] = []
# What came after its caller had left, or its batch was stopped with the server: nobody was told
# of it. An application with a database writes it there.
abandoned: list[Outcome] = []
running: set[asyncio.Task[None]] = set()  # asyncio itself keeps only weak references

app = FastAPI(
    title="Callbacks",
    lifespan=bridge_lifespan(on_abandoned=abandoned.append),
    responses=PROBLEM_RESPONSES,
)
app.add_middleware(CancelOnDisconnect)
install_error_handlers(app)


@app.post("/calls", status_code=201)
async def schedule(request: BridgeRequest, client: BridgeClient) -> ScheduledCall:
    """Schedule one call."""
    return await client.bridge(request)


@app.get("/calls/{call_id}")
async def status(call_id: str, call_flow_id: str, client: BridgeClient) -> CallStatus:
    """What the service says of a call now."""
    return await client.status(call_id, call_flow_id)


@app.post("/batches", status_code=202)
async def start_batch(requests: list[BridgeRequest], client: BridgeClient) -> dict[str, int]:
    """Schedule many calls, in the background."""
    batch = Batch(len(requests))
    batches.append(batch)
    # No BackgroundTask: servers wait for the last row of those before they end.
    task = asyncio.create_task(fan_out(batch, requests, client))
    running.add(task)
    task.add_done_callback(running.discard)
    return {"batch": len(batches) - 1}


async def fan_out(batch: Batch, requests: list[BridgeRequest], client: BridgeClient) -> None:
    """Carry a batch out, and keep what became of each request."""
    try:
        async for outcome in client.bridge_many(requests):
            batch.outcomes.append(outcome)
    except RuntimeError as error:  # the application ends; what has no outcome was not sent
        batch.cut_off = str(error)


@app.get("/batches/{number}")
async def outcomes(number: int) -> list[TaggedOutcome]:
    """The outcomes so far."""
    if not 0 <= number < len(batches):
        raise HTTPException(404, "there is no such batch")
    return batches[number].outcomes


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    """The batches, for people."""
    rows = "".join(row(number, batch) for number, batch in enumerate(batches))
    return PAGE.replace("ROWS", rows or "<tr><td colspan=6>No batch yet.</td></tr>").replace(
        "ABANDONED", escape(str(len(abandoned)))
    )


def row(number: int, batch: Batch) -> str:
    """One line of the table."""
    done, counts = len(batch.outcomes), batch.counts
    cells = "".join(f"<td>{counts[word]}" for word in ("Scheduled", "Refused", "InDoubt"))
    bar = f"<progress max={batch.size} value={done}></progress>"
    return f"<tr><td>{number}<td>{bar}<td>{done} of {batch.size}{cells}"


PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="2">
<title>Callbacks</title>
<style>
  body { font: 1rem/1.5 system-ui; margin: 2rem auto; max-width: 48rem; padding: 0 1rem }
  main { overflow-x: auto }
  table { border-collapse: collapse; width: 100% }
  th, td { border-bottom: 1px solid #ccc; padding: .4rem; text-align: left }
  progress { width: 5rem }
</style>
<h1>Callbacks</h1>
<main>
<table>
  <tr><th>Batch<th>Progress<th>Done<th>Scheduled<th>Refused<th>In doubt
  ROWS
</table>
</main>
<p>Calls of which nobody waited for the answer: ABANDONED
</html>
"""
