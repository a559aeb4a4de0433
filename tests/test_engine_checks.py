"""The engine's small functions, called by themselves: arrays that do not fit are errors, not reads and writes beyond them."""

from __future__ import annotations

import numpy as np
import pytest

from rnnfast import _engine
from rnnfast._engine.cpu import split_matmul


@pytest.mark.parametrize("name", ["tanh", "silu", "softmax"])
def test_the_gradient_of_an_activation(name, rng):
    x = rng.normal(size=(4, 7)).astype(np.float32)
    y = _engine.elementwise(name, x)
    for dy in (x[:2], x.astype(np.float64), x.astype(">f4"), np.zeros((4, 7), np.int32), np.zeros(0, np.float32)):
        with pytest.raises(ValueError, match="elementwise_back: dy must be an array of 28 float32"):
            _engine.elementwise_back(name, x, y, dy)
    with pytest.raises(ValueError, match="result must be"):
        _engine.elementwise_back(name, x, y[:2], x) if name == "silu" else _engine.elementwise(name, x, y[:2])
    assert np.array_equal(_engine.elementwise_back(name, x, y, np.asfortranarray(x)), _engine.elementwise_back(name, x, y, x))


def test_maps_of_rows():
    rows = _engine.Rows(3, 4)
    wrong = {
        "set_valid: must be of shape": lambda: rows.set_valid(np.ones((3, 3), np.uint8)),
        "set_resets: must be of shape": lambda: rows.set_resets(np.ones((2, 4), np.uint8)),
        "set_time: must be in": lambda: rows.set_time(5),
        "set_active: must be at most 4 steps": lambda: rows.set_active(np.ones(5, np.int64)),
        "set_active: must be falling numbers from at most 3, got 4": lambda: rows.set_active(np.array([4, 1])),
        "set_active: must be falling numbers from at most 3, got 2 after 1": lambda: rows.set_active(np.array([3, 1, 2])),
        "set_active: must be falling numbers from at most 3, got -1": lambda: rows.set_active(np.array([3, -1])),
    }
    for message, call in wrong.items():
        with pytest.raises(ValueError, match=message):
            call()
    rows.set_active(np.array([3, 3, 1]))
    rows.set_time(4)
    rows.set_active(np.array([3, 3, 1, 1]))
    assert (rows.count, rows.time) == (8, 4)


def test_a_beam():
    with pytest.raises(ValueError, match="blank must be a class"):
        _engine.PrefixBeam(3, 3, 2, 5)
    beam = _engine.PrefixBeam(3, 0, 2, 2)
    for log_p in (np.zeros((2, 2)), np.zeros((3, 3))):
        with pytest.raises(ValueError, match="must be given 3 classes and at most 2 more steps"):
            beam.run(log_p)
    for bonus in (np.zeros((1, 2)), np.zeros((2, 3))):
        with pytest.raises(ValueError, match=r"bonus must be of shape \(1, 3\)"):
            beam.advance(np.zeros(3), bonus)
    beam.advance(np.zeros(3), np.zeros((1, 3)))
    beam.run(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="at most 0 more steps"):
        beam.advance(np.zeros(3), np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"node must be in \[0, "):
        beam.labels(99)


def test_products_of_parts():
    a, w = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)
    for given in ((a, w[:2], np.zeros(4, np.float32), 1), (a, w, np.zeros(3, np.float32), 1), (a, w, np.zeros(4, np.float32), 4), (a[:0], w, np.zeros(4, np.float32), 1)):
        with pytest.raises(ValueError, match="split_matmul: a must be"):
            split_matmul(*given)
