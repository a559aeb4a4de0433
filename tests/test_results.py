"""Small results are given out again once nobody holds them: no earlier than that, whatever a caller has done to them."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rnnfast import Input, Sequential, layers

UNITS = 4
WAYS = ["predict", "step", "process"]


@pytest.fixture
def model():
    return Sequential([Input((None, UNITS)), layers.GRU(UNITS, return_sequences=True)])


def call_of(model, way):
    """A function of some numbers, and such numbers for it."""
    stream = model.stream()
    call, shape = {"predict": (model.predict_on_batch, (2, 3, UNITS)), "step": (stream.step, (UNITS,)), "process": (stream.process, (3, UNITS))}[way]
    rng = np.random.default_rng(0)
    return call, (rng.standard_normal(shape).astype(np.float32) for _ in itertools.count())


def expected_of(model, way, count):
    """The same results, each copied before the next call."""
    call, xs = call_of(model, way)
    return [call(x).copy() for x in itertools.islice(xs, count)]


HOLDS = {
    "itself": lambda y: y,
    "view": lambda y: y[..., 1:],
    "transposed": lambda y: y.T,
    "buffer": memoryview,
    "in a container": lambda y: [y],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("hold", HOLDS)
def test_what_is_held_stays(model, way, hold):
    expected = expected_of(model, way, 12)
    call, xs = call_of(model, way)
    held = {}
    for i, x in enumerate(itertools.islice(xs, 12)):
        y = call(x)
        np.testing.assert_array_equal(y, expected[i])
        if i % 3:  # the others go back at once
            held[i] = HOLDS[hold](y)
        del y
    for i, one in held.items():
        np.testing.assert_array_equal(one, HOLDS[hold](expected[i]))


@pytest.mark.parametrize("way", WAYS)
def test_a_result_that_goes_in_again_is_not_written_to(model, way):
    call, xs = call_of(model, way)
    y = expected = next(xs)
    again, _ = call_of(model, way)
    for _ in range(6):
        expected = again(expected.copy()).copy()
        y = call(y)
        np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(call(call(y)), again(again(expected.copy()).copy()))


def reshape(y):
    y.shape = (1, *y.shape)


def retype(y):
    y.dtype = np.int32


def freeze(y):
    y.flags.writeable = False


def turn(y):
    y.strides = (*y.strides[:-1], 0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("alter", [reshape, retype, freeze, turn, lambda y: y.fill(np.nan)])
@pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning")
def test_what_a_caller_did_to_a_result_is_not_met_again(model, way, alter):
    expected = expected_of(model, way, 8)
    call, xs = call_of(model, way)
    for x, right in zip(xs, expected, strict=False):
        y = call(x)
        assert y.shape == right.shape and y.dtype == np.float32 and y.flags.writeable and y.flags.c_contiguous
        np.testing.assert_array_equal(y, right)
        alter(y)
        del y


def test_threads_that_share_a_model_keep_their_own_results(model):
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((2, 3, UNITS)).astype(np.float32) for _ in range(4)]
    expected = [model.predict_on_batch(x).copy() for x in xs]

    def run(i):
        return all(np.array_equal(model.predict_on_batch(xs[i]), expected[i]) for _ in range(2000))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(4)))
