"""The same bits: for any number of threads, padding, order and company in the batch, in one piece or step by step."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast
from tests import cases, reference

SEQUENCE = {"return_sequences": True}
MODELS = {
    "rnn": ("Sequential", [cases.recurrent("SimpleRNN", 33, **SEQUENCE)]),
    "lstm": ("Sequential", [cases.recurrent("LSTM", 64, **SEQUENCE)]),
    "lstm-last": ("Sequential", [cases.recurrent("LSTM", 24)]),
    "gru-wide": ("Sequential", [cases.recurrent("GRU", 200, **SEQUENCE)]),
    "gru-before": ("Sequential", [cases.recurrent("GRU-before", 40, **SEQUENCE)]),
    "bidirectional": ("Sequential", [("Bidirectional", {"layer": cases.recurrent("LSTM", 24, **SEQUENCE)})]),
    "bidirectional-last": ("Sequential", [("Bidirectional", {"layer": cases.recurrent("GRU", 17), "merge_mode": "sum"})]),
    "stack": (
        "Sequential",
        [
            cases.recurrent("GRU", 40, **SEQUENCE),
            ("LayerNormalization", {}),
            cases.recurrent("LSTM", 24, **SEQUENCE),
            ("GlobalMaxPooling1D", {}),
            ("Dense", {"units": 7, "activation": "softmax"}),
        ],
    ),
    "dense-first": (
        "Sequential",
        [("Dense", {"units": 9, "activation": "relu"}), cases.recurrent("GRU", 24), ("Dense", {"units": 3})],
    ),
    "average": ("Sequential", [cases.recurrent("SimpleRNN", 9, **SEQUENCE), ("GlobalAveragePooling1D", {})]),
}
SIZES = [(1, 20, 11), (2, 7, 64), (33, 9, 5), (66, 3, 16)]
FEATURES = 11


@pytest.fixture(autouse=True)
def restore_threads():
    kept = rnnfast.get_num_threads()
    yield
    rnnfast.set_num_threads(kept)


def models(*names):
    return [pytest.param(MODELS[n], id=n) for n in names or MODELS]


def made(spec, shape, rng, dtype="float32"):
    """A model that takes any number of steps, with an input and an upstream gradient."""
    p = cases.problem(spec, shape, rng)
    model = cases.build(rnnfast, spec, dtype)
    model.build((None, None, shape[2]))
    model.set_weights([w.astype(dtype) for w in p.oracle.weights])
    return model, p.x.astype(dtype), np.asarray(p.dy, dtype)


def same(a, b):
    """Equal bits, arrays or results of vjp."""
    if isinstance(a, dict):
        pairs = zip(cases.named(a), cases.named(b), strict=True)
        return [n for (n, one), (_, other) in pairs if not np.array_equal(one, other)] == []
    return np.array_equal(a, b) and np.isfinite(a).all()


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("spec", models())
def test_number_of_threads(spec, shape, rng):
    model, x, dy = made(spec, shape, rng)
    lengths = rng.integers(0, shape[1] + 1, shape[0])
    found = []
    for threads in (1, 2, 3):
        rnnfast.set_num_threads(threads)
        found.append((model(x), model(x, lengths=lengths), model.vjp(x, dy), model.vjp(x, dy, lengths=lengths)))
    for other in found[1:]:
        assert [same(a, b) for a, b in zip(found[0], other, strict=True)] == [True] * 4


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e30, -3.4e38])
@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("spec", models())
def test_content_of_masked_steps(spec, holes, poison, rng):
    model, x, dy = made(spec, (9, 8, FEATURES), rng)
    mask = rng.random((9, 8)) < 0.6 if holes else reference.length_mask(rng.integers(0, 9, 9), 8)
    clean, dirty = np.where(mask[..., None], x, 0), np.where(mask[..., None], x, np.float32(poison))
    assert same(model(clean, mask=mask), model(dirty, mask=mask))
    assert same(model.vjp(clean, dy, mask=mask), model.vjp(dirty, dy, mask=mask))


@pytest.mark.parametrize("spec", models())
def test_order_and_company_of_rows(spec, rng):
    model, x, _ = made(spec, (19, 6, FEATURES), rng)
    lengths = rng.integers(0, 7, 19)
    order = rng.permutation(19)
    for given in (None, lengths):
        full = model(x, lengths=given)
        pick = lambda rows, given=given: None if given is None else given[rows]
        assert same(model(x[order], lengths=pick(order)), full[order])
        for rows in (slice(3, 4), slice(0, 2), slice(5, 13)):
            assert same(model(x[rows], lengths=pick(rows)), full[rows])


@pytest.mark.parametrize(("cell", "units"), [("LSTM", 690), ("GRU", 809), ("SimpleRNN", 1371)])  # of no even number of parts
def test_company_of_rows_with_kernels_that_are_fetched_ahead(cell, units, rng):
    """Beyond 7 MB, and six rows."""
    spec = ("Sequential", [cases.recurrent(cell, units, recurrent_initializer="glorot_uniform", **SEQUENCE)])
    model = cases.build(rnnfast, spec, "float32")
    model.build((None, None, 45))
    x = rng.standard_normal((71, 3, 45), np.float32)
    few = np.concatenate([model.predict_on_batch(x[r : r + 4]) for r in range(0, 71, 4)])
    for threads in (1, 2):
        rnnfast.set_num_threads(threads)
        for rows in (71, 36, 13, 7):
            assert np.array_equal(model.predict_on_batch(x[:rows]), few[:rows])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("spec", models("rnn", "lstm", "gru-wide", "gru-before", "bidirectional"))
def test_gate_inputs_within_steps_or_before_them(spec, threads, rng):
    """Steps of many rows make their gate inputs themselves, those of a few rows find them made."""
    rnnfast.set_num_threads(threads)
    model, x, dy = made(spec, (77, 5, FEATURES), rng)
    lengths = rng.integers(0, 6, 77)
    for given in (None, lengths):
        full, dx = model(x, lengths=given), model.vjp(x, dy, lengths=given)["x"]
        for rows in (slice(0, 1), slice(20, 23), slice(76, 77), slice(0, 30), slice(31, 77)):
            few = None if given is None else given[rows]
            assert same(model(x[rows], lengths=few), full[rows])
            assert same(model.vjp(x[rows], dy[rows], lengths=few)["x"], dx[rows])


def test_the_plan_says_where_gate_inputs_are_computed():
    rnnfast.set_num_threads(2)
    narrow = rnnfast.Sequential([rnnfast.Input((None, 16)), rnnfast.layers.LSTM(64)])
    wide = rnnfast.Sequential([rnnfast.Input((None, 512)), rnnfast.layers.GRU(256)])
    assert "inputs within steps split=rows" in str(narrow.plan(256, 100))
    assert "chunk=" in str(narrow.plan(2, 100))
    assert "chunk=" in str(wide.plan(6, 100))


@pytest.mark.parametrize("spec", models())
def test_amount_of_padding(spec, rng):
    model, x, _ = made(spec, (7, 6, FEATURES), rng)
    lengths = np.array([6, 5, 0, 1, 3, 2, 6])
    padded = np.concatenate([x, rng.normal(size=(7, 5, FEATURES)).astype(np.float32)], axis=1)
    short, long = model(x, lengths=lengths), model(padded, lengths=lengths)
    assert same(short, long[:, :6] if short.ndim == 3 else long)
    assert same(model(x), model(x, lengths=np.full(7, 6)))


@pytest.mark.parametrize("spec", models("lstm", "gru-before", "stack"))
def test_repeated_and_interleaved_calls(spec, rng):
    model, x, dy = made(spec, (9, 6, FEATURES), rng)
    first, gradients = model(x), model.vjp(x, dy)
    for shape in ((1, 1), (9, 5), (4, 6), (30, 9)):
        model(rng.normal(size=(*shape, FEATURES)).astype(np.float32))
        assert same(model(x), first)
        assert same(model.predict_on_batch(x), first)
        assert same(model.predict(x, batch_size=4), first)
    assert same(model.vjp(x, dy), gradients)


@pytest.mark.parametrize("spec", models("rnn", "lstm", "gru-wide", "gru-before"))
def test_step_by_step_is_the_whole_sequence(spec, rng):
    model, x, _ = made(spec, (1, 12, FEATURES), rng)
    whole = model(x)[0]
    stream = model.stream()
    assert same(np.stack([np.array(stream.step(x_t)).reshape(-1) for x_t in x[0]]), whole)
    stream.reset()
    chunks = [np.array(stream.process(chunk)).reshape(len(chunk), -1) for chunk in np.split(x[0], [1, 4, 5])]
    assert same(np.concatenate(chunks), whole)


@pytest.mark.parametrize("steps", [9, 40])  # with 33 rows: gradients of weights in one round of rows, and in two
@pytest.mark.parametrize("threads", [1, 2])
def test_training_steps_do_not_depend_on_threads(threads, steps, rng):
    rnnfast.set_num_threads(threads)
    weights = []
    for n in (threads, 1):
        rnnfast.set_num_threads(n)
        model, x, _ = made(MODELS["dense-first"], (33, steps, 5), np.random.default_rng(3))
        model.compile(optimizer="adam", loss="mse")
        y = np.random.default_rng(4).normal(size=(33, 3)).astype(np.float32)
        for _ in range(5):
            model.train_on_batch(x, y)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        assert same(a, b)
