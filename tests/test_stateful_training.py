"""Stateful layers go on from batch to batch of a long series, in training too, until they are reset."""

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Sequential, layers, optimizers
from rnnfast.callbacks import LambdaCallback
from tests.conftest import max_rel_error

SERIES, WINDOW, WINDOWS, F = 4, 5, 6, 2
CELLS = {"SimpleRNN": layers.SimpleRNN, "LSTM": layers.LSTM, "GRU": layers.GRU}


def made(cell, stateful):
    rnnfast.utils.set_random_seed(4)
    inner = [cell(5, return_sequences=True, stateful=stateful, dtype="float64"), cell(3, return_sequences=True, stateful=stateful, dtype="float64")]
    model = Sequential([Input((None, F), batch_size=SERIES, dtype="float64"), *inner, layers.Dense(1, dtype="float64")])
    model.compile(optimizers.SGD(0.2), "mse")
    return model


def data(rng):
    """Series [SERIES, WINDOWS * WINDOW, ...], and the same as samples of which every SERIES follow each other in a batch."""
    x, y = rng.standard_normal((SERIES, WINDOWS * WINDOW, F)), rng.standard_normal((SERIES, WINDOWS * WINDOW, 1))
    cut = [np.concatenate(np.split(one, WINDOWS, axis=1)) for one in (x, y)]
    return x, y, *cut


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_fit_over_contiguous_batches_is_truncated_training_of_the_series(cell, rng):
    x, y, cut_x, cut_y = data(rng)
    model, truncated = made(cell, True), made(cell, False)
    reset = LambdaCallback(on_epoch_begin=lambda *_: model.reset_states())
    found = model.fit(cut_x, cut_y, batch_size=SERIES, epochs=3, shuffle=False, verbose=0, callbacks=[reset]).history["loss"]
    expected = truncated.fit(x, y, batch_size=SERIES, epochs=3, verbose=0, shuffle=False, truncate=(WINDOW, WINDOW)).history["loss"]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    for a, b in zip(model.get_weights(), truncated.get_weights(), strict=True):
        assert max_rel_error(a, b) < 1e-13


def test_without_a_reset_the_second_epoch_goes_on_from_the_first(rng):
    _, _, cut_x, cut_y = data(rng)
    models = [made(layers.GRU, True), made(layers.GRU, True)]
    models[0].optimizer.learning_rate = models[1].optimizer.learning_rate = 0.0
    reset = LambdaCallback(on_epoch_begin=lambda *_: models[0].reset_states())
    options = {"batch_size": SERIES, "epochs": 2, "shuffle": False, "verbose": 0}
    a = models[0].fit(cut_x, cut_y, callbacks=[reset], **options).history["loss"]
    b = models[1].fit(cut_x, cut_y, **options).history["loss"]
    assert a[0] == a[1] == b[0] != b[1]


def test_a_batch_of_another_size_is_refused(rng):
    _, _, cut_x, cut_y = data(rng)
    model = made(layers.LSTM, True)
    with pytest.raises(ValueError, match="keeps the states of 4 rows, got a batch of 2"):
        model.fit(cut_x[:-2], cut_y[:-2], batch_size=SERIES, shuffle=False, verbose=0)
