"""Which steps the loss looks at, how it weighs them, and the gradient's norm in the logs."""

import io
from contextlib import redirect_stdout

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Sequential, layers, optimizers
from rnnfast.errors import ShapeError

B, T, F = 6, 8, 3
LENGTHS = np.array([8, 5, 1, 8, 0, 3])


def made(optimizer=None, sequence=True, **compiled):
    rnnfast.utils.set_random_seed(2)
    inner = [layers.GRU(4, return_sequences=sequence, dtype="float64"), layers.Dense(2, dtype="float64")]
    model = Sequential([Input((None, F), dtype="float64"), *inner])
    model.compile(optimizer or optimizers.SGD(0.1), "mse", **compiled)
    return model


def data(rng):
    return rng.standard_normal((B, T, F)), rng.standard_normal((B, T, 2))


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("count", [1, 3, 20])
def test_only_the_last_valid_steps_of_each_row_count(count, lengths, rng):
    x, y = data(rng)
    model = made(loss_steps=count, metrics=["mae"])
    p = model.predict(x, lengths=lengths, verbose=0)
    ends = np.full(B, T) if lengths is None else lengths
    errors = [p[b, t] - y[b, t] for b in range(B) for t in range(max(0, ends[b] - count), ends[b])]
    loss, mae = model.evaluate(x, y, lengths=lengths, verbose=0)
    assert loss == pytest.approx(np.mean(np.square(errors)), rel=1e-12)
    assert mae == pytest.approx(np.abs(errors).mean(), rel=1e-12)
    assert model.train_on_batch(x, y, lengths=lengths)[0] == pytest.approx(loss, rel=1e-12)


def test_training_on_the_last_step_is_training_a_model_without_sequences(rng):
    x, y = data(rng)
    models = [made(loss_steps=1), made(sequence=False)]
    for _ in range(3):
        models[0].train_on_batch(x, y, lengths=[8, 5, 1, 8, 2, 3])
        models[1].train_on_batch(x, y[np.arange(B), np.array([8, 5, 1, 8, 2, 3]) - 1], lengths=[8, 5, 1, 8, 2, 3])
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_time_weights_multiply_the_weights_of_samples(rng):
    x, y = data(rng)
    times, samples = rng.random(T), rng.random(B)
    model, plain = made(time_weights=times), made()
    assert model.evaluate(x, y, verbose=0) == pytest.approx(plain.evaluate(x, y, sample_weight=np.tile(times, (B, 1)), verbose=0), rel=1e-12)
    a = model.fit(x, y, sample_weight=samples, verbose=0, epochs=2, shuffle=False).history["loss"]
    b = plain.fit(x, y, sample_weight=np.outer(samples, times), verbose=0, epochs=2, shuffle=False).history["loss"]
    np.testing.assert_allclose(a, b, rtol=1e-12)


def norm_of(model, x, y):
    """Of the gradient of the mean squared error, by the vector-Jacobian product."""
    p = model.predict_on_batch(x)
    found = model.vjp(x, 2 * (p - y) / y.size)
    return np.sqrt(sum(np.square(w).sum() for w in found["weights"]))


@pytest.mark.parametrize("clip", [{"global_clipnorm": 1e-3}, {"clipnorm": 1e-3}, {"clipvalue": 1e-4}, {}])
def test_norm_before_clipping_is_logged(clip, rng):
    x, y = data(rng)
    model = made(optimizers.SGD(0.1, **clip), gradient_norm=not clip)
    expected = norm_of(model, x, y)
    screen = io.StringIO()
    with redirect_stdout(screen):
        history = model.fit(x, y, batch_size=B, verbose=2).history
    assert history["gradient_norm"][0] == pytest.approx(expected, rel=1e-12)
    assert f"gradient_norm {expected:.4f}" in screen.getvalue()
    assert model.train_on_batch(x, y, return_dict=True)["gradient_norm"] == pytest.approx(norm_of_last := model._gradient_norm())
    assert np.isfinite(norm_of_last)
    assert isinstance(model.train_on_batch(x, y), float)  # as Keras returns it


def test_norm_is_the_mean_over_the_steps_of_an_epoch(rng):
    x, y = data(rng)
    model = made(optimizers.SGD(0.0, global_clipnorm=1.0))
    norms = [norm_of(model, x[i : i + 2], y[i : i + 2]) for i in (0, 2, 4)]
    assert model.fit(x, y, batch_size=2, shuffle=False, verbose=0).history["gradient_norm"][0] == pytest.approx(np.mean(norms), rel=1e-12)
    windows = made(optimizers.SGD(0.0), gradient_norm=True)
    assert windows.fit(x, y, batch_size=B, truncate=(T, T), verbose=0).history["gradient_norm"][0] == pytest.approx(norm_of(model, x, y), rel=1e-12)


def test_nothing_is_logged_unless_somebody_clips_or_asks(rng):
    assert set(made().fit(*data(rng), verbose=0).history) == {"loss"}


def test_saved_models_keep_it(tmp_path, rng):
    x, y = data(rng)
    model = made(loss_steps=2, time_weights=np.arange(T), gradient_norm=True)
    model.save(tmp_path / "m.rnnf")
    loaded = rnnfast.load(tmp_path / "m.rnnf")
    assert loaded.train_on_batch(x, y, return_dict=True) == model.train_on_batch(x, y, return_dict=True)


def test_loss_of_a_model_that_ends_in_a_recurrent_sequence(rng):
    model = Sequential([Input((None, F)), layers.GRU(2, return_sequences=True)])
    model.compile("sgd", "mse")
    x = rng.standard_normal((5, 7, F)).astype(np.float32)
    assert model.evaluate(x, model.predict(x, verbose=0), verbose=0) == 0


@pytest.mark.parametrize("count", [0, -1, 2.0, True, "2"])
def test_loss_steps_of_no_sense(count):
    with pytest.raises(ValueError, match="loss_steps must be a positive integer, got"):
        made(loss_steps=count)


def test_steps_that_are_not_there(rng):
    x, y = data(rng)
    with pytest.raises(ValueError, match="loss_steps needs an output at every step"):
        made(sequence=False, loss_steps=2).train_on_batch(x, y[:, 0])
    with pytest.raises(ShapeError, match=r"time_weights must have a weight for each step of y, of shape \(6, 8, 2\), got 3"):
        made(time_weights=np.ones(3)).fit(x, y, verbose=0)
    with pytest.raises(ShapeError, match=r"time_weights must have shape \(T,\), got \(2, 2\)"):
        made(time_weights=np.ones((2, 2)))
