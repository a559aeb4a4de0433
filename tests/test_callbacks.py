"""Callbacks: what they do to a model, driven by training or by hand."""

import csv
import sys

import numpy as np
import pytest

from rnnfast import callbacks, metrics
from rnnfast.callbacks import CallbackList, EarlyStopping, History, LambdaCallback, ModelCheckpoint, ReduceLROnPlateau
from rnnfast.optimizers import SGD
from tests.linear_model import LinearModel

X = np.random.default_rng(0).normal(size=(40, 3))
Y = X.sum(-1, keepdims=True)


class Model:
    """What callbacks touch of a model."""

    def __init__(self):
        self.optimizer, self.stop_training, self.saved = SGD(1.0), False, []
        self.metrics = [metrics.get("binary_accuracy"), metrics.get("mae")]
        self.weights = [np.zeros(1)]

    def get_weights(self):
        return [w.copy() for w in self.weights]

    def set_weights(self, weights):
        self.weights = weights

    def save(self, path):
        self.saved.append(path)

    def save_weights(self, path):
        self.saved.append(f"weights {path}")


def drive(callback, values, monitor="val_loss"):
    """Run epochs with the given values of the monitored log; the weight of the model is the epoch's number."""
    model = Model()
    hooks = CallbackList(callback, model=model)
    hooks.on_train_begin()
    seen = []
    for epoch, value in enumerate(values):
        model.weights = [np.array([float(epoch)])]
        hooks.on_epoch_begin(epoch)
        logs = {monitor: value}
        hooks.on_epoch_end(epoch, logs)
        seen.append(logs)
        if model.stop_training:
            break
    hooks.on_train_end()
    return model, seen


def test_early_stopping_waits_and_restores(capsys):
    stopping = EarlyStopping(patience=2, restore_best_weights=True, verbose=1)
    model, seen = drive(stopping, [5, 3, 4, 3, 2, 1])
    assert (len(seen), stopping.stopped_epoch, stopping.best_epoch) == (4, 3, 1)
    assert model.weights[0] == [1.0]
    assert "Epoch 4: early stopping" in capsys.readouterr().out
    _, seen = drive(stopping, [1, 2, 3, 4])
    assert len(seen) == 3


def test_early_stopping_options():
    assert len(drive(EarlyStopping(), [1, 1])[1]) == 2
    assert len(drive(EarlyStopping(min_delta=0.5, patience=1), [3, 2.9, 2.7, 2])[1]) == 2
    assert len(drive(EarlyStopping(baseline=1.0, patience=2), [3, 2, 1.5, 0.5])[1]) == 4
    assert len(drive(EarlyStopping(baseline=1.0, patience=2), [3, 3, 3, 3])[1]) == 2
    assert len(drive(EarlyStopping(start_from_epoch=3), [1, 2, 3, 4, 5, 6])[1]) == 5
    assert len(drive(EarlyStopping("val_binary_accuracy"), [0.1, 0.2, 0.3, 0.2], "val_binary_accuracy")[1]) == 4
    assert len(drive(EarlyStopping("mean_absolute_error"), [0.1, 0.2, 0.3], "mean_absolute_error")[1]) == 2
    assert len(drive(EarlyStopping("other", mode="max"), [1, 2, 1], "other")[1]) == 3
    with pytest.warns(UserWarning, match="'val_loss' is not among the logs \\['loss'\\]"):
        drive(EarlyStopping(), [1], "loss")
    with pytest.raises(ValueError, match="mode must be 'min' or 'max' for monitor 'other'"):
        drive(EarlyStopping("other"), [1], "other")
    with pytest.raises(ValueError, match="mode must be 'auto', 'min' or 'max', got 'least'"):
        EarlyStopping(mode="least")


def test_reduce_lr_on_plateau(capsys):
    callback = ReduceLROnPlateau(patience=2, factor=0.5, min_lr=0.2, cooldown=1, verbose=1)
    model, seen = drive(callback, [1.0] * 12)
    assert [logs["learning_rate"] for logs in seen] == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2, 0.2, 0.2]
    assert model.optimizer.learning_rate == 0.2
    assert "Epoch 3: learning rate reduced to 0.5." in capsys.readouterr().out
    assert drive(ReduceLROnPlateau(patience=1), [3, 2, 1])[0].optimizer.learning_rate == 1.0
    with pytest.raises(ValueError, match=r"factor must be less than 1, got 1\.0"):
        ReduceLROnPlateau(factor=1.0)


def test_learning_rate_scheduler(capsys):
    halve = callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5, verbose=1)
    _, seen = drive(halve, [1, 1])
    assert [logs["learning_rate"] for logs in seen] == [0.5, 0.25]
    assert "Epoch 2: learning rate set to 0.25." in capsys.readouterr().out
    with pytest.raises(ValueError, match="schedule must return a float, got None"):
        drive(callbacks.LearningRateScheduler(lambda epoch, rate: None), [1])


def test_checkpoint_names_and_best(tmp_path, capsys):
    every = ModelCheckpoint(tmp_path / "new" / "m-{epoch:02d}-{val_loss:.1f}.rnnf", verbose=1)
    model, _ = drive(every, [3, 1, 2])
    assert [str(path).rpartition("/")[2] for path in model.saved] == ["m-01-3.0.rnnf", "m-02-1.0.rnnf", "m-03-2.0.rnnf"]
    assert (tmp_path / "new").is_dir()
    assert "Epoch 1: saved to " in capsys.readouterr().out
    assert drive(ModelCheckpoint("m", save_best_only=True), [3, 4, 2])[0].saved == ["m", "m"]
    assert drive(ModelCheckpoint("m", save_best_only=True, initial_value_threshold=2.5), [3, 4, 2])[0].saved == ["m"]
    assert drive(ModelCheckpoint("m", save_weights_only=True), [3])[0].saved == ["weights m"]
    with pytest.raises(KeyError, match="asks for 'mae'; known: epoch, val_loss"):
        drive(ModelCheckpoint("m-{mae}"), [3])
    for wrong in (0, True, 2.5, "batch"):
        with pytest.raises(ValueError, match=f"save_freq must be 'epoch' or an integer > 0, got {wrong!r}"):
            ModelCheckpoint("m", save_freq=wrong)


def test_checkpoint_every_few_batches(tmp_path):
    model = LinearModel()
    model.compile("sgd", "mse")
    checkpoint = ModelCheckpoint(tmp_path / "e{epoch}-b{batch}.npz", save_freq=3)
    model.fit(X, Y, batch_size=10, epochs=2, verbose=0, callbacks=[checkpoint])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e1-b3.npz", "e2-b2.npz"]


def test_csv_logger(tmp_path):
    path = tmp_path / "log.csv"
    for append in (False, True):
        drive(callbacks.CSVLogger(path, separator=";", append=append), [3, 1])
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    assert [(row["epoch"], row["val_loss"]) for row in rows] == [("0", "3"), ("1", "1")] * 2
    drive(callbacks.CSVLogger(path), [np.array([1.0, 2.0])], "f1")
    assert path.read_text().splitlines() == ["epoch,f1,val_f1", '0,"[1.0, 2.0]",NA']


def test_lambda_callback_knows_the_hooks():
    seen = []
    drive(LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch), on_train_end=None), [1, 1])
    assert seen == [0, 1]
    with pytest.raises(ValueError, match="'on_epoch' is not a hook"):
        LambdaCallback(on_epoch=print)


def test_every_hook_reaches_every_callback_with_both_names_of_a_batch():
    seen = []

    class Old(callbacks.Callback):
        def on_batch_begin(self, batch, logs=None):
            seen.append(("begin", batch))

        def on_batch_end(self, batch, logs=None):
            seen.append(("end", batch))

    hooks = CallbackList([Old(), Old()], epochs=3)
    hooks.on_train_batch_begin(4, logs={})
    hooks.on_train_batch_end(4, {})
    assert seen == [("begin", 4)] * 2 + [("end", 4)] * 2
    assert hooks.callbacks[0].params == {"epochs": 3}
    for name in [name for name in vars(callbacks.Callback) if name.startswith("on_")]:
        assert name in vars(CallbackList)


def test_every_hook_is_given_logs_that_all_callbacks_share():
    class Notes(callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seen = {}

    def noting(hook):
        def note(self, *args):
            args[-1]["note"] = args[-1].get("note", 0) + 1
            self.seen[hook] = args

        return note

    hooks = [name for name in vars(callbacks.Callback) if name.startswith("on_")]
    for hook in hooks:
        setattr(Notes, hook, noting(hook))
    both = [Notes(), Notes()]
    model = LinearModel()
    model.compile("sgd", "mse")
    model.fit(X, Y, epochs=1, batch_size=20, verbose=0, callbacks=both, validation_data=(X, Y))
    model.predict(X, verbose=0, callbacks=both)
    for hook in hooks:
        if hook not in ("on_batch_begin", "on_batch_end"):  # which the other hooks would call
            assert both[1].seen[hook][-1] is both[0].seen[hook][-1], hook
    CallbackList(both[0]).on_epoch_begin(epoch=3)
    assert both[0].seen["on_epoch_begin"] == (3, {"note": 1})


def test_history_keeps_a_given_one_and_plots(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    model, history = LinearModel(), History()
    model.compile("sgd", "mse", metrics=["mae"])
    model.fit(X, Y, epochs=3, validation_split=0.5, verbose=0, callbacks=[history])
    assert model.history is history
    ax = history.plot()
    assert [line.get_label() for line in ax.lines] == ["loss", "val_loss", "mae", "val_mae"]
    assert len(history.plot(["loss"], ax=matplotlib.figure.Figure().subplots()).lines) == 2
    with pytest.raises(ValueError, match="keys must be among"):
        history.plot(["acc"])
    matplotlib.pyplot.close("all")


def test_plot_without_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install rnnfast\[plot\]"):
        History().plot()


def test_a_schedule_of_the_epoch_alone():
    """As in Keras: schedule(epoch), or with the rate behind it."""
    for schedule in (lambda epoch: 0.1 / (epoch + 1), lambda epoch, rate: 0.1 / (epoch + 1), lambda *given: 0.1 / (given[0] + 1)):
        model, logs = Model(), {}
        one = callbacks.LearningRateScheduler(schedule)
        one.set_model(model)
        one.on_epoch_begin(3)
        one.on_epoch_end(3, logs)
        assert logs["learning_rate"] == pytest.approx(0.025)
