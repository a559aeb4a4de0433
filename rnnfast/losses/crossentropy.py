"""Cross-entropies of probabilities or logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast import config
from rnnfast.errors import ShapeError
from rnnfast.losses.base import Loss, check_axis, expand_weights


class _CrossEntropy(Loss):
    """Arguments of the two cross-entropies whose targets are probabilities."""

    arguments = ("from_logits", "label_smoothing", "axis")

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(reduction, name)
        if not 0.0 <= label_smoothing <= 1.0:
            raise ValueError(f"{type(self).__name__}: label_smoothing must be in [0, 1], got {label_smoothing!r}.")
        check_axis(self, axis)
        self.from_logits, self.label_smoothing, self.axis = bool(from_logits), float(label_smoothing), axis

    def engine(self) -> tuple[str, tuple[float, ...]]:
        return self.kind, (float(self.from_logits), self.label_smoothing, config.epsilon())


class BinaryCrossentropy(_CrossEntropy):
    """``-mean(y log p + (1 - y) log(1 - p))`` over the last axis.

    Parameters
    ----------
    from_logits : bool
        `y_pred` holds logits x, p = sigmoid(x); otherwise p, clipped to [epsilon, 1 - epsilon].
    label_smoothing : float
        Targets become ``y * (1 - s) + s / 2``.
    axis : int
        -1.

    Notes
    -----
    Engine parameters: from_logits (0 or 1), label_smoothing, epsilon.
    """

    kind = default_name = "binary_crossentropy"

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        target = y_true * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing
        if self.from_logits:
            values = np.maximum(y_pred, 0.0) - y_pred * target + np.log1p(np.exp(-np.abs(y_pred)))
        else:
            p = np.clip(y_pred, config.epsilon(), 1.0 - config.epsilon())
            values = -(target * np.log(p) + (1.0 - target) * np.log1p(-p))
        return values.mean(-1)


class CategoricalCrossentropy(_CrossEntropy):
    """``-sum(y log p)`` over the classes, the last axis; targets are probabilities or one-hot.

    Parameters
    ----------
    from_logits : bool
        `y_pred` holds logits, p = softmax; otherwise p, divided by its sum and clipped to [epsilon, 1 - epsilon].
    label_smoothing : float
        Targets become ``y * (1 - s) + s / classes``.
    axis : int
        -1.

    Notes
    -----
    Engine parameters: from_logits (0 or 1), label_smoothing, epsilon.
    """

    kind = default_name = "categorical_crossentropy"

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        target = y_true * (1.0 - self.label_smoothing) + self.label_smoothing / y_pred.shape[-1]
        return -(target * log_probabilities(y_pred, self.from_logits)).sum(-1)


class SparseCategoricalCrossentropy(Loss):
    """``-log p[y]`` for class numbers y, shape ``y_pred.shape[:-1]`` or that with a last axis of size one.

    Parameters
    ----------
    from_logits : bool
        As in :class:`CategoricalCrossentropy`.
    ignore_class : int, optional
        Targets of this class are left out of the mean as if masked.
    axis : int
        -1.

    Notes
    -----
    Engine parameters: from_logits (0 or 1), epsilon, ignore_class (NaN for none).

    Examples
    --------
    >>> round(SparseCategoricalCrossentropy()([0, 1], [[0.5, 0.5], [0.75, 0.25]]), 4)
    1.0397
    """

    kind = default_name = "sparse_categorical_crossentropy"
    arguments = ("from_logits", "ignore_class")

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str | None = None,
    ) -> None:
        super().__init__(reduction, name)
        check_axis(self, axis)
        self.from_logits, self.ignore_class = bool(from_logits), ignore_class

    def engine(self) -> tuple[str, tuple[float, ...]]:
        ignored = np.nan if self.ignore_class is None else float(self.ignore_class)
        return self.kind, (float(self.from_logits), config.epsilon(), ignored)

    def prepare(self, y_true: Any, shape: tuple[int, ...], mask: Any = None) -> np.ndarray:
        """Return the class numbers in shape ``shape[:-1]``, checked where the mask is.

        Integers are not copied, so that a training step takes no memory for them.

        Raises
        ------
        ShapeError
            For a shape that does not fit.
        ValueError
            For what is not a class number.
        """
        y_true = np.asarray(y_true)
        if y_true.shape not in (shape[:-1], (*shape[:-1], 1)):
            raise ShapeError(
                f"{self.name}: y_true must have shape {shape[:-1]} (class numbers) for predictions of shape {shape}, "
                f"got {y_true.shape}. For one-hot targets use 'categorical_crossentropy'."
            )
        if y_true.dtype.kind not in "biuf":
            raise ValueError(f"{self.name}: y_true must hold numbers, got dtype {y_true.dtype}.")
        y_true = y_true.reshape(shape[:-1])
        looked: Any = True if mask is None else np.broadcast_to(expand_weights(self.name, "mask", np.asarray(mask, bool), y_true.shape), y_true.shape)
        if y_true.dtype.kind == "f" and not (y_true == np.floor(y_true)).all(where=looked):
            raise ValueError(f"{self.name}: y_true must hold class numbers, got fractions or NaN.")
        used = looked if self.ignore_class is None else looked & (y_true != self.ignore_class)
        labels = (y_true if used is True else y_true[used]).reshape(-1)
        if labels.size and not 0 <= labels[labels.argmin()] <= labels[labels.argmax()] < shape[-1]:  # min() and max() would take memory
            raise ValueError(f"{self.name}: y_true must hold class numbers in [0, {shape[-1]}), got {labels.min()} to {labels.max()}.")
        return y_true

    def target_mask(self, y_true: np.ndarray, mask: Any) -> Any:
        if self.ignore_class is None:
            return mask
        kept = y_true != self.ignore_class
        return kept if mask is None else kept & expand_weights(self.name, "mask", np.asarray(mask, bool), kept.shape)

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        known = (y_true >= 0) & (y_true < y_pred.shape[-1])  # the others are ignored or masked
        if self.ignore_class is not None:
            known &= y_true != self.ignore_class
        rows = np.where(known, y_true, 0).astype(np.int64)[..., None]
        values = -np.take_along_axis(log_probabilities(y_pred, self.from_logits), rows, -1)[..., 0]
        return np.where(known, values, 0.0)


def log_probabilities(y_pred: np.ndarray, from_logits: bool) -> np.ndarray:
    if from_logits:
        shifted = y_pred - y_pred.max(-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    p = y_pred / y_pred.sum(-1, keepdims=True)
    return np.log(np.clip(p, config.epsilon(), 1.0 - config.epsilon()))
