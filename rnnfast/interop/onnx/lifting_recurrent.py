"""A recurrent node of a graph as a recurrent layer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnfast import layers as made_of
from rnnfast.interop.onnx.axes import BATCH, BOTH_WAYS, FEATURES, TIME, WAY, Axes, UnfitError, Value
from rnnfast.interop.onnx.program import MOVES, NOTHING, Program, Step
from rnnfast.interop.onnx.recurrent import WEIGHTS, RecurrentNode

if TYPE_CHECKING:
    from rnnfast.interop.onnx.lifting import Lifting

SEQUENCE, LAST, CELL = RESULTS = ("sequence", "last", "cell")
MERGES = {"Concat": "concat", "Add": "sum", "Sum": "sum", "Mean": "ave", "Mul": "mul"}
_JOINS: dict[str, Any] = {"concat": made_of.Concatenate, "sum": made_of.Add, "ave": made_of.Average, "mul": made_of.Multiply}


def pairs_of(program: Program) -> dict[int, int]:
    """Nodes of one direction that are the two directions of one layer: of the same numbers but the direction, over the same input. Each with the other's place."""
    same: dict[int, int] = {}  # the first slot of the same numbers
    moved: dict[Any, int] = {}
    found: dict[Any, tuple[int, str]] = {}
    pairs: dict[int, int] = {}
    for number, step in enumerate(program.steps):
        inputs, node = tuple(same.get(slot, slot) for slot in step.inputs), step.function
        if step.op in MOVES:
            how = getattr(node, "func", node), repr(getattr(node, "keywords", {})), inputs
            same |= {slot: moved.setdefault((how, i), slot) for i, slot in enumerate(step.outputs)}
        elif isinstance(node, RecurrentNode) and node.layer is not None and node.directions == 1:
            way = node.attributes.get("direction", "forward")
            settings = {name: value for name, value in node.attributes.items() if name != "direction"}
            what = (inputs[0], inputs[4:5], node.op, len(step.inputs), node.layer.settings.units, repr(sorted(settings.items())))
            other, its_way = found.pop(what, (-1, way))
            if its_way == way:
                found[what] = number, way
            else:
                pairs |= {number: other, other: number}
    return pairs


def recurrent(lifting: Lifting, node: RecurrentNode, step: Step) -> list[Value]:
    """The values of Y, Y_h and Y_c. Results that nobody wants have the symbol of another, which is not read."""
    fused, number = node.layer, lifting.reached
    if number in lifting.pending:
        return lifting.pending.pop(number)
    rows = [BATCH, TIME] if node.layout else [TIME, BATCH]
    if fused is None:
        raise UnfitError("its weights are not constants")
    value = lifting.featured(lifting.values.get(step.inputs[0]))
    if value.axes[:2] != rows or len(value.axes) != 3:
        raise UnfitError(f"its input's axes are {value.axes}")
    lengths = lifting.known[step.inputs[4]] if len(step.inputs) > 4 and step.inputs[4] != NOTHING else None
    if lengths is not None and (step.inputs[4] in lifting.values or (lengths != value.sizes["T"]).any()):
        raise UnfitError("sequence_lens; give lengths= to the model of layers instead")
    other = lifting.pairs.get(number)
    if other is not None:
        lifting.ahead(other)
    steps = [step] if other is None else sorted([step, lifting.program.steps[other]], key=lambda one: one.function.attributes.get("direction") == "reverse")  # type: ignore[attr-defined]
    wanted = lifting.wanted.get(number, {}) if lifting.sure else dict.fromkeys(RESULTS, "Concat")
    found = _apply(lifting, steps, value, wanted)
    lifting.results |= {(number, name): symbol for name, symbol in found.items()}
    made = [_value(value, found.get(name, next(iter(found.values()), value.symbol)), (number, name), node, len(steps)) for name in RESULTS]
    if other is None:
        made[0] = replace(made[0], turned=node.attributes.get("direction") == "reverse")
        return made
    lifting.pending[other] = [replace(one, way=int(step is steps[0])) for one in made]
    return [replace(one, way=int(step is steps[1])) for one in made]


def _value(x: Value, symbol: Any, came: tuple[int, str], node: RecurrentNode, nodes: int) -> Value:
    """One result of a node, or of one of two nodes."""
    two = node.directions * nodes == 2
    units = node.layer.settings.units  # type: ignore[union-attr]
    way, last = WAY if node.directions == 2 else (), ("H",) if two else FEATURES
    axes: Axes = [BATCH, way, last] if node.layout else [way, BATCH, last]
    if came[1] == SEQUENCE:
        axes = [BATCH, TIME, way, last] if node.layout else [TIME, way, BATCH, last]
    return replace(x, symbol=symbol, axes=axes, sizes=x.sizes | ({"D": 2, "H": units} if two else {"F": units}), features=BOTH_WAYS if two else FEATURES, came=came)


def _apply(lifting: Lifting, steps: list[Step], value: Value, wanted: dict[str, str]) -> dict[str, Any]:
    """The layer's symbols by result."""
    nodes: list[Any] = [step.function for step in steps]
    initial, trained = [], []
    for step in steps:
        given, learned = _initial(lifting, step.function, step)  # type: ignore[arg-type]
        initial += given
        trained += learned
    directions = sum(node.directions for node in nodes)
    if len(trained) not in (0, directions) or len(initial) not in (0, len(steps) * (2 if nodes[0].op == "LSTM" else 1)):
        raise UnfitError("initial states of one direction of two")
    states = CELL in wanted or {SEQUENCE, LAST} <= set(wanted)
    output = SEQUENCE if SEQUENCE in wanted else LAST
    options = {"return_sequences": SEQUENCE in wanted, "return_state": states, "trained_initial_state": bool(trained), "dtype": lifting.dtype}
    layer, arrays = _layer(nodes, options, trained, MERGES[wanted.get(output, "Concat")])
    stored = [lifting.known[slot] for step in steps for place, slot in enumerate(step.inputs) if slot != NOTHING and (place in WEIGHTS or (trained and place in (5, 6)))]
    found = lifting.apply(layer, value.symbol, arrays, stored, **({"initial_state": initial} if initial else {}))
    first, *ends = found if states else [found]
    results = {output: first}
    kinds = len(ends) // directions
    for i, name in enumerate((LAST, CELL)[:kinds]):
        if name in wanted and name != output:
            results[name] = ends[i] if directions == 1 else lifting.apply(_JOINS[MERGES[wanted[name]]](dtype=lifting.dtype), [ends[i], ends[i + kinds]])
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


def _layer(nodes: list[Any], options: dict[str, Any], trained: list[list[np.ndarray]], merge: str) -> tuple[Any, list[np.ndarray]]:
    """The layer of one or two directions, and its weights in its order."""
    s = nodes[0].layer.settings
    made: list[Any] = []
    arrays: list[np.ndarray] = []
    for i, (fused, way) in enumerate((node.layer, way) for node in nodes for way in node.layer.ways):
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
    return (made_of.Bidirectional(made[0], merge_mode=merge, backward_layer=made[1]) if len(made) == 2 else made[0]), arrays
