"""Episodes inside a window behave exactly like separate sequences: outputs, gradients, training."""

from itertools import pairwise

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Model, Sequential, layers, optimizers
from rnnfast.errors import ShapeError
from tests.conftest import max_rel_error

B, T, F = 4, 11, 3
CELLS = {
    "SimpleRNN": lambda units=9, **k: layers.SimpleRNN(units, **k),
    "LSTM": lambda units=9, **k: layers.LSTM(units, **k),
    "GRU": lambda units=9, **k: layers.GRU(units, **k),
    "GRU-before": lambda units=9, **k: layers.GRU(units, reset_after=False, **k),
}


def made(layer, dtype=None):
    return Sequential([Input((None, F), dtype=dtype or layer.dtype), layer])


def episodes(resets):
    """(begin, end) of each episode of one row."""
    cuts = [0, *(t for t in np.flatnonzero(resets) if t), len(resets)]
    return list(pairwise(cuts))


def separate(model, x, dy, resets, valid=None, flipped=False):
    """Outputs and gradients of the episodes, each a sequence of its own."""
    y, dx, weights = np.zeros_like(dy), np.zeros_like(x), None
    for row in range(len(x)):
        for begin, end in episodes(resets[row]):
            out = slice(T - end, T - begin) if flipped else slice(begin, end)
            mask = None if valid is None else valid[row : row + 1, begin:end]
            found = model.vjp(x[row : row + 1, begin:end], dy[row : row + 1, out], mask=mask)
            y[row, out], dx[row, begin:end] = found["y"][0], found["x"][0]
            weights = found["weights"] if weights is None else [a + b for a, b in zip(weights, found["weights"], strict=True)]
    return y, dx, weights


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_episodes_are_separate_sequences_bit_for_bit(cell, backwards, rng, dtype):
    model = made(CELLS[cell](dtype=dtype, return_sequences=True, go_backwards=backwards), dtype)
    x, dy = rng.standard_normal((B, T, F)).astype(dtype), rng.standard_normal((B, T, 9)).astype(dtype)
    resets = rng.random((B, T)) < 0.3
    found = model.vjp(x, dy, resets=resets)
    y, dx, weights = separate(model, x, dy, resets, flipped=backwards)
    np.testing.assert_array_equal(found["y"], y)
    np.testing.assert_array_equal(found["x"], dx)
    np.testing.assert_array_equal(model.predict_on_batch(x, resets=resets), y)
    for a, b in zip(found["weights"], weights, strict=True):  # summed in another order
        assert max_rel_error(a, b) < (1e-5 if dtype == "float32" else 1e-13)


def test_both_directions_and_a_stack(rng):
    inner = [layers.Bidirectional(layers.LSTM(4, dtype="float64", return_sequences=True)), layers.GRU(5, dtype="float64", return_sequences=True)]
    model = Sequential([Input((None, F), dtype="float64"), *inner, layers.TimeDistributed(layers.Dense(2, dtype="float64"))])
    x, dy = rng.standard_normal((B, T, F)), rng.standard_normal((B, T, 2))
    resets = rng.random((B, T)) < 0.3
    found = model.vjp(x, dy, resets=resets)
    y, dx, weights = separate(model, x, dy, resets)
    np.testing.assert_array_equal(found["y"], y)
    assert max_rel_error(found["x"], dx) < 1e-14
    assert all(max_rel_error(a, b) < 1e-13 for a, b in zip(found["weights"], weights, strict=True))


@pytest.mark.parametrize("cell", CELLS)
def test_masked_steps(cell, rng):
    """A reset at a masked step counts for the valid step after it."""
    model = made(CELLS[cell](dtype="float64", return_sequences=True, zero_output_for_mask=True))
    x, dy = rng.standard_normal((B, T, F)), rng.standard_normal((B, T, 9))
    resets, valid = rng.random((B, T)) < 0.3, rng.random((B, T)) < 0.6
    valid[1] = False
    found = model.vjp(x, dy, resets=resets, mask=valid)
    y, dx, weights = separate(model, x, dy, resets, valid)
    np.testing.assert_array_equal(found["y"], y)
    np.testing.assert_array_equal(model.predict_on_batch(x, resets=resets, mask=valid), y)
    np.testing.assert_array_equal(found["x"], dx)
    assert all(max_rel_error(a, b) < 1e-13 for a, b in zip(found["weights"], weights, strict=True))


def test_final_output_and_carried_state_are_those_of_the_last_episode(rng):
    x = rng.standard_normal((B, T, F))
    resets = np.zeros((B, T), bool)
    resets[:, 0] = resets[:, 4] = True
    for cell in CELLS.values():
        plain = made(cell(dtype="float64"))
        np.testing.assert_array_equal(plain.predict_on_batch(x, resets=resets), plain.predict_on_batch(x[:, 4:]))
        stateful = made(cell(dtype="float64", stateful=True))
        stateful.set_weights(plain.get_weights())
        stateful.predict_on_batch(x[:, :3])
        np.testing.assert_array_equal(stateful.predict_on_batch(x, resets=resets), plain.predict_on_batch(x[:, 4:]))
        np.testing.assert_array_equal(stateful.predict_on_batch(x[:, :2]), plain.predict_on_batch(np.concatenate([x[:, 4:], x[:, :2]], axis=1)))


def test_initial_states_get_no_gradient_from_beyond_a_reset(rng):
    layer = layers.LSTM(4, dtype="float64", return_sequences=True)
    layer.build((None, None, F))
    x, dy, h = rng.standard_normal((B, T, F)), rng.standard_normal((B, T, 4)), rng.standard_normal((2, B, 4))
    resets = np.zeros((B, T), bool)
    resets[0, 0], resets[1, 3] = True, True
    found = layer.runner().vjp(x, dy, initial_state=list(h), resets=resets)["initial_state"]
    first = layer.runner().vjp(x[:, :3], dy[:, :3], initial_state=list(h))["initial_state"]
    for a, b in zip(found, first, strict=True):
        assert not a[0].any() and (a[1] == b[1]).all() and a[2].any()


@pytest.mark.parametrize("units", [9, 300])  # the large one is shared between threads by units
@pytest.mark.parametrize("cell", CELLS)
def test_results_do_not_depend_on_threads(cell, units, rng):
    x, dy, resets = rng.standard_normal((3, 7, F)), rng.standard_normal((3, 7, units)), rng.random((3, 7)) < 0.4
    layer = CELLS[cell](units, dtype="float64", return_sequences=True, recurrent_initializer="glorot_uniform")
    kept, found = rnnfast.get_num_threads(), []
    for threads in (1, 2):
        rnnfast.set_num_threads(threads)
        got = made(layer).vjp(x, dy, resets=resets)
        found.append([got["y"], got["x"], *got["weights"]])
    rnnfast.set_num_threads(kept)
    assert all((a == b).all() for a, b in zip(*found, strict=True))


def test_recurrent_dropout_drops_the_same_in_every_episode(rng):
    """With one row and one mask for all its steps, an episode repeated in the window has the same output again."""
    model = made(layers.GRU(6, dtype="float64", return_sequences=True, recurrent_dropout=0.5, seed=3))
    x = np.tile(rng.standard_normal((1, 4, F)), (1, 2, 1))
    resets = np.arange(8)[None] == 4
    y = model.runner().predict(x, resets=resets, training=True)
    np.testing.assert_array_equal(y[:, :4], y[:, 4:])


def test_training_on_windows_is_training_on_episodes(rng):
    x, y = rng.standard_normal((8, T, F)), rng.standard_normal((8, T, 1))
    resets = rng.random((8, T)) < 0.3
    pieces = [(row, begin, end) for row in range(8) for begin, end in episodes(resets[row])]
    longest = max(end - begin for _, begin, end in pieces)
    short_x, short_y = np.zeros((len(pieces), longest, F)), np.zeros((len(pieces), longest, 1))
    for i, (row, begin, end) in enumerate(pieces):
        short_x[i, : end - begin], short_y[i, : end - begin] = x[row, begin:end], y[row, begin:end]
    models = []
    for _ in range(2):
        rnnfast.utils.set_random_seed(3)
        model = Sequential([Input((None, F), dtype="float64"), layers.LSTM(5, return_sequences=True, dtype="float64"), layers.Dense(1, dtype="float64")])
        model.compile(optimizers.SGD(0.1), "mse", metrics=["mae"])
        models.append(model)
    whole = models[0].fit(x, y, batch_size=8, epochs=5, resets=resets, verbose=0, shuffle=False, validation_split=0.0)
    lengths = [end - begin for _, begin, end in pieces]
    apart = models[1].fit(short_x, short_y, batch_size=len(pieces), epochs=5, lengths=lengths, verbose=0, shuffle=False)
    for name in ("loss", "mae"):
        np.testing.assert_allclose(whole.history[name], apart.history[name], rtol=1e-12)
    assert all(max_rel_error(a, b) < 1e-12 for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True))
    np.testing.assert_allclose(models[0].evaluate(x, y, resets=resets, verbose=0), models[1].evaluate(short_x, short_y, lengths=lengths, verbose=0), rtol=1e-12)


def test_resets_follow_the_samples_into_batches_and_streams(rng):
    model = made(layers.GRU(2, dtype="float64", return_sequences=True))
    model.compile("sgd", "mse")
    x, resets = rng.standard_normal((10, T, F)), rng.random((10, T)) < 0.3
    whole = model.predict_on_batch(x, resets=resets)
    np.testing.assert_array_equal(model.predict(x, batch_size=4, resets=resets, verbose=0), whole)
    np.testing.assert_array_equal(model.predict_on_batch(x), model.predict(x, verbose=0))  # not left over from the call before
    assert (model.predict_on_batch(x) != whole).any()
    streamed = model.evaluate(iter([(x, whole, None, None, resets)]), verbose=0)
    assert streamed == model.test_on_batch(x, whole, resets=resets) == 0


def test_each_input_has_its_own_resets(rng):
    inputs = [Input((None, F), name="a", dtype="float64"), Input((None, F), name="b", dtype="float64")]
    halves = [layers.GRU(2, return_sequences=True, dtype="float64")(one) for one in inputs]
    model = Model(inputs, layers.Concatenate(dtype="float64")(halves))
    x, resets = rng.standard_normal((B, T, F)), rng.random((B, T)) < 0.3
    y = model.predict_on_batch([x, x], resets={"a": resets})
    np.testing.assert_array_equal(y[..., 2:], model.predict_on_batch([x, x])[..., 2:])
    assert (y[..., :2] != model.predict_on_batch([x, x])[..., :2]).any()


@pytest.mark.parametrize("resets", [np.zeros((B, T + 1), bool), np.zeros(B, bool), np.zeros((B, T)), np.zeros((B, T), int)])
def test_wrong_resets(resets, rng):
    model = made(layers.GRU(2))
    with pytest.raises(ShapeError, match=r"resets of '.*' must be bool of shape \(4, 11\), got"):
        model.predict_on_batch(np.zeros((B, T, F)), resets=resets)


def test_too_few_rows_of_resets():
    with pytest.raises(ShapeError, match="resets must have 4 samples as x does, got 3"):
        made(layers.GRU(2)).predict(np.zeros((B, T, F)), resets=np.zeros((3, T), bool), verbose=0)


def test_models_without_episodes(rng):
    x, resets = np.zeros((B, T, F)), np.zeros((B, T), bool)
    with pytest.raises(ValueError, match="resets need a recurrent layer"):
        made(layers.Dense(2)).predict_on_batch(x, resets=resets)
    pooled = Sequential([Input((None, F)), layers.GRU(2, return_sequences=True), layers.GlobalMaxPooling1D()])
    with pytest.raises(ValueError, match=r"GlobalMaxPooling1D .* mixes steps of different episodes"):
        pooled.predict_on_batch(x, resets=resets)
