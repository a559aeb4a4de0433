"""Forecasts from many origins of one series, as they would have been made at the time, and a table of their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from rnnfast.data.baselines import baselines
from rnnfast.data.checks import as_series
from rnnfast.data.scores import mae, mase, rmse, smape
from rnnfast.data.splits import rolling_origins
from rnnfast.errors import ShapeError, suggest

__all__ = ["Backtest", "backtest", "compare", "score_table"]

_FITS = ("first", "each", "never")


class Backtest(NamedTuple):
    """Forecasts and what came: `origins` (N,), `forecasts` and `targets` (N, H), and the series before the first origin."""

    origins: np.ndarray
    forecasts: np.ndarray
    targets: np.ndarray
    train: np.ndarray

    def scores(self, season: int = 1) -> dict[str, float]:
        """MAE, RMSE, sMAPE and MASE over all origins and steps; MASE is NaN where it is not defined."""
        return _scores(self.targets, self.forecasts, self.train, season)

    def rmse_by_step(self) -> np.ndarray:
        """Root of the mean squared error of each step ahead (H,)."""
        root: np.ndarray = np.sqrt(np.square(self.targets - self.forecasts).mean(axis=0))
        return root


def backtest(
    model: Any,
    series: Any,
    horizon: int,
    *,
    start: float | int = 0.5,
    stride: int = 1,
    window: int | None = None,
    fit: str = "first",
    past: Any = None,
    future: Any = None,
    **fit_arguments: Any,
) -> Backtest:
    """Forecast from an origin that rolls through a series. A forecast, and a fit, only ever see what lies before their origin.

    Parameters
    ----------
    model : object or function
        An object with ``predict(history, horizon)`` and, unless it is never fitted, ``fit(history)``; or a function (history, horizon). They give (horizon,) values.
    series : array_like, (T,)
    horizon, start, stride, window
        See :func:`rnnfast.data.rolling_origins`: `window` makes the origin slide, without it the history expands.
    fit : {"first", "each", "never"}
        Fit before the first forecast, before each, or not at all (it has been fitted, and not on this part of the series). Functions are never fitted.
    past : array_like, (T, P), optional
        Columns known up to the origin, passed on as ``past=``.
    future : array_like, (T, K), optional
        Columns known ahead, passed on as ``future=``; a forecast gets them up to its last step.
    **fit_arguments
        For ``fit``.

    Returns
    -------
    Backtest

    Examples
    --------
    >>> from rnnfast.data import Naive
    >>> result = backtest(Naive(), [1.0, 2.0, 4.0, 7.0, 11.0], horizon=2, start=2)
    >>> result.forecasts.tolist(), result.targets.tolist()
    ([[2.0, 2.0], [4.0, 4.0]], [[4.0, 7.0], [7.0, 11.0]])
    """
    values = as_series("backtest", series, (1,))
    if fit not in _FITS:
        raise ValueError(f"backtest: fit must be 'first', 'each' or 'never', got {fit!r}. {suggest(fit, _FITS)}")
    columns = {name: np.asarray(given) for name, given in (("past", past), ("future", future)) if given is not None}
    for name, given in columns.items():
        if len(given) != len(values):
            raise ShapeError(f"backtest: {name} must have {len(values)} steps as series has, got {len(given)}.")
    predict: Callable[..., Any] = getattr(model, "predict", model)
    trains = fit != "never" and hasattr(model, "fit")
    origins: list[int] = []
    forecasts, targets = [], []
    for seen, ahead in rolling_origins(len(values), horizon, start, stride, window):
        if trains and (fit == "each" or not origins):
            model.fit(values[seen], **{name: given[seen] for name, given in columns.items()}, **fit_arguments)
        known = {name: given[seen if name == "past" else slice(seen.start, ahead.stop)] for name, given in columns.items()}
        forecast = np.asarray(predict(values[seen], horizon, **known), np.float64)
        if forecast.shape != (horizon,):
            raise ShapeError(f"backtest: a forecast must have shape ({horizon},), got {forecast.shape}.")
        origins.append(ahead.start)
        forecasts.append(forecast)
        targets.append(values[ahead])
    return Backtest(np.array(origins), np.array(forecasts), np.array(targets, np.float64), values[: origins[0]])


def _scores(targets: Any, forecasts: Any, train: Any, season: int) -> dict[str, float]:
    scores = {"MAE": mae(targets, forecasts), "RMSE": rmse(targets, forecasts), "sMAPE": smape(targets, forecasts)}
    if train is not None:
        try:
            scores["MASE"] = mase(targets, forecasts, train, season)
        except ValueError:  # a train part without changes
            scores["MASE"] = float("nan")
    return scores


def score_table(targets: Any, forecasts: Mapping[str, Any], train: Any = None, season: int = 1, print_fn: Callable[[str], None] = print) -> dict[str, dict[str, float]]:
    """Print MAE, RMSE, sMAPE and, with the training part, MASE of some forecasts, a line each.

    Parameters
    ----------
    targets : array_like, (H,) or (N, H)
    forecasts : mapping of str to array_like of the same shape
    train : array_like, (T,) or (M, T), optional
    season : int
        Of MASE.
    print_fn : function

    Returns
    -------
    dict
        The scores by name of the forecast and of the score.

    Examples
    --------
    >>> _ = score_table([1.0, 2.0], {"model": [1.0, 3.0], "naive": [0.0, 0.0]}, train=[0.0, 1.0, 0.0])
                             MAE        RMSE       sMAPE        MASE
    model                    0.5      0.7071          20         0.5
    naive                    1.5       1.581         200         1.5
    """
    scores = {name: _scores(targets, forecast, train, season) for name, forecast in forecasts.items()}
    width = max(16, *(len(name) for name in scores))
    print_fn(" " * width + "".join(f"{key:>12}" for key in next(iter(scores.values()))))
    for name, found in scores.items():
        print_fn(f"{name:<{width}}{''.join(f'{value:>12.4g}' for value in found.values())}")
    return scores


def compare(
    models: Mapping[str, Any],
    series: Any,
    horizon: int,
    *,
    lags: int,
    season: int | None = None,
    print_fn: Callable[[str], None] = print,
    **arguments: Any,
) -> dict[str, Backtest]:
    """Backtest models and print their scores with those of all baselines under them, from the same origins.

    Parameters
    ----------
    models : mapping of str to model, or to a finished Backtest
    series : array_like, (T,)
    horizon : int
    lags : int
        Of the least squares.
    season : int, optional
        Of the seasonal naive forecast and of MASE.
    print_fn : function
    **arguments
        `start`, `stride` and `window` of :func:`backtest`.

    Returns
    -------
    dict of str to Backtest
        The models', then the baselines'.
    """
    rivals = {baseline.name: baseline for baseline in baselines(horizon, lags, season)}
    results = {name: model if isinstance(model, Backtest) else backtest(model, series, horizon, **arguments) for name, model in {**models, **rivals}.items()}
    first, *others = results.values()
    if any(not np.array_equal(other.origins, first.origins) for other in others):
        raise ValueError("compare: all backtests must have the same origins. Give start, stride and window as those of the finished ones.")
    score_table(first.targets, {name: result.forecasts for name, result in results.items()}, first.train, season or 1, print_fn)
    return results
