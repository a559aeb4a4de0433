"""Two reports of the same cases: what became slower beyond noise.

A virtual machine is a quarter slower or faster from minute to minute, so times are not compared as they stand. Each is divided by the case's limit, which was computed from rates measured in the same run;
what all cases have in common after that, the median of new over old, is divided out too. What is left is judged by its noise: the spread of the rounds of both runs, kept in the reports, and the
spread of the ratios over all cases, as four standard deviations (81 cases at three would raise a false alarm in every tenth comparison), each estimated by a median absolute deviation, and at least 5 %. A change that all cases share is judged by itself: the median may not pass 1.25.

Counted instructions have no noise to speak of: more than 1 % and 50 of them are a regression, if compiler and instruction set are the same.
"""

from __future__ import annotations

from math import exp, log
from statistics import median
from typing import Any

from rnnfast.benchmark.measure import deviation

LEAST, SIGMAS, SHARED = 0.05, 4.0, 1.25
MANY, UNKNOWN, MOST = 8, 0.10, 0.15
"""Cases from which on their ratios say what the noise between runs is; what it is taken for below; and the most that it is believed to be, lest changes pass for noise."""
COUNTED, FEW = 1.01, 50


def compare(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], bool]:
    """Lines to print, and whether something became slower.

    Parameters
    ----------
    old, new : dict
        Reports as the benchmark writes them to JSON.

    Raises
    ------
    ValueError
        If they have no case in common.
    """
    before, after = ({row["case"]: row for row in report["rows"]} for report in (old, new))
    common = [name for name in after if name in before]
    if not common:
        raise ValueError("The two files have no case in common.")
    notes = [f"{name}: {old.get(name)} before, {new.get(name)} now" for name in ("cpu", "isa", "threads", "compiler") if old.get(name) != new.get(name) and name in old]
    judge = counts if "instructions" in after[common[0]] else times
    lines, slower = judge(before, after, common, old, new)
    gone = [name for name in before if name not in after]
    notes += [f"{len(gone)} cases of the old file are not in the new one: {'; '.join(gone[:3])}"] if gone else []
    return [*notes, *lines, f"{len(common)} cases compared, {len(slower)} slower" + (f": {'; '.join(slower)}" if slower else "")], bool(slower)


def times(before: dict[str, Any], after: dict[str, Any], common: list[str], old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], list[str]]:
    """By measured times."""
    names = old.get("own", "rnnfast"), new.get("own", "rnnfast")
    logs = {name: log(before[name]["limit_share"] / after[name]["limit_share"]) for name in common}
    many = len(common) >= MANY
    middle = median(logs.values()) if many else 0.0
    between = min(deviation(list(logs.values())), MOST) if many else UNKNOWN
    lines, slower = [f"{'case':<48}{'old us':>11}{'new us':>11}{'ratio':>8}{'noise':>8}"], []
    for name in common:
        own = [row.get("spread", {}).get(library, 0.0) for row, library in zip((before[name], after[name]), names, strict=True)]
        noise = max(LEAST, SIGMAS * (between**2 + own[0] ** 2 + own[1] ** 2) ** 0.5)
        ratio = exp(logs[name] - middle)
        word = "slower" if ratio > 1 + noise else "faster" if ratio < 1 / (1 + noise) else ""
        slower += [name] if word == "slower" else []
        micro = [row["microseconds"][library] for row, library in zip((before[name], after[name]), names, strict=True)]
        lines.append(f"{name:<48}{micro[0]:>11.1f}{micro[1]:>11.1f}{ratio:>8.2f}{100 * noise:>6.0f} %  {word}".rstrip())
    lines.append(f"common to all cases and divided out: {exp(middle):.2f}; noise between the runs: {100 * between:.0f} %")
    return lines, slower + (["all cases together"] if exp(middle) > SHARED else [])


def counts(before: dict[str, Any], after: dict[str, Any], common: list[str], old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], list[str]]:
    """By counted instructions."""
    alike = all(old.get(name) == new.get(name) for name in ("compiler", "isa"))
    lines, slower = [f"{'kernel':<64}{'old':>11}{'new':>11}{'ratio':>8}"], []
    for name in common:
        values = before[name]["instructions"], after[name]["instructions"]
        ratio = values[1] / max(values[0], 1)
        clear = alike and abs(values[1] - values[0]) > FEW
        word = "more" if clear and ratio > COUNTED else "less" if clear and ratio < 1 / COUNTED else ""
        slower += [name] if word == "more" else []
        lines.append(f"{name:<64}{values[0]:>11.0f}{values[1]:>11.0f}{ratio:>8.3f}  {word}".rstrip())
    return lines + ([] if alike else ["not judged: another compiler or instruction set counts other instructions"]), slower
