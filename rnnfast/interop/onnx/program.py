"""A graph made ready to run: nodes checked and bound to functions, constants computed, branches chosen. Everything that rnnfast does not have is refused here."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np

from rnnfast import _engine
from rnnfast.errors import FormatError, ShapeError, suggest
from rnnfast.interop.bounds import BROKEN, refuse
from rnnfast.interop.onnx.operators import OPERATORS, Operator, limited_to
from rnnfast.interop.onnx.operators.table import allowance, check_attribute, integers
from rnnfast.interop.onnx.recurrent import ATTRIBUTES, WEIGHTS, RecurrentNode
from rnnfast.interop.onnx.standing import NOTHING, Standing, UnfitError
from rnnfast.layers.runner import PLANS_KEPT

OPSETS = (7, 26)
FOLDING = 48 << 20  # bytes that computing constants may read and write, beside four times what the file stores
KEPT_BYTES = 1 << 16  # of values for one set of shapes
_CONSTANT = {"value": ("array", None), "value_float": ("float", None), "value_int": ("int", None), "value_floats": ("floats", None), "value_ints": ("ints", None)}
MOVES = ("Cast", "Concat", "Expand", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")  # numbers, and change none
SUPPORTED = sorted([*OPERATORS, *ATTRIBUTES, "Constant", "If"])


@dataclass
class Step:
    """One node at run time."""

    op: str
    attributes: dict[str, Any]
    function: Callable[..., Any]
    inputs: list[int]
    outputs: list[int]
    member: str


@dataclass
class Known:
    """What is known of one set of the inputs' shapes: the values that they alone decide, and the graph between arrays of these shapes once they have come twice; False where it cannot be."""

    values: list[Any]
    standing: Standing | Literal[False] | None = None


class Program:
    """A graph that runs.

    Parameters
    ----------
    description : dict
        See `parsing.parse`.
    arrays : list of ndarray
    label : str
        What errors call the file.

    Raises
    ------
    FormatError
    """

    def __init__(self, description: dict[str, Any], arrays: list[np.ndarray], label: str) -> None:
        self.label, self.arrays = label, arrays
        self.opset = description["opset"]
        if not OPSETS[0] <= self.opset <= OPSETS[1]:
            refuse(label, "opset_import", f"opset {self.opset} is not supported, {OPSETS[0]} to {OPSETS[1]} are")
        self.stored = sum(a.nbytes for a in arrays)
        self.left = max(FOLDING, 4 * self.stored)
        self.values: list[Any] = [None]
        self.steps: list[Step] = []
        self.unused: dict[str, int] = {}
        names: ChainMap[str, int] = ChainMap()
        self.inputs = [self._define(names, name, None) for name, _, _ in description["inputs"]]
        self.outputs = self._graph(description, names)
        self.known = {slot for slot, value in enumerate(self.values) if value is not None}
        self.moving, self.shaped = self._by_shapes()
        self.kept: dict[tuple[Any, ...], Known] = {}  # by the inputs' shapes
        if self.unused:
            refuse(label, "initializers", f"without a use: {', '.join(sorted(self.unused)[:8])}")

    # -- reading ---------------------------------------------------------------------------------------------------------------

    def _define(self, names: ChainMap[str, int], name: str, value: np.ndarray | None) -> int:
        """A slot for a new name."""
        if not name or name in names:
            refuse(self.label, f"value '{name}'", "has no name, or one that is given twice")
        names[name] = len(self.values)
        self.values.append(value)
        return names[name]

    def _use(self, names: ChainMap[str, int], name: str, member: str) -> int:
        if name not in names:
            refuse(self.label, member, f"takes '{name}', which nothing before it gives")
        self.unused.pop(name, None)
        return names[name]

    def _graph(self, graph: dict[str, Any], names: ChainMap[str, int]) -> list[int]:
        """Take a graph's nodes in; the slots of its outputs."""
        for name, place in graph["initializers"].items():
            self.unused[name] = self._define(names, name, self.arrays[place])
        for node in graph["nodes"]:
            self._node(node, names)
        return [self._use(names, name, "outputs") for name in graph["outputs"]]

    def _node(self, node: dict[str, Any], names: ChainMap[str, int]) -> None:
        op, member = node["op"], f"node '{node['name'] or next(iter(node['outputs']), '')}' ({node['op']})"
        if op not in SUPPORTED:
            refuse(self.label, member, f"the operator is not supported. {suggest(op, SUPPORTED).removesuffix('.')}")
        attributes = {name: self._value(value) for name, value in node["attributes"].items()}
        inputs = [self._use(names, name, member) if name else NOTHING for name in node["inputs"]]
        try:
            if op == "If":
                self._branch(node, inputs, names, member)
            elif op == "Constant":
                self._give(node, names, [_constant(attributes)])
            elif op in ATTRIBUTES:
                self._recurrent(node, attributes, inputs, names, member)
            else:
                self._glue(node, OPERATORS[op], attributes, inputs, names, member)
        except BROKEN as error:
            self._complain(member, error)

    def _complain(self, member: str, error: Exception) -> NoReturn:
        text = str(error).removeprefix(f"{self.label}: ").removesuffix(".")
        if isinstance(error, FormatError) and str(error).startswith(f"{self.label}: "):
            raise error
        raise FormatError(f"{self.label}: {member}: {text or type(error).__name__}.") from error

    def _value(self, value: Any) -> Any:
        return self.arrays[value["tensor"]] if isinstance(value, dict) and "tensor" in value else value

    def _give(self, node: dict[str, Any], names: ChainMap[str, int], results: list[Any]) -> None:
        """Outputs that are known."""
        for name, value in zip(node["outputs"], results, strict=False):
            if name:
                self._define(names, name, np.asarray(value))

    def _glue(self, node: dict[str, Any], operator: Operator, attributes: dict[str, Any], inputs: list[int], names: ChainMap[str, int], member: str) -> None:
        least, most = operator.inputs
        outputs = node["outputs"]
        for name, place in operator.moved.items():
            if attributes.get(name) is not None:
                inputs += [NOTHING] * (place + 1 - len(inputs))
                inputs[place] = self._define(ChainMap(), name, np.asarray(attributes.pop(name)))
        if not least <= len(inputs) or NOTHING in inputs[:least] or (most is not None and len(inputs) > most):
            raise ValueError(f"must have {least}{'' if most == least else ' or more' if most is None else f' to {most}'} inputs, got {node['inputs']}")
        if not outputs or (operator.outputs is not None and any(outputs[operator.outputs :])):
            raise ValueError(f"must have at most {operator.outputs} outputs, got {outputs}")
        function = operator.bind(attributes, self.opset, len(outputs))
        known = [self.values[slot] for slot in inputs]
        if operator.folds and all(value is not None or slot == NOTHING for slot, value in zip(inputs, known, strict=True)) and self._afford(known):
            with limited_to(self.left), np.errstate(all="ignore"):
                result = function(*known)
            results = list(result) if isinstance(result, tuple) else [result]
            self._afford(results)
            self._give(node, names, results)
        else:
            ready = [self._listed(slot) if place in operator.vectors else slot for place, slot in enumerate(inputs)]
            self._later(function, ready, node, names, member, attributes)

    def _listed(self, slot: int) -> int:
        """A constant vector as a list, in a slot of its own."""
        value = self.values[slot]
        if not isinstance(value, np.ndarray):
            return slot
        self.values.append(integers(value))
        return len(self.values) - 1

    def _afford(self, arrays: list[Any]) -> bool:
        """Whether there is still work left for computing constants; what is read or written counts."""
        self.left -= sum(a.nbytes for a in arrays if a is not None) + 256
        return self.left > 0

    def _later(self, function: Any, inputs: list[int], node: dict[str, Any], names: ChainMap[str, int], member: str, attributes: dict[str, Any]) -> None:
        outputs = [self._define(names, name, None) if name else NOTHING for name in node["outputs"]]
        self.steps.append(Step(node["op"], attributes, function, inputs, outputs, member))

    def _recurrent(self, node: dict[str, Any], attributes: dict[str, Any], inputs: list[int], names: ChainMap[str, int], member: str) -> None:
        op, outputs = node["op"], node["outputs"]
        known = {name: (kind, None) for name, kind in ATTRIBUTES[op].items()}
        attributes = {name: check_attribute(name, value, known) for name, value in attributes.items()}
        most, results = (8, 3) if op == "LSTM" else (6, 2)
        if not 3 <= len(inputs) <= most or NOTHING in inputs[:3] or len(outputs) > results:
            raise ValueError(f"must have 3 to {most} inputs, the first three given, and at most {results} outputs, got {node['inputs']} and {outputs}")
        constants = {place: self.values[slot] for place, slot in enumerate(inputs) if self.values[slot] is not None}
        weights = [place for place in WEIGHTS if place < len(inputs) and inputs[place] != NOTHING]
        made = RecurrentNode(op, attributes, constants, weights, len(outputs), bool(outputs and outputs[0]), member)
        self._later(made, inputs, node, names, member, attributes)

    def _branch(self, node: dict[str, Any], inputs: list[int], names: ChainMap[str, int], member: str) -> None:
        """The branch that a constant condition chooses, in the node's place."""
        branches: dict[str, Any] = {name: value.get("graph") for name, value in node["attributes"].items() if isinstance(value, dict)}
        if set(branches) != {"then_branch", "else_branch"} or None in branches.values() or len(node["attributes"]) != 2 or len(inputs) != 1:
            raise ValueError("must have one input and the attributes then_branch and else_branch")
        condition = self.values[inputs[0]]
        if condition is None or condition.dtype != bool or condition.size != 1:
            raise ValueError("the condition must be a constant; one that depends on the inputs is not supported")
        chosen = branches["then_branch" if condition.reshape(()) else "else_branch"]
        slots = self._graph(chosen, names.new_child())
        if len(slots) != len(node["outputs"]):
            raise ValueError(f"the branch gives {len(slots)} outputs, the node has {len(node['outputs'])}")
        for name, slot in zip(node["outputs"], slots, strict=True):
            if not name or name in names:
                raise ValueError(f"gives '{name}', which has no name or one that is given twice")
            names[name] = slot
        for branch in branches.values():
            self._uses(branch)

    def _uses(self, graph: dict[str, Any]) -> None:
        """Initializers that only a branch that is left out takes have their use too."""
        for node in graph["nodes"]:
            for name in node["inputs"]:
                self.unused.pop(name, None)
            for value in node["attributes"].values():
                if isinstance(value, dict) and "graph" in value:
                    self._uses(value["graph"])
        for name in graph["outputs"]:
            self.unused.pop(name, None)

    def _by_shapes(self) -> tuple[list[Step], set[int]]:
        """The steps that look at the inputs' numbers, and the slots of what only their shapes decide."""
        moving, shaped = [], set[int]()
        for step in self.steps:
            op = step.op
            fixed = op in OPERATORS and OPERATORS[op].folds and all(slot == NOTHING or slot in self.known or slot in shaped for slot in step.inputs)
            if fixed or (op in ("Shape", "Size") and (step.inputs[0] in self.inputs or step.inputs[0] in shaped)):
                shaped |= set(step.outputs) - {NOTHING}
            else:
                moving.append(step)
        return moving, shaped

    # -- states ----------------------------------------------------------------------------------------------------------------

    def carried(self) -> dict[int, int]:
        """Inputs that are initial states of recurrent nodes, each with the output that the same nodes' final states make (places in the graph's lists).

        What only moves numbers may stand between: slices, concatenations, transpositions.
        """
        came: dict[int, set[int]] = {slot: {place} for place, slot in enumerate(self.inputs)}  # which inputs a value is made of
        starts: dict[int, set[Any]] = {}
        ends: dict[int, set[Any]] = {}  # of which final states a value is made
        for number, step in enumerate(self.steps):
            if isinstance(step.function, RecurrentNode):
                for which, slot in enumerate(step.inputs[5:7]):
                    for place in came.get(slot, ()):
                        starts.setdefault(place, set()).add((number, which))
                ends |= {slot: {(number, which)} for which, slot in enumerate(step.outputs[1:]) if slot != NOTHING}
            elif step.op in MOVES:
                for known in (came, ends):
                    found = set().union(*(known.get(slot, set()) for slot in step.inputs))
                    known.update({slot: found for slot in step.outputs if found})  # type: ignore[arg-type]
        outputs = [ends.get(slot) for slot in self.outputs]
        once = {place: own for place, own in starts.items() if list(starts.values()).count(own) == 1 and outputs.count(own) == 1}
        return {place: outputs.index(own) for place, own in once.items()}

    # -- running ---------------------------------------------------------------------------------------------------------------

    def run(self, given: list[np.ndarray]) -> list[np.ndarray]:
        """The outputs, in new arrays that share no memory."""
        found = self.again(given)
        if found is not None:
            return found
        values, found = self.trace(given), []
        for slot in self.outputs:
            found.append(self._own(values[slot], slot, [*given, *found]))
        return found

    def again(self, given: list[np.ndarray]) -> list[np.ndarray] | None:
        """As run, for arrays of shapes (and of the inputs' types) that came before; None for others, and wherever a closer look is needed."""
        known = self.kept.get(self._key(given))
        if known is None or known.standing is False:
            return None
        try:
            if known.standing is None:
                with limited_to(allowance(self.stored + sum([a.nbytes for a in given]))), np.errstate(all="ignore"):
                    known.standing = Standing(self.moving, self.inputs, self.outputs, known.values, given)
            return known.standing.run(given)
        except UnfitError:
            known.standing = False
        except BROKEN:
            pass  # which the way step by step meets again, and names the node
        return None

    @staticmethod
    def _key(given: list[np.ndarray]) -> tuple[Any, ...]:
        """What of a call decides how the graph runs."""
        return (*[array.shape for array in given], _engine.get_num_threads(), _engine.get_float32_matmul_precision())

    def trace(self, given: list[np.ndarray]) -> list[Any]:
        """The values in all slots."""
        key = self._key(given)
        known = self.kept.get(key)
        values = (self.values if known is None else known.values).copy()
        for slot, array in zip(self.inputs, given, strict=True):
            values[slot] = array
        with limited_to(allowance(self.stored + sum([a.nbytes for a in given]))), np.errstate(all="ignore"):
            for step in self.steps if known is None else self.moving:
                try:
                    result = step.function(*[values[i] for i in step.inputs])
                except BROKEN as error:
                    self._fail(step, error)
                if isinstance(result, tuple):
                    for slot, value in zip(step.outputs, result, strict=True):
                        values[slot] = value
                    values[NOTHING] = None
                else:
                    values[step.outputs[0]] = result
        if known is None:
            self._keep(key, values)
        return values

    def _keep(self, key: tuple[Any, ...], values: list[Any]) -> None:
        """Have what the shapes decided ready for the next call, if it is small."""
        if sum(np.asarray(values[slot]).nbytes for slot in self.shaped) > KEPT_BYTES or not all(isinstance(values[slot], np.ndarray | np.generic) for slot in self.shaped):
            return
        if len(self.kept) >= PLANS_KEPT:
            self.kept.pop(next(iter(self.kept)), None)
        self.kept[key] = Known([values[slot] if slot in self.shaped else value for slot, value in enumerate(self.values)])

    def _fail(self, step: Step, error: Exception) -> NoReturn:
        text = str(error).removesuffix(".")
        kind = FormatError if isinstance(error, FormatError) else ShapeError
        raise kind(f"{self.label}: {step.member}: {text}.") from error

    def _own(self, value: Any, slot: int, others: list[np.ndarray]) -> np.ndarray:
        """A result that shares no memory with these arrays and constants."""
        if not isinstance(value, np.ndarray | np.generic):
            raise FormatError(f"{self.label}: outputs: must be tensors, not sequences.")
        array = np.asarray(value)
        borrowed = array.base is not None or slot in self.known or slot in self.shaped or any(array is one for one in others)
        return array.copy() if borrowed else array


def _constant(attributes: dict[str, Any]) -> np.ndarray:
    """The value of a Constant node."""
    given = {name: check_attribute(name, value, _CONSTANT) for name, value in attributes.items()}
    if len(given) != 1:
        raise ValueError(f"must have one of the attributes {', '.join(_CONSTANT)}, got {list(attributes)}")
    (name, value), = given.items()
    return value if name == "value" else np.array(value, np.float32 if "float" in name else np.int64)
