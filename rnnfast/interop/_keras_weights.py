"""Where Keras keeps weights: in groups by class and number (Keras 3, and .keras files since 2.12), or in lists by layer (.h5 files of all versions)."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from rnnfast import layers
from rnnfast.interop._hdf5 import Tree
from rnnfast.interop._keras_config import Net, Part
from rnnfast.interop._keras_layers import places
from rnnfast.interop.bounds import refuse
from rnnfast.layers.base import snake_case

_OLD_ROOT = "_layer_checkpoint_dependencies"
_OF_TRAINING = re.compile(r"(^|/)(optimizer|metrics|optimizer_weights)/|(^|/)(seed_generator|_random_generator|random_generator)/")


def part_places(part: Part) -> list[tuple[str, list[bool]]]:
    """As `places`, of a Keras layer that became one or more."""
    found = [place for layer in part.layers for place in places(layer)]
    cell = part.saved.get("config", {}).get("cell") if part.kind == "RNN" else None
    if cell and cell["class_name"] == "StackedRNNCells":
        names = numbered(one["class_name"] for one in cell["config"]["cells"])
        return [(f"cell/cells/{name}", kinds) for name, (_, kinds) in zip(names, found, strict=True)]
    return found


def numbered(kinds: Iterable[str]) -> Iterator[str]:
    """The names of a container's entries: by class, from the second of a class on with a number."""
    counts: Counter[str] = Counter()
    for name in map(snake_case, kinds):
        yield f"{name}_{counts[name]}" if counts[name] else name
        counts[name] += 1


def fill_from_groups(net: Net, tree: Tree, root: str = "", known: dict[str, list[list[np.ndarray]]] | None = None) -> None:
    """Give each part its weights from groups by class and number. `known`: the weights of layers so far, by what they are."""
    known = {} if known is None else known
    container = f"{root}{_OLD_ROOT}" if f"{root}{_OLD_ROOT}" in tree.groups else f"{root}layers"
    parts = [part for part in net.parts.values() if part.layers or part.net]
    for part, name in zip(parts, _group_names(parts, tree, container), strict=True):
        base = f"{container}/{name}"
        if part.net is not None:
            fill_from_groups(part.net, tree, f"{base}/", known)
            continue
        arrays = []
        for sub, kinds in part_places(part):
            saved, place = _innermost(part.saved, sub)
            same = known.setdefault(f"{saved['class_name']} {place} {json.dumps(_unshared(saved.get('config')), sort_keys=True)}", [])
            names = [f"{base}/{f'{sub}/' if sub else ''}vars/{i}" for i in range(len(kinds))]
            if "shared_object_id" not in saved or len(same) != 1 or any(name in tree.datasets for name in names):
                same.append([tree.take(name) for name in names])
            arrays += same[-1]  # a layer that is in the model once more has its weights where Keras met it first
        _give(part, arrays, tree.path)


def _unshared(config: Any) -> Any:
    """A configuration without what says which of its parts Keras met before."""
    if isinstance(config, dict):
        return {key: _unshared(value) for key, value in config.items() if key != "shared_object_id"}
    return [_unshared(one) for one in config] if isinstance(config, list) else config


def _innermost(saved: dict[str, Any], sub: str) -> tuple[dict[str, Any], str]:
    """The layer inside wrappers that has the weights at a place, and what is left of the place."""
    head, _, rest = sub.partition("/")
    inner = saved.get("config", {}).get(head)
    return _innermost(inner, rest) if isinstance(inner, dict) and "class_name" in inner else (saved, sub)


def _group_names(parts: list[Part], tree: Tree, container: str) -> list[str]:
    """Groups in the order of the parts. Keras 2.12 and 2.13 count layers with weights twice, so theirs are taken class by class as they come."""
    names = list(numbered(part.kind for part in parts))
    if not container.endswith(_OLD_ROOT):
        return names
    there: dict[str, list[tuple[int, str]]] = {}
    for group in tree.groups:
        if group.startswith(f"{container}/") and "/" not in group[len(container) + 1 :]:
            name = group[len(container) + 1 :]
            match = re.fullmatch(r"(.*?)(?:_(\d+))?", name)
            there.setdefault(match[1] if match else name, []).append((int(match[2] or 0) if match else 0, name))
    left = {kind: iter(sorted(found)) for kind, found in there.items()}
    return [next(left.get(snake_case(part.kind), iter(())), (0, name))[1] for part, name in zip(parts, names, strict=True)]


def fill_from_lists(net: Net, tree: Tree, root: str) -> None:
    """Give each part its weights from lists by layer."""
    for part in net.parts.values():
        if part.is_input or not (part.layers or part.net):
            continue
        group = f"{root}{part.name}"
        names = tree.texts(group, "weight_names") if group in tree.groups else None
        if names is None:
            refuse(tree.path, group, "has no list of its weights")
        arrays = [tree.take(f"{group}/{name}") for name in names]
        if part.net is None:
            _give(part, arrays, tree.path)
        else:
            _deal(part.net, group, arrays, tree.path)


def _deal(net: Net, member: str, arrays: list[np.ndarray], path: str) -> None:
    """The weights of a nested model: those that are trained, layer by layer, then the others."""
    slots = [(part, i, kind and part.layers[0].trainable) for part in net.leaves() for i, kind in enumerate(k for _, kinds in part_places(part) for k in kinds)]
    if len(slots) != len(arrays):
        refuse(path, member, f"must have {len(slots)} arrays, has {len(arrays)}")
    dealt: dict[int, list[np.ndarray]] = {}
    for (part, _, _), array in zip(sorted(slots, key=lambda slot: not slot[2]), arrays, strict=True):
        dealt.setdefault(id(part), []).append(array)
    for part in net.leaves():
        _give(part, dealt.get(id(part), []), path)


def fill_from_layers(net: Net, get_layer: Callable[[str], Any], source: str) -> None:
    """Give each part the weights of the live layer of its name."""
    for part in net.parts.values():
        if part.net is not None:
            fill_from_layers(part.net, get_layer(part.name).get_layer, source)
        elif part.layers and part_places(part):
            _give(part, [np.asarray(w) for w in get_layer(part.name).get_weights()], source)


def _give(part: Part, arrays: list[np.ndarray], path: str) -> None:
    member = f"{part.kind} '{part.name}'"
    count = sum(len(kinds) for _, kinds in part_places(part))
    if len(arrays) != count:
        refuse(path, member, f"must have {count} arrays, has {len(arrays)}")
    wrong = next((array.dtype for array in arrays if array.dtype.kind != "f"), None)
    if wrong is not None:
        refuse(path, member, f"its weights must be floats, got {wrong}")
    part.arrays = [array for layer in part.layers for array in adapted(layer, [arrays.pop(0) for _, kinds in places(layer) for _ in kinds])]


def adapted(layer: layers.Layer, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Weights of cuDNN's layers, known by their two biases, as those of LSTM and GRU; all others as they are."""
    if isinstance(layer, layers.Bidirectional):
        forward, backward = layer.sublayers()
        count = len(places(forward)[0][1])
        return adapted(forward, arrays[:count]) + adapted(backward, arrays[count:])
    gates = layer.gates if isinstance(layer, layers.LSTM | layers.GRU) else 0
    if not gates or len(arrays) != 3 or arrays[2].shape != (2 * gates * layer.units,):  # type: ignore[attr-defined]
        return arrays
    kernel, recurrent, bias = arrays
    if kernel.ndim != 2 or recurrent.ndim != 2 or kernel.shape[1] % gates or recurrent.shape[1] % gates:
        return arrays  # of a wrong shape, which the layer says
    kernel = np.hstack([k.T.reshape(k.shape, order="F") for k in np.hsplit(kernel, gates)])
    recurrent = np.hstack([k.T for k in np.hsplit(recurrent, gates)])
    return [kernel, recurrent, bias.reshape(2, -1) if isinstance(layer, layers.GRU) else bias.reshape(2, -1).sum(axis=0)]


def check_all_taken(tree: Tree, below: str = "") -> None:
    """Refuse a file with arrays that no layer takes, but for those of training: the optimizer's, the metrics' and the random states."""
    left = sorted(name for name in tree.datasets if name.startswith(below) and not _OF_TRAINING.search(name))
    if left:
        refuse(tree.path, left[0], f"belongs to no layer of the model, as do {len(left) - 1} others" if len(left) > 1 else "belongs to no layer of the model")
