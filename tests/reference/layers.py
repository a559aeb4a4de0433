"""The layers, forward, in float64, with the mask rules of Keras' scan path (the one without unrolling).

At a masked step the state is held and the output is the previous output; before the first valid step that is the initial
state h0; ``zero_output_for_mask`` writes zeros instead. ``go_backwards`` leaves the output in the order of processing. A row
without any valid step is defined here even where Keras divides by zero: pooling gives zeros.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.reference import staged_cells
from tests.reference.activations import value
from tests.reference.cells import PLAIN_CELLS, Cell, Zoneout
from tests.reference.statal import StatalCell
from tests.reference.unit_cells import IndRNNCell, MinGRUCell, PeepholeLSTMCell

Array = np.ndarray
Spec = tuple[str, Any]
Forward = tuple[list[Array], Array | None, Any]

SHAPED_CELLS: dict[str, Any] = {"IndRNN": IndRNNCell, "MinGRU": MinGRUCell, "PeepholeLSTM": PeepholeLSTMCell, "Statal": StatalCell}
CELLS: dict[str, type[Cell]] = PLAIN_CELLS | staged_cells.CELLS | SHAPED_CELLS


class Layer:
    """A layer without weights that passes its mask on: the identity (Dropout and kin at inference)."""

    takes_mask = True

    def __init__(self, weights: list[Array], **config: Any) -> None:
        self.weights = [np.asarray(w, np.float64) for w in weights]
        self.config = config

    def get(self, name: str, default: Any = None) -> Any:
        return self.config.get(name, default)

    def forward(self, x: Array, mask: Array | None = None, initial_state: list[Array] | None = None) -> Forward:
        """Returns (outputs, mask of the outputs, what backward needs)."""
        return [x], mask, None


class Recurrent(Layer):
    """SimpleRNN, LSTM or GRU over [B, T, I]."""

    def __init__(self, kind: str, weights: list[Array], **config: Any) -> None:
        super().__init__(weights, **config)
        names = ("use_bias", "activation", "recurrent_activation", "reset_after", "epsilon", *CELLS[kind].options)
        self.cell: Any = CELLS[kind](weights, **{k: config[k] for k in names if k in config})
        if "zoneout" in config:
            self.cell = Zoneout(self.cell, [config["zoneout"], config.get("zoneout_cell", 0.0)][: self.cell.states])

    def forward(self, x: Array, mask: Array | None = None, initial_state: list[Array] | None = None) -> Forward:
        batch, steps = x.shape[:2]
        if initial_state is None:
            initial_state = [np.zeros((batch, n)) for n in self.cell.state_sizes]
        states = [np.asarray(s, np.float64) for s in initial_state]
        states = self.cell.lead(states) + states
        order = range(steps)[::-1] if self.get("go_backwards") else range(steps)
        valid = np.ones((batch, steps), bool) if mask is None else np.asarray(mask, bool)
        x = np.where(valid[:, :, None], x, 0.0)
        zero = self.get("zero_output_for_mask", False)
        last = np.zeros_like(states[0]) if zero else states[0]
        outputs, tapes = [], []
        for t in order:
            keep = valid[:, t, None]
            new, tape = self.cell.step(x[:, t], states)
            last = np.where(keep, new[0], 0.0 if zero else states[0])
            states = [np.where(keep, n, s) for n, s in zip(new, states, strict=True)]
            outputs.append(last)
            tapes.append((t, keep, tape))
        sequence = self.get("return_sequences", False)
        y = np.stack(outputs, axis=1) if outputs else np.zeros((batch, 0, states[0].shape[1]))
        outs = [y if sequence else last]
        if self.get("return_state", False):
            outs += states[self.cell.shown :]
        return outs, (mask if sequence else None), (x.shape, tapes)


class Bidirectional(Layer):
    """Two recurrent layers over opposite directions; the output of the backward one is flipped back."""

    def __init__(self, forward_layer: Recurrent, backward_layer: Recurrent, **config: Any) -> None:
        super().__init__(forward_layer.weights + backward_layer.weights, **config)
        self.pair = (forward_layer, backward_layer)

    @property
    def merge(self) -> str | None:
        return self.get("merge_mode", "concat")

    def forward(self, x: Array, mask: Array | None = None, initial_state: list[Array] | None = None) -> Forward:
        half = len(initial_state) // 2 if initial_state is not None else 0
        halves = (None, None) if initial_state is None else (initial_state[:half], initial_state[half:])
        runs = [layer.forward(x, mask, s) for layer, s in zip(self.pair, halves, strict=True)]
        a, b = runs[0][0][0], runs[1][0][0]
        if self.pair[0].get("return_sequences"):
            b = b[:, ::-1]
        merged = {
            "concat": lambda: [np.concatenate([a, b], axis=-1)],
            "sum": lambda: [a + b],
            "mul": lambda: [a * b],
            "ave": lambda: [(a + b) / 2.0],
            None: lambda: [a, b],
        }[self.merge]()
        states = runs[0][0][1:] + runs[1][0][1:]
        return merged + states, runs[0][1], (a, b, runs)


class Dense(Layer):
    """act(x W + b) on the last axis."""

    def forward(self, x: Array, mask: Array | None = None, initial_state: list[Array] | None = None) -> Forward:
        a = x @ self.weights[0]
        if self.get("use_bias", True):
            a = a + self.weights[1]
        return [value(self.get("activation"), a)], mask, (x, a)


class Activation(Layer):
    def forward(self, x: Array, mask: Array | None = None, initial_state: list[Array] | None = None) -> Forward:
        return [value(self.get("activation"), x)], mask, x


class Embedding(Layer):
    """Row x of the table; with ``mask_zero`` index 0 is padding."""

    def forward(self, x: Array, mask: Array | None = None, initial_state: list[Array] | None = None) -> Forward:
        ids = np.asarray(x, np.int64)
        own = ids != 0 if self.get("mask_zero") else None
        return [self.weights[0][ids]], (mask if own is None else own if mask is None else own & mask), ids


class Masking(Layer):
    """A step whose features all equal ``mask_value`` is masked, and its features become 0."""

    def forward(self, x: Array, mask: Array | None = None, initial_state: list[Array] | None = None) -> Forward:
        keep = (x != self.get("mask_value", 0.0)).any(axis=-1)
        keep = keep if mask is None else keep & mask
        return [np.where(keep[..., None], x, 0.0)], keep, keep


class LayerNormalization(Layer):
    """gamma (x - mean) / sqrt(var + epsilon) + beta on the last axis. Ba et al. 2016."""

    def forward(self, x: Array, mask: Array | None = None, initial_state: list[Array] | None = None) -> Forward:
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = 1.0 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + self.get("epsilon", 1e-3))
        normal = centred * scale
        weights = list(self.weights)
        y = normal * weights.pop(0) if self.get("scale", True) else normal
        y = y + weights.pop(0) if self.get("center", True) else y
        return [y], mask, (normal, scale)


class TimeDistributed(Layer):
    """The inner layer on every step: time joins the batch."""

    def __init__(self, layer: Layer, **config: Any) -> None:
        super().__init__(layer.weights, **config)
        self.layer = layer

    def forward(self, x: Array, mask: Array | None = None, initial_state: list[Array] | None = None) -> Forward:
        outs, _, tape = self.layer.forward(x.reshape(-1, *x.shape[2:]))
        y = outs[0]
        return [y.reshape(*x.shape[:2], *y.shape[1:])], mask, (x.shape, y.shape, tape)


class RepeatVector(Layer):
    def forward(self, x: Array, mask: Array | None = None, initial_state: list[Array] | None = None) -> Forward:
        return [np.repeat(x[:, None], self.get("n"), axis=1)], None, None


class Reshape(Layer):
    """Reshape and Flatten: no arithmetic, the mask ends here."""

    def forward(self, x: Array, mask: Array | None = None, initial_state: list[Array] | None = None) -> Forward:
        return [x.reshape(self._shape(x.shape))], None, x.shape

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        size = int(np.prod(shape[1:], dtype=np.int64))
        target = self.get("target_shape", (size,))
        known = -int(np.prod(target, dtype=np.int64))
        return (shape[0], *(size // known if d == -1 else d for d in target))


class GlobalPooling(Layer):
    """Mean or maximum over the valid steps."""

    def __init__(self, kind: str, weights: list[Array], **config: Any) -> None:
        super().__init__(weights, **config)
        self.average = kind == "GlobalAveragePooling1D"

    def forward(self, x: Array, mask: Array | None = None, initial_state: list[Array] | None = None) -> Forward:
        valid = np.ones(x.shape[:2], bool) if mask is None else np.asarray(mask, bool)
        if self.average:
            share = valid / np.maximum(valid.sum(axis=1, keepdims=True), 1)
            weight = np.broadcast_to(share[:, :, None], x.shape)
        else:
            lowest = np.where(valid[:, :, None], x, -np.inf)
            weight = (np.arange(x.shape[1])[None, :, None] == lowest.argmax(axis=1)[:, None]) & valid[:, :, None]
        y = (np.where(valid[:, :, None], x, 0.0) * weight).sum(axis=1, keepdims=bool(self.get("keepdims")))
        return [y], None, (weight, x.shape)


class Sequential(Layer):
    """A stack; masks flow from layer to layer."""

    def __init__(self, stack: list[Layer]) -> None:
        super().__init__([w for layer in stack for w in layer.weights])
        self.stack = stack

    def forward(self, x: Array, mask: Array | None = None, initial_state: list[Array] | None = None) -> Forward:
        tapes, outs = [], [x]
        for layer in self.stack:
            outs, mask, tape = layer.forward(outs[0], mask)
            if mask is not None and layer.get("go_backwards"):
                mask = mask[:, ::-1]  # the steps come out in reverse, and so does what is valid of them
            tapes.append(tape)
        return outs, mask, tapes


PLAIN: dict[str, type[Layer]] = {
    "Dense": Dense,
    "Activation": Activation,
    "Embedding": Embedding,
    "Masking": Masking,
    "LayerNormalization": LayerNormalization,
    "RepeatVector": RepeatVector,
    "Flatten": Reshape,
    "Reshape": Reshape,
    "Dropout": Layer,
    "SpatialDropout1D": Layer,
}


def _pair(config: dict[str, Any]) -> tuple[Spec, Spec]:
    """The two directions of a Bidirectional, zero_output_for_mask forced as Keras does."""
    kind, inner = config["layer"]
    zero = {"zero_output_for_mask": inner.get("return_sequences", False)}
    backward = config.get("backward_layer") or (kind, {**inner, "go_backwards": not inner.get("go_backwards", False)})
    return (kind, {**inner, **zero}), (backward[0], {**backward[1], **zero})


def make(spec: Spec, weights: list[Array]) -> Layer:
    """The oracle of a spec with the given weights (in the order of ``get_weights()``)."""
    kind, config = spec
    weights = list(weights)
    if kind == "Sequential":
        counts = [_count(s) for s in config]
        ends = np.cumsum([0, *counts])
        return Sequential([make(s, weights[a:b]) for s, a, b in zip(config, ends[:-1], ends[1:], strict=True)])
    if kind == "Bidirectional":
        forward, backward = _pair(config)
        half = len(weights) // 2
        merge = config.get("merge_mode", "concat")
        return Bidirectional(make(forward, weights[:half]), make(backward, weights[half:]), merge_mode=merge)
    if kind == "TimeDistributed":
        return TimeDistributed(make(config["layer"], weights))
    if kind in CELLS:
        return Recurrent(kind, weights, **config)
    if kind.startswith("Global"):
        return GlobalPooling(kind, weights, **config)
    return PLAIN[kind](weights, **config)


def _count(spec: Spec) -> int:
    kind, config = spec
    if kind == "Bidirectional":
        return sum(_count(s) for s in _pair(config))
    if kind == "TimeDistributed":
        return _count(config["layer"])
    if kind == "LayerNormalization":
        return int(config.get("scale", True)) + int(config.get("center", True))
    if kind in staged_cells.CELLS:
        return len(staged_cells.weight_shapes(kind, config, 1))
    if kind in SHAPED_CELLS:
        return len(SHAPED_CELLS[kind].shapes(1, **config))
    if kind in CELLS or kind == "Dense":
        return (2 if kind in CELLS else 1) + int(config.get("use_bias", True))
    return int(kind == "Embedding")


def weight_shapes(spec: Spec, features: int) -> list[tuple[int, ...]]:
    """Shapes of ``get_weights()`` of one layer whose input has ``features`` as its last axis."""
    kind, config = spec
    if kind == "Bidirectional":
        return [shape for s in _pair(config) for shape in weight_shapes(s, features)]
    if kind == "TimeDistributed":
        return weight_shapes(config["layer"], features)
    if kind == "Embedding":
        return [(config["input_dim"], config["output_dim"])]
    if kind in staged_cells.CELLS:
        return staged_cells.weight_shapes(kind, config, features)
    if kind in SHAPED_CELLS:
        return list(SHAPED_CELLS[kind].shapes(features, **config))
    if kind in CELLS:
        units, wide = config["units"], CELLS[kind].gates * config["units"]
        bias = (2, wide) if kind == "GRU" and config.get("reset_after", True) else (wide,)
        return [(features, wide), (units, wide), bias][: _count(spec)]
    if kind == "Dense":
        return [(features, config["units"]), (config["units"],)][: _count(spec)]
    return [(features,)] * _count(spec)


def random_weights(spec: Spec, features: int, rng: np.random.Generator) -> list[Array]:
    """Random weights that keep every cell in its interesting range: matrices of variance 0.6 / rows, vectors of 0.09."""
    centre = 1.0 if spec[0] == "LayerNormalization" else 0.0
    return [
        rng.normal(centre, 0.3 if len(shape) == 1 else np.sqrt(0.6 / shape[0]), shape)
        for shape in weight_shapes(spec, features)
    ]


def random_layer(spec: Spec, features: int, rng: np.random.Generator) -> Layer:
    """The oracle of one layer or stack with random weights."""
    if spec[0] != "Sequential":
        return make(spec, random_weights(spec, features, rng))
    stack, x = [], np.zeros((1, 3, features))
    if spec[1][0][0] == "Embedding":
        x = np.zeros((1, 3))
    for inner in spec[1]:
        stack.append(random_layer(inner, x.shape[-1], rng))
        x = stack[-1].forward(x)[0][0]
    return Sequential(stack)


def length_mask(lengths: Array, steps: int) -> Array:
    """bool [B, T], True on the first ``lengths[b]`` steps of row b."""
    return np.arange(steps)[None, :] < np.asarray(lengths)[:, None]


def valid_mask(x: Array, mask: Array | None, lengths: Array | None) -> Array | None:
    """The mask in force: ``mask`` and ``lengths`` together."""
    if lengths is None:
        return mask
    within = length_mask(lengths, x.shape[1])
    return within if mask is None else within & np.asarray(mask, bool)


def call(
    layer: Layer, x: Array, mask: Array | None = None, lengths: Array | None = None, initial_state: Any = None
) -> Array | list[Array]:
    """The layer's output as Keras returns it: one array, or a list [y, *states]."""
    x = np.asarray(x, np.float64)
    outs = layer.forward(x, valid_mask(x, mask, lengths), initial_state)[0]
    return outs[0] if len(outs) == 1 else outs
