"""The do-not-call list: which column is the number, and what is done with a line that has none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from campaign_drill import write_calls

from innocalls_async import AsyncBridgeClient
from innocalls_async.campaign import Campaign, InputError, InputOptions, State
from innocalls_async.campaign.cells import number_parser
from innocalls_async.campaign.suppression import DoNotCall
from innocalls_async.sandbox import Sandbox


def _read(folder: Path, text: str, region: str | None = None) -> set[int]:
    path = folder / "dnc"
    path.write_text(text, encoding="utf-8")
    return set(DoNotCall.read(path, number_parser(region)).numbers)


@pytest.mark.parametrize(
    "text",
    [
        "201000000002\n",
        "# ours\n\n+20 10 00000002\n",
        "name\n201000000002\n",
        "id,phone\n1234567,201000000002\n",
        "Mobile No.;id\n00201000000002;1234567\n",
        "Omar\t201000000002\nMona,\t201000000002\n",
        "201000000002,2026-01-02\n201000000002,31/12/2026\n",
        "ref,contact\n12,'+201000000002\n1234567,201000000002\n",
        'phone,note\n201000000002,"never closed\n',
        "phone,mobile\n,201000000002\n201000000002,\n",
        "name,phone,phone2\nOmar,,201000000002\n",
        "mobile,mobile_2\n201000000002,201000000002\n",
        "Phone,Phone (work)\n,201000000002\n",
    ],
)
def test_which_column(tmp_path: Path, text: str) -> None:
    """The number is in the column that is named so, or where most lines have one."""
    assert _read(tmp_path, text) == {201000000002}


def test_a_list_from_a_spreadsheet(tmp_path: Path) -> None:
    """UTF-16 is read as in the file of the calls; what only begins like it is refused."""
    path = tmp_path / "dnc"
    path.write_bytes("phone\n201000000002\n".encode("utf-16"))
    assert set(DoNotCall.read(path, number_parser(None)).numbers) == {201000000002}
    path.write_bytes(b"\xff\xfep")
    with pytest.raises(InputError, match="dnc cannot be read; save it as 'CSV UTF-8'"):
        DoNotCall.read(path, number_parser(None))


@pytest.mark.parametrize("text", ["", "phone\n", "# none\n\n"])
def test_a_list_of_nobody_is_refused(tmp_path: Path, text: str) -> None:
    """What made it has failed, more likely than not, and everybody would be called."""
    with pytest.raises(InputError, match="dnc: no number is on this do-not-call list"):
        _read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,phone\n1234567,01000000002\n", "line 2: the number starts with 0"),
        ("1234567,01000000002\n", "columns 1 and 2 both look like numbers"),
        ("201000000002\nask Omar\n", "line 2: not a phone number"),
        ("phone,id\n201000000002,1\n,2010000\n", "line 3: not a phone number"),
        ("201000000002,a\n201000000003,b\nc,201000000004\n", "line 3: not a phone number"),
        ("010123\n", "line 1: the number starts with 0"),
        (f"phone\n{'1' * 200_000}\n", "line 2: field larger than field limit"),
    ],
)
def test_line_without_a_number(tmp_path: Path, text: str, said: str) -> None:
    """A line whose cell in that column is no number stops everything, with line and reason."""
    with pytest.raises(InputError, match=said) as caught:
        _read(tmp_path, text)
    assert "01000000002" not in str(caught.value)


def test_national_numbers(tmp_path: Path) -> None:
    """With a region a national number in the named column is read."""
    assert _read(tmp_path, "id,phone\n1234567,01012345678\n", "EG") == {201012345678}


def test_read_again(tmp_path: Path) -> None:
    """A file that was changed is read again, and nobody comes off the list by that."""
    path = tmp_path / "dnc"
    path.write_text("201000000001\n", encoding="utf-8")
    listed = DoNotCall.read(path, number_parser(None))
    path.write_text("201000000002\n201000000003\n", encoding="utf-8")
    assert list(listed.refreshed().numbers) == [201000000001, 201000000002, 201000000003]
    before = listed.numbers
    assert listed.refreshed().numbers is before
    path.write_text("201000000004\n", encoding="utf-8")
    os.utime(path, ns=(1, 1))
    assert "201000000004" in listed.refreshed()
    path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        listed.refreshed()


@pytest.mark.anyio
async def test_listed_during_the_run(tmp_path: Path) -> None:
    """Whoever is put on the list while the campaign runs is not dialled."""
    path = tmp_path / "dnc"
    path.write_text("201000009999\n", encoding="utf-8")
    sandbox = Sandbox()
    source = write_calls(tmp_path / "calls.csv", 40)

    def put_on_the_list(event: object) -> None:
        path.write_text("201000009999\n201100000040\n", encoding="utf-8")

    with Campaign.load(source, tmp_path / "run.db", InputOptions(suppress=path)) as campaign:
        async with AsyncBridgeClient(
            "t",
            transport=sandbox.transport(),
            base_url="http://localhost/api/v1",
            limiter=None,
            on_event=put_on_the_list,
        ) as client:
            await campaign.run(client, concurrency=2)
        assert campaign.account()[State.REFUSED] == 1
        assert campaign.account()[State.SCHEDULED] == sandbox.account.created == 39
