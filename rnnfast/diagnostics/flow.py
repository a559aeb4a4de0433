"""Gradients through time: the norm of dL/dh at every step, straight from back-propagation."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnnfast import optimizers
from rnnfast.diagnostics import pictures
from rnnfast.diagnostics.trace import Trace, need_recurrent, traces
from rnnfast.models.data_adapter import make_batch
from rnnfast.models.heads import Heads
from rnnfast.models.steps import Steps

VANISHING, EXPLODING = 1e-3, 1e3  # of the ratio of early to late gradients


@dataclass
class LayerFlow:
    """How a gradient goes back through one direction of a recurrent layer.

    Attributes
    ----------
    name, cell : str
    norms : ndarray (B, T)
        Norm of dL/dh after each step, NaN at masked ones.
    by_distance : ndarray (T,)
        Mean over the rows, by the number of steps to the last one that the direction reads.
    ratio : float
        Mean of the tenth of the steps that is read first, over that of the tenth that is read last.
    rate : float
        Factor from a step to the one before it: exp of the slope of a line through log(by_distance).
    verdict : {"vanishing", "exploding", "healthy", "no gradient"}
        By the ratio: below 1e-3, above 1e3 (or not finite), between.
    """

    name: str
    cell: str
    norms: np.ndarray
    by_distance: np.ndarray
    ratio: float
    rate: float
    verdict: str


@dataclass
class GradientFlow:
    """What :func:`gradient_flow` found; print it or :meth:`plot` it."""

    layers: list[LayerFlow]
    loss: float

    @property
    def verdict(self) -> str:
        """The worst of the layers' verdicts."""
        found = [layer.verdict for layer in self.layers]
        return next(one for one in ("exploding", "no gradient", "vanishing", "healthy") if one in found)

    def __str__(self) -> str:
        lines = [f"{'layer':<22}{'cell':<18}{'early / late':>13}{'a step':>9}  verdict"]
        lines += [f"{one.name:<22}{one.cell:<18}{one.ratio:13.3g}{one.rate:9.4f}  {one.verdict}" for one in self.layers]
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str] | None = None, axes: Any = None, label: str = "{name} ({verdict})") -> Any:
        """Draw the norms over the distance to the last step.

        Parameters
        ----------
        path : path, optional
            Where the picture is written.
        axes : matplotlib Axes, optional
            Drawn into these, so that several models share a picture.
        label : str
            Of a line; may name the fields of :class:`LayerFlow`.

        Returns
        -------
        matplotlib Figure
        """
        figure = pictures.new_figure(7.5, 3.6) if axes is None else axes.figure
        axes = figure.add_subplot() if axes is None else axes
        for layer in self.layers:
            shown = np.where(layer.by_distance > 0, layer.by_distance, np.nan)
            axes.plot(-np.arange(len(shown)), shown, label=label.format(**vars(layer)))
        axes.set(title="gradient through time", xlabel="steps before the last", ylabel="norm of dL/dh", yscale="log")
        axes.legend(frameon=False, fontsize=8)
        pictures.tidy(axes)
        return pictures.finish(figure, path)


class _Watched(Steps):
    """A training step without dropout and without its update, that keeps dL/dh."""

    def watch(self, x: Any, y: Any, sample_weight: Any, mask: Any) -> tuple[float, list[Trace]]:
        """(loss, what the layers kept)"""
        self.constrained = []
        self.measures = False
        loss, _ = self.run(x, y, sample_weight, mask, train=True)
        return loss, traces(self.bound.builder, self.bound.program)

    def _bound(self, xs: Any, valid: Any, resets: Any, train: bool, carried: Any, columns: list[int]) -> Any:
        bound = self.bound = self.runner.start(xs, valid, False, True, 0)
        need_recurrent(self.runner.owner, bound.builder)
        for kept in bound.builder.recurrent:
            trace = Trace(kept, None, bound.builder.lanes, bound.builder.dtype)
            if not trace.fused:
                raise ValueError(f"{self.runner.owner}: gradient_flow cannot look into '{trace.name}' ({trace.cell}), whose steps are not the fused engine's.")
            kept.buffers["dh"] = bound.builder.rows_buffer("d h", kept.x.rows, kept.padded)
        self._describe(bound, train, columns)
        bound.program = bound.builder.plan.compile()
        return bound

    def _add_update(self, b: Any) -> None:
        pass


def gradient_flow(model: Any, x: Any, y: Any, lengths: Any = None, mask: Any = None, sample_weight: Any = None, loss: Any = None) -> GradientFlow:
    """Follow the gradient of the loss back through time, in every recurrent layer.

    The gradient of h after step t is what the layers above give at step t plus what comes back through time. Where every step has a target of its own,
    look at the last one alone (a `sample_weight` (B, T) that is zero elsewhere) to see how far its gradient reaches.

    Parameters
    ----------
    model : Sequential or Model
        Built. Its weights and its optimizer stay as they are; dropout is off.
    x, y : array_like
        One batch, as for `train_on_batch`.
    lengths, mask, sample_weight : optional
        As for `train_on_batch`.
    loss : str or Loss, or a list or dict of them for several outputs, optional
        By default the model's own.

    Returns
    -------
    GradientFlow

    Raises
    ------
    ValueError
        If the model has no recurrent layer, or no loss is known.

    References
    ----------
    Hochreiter 1991, "Untersuchungen zu dynamischen neuronalen Netzen"; Bengio, Simard and Frasconi 1994, "Learning long-term dependencies with gradient
    descent is difficult"; Pascanu, Mikolov and Bengio 2013, arXiv 1211.5063.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import Input, Sequential, diagnostics, layers
    >>> model = Sequential([Input((None, 3)), layers.SimpleRNN(8, recurrent_initializer="zeros"), layers.Dense(1)])
    >>> x = np.ones((4, 50, 3))
    >>> found = diagnostics.gradient_flow(model, x, np.ones((4, 1)), loss="mse")
    >>> found.layers[0].norms.shape, found.verdict
    ((4, 50), 'vanishing')
    """
    runner = model.runner(alone=True)
    if loss is None and not model.compiled:
        raise ValueError(f"{runner.owner}: gradient_flow needs a loss: compile the model or give loss=.")
    heads = model._heads if loss is None else Heads(runner.owner, model.output_names, loss=loss)
    batch = make_batch(f"{runner.owner}: gradient_flow", x, y, sample_weight, lengths, mask, runner.names, heads=heads)
    steps = _Watched(runner, heads.list, optimizers.SGD(), False)
    value, found = steps.watch(batch.x, batch.y, batch.sample_weight, batch.mask)
    return GradientFlow([_layer_flow(trace) for trace in found], value)


def _layer_flow(trace: Trace) -> LayerFlow:
    norms = np.sqrt(np.square(trace.state_gradients(), dtype=np.float64).sum(axis=-1))
    total, count = np.zeros(norms.shape[1]), np.zeros(norms.shape[1])
    for row, valid in zip(norms, trace.valid, strict=True):
        ordered = row[valid] if trace.backwards else row[valid][::-1]
        total[: len(ordered)] += ordered
        count[: len(ordered)] += 1
    by_distance = total[count > 0] / count[count > 0]
    return LayerFlow(trace.name, trace.cell, norms, by_distance, *_judge(by_distance))


def _judge(by_distance: np.ndarray) -> tuple[float, float, str]:
    """(ratio, rate, verdict) of mean norms by distance to the last step."""
    if not np.isfinite(by_distance).all():
        return np.nan, np.nan, "exploding"
    if not by_distance.any():
        return np.nan, np.nan, "no gradient"
    tenth = max(1, len(by_distance) // 10)
    late, early = by_distance[:tenth].mean(), by_distance[-tenth:].mean()
    ratio = float(early / late) if late else np.inf
    places = np.flatnonzero(by_distance)
    slope = np.polyfit(places, np.log(by_distance[places]), 1)[0] if len(places) > 1 else 0.0
    verdict = "vanishing" if ratio < VANISHING else "exploding" if ratio > EXPLODING else "healthy"
    return ratio, float(np.exp(slope)), verdict
