"""The main job on real data: forecast a monthly series, one month ahead, and use the model live.

The series is log(passengers) minus its value a year before; a GRU reads the last 24 of these differences and predicts the next. The last
36 months are held out; nothing of them is used in scaling or training.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import rnnfast
from rnnfast import Input, Sequential, layers, optimizers
from rnnfast.datasets import air_passengers

SEASON, WINDOW, HELD_OUT, UNITS, EPOCHS, SEED = 12, 24, 36, 8, 100, 0


def windows(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [n, WINDOW, 1] and the value after each [n, 1]."""
    x = np.lib.stride_tricks.sliding_window_view(series[:-1], WINDOW)
    return np.ascontiguousarray(x[..., None]), series[WINDOW:, None]


def rmse(forecast: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((forecast - truth) ** 2)))


def least_squares(x: np.ndarray, y: np.ndarray, x_new: np.ndarray) -> np.ndarray:
    """Linear regression on the same lags."""
    design = np.column_stack([x[..., 0], np.ones(len(x))]).astype(np.float64)
    solution = np.linalg.lstsq(design, y[:, 0], rcond=None)[0]
    return np.column_stack([x_new[..., 0], np.ones(len(x_new))]) @ solution


def numpy_step(weights: list[np.ndarray], x: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One step of the GRU and its Dense layer as a NumPy user would write it: (output, new state)."""
    kernel, recurrent, bias, dense, offset = weights
    gates, state = x @ kernel + bias[0], h @ recurrent + bias[1]
    z, r = np.split(1 / (1 + np.exp(-(gates + state)[: 2 * UNITS])), 2)
    n = np.tanh(gates[2 * UNITS :] + r * state[2 * UNITS :])
    h = z * h + (1 - z) * n
    return h @ dense + offset, h


def microseconds(step: Any, repeats: int = 5, calls: int = 2000) -> float:
    """The best of some averages over many calls."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            step()
        best = min(best, (time.perf_counter() - start) / calls)
    return 1e6 * best


def live(model: Sequential, x: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Forecasts with each window fed month by month, and microseconds a step of the stream and of NumPy."""
    stream, forecasts = model.stream(), []
    for window in x:
        stream.reset()
        outputs = [stream.step(month) for month in window]
        forecasts.append(outputs[-1])
    month, weights, h = x[0, 0], model.get_weights(), np.zeros(UNITS, np.float32)
    return np.array(forecasts), microseconds(lambda: stream.step(month)), microseconds(lambda: numpy_step(weights, month, h))


def picture(months: np.ndarray, passengers: np.ndarray, forecasts: dict[str, np.ndarray]) -> str | None:
    """Write forecast.png and say what became of it; None where matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    dates, held = months.astype("datetime64[D]").astype(object), months[-HELD_OUT:].astype("datetime64[D]").astype(object)
    axes.axvspan(held[0], held[-1], color="0.93", label="held out")
    axes.plot(dates, passengers, color="0.2", label="passengers")
    for (name, values), (color, style) in zip(forecasts.items(), [("tab:red", "-"), ("tab:blue", ":")], strict=False):
        axes.plot(held, values, color=color, linestyle=style, label=name)
    axes.set(title="One-month-ahead forecasts of airline passengers", xlabel="month", ylabel="passengers (thousands)", xlim=(dates[72], dates[-1]))
    axes.legend(loc="upper left", frameon=False)
    try:
        figure.savefig("forecast.png", dpi=120)
    except OSError as error:
        return f"could not be written: {error}"
    return "forecast.png"


def run() -> float:
    """Train, score, save, reload and stream; returns the GRU's RMSE on the held-out months."""
    rnnfast.utils.set_random_seed(SEED)
    months, passengers = air_passengers()
    logs = np.log(passengers.astype(np.float64))
    change = logs[SEASON:] - logs[:-SEASON]
    mean, deviation = change[:-HELD_OUT].mean(), change[:-HELD_OUT].std()
    x, y = windows(((change - mean) / deviation).astype(np.float32))
    train = len(y) - HELD_OUT

    model = Sequential([Input((None, 1)), layers.GRU(UNITS), layers.Dense(1)])
    model.compile(optimizers.Adam(0.005), loss="mse")
    start = time.perf_counter()
    history = model.fit(x[:train], y[:train], batch_size=16, epochs=EPOCHS, verbose=0)
    seconds = time.perf_counter() - start
    losses = history.history["loss"]
    print(f"Trained GRU({UNITS}) on {train} windows of {WINDOW} months: {EPOCHS} epochs in {seconds:.2f} s, loss {losses[0]:.3f} -> {losses[-1]:.3f}\n")

    truth, year_before = passengers[-HELD_OUT:].astype(np.float64), logs[-HELD_OUT - SEASON : -SEASON]
    predicted = model.predict(x[train:], verbose=0)
    forecasts = {
        f"GRU({UNITS})": np.exp(predicted[:, 0] * deviation + mean + year_before),
        "least squares": np.exp(least_squares(x[:train], y[:train], x[train:]) * deviation + mean + year_before),
        "seasonal naive": passengers[-HELD_OUT - SEASON : -SEASON],
        "naive last value": passengers[-HELD_OUT - 1 : -1],
    }
    print(f"RMSE over the last {HELD_OUT} months, one month ahead (thousands of passengers)")
    for name, values in forecasts.items():
        print(f"  {name:<18}{rmse(values, truth):8.1f}")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "airline.rnnf"
        model.save(path)
        loaded = rnnfast.load(path)
        size = path.stat().st_size
    same = np.array_equal(loaded.predict(x[train:], verbose=0), predicted)
    print(f"\nSaved to {size / 1024:.1f} KiB and reloaded: forecasts are {'identical' if same else 'DIFFERENT'}")
    streamed, own, numpys = live(loaded, x[train:])
    print(f"Streamed month by month: largest difference to the whole window {np.abs(streamed - predicted).max():.1g}")
    print(f"One live step: {own:.2f} us, in NumPy {numpys:.2f} us")
    written = picture(months, passengers, {name: forecasts[name] for name in (f"GRU({UNITS})", "naive last value")})
    print(f"Picture: {written}" if written else "For a picture: pip install rnnfast[plot]")
    return rmse(forecasts[f"GRU({UNITS})"], truth)
