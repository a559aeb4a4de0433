"""PyTorch's state dicts, names and arrays without code: a model made of one, one made of a model, and the numbers of one put into a model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from rnnfast import layers
from rnnfast.interop._torch_parts import RECURRENT, Part, of_layer, split, turned
from rnnfast.interop.bounds import as_format_error, refuse
from rnnfast.layers.base import assign_all, given_weights
from rnnfast.models.sequential import Sequential

_BUILD = "Build the model in rnnfast and use model.load_weights, or give from_torch the module itself"
_SEARCHED, _TRIES = 24, 5000  # modules whose order is looked for, and steps of that


def to_state_dict(model: Any) -> dict[str, np.ndarray]:
    """A model's weights by PyTorch's names and in its layout, for `load_state_dict` of a module with the same layers.

    A layer's name is its module's: LSTM 'rnn' gives "rnn.weight_ih_l0". Layers 'rnn_l0' and 'rnn_l1' are the levels of one module "rnn" with num_layers=2, and 'l0'
    is the first level of a module that is nothing else. Where the layer has one bias, it becomes `bias_ih`, and `bias_hh` is zeros.

    Parameters
    ----------
    model : Sequential or Model
        Built, of SimpleRNN (tanh or relu), LSTM, GRU (reset_after), ProjectedLSTM, alone or in Bidirectional (concat), Dense, Embedding, Conv1D,
        LayerNormalization, BatchNormalization, these in TimeDistributed, and any layers without weights.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    FormatError
        If PyTorch has no module that computes what a layer does; the text names the layer and the argument.

    Examples
    --------
    >>> from rnnfast import Input, Sequential, layers
    >>> from rnnfast.interop.torch import to_state_dict
    >>> model = Sequential([Input((None, 3)), layers.GRU(4, name="rnn"), layers.Dense(2, name="head")])
    >>> {name: array.shape for name, array in to_state_dict(model).items()}
    {'rnn.weight_ih_l0': (12, 3), 'rnn.weight_hh_l0': (12, 4), 'rnn.bias_ih_l0': (12,), 'rnn.bias_hh_l0': (12,), 'head.weight': (2, 4), 'head.bias': (2,)}
    """
    found: dict[str, np.ndarray] = {}
    flat = _flattened(model)
    for layer, part in zip(_weighted(model), _parts_of(model), strict=True):
        if layer in flat:
            part.tensors["weight"] = turned(part.tensors["weight"].T, *flat[layer]).T
        level = f"_l{part.level}" if part.level is not None else ""
        for role, array in part.tensors.items():
            name, back = role.removesuffix("_reverse"), "_reverse" if role.endswith("_reverse") else ""
            full = f"{part.prefix}.{name}{level}{back}".removeprefix(".")
            if full in found:
                refuse(model.name, full, f"layers '{part.prefix}' and '{part.prefix}{level}' would both give a tensor of this name; rename one")
            found[full] = np.ascontiguousarray(array)
    return found


def _weighted(model: Any) -> list[Any]:
    model.runner()  # which says so if the model is not built
    return [layer for layer in model.layers if layer.weights]


def _parts_of(model: Any) -> list[Part]:
    return [of_layer(model.name, layer) for layer in _weighted(model)]


def _flattened(model: Any) -> dict[Any, tuple[int, int]]:
    """The Dense layers that take a convolution's output flattened, each with the steps and channels of that: PyTorch's modules flatten it the other way round."""
    channels, found = set(), {}
    flat: dict[Any, tuple[int, int]] = {}
    for node in model.runner().graph.nodes:
        layer, y = node.layer, node.outputs[0]
        x = next((one for one in node.inputs if one in flat), node.inputs[0])
        passes = not isinstance(layer, layers.LayerNormalization) and (not layer.weights or isinstance(layer, layers.BatchNormalization))
        if isinstance(layer, layers.Conv1D) or (x in channels and passes and len(y.shape) == 3):
            channels.add(y)
        elif x in channels and isinstance(layer, layers.Flatten):
            flat[y] = x.shape[1], x.shape[2]
        elif x in flat and isinstance(layer, layers.Dense):
            found[layer] = flat[x]
        elif x in flat and not layer.weights and not layer.many and y.shape == x.shape:
            flat[y] = flat[x]
        elif x in flat:
            refuse(model.name, f"{type(layer).__name__} '{layer.name}'", "stands behind a Flatten of a convolution's output, whose values stand in another order in PyTorch. Only a Dense can follow")
    return found


def load_state_dict(model: Any, tensors: Mapping[str, Any], source: str = "state dict", in_order: bool = True) -> None:
    """Set a model's weights from a PyTorch state dict, all of them from all of it.

    The layers find their tensors by name, as :func:`to_state_dict` gives them. If the names are others, they find them by kind and shape; where several have the
    same shapes, in the order in which the tensors stand.

    Parameters
    ----------
    model : Sequential or Model
        Built.
    tensors : mapping of str to tensor or array_like
    source : str
        As errors name it.
    in_order : bool
        Whether the order of `tensors` means anything. If not, layers of equal shapes must have the names, or prefixes that are numbered.

    Raises
    ------
    FormatError
        If a tensor has no place or a layer finds no tensors; the text names them, with shapes.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import Input, Sequential, layers
    >>> from rnnfast.interop.torch import load_state_dict
    >>> model = Sequential([Input((3,)), layers.Dense(2)])
    >>> load_state_dict(model, {"fc.weight": np.ones((2, 3), np.float32), "fc.bias": np.zeros(2, np.float32)})
    >>> model.predict_on_batch(np.ones((1, 3), np.float32))
    array([[3., 3.]], dtype=float32)
    """
    flat, wanted, given = _flattened(model), _parts_of(model), split(source, tensors)
    variables, arrays = [], []
    for layer, want, part in zip(_weighted(model), wanted, _matched(source, wanted, given, in_order), strict=True):
        if part.shapes != want.shapes:
            refuse(source, part.name, f"must have {want.shapes} for {type(layer).__name__} '{layer.name}', got {part.shapes}")
        inner = layer.layer if type(layer) is layers.TimeDistributed else layer
        variables += layer.weights
        own = part.weights(type(getattr(inner, "forward_layer", inner)).__name__)
        if layer in flat:
            own[0] = turned(own[0], *flat[layer][::-1])
        arrays += own
    assign_all(model.name, variables, arrays)


def _matched(source: str, wanted: list[Part], given: list[Part], in_order: bool) -> list[Part]:
    """For each wanted part the given one."""
    named = {part.key: part for part in given}
    if {part.key for part in wanted} == set(named):
        return [named[part.key] for part in wanted]
    groups: dict[str, list[Part]] = {}
    for part in given if in_order else sorted(given, key=lambda one: _numbered(one.name)):
        groups.setdefault(str(part.shapes), []).append(part)
    counts = Counter(str(part.shapes) for part in wanted)
    if counts != Counter({shapes: len(group) for shapes, group in groups.items()}):
        told = ["; ".join(f"'{part.name}' {part.shapes}" for part in some) for some in (given, wanted)]
        refuse(source, "state dict", f"its tensors must be those of the model's layers. It has {told[0]}. The model needs {told[1]}")
    for group in groups.values():
        if not in_order and len({_numbered(part.name)[0] for part in group}) > 1:
            names = ", ".join(f"'{part.name}'" for part in group)
            refuse(source, "state dict", f"{names} have equal shapes, and this file keeps no order. Name the model's layers as the tensors are named")
    return [groups[str(part.shapes)].pop(0) for part in wanted]


def _numbered(name: str) -> tuple[str, list[int]]:
    """A name as what stays when its numbers are taken out, and the numbers."""
    return re.sub(r"\d+", "#", name), [int(n) for n in re.findall(r"\d{1,9}", name)]


def from_state_dict(tensors: Mapping[str, Any], source: str = "state dict", in_order: bool = True, nonlinearity: str | None = None) -> Sequential:
    """The model that a state dict describes: an Embedding, recurrent modules with norms between them, a Linear, each on all steps of the one before.

    Parameters
    ----------
    tensors : mapping of str to tensor or array_like
    source : str
        As errors name it.
    in_order : bool
        Whether the order of `tensors` means anything. Where it does not, or does not fit, the only order that fits is taken.
    nonlinearity : {"tanh", "relu"}, optional
        Of the RNNs, about which a state dict says nothing.

    Returns
    -------
    Sequential

    Raises
    ------
    FormatError
        If names or shapes leave the model open.
    """
    parts = _in_a_row(source, split(source, tensors), in_order)
    if nonlinearity not in (None, "tanh", "relu"):
        raise ValueError(f"from_torch: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}.")
    dtype = "float64" if any(a.dtype == np.float64 for part in parts for a in part.tensors.values()) else "float32"
    made, arrays = [], []
    for i, part in enumerate(parts):
        kind = ("Embedding" if i == 0 else "Dense") if part.kind == "table" else part.kind
        if kind == "SimpleRNN" and nonlinearity is None:
            refuse(source, part.name, f"an RNN, but a state dict does not say whether with tanh or relu. Give from_torch nonlinearity='tanh' or 'relu'. Or {_BUILD.lower()}")
        made.append(_layer(part, kind, dtype, nonlinearity or "tanh"))
        arrays += part.weights(kind)
    start = (None,) if type(made[0]) is layers.Embedding else (None, parts[0].widths[0])
    with as_format_error(source, "state dict"), given_weights(arrays):
        return Sequential([layers.Input(start, dtype=dtype), *made])


def _layer(part: Part, kind: str, dtype: str, nonlinearity: str) -> Any:
    common: dict[str, Any] = {"name": part.name, "dtype": dtype}
    if kind in RECURRENT:
        return part.layer(dtype, nonlinearity)
    if kind == "Embedding":
        return layers.Embedding(*part.tensors["weight"].shape, **common)
    if kind == "Dense":
        return layers.Dense(part.widths[1], use_bias="bias" in part.tensors, **common)
    if kind == "LayerNormalization":
        return layers.LayerNormalization(epsilon=1e-5, **common)
    affine = "weight" in part.tensors
    return layers.BatchNormalization(epsilon=1e-5, momentum=0.9, center=affine, scale=affine, **common)


def _in_a_row(source: str, parts: list[Part], in_order: bool) -> list[Part]:
    """The parts as they follow each other: in their own order if that fits, else in the only one that does."""
    for part in parts:
        if part.kind in ("", "Conv1D") or (part.kind == "LayerNormalization" and part.tensors["weight"].ndim > 1):
            refuse(source, part.name, f"its tensors do not say what it computes: {part.shapes}. {_BUILD}")
    if not any(part.kind in RECURRENT for part in parts):
        refuse(source, "state dict", f"has no recurrent module, so nothing says what stands between its layers. {_BUILD}")
    if in_order and _fits(parts):
        _check_order(source, parts)
        return parts
    modules = [_Module(prefix, [part for part in parts if part.prefix == prefix]) for prefix in dict.fromkeys(part.prefix for part in parts)]
    tries = iter(range(_TRIES))
    found = list(islice(_orders(modules, [], tries), 2)) if len(modules) <= _SEARCHED else []
    if len(found) != 1 or next(tries, None) is None:
        how = "several orders of its modules fit" if found else "its modules fit each other in no order (an Embedding first, then recurrent modules and norms, one Linear last)"
        shapes = "; ".join(f"'{part.name}' {part.shapes}" for part in parts)
        refuse(source, "state dict", f"{how}: {shapes}. What stands between Linear layers, a state dict does not say. {_BUILD}")
    return found[0]


def _check_order(source: str, parts: list[Part]) -> None:
    """Refuse recurrent modules that could change places: a file has them in the order in which they were made, which need not be that in which they run."""
    ends: dict[tuple[int, int], str] = {}
    for prefix in dict.fromkeys(part.prefix for part in parts if part.kind in RECURRENT):
        levels = [part for part in parts if part.prefix == prefix]
        other = ends.setdefault((levels[0].widths[0], levels[-1].widths[1]), prefix)
        if re.sub(r"\d", "", other) != re.sub(r"\d", "", prefix):
            refuse(source, "state dict", f"'{other}' and '{prefix}' have equal widths, so that nothing says which runs first, or that one reads the other. {_BUILD}")


def _fits(parts: list[Part], whole: bool = True) -> bool:
    """Whether each takes what the one before gives, and each stands where its kind can."""
    width = None
    for i, part in enumerate(parts):
        first, last = i == 0, whole and i == len(parts) - 1
        if (part.kind == "Dense" and i < len(parts) - 1) or (part.kind == "table" and not (first or i == len(parts) - 1)):
            return False
        if part.kind == "table" and first:
            if last or (len(parts) > 1 and part.widths[1] == parts[1].widths[0] == part.widths[0]):
                return False  # an Embedding or a Linear
            width = part.widths[0]
            continue
        if width not in (None, part.widths[0]):
            return False
        width = part.widths[1]
    return True


class _Module:
    def __init__(self, prefix: str, parts: list[Part]) -> None:
        self.parts, (self.pattern, self.numbers) = parts, _numbered(prefix)

    def behind(self, others: list[_Module]) -> bool:
        """Whether one of the others has the same name with a smaller number."""
        return any(other.pattern == self.pattern and other.numbers < self.numbers for other in others)


def _orders(left: list[_Module], before: list[Part], tries: Iterator[int]) -> Iterator[list[Part]]:
    """The orders in which modules fit, as long as there are tries."""
    if not left and _fits(before):
        yield before
    for module in left:
        if not module.behind(left) and _fits([*before, *module.parts], False) and next(tries, None) is not None:
            yield from _orders([other for other in left if other is not module], [*before, *module.parts], tries)
