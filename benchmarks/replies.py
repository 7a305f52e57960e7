"""What the target server answers on each peer's own path: the documented sample replies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

__all__ = ["CALL_ID", "REPLIES", "TWILIO_ACCOUNT"]

CALL_ID: Final = "f2281763-e58a-4817-bc34-4b120c230cfbas"
TWILIO_ACCOUNT: Final = "AC" + "0" * 32

REPLIES: Final[Mapping[str, str]] = {
    path: json.dumps(reply)
    for path, reply in {
        "/api/v1/call/bridge": {"status": 200, "success": True, "data": {"call_id": CALL_ID}},
        f"/2010-04-01/Accounts/{TWILIO_ACCOUNT}/Calls.json": {
            "sid": CALL_ID,
            "account_sid": TWILIO_ACCOUNT,
            "status": "queued",
        },
        "/v2/calls": {"data": {"call_control_id": CALL_ID, "record_type": "call"}},
    }.items()
}
