"""A Keras model becomes an rnnfast model that computes the same, whose weights are the same lists; what cannot be so is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rnnfast
from tests.interop.keras_models import (  # noqa: F401 - pytestmark is this module's
    GRAPHS,
    MASKED,
    PLAIN,
    Input,
    L,
    Model,
    Sequential,
    chain,
    dictionaries,
    gated,
    keras,
    masked,
    masked_decoder,
    pytestmark,
    randomized,
    residual,
)  # fmt: skip


def check(model: Any) -> Any:
    """Convert a model, which compares the numbers, and compare the lists of weights."""
    ours = rnnfast.from_keras(randomized(model))
    theirs = model.get_weights()
    assert [w.shape for w in ours.get_weights()] == [w.shape for w in theirs]
    assert all(np.array_equal(a, b) for a, b in zip(ours.get_weights(), theirs, strict=True))
    return ours


OPTIONS: dict[str, dict[str, Any]] = {
    "default": {}, "sequences": {"return_sequences": True}, "backwards": {"go_backwards": True, "return_sequences": True}, "no-bias": {"use_bias": False},
    "relu": {"activation": "relu"}, "stateful": {"stateful": True}, "unroll": {"unroll": True}, "dropout": {"dropout": 0.2, "recurrent_dropout": 0.1, "seed": 3},
    "zeros": {"zero_output_for_mask": True, "return_sequences": True}, "regularized": {"kernel_regularizer": "l2", "recurrent_constraint": "max_norm"},
}  # fmt: skip
OWN = {"LSTM": {"hard": {"recurrent_activation": "hard_sigmoid"}, "forget": {"unit_forget_bias": False}}, "GRU": {"before": {"reset_after": False}}, "SimpleRNN": {}}
CASES = [(cell, name, options) for cell, own in OWN.items() for name, options in (OPTIONS | own).items()]


@pytest.mark.parametrize(("cell", "name", "options"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_recurrent_layers(cell, name, options):
    check(chain(getattr(L, cell)(5, **options), batch=2 if name == "stateful" else None))


@pytest.mark.parametrize("cell", OWN)
@pytest.mark.parametrize("merge", ["concat", "sum", "mul", "ave", None])
def test_both_directions(cell, merge):
    x = Input((None, 3))
    y = L.Bidirectional(getattr(L, cell)(4, return_sequences=True, return_state=True), merge_mode=merge)(x)
    check(Model(x, list(y)))


def test_a_backward_layer_of_its_own():
    check(chain(L.Bidirectional(L.GRU(4), backward_layer=L.LSTM(4, go_backwards=True, use_bias=False), merge_mode="sum")))
    check(chain(L.Bidirectional(L.RNN(L.GRUCell(4, reset_after=False)), merge_mode="sum"), L.Dense(2)))


def test_outputs_in_a_tuple():
    x = Input((None, 3))
    y = L.LSTM(4, return_sequences=True)(x)
    check(Model(x, (y, L.Dense(2)(y))))
    check(Model(x, L.GRU(4, return_sequences=True, return_state=True)(x)))
    check(Model(x, L.Bidirectional(L.GRU(4, return_sequences=True), merge_mode=None)(x)))


STACKS: dict[str, Callable[[], list[Any]]] = {
    "one cell": lambda: [L.RNN(L.GRUCell(4, reset_after=False), return_sequences=True), L.RNN([L.SimpleRNNCell(3)])],
    "three backwards": lambda: [L.RNN([L.LSTMCell(4), L.GRUCell(4), L.SimpleRNNCell(3)], return_sequences=True, go_backwards=True)],
    "stateful": lambda: [L.RNN([L.LSTMCell(4), L.LSTMCell(4)], stateful=True)],
    "dropout": lambda: [L.RNN([L.LSTMCell(4, dropout=0.1), L.GRUCell(4, recurrent_dropout=0.2)])],
}


@pytest.mark.parametrize("name", STACKS)
def test_cells(name):
    check(chain(*STACKS[name](), batch=2 if name == "stateful" else None))


@pytest.mark.parametrize("name", PLAIN)
def test_other_layers(name):
    shape, layers = PLAIN[name]
    ours = check(chain(*layers(), shape=shape))
    assert isinstance(ours, rnnfast.Sequential)


def test_float64_and_mixed_precision():
    assert check(chain(L.LSTM(3, dtype="float64"), dtype="float64")).get_weights()[0].dtype == np.float64
    assert check(chain(L.LSTM(3, dtype="mixed_float16"))).get_weights()[0].dtype == np.float32


@pytest.mark.parametrize("name", MASKED)
def test_masks(name):
    check(MASKED[name]())


def test_the_proof_has_rows_without_a_step_where_keras_has_numbers_for_them():
    rows = {name: (rnnfast.from_keras(randomized(masked(0.5, *layers))).proof[0][0] == 0.5).all(2) for name, layers in {"last": [L.LSTM(2)], "mean": [L.GlobalAveragePooling1D()]}.items()}
    assert sorted(rows["last"].sum(1)) == [2, 2, 3, 4, 5]
    assert sorted(rows["mean"].sum(1)) == [2, 3, 4]


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda f: f.__name__)
def test_graphs(graph, tmp_path):
    model = graph()
    ours = check(model)
    ours.save(tmp_path / "model.rnnf")
    again = rnnfast.load(tmp_path / "model.rnnf")
    assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), model.get_weights(), strict=True))


def test_the_order_of_layers_in_a_graph_is_that_of_keras():
    def build(package: Any) -> Any:
        layers, a, b = package.layers, package.Input((None, 3), name="a"), package.Input((None, 3), name="b")
        x, y = layers.LSTM(4, name="first")(b), layers.Dense(2, name="second")(layers.GRU(4, name="third")(a))
        z = layers.Dense(2, name="fourth")(x)
        return package.Model([a, b], [layers.Add(name="fifth")([y, z]), layers.Dense(1, name="sixth")(x)])

    assert [layer.name for layer in build(rnnfast).layers] == [layer.name for layer in build(keras).layers if "Input" not in type(layer).__name__]


def test_dictionaries_keep_their_names():
    ours = check(dictionaries())
    assert ours.input_names == ["p", "q"]
    x = {"p": np.ones((2, 3), np.float32), "q": np.ones((2, 4, 3), np.float32)}
    assert {name: y.shape for name, y in ours.predict(x, verbose=0).items()} == {"one": (2, 1), "two": (2, 2)}


@pytest.mark.parametrize("wrap", [lambda layer: layer, L.Bidirectional], ids=["plain", "both directions"])
def test_the_states_of_stateful_layers_are_taken_over(wrap):
    model = randomized(chain(wrap(L.LSTM(4, stateful=True, return_sequences=True)), L.GRU(3, stateful=True), batch=2))
    x = np.random.default_rng(1).normal(size=(3, 2, 6, 3)).astype(np.float32)
    model.predict_on_batch(x[0])
    ours = rnnfast.from_keras(model)
    for chunk in x[1:]:
        np.testing.assert_allclose(ours.predict_on_batch(chunk), model.predict_on_batch(chunk), atol=1e-6)
    ours.reset_states()
    model.reset_states() if hasattr(model, "reset_states") else [layer.reset_state() for layer in model.layers]
    np.testing.assert_allclose(ours.predict_on_batch(x[0]), model.predict_on_batch(x[0]), atol=1e-6)


def test_a_converted_model_trains_and_streams():
    model = chain(L.LSTM(4, return_sequences=True), L.Dense(1))
    ours = check(model)
    x = np.random.default_rng(0).normal(size=(8, 6, 3)).astype(np.float32)
    stream = ours.stream()
    np.testing.assert_allclose(np.stack([stream.step(step) for step in x[0]]).reshape(6, 1), model.predict_on_batch(x[:1])[0], atol=1e-6)
    ours.compile("adam", "mse")
    history = ours.fit(x, x[:, :, :1], epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


class Own(L.Layer):
    def call(self, x):
        return x


@keras.saving.register_keras_serializable("mine")
class LSTM(L.LSTM):
    """A custom layer that has the name of a known one."""


class Subclassed(keras.Model):
    def call(self, x):
        return x


def plus() -> Any:
    a = Input((6, 3))
    return Model(a, L.LSTM(3)(a) + L.LSTM(3)(a))


def half_masked() -> Any:
    a = Input((6,), dtype="int32")
    return Model(a, [L.LSTM(3)(L.Embedding(7, 3, mask_zero=True)(a)), L.GRU(3)(L.Embedding(7, 2)(a))])


def shown_twice() -> Any:
    a = Input((6,), dtype="int32")
    x = L.Embedding(7, 3, mask_zero=True)(a)
    return Model(a, [L.LSTM(3, return_sequences=True)(x), L.Bidirectional(L.LSTM(3, return_sequences=True))(x)])


def residual_beside_attention() -> Any:
    a = Input((6,), dtype="int32")
    x = L.Embedding(7, 3, mask_zero=True)(a)
    y = L.LSTM(3, return_sequences=True)(x)
    return Model(a, [L.GlobalMaxPooling1D()(L.Concatenate()([x, y])), L.GlobalMaxPooling1D()(L.Attention()([x, x]))])


def product_beside_unmasked() -> Any:
    a, b = Input((6,), dtype="int32"), Input((6, 3))
    return Model([a, b], L.GlobalMaxPooling1D()(L.Multiply()([b, L.Embedding(7, 3, mask_zero=True)(a)])))


def lost_in_a_model() -> Any:
    """A Sequential without an Input gives no mask when the graph is made."""
    x = L.Masking()(a := Input((6, 3)))
    return Model(a, L.SimpleRNN(3)(L.Concatenate()([x, Sequential([L.GRU(3, return_sequences=True)])(x)])))


def reversed_twice() -> Any:
    a = Input((6, 3))
    y = L.LSTM(3, return_sequences=True, go_backwards=True)(L.Masking()(a))
    return Model(a, L.GRU(2)(L.Add()([y, L.Dense(3)(y)])))


def given_mask() -> Any:
    a, mask = Input((6, 3)), Input((6,), dtype="bool")
    return Model([a, mask], L.LSTM(3)(a, mask=mask))


def training() -> Any:
    a = Input((6, 3))
    return Model(a, L.Dropout(0.5)(a, training=True))


def own_function(x: Any) -> Any:
    return x


SHOWN: dict[str, list[Any]] = {"Add": [L.Dense(2), L.LSTM(2)], "Subtract": [L.Flatten()], "Average": [L.Conv1D(2, 2)], "Concatenate": [L.GlobalMaxPooling1D()]}
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "lambda": (lambda: chain(L.Lambda(lambda x: x + 1)), "Lambda 'lambda.*no such layer.*Known: Activation.*ZeroPadding1D"),
    "other layer": (lambda: chain(L.GaussianNoise(0.1)), "GaussianNoise 'gaussian_noise.*no such layer"),
    "own layer": (lambda: chain(Own()), "Own 'own.*custom class"),
    "own layer with a known name": (lambda: chain(LSTM(3)), "LSTM 'lstm.*custom class .mine>LSTM"),
    "own model": (lambda: Subclassed(name="m"), "Keras model 'm': model"),
    "own activation": (lambda: chain(L.LSTM(3, activation=own_function)), "activation is a custom function.*own_function"),
    "sparsemax": (lambda: chain(L.Dense(3, activation="sparsemax")), "'sparsemax' is computed otherwise"),
    "slope": (lambda: chain(L.LeakyReLU(0.1)), "LeakyReLU 'leaky.*negative_slope=0.1 is not supported; only 0.2, 0.01, 0.3"),
    "half precision": (lambda: chain(L.LSTM(3, dtype="bfloat16")), "LSTM 'lstm.*dtype 'bfloat16' is not supported"),
    "two dtypes": (lambda: chain(L.LSTM(3, dtype="float64"), L.Dense(1)), "all layers must have one dtype"),
    "model inside steps": (lambda: chain(L.TimeDistributed(Sequential([L.Flatten(), L.Dense(3)])), shape=(None, 4, 3)), "TimeDistributed 'time.*layer is a model"),
    "stack inside": (lambda: chain(L.Bidirectional(L.RNN([L.GRUCell(2), L.GRUCell(2)]))), "Bidirectional 'bi.*a stack of 2 cells"),
    "operation": (plus, "Add 'add.*operation outside a layer"),
    "axis": (lambda: chain(L.BatchNormalization(axis=1)), "BatchNormalization 'batch.*axis must be the last"),
    "channels first": (lambda: chain(L.Conv1D(3, 2, data_format="channels_first")), "Conv1D 'conv1d.*data_format must be 'channels_last'"),
    "unbuilt": (lambda: Sequential([L.LSTM(3)]), "is not built, so its shapes are not known"),
    "training": (training, "Dropout 'dropout.*is called with training=True"),
    "given mask": (given_mask, "LSTM 'lstm.*"),
    "reversed mask": (lambda: masked(0.0, L.GRU(4, return_sequences=True, go_backwards=True), L.LSTM(3)), "LSTM 'lstm.*reversed order"),
    "masks of one input": (half_masked, "is read by 'embedding.*not all mask the same steps"),
    "mask behind a decoder": (lambda: masked_decoder(L.Dense(3), L.GRU(2)), "GRU 'gru.*Keras 3 hands on past a layer called with an initial_state"),
    "mask beside a decoder": (lambda: masked_decoder(lambda y: L.Concatenate()([y, y]), L.GRU(2)), "GRU 'gru.*Keras 3 hands on past"),
    "shown in two ways": (shown_twice, "shows its masked steps"),
    **{f"residual shown: {kind}": (lambda kind=kind, readers=readers: residual(*readers, join=getattr(L, kind)()), "shows its masked steps") for kind, readers in SHOWN.items()},
    "residual beside attention": (residual_beside_attention, "layer 'concatenate.*shows its masked steps"),
    "gate shown": (lambda: gated(L.GlobalMaxPooling1D(), zero_output_for_mask=False), "layer 'multiply.*shows masked steps of a Multiply"),
    "gate on an embedding shown": (lambda: gated(L.Dense(2)), "layer 'dense.*shows masked steps of a Multiply"),
    "gate shown behind": (lambda: gated(L.Dense(2), L.GRU(2), zero_output_for_mask=False), "layer 'dense.*shows masked steps of a Multiply"),
    "product beside unmasked": (product_beside_unmasked, "Multiply 'multiply.*has inputs with different masks or none"),
    "mask that a model loses": (lost_in_a_model, "SimpleRNN 'simple_rnn.*mask given in the call"),
    "reversed beside itself": (reversed_twice, "GRU 'gru.*reversed order"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_refused(name):
    model, text = REFUSED[name]
    with pytest.raises(rnnfast.FormatError, match=text):
        rnnfast.from_keras(model())


def test_not_a_model():
    with pytest.raises(TypeError, match="model must be a Keras model, got ndarray"):
        rnnfast.from_keras(np.zeros(3))
