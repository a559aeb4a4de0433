"""Every gradient (weights, input, initial states) lies within 2e-6 of the float64 oracle, 6e-6 at 1500 steps, 1e-11 in float64."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast
from tests import cases, reference

ALL = [*cases.recurrent_specs(9), *cases.bidirectional_specs(5), *cases.PLAIN.items(), *cases.UNLIKE_KERAS.items(), *cases.STACKS.items()]
SPECS = [pytest.param(spec, id=name) for name, spec in ALL]


def assert_gradients(p, dtype, steps=1, **extra):
    given = p.cast(dtype) | extra
    if p.spec[0] == "Sequential":
        given = {k: v for k, v in given.items() if k not in ("initial_state", "dstates")}
    got = p.build(rnnfast, dtype).vjp(**given)
    want = dict(p.expected)
    if p.x.dtype != np.float64:
        want["x"] = None  # tokens have no gradient
    if p.initial_state is None:
        want["initial_state"] = None
    cases.assert_close(got, want, *cases.bound(dtype, steps))


@pytest.mark.parametrize("mask", ["none", "holes", "empty-rows"])
@pytest.mark.parametrize("spec", SPECS)
def test_every_layer_and_option(spec, mask, dtype, rng):
    if mask != "none" and spec[0] in ("RepeatVector", "Flatten", "Reshape"):
        pytest.skip("no time axis comes out")
    assert_gradients(cases.problem(spec, (5, 6, 4), rng, mask), dtype)


@pytest.mark.parametrize("mask", ["none", "leading"])
@pytest.mark.parametrize("spec", [s for s in SPECS if cases.takes_state(s.values[0])])
def test_initial_states(spec, mask, dtype, rng):
    if spec[1].get("recurrent_activation") == "softplus":
        dtype = "float64"  # gates above 1 let the state grow without bound, and float32 errors with it
    assert_gradients(cases.problem(spec, (4, 5, 3), rng, mask, initial_state=True), dtype)


@pytest.mark.parametrize("cell", cases.CELLS)
def test_gradient_of_the_states_alone(cell, dtype, rng):
    p = cases.problem(cases.recurrent(cell, 9, return_sequences=True, return_state=True), (4, 5, 3), rng, initial_state=True)
    p = cases.Problem(p.spec, p.oracle, p.x, p.mask, p.initial_state, None, p.dstates)
    assert_gradients(p, dtype)


@pytest.mark.parametrize("cell", cases.CELLS)
def test_lengths(cell, dtype, rng):
    p = cases.problem(cases.recurrent(cell, 9, return_sequences=True), (5, 6, 4), rng)
    lengths = np.array([6, 0, 3, 1, 5])
    masked = p.with_mask(reference.length_mask(lengths, 6))
    assert_gradients(masked, dtype, mask=None, lengths=lengths)


@pytest.mark.parametrize("activation", cases.UNIT_ACTIVATIONS)
@pytest.mark.parametrize("cell", cases.CELLS)
def test_every_activation_in_every_cell(cell, activation, dtype, rng):
    spec = cases.recurrent(cell, 9, activation=activation, return_sequences=True)
    if activation == "exponential":
        dtype = "float64"  # exp of exp: float32 results are judged by the forward test's conditioning
    assert_gradients(cases.problem(spec, (4, 1 if activation == "exponential" else 4, 5), rng, "trailing"), dtype)


@pytest.mark.parametrize("steps", [100, 1500])
@pytest.mark.parametrize("cell", cases.CELLS)
def test_long_sequences(cell, steps, dtype, rng):
    p = cases.problem(cases.recurrent(cell, 24, return_sequences=True, return_state=True), (2, steps, 8), rng)
    assert_gradients(p, dtype, steps)


@pytest.mark.parametrize("cell", cases.CELLS)
def test_duplicating_a_row_doubles_its_gradient(cell, rng):
    p = cases.problem(cases.recurrent(cell, 9), (3, 5, 4), rng)
    layer = p.build(rnnfast, "float64")
    once, twice = layer.vjp(p.x, p.dy), layer.vjp(np.repeat(p.x, 2, axis=0), np.repeat(p.dy, 2, axis=0))
    for a, b in zip(once["weights"], twice["weights"], strict=True):
        assert np.allclose(2.0 * a, b, rtol=1e-12, atol=1e-13)


def test_gradients_do_not_add_up_over_calls(rng):
    p = cases.problem(cases.recurrent("LSTM", 9), (3, 5, 4), rng)
    layer = p.build(rnnfast, "float32")
    first, second = (layer.vjp(**p.cast("float32"))["weights"] for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a, b)
