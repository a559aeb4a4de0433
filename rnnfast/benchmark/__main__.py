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
from rnnfast.benchmark.sets import SETS

SPREAD_MOST, TURNS_MORE = 0.25, 2  # of the rounds of a case, else it is measured again; how often at most


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m rnnfast.benchmark", description=__doc__.split("\n")[0])
    parser.add_argument("--set", choices=SETS, help="which cases: " + "; ".join(f"{name}: {chosen.about}" for name, chosen in SETS.items()) + " (default: grid, or that of --compare)")
    parser.add_argument("--cases", default="", metavar="REGEX", help="only cases whose name matches, e.g. 'infer lstm 1,'")
    parser.add_argument("--peers", help="libraries to compare with, by commas (default: the set's, as far as they are installed)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default %(default)s; more say more about noise); a case in which they differ much for some library has as many more, up to twice, after all others")
    parser.add_argument("--seconds", type=float, default=0.2, help="per measurement (default %(default)s)")
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
    peers = wanted.peers if chosen.peers is None else [peer for peer in chosen.peers.split(",") if peer]
    peers = [peer for peer in peers if importlib.util.find_spec(peer)]
    cases = [case for case in wanted.cases() if re.search(chosen.cases, case.name) and (case.name in known or not known)]
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


def read(files: list[str]) -> dict[str, Any]:
    """The reports of several runs as one: the first's facts, all rows."""
    reports = [json.loads(Path(file).read_text()) for file in files]
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
        old = json.loads(Path(chosen.compare).read_text()) if chosen.compare else {}
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
