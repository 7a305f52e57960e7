"""A service that takes callback requests from a queue, and has each customer called.

    INNOCALLS_TOKEN=... python examples/asyncio_service.py < callbacks.txt

Each line of its input is a customer's number and name. Several workers share one client, which
keeps to the rate limit for all of them.
"""

import asyncio
import logging
import sys

from innocalls_async import AsyncBridgeClient, BridgeRequest, InnoCallsError, OutcomeUnknownError

SUPPORT_NUMBER, SUPPORT_NAME = "+20 109 876 5432", "Support"
CALL_FLOW_ID = "5f0c1d2e3a4b5c6d7e8f9a0b"
WORKERS = 5

log = logging.getLogger("callbacks")


async def call_back(client: AsyncBridgeClient, number: str, name: str) -> None:
    """Have one customer called, and say what became of it."""
    try:
        request = BridgeRequest(
            call_flow_id=CALL_FLOW_ID,
            first_callee_number=number,
            first_callee_name=name,
            second_callee_number=SUPPORT_NUMBER,
            second_callee_name=SUPPORT_NAME,
            duration=10,
        )
        call = await client.bridge(request)
    except ValueError as error:
        log.info("%s: not a request: %s", name, error)
    except OutcomeUnknownError as error:
        # Sending it again could ring the customer twice, so that is for a person to decide.
        log.info("%s: in doubt: %s", name, error)
    except InnoCallsError as error:
        log.info("%s: not scheduled: %s", name, error)
    else:
        log.info("%s: scheduled as %s", name, call.call_id)


async def work(client: AsyncBridgeClient, queue: asyncio.Queue[str]) -> None:
    """Serve the queue until the task is cancelled."""
    while True:
        number, _, name = (await queue.get()).strip().partition(" ")
        await call_back(client, number, name)
        queue.task_done()


async def main() -> None:
    """Read everything there is, and end when it is all done."""
    queue: asyncio.Queue[str] = asyncio.Queue(maxsize=100)
    async with AsyncBridgeClient() as client:
        workers = [asyncio.create_task(work(client, queue)) for _ in range(WORKERS)]
        while line := await asyncio.to_thread(sys.stdin.readline):
            await queue.put(line)
        await queue.join()
        for worker in workers:
            worker.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(main())
