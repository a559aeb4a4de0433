"""RNN around a cell of the user's: the native layers' numbers, Keras' contract, the user's own errors, files by registered name."""

from __future__ import annotations

import threading
import traceback

import numpy as np
import pytest

import rnnfast
from rnnfast import layers
from tests import cases
from tests.conftest import max_rel_error
from tests.gradients import central_differences, keras_floatx
from tests.peers import as_array, require


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


@rnnfast.register_cell
class PlainLSTMCell(layers.Cell):
    """An LSTM step as a textbook has it."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units, self.state_size = units, [units, units]

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], 4 * self.units), name="kernel")
        self.recurrent_kernel = self.add_weight((self.units, 4 * self.units), "orthogonal", name="recurrent_kernel")
        self.bias = self.add_weight((4 * self.units,), "zeros", name="bias")

    def call(self, inputs, states):
        h, c = states
        i, f, g, o = np.split(inputs @ self.kernel + h @ self.recurrent_kernel + self.bias, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return h, [h, c]

    def get_config(self):
        return super().get_config() | {"units": self.units}


@rnnfast.register_cell
class Mixed(layers.Cell):
    """Two states of different widths, an output of a third, a learned start, and `training`."""

    state_size, output_size = [4, 3], 5

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], 4), name="kernel")
        self.recurrent = self.add_weight((4, 4), name="recurrent")
        self.readout = self.add_weight(shape=(7, 5), initializer="glorot_uniform", name="readout")
        self.start = self.add_weight((4,), "glorot_uniform", name="start")

    def call(self, inputs, states, training=False):
        h, m = states
        h = np.tanh(inputs @ self.kernel + h @ self.recurrent)
        m = np.maximum(0.5 * m, h[:, 1:])
        return np.concatenate([h, m], axis=1) @ self.readout * (2.0 if training else 1.0), [h, m]

    def get_initial_state(self, batch_size):
        return [np.broadcast_to(np.tanh(self.start), (batch_size, 4)), np.zeros((batch_size, 3))]


@rnnfast.register_cell
class OwnBackward(layers.Cell):
    """h' = h + x k with a derivative of its own; np.cumsum would be refused by the tape."""

    state_size = 3

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], 3), name="kernel")

    def call(self, inputs, states):
        h = states[0] + np.cumsum(inputs @ self.kernel, axis=1)
        return h, h

    def backward(self, inputs, states, output, new_states, d_output, d_new_states):
        dh = d_output + d_new_states[0]
        d_product = np.cumsum(dh[:, ::-1], axis=1)[:, ::-1]
        return d_product @ self.kernel.value.T, [dh], [inputs.T @ d_product]


class Failing(layers.Cell):
    state_size = 2

    def __init__(self, when, **kwargs):
        super().__init__(**kwargs)
        self.when, self.calls = when, 0

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], 2), name="kernel")

    def call(self, inputs, states):
        self.calls += 1
        if self.when(self.calls):
            raise ZeroDivisionError("from the user's own line")
        h = np.tanh(inputs @ self.kernel + states[0])
        return h, [h]


MADE = {
    "mixed": lambda: Mixed(dtype="float64"),
    "own-backward": lambda: OwnBackward(dtype="float64"),
    "stack": lambda: [PlainLSTMCell(3, dtype="float64"), OwnBackward(dtype="float64"), Mixed(dtype="float64")],
}
OPTIONS = {
    "last": {},
    "sequence-states": {"return_sequences": True, "return_state": True},
    "backwards": {"go_backwards": True, "return_state": True},
    "zero": {"zero_output_for_mask": True, "return_sequences": True},
}


@pytest.mark.parametrize("mask", ["none", "holes", "empty-rows", "all-masked"])
@pytest.mark.parametrize("options", cases.OPTIONS)
def test_an_lstm_in_numpy_is_the_native_one(options, mask, dtype, rng):
    config = cases.OPTIONS[options]
    if not {"use_bias", "activation"}.isdisjoint(config):
        pytest.skip("the cell has no such option")
    p = cases.problem(("LSTM", {"units": 9, **config}), (5, 6, 4), rng, mask)
    layer = layers.RNN(PlainLSTMCell(9, dtype=dtype), **config)
    layer.build((None, None, 4))
    layer.set_weights(p.oracle.weights)
    got, want = layer.vjp(**p.cast(dtype)), dict(p.expected) | {"initial_state": None}
    cases.assert_close(got, want, *cases.bound(dtype))


def test_initial_states_and_both_directions(dtype, rng):
    config = {"units": 9, "return_sequences": True, "return_state": True}
    for spec, make in (
        (("LSTM", config), lambda inner: inner),
        (("Bidirectional", {"layer": ("LSTM", config), "merge_mode": "concat"}), layers.Bidirectional),
        (("Bidirectional", {"layer": ("LSTM", config), "merge_mode": "sum"}), lambda inner: layers.Bidirectional(inner, "sum")),
    ):
        p = cases.problem(spec, (5, 6, 4), rng, "leading", initial_state=True)
        layer = make(layers.RNN(PlainLSTMCell(9, dtype=dtype), return_sequences=True, return_state=True, zero_output_for_mask=True))
        layer.build((None, None, 4))
        layer.set_weights(p.oracle.weights)
        p = cases.problem(spec, (5, 6, 4), rng, "none", initial_state=True) if spec[0] == "LSTM" else p
        layer.set_weights(p.oracle.weights)
        cases.assert_close(layer.vjp(**p.cast(dtype)), p.expected, *cases.bound(dtype))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", MADE)
def test_gradients_match_central_differences(kind, options, rng):
    layer = layers.RNN(MADE[kind](), **OPTIONS[options])
    layer.build((None, None, 3))
    weights = [rng.normal(size=w.shape) for w in layer.get_weights()]
    layer.set_weights(weights)
    x, lengths = rng.normal(size=(4, 5, 3)), np.array([5, 0, 2, 4])
    ups = [rng.normal(size=np.shape(o)) for o in cases.as_list(layer(x, lengths=lengths))]

    def total():
        layer.set_weights(weights)
        return sum(float((o * d).sum()) for o, d in zip(cases.as_list(layer(x, lengths=lengths)), ups, strict=True))

    got = layer.vjp(x, ups[0], lengths=lengths, dstates=ups[1:] or None)
    assert max_rel_error(got["x"], central_differences(total, x)) < 1e-7
    for weight, grad in zip(weights, got["weights"], strict=True):
        assert max_rel_error(grad, central_differences(total, weight)) < 1e-7


@pytest.mark.parametrize("masked", [False, True])
def test_keras_runs_the_same_cell(masked, rng):
    require("torch")
    with keras_floatx("float64") as keras:

        class KerasCell(keras.layers.Layer):
            state_size = 4

            def build(self, input_shape):
                self.kernel = self.add_weight(shape=(input_shape[-1], 4), initializer="glorot_uniform", name="kernel")
                self.recurrent = self.add_weight(shape=(4, 4), initializer="orthogonal", name="recurrent")

            def call(self, inputs, states):
                h = keras.ops.tanh(keras.ops.matmul(inputs, self.kernel) + keras.ops.matmul(states[0], self.recurrent))
                return h, [h]

        class Ours(layers.Cell):
            state_size, build = 4, KerasCell.build

            def call(self, inputs, states):
                h = np.tanh(np.matmul(inputs, self.kernel) + np.matmul(states[0], self.recurrent))
                return h, [h]

        x, mask = rng.normal(size=(3, 6, 5)), np.arange(6) < np.array([6, 2, 4])[:, None]
        theirs = keras.layers.RNN([KerasCell(), KerasCell()], return_sequences=True, return_state=True)
        ours = layers.RNN([Ours(dtype="float64"), Ours(dtype="float64")], return_sequences=True, return_state=True)
        torch = require("torch")
        given = {"mask": torch.tensor(mask)} if masked else {}
        want = [t.detach().numpy() for t in _flat(theirs(torch.tensor(x), **given))]
        ours.build((None, None, 5))
        ours.set_weights([as_array(w) for w in theirs.weights])
        found = ours(x, mask=mask if masked else None)
    for a, b in zip(found, want, strict=True):
        assert max_rel_error(a, b) < 1e-12


def _flat(a):
    return [t for one in a for t in _flat(one)] if isinstance(a, (list, tuple)) else [a]


def model_of(*cells, **options):
    return rnnfast.Sequential([rnnfast.Input((None, 4)), layers.GRU(6, return_sequences=True), layers.RNN(list(cells), **options), layers.Dense(2)])


def test_trains_beside_native_layers_saves_and_loads(rng, tmp_path):
    model = model_of(PlainLSTMCell(5), Mixed())
    x, y = rng.normal(size=(16, 7, 4)).astype(np.float32), rng.normal(size=(16, 2)).astype(np.float32)
    lengths = rng.integers(0, 8, 16)
    model.compile(optimizer="adam", loss="mse")
    losses = model.fit(x, y, lengths=lengths, epochs=15, batch_size=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.rnnf")
    again = rnnfast.load(tmp_path / "model.rnnf")
    assert np.array_equal(again.predict(x, lengths=lengths), model.predict(x, lengths=lengths))
    assert again.layers[1].cell.cells[0].units == 5


def test_streams_and_stateful_layers_start_where_the_cell_says(rng):
    model = rnnfast.Sequential([rnnfast.Input((None, 4)), layers.RNN(Mixed(), return_sequences=True)])
    x = rng.normal(size=(1, 9, 4)).astype(np.float32)
    whole, stream = model.predict(x)[0], model.stream()
    for _ in range(2):
        assert np.allclose(np.stack([stream.step(x_t).copy() for x_t in x[0]]), whole, atol=1e-6)
        stream.reset()
    keeping = layers.RNN(Mixed(), return_sequences=True, stateful=True)
    keeping.build((1, None, 4))
    keeping.set_weights(model.get_weights())
    for _ in range(2):
        assert np.allclose(np.concatenate([keeping(x[:, :4]), keeping(x[:, 4:])], axis=1)[0], whole, atol=1e-6)
        keeping.reset_state()


def test_training_flag_reaches_the_cell(rng):
    layer, x = layers.RNN(Mixed()), rng.normal(size=(2, 3, 4)).astype(np.float32)
    assert np.array_equal(layer(x, training=True), 2 * layer(x))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("wrap", [lambda r: r, layers.Bidirectional])
def test_the_users_exception_surfaces_with_its_line_and_changes_nothing(wrap, threads, rng):
    kept = rnnfast.get_num_threads()
    rnnfast.set_num_threads(threads)
    try:
        rnnfast.register_cell(Failing) if wrap is layers.Bidirectional else None
        Failing.get_config = lambda self: {"when": self.when}  # both directions fail alike
        switch = {"on": False}
        layer = wrap(layers.RNN(Failing(lambda calls: switch["on"])))
        model = rnnfast.Sequential([rnnfast.Input((None, 40)), layers.LSTM(64, return_sequences=True), layer, layers.Dense(2)])
        model.compile(optimizer="adam", loss="mse")
        x, y = rng.normal(size=(16, 20, 40)).astype(np.float32), np.zeros((16, 2), np.float32)
        model.train_on_batch(x, y)
        before, output = model.get_weights(), model.predict(x)
        switch["on"] = True
        for call in (lambda: model.train_on_batch(x, y), lambda: model.predict(x), lambda: model.predict_on_batch(x), lambda: model.evaluate(x, y, verbose=0)):
            with pytest.raises(ZeroDivisionError, match="from the user's own line") as caught:
                call()
            assert any("in call" in line and "test_custom_cells" in line for line in traceback.format_tb(caught.value.__traceback__))
            assert "raised at time step" in caught.value.__notes__[0]
        switch["on"] = False
        assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
        assert np.array_equal(model.predict(x), output)
        assert int(model.optimizer.iterations) == 1
    finally:
        rnnfast.set_num_threads(kept)


def test_many_python_threads_predict_at_once(rng):
    model = model_of(PlainLSTMCell(5))
    x = rng.normal(size=(4, 6, 4)).astype(np.float32)
    want, found = model.predict(x), []
    workers = [threading.Thread(target=lambda: found.extend(model.predict(x) for _ in range(20))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 80
    assert all(np.array_equal(one, want) for one in found)


def test_saving_needs_a_registered_class_and_loading_says_how(rng, tmp_path):
    class Local(PlainLSTMCell):
        pass

    model = model_of(Local(3))
    with pytest.raises(ValueError, match=r"Local '.*': not registered.* Put @rnnfast.register_cell on the class"):
        model.save(tmp_path / "model.rnnf")
    rnnfast.register_cell(Local)
    model.save(tmp_path / "model.rnnf")
    layers.rnn.CELLS.pop("Local")
    with pytest.raises(rnnfast.FormatError, match=r"Unknown cell 'Local'. Import the module of its class, and put @rnnfast.register_cell on it"):
        rnnfast.load(tmp_path / "model.rnnf")


def bad_cell(**methods):
    return type("Bad", (layers.Cell,), {"state_size": 2, **methods})()


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: layers.RNN(3), TypeError, "cell must be an rnnfast.layers.Cell or a list of them, got 3"),
        (lambda: layers.RNN([]), ValueError, "cells must hold at least one cell"),
        (lambda: layers.RNN(bad_cell(state_size=0)).state_sizes, ValueError, "state_size must be a positive integer or a list of them, got 0"),
        (lambda: rnnfast.register_cell(int), TypeError, "must be given a subclass of rnnfast.layers.Cell"),
        (lambda: rnnfast.register_cell(type("LSTM", (layers.Cell,), {})), ValueError, "the name 'LSTM' is taken"),
        (lambda: layers.RNN(bad_cell(), dtype="float64"), ValueError, "dtype must be that of its cell, float32, got float64"),
        (lambda: run(bad_cell()), NotImplementedError, "a cell must have a method call"),
        (lambda: run(bad_cell(call=lambda self, x, s: x)), TypeError, r"Bad: call must return \(output, new_states\), got ndarray"),
        (lambda: run(bad_cell(call=lambda self, x, s: (x, s))), rnnfast.ShapeError, r"Bad: call must return an output of shape \(2, 2\), got \(2, 3\)"),
        (lambda: run(bad_cell(call=lambda self, x, s: (s[0], [x]))), rnnfast.ShapeError, r"new states of shapes \[\(2, 2\)\], got \[\(2, 3\)\]"),
        (lambda: run(bad_cell(get_initial_state=lambda self, batch_size: [np.zeros(2)])), rnnfast.ShapeError, r"get_initial_state must return arrays of shapes \[\(2, 2\)\]"),
        (lambda: run(bad_cell(call=lambda self, x, s: (x.sort(), s))), ValueError, "read-only"),
        (lambda: run(bad_cell(call=lambda self, x, s: (np.cumsum(x, axis=1)[:, :2], s)), True), TypeError, "np.cumsum is not recorded"),
        (lambda: run(bad_cell(call=lambda self, x, s: (s[0], s), backward=lambda self, *a: (0, [], [])), True), rnnfast.ShapeError, "Bad: backward must return"),
    ],
)  # fmt: skip
def test_bad_cells(make, error, text):
    with pytest.raises(error, match=text):
        make()


def run(cell, gradient=False):
    layer, x = layers.RNN(cell), np.ones((2, 4, 3), np.float32)
    return layer.vjp(x, np.ones((2, 2))) if gradient else layer(x)


def test_no_steps_and_no_rows():
    layer = layers.RNN(Mixed(), return_sequences=True)
    layer.build((None, None, 3))
    assert layer(np.zeros((0, 5, 3), np.float32)).shape == (0, 5, 5)
    assert layer(np.zeros((2, 0, 3), np.float32)).shape == (2, 0, 5)
