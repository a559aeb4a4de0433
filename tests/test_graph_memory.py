"""Graphs that once read memory of nobody's: outputs that nothing reads in training, states and merged inputs of other shapes."""

import numpy as np
import pytest

from rnnfast import Input, Model, layers
from rnnfast.errors import ShapeError


@pytest.mark.parametrize("read", [1, 2])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("mode", ["sum", "mul", "ave", "concat"])
def test_the_states_alone_of_both_directions_train(mode, sequences, read):
    x, target = np.random.default_rng(0).normal(size=(3, 6, 3)).astype(np.float32), np.ones((3, 2), np.float32)
    source = Input((None, 3))
    outputs = layers.Bidirectional(layers.GRU(2, return_sequences=sequences, return_state=True), merge_mode=mode)(source)
    model = Model(source, outputs[read])
    model.compile("sgd", "mse")
    one = outputs[0].node.layer.sublayers()[read - 1]  # the direction that is read is trained, the other is not
    other = outputs[0].node.layer.sublayers()[2 - read]
    before = [w.copy() for w in other.get_weights()]
    first = model.train_on_batch(x, target)
    for _ in range(20):
        last = model.train_on_batch(x, target)
    assert last < first and one.get_weights()
    assert all((a == b).all() for a, b in zip(before, other.get_weights(), strict=True))


@pytest.mark.parametrize("read", [1, 2])
def test_masked_states_alone_train(read):
    x = np.random.default_rng(0).normal(size=(3, 6, 3)).astype(np.float32)
    source = Input((None, 3))
    outputs = layers.Bidirectional(layers.GRU(2, return_state=True), merge_mode="sum")(source)
    model = Model(source, outputs[read])
    model.compile("sgd", "mse")
    history = model.fit(x, np.ones((3, 2), np.float32), lengths=np.array([6, 1, 3]), epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]


def of_a_sequence():
    source = Input((None, 3))
    return layers.GRU(3)(source, initial_state=[source])


def of_another_width():
    return layers.GRU(3)(Input((None, 2)), initial_state=[Input((4,))])


def of_an_unknown_width():
    return layers.GRU(3)(Input((None, 2)), initial_state=[Input((None,))])


def of_another_number():
    return layers.LSTM(3)(Input((None, 2)), initial_state=[Input((3,))])


def of_one_direction():
    return layers.Bidirectional(layers.GRU(3))(Input((None, 2)), initial_state=[Input((3,))])


@pytest.mark.parametrize("make", [of_a_sequence, of_another_width, of_an_unknown_width, of_another_number, of_one_direction])
def test_states_of_other_shapes_are_refused(make):
    with pytest.raises(ShapeError, match="initial_state must have shapes"):
        make()


def test_merged_inputs_of_widths_known_at_the_call_alone():
    one, other = Input((None,)), Input((3,))
    model = Model([one, other], layers.Multiply()([one, other]))
    assert model.predict_on_batch([np.ones((2, 3)), np.ones((2, 3))]).shape == (2, 3)
    with pytest.raises(ShapeError, match="must have one shape"):
        model.predict_on_batch([np.ones((2, 5)), np.ones((2, 3))])
