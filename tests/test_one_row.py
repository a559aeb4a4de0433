"""One row: the bits of a row of a batch for every number of units, the oracle's numbers, and calls that go straight to the engine give what careful ones give."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Sequential, layers
from rnnfast.plan import recurrent
from rnnfast.plan.schedule import SPLIT_NONE, SPLIT_UNITS, Choice
from tests import cases

CELLS = {
    "rnn": layers.SimpleRNN,
    "lstm": layers.LSTM,
    "gru": layers.GRU,
    "gru-before": partial(layers.GRU, reset_after=False),
    "peephole": layers.PeepholeLSTM,
}
UNITS = [1, 8, 9, 17, 25, 40, 41, 57, 72, 88, 96, 100, 200]  # groups of every number of panels, on vectors of 4, 8 and 16


def made(cell, units, inputs, dtype="float32", **options):
    model = Sequential([Input((None, inputs), dtype=dtype), CELLS[cell](units, return_sequences=True, dtype=dtype, **options)])
    rng = np.random.default_rng(units)
    model.set_weights([rng.uniform(-1, 1, w.shape) / np.sqrt(units) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("options", [{}, {"activation": "relu"}], ids=["default", "relu"])
@pytest.mark.parametrize("inputs", [1, 9])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_alone_has_the_bits_of_a_row_of_a_batch(cell, inputs, dtype, options, rng):
    for units in UNITS:
        model, x = made(cell, units, inputs, dtype, **options), rng.standard_normal((3, 5, inputs)).astype(dtype)
        whole, stream = model.predict_on_batch(x), model.stream()
        assert np.array_equal(model.predict_on_batch(x[:1]), whole[:1]), units
        assert np.array_equal([stream.step(row) for row in x[0]], whole[0]), units


@pytest.mark.parametrize("inputs", [1, 9])
@pytest.mark.parametrize("cell", CELLS)
def test_a_row_alone_goes_backwards_with_the_bits_of_a_row_of_a_batch(cell, inputs, rng):
    for units, time in ((8, 1), (25, 300), (96, 7), (200, 300)):  # 300 steps are several chunks of gate inputs
        model, x = made(cell, units, inputs, go_backwards=True), rng.standard_normal((3, time, inputs)).astype(np.float32)
        assert np.array_equal(model.predict_on_batch(x[:1]), model.predict_on_batch(x)[:1]), units


@pytest.mark.parametrize("inputs", [2, 5])
@pytest.mark.parametrize("spec", [("GRU", {"reset_after": False}), ("PeepholeLSTM", {})], ids=["gru-before", "peephole"])
def test_a_row_alone_and_its_gradients_are_near_the_oracle(spec, inputs, dtype, rng):
    kind, fixed = spec
    options = {"units": 41, "return_sequences": True, "return_state": True, **fixed}
    p = cases.problem((kind, options), (1, 55, inputs), rng, initial_state=True)  # more steps than gate inputs are made at once
    cases.assert_close(p.build(rnnfast, dtype).vjp(**p.cast(dtype)), p.expected, *cases.bound(dtype, 55))


@pytest.mark.parametrize("inputs", [3, 64])
@pytest.mark.parametrize("cell", ["gru-before", "peephole"])
def test_threads_that_share_the_units_of_a_row_meet_where_they_must(cell, inputs, monkeypatch, rng):
    monkeypatch.setattr(recurrent, "choose_split", lambda work, threads, ways: Choice(SPLIT_UNITS if threads > 1 else SPLIT_NONE, {SPLIT_NONE: 1.0, SPLIT_UNITS: 0.1}))
    x, threads, found = rng.standard_normal((1, 60, inputs), np.float32), rnnfast.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            rnnfast.set_num_threads(count)
            model = made(cell, 100, inputs)
            model.compile("sgd", "mse")
            assert ("split=units" in str(model.plan(1, 60))) == (count > 1)
            whole, stream = model.predict_on_batch(x), model.stream()
            assert np.array_equal([stream.step(row) for row in x[0, :9]], whole[0, :9])
            model.train_on_batch(x, whole + 1)
            found.append([whole, *model.get_weights()])
    finally:
        rnnfast.set_num_threads(threads)
    for one, other in ((found[0], found[1]), (found[0], found[2])):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_arrays_of_any_kind_and_shape_give_the_same():
    model, rng = made("lstm", 8, 3), np.random.default_rng(0)
    arrays = [rng.standard_normal((1 + i % 3, 1 + i // 3, 3)).astype(np.float32) for i in range(24)]  # more shapes than are kept
    first = [model.predict_on_batch(x) for x in arrays]
    for x, y in zip(arrays, first, strict=True):
        assert np.array_equal(model.predict_on_batch(x), y)
        for other in (x.astype(">f4"), np.asfortranarray(x), x.astype(np.float64), x.tolist(), np.repeat(x, 2, axis=2)[:, :, ::2]):
            assert np.array_equal(model.predict_on_batch(other), y)
    last = model.predict_on_batch(arrays[-1])
    model.predict_on_batch(-arrays[-1])
    assert np.array_equal(last, first[-1]), "a result is the caller's own"


LENGTHS_MODELS = {
    "plain": lambda: [layers.GRU(9, return_sequences=True)],
    "last": lambda: [layers.LSTM(9), layers.Dense(2)],
    "both": lambda: [layers.Bidirectional(layers.SimpleRNN(5, return_sequences=True)), layers.Bidirectional(layers.LSTM(4))],
    "windows": lambda: [layers.Conv1D(4, 3, strides=2, padding="same"), layers.GRU(6, go_backwards=True, return_sequences=True), layers.GlobalMaxPooling1D()],
    "deaf": lambda: [layers.Dense(3)],
}


@pytest.mark.parametrize("kind", LENGTHS_MODELS)
def test_lengths_go_straight_to_the_engine_too(kind, monkeypatch, rng):
    model = Sequential([Input((None, 3)), *LENGTHS_MODELS[kind]()])
    x = rng.standard_normal((5, 7, 3)).astype(np.float32)
    lengths = [rng.integers(0, 8, 5) for _ in range(6)] + [np.zeros(5, int), np.full(5, 7)]
    expected = [model.predict_on_batch(x, mask=np.arange(7) < one[:, None]) for one in lengths]
    dense = model.predict_on_batch(x)
    model.predict_on_batch(x, lengths=lengths[0])
    if kind != "deaf":  # which never looks at them
        monkeypatch.setattr(type(model), "careful_predict", lambda *_: None)
    for one, y in zip(lengths, expected, strict=True):
        np.testing.assert_array_equal(model.predict_on_batch(x, lengths=one), y)
        np.testing.assert_array_equal(model.predict_on_batch(x), dense)
    monkeypatch.undo()
    first = lengths[0]
    for other in (first.astype(np.int32), first.tolist(), np.repeat(first, 2)[::2], first.astype(">i8")):
        np.testing.assert_array_equal(model.predict_on_batch(x, lengths=other), expected[0])
    for wrong in (first[:4], first + 8, first - 8, first.astype(float), first[:, None]):
        with pytest.raises(ValueError, match="lengths"):
            model.predict_on_batch(x, lengths=wrong)
    np.testing.assert_array_equal(model.predict_on_batch(x, lengths=first), expected[0])


def test_wrong_arrays_are_refused_after_right_ones():
    model, x = made("gru", 8, 3), np.ones((1, 2, 3), np.float32)
    model.predict_on_batch(x)
    for wrong in (x[0], x[:, :, :2], x.astype(complex), None):
        with pytest.raises((TypeError, ValueError)):
            model.predict_on_batch(wrong)
    with pytest.raises(TypeError):
        model.predict_on_batch(x, None)


def test_changed_weights_layers_and_threads_are_seen():
    model, x = made("rnn", 8, 3), np.ones((1, 2, 3), np.float32)
    before = [model.predict_on_batch(x) for _ in range(2)][1]
    model.set_weights([-w for w in model.get_weights()])
    after = model.predict_on_batch(x)
    assert not np.array_equal(after, before)
    model.add(layers.Dense(1))
    assert model.predict_on_batch(x).shape == (1, 2, 1)
    model.pop()
    threads = rnnfast.get_num_threads()
    try:
        rnnfast.set_num_threads(threads + 1)
        assert np.array_equal(model.predict_on_batch(x), after)
    finally:
        rnnfast.set_num_threads(threads)


def test_settings_that_come_back_find_the_short_way_again(monkeypatch):
    model, x, threads = made("rnn", 8, 3), np.ones((1, 2, 3), np.float32), rnnfast.get_num_threads()
    before = [model.predict_on_batch(x) for _ in range(2)][1]
    long_way = []
    monkeypatch.setattr(type(model), "careful_predict", lambda *_: long_way.append(1))
    rnnfast.set_num_threads(threads)
    rnnfast.set_float32_matmul_precision("medium")
    rnnfast.set_float32_matmul_precision("highest")
    assert np.array_equal(model.predict_on_batch(x), before) and not long_way
    try:
        rnnfast.set_num_threads(threads + 1)
        model.predict_on_batch(x)
    finally:
        rnnfast.set_num_threads(threads)
    assert long_way == [1]
    assert np.array_equal(model.predict_on_batch(x), before) and long_way == [1]


def test_threads_that_share_a_model_wait_for_each_other():
    model, x = made("lstm", 64, 64), np.random.default_rng(1).standard_normal((4, 60, 64)).astype(np.float32)
    arrays = [np.roll(x, i, axis=1) for i in range(4)]
    wanted, wrong = [model.predict_on_batch(one) for one in arrays], []

    def call(i):
        wrong.extend(i for _ in range(50) if not np.array_equal(model.predict_on_batch(arrays[i]), wanted[i]))

    workers = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
