"""torch.nn's recurrent modules on the engine: `LSTM`, `GRU`, `RNN`, `LSTMCell`, `GRUCell`, `RNNCell`, and `accelerate` for models that have torch's."""

from __future__ import annotations

import warnings
from typing import Any

from rnnfast.interop.bounds import extra

extra("torch", "torch", "rnnfast.torch")

from rnnfast.torch.modules import GRU, LSTM, MODULES, RNN, Accelerated, GRUCell, LSTMCell, RNNCell  # noqa: E402

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell", "accelerate", "restore"]

for _module in MODULES:
    _module.__module__ = __name__  # where pickles find it


def accelerate(module: Any) -> Any:
    """Let all of a model's recurrent modules run on the engine, in place.

    Each :class:`torch.nn.LSTM`, `GRU`, `RNN`, `LSTMCell`, `GRUCell` and `RNNCell` stays the object that it is, with its parameters, hooks and names, and becomes one of
    this package. A class of your own that derives from one of them stays as it is, with a warning.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    torch.nn.Module
        The same object.

    Examples
    --------
    >>> import torch
    >>> import rnnfast.torch
    >>> model = torch.nn.ModuleDict({"encoder": torch.nn.GRU(3, 4), "head": torch.nn.Linear(4, 1)})
    >>> rnnfast.torch.accelerate(model)["encoder"]
    GRU(3, 4)
    >>> isinstance(model["encoder"], rnnfast.torch.GRU)
    True
    """
    swaps = {own.torch_class: own for own in MODULES}
    for name, one in module.named_modules():
        if type(one) in swaps:
            one.__class__ = swaps[type(one)]
        elif isinstance(one, tuple(swaps)) and not isinstance(one, Accelerated):
            warnings.warn(f"rnnfast.torch.accelerate: '{name}' is a {type(one).__name__}, a class of its own, and stays as it is.", UserWarning, stacklevel=2)
    return module


def restore(module: Any) -> Any:
    """Give all of a model's recurrent modules torch's own classes back, in place: the inverse of :func:`accelerate`.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    torch.nn.Module
        The same object.
    """
    for one in module.modules():
        if type(one) in MODULES:
            one.__dict__.pop("_rnnfast", None)
            one.__class__ = one.torch_class
    return module
