"""fit, evaluate, predict and their single-batch forms, on a linear model in NumPy."""

import io
import os
import signal
import threading

import numpy as np
import pytest

from rnnfast import metrics, schedules, utils
from rnnfast.callbacks import Callback, LambdaCallback, TerminateOnNaN
from rnnfast.errors import ShapeError
from rnnfast.models.progress import Progress
from tests.linear_model import LinearModel

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3))
Y = X @ np.array([[1.0], [-2.0], [0.5]]) + 0.3
XS, YS = RNG.normal(size=(12, 6, 3)), RNG.normal(size=(12, 6, 1))


def made(units=1, **compile_arguments):
    model = LinearModel(units)
    model.compile(**{"optimizer": "sgd", "loss": "mse", **compile_arguments})
    return model


def fit(model, *args, **kwargs):
    return model.fit(*args, **{"verbose": 0, **kwargs})


def test_fit_learns_and_returns_history():
    model = made(optimizer="adam", metrics=["mae"])
    model.optimizer.learning_rate = 0.05
    history = fit(model, X, Y, epochs=40, batch_size=10, validation_split=0.2)
    assert list(history.history) == ["loss", "mae", "val_loss", "val_mae"]
    assert history.history["val_loss"][-1] < 0.05 * history.history["val_loss"][0]
    assert history.epoch == list(range(40))
    assert model.history is history
    assert history.params["steps"] == 4


def test_batches_cover_the_data_once_in_a_new_order_each_epoch():
    utils.set_random_seed(3)
    model = made()
    fit(model, X, Y, epochs=2, batch_size=16)
    assert [len(call[0]) for call in model.calls] == [16, 16, 16, 2] * 2
    first, second = (np.concatenate([call[0] for call in model.calls[i : i + 4]]) for i in (0, 4))
    assert not np.array_equal(first, second)
    for epoch in (first, second):
        np.testing.assert_array_equal(np.sort(epoch, 0), np.sort(X, 0))
    plain = made()
    fit(plain, X, Y, shuffle=False)
    np.testing.assert_array_equal(np.concatenate([call[0] for call in plain.calls]), X)


def test_seed_and_random_state_repeat_training_exactly():
    weights = []
    for _ in range(2):
        utils.set_random_seed(5)
        model = made()
        fit(model, X, Y, epochs=3)
        weights.append(model.get_weights())
    np.testing.assert_array_equal(weights[0][0], weights[1][0])
    resumed = made()
    resumed.build((None, 3))
    resumed.set_weights(model.get_weights())
    resumed.set_random_state(model.get_random_state())
    for each in (model, resumed):
        fit(each, X, Y, epochs=2)
    np.testing.assert_array_equal(model.w, resumed.w)
    assert made().get_random_state() is None


def test_validation_split_holds_out_the_last_samples():
    model = made()
    seen = []
    step = model._test_step
    model._test_step = lambda x, y, w, m: (seen.append((x, w, m)), step(x, y, w, m))[1]
    lengths, weights = np.arange(12) % 7, np.arange(12.0)
    fit(model, XS, YS, validation_split=0.25, lengths=lengths, sample_weight=weights)
    x, w, m = seen[-1]
    np.testing.assert_array_equal(x, XS[9:])
    np.testing.assert_array_equal(w, weights[9:])
    np.testing.assert_array_equal(m, lengths[9:])
    trained = np.concatenate([call[0] for call in model.calls])
    np.testing.assert_array_equal(np.sort(trained, 0), np.sort(XS[:9], 0))


def test_validation_data_goes_first_and_follows_its_frequency():
    model = made()
    data = (X[:5], Y[:5])
    history = fit(model, X, Y, epochs=4, validation_split=0.5, validation_data=data, validation_freq=2)
    assert len(history.history["val_loss"]) == 2
    assert sum(len(call[0]) for call in model.calls) == 4 * 50
    history = fit(model, X, Y, epochs=4, validation_data=(X, Y, np.ones(50)), validation_freq=[1])
    assert len(history.history["val_loss"]) == 1
    history = fit(model, XS, YS, validation_data=(XS, YS), validation_lengths=np.full(12, 2))
    assert history.history["val_loss"] == [pytest.approx(model.evaluate(XS, YS, lengths=np.full(12, 2)))]


def test_lengths_equal_mask_and_leave_padding_out():
    lengths = np.array([0, 1, 2, 3, 4, 5, 6, 6, 1, 2, 3, 4])
    mask = np.arange(6) < lengths[:, None]
    padded = np.where(mask[..., None], YS, np.nan)
    a, b = made(metrics=["mae"]), made(metrics=["mae"])
    assert a.evaluate(XS, padded, lengths=lengths) == pytest.approx(b.evaluate(XS, YS, mask=mask))
    first, second = fit(a, XS, YS, shuffle=False, lengths=lengths), fit(b, XS, YS, shuffle=False, mask=mask)
    assert first.history == second.history
    np.testing.assert_array_equal(a.w, b.w)
    np.testing.assert_array_equal(a.calls[0][3], lengths)
    np.testing.assert_array_equal(a.predict(XS, lengths=lengths), a.predict_on_batch(XS, lengths=lengths))


def test_generators_iterables_and_steps():
    def endless():
        while True:
            yield X[:4], Y[:4], np.ones(4)

    model = made()
    history = fit(model, endless(), steps_per_epoch=3, epochs=2, validation_data=endless(), validation_steps=2)
    assert len(model.calls) == 6
    assert len(history.history["val_loss"]) == 2
    assert model.predict(X[i : i + 5] for i in range(0, 50, 5)).shape == (50, 1)
    assert model.evaluate([X.tolist()][0], Y.tolist()) == model.evaluate(X, Y)

    class Loader:
        def __iter__(self):
            return iter([(XS[:6], YS[:6], None, np.full(6, 3)), (XS[6:], YS[6:], None, np.ones((6, 6), bool))])

    model = made()
    fit(model, Loader(), epochs=3)
    assert len(model.calls) == 6
    assert model.calls[0][3].dtype == np.int64
    assert model.calls[1][3].dtype == bool
    fit(model, Loader(), steps_per_epoch=3, epochs=2)
    assert len(model.calls) == 12


def test_generator_that_ends_early_stops_training_with_a_warning():
    model = made()
    with pytest.warns(UserWarning, match="the data ended after 2 of 3 batches"):
        history = fit(model, iter([(X[:4], Y[:4])] * 2), steps_per_epoch=3, epochs=5)
    assert len(history.epoch) == 1
    with pytest.warns(UserWarning, match="the data ended after 0"):
        history = fit(model, (pair for pair in [(X, Y)]), epochs=5)
    assert len(history.epoch) == 1
    for call in (lambda: fit(model, iter([])), lambda: model.evaluate(iter([])), lambda: model.predict(iter([]))):
        with pytest.warns(UserWarning), pytest.raises(ValueError, match="at least one batch"):
            call()


def test_class_weights():
    classes = (Y[:, 0] > 0).astype(int)
    model = made()
    fit(model, X, classes, class_weight={1: 3.0}, shuffle=False, batch_size=50)
    np.testing.assert_array_equal(model.calls[0][2], np.where(classes == 1, 3.0, 1.0))
    model = made(units=2)
    fit(
        model,
        X,
        np.eye(2)[classes],
        class_weight={0: 2.0},
        sample_weight=np.full(50, 0.5),
        shuffle=False,
        batch_size=50,
    )
    np.testing.assert_array_equal(model.calls[0][2], np.where(classes == 0, 1.0, 0.5))
    model = made(units=4, loss="sparse_categorical_crossentropy")
    labels = RNG.integers(0, 4, (12, 6))
    fit(model, XS, labels, class_weight={3: 5.0}, shuffle=False)
    np.testing.assert_array_equal(model.calls[0][2], np.where(labels == 3, 5.0, 1.0))


def test_single_batches_return_running_means():
    model = made(metrics=["mae"])
    first = model.train_on_batch(X[:10], Y[:10])
    both = model.train_on_batch(X[10:40], Y[10:40], return_dict=True)
    assert list(both) == ["loss", "mae"]
    model.reset_metrics()
    second = model.test_on_batch(X[10:40], Y[10:40])
    assert len(first) == len(second) == 2
    plain = made()
    assert isinstance(plain.train_on_batch(X, Y), float)
    assert model.evaluate(X, Y, return_dict=True) == pytest.approx(dict(zip(both, model.evaluate(X, Y), strict=True)))
    np.testing.assert_allclose(model.predict_on_batch(X), model.predict(X, batch_size=7), rtol=1e-12)


def test_evaluation_does_not_depend_on_the_batch_size():
    model = made(metrics=["mae", metrics.RootMeanSquaredError()], weighted_metrics=["mse"])
    weights = RNG.uniform(0.5, 2.0, 50)
    expected = model.evaluate(X, Y, batch_size=50, sample_weight=weights)
    assert model.evaluate(X, Y, batch_size=7, sample_weight=weights) == pytest.approx(expected)


def test_list_outputs_are_joined():
    model = made()
    model._predict_step = lambda x, mask: [x, x[:, 0]]
    outputs = model.predict(X, batch_size=20)
    np.testing.assert_array_equal(outputs[0], X)
    np.testing.assert_array_equal(outputs[1], X[:, 0])


def test_empty_data():
    model = made(metrics=["mae"])
    assert model.predict(X[:0]).shape == (0, 1)
    assert model.evaluate(X[:0], Y[:0]) == [0.0, 0.0]
    with pytest.raises(ValueError, match="at least one sample"):
        fit(model, X[:0], Y[:0])


def test_nan_passes_through_and_can_stop_training(capsys):
    bad = Y.copy()
    bad[20] = np.nan
    model = made()
    history = fit(model, X, bad, epochs=3, batch_size=10, shuffle=False, callbacks=[TerminateOnNaN()])
    assert len(model.calls) == 3
    assert np.isnan(history.history["loss"]).tolist() == [True]
    assert "Batch 2: the loss is nan" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="the loss is nan at batch 0"):
        fit(made(), X, np.full_like(Y, np.nan), callbacks=[TerminateOnNaN(raise_error=True)])


class Recorder(Callback):
    def __init__(self):
        super().__init__()
        self.seen = []
        for name in [name for name in dir(Callback) if name.startswith("on_") and "_batch" not in name]:
            setattr(self, name, lambda *args, name=name, **kwargs: self.seen.append(name))


def test_hooks_run_in_order():
    recorder = Recorder()
    model = made()
    fit(model, X, Y, epochs=1, validation_split=0.5, callbacks=[recorder])
    model.predict(X, callbacks=recorder, verbose=0)
    assert recorder.seen == [
        "on_train_begin",
        "on_epoch_begin",
        "on_test_begin",
        "on_test_end",
        "on_epoch_end",
        "on_train_end",
        "on_predict_begin",
        "on_predict_end",
    ]


@pytest.fixture
def keyboard():
    """Python's own handler of Ctrl-C, which a process started in the background does not have."""
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, kept)


def test_ctrl_c_ends_fit_after_the_batch(capsys, keyboard):
    model, recorder, ended = made(), Recorder(), []

    def press(batch, logs):
        if len(model.calls) == 7:
            os.kill(os.getpid(), signal.SIGINT)
            ended.append(len(model.calls))

    callbacks = [recorder, LambdaCallback(on_train_batch_begin=lambda batch, logs=None: press(batch, logs))]
    with pytest.raises(KeyboardInterrupt):
        fit(model, X, Y, epochs=5, batch_size=10, callbacks=callbacks)
    assert len(model.calls) == 8
    assert len(model.history.history["loss"]) == 1
    assert recorder.seen[-1] == "on_train_end"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    fit(model, X, Y, epochs=1)


def test_second_ctrl_c_does_not_wait(keyboard):
    model = made()

    def press(batch, logs=None):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(model, X, Y, callbacks=[LambdaCallback(on_train_batch_begin=press)])
    assert not model.calls


def test_fit_runs_in_another_thread():
    model = made()
    thread = threading.Thread(target=lambda: fit(model, X, Y))
    thread.start()
    thread.join()
    assert model.history.epoch == [0]


def test_schedule_counts_steps():
    rates = []
    model = made(optimizer="sgd")
    model.optimizer.learning_rate = schedules.ExponentialDecay(0.1, 1, 0.5)
    fit(
        model,
        X,
        Y,
        batch_size=25,
        callbacks=[LambdaCallback(on_train_batch_begin=lambda *_, **__: rates.append(model.optimizer.learning_rate))],
    )
    assert rates == [0.1, 0.05]


def test_compile_config_round_trip():
    model = made(optimizer="adamw", loss="huber", metrics=["mae", metrics.AUC(name="area")], weighted_metrics=["acc"])
    again = LinearModel()
    again.compile_from_config(model.get_compile_config())
    assert again.get_compile_config() == model.get_compile_config()
    assert LinearModel().get_compile_config() is None
    model = made(metrics=[lambda a, b: a - b])
    with pytest.warns(UserWarning, match="is a function and is not saved"):
        assert model.get_compile_config()["metrics"] == []


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: LinearModel().fit(X, Y), RuntimeError, r"LinearModel 'linear': call compile\(optimizer, loss\)"),
        (lambda m: m.compile(loss=None), ValueError, "loss must be a name or a Loss, got None"),
        (lambda m: m.compile("sgdd", "mse"), ValueError, "Did you mean 'sgd'"),
        (lambda m: m.compile(loss="mse", metrics="mae"), ValueError, "metrics must be a list, got 'mae'"),
        (lambda m: m.compile(loss="mse", metrics=["maee"]), ValueError, "Unknown metric 'maee'"),
        (lambda m: fit(m, X), ValueError, "y must be given"),
        (lambda m: fit(m, X, Y[:3]), ShapeError, "y must have 50 samples as x does, got 3"),
        (lambda m: fit(m, X, Y[:, [0, 0]]), ShapeError, r"shape \(32, 1\) or \(32,\) .* got \(32, 2\)"),
        (lambda m: fit(m, X, Y, sample_weight=[1.0]), ShapeError, "sample_weight must have 50 samples"),
        (lambda m: fit(m, X.astype(complex), Y), ValueError, "x must hold real numbers, got dtype complex128"),
        (lambda m: fit(m, [["a"]], [1.0]), ValueError, "x must hold real numbers"),
        (lambda m: fit(m, [[1.0], [1.0, 2.0]], [1.0]), ValueError, "x must be a regular array"),
        (lambda m: fit(m, 3.0, Y), ShapeError, "x must have a batch axis"),
        (lambda m: fit(m, X, Y, batch_size=0), ValueError, "batch_size must be an integer > 0, got 0"),
        (lambda m: fit(m, X, Y, validation_split=1.0), ValueError, r"validation_split must be in \(0, 1\), got 1.0"),
        (lambda m: fit(m, X[:2], Y[:2], validation_split=0.1), ValueError, None),
        (lambda m: fit(m, iter([(X, Y)]), Y), ValueError, "y cannot be given when x yields batches"),
        (lambda m: fit(m, iter([(X, Y)]), validation_split=0.5), ValueError, "needs arrays"),
        (lambda m: fit(m, X, Y, validation_data=X), ValueError, r"must be \(x, y\)"),
        (lambda m: fit(m, iter([(X,) * 6])), ValueError, "got a tuple of 6"),
        (lambda m: fit(m, X, Y, callbacks=[print]), ValueError, "callbacks must hold Callback objects"),
        (lambda m: fit(m, X, Y, verbose=3), ValueError, "verbose must be 'auto', 0, 1 or 2, got 3"),
        (lambda m: fit(m, X, Y, class_weight=[1]), ValueError, "class_weight must be a dict"),
        (lambda m: m.predict(XS, lengths=[1]), ShapeError, r"lengths must have shape \(12,\).*got \(1,\)"),
        (lambda m: m.predict(XS, lengths=np.full(12, 7)), ValueError, r"lengths must lie in \[0, 6\].*got 7 to 7"),
        (lambda m: m.predict(XS, lengths=np.full(12, 0.5)), ValueError, "lengths must be integers"),
        (lambda m: m.predict(XS, mask=np.ones((12, 5))), ShapeError, r"mask must have shape \(12, 6\)"),
        (lambda m: m.predict(XS, mask=np.ones((12, 6))), ValueError, "mask must be boolean"),
        (lambda m: m.predict(XS, lengths=np.ones(12, int), mask=np.ones((12, 6), bool)), ValueError, "only one of"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    model = made()
    if message is None:
        assert len(call(model).history["val_loss"]) == 1  # rounding up keeps one sample for validation
        return
    with pytest.raises(error, match=message):
        call(model)


def test_inputs_are_never_written():
    x, y, w = X.copy(), Y.copy(), np.ones(50)
    for array in (x, y, w):
        array.flags.writeable = False
    fit(made(metrics=["mae"]), x, y, sample_weight=w, class_weight={0: 2.0})


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_log_has_a_line_an_epoch(capsys):
    model = made(metrics=["mae"])
    model.fit(X, Y, epochs=2, batch_size=10)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("Epoch 1/2  5/5  ")
    assert " ms/step  loss " in lines[0]
    model.evaluate(X, Y)
    model.predict(X)
    assert capsys.readouterr().out == ""
    model.evaluate(X, Y, verbose=2)
    assert capsys.readouterr().out.startswith("Evaluate  2/2  ")
    model.fit(X, Y, verbose=0)
    assert capsys.readouterr().out == ""


def test_terminal_line_is_drawn_again_with_the_time_left(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setattr("rnnfast.models.progress.REDRAW_SECONDS", 0.0)
    made().fit(X, Y, epochs=2, batch_size=10)
    assert screen.getvalue().count("\n") == 2
    drawn = screen.getvalue().split("\n")[0].split("\r")
    assert len(drawn) == 7
    assert "Epoch 1/2  2/5  ETA " in drawn[2]
    assert all(len(line) < 80 for line in drawn)


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0s"), (59.94, "59.9s"), (61, "1:01"), (7384, "2:03:04")])
def test_clock(seconds, text):
    from rnnfast.models.progress import _clock

    assert _clock(seconds) == text


def test_progress_survives_array_metrics_and_no_screen(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    model = made(units=2, metrics=[metrics.F1Score()])
    history = model.fit(X, np.eye(2)[[0, 1] * 25], verbose=2)
    assert history.history["f1_score"][0].shape == (2,)
    with pytest.raises(ValueError, match="verbose"):
        Progress(5)
