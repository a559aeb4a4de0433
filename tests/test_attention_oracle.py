"""Attention layers equal a float64 oracle, forward and back, whatever is masked, seen and scored."""

import numpy as np
import pytest

from rnnfast import layers
from tests.attention_cases import SCORES, SEEN, SIZES, Problem
from tests.conftest import max_rel_error

BOUNDS = {"float64": (1e-12, 1e-11), "float32": (1e-6, 2e-6)}


def check(p, dtype):
    found, (ys, xs, weights) = p.vjp(), p.expected()
    forward, back = BOUNDS[dtype]
    for got, ref in zip(found["y"], ys, strict=True):
        assert max_rel_error(got, ref) < forward
    for got, ref in zip([*found["x"], *found["weights"]], [*xs, *weights], strict=True):
        assert max_rel_error(got, ref) < back


@pytest.mark.parametrize("masked", [False, True], ids=["full", "masked"])
@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("score", SCORES)
def test_every_score_and_what_is_seen(score, seen, masked, rng, dtype):
    check(Problem(score, seen, "small", rng, dtype, masked), dtype)


@pytest.mark.parametrize("size", list(SIZES)[1:])
@pytest.mark.parametrize("score", ["scaled", "additive"])
@pytest.mark.parametrize("seen", ["all", "causal-window"])
def test_sizes_beyond_a_block_and_a_panel(score, seen, size, rng, dtype):
    check(Problem(score, seen, size, rng, dtype, masked=size == "wide"), dtype)


@pytest.mark.parametrize("score", ["dot-scale", "additive", "concat-scale", "additive-units"])
def test_value_as_key(score, rng, dtype):
    check(Problem(score, "all", "small", rng, dtype, masked=True, own_key=False), dtype)


def test_self_attention(rng, dtype):
    x, dy = rng.standard_normal((2, 5, 4)).astype(dtype), rng.standard_normal((2, 5, 4)).astype(dtype)
    both = layers.Attention(dtype=dtype).vjp([x, x.copy()], dy)
    from rnnfast import Input, Model

    inlet = Input((None, 4), dtype=dtype)
    model = Model(inlet, layers.Attention(dtype=dtype)([inlet, inlet]))
    assert max_rel_error(model.vjp(x, dy)["x"], sum(both["x"])) < 1e-5 if dtype == "float32" else 1e-13


@pytest.mark.parametrize("units", [None, 3])
def test_pooling(units, rng, dtype):
    x, dy = rng.standard_normal((4, 6, 5)).astype(dtype), rng.standard_normal((4, 5)).astype(dtype)
    lengths = np.array([6, 2, 0, 4])
    layer = layers.AttentionPooling1D(units, dtype=dtype, return_attention_scores=True)
    found = layer.vjp(x, dy, lengths=lengths)
    weights = [w.numpy().astype(np.float64) for w in layer.weights]
    for i, n in enumerate(lengths):
        steps = x[i, :n].astype(np.float64)
        hidden = steps if units is None else np.tanh(steps @ weights[0] + weights[1])
        e = np.exp(hidden @ weights[-1][0])
        a = e / e.sum()
        assert max_rel_error(found["y"][0][i], a @ steps if n else np.zeros(5)) < BOUNDS[dtype][0]
        assert max_rel_error(found["y"][1][i, :n], a) < BOUNDS[dtype][0]
        assert not found["y"][1][i, n:].any() and not found["x"][i, n:].any()
