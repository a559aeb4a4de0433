"""Forward results lie within the promised distance of the float64 oracle: 1e-6 to 100 steps, 2e-6 at 1500, 1e-12 in float64."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast
from tests import cases, reference
from tests.conftest import max_rel_error

ALL = [*cases.recurrent_specs(9), *cases.bidirectional_specs(5), *cases.PLAIN.items(), *cases.UNLIKE_KERAS.items(), *cases.STACKS.items()]
SPECS = [pytest.param(spec, id=name) for name, spec in ALL]


def outputs(layer, p, dtype, **extra):
    given = p.cast(dtype)
    kwargs = {"mask": given["mask"], **extra}
    if given["initial_state"] is not None:
        kwargs["initial_state"] = given["initial_state"]
    return cases.as_list(layer(given["x"], **kwargs))


def assert_forward(got, want, dtype, steps):
    assert len(got) == len(want)
    for one, ref in zip(got, want, strict=True):
        assert one.dtype == dtype
        assert max_rel_error(one, ref) <= cases.bound(dtype, steps)[0]


@pytest.mark.parametrize("mask", ["none", "trailing", "holes"])
@pytest.mark.parametrize("spec", SPECS)
def test_every_layer_and_option(spec, mask, dtype, rng):
    if mask != "none" and spec[0] in ("RepeatVector", "Flatten", "Reshape"):
        pytest.skip("no time axis comes out")
    p = cases.problem(spec, (5, 6, 4), rng, mask)
    assert_forward(outputs(p.build(rnnfast, dtype), p, dtype), cases.as_list(p.expected["y"]), dtype, 6)


@pytest.mark.parametrize("spec", [s for s in SPECS if cases.takes_state(s.values[0])])
def test_initial_states(spec, dtype, rng):
    p = cases.problem(spec, (4, 5, 3), rng, "leading", initial_state=True)
    assert_forward(outputs(p.build(rnnfast, dtype), p, dtype), cases.as_list(p.expected["y"]), dtype, 5)


@pytest.mark.parametrize("spec", [s for s in SPECS if cases.takes_state(s.values[0])])
def test_lengths_are_the_mask_of_the_first_steps(spec, rng):
    p = cases.problem(spec, (5, 6, 4), rng)
    layer, lengths = p.build(rnnfast, "float32"), np.array([6, 0, 3, 1, 5])
    by_mask = outputs(layer, p.with_mask(reference.length_mask(lengths, 6)), "float32")
    by_length = outputs(layer, p, "float32", lengths=lengths)
    for a, b in zip(by_mask, by_length, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("activation", cases.UNIT_ACTIVATIONS)
@pytest.mark.parametrize("cell", cases.CELLS)
def test_every_activation_in_every_cell(cell, activation, dtype, rng):
    spec = cases.recurrent(cell, 9, activation=activation, return_sequences=True)
    p = cases.problem(spec, (4, 1 if activation == "exponential" else 4, 5), rng, "trailing")
    (got,) = outputs(p.build(rnnfast, dtype), p, dtype)
    bound = cases.bound(dtype, 4)[0]
    if activation == "exponential" and dtype == "float32":
        bound = max(bound, cases.ROUNDINGS * cases.sensitivity(p, rng))
    assert max_rel_error(got, p.expected["y"]) <= bound


@pytest.mark.parametrize("steps", [100, 1500])
@pytest.mark.parametrize("cell", cases.CELLS)
def test_long_sequences(cell, steps, dtype, rng):
    p = cases.problem(cases.recurrent(cell, 24, return_sequences=True, return_state=True), (2, steps, 8), rng)
    assert_forward(outputs(p.build(rnnfast, dtype), p, dtype), cases.as_list(p.expected["y"]), dtype, steps)


@pytest.mark.parametrize("cell", cases.CELLS)
def test_saturated_cells(cell, rng):
    """Weights 25 times larger: exp must saturate and not overflow. Such cells are chaotic, so the bound knows how far one rounding of the weights carries."""
    p = cases.problem(cases.recurrent(cell, 17, return_sequences=True), (4, 20, 8), rng)
    loud = reference.make(p.spec, [cases.single(25.0 * w) for w in p.oracle.weights])
    p = cases.Problem(p.spec, loud, p.x, p.mask, p.initial_state, p.dy, p.dstates)
    (got,) = outputs(p.build(rnnfast, "float32"), p, "float32")
    assert max_rel_error(got, p.expected["y"]) <= max(2e-5, cases.ROUNDINGS * cases.sensitivity(p, rng))
