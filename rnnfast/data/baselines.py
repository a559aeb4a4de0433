"""Forecasts that need no network: what every model has to beat.

All have ``fit(series)`` and ``predict(history, horizon)``, for histories [T] or [B, T]; of them only least squares learns anything.
The definitions are those of Hyndman and Athanasopoulos, "Forecasting: principles and practice", 3rd edition (2021), section 5.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast.data.checks import as_series, count
from rnnfast.data.windows import windows
from rnnfast.errors import NotBuiltError

__all__ = ["Baseline", "Drift", "LeastSquares", "Mean", "Naive", "SeasonalNaive", "baselines"]


class Baseline:
    """Base of the baselines.

    Attributes
    ----------
    name : str
        What a table calls it.
    steps : int
        The least history that a forecast needs.
    """

    name = ""
    steps = 1

    def fit(self, series: Any) -> Baseline:
        """Learn from a series (T,) or from several, (N, T)."""
        as_series(self.name, series, (1, 2))
        return self

    def predict(self, history: Any, horizon: int) -> np.ndarray:
        """The next `horizon` values after a history (T,) or after each of (B, T): (horizon,) or (B, horizon), float64."""
        past, horizon = as_series(self.name, history, (1, 2), "history").astype(np.float64), count(self.name, "horizon", horizon)
        if past.shape[-1] < self.steps:
            raise ValueError(f"{self.name}: history must have at least {self.steps} steps, got {past.shape[-1]}.")
        return self._forecast(past, horizon)

    def _forecast(self, past: np.ndarray, horizon: int) -> np.ndarray:
        raise NotImplementedError


class Naive(Baseline):
    """The last value, again and again.

    Examples
    --------
    >>> Naive().predict([1.0, 3.0], 2)
    array([3., 3.])
    """

    name = "naive"

    def _forecast(self, past: np.ndarray, horizon: int) -> np.ndarray:
        return np.repeat(past[..., -1:], horizon, axis=-1)


class SeasonalNaive(Baseline):
    """The last season, again and again.

    Examples
    --------
    >>> SeasonalNaive(2).predict([9.0, 1.0, 3.0], 3)
    array([1., 3., 1.])
    """

    name = "seasonal naive"

    def __init__(self, season: int) -> None:
        self.steps = self.season = count(self.name, "season", season)

    def _forecast(self, past: np.ndarray, horizon: int) -> np.ndarray:
        return past[..., past.shape[-1] - self.season + np.arange(horizon) % self.season]


class Drift(Baseline):
    """The straight line through the first and the last value.

    Examples
    --------
    >>> Drift().predict([1.0, 0.0, 3.0], 2)
    array([4., 5.])
    """

    name, steps = "drift", 2

    def _forecast(self, past: np.ndarray, horizon: int) -> np.ndarray:
        slope = (past[..., -1:] - past[..., :1]) / (past.shape[-1] - 1)
        return past[..., -1:] + slope * np.arange(1, horizon + 1)


class Mean(Baseline):
    """The mean of the history.

    Examples
    --------
    >>> Mean().predict([1.0, 3.0], 2)
    array([2., 2.])
    """

    name = "mean"

    def _forecast(self, past: np.ndarray, horizon: int) -> np.ndarray:
        return np.repeat(past.mean(axis=-1, keepdims=True), horizon, axis=-1)


class LeastSquares(Baseline):
    """One linear regression for each step ahead, on the last `lags` values and a constant.

    Parameters
    ----------
    lags : int
    horizon : int
        The most steps that can be asked for.

    Examples
    --------
    >>> LeastSquares(lags=2, horizon=2).fit([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).predict([10.0, 11.0], 2).round(6)
    array([12., 13.])
    """

    name = "least squares"
    coefficients: np.ndarray | None = None

    def __init__(self, lags: int, horizon: int) -> None:
        self.steps = self.lags = count(self.name, "lags", lags)
        self.horizon = count(self.name, "horizon", horizon)

    def fit(self, series: Any) -> LeastSquares:
        """Solve for the coefficients of all windows of a series (T,) or of several, (N, T)."""
        rows = np.atleast_2d(as_series(self.name, series, (1, 2)).astype(np.float64))
        pairs = [windows(row, self.lags, self.horizon) for row in rows]
        x, y = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        self.coefficients = np.linalg.lstsq(self._design(x[..., 0]), y, rcond=None)[0]
        return self

    def _design(self, x: np.ndarray) -> np.ndarray:
        return np.concatenate([x, np.ones((*x.shape[:-1], 1))], axis=-1)

    def _forecast(self, past: np.ndarray, horizon: int) -> np.ndarray:
        if self.coefficients is None:
            raise NotBuiltError("least squares: not fitted. Call fit(series) with the training data.")
        if horizon > self.horizon:
            raise ValueError(f"least squares: horizon must be at most {self.horizon}, for which it was made, got {horizon}.")
        forecast: np.ndarray = self._design(past[..., -self.lags :]) @ self.coefficients[:, :horizon]
        return forecast


def baselines(horizon: int, lags: int, season: int | None = None) -> list[Baseline]:
    """All baselines for a task; the seasonal one where there is a season."""
    seasonal = [SeasonalNaive(season)] if season else []
    return [Naive(), *seasonal, Drift(), Mean(), LeastSquares(lags, horizon)]
