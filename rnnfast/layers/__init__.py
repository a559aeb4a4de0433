"""Layers, with Keras' names, arguments and weights."""

from rnnfast.layers.base import Layer, deserialize, serialize
from rnnfast.layers.core import (
    Activation,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Input,
    InputLayer,
    LayerNormalization,
    Masking,
    RepeatVector,
    Reshape,
    SpatialDropout1D,
)
from rnnfast.layers.recurrent import GRU, LSTM, SimpleRNN
from rnnfast.layers.wrappers import Bidirectional, TimeDistributed

__all__ = [
    "GRU",
    "LSTM",
    "Activation",
    "Bidirectional",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAveragePooling1D",
    "GlobalMaxPooling1D",
    "Input",
    "InputLayer",
    "Layer",
    "LayerNormalization",
    "Masking",
    "RepeatVector",
    "Reshape",
    "SimpleRNN",
    "SpatialDropout1D",
    "TimeDistributed",
    "deserialize",
    "serialize",
]
