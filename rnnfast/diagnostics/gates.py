"""What gates and states do over time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnnfast.diagnostics import pictures
from rnnfast.diagnostics.trace import Trace, forward

# Slots of a cell's tape, from csrc/cells: the gates, and the activation that becomes (part of) the state.
GATES: dict[str, dict[str, int]] = {
    "simple_rnn": {"output": 0},
    "lstm": {"input": 0, "forget": 1, "output": 3, "candidate": 2},
    "gru": {"update": 1, "reset": 2, "candidate": 0},
    "gru_reset_before": {"update": 1, "reset": 2, "candidate": 0},
}
RANGES = {"sigmoid": (0.0, 1.0), "hard_sigmoid": (0.0, 1.0), "hard_sigmoid_02": (0.0, 1.0), "tanh": (-1.0, 1.0), "hard_tanh": (-1.0, 1.0), "softsign": (-1.0, 1.0)}
SATURATED = 0.05  # of the range, from either end
DEAD = 1e-4  # standard deviation of a unit's state over all steps of all rows


@dataclass
class LayerGates:
    """The gates of one direction of a recurrent layer.

    Attributes
    ----------
    name, cell : str
    values : dict of str to ndarray (B, T, H)
        Each gate's output, NaN at masked steps.
    low, high : dict of str to float
        Share of a gate's values below 0.05 and above 0.95 of its range; NaN for activations without bounds.
    dead : ndarray of int
        Units whose state is the same at every step of every row (standard deviation below 1e-4).
    """

    name: str
    cell: str
    values: dict[str, np.ndarray]
    low: dict[str, float]
    high: dict[str, float]
    dead: np.ndarray

    def mean(self, gate: str) -> np.ndarray:
        """The gate's mean over rows and units at each step (T,)."""
        values = self.values[gate]
        steps = np.isfinite(values[..., 0]).any(axis=0)
        found = np.full(values.shape[1], np.nan)
        found[steps] = np.nanmean(values[:, steps], axis=(0, 2))
        return found


@dataclass
class GateActivity:
    """What :func:`gate_activity` found; print it or :meth:`plot` it."""

    layers: list[LayerGates]

    def __str__(self) -> str:
        lines = [f"{'layer':<22}{'gate':<11}{'mean':>7}{'below 5 %':>11}{'above 95 %':>12}  dead units"]
        for layer in self.layers:
            for i, (gate, values) in enumerate(layer.values.items()):
                dead = f"{len(layer.dead)} of {values.shape[-1]}" if i == 0 else ""
                lines.append(f"{layer.name:<22}{gate:<11}{np.nanmean(values):7.3f}{layer.low[gate]:11.1%}{layer.high[gate]:12.1%}  {dead}".rstrip())
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw each gate's median unit, and the middle half of them, over time; returns the matplotlib Figure."""
        figure = pictures.new_figure(7.5, 0.6 + 2.4 * len(self.layers))
        for axes, layer in zip(figure.subplots(len(self.layers), squeeze=False)[:, 0], self.layers, strict=True):
            for (gate, values), color in zip(layer.values.items(), pictures.COLORS, strict=False):
                steps = np.flatnonzero(np.isfinite(values[..., 0]).any(axis=0))
                low, middle, high = np.percentile(np.nanmean(values[:, steps], axis=0), (25, 50, 75), axis=1)
                axes.plot(steps, middle, color=color, label=gate)
                axes.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
            axes.set(title=f"{layer.name} ({layer.cell})", xlabel="step", ylabel="gate")
            axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
            pictures.tidy(axes)
        return pictures.finish(figure, path)


def gate_activity(model: Any, x: Any, lengths: Any = None, mask: Any = None) -> GateActivity:
    """Look at every gate of every recurrent layer over time.

    Parameters
    ----------
    model : Sequential or Model
        Built.
    x : array_like (B, T, F) or tokens (B, T)
    lengths, mask : optional
        As for `predict`.

    Returns
    -------
    GateActivity

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import Input, Sequential, diagnostics, layers
    >>> model = Sequential([Input((None, 3)), layers.GRU(4), layers.Dense(1)])
    >>> found = diagnostics.gate_activity(model, np.zeros((2, 5, 3)))
    >>> sorted(found.layers[0].values), found.layers[0].mean("update").round(2).tolist()
    (['candidate', 'reset', 'update'], [0.5, 0.5, 0.5, 0.5, 0.5])
    """
    return GateActivity([_gates(trace) for trace in forward(model, x, lengths, mask)])


def _gates(trace: Trace) -> LayerGates:
    if not trace.fused:
        raise ValueError(f"gate_activity: the gates of '{trace.name}' ({trace.cell}) are not kept, since its steps are not the fused engine's.")
    if trace.cell not in GATES:
        raise ValueError(f"gate_activity: the gates of '{trace.name}' ({trace.cell}) are not known; known are {', '.join(GATES)}.")
    values, low, high = {}, {}, {}
    for gate, slot in GATES[trace.cell].items():
        inner = gate == "candidate" or trace.cell == "simple_rnn"
        activation = trace.kept.d.activation if inner else trace.kept.d.recurrent_activation
        values[gate] = trace.gate(slot, activation)
        low[gate], high[gate] = _saturated(values[gate], activation)
    states = trace.states()
    spread = np.nanstd(states, axis=(0, 1)) if np.isfinite(states).any() else np.zeros(trace.units)
    return LayerGates(trace.name, trace.cell, values, low, high, np.flatnonzero(spread < DEAD))


def _saturated(values: np.ndarray, activation: str) -> tuple[float, float]:
    valid = values[np.isfinite(values)]
    if activation not in RANGES or not valid.size:
        return np.nan, np.nan
    low, high = RANGES[activation]
    share = (valid - low) / (high - low)
    return float((share < SATURATED).mean()), float((share > 1 - SATURATED).mean())


@dataclass
class HiddenStates:
    """The states of every recurrent layer; print their statistics or :meth:`plot` them.

    Attributes
    ----------
    states : dict of str to ndarray (B, T, H)
        By the layer's name; NaN at masked steps.
    """

    states: dict[str, np.ndarray]

    def __str__(self) -> str:
        lines = [f"{'layer':<22}{'units':>6}{'mean':>9}{'deviation':>11}{'largest':>9}"]
        for name, values in self.states.items():
            lines.append(f"{name:<22}{values.shape[-1]:>6}{np.nanmean(values):9.3f}{np.nanstd(values):11.3f}{np.nanmax(np.abs(values)):9.3f}")
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str] | None = None, row: int = 0) -> Any:
        """Draw units over steps as a heat map, for one row of the batch; returns the matplotlib Figure."""
        rows = len(next(iter(self.states.values())))
        if not 0 <= row < rows:
            raise ValueError(f"HiddenStates.plot: row must be in [0, {rows}), got {row}.")
        figure = pictures.new_figure(7.5, 0.6 + 2.4 * len(self.states))
        for axes, (name, values) in zip(figure.subplots(len(self.states), squeeze=False)[:, 0], self.states.items(), strict=True):
            pictures.heat_map(axes, values[row].T, signed=True, label="h")
            axes.set(title=name, xlabel="step", ylabel="unit")
        return pictures.finish(figure, path)


def hidden_states(model: Any, x: Any, lengths: Any = None, mask: Any = None) -> HiddenStates:
    """The state h of every recurrent layer after every step. Arguments as for :func:`gate_activity`.

    Returns
    -------
    HiddenStates

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import Input, Sequential, diagnostics, layers
    >>> model = Sequential([Input((None, 3)), layers.LSTM(4, name="memory"), layers.Dense(1)])
    >>> diagnostics.hidden_states(model, np.zeros((2, 5, 3))).states["memory"].shape
    (2, 5, 4)
    """
    return HiddenStates({trace.name: trace.states() for trace in forward(model, x, lengths, mask)})
