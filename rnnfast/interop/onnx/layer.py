"""The layer behind ONNX's RNN, LSTM and GRU: the directions of one node, on the fused cells where these have the activations, else on the general ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any

import numpy as np

from rnnfast import _engine
from rnnfast.activations import LEAKY
from rnnfast.errors import suggest
from rnnfast.layers.base import Layer
from rnnfast.plan import Builder, Tensor, Variable
from rnnfast.plan.direction import Direction
from rnnfast.plan.general import GeneralDirection, GeneralPart
from rnnfast.plan.recurrent import add_recurrent

GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
ROLES = {"RNN": ("Tanh",), "LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh")}  # the default activations
KERAS_ORDER = {"RNN": [0], "LSTM": [0, 2, 3, 1], "GRU": [0, 1, 2]}  # from ONNX's i, o, f, c

# (alpha, beta) where the file gives none; None: it must. A function takes as many from the attributes as it has.
PARAMETERS: dict[str, tuple[float | None, ...]] = {
    "Relu": (), "Tanh": (), "Sigmoid": (), "Softsign": (), "Softplus": (),
    "LeakyRelu": (0.01,), "ThresholdedRelu": (1.0,), "Elu": (1.0,), "Affine": (None, None), "ScaledTanh": (None, None), "HardSigmoid": (0.2, 0.5),
}  # fmt: skip
FUSED: dict[tuple[Any, ...], str] = {  # what a fused cell calls them
    ("Relu",): "relu", ("Tanh",): "tanh", ("Sigmoid",): "sigmoid", ("Softsign",): "softsign", ("Softplus",): "softplus",
    ("Elu", 1.0): "elu", **{("LeakyRelu", number): name for name, slope in LEAKY.items() for number in (slope, float(np.float32(slope)))}, ("Affine", 1.0, 0.0): "linear", ("ScaledTanh", 1.0, 1.0): "tanh",
    ("HardSigmoid", 0.2, 0.5): "hard_sigmoid_02", ("HardSigmoid", float(np.float32(0.2)), 0.5): "hard_sigmoid_02", ("HardSigmoid", float(np.float32(1 / 6)), 0.5): "hard_sigmoid",
}  # fmt: skip


@dataclass
class Settings:
    """The attributes of a node, checked.

    Attributes
    ----------
    op : {"RNN", "LSTM", "GRU"}
    units : int
    functions : list of list of tuple
        For each direction and role the activation's name and parameters.
    backwards : list of bool
        For each direction.
    clip : float
    coupled, reset_after : bool
    """

    op: str
    units: int
    functions: list[list[tuple[Any, ...]]]
    backwards: list[bool]
    clip: float = inf
    coupled: bool = False
    reset_after: bool = False


def settings_of(op: str, units: int, attributes: dict[str, Any]) -> Settings:
    """Check the attributes that do not depend on the arrays."""
    directions = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    direction = attributes.get("direction", "forward")
    if direction not in directions:
        raise ValueError(f"direction: unknown {direction!r}. {suggest(direction, directions)}")
    backwards = directions[direction]
    clip = attributes.get("clip")
    if clip is not None and not (isfinite(clip) and clip > 0):
        raise ValueError(f"clip must be a positive number, got {clip}")
    functions = _functions(op, len(backwards), attributes)
    flags = [attributes.get(name, 0) for name in ("input_forget", "linear_before_reset")]
    if any(flag not in (0, 1) for flag in flags):
        raise ValueError(f"input_forget and linear_before_reset must be 0 or 1, got {flags}")
    return Settings(op, units, functions, backwards, inf if clip is None else clip, bool(flags[0]), bool(flags[1]))


def _functions(op: str, directions: int, attributes: dict[str, Any]) -> list[list[tuple[Any, ...]]]:
    """Each direction's activations; alphas and betas go in order to those that have such parameters."""
    names = [str(name) for name in attributes.get("activations") or ROLES[op] * directions]
    roles = len(ROLES[op])
    if len(names) != roles * directions:
        raise ValueError(f"activations must be {roles * directions} names, got {len(names)}")
    given = [list(attributes.get(f"activation_{which}") or []) for which in ("alpha", "beta")]
    by_lower = {name.lower(): name for name in PARAMETERS}
    found = []
    for name in names:
        known = by_lower.get(name.lower())
        if known is None:
            raise ValueError(f"activations: unknown {name!r}. {suggest(name, PARAMETERS)}")
        values = [float(given[i].pop(0)) if given[i] else default for i, default in enumerate(PARAMETERS[known])]
        if None in values:
            raise ValueError(f"activations: {known} has no default parameters; give them in activation_alpha and activation_beta")
        found.append((known, *values))
    if any(given):
        raise ValueError(f"activation_alpha and activation_beta hold more numbers than {names} take: {given} are left over")
    return [found[i * roles : (i + 1) * roles] for i in range(directions)]


@dataclass
class Way:
    """One direction: its weights, of Keras' layout."""

    functions: list[tuple[Any, ...]]
    backwards: bool
    weights: dict[str, Variable] = field(default_factory=dict)


class OnnxRecurrent(Layer):
    """A node's recurrence over [B, T, I]: with `sequence` all outputs [B, T, D H], then each direction's final states [B, H].

    Parameters
    ----------
    settings : Settings
    arrays : list of ndarray or None
        W, R, B and P as ONNX has them; their shapes are checked.
    sequence : bool
        Whether the outputs of all steps are wanted.
    """

    timed = True
    uses_mask = True

    def __init__(self, settings: Settings, arrays: list[np.ndarray | None], sequence: bool, name: str) -> None:
        w, r, bias, peepholes = arrays
        assert w is not None and r is not None
        super().__init__(name=name, dtype=w.dtype.name)
        self.settings, self.sequence, self.return_state = settings, sequence, True
        self.states = len(settings.backwards) * (2 if settings.op == "LSTM" else 1)
        self.state_sizes = [settings.units] * self.states
        self.ways = [Way(functions, backwards) for functions, backwards in zip(settings.functions, settings.backwards, strict=True)]
        for i, way in enumerate(self.ways):
            general = self._fused(way) is None
            for role, value in self._weights(general, w[i], r[i], None if bias is None else bias[i], None if peepholes is None else peepholes[i]).items():
                way.weights[role] = Variable(np.ascontiguousarray(value), role, False)
                way.weights[role].path = f"{name}/{i}/{role}"
                self.weights.append(way.weights[role])
        self.build((None, None, w.shape[2]))

    def _weights(self, general: bool, w: np.ndarray, r: np.ndarray, bias: np.ndarray | None, peephole: np.ndarray | None) -> dict[str, np.ndarray]:
        """One direction's weights in Keras' layout and order."""
        s, gates = self.settings, GATES[self.settings.op]
        order = KERAS_ORDER[s.op]
        of_gates = lambda a: a.reshape(gates, s.units, *a.shape[1:])[order].reshape(a.shape)
        found = {"kernel": of_gates(w).T, "recurrent_kernel": of_gates(r).T}
        if bias is not None:
            inner, outer = (of_gates(half) for half in np.split(bias, 2))
            if s.op == "GRU" and s.reset_after and general:
                found |= {"bias": np.concatenate([(inner + outer)[: 2 * s.units], inner[2 * s.units :]]), "recurrent_bias": outer[2 * s.units :]}
            else:
                found["bias"] = np.stack([inner, outer]) if s.op == "GRU" and s.reset_after else inner + outer
        if peephole is not None:
            found["peephole"] = peephole.reshape(3, s.units)[[0, 2, 1]].reshape(-1)
        return found

    def _fused(self, way: Way) -> tuple[str, str] | None:
        """The activations of a fused cell (state, gates) that computes the same, or None."""
        s = self.settings
        names = [FUSED.get(function) for function in way.functions]
        if s.clip < inf or s.coupled or None in names or (s.op == "LSTM" and names[1] != names[2]):
            return None
        return (str(names[0]), "linear") if s.op == "RNN" else (str(names[1]), str(names[0]))

    def _direction(self, way: Way, initial: list[Tensor]) -> Direction:
        s, w = self.settings, way.weights
        cell = {"RNN": "simple_rnn", "LSTM": "lstm", "GRU": "gru" if s.reset_after else "gru_reset_before"}[s.op]
        fused = self._fused(way)
        common = {"units": s.units, "kernel": w["kernel"], "recurrent_kernel": w["recurrent_kernel"], "bias": w.get("bias"), "vectors": w.get("peephole"),
                  "backwards": way.backwards, "zero_output": True, "initial": initial}  # fmt: skip
        if fused is not None:
            return Direction(cell="peephole_lstm" if "peephole" in w else cell, activation=fused[0], recurrent_activation=fused[1], **common)  # type: ignore[arg-type]
        functions = [(name, *(*values, 0.0, 0.0)[:2]) for name, *values in way.functions]
        return GeneralDirection(
            cell=cell, activation="linear", recurrent_activation="linear", layer=GeneralPart, functions=functions, clip=s.clip, coupled=s.coupled,
            recurrent_bias=w.get("recurrent_bias"), **common,  # type: ignore[arg-type]
        )  # fmt: skip

    def output_shapes(self, shape: Any) -> list[tuple[int | None, ...]]:
        width = self.settings.units
        return [(shape[0], shape[1], len(self.ways) * width)] * self.sequence + [(shape[0], width)] * self.states

    def describe_states(self, b: Builder, x: Tensor, initial: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        each = self.states // len(self.ways)
        directions = [self._direction(way, initial[i * each : (i + 1) * each]) for i, way in enumerate(self.ways)]
        results = add_recurrent(b, x, directions, self.sequence, False, True, concat=len(directions) == 2)
        outputs = [results[0].sequence] if self.sequence else []
        return outputs, [state for result in results for state in result.states]  # type: ignore[return-value]


assert set(PARAMETERS) == set(_engine.FUNCTIONS)
