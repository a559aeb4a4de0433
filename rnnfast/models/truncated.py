"""Truncated back-propagation through time: a batch of long sequences is trained window by window, with the states carried on."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast.errors import ShapeError
from rnnfast.layers.runner import Masks, Runner, States
from rnnfast.models.steps import Steps, last_steps


def check_truncate(owner: str, truncate: Any) -> tuple[int, int] | None:
    """(k1, k2) as positive integers, or None."""
    if truncate is None:
        return None
    pair = tuple(truncate) if isinstance(truncate, list | tuple) else ()
    if len(pair) != 2 or any(isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1 for k in pair):
        raise ValueError(f"{owner}: truncate must be two positive integers (k1, k2): an update every k1 steps, along a gradient through k2; got {truncate!r}.")
    return int(pair[0]), int(pair[1])


def recurrent_layers(runner: Runner) -> list[Any]:
    """The layers whose states are carried from window to window; complains about what cannot be cut into windows."""
    if len(runner.inlets) != 1 or len(runner.graph.outputs) != 1:
        raise ValueError(f"{runner.owner}: truncate needs one input and one output, got {len(runner.inlets)} and {len(runner.graph.outputs)}.")
    recurrent = [layer for layer in runner.layers if layer.has_states]
    if not recurrent:
        raise ValueError(f"{runner.owner}: truncate needs a recurrent layer.")
    for layer in runner.layers:
        name = f"{runner.owner}: {type(layer).__name__} '{layer.name}'"
        if getattr(layer, "go_backwards", False) or not layer.streams or (layer.uses_mask and layer not in recurrent):
            raise ValueError(f"{name} cannot be trained with truncate, because it reads more than one step at a time or against time.")
        if layer in recurrent and not layer.return_sequences:  # type: ignore[attr-defined]
            raise ValueError(f"{name}: truncate needs an output at every step; set return_sequences=True.")
        if layer in recurrent and layer.stateful:  # type: ignore[attr-defined]
            raise ValueError(f"{name}: truncate carries the states itself; set stateful=False.")
    return recurrent


class Windows:
    """The windows of one batch.

    Parameters
    ----------
    steps : Steps
    truncate : (k1, k2)
    x, y, sample_weight, mask, resets
        As for a training step.
    """

    def __init__(self, steps: Steps, truncate: tuple[int, int], x: Any, y: Any, sample_weight: Any, mask: Any, resets: Any) -> None:
        self.steps, runner = steps, steps.runner
        layers = recurrent_layers(runner)
        (head,) = steps.heads
        assert head.loss is not None  # of the only output
        if head.loss.per_sequence:
            raise ValueError(f"{runner.owner}: truncate needs a loss of every step, got {head.loss.name!r}, a value for whole sequences.")
        self.sums = head.loss.reduction == "sum"
        self.x = runner.check_inputs(x)[0]
        self.batch, self.time = self.x.shape[:2]
        (valid,) = runner.check_masks([self.x], mask, None)
        self.valid = np.ones((self.batch, self.time), bool) if valid is None else valid
        self.masked = valid is not None
        self.counts = self.valid if head.loss_steps is None else last_steps(self.valid, head.loss_steps)
        (self.resets,) = runner.check_resets([self.x], resets)
        self.y, self.weight = np.asarray(y), None if sample_weight is None else np.asarray(sample_weight)
        if self.y.shape[:2] != (self.batch, self.time):
            raise ShapeError(f"{runner.owner}: truncate needs a target for every step: y must begin with {(self.batch, self.time)}, got {self.y.shape}.")
        self.k1, self.k2 = (min(k, self.time) for k in truncate)
        start: States = {layer.name: layer.initial_values(self.batch) for layer in layers}
        self.states = steps.carried.setdefault(self.batch, start)
        for state, value in zip(self._all_states(), (value for values in start.values() for value in values), strict=True):
            state[...] = value
        self.at = 0  # the step that the states stand before

    def _all_states(self) -> list[np.ndarray]:
        return [state for states in self.states.values() for state in states]

    def advance(self, to: int) -> None:
        """Bring the states to another step, without a gradient."""
        if to == self.at:
            return
        part, runner = slice(self.at, to), self.steps.runner
        steps: Masks = [self.valid[:, part] if self.masked else None]
        cuts: Masks = [None if self.resets is None else self.resets[:, part]]
        xs = runner.check_inputs(self.x[:, part])
        key = ("advance", self.steps.number, runner.sizes(xs, steps, cuts))
        bound = runner.bounds.get(key)
        if bound is None:
            bound = runner.start(xs, steps, True, False, 0, carried=self.states)
            bound.outputs = []
            bound.program = bound.builder.plan.compile()
            runner.keep(key, bound)
        runner.execute(bound, xs, steps, cuts, [], [])
        self.at = to

    def train(self, begin: int, new: int, end: int) -> tuple[float, np.ndarray | None]:
        """One step along the gradient of the loss of steps [new, end), through steps [begin, end): (loss, predictions for steps from begin on)."""
        length = min(self.k2, self.time - begin)  # windows at a sequence's start are filled with masked steps, so that all have one size
        part = slice(begin, begin + length)
        exists = self.valid[:, part] & (np.arange(begin, begin + length) < end)
        counted = self.counts[:, part] & (np.arange(begin, begin + length) >= new)
        weight = self.weight if self.weight is None or self.weight.ndim < 2 else self.weight[:, part]
        kept = [state.copy() for state in self._all_states()] if self.k2 > self.k1 else None
        loss, predictions = self.steps.run(
            np.ascontiguousarray(self.x[:, part]), self.y[:, part], weight, exists if self.masked or begin + length > end else None, True,
            None if self.resets is None else self.resets[:, part], counted, self.states,
        )  # fmt: skip
        if kept is None:
            self.at = end
        else:  # the next window begins before the end of this one
            for state, value in zip(self._all_states(), kept, strict=True):
                state[...] = value
        return loss, predictions


def train_windows(
    steps: Steps, truncate: tuple[int, int], x: Any, y: Any, sample_weight: Any, mask: Any, resets: Any
) -> tuple[float, np.ndarray | None]:
    """Train on one batch of sequences, window by window (Williams and Peng 1990, "An efficient gradient-based algorithm for on-line training of recurrent
    network trajectories", BPTT(h; h') with h = k2 and h' = k1; Sutskever 2013, "Training recurrent neural networks", section 2.8.6).

    After every k1 steps, and at the end, one optimizer step along the gradient of the loss of the steps since the last one, which goes back through the last
    k2 steps, to the state that a forward pass left there. Where k2 > k1 that pass is made again, up to the new window's start, with the weights of that
    moment; otherwise windows follow each other, and where k2 < k1 the losses of the steps before the last k2 do not count.

    Returns
    -------
    (float, ndarray or None)
        The mean of the windows' losses, each weighted by its number of steps that count (their sum for a loss that is a sum), and the predictions
        [B, T, F] that each window made before its update.
    """
    w = Windows(steps, truncate, x, y, sample_weight, mask, resets)
    losses, sizes, norms = [], [], []
    predictions, seen = None, np.zeros((w.batch, w.time), bool)
    for last in range(0, w.time, w.k1):
        end = min(last + w.k1, w.time)
        begin = max(0 if w.k2 > w.k1 else last, end - w.k2)
        new = max(begin, last)
        size = np.count_nonzero(w.counts[:, new:end])
        if not size:
            continue
        w.advance(begin)
        loss, found = w.train(begin, new, end)
        losses.append(loss)
        sizes.append(size)
        norms.append(steps.gradient_norm or 0.0)
        if found is not None:
            predictions = np.full((w.batch, w.time, *found.shape[2:]), 0, found.dtype) if predictions is None else predictions
            predictions[:, new:end] = found[:, new - begin : end - begin]
        seen[:, new:end] = w.counts[:, new:end]
    steps.output_masks = [None if seen.all() else seen]
    steps.gradient_norm = float(np.mean(norms)) if steps.measures and norms else None
    if not losses:
        return 0.0, predictions
    return float(np.sum(losses) if w.sums else np.dot(losses, np.divide(sizes, np.sum(sizes)))), predictions
