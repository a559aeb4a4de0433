"""The oracle itself: against central differences, Keras 3 and PyTorch, on random weights and awkward sizes."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from tests import cases, reference
from tests.conftest import max_rel_error
from tests.gradients import central_differences, keras_floatx, keras_vjp, torch_recurrent
from tests.peers import as_array, require
from tests.reference import activations, losses

TIGHT = 1e-12
NOT_IN_KERAS_3 = ("sparsemax", "hard_sigmoid_02", "leaky_relu_001", "leaky_relu_03")
UNITS = (1, 7, 8, 9, 15, 16, 17, 33)
SMALL = (3, 4, 2)
ALL = [*cases.recurrent_specs(3), *cases.bidirectional_specs(2), *cases.PLAIN.items(), *cases.STACKS.items()]


def table(items):
    return [pytest.param(spec, id=name) for name, spec in items]


@pytest.mark.parametrize("name", [*activations.CELL_NAMES, "glu"])
def test_activation_derivatives_match_central_differences(name, rng):
    x = rng.normal(0.0, 2.0, (5, 6))
    dy = rng.normal(size=activations.value(name, x).shape)
    want = central_differences(lambda: (activations.value(name, x) * dy).sum(), x)
    assert max_rel_error(activations.vjp(name, x, dy), want) < 1e-8


@pytest.mark.parametrize("name", [n for n in [*activations.CELL_NAMES, "glu"] if n not in NOT_IN_KERAS_3])
def test_activations_match_keras(name, rng):
    keras, torch = require("keras"), require("torch")
    x = np.concatenate([rng.normal(0.0, 3.0, (20, 6)), [[-50.0, 50.0, -1.5, 1.5, 0.25, -0.25]]])
    if name == "exponential":
        x = np.minimum(x, 5.0)
    tensor = torch.tensor(x, requires_grad=True)
    y = keras.activations.get(name)(tensor)
    dy = rng.normal(size=y.shape)
    y.backward(torch.tensor(dy))
    assert max_rel_error(activations.value(name, x), y.detach().numpy()) < TIGHT
    assert max_rel_error(activations.vjp(name, x, dy), tensor.grad.numpy()) < backward_bound(name)


def test_sparsemax_is_the_projection_on_the_simplex(rng):
    """By its optimality conditions. Keras 3.15 subtracts a wrong threshold where more than one entry stays positive."""
    x = rng.normal(0.0, 1.0, (200, 6))
    p = activations.value("sparsemax", x)
    threshold = (x - p).max(axis=-1, where=p > 0, initial=-np.inf)
    assert np.allclose(p.sum(axis=-1), 1.0, atol=1e-14)
    assert (p >= 0.0).all()
    assert np.allclose((x - p)[p > 0], np.broadcast_to(threshold[:, None], x.shape)[p > 0])
    assert (x[p == 0] <= np.broadcast_to(threshold[:, None], x.shape)[p == 0]).all()


def backward_bound(*names):
    """1e-11, or what torch's own hardsigmoid allows: its derivative holds 1/6 in float32, 2^-25 off, once a gate."""
    return 2.0**-23 if {"hard_sigmoid"} & set(names) else 1e-11


@pytest.mark.parametrize("mask", ["none", "holes"])
@pytest.mark.parametrize("spec", table(ALL))
def test_gradients_match_central_differences(spec, mask, rng):
    p = cases.problem(spec, SMALL, rng, mask, initial_state=cases.takes_state(spec) and mask != "none")

    def total():
        outs = p.oracle.forward(p.x, p.mask, p.initial_state)[0]
        ups = cases.as_list(p.dy) + (p.dstates or [])
        return sum((o * d).sum() for o, d in zip(outs, ups, strict=True))

    got = p.expected
    arrays = [*zip(_live_weights(p.oracle), got["weights"], strict=True)]
    arrays += [*zip(p.initial_state or [], got["initial_state"], strict=False)]
    if p.x.dtype == np.float64 and spec[0] != "Masking" and spec is not cases.STACKS["classifier"]:
        arrays.append((p.x, got["x"]))
    for array, grad in arrays:
        assert max_rel_error(grad, central_differences(total, array)) < 1e-7


def _live_weights(layer):
    """The arrays that the forward pass reads: a wrapper's list names its parts' arrays."""
    if hasattr(layer, "stack"):
        return [w for inner in layer.stack for w in _live_weights(inner)]
    if hasattr(layer, "pair"):
        return [w for inner in layer.pair for w in _live_weights(inner)]
    if hasattr(layer, "layer"):
        return _live_weights(layer.layer)
    return layer.cell.weights if hasattr(layer, "cell") else layer.weights


def keras_cases():
    """(spec, mask): every spec without a mask, recurrent ones with the masks, and every mask on what returns most."""
    for name, spec in ALL:
        recurrent, most = spec[0] in ("SimpleRNN", "LSTM", "GRU"), name.endswith("sequence-states")
        masks = cases.MASKS if most else ("trailing", "holes", "empty-rows") if recurrent else ("holes",)
        if spec[0].startswith("GlobalAverage"):
            masks = ("none", "trailing", "leading")  # an empty row is 0 / 0 in Keras
        elif not recurrent and spec[0] not in ("Bidirectional", "TimeDistributed"):
            masks = ("none",)  # Keras drops the mask with a warning
        for mask in masks:
            yield pytest.param(spec, mask, id=f"{name}-{mask}")


@pytest.mark.parametrize(("spec", "mask"), list(keras_cases()))
def test_layers_match_keras(spec, mask, rng):
    require("keras")
    p = cases.problem(spec, (3, 5, 4), rng, mask)
    gates = spec[1].get("recurrent_activation") if isinstance(spec[1], dict) else None
    cases.assert_close(keras_vjp(p), p.expected | {"initial_state": []}, TIGHT, backward_bound(gates))


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("cell", cases.CELLS)
def test_awkward_sizes_match_keras(cell, units, rng):
    require("keras")
    spec = cases.recurrent(cell, units, return_sequences=True, return_state=True)
    p = cases.problem(spec, (5, 6, 7), rng, "trailing", initial_state=True)
    cases.assert_close(keras_vjp(p), p.expected, TIGHT, 1e-11)


@pytest.mark.parametrize("cell", cases.CELLS)
@pytest.mark.parametrize("name", [n for n in activations.CELL_NAMES if n not in NOT_IN_KERAS_3])
def test_every_activation_in_every_cell_matches_keras(cell, name, rng):
    require("keras")
    spec = cases.recurrent(cell, 5, activation=name, return_sequences=True)
    p = cases.problem(spec, (3, 1 if name == "exponential" else 3, 4), rng, "trailing")
    cases.assert_close(keras_vjp(p), p.expected | {"initial_state": []}, TIGHT, backward_bound(name))


def keras_scan():
    """Keras' NumPy scan: its file alone, since its package wants SciPy and JAX."""
    path = Path(require("keras").__file__).parent / "src" / "backend" / "numpy" / "rnn.py"
    return runpy.run_path(str(path))["rnn"]


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("cell", cases.CELLS)
def test_initial_state_under_leading_masks_matches_the_scan_of_keras(cell, backwards, zero, rng):
    rnn = keras_scan()
    spec = cases.recurrent(
        cell, 4, return_sequences=True, return_state=True, go_backwards=backwards, zero_output_for_mask=zero
    )
    for mask in ("holes", "leading", "empty-rows"):
        p = cases.problem(spec, (4, 6, 3), rng, mask, initial_state=True)

        def step(x, states, cell=p.oracle.cell):
            new = cell.step(x, list(states))[0]
            return new[0], new

        _, y, states = rnn(
            step, p.x, p.initial_state, go_backwards=backwards, mask=p.mask, zero_output_for_mask=zero
        )
        for got, want in zip(p.expected["y"], [y, *states], strict=True):
            assert max_rel_error(got, want) < TIGHT


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("cell", ["SimpleRNN", "LSTM", "GRU"])
def test_packed_sequences_match_torch(cell, units, bidirectional, rng):
    torch = require("torch")
    inner = cases.recurrent(cell, units, return_sequences=True, return_state=True, zero_output_for_mask=True)
    spec = ("Bidirectional", {"layer": inner}) if bidirectional else inner
    p = cases.problem(spec, (4, 6, 5), rng, initial_state=True)
    lengths = np.array([6, 2, 5, 1])
    p = p.with_mask(reference.length_mask(lengths, 6))
    cases.assert_close(torch_recurrent(torch, p, lengths), p.expected, TIGHT, 1e-11)


LOSSES = [
    ("mse", "MeanSquaredError", {}),
    ("mae", "MeanAbsoluteError", {}),
    ("mape", "MeanAbsolutePercentageError", {}),
    ("msle", "MeanSquaredLogarithmicError", {}),
    ("huber", "Huber", {"delta": 0.3}),
    ("log_cosh", "LogCosh", {}),
    ("binary_crossentropy", "BinaryCrossentropy", {"label_smoothing": 0.1}),
    ("binary_crossentropy", "BinaryCrossentropy", {"from_logits": True}),
    ("categorical_crossentropy", "CategoricalCrossentropy", {"label_smoothing": 0.1}),
    ("categorical_crossentropy", "CategoricalCrossentropy", {"from_logits": True}),
    ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy", {}),
    ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy", {"from_logits": True}),
    ("kl_divergence", "KLDivergence", {}),
    ("poisson", "Poisson", {}),
]


@pytest.mark.parametrize("weighting", ["plain", "rows", "steps"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("name", "peer", "config"), LOSSES)
def test_losses_match_keras(name, peer, config, masked, weighting, rng):
    torch = require("torch")
    shape = (4, 5, 3)
    y, p = rng.uniform(0.1, 1.0, shape), rng.uniform(0.1, 0.9, shape)
    y = y / y.sum(axis=-1, keepdims=True)
    p = p / p.sum(axis=-1, keepdims=True)
    if name.startswith("sparse"):
        y = rng.integers(0, 3, shape[:2])
    weight = {"plain": None, "rows": rng.uniform(size=4), "steps": rng.uniform(size=(4, 5))}[weighting]
    mask = rng.random((4, 5)) < 0.6 if masked else None
    tensor = torch.tensor(p, requires_grad=True)
    if masked:
        tensor._keras_mask = torch.tensor(mask)
    full = None if weight is None else np.broadcast_to(weight.reshape(4, -1), shape[:2]).copy()
    with keras_floatx("float64") as keras:
        got = getattr(keras.losses, peer)(**config)(y, tensor, sample_weight=full)
    assert abs(losses.loss(name, y, p, weight, mask, **config) - float(got.detach())) < TIGHT
    if name == "mse" or (name.endswith("categorical_crossentropy") and config.get("from_logits")):
        got.backward()
        assert max_rel_error(losses.gradient(name, y, p, weight, mask, **config), as_array(tensor.grad)) < TIGHT


def test_a_row_without_valid_steps_is_defined():
    x = np.full((2, 3, 4), np.nan)
    x[1] = 1.0
    for kind in ("GlobalAveragePooling1D", "GlobalMaxPooling1D"):
        layer = reference.make((kind, {}), [])
        y = reference.call(layer, x, lengths=np.array([0, 3]))
        assert np.array_equal(y, [[0.0] * 4, [1.0] * 4])
        grad = reference.vjp(layer, x, np.ones((2, 4)), lengths=np.array([0, 3]))["x"]
        assert not grad[0].any()
        assert np.allclose(grad[1].sum(axis=0), 1.0)
