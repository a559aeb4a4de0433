"""ONNX: graphs of recurrent layers and the glue around them as models, and models as ONNX files.

Reading needs the extra "onnx"; a model that was read and saved as ".rnnf" needs numpy alone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rnnfast.interop.onnx.model import OnnxModel

__all__ = ["from_onnx", "read", "write"]


def from_onnx(source: str | os.PathLike[str] | bytes, prove: bool = False) -> OnnxModel:
    """The model that computes what an ONNX graph does (docs/onnx.md).

    Parameters
    ----------
    source : str, path-like or bytes
        A file, or a serialized ModelProto. External data is read of a file alone, and there from regular files within its folder that no link leads to.
    prove : bool, default False
        Whether to run the graph in onnxruntime, which must be installed, on random inputs, to compare the numbers, and to keep them as the model's self-test.

    Returns
    -------
    OnnxModel
        With `input_names`, `output_names`, `run`, `predict`, `stream` and `save`.

    Raises
    ------
    FormatError
        If the file is damaged or hostile, or the graph holds an operator, attribute or type that rnnfast does not have; the text names the node.
    ImportError
        If onnx is not installed.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> from onnx import TensorProto, helper, numpy_helper
    >>> rng = np.random.default_rng(0)
    >>> weights = [numpy_helper.from_array(rng.normal(size=size).astype("f"), name) for name, size in {"W": (1, 12, 3), "R": (1, 12, 4)}.items()]
    >>> node = helper.make_node("GRU", ["x", "W", "R"], ["y"], hidden_size=4)
    >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    >>> file = helper.make_model(helper.make_graph([node], "example", [x], [y], weights), opset_imports=[helper.make_opsetid("", 17)])
    >>> model = rnnfast.from_onnx(file.SerializeToString())
    >>> model.run({"x": np.ones((5, 2, 3), np.float32)})["y"].shape
    (5, 1, 2, 4)
    """
    from rnnfast.interop.onnx.model import OnnxModel
    from rnnfast.interop.onnx.parsing import parse, read_bytes

    label = "<bytes>" if isinstance(source, bytes) else os.fspath(source)
    content = source if isinstance(source, bytes) else read_bytes(label)
    model = OnnxModel(*parse(label, content, None if isinstance(source, bytes) else os.path.dirname(os.path.abspath(label))), label)
    if prove:
        from rnnfast.interop.onnx.proof import prove_with_onnxruntime

        prove_with_onnxruntime(model, source)
    return model


def read(path: str | os.PathLike[str]) -> OnnxModel:
    """The model of an ONNX file; see :func:`from_onnx`."""
    return from_onnx(os.fspath(path))


def write(model: Any, path: str | os.PathLike[str], **options: Any) -> None:
    """Write a model as an ONNX file; see :func:`rnnfast.interop.onnx.writer.write`."""
    from rnnfast.interop.onnx.writer import write as write_file

    write_file(model, path, **options)
