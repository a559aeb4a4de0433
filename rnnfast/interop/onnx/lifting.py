"""A graph as a model of layers. Nodes are followed with what their axes are; what computes becomes a layer, and at the end the numbers judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnfast import layers as made_of
from rnnfast.activations import LEAKY
from rnnfast.interop.bounds import BROKEN, refuse
from rnnfast.interop.onnx.axes import BATCH, BOTH_WAYS, FEATURES, TIME, WAY, Axes, UnfitError, Value
from rnnfast.interop.onnx.lifting_recurrent import LAST, MERGES, SEQUENCE, pairs_of, recurrent
from rnnfast.interop.onnx.lifting_weights import Owners
from rnnfast.interop.onnx.operators import OPERATORS
from rnnfast.interop.onnx.program import NOTHING, Step
from rnnfast.interop.onnx.recurrent import RecurrentNode
from rnnfast.models.files import agree
from rnnfast.models.model import Model
from rnnfast.models.sequential import Sequential

if TYPE_CHECKING:
    from rnnfast.interop.onnx.model import OnnxModel

_ACTIVATIONS: list[tuple[str, dict[str, Any], str]] = [  # operator, its parameters, the activation
    ("Relu", {}, "relu"), ("Tanh", {}, "tanh"), ("Sigmoid", {}, "sigmoid"), ("Softplus", {}, "softplus"), ("Softsign", {}, "softsign"), ("Selu", {"alpha": 1.6732632, "gamma": 1.050701}, "selu"), ("HardSwish", {}, "hard_silu"),
    ("Mish", {}, "mish"), ("Elu", {"alpha": 1.0}, "elu"), ("Celu", {"alpha": 1.0}, "celu"), *(("LeakyRelu", {"alpha": slope}, name) for name, slope in LEAKY.items()), ("Gelu", {"approximate": "none"}, "gelu"),
    ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}, "hard_sigmoid_02"), ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, "hard_sigmoid"),
    ("Softmax", {}, "softmax"), ("LogSoftmax", {}, "log_softmax"),
]  # fmt: skip
_JOINS: dict[str, Any] = {"Add": made_of.Add, "Sum": made_of.Add, "Mean": made_of.Average, "Mul": made_of.Multiply, "Sub": made_of.Subtract}
_POOLS: dict[str, tuple[Any, Callable[..., Any]]] = {
    "ReduceMean": (made_of.GlobalAveragePooling1D, np.mean), "GlobalAveragePool": (made_of.GlobalAveragePooling1D, np.mean),
    "ReduceMax": (made_of.GlobalMaxPooling1D, np.max), "GlobalMaxPool": (made_of.GlobalMaxPooling1D, np.max),
}  # fmt: skip
FAR = 1 << 30  # bounds of slices beyond it stand for the end
_SAME = ("Identity", "Dropout", "Cast")
_REGROUPED = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
_PARTS = ("Gather", "Slice", "Split")


def to_layers(model: OnnxModel) -> Sequential | Model:
    """See :meth:`OnnxModel.to_layers`."""
    attempts: list[tuple[int, str, str]] = []
    pairs = pairs_of(model._program)
    for time_first, together in product((False, True), (pairs, {}) if pairs else ({},)):
        wanted: dict[int, dict[str, str]] = {}
        attempt = Lifting(model, time_first, together, wanted)
        try:
            attempt.build()
            attempt = Lifting(model, time_first, together, wanted, sure=True)
            made = attempt.build()
            attempt.judge(made)
            return made
        except UnfitError as error:
            attempts.append((attempt.reached, attempt.member, str(error)))
        except BROKEN as error:
            attempts.append((attempt.reached, attempt.member, str(error).removesuffix(".")))
    _, member, reason = max(attempts, key=lambda one: (one[0], "axes" not in one[2]))  # of two that ended at a node, that which read the axes as the node does
    return refuse(model.label, member, f"has no layer: {reason}. The graph runs as it is (OnnxModel) and can be saved as '.rnnf'")


class Lifting:
    """One attempt, under one reading of the inputs' axes.

    Parameters
    ----------
    model : OnnxModel
    time_first : bool
        Whether the time is the first axis of inputs.
    pairs : dict of int to int
        Recurrent nodes whose two directions become one layer, each with the other.
    wanted : dict of int to dict of str to str
        Which results of a recurrent node are used, and how their directions are joined: what a first attempt finds and a second one, which is `sure`, makes.
    """

    def __init__(self, model: OnnxModel, time_first: bool, pairs: dict[int, int], wanted: dict[int, dict[str, str]], sure: bool = False) -> None:
        self.model, self.program, self.time_first, self.pairs, self.wanted, self.sure = model, model._program, time_first, pairs, wanted, sure
        self.reached, self.member = -1, "inputs"
        self.results: dict[tuple[int, str], Any] = {}  # symbols of recurrent nodes
        self.pending: dict[int, list[Value]] = {}  # of a pair's second node, whose values are known since the first
        self.weights: list[tuple[Any, list[np.ndarray]]] = []
        self.owners = Owners()
        self.chain: list[Any] = []
        self.straight = True

    def build(self) -> Sequential | Model:
        """The model, with its weights."""
        program = self.program
        states: dict[int, Axes] = {}  # inputs that are a recurrent node's
        for step in program.steps:
            if isinstance(step.function, RecurrentNode):
                states |= dict.fromkeys(step.inputs[5:7], [BATCH, (), FEATURES] if step.function.layout else [(), BATCH, FEATURES])
        self.places = [self._places(*declared, states.get(slot)) for slot, declared in zip(program.inputs, self.model.inputs.values(), strict=True)]
        self.known = program.trace(self.sample(2, 5))
        self.constant = {slot for slot, given in enumerate(program.values) if given is not None}
        self.dtype = "float64" if any(isinstance(one, np.ndarray) and one.dtype == np.float64 for one in self.known) else "float32"
        self.values = {slot: self._input(slot, axes, dims) for slot, axes, (_, dims) in zip(program.inputs, self.places, self.model.inputs.values(), strict=True)}
        self.inputs = list(self.values.values())
        self.end = self.inputs[0].symbol if len(self.inputs) == 1 else None
        for self.reached, step in enumerate(program.steps):
            self.member = step.member
            self._step(step)
        self.member = "outputs"
        self.outputs = [self.flattened(self.values[slot]) if slot in self.values else _unfit("an output does not depend on the inputs") for slot in program.outputs]
        if self.straight and self.chain and len(self.outputs) == 1 and self.outputs[0].symbol is self.end:
            made: Sequential | Model = Sequential([made_of.Input(self.inputs[0].symbol.shape, dtype=self.dtype), *self.chain])
        else:
            made = Model([value.symbol for value in self.inputs], [value.symbol for value in self.outputs])
        for layer, arrays in self.weights:
            layer.set_weights(arrays)
        return made

    def judge(self, made: Sequential | Model) -> None:
        """Compare with the graph, also for other sizes than those that were followed."""
        for batch, time in ((2, 5), (3, 7), (9, 67)):
            given = self.sample(batch, time)
            found = made.predict_on_batch([value.arranged(x, tuple(x.shape[value.axes.index((atom,))] for atom in ("B", "T", *value.features) if (atom,) in value.axes)) for value, x in zip(self.inputs, given, strict=True)])
            found = found if isinstance(found, list) else [found]
            expected = [value.arranged(y, mine.shape) for value, y, mine in zip(self.outputs, self.program.run(given), found, strict=True)]
            if not agree(found, expected):
                raise UnfitError("layers that seem to fit give other numbers")

    # -- inputs ----------------------------------------------------------------------------------------------------------------

    def _places(self, dtype: str, dims: Any, state: Axes | None) -> Axes:
        """What an input's axes are: a state's, tokens', features'."""
        if dims is None:
            raise UnfitError("an input's shape is not given")
        floats = np.dtype(dtype).kind == "f"
        if state and len(dims) == 3:
            return state
        rows: Axes = [TIME, BATCH] if self.time_first else [BATCH, TIME]
        known: dict[tuple[bool, int], Axes] = {(True, 2): [BATCH, FEATURES], (True, 3): [*rows, FEATURES], (False, 2): rows}
        axes = known.get((floats, len(dims)))
        if axes is None or (floats and not isinstance(dims[-1], int)):
            raise UnfitError(f"an input of {dtype} and shape {tuple(dims)}")
        return axes

    def _input(self, slot: int, axes: Axes, dims: Any) -> Value:
        array = self.known[slot]
        sizes = {axis[0]: size for axis, size in zip(axes, array.shape, strict=True) if axis}
        fixed = {axis[0]: n for axis, n in zip(axes, dims, strict=True) if axis and isinstance(n, int)}
        symbol = made_of.Input(tuple(fixed.get(atom) for atom in "TF" if atom in sizes), dtype=self.dtype)
        return Value(symbol, axes, sizes, FEATURES if "F" in sizes else ())

    def sample(self, batch: int, time: int) -> list[np.ndarray]:
        """Random inputs of so many rows and steps, where the graph leaves them open."""
        rng, made = np.random.default_rng(time), []
        for axes, (dtype, dims) in zip(self.places, self.model.inputs.values(), strict=True):
            shape = [n if isinstance(n, int) else batch if axis == BATCH else time if axis == TIME else 1 for axis, n in zip(axes, dims or (), strict=True)]
            made.append(np.asarray(rng.standard_normal(shape) if np.dtype(dtype).kind == "f" else rng.integers(0, 2, shape)).astype(dtype))
        return made

    # -- nodes -----------------------------------------------------------------------------------------------------------------

    def _step(self, step: Step) -> None:
        if any(slot in self.values for slot in step.outputs) or not any(slot in self.values for slot in step.inputs) or step.member.endswith(("(Shape)", "(Size)")):
            return
        if isinstance(step.function, RecurrentNode):
            results = recurrent(self, step.function, step)
        else:
            op = step.op
            given = [self.values.get(slot, self.known[slot]) for slot in step.inputs]
            results = _HANDLERS.get(op, Lifting._unknown)(self, op, step, given)
            results = results if isinstance(results, list) else [results]
        self.values |= {slot: value for slot, value in zip(step.outputs, results, strict=False) if slot != NOTHING}

    def ahead(self, number: int) -> None:
        """Follow what a later node takes before it is its turn."""
        steps, wanted = self.program.steps, set(self.program.steps[number].inputs)
        needed = []
        for step in reversed(steps[self.reached : number]):
            if wanted & set(step.outputs) - {NOTHING}:
                needed.append(step)
                wanted |= set(step.inputs)
        if steps[self.reached] in needed:
            raise UnfitError("one of two directions starts from the other")
        for step in reversed(needed):
            self._step(step)

    def _unknown(self, op: str, step: Step, given: list[Any]) -> Value:
        raise UnfitError(f"{op} of what depends on the inputs")

    def _attribute(self, step: Step, op: str, name: str) -> Any:
        return getattr(step.function, "keywords", {}).get(name, OPERATORS[op].attributes[name][1])

    def apply(self, layer: Any, symbols: Any, weights: list[np.ndarray] | None = None, stored: list[np.ndarray] | None = None, **options: Any) -> Any:
        """What a layer gives, or the one before it that has its weights; the chain ends where one takes something else than what the one before it gave.

        `stored`: the graph's arrays that `weights` are made of, if it has them in another form.
        """
        owner = self.owners.layer(layer, weights if stored is None else stored) if weights else layer
        if owner is layer and weights:
            self.weights.append((layer, weights))
        found = owner(symbols, **options)
        self.straight = self.straight and owner is layer and symbols is self.end and not options and not isinstance(found, list)
        self.end = found
        self.chain.append(owner)
        return found

    def made(self, value: Any) -> Value:
        """The value with a symbol of its own numbers."""
        if not isinstance(value, Value):
            raise UnfitError("it takes a constant there")
        if value.way is not None:
            raise UnfitError("one of two directions is used alone")
        if value.turned:
            raise UnfitError("all outputs of the direction 'reverse' in the input's order, which go_backwards gives in the other one")
        if value.came is not None:
            self.wanted.setdefault(value.came[0], {}).setdefault(value.came[1], "Concat")
        return self._product(value) if value.kernel is not None else value

    def flattened(self, value: Any) -> Value:
        """The value, with the features of all steps side by side if the graph's tensor has them so."""
        value = self.made(value)
        if value.axes[-1] == (*TIME, *value.features):
            value = replace(value, symbol=self.apply(made_of.Flatten(dtype=self.dtype), value.symbol), axes=[*value.axes[:-1], FEATURES], features=FEATURES, came=None)
            value.sizes = value.sizes | {"F": value.symbol.shape[-1]}
        return value

    def featured(self, value: Any) -> Value:
        """The value whose last axis is the features'."""
        value = self.flattened(value)
        if value.axes[-1] != value.features:
            raise UnfitError("the last axis is not the features'")
        return value

    def _of(self, value: Value, symbol: Any, **changes: Any) -> Value:
        return replace(value, symbol=symbol, came=None, kernel=None, **changes)

    def _product(self, value: Value, bias: np.ndarray | None = None) -> Value:
        assert value.kernel is not None
        layer = made_of.Dense(value.kernel.shape[1], use_bias=bias is not None, dtype=self.dtype)
        return self._of(value, self.apply(layer, value.symbol, [value.kernel] if bias is None else [value.kernel, bias]), axes=[*value.axes[:-1], FEATURES], features=FEATURES)

    # -- operators -------------------------------------------------------------------------------------------------------------

    def _same(self, op: str, step: Step, given: list[Any]) -> Value:
        if self.known[step.inputs[0]].dtype.kind != self.known[step.outputs[0]].dtype.kind:
            raise UnfitError("it changes the kind of numbers")
        return given[0]  # type: ignore[no-any-return]

    def _transpose(self, op: str, step: Step, given: list[Any]) -> Value:
        perm = self._attribute(step, op, "perm") or range(len(given[0].axes))[::-1]
        return replace(given[0], axes=[given[0].axes[i] for i in perm])

    def _regroup(self, op: str, step: Step, given: list[Any]) -> Value:
        value = given[0] if given[0].kernel is None else self.made(given[0])
        return value.regrouped(self.known[step.outputs[0]].shape)

    def _part(self, op: str, step: Step, given: list[Any]) -> Any:
        """Rows of a table by tokens; the last step; one direction."""
        if op == "Gather" and not isinstance(given[0], Value):
            table, tokens = given[0], given[1]
            if self._attribute(step, op, "axis") or table.ndim != 2 or tokens.features:
                raise UnfitError("it does not look up rows of a table")
            layer = made_of.Embedding(*table.shape, dtype=self.dtype)
            return self._of(tokens, self.apply(layer, tokens.symbol, [table]), axes=[*tokens.axes, FEATURES], sizes=tokens.sizes | {"F": table.shape[1]}, features=FEATURES)
        if op == "Slice":
            self._bounds(step, given[0])
        return [self._one_part(given[0], self.known[step.inputs[0]], self.known[slot]) for slot in step.outputs]

    def _bounds(self, step: Step, value: Any) -> None:
        """Refuse a slice that takes all rows or steps of the run that is followed, but not of longer ones."""
        whole, part = self.known[step.inputs[0]], self.known[step.outputs[0]]
        starts, ends, *rest = ([int(n) for n in self.known[slot]] for slot in step.inputs[1:] if slot != NOTHING)
        axes, steps = rest[0] if rest else range(len(starts)), rest[1] if len(rest) > 1 else [1] * len(starts)
        for start, end, axis, stride in zip(starts, ends, axes, steps, strict=True):
            first, last = (start == 0 or start < -FAR, end > FAR) if stride > 0 else (start == -1 or start > FAR, end < -FAR)
            if {"B", "T"} & set(value.axes[axis]) and whole.shape[axis] == part.shape[axis] and not (first and last) and step.inputs[2] in self.constant:
                raise UnfitError("a slice that ends where longer sequences or larger batches go on")

    def _one_part(self, value: Any, whole: np.ndarray, part: np.ndarray) -> Value:
        if not isinstance(value, Value):
            raise UnfitError("what it takes does not depend on the inputs, but its place does")
        time, way = value.place(TIME), value.place(WAY)
        if part.size == whole.size and (part.ravel() == whole.ravel()).all():
            return value.regrouped(part.shape)
        if time is not None and part.size == whole.take(-1, time).size and (part.ravel() == whole.take(-1, time).ravel()).all() and value.came is not None:
            last = (value.came[0], LAST)
            if value.came[1] == SEQUENCE and last in self.results and value.features == FEATURES:
                return replace(value, symbol=self.results[last], came=last).regrouped(part.shape, "T")
        if time is not None and value.came is not None and part.shape == whole.shape and (part == np.flip(whole, time)).all():
            return replace(value, turned=not value.turned)
        for i in range(2 if way is not None else 0):
            if part.size == whole.take(i, way).size and (part.ravel() == whole.take(i, way).ravel()).all():
                return replace(value, way=i).regrouped(part.shape, "D")
        raise UnfitError("it takes a part that is neither the last step of one direction nor one of two directions' states")

    def _matmul(self, op: str, step: Step, given: list[Any]) -> Value:
        value, kernel = given[0], given[1]
        if op == "Gemm" and (self._attribute(step, op, "transA") or self._attribute(step, op, "alpha") != 1 or (len(given) > 2 and self._attribute(step, op, "beta") != 1)):
            raise UnfitError("transA, alpha and beta must be 0, 1 and 1")
        if isinstance(kernel, Value) or kernel.ndim != 2:
            raise UnfitError("it does not multiply by a constant matrix")
        kernel = kernel.T if op == "Gemm" and self._attribute(step, op, "transB") else kernel
        value = self.featured(value)
        value = replace(value, kernel=kernel, sizes=value.sizes | {"F": kernel.shape[1]})
        return self._join("Add", step, [value, given[2]]) if len(given) > 2 and given[2] is not None else value

    def _join(self, op: str, step: Step, given: list[Any]) -> Value:
        """A bias, or several values."""
        if len(given) == 1:
            return self.made(given[0])
        a, b = given[:2] if isinstance(given[0], Value) else given[1::-1]
        if [getattr(one, "way", None) for one in given] == [0, 1] and a.symbol is b.symbol and a.axes == b.axes and a.axes[-1] == ("H",) and op in MERGES:
            return self._merged(op, a)
        if not isinstance(b, Value) and op == "Add" and a.kernel is not None and b.size == a.kernel.shape[1] == b.shape[-1]:
            return self._product(a, b.reshape(-1))
        parts = [self.made(one) for one in given]
        if any((one.axes, one.sizes, one.features) != (parts[0].axes, parts[0].sizes, parts[0].features) for one in parts):
            raise UnfitError("what it joins does not have the same axes")
        return self._of(parts[0], self.apply(_JOINS[op](dtype=self.dtype), [one.symbol for one in parts]))

    def _merged(self, op: str, value: Value) -> Value:
        """Both directions of a recurrent node in one, which its layer gives if nothing else is made of that result."""
        assert value.came is not None
        if self.sure and self.wanted[value.came[0]][value.came[1]] != op:
            raise UnfitError("two directions that are joined in two ways")
        self.wanted.setdefault(value.came[0], {})[value.came[1]] = op
        symbol = value.symbol if self.sure else self.apply(made_of.Dense(value.sizes["H"], dtype=self.dtype), value.symbol)  # of the width that it will have
        return replace(value, symbol=symbol, way=None, axes=[*value.axes[:-1], FEATURES], features=FEATURES, sizes=value.sizes | {"F": value.sizes["H"]})

    def _concat(self, op: str, step: Step, given: list[Any]) -> Value:
        if not all(isinstance(one, Value) for one in given):
            raise UnfitError("it joins constants with what depends on the inputs")
        last = self._attribute(step, op, "axis") % len(given[0].axes) == len(given[0].axes) - 1
        if last and [one.way for one in given] == [0, 1] and given[0].symbol is given[1].symbol and given[0].axes == given[1].axes and given[0].axes[-1] == ("H",):
            if self.sure and given[0].came is not None and self.wanted[given[0].came[0]][given[0].came[1]] != op:
                raise UnfitError("two directions that are joined in two ways")
            return replace(given[0], way=None, axes=[*given[0].axes[:-1], BOTH_WAYS])
        parts = [self.featured(one) for one in given]
        if not last or any(one.axes[:-1] != parts[0].axes[:-1] for one in parts):
            raise UnfitError("it does not join features")
        symbol = self.apply(made_of.Concatenate(dtype=self.dtype), [one.symbol for one in parts])
        return self._of(parts[0], symbol, axes=[*parts[0].axes[:-1], FEATURES], features=FEATURES, sizes=parts[0].sizes | {"F": symbol.shape[-1]})

    def _activation(self, op: str, step: Step, given: list[Any]) -> Value:
        value = self.featured(given[0]) if op.endswith("Softmax") else self.made(given[0])
        axis = self._attribute(step, op, "axis") if op.endswith("Softmax") else None
        if axis not in (None, -1, len(value.axes) - 1):
            raise UnfitError("it is not over the features")
        for name, parameters, activation in _ACTIVATIONS:
            if name == op and all(np.isclose(v, wanted) if isinstance(wanted, float) else v == wanted for p, wanted in parameters.items() for v in [self._attribute(step, op, p)]):
                return self._of(value, self.apply(made_of.Activation(activation, dtype=self.dtype), value.symbol))
        raise UnfitError("an activation of these parameters")

    def _normalization(self, op: str, step: Step, given: list[Any]) -> Value:
        value, arrays = self.made(given[0]), given[1:]
        rows = op == "LayerNormalization"
        place = self._attribute(step, op, "axis") % len(value.axes) if rows else 1
        if value.axes[place] != value.features or (rows and place != len(value.axes) - 1) or any(isinstance(one, Value) for one in arrays):
            raise UnfitError("it is not over the features")
        if rows and len(arrays) == 1:
            arrays = [*arrays, np.zeros_like(arrays[0])]
        layer = (made_of.LayerNormalization if rows else made_of.BatchNormalization)(epsilon=self._attribute(step, op, "epsilon"), dtype=self.dtype)
        return self._of(value, self.apply(layer, value.symbol, arrays))

    def _pool(self, op: str, step: Step, given: list[Any]) -> Value:
        value, (layer, function) = self.made(given[0]), _POOLS[op]
        whole, found, time = self.known[step.inputs[0]], self.known[step.outputs[0]], value.place(TIME)
        if time is None or found.size * whole.shape[time] != whole.size or not np.allclose(function(whole, time).ravel(), found.ravel(), atol=1e-5):
            raise UnfitError("it is not over the time")
        return self._of(value.regrouped(found.shape, "T"), self.apply(layer(dtype=self.dtype), value.symbol))

    def _conv(self, op: str, step: Step, given: list[Any]) -> Value:
        value, kernel, bias = self.made(given[0]), given[1], given[2] if len(given) > 2 else None
        get = lambda name: self._attribute(step, op, name)
        if value.axes != [BATCH, value.features, TIME] or isinstance(kernel, Value) or kernel.ndim != 3 or get("auto_pad") not in ("NOTSET", "VALID"):
            raise UnfitError("it is no convolution over time with a constant kernel and given pads")
        pads, (stride, *_), (dilation, *_) = get("pads") or [0, 0], get("strides") or [1], get("dilations") or [1]
        symbol = self.apply(made_of.ZeroPadding1D(tuple(pads), dtype=self.dtype), value.symbol) if any(pads) else value.symbol
        layer = made_of.Conv1D(kernel.shape[0], kernel.shape[2], stride, dilation_rate=dilation, groups=get("group"), use_bias=bias is not None, dtype=self.dtype)
        arrays = [kernel.transpose(2, 1, 0)] + ([] if bias is None else [bias])
        sizes = value.sizes | {"F": kernel.shape[0], "T": self.known[step.outputs[0]].shape[2]}
        return self._of(value, self.apply(layer, symbol, arrays), axes=[BATCH, FEATURES, TIME], features=FEATURES, sizes=sizes)


_HANDLERS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(_SAME, Lifting._same), **dict.fromkeys(_REGROUPED, Lifting._regroup), **dict.fromkeys(_PARTS, Lifting._part),
    **dict.fromkeys(("MatMul", "Gemm"), Lifting._matmul), **dict.fromkeys(_JOINS, Lifting._join), **dict.fromkeys(_POOLS, Lifting._pool),
    **dict.fromkeys((name for name, _, _ in _ACTIVATIONS), Lifting._activation),
    **dict.fromkeys(("LayerNormalization", "BatchNormalization"), Lifting._normalization),
    "Transpose": Lifting._transpose, "Concat": Lifting._concat, "Conv": Lifting._conv,
}  # fmt: skip


def _unfit(reason: str) -> Any:
    raise UnfitError(reason)
