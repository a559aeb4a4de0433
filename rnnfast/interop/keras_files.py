"""Files of Keras: `.keras` (2.12 and newer), `.h5` of Keras 2 and 3, `.weights.h5`."""

from __future__ import annotations

import io
import os
import re
from typing import Any

from rnnfast import layers
from rnnfast.interop._hdf5 import Tree, opened
from rnnfast.interop._keras_config import Net, Part, parse
from rnnfast.interop._keras_graph import Assembler
from rnnfast.interop._keras_layers import KNOWN, Maker, places
from rnnfast.interop._keras_weights import check_all_taken, fill_from_groups, fill_from_lists, numbered
from rnnfast.interop.bounds import as_format_error, extra, opened_archive, refuse
from rnnfast.interop.recognition import parse_json, recognize
from rnnfast.models.saving import replacing

MAX_CONFIG = 8 << 20


def read(path: str | os.PathLike[str]) -> Any:
    """The model in a `.keras` file or a whole-model `.h5` file.

    Raises
    ------
    FormatError
        If the file is damaged, or holds what rnnfast does not have.
    ImportError
        If h5py is not installed.
    """
    path = os.fspath(path)
    if recognize(path) == "keras":
        return _read_archive(path)
    with opened(path) as tree:
        return _read_whole(tree)


def _read_archive(path: str) -> Any:
    with opened_archive(path) as archive:
        config = parse_json(path, "config.json", archive.read("config.json", MAX_CONFIG))
        version = parse_json(path, "metadata.json", archive.read("metadata.json", MAX_CONFIG)).get("keras_version")
        if "model.weights.npz" in archive.names:
            refuse(path, "model.weights.npz", "holds pickled objects, which can run code; save the model with weights in HDF5, as Keras does by default")
        content = archive.read("model.weights.h5")
    maker = Maker(path, _is_old(path, version))
    with as_format_error(path, "config.json"):
        net = parse(maker, config)
    with opened(path, content) as tree:
        fill_from_groups(net, tree)
        check_all_taken(tree)
    return _assembled(maker, net)


def _read_whole(tree: Tree) -> Any:
    text = tree.attribute("", "model_config")
    if text is None:
        refuse(tree.path, "model_config", "is not there: the file holds weights alone. Make the model, then use model.load_weights(path)")
    maker = Maker(tree.path, _is_old(tree.path, tree.attribute("", "keras_version") or "2.0"))
    if not isinstance(text, str) or len(text) > MAX_CONFIG:
        refuse(tree.path, "model_config", f"must be a text of at most {MAX_CONFIG} characters")
    with as_format_error(tree.path, "model_config"):
        net = parse(maker, parse_json(tree.path, "model_config", text.encode()))
    fill_from_lists(net, tree, "model_weights/")
    check_all_taken(tree)
    return _assembled(maker, net)


def _is_old(path: str, version: Any) -> bool:
    found = re.match(r"(\d{1,3})\.", str(version))
    if found is None or int(found[1]) < 2:
        refuse(path, "keras_version", f"{str(version)[:50]!r} is not a version from 2 on; load the file in Keras 2 and save it again")
    return int(found[1]) == 2


def _assembled(maker: Maker, net: Net) -> Any:
    with as_format_error(maker.source, "model"):
        return Assembler(maker).model(net)


def read_weights(path: str | os.PathLike[str], model: Any) -> None:
    """Set the weights of a model of the same layers: from a file of weights alone or of a whole model.

    Raises
    ------
    FormatError
        If the file is damaged, or its layers or shapes are not the model's.
    """
    path = os.fspath(path)
    if not model.built:
        raise ValueError(f"{model.name}: load_weights needs a built model. Call build(input_shape), or start it with Input(shape).")
    if recognize(path) == "keras":
        _take_over(path, _read_archive(path), model)
        return
    with opened(path) as tree:
        if tree.attribute("", "model_config") is not None:
            _take_over(path, _read_whole(tree), model)
            return
        net = _net_of(model)
        if tree.attribute("", "layer_names") is None and tree.attribute("", "layer_names0") is None:
            fill_from_groups(net, tree)
        else:
            fill_from_lists(_named_as(net, tree), tree, "")
        check_all_taken(tree)
    with as_format_error(path, "weights"):
        model.set_weights([array for part in net.parts.values() for array in part.arrays])


def _take_over(path: str, found: Any, model: Any) -> None:
    kinds = [[type(layer).__name__ for layer in one.layers if layer.weights] for one in (found, model)]
    if kinds[0] != kinds[1]:
        refuse(path, "model", f"its layers with weights are {', '.join(kinds[0])}, those of '{model.name}' are {', '.join(kinds[1])}")
    with as_format_error(path, "weights"):
        model.set_weights(found.get_weights())


def _net_of(model: Any) -> Net:
    """An rnnfast model as one of Keras, of the same layers."""
    parts = {layer.name: Part(layer.name, {"class_name": type(layer).__name__}, [layer]) for layer in model.layers}
    return Net(model.name, parts, [], [])


def _named_as(net: Net, tree: Tree) -> Net:
    """The layers with weights in the order of a file's, under its names, as Keras matches them."""
    names = [name for name in tree.texts("", "layer_names") or [] if name in tree.groups and tree.texts(name, "weight_names")]
    parts = [part for part in net.parts.values() if places(part.layers[0])]
    if len(names) != len(parts):
        refuse(tree.path, "layer_names", f"{len(names)} layers have weights, {', '.join(names)}; of the model {len(parts)}, {', '.join(part.name for part in parts)}")
    for name, part in zip(names, parts, strict=True):
        part.name = name
    return Net(net.name, dict(zip(names, parts, strict=True)), [], [])


def write(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a `.weights.h5` file, which `load_weights` of a Keras 3 model of the same layers reads.

    Raises
    ------
    ValueError
        If the model has a layer, or a form of one, that Keras does not have.
    """
    h5py = extra("h5py", "keras", "writing .weights.h5")
    parts = list(_net_of(model).parts.values())
    for part in parts:
        check_known(part.layers[0])
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_group("vars").attrs["name"] = model.name
        for part, group in zip(parts, numbered(part.kind for part in parts), strict=True):
            file.create_group(f"layers/{group}/vars").attrs["name"] = part.name
            arrays = iter(part.layers[0].get_weights())
            for sub, kinds in places(part.layers[0]):
                for i in range(len(kinds)):
                    file[f"layers/{group}/{f'{sub}/' if sub else ''}vars/{i}"] = next(arrays)
    with replacing(os.fspath(path)) as target:
        target.write(content.getbuffer())


def check_known(layer: layers.Layer) -> None:
    """Raise where Keras has no layer of these weights."""
    inner = [layer, *layer.sublayers()]
    unknown = next((one for one in inner if type(one).__name__ not in KNOWN or type(one).__name__ == "RNN"), None)
    if unknown is not None or sum(len(kinds) for _, kinds in places(layer)) != len(layer.weights):
        found = unknown or layer
        raise ValueError(f"{type(found).__name__} '{found.name}': Keras has no such layer, or not with these weights; save the model as .rnnf.")
