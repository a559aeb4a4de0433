"""Live Keras models as rnnfast models."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from rnnfast import layers
from rnnfast.interop._keras_config import flat, parse
from rnnfast.interop._keras_graph import Assembler
from rnnfast.interop._keras_layers import Maker
from rnnfast.interop._keras_weights import fill_from_layers
from rnnfast.interop.bounds import as_format_error, refuse
from rnnfast.interop.selftest import prove
from rnnfast.layers.recurrent import OverTime

# Steps to mask in a row: a hole and the end, ends of two lengths, the first step with holes, all. Where no step is left to see, means and attention are not Keras'.
_HIDDEN = (slice(1, None, 3), slice(2, None), slice(1, None), slice(0, -1, 2), slice(None))
_FROM_THE_FIRST = 3


def from_keras(model: Any) -> Any:
    """The rnnfast model that computes what a Keras model does.

    The Keras model is run once on random inputs, and what it gives must be what the new model gives; both are kept in the new model's file as its self-test.

    Parameters
    ----------
    model : keras.Sequential or keras.Model
        Built, a chain or a functional graph of the layers in docs/keras.md. Nested models become part of the one graph. It is not changed; the states of stateful
        layers are taken over.

    Returns
    -------
    Sequential or Model
        Not compiled. Its layers have Keras' names (those of a nested model behind the model's name: ``"encoder/lstm"``), and its weights Keras' order.

    Raises
    ------
    FormatError
        If a layer, an argument or a call is one that rnnfast does not have; the text names it.

    Examples
    --------
    >>> import keras, numpy, rnnfast                                                                  # doctest: +SKIP
    >>> theirs = keras.Sequential([keras.Input((None, 8)), keras.layers.LSTM(64), keras.layers.Dense(1)])  # doctest: +SKIP
    >>> ours = rnnfast.from_keras(theirs)                                                             # doctest: +SKIP
    >>> x = numpy.random.rand(4, 20, 8).astype("float32")                                             # doctest: +SKIP
    >>> numpy.allclose(ours.predict(x), theirs.predict(x), atol=1e-6)                                 # doctest: +SKIP
    True
    """
    if not (hasattr(model, "to_json") and hasattr(model, "get_layer")):
        raise TypeError(f"from_keras: model must be a Keras model, got {type(model).__name__}.")
    source = f"Keras model '{model.name}'"
    if not model.built:
        refuse(source, "model", "is not built, so its shapes are not known; begin it with Input(shape), or call model.build(input_shape)")
    with as_format_error(source, "model"):
        saved = json.loads(model.to_json())
        maker = Maker(source, old=str(saved.get("keras_version", "3"))[:1] in "12")
        net = parse(maker, saved)
        fill_from_layers(net, model.get_layer, source)
        made = Assembler(maker).model(net)
    _compare(made, _in_float32(model), net.input_keys, source)
    return made


def _in_float32(model: Any) -> Any:
    """The model, or a copy that computes in float32, where layers of it compute in half precision on float32 weights."""
    text = model.to_json()
    plain = text.replace('"mixed_float16"', '"float32"').replace('"mixed_bfloat16"', '"float32"')
    if text == plain:
        return model
    copy = type(model).from_config(json.loads(plain)["config"])
    copy.set_weights(model.get_weights())
    return copy


def _compare(made: Any, model: Any, keys: list[str] | None, source: str) -> None:
    """Run both from their first states; the states are as they were afterwards, and the same in both."""
    inputs = made.test_inputs()
    if not inputs:
        return
    inputs = _with_masks(made, inputs)
    theirs = [state for layer in _stateful(model) for state in flat(list(layer.states or []))]
    kept = [np.array(state) for state in theirs]
    made.reset_states()
    for state in theirs:
        state.assign(np.zeros(state.shape))
    outputs = model.predict_on_batch(dict(zip(keys, inputs, strict=True)) if keys else inputs if len(inputs) > 1 else inputs[0])
    outputs = list(outputs) if isinstance(outputs, tuple) else outputs
    for state, value in zip(theirs, kept, strict=True):
        state.assign(value)
    prove(made, inputs, [np.asarray(one) for one in flat(outputs)], source)
    ours = [state for one in made.layers for layer in (one.sublayers() or [one]) if isinstance(layer, OverTime) and layer.stateful for state in layer.state_values or []]
    for mine, value in zip(ours, kept, strict=True):
        mine[...] = value


def _with_masks(made: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The inputs of a model that masks steps, with such steps: a row for each way to hide some, in another order for each input."""
    values = {layer.mask_value for layer in made.layers if isinstance(layer, layers.Masking)}
    values |= {0.0 for layer in made.layers if getattr(layer, "mask_zero", False)}
    apart = any(isinstance(layer, layers.Attention | layers.GlobalAveragePooling1D) for layer in made.layers)
    hidden = [(value, steps) for value in sorted(values) for steps in _HIDDEN[: _FROM_THE_FIRST if apart else None]]
    inlets = made.runner().inlets
    if hidden and all(inlet.shape[0] is None for inlet in inlets):
        inputs = [np.resize(x, (len(hidden), *x.shape[1:])) for x in inputs]
    for i, (x, inlet) in enumerate(zip(inputs, inlets, strict=True)):
        if hidden and inlet.tokens:
            x[x == 0] = x.max()  # so that the steps of this row alone are masked
        if inlet.timed(x) and x.shape[1] > 1:
            for row, (value, steps) in zip(x, itertools.islice(itertools.cycle(hidden), i, None), strict=False):
                row[steps] = 0 if inlet.tokens else value
    return inputs


def _stateful(model: Any) -> Iterator[Any]:
    """The stateful layers that keep states themselves."""
    for layer in model.layers:
        halves = [layer.forward_layer, layer.backward_layer] if hasattr(layer, "forward_layer") else [layer]
        for one in halves:
            if hasattr(one, "layers"):
                yield from _stateful(one)
            elif getattr(one, "stateful", False) and hasattr(one, "states"):
                yield one
