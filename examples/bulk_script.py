"""Schedule a call for each row of a CSV file, and write down what became of each row.

    INNOCALLS_TOKEN=... python examples/bulk_script.py requests.csv outcomes.csv

The columns are the fields of a request; `call_time`, if there is one, has an offset. The file is
read as it is sent, so it may be of any length. To survive a crash half way, run a campaign
(`innocalls campaign`) instead: it has a ledger.
"""

# ruff: noqa: T201 - it talks to a person

import asyncio
import csv
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from innocalls_async import AsyncBridgeClient, BridgeRequest, InDoubt, Outcome, Scheduled


def read_requests(path: str) -> Iterator[BridgeRequest]:
    """The rows that are requests; of each other row, why it is none."""
    with open(path, newline="", encoding="utf-8") as file:  # noqa: PTH123
        for line, row in enumerate(csv.DictReader(file), start=2):
            try:
                yield request_of(row)
            except (KeyError, ValueError) as error:
                print(f"line {line} is left out: {error}")


def request_of(row: dict[str, str]) -> BridgeRequest:
    """One row as a request, or the ValueError that names what is wrong with it."""
    call_time = row.get("call_time")
    return BridgeRequest(
        call_flow_id=row["call_flow_id"],
        first_callee_number=row["first_callee_number"],
        first_callee_name=row["first_callee_name"],
        second_callee_number=row["second_callee_number"],
        second_callee_name=row["second_callee_name"],
        duration=int(row["duration"]),
        call_time=datetime.fromisoformat(call_time) if call_time else None,
    )


def line_of(outcome: Outcome) -> list[object]:
    """A line of the report."""
    if isinstance(outcome, Scheduled):
        return [outcome.index, "scheduled", outcome.call_id]
    word = "in doubt" if isinstance(outcome, InDoubt) else "refused"
    return [outcome.index, word, outcome.error]


async def main(source: str, report: str) -> None:
    """Send everything, and count what came of it."""
    counts: Counter[str] = Counter()
    with open(report, "w", newline="", encoding="utf-8") as file:  # noqa: ASYNC230, PTH123
        writer = csv.writer(file)
        writer.writerow(["index", "outcome", "call_id or reason"])
        async with AsyncBridgeClient() as client:
            async for outcome in client.bridge_many(read_requests(source)):
                line = line_of(outcome)
                writer.writerow(line)
                counts[str(line[1])] += 1
    print(", ".join(f"{count} {word}" for word, count in sorted(counts.items())))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("give the file of requests and the file for the report")
    asyncio.run(main(*sys.argv[1:]))
