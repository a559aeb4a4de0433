"""BatchNormalization: statistics over the valid steps, their gradient, the moving ones' way through training, freezing and files."""

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Sequential, layers
from tests.conftest import max_rel_error
from tests.gradients import central_differences
from tests.reference.convolution import batch_normalize

B, T, C = 4, 7, 5
LENGTHS = np.array([7, 2, 0, 5])


def test_against_the_oracle_with_lengths(dtype, rng):
    layer = layers.BatchNormalization(dtype=dtype)
    layer.build((None, None, C))
    weights = [(rng.random(C) + 0.5).astype(dtype) for _ in range(4)]
    layer.set_weights(weights)
    x, valid = (rng.standard_normal((B, T, C)) * 3 + 50).astype(dtype), np.arange(T) < LENGTHS[:, None]
    y = layer(x, lengths=LENGTHS, training=True)
    expected, mean, variance = batch_normalize(x.astype(np.float64), valid, *(w.astype(np.float64) for w in weights[:2]), 1e-3)
    close = 1e-6 if dtype == "float32" else 1e-12
    assert max_rel_error(y[valid], expected[valid]) <= close
    assert max_rel_error(layer.moving_mean.value, weights[2].astype(np.float64) * 0.99 + mean * 0.01) <= close
    assert max_rel_error(layer.moving_variance.value, weights[3].astype(np.float64) * 0.99 + variance * 0.01) <= close
    moved = layer.get_weights()
    alone = (x.astype(np.float64) - moved[2]) / np.sqrt(moved[3].astype(np.float64) + 1e-3) * weights[0] + weights[1]
    assert max_rel_error(layer(x), alone) <= close


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "ragged"])
def test_central_differences(training, lengths, rng):
    layer = layers.BatchNormalization(dtype="float64")
    layer.build((None, None, C))
    weights = [rng.random(C) + 0.5 for _ in range(4)]
    x, dy = rng.standard_normal((B, T, C)), rng.standard_normal((B, T, C))

    def total():
        layer.set_weights(weights)
        return float((layer(x, lengths=lengths, training=training) * dy).sum())

    layer.set_weights(weights)
    found = layer.vjp(x, dy, lengths=lengths, training=training)
    for mine, array in zip([found["x"], *found["weights"][:2]], [x, *weights[:2]], strict=True):
        assert max_rel_error(mine, central_differences(total, array)) <= 1e-7


def test_same_bits_on_any_number_of_threads(rng):
    layer, x, results, threads = layers.BatchNormalization(), rng.standard_normal((40, 50, 33)).astype(np.float32), [], rnnfast.get_num_threads()
    layer.build((None, None, 33))
    start = layer.get_weights()
    for n in (1, 2, 3):
        rnnfast.set_num_threads(n)
        layer.set_weights(start)
        found = layer.vjp(x, x, training=True)
        results.append([found["y"], found["x"], *found["weights"], *layer.get_weights()])
    rnnfast.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def model_of(**options):
    model = Sequential([Input((None, C)), layers.Conv1D(6, 3, padding="causal"), layers.BatchNormalization(momentum=0.5, **options), layers.GRU(4), layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def test_moving_statistics_follow_training_and_are_saved(rng, tmp_path):
    model = model_of()
    x, y = rng.standard_normal((32, T, C)).astype(np.float32) * 4, rng.standard_normal((32, 1)).astype(np.float32)
    before = model.layers[1].get_weights()
    model.fit(x, y, epochs=3, batch_size=8, verbose=0)
    after = model.layers[1].get_weights()
    assert not np.array_equal(before[2], after[2]) and not np.array_equal(before[3], after[3])
    assert len(model.trainable_variables) == len(model.weights) - 2
    assert model.optimizer.iterations == 12
    model.evaluate(x, y, verbose=0)
    model.predict(x)
    for a, b in zip(after, model.layers[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.save(tmp_path / "model.rnnf")
    np.testing.assert_array_equal(rnnfast.load(tmp_path / "model.rnnf").predict(x), model.predict(x))


@pytest.mark.parametrize("options", [{}, {"center": False, "scale": False}], ids=["affine", "plain"])
def test_a_frozen_layer_uses_the_moving_statistics(options, rng):
    model = model_of(**options)
    x, y = rng.standard_normal((8, T, C)).astype(np.float32), rng.standard_normal((8, 1)).astype(np.float32)
    model.train_on_batch(x, y)
    model.layers[1].trainable = False
    before = model.layers[1].get_weights()
    model.train_on_batch(x, y)
    for a, b in zip(before, model.layers[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.layers[1].trainable = True
    assert not any(v.trainable for v in model.layers[1].weights[-2:])
    model.train_on_batch(x, y)
    assert not np.array_equal(before[-1], model.layers[1].get_weights()[-1])


def test_a_batch_without_valid_steps_leaves_the_statistics(rng):
    layer, x = layers.BatchNormalization(), rng.standard_normal((2, 3, C)).astype(np.float32)
    assert np.isfinite(layer(x, lengths=[0, 0], training=True)).all()
    np.testing.assert_array_equal(layer.moving_mean.value, np.zeros(C))
    np.testing.assert_array_equal(layer.moving_variance.value, np.ones(C))


def test_features_of_higher_rank(rng):
    x = rng.standard_normal((2, 3, 4, C))
    ours, flat = layers.BatchNormalization(dtype="float64"), layers.BatchNormalization(dtype="float64")
    np.testing.assert_allclose(ours(x, training=True), flat(x.reshape(-1, C), training=True).reshape(x.shape), rtol=1e-12)


@pytest.mark.parametrize(
    "config, words", [({"axis": 1}, ["axis", "1"]), ({"momentum": 2}, ["momentum", "2"]), ({"epsilon": "small"}, ["epsilon", "small"]), ({"momentun": 0.9}, ["momentum"])]
)
def test_bad_arguments(config, words):
    with pytest.raises((TypeError, ValueError)) as error:
        layers.BatchNormalization(**config).build((None, None, 4))
    assert all(word in str(error.value) for word in ["BatchNormalization", *words])
