"""Callbacks and whole training runs against Keras."""

import numpy as np
import pytest

from rnnfast import callbacks
from tests.linear_model import LinearModel
from tests.peers import as_array, require

keras = require("keras")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class Model:
    def __init__(self, optimizer):
        self.optimizer, self.stop_training, self.weights, self.metrics = optimizer, False, [np.zeros(1)], []

    def get_weights(self):
        return [w.copy() for w in self.weights]

    def set_weights(self, weights):
        self.weights = weights


def drive(callback, optimizer, values):
    model, rates = Model(optimizer), []
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        model.weights = [np.array([float(epoch)])]
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, {"val_loss": value})
        rates.append(float(as_array(optimizer.learning_rate)))
        if model.stop_training:
            break
    callback.on_train_end()
    return rates, model.weights[0].tolist()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("EarlyStopping", {"patience": 3}),
        ("EarlyStopping", {"patience": 2, "restore_best_weights": True, "min_delta": 0.05}),
        ("EarlyStopping", {"patience": 2, "baseline": 0.3, "start_from_epoch": 2, "restore_best_weights": True}),
        ("EarlyStopping", {"patience": 1, "mode": "max"}),
        ("ReduceLROnPlateau", {"patience": 2, "factor": 0.5}),
        ("ReduceLROnPlateau", {"patience": 1, "cooldown": 2, "min_lr": 0.05, "min_delta": 0.1}),
        ("ReduceLROnPlateau", {"patience": 1, "mode": "max", "factor": 0.9}),
    ],
)
def test_scripted_losses(name, config, seed):
    from rnnfast.optimizers import SGD

    values = np.random.default_rng(seed).random(20).tolist()
    ours = drive(getattr(callbacks, name)(**config), SGD(1.0), values)
    theirs = drive(getattr(keras.callbacks, name)(**config), keras.optimizers.SGD(1.0), values)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
    assert ours[1] == theirs[1]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"validation_split": 0.3},
        {"sample_weight": np.linspace(0.5, 2.0, 50)},
        {"class_weight": {0: 0.5, 1: 2.0}},
        {"validation_split": 0.2, "validation_freq": 2, "sample_weight": np.linspace(0.5, 2.0, 50)},
    ],
)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_history_of_a_linear_model(optimizer, options):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3)).astype("float32")
    y = (x.sum(-1, keepdims=True) > 0).astype("float32")
    arguments = {"optimizer": optimizer, "loss": "mse", "metrics": ["mae", "accuracy"], "weighted_metrics": ["mse"]}
    run = {"epochs": 3, "batch_size": 16, "shuffle": False, "verbose": 0, **options}
    theirs = keras.Sequential([keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(0.1))])
    theirs.compile(**arguments)
    ours = LinearModel()
    ours.compile(**arguments)
    expected = theirs.fit(x, y, **run).history
    got = ours.fit(x, y, **run).history
    assert set(got) == set(expected)
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=2e-5, atol=1e-6, err_msg=name)
    weights = np.linspace(1, 3, 50)
    np.testing.assert_allclose(
        ours.evaluate(x, y, sample_weight=weights, verbose=0),
        theirs.evaluate(x, y, sample_weight=weights, verbose=0),
        rtol=2e-5,
    )
    np.testing.assert_allclose(ours.predict(x, verbose=0), theirs.predict(x, verbose=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["EarlyStopping", "ModelCheckpoint", "ReduceLROnPlateau", "CSVLogger", "TerminateOnNaN"]
)
def test_arguments_have_the_same_order_and_defaults(name):
    import inspect

    ours = inspect.signature(getattr(callbacks, name)).parameters
    theirs = {
        key: value
        for key, value in inspect.signature(getattr(keras.callbacks, name)).parameters.items()
        if key != "kwargs"
    }
    assert list(ours) == list(theirs)
    assert [each.default for each in ours.values()] == [each.default for each in theirs.values()]


@pytest.mark.parametrize("name", ["fit", "evaluate", "predict", "train_on_batch", "test_on_batch", "predict_on_batch"])
def test_methods_take_the_arguments_of_keras(name):
    import inspect

    theirs = inspect.signature(getattr(keras.Model, name)).parameters
    ours = inspect.signature(getattr(LinearModel, name)).parameters
    wanted = [key for key in theirs if key != "kwargs"]
    assert list(ours)[: len(wanted)] == wanted
    assert [ours[key].default for key in wanted] == [theirs[key].default for key in wanted]
