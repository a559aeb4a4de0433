"""Run a set of cases against the installed libraries and print, case by case, who is how fast.

Each library runs in processes of its own, one for one thread and one for all; while one is timed all others are stopped. The results are compared before anything is timed.
Rounds are interleaved, figures are medians, and a library counts with the better of its two thread settings.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import re
import shlex
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from rnnfast import _engine, _report
from rnnfast.benchmark import pictures, precisions, table
from rnnfast.benchmark.compare import compare
from rnnfast.benchmark.limits import joined, least_time, machine_limits
from rnnfast.benchmark.measure import Times, measure, prepare, quiet_machine, row, team
from rnnfast.benchmark.rivals import MODULES
from rnnfast.benchmark.sets import SETS

SPREAD_MOST, TURNS_MORE = 0.25, 2  # of the rounds of a case, else it is measured again; how often at most


def _number(kind: type[int] | type[float]) -> Any:
    """What makes a positive number of an option's text."""

    def read_number(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError
        return value

    read_number.__name__ = f"positive {kind.__name__}"  # in argparse's messages
    return read_number


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error
    return text


def _libraries(text: str) -> list[str]:
    unknown = [name for name in text.split(",") if name and name not in MODULES]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown library {unknown[0]!r} ({', '.join(MODULES)})")
    return [name for name in text.split(",") if name]


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m rnnfast.benchmark", description=__doc__.split("\n")[0])
    parser.add_argument("--set", choices=SETS, help="which cases: " + "; ".join(f"{name}: {chosen.about}" for name, chosen in SETS.items()) + " (default: grid, or that of --compare)")
    parser.add_argument("--cases", type=_pattern, default="", metavar="REGEX", help="only cases whose name matches, e.g. 'infer lstm 1,'")
    parser.add_argument("--peers", type=_libraries, help="libraries to compare with, by commas (default: the set's, as far as they are installed)")
    parser.add_argument("--rounds", type=_number(int), default=3, help="interleaved rounds (default %(default)s; more say more about noise); a case in which they differ much for some library has as many more, up to twice, after all others")
    parser.add_argument("--seconds", type=_number(float), default=0.2, help="per measurement (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of 0.05 s")
    parser.add_argument("--instructions", action="store_true", help="count the kernels' instructions instead, by callgrind (needs valgrind)")
    parser.add_argument("--read", nargs="+", metavar="FILE", help="take the figures from JSON files, one after the other, instead of measuring")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    parser.add_argument("--markdown", action="store_true", help="print tables as the documentation has them")
    parser.add_argument("--precisions", action="store_true", help="time weights stored as float32, bfloat16 and int8 instead")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the ratios (needs matplotlib)")
    parser.add_argument("--roofline", metavar="FILE.png", help="draw GFLOP/s against flop per byte (needs matplotlib)")
    parser.add_argument("--compare", metavar="OLD.json", help="compare with an older file; the exit code is 1 if something became slower beyond noise")
    return parser.parse_args(arguments)


def versions(libraries: Sequence[str]) -> dict[str, str]:
    """Of what is measured, by name."""
    facts = _report.config()
    found = {name: facts[name] for name in ("rnnfast", "python", "numpy")}
    wanted = [*libraries, *(["tensorflow"] if "keras" in libraries else [])]
    return found | {name: importlib.metadata.version(name) for name in wanted if name not in ("numpy", "rnnfast") and importlib.util.find_spec(name)}


def run(chosen: argparse.Namespace, old: dict[str, Any]) -> dict[str, Any]:
    """Measure the chosen cases."""
    name = chosen.set or old.get("set", "grid")
    wanted, known = SETS[name], {line["case"] for line in old.get("rows", ())}
    peers = wanted.peers if chosen.peers is None else chosen.peers
    peers = [peer for peer in peers if importlib.util.find_spec(peer)]
    cases = [case for case in wanted.cases() if re.search(chosen.cases, case.name) and (case.name in known or not known)]
    if not cases:
        raise ValueError(f"no case of the set '{name}' matches {chosen.cases!r}.")
    rounds, seconds = (1, 0.05) if chosen.quick else (chosen.rounds, chosen.seconds)
    settings, facts = sorted({1, _engine.get_num_threads()}, reverse=True), _report.config()
    report: dict[str, Any] = {
        "set": name, "own": wanted.own, "date": date.today().isoformat(), "command": shlex.join(["python", "-m", "rnnfast.benchmark", *chosen.command]),
        "cpu": facts["cpu"], "caches": facts["caches"], "isa": _engine.isa(), "threads": settings, "versions": versions(peers), "limits": machine_limits(), "rows": [],
    }  # fmt: skip
    print(*table.machine(report), table.header(), sep="\n", flush=True)
    times: dict[str, Times] = {case.name: {} for case in cases}
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder, team([wanted.own, *peers], settings) as workers:
        for turn in range(1 + TURNS_MORE):
            for case in [case for case in cases if turn == 0 or unsteady(rows.get(case.name))]:
                ready = prepare(workers, case, folder)
                if not ready or ready[0].peer != wanted.own:
                    continue
                measure(ready, case, rounds, seconds, folder, times[case.name])
                rows[case.name] = row(case, wanted.own, times[case.name], least_time(case, report["limits"]))
                print(table.show(rows[case.name], wanted.own), flush=True)
                report["rows"] = list(rows.values())
                write(report, chosen.json)  # so that a run that is ended keeps its cases
    return report


def unsteady(line: dict[str, Any] | None) -> bool:
    """Whether the rounds of some library say that the machine was busy."""
    return line is not None and max(line["spread"].values()) > SPREAD_MOST


def write(report: dict[str, Any], file: str | None) -> None:
    """Write a report to a file, if one is wanted."""
    if file:
        Path(file).write_text(json.dumps(report, indent=1) + "\n")


def load(file: str) -> dict[str, Any]:
    """The report that a file holds."""
    try:
        report = json.loads(Path(file).read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not a report of this benchmark: {error}") from error
    if not isinstance(report, dict) or not isinstance(report.get("rows"), list) or "set" not in report:
        raise ValueError(f"{file}: not a report of this benchmark, which --json writes.")
    return report


def read(files: list[str]) -> dict[str, Any]:
    """The reports of several runs as one: the first's facts, all rows."""
    reports = [load(file) for file in files]
    if all("limits" in report for report in reports):
        reports[0]["limits"] = joined([report["limits"] for report in reports])
    reports[0]["rows"] = [line for report in reports for line in report["rows"]]
    found: dict[str, Any] = reports[0]
    return found


def report_of(chosen: argparse.Namespace, old: dict[str, Any]) -> dict[str, Any]:
    """Read, count or measure, and print the result."""
    if chosen.read:
        return read(chosen.read)
    if chosen.instructions or (old.get("set") == "instructions" and not chosen.set):
        from rnnfast.benchmark.instructions import count

        found = count()
        print(f"{found['isa']}, {found['compiler']}", *(f"{line['instructions']:>12.0f}  {line['case']}" for line in found["rows"]), sep="\n")
        return found
    with quiet_machine():
        return run(chosen, old)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for."""
    chosen = options(arguments)
    if chosen.precisions:
        return precisions.main(0.05 if chosen.quick else 5 * chosen.seconds, chosen.json)
    chosen.command = sys.argv[1:] if arguments is None else list(arguments)
    try:
        old = load(chosen.compare) if chosen.compare else {}
        if chosen.json:
            Path(chosen.json).open("a").close()  # a file that cannot be written is known now, not after the measurement
        report = report_of(chosen, old)
        measured = report["set"] != "instructions"
        if measured:
            print(*(table.markdown(report) if chosen.markdown else table.summary(report["rows"], report["own"])), sep="\n")
        write(report, chosen.json)
        if chosen.plot and measured:
            pictures.ratios(report, chosen.plot)
        if chosen.roofline and measured:
            pictures.roofline(report, chosen.roofline)
        lines, slower = compare(old, report) if chosen.compare else ([], False)
    except (RuntimeError, ValueError, ImportError, OSError) as error:
        print(f"rnnfast.benchmark: {error}", file=sys.stderr)
        return 2
    print(*lines, sep="\n", end="\n" if lines else "")
    return int(slower)


if __name__ == "__main__":
    sys.exit(main())
