"""Schedule two calls on trio, and watch both until they are over.

INNOCALLS_TOKEN=... python examples/trio_program.py
"""

# ruff: noqa: T201 - it talks to a person

import trio

from innocalls_async import AsyncBridgeClient, BridgeRequest

CALL_FLOW_ID = "5f0c1d2e3a4b5c6d7e8f9a0b"
REQUESTS = [
    BridgeRequest(CALL_FLOW_ID, "+20 112 345 6789", "Ahmed", "+20 109 876 5432", "Mona", 5),
    BridgeRequest(CALL_FLOW_ID, "+20 112 345 6780", "Salma", "+20 109 876 5431", "Omar", 1),
]


async def follow(client: AsyncBridgeClient, request: BridgeRequest) -> None:
    """Schedule one call and print each change of it."""
    names = f"{request.first_callee_name} and {request.second_callee_name}"
    call = await client.bridge(request)
    async for status in client.watch(call.call_id, request.call_flow_id, interval=0.5):
        print(f"{names}: {status.call_status}")


async def main() -> None:
    """Both at once, for an hour at most."""
    with trio.move_on_after(3600):
        async with AsyncBridgeClient() as client, trio.open_nursery() as nursery:
            for request in REQUESTS:
                nursery.start_soon(follow, client, request)


if __name__ == "__main__":
    trio.run(main)
