"""Proof by onnxruntime that a graph is computed as it should be."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rnnfast.interop.bounds import as_format_error
from rnnfast.interop.selftest import prove

if TYPE_CHECKING:
    from rnnfast.interop.onnx.model import OnnxModel


def prove_with_onnxruntime(model: OnnxModel, source: str | os.PathLike[str] | bytes) -> None:
    """Compare with onnxruntime on random inputs, and keep its numbers as the model's self-test.

    It reads the file by itself, so this is for files that are trusted.

    Raises
    ------
    FormatError
        If the numbers differ, or onnxruntime does not run the graph.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("from_onnx(prove=True) needs onnxruntime: pip install onnxruntime") from error
    xs = model.sample()
    with as_format_error(model.label, "onnxruntime"):
        try:
            session = onnxruntime.InferenceSession(source if isinstance(source, bytes) else os.fspath(source), providers=["CPUExecutionProvider"])
            outputs = session.run(model.output_names, dict(zip(model.input_names, xs, strict=True)))
        except Exception as error:  # onnxruntime's own classes have no common base but this
            raise RuntimeError(str(error)) from error
    prove(model, xs, outputs, model.label)
