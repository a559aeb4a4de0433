"""Models with several outputs train, evaluate, predict and are saved as in Keras."""

import json
import zipfile

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Model, Sequential, callbacks, diagnostics, layers, losses, optimizers
from rnnfast.errors import FormatError, ShapeError
from rnnfast.models.saving import load_archive, save_archive
from tests.conftest import max_rel_error
from tests.gradients import central_differences, keras_floatx
from tests.peers import as_array, require

B, T, F = 6, 5, 3
NAMES = ["tags", "value", "g"]


def made(framework=rnnfast, masking=False, penalty=None, dtype="float64", outputs=("tags", "value", "g")):
    """Tags of every step (rank 3), a value of the sequence, and the last state (rank 2) of one GRU."""
    own = {"dtype": dtype}
    x = framework.Input((T, F), name="x", dtype=dtype)
    h = framework.layers.Masking(name="mask", **own)(x) if masking else x
    sequence, state = framework.layers.GRU(4, return_sequences=True, return_state=True, name="g", kernel_regularizer=penalty, **own)(h)
    found = {
        "tags": framework.layers.Dense(3, activation="softmax", name="tags", **own)(sequence),
        "value": framework.layers.Dense(2, name="value", kernel_regularizer=penalty, **own)(state),
        "g": state,
    }
    return framework.Model(x, [found[name] for name in outputs])


def data(rng):
    x = rng.standard_normal((B, T, F))
    return x, [rng.integers(0, 3, (B, T)), rng.standard_normal((B, 2)), rng.standard_normal((B, 4))]


def randomised(model, rng):
    model.set_weights([rng.standard_normal(w.shape) * 0.5 for w in model.get_weights()])
    return model


CE, MSE = "sparse_categorical_crossentropy", "mse"
BY_NAME = {"tags": CE, "value": "mae", "g": MSE}
CASES = {
    "list": ({"loss": [CE, MSE, "mae"]}, {}, None),
    "dict": ({"loss": BY_NAME}, {}, None),
    "weights": ({"loss": [CE, MSE, MSE], "loss_weights": [0.5, 2.0, -1.0]}, {}, None),
    "weights by name": ({"loss": BY_NAME, "loss_weights": {"g": 3.0, "tags": 0.5, "value": 2.0}}, {}, None),
    "without a loss": ({"loss": [CE, None, "mae"]}, {}, None),
    "one loss": ({"loss": {"tags": None, "value": MSE, "g": None}, "metrics": [["accuracy"], None, None]}, {}, None),
    "watched": ({"loss": [CE, MSE, MSE], "loss_weights": [1.0, 0.0, 1.0]}, {}, None),
    "metrics": ({"loss": BY_NAME, "metrics": [["accuracy"], ["mse", "mae"], "mse"]}, {}, None),
    "metrics by name": ({"loss": BY_NAME, "metrics": {"value": ["mse"], "tags": "accuracy"}, "weighted_metrics": {"value": ["mse"]}}, {}, None),
    "penalty": ({"loss": [CE, MSE, MSE], "metrics": [None, ["mae"], None]}, {"penalty": "l2"}, None),
    "penalty of an untrained": ({"loss": [CE, None, None]}, {"penalty": "l2"}, None),
    "mask": ({"loss": BY_NAME, "metrics": {"tags": ["accuracy"]}, "weighted_metrics": {"g": ["mse"]}}, {"masking": True}, None),
    "sample weights": ({"loss": BY_NAME, "weighted_metrics": [None, ["mae"], ["mae"]]}, {}, [np.linspace(0, 2, B * T).reshape(B, T), np.arange(B) / 3, np.ones(B)]),
}


@pytest.mark.parametrize(("compiled", "options", "weights"), CASES.values(), ids=CASES)
@pytest.mark.filterwarnings("ignore")
def test_training_and_logs_are_those_of_keras(compiled, options, weights, rng):
    """Steps of SGD with momentum: the weights after them, what each logs, and what evaluate returns, in its order."""
    require("keras")
    ours = randomised(made(**options), rng)
    x, y = data(rng)
    if options.get("masking"):
        x[1, 2:], x[3, :] = 0, 0
        x[3, 0] = 1
    with keras_floatx("float64") as keras:
        theirs = made(keras, **options)
        for layer in theirs.layers:
            if layer.weights:
                layer.set_weights(ours.get_layer(layer.name).get_weights())
        ours.compile(optimizers.SGD(0.1, momentum=0.5), **compiled)
        theirs.compile(keras.optimizers.SGD(0.1, momentum=0.5), **compiled)
        assert ours.output_names == theirs.output_names == NAMES
        for _ in range(3):
            found, expected = (m.train_on_batch(x, y, sample_weight=weights, return_dict=True) for m in (ours, theirs))
            assert sorted(found) == sorted(expected)
            for name, value in expected.items():
                assert found[name] == pytest.approx(float(value), rel=1e-6), name
        for layer in theirs.layers:
            for a, b in zip(ours.get_layer(layer.name).get_weights() if layer.weights else [], layer.get_weights(), strict=True):
                assert max_rel_error(a, b) < 1e-10
        expected = np.ravel(theirs.evaluate(x, y, batch_size=4, sample_weight=weights, verbose=0))
        np.testing.assert_allclose(np.ravel(ours.evaluate(x, y, batch_size=4, sample_weight=weights, verbose=0)), expected, rtol=1e-5)
        for a, b in zip(ours.predict(x, batch_size=4), theirs(x), strict=True):
            assert max_rel_error(a, as_array(b)) < 1e-12


def joined(dtype="float64"):
    """Two inputs with lengths of their own, each with an output of its own; CTC, a loss of a vector, and the states of a layer."""
    source, target = Input((None, F), name="source", dtype=dtype), Input((None, 2), name="target", dtype=dtype)
    sequence, *states = layers.LSTM(4, return_sequences=True, return_state=True, dtype=dtype, name="encoder", kernel_regularizer="l2")(source)
    decoded = layers.LSTM(4, return_sequences=True, dtype=dtype, name="decoder")(target, initial_state=states)
    outputs = [layers.Dense(4, dtype=dtype, name="letters")(sequence), layers.Dense(2, dtype=dtype, name="steps")(decoded), *states]
    return Model([source, target], outputs)


LENGTHS = {"source": np.array([7, 5, 6]), "target": np.array([4, 1, 0])}


def joined_data(rng):
    x = {"source": rng.standard_normal((3, 7, F)), "target": rng.standard_normal((3, 4, 2))}
    y = [np.array([[1, 2, 0], [3, 0, 0], [2, 2, 1]]), rng.standard_normal((3, 4, 2)), rng.standard_normal((3, 4)), None]
    return x, y


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
def test_gradients_against_central_differences(lengths, rng):
    model = randomised(joined(), rng)
    assert model.output_names == ["letters", "steps", "encoder", "encoder_1"]
    model.compile(optimizers.SGD(1.0), loss={"letters": "ctc", "steps": "huber", "encoder": "mse", "encoder_1": None}, loss_weights=[0.3, 2.0, 0.7, None])
    x, y = joined_data(rng)
    weights = model.get_weights()

    def total():
        model.set_weights(weights)
        return model.test_on_batch(x, y, lengths=lengths)[0]

    model.train_on_batch(x, y, lengths=lengths)
    gradients = [before - after for before, after in zip(weights, model.get_weights(), strict=True)]
    for w, gradient in zip(weights, gradients, strict=True):
        assert max_rel_error(gradient, central_differences(total, w)) < 1e-7


def test_each_output_has_its_own_mask(rng):
    """The loss of each output is that of a model with this output alone."""
    model = randomised(joined(), rng)
    x, y = joined_data(rng)
    model.compile("sgd", loss=["ctc", "mse", "mse", "mse"], metrics={"steps": ["mae"]})
    y[3] = np.zeros((3, 4))
    found = model.test_on_batch(x, y, lengths=LENGTHS, return_dict=True)
    predictions = model.predict(x, lengths=LENGTHS)
    steps = np.arange(4) < LENGTHS["target"][:, None]
    assert found["steps_loss"] == pytest.approx(losses.MeanSquaredError()(y[1], predictions[1], mask=steps), rel=1e-12)
    assert found["steps_mae"] == pytest.approx(np.abs(y[1] - predictions[1])[steps].mean(), rel=1e-12)
    assert found["letters_loss"] == pytest.approx(losses.CTC()(y[0], predictions[0], mask=np.arange(7) < LENGTHS["source"][:, None]), rel=1e-12)
    assert found["encoder_loss"] == pytest.approx(np.square(y[2] - predictions[2]).mean(), rel=1e-12)


def test_every_way_to_give_targets_and_weights_is_the_same(rng):
    x, y = data(rng)
    by_name, weights = dict(zip(NAMES, y, strict=True)), [np.ones((B, T)), np.arange(B), None]
    ways = [
        (y, weights),
        (tuple(y), tuple(weights)),
        (by_name, dict(zip(NAMES, weights, strict=True))),
        (dict(reversed(by_name.items())), {"value": np.arange(B)}),
    ]
    found = []
    for given, weight in ways:
        model = randomised(made(), np.random.default_rng(3))
        model.compile("adam", loss=BY_NAME)
        history = model.fit(x, given, sample_weight=weight, batch_size=4, epochs=2, shuffle=False, verbose=0).history
        found.append((history, model.train_on_batch(x, given, weight), model.evaluate(x, given, sample_weight=weight, verbose=0, return_dict=True)))
    model = randomised(made(), np.random.default_rng(3))
    model.compile("adam", loss=BY_NAME)
    batches = [(x[:4], [one[:4] for one in y], [None, np.arange(4), None]), (x[4:], {k: v[4:] for k, v in by_name.items()}, {"value": np.arange(4, B)})]
    history = model.fit((one for one in batches * 2), steps_per_epoch=2, epochs=2, verbose=0).history
    found.append((history, model.train_on_batch(x, y, weights), model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)))
    assert all(one == found[0] for one in found[1:])
    assert list(found[0][0]) == ["loss", "tags_loss", "value_loss", "g_loss"]


def test_one_array_of_sample_weights_is_for_all_outputs(rng):
    x, y = data(rng)
    model = randomised(made(), rng)
    model.compile("sgd", loss=BY_NAME)
    one = np.arange(B, dtype=float)
    assert model.test_on_batch(x, y, one) == model.test_on_batch(x, y, [one] * 3) == model.test_on_batch(x, y, list(one))


def test_targets_of_untrained_outputs_may_be_left_out(rng):
    x, y = data(rng)
    model = randomised(made(), rng)
    model.compile("sgd", loss=[None, MSE, MSE])
    assert model.test_on_batch(x, y) == model.test_on_batch(x, y[1:]) == model.test_on_batch(x, {"value": y[1], "g": y[2]}) == model.test_on_batch(x, [None, *y[1:]])
    model.compile("sgd", loss=[None, MSE, None])
    assert model.test_on_batch(x, y) == model.test_on_batch(x, y[1])


def test_held_out_samples(rng):
    x, y = data(rng)
    model = made()
    model.compile("sgd", loss=BY_NAME, metrics={"value": ["mae"]})
    logs = ["loss", "tags_loss", "value_loss", "g_loss", "value_mae"]
    stop = callbacks.EarlyStopping("val_value_mae", patience=5)
    split = model.fit(x, y, validation_split=0.5, epochs=2, verbose=0, callbacks=[stop]).history
    assert list(split) == [*logs, *(f"val_{name}" for name in logs)]
    given = model.fit(x, y, validation_data=(x, dict(zip(NAMES, y, strict=True)), [None, np.ones(B), None]), verbose=0).history
    assert list(given) == list(split)


def test_an_output_of_weight_0_is_watched(rng):
    x, y = data(rng)
    watched, without = randomised(made(), np.random.default_rng(1)), randomised(made(), np.random.default_rng(1))
    watched.compile("adam", loss=BY_NAME, loss_weights={"value": 0.0})
    without.compile("adam", loss=BY_NAME | {"value": None})
    for _ in range(2):
        found = watched.train_on_batch(x, y, return_dict=True)
        without.train_on_batch(x, y)
    assert found["value_loss"] > 0
    for a, b in zip(watched.get_weights(), without.get_weights(), strict=True):
        assert np.array_equal(a, b)


def test_the_weights_of_an_untrained_output_stay(rng):
    x, y = data(rng)
    model = made()
    model.compile("adam", loss=[CE, None, MSE])
    before = model.get_layer("value").get_weights()
    model.fit(x, y, epochs=3, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_layer("value").get_weights(), strict=True))


def test_one_tensor_twice_and_an_output_that_others_read(rng):
    x = Input((F,), name="x", dtype="float64")
    first = layers.Dense(3, name="first", dtype="float64")(x)
    model = randomised(Model(x, [first, layers.Dense(2, name="second", dtype="float64")(first), first]), rng)
    assert model.output_names == ["first", "second", "first_1"]
    a, y = rng.standard_normal((4, F)), [rng.standard_normal((4, n)) for n in (3, 2, 3)]
    for asked in ([MSE, "mae", "huber"], [None, "mae", MSE], [MSE, MSE, None]):
        model.compile(optimizers.SGD(1.0), loss=asked)
        weights = model.get_weights()

        def total(weights=weights):
            model.set_weights(weights)
            return model.evaluate(a, y, verbose=0, return_dict=True)["loss"]

        for _ in range(2):  # the second from the same buffers
            model.set_weights(weights)
            model.train_on_batch(a, y)
        for w, after in zip(weights, model.get_weights(), strict=True):
            assert max_rel_error(w - after, central_differences(total, w)) < 1e-7


def test_a_model_that_is_compiled_again_has_new_plans(rng):
    x, y = data(rng)
    model = randomised(made(), rng)
    for asked in ([CE, MSE, MSE], [None, "mae", MSE], [None, MSE, "huber"], [CE, "mae", "mae"]) * 3:
        model.compile("sgd", loss=asked)
        fresh = made()
        fresh.set_weights(model.get_weights())
        fresh.compile("sgd", loss=asked)
        assert model.test_on_batch(x, y) == fresh.test_on_batch(x, y)


def test_outputs_given_as_a_dict(tmp_path, rng):
    x = Input((None, F), name="x")
    sequence, state = layers.GRU(4, return_sequences=True, return_state=True)(x)
    model = Model(x, {"z": layers.Dense(2)(sequence), "last": state})
    assert model.output_names == ["last", "z"]  # sorted, as Keras does
    a = rng.standard_normal((5, T, F)).astype(np.float32)
    y = {"z": rng.standard_normal((5, T, 2)), "last": rng.standard_normal((5, 4))}
    model.compile("adam", loss={"z": "mse", "last": "mae"}, metrics={"last": ["mse"]})
    assert list(model.fit(a, y, verbose=0).history) == ["loss", "last_loss", "z_loss", "last_mse"]
    model.save(tmp_path / "m.rnnf")
    for one in (model, rnnfast.load(tmp_path / "m.rnnf")):
        for found in (one.predict(a, batch_size=2), one.predict_on_batch(a), one.predict_on_batch(a), one(a)):
            assert {name: value.shape for name, value in found.items()} == {"last": (5, 4), "z": (5, T, 2)}
        before = one.evaluate(a, y, verbose=0)
        assert one.train_on_batch(a, y) == before
    single = Model(x, {"z": sequence})
    assert all(list(call(a)) == ["z"] for call in (single.predict, single.predict_on_batch, single.predict_on_batch, single))


@pytest.mark.parametrize("outputs", [["value"], ["tags", "value", "g"]])
def test_one_output_takes_lists_and_dicts_too(outputs, rng):
    x, y = data(rng)
    y = [y[NAMES.index(name)] for name in outputs]
    found = []
    for form in (list, lambda values: dict(zip(outputs, values, strict=True))):
        model = randomised(made(outputs=outputs), np.random.default_rng(1))
        one = {name: [CE, MSE, MSE][NAMES.index(name)] for name in outputs}
        model.compile("sgd", loss=form(one.values()), loss_weights=form([2.0] * len(y)), metrics=form([["mse"]] * len(y)) if "tags" not in outputs else None)
        found.append(model.train_on_batch(x, form(y) if len(y) > 1 or form is not list else y[0]))
    assert found[0] == found[1]
    assert found[0][0] == pytest.approx(sum(found[0][1:]) * 2)


def test_a_sequential_that_returns_its_states(rng):
    for start in ([], [Input((None, F))]):
        model = Sequential([*start, layers.LSTM(4, return_sequences=True, return_state=True, name="all")])
        model.compile("sgd", "mse")
        assert model.output_names == ["all", "all_1", "all_2"]
        a = rng.standard_normal((2, T, F)).astype(np.float32)
        logs = model.train_on_batch(a, {"all": np.zeros((2, T, 4)), "all_1": np.zeros((2, 4)), "all_2": np.ones((2, 4))}, return_dict=True)
        assert list(logs) == ["loss", "all_loss", "all_1_loss", "all_2_loss"]


def test_steps_that_count_by_output(rng):
    x, y = data(rng)
    model = randomised(made(), rng)
    model.compile("sgd", loss=[CE, MSE, MSE], loss_steps=[2, None, None], time_weights={"tags": np.arange(T)})
    predictions = model.predict(x)
    weights = np.broadcast_to(np.arange(T), (B, T))
    expected = losses.SparseCategoricalCrossentropy()(y[0], predictions[0], weights, np.arange(T) >= T - np.full((B, 1), 2))
    assert model.test_on_batch(x, y, return_dict=True)["tags_loss"] == pytest.approx(expected, rel=1e-12)
    again = made()
    again.compile_from_config(json.loads(json.dumps(model.get_compile_config())))
    assert again.get_compile_config() == model.get_compile_config()


def test_resets(rng):
    x, y = data(rng)
    resets = rng.random((B, T)) < 0.3
    model = randomised(made(), rng)
    model.compile(optimizers.SGD(0.0), loss=BY_NAME)
    parts = model.train_on_batch(x, y, resets=resets)
    predictions = model.predict(x, resets=resets)
    assert parts[3] == pytest.approx(np.square(predictions[2] - y[2]).mean(), rel=1e-12)
    assert parts == model.test_on_batch(x, y, resets=resets)


def test_gradient_flow(rng):
    x, y = data(rng)
    model = randomised(made(), rng)
    model.compile("sgd", loss=BY_NAME)
    flow = diagnostics.gradient_flow(model, x, y)
    assert flow.loss == pytest.approx(model.test_on_batch(x, y)[0], rel=1e-12)
    assert diagnostics.gradient_flow(model, x, y, loss=[None, None, MSE]).loss == pytest.approx(np.square(model.predict(x)[2] - y[2]).mean(), rel=1e-12)


# -- files ---------------------------------------------------------------------------------------------------------------------


def saved(tmp_path, rng):
    model = made()
    model.compile("adam", loss=BY_NAME, loss_weights=[1, 2, 3], metrics={"value": ["mae"]}, weighted_metrics=[["accuracy"], None, None])
    x, y = data(rng)
    model.fit(x, y, verbose=0, epochs=2)
    model.save(tmp_path / "m.rnnf")
    return model, x, y


def test_training_goes_on_from_a_file_with_the_same_bits(tmp_path, rng):
    model, x, y = saved(tmp_path, rng)
    loaded = rnnfast.load(tmp_path / "m.rnnf")
    assert loaded.get_compile_config() == model.get_compile_config()
    assert loaded.fit(x, y, epochs=2, verbose=0).history == model.fit(x, y, epochs=2, verbose=0).history


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_self_test_looks_at_every_output(place, tmp_path, rng):
    saved(tmp_path, rng)
    config, arrays = load_archive(tmp_path / "m.rnnf")
    arrays[f"selftest/output{place}"] += 1.0
    save_archive(tmp_path / "bad.rnnf", config, arrays)
    with pytest.raises(FormatError, match="self-test failed"):
        rnnfast.load(tmp_path / "bad.rnnf")


def test_files_whose_self_test_has_the_first_output_alone(tmp_path, rng):
    model, x, _ = saved(tmp_path, rng)
    config, arrays = load_archive(tmp_path / "m.rnnf")
    found = {name: array for name, array in arrays.items() if not name.startswith("selftest/output")}
    del config["compile"], config["iterations"]
    old = {name: array for name, array in found.items() if not name.startswith("optimizer/")} | {"selftest/output": arrays["selftest/output0"]}
    save_archive(tmp_path / "old.rnnf", config, old)
    assert np.array_equal(rnnfast.load(tmp_path / "old.rnnf").predict(x)[1], model.predict(x)[1])
    save_archive(tmp_path / "bad.rnnf", config, old | {"selftest/output": arrays["selftest/output0"] + 1})
    with pytest.raises(FormatError, match="self-test failed"):
        rnnfast.load(tmp_path / "bad.rnnf")
    assert "selftest/output2.npy" in zipfile.ZipFile(tmp_path / "m.rnnf").namelist()


# -- errors --------------------------------------------------------------------------------------------------------------------

X, Y = data(np.random.default_rng(0))


def compiled(**options):
    model = made()
    model.compile("sgd", **({"loss": BY_NAME} | options))
    return model


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: compiled(loss=None), "loss must be a name or a Loss, for one output at least, got None"),
        (lambda: compiled(loss=[None] * 3), "for one output at least"),
        (lambda: compiled(loss=[MSE, MSE]), "loss must be a list of 3, for tags, value, g, or a dict by name, got 2"),
        (lambda: compiled(loss={"tags": CE}), "None where there is none; output 'value' is missing"),
        (lambda: compiled(loss=BY_NAME | {"valeu": MSE}), "loss has no output called 'valeu'.*'value'"),
        (lambda: compiled(loss_weights=2.0), "loss_weights must be a list of 3"),
        (lambda: compiled(loss_weights=[1, 2, np.nan]), "loss_weights must be finite"),
        (lambda: compiled(metrics=["mae"]), "metrics must be a list of 3"),
        (lambda: compiled(metrics="mae"), "metrics must be a list with an entry for each output"),
        (lambda: compiled(metrics={"tag": "mae"}), "metrics has no output called 'tag'"),
        (lambda: compiled(loss_steps=2).fit(X, Y, verbose=0), r"loss_steps needs an output at every step, of shape \(B, T, F\), got \(6, 2\)"),
        (lambda: compiled().fit(X, Y, class_weight={0: 1.0}, verbose=0), "class_weight needs a model with one output, this has 3"),
        (lambda: compiled().fit(X, Y, truncate=(2, 2), verbose=0), "truncate needs one input and one output, got 1 and 3"),
        (lambda: compiled().train_on_batch(X), "y of output 'tags' must be given"),
        (lambda: compiled().train_on_batch(X, [Y[0], None, Y[2]]), "y of output 'value' must be given"),
        (lambda: compiled().train_on_batch(X, Y[0]), "y must be a list of 3, for tags, value, g, or a dict by name, got ndarray"),
        (lambda: compiled().train_on_batch(X, {"x": Y[0]}), "y has no output called 'x'"),
        (lambda: compiled().train_on_batch(X, [*Y[:2], Y[2][1:]]), "y must have 6 samples as x does, got 5"),
        (lambda: compiled().train_on_batch(X, [*Y[:2], Y[2][:, 1:]]), r"y_true must have shape \(6, 4\)"),
        (lambda: compiled().train_on_batch(X, Y, [None, None]), "sample_weight must be a list of 3"),
        (lambda: compiled(loss={"tags": "ctc", "value": "ctc", "g": None}).train_on_batch(X, Y), r"'ctc' needs an output of shape \(B, T, classes\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit(call, text):
    with pytest.raises((ValueError, ShapeError, KeyError), match=text):
        call()
