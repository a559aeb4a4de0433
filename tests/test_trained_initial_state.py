"""Initial states that are trained: the same as giving them, gradients of them, streams, files."""

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Sequential, layers

KINDS = {
    "simple_rnn": lambda **k: layers.SimpleRNN(5, **k),
    "lstm": lambda **k: layers.LSTM(5, **k),
    "gru": lambda **k: layers.GRU(5, **k),
    "projected": lambda **k: layers.ProjectedLSTM(5, 3, **k),
    "peephole": lambda **k: layers.PeepholeLSTM(5, **k),
    "statal": lambda **k: layers.Statal(5, state="trace", slots=2, activation="tanh", **k),
}


def filled(layer, inputs=3, seed=0):
    layer.build((None, None, inputs))
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.standard_normal(w.shape) * 0.5 for w in layer.get_weights()])
    return layer


@pytest.mark.parametrize("kind", KINDS)
def test_is_what_giving_the_states_is(kind):
    own = filled(KINDS[kind](return_sequences=True, return_state=True, trained_initial_state=True, dtype="float64"))
    plain = KINDS[kind](return_sequences=True, return_state=True, dtype="float64")
    plain.build((None, None, 3))
    count = len(own.state_sizes)
    plain.set_weights(own.get_weights()[:-count])
    states = [np.repeat(w, 4, axis=0) for w in own.get_weights()[-count:]]
    x, lengths = np.random.default_rng(1).standard_normal((4, 7, 3)), np.array([7, 2, 0, 5])
    for mine, given in zip(own(x, lengths=lengths), plain(x, lengths=lengths, initial_state=states), strict=True):
        np.testing.assert_array_equal(mine, given)
    dy = np.random.default_rng(2).standard_normal(own(x)[0].shape)
    mine, given = own.vjp(x, dy, lengths=lengths), plain.vjp(x, dy, lengths=lengths, initial_state=states)
    for gradient, each in zip(mine["weights"][-count:], given["initial_state"], strict=True):
        np.testing.assert_allclose(gradient, each.sum(axis=0, keepdims=True), rtol=1e-12, atol=1e-13)
    for gradient, expected in zip(mine["weights"], given["weights"], strict=False):
        np.testing.assert_array_equal(gradient, expected)


def test_given_states_go_first():
    layer = filled(layers.LSTM(5, trained_initial_state=True))
    x, zeros = np.ones((2, 3, 3), np.float32), [np.zeros((2, 5), np.float32)] * 2
    plain = layers.LSTM(5)
    plain.build((None, None, 3))
    plain.set_weights(layer.get_weights()[:3])
    np.testing.assert_array_equal(layer(x, initial_state=zeros), plain(x))
    assert not np.array_equal(layer(x), plain(x))


def test_both_directions_start_from_their_own():
    model = Sequential([Input((None, 3)), layers.Bidirectional(layers.GRU(5, trained_initial_state=True))])
    rng = np.random.default_rng(3)
    model.set_weights([rng.standard_normal(w.shape).astype(np.float32) for w in model.get_weights()])
    weights, x = model.get_weights(), rng.standard_normal((2, 6, 3)).astype(np.float32)
    plain = Sequential([Input((None, 3)), layers.Bidirectional(layers.GRU(5))])
    plain.set_weights(weights[:3] + weights[4:7])
    states = [np.repeat(weights[i], 2, axis=0) for i in (3, 7)]
    np.testing.assert_array_equal(model(x), plain.layers[0](x, initial_state=states))


def test_is_trained_streamed_and_saved(tmp_path):
    rnnfast.utils.set_random_seed(0)
    model = Sequential([Input((None, 2)), layers.LSTM(6, return_sequences=True, trained_initial_state=True), layers.Dense(1)])
    x, y = np.zeros((4, 5, 2), np.float32), np.ones((4, 5, 1), np.float32)
    model.compile("adam", "mse")
    model.fit(x, y, epochs=3, verbose=0)
    assert all(np.any(w != 0) for w in model.layers[0].get_weights()[-2:])
    model.save(tmp_path / "m.rnnf")
    same = rnnfast.load(tmp_path / "m.rnnf")
    expected = model.predict_on_batch(x[:1])
    np.testing.assert_array_equal(same.predict_on_batch(x[:1]), expected)
    stream = same.stream()
    for _ in range(2):
        np.testing.assert_array_equal(np.stack([stream.step(one) for one in x[0]]), expected[0])
        stream.reset()


def test_a_stateful_layer_starts_from_it():
    layer = filled(layers.GRU(5, stateful=True, trained_initial_state=True))
    x = np.ones((2, 3, 3), np.float32)
    first, second = layer(x), layer(x)
    layer.reset_state()
    np.testing.assert_array_equal(layer(x), first)
    assert not np.array_equal(first, second)


def test_episodes_start_from_zeros():
    model = Sequential([Input((None, 2)), layers.GRU(3, trained_initial_state=True)])
    with pytest.raises(ValueError, match="trained_initial_state of GRU"):
        model.predict_on_batch(np.zeros((1, 4, 2), np.float32), resets=np.zeros((1, 4), bool))
