"""The input: what is read, and what is refused with which words, before anything is sent."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from campaign_drill import COLUMNS, row, write_calls
from hypothesis import given, settings
from hypothesis import strategies as st

from innocalls_async.campaign import Campaign, InputError, InputOptions, PlanOptions, Problem, State
from innocalls_async.campaign.cells import number_parser
from innocalls_async.campaign.ledger import Call
from innocalls_async.campaign.rows import RowReader


def _load(
    source: Path, options: InputOptions | None = None
) -> tuple[list[Call], list[Problem], str]:
    problems: list[Problem] = []
    try:
        with Campaign.load(
            source, source.with_name("run.db"), options, on_problem=problems.append
        ) as campaign:
            return campaign.ledger.calls("1 ORDER BY row"), problems, ""
    except InputError as error:
        assert not source.with_name("run.db").exists()
        return [], problems, str(error)


def _write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def _table(delimiter: str, *rows: dict[str, str], header: str | None = None) -> str:
    lines = [header or delimiter.join(COLUMNS)]
    lines += [delimiter.join(one[name] for name in COLUMNS) for one in rows]
    return "\r\n".join(lines) + "\r\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_as_spreadsheets_write_it(tmp_path: Path, delimiter: str, encoding: str) -> None:
    """Each separator and encoding that Excel writes is read alike."""
    source = _write(tmp_path / "c.csv", _table(delimiter, row(1), row(2)), encoding)
    calls, problems, _ = _load(source)
    assert [call.first_callee_name for call in calls] == ["منى 1", "منى 2"]
    assert problems == []


def test_what_people_write(tmp_path: Path) -> None:
    """Arabic digits, a folded header, Excel's hint, a column too many and no ref are all fine."""
    header = "sep=;\r\n Ref;CALL FLOW ID;First-Callee-Number;first_callee_name;"
    header += "second_callee_number;second_callee_name;Duration;call_time;note"
    cells = ";flow;+٢٠ ١٠ ٠٠٠٠ ٠٠٠١;A;00201100000001;B;٥;٢٠٤٠-٠١-٠٢ ١٠:٣٠;x"  # noqa: RUF001
    (call,), problems, _ = _load(_write(tmp_path / "c.csv", f"{header}\r\n{cells}\r\n"))
    assert problems == []
    assert (call.ref, call.first_callee_number, call.duration) == ("3", "201000000001", 5)
    assert call.call_time == 2209105800


def test_json_lines(tmp_path: Path) -> None:
    """JSON lines are read, numbers as numbers or as text, null as nothing."""
    good = {**row(1), "first_callee_number": 201000000001, "duration": 5, "call_time": None}
    lines = [json.dumps(good), "", "[1]", "{", json.dumps({**row(2), "duration": 1.5})]
    calls, problems, _ = _load(
        _write(tmp_path / "c.jsonl", "\n".join(lines)), InputOptions(skip_invalid=True)
    )
    assert [call.ref for call in calls] == ["r1"]
    assert [(problem.line, problem.column) for problem in problems] == [
        (3, None),
        (4, None),
        (5, "duration"),
    ]


BAD = {
    "first_callee_number": ["", "12", "01012345678", "2.01E+11", "20101234567x", "2011x"],
    "second_callee_number": ["201000000001"],
    "duration": ["", "0", "five", "1.5", "-3"],
    "first_callee_name": ["", "x" * 251],
    "call_flow_id": [""],
    "call_time": [
        "tomorrow",
        "23/04/2040 10:00",
        "2040-04-23",
        "2020-01-01 10:00",  # over
        "2027-04-30 00:30",  # skipped in Cairo
        "2027-10-28 23:30",  # comes twice in Cairo
        "2040-13-01 10:00",
    ],
    "ref": ["x" * 251],
}


@pytest.mark.parametrize(
    ("column", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_bad_cell(tmp_path: Path, column: str, value: str) -> None:
    """A cell that is no good is named by row, line, column and reason, and the number is not."""
    source = write_calls(tmp_path / "c.csv", [row(7), row(1, **{column: value})])
    _, problems, said = _load(source)
    (problem,) = problems
    if value.startswith("2027"):
        assert "the clocks are put" in problem.reason
    assert (problem.row, problem.line, problem.column) == (2, 3, column)
    assert problem.reason
    assert "201000000001" not in str(problem)
    assert "1 row is no good" in said


def test_rows_over_several_lines(tmp_path: Path) -> None:
    """A line is that of the file, also after a cell with line ends in it."""
    calls = [row(1, first_callee_name="a\nb\nc"), row(2, duration="x")]
    _, (problem,), _ = _load(write_calls(tmp_path / "c.csv", calls))
    assert (problem.row, problem.line) == (2, 5)


def test_not_csv(tmp_path: Path) -> None:
    """Too many cells, a quote that is never closed, and bytes that are no UTF-8 are named."""
    good = _table(",", row(1), row(2)).encode()
    rest = (
        good + b"r3,flow,201,A,B,C,D,E,F,G\r\n" + b"r4,f,20100000004,\xe3\xe4,20110000004,B,5,\r\n"
    )
    (tmp_path / "c.csv").write_bytes(rest + b'"r5,flow\r\n')
    _, problems, _ = _load(tmp_path / "c.csv")
    assert [problem.row for problem in problems] == [3, 4, 5]
    assert "separator" in problems[0].reason
    assert "UTF-8" in problems[1].reason
    assert "quote" in problems[2].reason


def test_quote_never_closed(tmp_path: Path) -> None:
    """Rows that a quote takes in are lost, so the input is refused with the lines that they stand
    in, whatever may be left out."""
    calls = [row(number) for number in range(1, 3001)]
    calls[0]["second_callee_name"] = "QUOTE"
    text = _table(",", *calls).replace("QUOTE", '"Omar')
    _, problems, said = _load(_write(tmp_path / "c.csv", text), InputOptions(skip_invalid=True))
    assert str(problems[0]).startswith("row 1 (lines 2 to ")
    assert "which --skip-invalid does not cover" in said


def test_quote_closed_by_chance(tmp_path: Path) -> None:
    """Also where a later quote ends it, in a column that nothing is done with or in the header."""
    rows = [",".join([*row(number).values(), "note"]) for number in range(1, 51)]
    rows[4] = rows[4].replace("note", '"oops')
    rows[34] = rows[34].replace("note", '"')
    header = ",".join([*COLUMNS, "note"])
    source = _write(tmp_path / "c.csv", "\n".join([header, *rows, ""]))
    _, (problem,), _ = _load(source, InputOptions(skip_invalid=True))
    assert (problem.line, problem.last_line) == (6, 36)
    rows[1] = rows[1].replace("note", '"')
    _write(source, "\n".join([header.replace("note", '"note'), *rows[:4], ""]))
    assert "the header goes on to line 3" in _load(source)[2]


_PLACES = st.tuples(st.integers(0, 5), st.integers(0, len(COLUMNS)))


@settings(deadline=None, max_examples=150)
@given(opened=_PLACES, closed=_PLACES, ending=st.sampled_from(["\n", "\r\n", "\r"]))
def test_no_row_is_swallowed(
    tmp_path_factory: pytest.TempPathFactory,
    opened: tuple[int, int],
    closed: tuple[int, int],
    ending: str,
) -> None:
    """Wherever two stray quotes stand, each row is read or is a problem of its own, or what is
    refused cannot be left out."""
    table = [[*row(number).values(), "note"] for number in range(1, 7)]
    table[opened[0]][opened[1]] = '"' + table[opened[0]][opened[1]]
    table[closed[0]][closed[1]] += '"'
    lines = [",".join(cells) for cells in [[*COLUMNS, "note"], *table]]
    source = _write(tmp_path_factory.getbasetemp() / "strays.csv", ending.join(lines))
    found = list(RowReader(source))
    lost = [one for one in found if isinstance(one, Problem) and one.last_line is not None]
    assert lost or len(found) == len(table)


def test_text_of_several_lines(tmp_path: Path) -> None:
    """An address or a remark of a few lines, commas and all, is a cell like any other."""
    name = "Mona, 12 Nile St,\nCairo, Egypt,\nafter 5, not on Fridays, ask her"
    (call,), problems, _ = _load(write_calls(tmp_path / "c.csv", [row(1, first_callee_name=name)]))
    assert (call.first_callee_name, problems) == (name, [])


def test_harmless_oddities(tmp_path: Path) -> None:
    """Blank lines before the header, empty cells beyond it and an hour of one digit are taken."""
    text = "\n \n" + _table(",", row(1, call_time="2040-01-02 9:30")).replace("9:30", "9:30,,")
    (call,), problems, _ = _load(_write(tmp_path / "c.csv", text))
    assert problems == []
    assert (call.call_time, call.ref) == (2209102200, "r1")
    (tmp_path / "run.db").unlink()
    assert len(_load(_write(tmp_path / "c", "\n" + json.dumps(row(1))))[0]) == 1


def test_json_key_twice(tmp_path: Path) -> None:
    """A key that comes twice, or once in each of two spellings, leaves a doubt and is refused."""
    first = json.dumps(row(1)).replace('"ref"', '"duration": 7, "ref"')
    second = json.dumps({**row(2), "Call Time": "2040-01-01 10:00"})
    _, problems, _ = _load(_write(tmp_path / "c.jsonl", f"{first}\n{second}\n"))
    assert [(problem.row, problem.column) for problem in problems] == [
        (1, "duration"),
        (2, "call_time"),
    ]


def test_no_regular_file(tmp_path: Path) -> None:
    """A pipe is refused, because the input is read twice."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="save the calls in one"):
        Campaign.load(tmp_path / "pipe", tmp_path / "run.db")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("ref,duration\n", "missing: call_flow_id, first_callee_number"),
        (",".join((*COLUMNS, "ref")) + "\n", "named twice"),
        (",".join(COLUMNS) + "\n", "has no rows"),
    ],
)
def test_no_table(tmp_path: Path, text: str, said: str) -> None:
    """A file that is no such table is refused as a whole."""
    assert said in _load(_write(tmp_path / "c.csv", text))[2]


def test_duplicates(tmp_path: Path) -> None:
    """The same ref, and the same two people at the same time in either order, are refused with
    the row that they repeat, unless they are allowed or left out."""
    swapped = {**row(1), "ref": "other"}
    swapped["first_callee_number"], swapped["second_callee_number"] = (
        swapped["second_callee_number"],
        swapped["first_callee_number"],
    )
    source = write_calls(tmp_path / "c.csv", [row(1), row(2), row(3, ref="r2"), swapped])
    _, problems, _ = _load(source)
    assert [(problem.row, problem.column) for problem in problems] == [
        (3, "ref"),
        (4, "call_time"),
    ]
    assert "row 2 (line 3)" in problems[0].reason
    assert len(_load(source, InputOptions(skip_invalid=True))[0]) == 2
    source.with_name("run.db").unlink()
    assert len(_load(source, InputOptions(allow_duplicates=True))[0]) == 4


@pytest.mark.parametrize("text", ["0112345678.0", "0223456789/8", "+20 112 345 678 / 79"])
def test_region_reads_no_decimals(text: str) -> None:
    """What a spreadsheet or a person put behind a number is no digit of it, with a region too."""
    with pytest.raises(ValueError, match="ends like a decimal"):
        number_parser("EG")(text, "first_callee_number")


@pytest.mark.parametrize(
    "text", ["0150000000O", "015 0000 000l", "01512345", "0000000", "o1500000001"]
)
def test_region_reads_no_more_into_a_number_than_is_there(text: str) -> None:
    """Up to a letter, or with a zero that belongs to no number there, it would be another's."""
    with pytest.raises(ValueError, match=r"^first_callee_number: "):
        number_parser("EG")(text, "first_callee_number")


def test_region(tmp_path: Path) -> None:
    """With a region national numbers are read by its rules, international ones as ever."""
    numbers = ["01012345678", "+201012345679", "1012345680", "٠١٠١٢٣٤٥٦٨١", "00201012345682"]
    calls = [row(i, first_callee_number=number) for i, number in enumerate(numbers)]
    found, problems, _ = _load(write_calls(tmp_path / "c.csv", calls), InputOptions(region="EG"))
    assert problems == []
    assert [call.first_callee_number for call in found] == [f"2010123456{n}" for n in range(78, 83)]
    with pytest.raises(InputError, match="no country"):
        Campaign.load(tmp_path / "c.csv", tmp_path / "other.db", InputOptions(region="XX"))


def test_changed_input(tmp_path: Path) -> None:
    """Another file, other hours, or no do-not-call list any more are refused for a ledger."""
    (tmp_path / "dnc").write_text("20109999999\n", encoding="utf-8")
    source = write_calls(tmp_path / "c.csv", 3)
    listed = InputOptions(suppress=tmp_path / "dnc")
    _load(source, listed)
    with pytest.raises(InputError, match="do-not-call list"):
        Campaign.load(source, tmp_path / "run.db")
    with pytest.raises(InputError, match="timezone"):
        Campaign.load(source, tmp_path / "run.db", InputOptions(timezone="UTC"))
    hours = InputOptions(suppress=tmp_path / "dnc", plan=PlanOptions(window="09:00-17:00"))
    told = r"window: the ledger \S+ was planned with none, not 09:00-17:00; give the same"
    with pytest.raises(InputError, match=told):
        Campaign.load(source, tmp_path / "run.db", hours)
    write_calls(source, 4)
    with pytest.raises(InputError, match="is not the file"):
        Campaign.load(source, tmp_path / "run.db", listed)


def test_list_that_cannot_be_read(tmp_path: Path) -> None:
    """A line of the do-not-call list without a number stops everything, with its line."""
    (tmp_path / "dnc").write_text("number\n20109999999\n010123\n", encoding="utf-8")
    source = write_calls(tmp_path / "c.csv", 1)
    with pytest.raises(InputError, match="line 3"):
        Campaign.load(source, tmp_path / "run.db", InputOptions(suppress=tmp_path / "dnc"))


def test_listed_at_load(tmp_path: Path) -> None:
    """Whoever is on the list, first or second, is refused at load and the others are not."""
    (tmp_path / "dnc").write_text("+20 10 00000001\n201100000002,Omar\n", encoding="utf-8")
    source = write_calls(tmp_path / "c.csv", 3)
    with Campaign.load(
        source, tmp_path / "run.db", InputOptions(suppress=tmp_path / "dnc")
    ) as campaign:
        assert campaign.account()[State.REFUSED] == 2
