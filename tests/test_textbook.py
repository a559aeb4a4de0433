"""The equations of textbooks hold as they are printed: each oracle is written letter by letter, and weights are converted to and fro."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast
from rnnfast.errors import ShapeError
from rnnfast.layers.conversion import flip_update_gate, from_concatenated, to_concatenated
from tests.conftest import max_rel_error

I, H, T = 5, 7, 9


def sigmoid(a):
    return 1.0 / (1.0 + np.exp(-a))


def book_rnn(x, W, U, b):
    """y_t = f(W x_t + U y_{t-1} + b)."""
    y, ys = np.zeros(H), []
    for x_t in x:
        y = np.tanh(W @ x_t + U @ y + b)
        ys.append(y)
    return np.array(ys)


def book_lstm(x, W_f, b_f, W_i, b_i, W_C, b_C, W_o, b_o):
    """f, i, o = s(W [h, x] + b), C~ = tanh(W_C [h, x] + b_C), C = f C + i C~, h = o tanh(C)."""
    h, C, hs = np.zeros(H), np.zeros(H), []
    for x_t in x:
        hx = np.concatenate([h, x_t])
        f_t = sigmoid(W_f @ hx + b_f)
        i_t = sigmoid(W_i @ hx + b_i)
        C_new = np.tanh(W_C @ hx + b_C)
        C = f_t * C + i_t * C_new
        o_t = sigmoid(W_o @ hx + b_o)
        h = o_t * np.tanh(C)
        hs.append(h)
    return np.array(hs)


def book_gru(x, W_z, b_z, W_r, b_r, W, b):
    """z, r = s(W [h, x] + b), h~ = tanh(W [r*h, x] + b), h = (1 - z) h + z h~."""
    h, hs = np.zeros(H), []
    for x_t in x:
        hx = np.concatenate([h, x_t])
        z_t = sigmoid(W_z @ hx + b_z)
        r_t = sigmoid(W_r @ hx + b_r)
        h_new = np.tanh(W @ np.concatenate([r_t * h, x_t]) + b)
        h = (1.0 - z_t) * h + z_t * h_new
        hs.append(h)
    return np.array(hs)


def run(layer, weights, x):
    layer.build((None, None, I))
    layer.set_weights(weights)
    return layer(x[None])[0]


@pytest.fixture
def drawn(rng):
    """Four matrices for [h, x], four biases, an input."""
    return rng.normal(0, 0.5, (4, H, H + I)), rng.normal(0, 0.3, (4, H)), rng.normal(size=(T, I))


def test_the_simple_rnn(rng, drawn):
    W, U, b, x = rng.normal(size=(H, I)), rng.normal(0, 0.5, (H, H)), rng.normal(size=H), drawn[2]
    layer = rnnfast.layers.SimpleRNN(H, return_sequences=True, dtype="float64")
    assert max_rel_error(run(layer, [W.T, U.T, b], x), book_rnn(x, W, U, b)) < 1e-13


def test_the_lstm_of_concatenated_matrices(drawn):
    (W_f, W_i, W_C, W_o), (b_f, b_i, b_C, b_o), x = drawn
    layer = rnnfast.layers.LSTM(H, return_sequences=True, dtype="float64")
    found = run(layer, from_concatenated([W_i, W_f, W_C, W_o], [b_i, b_f, b_C, b_o]), x)
    assert max_rel_error(found, book_lstm(x, W_f, b_f, W_i, b_i, W_C, b_C, W_o, b_o)) < 1e-13


def test_the_gru_of_the_other_update_gate(drawn):
    (W_z, W_r, W, _), (b_z, b_r, b, _), x = drawn
    layer = rnnfast.layers.GRU(H, reset_after=False, return_sequences=True, dtype="float64")
    found = run(layer, flip_update_gate(from_concatenated([W_z, W_r, W], [b_z, b_r, b])), x)
    assert max_rel_error(found, book_gru(x, W_z, b_z, W_r, b_r, W, b)) < 1e-13


@pytest.mark.parametrize("gates", [1, 3, 4])
@pytest.mark.parametrize("state_first", [True, False])
def test_conversions_undo_each_other(gates, state_first, drawn):
    matrices, biases = drawn[0][:gates], drawn[1][:gates]
    weights = from_concatenated(matrices, biases, state_first)
    assert [w.shape for w in weights] == [(I, gates * H), (H, gates * H), (gates * H,)]
    back, vectors = to_concatenated(weights, state_first)
    assert np.array_equal(back, matrices) and np.array_equal(vectors, biases)
    assert to_concatenated(from_concatenated(matrices, None, state_first), state_first)[1] is None


def test_columns_of_the_input_may_stand_first(drawn):
    swapped = [np.hstack([m[:, H:], m[:, :H]]) for m in drawn[0]]
    for a, b in zip(from_concatenated(swapped, state_first=False), from_concatenated(drawn[0]), strict=True):
        assert np.array_equal(a, b)


def test_the_update_gate_flips_with_both_biases(rng):
    layer = rnnfast.layers.GRU(4, dtype="float64")
    layer.build((None, None, 3))
    weights = [rng.normal(size=w.shape) for w in layer.get_weights()]
    flipped = flip_update_gate(weights)
    assert np.array_equal(flipped[2][:, :4], -weights[2][:, :4]) and np.array_equal(flipped[2][:, 4:], weights[2][:, 4:])
    for a, b in zip(flip_update_gate(flipped), weights, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    "call",
    [
        lambda: from_concatenated([np.ones((3, 3))]),
        lambda: from_concatenated([]),
        lambda: from_concatenated([np.ones((3, 5)), np.ones((3, 6))]),
        lambda: from_concatenated([np.ones((3, 5))], [np.ones(4)]),
        lambda: to_concatenated([np.ones((2, 8)), np.ones((3, 8))]),
        lambda: to_concatenated([np.ones((2, 9)), np.ones((3, 9)), np.ones((2, 9))]),
        lambda: flip_update_gate([np.ones((2, 8))]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call):
    with pytest.raises(ShapeError, match="must"):
        call()


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("batch", [1, 6])
def test_a_gru_with_its_gates_held_open_is_the_simple_rnn(batch, reset_after, dtype, rng):
    """Reset gate 1, update gate all new: bit for bit."""
    kernel, recurrent, bias = (rng.normal(0, 0.4, shape).astype(dtype) for shape in ((I, H), (H, H), (H,)))
    x = rng.normal(size=(batch, T, I)).astype(dtype)
    simple = rnnfast.layers.SimpleRNN(H, return_sequences=True, dtype=dtype)
    gru = rnnfast.layers.GRU(H, reset_after=reset_after, return_sequences=True, dtype=dtype)
    for layer in (simple, gru):
        layer.build((None, None, I))
    simple.set_weights([kernel, recurrent, bias])
    held = np.concatenate([np.full(H, -1e4), np.full(H, 1e4), bias])
    gates = [np.hstack([np.zeros_like(w), np.zeros_like(w), w]) for w in (kernel, recurrent)]
    gru.set_weights([*gates, np.stack([held, np.zeros(3 * H)]) if reset_after else held])
    assert np.array_equal(gru(x), simple(x))
