"""rnnfast's own model, and its streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import rnnfast as library
from rnnfast.benchmark.cases import Case
from rnnfast.benchmark.rivals import Prepared, after, refuse, twice


def model(case: Case) -> library.Sequential:
    """The case's layers with its weights."""
    kind = {"lstm": library.layers.LSTM, "gru": library.layers.GRU, "rnn": library.layers.SimpleRNN}[case.cell]
    stack = [kind(case.units, return_sequences=True) for _ in range(case.layers)]
    layers = [library.layers.Bidirectional(layer) for layer in stack] if case.bidirectional else stack
    head = [library.layers.Dense(case.outputs)] if case.outputs else []
    made = library.Sequential([library.Input((None, case.inputs)), *layers, *head])
    weights = [w[name] for layer in case.weights() for w in layer for name in ("kernel", "recurrent", "bias")]
    made.set_weights([*weights, *(case.head() if case.outputs else ())])
    return made


def rnnfast(case: Case, threads: int) -> Prepared:
    refuse(case, mode="backward", alone=True)
    library.set_num_threads(threads)
    made, data = model(case), case.data()
    x, target = data["x"], data["target"]
    if case.live:
        run = live(case, made, x)
        return run, twice(run)
    options: dict[str, Any] = ({"lengths": case.row_lengths} if case.lengths else {}) | ({"resets": data["resets"]} if case.resets else {})
    if case.mode == "infer":
        predict = (lambda: made.predict_on_batch(x, **options)) if options else (lambda: made.predict_on_batch(x))
        return predict, predict
    made.compile(library.optimizers.Adam(1e-3, epsilon=1e-7), "mse")
    step = lambda: made.train_on_batch(x, target, **options)
    return step, after(step, lambda: made.get_weights()[1])


def live(case: Case, made: library.Sequential, x: np.ndarray) -> Callable[[], np.ndarray]:
    """A call of a stream, or of a pool where there are several rows, whose output array is there already."""
    y = np.empty((case.batch, case.time, case.outputs or case.units), np.float32)
    if case.batch == 1:
        stream = made.stream()
        if case.time > 1:
            return lambda: stream.process(x[0], y[0])[None]
        row, out = x[0, 0].copy(), y[0, 0]
        return lambda: (stream.step(row, out), y)[1]
    pool = made.stream_pool(case.batch)
    ids = np.array([pool.open() for _ in range(case.batch)])
    if case.time > 1:
        return lambda: pool.process(ids, x, y)
    rows, outs = x[:, 0].copy(), y[:, 0]
    return lambda: (pool.step(ids, rows, outs), y)[1]
