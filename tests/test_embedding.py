"""Embedding of tokens of any rank, under TimeDistributed too; and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Model, Sequential, layers


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 2), (4, 3, 2, 5)])
@pytest.mark.parametrize("inside", [False, True])
def test_rows_of_the_table_and_their_gradients(shape, inside, dtype, rng):
    if inside and len(shape) == 1:
        return  # no axis of time
    made = layers.Embedding(7, 5, dtype=dtype)
    layer = layers.TimeDistributed(made) if inside else made
    tokens, dy = rng.integers(0, 7, shape), rng.normal(size=(*shape, 5))
    found = layer.vjp(tokens, dy)
    (table,) = layer.get_weights()
    wanted = np.zeros((7, 5))
    np.add.at(wanted, tokens.reshape(-1), dy.reshape(-1, 5))
    assert np.array_equal(found["y"], table[tokens])
    assert np.abs(found["weights"][0] - wanted).max() < (1e-5 if dtype == "float32" else 1e-12)


def test_words_of_sentences(tmp_path, rng):
    """A layer over the words of each sentence, then one over the sentences: trained, saved, streamed."""
    tokens = rng.integers(0, 7, (6, 4, 3))
    model = Sequential([Input((None, 3)), layers.Embedding(7, 5), layers.TimeDistributed(layers.LSTM(4)), layers.GRU(3, return_sequences=True)])
    model.compile("adam", "mse")
    model.fit(tokens, np.zeros((6, 4, 3)), epochs=2, verbose=0)
    whole = model.predict(tokens, verbose=0)
    embedding, words, sentences = model.layers
    table = embedding.get_weights()[0]
    inner = np.stack([words.layer(table[tokens[:, t]]) for t in range(4)], axis=1)
    assert np.allclose(whole, sentences(inner), atol=1e-6)
    model.save(tmp_path / "words.rnnf")
    assert np.array_equal(rnnfast.load(tmp_path / "words.rnnf").predict(tokens, verbose=0), whole)
    stream = model.stream()
    assert np.array_equal(np.stack([stream.step(tokens[0, t]) for t in range(4)]), whole[0])


@pytest.mark.parametrize(
    "front", [layers.Dense(3), layers.Embedding(7, 3), layers.Dropout(0.5), layers.Masking(), layers.Reshape((12,))], ids=lambda layer: type(layer).__name__
)
def test_tokens_come_from_an_input(front):
    """What a layer computes are no tokens: to read them as such would be to read anywhere."""
    x = Input((4,) if isinstance(front, layers.Embedding) else (4, 3))
    model = Model(x, layers.Embedding(7, 3)(front(x)))
    with pytest.raises(ValueError, match=rf"Embedding 'embedding.*' must take tokens from an input of the model, got what '{front.name}' gives"):
        model.predict(np.zeros((2, 4) if isinstance(front, layers.Embedding) else (2, 4, 3)), verbose=0)


def test_a_mask_needs_tokens_of_steps():
    with pytest.raises(rnnfast.errors.ShapeError, match=r"mask_zero needs tokens of shape \(B, T\), got \(None, 4, 3\)"):
        layers.Embedding(7, 3, mask_zero=True)(np.zeros((2, 4, 3), int))
