"""Live streams: the bits of the whole sequence however it is cut, several inputs and outputs, states, copies, threads, arrays of the caller's, refusals."""

import copy
import os
import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Model, Sequential, layers
from rnnfast.errors import ShapeError

I, T = 5, 23
CELLS = {
    "rnn": lambda: layers.SimpleRNN(7, return_sequences=True),
    "lstm": lambda: layers.LSTM(19, return_sequences=True),
    "gru": lambda: layers.GRU(40, return_sequences=True),
    "gru-relu": lambda: layers.GRU(9, return_sequences=True, activation="relu", recurrent_activation="hard_sigmoid", use_bias=False),
    "gru-before": lambda: layers.GRU(9, return_sequences=True, reset_after=False),
    "zoneout": lambda: layers.LSTM(9, return_sequences=True, zoneout=0.1),
    "projected": lambda: layers.ProjectedLSTM(9, 4, return_sequences=True),
    "statal": lambda: layers.Statal(6, slots=3, state="trace", return_sequences=True),
    "peephole": lambda: layers.PeepholeLSTM(9, return_sequences=True),
    "last": lambda: layers.LSTM(8),
}


def attending(layer):
    """A model in which a stream attends to its own last steps."""
    x = Input((None, I))
    h = layers.GRU(6, return_sequences=True)(x)
    return Model(x, layers.Add()([layer([h, h]), h]))


WINDOWED = {
    "attention": lambda: attending(layers.Attention(window=4, use_causal_mask=True, score_mode="scaled")),
    "general": lambda: attending(layers.Attention(window=1, use_causal_mask=True, score_mode="general", use_scale=True)),
    "additive": lambda: attending(layers.AdditiveAttention(units=5, window=3, use_causal_mask=True)),
    "own-step": lambda: attending(layers.Attention(window=0, use_causal_mask=True)),
}


def randomized(model, rng):
    model.set_weights([rng.standard_normal(w.shape) * 0.5 for w in model.get_weights()])
    return model


def made(kind, rng, dtype="float32"):
    if kind in WINDOWED:
        return randomized(WINDOWED[kind](), rng)
    layer = CELLS[kind]()
    return randomized(Sequential([Input((None, I), dtype=dtype), type(layer).from_config(layer.get_config() | {"dtype": dtype}), layers.Dense(3, dtype=dtype)]), rng)


def cuts(rng, n=T):
    return np.sort(rng.choice(np.arange(1, n), 4, replace=False))


@pytest.mark.parametrize("kind", [*CELLS, *WINDOWED])
def test_streamed_equals_whole(kind, rng):
    model, x = made(kind, rng), rng.standard_normal((T, I)).astype(np.float32)
    # a layer that gives its last output alone gives every step's to a stream
    whole = np.stack([model.predict_on_batch(x[None, : t + 1])[0] for t in range(T)]) if kind == "last" else model.predict_on_batch(x[None])[0]
    stream = model.stream()
    np.testing.assert_array_equal([stream.step(row) for row in x], whole)
    for _ in range(3):
        stream.reset()
        np.testing.assert_array_equal(np.concatenate([stream.process(part) for part in np.split(x, cuts(rng))]), whole)


@pytest.mark.parametrize("units", [1, 8, 16, 24, 33, 64, 100])
@pytest.mark.parametrize("inputs", [1, 4, 9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_alone_gives_the_bits_of_a_row_among_others(units, inputs, dtype, rng):
    for cell in (layers.LSTM, layers.GRU, partial(layers.GRU, reset_after=False), layers.PeepholeLSTM):
        model = randomized(Sequential([Input((None, inputs), dtype=dtype), cell(units, return_sequences=True, dtype=dtype)]), rng)
        x = rng.standard_normal((3, 70, inputs)).astype(dtype)
        whole, stream = model.predict_on_batch(x), model.stream()
        np.testing.assert_array_equal(stream.process(x[1, :9]), whole[1, :9])
        np.testing.assert_array_equal([stream.step(row) for row in x[1, 9:12]], whole[1, 9:12])
        np.testing.assert_array_equal(stream.process(x[1, 12:]), whole[1, 12:])
        np.testing.assert_array_equal(model.predict_on_batch(x[2:])[0], whole[2])


def test_two_threads_share_the_units_of_a_wide_step(rng):
    before = rnnfast.get_num_threads()
    model, x = randomized(Sequential([Input((None, 256)), layers.LSTM(256, return_sequences=True)]), rng), rng.standard_normal((6, 256)).astype(np.float32)
    try:
        outputs = []
        for threads in (1, 2):
            rnnfast.set_num_threads(threads)
            stream = model.stream()
            outputs.append([[stream.step(row) for row in x[:3]], stream.process(x[3:])])
        for one, two in zip(*outputs, strict=True):
            np.testing.assert_array_equal(one, two)
        rnnfast.set_num_threads(1)
        np.testing.assert_array_equal(stream.copy().step(x[0]), stream.step(x[0]))  # made for two, called on one
    finally:
        rnnfast.set_num_threads(before)


def two_ended(rng):
    """Two inputs, one of them tokens; outputs, and the states of one layer."""
    words, sound = Input((None,), name="words"), Input((None, I), name="sound")
    h, *state = layers.LSTM(6, return_sequences=True, return_state=True, name="lstm")(layers.Concatenate()([layers.Embedding(11, 4)(words), sound]))
    return randomized(Model([words, sound], [layers.Dense(2)(h), h, *state]), rng)


def test_several_inputs_and_outputs(rng):
    model, words, sound = two_ended(rng), rng.integers(0, 11, T), rng.standard_normal((T, I)).astype(np.float32)
    whole, stream = model.predict_on_batch([words[None], sound[None]]), model.stream()
    steps = [stream.step([word, row]) for word, row in zip(words, sound, strict=True)]
    for i in (0, 1):
        np.testing.assert_array_equal(np.stack([step[i] for step in steps]), whole[i][0])
    for i in (2, 3):
        np.testing.assert_array_equal(steps[-1][i], whole[i][0])
    stream.reset()
    out = [np.empty((T, 2), np.float32), np.empty((T, 6), np.float32), np.empty(6, np.float32), np.empty(6, np.float32)]
    assert stream.process({"sound": sound, "words": words}, out) is out
    for y, expected in zip(out, whole, strict=True):
        np.testing.assert_array_equal(y, expected[0])


def test_initial_states_that_are_inputs_become_the_streams_own(rng):
    x, h, c = Input((None, I), name="x"), Input((6,), name="h"), Input((6,), name="c")
    y, h1, c1 = layers.LSTM(6, return_sequences=True, return_state=True, name="lstm")(x, initial_state=[h, c])
    model = randomized(Model([x, h, c], [y, h1, c1]), rng)
    values, start = rng.standard_normal((T, I)).astype(np.float32), [rng.standard_normal(6).astype(np.float32) for _ in range(2)]
    whole, stream = model.predict_on_batch([values[None], *(s[None] for s in start)]), model.stream()
    stream.set_state({"lstm": start})
    parts = [stream.process(part) for part in np.split(values, cuts(rng))]
    np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), whole[0][0])
    for i in (1, 2):
        np.testing.assert_array_equal(parts[-1][i], whole[i][0])


def test_tokens(rng):
    model = randomized(Sequential([Input((None,)), layers.Embedding(7, 4), layers.GRU(5, return_sequences=True), layers.Dense(7)]), rng)
    x = rng.integers(0, 7, T)
    whole, stream = model.predict_on_batch(x[None])[0], model.stream()
    for kind in (int, np.int64, np.int16, np.array):
        stream.reset()
        np.testing.assert_array_equal([stream.step(kind(token)) for token in x], whole)
    stream.reset()
    np.testing.assert_array_equal(np.concatenate([stream.process(x[:9]), stream.process(x[9:18]), stream.process(x[18:].tolist())]), whole)
    for wrong in (7, -1, 2**70):
        with pytest.raises((ValueError, TypeError), match=r"tokens must be in|real numbers"):
            stream.step(wrong)
    with pytest.raises(TypeError, match="whole numbers"):
        stream.step(1.5)
    padded = Sequential([Input((None,)), layers.Embedding(7, 4, mask_zero=True), layers.GRU(5, return_sequences=True)]).stream()
    padded.step(1)
    with pytest.raises(ValueError, match="padding"):
        padded.step(0)


def test_arrays_of_the_callers(rng):
    model, x = made("lstm", rng), rng.standard_normal((T, I)).astype(np.float32)
    whole, stream = model.predict_on_batch(x[None])[0], model.stream()
    y, rest = np.empty(3, np.float32), np.empty((T - 2, 3), np.float32)
    assert stream.step(x[0], y) is y and stream.step(x[1], out=y) is y
    np.testing.assert_array_equal(y, whole[1])
    assert stream.process(x[2:], out=rest) is rest
    np.testing.assert_array_equal(rest, whole[2:])
    stream.reset()
    odd = np.asfortranarray(x.astype(np.float64))
    np.testing.assert_array_equal(np.concatenate([stream.process(odd[:3]), [stream.step(list(row)) for row in odd[3:]]]), whole)


def test_a_chunk_of_no_steps(rng):
    model, x = made("lstm", rng), rng.standard_normal((T, I)).astype(np.float32)
    stream, nothing = model.stream(), np.empty((0, 3), np.float32)
    assert stream.process(x[:0]).shape == (0, 3) and stream.process(x[:0], nothing) is nothing
    with pytest.raises(ShapeError, match=r"out must be float32 of shape \(0, 3\)"):
        stream.process(x[:0], np.empty((1, 3), np.float32))
    np.testing.assert_array_equal(stream.process(x), model.predict_on_batch(x[None])[0])
    inside = Input((None, I))
    last = Model(inside, layers.GRU(4, return_sequences=True, return_state=True)(inside))
    for empty in (lambda: last.stream().process(x[:0]), lambda: (pool := last.stream_pool(2)).process([pool.open()], x[None, :0])):
        with pytest.raises(ValueError, match="a chunk of no steps has no last one"):
            empty()


def two_by_two(rng):
    """Two inputs, one of them tokens without padding, and two outputs."""
    a, b = Input((None, I), name="a"), Input((None,), dtype="int32", name="b")
    h = layers.Concatenate()([layers.LSTM(I, return_sequences=True)(a), layers.Embedding(9, 3, mask_zero=True)(b)])
    return randomized(Model([a, b], [layers.Dense(I)(h), layers.GRU(I, return_sequences=True)(h)]), rng)


def test_several_inputs_and_outputs_in_chunks_of_several_sizes(rng):
    model, x, tokens = two_by_two(rng), rng.standard_normal((T, I)).astype(np.float32), rng.integers(1, 9, T)
    whole, stream = model.predict_on_batch([x[None], tokens[None]]), model.stream()
    for _ in range(3):  # the first time everything is looked at, then sizes are known
        stream.reset()
        outs, place = [np.empty((T, I), np.float32) for _ in range(2)], 0
        for size in (1, 2, 5, 1, 2, 5, 7):
            end = place + size
            given, parts = [x[place:end], tokens[place:end]], [out[place:end] for out in outs]
            if size == 1:
                assert stream.step([x[place], tokens[place]], out=[part[0] for part in parts])[1].base is parts[1].base
            else:
                assert stream.process(given, out=parts) is parts
            place = end
        for out, expected in zip(outs, whole, strict=True):
            np.testing.assert_array_equal(out, expected[0])
    for wrong in (0, 9):
        with pytest.raises(ValueError, match=r"padding|token"):
            stream.step([x[0], np.int64(wrong)])


@pytest.mark.parametrize("layer", [layers.LSTM(64, return_sequences=True), layers.Dense(64), layers.GRU(64, return_sequences=True), layers.BatchNormalization()], ids=lambda one: type(one).__name__)
def test_outputs_may_go_where_the_inputs_are(layer, rng):
    model, x = randomized(Sequential([Input((None, 64)), layer]), rng), rng.standard_normal((T, 64)).astype(np.float32)
    if isinstance(layer, layers.BatchNormalization):
        layer.set_weights([np.abs(w) + 0.5 for w in layer.get_weights()])
    whole, stream = model.predict_on_batch(x[None])[0], model.stream()
    for _ in range(2):
        stream.reset()
        both = x[:12].copy()
        for row in both:
            stream.step(row, row)
        np.testing.assert_array_equal(both, whole[:12])
        longer = np.vstack([x[12:], x[:1]])
        stream.process(longer[:-1], longer[1:])  # a step behind
        np.testing.assert_array_equal(longer[1:], whole[12:])
    pool, rows = model.stream_pool(2), x[:2].copy()
    ids = [pool.open(), pool.open()]
    expected = pool.step(ids, x[:2]).copy()
    for one in ids:
        pool.reset(one)
    pool.step(ids, rows, rows)
    np.testing.assert_array_equal(rows, expected)
    several = Model(inside := Input((None, 64)), [layer(inside), layers.Activation("tanh")(inside)]).stream()
    with pytest.raises(ValueError, match="an array of its own for each"):
        several.step(x[0], [rows[0], rows[0]])


WRONG_ARRAYS = {
    "width": (lambda s: s.step(np.zeros(I + 1, np.float32)), ShapeError, r"must have shape \(5,\), got \(6,\)"),
    "rank": (lambda s: s.process(np.zeros(I, np.float32)), ShapeError, "must have shape"),
    "text": (lambda s: s.step(["a"] * I), TypeError, "real numbers"),
    "out-shape": (lambda s: s.step(np.zeros(I, np.float32), np.empty(4, np.float32)), ShapeError, r"out must be float32 of shape \(3,\)"),
    "out-dtype": (lambda s: s.step(np.zeros(I, np.float32), np.empty(3)), ShapeError, "got float64"),
    "out-strided": (lambda s: s.process(np.zeros((2, I), np.float32), np.empty((3, 2), np.float32).T), ValueError, "C-contiguous"),
    "out-list": (lambda s: s.step(np.zeros(I, np.float32), [np.empty(3, np.float32)] * 2), ValueError, "1 arrays, got 2"),
    "out-frozen": (lambda s: s.step(np.zeros(I, np.float32), np.frombuffer(bytes(12), np.float32)), ValueError, "writeable"),
    "state-layers": (lambda s: s.set_state({}), ValueError, r"must have the layers"),
    "state-count": (lambda s: s.set_state({name: state[:1] for name, state in s.get_state().items()}), ValueError, "must be 2 arrays, got 1"),
    "state-kind": (lambda s: s.set_state(dict.fromkeys(s.get_state(), 3)), ValueError, "must be 2 arrays, got int"),
    "state-text": (lambda s: s.set_state({name: [state[0] + 1, ["a"] * 19] for name, state in s.get_state().items()}), TypeError, "state 1 of .* must be real"),
    "state-none": (lambda s: s.set_state({name: [state[0] + 1, [None] * 19] for name, state in s.get_state().items()}), TypeError, "state 1 of .* must be real"),
    "ragged": (lambda s: s.process([[1.0], [1.0, 2.0]]), ShapeError, "must be an array"),
    "state-shape": (lambda s: s.set_state({name: [state[0], state[1][:3]] for name, state in s.get_state().items()}), ShapeError, "state 1 of"),
}


@pytest.mark.parametrize("call, error, text", WRONG_ARRAYS.values(), ids=WRONG_ARRAYS)
def test_what_does_not_fit_is_refused_and_changes_nothing(call, error, text, rng):
    stream, x = made("lstm", rng).stream(), rng.standard_normal(I).astype(np.float32)
    stream.step(x)
    before = stream.get_state()
    with pytest.raises(error, match=text):
        call(stream)
    for name, state in stream.get_state().items():
        np.testing.assert_array_equal(state, before[name])


def from_another():
    x = Input((None, I))
    _, h = layers.GRU(4, return_state=True)(x)
    return Model(x, layers.GRU(4, return_sequences=True)(x, initial_state=h))


def used_twice():
    x, layer = Input((None, I)), layers.GRU(I, return_sequences=True)
    return Model(x, layer(layer(x)))


REFUSED = {
    "bidirectional": (lambda: Sequential([Input((None, I)), layers.Bidirectional(layers.GRU(4, return_sequences=True))]), "Bidirectional .*whole sequence"),
    "backwards": (lambda: Sequential([Input((None, I)), layers.GRU(4, go_backwards=True)]), "GRU .*cannot be streamed"),
    "pooling": (lambda: Sequential([Input((None, I)), layers.GlobalMaxPooling1D()]), "GlobalMaxPooling1D .*whole sequence"),
    "attention": (lambda: attending(layers.Attention(use_causal_mask=True)), "window= and use_causal_mask=True"),
    "attention-ahead": (lambda: attending(layers.Attention(window=3)), "window= and use_causal_mask=True"),
    "masking": (lambda: Sequential([Input((None, I)), layers.Masking(), layers.GRU(4)]), "Masking .*valid steps alone"),
    "state-of-another": (from_another, "starts from what other layers give"),
    "twice": (used_twice, "used more than once"),
    "no-time": (lambda: Sequential([Input((I,)), layers.Dense(3)]), "no time axis"),
}


@pytest.mark.parametrize("model, text", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_streamed_is_refused_with_the_reason(model, text):
    for make in (lambda m: m.stream(), lambda m: m.stream_pool(2)):
        with pytest.raises(ValueError, match=text):
            make(model())


def test_states_and_copies(rng):
    model, x = made("lstm", rng), rng.standard_normal((T, I)).astype(np.float32)
    whole, stream = model.predict_on_batch(x[None])[0], model.stream()
    stream.process(x[:9])
    other, kept = stream.copy(), stream.get_state()
    np.testing.assert_array_equal(stream.process(x[9:]), whole[9:])
    np.testing.assert_array_equal(other.process(x[9:]), whole[9:])
    stream.set_state(kept)
    np.testing.assert_array_equal([stream.step(row) for row in x[9:]], whole[9:])


@pytest.mark.parametrize("kind", ["lstm", "attention"])
def test_threads_run_streams_of_their_own(kind, rng):
    model, x = made(kind, rng), rng.standard_normal((8, 400, I)).astype(np.float32)
    whole = model.predict_on_batch(x)

    def run(rows):
        stream = model.stream()
        return np.concatenate([np.stack([stream.step(row) for row in rows[:200]]), stream.process(rows[200:])])

    with ThreadPoolExecutor(8) as threads:
        np.testing.assert_array_equal(np.stack(list(threads.map(run, x))), whole)


def test_a_stream_in_two_threads_at_once_says_so():
    class Calling(layers.Cell):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.state_size = 2

        def call(self, inputs, states):
            with pytest.raises(RuntimeError, match="two threads"):
                stream.step(np.zeros(2, np.float32))
            return inputs, [inputs]

    stream = Sequential([Input((None, 2)), layers.RNN(Calling(), return_sequences=True)]).stream()
    stream.step(np.zeros(2, np.float32))


@pytest.mark.parametrize("inputs", [1, 2])
def test_a_stream_that_is_in_a_call_is_left_alone(inputs, rng):
    """Another thread's call, of whatever kind, is refused before it changes anything; a forked child may go on."""
    entered, leave = threading.Event(), threading.Event()

    class Waiting(layers.Cell):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.state_size = 2

        def call(self, inputs, states):
            entered.set()
            leave.wait(30)
            return inputs + states[0], [inputs + states[0]]

    given = [Input((None, 2)) for _ in range(inputs)]
    h = layers.Concatenate()(given) if inputs > 1 else given[0]
    h = layers.Dense(2)(h)
    stream = Model(given, layers.RNN(Waiting(), return_sequences=True)(h)).stream()
    x = [rng.standard_normal((4, 2)).astype(np.float32) for _ in range(inputs)]
    other = [-one for one in x]
    leave.set()
    expected = stream.process(x)
    stream.reset()
    entered.clear()
    leave.clear()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(stream.process, x)
        assert entered.wait(30)
        for call in (lambda: stream.process(other), lambda: stream.step([one[0] for one in other]), stream.reset, stream.get_state, lambda: stream.set_state({}), stream.copy):
            with pytest.raises(RuntimeError, match="two threads"):
                call()
        if hasattr(os, "fork"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of forks of a process with threads
                child = os.fork()
            if child == 0:
                stream.reset()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        leave.set()
        np.testing.assert_array_equal(running.result(), expected)


def test_a_stream_of_a_model_that_was_changed(rng):
    model = made("gru", rng)
    stream, pool, x = model.stream(), model.stream_pool(2), np.zeros(I, np.float32)
    one = pool.open()
    stream.step(x)
    for change in (lambda: model.add(layers.GRU(4, return_sequences=True)), model.pop, model.pop):
        change()
        same = len(model.layers) == 2
        for call in (lambda: stream.step(x), lambda: pool.step([one], x[None])):
            if same:
                call()
            else:
                with pytest.raises(RuntimeError, match="other layers than when its live sequences began"):
                    call()
    assert model.stream().step(x).shape == (40,)


def test_streams_and_pools_have_copies_of_their_own(rng):
    model = made("lstm", rng)
    for live in (model.stream(), model.stream_pool(2)):
        for way in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="get_state"):
                way(live)


def test_a_stream_follows_its_models_weights(rng):
    model, x = Sequential([Input((None, I)), layers.GRU(6, return_sequences=True)]), rng.standard_normal((2, T, I)).astype(np.float32)
    stream = model.stream()
    stream.process(x[0])
    for change in (lambda: randomized(model, rng), lambda: (model.compile("adam", "mse"), model.train_on_batch(x, x[..., :1].repeat(6, 2))), lambda: setattr(model.layers[0], "trainable", False)):
        change()
        stream.reset()
        expected = model.predict_on_batch(x[:1])[0]
        np.testing.assert_array_equal(np.concatenate([[stream.step(x[0, 0])], stream.process(x[0, 1:])]), expected)
    randomized(model, rng)
    stream.reset()
    np.testing.assert_array_equal(stream.step(x[0, 0]), model.predict_on_batch(x[:1])[0, 0])
