"""Several callbacks as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rnnfast.callbacks.base import Callback
from rnnfast.callbacks.records import History


class CallbackList(Callback):
    """Several callbacks as one: every hook calls theirs in order, with the same logs dict.

    Parameters
    ----------
    callbacks : Callback or sequence of them, optional
    add_history : bool
        Append a :class:`History` unless there is one, and make it ``model.history``.
    model : optional
    **params
        Handed to all as ``params``.
    """

    def __init__(self, callbacks: Any = None, add_history: bool = False, model: Any = None, **params: Any) -> None:
        super().__init__()
        callbacks = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or [])
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise ValueError(f"callbacks must hold Callback objects, got {callback!r}.")
        if add_history and not any(isinstance(callback, History) for callback in callbacks):
            callbacks.append(History())
        self.callbacks: list[Callback] = callbacks
        if model is not None:
            self.set_model(model)
        self.set_params(params)

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        for callback in self.callbacks:
            callback.set_model(model)
            if isinstance(callback, History):
                model.history = callback

    def set_params(self, params: dict[str, Any]) -> None:
        super().set_params(params)
        for callback in self.callbacks:
            callback.set_params(params)


def _fan_out(hook: str) -> Callable[..., None]:
    code = vars(Callback)[hook].__code__
    names = code.co_varnames[1 : code.co_argcount]  # the last one is logs

    def call(self: CallbackList, *args: Any, **kwargs: Any) -> None:
        given = dict(zip(names, args, strict=False)) | kwargs
        if given.get("logs") is None:
            given["logs"] = {}  # as Keras: callbacks may read and write it
        values = [given[name] for name in names]
        for callback in self.callbacks:
            getattr(callback, hook)(*values)

    call.__name__ = hook
    call.__doc__ = f"Call every callback's ``{hook}``."
    return call


for _hook in [name for name in vars(Callback) if name.startswith("on_")]:
    setattr(CallbackList, _hook, _fan_out(_hook))
