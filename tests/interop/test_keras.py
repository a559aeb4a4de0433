"""A Keras model becomes an rnnfast model that computes the same, whose weights are the same lists; what cannot be so is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rnnfast
from tests.peers import require

keras = require("keras")
pytestmark = [pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"), pytest.mark.filterwarnings("ignore:.*mask attached:UserWarning")]
L, Input, Sequential, Model = keras.layers, keras.Input, keras.Sequential, keras.Model


def randomized(model: Any, seed: int = 0) -> Any:
    """Random weights everywhere: constant ones hide swapped gates."""
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.5, 2, w.shape) if "variance" in w.path else rng.normal(0, 0.5, w.shape) for w in model.weights])
    return model


def check(model: Any) -> Any:
    """Convert a model, which compares the numbers, and compare the lists of weights."""
    ours = rnnfast.from_keras(randomized(model))
    theirs = model.get_weights()
    assert [w.shape for w in ours.get_weights()] == [w.shape for w in theirs]
    assert all(np.array_equal(a, b) for a, b in zip(ours.get_weights(), theirs, strict=True))
    return ours


def chain(*layers: Any, shape: tuple = (6, 3), batch: int | None = None, **kwargs: Any) -> Any:
    return Sequential([Input(shape, batch_size=batch, **kwargs), *layers])


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


PLAIN: dict[str, tuple[tuple, Callable[[], list[Any]]]] = {
    "windows": ((8, 6), lambda: [L.Conv1D(4, 3, padding="causal", dilation_rate=2, groups=2, activation="relu"), L.MaxPooling1D(2), L.ZeroPadding1D(1), L.Cropping1D((1, 0)), L.AveragePooling1D(2, 1, padding="same"), L.GlobalMaxPooling1D()]),
    "long window": ((None, 3), lambda: [L.Conv1D(3, 9, strides=2), L.SimpleRNN(3)]),
    "shapes": ((6,), lambda: [L.Dense(6, activation="gelu"), L.Reshape((3, 2)), L.Flatten(), L.RepeatVector(3), L.TimeDistributed(L.Dense(2)), L.Activation("softmax"), L.GlobalAveragePooling1D(keepdims=True)]),
    "normalised": ((None, 4), lambda: [L.BatchNormalization(), L.BatchNormalization(scale=False, axis=2), L.BatchNormalization(center=False), L.LayerNormalization(scale=False, axis=2), L.LayerNormalization(center=False, epsilon=1e-5)]),
    "dropped": ((None, 4), lambda: [L.SpatialDropout1D(0.1), L.Dropout(0.2, seed=1), L.GRU(2)]),
    "functions": ((4,), lambda: [L.Dense(5), L.ReLU(), L.Dense(5), L.ReLU(6), L.Dense(5), L.LeakyReLU(0.2), L.Dense(5), L.ELU(), L.Dense(5, activation=keras.activations.mish), L.Softmax()]),
    "inside steps": ((None, 4, 3), lambda: [L.TimeDistributed(L.Conv1D(3, 2)), L.TimeDistributed(L.LSTM(3, return_sequences=True)), L.TimeDistributed(L.GlobalMaxPooling1D()), L.LSTM(3)]),
    "nested": ((None, 3), lambda: [Sequential([L.LSTM(4, return_sequences=True), Sequential([L.Dense(3)])]), L.GRU(2)]),
    "frozen": ((None, 3), lambda: [L.LSTM(4, trainable=False), Sequential([L.BatchNormalization(trainable=False), L.Dense(2)])]),
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_other_layers(name):
    shape, layers = PLAIN[name]
    ours = check(chain(*layers(), shape=shape))
    assert isinstance(ours, rnnfast.Sequential)


def test_float64_and_mixed_precision():
    assert check(chain(L.LSTM(3, dtype="float64"), dtype="float64")).get_weights()[0].dtype == np.float64
    assert check(chain(L.LSTM(3, dtype="mixed_float16"))).get_weights()[0].dtype == np.float32


def embedded(*layers: Any) -> Any:
    return chain(L.Embedding(6, 4, mask_zero=True), *layers, shape=(7,), dtype="int32")


def masked(value: float, *layers: Any) -> Any:
    return chain(L.Masking(value), *layers, shape=(None, 3))


def two_masks() -> Any:
    """Masked queries and values, and what Keras makes of the masks of a list."""
    a, b = Input((None, 3)), Input((None,), dtype="int32")
    x, y = L.GRU(4, return_sequences=True)(L.Masking(0.5)(a)), L.LSTM(4, return_sequences=True)(L.Embedding(7, 3, mask_zero=True)(b))
    attended = L.Attention()([x, y])
    joined = L.Concatenate()([x, attended, L.AdditiveAttention()([x, y, y])])
    return Model([b, a], [L.LSTM(3)(joined), L.GlobalAveragePooling1D()(attended)])


def masked_beside_unmasked(recurrent: bool) -> Any:
    a, b = Input((6,), dtype="int32"), Input((6, 3))
    x = L.Embedding(7, 3, mask_zero=True)(a)
    return Model([a, b], L.LSTM(3)(L.Concatenate()([L.LSTM(3, return_sequences=True)(x) if recurrent else x, b])))


def one_mask_of_two() -> Any:
    a = Input((6,), dtype="int32")
    return Model(a, L.LSTM(3)(L.Concatenate()([L.Embedding(7, 3, mask_zero=True)(a), L.Embedding(7, 2, mask_zero=True)(a)])))


def masked_decoder(*readers: Any, given: bool = False, wrap: Callable[[Any], Any] = lambda layer: layer) -> Any:
    """Keras 3 runs a layer that has an initial_state without the mask of its input, unless mask= is given, and hands the mask on."""
    a, b = Input((None,), dtype="int32"), Input((None,), dtype="int32")
    _, *states = wrap(L.LSTM(4, return_state=True))(L.Embedding(5, 3, mask_zero=True)(a))
    embed = L.Embedding(5, 3, mask_zero=True)
    x = embed(b)
    y = wrap(L.LSTM(4, return_sequences=True))(x, initial_state=states, **({"mask": embed.compute_mask(b)} if given else {}))
    for layer in readers:
        y = layer(y)
    return Model([a, b], y)


def mask_of_one_call() -> Any:
    a, b, embed = Input((6,), dtype="int32"), Input((6,), dtype="int32"), L.Embedding(7, 3, mask_zero=True)
    return Model([a, b], [L.LSTM(3)(embed(a)), L.Conv1D(2, 3)(embed(b))])


MASKED: dict[str, Callable[[], Any]] = {
    "tagger": lambda: embedded(L.Bidirectional(L.LSTM(4, return_sequences=True)), L.LayerNormalization(), L.BatchNormalization(), L.TimeDistributed(L.Dense(3))),
    "mean": lambda: embedded(L.LSTM(4, return_sequences=True), L.GlobalAveragePooling1D()),
    "maximum, which takes masked steps too": lambda: embedded(L.LSTM(4, return_sequences=True), L.GlobalMaxPooling1D()),
    "convolution, behind which nothing is masked": lambda: embedded(L.Conv1D(4, 2), L.LSTM(3)),
    "convolution behind a recurrent layer": lambda: embedded(L.Bidirectional(L.GRU(4, return_sequences=True)), L.Conv1D(4, 3, padding="same"), L.LSTM(3)),
    "flat": lambda: embedded(L.SimpleRNN(4, return_sequences=True), L.Flatten(), L.Dense(3)),
    "flat embedding": lambda: embedded(L.Flatten(), L.Dense(3)),
    "masking": lambda: masked(0.5, L.LSTM(4, return_sequences=True), L.Dense(3)),
    "masking, windows": lambda: masked(0.0, L.MaxPooling1D(2), L.SimpleRNN(3)),
    "masking, zeros": lambda: masked(0.5, L.GRU(4, return_sequences=True, zero_output_for_mask=True), L.SimpleRNN(3)),
    "masking, backwards": lambda: masked(0.5, L.GRU(4, return_sequences=True, go_backwards=True), L.Dense(3)),
    "attention": two_masks,
    "masked beside unmasked": lambda: masked_beside_unmasked(True),
    "masked embedding beside unmasked": lambda: masked_beside_unmasked(False),
    "two embeddings": one_mask_of_two,
    "decoder": lambda: masked_decoder(L.Dense(3)),
    "decoder, both directions": lambda: masked_decoder(L.Conv1D(2, 2), L.GRU(2), wrap=L.Bidirectional),
    "decoder with a given mask": lambda: masked_decoder(L.Dropout(0.1), L.GRU(2), given=True),
    "one call of an embedding": mask_of_one_call,
    "states": lambda: Model((x := Input((None,), dtype="int32")), list(L.LSTM(4, return_state=True)(L.Embedding(5, 3, mask_zero=True)(x)))),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKED)
def test_masks(name):
    check(MASKED[name]())


def shared() -> Any:
    a, b, lstm, dense = Input((None, 3)), Input((None, 3)), L.LSTM(4), L.Dense(4)
    x, y = lstm(a), lstm(b)
    return Model([a, b], [L.Add()([x, y]), L.Multiply()([dense(x), dense(dense(y))]), L.Subtract()([x, y]), L.Average()([x, y])])


def nested() -> Any:
    a, b, c = (Input((None, 3)) for _ in range(3))
    encoder = Model(a, L.LSTM(4)(a), name="encoder")
    head = Sequential([L.Dense(4, activation="relu"), L.BatchNormalization(), L.Dense(4)], name="head")
    return Model([b, c], head(L.Add()([encoder(b), head(encoder(c))])))


def encoder_decoder() -> Any:
    source, target = Input((None, 3), name="source"), Input((None, 2), name="target")
    _, h, c = L.LSTM(4, return_state=True)(source)
    y, h2, _ = L.LSTM(4, return_state=True, return_sequences=True)(target, initial_state=[h, c])
    both = L.Bidirectional(L.GRU(2, return_sequences=True))(target, initial_state=[L.Dense(2)(h), L.Dense(2)(c)])
    return Model([source, target], [L.Dense(2)(y), both, h2])


def states_of_cells() -> Any:
    a = Input((None, 3))
    y, *states = L.RNN([L.LSTMCell(4), L.GRUCell(3)], return_state=True, return_sequences=True)(a)
    return Model(a, [L.RNN([L.LSTMCell(4), L.GRUCell(3)])(a, initial_state=states), y])


def attention() -> Any:
    a, b = Input((None, 3)), Input((5, 3))
    y, scores = L.Attention(score_mode="concat", use_scale=True)([a, b], return_attention_scores=True)
    return Model([a, b], [y, scores, L.Attention(dropout=0.1)([b, b], use_causal_mask=True), L.AdditiveAttention(use_scale=False)([a, b])])


def dictionaries() -> Any:
    a, b = Input((4, 3), name="q"), Input((3,), name="p")
    h = L.LSTM(3)(a, initial_state=[b, b])
    return Model({"q": a, "p": b}, {"two": L.Dense(2)(h), "one": L.Dense(1)(h)})


def branches() -> Any:
    """Layers at many depths: their order, and that of the weights, is Keras'."""
    a = Input((None, 3))
    left = L.GRU(4)(L.Conv1D(3, 2)(L.Dense(2)(a)))
    right = L.LSTM(4)(a)
    return Model(a, [L.Dense(1)(right), L.Concatenate()([left, L.Dense(2)(L.Dense(3)(right))])])


GRAPHS = [shared, nested, encoder_decoder, states_of_cells, attention, dictionaries, branches]


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


def given_mask() -> Any:
    a, mask = Input((6, 3)), Input((6,), dtype="bool")
    return Model([a, mask], L.LSTM(3)(a, mask=mask))


def training() -> Any:
    a = Input((6, 3))
    return Model(a, L.Dropout(0.5)(a, training=True))


def own_function(x: Any) -> Any:
    return x


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "lambda": (lambda: chain(L.Lambda(lambda x: x + 1)), "Lambda 'lambda.*no such layer.*Known: Activation.*ZeroPadding1D"),
    "other layer": (lambda: chain(L.GaussianNoise(0.1)), "GaussianNoise 'gaussian_noise.*no such layer"),
    "own layer": (lambda: chain(Own()), "Own 'own.*custom class"),
    "own layer with a known name": (lambda: chain(LSTM(3)), "LSTM 'lstm.*custom class .mine>LSTM"),
    "own model": (lambda: Subclassed(name="m"), "Keras model 'm': model"),
    "own activation": (lambda: chain(L.LSTM(3, activation=own_function)), "activation is a custom function.*own_function"),
    "sparsemax": (lambda: chain(L.Dense(3, activation="sparsemax")), "'sparsemax' is computed otherwise"),
    "slope": (lambda: chain(L.LeakyReLU(0.1)), "LeakyReLU 'leaky.*negative_slope=0.1 is not supported; only 0.2"),
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
    "masking in the middle": (lambda: chain(L.Dense(3), L.Masking(), L.LSTM(3)), "Masking 'masking.*must read an input"),
    "masking, other value": (lambda: masked(0.5, L.Conv1D(3, 2)), "Masking 'masking.*zeros in Keras"),
    "masks of one input": (half_masked, "is read by 'embedding.*not all mask the same steps"),
    "mask behind a decoder": (lambda: masked_decoder(L.Dense(3), L.GRU(2)), "GRU 'gru.*Keras 3 hands on past a layer called with an initial_state"),
    "mask beside a decoder": (lambda: masked_decoder(lambda y: L.Concatenate()([y, y]), L.GRU(2)), "GRU 'gru.*Keras 3 hands on past"),
    "shown in two ways": (shown_twice, "shows its masked steps"),
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
