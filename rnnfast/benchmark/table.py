"""A report as text: the table, what it comes to, and Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import geometric_mean
from typing import Any

Row = dict[str, Any]
MODES = {"infer": "Inference", "train": "Training step", "backward": "Forward and backward"}
EXTRAS = {"gain": "one thread / all", "cost": "cost", "tail": "99.9 %, µs"}


def header() -> str:
    return f"{'case (mode cell B,T,I,H)':<48}{'rnnfast us':>11}{'99.9 %':>11}  {'best peer':<12}{'us':>11}{'ratio':>8}{'limit':>8}{'gain':>7}{'cost':>7}"


def show(row: Row, own: str) -> str:
    """One line of the table."""
    times = row["microseconds"]
    peer = f"{row['best_peer']:<12}{times[row['best_peer']]:>11.1f}{row['ratio']:>8.2f}" if row["best_peer"] else f"{'':<31}"
    extras = "".join(f"{row[name]:>7.2f}" if row[name] else f"{'':>7}" for name in ("gain", "cost"))
    return f"{row['case']:<48}{times[own]:>11.1f}{row['tail']:>11.1f}  {peer}{100 * row['limit_share']:>6.0f} %{extras}".rstrip()


def means(values: dict[str, float], highest: bool = False) -> str:
    """Number, geometric mean and worst case of ratios by case; the highest is the worst, or the lowest."""
    worst = (max if highest else min)(values, key=lambda name: values[name])
    return f"{len(values)} cases, geometric mean {geometric_mean(values.values()):.2f}, worst {values[worst]:.2f} ({worst})"


def against(rows: Iterable[Row], own: str, peer: str | None = None) -> dict[str, float]:
    """How many times faster than a library, or than the best one, by case."""
    found = {row["case"]: (row["microseconds"].get(peer), row) for row in rows}
    best = {name: row["ratio"] if peer is None else other and other / row["microseconds"][own] for name, (other, row) in found.items()}
    return {name: ratio for name, ratio in best.items() if ratio}


def libraries(rows: Iterable[Row], own: str) -> list[str]:
    """The other libraries, in the order in which they come."""
    return list(dict.fromkeys(name for row in rows for name in row["microseconds"] if name != own))


def summary(rows: list[Row], own: str) -> list[str]:
    """Geometric mean and worst case of each mode, against the best and against each library, and what they could be; of gains and costs."""
    text = []
    for mode in MODES:
        chosen = [row for row in rows if row["mode"] == mode]
        for peer in (None, *libraries(chosen, own)):
            if ratios := against(chosen, own, peer):
                text.append(f"{mode}, against {peer or 'the best'}: {means(ratios)}")
        if room := {row["case"]: row["ratio"] / min(1.0, row["limit_share"]) for row in chosen if row["best_peer"]}:
            text.append(f"{mode}, against the best, were every case at its limit: {means(room)}")
    gains = {row["case"]: row["gain"] for row in rows if row["gain"]}
    if gains:
        slower = [row["case"] for row in rows if row["gain"] and row["gain"] < 1 - max(0.02, 2 * row["spread"][own])]
        text.append(f"one thread / all: {means(gains)}; all threads slower beyond their spread in {len(slower)} cases" + (f": {'; '.join(slower)}" if slower else ""))
    if costs := {row["case"]: row["cost"] for row in rows if row["cost"]}:
        text.append(f"cost: {means(costs, highest=True)}")
    return text


def machine(report: dict[str, Any]) -> list[str]:
    """What ran where, with what, when."""
    lines = [
        f"{report['cpu']}, {report['caches']}, isa {report['isa']}, threads {' and '.join(map(str, report['threads']))}, {report['date']}",
        ", ".join(f"{name} {version}" for name, version in report["versions"].items()),
        report["command"],
    ]
    limits = report["limits"]
    rates = "; ".join(f"{name} {one / 1e9:.0f} | {every / 1e9:.0f}" for name, (_, one, every) in limits["reads"].items())
    if limits["busy"] > 0.05:
        lines.append(f"other processes took {100 * limits['busy']:.0f} % of the CPUs before this run: its times are not those of a quiet machine")
    return [*lines, f"limits: {limits['flops'] / 1e9:.0f} GFLOP/s; reads of one core | all, GB/s: {rates}"]


def markdown(report: dict[str, Any]) -> list[str]:
    """Tables as the documentation shows them."""
    rows, own = report["rows"], report["own"]
    lines = ["```", *machine(report), "```"]
    for mode, title in MODES.items():
        chosen = [row for row in rows if row["mode"] == mode]
        if chosen:
            lines += ["", f"### {title}", "", *_table(chosen, own)]
    if others := libraries(rows, own):
        lines += ["", "| against | " + " | ".join(f"{MODES[mode]} | worst" for mode in MODES if any(row["mode"] == mode for row in rows)) + " |"]
        lines += ["|---|" + "--:|--:|" * sum(any(row["mode"] == mode for row in rows) for mode in MODES)]
        for peer in (None, *others):
            cells = []
            for mode in MODES:
                chosen = [row for row in rows if row["mode"] == mode]
                ratios = against(chosen, own, peer)
                cells += [f"{geometric_mean(ratios.values()):.2f} in {len(ratios)}" if ratios else "", f"{min(ratios.values()):.2f}" if ratios else ""] if chosen else []
            lines.append(f"| {peer or 'the best'} | {' | '.join(cells)} |")
    return lines


def _table(rows: list[Row], own: str) -> list[str]:
    peers = any(row["best_peer"] for row in rows)
    shown = [name for name in EXTRAS if any(row[name] for row in rows) and (name != "tail" or any(" live" in row["case"] for row in rows))]
    titles = ["cell", "B,T,I,H", f"{own}, µs", *(["best other", "µs", "ratio"] if peers else []), "share of limit", *(EXTRAS[name] for name in shown)]
    lines = [f"| {' | '.join(titles)} |", "|---|---|--:|" + ("---|--:|--:|" if peers else "") + "--:|" * (1 + len(shown))]
    for row in rows:
        _, cell, shape = row["case"].split(" ", 2)
        times, best = row["microseconds"], row["best_peer"]
        other = [best or "", f"{times[best]:,.1f}" if best else "", f"{row['ratio']:.2f}" if best else ""] if peers else []
        extras = [f"{row[name]:,.2f}" if row[name] else "" for name in shown]
        lines.append("| " + " | ".join([cell, shape, f"{times[own]:,.1f}", *other, f"{100 * row['limit_share']:.0f} %", *extras]) + " |")
    return lines
