"""The libraries that results are compared with."""

from __future__ import annotations

import importlib
import os
import warnings
from typing import Any

import numpy as np
import pytest


def require(name: str) -> Any:
    """Import a peer; skip the test or module where it is missing, except in CI, where that is a failure."""
    if name == "keras":
        os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        if os.environ.get("CI"):
            pytest.fail(f"{name} must be installed in CI: {error}", pytrace=False)
        pytest.skip(f"{name} is not installed", allow_module_level=True)


def as_array(tensor: Any) -> np.ndarray:
    """The numpy array of a torch tensor, a Keras variable or anything array-like."""
    tensor = getattr(tensor, "value", tensor)
    return tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)
