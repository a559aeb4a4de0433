"""A recurrent node of a graph as a recurrent layer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnfast import layers as made_of
from rnnfast.interop.onnx.axes import BATCH, BOTH_WAYS, FEATURES, TIME, WAY, Axes, UnfitError, Value
from rnnfast.interop.onnx.program import NOTHING, Step
from rnnfast.interop.onnx.recurrent import RecurrentNode

if TYPE_CHECKING:
    from rnnfast.interop.onnx.lifting import Lifting

SEQUENCE, LAST, CELL = RESULTS = ("sequence", "last", "cell")


def recurrent(lifting: Lifting, node: RecurrentNode, step: Step) -> list[Value]:
    """The values of Y, Y_h and Y_c. Results that nobody wants have the symbol of another, which is not read."""
    fused = node.layer
    rows = [BATCH, TIME] if node.layout else [TIME, BATCH]
    if fused is None:
        raise UnfitError("its weights are not constants")
    value = lifting.featured(lifting.values.get(step.inputs[0]))
    if value.axes[:2] != rows or len(value.axes) != 3:
        raise UnfitError(f"its input's axes are {value.axes}")
    lengths = lifting.known[step.inputs[4]] if len(step.inputs) > 4 and step.inputs[4] != NOTHING else None
    if lengths is not None and (step.inputs[4] in lifting.values or (lengths != value.sizes["T"]).any()):
        raise UnfitError("sequence_lens; give lengths= to the model of layers instead")
    number = lifting.reached
    wanted = lifting.wanted.get(number, set()) if lifting.sure else set(RESULTS)
    found = _apply(lifting, node, step, value, wanted)
    lifting.results |= {(number, name): symbol for name, symbol in found.items()}
    any_one = next(iter(found.values()), value.symbol)
    two = node.directions == 2
    features, last = (BOTH_WAYS, ("H",)) if two else (FEATURES, FEATURES)
    sizes = value.sizes | ({"D": 2, "H": fused.settings.units} if two else {"F": fused.settings.units})
    way = WAY if two else ()
    made = Value(any_one, [BATCH, TIME, way, last] if node.layout else [TIME, way, BATCH, last], sizes, features)
    state: Axes = [BATCH, way, last] if node.layout else [way, BATCH, last]
    values = [replace(made, symbol=found.get(SEQUENCE, any_one), came=(number, SEQUENCE), turned=node.attributes.get("direction") == "reverse")]
    return values + [replace(made, symbol=found.get(name, any_one), axes=state, came=(number, name)) for name in (LAST, CELL)]


def _apply(lifting: Lifting, node: RecurrentNode, step: Step, value: Value, wanted: set[str]) -> dict[str, Any]:
    """The layer's symbols by result."""
    initial, trained = _initial(lifting, node, step)
    states = CELL in wanted or {SEQUENCE, LAST} <= wanted
    layer, arrays = _layer(node, {"return_sequences": SEQUENCE in wanted, "return_state": states, "trained_initial_state": bool(trained), "dtype": lifting.dtype}, trained)
    if initial:
        found = lifting.apply(layer, value.symbol, arrays, initial_state=initial)
    else:
        found = lifting.apply(layer, value.symbol, arrays)
    output, *ends = found if states else [found]
    results = {SEQUENCE if SEQUENCE in wanted else LAST: output}
    kinds = len(ends) // node.directions
    for i, name in enumerate((LAST, CELL)[:kinds]):
        if name in wanted:
            results[name] = ends[i] if node.directions == 1 else lifting.apply(made_of.Concatenate(dtype=lifting.dtype), [ends[i], ends[i + kinds]])
    return results


def _initial(lifting: Lifting, node: RecurrentNode, step: Step) -> tuple[list[Any], list[list[np.ndarray]]]:
    """The states that the graph takes, and those that are learned, of each direction; neither if they are zeros."""
    slots = [slot for slot in step.inputs[5:7] if slot != NOTHING]
    given = [lifting.values[slot] for slot in slots if slot in lifting.values]
    if given:
        if len(given) != (2 if node.op == "LSTM" else 1) or node.directions == 2 or any(one.axes not in ([(), BATCH, FEATURES], [BATCH, (), FEATURES]) for one in given):
            raise UnfitError("initial states that are not inputs of one direction")
        return [lifting.made(one).symbol for one in given], []
    values = [lifting.known[slot] for slot in slots]
    if not any(one.any() for one in values):
        return [], []
    by_way = [[one[:, i] if node.layout else one[i] for one in values] for i in range(node.directions)]
    if len(values) != (2 if node.op == "LSTM" else 1) or any((state != state[0]).any() for states in by_way for state in states):
        raise UnfitError("constant initial states that differ from row to row")
    return [], [[state[:1] for state in states] for states in by_way]


def _layer(node: RecurrentNode, options: dict[str, Any], trained: list[list[np.ndarray]]) -> tuple[Any, list[np.ndarray]]:
    """The layer and its weights in its order."""
    fused = node.layer
    assert fused is not None
    s = fused.settings
    made: list[Any] = []
    arrays: list[np.ndarray] = []
    for i, way in enumerate(fused.ways):
        activations = fused._fused(way)
        if activations is None:
            raise UnfitError("clip, input_forget or activations that the fused cells do not have")
        weights = {role: variable.value for role, variable in way.weights.items()}
        settings: dict[str, Any] = {"activation": activations[0], "use_bias": "bias" in weights, "go_backwards": way.backwards} | options
        if s.op == "RNN":
            made.append(made_of.SimpleRNN(s.units, **settings))
        else:
            cell: Any = {"LSTM": made_of.PeepholeLSTM if "peephole" in weights else made_of.LSTM, "GRU": made_of.GRU}[s.op]
            made.append(cell(s.units, recurrent_activation=activations[1], **({"reset_after": s.reset_after} if s.op == "GRU" else {}), **settings))
        arrays += [*weights.values(), *(trained[i] if trained else [])]
    return (made_of.Bidirectional(made[0], backward_layer=made[1]) if len(made) == 2 else made[0]), arrays
