"""Awkward sizes around every SIMD width and tile: forward and all gradients against the oracle, ragged rows included."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast
from tests import cases, reference
from tests.conftest import max_rel_error

# (T, B, I, H): the odd ones of benchdnn's small recurrent problems, then 1 x 1 x 1 x 1 and one row more than 64.
GRID = [
    (8, 12, 16, 16),
    (4, 20, 36, 36),
    (2, 6, 16, 32),
    (1, 7, 17, 34),
    (1, 3, 16, 64),
    (1, 4, 17, 68),
    (3, 4, 34, 85),
    (1, 1, 1, 1),
    (5, 1, 1, 1),
    (3, 65, 3, 5),
    (2, 130, 2, 3),
    (9, 2, 1, 2),
]
UNITS = (1, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 127, 129)


def check(spec, shape, dtype, rng):
    batch, steps, _ = shape
    lengths = rng.integers(0, steps + 1, batch)
    for mask in (None, reference.length_mask(lengths, steps)):
        p = cases.problem(spec, shape, rng, initial_state=True).with_mask(mask)
        cases.assert_close(p.build(rnnfast, dtype).vjp(**p.cast(dtype)), p.expected, *cases.bound(dtype))


@pytest.mark.parametrize("size", GRID, ids=lambda s: "T{}B{}I{}H{}".format(*s))
@pytest.mark.parametrize("cell", cases.CELLS)
def test_grid(cell, size, dtype, rng):
    steps, batch, features, units = size
    check(cases.recurrent(cell, units, return_sequences=True, return_state=True), (batch, steps, features), dtype, rng)


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("cell", cases.CELLS)
def test_units_around_simd_widths(cell, batch, units, dtype, rng):
    check(cases.recurrent(cell, units, return_sequences=True), (batch, 3, 5), dtype, rng)


@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 9, 40), (1, 3, 9, 129), (7, 1, 33, 17), (33, 2, 5, 65), (70, 2, 300, 300)], ids=str)
@pytest.mark.parametrize("cell", cases.CELLS)
def test_first_step_leaves_out_a_state_of_zero(cell, shape, go_backwards, dtype, rng):
    """Without an initial state the first step does not multiply with it; the bits are those of a state of zeros that is given."""
    batch, steps, features, units = shape
    spec = cases.recurrent(cell, units, return_sequences=True, return_state=True, go_backwards=go_backwards)
    p = cases.problem(spec, (batch, steps, features), rng, initial_state=True)
    layer, x = p.build(rnnfast, dtype), p.cast(dtype)["x"]
    zeros = [np.zeros_like(state) for state in p.cast(dtype)["initial_state"]]
    for threads in (1, 2):
        rnnfast.set_num_threads(threads)
        for found, want in zip(layer(x), layer(x, initial_state=zeros), strict=True):
            assert np.array_equal(found, want)


ROWWISE = {
    "Dense": ("Dense", {"units": 10, "activation": "tanh"}),
    "TimeDistributed": ("TimeDistributed", {"layer": ("Dense", {"units": 3})}),
    "LayerNormalization": ("LayerNormalization", {}),
    "Activation": ("Activation", {"activation": "softmax"}),
    "Embedding": ("Embedding", {"input_dim": 7, "output_dim": 5}),
    "GlobalAveragePooling1D": ("GlobalAveragePooling1D", {}),
    "GlobalMaxPooling1D": ("GlobalMaxPooling1D", {}),
    "Flatten": ("Flatten", {}),
}


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 6, 11), (6, 1, 11), (1, 1, 33), (2, 3, 1), (65, 2, 9)])
@pytest.mark.parametrize("spec", [pytest.param(spec, id=name) for name, spec in ROWWISE.items()])
def test_one_row_or_one_step(spec, shape, dtype, rng):
    p = cases.problem(spec, shape, rng)
    given, layer = p.cast(dtype), p.build(rnnfast, dtype)
    for _ in range(2):  # the second call runs the plan that the first one made
        assert max_rel_error(layer(given["x"]), p.expected["y"]) <= cases.bound(dtype)[0]
    want = p.expected | {"initial_state": None} | ({} if p.x.dtype == np.float64 else {"x": None})
    cases.assert_close(layer.vjp(given["x"], given["dy"]), want, *cases.bound(dtype))


@pytest.mark.parametrize("features", [1, 2, 31, 33, 129, 300])
@pytest.mark.parametrize("units", [1, 10, 33])
@pytest.mark.parametrize("rows", [(5,), (1,), (5, 3)])
def test_dense(features, units, rows, dtype, rng):
    layer = cases.problem(("Dense", {"units": units, "activation": "tanh"}), (1, 1, features), rng)
    x = cases.single(rng.normal(size=(*rows, features)))
    dy = cases.single(rng.normal(size=(*rows, units)))
    p = cases.Problem(layer.spec, layer.oracle, x, None, None, dy, None)
    got = p.build(rnnfast, dtype).vjp(p.cast(dtype)["x"], p.cast(dtype)["dy"])
    cases.assert_close(got, p.expected | {"initial_state": None}, *cases.bound(dtype))


@pytest.mark.parametrize("units", [1, 8, 17, 33])
@pytest.mark.parametrize("merge", cases.MERGES)
def test_bidirectional(merge, units, dtype, rng):
    inner = cases.recurrent("GRU", units, return_sequences=True, return_state=True)
    check(("Bidirectional", {"layer": inner, "merge_mode": merge}), (5, 4, 3), dtype, rng)


@pytest.mark.parametrize("cell", cases.CELLS)
@pytest.mark.parametrize("options", ["last", "sequence", "zero-sequence-states"])
def test_empty_sizes(cell, options, dtype, rng):
    layer = rnnfast.layers.SimpleRNN if cell == "SimpleRNN" else getattr(rnnfast.layers, cell.split("-")[0])
    kind, config = cases.recurrent(cell, 5, **cases.OPTIONS[options])
    assert layer.__name__ == kind
    made = layer(**config, dtype=dtype)
    made.build((None, None, 3))
    for batch, steps in ((0, 4), (3, 0), (0, 0)):
        y = cases.as_list(made(np.zeros((batch, steps, 3), dtype)))[0]
        assert y.shape == ((batch, steps, 5) if config.get("return_sequences") else (batch, 5))
        assert not y.any()
        assert y.dtype == dtype


@pytest.mark.parametrize("cell", cases.CELLS)
def test_no_steps_gives_zeros_and_the_initial_state_and_passes_its_gradient(cell, rng):
    p = cases.problem(cases.recurrent(cell, 5, return_state=True), (3, 0, 2), rng, initial_state=True)
    found = p.build(rnnfast, "float64").vjp(**p.cast("float64"))
    assert not found["y"][0].any()
    for state, final, gradient, upstream in zip(p.initial_state, found["y"][1:], found["initial_state"], p.dstates, strict=True):
        assert np.array_equal(final, state)
        assert np.array_equal(gradient, upstream)
