"""PyTorch's modules, and those of `rnnfast.torch`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch as library
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from rnnfast.benchmark.cases import CELLS, Case
from rnnfast.benchmark.rivals import Prepared, after, refuse, reorder, twice

# PyTorch adds epsilon after the bias correction, the others before: the same first step, which is what is compared.
EPSILON = 1e-7 / (1 - 0.999) ** 0.5
KINDS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


def gate_order(case: Case) -> tuple[int, ...]:
    """Keras' gates in PyTorch's order, and back."""
    return (1, 0, 2) if case.cell == "gru" else tuple(range(CELLS[case.cell]))


def fill(case: Case, module: Any) -> None:
    """Give the module the case's weights."""
    order = gate_order(case)
    with library.no_grad():
        for layer, weights in enumerate(case.weights()):
            for direction, w in enumerate(weights):
                end = "" if case.alone else f"_l{layer}{'_reverse' if direction else ''}"
                bias = reorder(w["bias"], order)
                found = {"weight_ih": reorder(w["kernel"], order).T, "weight_hh": reorder(w["recurrent"], order).T}
                found |= {"bias_ih": bias, "bias_hh": np.zeros_like(bias)} if bias.ndim == 1 else {"bias_ih": bias[0], "bias_hh": bias[1]}
                for name, value in found.items():
                    getattr(module, name + end).copy_(library.from_numpy(value.copy()))
                if bias.ndim == 1:
                    getattr(module, "bias_hh" + end).requires_grad_(case.mode == "backward")


def head(case: Case) -> Any:
    if not case.outputs:
        return library.nn.Identity()
    kernel, bias = case.head()
    made = library.nn.Linear(*kernel.shape)
    made.load_state_dict({"weight": library.from_numpy(kernel.T.copy()), "bias": library.from_numpy(bias)})
    return made


def input_of(case: Case, x: np.ndarray) -> Any:
    """A tensor, time first, or a packed sequence."""
    tensor = library.from_numpy(np.ascontiguousarray(x.swapaxes(0, 1)))
    if case.lengths:
        return pack_padded_sequence(tensor, library.from_numpy(case.row_lengths), enforce_sorted=False)
    return tensor[0] if case.alone else tensor


def forward_of(case: Case, package: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The recurrent module, and all of the case as a function that gives a tensor."""
    if case.alone:
        module = getattr(package, KINDS[case.cell] + "Cell")(case.inputs, case.units)
    else:
        module = getattr(package, KINDS[case.cell])(case.inputs, case.units, num_layers=case.layers, bidirectional=case.bidirectional)
    fill(case, module)
    last, state = head(case), [None]
    cuts = sorted({0, case.time, *np.flatnonzero(case.data()["resets"].any(0)).tolist()})
    keep = library.from_numpy((~case.data()["resets"].T[..., None]).astype(np.float32))

    def forward(x: Any) -> Any:
        if case.alone:
            found = module(x)
            return found[0] if isinstance(found, tuple) else found
        if case.live:
            y, state[0] = module(x, state[0])
        elif case.resets:  # between the steps at which any row starts anew
            ys, s = [], None
            for begin, end in pairwise(cuts):
                s = None if s is None else tuple(part * keep[begin] for part in s) if isinstance(s, tuple) else s * keep[begin]
                found, s = module(x[begin:end], s)
                ys.append(found)
            y = library.cat(ys)
        else:
            y = module(x)[0]
        return last(y.data if isinstance(y, PackedSequence) else y)

    forward.parameters = [p for part in (module, last) for p in part.parameters() if p.requires_grad]  # type: ignore[attr-defined]
    return module, forward


def padded(case: Case, y: Any, x: Any) -> np.ndarray:
    """The output as (B, T, O)."""
    if case.lengths:
        y = pad_packed_sequence(PackedSequence(y, *x[1:]), total_length=case.time)[0]
    found: np.ndarray = (y[None] if case.alone else y).detach().numpy().swapaxes(0, 1)
    return found


def prepared(case: Case, threads: int, package: Any) -> Prepared:
    library.set_num_threads(threads)
    data = case.data()
    module, forward = forward_of(case, package)
    x, target = input_of(case, data["x"]), input_of(case, data["target"])
    target = target.data if case.lengths else target
    if case.mode == "infer":

        def run() -> Any:
            with library.inference_mode():
                return forward(x)

        check = lambda: padded(case, run(), x)
        return run, twice(check) if case.live else check
    weights = forward.parameters  # type: ignore[attr-defined]
    kernel = module.weight_hh if case.alone else module.weight_hh_l0
    in_keras = lambda array: reorder(array.detach().numpy().T, gate_order(case))
    if case.mode == "backward":

        def backward() -> None:
            for weight in weights:
                weight.grad = None
            forward(x).backward(target)

        return backward, after(backward, lambda: in_keras(kernel.grad))
    optimizer = library.optim.Adam(weights, 1e-3, eps=EPSILON, foreach=True)

    def step() -> None:
        optimizer.zero_grad()
        ((forward(x) - target) ** 2).mean().backward()
        optimizer.step()

    return step, after(step, lambda: in_keras(kernel))


def torch(case: Case, threads: int) -> Prepared:
    return prepared(case, threads, library.nn)


def rnnfast_torch(case: Case, threads: int) -> Prepared:
    import rnnfast
    import rnnfast.torch as package

    refuse(case, live=True)
    rnnfast.set_num_threads(threads)
    return prepared(case, threads, package)
