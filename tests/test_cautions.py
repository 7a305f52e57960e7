"""What is said of a plan before phones ring by it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from campaign_drill import row, write_calls
from typer.testing import CliRunner

from innocalls_async.campaign import Campaign
from innocalls_async.campaign.cautions import cautions
from innocalls_async.campaign.intake import PlanOptions
from innocalls_async.cli.app import app

CAIRO = ZoneInfo("Africa/Cairo")
NOON, NIGHT = datetime(2026, 4, 19, 12, tzinfo=CAIRO), datetime(2026, 4, 19, 2, tzinfo=CAIRO)
NO_PLAN = PlanOptions()


def minute(hour: int, minutes: int = 0) -> int:
    return int(datetime(2026, 4, 20, hour, minutes, tzinfo=CAIRO).timestamp()) // 60


@pytest.mark.parametrize(
    ("minutes", "now", "count"),
    [
        ({None: 50_000}, NIGHT, 50_000),
        ({None: 50_000}, NOON, 0),
        ({minute(2): 3, minute(8): 4, minute(20, 59): 5, minute(21): 6}, NOON, 9),
        ({minute(7, 59): 2, None: 3}, NIGHT, 5),
        ({minute(7, 59): 1, None: 3}, NOON, 1),
    ],
)
def test_calls_at_night_are_counted(
    minutes: dict[int | None, int], now: datetime, count: int
) -> None:
    """Calls between 21:00 and 8:00 on the account's clock are a caution, at once or later."""
    found = cautions(minutes, CAIRO, now, NO_PLAN)
    words = "1 call is" if count == 1 else f"{count} calls are"
    assert len(found) == (count > 0)
    assert all(said.startswith(f"{words} to ring between 21:00 and 08:00") for said in found)
    assert cautions(minutes, CAIRO, now, PlanOptions(window="00:00-24:00")) == []


def test_a_crowd_is_told() -> None:
    """Many calls in one minute are a caution, unless they are spread."""
    minutes = {None: 5_000, minute(9): 50_000, minute(10): 60}
    (said,) = cautions(minutes, CAIRO, NOON, PlanOptions(window="09:00-17:00"))
    assert said.startswith("50000 calls are to begin in the minute of 2026-04-20 09:00")
    assert "--spread" in said
    assert cautions(minutes, CAIRO, NOON, PlanOptions(spread=5)) == []


def test_a_plan_is_shown_with_its_cautions(tmp_path: Path) -> None:
    """`--dry-run` and a run say on stderr what would happen at night, and all at once."""
    at_night = [row(number, call_time="2040-01-03 02:00") for number in range(1, 121)]
    source = write_calls(tmp_path / "calls.csv", at_night)
    arguments = ["campaign", "run", str(source), "--ledger", str(tmp_path / "run.db")]
    for options in (["--dry-run", "--json"], ["--sandbox", "--rate", "5000/s", "--json"]):
        result = CliRunner().invoke(app, [*arguments, *options])
        assert result.exit_code == 0
        assert "120 calls are to ring between 21:00 and 08:00" in result.stderr
        assert "120 calls are to begin in the minute of 2040-01-03 02:00" in result.stderr
        assert json.loads(result.stdout.splitlines()[-1])["rows"] == 120


def test_what_was_sent_is_no_caution(tmp_path: Path) -> None:
    """Only calls that are still to be sent count."""
    source = write_calls(tmp_path / "calls.csv", [row(1, call_time="2040-01-03 02:00"), row(2)])
    with Campaign.load(source, tmp_path / "run.db") as campaign:
        assert any("to ring between" in said for said in campaign.cautions())
        campaign.ledger.write("UPDATE calls SET state = 'cancelled'")
        assert campaign.cautions() == []
