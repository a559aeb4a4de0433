"""The engine under PyTorch's autograd: a pool of plans, and the function that runs one forward now and backward later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import _VF

from rnnfast.torch.fallback import unread, warn_once
from rnnfast.torch.plans import Bound, Size
from rnnfast.torch.weights import Spec, Weights

Tensors = list[torch.Tensor]
SIZES_KEPT = 16
ROOM = 8  # a plan has room for a number of steps with so many leading eighths, so that lengths that vary do not each make a plan


def room_for(time: int) -> int:
    """The steps that a plan is made for: `time`, rounded up by at most an eighth."""
    grain = 1 << max(0, time.bit_length() - ROOM.bit_length())
    return -(-time // grain) * grain


class Engine:
    """The plans of one module and its weights' panels.

    Parameters
    ----------
    spec : Spec
    """

    def __init__(self, spec: Spec) -> None:
        self.spec, self.weights = spec, Weights(spec)
        self.idle: dict[Size, list[Bound]] = {}
        self.dtype = getattr(torch, spec.dtype)

    def take(self, size: Size) -> Bound:
        """A plan of this size that nobody else uses until it is given back."""
        try:
            return self.idle[size].pop()
        except (KeyError, IndexError):
            with self.weights.lock:
                return Bound(self.weights, size)

    def give(self, bound: Bound) -> None:
        """Give a plan back."""
        if bound.size not in self.idle and len(self.idle) >= SIZES_KEPT:
            self.idle.pop(next(iter(self.idle)), None)
        self.idle.setdefault(bound.size, []).append(bound)


class Lease:
    """A plan whose arena holds the tape of one forward; given back when it goes."""

    def __init__(self, engine: Engine, bound: Bound) -> None:
        self.engine, self.bound = engine, bound

    def __del__(self) -> None:
        self.engine.give(self.bound)


@dataclass
class Call:
    """One use of a module.

    Attributes
    ----------
    engine : Engine
    size : Size
    time : int
    batch_sizes : int64 array or None
        Of a PackedSequence.
    seeds : list of int
        Of the dropout between layers.
    """

    engine: Engine
    size: Size
    time: int
    batch_sizes: Any
    seeds: list[int]

    def run(self, x: torch.Tensor, states: Tensors) -> tuple[Bound, Tensors]:
        """The plan that has run, and its outputs: the sequence, if there is one, and the states."""
        engine, size, spec = self.engine, self.size, self.engine.spec
        bound = engine.take(size)
        engine.weights.pack(size.threads)
        ends = [x.new_empty(shape) for shape in bound.shapes]
        if not spec.sequence:
            bound.step((x, *states, *ends))
            return bound, ends
        bound.set_rows(self.time, self.batch_sizes)
        y = x.new_empty((*x.shape[:-1], spec.width * spec.directions))
        bound.forward(x, states, y, ends, self.seeds)
        return bound, [y, *ends]

    def back(self, bound: Bound, x: torch.Tensor, states: Tensors, grads: Any) -> list[Any]:
        """Gradients of x, the states and the weights."""
        grads = [None if g is None or g._is_zerotensor() else g.resolve_neg().contiguous() for g in grads]
        if bound.reads_weights:
            self.engine.weights.pack(self.size.threads)
        swapped = self.size.batch_first
        dx = x.new_empty((x.shape[1], x.shape[0], x.shape[2]) if swapped else x.shape) if self.size.dx else None
        dstates = [torch.empty_like(state) for state in states] if self.size.dstates else []
        if self.engine.spec.sequence:
            bound.set_rows(self.time, self.batch_sizes)
            dweights = bound.backward(x, grads.pop(0), grads, dx, dstates)
        else:
            dweights = bound.step_back(x, grads, dx, dstates)
        given: list[Any] = [*dstates] if dstates else [None] * len(states)
        return [dx.transpose(0, 1) if dx is not None and swapped else dx, *given, *dweights]


def run(engine: Engine, size: Size, time: int, batch_sizes: Any, x: torch.Tensor, states: Tensors, weights: Tensors) -> Any:
    """The outputs of one use of a module; with a graph where the plan has a backward part."""
    # torch's generator draws the seeds, so that torch.manual_seed and checkpoints rule
    call = Call(engine, size, time, batch_sizes, [int(torch.randint(2**62, ())) for _ in range(engine.spec.layers - 1)] if size.rate > 0 else [])
    if size.gradients:
        return apply(call, len(states), x, *states, *weights)
    bound, outputs = call.run(x, states)
    engine.give(bound)
    return outputs


class Through(torch.autograd.Function):
    """A whole module forward, and back through time."""

    @staticmethod
    def forward(ctx: Any, call: Call, count: int, x: torch.Tensor, *tensors: torch.Tensor) -> Any:
        bound, outputs = call.run(x, list(tensors[:count]))
        ctx.call, ctx.count, ctx.lease = call, count, Lease(call.engine, bound)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, *tensors)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, *tensors = ctx.saved_tensors
        states, weights = tensors[: ctx.count], tensors[ctx.count :]
        reason = "a second derivative (create_graph=True)" if torch.is_grad_enabled() else unread(grads)
        if reason is not None:
            return (None, None, *again(ctx.call, x, states, weights, grads, reason))
        call, lease, ctx.lease = ctx.call, ctx.lease, None
        if lease is None or lease.bound.reads_weights:
            call.engine.weights.bring(weights)
        if lease is None:  # the first backward has used the tape up
            lease = Lease(call.engine, call.run(x, states)[0])
        return (None, None, *call.back(lease.bound, x, states, grads))  # autograd drops those that nobody has asked for


apply = super(torch.autograd.Function, Through).apply  # without what Function.apply does for torch.func, of which nothing comes here: fallback.context and fallback.plain


def again(call: Call, x: torch.Tensor, states: Tensors, weights: Tensors, grads: Any, reason: str) -> list[Any]:
    """The gradients by torch's own functions, so that they may have gradients themselves, or be many at once."""
    if call.size.rate > 0:
        raise RuntimeError(f"rnnfast.torch: {reason} through dropout between layers is not supported. Set dropout to 0, or restore torch's modules.")
    warn_once(reason)
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        tensors = [t.view_as(t) for t in (x, *states, *weights)]  # paths from one of them to another do not count
        outputs = torchs_own(call, tensors[0], tensors[1 : 1 + len(states)], tensors[1 + len(states) :])
    pairs = [(y, g) for y, g in zip(outputs, grads, strict=True) if g is not None]
    wanted = [t for t in tensors if t.requires_grad]
    found = iter(torch.autograd.grad([y for y, _ in pairs], wanted, [g for _, g in pairs], create_graph=further, allow_unused=True))
    return [next(found) if t.requires_grad else None for t in tensors]


def torchs_own(call: Call, x: torch.Tensor, states: Tensors, weights: Tensors) -> Any:
    """What torch's function gives for a call."""
    spec, size = call.engine.spec, call.size
    states = states or [x.new_zeros((*spec.stack, size.batch, width)) for width in spec.widths]
    hx: Any = tuple(states) if spec.cell == "lstm" else states[0]
    function = getattr(_VF, (f"rnn_{spec.activation}" if spec.cell == "simple_rnn" else spec.cell) + ("" if spec.sequence else "_cell"))
    if not spec.sequence:
        outputs = function(x, hx, *weights)
        return outputs if spec.cell == "lstm" else (outputs,)
    if call.batch_sizes is not None:
        return function(x, torch.from_numpy(call.batch_sizes), hx, weights, spec.bias, spec.layers, 0.0, False, spec.both)
    return function(x, hx, weights, spec.bias, spec.layers, 0.0, False, spec.both, size.batch_first)
