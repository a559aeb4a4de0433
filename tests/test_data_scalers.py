"""Scalers undo themselves, see the training part alone and come back from their configuration."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from rnnfast import NotBuiltError, ShapeError
from rnnfast.data import MinMaxScaler, StandardScaler
from rnnfast.data.scalers import deserialize_scaler, get_scaler, serialize_scaler

SCALERS = [StandardScaler(), MinMaxScaler(), MinMaxScaler((-2.0, 3.0))]
numbers = arrays(np.float64, array_shapes(min_dims=1, max_dims=3, max_side=8), elements=st.integers(-(10**9), 10**9).map(lambda n: n / 1000))
examples = settings(deadline=None, max_examples=60)


@pytest.mark.parametrize("scaler", SCALERS, ids=["standard", "unit", "range"])
@examples
@given(x=numbers)
def test_inverse_undoes_transform(scaler, x):
    z = scaler.fit_transform(x)
    assert z.shape == x.shape
    assert np.isfinite(z).all()
    np.testing.assert_allclose(scaler.inverse_transform(z), x, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(x).max()))
    copy = deserialize_scaler(json.loads(json.dumps(serialize_scaler(scaler))))
    np.testing.assert_array_equal(copy.transform(x), z)


@examples
@given(x=numbers)
def test_what_scaled_columns_are_like(x):
    columns = x.reshape(-1, 1 if x.ndim == 1 else x.shape[-1])
    varied = columns.max(0) - columns.min(0) > 1e-3 * np.abs(columns).max(0)
    z = StandardScaler().fit_transform(x).reshape(columns.shape)[:, varied]
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(0), 1, atol=1e-6)
    z = MinMaxScaler((-2.0, 3.0)).fit_transform(x).reshape(columns.shape)[:, varied]
    np.testing.assert_allclose(z.min(0), -2, atol=1e-6)
    np.testing.assert_allclose(z.max(0), 3, atol=1e-6)


@pytest.mark.parametrize("scaler", SCALERS, ids=["standard", "unit", "range"])
def test_later_values_change_nothing(scaler, rng):
    x = rng.standard_normal((20, 3))
    before = scaler.fit(x).get_config()
    scaler.transform(10 * rng.standard_normal((5, 3)))
    assert scaler.get_config() == before


def test_types_and_constant_columns():
    assert StandardScaler().fit_transform(np.ones((4, 2), np.float32)).dtype == np.float32
    assert StandardScaler().fit_transform([1, 2, 3]).dtype == np.float64
    assert not StandardScaler().fit_transform([7.0, 7.0]).any()
    np.testing.assert_array_equal(MinMaxScaler((-1, 1)).fit_transform([7.0, 7.0]), [-1, -1])


def test_names():
    assert isinstance(get_scaler("standard"), StandardScaler)
    assert isinstance(get_scaler("minmax"), MinMaxScaler)
    with pytest.raises(ValueError, match="Did you mean 'standard'"):
        get_scaler("standart")


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: StandardScaler().transform([1.0]), NotBuiltError, "Call fit"),
        (lambda: StandardScaler().fit(np.ones((3, 2))).transform(np.ones((3, 3))), ShapeError, "2 columns"),
        (lambda: StandardScaler().fit([1.0, np.nan]), ValueError, "finite, got nan at 1"),
        (lambda: StandardScaler().fit(["a"]), ValueError, "real numbers"),
        (lambda: StandardScaler().fit([]), ValueError, "at least one value"),
        (lambda: MinMaxScaler((1, 1)), ValueError, "must rise"),
        (lambda: StandardScaler.from_config({"offset": [0.0], "scale": [0.0]}), ValueError, "no scale 0"),
        (lambda: StandardScaler.from_config({"offset": [0.0], "scale": [1.0, 2.0]}), ValueError, "one length"),
        (lambda: StandardScaler.from_config({"offset": [0.0]}), ValueError, "one length"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
