"""Pools of live streams: whatever joins, leaves, steps together, is copied or reset, each stream gives the bits of one alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rnnfast
from rnnfast import Input, Model, Sequential, layers
from rnnfast.errors import ShapeError
from rnnfast.models import stream_pool
from rnnfast.plan import recurrent
from rnnfast.plan.schedule import SPLIT_NONE, SPLIT_ROWS, SPLIT_UNITS, Choice
from tests.test_streams import I, made, randomized, two_ended

CAPACITY = 5


def convolving(rng):
    stack = [layers.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="relu"), layers.BatchNormalization(), layers.LayerNormalization()]
    return randomized(Sequential([Input((None, I)), *stack, layers.GRU(9, return_sequences=True), layers.Dense(3, activation="softmax")]), rng)


class Leaky(layers.Cell):
    """A cell in Python."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.state_size = I

    def get_initial_state(self, batch_size=None):
        return [np.full((batch_size, I), 0.25, np.float32)]

    def call(self, inputs, states):
        h = 0.5 * inputs + 0.5 * states[0]
        return h, [h]


MODELS = {
    "lstm": lambda rng: made("lstm", rng),
    "gru": lambda rng: made("gru", rng),
    "projected": lambda rng: made("projected", rng),
    "before": lambda rng: made("gru-before", rng),
    "convolution": convolving,
    "attention": lambda rng: made("attention", rng),
    "additive": lambda rng: made("additive", rng),
    "python": lambda rng: Sequential([Input((None, I)), layers.RNN(Leaky(), return_sequences=True)]),
}
_kept = {}


def kept(kind):
    """A model, a pool of it and a stream of it, made once."""
    if kind not in _kept:
        model = MODELS[kind](np.random.default_rng(3))
        _kept[kind] = model, model.stream_pool(CAPACITY), model.stream()
    return _kept[kind]


class Reference:
    """What each stream of a pool has been given since its state was known, by a single stream."""

    def __init__(self, stream):
        self.stream = stream
        self.stream.reset()
        self.states = {}

    def start(self):
        self.stream.reset()
        return self.stream.get_state()

    def process(self, one, chunk):
        self.stream.set_state(self.states[one])
        y = self.stream.process(chunk)
        self.states[one] = self.stream.get_state()
        return y


def play(pool, reference, action, data, rng):
    """One thing that can happen to a pool."""
    ids = pool.ids
    if action == "open" and len(ids) < CAPACITY:
        reference.states[pool.open()] = reference.start()
    elif action == "copy" and 0 < len(ids) < CAPACITY:
        source = data.draw(st.sampled_from(ids))
        reference.states[pool.copy(source)] = reference.states[source]
    elif action in ("close", "reset", "write") and ids:
        one, other = data.draw(st.sampled_from(ids)), data.draw(st.sampled_from(ids))
        if action == "close":
            pool.close(one)
            del reference.states[one]
        elif action == "reset":
            pool.reset(one)
            reference.states[one] = reference.start()
        else:
            pool.set_state(one, pool.get_state(other))
            reference.states[one] = reference.states[other]
    elif action in ("step", "by id", "process"):
        some = data.draw(st.permutations(ids))[: data.draw(st.integers(0, len(ids)))]
        x = rng.standard_normal((len(some), 3, I)).astype(np.float32)
        if action == "process":
            y = pool.process(some, x)
        elif action == "step":
            y = np.stack([pool.step(some, np.ascontiguousarray(x[:, t])) for t in range(3)], axis=1)
        else:
            found = [pool.step(dict(zip(some, x[:, t], strict=True))) for t in range(3)]
            y = [np.stack([step[one] for step in found]) for one in some]
        for row, one in enumerate(some):
            np.testing.assert_array_equal(y[row], reference.process(one, x[row]))


@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(data=st.data())
def test_each_stream_is_one_alone(kind, data):
    _, pool, stream = kept(kind)
    for one in pool.ids:
        pool.close(one)
    reference, rng = Reference(stream), np.random.default_rng(data.draw(st.integers(0, 99)))
    for action in data.draw(st.lists(st.sampled_from(["open", "open", "copy", "close", "reset", "write", "step", "by id", "process"]), min_size=5, max_size=20)):
        play(pool, reference, action, data, rng)
    assert sorted(pool.ids) == sorted(reference.states)
    for one in pool.ids:
        for name, states in pool.get_state(one).items():
            for state, expected in zip(states, reference.states[one][name], strict=True):
                np.testing.assert_array_equal(state, expected)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("split", [SPLIT_ROWS, SPLIT_UNITS], ids=["rows", "units"])
@pytest.mark.parametrize("cell, units", [(layers.LSTM, 16), (layers.LSTM, 64), (layers.LSTM, 200), (layers.GRU, 64)])
def test_threads_share_a_call(cell, units, split, threads, monkeypatch, rng):
    monkeypatch.setattr(recurrent, "choose_split", lambda work, threads, ways: Choice(split if threads > 1 else SPLIT_NONE, {SPLIT_NONE: 1.0, split: 0.1}))
    monkeypatch.setattr(stream_pool, "region_flops", lambda threads: 0.0)
    before = rnnfast.get_num_threads()
    model = randomized(Sequential([Input((None, 8)), cell(units, return_sequences=True), layers.Dense(3)]), rng)
    x = rng.standard_normal((60, 9, 8)).astype(np.float32)
    expected = model.predict_on_batch(x)
    try:
        rnnfast.set_num_threads(threads)
        pool = model.stream_pool(100)
        ids = np.array([pool.open() for _ in range(60)])
        for t, some in ((0, np.arange(60)), (1, np.arange(20)), (1, np.arange(20, 60))):  # states that stand side by side are read where they are
            np.testing.assert_array_equal(pool.step(ids[some], x[some, t]), expected[some, t])
        for t in range(2, 8):
            order = rng.permutation(60)
            half = np.sort(order[:30])
            for some in (half, np.setdiff1d(order, half)):
                np.testing.assert_array_equal(pool.step(ids[some], x[some, t]), expected[some, t])
        np.testing.assert_array_equal(pool.process(ids[::-1], np.ascontiguousarray(x[::-1, 8:])), expected[::-1, 8:])
    finally:
        rnnfast.set_num_threads(before)


def test_calls_from_several_threads_wait_for_each_other(rng):
    model, x = made("lstm", rng), rng.standard_normal((8, 100, I)).astype(np.float32)
    expected, pool = model.predict_on_batch(x), model.stream_pool(8)

    def run(rows):
        one = pool.open()
        y = np.stack([pool.step([one], row[None])[0] for row in rows])
        pool.close(one)
        return y

    with ThreadPoolExecutor(8) as threads:
        np.testing.assert_array_equal(np.stack(list(threads.map(run, x))), expected)
    assert len(pool) == 0


def test_several_inputs_and_outputs(rng):
    model, pool = two_ended(rng), None
    words, sound = rng.integers(0, 11, (2, 6)), rng.standard_normal((2, 6, I)).astype(np.float32)
    whole, pool = model.predict_on_batch([words, sound]), model.stream_pool(3)
    ids = [pool.open(), pool.open()]
    y = pool.process(ids, {"words": words[:, :4], "sound": sound[:, :4]})
    for i in (0, 1):
        np.testing.assert_array_equal(y[i], whole[i][:, :4])
    for t in (4, 5):
        found = pool.step({one: [words[i, t], sound[i, t]] for i, one in enumerate(ids)})
        for i, one in enumerate(ids):
            np.testing.assert_array_equal(found[one][0], whole[0][i, t])
            if t == 5:
                np.testing.assert_array_equal(found[one][3], whole[3][i])


def test_strides_and_states_of_single_streams(rng):
    stack = [layers.Conv1D(6, 4, strides=2, padding="causal"), layers.MaxPooling1D(2), layers.LSTM(4, return_sequences=True)]
    model, x = randomized(Sequential([Input((None, I)), *stack]), rng), rng.standard_normal((3, 16, I)).astype(np.float32)
    expected, pool, stream = model.predict_on_batch(x), model.stream_pool(4), model.stream()
    ids = [pool.open() for _ in range(3)]
    assert pool.pace == 4
    np.testing.assert_array_equal(pool.process(ids, x[:, :8]), expected[:, :2])
    np.testing.assert_array_equal(pool.process(ids[1:], x[1:, 8:]), expected[1:, 2:])
    stream.set_state(pool.get_state(ids[0]))
    np.testing.assert_array_equal(stream.process(x[0, 8:]), expected[0, 2:])
    pool.set_state(ids[1], stream.get_state())
    for name, states in pool.get_state(ids[1]).items():
        np.testing.assert_array_equal(states[0], stream.get_state()[name][0])
    for call in (lambda: pool.step(ids, x[:, 0]), lambda: pool.process(ids, x[:, :6])):
        with pytest.raises(ValueError, match="multiple of 4"):
            call()


def test_empty_calls_and_arrays_of_the_callers(rng):
    model = made("lstm", rng)
    pool, x = model.stream_pool(3), rng.standard_normal((2, I))
    assert pool.step([], np.empty((0, I))).shape == (0, 3) and pool.step({}) == {}
    ids = [pool.open(), pool.open()]
    nothing = np.empty((2, 0, 3), np.float32)
    assert pool.process(ids, np.empty((2, 0, I)), nothing) is nothing and pool.process(ids, np.empty((2, 0, I))).shape == (2, 0, 3)
    out = np.empty((2, 3), np.float32)
    assert pool.step(np.array(ids, np.int32), np.asfortranarray(x), out=out) is out
    np.testing.assert_array_equal(out[0], model.stream().step(x[0]))
    pool.reset(ids[0])
    randomized(model, rng)
    np.testing.assert_array_equal(pool.step([ids[0]], x[:1])[0], model.stream().step(x[0]))
    model.compile("adam", "mse")
    model.train_on_batch(np.zeros((2, 4, I), np.float32), np.zeros((2, 4, 3), np.float32))
    pool.reset(ids[0])
    np.testing.assert_array_equal(pool.step([ids[0]], x[:1])[0], model.stream().step(x[0]))


WRONG = {
    "unknown": (lambda p, a, b, x: p.step([a, 99], x), ValueError, "no stream 99 is open"),
    "negative": (lambda p, a, b, x: p.step([a, -1], x), ValueError, "no stream -1 is open"),
    "closed": (lambda p, a, b, x: (p.close(b), p.open(), p.step([a, b], x)), ValueError, "no stream 1 is open"),
    "twice": (lambda p, a, b, x: p.step([a, a], x), ValueError, "stream 0 is in the call twice"),
    "more-than-rows": (lambda p, a, b, x: p.step([a, b, a], np.zeros((3, I))), ValueError, "stream 0 is in the call twice"),
    "width": (lambda p, a, b, x: p.step([a, b], np.zeros((2, I + 1))), ShapeError, r"\(n, 5\), got \(2, 6\)"),
    "rows": (lambda p, a, b, x: p.step([a], x), ShapeError, "a row for each of 1 ids, got 2"),
    "ids-real": (lambda p, a, b, x: p.step([0.0, 1.0], x), TypeError, "ids must be integers"),
    "ids-rank": (lambda p, a, b, x: p.step(np.array([[a, b]]), x), TypeError, r"of shape \(1, 2\)"),
    "out": (lambda p, a, b, x: p.step([a, b], x, np.empty((2, 4), np.float32)), ShapeError, r"out must be float32 of shape \(2, 3\)"),
    "full": (lambda p, a, b, x: p.open(), RuntimeError, "all 2 streams of the pool are open"),
    "full-copy": (lambda p, a, b, x: p.copy(a), RuntimeError, "all 2 streams of the pool are open"),
    "close-unknown": (lambda p, a, b, x: p.close(7), ValueError, "no stream 7"),
    "close-text": (lambda p, a, b, x: p.close("a"), ValueError, "no stream 'a'"),
    "state": (lambda p, a, b, x: p.set_state(a, {}), ValueError, "must have the layers"),
    "ragged": (lambda p, a, b, x: p.step({a: x[0], b: x[0, :2]}), ShapeError, "one shape"),
    "dict-and-out": (lambda p, a, b, x: p.step({a: x[0]}, out=np.empty((1, 3), np.float32)), TypeError, "a dict of id to input comes alone"),
    "close-truth": (lambda p, a, b, x: p.close(True), ValueError, "no stream True"),
    "close-huge": (lambda p, a, b, x: p.close(2**70), ValueError, "no stream 1180591620717411303424"),
    "step-huge": (lambda p, a, b, x: p.step(np.array([2**63], np.uint64), x[:1]), ValueError, "no stream 9223372036854775808"),
}


@pytest.mark.parametrize("call, error, text", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused_and_changes_nothing(call, error, text):
    model = made("lstm", np.random.default_rng(1))
    pool = model.stream_pool(2)
    first, second = pool.open(), pool.open()
    pool.step([first], np.ones((1, I)))
    before = pool.get_state(first)
    with pytest.raises(error, match=text):
        call(pool, first, second, np.ones((2, I), np.float32))
    for name, states in pool.get_state(first).items():
        np.testing.assert_array_equal(states, before[name])
    assert pool.step([first], np.ones((1, I))).shape == (1, 3)


@pytest.mark.parametrize("capacity", [0, -1, 1.5, True, "3"])
def test_a_capacity_is_a_positive_integer(capacity):
    with pytest.raises(ValueError, match="capacity must be an integer of at least 1"):
        Sequential([Input((None, I)), layers.GRU(4)]).stream_pool(capacity)


@pytest.mark.parametrize("capacity", [2**50, 2**62, 2**63, 2**70])
def test_a_capacity_that_does_not_fit_into_memory(capacity):
    with pytest.raises(MemoryError, match=f"a pool of {capacity} streams does not fit into memory"):
        Sequential([Input((None, I)), layers.GRU(4)]).stream_pool(capacity)


def test_ids_are_never_given_twice():
    pool = Model(x := Input((None, I)), layers.GRU(4)(x)).stream_pool(2)
    seen = set()
    for _ in range(10):
        one = pool.open()
        assert one in pool and one not in seen
        seen.add(one)
        pool.close(one)
        assert one not in pool and "a" not in pool and True not in pool and 2**70 not in pool
