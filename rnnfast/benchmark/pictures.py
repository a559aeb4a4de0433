"""A report as pictures: ratios to the best other library, and the roofline (Williams, Waterman and Patterson 2009). They need matplotlib."""

from __future__ import annotations

from typing import Any

MODES = {"infer": ("tab:blue", "o", "inference"), "train": ("tab:orange", "s", "training step"), "backward": ("tab:green", "D", "forward and backward")}
CELLS = {"lstm": ("tab:blue", "LSTM"), "gru": ("tab:orange", "GRU"), "rnn": ("tab:green", "SimpleRNN")}


def _figure(size: tuple[float, float]) -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("The benchmark's pictures need matplotlib: pip install 'rnnfast[plot]'.") from None
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def ratios(report: dict[str, Any], path: str) -> None:
    """Ratios as bars from 1 on, one a case."""
    from matplotlib.patches import Patch

    shown = [row for row in report["rows"] if row["ratio"]]
    figure, axes = _figure((9, 1.2 + 0.2 * len(shown)))
    axes.barh([row["case"] for row in shown], [row["ratio"] - 1 for row in shown], left=1, color=[MODES[row["mode"]][0] for row in shown])
    modes = [MODES[mode] for mode in MODES if any(row["mode"] == mode for row in shown)]
    axes.legend(handles=[Patch(color=color, label=label) for color, _, label in modes], loc="lower right")
    axes.axvline(1, color="0.2", linewidth=1)
    axes.set(xscale="log", xlabel="best other library's time / rnnfast's time", title="Speed against the best of the other libraries")
    axes.set_xticks(ticks := [0.5, 1, 2, 4, 8, 16, 32], [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(min(0.8, 0.9 * min(row["ratio"] for row in shown)), 1.1 * max(2.0, *(row["ratio"] for row in shown)))
    axes.invert_yaxis()
    axes.margins(y=0.005)
    axes.tick_params(axis="y", labelsize=7)
    figure.savefig(path, dpi=110)


def roofline(report: dict[str, Any], path: str) -> None:
    """GFLOP/s against flop per byte touched, under the machine's roofs: one point a case."""
    from matplotlib.lines import Line2D

    rows, limits, own = report["rows"], report["limits"], report["own"]
    figure, axes = _figure((9, 6))
    x = [row["flops"] / row["touched_bytes"] for row in rows]
    y = [row["flops"] / row["microseconds"][own] / 1e3 for row in rows]
    for row, intensity, rate in zip(rows, x, y, strict=True):
        axes.plot(intensity, rate, MODES[row["mode"]][1], color=CELLS[row["cell"]][0], markersize=6, markeredgecolor="white", markeredgewidth=0.6, zorder=3)
    top, left, right = limits["flops"] / 1e9, 0.6 * min(x), 1.6 * max(*x, 40.0)
    axes.plot([left, right], [top, top], color="0.2", linewidth=1.2)
    axes.annotate(f"multiply-adds {top:.0f} GFLOP/s", (right, top), (-4, 4), textcoords="offset points", ha="right", va="bottom", fontsize=9)
    for name, (_, _, rate) in limits["reads"].items():
        ridge = min(top / (rate / 1e9), right)
        axes.plot([left, ridge], [left * rate / 1e9, ridge * rate / 1e9], color="0.5", linewidth=1)
        axes.text(ridge, 1.05 * ridge * rate / 1e9, f"{name} {rate / 1e9:.0f} GB/s", fontsize=8, color="0.3", rotation=60, rotation_mode="anchor", clip_on=True)
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(0.5 * min(y), 2.5 * top))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.tick_params(which="minor", labelleft=False, labelbottom=False)
    axes.set(xlabel="flop per byte of weights and activations touched", ylabel="GFLOP/s", title=f"Roofline: {report['cpu']}, {report['isa']}, {max(report['threads'])} threads")
    handles = [Line2D([], [], marker="o", linestyle="", color=color, label=label) for name, (color, label) in CELLS.items() if any(row["cell"] == name for row in rows)]
    handles += [Line2D([], [], marker=marker, linestyle="", color="0.3", label=label) for name, (_, marker, label) in MODES.items() if any(row["mode"] == name for row in rows)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    axes.grid(which="major", color="0.92")
    figure.savefig(path, dpi=110)
