"""Proof that a converted model computes what its source does: the source's own numbers, which go into the model's file and are checked at every load."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast.errors import FormatError
from rnnfast.models.files import agree


def prove(model: Any, inputs: list[np.ndarray], outputs: list[np.ndarray], source: str) -> None:
    """Compare the model's outputs with those that the source gave for the same inputs, and keep both for the model's file.

    Raises
    ------
    FormatError
        If they differ by more than rounding.
    """
    found = model(inputs if len(inputs) > 1 else inputs[0])
    found = list(found.values()) if isinstance(found, dict) else found if isinstance(found, list) else [found]
    for i, (mine, expected) in enumerate(zip(found, outputs, strict=True)):
        if not agree([mine], [expected]):
            by = f"by {np.max(np.abs(mine - expected))}" if mine.shape == expected.shape else f"in shape: {mine.shape}, not {expected.shape}"
            raise FormatError(f"{source}: output {i}: the converted model differs from its source {by}.")
    model.proof = (inputs, outputs)
