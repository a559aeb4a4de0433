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
from rnnfast.layers.merging import Add, Average, Concatenate, Multiply, Subtract
from rnnfast.layers.recurrent import GRU, LSTM, SimpleRNN
from rnnfast.layers.wrappers import Bidirectional, TimeDistributed

__all__ = [
    "GRU",
    "LSTM",
    "Activation",
    "Add",
    "Average",
    "Bidirectional",
    "Concatenate",
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
    "Multiply",
    "RepeatVector",
    "Reshape",
    "SimpleRNN",
    "SpatialDropout1D",
    "Subtract",
    "TimeDistributed",
    "deserialize",
    "serialize",
]
