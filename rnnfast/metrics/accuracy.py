"""Shares of right answers."""

from __future__ import annotations

import numpy as np

from rnnfast.metrics.base import RowMean, class_numbers, same_shape


class Accuracy(RowMean):
    """Share of predictions that equal their target exactly."""

    default_name = "accuracy"

    def _values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return same_shape(self.name, y_true, y_pred) == y_pred


class BinaryAccuracy(RowMean):
    """Share of predictions on the right side of `threshold`, for targets 0 and 1.

    Examples
    --------
    >>> BinaryAccuracy()([[1], [0]], [[0.9], [0.6]])
    0.5
    """

    default_name, arguments = "binary_accuracy", ("threshold",)

    def __init__(self, name: str | None = None, threshold: float = 0.5) -> None:
        self.threshold = threshold
        super().__init__(name)

    def _values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return same_shape(self.name, y_true, y_pred) == (y_pred > self.threshold)


class CategoricalAccuracy(RowMean):
    """Share of rows whose greatest prediction is the class of the one-hot target."""

    default_name = "categorical_accuracy"

    def _values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return same_shape(self.name, y_true, y_pred).argmax(-1) == y_pred.argmax(-1)


class SparseCategoricalAccuracy(RowMean):
    """Share of rows whose greatest prediction is the class whose number is the target."""

    default_name = "sparse_categorical_accuracy"

    def _values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return class_numbers(self.name, y_true) == y_pred.argmax(-1)


class SparseTopKCategoricalAccuracy(RowMean):
    """Share of rows whose target class is among the `k` greatest predictions (ties count)."""

    default_name, arguments = "sparse_top_k_categorical_accuracy", ("k",)

    def __init__(self, k: int = 5, name: str | None = None) -> None:
        if k < 1:
            raise ValueError(f"{type(self).__name__}: k must be at least 1, got {k!r}.")
        self.k = k
        super().__init__(name)

    def _values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        labels = class_numbers(self.name, y_true).astype(np.int64)
        classes = y_pred.shape[-1]
        known = (labels >= 0) & (labels < classes)
        of_label = np.take_along_axis(y_pred, np.where(known, labels, 0)[:, None], -1)
        kth = np.partition(y_pred, max(classes - self.k, 0), -1)[:, max(classes - self.k, 0)]
        return known & (of_label[:, 0] >= kth)


class TopKCategoricalAccuracy(SparseTopKCategoricalAccuracy):
    """:class:`SparseTopKCategoricalAccuracy` for one-hot targets."""

    default_name = "top_k_categorical_accuracy"

    def _values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return super()._values(same_shape(self.name, y_true, y_pred).argmax(-1)[:, None], y_pred)
