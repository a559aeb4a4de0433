"""Fixtures and the error measure that every numerical test shares."""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: its threads wait for each other's cores in small factorizations, a thousand times as long as these take

import zlib

import numpy as np
import pytest


def max_rel_error(a: np.ndarray, ref: np.ndarray) -> float:
    """max |a - ref| / max(1, max |ref|): the measure of every accuracy promise. Empty arrays agree when their shapes do."""
    a, ref = np.asarray(a), np.asarray(ref)
    assert a.shape == ref.shape, f"shape {a.shape} against {ref.shape}"
    if ref.size == 0:
        return 0.0
    assert np.isfinite(ref).all(), "the reference is not finite"
    difference = np.abs(a.astype(np.float64) - ref).max()
    return float(difference / max(1.0, float(np.abs(ref).max()))) if np.isfinite(difference) else np.inf


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the test's name, so that every test has its own numbers and always the same ones."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)
