"""Arguments in Keras' places: by position, as arrays, cut into epochs of some steps."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Sequential, layers, losses


def test_positions():
    lstm, gru = layers.LSTM(2, "relu", "hard_sigmoid"), layers.GRU(2, "softsign", "tanh")
    assert (lstm.activation, lstm.recurrent_activation, gru.activation, gru.recurrent_activation) == ("relu", "hard_sigmoid", "softsign", "tanh")
    assert layers.SimpleRNN(2, "relu").activation == layers.Dense(2, "relu").activation == "relu"
    assert layers.Embedding(3, 2, "ones", None, None, True).mask_zero
    assert layers.SpatialDropout1D(0.2, 5).seed == 5
    assert layers.Flatten("channels_last")(np.zeros((2, 3, 4))).shape == (2, 12)
    with pytest.raises(ValueError, match="data_format must be 'channels_last'"):
        layers.Flatten("channels_first")


@pytest.mark.parametrize("kind", ["MeanSquaredError", "MeanAbsoluteError", "LogCosh", "KLDivergence", "Poisson"])
def test_a_loss_by_its_reduction(kind):
    loss = getattr(losses, kind)("sum")
    assert (loss.reduction, loss.name) == ("sum", getattr(losses, kind)().name)


@pytest.mark.parametrize("kind", [layers.SimpleRNN, layers.LSTM, layers.GRU])
def test_arrays_as_initializers(kind):
    plain = kind(2)
    plain.build((None, None, 3))
    shapes = [w.shape for w in plain.get_weights()]
    arrays = [np.full(shape, i + 1.0) for i, shape in enumerate(shapes)]
    layer = kind(2, **dict(zip(("kernel_initializer", "recurrent_initializer", "bias_initializer"), arrays, strict=True)))
    layer.build((None, None, 3))
    got = layer.get_weights()
    assert np.array_equal(got[0], arrays[0])
    assert np.array_equal(got[1], arrays[1])


def test_a_table_of_weights(tmp_path):
    table = np.arange(6.0).reshape(3, 2)
    for given in (table, [table], [table.tolist()]):
        layer = layers.Embedding(3, 2, weights=given)
        assert np.array_equal(layer(np.array([[2, 0]])), table[[[2, 0]]])
        assert "weights" not in layer.get_config()
    with pytest.raises(rnnfast.errors.ShapeError, match=r"must have shape \(3, 2\), got \(2, 2\)"):
        layers.Embedding(3, 2, weights=np.ones((2, 2)))(np.array([[0]]))
    model = Sequential([Input((None,)), layers.Embedding(3, 2, weights=table), layers.GRU(2)])
    model.save(tmp_path / "table.rnnf")
    assert np.array_equal(rnnfast.load(tmp_path / "table.rnnf").get_weights()[0], table)


def model_of_its_batches(shuffle_seed=0):
    """With a loss that says which batches an epoch has seen."""
    rnnfast.utils.set_random_seed(shuffle_seed)
    model = Sequential([Input((3, 2)), layers.Flatten(), layers.Dense(1, kernel_initializer="zeros")])
    model.compile(rnnfast.optimizers.SGD(0.0), "mse")
    return model


def test_epochs_of_some_steps_go_on(rng):
    """As Keras: an epoch takes up the data where the last one left it, and ends with it."""
    x, y = np.ones((20, 3, 2)), np.sqrt(np.repeat(10.0 ** np.arange(5), 4))
    fit = lambda model, **how: np.round(model.fit(x, y, batch_size=4, verbose=0, **how).history["loss"], 2).tolist()
    assert fit(model_of_its_batches(), steps_per_epoch=2, epochs=4, shuffle=False) == [5.5, 550.0, 10000.0, 5.5]
    assert fit(model_of_its_batches(), steps_per_epoch=9, epochs=2, shuffle=False) == [2222.2, 2222.2]
    seen = fit(model_of_its_batches(), steps_per_epoch=2, epochs=3, shuffle=True)
    assert (2 * seen[0] + 2 * seen[1] + seen[2]) / 5 == pytest.approx(2222.2, abs=0.02)  # each sample once
    held = model_of_its_batches().fit(x, y, batch_size=4, verbose=0, validation_data=(x, y), validation_steps=2, epochs=3).history["val_loss"]
    assert np.round(held, 2).tolist() == [5.5] * 3


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epochs": 1.5}, "epochs must be an integer of at least 0, got 1.5"),
        ({"epochs": -1}, "epochs must be an integer of at least 0, got -1"),
        ({"initial_epoch": "1"}, "initial_epoch must be an integer of at least 0, got '1'"),
        ({"validation_freq": 0}, "validation_freq must be an integer of at least 1, got 0"),
        ({"validation_freq": [1, 2.5]}, "validation_freq must be an integer of at least 1, got 2.5"),
        ({"validation_data": (np.zeros(3),)}, "validation_data must be .* got tuple of ndarray"),
    ],
)
def test_what_fit_refuses(given, words):
    with pytest.raises(ValueError, match=words):
        model_of_its_batches().fit(np.zeros((4, 3, 2)), np.zeros(4), verbose=0, **given)


def test_dtypes_of_inputs(tmp_path):
    tokens = np.array([[1, 2, 0]])
    words = Sequential([Input((None,), dtype="int32"), layers.Embedding(3, 2, dtype="float64"), layers.GRU(2, dtype="float64")])
    assert words.predict(tokens, verbose=0).dtype == np.float64
    words.save(tmp_path / "words.rnnf")
    assert np.array_equal(rnnfast.load(tmp_path / "words.rnnf").predict(tokens, verbose=0), words.predict(tokens, verbose=0))
    with pytest.raises(ValueError, match="an Input of an integer dtype, must go into Embedding layers"):
        Sequential([Input((None, 2), dtype="int32"), layers.GRU(2)]).predict(np.zeros((1, 2, 2)), verbose=0)
    wide = Sequential([Input((None, 2)), layers.LSTM(2, dtype="float64")])
    assert wide.predict(np.zeros((1, 2, 2)), verbose=0).dtype == np.float64
    assert type(wide).from_config(wide.get_config()).predict(np.zeros((1, 2, 2)), verbose=0).dtype == np.float64
    for own, other in (("float32", "float64"), ("float64", None)):
        with pytest.raises(ValueError, match="all layers must have one dtype"):
            Sequential([Input((None, 2), dtype=own), layers.LSTM(2, dtype=other)]).predict(np.zeros((1, 2, 2)), verbose=0)
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'float64', got 'complex64'"):
        Input((None, 2), dtype="complex64")


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("merge", ["concat", "sum", None])
def test_both_directions_are_penalised(merge, sequences, rng):
    """The loss holds each direction's own penalty, and a step follows its gradient."""
    penalty = lambda factor: rnnfast.regularizers.L2(factor)
    make = lambda one, other: layers.Bidirectional(
        layers.GRU(2, return_sequences=sequences, activity_regularizer=one, dtype="float64"), merge_mode=merge, dtype="float64",
        backward_layer=layers.GRU(2, return_sequences=sequences, go_backwards=True, activity_regularizer=other, dtype="float64"),
    )  # fmt: skip
    x = rng.normal(size=(4, 5, 3))
    plain = Sequential([Input((None, 3)), make(None, None)])
    forward, backward = (layer(x) for layer in plain.layers[0].sublayers())
    y = plain.predict(x, verbose=0)
    y = [np.zeros_like(one) for one in y] if merge is None else np.zeros_like(y)
    weights = plain.get_weights()

    def loss(one, other):
        model = Sequential([Input((None, 3)), make(one, other)])
        model.set_weights(weights)
        model.compile(rnnfast.optimizers.SGD(1.0), "mse")
        first = model.evaluate(x, y, verbose=0)
        return np.ravel(first)[0], model

    base, _ = loss(None, None)
    value, model = loss(penalty(0.1), penalty(0.3))
    assert value == pytest.approx(base + (0.1 * (forward**2).sum() + 0.3 * (backward**2).sum()) / 4, rel=1e-12)  # a row, as in Keras
    before = model.get_weights()
    model.train_on_batch(x, y)
    steps = [a - b for a, b in zip(before, model.get_weights(), strict=True)]
    kernel, h = 0, 1e-6
    weights[kernel][0, 0] += h
    up = loss(penalty(0.1), penalty(0.3))[0]
    weights[kernel][0, 0] -= 2 * h
    down = loss(penalty(0.1), penalty(0.3))[0]
    assert steps[kernel][0, 0] == pytest.approx((up - down) / (2 * h), rel=1e-6)
