"""How good a forecast is: errors of forecasts [..., H] of values [..., H], as one number.

y is the value, f the forecast, the mean is over all of them::

    MAE   = mean |y - f|
    RMSE  = sqrt(mean (y - f)^2)
    sMAPE = 200 mean |y - f| / (|y| + |f|), in percent, 0 to 200; a term 0/0 counts 0
    MASE  = MAE / mean_t |train_t - train_(t-m)|, the (seasonal) naive forecast's MAE inside the training part

sMAPE as in the M4 competition (Makridakis, Spiliotis and Assimakopoulos, International Journal of Forecasting 36(1), 2020); MASE from Hyndman and Koehler,
"Another look at measures of forecast accuracy", International Journal of Forecasting 22(4), 2006.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast.data.checks import as_series, count
from rnnfast.errors import ShapeError

__all__ = ["last_step_mse", "mae", "mase", "rmse", "smape"]

_AXES = (1, 2, 3)


def _pair(owner: str, y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
    values, forecasts = as_series(owner, y_true, _AXES, "y_true"), as_series(owner, y_pred, _AXES, "y_pred")
    if values.shape != forecasts.shape:
        raise ShapeError(f"{owner}: y_true and y_pred must have one shape, got {values.shape} and {forecasts.shape}.")
    if not values.size:
        raise ShapeError(f"{owner}: y_true must not be empty, got shape {values.shape}.")
    return values.astype(np.float64), forecasts.astype(np.float64)


def mae(y_true: Any, y_pred: Any) -> float:
    """Mean absolute error.

    Examples
    --------
    >>> mae([1.0, 2.0], [1.0, 5.0])
    1.5
    """
    y, f = _pair("mae", y_true, y_pred)
    return float(np.abs(y - f).mean())


def rmse(y_true: Any, y_pred: Any) -> float:
    """Root of the mean squared error.

    Examples
    --------
    >>> rmse([0.0, 0.0], [1.0, 7.0])
    5.0
    """
    y, f = _pair("rmse", y_true, y_pred)
    return float(np.sqrt(np.square(y - f).mean()))


def smape(y_true: Any, y_pred: Any) -> float:
    """Symmetric mean absolute percentage error, 0 to 200.

    Examples
    --------
    >>> smape([1.0, 0.0], [3.0, 0.0])
    50.0
    """
    y, f = _pair("smape", y_true, y_pred)
    size = np.abs(y) + np.abs(f)
    return float(200 * np.divide(np.abs(y - f), size, out=np.zeros_like(size), where=size > 0).mean())


def mase(y_true: Any, y_pred: Any, train: Any, season: int = 1) -> float:
    """Mean absolute scaled error: below 1 is better than the (seasonal) naive forecast was inside the training part.

    Parameters
    ----------
    y_true, y_pred : array_like, (..., H)
    train : array_like, (T,) or (N, T)
        What the forecaster was fitted on.
    season : int
        Steps of a season; 1 compares with the last value.

    Raises
    ------
    ValueError
        If `train` is not longer than a season, or repeats itself so that the naive forecast has no error.

    Examples
    --------
    >>> mase([5.0, 6.0], [4.0, 6.0], train=[1.0, 2.0, 4.0, 3.0])
    0.375
    """
    y, f = _pair("mase", y_true, y_pred)
    past, season = as_series("mase", train, (1, 2), "train").astype(np.float64), count("mase", "season", season)
    if past.shape[-1] <= season:
        raise ValueError(f"mase: train must have more than season = {season} steps, got {past.shape[-1]}.")
    naive = np.abs(past[..., season:] - past[..., :-season]).mean()
    if naive == 0:
        raise ValueError(f"mase: undefined for a train part whose naive forecast (season {season}) has no error.")
    return float(np.abs(y - f).mean() / naive)


def last_step_mse(y_true: Any, y_pred: Any) -> float:
    """Mean squared error of the last step alone, of arrays (N, T, ...): for models that are trained on all steps and used for the last.

    It can be watched: ``model.compile(loss="mse", metrics=[last_step_mse])``.

    Examples
    --------
    >>> last_step_mse([[1.0, 2.0]], [[9.0, 4.0]])
    4.0
    """
    y, f = _pair("last_step_mse", y_true, y_pred)
    if y.ndim < 2:
        raise ShapeError(f"last_step_mse: y_true must have shape (N, T, ...), got {y.shape}.")
    return float(np.square(y[:, -1] - f[:, -1]).mean())
