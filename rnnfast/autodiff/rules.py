"""The closed table of what the tape records: for each operation its value, and the gradients of its operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnnfast.autodiff.tape import Array, Traced, record, value_of

__all__ = ["FLAT", "FUNCTIONS", "METHODS", "UFUNCS", "elementwise", "item"]


def unbroadcast(g: Array, like: Any) -> Array:
    """The gradient of an operand that was broadcast to g's shape."""
    shape = np.shape(like)
    if g.shape == shape:
        return g
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1), keepdims=True).reshape(shape)


def _swap(a: Array) -> Array:
    return np.swapaxes(a, -1, -2)


def _matmul_left(g: Array, y: Any, a: Array, b: Array) -> Array:
    if b.ndim == 1:
        return g[..., None] * b
    return g @ b.T if a.ndim == 1 and b.ndim == 2 else g @ _swap(b) if a.ndim > 1 else (b @ g[..., None])[..., 0]


def _matmul_right(g: Array, y: Any, a: Array, b: Array) -> Array:
    if a.ndim == 1:
        return np.outer(a, g) if b.ndim == 2 else a[:, None] * g[..., None, :] if b.ndim > 2 else a * g
    return (_swap(a) @ g[..., None])[..., 0] if b.ndim == 1 else _swap(a) @ g


def _larger(g: Array, mine: Any, other: Any) -> Array:
    """The gradient of a maximum: all of it, or half of it in a tie."""
    return g * (np.asarray(mine > other, g.dtype) + np.asarray(mine == other, g.dtype) / 2)


# ufunc -> for each operand, its gradient from (g, y, *operands)
UFUNCS: dict[Any, tuple[Callable[..., Any], ...]] = {
    np.add: (lambda g, y, a, b: g, lambda g, y, a, b: g),
    np.subtract: (lambda g, y, a, b: g, lambda g, y, a, b: -g),
    np.multiply: (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    np.true_divide: (lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b),
    np.power: (lambda g, y, a, b: g * b * np.power(a, np.subtract(b, 1)), lambda g, y, a, b: g * y * np.log(np.where(np.greater(a, 0), a, 1))),
    np.matmul: (_matmul_left, _matmul_right),
    np.negative: (lambda g, y, a: -g,),
    np.positive: (lambda g, y, a: g,),
    np.absolute: (lambda g, y, a: g * np.sign(a),),
    np.square: (lambda g, y, a: 2 * g * a,),
    np.sqrt: (lambda g, y, a: g / (2 * y),),
    np.reciprocal: (lambda g, y, a: -g * y * y,),
    np.exp: (lambda g, y, a: g * y,),
    np.expm1: (lambda g, y, a: g * (y + 1),),
    np.log: (lambda g, y, a: g / a,),
    np.log1p: (lambda g, y, a: g / (1 + a),),
    np.logaddexp: (lambda g, y, a, b: g * np.exp(a - y), lambda g, y, a, b: g * np.exp(b - y)),
    np.sin: (lambda g, y, a: g * np.cos(a),),
    np.cos: (lambda g, y, a: -g * np.sin(a),),
    np.tanh: (lambda g, y, a: g * (1 - y * y),),
    np.arctan: (lambda g, y, a: g / (1 + a * a),),
    np.maximum: (lambda g, y, a, b: _larger(g, a, b), lambda g, y, a, b: _larger(g, b, a)),
    np.minimum: (lambda g, y, a, b: _larger(g, np.negative(a), np.negative(b)), lambda g, y, a, b: _larger(g, np.negative(b), np.negative(a))),
}
# Steps, whose derivative is 0: their results are plain arrays.
FLAT = {
    np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal, np.logical_and, np.logical_or, np.logical_not, np.isfinite, np.isnan,
    np.sign, np.floor, np.ceil, np.rint,
}  # fmt: skip


def elementwise(ufunc: Any, inputs: tuple[Any, ...]) -> Any:
    """A ufunc of the table."""
    values = [value_of(x) for x in inputs]
    y = ufunc(*values)

    def pull(given: list[Array]) -> list[Array | None]:
        return [
            unbroadcast(np.asarray(rule(given[0], y, *values), given[0].dtype), v) if isinstance(x, Traced) else None
            for rule, v, x in zip(UFUNCS[ufunc], values, inputs, strict=True)
        ]

    return record([y], inputs, pull)[0]


def item(x: Traced, key: Any) -> Any:
    """x[key], with slices, numbers, None, ..., and arrays of numbers or booleans."""
    key = tuple(map(value_of, key)) if isinstance(key, tuple) else value_of(key)
    plain = not any(isinstance(k, (list, np.ndarray)) for k in (key if isinstance(key, tuple) else (key,)))

    def pull(given: list[Array]) -> list[Array]:
        dx = np.zeros(x.shape, given[0].dtype)
        if plain:
            dx[key] = given[0]
        else:
            np.add.at(dx, key, given[0])
        return [dx]

    return record([x.value[key]], [x], pull)[0]


def _unary(x: Any, y: Array, back: Callable[[Array], Array]) -> Any:
    return record([y], [x], lambda given: [back(given[0])])[0]


def _kept(g: Array, axis: Any, keepdims: bool, ndim: int) -> Array:
    """g with the axes that a reduction took away."""
    return g if keepdims or (axis is None and g.ndim == ndim) else np.expand_dims(g, tuple(range(ndim)) if axis is None else axis)


def sum_(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    v = value_of(a)
    return _unary(a, np.sum(v, axis=axis, keepdims=keepdims), lambda g: np.broadcast_to(_kept(g, axis, keepdims, v.ndim), v.shape))


def mean(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    v = value_of(a)
    y = np.mean(v, axis=axis, keepdims=keepdims)
    share = np.size(y) / max(1, v.size)
    return _unary(a, y, lambda g: np.broadcast_to(_kept(g, axis, keepdims, v.ndim) * np.asarray(share, g.dtype), v.shape))


def _extreme(function: Any) -> Any:
    def reduce(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
        v = value_of(a)
        y = function(v, axis=axis, keepdims=keepdims)

        def back(g: Array) -> Array:
            ties = np.asarray(v == _kept(np.asarray(y), axis, keepdims, v.ndim), g.dtype)
            return _kept(g, axis, keepdims, v.ndim) * ties / ties.sum(axis=axis, keepdims=True)

        return _unary(a, y, back)

    return reduce


def var(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    centred = a - mean(a, axis, keepdims=True)
    return mean(centred * centred, axis, keepdims)


def reshape(a: Any, shape: Any, *more: int) -> Any:
    v = value_of(a)
    return _unary(a, np.reshape(v, (shape, *more) if more else shape), lambda g: g.reshape(v.shape))


def transpose(a: Any, axes: Any = None, *more: int) -> Any:
    v = value_of(a)
    order = tuple(range(v.ndim))[::-1] if axes is None else (axes, *more) if isinstance(axes, int) else tuple(axes)
    return _unary(a, np.transpose(v, order), lambda g: np.transpose(g, np.argsort(order)))


def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    return _unary(a, np.swapaxes(value_of(a), axis1, axis2), lambda g: np.swapaxes(g, axis1, axis2))


def squeeze(a: Any, axis: Any = None) -> Any:
    v = value_of(a)
    return _unary(a, np.squeeze(v, axis), lambda g: g.reshape(v.shape))


def expand_dims(a: Any, axis: Any) -> Any:
    v = value_of(a)
    return _unary(a, np.expand_dims(v, axis), lambda g: g.reshape(v.shape))


def broadcast_to(array: Any, shape: Any) -> Any:
    v = value_of(array)
    return _unary(array, np.broadcast_to(v, shape), lambda g: unbroadcast(g, v))


def concatenate(arrays: Any, axis: int = 0) -> Any:
    values = [value_of(a) for a in arrays]
    borders = np.cumsum([v.shape[axis] for v in values])[:-1]
    return record([np.concatenate(values, axis)], list(arrays), lambda given: np.split(given[0], borders, axis))[0]


def stack(arrays: Any, axis: int = 0) -> Any:
    y = np.stack([value_of(a) for a in arrays], axis)
    return record([y], list(arrays), lambda given: list(np.moveaxis(given[0], axis, 0)))[0]


def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    parts = np.split(value_of(ary), indices_or_sections, axis)
    return record(parts, [ary], lambda given: [np.concatenate(given, axis)])


def where(condition: Any, x: Any, y: Any) -> Any:
    chosen, vx, vy = (value_of(v) for v in (condition, x, y))
    zero = lambda g: np.zeros((), g.dtype)
    return record(
        [np.where(chosen, vx, vy)], [x, y],
        lambda given: [unbroadcast(np.where(chosen, given[0], zero(given[0])), vx), unbroadcast(np.where(chosen, zero(given[0]), given[0]), vy)],
    )[0]  # fmt: skip


def clip(a: Any, a_min: Any = None, a_max: Any = None) -> Any:
    v, low, high = value_of(a), value_of(a_min), value_of(a_max)
    y = np.clip(v, low, high)
    return _unary(a, y, lambda g: g * np.asarray(v == y, g.dtype))


def dot(a: Any, b: Any) -> Any:
    if np.ndim(value_of(a)) == 0 or np.ndim(value_of(b)) == 0:
        return np.multiply(a, b)
    if np.ndim(value_of(b)) > 2:
        raise TypeError("np.dot of an array of more than 2 axes is not recorded by the gradient tape of a cell. Use np.matmul.")
    return np.matmul(a, b)


def _constant(function: Any) -> Any:
    """A function whose result has no gradient."""
    return lambda *args, **kwargs: function(*map(value_of, args), **kwargs)


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.sum: sum_, np.mean: mean, np.var: var, np.max: _extreme(np.max), np.min: _extreme(np.min), np.reshape: reshape, np.transpose: transpose,
    np.swapaxes: swapaxes, np.squeeze: squeeze, np.expand_dims: expand_dims, np.broadcast_to: broadcast_to, np.concatenate: concatenate, np.stack: stack,
    np.split: split, np.where: where, np.clip: clip, np.dot: dot, np.ravel: lambda a: reshape(a, -1), np.copy: lambda a: _unary(a, np.copy(value_of(a)), lambda g: g),
    **{function: _constant(function) for function in (np.zeros_like, np.ones_like, np.full_like, np.shape, np.ndim, np.size, np.argmax, np.argmin)},
}  # fmt: skip
METHODS: dict[str, Callable[..., Any]] = {
    "sum": sum_, "mean": mean, "var": var, "max": FUNCTIONS[np.max], "min": FUNCTIONS[np.min], "reshape": reshape, "transpose": transpose, "swapaxes": swapaxes,
    "squeeze": squeeze, "clip": clip, "dot": dot, "ravel": FUNCTIONS[np.ravel], "flatten": FUNCTIONS[np.ravel], "copy": FUNCTIONS[np.copy],
    "argmax": FUNCTIONS[np.argmax], "argmin": FUNCTIONS[np.argmin],
}  # fmt: skip
