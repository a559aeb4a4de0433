"""One adapter a library: `prepare(case, threads)` gives a call that runs the case once and a call that gives what is compared.

What is compared is the output sequence of an inference case (of a live one, of its first two calls), and the first layer's recurrent kernel (Keras' layout) after one training step or its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from rnnfast.benchmark.cases import Case

Prepared = tuple[Callable[[], Any], Callable[[], np.ndarray]]
MODULES = {
    "rnnfast": "of_rnnfast", "rnnfast.torch": "of_torch", "torch": "of_torch", "onnxruntime": "of_onnx", "openvino": "of_onnx", "jax": "of_jax", "keras": "of_keras",
    "numpy": "of_numpy",
}  # fmt: skip


class CannotRunError(Exception):
    """The library has no way to run the case."""


def prepare(library: str, case: Case, threads: int) -> Prepared:
    """The case in a library, by its name."""
    module = import_module(f"rnnfast.benchmark.rivals.{MODULES[library]}")
    run, check = getattr(module, library.replace(".", "_"))(case, threads)
    return run, lambda: check() * case.valid[..., None] if case.lengths and case.mode == "infer" else check()


def refuse(case: Case, **unlike: Any) -> None:
    """Raise if a field of the case has one of the values."""
    for name, values in unlike.items():
        if getattr(case, name) in (values if isinstance(values, tuple) else (values,)):
            raise CannotRunError(f"no {name} {getattr(case, name)}")


def twice(run: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    """What two calls give, one after the other."""
    return lambda: np.stack([np.array(run()), np.array(run())])


def after(step: Callable[[], Any], look: Callable[[], Any]) -> Callable[[], np.ndarray]:
    """What there is to see after a step."""
    return lambda: (step(), look())[1]


def reorder(array: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """Blocks of the last axis in another order."""
    blocks = np.split(array, len(order), axis=-1)
    return np.concatenate([blocks[i] for i in order], axis=-1)
