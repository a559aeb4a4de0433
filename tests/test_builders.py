"""The plain builders make the models that their arguments say, which train, save and stream like any other."""

import numpy as np
import pytest

import rnnfast
from rnnfast import Model, Sequential
from rnnfast.builders import many_to_many, many_to_one, one_to_many, recurrent_stack

CELLS = {"lstm": "LSTM", "gru": "GRU", "rnn": "SimpleRNN", "simple_rnn": "SimpleRNN", "SimpleRNN": "SimpleRNN", "LSTM": "LSTM"}


def names(layers):
    return [type(layer).__name__ for layer in layers]


@pytest.mark.parametrize(("cell", "options"), [("projected_lstm", {"projection": 4}), ("statal", {"state": "trace", "slots": 2}), ("ind_rnn", {}), ("min_gru", {})])
def test_a_vector_as_states_of_any_cell(cell, options, rng):
    model = one_to_many(features=3, outputs=2, steps=4, cell=cell, units=6, vector="state", **options)
    first, second = model.predict_on_batch(rng.standard_normal((2, 3)).astype(np.float32))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("cell", CELLS)
def test_cell_by_name(cell):
    assert names(recurrent_stack(cell)) == [CELLS[cell]]


def test_stack():
    stack = recurrent_stack("gru", [8, 6, 4], dropout=0.25, recurrent_dropout=0.1)
    assert names(stack) == ["GRU", "Dropout"] * 3
    assert [layer.units for layer in stack[::2]] == [8, 6, 4]
    assert [layer.return_sequences for layer in stack[::2]] == [True, True, False]
    assert {layer.recurrent_dropout for layer in stack[::2]} == {0.1}
    assert {layer.rate for layer in stack[1::2]} == {0.25}
    both = recurrent_stack("rnn", 5, 2, bidirectional=True, return_sequences=True)
    assert names(both) == ["Bidirectional"] * 2
    assert all(layer.return_sequences for layer in both)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(
    ("build", "x", "shape"),
    [
        (lambda **o: many_to_one(features=3, outputs=2, **o), np.ones((4, 5, 3), np.float32), (4, 2)),
        (lambda **o: many_to_one(vocabulary=9, outputs=2, **o), np.arange(8).reshape(2, 4), (2, 2)),
        (lambda **o: many_to_many(features=3, outputs=2, **o), np.ones((4, 5, 3), np.float32), (4, 5, 2)),
        (lambda **o: many_to_many(vocabulary=9, outputs=2, **o), np.arange(8).reshape(2, 4), (2, 4, 2)),
        (lambda **o: one_to_many(3, 2, 6, **o), np.ones((4, 3), np.float32), (4, 6, 2)),
        (lambda **o: one_to_many(3, 2, 6, vector="state", **o), np.ones((4, 3), np.float32), (4, 6, 2)),
    ],
)
def test_every_builder_trains_and_comes_back_from_a_file(build, x, shape, cell, bidirectional, layers, tmp_path):
    model = build(cell=cell, units=4, layers=layers, bidirectional=bidirectional, dropout=0.1)
    assert isinstance(model, Sequential | Model)
    model.compile("adam", "mse")
    before = model.get_weights()
    assert np.isfinite(model.train_on_batch(x, np.ones(shape, np.float32)))
    assert not np.array_equal(before[-1], model.get_weights()[-1])
    y = model.predict_on_batch(x)
    assert y.shape == shape
    model.save(tmp_path / "m.rnnf")
    np.testing.assert_array_equal(rnnfast.load(tmp_path / "m.rnnf").predict_on_batch(x), y)


def test_zero_tokens_are_padding():
    model, kept = many_to_one(vocabulary=9, units=4), many_to_one(vocabulary=9, units=4, mask_zero=False)
    short, padded = np.array([[3, 5]]), np.array([[3, 5, 0, 0]])
    np.testing.assert_array_equal(model.predict_on_batch(short), model.predict_on_batch(padded))
    assert not np.array_equal(kept.predict_on_batch(short), kept.predict_on_batch(padded))


def test_streams():
    model, x = many_to_many(features=3, outputs=2, layers=2, units=4, dropout=0.1), np.ones((5, 3), np.float32)
    stream = model.stream()
    np.testing.assert_array_equal(np.stack([stream.step(row) for row in x]), model.predict_on_batch(x[None])[0])


def test_a_vector_as_initial_state_runs_free():
    model = one_to_many(3, 2, 6, vector="state", cell="rnn", units=4)
    x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    kernels = {type(layer).__name__ + str(layer.kernel.shape): layer for layer in model.layers if hasattr(layer, "kernel")}
    start, recurrent, out = (kernels[name].get_weights() for name in ("Dense(3, 4)", "SimpleRNN(3, 4)", "Dense(4, 2)"))
    h, expected = np.tanh(x @ start[0]), []
    for _ in range(6):
        h = np.tanh(h @ recurrent[1])
        expected.append(h @ out[0])
    np.testing.assert_allclose(model.predict_on_batch(x), np.stack(expected, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: recurrent_stack("grru"), "cell: unknown name 'grru'. Did you mean 'gru'"),
        (lambda: recurrent_stack(None), "cell: unknown name None"),
        (lambda: recurrent_stack(layers=0), "layers: must be a positive integer, got 0"),
        (lambda: recurrent_stack(units=[4, 4], layers=3), r"units: a list must have one number a layer, got \[4, 4\] for layers=3"),
        (lambda: recurrent_stack(units=[]), "units: a list must have one number a layer"),
        (lambda: recurrent_stack(units=0), "units must be a positive integer, got 0"),
        (lambda: recurrent_stack(dropout=1.0), r"rate must be a number in \[0, 1\), got 1.0"),
        (lambda: many_to_one(), "many_to_one: give either features= .* or vocabulary="),
        (lambda: many_to_many(features=3, vocabulary=5), "many_to_many: give either features= .* or vocabulary="),
        (lambda: one_to_many(3, 2, 0), "must be a positive integer"),
        (lambda: one_to_many(3, 2, 4, vector="states"), "unknown vector 'states'. Did you mean 'state'"),
    ],
)
def test_bad_input(call, text):
    with pytest.raises(ValueError, match=text):
        call()
