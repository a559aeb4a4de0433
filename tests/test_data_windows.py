"""Windows, splits, padding and buckets hold every step once, in order, and nothing from the future; Keras' functions give the same."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnfast import Input, Sequential, ShapeError, data, layers
from tests.peers import require

RNG = np.random.default_rng(0)
examples = settings(deadline=None, max_examples=60)


@examples
@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3))
def test_windows_hold_what_lies_before_and_after_each_origin(steps, length, horizon, stride, columns):
    series = np.arange(steps * max(columns, 1), dtype=np.float64).reshape((steps, columns) if columns else steps)
    if steps < length + horizon:
        with pytest.raises(ValueError, match="at least"):
            data.windows(series, length, horizon, stride)
        return
    x, y = data.windows(series, length, horizon, stride)
    starts = range(0, steps - length - horizon + 1, stride)
    assert len(x) == len(y) == len(starts)
    for i, start in enumerate(starts):
        np.testing.assert_array_equal(x[i], series[start : start + length].reshape(length, -1))
        np.testing.assert_array_equal(y[i], series[start + length : start + length + horizon])
    if columns:
        np.testing.assert_array_equal(data.windows(series, length, horizon, stride, target=columns - 1)[1], y[..., -1])


@examples
@given(st.integers(4, 60), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.none() | st.integers(1, 3))
def test_rolling_origins_never_look_ahead(steps, horizon, start, stride, window):
    if start + horizon > steps or (window is not None and window > start):
        with pytest.raises(ValueError, match="rolling_origins"):
            list(data.rolling_origins(steps, horizon, start, stride, window))
        return
    for i, (seen, ahead) in enumerate(data.rolling_origins(steps, horizon, start, stride, window)):
        assert seen.stop == ahead.start == start + i * stride
        assert ahead.stop - ahead.start == horizon
        assert seen.start == (0 if window is None else seen.stop - window)
    assert ahead.stop > steps - stride


@examples
@given(st.integers(5, 50), st.integers(1, 3), st.integers(0, 3), st.integers(0, 1))
def test_parts_in_time_follow_each_other(steps, test, validation, history):
    parts = data.split_in_time(np.arange(steps), test=test, validation=validation, history=history) if steps > test + validation + history else ()
    if parts:
        cut = [parts[0], *(part[history:] for part in parts[1:])]
        np.testing.assert_array_equal(np.concatenate(cut), np.arange(steps))
        assert [len(part) for part in cut[1:]] == [size for size in (validation, test) if size]


@pytest.mark.parametrize("test, validation, history", [(0, 0, 0), (1.0, 0, 0), (-1, 0, 0), (True, 0, 0), (5, 5, 0), (2, 0, 9), (0.01, 0, 0)])
def test_parts_of_no_sense(test, validation, history):
    with pytest.raises(ValueError, match="split_in_time"):
        data.split_in_time(np.arange(10), test, validation, history)


PADDED = [
    {},
    {"maxlen": 2},
    {"maxlen": 9, "padding": "post", "value": -1},
    {"maxlen": 2, "truncating": "post", "padding": "post"},
    {"dtype": "float32", "value": 0.5},
    {"maxlen": 4, "truncating": "post"},
]


@pytest.mark.parametrize("arguments", PADDED)
@pytest.mark.parametrize("kind", ["lists", "vectors", "empty"])
def test_pad_sequences_is_keras(kind, arguments):
    keras = require("keras")
    sequences = {
        "lists": [[1], [2, 3, 4], [5, 6], []],
        "vectors": [RNG.integers(0, 9, (n, 2)) for n in (3, 1, 5)],
        "empty": [[], []],
    }[kind]
    if kind == "empty" and "maxlen" not in arguments:
        arguments = {**arguments, "maxlen": 3}
    ours, theirs = data.pad_sequences(sequences, **arguments), keras.utils.pad_sequences(sequences, **arguments)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


def test_pad_sequences_of_strings_and_to_nothing():
    assert data.pad_sequences([["a"], ["b", "c"]], dtype=object, value="-").tolist() == [["-", "a"], ["b", "c"]]
    assert data.pad_sequences([[1, 2], [3]], maxlen=0).shape == (2, 0)  # Keras keeps everything and fails
    assert data.pad_sequences([]).shape == (0, 0)


@pytest.mark.parametrize(
    "sequences, arguments, message",
    [
        ([1, 2], {}, "list of sequences"),
        ([[1]], {"padding": "end"}, "padding must be 'pre' or 'post'"),
        ([[1]], {"truncating": "begin"}, "truncating must be"),
        ([[1]], {"value": "x"}, "dtype must be object"),
        ([[1]], {"maxlen": -1}, "maxlen must be at least 0"),
        ([[[1, 2]], [[1]]], {}, "steps of sequence 1"),
    ],
)
def test_pad_sequences_refuses(sequences, arguments, message):
    with pytest.raises(ValueError, match=message):
        data.pad_sequences(sequences, **arguments)


def keras_windows(monkeypatch, *arguments, **options):
    """Keras' function, its own arithmetic of indices, over a stand-in for the library that it hands the samples to."""

    class Source(list):
        def to_iter_dataset(self):
            return self

        def batch(self, size, batch_fn):
            pairs = self and isinstance(self[0], tuple)
            chunks = [self[i : i + size] for i in range(0, len(self), size)]
            return [tuple(np.stack(part) for part in zip(*chunk, strict=True)) if pairs else np.stack(chunk) for chunk in chunks]

    grain = SimpleNamespace(MapDataset=SimpleNamespace(source=Source), experimental=SimpleNamespace(ZipMapDataset=lambda both: Source(zip(*both, strict=True))))
    module = require("keras.src.utils.timeseries_dataset_utils")
    monkeypatch.setattr(module, "grain", grain)
    return module.timeseries_dataset_from_array(*arguments, format="grain", **options)


@pytest.mark.parametrize("columns", [0, 2])
@pytest.mark.parametrize("with_targets", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"sequence_length": 4},
        {"sequence_length": 4, "batch_size": 3},
        {"sequence_length": 5, "sampling_rate": 2, "sequence_stride": 3},
        {"sequence_length": 3, "start_index": 5, "end_index": 21, "batch_size": 4},
        {"sequence_length": 1, "batch_size": None},
        {"sequence_length": 40},
    ],
)
def test_timeseries_dataset_is_keras(monkeypatch, options, with_targets, columns):
    require("keras")
    values = RNG.standard_normal((30, columns) if columns else 30)
    targets = np.arange(30 - 3) if with_targets else None
    theirs = list(keras_windows(monkeypatch, values, targets, **options))
    ours = data.timeseries_dataset_from_array(values, targets, **options)
    assert len(ours) == len(theirs) == len(list(ours))
    for own, other in zip(ours, theirs, strict=True):
        for a, b in zip(own, other, strict=True) if with_targets else [(own, other)]:
            np.testing.assert_array_equal(a, b)


def test_shuffled_windows_are_the_same_windows_in_a_new_order_every_time():
    make = lambda: data.timeseries_dataset_from_array(np.arange(50), np.arange(50), 3, batch_size=7, shuffle=True, seed=1)
    dataset = make()
    first, second = ([(x, y) for x, y in dataset] for _ in range(2))
    starts = [np.concatenate([y for _, y in walk]) for walk in (first, second)]
    assert sorted(starts[0]) == sorted(starts[1]) == list(range(48))
    assert not np.array_equal(*starts)
    assert all((x[:, 0] == y).all() for x, y in first)
    np.testing.assert_array_equal(starts[0], np.concatenate([y for _, y in make()]))


@pytest.mark.parametrize(
    "options", [{"sampling_rate": 0}, {"sampling_rate": 10}, {"sequence_stride": 10}, {"sequence_stride": -1}, {"start_index": -1}, {"start_index": 10}, {"end_index": 10}, {"start_index": 5, "end_index": 5}, {"sequence_length": 0}, {"batch_size": 0}]
)  # fmt: skip
def test_timeseries_dataset_refuses(options):
    with pytest.raises(ValueError, match="timeseries_dataset_from_array"):
        data.timeseries_dataset_from_array(np.arange(10), None, **{"sequence_length": 2, **options})


@examples
@given(st.lists(st.integers(0, 12), min_size=1, max_size=40), st.integers(1, 9), st.booleans())
def test_buckets_hold_every_sequence_once_among_its_like(sizes, batch_size, shuffle):
    sequences = [np.full((n, 2), i + 1, np.float32) for i, n in enumerate(sizes)]
    batches = data.bucket_by_length(sequences, np.arange(len(sizes)), batch_size, sample_weight=np.arange(len(sizes)) / 2, shuffle=shuffle, seed=0)
    seen, spans = [], []
    for x, y, weight, lengths in batches:
        assert x.shape == (len(y), lengths.max(), 2)
        np.testing.assert_array_equal(weight, y / 2)
        for row, number, length in zip(x, y, lengths, strict=True):
            assert length == sizes[number]
            assert (row[:length] == number + 1).all()
            assert not row[length:].any()
        seen.extend(y)
        spans.append((lengths.min(), lengths.max()))
    assert sorted(seen) == list(range(len(sizes)))
    assert len(batches) == len(spans)
    spans.sort()
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_a_model_learns_from_buckets_as_from_padded_arrays():
    sizes = RNG.integers(1, 9, 30)
    sequences = [RNG.standard_normal((n, 2)) for n in sizes]
    targets = [row[:, :1].cumsum(0) for row in sequences]
    model = Sequential([Input((None, 2)), layers.GRU(8, return_sequences=True), layers.Dense(1)])
    model.compile("adam", "mse")
    batches = data.bucket_by_length(sequences, targets, batch_size=8, seed=3)
    whole = data.pad_sequences(sequences, dtype="float32", padding="post"), data.pad_sequences(targets, dtype="float32", padding="post")
    before = model.evaluate(*whole, lengths=sizes, verbose=0)
    losses = model.fit(batches, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert model.evaluate(*whole, lengths=sizes, verbose=0) < before


def test_tokens_stay_whole_numbers():
    x, y, weight, _ = next(iter(data.bucket_by_length([[3, 4], [5]])))
    assert x.dtype.kind == "i"
    assert y is None
    assert weight is None


@pytest.mark.parametrize(
    "sequences, targets, message",
    [([], None, "not empty"), ([1, 2], None, "not empty"), ([np.ones((2, 1)), np.ones((2, 2))], None, "one shape"), ([[1]], [1, 2], "1 entries"), ([[1], [2, 3]], [[1], [1, 2, 3]], "length of its sequence")],
)  # fmt: skip
def test_buckets_refuse(sequences, targets, message):
    with pytest.raises(ShapeError, match=message):
        data.bucket_by_length(sequences, targets)
