"""Keras 3 on its torch backend: every argument, default, weight layout, mask and state; outputs and all gradients."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import rnnfast
from tests import cases
from tests.gradients import keras_floatx, keras_vjp
from tests.peers import as_array, require

keras = require("keras")
torch = require("torch")
NAMES = [
    "SimpleRNN",
    "LSTM",
    "GRU",
    "Bidirectional",
    "TimeDistributed",
    "Masking",
    "Embedding",
    "Dense",
    "Activation",
    "Dropout",
    "SpatialDropout1D",
    "LayerNormalization",
    "RepeatVector",
    "Flatten",
    "Reshape",
    "GlobalAveragePooling1D",
    "GlobalMaxPooling1D",
]
REQUIRED = {
    "units": 3,
    "input_dim": 7,
    "output_dim": 3,
    "rate": 0.5,
    "n": 2,
    "target_shape": (-1, 2),
    "activation": "relu",
}
# Arguments of parts of Keras that have no counterpart: low-rank adapters, quantization, other memory orders.
OUTSIDE = {"lora_rank", "lora_alpha", "quantization_config", "data_format", "kwargs", "self", "weights"}
# (float32: each side rounds by itself, so the bounds of the two add up)
BOUNDS = {"float32": (2e-6, 4e-6), "float64": (1e-12, 1e-11)}
LAYERS = [*cases.recurrent_specs(9), *cases.bidirectional_specs(5), *cases.PLAIN.items(), *cases.STACKS.items()]
EXTRA = {
    "Bidirectional-zero-last": ("Bidirectional", {"layer": cases.recurrent("GRU", 4, zero_output_for_mask=True)}),
    "LSTM-unroll": cases.recurrent("LSTM", 4, unroll=True, return_sequences=True),
    "LSTM-implementation": cases.recurrent("LSTM", 4, implementation=1),
    "GRU-no-cudnn": cases.recurrent("GRU", 4, use_cudnn=False),
    "GRU-before-no-bias": cases.recurrent("GRU-before", 4, use_bias=False),
}


def own(name):
    return getattr(rnnfast.layers, name)


def arguments(cls):
    """Keras' arguments with their defaults; required ones get a value."""
    inner = {"layer": None} if cls.__name__ in ("Bidirectional", "TimeDistributed") else {}
    found = {}
    for name, p in inspect.signature(cls.__init__).parameters.items():
        if name in OUTSIDE:
            continue
        found[name] = inner.get(name, REQUIRED.get(name) if p.default is inspect.Parameter.empty else p.default)
    return found


def with_inner(namespace, name, given):
    inner = {"Bidirectional": "GRU", "TimeDistributed": "Dense"}.get(name)
    return given | ({"layer": getattr(namespace.layers, inner)(3)} if inner else {})


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_at_its_default_is_taken(name):
    own(name)(**with_inner(rnnfast, name, arguments(getattr(keras.layers, name))))


@pytest.mark.parametrize("name", NAMES)
def test_defaults(name):
    """What both configurations hold, they hold alike; nothing of Keras' is missing."""
    needed = {k: v for k, v in arguments(getattr(keras.layers, name)).items() if (k in REQUIRED and k != "activation") or name == "Activation"}
    theirs = getattr(keras.layers, name)(**with_inner(keras, name, needed)).get_config()
    ours = own(name)(**with_inner(rnnfast, name, needed)).get_config()
    skipped = OUTSIDE | {"name", "dtype", "layer", "backward_layer", "trainable", "rms_scaling", "noise_shape", "use_cudnn"}
    missing = {k for k in theirs if k not in ours and k not in skipped}
    assert not missing
    for key in set(theirs) & set(ours) - skipped:
        a, b = theirs[key], ours[key]
        if isinstance(a, dict):
            a, b = a["class_name"], b["class_name"]
        if isinstance(a, (list, tuple)):
            a, b = list(a), list(np.atleast_1d(b))
        assert a == b, key


@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU", "Dense", "LayerNormalization", "Embedding"])
@pytest.mark.parametrize("bias", [True, False])
def test_weight_shapes_names_and_order(name, bias):
    needed = {k: v for k, v in arguments(getattr(keras.layers, name)).items() if k in REQUIRED and k != "activation"}
    options = needed | ({"use_bias": bias} if name not in ("LayerNormalization", "Embedding") else {})
    theirs, ours = getattr(keras.layers, name)(**options), own(name)(**options)
    for layer in (theirs, ours):
        layer.build((None, 5, 4))
    assert [(v.name, tuple(v.shape)) for v in theirs.weights] == [(v.name, tuple(v.shape)) for v in ours.weights]
    ours.set_weights([as_array(v) for v in theirs.weights])
    theirs.set_weights(ours.get_weights())


def test_the_forget_gates_bias_starts_at_one():
    for flag in (True, False):
        theirs, ours = keras.layers.LSTM(4, unit_forget_bias=flag), rnnfast.layers.LSTM(4, unit_forget_bias=flag)
        for layer in (theirs, ours):
            layer.build((None, 5, 3))
        assert np.array_equal(as_array(theirs.weights[2]), ours.get_weights()[2])


def masks_of(name, spec):
    """Where Keras takes a mask from the caller."""
    if name.startswith("Global"):
        return ("none", "trailing") if "Average" in name else ("none",)
    if spec[0] in ("SimpleRNN", "LSTM", "GRU", "Bidirectional"):
        return ("holes",) if "-sum-" in name or "-mul-" in name or "-ave-" in name else ("none", "trailing")
    return ("none",)


TABLE = [
    pytest.param(spec, mask, id=f"{name}-{mask}")
    for name, spec in [*LAYERS, *EXTRA.items()]
    for mask in masks_of(name, spec)
    if not (spec[0] != "Bidirectional" and isinstance(spec[1], dict) and spec[1].get("unroll") and mask != "none")
]


def run(p, dtype):
    given = p.cast(dtype)
    if p.spec[0] == "Sequential":
        given = {k: given[k] for k in ("x", "dy")}
    return p.build(rnnfast, dtype).vjp(**given)


def compare(p, dtype):
    """The package against Keras, what has no gradient left out."""
    want = keras_vjp(p, dtype)
    if p.x.dtype != np.float64:
        want["x"] = None
    gates = p.spec[1].get("recurrent_activation") if isinstance(p.spec[1], dict) else None
    forward, backward = BOUNDS[dtype]
    # torch's hardsigmoid holds the 1/6 of its derivative in float32, 2^-25 off
    cases.assert_close(run(p, dtype), want, forward, max(backward, 2.0**-23) if gates == "hard_sigmoid" else backward)


@pytest.mark.parametrize(("spec", "mask"), TABLE)
def test_outputs_and_gradients(spec, mask, rng):
    compare(cases.problem(spec, (4, 5, 6), rng, mask), "float64")


@pytest.mark.parametrize(("spec", "mask"), [c for c in TABLE if "states-trailing" in c.id])
def test_outputs_and_gradients_in_float32(spec, mask, rng):
    compare(cases.problem(spec, (4, 5, 6), rng, mask), "float32")


@pytest.mark.parametrize("name", ["sequence-states", "zero-sequence-states", "backwards", "states"])
@pytest.mark.parametrize("cell", cases.CELLS)
def test_initial_states(cell, name, dtype, rng):
    compare(cases.problem(cases.recurrent(cell, 7, **cases.OPTIONS[name]), (4, 5, 3), rng, "none", initial_state=True), dtype)


@pytest.mark.parametrize("merge", cases.MERGES)
@pytest.mark.parametrize("cell", cases.CELLS)
def test_initial_states_of_both_directions(cell, merge, rng):
    inner = cases.recurrent(cell, 7, return_sequences=True, return_state=True)
    compare(cases.problem(("Bidirectional", {"layer": inner, "merge_mode": merge}), (4, 5, 3), rng, "trailing", initial_state=True), "float64")


@pytest.mark.parametrize("activation", [a for a in cases.UNIT_ACTIVATIONS if a not in ("exponential", "hard_sigmoid_02", "leaky_relu_001", "leaky_relu_03")])
@pytest.mark.parametrize("cell", cases.CELLS)
def test_activations(cell, activation, rng):
    p = cases.problem(cases.recurrent(cell, 5, activation=activation, return_sequences=True), (3, 3, 4), rng, "trailing")
    want, bound = keras_vjp(p), 2.0**-23 if activation == "hard_sigmoid" else 1e-11
    cases.assert_close(run(p, "float64"), want, 1e-12, bound)


@pytest.mark.parametrize("cell", cases.CELLS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_stateful_layers_go_on_where_they_stopped(cell, wrapped, rng):
    inner = cases.recurrent(cell, 5, stateful=True, return_sequences=True)
    spec = ("Bidirectional", {"layer": inner}) if wrapped else inner
    with keras_floatx("float64"):
        p = cases.problem(spec, (3, 4, 2), rng)
        theirs, ours = p.build(keras, "float64"), p.build(rnnfast, "float64")
        for step in range(5):
            if step == 3:
                for layer in (theirs, ours):
                    layer.reset_states()
            x = rng.normal(size=(3, 4, 2))
            with torch.no_grad():
                want = as_array(theirs(torch.tensor(x)))
            assert cases.max_rel_error(ours(x), want) <= 1e-12


def test_a_mask_made_by_a_layer_flows_through_the_stack(rng):
    """Embedding and Masking make it, Dropout, Dense and normalisation pass it on, recurrent layers and pooling use it."""
    stacks = [
        [
            ("Embedding", {"input_dim": 5, "output_dim": 4, "mask_zero": True}),
            ("SpatialDropout1D", {"rate": 0.3}),
            cases.recurrent("LSTM", 6, return_sequences=True),
            ("LayerNormalization", {}),
            ("Dense", {"units": 4, "activation": "tanh"}),
            cases.recurrent("GRU", 3),
        ],
        [
            ("Masking", {"mask_value": 0.5}),
            ("Dense", {"units": 4}),
            ("Bidirectional", {"layer": cases.recurrent("SimpleRNN", 4, return_sequences=True)}),
            ("Dropout", {"rate": 0.3}),
            ("GlobalAveragePooling1D", {}),
            ("Dense", {"units": 2, "activation": "softmax"}),
        ],
    ]
    for stack in stacks:
        p = cases.problem(("Sequential", stack), (6, 7, 3), rng)
        p.x[:, 0] = 3  # no row without a valid step, which Keras averages to 0 / 0
        compare(p, "float64")


@pytest.mark.parametrize("loss", ["mse", "categorical_crossentropy"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_training_step(loss, weighted, rng):
    """One step of plain gradient descent moves every weight as Keras does: masked loss, sample weights, clipping."""
    spec = (
        "Sequential",
        [
            ("Masking", {"mask_value": 0.5}),
            cases.recurrent("GRU", 6, return_sequences=True),
            ("Dense", {"units": 3, "activation": "softmax"}),
        ],
    )
    p = cases.problem(spec, (6, 5, 3), rng)
    p.x[:, 0] = 1.0
    y = rng.dirichlet(np.ones(3), (6, 5))
    weight = rng.uniform(0.5, 2.0, (6, 5)) if weighted else None
    losses, weights = [], []
    with keras_floatx("float64"):
        rnnfast.config.set_floatx("float64")
        try:
            for namespace in (keras, rnnfast):
                model = p.build(namespace, "float64")
                model.compile(optimizer=namespace.optimizers.SGD(0.5, global_clipnorm=0.1), loss=loss)
                losses.append([float(np.ravel(model.train_on_batch(p.x, y, sample_weight=weight))[0]) for _ in range(3)])
                weights.append([as_array(v) for v in model.weights])
        finally:
            rnnfast.config.set_floatx("float32")
    assert np.allclose(*losses, rtol=1e-6, atol=0)  # Keras holds the mean of its losses in float32
    for a, b in zip(*weights, strict=True):
        assert cases.max_rel_error(b, a) <= 1e-7
