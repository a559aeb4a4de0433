"""Keras models that are converted, live and from files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.peers import require

keras = require("keras")
pytestmark = [pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"), pytest.mark.filterwarnings("ignore:.*mask attached:UserWarning")]
L, Input, Sequential, Model = keras.layers, keras.Input, keras.Sequential, keras.Model


def randomized(model: Any, seed: int = 0) -> Any:
    """Random weights everywhere: constant ones hide swapped gates."""
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.5, 2, w.shape) if "variance" in w.path else rng.normal(0, 0.5, w.shape) for w in model.weights])
    return model


def chain(*layers: Any, shape: tuple = (6, 3), batch: int | None = None, **kwargs: Any) -> Any:
    return Sequential([Input(shape, batch_size=batch, **kwargs), *layers])


PLAIN: dict[str, tuple[tuple, Callable[[], list[Any]]]] = {
    "windows": ((8, 6), lambda: [L.Conv1D(4, 3, padding="causal", dilation_rate=2, groups=2, activation="relu"), L.MaxPooling1D(2), L.ZeroPadding1D(1), L.Cropping1D((1, 0)), L.AveragePooling1D(2, 1, padding="same"), L.GlobalMaxPooling1D()]),
    "long window": ((None, 3), lambda: [L.Conv1D(3, 9, strides=2), L.SimpleRNN(3)]),
    "shapes": ((6,), lambda: [L.Dense(6, activation="gelu"), L.Reshape((3, 2)), L.Flatten(), L.RepeatVector(3), L.TimeDistributed(L.Dense(2)), L.Activation("softmax"), L.GlobalAveragePooling1D(keepdims=True)]),
    "normalised": ((None, 4), lambda: [L.BatchNormalization(), L.BatchNormalization(scale=False, axis=2), L.BatchNormalization(center=False), L.LayerNormalization(scale=False, axis=2), L.LayerNormalization(center=False, epsilon=1e-5)]),
    "dropped": ((None, 4), lambda: [L.SpatialDropout1D(0.1), L.Dropout(0.2, seed=1), L.GRU(2)]),
    "functions": ((4,), lambda: [L.Dense(5), L.ReLU(), L.Dense(5), L.ReLU(6), L.Dense(5), L.LeakyReLU(0.2), L.Dense(5), L.LeakyReLU(), L.Dense(5), L.LeakyReLU(0.01), L.Dense(5), L.ELU(), L.Dense(5, activation=keras.activations.mish), L.Softmax()]),
    "inside steps": ((None, 4, 3), lambda: [L.TimeDistributed(L.Conv1D(3, 2)), L.TimeDistributed(L.LSTM(3, return_sequences=True)), L.TimeDistributed(L.GlobalMaxPooling1D()), L.LSTM(3)]),
    "nested": ((None, 3), lambda: [Sequential([L.LSTM(4, return_sequences=True), Sequential([L.Dense(3)])]), L.GRU(2)]),
    "frozen": ((None, 3), lambda: [L.LSTM(4, trainable=False), Sequential([L.BatchNormalization(trainable=False), L.Dense(2)])]),
}  # fmt: skip


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


def two_maskings_of_one_input() -> Any:
    a = Input((7, 3))
    return Model(a, [L.LSTM(4)(L.Masking()(a)), L.GRU(4)(L.Masking(0.5)(a)), L.Conv1D(2, 2)(a)])


def masked_beside_itself() -> Any:
    a = Input((7, 3))
    x = L.Dense(3, activation="relu")(a)
    return Model(a, [L.LSTM(2)(L.Add()([L.Masking()(x), x])), L.GRU(3)(L.Masking()(x), initial_state=L.GRU(3)(x))])


def gated(*readers: Any, masking: bool = False, **kwargs: Any) -> Any:
    """A masked sequence times a gate; Keras 3 puts zeros in the masked steps of the product."""
    a = Input((6, 3)) if masking else Input((6,), dtype="int32")
    x = L.Masking()(a) if masking else L.Embedding(7, 3, mask_zero=True)(a)
    y = L.LSTM(3, return_sequences=True, **kwargs)(x) if kwargs else x
    z = L.Multiply()([y, L.Dense(3, activation="sigmoid")(y)])
    return Model(a, [reader(z) for reader in readers])


def residual(*readers: Any, join: Any = None, zeros: bool = False) -> Any:
    """A masked sequence beside what a recurrent layer makes of it; the two show their masked steps in different ways, unless it shows zeros."""
    a = Input((6, 3))
    x = L.Masking()(a)
    z = (join or L.Add())([L.LSTM(3, return_sequences=True, zero_output_for_mask=zeros)(x), x])
    return Model(a, [reader(z) for reader in readers])


MASKED: dict[str, Callable[[], Any]] = {
    "tagger": lambda: embedded(L.Bidirectional(L.LSTM(4, return_sequences=True)), L.LayerNormalization(), L.BatchNormalization(), L.TimeDistributed(L.Dense(3))),
    "mean": lambda: embedded(L.LSTM(4, return_sequences=True), L.GlobalAveragePooling1D()),
    "maximum, which takes masked steps too": lambda: embedded(L.LSTM(4, return_sequences=True), L.GlobalMaxPooling1D()),
    "convolution, behind which nothing is masked": lambda: embedded(L.Conv1D(4, 2), L.LSTM(3)),
    "convolution behind a recurrent layer": lambda: embedded(L.Bidirectional(L.GRU(4, return_sequences=True)), L.Conv1D(4, 3, padding="same"), L.LSTM(3)),
    "flat": lambda: embedded(L.SimpleRNN(4, return_sequences=True), L.Flatten(), L.Dense(3)),
    "vector, again and backwards": lambda: masked(0.0, L.LSTM(4), L.RepeatVector(4), L.GRU(3, return_sequences=True, go_backwards=True)),
    "flat embedding": lambda: embedded(L.Flatten(), L.Dense(3)),
    "masking": lambda: masked(0.5, L.LSTM(4, return_sequences=True), L.Dense(3)),
    "masking, windows": lambda: masked(0.0, L.MaxPooling1D(2), L.SimpleRNN(3)),
    "masking, zeros": lambda: masked(0.5, L.GRU(4, return_sequences=True, zero_output_for_mask=True), L.SimpleRNN(3)),
    "masking, backwards": lambda: masked(0.5, L.GRU(4, return_sequences=True, go_backwards=True), L.Dense(3)),
    "masking, other value": lambda: masked(0.5, L.Conv1D(3, 2)),
    "masking in the middle": lambda: chain(L.Dense(2, activation="relu"), L.Masking(), L.LSTM(3, return_sequences=True), L.Dense(2)),
    "masking again": lambda: masked(0.0, L.LSTM(2, activation="relu", return_sequences=True), L.Masking(), L.Bidirectional(L.GRU(3, return_sequences=True)), L.GRU(2)),
    "masking of a masked input": lambda: masked(0.0, L.Masking(0.5), L.GRU(3, return_sequences=True)),
    "two maskings of one input": two_maskings_of_one_input,
    "masked beside itself": masked_beside_itself,
    "attention": two_masks,
    "masked beside unmasked": lambda: masked_beside_unmasked(True),
    "masked embedding beside unmasked": lambda: masked_beside_unmasked(False),
    "two embeddings": one_mask_of_two,
    "decoder": lambda: masked_decoder(L.Dense(3)),
    "decoder, both directions": lambda: masked_decoder(L.Conv1D(2, 2), L.GRU(2), wrap=L.Bidirectional),
    "decoder with a given mask": lambda: masked_decoder(L.Dropout(0.1), L.GRU(2), given=True),
    "one call of an embedding": mask_of_one_call,
    "gate, of which masked steps are not seen": lambda: gated(L.GRU(2), L.GlobalAveragePooling1D()),
    "gate on zeros": lambda: gated(L.GlobalMaxPooling1D(), L.Dense(2), zero_output_for_mask=True),
    "gate on a masking": lambda: gated(L.Conv1D(2, 2), L.Flatten(), masking=True),
    "residual, of which masked steps are not seen": lambda: residual(L.GRU(2), L.GlobalAveragePooling1D()),
    "residual on zeros": lambda: residual(L.Dense(2), L.GlobalMaxPooling1D(), join=L.Concatenate(), zeros=True),
    "states": lambda: Model((x := Input((None,), dtype="int32")), list(L.LSTM(4, return_state=True)(L.Embedding(5, 3, mask_zero=True)(x)))),
}  # fmt: skip


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


def shared_between_models() -> Any:
    """Layers that are in nested models, in wrappers and outside of them: Keras 3 writes their weights once."""
    dense = L.Dense(3, name="same")
    inner = keras.Sequential([keras.Input((4, 3)), dense, L.LSTM(3, return_sequences=True)], name="inner")
    outer = keras.Sequential([keras.Input((4, 3)), L.Activation("tanh"), inner], name="outer")
    x = keras.Input((4, 3))
    return randomized(keras.Model(x, [inner(x), outer(x), L.TimeDistributed(dense)(x), dense(x)]))


GRAPHS = [shared, nested, encoder_decoder, states_of_cells, attention, dictionaries, branches]
