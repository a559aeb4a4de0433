"""Forecasts of series: a recurrent network with its scaling and seasonal differences inside, on the series' own scale outside."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast.builders._forecast_stream import ForecastStream
from rnnfast.builders._series import Pipeline
from rnnfast.builders._stack import recurrent_stack
from rnnfast.callbacks import History
from rnnfast.data import Backtest, backtest
from rnnfast.data.checks import count
from rnnfast.errors import suggest
from rnnfast.layers import Dense, Input, RepeatVector, deserialize
from rnnfast.models.files import register_model
from rnnfast.models.sequential import Sequential
from rnnfast.optimizers import Adam

__all__ = ["Forecaster", "forecaster"]

STRATEGIES = ("recursive", "direct", "seq2seq")
AT_ONCE = 1024


def forecaster(
    horizon: int,
    lags: int,
    strategy: str = "direct",
    *,
    past: int = 0,
    future: int = 0,
    season: int | None = None,
    log: bool = False,
    scaler: Any = "standard",
    cell: str = "gru",
    units: int = 32,
    layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    name: str | None = None,
) -> Forecaster:
    """A model that reads the last `lags` values of a series and forecasts the next `horizon`.

    ============  ==========================================================================================================
    strategy      network
    ============  ==========================================================================================================
    "recursive"   recurrent layers, ``Dense(1)``: one step; its own forecasts are fed back for the next ones
    "direct"      recurrent layers, ``Dense(horizon)``: all steps at once
    "seq2seq"     recurrent layers (encoder), their last output repeated, recurrent layers (decoder), ``Dense(1)`` at each step
    ============  ==========================================================================================================

    Parameters
    ----------
    horizon, lags : int
    strategy : {"direct", "recursive", "seq2seq"}
    past : int
        Number of other columns that are known up to the last value; not with "recursive", which would have to forecast them.
    future : int
        Number of columns that are known ahead, such as calendar or price. They enter the network early: beside the value of step t stand the columns of step
        t + horizon (t + 1 with "recursive").
    season : int, optional
        The network sees and forecasts differences to the value a season before.
    log : bool
        The network sees logarithms, for series that grow by factors.
    scaler : {"standard", "minmax"}, Scaler or None
        Fitted on the training part, a copy for the series and one for the other columns, and saved with the model.
    cell, units, layers, bidirectional, dropout
        Of the recurrent layers; "seq2seq" has so many in the encoder and in the decoder.
    name : str, optional

    Returns
    -------
    Forecaster
        Compiled with ``Adam(0.005)`` and the mean squared error; compile it again for others.

    Examples
    --------
    >>> import numpy as np
    >>> import rnnfast
    >>> from rnnfast.builders import forecaster
    >>> rnnfast.utils.set_random_seed(0)
    >>> series = 10 + np.sin(np.arange(200) / 3)
    >>> model = forecaster(horizon=4, lags=20, units=8)
    >>> history = model.fit(series[:160], epochs=30, verbose=0)
    >>> model.predict(series[:160]).shape
    (4,)
    >>> bool(np.abs(model.predict(series[:160]) - series[160:164]).max() < 0.2)
    True
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"forecaster: strategy must be one of {STRATEGIES}, got {strategy!r}. {suggest(strategy, STRATEGIES)}")
    if past and strategy == "recursive":
        raise ValueError("forecaster: past columns would have to be forecast too by strategy 'recursive'. Use 'direct' or 'seq2seq', or columns known ahead (future).")
    ahead = 1 if strategy == "recursive" else horizon
    pipeline = Pipeline(lags, ahead, past, future, season, log, scaler)
    stack = (cell, units, layers, bidirectional, dropout)
    if strategy == "seq2seq":
        body = [*recurrent_stack(*stack, return_sequences=False), RepeatVector(horizon), *recurrent_stack(*stack, return_sequences=True), Dense(1)]
    else:
        body = [*recurrent_stack(*stack, return_sequences=False), Dense(ahead)]
    model = Forecaster([Input((None, pipeline.features)), *body], name, horizon=horizon, pipeline=pipeline)
    model.compile(Adam(0.005), loss="mse")
    return model


@register_model
class Forecaster(Sequential):
    """A Sequential that is given series instead of arrays of windows; made by :func:`forecaster`.

    `fit`, `predict`, `backtest` and `stream` speak of series on their own scale; the methods for single batches, such as `predict_on_batch`, are those of the
    network inside. Several series of one length, (N, T), are learned and forecast together.

    Parameters
    ----------
    layers, name
        As of Sequential.
    horizon : int
    pipeline : Pipeline
        How series become the network's inputs, and its outputs forecasts.
    """

    def __init__(self, layers: Any = None, name: str | None = None, *, horizon: int, pipeline: Pipeline) -> None:
        super().__init__(layers, name)
        self.horizon, self.pipeline = count("forecaster", "horizon", horizon), pipeline
        pipeline.owner = f"Forecaster '{self.name}'"
        if not self.built or self.input_shape != (None, None, pipeline.features) or self.output_shape[1:] not in ((pipeline.ahead,), (pipeline.ahead, 1)):
            raise ValueError(
                f"{pipeline.owner}: layers must begin with Input((None, {pipeline.features})) and give ({pipeline.ahead},) or ({pipeline.ahead}, 1) outputs, "
                f"got {self.input_shape} and {self.output_shape if self.built else None}."
            )

    def fit(  # type: ignore[override]
        self, series: Any, *, past: Any = None, future: Any = None, stride: int = 1, epochs: int = 50, validation_split: float = 0.0, **arguments: Any
    ) -> History:
        """Train on all windows of a series.

        Parameters
        ----------
        series : array_like, (T,) or (N, T)
        past, future : array_like, (T, F) or (N, T, F), optional
            The other columns, as many as the builder was told.
        stride : int
            Steps from one window to the next.
        epochs : int
        validation_split : float
            This share is held out: the last steps of one series; of several series the last ones.
        **arguments
            Of :meth:`rnnfast.Sequential.fit`: `batch_size`, `callbacks`, `verbose`, `shuffle`...

        Notes
        -----
        The first call fits the scalers, on what is not held out; the weights belong to them, so later calls keep them.

        Raises
        ------
        ValueError
            For a series shorter than ``lags + season + horizon``, or with a NaN or infinite value.
        """
        given = self.pipeline.check(series, past, future)
        train, held_out = self.pipeline.split(given, validation_split)
        self.pipeline.fit(train)
        x, y = self._samples(train, stride)
        if held_out is not None:
            arguments["validation_data"] = self._samples(held_out, stride)
        return super().fit(x, y, epochs=epochs, **arguments)

    def _samples(self, given: Any, stride: int) -> tuple[np.ndarray, np.ndarray]:
        x, y = self.pipeline.samples(given, stride)
        y = y.reshape(len(y), *self.output_shape[1:])
        return x.astype(self.runner().dtype), y.astype(self.runner().dtype)

    def predict(  # type: ignore[override]
        self, history: Any, horizon: int | None = None, *, past: Any = None, future: Any = None
    ) -> np.ndarray:
        """Forecast what follows a history.

        Parameters
        ----------
        history : array_like, (T,) or (B, T)
            At least ``lags + season`` steps; earlier ones are not read.
        horizon : int, optional
            The model's own when None. Only the recursive strategy can look further ahead.
        past : array_like, (T, P) or (B, T, P), optional
        future : array_like, (T + horizon, K) or (B, T + horizon, K), optional
            From the first step of the history to the last one of the forecast.

        Returns
        -------
        ndarray of shape (horizon,) or (B, horizon), float64
            On the series' own scale.
        """
        steps = self._steps_ahead(horizon)
        single, given = np.ndim(history) == 1, self.pipeline.check(history, past, future, max(steps, self.pipeline.ahead))
        x, upcoming = self.pipeline.inputs(given)
        found: list[np.ndarray] = []
        while len(found) * self.pipeline.ahead < steps:
            if found:
                row = np.concatenate([found[-1], upcoming[:, len(found) - 1]], axis=-1)
                x = np.concatenate([x, row[:, None]], axis=1)
            found.append(self._run(x))
        forecast = self.pipeline.restore(np.concatenate(found, axis=1)[:, :steps], given.values)
        return forecast[0] if single else forecast

    def _run(self, x: np.ndarray) -> np.ndarray:
        """The network's outputs [B, ahead], float64, of inputs [B, T, F]: some at a time, so that many histories take no more memory than these."""
        x = x.astype(self.runner().dtype)
        parts = [self.predict_on_batch(x[first : first + AT_ONCE]) for first in range(0, max(1, len(x)), AT_ONCE)]
        return np.concatenate(parts).reshape(len(x), self.pipeline.ahead).astype(np.float64)

    def _steps_ahead(self, horizon: int | None) -> int:
        steps = self.horizon if horizon is None else count(self.pipeline.owner, "horizon", horizon)
        if steps > self.pipeline.ahead and (self.pipeline.ahead > 1 or self.pipeline.past):
            raise ValueError(f"{self.pipeline.owner}: horizon must be at most {self.pipeline.ahead}, for which it was made, got {steps}. Only strategy='recursive' looks further.")
        return steps

    def backtest(self, series: Any, horizon: int | None = None, *, fit: str = "first", **arguments: Any) -> Backtest:
        """Forecast from an origin that rolls through a series; arguments as of :func:`rnnfast.data.backtest`, and of :meth:`fit`.

        With ``fit="first"`` and ``fit="each"`` a copy with new weights is trained, so that nothing learned from later steps can help, and this model stays as it is;
        "each" goes on training the copy at every origin. ``fit="never"`` takes the model as it is.
        """
        model = self if fit == "never" else self._untrained()
        return backtest(model, series, self._steps_ahead(horizon), fit=fit, **arguments)

    def _untrained(self) -> Forecaster:
        model = self.from_config(self.get_config())
        model.pipeline.forget()
        model.compile_from_config(self.get_compile_config() or {})
        return model

    def stream(self) -> ForecastStream:  # type: ignore[override]
        """A live series: value by value, each giving the forecast of the next `horizon`."""
        return ForecastStream(self, super().stream() if self.output_shape[1:] == (self.pipeline.ahead,) else None)

    def get_config(self) -> dict[str, Any]:
        """The layers' configurations, the horizon and the pipeline with its scalers."""
        return super().get_config() | {"horizon": self.horizon, "pipeline": self.pipeline.get_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Forecaster:
        """Make a model, with new weights, from :meth:`get_config`'s result."""
        pipeline = Pipeline.from_config(config["pipeline"])
        return cls([deserialize(saved) for saved in config["layers"]], config.get("name"), horizon=config["horizon"], pipeline=pipeline)
