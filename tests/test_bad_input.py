"""Odd, wrong and hostile input: the right result, or one error that names the layer, the argument, what was expected and what came."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast
from rnnfast import layers
from tests import cases

F, H = 4, 5
X = np.random.default_rng(0).normal(size=(3, 6, F)).astype(np.float32)


def gru(**options):
    layer = layers.GRU(H, name="gru_one", return_sequences=True, **options)
    layer.build((None, None, F))
    return layer


def model(**compile_options):
    made = rnnfast.Sequential([rnnfast.Input((None, F)), layers.GRU(H, name="gru_one"), layers.Dense(2, name="dense_one")])
    made.compile(**{"optimizer": "sgd", "loss": "mse"} | compile_options)
    return made


def states(*shapes):
    return [np.zeros(s, np.float32) for s in shapes]


# what is called -> the words that the message must hold
WRONG_CALLS = {
    "rank-2": (lambda m: m(X[0]), ["gru_one", "input", "(6, 4)", "(B, T, 4)"]),
    "rank-4": (lambda m: m(X[..., None]), ["gru_one", "input", "(3, 6, 4, 1)", "(B, T, 4)"]),
    "rank-0": (lambda m: m(np.float32(1)), ["gru_one", "input", "()"]),
    "features": (lambda m: m(X[..., :3]), ["gru_one", "input", "(3, 6, 3)", "(B, T, 4)"]),
    "no-features": (lambda m: m(X[..., :0]), ["gru_one", "input", "(3, 6, 0)"]),
    "complex": (lambda m: m(X.astype(complex)), ["gru_one", "input", "complex128"]),
    "object": (lambda m: m(X.astype(object)), ["gru_one", "input", "object"]),
    "strings": (lambda m: m(X.astype(str)), ["gru_one", "input", "<U"]),
    "dates": (lambda m: m(X.astype("datetime64[s]")), ["gru_one", "input", "datetime64"]),
    "records": (lambda m: m(np.zeros((3, 6, F), [("a", "f4")])), ["gru_one", "input"]),
    "lengths-shape": (lambda m: m(X, lengths=np.array([1, 2])), ["gru_one", "lengths", "(3,)", "(2,)"]),
    "lengths-rank": (lambda m: m(X, lengths=np.ones((3, 1), int)), ["gru_one", "lengths", "(3,)", "(3, 1)"]),
    "lengths-float": (lambda m: m(X, lengths=np.array([1.0, 2.0, 3.0])), ["gru_one", "lengths", "float64"]),
    "lengths-long": (lambda m: m(X, lengths=np.array([1, 7, 3])), ["gru_one", "lengths", "6", "7"]),
    "lengths-negative": (lambda m: m(X, lengths=np.array([1, -1, 3])), ["gru_one", "lengths", "-1"]),
    "lengths-huge": (lambda m: m(X, lengths=np.array([1, 2**62, 3])), ["gru_one", "lengths", str(2**62)]),
    "mask-shape": (lambda m: m(X, mask=np.ones((3, 5), bool)), ["gru_one", "mask", "(3, 6)", "(3, 5)"]),
    "mask-dtype": (lambda m: m(X, mask=np.full((3, 6), "a")), ["gru_one", "mask", "<U1"]),
    "states-count": (lambda m: m(X, initial_state=states((3, H), (3, H))), ["gru_one", "initial_state", "1", "2"]),
    "states-units": (lambda m: m(X, initial_state=states((3, H + 1))), ["gru_one", "initial_state", "(3, 5)", "(3, 6)"]),
    "states-batch": (lambda m: m(X, initial_state=states((2, H))), ["gru_one", "initial_state", "(3, 5)", "(2, 5)"]),
    "states-complex": (lambda m: m(X, initial_state=[np.zeros((3, H), complex)]), ["gru_one", "initial_state[0]", "real numbers", "complex128"]),
    "states-strings": (lambda m: m(X, initial_state=[np.full((3, H), "a")]), ["gru_one", "initial_state[0]", "real numbers", "<U1"]),
    "upstream-objects": (lambda m: m.vjp(X, np.zeros((3, 6, H), object)), ["gru_one", "gradient", "real numbers", "object"]),
    "upstream-shape": (lambda m: m.vjp(X, np.zeros((3, 6, H + 1), np.float32)), ["gru_one", "(3, 6, 5)", "(3, 6, 6)"]),
    "weights-count": (lambda m: m.set_weights(m.get_weights()[:2]), ["gru_one", "weights", "3", "2"]),
    "weights-shape": (
        lambda m: m.set_weights([w.T for w in m.get_weights()]),
        ["gru_one", "kernel", "(4, 15)", "(15, 4)"],
    ),
}


def refuses(owner, call, words):
    """The call is an error that says all words and leaves the weights alone."""
    before = owner.get_weights()
    with pytest.raises((ValueError, TypeError)) as caught:
        call(owner)
    assert [w for w in words if w not in str(caught.value)] == []
    for a, b in zip(before, owner.get_weights(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(("call", "words"), [pytest.param(*case, id=name) for name, case in WRONG_CALLS.items()])
def test_wrong_arguments_of_a_call(call, words):
    layer = gru()
    refuses(layer, call, words)
    assert layer(X).shape == (3, 6, H), "the layer must work after an error"


WRONG_CONSTRUCTION = {
    "units-0": (lambda: layers.LSTM(0, name="a"), ["LSTM", "'a'", "units", "0"]),
    "units-negative": (lambda: layers.GRU(-3, name="a"), ["GRU", "'a'", "units", "-3"]),
    "units-float": (lambda: layers.Dense(1.5, name="a"), ["Dense", "'a'", "units", "1.5"]),
    "units-string": (lambda: layers.SimpleRNN("8", name="a"), ["SimpleRNN", "'a'", "units", "'8'"]),
    "units-bool": (lambda: layers.LSTM(True, name="a"), ["LSTM", "'a'", "units", "True"]),
    "embedding": (lambda: layers.Embedding(0, 4, name="a"), ["Embedding", "'a'", "input_dim", "0"]),
    "repeat": (lambda: layers.RepeatVector(0, name="a"), ["RepeatVector", "'a'", "n", "0"]),
    "dropout-high": (lambda: layers.Dropout(1.5, name="a"), ["Dropout", "'a'", "rate", "1.5"]),
    "dropout-low": (lambda: layers.LSTM(4, dropout=-0.1, name="a"), ["LSTM", "'a'", "dropout", "-0.1"]),
    "activation": (lambda: layers.GRU(4, activation="tahn", name="a"), ["GRU", "'a'", "activation", "tahn", "'tanh'"]),
    "gate": (lambda: layers.LSTM(4, recurrent_activation="sigmoit", name="a"), ["'a'", "recurrent_activation", "sigmoit", "'sigmoid'"]),
    "initializer": (lambda: layers.GRU(4, kernel_initializer="glorot_unifrom"), ["glorot_unifrom", "'glorot_uniform'"]),
    "regularizer": (lambda: layers.GRU(4, kernel_regularizer="l3"), ["l3", "l2"]),
    "constraint": (lambda: layers.GRU(4, kernel_constraint="max_nrom"), ["max_nrom", "max_norm"]),
    "argument": (lambda: layers.LSTM(4, return_sequence=True), ["LSTM", "return_sequence", "return_sequences"]),
    "merge-mode": (lambda: layers.Bidirectional(layers.GRU(4), merge_mode="contact", name="a"), ["'a'", "merge_mode", "contact", "concat"]),
    "wrapped": (lambda: layers.Bidirectional(layers.Dense(4), name="a"), ["Bidirectional", "'a'", "layer", "Dense"]),
    "directions": (
        lambda: layers.Bidirectional(layers.GRU(4), backward_layer=layers.GRU(4), name="a"),
        ["Bidirectional", "'a'", "go_backwards"],
    ),
    "time-distributed": (lambda: layers.TimeDistributed("dense", name="a"), ["TimeDistributed", "'a'", "layer", "'dense'"]),
    "dtype": (lambda: layers.GRU(4, dtype="float16", name="a"), ["GRU", "'a'", "dtype", "float16"]),
    "optimizer": (lambda: model(optimizer="adma"), ["adma", "adam"]),
    "loss": (lambda: model(loss="msee"), ["msee", "mse"]),
    "no-layer": (lambda: rnnfast.Sequential(["dense"]), ["sequential", "'dense'"]),
    "threads": (lambda: rnnfast.set_num_threads(0), ["0"]),
}


@pytest.mark.parametrize(("make", "words"), [pytest.param(*case, id=name) for name, case in WRONG_CONSTRUCTION.items()])
def test_wrong_arguments_of_constructors(make, words):
    with pytest.raises((ValueError, TypeError)) as caught:
        make()
    assert [w for w in words if w not in str(caught.value)] == []


WRONG_TRAINING = {
    "targets-rows": (lambda m: m.train_on_batch(X, np.zeros((2, 2))), ["y must have 3", "got 2"]),
    "targets-width": (lambda m: m.train_on_batch(X, np.zeros((3, 3))), ["(3, 3)", "(3, 2)"]),
    "targets-rank": (lambda m: m.train_on_batch(X, np.zeros((3, 6, 2))), ["(3, 6, 2)", "(3, 2)"]),
    "targets-complex": (lambda m: m.train_on_batch(X, np.zeros((3, 2), complex)), ["complex128"]),
    "weights-rows": (lambda m: m.train_on_batch(X, np.zeros((3, 2)), sample_weight=np.ones(4)), ["sample_weight must have 3", "got 4"]),
    "features": (lambda m: m.train_on_batch(X[..., :2], np.zeros((3, 2))), ["gru_one", "(3, 6, 2)"]),
    "lengths": (lambda m: m.train_on_batch(X, np.zeros((3, 2)), lengths=np.array([9, 1, 1])), ["lengths", "9"]),
}


@pytest.mark.parametrize(("call", "words"), [pytest.param(*case, id=name) for name, case in WRONG_TRAINING.items()])
def test_wrong_arguments_of_training(call, words):
    refuses(model(), call, words)


@pytest.mark.parametrize("labels", [[0, 7], [0, -1]])
def test_labels_out_of_range(labels):
    made = rnnfast.Sequential([rnnfast.Input((F,)), layers.Dense(3)])
    made.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=str(labels[1])):
        made.train_on_batch(X[:2, 0], np.array(labels))


def test_before_building():
    with pytest.raises(ValueError, match=r"'late'.*build"):
        layers.GRU(4, name="late").set_weights([])
    with pytest.raises(ValueError, match="layers"):
        rnnfast.Sequential([], name="none").predict_on_batch(X)
    with pytest.raises((ValueError, RuntimeError), match="compile"):
        rnnfast.Sequential([rnnfast.Input((None, F)), layers.GRU(2)]).train_on_batch(X, np.zeros((3, 2)))


@pytest.mark.parametrize("tokens", [[[0, 11]], [[-1, 2]], [[2**40, 1]]])
def test_tokens_outside_the_table(tokens):
    layer = layers.Embedding(11, 4, name="words")
    layer.build((None, None))
    with pytest.raises(ValueError, match=r"words.*11"):
        layer(np.array(tokens))


def test_tokens_with_fractions():
    layer = layers.Embedding(11, 4, name="words")
    layer.build((None, None))
    with pytest.raises((ValueError, TypeError), match="words"):
        layer(np.array([[0.5, 1.0]]))
    assert np.array_equal(layer(np.array([[2.0, 1.0]])), layer(np.array([[2, 1]])))


def misaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)
    view = raw[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    assert not view.flags.aligned
    return view


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS = {
    "read-only": read_only,
    "fortran": np.asfortranarray,
    "negative-strides": lambda a: a[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "sliced": lambda a: np.repeat(np.repeat(a, 2, axis=1), 3, axis=2)[:, ::2, ::3],
    "transposed": lambda a: a.transpose(1, 0, 2).copy().transpose(1, 0, 2),
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "misaligned": misaligned,
    "float64": lambda a: a.astype(np.float64),
    "longdouble": lambda a: a.astype(np.longdouble),
    "list": lambda a: a.tolist(),
    "subclass": lambda a: a.view(type("Sub", (np.ndarray,), {})),
}


@pytest.mark.parametrize("layout", [pytest.param(f, id=name) for name, f in LAYOUTS.items()])
def test_memory_layouts_give_the_same_bits(layout):
    layer, dy = gru(), np.random.default_rng(1).normal(size=(3, 6, H)).astype(np.float32)
    h0 = np.random.default_rng(2).normal(size=(3, H)).astype(np.float32)
    want, odd = layer.vjp(X, dy, initial_state=[h0]), layout(X)
    assert np.array_equal(layer(odd, initial_state=[h0]), want["y"])
    upstream = dy if isinstance(odd, list) else layout(dy)  # a list would be one gradient for each output
    got = layer.vjp(odd, upstream, initial_state=[layout(h0[None])[0]])
    for (name, a), (_, b) in zip(cases.named(got), cases.named(want), strict=True):
        assert np.array_equal(a, b), name
    weights = layer.get_weights()
    if not isinstance(odd, list):
        layer.set_weights([layout(w.reshape(1, 1, -1)).reshape(w.shape) for w in weights])
        assert np.array_equal(layer(X, initial_state=[h0]), want["y"])


@pytest.mark.parametrize("dtype", ["float16", "int8", "int64", "uint32", "bool"])
def test_other_real_numbers_are_converted(dtype):
    odd = np.round(X).astype(dtype)
    assert np.array_equal(gru_fixed()(odd), gru_fixed()(odd.astype(np.float32)))


def gru_fixed():
    layer, rng = gru(), np.random.default_rng(3)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def test_broadcast_and_overlapping_arrays():
    layer = gru_fixed()
    row = np.broadcast_to(X[:1], X.shape)
    assert np.array_equal(layer(row), layer(row.copy()))
    line = np.arange(60, dtype=np.float32)
    slid = np.lib.stride_tricks.as_strided(line, (3, 6, F), (24, 4, 4), writeable=False)
    assert np.array_equal(layer(slid), layer(slid.copy()))


def test_inputs_are_never_written_to():
    layer, rng = gru(), np.random.default_rng(4)
    arrays = {
        "x": X.copy(),
        "dy": rng.normal(size=(3, 6, H)).astype(np.float32),
        "mask": rng.random((3, 6)) < 0.5,
        "initial_state": [rng.normal(size=(3, H)).astype(np.float32)],
    }
    kept = {k: [a.copy() for a in cases.as_list(v)] for k, v in arrays.items()}
    layer.vjp(**arrays)
    layer(arrays["x"], mask=arrays["mask"], initial_state=arrays["initial_state"])
    y, w, n = rng.normal(size=(3, 2)).astype(np.float32), np.ones(3, np.float32), np.array([1, 6, 0])
    before = y.copy(), w.copy(), n.copy()
    trained = model()
    trained.train_on_batch(arrays["x"], y, sample_weight=w, lengths=n)
    trained.fit(arrays["x"], y, lengths=n, epochs=2, batch_size=2, verbose=0)
    for name, now in arrays.items():
        for a, b in zip(cases.as_list(now), kept[name], strict=True):
            assert np.array_equal(a, b), name
    for a, b in zip((y, w, n), before, strict=True):
        assert np.array_equal(a, b)


def test_results_belong_to_the_caller():
    layer, made = gru(), model()
    first, direct, found = layer(X), made.predict_on_batch(X), layer.vjp(X, np.ones((3, 6, H), np.float32))
    kept = [a.copy() for _, a in cases.named(found)]
    copies = first.copy(), direct.copy()
    layer(-X), made.predict_on_batch(-X), layer.vjp(-X, np.ones((3, 6, H), np.float32))
    assert np.array_equal(first, copies[0])
    assert np.array_equal(direct, copies[1])
    for (name, a), b in zip(cases.named(found), kept, strict=True):
        assert np.array_equal(a, b), name
    first[...] = 7.0
    assert not (layer(X) == 7.0).any()
    own = layer.get_weights()
    own[0][...] = 0.0
    assert layer.get_weights()[0].any()


@pytest.mark.parametrize("shape", [(0, 6), (3, 0), (0, 0)])
def test_empty_batches(shape):
    made = model()
    assert made.predict_on_batch(np.zeros((*shape, F), np.float32)).shape == (shape[0], 2)
    assert made.predict(np.zeros((*shape, F), np.float32), verbose=0).shape == (shape[0], 2)
    assert made(X).shape == (3, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("cell", cases.CELLS)
def test_a_bad_number_stays_in_its_row_and_after_its_step(cell, value, rng):
    layer = cases.problem(cases.recurrent(cell, 9, return_sequences=True), (5, 6, F), rng).build(rnnfast, "float32")
    x = rng.normal(size=(5, 6, F)).astype(np.float32)
    clean = layer(x)
    x[2, 3, 1] = value
    y = layer(x)
    others = np.arange(5) != 2
    assert np.array_equal(y[others], clean[others])
    assert np.array_equal(y[2, :3], clean[2, :3])
    if np.isnan(value):
        assert np.isnan(y[2, 3:]).all()


@pytest.mark.parametrize("cell", ["SimpleRNN", "LSTM", "GRU", "GRU-before"])
def test_huge_numbers_saturate(cell, rng):
    p = cases.problem(cases.recurrent(cell, 9, return_sequences=True), (3, 5, F), rng)
    x = (rng.normal(size=(3, 5, F)) * 1e30).astype(np.float32)
    y = p.build(rnnfast, "float32")(x)
    assert np.isfinite(y).all()
    assert (np.abs(y) <= 5).all()


def test_not_a_number_reaches_the_loss():
    made, x = model(), X.copy()
    x[0, 0, 0] = np.nan
    loss = made.train_on_batch(x, np.zeros((3, 2), np.float32))
    assert np.isnan(np.ravel(loss)[0])


OVERSIZED = {
    "units": (lambda: layers.LSTM(2**31, name="big").build((None, None, 8)), ["LSTM 'big'", "kernel", "(8, 8589934592)"]),
    "units-memory": (lambda: layers.SimpleRNN(2**40, name="big").build((None, None, 8)), ["SimpleRNN 'big'", "kernel", "(8, 1099511627776)"]),
    "features": (lambda: layers.Dense(2**20, name="big").build((None, 2**50)), ["Dense 'big'", "kernel", "(1125899906842624, 1048576)"]),
    "table": (lambda: layers.Embedding(2**40, 2**30, name="big").build((None, None)), ["Embedding 'big'", "embeddings"]),
    "batch": (lambda: gru()(np.broadcast_to(np.float32(0), (2**31, 2**20, F))), ["gru_one", "input", "(2147483648, 1048576, 4)"]),
    "repeat": (lambda: layers.RepeatVector(2**62, name="big")(np.zeros((3, 4), np.float32)), ["RepeatVector 'big'", str(2**62)]),
}


@pytest.mark.parametrize("case", OVERSIZED)
def test_sizes_beyond_memory(case):
    call, words = OVERSIZED[case]
    with pytest.raises(MemoryError) as caught:
        call()
    assert all(word in str(caught.value) for word in words), str(caught.value)


RECURRENT = {
    name: getattr(layers, name) for name in ("SimpleRNN", "LSTM", "GRU", "MinGRU", "IndRNN", "PeepholeLSTM", "LayerNormLSTM", "LayerNormGRU", "Statal")
} | {
    "ProjectedLSTM": lambda n, **k: layers.ProjectedLSTM(n, projection=2, **k),
    "softmax": lambda n, **k: layers.LSTM(n, activation="softmax", **k),
    "Bidirectional": lambda n, **k: layers.Bidirectional(layers.GRU(n), **k),
}  # fmt: skip


@pytest.mark.parametrize("kind", RECURRENT)
def test_an_unbuilt_recurrent_layer_takes_sequences_of_vectors_alone(kind):
    layer = RECURRENT[kind](3, name="one")
    with pytest.raises(rnnfast.errors.ShapeError, match=r"'one': input must have shape \(B, T, I\), got \(B, T, 2, 5\)"):
        layer(np.zeros((2, 3, 2, 5), np.float32))
    words = layers.TimeDistributed(RECURRENT[kind](3), name="each")
    with pytest.raises(rnnfast.errors.ShapeError, match=r"'each': .* which sees a step as a batch: input must have shape \(B, T, I\), got \(B, T, 4, 5\)"):
        words(np.zeros((2, 3, 2, 4, 5), np.float32))


@pytest.mark.parametrize(
    ("inside", "shape"),
    [
        (lambda: layers.RepeatVector(2), (2, 3, 4, 5)),
        (lambda: layers.GlobalMaxPooling1D(), (2, 3, 5)),
        (lambda: layers.SpatialDropout1D(0.1), (2, 3, 5)),
        (lambda: layers.GRU(2), (2, 3, 5)),
    ],
)
def test_a_step_must_fit_the_layer_inside(inside, shape):
    with pytest.raises(rnnfast.errors.ShapeError, match=r"TimeDistributed 'each': .* which sees a step as a batch: input must have shape"):
        layers.TimeDistributed(inside(), name="each")(np.zeros(shape, np.float32))


def test_layers_taken_away():
    made = rnnfast.Sequential([rnnfast.Input((None, F)), layers.GRU(3, return_sequences=True), layers.Dense(2)], name="short")
    assert made.pop().units == 2
    assert made.output_shape == (None, None, 3)
    made.pop(), made.pop()
    with pytest.raises(ValueError, match="has no layers to build"):
        made.predict(X, verbose=0)
    with pytest.raises(IndexError, match="'short': has no layer to remove"):
        made.pop()


def test_a_mask_over_sequences_of_sequences():
    made = rnnfast.Sequential([layers.TimeDistributed(layers.LSTM(2), name="words"), layers.GRU(2)])
    with pytest.raises(ValueError, match="TimeDistributed 'words': a mask or lengths cannot be combined with inputs of rank 4"):
        made.predict(np.zeros((2, 3, 4, 5)), lengths=np.array([3, 1]), verbose=0)
