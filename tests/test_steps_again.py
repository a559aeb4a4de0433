"""Training steps that go straight to the engine do what careful ones do, and whatever is not as in the last step is looked at."""

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Sequential, layers

RNG = np.random.default_rng(7)
X, Y = RNG.standard_normal((6, 9, 5), np.float32), RNG.standard_normal((6, 9, 4), np.float32)
OTHER_X, OTHER_Y = X[:2] * 2, Y[:2] + 1
WEIGHTS = [RNG.standard_normal(shape).astype(np.float32) / 3 for shape in [(5, 12), (4, 12), (2, 12), (4, 4), (4,)]]


def made(optimizer="adam", loss="mse", **options):
    model = Sequential([Input((None, 5)), layers.GRU(4, return_sequences=True), layers.Dense(4)])
    model.set_weights(WEIGHTS)
    model.compile(optimizer if isinstance(optimizer, str) else optimizer(), loss, **options)
    return model


def careful(model, *arrays, **options):
    if model._steps is not None:
        model._steps.lesson = None
    return model.train_on_batch(*arrays, **options)


def straight(model):
    return model._steps is not None and model._steps.lesson is not None


def same(one, other):
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))
    assert one.optimizer.iterations == other.optimizer.iterations


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "nadam", "rmsprop", lambda: rnnfast.optimizers.Adam(rnnfast.schedules.ExponentialDecay(0.1, 2, 0.5))])
def test_steps_are_those_of_the_careful_way(optimizer):
    one, other = made(optimizer), made(optimizer)
    for _ in range(4):
        assert one.train_on_batch(X, Y) == careful(other, X, Y)
        assert straight(one)
    assert one.train_on_batch(X, Y, return_dict=True) == careful(other, X, Y, return_dict=True)
    same(one, other)
    assert np.array_equal(one.predict_on_batch(X), other.predict_on_batch(X))


def ragged(sequences=True, loss="mse"):
    model = Sequential([Input((None, 5)), layers.Conv1D(5, 3, strides=2, padding="causal"), layers.GRU(4, return_sequences=sequences), layers.Dense(4)])
    model.set_weights([w * np.float32(0.5) for w in ragged_weights(model)])
    model.compile("adam", loss)
    return model


def ragged_weights(model):
    rng = np.random.default_rng(3)
    return [rng.standard_normal(w.shape).astype(np.float32) for w in model.get_weights()]


@pytest.mark.parametrize("loss", ["mse", rnnfast.losses.MeanSquaredError(reduction="sum"), rnnfast.losses.MeanAbsoluteError(reduction="mean_with_sample_weight")])
@pytest.mark.parametrize("make", [made, ragged, lambda loss: ragged(False, loss)])
def test_steps_with_lengths(make, loss):
    """Other lengths each time, the full ones, none at all, and rows without a step."""
    one, other = make(loss=loss), make(loss=loss)
    y = Y if make is made else Y[:, :5] if make is ragged else Y[:, 0].copy()
    y = np.ascontiguousarray(y)
    for lengths in ([1, 9, 3, 4, 5, 6], [9, 2, 2, 7, 8, 1], [9] * 6, [0, 0, 3, 0, 9, 0], None, [4, 4, 4, 4, 4, 5], [0] * 6, [1] * 6):
        given = None if lengths is None else np.array(lengths)
        assert one.train_on_batch(X, y, lengths=given) == careful(other, X, y, lengths=given)
        assert straight(one)
    same(one, other)
    for wrong in (np.array([1, 2, 3, 4, 5, 10]), np.array([-1, 2, 3, 4, 5, 6]), np.ones(5, int)):
        with pytest.raises(ValueError):
            one.train_on_batch(X, y, lengths=wrong)
    same(one, other)


def test_fit_takes_the_same_steps_with_lengths():
    one, other, lengths = made(), made(), np.array([1, 9, 3, 4, 5, 6])
    one.fit(X, Y, lengths=lengths, batch_size=2, epochs=3, shuffle=False, verbose=0)
    for _ in range(3):
        for i in (0, 2, 4):
            careful(other, X[i : i + 2], Y[i : i + 2], lengths=lengths[i : i + 2])
    assert straight(one)
    same(one, other)


CHANGES = {
    "weighted": (lambda m: (X, Y), {"sample_weight": np.linspace(0, 1, 6)}),
    "lengths": (lambda m: (X, Y), {"lengths": np.array([1, 9, 3, 4, 5, 6])}),
    "lengths as a list": (lambda m: (X, Y), {"lengths": [1, 9, 3, 4, 5, 6]}),
    "a mask": (lambda m: (X, Y), {"mask": np.arange(9) < np.array([[1], [9], [3], [4], [5], [6]])}),
    "resets": (lambda m: (X, Y), {"resets": np.eye(6, 9, 2, bool)}),
    "truncate": (lambda m: (X, Y), {"truncate": (3, 3)}),
    "another size": (lambda m: (OTHER_X, OTHER_Y), {}),
    "float64": (lambda m: (X.astype(np.float64), Y.astype(np.float64)), {}),
    "integer targets": (lambda m: (X, np.rint(Y).astype(np.int64)), {}),
    "strided": (lambda m: (X[:, ::-1], Y[::-1]), {}),
    "lists": (lambda m: (X.tolist(), Y.tolist()), {}),
    "swapped bytes": (lambda m: (X.astype(">f4"), Y), {}),
    "weights": (lambda m: (m.set_weights([w * 2 for w in WEIGHTS]), X, Y)[1:], {}),
    "frozen": (lambda m: (setattr(m.layers[0], "trainable", False), X, Y)[1:], {}),
    "rate": (lambda m: (setattr(m.optimizer, "learning_rate", 0.5), X, Y)[1:], {}),
    "compiled": (lambda m: (m.compile("sgd", "mae"), X, Y)[1:], {}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_step_between_that_differs(change):
    arrays, options = CHANGES[change]
    one, other = made(), made()
    for model, step in (one, lambda *a, **o: one.train_on_batch(*a, **o)), (other, lambda *a, **o: careful(other, *a, **o)):
        model.losses_met = [step(X, Y), step(X, Y), step(*arrays(model), **options), step(X, Y), step(X, Y)]
    assert one.losses_met == other.losses_met
    same(one, other)


@pytest.mark.parametrize("options", [{"metrics": ["mae"]}, {"loss_steps": 2}, {"time_weights": np.arange(9.0)}, {"gradient_norm": True}, {"loss_weights": [0.5]}])
def test_what_a_step_must_look_at_is_looked_at(options):
    one, other = made(**options), made(**options)
    for _ in range(3):
        assert one.train_on_batch(X, Y) == careful(other, X, Y)
        assert not straight(one)
    same(one, other)


def test_noise_is_drawn_anew():
    model = Sequential([Input((None, 5)), layers.Dropout(0.5), layers.GRU(4, return_sequences=True)])
    model.compile(rnnfast.optimizers.SGD(0.0), "mse")
    assert len({model.train_on_batch(X, Y) for _ in range(5)}) == 5


def test_wrong_arrays_are_refused_as_before():
    model = made()
    model.train_on_batch(X, Y)
    for arrays in ((X[..., :4], Y), (X, Y[:, :5]), (X, None), (X[:3], Y)):
        with pytest.raises(ValueError):
            model.train_on_batch(*arrays)
        assert model.train_on_batch(X, Y) > 0


def test_threads_and_test_steps_between():
    one, other = made(), made()
    before = rnnfast.get_num_threads()
    try:
        for threads in (1, 2, 1):
            rnnfast.set_num_threads(threads)
            for _ in range(2):
                assert one.train_on_batch(X, Y) == careful(other, X, Y)
                assert one.test_on_batch(X, Y) == other.test_on_batch(X, Y)
    finally:
        rnnfast.set_num_threads(before)
    same(one, other)


def test_quantized_models_are_refused_as_before():
    model = Sequential([Input((None, 64)), layers.LSTM(64, return_sequences=True)])
    x = RNG.standard_normal((2, 3, 64), np.float32)
    model.compile("sgd", "mse")
    model.train_on_batch(x, x)
    model.quantize("int8")
    with pytest.raises(ValueError, match="quantized"):
        model.train_on_batch(x, x)


def test_fit_takes_the_same_steps():
    one, other = made(), made()
    history = one.fit(X, Y, batch_size=2, epochs=3, shuffle=False, verbose=0).history["loss"]
    losses = [[careful(other, X[i : i + 2], Y[i : i + 2]) for i in (0, 2, 4)] for _ in range(3)]
    assert straight(one)
    assert np.allclose(history, np.mean(losses, axis=1), rtol=1e-12)
    same(one, other)
