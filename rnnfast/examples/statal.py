"""Has this pattern appeared before? Neurons that remember what they have seen, against an RNN, an LSTM and a GRU.

At every step of a sequence some of eight features are on. The pattern is three of them together. Half of the sequences show it once, within their first 20 steps; every
sequence is full of steps that show only two of the three. The question comes at the end, up to a thousand steps later: has the pattern appeared?

A network that is trained on the answer alone must carry one bit over the whole gap, and back-propagation must carry the blame as far back. A Statal neuron holds what it
has seen until it fires again; where it does not fire, its state and its gradient pass unchanged. "probability" states, the chance of having seen a feature, only ever
grow, so one firing is enough for ever.

Run it with ``python -m rnnfast.examples.statal`` (``--quick`` for one gap of 100 steps).
"""

from __future__ import annotations

import numpy as np

import rnnfast
from rnnfast import Input, Sequential, layers, optimizers
from rnnfast.examples._run import main

FEATURES, PATTERN, EARLY = 8, 3, 20
UNITS, BATCH, TEST = 16, 32, 1000
CELLS = {
    "Statal": lambda: layers.Statal(UNITS, state="probability", activation="linear", threshold=2.0, output="state"),
    "SimpleRNN": lambda: layers.SimpleRNN(UNITS),
    "LSTM": lambda: layers.LSTM(UNITS),
    "GRU": lambda: layers.GRU(UNITS),
}


def sequences(rng: np.random.Generator, count: int, time: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [count, time, FEATURES] of zeros and ones, and whether the pattern appears [count, 1]."""
    x = rng.random((count, time, FEATURES)) < 0.4
    row, step = np.nonzero(x[:, :, :PATTERN].all(-1))
    x[row, step, rng.integers(0, PATTERN, len(row))] = False  # two of the three are no pattern
    y = rng.permutation(count) < count // 2
    x[np.flatnonzero(y), rng.integers(0, EARLY, y.sum()), :PATTERN] = True
    return x.astype(np.float32), y[:, None].astype(np.float32)


def accuracy(cell: str, time: int, steps: int) -> float:
    """Of a network trained for so many steps on gaps of about `time`."""
    rnnfast.utils.set_random_seed(1)
    rng = np.random.default_rng(time)
    model = Sequential([Input((time, FEATURES)), CELLS[cell](), layers.Dense(1, activation="sigmoid")])
    model.compile(optimizers.Adam(0.01, clipnorm=1.0), loss="binary_crossentropy")
    for _ in range(steps):
        model.train_on_batch(*sequences(rng, BATCH, time))
    x, y = sequences(rng, TEST, time)
    return float(((model.predict(x, verbose=0) > 0.5) == y).mean())


def run(quick: bool = False) -> dict[str, float]:
    """Train every cell for every gap; returns the accuracies on new sequences."""
    times, steps = ([100], 300) if quick else ([50, 200, 500, 1000], 600)
    print(f"Right answers on {TEST} new sequences, after {steps * BATCH} for training (guessing: 50 %)")
    print(f"{'steps':>8}" + "".join(f"{cell:>12}" for cell in CELLS))
    scores: dict[str, float] = {}
    for time in times:
        found = {f"{cell} {time}": accuracy(cell, time, steps) for cell in CELLS}
        print(f"{time:>8}" + "".join(f"{value:>12.1%}" for value in found.values()))
        scores |= found
    return scores


if __name__ == "__main__":
    main(run)
