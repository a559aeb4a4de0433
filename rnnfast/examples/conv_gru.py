"""Convolution and recurrence: better forecasts in less time.

10 000 series of two sines with noise (A. Géron, "Hands-on machine learning", 2nd edition, chapter 15): from 50 values the next 10 are forecast at once. A GRU reads all 50 values one by
one. Behind a convolution of stride 2 it reads 22 vectors instead, each a summary of 8 values from which the noise is filtered: fewer steps to compute, and fewer to remember over.
"""

from __future__ import annotations

import time

import numpy as np

import rnnfast
from rnnfast import Sequential, data
from rnnfast.builders import conv_gru, many_to_one
from rnnfast.examples._run import main
from rnnfast.examples.forecasting import sines


def train_step_seconds(models: dict[str, Sequential], x: np.ndarray, y: np.ndarray, rounds: int = 30) -> dict[str, float]:
    """The shortest time of a training step of each model, the models taking turns."""
    best = dict.fromkeys(models, float("inf"))
    for _ in range(rounds):
        for name, model in models.items():
            start = time.perf_counter()
            model.train_on_batch(x, y)
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def run(quick: bool = False) -> dict[str, float]:
    """Mean squared errors of 10 steps on series that no model has seen, and how much faster the convolution makes a training step."""
    series = sines(10_000, 60)
    train, history, truth = series[: 3000 if quick else 7000], series[7000:9000, :50], series[7000:9000, 50:]
    x, y, epochs = train[:, :50, None], train[:, 50:], 10 if quick else 20
    scores, models = {}, {}
    for baseline in data.baselines(horizon=10, lags=50):
        scores[baseline.name] = float(np.square(baseline.fit(train).predict(history, 10) - truth).mean())
    builders = {
        "gru": lambda: many_to_one(features=1, outputs=10, cell="gru", units=32),
        "conv + gru": lambda: conv_gru(features=1, outputs=10, filters=16, kernel_size=8, strides=2, padding="valid", units=32),
    }
    for name, build in builders.items():
        rnnfast.utils.set_random_seed(42)
        models[name] = build()
        rate = rnnfast.schedules.CosineDecay(5e-3, epochs * len(x) // 32)
        models[name].compile(rnnfast.optimizers.Adam(rate), "mse")
        models[name].fit(x, y, batch_size=32, epochs=epochs, verbose=0)
        scores[name] = float(np.square(models[name].predict(history[..., None]) - truth).mean())
    seconds = train_step_seconds(models, x[:32], y[:32])
    for name, score in scores.items():
        print(f"{name:<16} mse {score:.4f}" + (f"   {1e3 * seconds[name]:.2f} ms a training step" if name in seconds else ""))
    return scores | {"times faster": seconds["gru"] / seconds["conv + gru"], "error ratio": scores["conv + gru"] / scores["gru"]}


if __name__ == "__main__":
    main(run)
