"""Masks and lengths: masked steps are as if they were not there, whatever the pattern; laws that need no reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rnnfast
from rnnfast import Input, Sequential, _engine, layers
from rnnfast.plan import schedule
from rnnfast.plan.schedule import SPLIT_NONE, SPLIT_ROWS, SPLIT_UNITS, Choice
from tests import cases, reference
from tests.conftest import max_rel_error

FULL = {"return_sequences": True, "return_state": True}
CELLS = list(cases.CELLS)
I, H = 3, 9
TOLERANCE = 1e-12
LAYERS: dict[object, object] = {}


def layer_of(cell, **options):
    """A float64 layer with fixed random weights: one a configuration, so that properties run fast."""
    key = (cell, *sorted(options.items()))
    if key not in LAYERS:
        p = cases.problem(cases.recurrent(cell, H, **options), (1, 1, I), np.random.default_rng(7))
        made = cases.build(rnnfast, p.spec, "float64")
        made.build((None, None, I))
        made.set_weights(p.oracle.weights)
        LAYERS[key] = made
    return LAYERS[key]


def states_of(cell, batch, rng):
    return [rng.normal(0, 0.5, (batch, H)) for _ in range(2 if cell == "LSTM" else 1)]


def close(a, b):
    return all(max_rel_error(x, y) <= TOLERANCE for x, y in zip(cases.as_list(a), cases.as_list(b), strict=True))


problems = given(
    cell=st.sampled_from(CELLS),
    batch=st.integers(1, 5),
    steps=st.integers(1, 7),
    seed=st.integers(0, 2**32 - 1),
    density=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
)
quick = settings(max_examples=60, deadline=None, derandomize=True)


def draw(batch, steps, density, seed):
    rng = np.random.default_rng(seed)
    return rng, rng.normal(size=(batch, steps, I)), rng.random((batch, steps)) < density


@quick
@problems
def test_masked_steps_are_as_if_not_there(cell, batch, steps, seed, density):
    rng, x, mask = draw(batch, steps, density, seed)
    initial = states_of(cell, batch, rng)
    layer = layer_of(cell, **FULL)
    y, *final = layer(x, mask=mask, initial_state=initial)
    for row in range(batch):
        valid = np.flatnonzero(mask[row])
        begin = [s[row : row + 1] for s in initial]
        if len(valid) == 0:
            assert all(np.array_equal(f[row : row + 1], s) for f, s in zip(final, begin, strict=True))
            continue
        short, *last = layer(x[row : row + 1, valid], initial_state=begin)
        assert close(y[row, valid], short[0])
        assert close([f[row : row + 1] for f in final], last)


@quick
@problems
def test_masked_outputs_repeat_the_one_before(cell, batch, steps, seed, density):
    rng, x, mask = draw(batch, steps, density, seed)
    initial = states_of(cell, batch, rng)
    y = layer_of(cell, return_sequences=True)(x, mask=mask, initial_state=initial)
    previous = initial[0]
    for t in range(steps):
        held = ~mask[:, t]
        assert np.array_equal(y[held, t], previous[held])
        previous = y[:, t]
    zeros = layer_of(cell, return_sequences=True, zero_output_for_mask=True)(x, mask=mask, initial_state=initial)
    assert np.array_equal(zeros, np.where(mask[:, :, None], y, 0.0))


@quick
@problems
def test_going_backwards_is_reversing_the_input(cell, batch, steps, seed, density):
    rng, x, mask = draw(batch, steps, density, seed)
    initial = states_of(cell, batch, rng)
    back = layer_of(cell, go_backwards=True, **FULL)(x, mask=mask, initial_state=initial)
    flipped = layer_of(cell, **FULL)(x[:, ::-1], mask=mask[:, ::-1], initial_state=initial)
    assert close(back, flipped)


@quick
@problems
def test_two_halves_are_the_whole(cell, batch, steps, seed, density):
    rng, x, mask = draw(batch, steps, density, seed)
    cut = int(rng.integers(0, steps + 1))
    initial = states_of(cell, batch, rng)
    layer = layer_of(cell, **FULL)
    y, *final = layer(x, mask=mask, initial_state=initial)
    parts, state = [], initial
    for half in (slice(0, cut), slice(cut, steps)):
        if half.stop > half.start:
            part, *state = layer(x[:, half], mask=mask[:, half], initial_state=state)
            parts.append(part)
    assert close(y, np.concatenate(parts, axis=1))
    assert close(final, state)


@quick
@problems
def test_rows_do_not_know_each_other(cell, batch, steps, seed, density):
    rng, x, mask = draw(batch, steps, density, seed)
    layer, order = layer_of(cell, **FULL), rng.permutation(batch)
    for a, b in zip(layer(x[order], mask=mask[order]), layer(x, mask=mask), strict=True):
        assert np.array_equal(a, b[order])


@pytest.mark.parametrize("split", [SPLIT_ROWS, SPLIT_UNITS], ids=["rows", "units"])
@pytest.mark.parametrize("units", [8, 16, 32, 40, 48, 64, 80, 96])
def test_rows_of_one_step_or_none_from_initial_states(units, split, monkeypatch, rng):
    """A single step reads states where they stand, and leaves alone what stands behind them."""
    monkeypatch.setattr(schedule, "choose_split", lambda work, threads, ways, team=None: Choice(split if threads > 1 else SPLIT_NONE, {SPLIT_NONE: 1.0, split: 0.1}))
    monkeypatch.setattr(_engine, "get_num_threads", lambda: 2)
    inner = layers.LSTM(units, return_sequences=True, trained_initial_state=True, zero_output_for_mask=True)
    model = Sequential([Input((None, 3)), layers.Bidirectional(inner)])
    model.build((None, None, 3))
    model.set_weights([rng.standard_normal(w.shape) for w in model.get_weights()])
    x, lengths = rng.standard_normal((8, 1, 3)).astype(np.float32), np.array([1, 1, 1, 0, 0, 0, 1, 1])
    y = model.predict_on_batch(x, lengths=lengths)
    np.testing.assert_array_equal(y[lengths == 0], 0)
    np.testing.assert_array_equal(y[lengths == 1], model.predict_on_batch(x[lengths == 1]))


BEFORE = {
    "repeated": (lambda: [layers.LSTM(3), layers.RepeatVector(3)], [1, 5, 3]),
    "reshaped": (lambda: [layers.LSTM(6), layers.Reshape((3, 2))], [1, 5, 3]),
    "stride": (lambda: [layers.Conv1D(3, 2, strides=2)], [4, 5, 3]),
    "pooling": (lambda: [layers.MaxPooling1D(2)], [4, 5, 3]),
    "nothing": (list, [4, 0, 6]),
}


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("before, lengths", BEFORE.values(), ids=BEFORE)
def test_rows_that_go_backwards_do_not_know_each_other(before, lengths, zeros, rng):
    """Whatever order the layers in front have put them in, in predictions and gradients."""
    model = Sequential([Input((None, 2)), *before(), layers.GRU(3, return_sequences=True, go_backwards=True, zero_output_for_mask=zeros)])
    x, lengths = rng.standard_normal((3, 6, 2)).astype(np.float32), np.array(lengths)
    y = model.predict_on_batch(x, lengths=lengths)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    dx = model.vjp(x, dy, lengths=lengths)["x"]
    for b in range(3):
        alone = model.vjp(x[b : b + 1], dy[b : b + 1], lengths=lengths[b : b + 1])
        np.testing.assert_array_equal(y[b], alone["y"][0])
        np.testing.assert_array_equal(dx[b], alone["x"][0])


@quick
@problems
def test_lengths_cut_rows_short(cell, batch, steps, seed, density):
    rng, x, mask = draw(batch, steps, density, seed)
    lengths = rng.integers(0, steps + 1, batch)
    layer = layer_of(cell, **FULL)
    for a, b in zip(layer(x, lengths=lengths), layer(x, mask=reference.length_mask(lengths, steps)), strict=True):
        assert np.array_equal(a, b)
    both = layer(x, lengths=lengths, mask=mask)
    for a, b in zip(both, layer(x, mask=mask & reference.length_mask(lengths, steps)), strict=True):
        assert np.array_equal(a, b)


@pytest.fixture(params=[1, 2])
def threads(request):
    kept = rnnfast.get_num_threads()
    rnnfast.set_num_threads(request.param)
    yield
    rnnfast.set_num_threads(kept)


@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_one_model_takes_whole_rows_lengths_and_masks_in_turns(cell, zeros, rows, threads, rng):
    """Each row has the bits of its valid steps alone, whatever the call before has left."""
    steps = 40
    layer = cases.build(rnnfast, cases.recurrent(cell, 40, return_sequences=True, zero_output_for_mask=zeros), "float32")
    model, x = rnnfast.Sequential([rnnfast.Input((steps, I)), layer]), rng.standard_normal((rows, steps, I)).astype("float32")
    alone = rnnfast.Sequential([rnnfast.Input((None, I)), layer])
    for _ in range(3):
        lengths = rng.integers(0, steps + 1, rows)
        some, all_steps = {"mask": rng.random((rows, steps)) < 0.6}, {"mask": np.ones((rows, steps), bool)}
        for which in ({}, {"lengths": lengths}, some, all_steps, {"lengths": np.full(rows, steps)}):
            y = model.predict_on_batch(x, **which)
            valid = which.get("mask", np.arange(steps) < which.get("lengths", np.full(rows, steps))[:, None])
            for row in range(rows):
                wanted = np.zeros((steps, 40), "float32")
                if valid[row].any():
                    wanted[valid[row]] = alone.predict_on_batch(x[row : row + 1, valid[row]])[0]
                for t in np.flatnonzero(~valid[row][1:]) + 1:
                    wanted[t] = 0 if zeros else wanted[t - 1]
                np.testing.assert_array_equal(y[row], wanted)


@quick
@problems
def test_masked_steps_have_no_gradient_of_their_own(cell, batch, steps, seed, density):
    rng, x, mask = draw(batch, steps, density, seed)
    layer = layer_of(cell, return_sequences=True)
    dy = rng.normal(size=(batch, steps, H))
    found = layer.vjp(x, dy, mask=mask)
    assert not found["x"][~mask].any()
    again = layer.vjp(np.where(mask[..., None], x, 9.0), dy, mask=mask)
    for a, b in zip(found["weights"], again["weights"], strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("merge", cases.MERGES)
@pytest.mark.parametrize("cell", CELLS)
def test_bidirectional_is_its_own_mirror(cell, merge, rng):
    """Reversed input and swapped weights give the reversed output with its halves swapped."""
    spec = ("Bidirectional", {"layer": cases.recurrent(cell, 5, return_sequences=True), "merge_mode": merge})
    p = cases.problem(spec, (4, 6, I), rng, "holes")
    layer, mirror = p.build(rnnfast, "float64"), p.build(rnnfast, "float64")
    half = len(p.oracle.weights) // 2
    mirror.set_weights(p.oracle.weights[half:] + p.oracle.weights[:half])
    y = cases.as_list(layer(p.x, mask=p.mask))
    z = [a[:, ::-1] for a in cases.as_list(mirror(p.x[:, ::-1], mask=p.mask[:, ::-1]))]
    if merge == "concat":
        z = [np.concatenate([z[0][..., 5:], z[0][..., :5]], axis=-1)]
    assert close(y, z[::-1] if merge is None else z)


@pytest.mark.parametrize("cell", CELLS)
def test_a_backward_direction_starts_at_the_last_valid_step(cell, rng):
    spec = ("Bidirectional", {"layer": cases.recurrent(cell, 5, **FULL)})
    p = cases.problem(spec, (1, 6, I), rng)
    layer = cases.build(rnnfast, spec, "float64")
    layer.build((None, None, I))
    layer.set_weights(p.oracle.weights)
    y, *states = layer(p.x, lengths=np.array([4]))
    short, *final = layer(p.x[:, :4])
    assert close(y[:, :4], short)
    assert close(states, final)
    assert not y[:, 4:].any()


@pytest.mark.parametrize("cell", CELLS)
def test_all_rows_of_zero_length(cell, dtype, rng):
    spec = cases.recurrent(cell, 5, **FULL)
    layer = cases.problem(spec, (3, 4, I), rng).build(rnnfast, dtype)
    x = rng.normal(size=(3, 4, I)).astype(dtype)
    for array in layer(x, lengths=np.zeros(3, int)):
        assert not array.any()
    found = layer.vjp(x, np.ones((3, 4, 5), dtype), lengths=np.zeros(3, int))
    assert not any(g.any() for g in [found["x"], *found["weights"]])


@pytest.mark.parametrize("kind", ["GlobalAveragePooling1D", "GlobalMaxPooling1D"])
def test_pooling_looks_at_valid_steps(kind, dtype, rng):
    x = rng.normal(size=(4, 5, 3)).astype(dtype)
    mask = np.array([[1, 1, 1, 1, 1], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]], bool)
    x[~mask] = np.nan
    oracle = reference.make((kind, {}), [])
    layer = getattr(rnnfast.layers, kind)(dtype=dtype)
    layer.build((None, None, 3))
    assert max_rel_error(layer(x, mask=mask), reference.call(oracle, x, mask=mask)) <= cases.bound(dtype)[0]
    dy = rng.normal(size=(4, 3)).astype(dtype)
    assert max_rel_error(layer.vjp(x, dy, mask=mask)["x"], reference.vjp(oracle, x, dy, mask=mask)["x"]) <= 2e-6
