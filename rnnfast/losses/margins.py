"""Hinge losses: targets are sides, -1 and 1, or one-hot classes, and what is right by a margin of one costs nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast.losses.base import Loss, expand_weights


class Hinge(Loss):
    """``mean(max(1 - y_true * y_pred, 0))`` over the last axis; targets that are all 0 or 1 count as -1 and 1.

    Examples
    --------
    >>> Hinge()([[0.0, 1.0]], [[-0.5, 0.25]])
    0.625
    """

    kind = default_name = "hinge"

    def prepare(self, y_true: Any, shape: tuple[int, ...], mask: Any = None) -> np.ndarray:
        """Return `y_true` in `shape` as -1 and 1 if it holds 0 and 1 alone, where the mask is."""
        y_true = super().prepare(y_true, shape)
        looked = True if mask is None else expand_weights(self.name, "mask", np.asarray(mask, bool), y_true.shape)
        binary = ((y_true == 0) | (y_true == 1)).all(where=looked)
        return 2.0 * y_true - 1.0 if binary else y_true

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return np.maximum(1.0 - y_true * y_pred, 0.0).mean(-1)


class SquaredHinge(Hinge):
    """``mean(max(1 - y_true * y_pred, 0)^2)`` over the last axis; targets that are all 0 or 1 count as -1 and 1."""

    kind = default_name = "squared_hinge"

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return np.square(np.maximum(1.0 - y_true * y_pred, 0.0)).mean(-1)


class CategoricalHinge(Loss):
    """``max(1 + max((1 - y_true) * y_pred) - sum(y_true * y_pred), 0)`` over the classes, the last axis; targets are one-hot.

    Crammer and Singer, "On the algorithmic implementation of multiclass kernel-based vector machines", JMLR 2 (2001).

    Examples
    --------
    >>> CategoricalHinge()([[0.0, 1.0, 0.0]], [[0.5, 0.75, 0.0]])
    0.75
    """

    kind = default_name = "categorical_hinge"

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        right, wrong = (y_true * y_pred).sum(-1), ((1.0 - y_true) * y_pred).max(-1)
        return np.maximum(wrong - right + 1.0, 0.0)
