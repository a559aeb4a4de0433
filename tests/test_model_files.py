"""Models in files: training goes on as if it had not stopped, and what does not fit is refused."""

import json
import zipfile

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Sequential, layers, optimizers, utils
from rnnfast.errors import FormatError
from rnnfast.models.saving import load_archive, save_archive
from tests.interop.hostile import check_calm

X = np.random.default_rng(0).normal(size=(40, 9, 5)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(40, 2)).astype(np.float32)
OPTIMIZERS = ["sgd", "rmsprop", "adam", "adamw", "nadam", "adagrad"]


def made(optimizer="adam"):
    utils.set_random_seed(4)
    model = Sequential(
        [
            Input((None, 5)),
            layers.Bidirectional(layers.LSTM(6, return_sequences=True, dropout=0.2, recurrent_dropout=0.3)),
            layers.Dropout(0.2),
            layers.GRU(7, recurrent_dropout=0.1),
            layers.Dense(2, kernel_regularizer="l2"),
        ]
    )
    model.compile(optimizer, "mse", metrics=["mae"])
    return model


def fit(model, first, last):
    return model.fit(X, Y, batch_size=16, initial_epoch=first, epochs=last, verbose=0).history["loss"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_resumes_with_the_same_bits(optimizer, tmp_path):
    whole = made(optimizer)
    losses = fit(whole, 0, 4)
    first = made(optimizer)
    before = fit(first, 0, 2)
    first.save(tmp_path / "m.rnnf")
    del first
    second = rnnfast.load(tmp_path / "m.rnnf")
    assert before + fit(second, 2, 4) == losses
    for a, b in zip(whole.get_weights(), second.get_weights(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("save", ["save", "save_weights"])
def test_a_file_that_is_there_is_kept_on_request(save, tmp_path):
    model, path = made(), tmp_path / "m.rnnf"
    getattr(model, save)(path, overwrite=False)
    before = path.read_bytes()
    model.set_weights([w + 1 for w in model.get_weights()])
    with pytest.raises(FileExistsError, match=r"m\.rnnf' is there already"):
        getattr(model, save)(path, overwrite=False)
    assert path.read_bytes() == before
    getattr(model, save)(path)
    assert path.read_bytes() != before


def test_a_loaded_model_gives_the_same_bits_and_configuration(tmp_path):
    model = made(optimizers.Adam(rnnfast.schedules.ExponentialDecay(0.1, 10, 0.5), global_clipnorm=1.0))
    fit(model, 0, 1)
    model.save(tmp_path / "m.rnnf")
    loaded = rnnfast.load(tmp_path / "m.rnnf")
    assert loaded.get_config() == model.get_config()
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert loaded.optimizer.iterations == model.optimizer.iterations
    assert np.array_equal(loaded.predict(X), model.predict(X))


def rewritten(path, change):
    """A valid archive with changed contents: what a self-consistent forgery could hold."""
    from rnnfast.models import saving

    config, arrays = saving.load_archive(path)
    change(config, arrays)
    saving.save_archive(path, config, arrays)


def swap_gates(config, arrays):
    name = sorted(n for n in arrays if n.startswith("weights/"))[0]
    arrays[name] = np.ascontiguousarray(np.roll(arrays[name], 6, axis=1))


def extra(config, arrays):
    arrays["weights/9999"] = np.zeros(3, np.float32)


def unused(config, arrays):
    arrays["notes"] = np.zeros(3, np.float32)


def unknown_layer(config, arrays):
    config["config"]["layers"][1]["class_name"] = "GRUU"


def huge_layer(config, arrays):
    config["config"]["layers"][-1]["config"]["units"] = 2**40


def missing(config, arrays):
    del arrays[sorted(n for n in arrays if n.startswith("weights/"))[-1]]


@pytest.mark.parametrize("change", [swap_gates, extra, unused, unknown_layer, huge_layer, missing])
def test_contents_that_do_not_fit_are_refused(change, tmp_path):
    path = tmp_path / "m.rnnf"
    made().save(path)
    rewritten(path, change)
    with pytest.raises(FormatError, match=r"m\.rnnf"):
        rnnfast.load(path)


def test_the_file_is_a_zip_of_json_and_npy(tmp_path):
    path = tmp_path / "m.rnnf"
    made().save(path)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert {name.rsplit(".", 1)[-1] for name in names} == {"json", "npy"}
        assert json.loads(archive.read("config.json"))
        assert all(np.load(archive.open(name), allow_pickle=False) is not None for name in names if name.endswith(".npy"))


def test_weights_alone(tmp_path):
    model, other = made(), made()
    fit(model, 0, 1)
    model.save_weights(tmp_path / "w.rnnf")
    other.load_weights(tmp_path / "w.rnnf")
    assert np.array_equal(other.predict(X), model.predict(X))
    with pytest.raises(ValueError, match="weights must be"):
        Sequential([Input((None, 5)), layers.GRU(7)]).load_weights(tmp_path / "w.rnnf")


def test_a_stateful_model_is_saved_as_it_stands_and_comes_back_without_state(tmp_path, rng):
    model = Sequential([Input((None, 3)), layers.LSTM(4, stateful=True), layers.Dense(1)])
    x = rng.standard_normal((3, 5, 3)).astype(np.float32)
    first, second = model.predict_on_batch(x), model.predict_on_batch(x)
    model.save(tmp_path / "m.rnnf")
    third = model.predict_on_batch(x)
    again = rnnfast.load(tmp_path / "m.rnnf")
    assert np.array_equal([again.predict_on_batch(x) for _ in range(3)], [first, second, third])


def test_a_file_without_its_list_is_still_known(tmp_path):
    made().save(tmp_path / "whole.rnnf")
    with zipfile.ZipFile(tmp_path / "whole.rnnf") as whole, zipfile.ZipFile(tmp_path / "part.rnnf", "w") as part:
        for name in whole.namelist():
            if name != "manifest.json":
                part.writestr(name, whole.read(name))
    with pytest.raises(FormatError, match=r"part\.rnnf: manifest\.json"):
        rnnfast.load(tmp_path / "part.rnnf")


HUGE = {
    "a fixed number of steps": [Input((10**9, 3)), layers.GlobalMaxPooling1D()],
    "a fixed number of rows": [Input(batch_shape=(10**9, 10, 3)), layers.GlobalMaxPooling1D()],
    "repeated": [Input((4,)), layers.RepeatVector(10**9)],
    "padded": [Input((4, 3)), layers.ZeroPadding1D(10**9), layers.GlobalMaxPooling1D()],
    "padded beyond all numbers": [Input((4, 3)), layers.ZeroPadding1D(2**62)],
    "cropped": [Input((None, 3)), layers.Cropping1D(10**7)],
    "pooled": [Input((None, 3)), layers.MaxPooling1D(10**7)],
    "dilated": [Input((None, 3)), layers.Conv1D(1, 2, dilation_rate=10**7)],
}


@pytest.mark.parametrize("case", HUGE)
def test_a_model_whose_self_test_would_be_huge_is_saved_without_one(case, tmp_path):
    model = Sequential(HUGE[case])
    model.save(tmp_path / "m.rnnf")
    assert not any("selftest" in name for name in load_archive(tmp_path / "m.rnnf")[1])
    assert rnnfast.load(tmp_path / "m.rnnf").get_config() == model.get_config()


def test_a_changed_file_does_not_bring_a_huge_self_test(tmp_path):
    Sequential([Input((4,)), layers.RepeatVector(3), layers.GlobalMaxPooling1D()]).save(tmp_path / "m.rnnf")
    config, arrays = load_archive(tmp_path / "m.rnnf")
    config["config"]["layers"][1]["config"]["n"] = 5 * 10**6
    save_archive(tmp_path / "m.rnnf", config, arrays)
    assert not check_calm(rnnfast.load, tmp_path / "m.rnnf")


def test_the_fewest_steps_of_a_window_are_told():
    model = Sequential([Input((None, 3)), layers.Conv1D(1, 3, dilation_rate=5), layers.Cropping1D((1, 2))])
    assert model.predict_on_batch(np.zeros((1, 14, 3))).shape == (1, 1, 1)
    for layer, least in ((layers.Conv1D(1, 3, dilation_rate=5), 11), (layers.Cropping1D((1, 2)), 4), (layers.MaxPooling1D(6, strides=2), 6)):
        short = Sequential([Input((None, 3)), layer])
        with pytest.raises(rnnfast.ShapeError, match=f"must have at least {least} steps, got {least - 1}"):
            short.predict_on_batch(np.zeros((1, least - 1, 3)))
        assert short.predict_on_batch(np.zeros((1, least, 3))).shape[1] == 1


def test_a_list_of_layers_is_built_once(monkeypatch):
    shapes = []
    monkeypatch.setattr(layers.Activation, "output_shape", lambda self, shape: shapes.append(shape) or shape)
    Sequential([Input((3,)), *(layers.Activation("relu") for _ in range(20))])
    assert len(shapes) == 20
