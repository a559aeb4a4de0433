"""PyTorch's names and layouts of weights, and the layers' own: gates in another order, matrices transposed, one bias or two."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, NoReturn

import numpy as np

from rnnfast import layers
from rnnfast.interop.bounds import refuse

_NAME = re.compile(
    r"(?:(?P<prefix>.+)\.)?(?:(?P<cell>(?:weight|bias)_(?:ih|hh)|weight_hr)(?:_l(?P<level>\d{1,4}))?(?P<back>_reverse)?"
    r"|(?P<plain>weight|bias|running_mean|running_var|num_batches_tracked))"
)
_LEVEL = re.compile(r"(?:(?P<prefix>.+)_)?l(?P<level>\d{1,4})")
_GATES = {1: "SimpleRNN", 3: "GRU", 4: "LSTM"}
_PLAIN = {
    "kernel": "weight", "embeddings": "weight", "gamma": "weight", "bias": "bias", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var",
}  # fmt: skip
PLAIN = ("weight", "bias", "running_mean", "running_var")
RECURRENT = ("SimpleRNN", "LSTM", "GRU", "ProjectedLSTM")
MOST = 256


@dataclass
class Part:
    """The tensors of one layer: of one level of a recurrent module in both directions, or of a module without levels.

    Attributes
    ----------
    prefix : str
        The module's place in what it is a part of, as "encoder.0"; empty for the whole.
    level : int or None
        Of a recurrent module; None of a cell and of other modules.
    tensors : dict of str to ndarray
        By role, in PyTorch's layout: "weight_ih", "weight_ih_reverse", "weight".
    """

    prefix: str
    level: int | None
    tensors: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        """What the layer is called: "encoder.0_l1"."""
        return "_".join(([self.prefix] if self.prefix else []) + ([] if self.level is None else [f"l{self.level}"])) or "module"

    @property
    def key(self) -> tuple[str, int]:
        """What tells parts of a file from each other; a cell is level 0."""
        return self.prefix, self.level or 0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What two parts must have in common to take each other's numbers."""
        return {role: self.tensors[role].shape for role in sorted(self.tensors) if role != "num_batches_tracked"}

    @property
    def both(self) -> bool:
        """Whether there is a reverse direction."""
        return "weight_ih_reverse" in self.tensors

    @property
    def units(self) -> int:
        """Size of the cell of a recurrent part."""
        return int((self.tensors.get("weight_hr", self.tensors["weight_hh"])).shape[1])

    @property
    def kind(self) -> str:
        """The class of its layer, or "table" for a matrix alone, of an Embedding or a Linear without bias; "" if there is none."""
        weight = self.tensors.get("weight")
        if "weight_ih" in self.tensors:
            found = _GATES.get(self.tensors["weight_ih"].shape[0] // max(self.units, 1), "")
            return "ProjectedLSTM" if found == "LSTM" and "weight_hr" in self.tensors else found
        if "running_mean" in self.tensors:
            return "BatchNormalization"
        if weight is None or not 1 <= weight.ndim <= 3:
            return ""
        if "bias" in self.tensors and self.tensors["bias"].shape == weight.shape:
            return "LayerNormalization"
        return {1: "", 2: "Dense" if "bias" in self.tensors else "table", 3: "Conv1D"}[weight.ndim]

    @property
    def widths(self) -> tuple[int, int]:
        """Features that go in and come out; of a table as those of a Linear."""
        if "weight_ih" in self.tensors:
            out = self.tensors["weight_hh"].shape[1]
            return self.tensors["weight_ih"].shape[1], 2 * out if self.both else out
        shape = self.tensors.get("weight", self.tensors.get("running_mean", np.empty(0))).shape
        return (shape[-1], shape[0]) if len(shape) == 2 else (shape[0], shape[0])

    def weights(self, kind: str) -> list[np.ndarray]:
        """The weights of a layer of this kind, new arrays in its order."""
        if kind in RECURRENT:
            found = _direction(kind, self.tensors, "") + (_direction(kind, self.tensors, "_reverse") if self.both else [])
        else:
            turned = kind in ("Dense", "Conv1D")
            found = [self.tensors[role].T if turned else self.tensors[role] for role in PLAIN if role in self.tensors]
        return [np.array(one, order="C") for one in found]

    def layer(self, dtype: str, activation: str = "tanh", return_state: bool = False) -> Any:
        """The recurrent layer of this part, which gives all steps; its weights are not made."""
        options: dict[str, Any] = {"use_bias": "bias_ih" in self.tensors, "return_sequences": True, "return_state": return_state, "dtype": dtype}
        if self.kind == "SimpleRNN":
            options["activation"] = activation
        if self.kind == "ProjectedLSTM":
            options["projection"] = self.tensors["weight_hr"].shape[0]
        one = getattr(layers, self.kind)(self.units, name=self.name, **options)
        return layers.Bidirectional(one, name=self.name) if self.both else one


def _swapped(kind: str, a: np.ndarray) -> np.ndarray:
    """PyTorch's gates r, z, n of the last axis as the layers' z, r, h, and the other way round."""
    if kind != "GRU":
        return a
    first, second, last = np.split(a, 3, axis=-1)
    return np.concatenate([second, first, last], axis=-1)


def _direction(kind: str, tensors: Mapping[str, np.ndarray], end: str) -> list[np.ndarray]:
    found = [_swapped(kind, tensors[role + end].T) for role in ("weight_ih", "weight_hh")]
    if f"bias_ih{end}" in tensors:
        pair = [_swapped(kind, tensors[role + end]) for role in ("bias_ih", "bias_hh")]
        found.append(np.stack(pair) if kind == "GRU" else pair[0] + pair[1])
    return found + ([tensors[f"weight_hr{end}"].T] if kind == "ProjectedLSTM" else [])


def _direction_tensors(kind: str, layer: Any, end: str) -> dict[str, np.ndarray]:
    found = {v.name: v.numpy() for v in layer.weights}
    tensors = {f"weight_ih{end}": _swapped(kind, found["kernel"]).T, f"weight_hh{end}": _swapped(kind, found["recurrent_kernel"]).T}
    if layer.use_bias:
        pair = _swapped(kind, found["bias"]) if kind == "GRU" else [found["bias"], np.zeros_like(found["bias"])]
        tensors |= {f"bias_ih{end}": pair[0], f"bias_hh{end}": pair[1]}
    if kind == "ProjectedLSTM":
        tensors[f"weight_hr{end}"] = found["projection_kernel"].T
    return tensors


# From PyTorch


def turned(kernel: np.ndarray, first: int, second: int) -> np.ndarray:
    """A Dense layer's kernel [first * second, units] for inputs that are flattened the other way round: PyTorch flattens [C, T], rnnfast [T, C]."""
    return np.ascontiguousarray(kernel.reshape(first, second, -1).transpose(1, 0, 2)).reshape(kernel.shape)


def split(source: str, tensors: Mapping[str, Any]) -> list[Part]:
    """The parts of a state dict in the order of their first names; levels of one module stand together."""
    found: dict[tuple[str, int | None], Part] = {}
    for name, value in tensors.items():
        match = _NAME.fullmatch(name) if isinstance(name, str) else None
        if match is None:
            refuse(source, repr(name)[:200], "is not a name that RNN, LSTM, GRU, their cells, Linear, Embedding, LayerNorm, BatchNorm1d or Conv1d give a tensor")
        prefix, level = match["prefix"] or "", None if match["level"] is None else int(match["level"])
        role = match["plain"] or match["cell"] + (match["back"] or "")
        part = found.setdefault((prefix, level), Part(prefix, level, {}))
        part.tensors[role] = _numbers(source, name, role, value)
    if not 0 < len(found) <= MOST:
        refuse(source, "state dict", f"must have tensors of 1 to {MOST} layers, got those of {len(found)}")
    modules: dict[str, list[Part]] = {}
    for part in found.values():
        modules.setdefault(part.prefix, []).append(part)
    for module in modules.values():
        module.sort(key=lambda part: part.level or 0)
        for part in module:
            _check(source, part)
        _check_levels(source, module)
    return list(chain(*modules.values()))


def _numbers(source: str, name: str, role: str, value: Any) -> np.ndarray:
    """A tensor or array as float32 or float64; the two short floats of 16 bits are numbers of float32, exactly."""
    if hasattr(value, "detach"):
        value = value.detach()
        if getattr(value, "is_sparse", False) or getattr(value, "is_quantized", False) or getattr(value, "is_meta", False) or value.is_complex():
            refuse(source, name, f"must be a dense tensor of floats, got {value.layout}, {value.dtype} on {value.device}")
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).cpu().numpy()
    array = np.asarray(value)
    wanted = "iu" if role == "num_batches_tracked" else "f"
    if array.dtype.kind not in wanted or array.dtype.itemsize > 8:
        refuse(source, name, f"must hold {'integers' if role == 'num_batches_tracked' else 'floats'}, got dtype {array.dtype}")
    if array.dtype.kind != "f":
        return array
    return array.astype(np.float64 if array.dtype.itemsize == 8 else np.float32, copy=False)


def _check_levels(source: str, module: list[Part]) -> None:
    levels = [part.level for part in module]
    if levels not in ([None], list(range(len(levels)))):
        refuse(source, module[0].name, f"must have the levels 0, 1, ... of one recurrent module, got {levels}")
    for before, part in pairwise(module):
        if part.widths[0] != before.widths[1]:
            refuse(source, part.name, f"weight_ih must take the {before.widths[1]} features that the level before gives, got shape {part.shapes['weight_ih']}")


def _check(source: str, part: Part) -> None:
    """All tensors of one layer are there, of shapes that fit each other."""
    t, first = part.tensors, part.tensors.get("weight", part.tensors.get("running_mean"))
    if not {*PLAIN, "num_batches_tracked"} >= set(t):
        _check_recurrent(source, part)
        return
    statistics = {"running_mean", "running_var"} & set(t)
    fits = first is not None and 1 <= first.ndim <= 3 and 0 not in first.shape and len(statistics) != 1 and (bool(statistics) or "num_batches_tracked" not in t)
    if fits and first is not None:
        rest = first.shape if part.kind == "LayerNormalization" else first.shape[:1]
        fits = all(t[role].shape == rest for role in t if role not in ("weight", "num_batches_tracked"))
    if not fits:
        refuse(source, part.name, f"the tensors do not fit one Linear, Embedding, LayerNorm, BatchNorm1d or Conv1d: {_told(part)}")


def _check_recurrent(source: str, part: Part) -> None:
    t, missing = part.tensors, [role for role in ("weight_ih", "weight_hh") if role not in part.tensors]
    if missing or t["weight_ih"].ndim != 2 or t.get("weight_hr", t["weight_hh"]).ndim != 2 or t["weight_hh"].ndim != 2:
        refuse(source, part.name, f"is no recurrent module, which has matrices weight_ih and weight_hh: {_told(part)}")
    inputs, rows = t["weight_ih"].shape[1], t["weight_ih"].shape[0]
    expected: dict[str, tuple[int, ...]] = {"weight_ih": (rows, inputs), "weight_hh": (rows, t["weight_hh"].shape[1])}
    if "weight_hr" in t:
        expected["weight_hr"] = (t["weight_hh"].shape[1], part.units)
    if "bias_ih" in t:
        expected |= {"bias_ih": (rows,), "bias_hh": (rows,)}
    if part.both:
        expected |= {f"{role}_reverse": shape for role, shape in expected.items()}
    if not part.kind or not inputs or rows not in (part.units, 3 * part.units, 4 * part.units) or part.shapes != dict(sorted(expected.items())):
        refuse(source, part.name, f"shapes do not fit one module of RNN, LSTM or GRU: {_told(part)}, expected {_shapes(expected)}")
    if "weight_hr" in t and part.kind != "ProjectedLSTM":
        refuse(source, part.name, f"a projection is an LSTM's: {_told(part)}")


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{role} {shape}" for role, shape in shapes.items())


def _told(part: Part) -> str:
    return f"got {_shapes(part.shapes)}"


# To PyTorch


def of_layer(owner: str, layer: Any) -> Part:
    """The tensors that PyTorch's module of the same computation has."""
    inner = layer.layer if type(layer) is layers.TimeDistributed else layer
    match = _LEVEL.fullmatch(layer.name)
    if type(inner) is layers.Bidirectional:
        tensors = _both_directions(owner, inner)
    elif type(inner).__name__ in RECURRENT:
        tensors = _one_direction(owner, inner)
    else:
        return Part(layer.name, None, _plain_tensors(owner, inner))
    return Part((match["prefix"] or "") if match else layer.name, int(match["level"]) if match else 0, tensors)


def _no(owner: str, layer: Any, reason: str) -> NoReturn:
    refuse(owner, f"{type(layer).__name__} '{layer.name}'", reason)


def _plain_tensors(owner: str, layer: Any) -> dict[str, np.ndarray]:
    if not isinstance(layer, layers.Dense | layers.Embedding | layers.Conv1D | layers.LayerNormalization | layers.BatchNormalization):
        _no(owner, layer, "PyTorch has no module with these weights. SimpleRNN, LSTM, GRU, ProjectedLSTM, Bidirectional, Dense, Embedding, Conv1D, LayerNormalization and BatchNormalization have one")
    found = {_PLAIN[v.name]: v.numpy().T if v.name == "kernel" else v.numpy() for v in layer.weights}
    if isinstance(layer, layers.LayerNormalization | layers.BatchNormalization):
        pair = ("weight" in found, "bias" in found)
        if pair == (False, True) or (pair == (True, False) and "running_mean" in found):
            _no(owner, layer, f"center and scale must both be set or unset in PyTorch, got center={layer.center}, scale={layer.scale}")
        if "running_mean" in found:
            found["num_batches_tracked"] = np.array(0, np.int64)
    return found


def _one_direction(owner: str, layer: Any, backwards: bool = False) -> dict[str, np.ndarray]:
    kind = type(layer).__name__
    if kind not in RECURRENT:
        _no(owner, layer, f"PyTorch has no such recurrent module, only {', '.join(RECURRENT)}")
    known = ("tanh", "relu") if kind == "SimpleRNN" else ("tanh",)
    wanted: dict[str, tuple[Any, ...]] = {"activation": known, "recurrent_activation": ("linear" if kind == "SimpleRNN" else "sigmoid",), "reset_after": (True,), "go_backwards": (backwards,)}
    wanted |= {"zoneout": (0.0,), "zoneout_cell": (0.0,), "trained_initial_state": (False,)}
    for argument, values in wanted.items():
        got = getattr(layer, argument, values[0])
        if got not in values:
            _no(owner, layer, f"{argument}={got!r} is not PyTorch's, which computes with {' or '.join(map(repr, values))}")
    return _direction_tensors(kind, layer, "_reverse" if backwards else "")


def _both_directions(owner: str, layer: Any) -> dict[str, np.ndarray]:
    one, other = layer.forward_layer, layer.backward_layer
    if layer.merge_mode != "concat":
        _no(owner, layer, f"merge_mode={layer.merge_mode!r} is not PyTorch's, which concatenates both directions")
    tensors = _one_direction(owner, one) | _one_direction(owner, other, True)
    if type(one) is not type(other) or one.activation != other.activation or {f"{r}_reverse" for r in tensors if not r.endswith("_reverse")} - set(tensors):
        _no(owner, layer, "the two directions must be layers of one kind and size")
    _check_recurrent(owner, Part(layer.name, 0, tensors))
    return tensors
