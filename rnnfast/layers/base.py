"""Layer: config and weights, and how it describes itself to a plan. A layer never computes."""

from __future__ import annotations

import copy
import inspect
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from typing import Any

import numpy as np

from rnnfast import config, constraints, initializers, regularizers
from rnnfast.errors import NotBuiltError, ShapeError, suggest
from rnnfast.layers import graph
from rnnfast.layers.quantizing import Quantizable
from rnnfast.plan import Builder, Tensor, Variable

_counts: Counter[str] = Counter()
REGISTRY: dict[str, type[Layer]] = {}
_given: ContextVar[list[np.ndarray] | None] = ContextVar("given weights", default=None)


def register(cls: type[Layer]) -> type[Layer]:
    """Make a class known by name to saved configurations."""
    REGISTRY[cls.__name__] = cls
    return cls


def unique_name(prefix: str) -> str:
    """`prefix`, or `prefix_1`, `prefix_2`, ... if it was given out before."""
    _counts[prefix] += 1
    return prefix if _counts[prefix] == 1 else f"{prefix}_{_counts[prefix] - 1}"


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower().replace("1_d", "1d")


@contextmanager
def given_weights(arrays: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Weights that are made inside take these values in turn instead of drawing their own, so that a saved model's sizes are checked before memory is taken.

    Yields
    ------
    list of ndarray
        Those not taken yet.
    """
    left = list(arrays)
    token = _given.set(left)
    try:
        yield left
    finally:
        _given.reset(token)


class Layer(Quantizable):
    """Base of all layers.

    Parameters
    ----------
    name : str, optional
        Unique in a model; made from the class name if not given.
    dtype : {"float32", "float64"}, optional
        Of weights and arithmetic; `rnnfast.config.floatx()` if not given.
    trainable : bool
        Whether an optimizer changes the weights.
    """

    many = False  # whether it takes a list of inputs
    timed: bool | None = None  # whether the input needs a time axis; None: either
    uses_mask = False  # whether its output depends on which steps are masked
    streams = False  # whether a live stream can run it step by step
    waits_for = "it needs the whole sequence before its first output"  # why it cannot, if it cannot
    pace = 1  # steps of a live stream for one step of its output

    def __init__(self, *, name: str | None = None, dtype: str | None = None, trainable: bool = True, **unknown: Any) -> None:
        if unknown:
            known = {p for cls in type(self).__mro__[:-1] for p in inspect.signature(cls).parameters} - {"kwargs", "unknown"}
            raise TypeError(f"{type(self).__name__}: unknown argument {next(iter(unknown))!r}. {suggest(next(iter(unknown)), known)}")
        self.name = name or unique_name(snake_case(type(self).__name__))
        self.dtype = dtype or config.floatx()
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"{type(self).__name__} '{self.name}': dtype must be 'float32' or 'float64', got {dtype!r}.")
        self._trainable = bool(trainable)
        self.built = False
        self.input_shape: tuple[int | None, ...] | None = None
        self.weights: list[Variable] = []
        self._runner: Any = None

    # -- weights ---------------------------------------------------------------------------------------------------------------

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights for inputs of this shape, batch first (None where it may vary)."""
        if not self.built:
            self.input_shape = tuple(input_shape)
            self.create_weights(self.input_shape)
            self.built = True

    def create_weights(self, input_shape: tuple[int | None, ...]) -> None:
        """Subclasses add their variables here."""

    def add_weight(
        self, shape: tuple[int, ...], name: str, initializer: Any = None, regularizer: Any = None, constraint: Any = None, trainable: bool = True
    ) -> Variable:
        """Make one variable; without `trainable` it never trains, whatever the layer does."""
        given = _given.get()
        if given is None:
            value = self._drawn(shape, name, initializers.get("glorot_uniform" if initializer is None else initializer))
        else:
            value = np.asarray(given.pop(0) if given else (), self.dtype)
            if value.shape != tuple(shape):
                raise ShapeError(f"{type(self).__name__} '{self.name}': weight '{name}' must have shape {tuple(shape)}, the file has {value.shape}.")
        variable = Variable(value, name, self._trainable, not trainable, regularizer=regularizers.get(regularizer), constraint=constraints.get(constraint))
        variable.path = f"{self.name}/{name}"
        self.weights.append(variable)
        return variable

    def _drawn(self, shape: tuple[int, ...], name: str, initializer: Any) -> Any:
        """A new weight's value, or an error that names what memory cannot hold."""
        try:
            if prod(shape) * np.dtype(self.dtype).itemsize > sys.maxsize:
                raise MemoryError
            return initializer(shape, dtype=self.dtype)
        except MemoryError as error:
            raise MemoryError(f"{type(self).__name__} '{self.name}': weight '{name}' of shape {shape} does not fit into memory.") from error

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for layer in self.sublayers():
            layer.trainable = value
        for variable in self.weights:
            variable.trainable = self._trainable and not variable.fixed

    @property
    def has_states(self) -> bool:
        """Whether it has states that it starts from and leaves, and so a `describe_states` beside its `describe`."""
        return hasattr(self, "describe_states")

    def sublayers(self) -> list[Layer]:
        """Layers inside this one, forward before backward."""
        return []

    @property
    def trainable_variables(self) -> list[Variable]:
        return [v for v in self.weights if v.trainable]

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all weights, in Keras' order."""
        return [v.numpy() for v in self.weights]

    def set_weights(self, weights: list[Any]) -> None:
        """Set all weights from a list in the order of :meth:`get_weights`."""
        if not self.built:
            raise NotBuiltError(f"{type(self).__name__} '{self.name}': set_weights needs a built layer. Call build(input_shape) first.")
        assign_all(f"{type(self).__name__} '{self.name}'", self.weights, weights)

    def count_params(self) -> int:
        """Number of weights."""
        return sum(int(np.prod(v.shape, dtype=object)) for v in self.weights)

    # -- plans -----------------------------------------------------------------------------------------------------------------

    def describe(self, b: Builder, x: Tensor) -> Tensor:
        """Add this layer's ops to a plan and return its output."""
        raise NotImplementedError

    def output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape of the (first) output for an input shape, None where it may vary."""
        return shape

    def output_shapes(self, shape: Any) -> list[tuple[int | None, ...]]:
        """The shapes of all outputs, then of the states that the layer returns."""
        return [self.output_shape(shape)]

    def compute_mask(self, x: np.ndarray, mask: np.ndarray | None) -> np.ndarray | None:
        """The mask [B, T] that this layer makes of its input, for layers that make one."""
        return mask

    def stream_start(self) -> list[np.ndarray]:
        """What a live stream keeps of this layer from call to call, as it is at the start; arrays whose first axis has size 1."""
        return []

    def input_problem(self, features: tuple[int, ...], timed: bool) -> str | None:
        """What is wrong with an input of this kind, or None."""
        if self.timed is True and not timed:
            return f"input must have shape (B, T, I), got (B, {', '.join(map(str, features))})"
        return None

    # -- calls -----------------------------------------------------------------------------------------------------------------

    def runner(self) -> Any:
        """What runs this layer alone."""
        from rnnfast.layers.runner import Runner  # which imports this module

        if self._runner is None or not self._runner.current():
            self._runner = Runner(self._alone(), f"{type(self).__name__} '{self.name}'")
        return self._runner

    def _alone(self) -> graph.Graph:
        """The graph of this layer on inputs of the shapes that it was built for."""
        if not self.many:
            return graph.chain([self])
        inputs = [graph.Symbol(shape) for shape in self.input_shape or ()]  # type: ignore[arg-type]
        outputs = graph.apply(self, inputs)
        return graph.between(inputs, outputs)

    def __call__(self, x: Any, mask: Any = None, initial_state: Any = None, training: bool = False, lengths: Any = None) -> Any:
        """Run the layer on an array, or a list of them where it takes several; returns an array, or a list where the layer returns states.

        On the symbols of a graph (`Input(...)` and what layers made of it) it returns symbols, from which `rnnfast.Model` makes a model.
        """
        symbols = graph.symbols_of(x)
        if symbols is not None:
            return self._apply(symbols, [] if initial_state is None else graph.symbols_of(initial_state))
        self._build_for(x)
        return self.runner().predict(x, mask=mask, lengths=lengths, initial_state=initial_state, training=training)

    def _apply(self, inputs: list[graph.Symbol], states: list[graph.Symbol] | None) -> Any:
        if states is None or (states and not self.has_states):
            raise TypeError(f"{type(self).__name__} '{self.name}': initial_state must be symbols, of a recurrent layer, where the input is one.")
        if len(inputs) > 1 and not self.many:
            raise ValueError(f"{type(self).__name__} '{self.name}': takes one input, got {len(inputs)}.")
        self.build([s.shape for s in inputs] if self.many else inputs[0].shape)  # type: ignore[arg-type]
        outputs = graph.apply(self, inputs, states)
        return outputs if len(outputs) > 1 else outputs[0]

    def _build_for(self, x: Any) -> None:
        if not self.built:
            self.build([(None, *np.shape(one)[1:]) for one in x] if self.many else (None, *np.shape(x)[1:]))  # type: ignore[arg-type]

    def vjp(self, x: Any, dy: Any, mask: Any = None, lengths: Any = None, initial_state: Any = None, dstates: Any = None, training: bool = False) -> dict[str, Any]:
        """Gradients of sum(dy * y) + sum(dstates * states).

        Returns
        -------
        dict
            "y": the output as from a call; "x", "weights", "initial_state": gradients.
        """
        self._build_for(x)
        return self.runner().vjp(x, dy, mask=mask, lengths=lengths, initial_state=initial_state, dstates=dstates, training=training)

    # -- configuration ---------------------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        return {"name": self.name, "trainable": self._trainable, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        """Make a layer from :meth:`get_config`'s result."""
        return cls(**config)

    # -- copies ----------------------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """What pickles and copies hold: all but plans, which are made anew."""
        return self.__dict__ | {"_runner": None}

    def __copy__(self) -> Layer:
        """A layer with weights of its own, as `copy.deepcopy` gives it: two layers that share some of what they hold would change each other."""
        return copy.deepcopy(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} '{self.name}'>"


def assign_all(owner: str, variables: list[Variable], values: list[Any]) -> None:
    """Set all variables, or none: numbers and shapes are checked first."""
    if len(values) != len(variables):
        raise ValueError(f"{owner}: weights must be {len(variables)} arrays, got {len(values)}.")
    for variable, value in zip(variables, values, strict=True):
        if np.shape(value) != variable.shape:
            raise ShapeError(f"{owner}: weight '{variable.path}' must have shape {variable.shape}, got {np.shape(value)}.")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def serialize(layer: Layer) -> dict[str, Any]:
    """{"class_name", "config"} of a layer, and "quantization" where it is quantized."""
    saved = {"class_name": type(layer).__name__, "config": layer.get_config()}
    return saved | {"quantization": layer._quantization} if layer._quantization else saved


def deserialize(saved: dict[str, Any]) -> Layer:
    """A layer from :func:`serialize`'s result; only names of this package are known."""
    name = saved.get("class_name")
    if name not in REGISTRY:
        raise ValueError(f"Unknown layer {name!r}. {suggest(name, REGISTRY)}")
    layer = REGISTRY[name].from_config(dict(saved.get("config") or {}))
    if saved.get("quantization"):
        layer.quantize(saved["quantization"])
    return layer


def positive(owner: Layer, argument: str, value: Any) -> int:
    """value as a positive int, or an error that names the layer and argument."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value <= 0:
        raise ValueError(f"{type(owner).__name__} '{owner.name}': {argument} must be a positive integer, got {value!r}.")
    return int(value)


def rate(owner: Layer, argument: str, value: Any) -> float:
    """value as a dropout rate in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 <= value < 1:
        raise ValueError(f"{type(owner).__name__} '{owner.name}': {argument} must be a number in [0, 1), got {value!r}.")
    return float(value)
