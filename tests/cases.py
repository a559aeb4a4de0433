"""The tables that the numerical tests run over: layers and options, mask patterns, and random problems made from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

import rnnfast
from tests import reference
from tests.conftest import max_rel_error
from tests.reference import layers as oracle_layers

Array = np.ndarray
Spec = tuple[str, Any]

CELLS: dict[str, Spec] = {
    "SimpleRNN": ("SimpleRNN", {}),
    "LSTM": ("LSTM", {}),
    "GRU": ("GRU", {}),
    "GRU-before": ("GRU", {"reset_after": False}),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "last": {},
    "sequence": {"return_sequences": True},
    "states": {"return_state": True},
    "sequence-states": {"return_sequences": True, "return_state": True},
    "backwards": {"go_backwards": True, "return_state": True},
    "backwards-sequence": {"go_backwards": True, "return_sequences": True},
    "zero": {"zero_output_for_mask": True},
    "zero-sequence-states": {"zero_output_for_mask": True, "return_sequences": True, "return_state": True},
    "zero-backwards-sequence": {"zero_output_for_mask": True, "return_sequences": True, "go_backwards": True},
    "no-bias": {"use_bias": False, "return_sequences": True},
    "relu": {"activation": "relu", "return_sequences": True},
    "linear": {"activation": None, "return_sequences": True},
    "elu": {"activation": "elu", "return_state": True},
}
GATE_OPTIONS: dict[str, dict[str, Any]] = {
    "hard-gates": {"recurrent_activation": "hard_sigmoid", "return_sequences": True},
    "softsign-tanh-gates": {"activation": "softsign", "recurrent_activation": "tanh", "return_state": True},
    "softplus-gates": {"activation": "hard_tanh", "recurrent_activation": "softplus", "return_sequences": True},
}
MERGES = ("concat", "sum", "mul", "ave", None)
MASKS = ("none", "full", "trailing", "leading", "holes", "empty-rows", "all-masked")


def recurrent(cell: str, units: int, **options: Any) -> Spec:
    """The spec of one cell of the table."""
    kind, fixed = CELLS[cell]
    return kind, {"units": units, **fixed, **options}


def recurrent_specs(units: int) -> Iterator[tuple[str, Spec]]:
    """(id, spec) over cells and options."""
    for cell in CELLS:
        options = OPTIONS if cell == "SimpleRNN" else OPTIONS | GATE_OPTIONS
        for name, config in options.items():
            yield f"{cell}-{name}", recurrent(cell, units, **config)


def bidirectional_specs(units: int) -> Iterator[tuple[str, Spec]]:
    """(id, spec) over cells, merge modes and what is returned, and one with a backward layer of its own."""
    for cell in CELLS:
        for merge in MERGES:
            for name in ("last", "sequence", "sequence-states"):
                inner = recurrent(cell, units, **OPTIONS[name])
                yield f"Bidirectional-{cell}-{merge}-{name}", ("Bidirectional", {"layer": inner, "merge_mode": merge})
    own = {
        "layer": recurrent("GRU", units, return_sequences=True),
        "backward_layer": recurrent("LSTM", units, return_sequences=True, go_backwards=True, use_bias=True),
        "merge_mode": "sum",
    }
    yield "Bidirectional-own-backward", ("Bidirectional", own)


# Keras' sparsemax adds up all cumulative sums of the support instead of taking the last: compared with the oracle alone.
UNLIKE_KERAS: dict[str, Spec] = {
    "Dense-sparsemax": ("Dense", {"units": 4, "activation": "sparsemax"}),
    "Activation-sparsemax": ("Activation", {"activation": "sparsemax"}),
}
PLAIN: dict[str, Spec] = {
    "Dense": ("Dense", {"units": 5}),
    "Dense-tanh-no-bias": ("Dense", {"units": 3, "activation": "tanh", "use_bias": False}),
    "Dense-softmax": ("Dense", {"units": 4, "activation": "softmax"}),
    "Activation": ("Activation", {"activation": "selu"}),
    "Dropout": ("Dropout", {"rate": 0.4}),
    "SpatialDropout1D": ("SpatialDropout1D", {"rate": 0.4}),
    "LayerNormalization": ("LayerNormalization", {}),
    "LayerNormalization-scale": ("LayerNormalization", {"center": False, "epsilon": 1e-5}),
    "LayerNormalization-center": ("LayerNormalization", {"scale": False}),
    "TimeDistributed": ("TimeDistributed", {"layer": ("Dense", {"units": 3, "activation": "sigmoid"})}),
    "Flatten": ("Flatten", {}),
    "Reshape": ("Reshape", {"target_shape": (-1, 2)}),
    "GlobalAveragePooling1D": ("GlobalAveragePooling1D", {}),
    "GlobalAveragePooling1D-keepdims": ("GlobalAveragePooling1D", {"keepdims": True}),
    "GlobalMaxPooling1D": ("GlobalMaxPooling1D", {}),
    "Masking": ("Masking", {"mask_value": 0.5}),
    "RepeatVector": ("RepeatVector", {"n": 3}),
    "Embedding": ("Embedding", {"input_dim": 11, "output_dim": 4}),
    "Embedding-mask": ("Embedding", {"input_dim": 11, "output_dim": 4, "mask_zero": True}),
}
STACKS: dict[str, Spec] = {
    "tagger": (
        "Sequential",
        [
            ("Embedding", {"input_dim": 11, "output_dim": 4, "mask_zero": True}),
            ("Bidirectional", {"layer": recurrent("LSTM", 5, return_sequences=True)}),
            ("LayerNormalization", {}),
            ("TimeDistributed", {"layer": ("Dense", {"units": 3})}),
        ],
    ),
    "forecaster": (
        "Sequential",
        [
            recurrent("LSTM", 7, return_sequences=True),
            recurrent("GRU", 5),
            ("Dense", {"units": 4, "activation": "relu"}),
            ("Dense", {"units": 2}),
        ],
    ),
    "classifier": (
        "Sequential",
        [
            ("Masking", {"mask_value": 0.5}),
            recurrent("GRU-before", 6, return_sequences=True),
            ("GlobalAveragePooling1D", {}),
            ("Dense", {"units": 3, "activation": "softmax"}),
        ],
    ),
    "encoder-repeat": (
        "Sequential",
        [recurrent("SimpleRNN", 5), ("RepeatVector", {"n": 3}), recurrent("LSTM", 4, return_sequences=True)],
    ),
    "backwards-first": (
        "Sequential",
        [recurrent("GRU", 5, go_backwards=True, return_sequences=True), recurrent("SimpleRNN", 4), ("Dense", {"units": 1})],
    ),
}


def make_mask(name: str, batch: int, steps: int, rng: np.random.Generator) -> Array | None:
    """A bool [B, T] of the named pattern."""
    ramp = np.arange(steps)[None, :]
    cut = rng.integers(1, max(steps, 2), (batch, 1))
    if name == "none":
        return None
    if name == "full":
        return np.ones((batch, steps), bool)
    if name == "trailing":
        return ramp < cut
    if name == "leading":
        return ramp >= steps - cut
    if name == "all-masked":
        return np.zeros((batch, steps), bool)
    mask = rng.random((batch, steps)) < 0.6
    if name == "empty-rows":
        mask[::2] = False
    return mask


def single(a: Array) -> Array:
    """Rounded to float32 and back: a float64 that both precisions can hold."""
    return np.asarray(a, np.float32).astype(np.float64)


@dataclass(frozen=True)
class Problem:
    """A layer, its input and the upstream gradients; all values are exact in float32."""

    spec: Spec
    oracle: oracle_layers.Layer
    x: Array
    mask: Array | None
    initial_state: list[Array] | None
    dy: Any
    dstates: list[Array] | None

    @cached_property
    def expected(self) -> dict[str, Any]:
        """The oracle's output and gradients."""
        return reference.vjp(self.oracle, self.x, self.dy, self.mask, None, self.initial_state, self.dstates)

    @property
    def features(self) -> int:
        return self.x.shape[-1]

    def with_mask(self, mask: Array | None) -> Problem:
        return replace(self, mask=mask)

    def cast(self, dtype: str) -> dict[str, Any]:
        """Arguments of ``vjp`` in ``dtype``."""

        def to(a: Any) -> Any:
            if a is None or isinstance(a, list):
                return a if a is None else [to(v) for v in a]
            return a.astype(dtype) if a.dtype == np.float64 else a

        return {
            "x": to(self.x),
            "dy": to(self.dy),
            "mask": self.mask,
            "initial_state": to(self.initial_state),
            "dstates": to(self.dstates),
        }

    def build(self, namespace: Any, dtype: str) -> Any:
        """The layer of a package (``rnnfast`` or ``keras``) with this problem's weights."""
        layer = build(namespace, self.spec, dtype)
        layer.build(self.x.shape)
        layer.set_weights([w.astype(dtype) for w in self.oracle.weights])
        return layer


def build(namespace: Any, spec: Spec, dtype: str) -> Any:
    """Instantiate a spec from a package with Keras' names."""
    kind, config = spec
    if kind == "Sequential":
        return namespace.Sequential([build(namespace, s, dtype) for s in config])
    config = {k: build(namespace, v, dtype) if k in ("layer", "backward_layer") else v for k, v in config.items()}
    return getattr(namespace.layers, kind)(**config, dtype=dtype)


def _state_count(spec: Spec) -> int:
    kind, config = spec
    if kind == "Bidirectional":
        return sum(_state_count(s) for s in oracle_layers._pair(config))
    if kind == "Statal":
        return int(config.get("slots", 1))
    known = {"LSTM": 2, "GRU": 1, "SimpleRNN": 1, "IndRNN": 1, "MinGRU": 1, "PeepholeLSTM": 2, "ProjectedLSTM": 2, "LayerNormLSTM": 2, "LayerNormGRU": 1}
    return known.get(kind, 0)


def input_for(spec: Spec, batch: int, steps: int, features: int, rng: np.random.Generator) -> Array:
    """A random input of the rank and type that the layer takes."""
    first = spec[1][0] if spec[0] == "Sequential" else spec
    if first[0] == "Embedding":
        return rng.integers(0, first[1]["input_dim"], (batch, steps))
    if first[0] == "RepeatVector":
        return single(rng.normal(size=(batch, features)))
    x = single(rng.normal(size=(batch, steps, features)))
    if first[0] == "Masking":
        x[rng.random((batch, steps)) < 0.4] = first[1]["mask_value"]
    return x


def problem(
    spec: Spec,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
    mask: str = "none",
    initial_state: bool = False,
) -> Problem:
    """Random weights, input, mask, states and upstream gradients. ``shape`` is (batch, steps, features)."""
    batch, steps, features = shape
    layer = reference.random_layer(spec, features, rng)
    layer = reference.make(spec, [single(w) for w in layer.weights])
    x = input_for(spec, batch, steps, features, rng)
    states = None
    if initial_state:
        states = [single(rng.normal(0.0, 0.5, (batch, n))) for half in getattr(layer, "pair", [layer]) for n in half.cell.state_sizes]  # type: ignore[attr-defined]
    pattern = make_mask(mask, batch, steps, rng)
    outs = layer.forward(x.astype(np.float64), pattern, states)[0]
    grads = [single(rng.normal(size=o.shape)) for o in outs]
    count = 2 if spec[0] == "Bidirectional" and spec[1].get("merge_mode", "concat") is None else 1
    dy = grads[0] if count == 1 else grads[:count]
    return Problem(spec, layer, x, pattern, states, dy, grads[count:] or None)


def takes_state(spec: Spec) -> bool:
    """Whether the layer takes ``initial_state``."""
    return _state_count(spec) > 0


def bound(dtype: str, steps: int = 1) -> tuple[float, float]:
    """The promised (forward, backward) error: float32 against the oracle, float64 a millionth of it."""
    if dtype == "float64":
        return 1e-12, 1e-11
    return (1e-6, 2e-6) if steps <= 100 else (2e-6, 6e-6)


def sensitivity(p: Problem, rng: np.random.Generator, gradients: bool = False) -> float:
    """How far the oracle's output (and its gradients) moves when every weight moves by one float32 rounding: the error that no float32 run can be asked to beat."""
    moved = [w * (1 + 2.0**-24 * rng.uniform(-1, 1, w.shape)) for w in p.oracle.weights]
    other = Problem(p.spec, reference.make(p.spec, moved), p.x, p.mask, p.initial_state, p.dy, p.dstates)
    both = zip(named(other.expected), named(p.expected), strict=True)
    pairs = [(a, b) for (name, a), (_, b) in both if gradients or name.startswith("y")]
    return max(float(np.abs(a - b).max() / max(1.0, np.abs(b).max())) for a, b in pairs)


# A sum of K products over T steps rounds about sqrt(K T) times: 32 covers K T up to 1000.
ROUNDINGS = 32


def as_list(a: Any) -> list[Array]:
    return list(a) if isinstance(a, (list, tuple)) else [a]


def named(result: dict[str, Any]) -> Iterator[tuple[str, Array]]:
    """(name, array) of everything a vjp returns."""
    for key in ("y", "x", "weights", "initial_state"):
        values = result[key]
        for i, value in enumerate(as_list(values) if values is not None else []):
            yield f"{key}[{i}]", value


def assert_close(got: dict[str, Any], want: dict[str, Any], forward: float, backward: float) -> None:
    """Each array of ``want`` within its tolerance in ``got``; the message names every array that is not."""
    found = dict(named(got))
    bad = []
    for name, ref in named(want):
        tolerance = forward if name.startswith("y") else backward
        assert name in found, f"{name} is missing, got {sorted(found)}"
        error = max_rel_error(found[name], ref)
        if error > tolerance:
            bad.append(f"{name}: error {error:.3g} > {tolerance:.3g}")
    assert not bad, "; ".join(bad)


# All activations that work on each unit by itself; tests/test_by_rows.py has the others.
UNIT_ACTIVATIONS = sorted((set(rnnfast._engine.ACTIVATIONS) | {"swish", "hard_swish"}) - {"softmax", "log_softmax", "sparsemax"})
