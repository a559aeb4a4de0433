"""Forecaster: windows of series, learned and continued."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import r2_score
from sklearn.utils import check_array
from sklearn.utils.validation import _check_feature_names, check_is_fitted, validate_data

from rnnfast.builders import forecaster
from rnnfast.random import seeded
from rnnfast.sklearn._arrays import plain, unequal
from rnnfast.sklearn._base import NetworkEstimator


class Forecaster(NetworkEstimator):
    """A recurrent network that reads the last `lags` values of a series and forecasts the next `horizon`; :func:`rnnfast.builders.forecaster` as an estimator.

    A series is a sample: X is one series (T,), several in rows (n_series, T), a list of series of different lengths, or, with further columns that are known up to
    the last value, (n_series, T, F) or a list of (T_i, F). With `target` a 2-D X is one series of several columns (T, F), as a data frame of time has it.

    Parameters
    ----------
    lags, horizon : int
    strategy : {"direct", "recursive", "seq2seq"}
    season : int, optional
        The network sees and forecasts differences to the value a season before.
    log : bool
        The network sees logarithms.
    scaler : {"standard", "minmax"} or None
    target : int, optional
        The column that is forecast; None is the first, and says that a 2-D X holds a series in each row.
    cell, units, layers, bidirectional, dropout, optimizer, learning_rate, epochs, batch_size, early_stopping, validation_fraction, n_iter_no_change, tol, random_state, verbose
        See :class:`rnnfast.sklearn.SequenceEstimator`; what early stopping holds out is the end of every series.

    Attributes
    ----------
    model_ : rnnfast.builders.forecaster.Forecaster
        The network with its scalers.
    tails_ : ndarray (n_series, lags + season, F)
        The ends of the series, which `predict()` continues.
    n_features_in_ : int
        Columns of X.
    n_iter_, history_, loss_
        Epochs, their losses, the last one.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast.sklearn import Forecaster
    >>> series = 10 + np.sin(np.arange(200) / 3)
    >>> model = Forecaster(lags=20, horizon=4, units=8, epochs=30, random_state=0).fit(series[:160])
    >>> model.predict().shape, model.predict(series[:190]).shape
    ((4,), (4,))
    >>> bool(model.score(series[140:]) > 0.9)
    True
    """

    def __init__(
        self,
        lags: int = 24,
        horizon: int = 1,
        strategy: str = "direct",
        season: int | None = None,
        log: bool = False,
        scaler: Any = "standard",
        target: int | None = None,
        cell: str = "gru",
        units: Any = 32,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        optimizer: Any = "adam",
        learning_rate: Any = 0.005,
        epochs: int = 50,
        batch_size: int = 32,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.lags = lags
        self.horizon = horizon
        self.strategy = strategy
        self.season = season
        self.log = log
        self.scaler = scaler
        self.target = target
        self.cell = cell
        self.units = units
        self.layers = layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Forecaster:
        """Train on all windows of one or more series.

        Parameters
        ----------
        X : array_like of shape (T,), (n_series, T) or (n_series, T, F), or list of arrays of shape (T_i,) or (T_i, F); with `target` also (T, F)
        y : None
            Ignored; the values to forecast are in X.

        Returns
        -------
        self
        """
        series, self._single = self._series(X, reset=True)
        options = ("strategy", "season", "log", "scaler", "cell", "units", "layers", "bidirectional", "dropout")
        seed = self._seed()
        with seeded(seed):
            self.model_ = forecaster(self.horizon, self.lags, past=series[0].shape[1] - 1, **{name: getattr(self, name) for name in options})
        self.model_.compile(self._optimizer(), "mse")
        pipeline = self.model_.pipeline
        parts = [pipeline.split(pipeline.check(*_columns(one)), self.validation_fraction if self.early_stopping else 0.0) for one in series]
        pipeline.fit(*(train for train, _ in parts))
        self._train(seed, *self._windows([train for train, _ in parts]), self._windows([held for _, held in parts if held is not None]) if self.early_stopping else None)
        self.tails_ = np.stack([one[len(one) - pipeline.history :] for one in series])
        return self

    def predict(self, X: Any = None) -> np.ndarray:
        """Forecast what follows.

        Parameters
        ----------
        X : array_like or int, optional
            Histories as for :meth:`fit`, of at least ``lags + season`` steps. None, or a number of steps, continues the series of the fit; only the recursive
            strategy can look further than `horizon`.

        Returns
        -------
        ndarray of shape (horizon,) for one series, (n_series, horizon) for several
        """
        check_is_fitted(self)
        if X is None or (isinstance(X, int | np.integer) and not isinstance(X, bool)):
            return self._continue(self.tails_, self._single, None if X is None else int(X))
        series, single = self._series(X, reset=False)
        least = self.model_.pipeline.history
        short = min(len(one) for one in series)
        if short < least:
            raise ValueError(f"Forecaster: a history must have at least lags + season = {least} steps, got {short}.")
        return self._continue(np.stack([one[len(one) - least :] for one in series]), single)

    def score(self, X: Any, y: Any = None) -> float:
        """The coefficient of determination, R squared, of the forecasts of all windows in X.

        Parameters
        ----------
        X
            As for :meth:`fit`; at least ``lags + season + horizon`` steps.
        y : None
            Ignored.
        """
        check_is_fitted(self)
        series, _ = self._series(X, reset=False)
        least = self.model_.pipeline.history
        length = least + self.horizon
        short = min(len(one) for one in series)
        if short < length:
            raise ValueError(f"Forecaster: a series must have at least lags + season + horizon = {length} steps to be scored, got {short}.")
        windows = np.concatenate([np.lib.stride_tricks.sliding_window_view(one, length, axis=0).swapaxes(1, 2) for one in series])
        return float(r2_score(windows[:, least:, 0].ravel(), self._continue(windows[:, :least], False, self.horizon).ravel()))

    def _continue(self, histories: np.ndarray, single: bool, steps: int | None = None) -> np.ndarray:
        values, past, _ = _columns(histories)
        found: np.ndarray = self.model_.predict(values, steps, past=past)
        return found[0] if single else found

    def _windows(self, given: list[Any]) -> tuple[np.ndarray, np.ndarray]:
        found = [self.model_._samples(one, 1) for one in given]
        return np.concatenate([x for x, _ in found]), np.concatenate([y for _, y in found])

    def _series(self, X: Any, reset: bool) -> tuple[list[np.ndarray], bool]:
        """X as arrays (T_i, F) whose first column is forecast, and whether it is one series alone."""
        ragged = unequal(X)
        checks: Any = {"dtype": np.float64, "ensure_2d": False, "allow_nd": True, "estimator": self}
        if ragged is not None:
            series, single = [check_array(one, **checks) for one in ragged], False
        else:
            X, rank = plain(X), np.ndim(X)
            if rank == 2 and self.target is None:
                x = validate_data(self, X, dtype=np.float64) if reset else check_array(X, dtype=np.float64, estimator=self)
                if not reset:
                    _check_feature_names(self, X, reset=False)
            else:
                x = check_array(X, **checks)
            single = rank == 1 or (rank == 2 and self.target is not None)
            series = [x] if single else list(x)
        series = [self._target_first(one[:, None] if one.ndim == 1 else one) for one in series]
        width = series[0].shape[1]
        odd = next((one.shape for one in series if one.shape[1:] != (width,)), None)
        if odd is not None:
            raise ValueError(f"Forecaster: all series must have shape (T, {width}) as the first, got {odd}.")
        if reset and not (ragged is None and rank == 2 and self.target is None):
            self.n_features_in_ = width
            self.__dict__.pop("feature_names_in_", None)
        return series, single

    def _target_first(self, series: np.ndarray) -> np.ndarray:
        target = self.target or 0
        if series.ndim != 2:
            raise ValueError(f"Forecaster: a series must have shape (T,) or (T, F), got {series.shape}.")
        if isinstance(target, bool) or not isinstance(target, int | np.integer) or not 0 <= target < series.shape[1]:
            raise ValueError(f"Forecaster: target must be a column of X, in [0, {series.shape[1]}), got {self.target!r}.")
        return np.concatenate([series[:, target : target + 1], np.delete(series, target, axis=1)], axis=1) if target else series

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True  # one_d_array would say that nothing else is taken
        return tags


def _columns(series: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, None]:
    """The values, the columns known up to the last value, and none that are known ahead."""
    return series[..., 0], series[..., 1:] if series.shape[-1] > 1 else None, None
