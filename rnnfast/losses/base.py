"""What all losses share: shapes, weights and the reduction."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rnnfast.errors import ShapeError

REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none")


class Loss:
    """Base class of the losses.

    Parameters
    ----------
    reduction : {"sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none"}
        The first two are the same: the sum divided by the number of values, of which masked ones do not count.
        ``"sum"`` does not divide, ``"mean_with_sample_weight"`` divides by the sum of the weights (masked values weigh 0), ``"none"`` (or
        None) returns the values themselves, and is for calls only: a model cannot train on it.
    name : str, optional

    Examples
    --------
    >>> from rnnfast.losses import MeanSquaredError
    >>> MeanSquaredError()([[0.0], [1.0]], [[1.0], [3.0]])
    2.5
    >>> MeanSquaredError()([[0.0], [1.0]], [[1.0], [3.0]], sample_weight=[1.0, 0.5])
    1.5
    """

    kind = ""
    default_name = ""
    arguments: tuple[str, ...] = ()
    per_sequence = False  # whether a value belongs to a whole sequence instead of a sample or step

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = None) -> None:
        reduction = "none" if reduction is None else reduction
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"{type(self).__name__}: reduction must be one of {REDUCTIONS} or None, got {reduction!r}."
            )
        self.name = name or self.default_name or type(self).__name__
        self.reduction = reduction

    def engine(self) -> tuple[str, tuple[float, ...]]:
        """Return the engine's name of the loss and its parameters."""
        return self.kind, ()

    def numbers(self, classes: int) -> dict[str, Any]:
        """Return what the engine's op of a loss of whole sequences needs to know, for predictions of so many classes."""
        raise NotImplementedError

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return a value for each sample or step, shape ``y_pred.shape[:-1]``, of targets that `prepare` returned."""
        raise NotImplementedError

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> Any:
        """Return the reduced loss.

        Parameters
        ----------
        y_true : array_like
            Shape of `y_pred`; a last axis of size one may be missing on one of them.
        y_pred : array_like, (B, ..., F)
        sample_weight : array_like, (B,) or (B, T), optional
        mask : array_like of bool, (B,) or (B, T), optional
            False where a value does not count, whatever it is.

        Returns
        -------
        float
            Or an ndarray of weighted values for ``reduction="none"``.
        """
        y_pred = np.asarray(y_pred, np.float64)
        y_true = self.prepare(y_true, y_pred.shape, mask)
        values = self.call(y_true, y_pred.reshape(-1, 1) if y_pred.ndim == 1 else y_pred)
        weights = self.coefficients(values.shape, sample_weight, self.target_mask(y_true, mask))
        # A value without weight is left out rather than multiplied by zero: padding may hold NaN.
        weighted = np.multiply(
            values, weights, out=np.zeros_like(values), where=np.broadcast_to(weights != 0, values.shape)
        )
        return weighted if self.reduction == "none" else float(weighted.sum())

    def prepare(self, y_true: Any, shape: tuple[int, ...], mask: Any = None) -> np.ndarray:
        """Return `y_true` in the shape of predictions of the given `shape`, or raise :class:`ShapeError`.

        What lies outside the mask, bool (B,) or (B, T), is not looked at.
        """
        return _fit_shape(self.name, np.asarray(y_true), shape)

    def target_mask(self, y_true: np.ndarray, mask: Any) -> Any:
        """Return `mask` without the values that the targets themselves exclude; here `mask` as it is."""
        return mask

    @property
    def averages(self) -> bool:
        """Whether the values are divided by their number, or their weights' sum."""
        return self.reduction not in ("sum", "none")

    def coefficients(self, shape: tuple[int, ...], sample_weight: Any = None, mask: Any = None) -> np.ndarray:
        """Return c, broadcastable to values v of `shape`, so that the reduced loss is ``sum(c * v)``."""
        weights = np.ones((1,) * len(shape))
        size = float(math.prod(shape))
        if sample_weight is not None:
            weights = expand_weights(self.name, "sample_weight", np.asarray(sample_weight, np.float64), shape)
        divisor = size
        if mask is not None:
            mask = expand_weights(self.name, "mask", np.asarray(mask, bool), shape)
            weights = weights * mask
            divisor = np.count_nonzero(mask) * (size / max(mask.size, 1))  # each of the mask stands for a whole number of values
        if not self.averages:
            divisor = 1.0
        elif self.reduction == "mean_with_sample_weight":
            divisor = size if sample_weight is mask is None else float(np.broadcast_to(weights, shape).sum())
        return weights / divisor if divisor else np.zeros_like(weights)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        own = {name: getattr(self, name) for name in self.arguments}
        return {"name": self.name, "reduction": self.reduction, **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Loss:
        """Make one from :meth:`get_config`'s result."""
        return cls(**config)


def _fit_shape(name: str, y_true: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if y_true.shape == shape and len(shape) > 1 and y_true.dtype.kind in "biuf":
        return y_true
    fitting = {shape, (*shape, 1)} if len(shape) == 1 else {shape}
    fitting |= {shape[:-1]} if shape[-1:] == (1,) and len(shape) > 1 else set()
    if y_true.shape not in fitting:
        wanted = " or ".join(map(str, sorted(fitting, key=len, reverse=True)))
        raise ShapeError(
            f"{name}: y_true must have shape {wanted} for predictions of shape {shape}, got {y_true.shape}."
        )
    if y_true.dtype.kind not in "biuf":
        raise ValueError(f"{name}: y_true must hold real numbers, got dtype {y_true.dtype}.")
    return y_true.reshape(shape if len(shape) > 1 else (*shape, 1))


def expand_weights(name: str, what: str, given: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Give weights of shape (B,), (B, T) or (B, 1) the rank of the values they weigh."""
    while given.ndim > len(shape) and given.shape[-1] == 1:
        given = given[..., 0]
    fits = 0 < given.ndim <= len(shape) and all(a in (1, b) for a, b in zip(given.shape, shape, strict=False))
    if not fits or given.shape[0] != shape[0]:
        wanted = " or ".join(str(shape[: rank + 1]) for rank in range(min(len(shape), 2)))
        raise ShapeError(f"{name}: {what} must have shape {wanted}, got {given.shape}.")
    return given.reshape(given.shape + (1,) * (len(shape) - given.ndim))


def check_axis(loss: Loss, axis: int) -> None:
    if axis != -1:
        raise ValueError(f"{type(loss).__name__}: axis must be -1 (the last one), got {axis!r}.")
