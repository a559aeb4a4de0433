"""Attention gives the same bits for any number of threads, padding and order of rows, forward and back, and defined results where nothing is seen."""

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Model, layers
from tests.attention_cases import SCORES, Problem


@pytest.fixture
def threads():
    before = rnnfast.get_num_threads()
    yield rnnfast.set_num_threads
    rnnfast.set_num_threads(before)


@pytest.mark.parametrize("size", ["one-row", "wide"])
@pytest.mark.parametrize("score", ["dot-scale", "general", "concat-scale", "additive"])
def test_threads(score, size, threads, rng, dtype):
    p = Problem(score, "causal", size, rng, dtype, masked=size == "wide")
    results = []
    for n in (1, 2, 3):
        threads(n)
        results.append(p.vjp())
    for other in results[1:]:
        for name in ("y", "x", "weights"):
            assert all(np.array_equal(a, b) for a, b in zip(results[0][name], other[name], strict=True))


@pytest.mark.parametrize("score", SCORES)
def test_order_of_rows_and_padding(score, rng, dtype):
    p = Problem(score, "window", "wide", rng, dtype, own_key=False)
    steps, times = p.xs[0].shape[1], p.xs[1].shape[1]
    lengths = [np.array([35, 3, 0, 20]), np.array([70, 1, 9, 0])]
    y, shown = p.layer(p.xs, lengths=lengths)
    order = np.array([2, 0, 3, 1])
    layer = type(p.layer).from_config(p.layer.get_config())
    layer.build([(None, None, x.shape[-1]) for x in p.xs])
    layer.set_weights(p.layer.get_weights())
    wider = [np.concatenate([x[order], np.full_like(x[:, :5], np.nan)], 1) for x in p.xs]
    again, shown_again = layer(wider, lengths=[n[order] for n in lengths])
    assert np.array_equal(again[:, :steps], y[order]) and not again[:, steps:].any()
    assert np.array_equal(shown_again[:, :steps, :times], shown[order])


@pytest.mark.parametrize("score", ["dot", "general", "concat-scale", "additive-units"])
def test_nothing_is_seen(score, rng, dtype):
    p = Problem(score, "all", "small", rng, dtype)
    p.xs[1][1] = np.nan  # of a row that is masked
    p.masks = [np.ones((3, 4), bool), np.array([[True] * 5, [False] * 5, [False] * 4 + [True]])]
    p.xs[2][1] = np.nan
    found = p.vjp()
    assert not found["y"][0][1].any() and not found["y"][1][1].any()
    assert all(np.isfinite(g).all() for g in [*found["y"], *found["x"], *found["weights"]])
    assert not any(g[1].any() for g in found["x"])


@pytest.mark.parametrize("batch, steps, times", [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
@pytest.mark.parametrize("score", ["dot-scale", "additive-units"])
def test_empty_extents(score, batch, steps, times):
    make, options, _ = SCORES[score]
    layer = make(return_attention_scores=True, **options)
    layer.build([(None, None, 3), (None, None, 3)])
    xs = [np.ones((batch, steps, 3), np.float32), np.ones((batch, times, 3), np.float32)]
    found = layer.vjp(xs, [np.ones((batch, steps, 3), np.float32), np.ones((batch, steps, times), np.float32)])
    assert found["y"][0].shape == (batch, steps, 3) and found["y"][1].shape == (batch, steps, times)
    assert all(not np.asarray(g).any() for g in [*found["y"], *found["x"], *found["weights"]])


def test_large_scores_do_not_overflow(dtype):
    query, value = np.full((1, 2, 4), 300, dtype), np.stack([np.full((3, 4), 300), np.zeros((3, 4))], 1)[:1].reshape(1, -1, 4).astype(dtype)
    y = layers.Attention(dtype=dtype)([query, value])
    assert np.isfinite(y).all() and y.max() == 300


def test_dropout_is_repeatable_and_goes_by_row_and_step(rng):
    query, value = rng.standard_normal((2, 30, 4)), np.ones((2, 50, 1))
    inlets = Input((None, 4), dtype="float64"), Input((None, 1), dtype="float64"), Input((None, 4), dtype="float64")
    layer = layers.Attention(dropout=0.5, seed=3, dtype="float64", return_attention_scores=True)
    model = Model(list(inlets), layer(list(inlets)))
    key = np.zeros((2, 50, 4))
    y, shown = model([query, value, key], training=True)
    kept = shown > 0
    assert 0.4 < kept.mean() < 0.6 and np.allclose(shown[kept], 2 / 50) and np.allclose(y[..., 0], shown.sum(-1))
    assert (model([query, value, key])[1] == 1 / 50).all()
    layer.seeds.set_state((3, 0))
    first = model.vjp([query, value, key], [np.ones((2, 30, 1)), None], training=True)
    assert np.array_equal(first["y"][1], shown) and np.allclose(first["x"][1][..., 0], shown.sum(1))


def plan_bytes(layer, time):
    """Memory of the plan of self-attention over one sequence."""
    inlet = Input((None, 8))
    return Model(inlet, layer([inlet, inlet])).plan(1, time).arena_bytes


def test_memory_of_a_long_sequence_is_linear():
    assert plan_bytes(layers.Attention(), 20000) < 10.1 * plan_bytes(layers.Attention(), 2000)


def test_a_window_holds_the_scores_of_the_window_alone():
    assert plan_bytes(layers.Attention(), 20000) - plan_bytes(layers.Attention(window=4), 20000) > 20000 * 4 * 31
