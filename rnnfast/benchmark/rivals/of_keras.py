"""Keras on the backend that KERAS_BACKEND names."""

from __future__ import annotations

import keras as library
import numpy as np

from rnnfast.benchmark.cases import Case
from rnnfast.benchmark.rivals import Prepared, after, refuse, twice


def keras(case: Case, threads: int) -> Prepared:
    refuse(case, mode="backward", alone=True, resets=True)
    data = case.data()
    kind = {"lstm": library.layers.LSTM, "gru": library.layers.GRU, "rnn": library.layers.SimpleRNN}[case.cell]
    x = library.Input((case.time, case.inputs), batch_size=case.batch)
    mask = library.Input((case.time,), batch_size=case.batch, dtype="bool")
    y = x
    for _ in range(case.layers):
        layer = kind(case.units, return_sequences=True, stateful=case.live)
        layer = library.layers.Bidirectional(layer) if case.bidirectional else layer
        y = layer(y, mask=mask) if case.lengths else layer(y)
    y = library.layers.Dense(case.outputs)(y) if case.outputs else y
    model = library.Model([x, mask] if case.lengths else x, y)
    weights = [w[name] for layer in case.weights() for w in layer for name in ("kernel", "recurrent", "bias")]
    model.set_weights([*weights, *(case.head() if case.outputs else ())])
    given = [data["x"], case.valid] if case.lengths else data["x"]
    if case.mode == "infer":
        run = lambda: model.predict_on_batch(given)
        return run, twice(run) if case.live else lambda: np.asarray(run())
    model.compile(library.optimizers.Adam(1e-3, epsilon=1e-7), "mse")
    step = lambda: model.train_on_batch(given, data["target"])  # the mask reaches the loss
    return step, after(step, lambda: model.get_weights()[1])
