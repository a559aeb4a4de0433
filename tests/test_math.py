"""Element-wise functions: units in the last place over a sweep of all float32, special values, and every position in a vector."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from rnnfast import _engine
from tests.reference import activations

elementwise = _engine.elementwise
STRIDE = 509
"""A prime: 2^32 / 509 = 8.4 million bit patterns, each exponent and sign visited 16 thousand times."""
NORMAL = {"float32": float(np.finfo(np.float32).tiny), "float64": float(np.finfo(np.float64).tiny)}
UNITS = {
    "tanh": np.tanh,
    "sigmoid": activations.sigmoid,
    "exp": np.exp,
    "softplus": activations.softplus,
}
NAMES = sorted(set(_engine.ACTIVATIONS) - {"softmax", "log_softmax", "sparsemax"})


@pytest.fixture(scope="module")
def sweep():
    """Every 509th float32, finite and sorted, and all neighbours of the places where implementations change their formula."""
    patterns = np.arange(0, 2**32, STRIDE, dtype=np.uint64).astype(np.uint32)
    places = np.float32(
        [2.0**-12, 0.25, 0.5, 0.549, 0.625, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8.664, 9.01, 9.02, 16.6, 17.33, 87.336, 88.02, 88.7228, 103.97]
    )
    near = (places.view(np.uint32)[:, None] + np.arange(-2000, 2000)).astype(np.uint32).ravel()
    x = np.concatenate([patterns, near, near | np.uint32(1 << 31)]).view(np.float32)
    return np.sort(x[np.isfinite(x)])


def distance(y, ref, dtype):
    """|y - ref| in units of ref's last place. Results around the end of the normal range may be flushed and are left out."""
    y, ref = np.asarray(y), np.asarray(ref)
    large = ref > np.finfo(dtype).max
    assert np.isinf(y[large]).all(), "must overflow to infinity"
    keep = (np.abs(ref) >= 4 * NORMAL[dtype]) & ~large
    tiny = y[~keep & ~large]
    assert (np.abs(tiny) <= 5 * NORMAL[dtype]).all(), "results below the normal range must be tiny"
    ulp = np.spacing(np.abs(ref[keep]).astype(dtype)).astype(ref.dtype)
    return float((np.abs(y[keep].astype(ref.dtype) - ref[keep]) / ulp).max())


@pytest.mark.parametrize(("name", "allowed"), [("tanh", 2), ("sigmoid", 4), ("exp", 4), ("softplus", 4)])
def test_float32_sweep(name, allowed, sweep):
    with np.errstate(over="ignore", under="ignore"):
        ref = UNITS[name](sweep.astype(np.float64))
    assert distance(elementwise(name, sweep), ref, "float32") <= allowed


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "exp"])
def test_monotone_on_the_sorted_sweep(name, sweep):
    strided = np.sort(np.arange(0, 2**32, STRIDE, dtype=np.uint64).astype(np.uint32).view(np.float32))
    y = elementwise(name, strided[np.isfinite(strided)])
    assert (y[1:] >= y[:-1]).all()


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="no extended precision on this machine")
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "exp", "softplus"])
def test_float64_against_extended_precision(name, rng):
    x = np.concatenate([rng.normal(0, s, 50_000) for s in (1e-3, 0.3, 3.0, 30.0, 300.0)])
    wide = x.astype(np.longdouble)
    with np.errstate(over="ignore", under="ignore"):
        e = np.exp(-np.abs(wide))
        ref = {
            "tanh": lambda: np.tanh(wide),
            "sigmoid": lambda: np.where(wide >= 0, np.longdouble(1), e) / (1 + e),
            "exp": lambda: np.exp(wide),
            "softplus": lambda: np.maximum(wide, 0) + np.log1p(e),
        }[name]()
    assert distance(elementwise(name, x), ref, "float64") <= 4


@pytest.mark.parametrize("name", NAMES)
def test_every_activation_against_the_oracle(name, dtype, rng):
    x = np.concatenate([rng.normal(0, 3, 4000), rng.uniform(-20, 20, 4000), [0.0, -0.0]]).astype(dtype)
    ref = activations.value(name, x.astype(np.float64))
    error = np.abs(elementwise(name, x) - ref) / np.maximum(1.0, np.abs(ref))
    assert error.max() <= 8 * np.finfo(dtype).eps


@pytest.mark.parametrize("name", NAMES)
def test_not_a_number_stays(name, dtype):
    x = np.array([1.0, np.nan, -1.0] * 11, dtype)
    y = elementwise(name, x)
    assert (np.isnan(y) == np.isnan(x)).all()


@pytest.mark.parametrize(
    ("name", "low", "zero", "high"),
    [
        ("tanh", -1.0, 0.0, 1.0),
        ("sigmoid", 0.0, 0.5, 1.0),
        ("exp", 0.0, 1.0, np.inf),
        ("softplus", 0.0, np.log(2.0), np.inf),
        ("relu", 0.0, 0.0, np.inf),
        ("hard_sigmoid", 0.0, 0.5, 1.0),
        ("hard_sigmoid_02", 0.0, 0.5, 1.0),
        ("elu", -1.0, 0.0, np.inf),
        ("hard_tanh", -1.0, 0.0, 1.0),
        ("log_sigmoid", -np.inf, -np.log(2.0), 0.0),
    ],
)
def test_infinities_and_zeros(name, low, zero, high, dtype):
    x = np.array([-np.inf, -0.0, 0.0, np.inf, -np.finfo(dtype).max, np.finfo(dtype).max], dtype)
    y = elementwise(name, x)
    assert y[0] == low
    assert y[3] == high
    assert np.allclose(y[1:3], zero, rtol=2 * np.finfo(dtype).eps, atol=0)
    assert np.isfinite(y[4:]).all() or not np.isfinite([low, high]).all()
    if name == "tanh":
        assert np.signbit(y[1])
        assert not np.signbit(y[2])


@pytest.mark.parametrize("name", ["tanh", "softsign", "silu", "relu", "linear"])
def test_subnormals_are_kept_or_flushed(name, dtype):
    x = np.array([1, 77, 2**20, -1, -(2**20)], dtype) * np.finfo(dtype).smallest_subnormal
    y = elementwise(name, x)
    assert (np.abs(y) <= np.abs(x)).all()


@pytest.mark.parametrize("name", NAMES)
def test_same_bits_at_every_position(name, dtype, rng):
    """A vector's tail and its body give the same bits, whatever the length and start."""
    x = rng.normal(0, 3, 80).astype(dtype)
    whole = elementwise(name, x)
    alone = np.concatenate([elementwise(name, x[i : i + 1].copy()) for i in range(80)])
    assert np.array_equal(whole, alone)
    for size in (3, 7, 8, 15, 16, 17, 33):
        assert np.array_equal(elementwise(name, x[1 : 1 + size].copy()), whole[1 : 1 + size])


def test_the_callers_floating_point_state_is_left_alone(rng):
    elementwise("tanh", rng.normal(size=1000).astype(np.float32))
    assert sys.float_info.min / 2 != 0.0
    assert np.float32(np.finfo(np.float32).tiny) * np.float32(0.5) != 0
