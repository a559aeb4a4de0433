"""Losses that compare numbers: errors, and the divergences whose predictions are rates or probabilities."""

from __future__ import annotations

import numpy as np

from rnnfast import config
from rnnfast.losses.base import Loss, check_axis


class MeanSquaredError(Loss):
    """``mean((y_true - y_pred)^2)`` over the last axis."""

    kind, default_name = "mse", "mean_squared_error"

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return np.square(y_true - y_pred).mean(-1)


class MeanAbsoluteError(Loss):
    """``mean(|y_true - y_pred|)`` over the last axis."""

    kind, default_name = "mae", "mean_absolute_error"

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return np.abs(y_true - y_pred).mean(-1)


class MeanAbsolutePercentageError(Loss):
    """``100 * mean(|y_true - y_pred| / max(|y_true|, epsilon))`` over the last axis.

    Engine parameters: epsilon.
    """

    kind, default_name = "mape", "mean_absolute_percentage_error"

    def engine(self) -> tuple[str, tuple[float, ...]]:
        return self.kind, (config.epsilon(),)

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return 100.0 * (np.abs(y_true - y_pred) / np.maximum(np.abs(y_true), config.epsilon())).mean(-1)


class MeanSquaredLogarithmicError(Loss):
    """``mean((log(max(y_true, epsilon) + 1) - log(max(y_pred, epsilon) + 1))^2)`` over the last axis.

    Engine parameters: epsilon.
    """

    kind, default_name = "msle", "mean_squared_logarithmic_error"

    def engine(self) -> tuple[str, tuple[float, ...]]:
        return self.kind, (config.epsilon(),)

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        floor = config.epsilon()
        return np.square(np.log1p(np.maximum(y_true, floor)) - np.log1p(np.maximum(y_pred, floor))).mean(-1)


class Huber(Loss):
    """Quadratic for small errors, linear for large ones.

    With e = |y_true - y_pred|, ``e^2 / 2`` up to `delta` and ``delta * e - delta^2 / 2`` beyond; mean over the last
    axis. Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35 (1964).
    Engine parameters: delta.
    """

    kind, default_name, arguments = "huber", "huber_loss", ("delta",)

    def __init__(
        self, delta: float = 1.0, reduction: str | None = "sum_over_batch_size", name: str | None = None
    ) -> None:
        super().__init__(reduction, name)
        if isinstance(delta, bool) or not isinstance(delta, int | float | np.number) or not delta > 0:
            raise ValueError(f"Huber: delta must be a number greater than 0, got {delta!r}.")
        self.delta = float(delta)

    def engine(self) -> tuple[str, tuple[float, ...]]:
        return self.kind, (self.delta,)

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        error = np.abs(y_true - y_pred)
        return np.where(error <= self.delta, 0.5 * error**2, self.delta * error - 0.5 * self.delta**2).mean(-1)


class LogCosh(Loss):
    """``mean(log(cosh(y_pred - y_true)))`` over the last axis, without overflow for large errors."""

    kind, default_name = "log_cosh", "log_cosh"

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        error = np.abs(y_pred - y_true)
        return (error + np.log1p(np.exp(-2.0 * error)) - np.log(2.0)).mean(-1)


class KLDivergence(Loss):
    """``sum(y_true * log(y_true / y_pred))`` over the last axis, both clipped to [epsilon, 1].

    Engine parameters: epsilon.
    """

    kind, default_name = "kl_divergence", "kl_divergence"

    def engine(self) -> tuple[str, tuple[float, ...]]:
        return self.kind, (config.epsilon(),)

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        truth, predicted = (np.clip(y, config.epsilon(), 1.0) for y in (y_true, y_pred))
        return (truth * np.log(truth / predicted)).sum(-1)


class Poisson(Loss):
    """``mean(y_pred - y_true * log(y_pred + epsilon))`` over the last axis.

    Engine parameters: epsilon.
    """

    kind, default_name = "poisson", "poisson"

    def engine(self) -> tuple[str, tuple[float, ...]]:
        return self.kind, (config.epsilon(),)

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return (y_pred - y_true * np.log(y_pred + config.epsilon())).mean(-1)


class CosineSimilarity(Loss):
    """``-sum(y_true * y_pred)`` over the last axis, both divided by their length there (or by epsilon, if they are shorter): -1 for vectors of one direction.

    Engine parameters: epsilon.

    Examples
    --------
    >>> CosineSimilarity()([[3.0, 4.0]], [[6.0, 8.0]])
    -1.0
    """

    kind = default_name = "cosine_similarity"

    def __init__(self, axis: int = -1, reduction: str | None = "sum_over_batch_size", name: str | None = None) -> None:
        super().__init__(reduction, name)
        check_axis(self, axis)

    def engine(self) -> tuple[str, tuple[float, ...]]:
        return self.kind, (config.epsilon(),)

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        units = (y / np.maximum(np.sqrt(np.square(y).sum(-1, keepdims=True)), config.epsilon()) for y in (y_true, y_pred))
        return -np.multiply(*units).sum(-1)
