"""The transpose of a matrix by addresses, beside NumPy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnfast import _engine


@given(rows=st.integers(1, 70), columns=st.integers(1, 70), dtype=st.sampled_from([np.float32, np.float64]))
def test_it_is_the_transpose_and_nothing_else_is_written(rows, columns, dtype):
    source = np.random.default_rng(0).normal(size=(rows, columns)).astype(dtype)
    target = np.full(rows * columns + 16, 7, dtype)
    _engine.transpose(source.ctypes.data, target.ctypes.data, rows, columns, source.itemsize)
    assert np.array_equal(target[: rows * columns].reshape(columns, rows), source.T)
    assert (target[rows * columns :] == 7).all()


def test_memory_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="address of 0"):
        _engine.transpose(0, 0, 2, 2, 4)
    _engine.transpose(0, 0, 0, 2, 4)
