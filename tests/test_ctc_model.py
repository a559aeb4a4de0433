"""Models trained on CTC: gradients of weights, lengths and masks, weights of sequences, metrics, files."""

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Sequential, layers, losses, metrics, optimizers
from rnnfast.errors import ShapeError
from tests.gradients import central_differences

RNG = np.random.default_rng(7)
X, Y = RNG.normal(size=(5, 9, 3)), np.array([[0, 1, 1], [2, -1, -1], [-1, -1, -1], [3, 3, -1], [2, 0, -1]])
LENGTHS, WEIGHTS = np.array([9, 3, 0, 4, 7]), np.array([1.0, 2.0, 0.5, 1.0, 0.0])


def recognizer(dtype="float64", **options):
    model = Sequential([Input((None, 3), dtype=dtype), layers.GRU(4, return_sequences=True, dtype=dtype), layers.Dense(5, dtype=dtype)])
    model.compile(optimizers.SGD(1.0), losses.CTC(blank=-1, padding=-1, **options))
    return model


@pytest.mark.parametrize("masking", [{}, {"lengths": LENGTHS}, {"mask": RNG.random((5, 9)) < 0.8}])
def test_gradients_of_weights(masking):
    model = recognizer(zero_infinity=True)
    weights = model.get_weights()
    expected = model.loss(Y, model.predict(X, **masking), WEIGHTS, **masking)
    assert model.train_on_batch(X, Y, sample_weight=WEIGHTS, **masking) == pytest.approx(expected, rel=1e-12)
    moved = model.get_weights()

    def loss():
        model.set_weights(weights)
        return model.evaluate(X, Y, sample_weight=WEIGHTS, verbose=0, **masking)

    for before, after in zip(weights, moved, strict=True):
        np.testing.assert_allclose(before - after, central_differences(loss, before), atol=1e-7)


def test_same_bits_for_any_threads():
    results = []
    kept = rnnfast.get_num_threads()
    for threads in (1, 2):
        rnnfast.set_num_threads(threads)
        rnnfast.utils.set_random_seed(1)
        model = recognizer("float32")
        model.fit(np.tile(X, (20, 1, 1)), np.tile(Y, (20, 1)), epochs=2, lengths=np.tile(LENGTHS, 20) + 0, verbose=0)
        results.append(model.get_weights())
    rnnfast.set_num_threads(kept)
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_model_without_recurrence_counts_valid_steps_only():
    model = Sequential([Input((None, 3), dtype="float64"), layers.Dense(5, dtype="float64")])
    model.compile("sgd", losses.CTC(blank=-1, padding=-1, zero_infinity=True))
    expected = model.loss(Y, model.predict(X), lengths=LENGTHS)
    assert model.evaluate(X, Y, lengths=LENGTHS, verbose=0) == pytest.approx(expected, rel=1e-12)


def test_infinite_loss_leaves_weights_usable():
    model = recognizer()
    assert model.train_on_batch(X, Y, lengths=np.ones(5, int)) == np.inf
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_fit_labels_of_any_width_metrics_and_file(tmp_path):
    rnnfast.utils.set_random_seed(2)
    labels = RNG.integers(1, 4, (64, 6))
    x = np.eye(4)[np.repeat(labels, 2, 1)] + 0.1 * RNG.normal(size=(64, 12, 4))
    model = Sequential([Input((None, 4)), layers.GRU(16, return_sequences=True), layers.Dense(4)])
    model.compile(optimizers.Adam(0.02), "ctc", metrics=[metrics.CharacterErrorRate()])
    history = model.fit(x, labels, epochs=25, verbose=0).history
    assert history["loss"][-1] < 0.3 * history["loss"][0]
    assert history["character_error_rate"][-1] < 0.15
    wider = np.pad(labels, ((0, 0), (0, 30)))
    assert model.evaluate(x, wider, verbose=0) == pytest.approx(model.evaluate(x, labels, verbose=0))
    model.save(tmp_path / "m.rnnf")
    again = rnnfast.load(tmp_path / "m.rnnf")
    assert again.loss.get_config() == model.loss.get_config()
    assert again.evaluate(x, labels, verbose=0) == model.evaluate(x, labels, verbose=0)


def test_bad_use_is_named():
    model = Sequential([Input((None, 3)), layers.GRU(5)])
    model.compile("sgd", "ctc")
    with pytest.raises(ShapeError, match=r"loss 'ctc' needs an output of shape \(B, T, classes\), got \(5, 5\)"):
        model.train_on_batch(X, np.ones((5, 2)))
    model = recognizer()
    with pytest.raises(ShapeError, match=r"must have shape \(5, L\)"):
        model.train_on_batch(X, np.ones(5))
    with pytest.raises(ValueError, match="class numbers in"):
        model.fit(X, Y + 2, verbose=0)
    with pytest.raises(ShapeError, match="sample_weight must have shape"):
        model.train_on_batch(X, Y, sample_weight=np.ones((5, 9)))
    with pytest.raises(ValueError, match="class_weight"):
        model.fit(X, Y, class_weight={1: 2.0}, verbose=0)
