"""PyTorch modules in a row as layers, with an eye on which axis is which: PyTorch's Conv1d and BatchNorm1d want [B, C, T], its recurrent modules [B, T, F] or [T, B, F]."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from rnnfast import layers
from rnnfast.activations import LEAKY
from rnnfast.interop._torch_parts import Part, split, turned
from rnnfast.interop.bounds import as_format_error, refuse

RECURRENT, CELLS = ("RNN", "LSTM", "GRU"), ("RNNCell", "LSTMCell", "GRUCell")
# the activation's name here, and the arguments with which it is the same
_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "ReLU": ("relu", {}), "ReLU6": ("relu6", {}), "Tanh": ("tanh", {}), "Sigmoid": ("sigmoid", {}), "SiLU": ("silu", {}), "GELU": ("gelu", {"approximate": "none"}),
    "ELU": ("elu", {"alpha": 1.0}), "SELU": ("selu", {}), "CELU": ("celu", {"alpha": 1.0}), "LeakyReLU": ("leaky_relu", {}),
    "Hardtanh": ("hard_tanh", {"min_val": -1.0, "max_val": 1.0}), "Hardsigmoid": ("hard_sigmoid", {}), "Hardswish": ("hard_silu", {}),
    "Softplus": ("softplus", {"beta": 1.0, "threshold": 20.0}), "Softsign": ("softsign", {}), "LogSigmoid": ("log_sigmoid", {}), "Mish": ("mish", {}),
    "Tanhshrink": ("tanh_shrink", {}), "Softshrink": ("soft_shrink", {"lambd": 0.5}), "Hardshrink": ("hard_shrink", {"lambd": 0.5}),
}  # fmt: skip
_ALONG = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "GLU": "glu"}  # which work along one axis
# what they take: the attribute that says how many features
_WIDTHS = {"Linear": "in_features", "BatchNorm1d": "num_features", "Conv1d": "in_channels"} | dict.fromkeys((*RECURRENT, *CELLS), "input_size")
KNOWN = (*RECURRENT, *CELLS, "Sequential", "Linear", "Embedding", "Dropout", "LayerNorm", "BatchNorm1d", "Conv1d", "Flatten", "Identity", *_ACTIVATIONS, *_ALONG)

Leaf = tuple[str, str, Any]


class Chain:
    """Layers, and the arrays of their weights, of modules in a row.

    Parameters
    ----------
    source : str
        As errors name it.
    leaves : list of (name, kind, module)
    return_state : bool
        Of the recurrent layers.

    Attributes
    ----------
    axes : {"tokens", "steps", "channels", "row"}
        What the modules added so far give: [B, T] of integers, [B, T, F] (or [T, B, F]), [B, C, T], or [B, F].
    """

    def __init__(self, source: str, leaves: list[Leaf], return_state: bool) -> None:
        self.source, self.leaves, self.return_state = source, leaves, return_state
        self.layers: list[Any] = []
        self.arrays: list[np.ndarray] = []
        self.time_first: bool | None = None
        self.tokens = 0
        self.steps: int | None = None
        self.windows: list[Any] = []
        self.scattered: tuple[int, int] | None = None  # channels and steps that a Flatten has put one behind the other
        wide = any(value.dtype.itemsize == 8 and value.is_floating_point() for _, _, module in leaves for value in module.state_dict().values())
        self.dtype = "float64" if wide else "float32"
        self.axes = self.first_axes = self._first_axes()
        self.width = self.first_width = 0 if self.axes == "tokens" else self._next_width(0)
        for i, (name, kind, module) in enumerate(leaves):
            self.at, self.label = i, f"{type(module).__name__} '{name}'" if name else type(module).__name__
            with as_format_error(source, self.label):
                self._add(name, kind, module)
        if self.scattered:
            self.refuse("ends behind a Flatten of channels, whose values stand in another order here")

    def refuse(self, reason: str) -> NoReturn:
        refuse(self.source, self.label, reason)

    # -- in and out ------------------------------------------------------------------------------------------------------------

    def input(self) -> Any:
        """The model's Input."""
        return layers.Input({"tokens": (self.steps,), "row": (self.first_width,)}.get(self.first_axes, (self.steps, self.first_width)), dtype=self.dtype)

    @property
    def time_axis(self) -> int:
        """Of what the recurrent modules take."""
        return 0 if self.time_first else 1

    def to_torch(self, x: Any) -> Any:
        """The model's input as the modules take it."""
        return x.transpose(1, 2) if self.first_axes == "channels" else x.transpose(0, 1) if self.time_first else x

    def from_torch(self, y: Any) -> Any:
        """The modules' output as the model gives it."""
        return y.transpose(1, 2) if self.axes == "channels" else y.transpose(0, 1) if self.time_first else y

    def _first_axes(self) -> str:
        self.label = "module"
        decisive = {"Embedding": "tokens", "Conv1d": "channels", "Flatten": "row"} | dict.fromkeys((*RECURRENT, *CELLS), "steps")
        return next((decisive[kind] for _, kind, _ in self.leaves if kind in decisive), "row")

    def _next_width(self, start: int) -> int:
        """Features that the next module with weights takes."""
        found = None
        for _, kind, module in self.leaves[start:]:
            if kind in _WIDTHS:
                found = getattr(module, _WIDTHS[kind])
            elif kind == "LayerNorm":
                found = module.normalized_shape[-1]
            if found is not None or kind in ("GLU", "Embedding"):
                break
        if found is None:
            self.refuse("must have a module that says how many features there are: RNN, LSTM, GRU, a cell, Linear, Conv1d, BatchNorm1d or LayerNorm")
        return int(found)

    # -- module by module ------------------------------------------------------------------------------------------------------

    def _add(self, name: str, kind: str, module: Any) -> None:
        options: dict[str, Any] = {"name": name or kind.lower(), "dtype": self.dtype}
        if self.axes == "tokens" and kind != "Embedding":
            self.refuse("stands before the Embedding, which must be first")
        if self.scattered and kind in ("BatchNorm1d", "LayerNorm", *_ALONG):
            self.refuse("stands behind a Flatten of channels, whose values stand in another order here. Only a Linear can follow")
        if kind in _ACTIVATIONS:
            self._activation(kind, module, options)
        elif kind in _ALONG:
            self._along(kind, module, options)
        elif kind == "Dropout":
            self._append(layers.Dropout(module.p, **options))
        elif kind in RECURRENT or kind in CELLS:
            self._recurrent(name, kind, module)
        else:
            getattr(self, f"_{kind.lower()}")(module, options)

    def _append(self, layer: Any, arrays: list[np.ndarray] | None = None) -> None:
        self.layers.append(layer)
        self.arrays += arrays or []

    def _parts(self, module: Any, name: str = "") -> list[Part]:
        return split(f"{self.source}: {self.label}", {f"{name}.{key}".removeprefix("."): value for key, value in module.state_dict().items()})

    def _weights(self, module: Any, kind: str) -> list[np.ndarray]:
        return self._parts(module)[0].weights(kind) if module.state_dict() else []

    def _activation(self, kind: str, module: Any, options: dict[str, Any]) -> None:
        name, same = _ACTIVATIONS[kind]
        if kind == "LeakyReLU":
            slopes = {slope: leaky for leaky, slope in LEAKY.items()}
            name = slopes.get(module.negative_slope) or self.refuse(f"negative_slope must be one of {', '.join(map(str, slopes))}, got {module.negative_slope!r}")
        for argument, value in same.items():
            if getattr(module, argument) != value:
                self.refuse(f"{argument} must be {value!r}, with which it is rnnfast's {name}, got {getattr(module, argument)!r}")
        self._append(layers.Activation(name, **options))

    def _along(self, kind: str, module: Any, options: dict[str, Any]) -> None:
        rank, axis = (2, 1) if self.axes == "row" else (3, 1 if self.axes == "channels" else 2)
        if module.dim is None or module.dim not in (axis, axis - rank):
            self.refuse(f"dim must be that of the features, {axis}, got {module.dim!r}")
        self.width = self.width // 2 if kind == "GLU" else self.width
        self._append(layers.Activation(_ALONG[kind], **options))

    def _recurrent(self, name: str, kind: str, module: Any) -> None:
        if self.axes != "steps":
            what = {"channels": "[B, C, T], whose channels it would take for steps", "row": "[B, F], which it would take for one sequence"}[self.axes]
            self.refuse(f"PyTorch hands it {what}")
        if kind in RECURRENT:
            if self.time_first not in (None, not module.batch_first):
                self.refuse(f"batch_first={module.batch_first}, unlike a recurrent module before it: one of them takes the batch for time")
            self.time_first = not module.batch_first
        self._takes(module.input_size)
        parts, activation = self._parts(module, name), getattr(module, "nonlinearity", "tanh")
        for i, part in enumerate(parts):
            self._append(part.layer(self.dtype, activation, self.return_state), part.weights(part.kind))
            if i < len(parts) - 1 and module.dropout:
                self._append(layers.Dropout(module.dropout, name=f"{part.name}_dropout", dtype=self.dtype))
        self.width = parts[-1].widths[1]

    def _takes(self, width: int) -> None:
        if width != self.width:
            self.refuse(f"takes {width} features, the modules before it give {self.width}")

    def _linear(self, module: Any, options: dict[str, Any]) -> None:
        if self.axes == "channels":
            self.refuse("PyTorch hands it [B, C, T] and it mixes steps; put a Flatten before it")
        self._takes(module.in_features)
        arrays = self._weights(module, "Dense")
        if self.scattered:  # rows in the order of [C, T]; the model's Flatten gives [T, C]
            arrays[0] = turned(arrays[0], *self.scattered)
            self.scattered = None
        self._append(layers.Dense(module.out_features, use_bias=module.bias is not None, **options), arrays)
        self.width = module.out_features

    def _embedding(self, module: Any, options: dict[str, Any]) -> None:
        if self.axes != "tokens" or self.layers:
            self.refuse("must be the first module")
        if module.max_norm is not None:
            self.refuse(f"max_norm must be None, got {module.max_norm}: it changes the table when it is read")
        self._append(layers.Embedding(module.num_embeddings, module.embedding_dim, **options), self._weights(module, "Embedding"))
        self.axes, self.tokens, self.width = "steps", module.num_embeddings, module.embedding_dim

    def _layernorm(self, module: Any, options: dict[str, Any]) -> None:
        if self.axes == "channels" or len(module.normalized_shape) != 1:
            self.refuse(f"must normalise the features alone, got normalized_shape={tuple(module.normalized_shape)} of " + ("[B, C, T]" if self.axes == "channels" else "a step"))
        self._takes(module.normalized_shape[0])
        scale, center = module.elementwise_affine, module.elementwise_affine and module.bias is not None
        self._append(layers.LayerNormalization(epsilon=module.eps, scale=scale, center=center, **options), self._weights(module, "LayerNormalization"))

    def _batchnorm1d(self, module: Any, options: dict[str, Any]) -> None:
        if self.axes == "steps":
            self.refuse("PyTorch hands it [B, T, F], whose steps it takes for channels")
        if module.running_mean is None or module.momentum is None:
            self.refuse("must have track_running_stats and a momentum, so that it computes with running statistics")
        self._takes(module.num_features)
        layer = layers.BatchNormalization(momentum=1 - module.momentum, epsilon=module.eps, scale=module.affine, center=module.affine, **options)
        self._append(layer, self._weights(module, "BatchNormalization"))

    def _conv1d(self, module: Any, options: dict[str, Any]) -> None:
        if self.axes != "channels":
            self.refuse("must come before recurrent modules and Linear: PyTorch hands it what has no [B, C, T]")
        if module.padding_mode != "zeros":
            self.refuse(f"padding_mode must be 'zeros', got {module.padding_mode!r}")
        self._takes(module.in_channels)
        (taps,), (stride,), (dilation,) = module.kernel_size, module.stride, module.dilation
        padding = module.padding if isinstance(module.padding, str) else "valid"
        if padding == "valid" and not isinstance(module.padding, str) and module.padding[0]:
            same = stride == 1 and 2 * module.padding[0] == (taps - 1) * dilation
            padding = "same" if same else "valid"
            if not same:
                self._append(layers.ZeroPadding1D(module.padding[0], name=f"{options['name']}_padding", dtype=self.dtype))
                self.windows.append(self.layers[-1].window)
        layer = layers.Conv1D(
            module.out_channels, taps, stride, padding, dilation_rate=dilation, groups=module.groups, use_bias=module.bias is not None, **options
        )
        self._append(layer, self._weights(module, "Conv1D"))
        self.windows.append(layer.window)
        self.width = module.out_channels

    def _flatten(self, module: Any, options: dict[str, Any]) -> None:
        if (module.start_dim, module.end_dim) not in ((1, -1), (1, 1 if self.axes == "row" else 2)):
            self.refuse(f"must be from dim 1 to -1, got {module.start_dim} to {module.end_dim}")
        if self.axes == "row":
            return
        if self.time_first:
            self.refuse("PyTorch hands it [T, B, F] and it would mix the batch; use batch_first=True")
        whole, self.width = self._next_width(self.at), self.width or 1
        steps, rest = divmod(whole, self.width)
        if rest:
            self.refuse(f"gives {whole} features to what follows, which is no multiple of {self.width} a step")
        self.steps, most = self.lengths_for(steps)
        if self.steps != most:
            self.refuse(f"the Linear behind it fits inputs of {self.steps} to {most} steps, so the model's length is open; use a stride of 1")
        self.scattered = (self.width, steps) if self.axes == "channels" else None
        self._append(layers.Flatten(**options))
        self.axes, self.width = "row", whole

    def lengths_for(self, steps: int) -> tuple[int, int]:
        """The shortest and the longest input that leave so many steps behind all windows."""
        least = most = steps
        for window in reversed(self.windows):
            room = window.reach - window.left - window.right
            least, most = max((least - 1) * window.stride + 1 + room, 1), max(most * window.stride + room, 1)  # wide padding leaves steps to a single one, too
        return least, most
