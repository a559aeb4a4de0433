"""When torch's own function takes over, and the one warning that says so."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch.autograd import forward_ad

DTYPES = {torch.float32: "float32", torch.float64: "float64"}
PLAIN = (torch.Tensor, torch.nn.Parameter)
_warned: set[str] = set()


def warn_once(what: str) -> None:
    """Say, once a process, that torch's own function is used."""
    if what not in _warned:
        _warned.add(what)
        warnings.warn(f"rnnfast.torch: {what} is not supported; torch's own function is used.", UserWarning, stacklevel=4)


_autocast, _dispatching, _functions = torch._C._is_any_autocast_enabled, torch._C._len_torch_dispatch_stack, torch._C._len_torch_function_stack
_interpreters, _tracing = torch._C._functorch.peek_interpreter_stack, torch._C._get_tracing_state
_wrapper = torch._C._functorch.is_functorch_wrapped_tensor  # also of one that has left its torch.func, which has no memory
# what torch.compile reads the functions with that a call of its code calls; None otherwise, and where torch cannot say
compiler = getattr(torch._C._dynamo.eval_frame, "get_eval_frame_callback", lambda: None)


def context() -> str | None:
    """What around a call the engine cannot work under, or None."""
    if _autocast():
        return "autocast"
    if _dispatching() or _functions():
        return "a mode that looks at every operation"
    if _interpreters() is not None:
        return "torch.func (vmap, grad, jvp)"
    if forward_ad._current_level >= 0:
        return "forward-mode differentiation"
    if _tracing() is not None:
        return "torch.jit.trace"
    return None


def unread(gradients: Any) -> str | None:
    """What of the gradients that come to a backward pass the engine cannot read, or None."""
    for g in gradients:
        if g is not None and (_interpreters() is not None or torch._C._functorch.is_legacy_batchedtensor(g)):
            return "a batch of gradients (is_grads_batched, vectorize, vmap)"
        if g is not None and (type(g) not in PLAIN or g.layout is not torch.strided):
            return f"a gradient that is a {type(g).__name__} in {g.layout}"
    return None


def plain(t: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether a tensor (of one of the classes PLAIN) is contiguous memory of this type."""
    return t.dtype is dtype and t.is_cpu and t.layout is torch.strided and t.is_contiguous() and not t.is_neg() and not _wrapper(t)


def unfit(tensors: Any) -> str | None:
    """What of these tensors the engine cannot read, or None."""
    for t in tensors:
        if not t.is_cpu:
            return f"device '{t.device.type}'"
        if t.dtype not in DTYPES:
            return f"dtype {t.dtype}"
        if type(t) not in PLAIN or t.layout is not torch.strided or t.is_neg() or t._is_zerotensor() or _wrapper(t):
            return f"a {type(t).__name__} that is not plain memory"
    return None
