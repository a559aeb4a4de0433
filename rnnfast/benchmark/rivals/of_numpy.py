"""NumPy, as a page of equations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rnnfast.benchmark.cases import Case
from rnnfast.benchmark.rivals import Prepared, refuse, twice


def cell(case: Case) -> Callable[[np.ndarray, list[np.ndarray]], None]:
    """One step, which changes the states."""
    w, one = case.weights()[0][0], np.float32(1)
    kernel, recurrent, bias = w["kernel"], w["recurrent"], w["bias"]

    def lstm(x: np.ndarray, s: list[np.ndarray]) -> None:
        i, f, g, o = np.split(x @ kernel + s[0] @ recurrent + bias, 4, axis=-1)
        s[1] = s[1] / (one + np.exp(-f)) + np.tanh(g) / (one + np.exp(-i))
        s[0] = np.tanh(s[1]) / (one + np.exp(-o))

    def gru(x: np.ndarray, s: list[np.ndarray]) -> None:
        a, b = np.split(x @ kernel + bias[0], 3, axis=-1), np.split(s[0] @ recurrent + bias[1], 3, axis=-1)
        z, r = one / (one + np.exp(-a[0] - b[0])), one / (one + np.exp(-a[1] - b[1]))
        s[0] = z * s[0] + (one - z) * np.tanh(a[2] + r * b[2])

    return {"lstm": lstm, "gru": gru}[case.cell]


def numpy(case: Case, threads: int) -> Prepared:
    refuse(case, cell="rnn", mode=("train", "backward"), layers=tuple(range(2, 99)), bidirectional=True, lengths=True, resets=True, alone=True)
    x, step, kernel = case.data()["x"], cell(case), case.head()
    start = [np.zeros((case.batch, case.units), np.float32) for _ in range(2)]
    kept = list(start)

    def run() -> np.ndarray:
        states = kept if case.live else list(start)
        y = np.stack([(step(x[:, t], states), states[0])[1] for t in range(case.time)], axis=1)
        return y @ kernel[0] + kernel[1] if case.outputs else y

    return run, twice(run) if case.live else run
