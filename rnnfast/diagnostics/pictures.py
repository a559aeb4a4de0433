"""Pictures: figures of matplotlib without pyplot's state, which is imported when the first one is drawn."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from rnnfast.errors import ShapeError

COLORS = ("#4269d0", "#ff725c", "#3ca951", "#a463f2", "#9c6b4e", "#6cc5b0")
HEAT, SIGNED = "magma", "RdBu_r"


def new_figure(width: float, height: float) -> Any:
    """An empty figure that can be saved and shown in a notebook.

    Raises
    ------
    ImportError
        Without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("A picture needs matplotlib: pip install 'rnnfast[plot]'") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finish(figure: Any, path: str | os.PathLike[str] | None) -> Any:
    """Write the figure where a path is given; return it."""
    if path is not None:
        figure.savefig(path, dpi=100)
    return figure


def tidy(axes: Any) -> None:
    """Fewer lines around the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def heat_map(axes: Any, values: np.ndarray, signed: bool, label: str) -> None:
    """values [rows, steps] as colours; signed ones around white."""
    limit = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    bounds: dict[str, Any] = {"vmin": -limit, "vmax": limit, "cmap": SIGNED} if signed else {"vmin": 0, "vmax": limit, "cmap": HEAT}
    image = axes.imshow(values, aspect="auto", interpolation="nearest", origin="lower", **bounds)
    axes.set_facecolor("0.85")  # masked steps
    axes.figure.colorbar(image, ax=axes, label=label, pad=0.01)


def plot_attention(scores: Any, query: Any = None, key: Any = None, title: str = "attention", path: str | os.PathLike[str] | None = None) -> Any:
    """Draw which steps of the input each step of the output looks at.

    Parameters
    ----------
    scores : array_like (Tq, Tv), or (B, Tq, Tv), whose first row is drawn
        Attention weights, as `Attention(...)(..., return_attention_scores=True)` gives them.
    query, key : sequence of str, optional
        Labels of the steps of the output and of the input.
    title : str
    path : path, optional
        Where the picture is written.

    Returns
    -------
    matplotlib Figure

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import diagnostics
    >>> figure = diagnostics.plot_attention(np.eye(3), query="abc", key="ABC")
    >>> [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    ['A', 'B', 'C']
    """
    weights = np.asarray(scores, np.float64)
    weights = weights[0] if weights.ndim == 3 and len(weights) else weights
    if weights.ndim != 2:
        raise ShapeError(f"plot_attention: scores must have shape (Tq, Tv) or (B, Tq, Tv), got {np.shape(scores)}.")
    for name, labels, steps in (("query", query, weights.shape[0]), ("key", key, weights.shape[1])):
        if labels is not None and len(labels) != steps:
            raise ValueError(f"plot_attention: {name} must have a label for each of the {steps} steps, got {len(labels)}.")
    rows, columns = weights.shape
    figure = new_figure(min(12.0, 2.2 + 0.32 * columns), min(9.0, 1.6 + 0.32 * rows))
    axes = figure.add_subplot()
    image = axes.imshow(weights, vmin=0, cmap="Greys", interpolation="nearest", aspect="auto")
    figure.colorbar(image, ax=axes, label="weight", pad=0.02)
    if key is not None:
        axes.set_xticks(range(columns), list(key))
    if query is not None:
        axes.set_yticks(range(rows), list(query))
    axes.set(title=title, xlabel="input step", ylabel="output step")
    return finish(figure, path)


def plot_forecast(history: Any, forecast: Any, truth: Any = None, title: str = "forecast", path: str | os.PathLike[str] | None = None) -> Any:
    """Draw a series, forecasts of what follows it, and what followed.

    Parameters
    ----------
    history : array_like (T,)
    forecast : array_like (N,), or dict of name to such
        Begins at the step after `history`.
    truth : array_like (N,), optional
    title : str
    path : path, optional

    Returns
    -------
    matplotlib Figure

    Examples
    --------
    >>> from rnnfast import diagnostics
    >>> figure = diagnostics.plot_forecast([1, 2, 3], {"model": [4, 5], "naive": [3, 3]}, truth=[4, 6])
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['history', 'truth', 'model', 'naive']
    """
    past = _series("history", history)
    lines = {name: _series(f"forecast {name!r}", values) for name, values in (forecast if isinstance(forecast, dict) else {"forecast": forecast}).items()}
    figure = new_figure(9, 3.8)
    axes = figure.add_subplot()
    axes.axvline(0, color="0.7", linewidth=0.8)
    axes.plot(np.arange(1 - len(past), 1), past, color="0.25", label="history")
    start = past[-1:]  # so that no gap stands between what was and what follows
    if truth is not None:
        after = _series("truth", truth)
        axes.plot(np.arange(len(after) + 1), np.concatenate([start, after]), color="0.25", linestyle=":", label="truth")
    for (name, values), color in zip(lines.items(), COLORS * (len(lines) // len(COLORS) + 1), strict=False):
        axes.plot(np.arange(len(values) + 1), np.concatenate([start, values]), color=color, marker="o", markersize=3, label=name)
    axes.set(title=title, xlabel="steps from the end of the history")
    axes.legend(frameon=False)
    tidy(axes)
    return finish(figure, path)


def _series(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values, np.float64)
    array = array[..., 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.ndim != 1 or not len(array):
        raise ShapeError(f"plot_forecast: {name} must be one series of shape (T,), got {np.shape(values)}.")
    return array


def plot_model(model: Any, path: str | os.PathLike[str] | None = None) -> Any:
    """Draw the layers of a model from top to bottom, with the shapes between them and the number of weights.

    Parameters
    ----------
    model : Sequential or Model
        Built.
    path : path, optional

    Returns
    -------
    matplotlib Figure

    Examples
    --------
    >>> from rnnfast import Input, Sequential, diagnostics, layers
    >>> figure = diagnostics.plot_model(Sequential([Input((None, 8)), layers.LSTM(16), layers.Dense(1)]))
    >>> len(figure.axes)
    1
    """
    graph = model.runner().graph
    places, depth = _places(graph)
    columns = max(x for x, _ in places.values()) + 1
    figure = new_figure(0.8 + 3.4 * columns, 0.5 + 1.05 * (depth + 1))
    axes = figure.add_subplot()
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(depth + 0.5, -0.5))
    axes.axis("off")
    for one, (x, y) in places.items():
        _box(axes, x, y, *_label(one))
    for node in graph.nodes:
        for symbol in [*node.inputs, *node.states]:
            _arrow(axes, places[symbol.node or symbol], places[node], symbol.shape)
    return finish(figure, path)


def _places(graph: Any) -> tuple[dict[Any, tuple[int, int]], int]:
    """(column, row) of each input and node: above all that take from it, as low as that allows, and in the column of the last of them if it is free."""
    up: dict[Any, int] = {}  # rows from the bottom
    for node in reversed(graph.nodes):
        for symbol in [*node.inputs, *node.states]:
            source = symbol.node or symbol
            up[source] = max(up.get(source, 0), up.setdefault(node, 0) + 1)
    depth = max(up.values())
    places: dict[Any, tuple[int, int]] = {}
    for node in reversed(graph.nodes):
        wanted = places[node][0] if node in places else 0
        for one in [node, *(symbol.node or symbol for symbol in [*node.inputs, *node.states])]:
            place = (wanted, depth - up[one])
            while one not in places and place in places.values():
                place = (place[0] + 1, place[1])
            places.setdefault(one, place)
    return places, depth


def _label(one: Any) -> tuple[str, str, str]:
    """Title, line below and colour of an input's or node's box."""
    layer = one.layer
    if not hasattr(one, "inputs"):
        return "Input", _shape(one.shape), "#efefef"
    kind, color = type(layer).__name__, "#dfe8fb" if layer.weights else "#f6f1e4"
    inner = getattr(layer, "forward_layer", None) or getattr(layer, "layer", None)
    if inner is not None:
        kind += f"({type(inner).__name__})"
    weights = f"{layer.count_params():,} weights".replace(",", " ") if layer.weights else "no weights"
    return kind, f"{layer.name}\n{weights}", color


def _shape(shape: tuple[int | None, ...]) -> str:
    names = ["B", "T"]
    return " x ".join(names[i] if n is None and i < 2 else "?" if n is None else str(n) for i, n in enumerate(shape))


def _box(axes: Any, x: float, y: float, title: str, text: str, color: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    axes.add_patch(FancyBboxPatch((x - 0.42, y - 0.26), 0.84, 0.52, boxstyle="round,pad=0,rounding_size=0.05", facecolor=color, edgecolor="0.45", linewidth=0.8))
    axes.text(x, y - 0.11, title, ha="center", va="center", fontsize=10, fontweight="bold")
    axes.text(x, y + 0.09, text, ha="center", va="center", fontsize=7.5, color="0.3", linespacing=1.3)


def _arrow(axes: Any, start: tuple[int, int], end: tuple[int, int], shape: tuple[int | None, ...]) -> None:
    (x0, y0), (x1, y1) = start, end
    bend = "arc3,rad=0.3" if y1 - y0 > 1 else "arc3"  # around the boxes between
    look = {"arrowstyle": "-|>", "color": "0.35", "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0, "connectionstyle": bend}
    axes.annotate("", (x1, y1 - 0.26), (x0, y0 + 0.26), arrowprops=look)
    axes.text((x0 + x1) / 2 + 0.03, y0 + 0.5, _shape(shape), fontsize=7.5, color="0.25", va="center")
