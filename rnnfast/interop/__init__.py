"""Models of other libraries: what is read, what is written, and how a file is recognised. A format's module is imported when it is used."""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from typing import Any

from rnnfast.errors import FormatError
from rnnfast.interop.recognition import recognize

__all__ = ["convert", "from_keras", "from_onnx", "from_torch", "load", "read_weights", "to_onnx"]

# kind: the module that reads it; each has `read(path)`, and `read_weights(path, model)` where files of weights alone exist
_READERS = {
    "keras": "keras_files", "h5": "keras_files", "onnx": "onnx", "rtneural": "rtneural", "nam": "nam",
    "pt": "torch_files", "safetensors": "torch_files", "npz": "torch_files",
}  # fmt: skip

# how a file's name ends: the module that writes it; each has `write(model, path)`
_WRITERS = {
    ".weights.h5": "keras_files", ".onnx": "onnx", ".json": "rtneural", ".safetensors": "torch_files", ".pt": "torch_files", ".pth": "torch_files",
    ".npz": "torch_files", ".nam": "nam",
}  # fmt: skip


def _module(name: str) -> Any:
    return import_module(f"rnnfast.interop.{name}")


def load(path: str | os.PathLike[str], *, weights: str | None = None) -> Any:
    """Load a model from a file of any known format, which is recognised by its content.

    Parameters
    ----------
    path : str or path-like
        Of rnnfast (".rnnf"), Keras (".keras", ".h5"), ONNX, RTNeural (JSON), NAM (".nam"), or a PyTorch state dict (".pt", ".safetensors"), whose names say what
        the layers are.
    weights : {"int8", "bfloat16"}, optional
        What the matrices are stored as for inference, see :meth:`Sequential.quantize`; by default as the file says.

    Returns
    -------
    Sequential, Model or a model of `rnnfast.builders`
        Of the class that was saved; of another library's file, a model that computes the same.

    Raises
    ------
    FormatError
        If the file is damaged, hostile, of an unknown format, or holds something that rnnfast does not have. The text names the file, the member and the reason.
    ImportError
        If the format needs an extra that is not installed; the text names it.

    Examples
    --------
    >>> import tempfile, numpy as np, rnnfast
    >>> from rnnfast import Input, Sequential, layers
    >>> model = Sequential([Input((None, 3)), layers.GRU(4)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/m.rnnf")
    ...     same = rnnfast.load(f"{folder}/m.rnnf")
    >>> x = np.ones((1, 7, 3), np.float32)
    >>> bool((same.predict_on_batch(x) == model.predict_on_batch(x)).all())
    True
    """
    kind = recognize(path)
    if kind == "rnnf":
        from rnnfast.models.files import read

        model = read(path)
    else:
        model = _module(_READERS[kind]).read(path)
    if weights is not None and not hasattr(model, "quantize"):
        raise ValueError(f"{os.fspath(path)}: weights={weights!r}: a {type(model).__name__} keeps its weights as they are.")
    if weights is not None:
        model.quantize(weights)
    return model


def read_weights(path: str | os.PathLike[str], model: Any) -> None:
    """Set a model's weights from a file of another library (`model.load_weights` comes here)."""
    kind = recognize(path)
    reader = _module(_READERS[kind])
    if not hasattr(reader, "read_weights"):
        raise FormatError(f"{os.fspath(path)}: a file of kind '{kind}' holds a model, not weights alone. Use rnnfast.load.")
    reader.read_weights(path, model)


def convert(source: str | os.PathLike[str], target: str | os.PathLike[str], **options: Any) -> None:
    """Turn a file of any readable format into one of any writable one (`rnnfast convert`).

    Parameters
    ----------
    source : str or path-like
        Anything that :func:`load` reads.
    target : str or path-like
        The format follows from how the name ends: ".rnnf", ".weights.h5" (Keras), ".onnx", ".json" (RTNeural), ".safetensors", ".pt", ".npz", ".nam".
    **options
        Of ONNX: `opset`, `states`, `lengths`; see :func:`to_onnx`.

    Raises
    ------
    FormatError
        If the source cannot be read or the target's format cannot hold the model; the text says why.

    Warns
    -----
    UserWarning
        If the file, loaded without the model's layers, makes another model: a state dict holds no activations and does not say which outputs are wanted.
    """
    name = os.fspath(target)
    ending = next((one for one in [".rnnf", *_WRITERS] if name.endswith(one)), None)
    if ending is None:
        raise FormatError(f"{name}: unknown ending. Known: {', '.join(['.rnnf', *_WRITERS])}.")
    model = load(source)
    if options and ending != ".onnx":
        raise FormatError(f"{name}: {', '.join(options)} can be said of '.onnx' alone.")
    if ending == ".rnnf":
        model.save(target)
        return
    from rnnfast import Model, Sequential

    if hasattr(model, "to_layers"):
        model = model.to_layers()
    if type(model) not in (Model, Sequential):
        raise FormatError(f"{name}: the {type(model).__name__} in {os.fspath(source)} is not a graph of layers alone, so that only '.rnnf' holds it.")
    _module(_WRITERS[ending]).write(model, target, **options)
    if ending not in (".onnx", ".weights.h5", ".npz") and not _same(model, target):
        warnings.warn(f"{name}: loaded alone it makes another model, since its format does not hold all of this one. Use load_weights into the same layers.", stacklevel=2)


def _same(model: Any, path: str | os.PathLike[str]) -> bool:
    """Whether a file's model gives the numbers of the one that was written."""
    from rnnfast.models.files import agree

    xs = model.test_inputs()
    try:
        return not xs or agree(load(path)._test_outputs(xs), model._test_outputs(xs))
    except (ValueError, TypeError):
        return False


def from_keras(model: Any) -> Any:
    """The model that computes what a Keras model does; see :func:`rnnfast.interop.keras.from_keras`."""
    return _module("keras").from_keras(model)


def from_torch(module: Any, **options: Any) -> Any:
    """The model that computes what a PyTorch module (or state dict) does; see :func:`rnnfast.interop.torch.from_torch`."""
    return _module("torch").from_torch(module, **options)


def from_onnx(source: Any, prove: bool = False) -> Any:
    """The model of an ONNX file or its bytes; see :func:`rnnfast.interop.onnx.from_onnx`."""
    return _module("onnx").from_onnx(source, prove)


def to_onnx(model: Any, path: str | os.PathLike[str], opset: int = 17, *, states: bool = False, lengths: bool = False) -> None:
    """Write a model as ONNX; see :func:`rnnfast.interop.onnx.writer.write`."""
    _module("onnx.writer").write(model, path, opset, states=states, lengths=lengths)
