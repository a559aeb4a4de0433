"""Forecasting: many values in, the next ones out, by three strategies.

A recurrent network reads a window of a series. What follows can be had in three ways:

- recursive: the network forecasts one step; the forecast is fed back as if it had been seen, and so on. Errors are fed back too;
- direct: the network has as many outputs as there are steps, and forecasts them at once;
- seq2seq: an encoder reads the window, a decoder walks through the steps to come with what the encoder found at hand.

Two tasks show them. In the first, 10 000 series of two sines with noise (A. Géron, "Hands-on machine learning", 2nd edition, chapter 15), the next 10 of 60 values are to be
forecast; the naive forecast, the last value again, has a mean squared error of 0.2570 there. In the second, the airline passengers of Box and Jenkins, each strategy forecasts 12 months
from every month after the first nine years, and is fitted on those nine years alone; the networks see changes from a year before. Beside each score stand the forecasts that need no network.
With ``--plot FILE`` the forecasts of the last year are drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import rnnfast
from rnnfast import data, datasets, diagnostics
from rnnfast.builders import forecaster
from rnnfast.examples._run import main

STRATEGIES = ("recursive", "direct", "seq2seq")


def sines(count: int, steps: int) -> np.ndarray:
    """Series (count, steps) of two sines of random frequency and phase, and noise: the book's, digit by digit, with NumPy's seed 42."""
    random = np.random.RandomState(42)
    first, second, offset, other = random.rand(4, count, 1)
    time = np.linspace(0, 1, steps)
    series = 0.5 * np.sin((time - offset) * (first * 10 + 10)) + 0.2 * np.sin((time - other) * (second * 20 + 20))
    return (series + 0.1 * (random.rand(count, steps) - 0.5)).astype(np.float32)


def by_step(title: str, errors: dict[str, np.ndarray]) -> None:
    """Print a line of errors, one a step ahead, for each forecast."""
    steps = range(1, 1 + max(len(each) for each in errors.values()))
    print(f"\n{title}\n{'step':<16}" + "".join(f"{step:>9}" for step in steps))
    for name, values in errors.items():
        print(f"{name:<16}" + "".join(f"{value:>9.4g}" for value in values))


def run_sines(quick: bool) -> dict[str, float]:
    """Mean squared errors of 10 steps on series that no forecaster has seen, by strategy and baseline."""
    series = sines(10_000, 60)
    train, history, truth = series[: 2000 if quick else 7000], series[7000:9000, :50], series[7000:9000, 50:]
    forecasts = {}
    for strategy in STRATEGIES:
        rnnfast.utils.set_random_seed(42)
        model = forecaster(horizon=10, lags=50, strategy=strategy, units=32)
        model.fit(train, stride=10, epochs=16 if quick else 20, verbose=0)  # one window a series
        forecasts[strategy] = model.predict(history)
    for baseline in data.baselines(horizon=10, lags=50):
        forecasts[baseline.name] = baseline.fit(train).predict(history, 10)
    squares = {name: np.square(forecast - truth) for name, forecast in forecasts.items()}
    by_step(f"Sines: mean squared error of each step, trained on {len(train)} series", {name: each.mean(axis=0) for name, each in squares.items()})
    print("\nSines: mean squared error of all 10 steps")
    for name, each in squares.items():
        print(f"{name:<16}{each.mean():>9.4f}")
    scores = {f"sines {name} mse": float(each.mean()) for name, each in squares.items()}
    return scores | {"sines recursive / direct": scores["sines recursive mse"] / scores["sines direct mse"]}


def run_airline(quick: bool, plot: str | None) -> dict[str, float]:
    """RMSE of the last three years' forecasts, from every month 1 to 12 months ahead, in thousands of passengers; draw those of the last year."""
    _, passengers = datasets.air_passengers()
    origins: Any = {"start": 108, "stride": 4 if quick else 1}
    models = {}
    for strategy in STRATEGIES:
        rnnfast.utils.set_random_seed(0)
        model = forecaster(horizon=12, lags=24, strategy=strategy, season=12, units=8)
        models[strategy] = model.backtest(passengers, **origins, epochs=60, batch_size=16, verbose=0)
    print("\nAirline passengers, 1 to 12 months ahead: errors in thousands, sMAPE in percent, MASE 1 where the seasonal naive forecast was in the training part")
    results = data.compare(models, passengers, horizon=12, lags=13, season=12, **origins)
    by_step("Airline passengers: root mean squared error of each month ahead, in thousands", {name: result.rmse_by_step() for name, result in results.items()})
    if plot is not None:
        start, shown = results["direct"].origins[-1], (*STRATEGIES, "seasonal naive")
        year = {name: results[name].forecasts[-1] for name in shown}
        diagnostics.plot_forecast(passengers[start - 48 : start], year, passengers[start:], "Airline passengers (thousands)", plot)
    return {f"airline {name} rmse": result.scores()["RMSE"] for name, result in results.items()}


def run(quick: bool = False, plot: str | None = None) -> dict[str, float]:
    """Print and return the scores of both tasks; draw the last year's forecasts to a file."""
    return run_sines(quick) | run_airline(quick, plot)


if __name__ == "__main__":
    main(run)
