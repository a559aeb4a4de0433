"""The gradient tape over NumPy: every operation of its table against central differences, and a refusal by name of all others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rnnfast.autodiff import Tape
from rnnfast.autodiff.rules import FUNCTIONS, UFUNCS
from tests.conftest import max_rel_error
from tests.gradients import central_differences

CASES = {
    "operators": lambda a, b: (a + 2.0) * b - (1.0 - a) / (3.0 + b * b) + (-a) ** 2 + 2.0**b + abs(a),
    "in place": lambda a, b: _in_place(a, b),
    "matmul": lambda a, b: a @ b.T,
    "matmul of a vector": lambda a, b: (a[0] @ b.T) + (a @ b[1])[0] + a[0] @ b[0],
    "matmul of stacks": lambda a, b: np.stack([a, b]) @ np.stack([b, a]).swapaxes(1, 2) + np.matmul(a, np.stack([a.T, b.T])),
    "matmul of a vector and stacks": lambda a, b: (a[0] @ np.stack([a.T, b.T])).sum() + (np.stack([a, b]) @ b[0]).sum(),
    "dot": lambda a, b: np.dot(a, b.T) * np.dot(a[0], b[0]) + np.dot(2.0, a[0, 0]) + a.dot(b.T),
    "exponentials": lambda a, b: np.exp(a) + np.expm1(b) + np.log(a * a + 1) + np.log1p(b * b) + np.logaddexp(a, b),
    "roots": lambda a, b: np.sqrt(a * a + 1) + np.square(b) + np.reciprocal(b * b + 2) + np.power(a * a + 1, b) + np.true_divide(a, b * b + 1),
    "circle": lambda a, b: np.sin(a) * np.cos(b) + np.arctan(a) + np.tanh(b) + np.positive(a) - np.negative(b) + np.subtract(a, b) + np.multiply(a, b),
    "choices": lambda a, b: np.maximum(a, b) * np.minimum(a, 0.1) + np.where(a > b, a * b, 2.0) + np.clip(a, -0.5, 0.5) + np.absolute(b),
    "clip method": lambda a, b: a.clip(-0.5, 0.5) * b,
    "sums": lambda a, b: np.sum(a * b) + a.sum(axis=0) * b.mean(axis=0) + np.mean(a, axis=1, keepdims=True) + np.var(b) + b.var(axis=-1, keepdims=True),
    "extremes": lambda a, b: np.max(a, axis=1, keepdims=True) + a.max() + b.min(axis=0) + np.min(b),
    "shapes": lambda a, b: a.reshape(3, 2) @ b.reshape((2, 3)) + np.reshape(a, (3, 2)) @ np.transpose(b).T + a.T @ np.transpose(b, (0, 1)),
    "axes": lambda a, b: np.swapaxes(a, 0, 1) + np.squeeze(np.expand_dims(b.transpose(), 0), 0) + np.broadcast_to(a[0, :2], (3, 2)) + np.ravel(b)[:2] + b.flatten()[1:3] + b.ravel()[:2],
    "joins": lambda a, b: np.concatenate([a, b, np.ones((1, 3))], axis=0).sum() + np.stack([a, b], axis=2) * np.stack([b, a], axis=2),
    "splits": lambda a, b: np.split(a, 3, axis=1)[1] * np.split(b, [1], axis=1)[1] + sum(np.split(a, 2)).sum(),
    "items": lambda a, b: a[0] * b[:, ::2][1, 0] + a[..., None][0, :, 0] + b[[0, 1, 1]].sum(axis=0) + a[a.argmax(axis=0), [0, 1, 2]] + a[np.array([True, False])][0],
    "rows": lambda a, b: sum(row * b[0] for row in a),
    "broadcasting": lambda a, b: a * b[0] + a[:, :1] * b + np.float64(2) * a + np.ones(3) * b,
    "constants": lambda a, b: a * np.zeros_like(b) + b * np.ones_like(a) + np.full_like(a, 3.0) * b * np.shape(a)[0] * np.ndim(b) * np.size(a) + np.floor(a) * b + np.argmin(b, axis=0) * a,
    "copies": lambda a, b: np.copy(a) * b.copy(),
}  # fmt: skip


def _in_place(a, b):
    c = a * 1.0
    c += b
    c *= b
    return c * a


def pair(rng):
    return rng.normal(size=(2, 3)), rng.normal(size=(2, 3))


@pytest.mark.parametrize("name", CASES)
def test_operations(name, rng):
    values, f, tape = pair(rng), CASES[name], Tape()
    plain = np.asarray(f(*values))
    dy = rng.normal(size=plain.shape)
    with tape.recording():
        leaves = [tape.input(v) for v in values]
        y = f(*leaves)
    assert max_rel_error(y.value, plain) < 1e-15
    found = tape.gradients([y], [dy])
    for leaf, value in zip(leaves, values, strict=True):
        want = central_differences(lambda: float((np.asarray(f(*values)) * dy).sum()), value, 1e-5)
        assert max_rel_error(found.get(leaf, np.zeros((2, 3))), want) < 1e-8


def test_every_entry_of_the_table_is_used_here():
    text = Path(__file__).read_text()
    operators = {"add": "+", "matmul": "@", "true_divide": "/"}
    for entry in [*UFUNCS, *FUNCTIONS]:
        assert f"np.{entry.__name__}(" in text or f".{entry.__name__}(" in text or operators.get(entry.__name__, "?") in text, entry.__name__


def test_ties_share_the_gradient():
    tape = Tape()
    with tape.recording():
        x = tape.input(np.array([1.0, 1.0, 0.0]))
        y, z = x.max(), np.maximum(x, 1.0)
    assert np.array_equal(tape.gradients([y], [np.array(1.0)])[x], [0.5, 0.5, 0.0])
    assert np.array_equal(tape.gradients([z], [np.ones(3)])[x], [0.5, 0.5, 0.0])


@pytest.mark.parametrize(
    "f, name",
    [
        (lambda x: np.cumsum(x), "np.cumsum"),
        (lambda x: np.linalg.norm(x), "np.linalg.norm"),
        (lambda x: np.add.reduce(x), "np.add.reduce"),
        (lambda x: np.sinh(x), "np.sinh"),
        (lambda x: np.add(x, 1.0, out=np.zeros(3)), "np.add with out="),
        (lambda x: np.asarray(x), "np.asarray"),
        (lambda x: x.cumsum(), "ndarray.cumsum"),
        (lambda x: float(x[0]), r"float\(\)"),
        (lambda x: x.__setitem__(0, 1.0), "Writing into an array"),
        (lambda x: np.zeros(3).__iadd__(x), "np.add with out="),
    ],
)
def test_what_is_not_in_the_table_is_refused_by_name(f, name):
    tape = Tape()
    with tape.recording(), pytest.raises(TypeError, match=rf"{name}.* is not recorded by the gradient tape of a cell. Write the step with"):
        f(tape.input(np.ones(3)))


def test_float32_stays_float32(rng):
    tape, (a, b) = Tape(), (v.astype(np.float32) for v in pair(rng))
    with tape.recording():
        x, y = tape.input(a), tape.input(b)
        z = np.power(x * x + 1, 1.5) * np.tanh(2 * y).mean() + np.where(x > 0, x, 0.0)
    found = tape.gradients([z], [np.ones_like(a)])
    assert {z.dtype, found[x].dtype, found[y].dtype} == {np.dtype(np.float32)}
