"""Truncated back-propagation through time trains as its definition says, window by window."""

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Model, Sequential, layers, optimizers
from rnnfast.errors import ShapeError
from tests import reference
from tests.conftest import max_rel_error

B, T, F, H = 3, 11, 2, 4
LENGTHS = np.array([11, 6, 9])
CELLS = {
    "SimpleRNN": lambda **k: layers.SimpleRNN(H, **k),
    "LSTM": lambda **k: layers.LSTM(H, **k),
    "GRU": lambda **k: layers.GRU(H, **k),
    "GRU-before": lambda **k: layers.GRU(H, reset_after=False, **k),
}
WIDE = {  # whose states are of another width than `units`
    "ProjectedLSTM": lambda **k: layers.ProjectedLSTM(H, 3, **k),
    "Statal": lambda **k: layers.Statal(H, activation="tanh", state="trace", slots=2, **k),
}


def made(cell="LSTM", dtype="float64", optimizer=None, **compiled):
    rnnfast.utils.set_random_seed(1)
    inner = [(CELLS | WIDE)[cell](return_sequences=True, dtype=dtype), layers.Dense(1, dtype=dtype)]
    model = Sequential([Input((None, F), dtype=dtype), *inner])
    model.compile(optimizer or optimizers.SGD(0.5), loss="mse", **compiled)
    return model


def data(rng, batch=B):
    return rng.standard_normal((batch, T, F)), rng.standard_normal((batch, T, 1))


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("cell", CELLS | WIDE)
def test_one_window_is_full_back_propagation_bit_for_bit(cell, lengths, rng, dtype):
    models = [made(cell, dtype, optimizers.Adam(0.01)) for _ in range(2)]
    for _ in range(3):
        x, y = data(rng)
        losses = [models[0].train_on_batch(x, y, lengths=lengths), models[1].train_on_batch(x, y, lengths=lengths, truncate=(T, T + 5))]
        assert losses[0] == losses[1]
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def written_out(weights, cell, rate, k1, k2, x, y, valid):
    """The definition in NumPy: returns the weights and the mean of the windows' losses."""
    weights = [w.astype(np.float64) for w in weights]
    kind, fixed = cell.split("-")[0], {"reset_after": False} if cell == "GRU-before" else {}
    states = [np.zeros((len(x), H)) for _ in range(2 if kind == "LSTM" else 1)]
    at, losses, sizes = 0, [], []

    def layer():
        return reference.make((kind, {"units": H, "return_sequences": True, "return_state": True, **fixed}), weights[:-2])

    for last in range(0, T, k1):
        end = min(T, last + k1)
        begin = max(0 if k2 > k1 else last, end - k2)
        new = max(begin, last)
        counts = valid[:, begin:end] & (np.arange(begin, end) >= new)
        if not counts.any():
            continue
        if begin > at:
            states, at = layer().forward(x[:, at:begin], valid[:, at:begin], states)[0][1:], begin
        h, *final = layer().forward(x[:, begin:end], valid[:, begin:end], states)[0]
        error = np.where(counts[..., None], h @ weights[-2] + weights[-1] - y[:, begin:end], 0.0)
        losses.append((error**2).sum() / counts.sum())
        sizes.append(counts.sum())
        slope = 2.0 * error / counts.sum()
        back = reference.vjp(layer(), x[:, begin:end], slope @ weights[-2].T, mask=valid[:, begin:end], initial_state=states, dstates=[None] * len(states))
        gradients = [*back["weights"], np.einsum("bti,btj->ij", h, slope), slope.sum((0, 1))]
        if k2 <= k1:
            states, at = final, end
        weights = [w - rate * g for w, g in zip(weights, gradients, strict=True)]
    return weights, np.average(losses, weights=sizes)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("truncate", [(3, 3), (4, 4), (1, 1), (2, 5), (3, 6), (4, 2), (5, 20), (20, 3)])
@pytest.mark.parametrize("cell", CELLS)
def test_windows_are_those_of_the_definition(cell, truncate, lengths, rng):
    model = made(cell)
    x, y = data(rng)
    valid = np.arange(T) < (np.full(B, T) if lengths is None else lengths)[:, None]
    expected, loss = written_out(model.get_weights(), cell, 0.5, *(min(k, T) for k in truncate), x, y, valid)
    assert model.train_on_batch(x, y, lengths=lengths, truncate=truncate) == pytest.approx(loss, rel=1e-11)
    for w, e in zip(model.get_weights(), expected, strict=True):
        assert max_rel_error(w, e) < 1e-11


def test_fit_makes_an_update_for_each_window_of_each_batch(rng):
    model = made(metrics=["mae"])
    x, y = data(rng, 8)
    history = model.fit(x, y, batch_size=4, epochs=2, truncate=(4, 4), verbose=0)
    assert model.optimizer.iterations == 2 * 2 * 3
    assert set(history.history) == {"loss", "mae"}
    model.fit(x, y, batch_size=4, epochs=1, verbose=0)  # without it: one a batch again
    assert model.optimizer.iterations == 2 * 2 * 3 + 2


def test_predictions_are_those_before_each_update(rng):
    x, y = data(rng)
    model = made(optimizer=optimizers.SGD(0.0), metrics=["mse"])
    loss, mse = model.train_on_batch(x, y, truncate=(3, 5))
    assert mse == pytest.approx(model.evaluate(x, y, verbose=0)[1]) == pytest.approx(loss)


def test_states_are_carried_and_start_from_zero_with_every_batch(rng):
    x, y = data(rng)
    model = made(optimizer=optimizers.SGD(0.0))
    whole = model.test_on_batch(x, y)
    for _ in range(2):
        assert model.train_on_batch(x, y, truncate=(4, 4)) == pytest.approx(whole, rel=1e-12)


def test_steps_of_a_row_that_has_ended_are_left_out(rng):
    x, y = data(rng)
    models = [made(), made()]
    models[0].train_on_batch(x, y, lengths=[3, 3, 3], truncate=(3, 3))
    models[1].train_on_batch(x[:, :3], y[:, :3], truncate=(3, 3))
    assert models[0].optimizer.iterations == 1
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_losses_of_the_last_steps_and_resets_are_cut_with_the_windows(rng):
    x, y = data(rng)
    weight, resets = rng.random((B, T)), rng.random((B, T)) < 0.3
    whole = made(optimizer=optimizers.SGD(0.0), loss_steps=4)
    value = whole.test_on_batch(x, y, sample_weight=weight, resets=resets)
    assert whole.train_on_batch(x, y, sample_weight=weight, resets=resets, truncate=(3, 7)) == pytest.approx(value, rel=1e-12)
    assert whole.optimizer.iterations == 2  # the last four steps lie in two windows of three


def test_results_do_not_depend_on_threads(rng):
    x, y = data(rng, 8)
    kept, found = rnnfast.get_num_threads(), []
    for threads in (1, 2):
        rnnfast.set_num_threads(threads)
        model = made("GRU")
        model.fit(x, y, batch_size=4, truncate=(3, 5), verbose=0, shuffle=False)
        found.append(model.get_weights())
    rnnfast.set_num_threads(kept)
    assert all((a == b).all() for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("truncate", [0, (1,), (0, 3), (3, 0), (-1, 2), (2.5, 3), (True, 2), "ab", (1, 2, 3)])
def test_numbers_of_no_sense(truncate, rng):
    with pytest.raises(ValueError, match=r"truncate must be two positive integers \(k1, k2\)"):
        made().fit(*data(rng), truncate=truncate, verbose=0)


def compiled(*inner):
    model = Sequential([Input((None, F)), *inner])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: compiled(layers.Dense(1)), "truncate needs a recurrent layer"),
        (lambda: compiled(layers.LSTM(3), layers.Dense(1)), "set return_sequences=True"),
        (lambda: compiled(layers.Bidirectional(layers.GRU(3, return_sequences=True)), layers.Dense(1)), "against time"),
        (lambda: compiled(layers.GRU(3, return_sequences=True, go_backwards=True), layers.Dense(1)), "against time"),
        (lambda: compiled(layers.GRU(3, return_sequences=True), layers.GlobalAveragePooling1D(), layers.Dense(1)), "more than one step at a time"),
        (lambda: compiled(layers.GRU(3, return_sequences=True, stateful=True), layers.Dense(1)), "set stateful=False"),
    ],
)
def test_models_that_cannot_be_cut(model, message, rng):
    x, y = data(rng)
    with pytest.raises(ValueError, match=message):
        model().train_on_batch(x, y, truncate=(2, 2))


def test_several_inputs_and_targets_of_the_wrong_length(rng):
    inputs = [Input((None, F), name="a"), Input((None, F), name="b")]
    model = Model(inputs, layers.GRU(1, return_sequences=True)(layers.Add()(inputs)))
    model.compile("sgd", "mse")
    x, y = data(rng)
    with pytest.raises(ValueError, match="truncate needs one input and one output, got 2 and 1"):
        model.train_on_batch([x, x], y, truncate=(2, 2))
    with pytest.raises(ShapeError, match=r"y must begin with \(3, 11\), got \(3, 1\)"):
        made().train_on_batch(x, y[:, 0], truncate=(2, 2))
