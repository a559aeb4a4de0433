"""Layers, with Keras' names, arguments and weights."""

from rnnfast.layers.attention import AdditiveAttention, Attention, AttentionPooling1D
from rnnfast.layers.base import Layer, deserialize, serialize
from rnnfast.layers.cells import IndRNN, MinGRU, PeepholeLSTM
from rnnfast.layers.convolution import AveragePooling1D, Conv1D, Cropping1D, MaxPooling1D, ZeroPadding1D
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
from rnnfast.layers.normalization import BatchNormalization
from rnnfast.layers.recurrent import GRU, LSTM, SimpleRNN
from rnnfast.layers.rnn import RNN, Cell, StackedRNNCells, register_cell
from rnnfast.layers.staged import LayerNormGRU, LayerNormLSTM, ProjectedLSTM
from rnnfast.layers.statal import Statal
from rnnfast.layers.wrappers import Bidirectional, TimeDistributed

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "Add",
    "AdditiveAttention",
    "Attention",
    "AttentionPooling1D",
    "Average",
    "AveragePooling1D",
    "BatchNormalization",
    "Bidirectional",
    "Cell",
    "Concatenate",
    "Conv1D",
    "Cropping1D",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAveragePooling1D",
    "GlobalMaxPooling1D",
    "IndRNN",
    "Input",
    "InputLayer",
    "Layer",
    "LayerNormGRU",
    "LayerNormLSTM",
    "LayerNormalization",
    "Masking",
    "MaxPooling1D",
    "MinGRU",
    "Multiply",
    "PeepholeLSTM",
    "ProjectedLSTM",
    "RepeatVector",
    "Reshape",
    "SimpleRNN",
    "SpatialDropout1D",
    "StackedRNNCells",
    "Statal",
    "Subtract",
    "TimeDistributed",
    "ZeroPadding1D",
    "deserialize",
    "register_cell",
    "serialize",
]
