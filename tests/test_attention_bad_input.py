"""Attention layers say what is wrong with their arguments and inputs, and come back from their configuration."""

import numpy as np
import pytest

import rnnfast
from rnnfast import layers
from tests.attention_cases import SCORES


def zeros(*shapes):
    return [np.zeros(shape, np.float32) for shape in shapes]


@pytest.mark.parametrize(
    "make, options, message",
    [
        ("Attention", {"score_mode": "dots"}, "score_mode must be one of .*dot"),
        ("Attention", {"dropout": 1.0}, "dropout must be a number in"),
        ("Attention", {"window": -1}, "window must be an integer of at least 0, got -1"),
        ("Attention", {"window": 2.5}, "window must be an integer"),
        ("AdditiveAttention", {"units": 0}, "units must be a positive integer, got 0"),
        ("AttentionPooling1D", {"units": 0}, "units must be a positive integer, got 0"),
    ],
)
def test_arguments(make, options, message):
    with pytest.raises(ValueError, match=f"{make} '.*': {message}"):
        getattr(layers, make)(**options)


@pytest.mark.parametrize(
    "shapes, message",
    [
        ([(2, 3, 4)], r"must be a list \[query, value\]"),
        ([(2, 3, 4)] * 4, r"must be a list \[query, value\]"),
        ([(2, 4), (2, 3, 4)], r"inputs must have shapes \(B, T, F\)"),
        ([(2, 3, 4), (2, 3, 5)], "query and key must have the same width.*score_mode='general'"),
        ([(2, 3, 4), (2, 3, 5), (2, 4, 4)], "value and key must have the same number of steps"),
        ([(2, 3, 4), (3, 3, 4)], "rows"),
    ],
)
def test_shapes(shapes, message):
    with pytest.raises((ValueError, rnnfast.ShapeError), match=message):
        layers.Attention()(zeros(*shapes))


def test_additive_attention_names_its_remedy():
    with pytest.raises(rnnfast.ShapeError, match="units="):
        layers.AdditiveAttention()(zeros((2, 3, 4), (2, 3, 5)))


def test_pooling_needs_a_time_axis():
    with pytest.raises(rnnfast.ShapeError, match="B, T"):
        layers.AttentionPooling1D()(np.zeros((2, 3), np.float32))


@pytest.mark.parametrize("score", SCORES)
def test_configuration_comes_back(score):
    make, options, _ = SCORES[score]
    layer = make(**options, window=3, use_causal_mask=True, dropout=0.2, seed=1, return_attention_scores=True)
    again = layers.deserialize(layers.serialize(layer))
    assert type(again) is make and again.get_config() == layer.get_config()


def test_a_model_with_pooling_and_attention_is_saved(tmp_path, rng):
    inlet = rnnfast.Input((None, 3))
    h = layers.GRU(4, return_sequences=True)(inlet)
    model = rnnfast.Model(inlet, layers.AttentionPooling1D(5)(layers.AdditiveAttention(units=6)([h, inlet])))
    model.save(tmp_path / "m.rnnf")
    x = rng.standard_normal((2, 7, 3)).astype(np.float32)
    assert np.array_equal(rnnfast.load(tmp_path / "m.rnnf").predict_on_batch(x), model.predict_on_batch(x))
