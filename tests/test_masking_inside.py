"""Masking behind layers that compute, and on an input that others read: the mask is made of values in the middle of a run. Keras, gradients, and laws."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Model, Sequential, layers
from tests.conftest import max_rel_error
from tests.gradients import central_differences, keras_floatx
from tests.peers import as_array, require

B, T, F = 5, 7, 3


def chain(*made):
    return lambda k, d: k.Sequential([k.Input((T, F), dtype=d), *(make(k.layers, {"dtype": d}) for make in made)])


def relu(units):
    return lambda L, o: L.Dense(units, activation="relu", **o)


def sequence(units):
    return lambda L, o: L.GRU(units, return_sequences=True, **o)


def mask(value=0.0):
    return lambda L, o: L.Masking(value, **o)


def _fork(k, d):
    x = k.Input((T, F), dtype=d)
    L, o = k.layers, {"dtype": d}
    return k.Model(x, L.Concatenate(**o)([L.LSTM(4, **o)(L.Masking(**o)(x)), L.GRU(3, **o)(x), L.GRU(3, **o)(L.Masking(0.5, **o)(x))]))


def _two(k, d):
    """Two masks one behind the other, and a branch without."""
    x = k.Input((T, F), dtype=d)
    L, o = k.layers, {"dtype": d}
    first = L.Dense(2, activation="relu", **o)(x)
    second = L.Dense(2, activation="relu", **o)(first)
    parts = [L.LSTM(4, **o)(L.Masking(**o)(first)), L.GRU(4, **o)(L.Masking(**o)(second)), L.SimpleRNN(4, **o)(second)]
    return k.Model(x, L.Add(**o)(parts))


MODELS = {
    "dense": chain(relu(2), mask(), sequence(4), lambda L, o: L.Dense(2, **o)),
    "dense, last": chain(relu(2), mask(), lambda L, o: L.LSTM(4, **o)),
    "normalised": chain(lambda L, o: L.LayerNormalization(**o), lambda L, o: L.Activation("relu", **o), relu(2), mask(), lambda L, o: L.Bidirectional(L.LSTM(3, **o), **o)),
    "steps": chain(lambda L, o: L.TimeDistributed(L.Dense(2, activation="relu", **o), **o), mask(), sequence(3), sequence(2)),
    "windows": chain(lambda L, o: L.Conv1D(2, 2, activation="relu", **o), mask(), sequence(3), lambda L, o: L.Dense(2, **o)),
    "recurrent": chain(lambda L, o: L.LSTM(2, activation="relu", return_sequences=True, **o), mask(), lambda L, o: L.SimpleRNN(4, go_backwards=True, **o)),
    "value": chain(relu(2), lambda L, o: L.Activation("sigmoid", **o), mask(0.5), sequence(4)),
    "zeros": chain(relu(2), mask(), lambda L, o: L.GRU(3, return_sequences=True, zero_output_for_mask=True, **o), mask(), lambda L, o: L.GRU(2, **o)),
    "itself": chain(relu(2), mask()),
    "softmax": chain(relu(2), mask(), lambda L, o: L.GRU(3, activation="softmax", return_sequences=True, **o)),
    "fork": _fork,
    "two": _two,
}


def values(rng):
    x = rng.normal(size=(B, T, F))
    x[rng.random((B, T)) < 0.4] = 0
    x[0, 2:4] = 0.5
    x[2] = 0
    return x


def made(name, rng, dtype="float64"):
    model = MODELS[name](rnnfast, dtype)
    model.set_weights([rng.normal(0, 0.7, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", MODELS)
def test_keras(name, rng):
    """Predictions, then three steps of training, the loss and a metric."""
    require("torch")
    x, ours = values(rng), made(name, rng)
    with keras_floatx("float64") as keras:
        theirs = MODELS[name](keras, "float64")
        theirs.set_weights(ours.get_weights())
        want = as_array(theirs.predict(x, verbose=0))
        assert max_rel_error(ours.predict(x, verbose=0), want) <= 1e-12
        y = rng.normal(size=want.shape)
        for model, optimizer in ((theirs, keras.optimizers.SGD(0.1)), (ours, rnnfast.optimizers.SGD(0.1))):
            model.compile(optimizer, "mse", metrics=["mae"])
            for _ in range(3 if model.get_weights() else 0):
                model.train_on_batch(x, y)
        for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            assert max_rel_error(a, b) <= 1e-11
        assert np.allclose(ours.evaluate(x, y, verbose=0), theirs.evaluate(x, y, verbose=0), rtol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_gradients(name, rng):
    model, x = made(name, rng), values(rng)
    weights = model.get_weights()
    dy = rng.normal(size=model.predict(x, verbose=0).shape)
    got = model.vjp(x, dy)

    def total():
        model.set_weights(weights)
        return float((model.predict(x, verbose=0) * dy).sum())

    for array, grad in zip(weights, got["weights"], strict=True):
        assert max_rel_error(grad, central_differences(total, array)) < 1e-7


@pytest.mark.parametrize("name", MODELS)
def test_the_same_bits(name, dtype, rng):
    """For any threads, alone, in another order, from several threads, and again behind other values."""
    model, x = made(name, rng, dtype), values(rng).astype(dtype)
    whole, threads = model.predict(x, verbose=0), rnnfast.get_num_threads()
    try:
        for n in (1, 2):
            rnnfast.set_num_threads(n)
            model.predict_on_batch(rng.normal(size=x.shape).astype(dtype))
            assert np.array_equal(model.predict_on_batch(x), whole)
    finally:
        rnnfast.set_num_threads(threads)
    assert np.array_equal(model.predict(x[::-1], verbose=0), whole[::-1])
    for row in range(B):
        assert np.array_equal(model.predict(x[row : row + 1], verbose=0)[0], whole[row])
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(y, whole) for y in pool.map(model.predict_on_batch, [x] * 20))


def test_it_is_the_mask_that_would_be_given(rng):
    """And lengths in front of it hold on: a step exists where both say so."""
    dense, rest = layers.Dense(2, activation="relu", dtype="float64"), layers.LSTM(4, return_sequences=True, dtype="float64")
    x = values(rng)
    model = Sequential([Input((None, F), dtype="float64"), dense, layers.Masking(dtype="float64"), rest])
    shown = dense(x)
    lengths = np.array([7, 5, 0, 3, 6])
    for given in (None, lengths):
        valid = (shown != 0).any(axis=2) & (True if given is None else np.arange(T) < given[:, None])
        assert np.array_equal(model.predict(x, lengths=given, verbose=0), rest(shown, mask=valid))
    initial = [rng.normal(size=(B, 4)) for _ in range(2)]
    assert np.array_equal(model.runner().predict(x, initial_state=initial), rest(shown, mask=(shown != 0).any(axis=2), initial_state=initial))
    dy = rng.normal(size=(B, T, 4))
    got = model.runner().vjp(x, dy, initial_state=initial)
    want = rest.vjp(shown, dy, mask=(shown != 0).any(axis=2), initial_state=initial)
    assert all(np.allclose(a, b, atol=1e-13) for a, b in zip(got["initial_state"], want["initial_state"], strict=True))


def test_targets_of_masked_steps_are_not_looked_at(rng):
    x = values(rng)
    model = Sequential([Input((None, F)), layers.Masking(), layers.GRU(4, return_sequences=True), layers.Dense(3)])
    inside = Sequential([Input((None, F)), layers.Activation("linear"), layers.Masking(), layers.GRU(4, return_sequences=True), layers.Dense(3)])
    inside.set_weights(model.get_weights())
    y = np.where((x != 0).any(axis=2), rng.integers(0, 3, (B, T)), -1)
    for one in (model, inside):
        one.compile("adam", rnnfast.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"], weighted_metrics=["accuracy"], loss_steps=3)
    found = [[one.train_on_batch(x, y, sample_weight=np.arange(B) / 3) for _ in range(3)] + [one.evaluate(x, y, verbose=0)] for one in (model, inside)]
    assert np.array_equal(*map(np.array, found))
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), inside.get_weights(), strict=True))
    wrong = y.copy()
    wrong[0, np.flatnonzero((x[0] != 0).any(axis=1))[-1]] = 7
    before = inside.get_weights()
    with pytest.raises(ValueError, match="7"):
        inside.train_on_batch(x, wrong)
    assert all(np.array_equal(a, b) for a, b in zip(before, inside.get_weights(), strict=True))


def test_several_outputs_stateful_layers_and_files(tmp_path, rng):
    x = values(rng).astype(np.float32)
    source = Input((T, F), batch_size=B)
    steps = layers.Dense(2, activation="relu")(source)
    h = layers.LSTM(4, return_sequences=True, stateful=True)(layers.Masking()(steps))
    model = Model(source, [layers.Dense(2)(h), steps, layers.GlobalAveragePooling1D()(h)])
    model.compile("adam", "mse")
    ys = [rng.normal(size=shape).astype(np.float32) for shape in ((B, T, 2), (B, T, 2), (B, 4))]
    assert np.isfinite(model.fit(x, ys, epochs=3, batch_size=B, verbose=0).history["loss"]).all()
    model.reset_states()
    first = model.predict(x, batch_size=B, verbose=0)
    model.save(tmp_path / "inside.rnnf")
    again = rnnfast.load(tmp_path / "inside.rnnf")
    again.reset_states()
    assert all(np.array_equal(a, b) for a, b in zip(again.predict(x, batch_size=B, verbose=0), first, strict=True))
    assert not np.array_equal(model.predict(x, batch_size=B, verbose=0)[0], first[0])


def test_what_cannot_be(rng):
    model = Sequential([Input((None, F)), layers.Dense(2), layers.Masking(), layers.GRU(4, return_sequences=True)])
    with pytest.raises(ValueError, match=r"Masking .*valid steps alone"):
        model.stream()
    with pytest.raises(ValueError, match="resets cannot be used with Masking"):
        model.predict(values(rng), resets=np.zeros((B, T), bool), verbose=0)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"Masking .*cannot be trained with truncate"):
        model.fit(values(rng), rng.normal(size=(B, T, 4)), truncate=(3, 3), verbose=0)
    with pytest.raises(ValueError, match="input must have shape"):
        Sequential([Input((None, F)), layers.GRU(4), layers.Masking()]).predict(values(rng), verbose=0)
