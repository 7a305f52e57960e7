"""`python -m benchmarks [NAME...]`: measure, print the tables, write results and plots."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

from benchmarks.cases import Benchmark, Figures
from benchmarks.measure import measured
from benchmarks.results import Result, load, save, table
from benchmarks.suite import BENCHMARKS
from benchmarks.target import Target, serving

_HERE = Path(__file__).parent


def main() -> None:
    options = _options()
    folder = Path("build/benchmarks") if options.quick else _HERE
    if not options.plots:
        with serving() as target:
            for name in options.names or BENCHMARKS:
                result = _run(BENCHMARKS[name], options.rounds, options.quick, target)
                save(result, folder / "results")
                print(table(result), flush=True)
    from benchmarks.plots import draw  # noqa: PLC0415 - matplotlib takes a second to import

    for file in draw(load(folder / "results"), folder / "plots"):
        print(file)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument(
        "--quick", action="store_true", help="short, rough, and written to build/benchmarks"
    )
    parser.add_argument("--rounds", type=int, help="5 unless it is given, 1 with --quick")
    parser.add_argument("--plots", action="store_true", help="only draw again what was measured")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    options.rounds = options.rounds or (1 if options.quick else 5)
    return options


def _run(benchmark: Benchmark, rounds: int, quick: bool, target: Target) -> Result:
    """Every case once, then every case again: a slow minute of the machine meets all of them."""
    figures: dict[str, list[Figures]] = defaultdict(list)
    cases = benchmark.cases(quick)
    for number in range(rounds):
        for case in cases:
            if number < (case.rounds or rounds):
                print(f"{benchmark.name} {number + 1}/{rounds}: {case.name}", file=sys.stderr)
                figures[case.name].append(measured(benchmark.name, case, target))
    return Result.now(benchmark.name, figures)


if __name__ == "__main__":
    main()
