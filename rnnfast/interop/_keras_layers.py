"""Keras' layers, as a file or a live model describes them, as rnnfast's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from rnnfast import layers
from rnnfast.activations import LEAKY
from rnnfast.errors import FormatError, suggest
from rnnfast.interop.bounds import refuse
from rnnfast.layers.recurrent import OverTime

_CELLS = {"SimpleRNNCell": "SimpleRNN", "LSTMCell": "LSTM", "GRUCell": "GRU"}
_CUDNN = {"CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU"}
_FUNCTIONS = ("ReLU", "LeakyReLU", "ELU", "Softmax")
_SAME = (
    "LSTM", "GRU", "SimpleRNN", "Dense", "Embedding", "Masking", "Activation", "Dropout", "SpatialDropout1D", "LayerNormalization", "BatchNormalization",
    "RepeatVector", "Flatten", "Reshape", "GlobalAveragePooling1D", "GlobalMaxPooling1D", "Conv1D", "MaxPooling1D", "AveragePooling1D", "ZeroPadding1D",
    "Cropping1D", "Attention", "AdditiveAttention", "Add", "Subtract", "Multiply", "Average", "Concatenate",
)  # fmt: skip
MODELS = ("Sequential", "Functional", "Model")
KNOWN = sorted([*_SAME, *_CUDNN, *_FUNCTIONS, "RNN", "Bidirectional", "TimeDistributed", "InputLayer", "Sequential", "Functional"])

# arguments that choose between equal computations, or say what is known anyway
_IGNORED = {"batch_input_shape", "input_length", "implementation", "use_cudnn", "fused", "lora_alpha", "autocast", "renorm_clipping", "renorm_momentum"}
# arguments that rnnfast does not have: the values that change nothing
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "time_major": (False,), "lora_rank": (None,), "quantization_config": (None,), "renorm": (False,), "virtual_batch_size": (None,), "synchronized": (False,),
    "rms_scaling": (False,), "adjustment": (None,), "num_constants": (None, 0),
}  # fmt: skip
_OF_FLATTEN = {"data_format": ("channels_last", None)}
# of the layers that are a function: the arguments under which it is one of rnnfast's activations
_SLOPES: dict[str, tuple[str, dict[str, tuple[Any, ...]]]] = {
    "ReLU": ("relu", {"negative_slope": (0, None), "threshold": (0, None), "max_value": (None,)}),
    "LeakyReLU": ("leaky_relu", {}),
    "ELU": ("elu", {"alpha": (1,)}),
    "Softmax": ("softmax", {"axis": (-1,)}),
}


class Maker:
    """Makes rnnfast's layers of Keras' descriptions.

    Parameters
    ----------
    source : str
        The file or model, as errors name it.
    old : bool
        Whether it is of Keras 2, whose hard_sigmoid and defaults differ.
    """

    def __init__(self, source: str, old: bool) -> None:
        self.source, self.old = source, old

    def make(self, saved: dict[str, Any], name: str) -> list[layers.Layer]:
        """The layers, one after the other, that compute what the described one does. They are called `name`."""
        kind, config = str(saved["class_name"]), {**saved["config"], "name": name}
        member = f"{kind} '{name}'"
        if not is_plain(saved, "layers"):
            self.refuse(member, f"a custom class ({saved.get('registered_name') or saved.get('module')}), whose code a file does not hold and rnnfast would not run")
        config = self._arguments(member, config)
        with self.naming(member):
            return self._cells(name, config) if kind == "RNN" else [self._one(kind, member, config)]

    def refuse(self, member: str, reason: str) -> NoReturn:
        refuse(self.source, member, reason)

    @contextlib.contextmanager
    def naming(self, member: str) -> Iterator[None]:
        """Refuse a layer for what rnnfast's layers say of their arguments."""
        try:
            yield
        except FormatError:
            raise
        except (TypeError, ValueError) as error:
            self.refuse(member, str(error).removeprefix(f"{member}: ").rstrip("."))

    def _one(self, kind: str, member: str, config: dict[str, Any]) -> layers.Layer:
        if kind in ("Bidirectional", "TimeDistributed"):
            return self._wrapper(kind, member, config)
        if kind in _FUNCTIONS:
            return self._function(kind, member, config)
        if kind in ("Flatten", "SpatialDropout1D"):
            self._drop(member, config, _OF_FLATTEN)
        if kind in ("BatchNormalization", "LayerNormalization") and isinstance(config.get("axis"), list) and len(config["axis"]) == 1:
            config["axis"] = config["axis"][0]
        if kind == "Attention" and "causal" in config:
            config["use_causal_mask"] = config.pop("causal")
        if self.old and kind in ("LSTM", "GRU"):
            config = {"recurrent_activation": "hard_sigmoid_02"} | ({"reset_after": False} if kind == "GRU" else {}) | config
        if kind not in _SAME and kind not in _CUDNN:
            self.refuse(member, f"rnnfast has no such layer. {suggest(kind, KNOWN)}".rstrip("."))
        made: layers.Layer = getattr(layers, _CUDNN.get(kind, kind))(**config)
        return made

    def _arguments(self, member: str, config: dict[str, Any]) -> dict[str, Any]:
        """What rnnfast's layer takes; what it does not have must have the value that changes nothing."""
        found = {key: value for key, value in config.items() if key not in _IGNORED}
        self._drop(member, found, _NEUTRAL)
        if found.get("activity_regularizer", 0) is None:
            del found["activity_regularizer"]
        found["dtype"] = self.dtype(member, found.get("dtype"))
        for key, value in found.items():
            if key == "activation" or key == "recurrent_activation":
                found[key] = self._activation(member, key, value)
            elif key.endswith(("_initializer", "_regularizer", "_constraint")):
                found[key] = self._object(member, key, value)
        if not isinstance(found.get("seed"), int):
            found.pop("seed", None)
        return found

    def _drop(self, member: str, config: dict[str, Any], neutral: dict[str, tuple[Any, ...]]) -> None:
        for key in neutral.keys() & config.keys():
            value = config.pop(key)
            if value not in neutral[key]:
                self.refuse(member, f"{key}={value!r} is not supported; only {' or '.join(map(repr, neutral[key]))} is")

    def _activation(self, member: str, key: str, value: Any) -> str | None:
        if value is not None and not isinstance(value, str):
            self.refuse(member, f"{key} is a custom function or object, {str(value)[:100]}, which is not run; only activations by name are read")
        if value == "sparsemax":
            self.refuse(member, f"{key} 'sparsemax' is computed otherwise by Keras than in its paper, which rnnfast follows")
        return "hard_sigmoid_02" if self.old and value == "hard_sigmoid" else value

    def _object(self, member: str, key: str, value: Any) -> Any:
        """An initializer, regularizer or constraint as rnnfast's registries read it."""
        if not isinstance(value, dict):
            return value
        if not is_plain(value, "initializers", "regularizers", "constraints"):
            self.refuse(member, f"{key} is a custom object, {str(value.get('registered_name'))!r}, whose code rnnfast would not run")
        config = value.get("config") or {}
        seed = config.get("seed")
        kept = {name: one for name, one in config.items() if name != "dtype" and not (name.endswith("_axes") and one is None)}
        return {"class_name": value.get("class_name"), "config": kept | ({} if seed is None or isinstance(seed, int) else {"seed": None})}

    def dtype(self, member: str, policy: Any) -> str:
        """The float type of a layer's arithmetic."""
        name = policy.get("config", {}).get("name") if isinstance(policy, dict) else policy
        name = {None: "float32", "mixed_float16": "float32", "mixed_bfloat16": "float32"}.get(name, name)
        if name not in ("float32", "float64"):
            self.refuse(member, f"dtype {name!r} is not supported; float32, float64, mixed_float16 and mixed_bfloat16 are, the mixed ones in float32")
        return str(name)

    def _cells(self, name: str, config: dict[str, Any]) -> list[layers.Layer]:
        """RNN around Keras' cells: a layer for each."""
        saved = config.pop("cell")
        stack = saved["config"]["cells"] if saved.get("class_name") == "StackedRNNCells" and is_plain(saved, "layers") else [saved]
        made: list[layers.Layer] = []
        for i, cell in enumerate(stack):
            kind, last = cell.get("class_name"), i == len(stack) - 1
            own = name if len(stack) == 1 else f"{name}_cell_{i}"
            if kind not in _CELLS or not is_plain(cell, "layers"):
                self.refuse(f"RNN '{name}'", f"cell {cell.get('registered_name') or kind!r} is not one of {', '.join(_CELLS)} and StackedRNNCells of them")
            arguments = self._arguments(f"{kind} '{own}'", {**cell["config"], "name": own})
            outer = config | {"return_sequences": config.get("return_sequences", False) or not last, "go_backwards": config.get("go_backwards", False) and i == 0}
            made.append(self._one(_CELLS[kind], f"{kind} '{own}'", arguments | {key: value for key, value in outer.items() if key not in ("name", "dtype", "trainable")}))
        return made

    def _wrapper(self, kind: str, member: str, config: dict[str, Any]) -> layers.Layer:
        for key in ("layer", "backward_layer"):
            saved = config.pop(key, None)
            if saved is None:
                continue
            if saved.get("class_name") in MODELS:
                self.refuse(member, f"{key} is a model, '{saved['config'].get('name')}'; only a layer can be inside")
            inner = self.make(saved, str(saved["config"].get("name")))
            if len(inner) > 1:
                self.refuse(member, f"{key} is a stack of {len(inner)} cells; only one can be inside. Use a {kind} around each layer of a stack")
            config[key] = inner[0]
        made: layers.Layer = getattr(layers, kind)(**config)
        return made

    def _function(self, kind: str, member: str, config: dict[str, Any]) -> layers.Layer:
        name, neutral = _SLOPES[kind]
        if kind == "ReLU" and config.get("max_value") == 6:
            name = "relu6"
            del config["max_value"]
        if kind == "LeakyReLU":
            given = [config.pop(key) for key in ("negative_slope", "alpha") if key in config]
            found = [leaky for leaky, slope in LEAKY.items() if given and np.shape(given[0]) == () and np.isclose(slope, given[0], rtol=1e-6)]  # files of Keras 2 have a float32
            if not found:
                self.refuse(member, f"negative_slope={given[0]!r} is not supported; only {', '.join(map(str, LEAKY.values()))}" if given else "its slope is not given")
            name = found[0]
        self._drop(member, config, neutral)
        return layers.Activation(name, **config)


def is_plain(saved: dict[str, Any], *homes: str) -> bool:
    """Whether a description names a class of Keras' own, in a module of these names."""
    module, registered = saved.get("module"), saved.get("registered_name")
    if registered is not None and registered != saved.get("class_name"):
        return False
    parts = str(module).split(".")
    return module is None or module in ("keras", "tf_keras") or (parts[0] in ("keras", "tf_keras") and any(home in parts for home in homes))


def places(layer: layers.Layer, prefix: str = "") -> list[tuple[str, list[bool]]]:
    """Where Keras keeps a layer's weights inside the layer's own group of a file, and which of those at each place can be trained."""
    if isinstance(layer, layers.Bidirectional):
        return [(f"{prefix}{half}_layer/cell", found) for half, one in zip(("forward", "backward"), layer.sublayers(), strict=True) for _, found in places(one)]
    if isinstance(layer, layers.TimeDistributed):
        return places(layer.layer, f"{prefix}layer/")
    if isinstance(layer, OverTime):
        return [(f"{prefix}cell", [True] * (2 + bool(layer.use_bias)))]  # type: ignore[attr-defined]
    if isinstance(layer, layers.Dense | layers.Conv1D):
        kinds = [True] * (1 + layer.use_bias)
    elif isinstance(layer, layers.Embedding):
        kinds = [True]
    elif isinstance(layer, layers.BatchNormalization):
        kinds = [True] * (layer.scale + layer.center) + [False] * 2
    elif isinstance(layer, layers.LayerNormalization):
        kinds = [True] * (layer.scale + layer.center)
    elif isinstance(layer, layers.Attention):
        kinds = [True] * (layer.use_scale + (layer.score_mode == "concat"))
    else:
        kinds = []
    return [(prefix.rstrip("/"), kinds)] if kinds else []
