"""Models of live PyTorch modules: recurrent modules and cells, alone or in a row with others, and state dicts."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rnnfast.errors import suggest
from rnnfast.interop._torch_chain import CELLS, KNOWN, RECURRENT, Chain
from rnnfast.interop.bounds import as_format_error, refuse
from rnnfast.interop.selftest import prove
from rnnfast.interop.state_dicts import from_state_dict, load_state_dict, to_state_dict
from rnnfast.layers.base import given_weights
from rnnfast.models.model import Model
from rnnfast.models.sequential import Sequential

__all__ = ["from_torch", "load_state_dict", "to_state_dict"]


def from_torch(module: Any, *, return_state: bool = False, nonlinearity: str | None = None) -> Any:
    """The model that computes what a PyTorch module does, proved on random input before it is returned.

    The model is batch first, whatever the module's `batch_first`, and gives all steps of the last recurrent module's output; channels stand last, so where
    the module begins with Conv1d and takes [B, C, T], the model takes [B, T, C]. A cell becomes the layer that runs it over a sequence from a state of zeros. In a
    Sequential a recurrent module or cell hands on its output, not its states. The module is not changed.

    Parameters
    ----------
    module : torch.nn.Module or mapping of str to tensor or array_like
        RNN, LSTM, GRU, RNNCell, LSTMCell or GRUCell, or a Sequential (nested ones too) of them and Linear, Embedding, Dropout, LayerNorm, BatchNorm1d, Conv1d,
        Flatten, Identity and activations. Or a state dict, which becomes layers by its names and shapes (docs/pytorch.md has the rules).
    return_state : bool, default False
        Of a recurrent module or cell alone: whether the model also gives the final states, as [output, h of each layer and direction in `h_n`'s order, c likewise].
    nonlinearity : {"tanh", "relu"}, optional
        Of the RNNs in a state dict, which does not say it.

    Returns
    -------
    Sequential or Model
        With all weights, also float16 and bfloat16 ones, in float32; in float64 if the module has that.

    Raises
    ------
    FormatError
        If something has no exact counterpart; the text names the module and the argument.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> rng = np.random.default_rng(0)
    >>> state = {"weight_ih_l0": rng.normal(size=(12, 3)), "weight_hh_l0": rng.normal(size=(12, 4))}
    >>> model = rnnfast.from_torch(state)
    >>> model.layers, model.predict_on_batch(np.ones((2, 5, 3))).shape
    ([<GRU 'l0'>], (2, 5, 4))
    """
    if isinstance(module, Mapping):
        if return_state:
            raise ValueError("from_torch: return_state needs the module, a state dict does not say what it is. Use layers with return_state and load_state_dict.")
        return from_state_dict(module, nonlinearity=nonlinearity)
    source = type(module).__name__
    if not hasattr(module, "named_children"):
        raise TypeError(f"from_torch: must be given a torch.nn.Module or a state dict, got {module!r}.")
    leaves = list(_leaves(source, "", module))
    owners = [inner for _, _, inner in leaves if inner.state_dict()]
    if len(owners) > len(set(owners)):
        refuse(source, "module", "uses a module with weights twice; a Sequential of rnnfast would train two of them. Call one layer twice in a rnnfast.Model")
    if return_state and (len(leaves) != 1 or leaves[0][1] not in (*RECURRENT, *CELLS)):
        raise ValueError(f"from_torch: return_state is for one recurrent module or cell alone, got {source} of {[kind for _, kind, _ in leaves]}.")
    chain = Chain(source, leaves, return_state)
    with as_format_error(source, "module"), given_weights(chain.arrays):
        model = _with_states(chain) if return_state else Sequential([chain.input(), *chain.layers])
    _prove(chain, module, model, return_state)
    return model


def _with_states(chain: Chain) -> Model:
    """The model that gives the output, then h and c of each layer and direction, as PyTorch stacks them."""
    x, hidden, cells = chain.input(), [], []
    symbol: Any = x
    for layer in chain.layers:
        found = layer(symbol)
        symbol, *states = found if isinstance(found, list) else [found]
        two = chain.leaves[0][1] in ("LSTM", "LSTMCell")
        hidden += states[:: 2 if two else 1]
        cells += states[1::2] if two else []
    return Model(x, [symbol, *hidden, *cells])


def _leaves(source: str, name: str, module: Any) -> Iterator[tuple[str, str, Any]]:
    """(name, kind, module) of what runs one after the other."""
    kind = _kind(module)
    if kind == "Sequential":
        for child, inner in module._modules.items():  # named_children leaves out what it has met
            yield from _leaves(source, f"{name}.{child}".removeprefix("."), inner)
        return
    label = f"{type(module).__name__} '{name}'" if name else type(module).__name__
    if kind is None:
        children = "; build the model in rnnfast and give its names and weights to load_state_dict(model, module.state_dict())" if list(module.children()) else ""
        refuse(source, label, f"not a module whose computation is known{children}. {suggest(type(module).__name__, KNOWN)}".rstrip("."))
    if module._forward_hooks or module._forward_pre_hooks:
        refuse(source, label, "has hooks, which can change its numbers; remove them, or weight normalisation with torch.nn.utils.remove_weight_norm")
    if kind != "Identity":
        yield name, kind, module


def _kind(module: Any) -> str | None:
    """The name of the class in torch.nn whose computation a module has."""
    for cls in type(module).__mro__:
        if cls.__module__.startswith("torch.nn.modules.") and cls.__name__ in KNOWN:
            same = type(module).forward is getattr(cls, "forward", None) or type(module).__module__.startswith("rnnfast.torch")
            return cls.__name__ if same else None
    return None


def _prove(chain: Chain, module: Any, model: Any, return_state: bool) -> None:
    """Compare the model with a copy of the module on random input."""
    import torch

    twin = copy.deepcopy(module).cpu().to(getattr(torch, chain.dtype)).eval()
    rng = np.random.default_rng(0)
    first = next(iter(model.runner().inlets))
    shape = [3, *(5 + chain.lengths_for(1)[0] if n is None else n for n in first.shape[1:])]
    x = rng.integers(0, chain.tokens, shape) if chain.tokens else rng.standard_normal(shape).astype(chain.dtype)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PyTorch says of its own speed
        given = chain.to_torch(torch.from_numpy(x))
        modules = [inner for _, _, inner in _leaves("", "", twin)]
        whole = not any(kind in (*RECURRENT, *CELLS) for _, kind, _ in chain.leaves)  # a Sequential cannot hand on the tuples of the others
        outputs = _run([twin] if whole else modules, given, chain.time_axis)
    states = outputs[1:] if return_state else []
    prove(model, [x], [chain.from_torch(outputs[0]).numpy(), *(one.numpy() for one in states)], chain.source)


def _run(modules: list[Any], x: Any, time: int) -> list[Any]:
    """The output of modules in a row, then the last one's states: all of h, then all of c."""
    states: list[Any] = []
    for module in modules:
        if _kind(module) in CELLS:
            import torch

            state, steps = None, []
            for one in x.unbind(time):
                state = module(one, state)
                steps.append(state[0] if isinstance(state, tuple) else state)
            x, states = torch.stack(steps, time), list(state if isinstance(state, tuple) else [state])
        else:
            found = module(x)
            x, last = found if isinstance(found, tuple) else (found, ())
            states = [h for stacked in (last if isinstance(last, tuple) else [last]) for h in stacked]
    return [x, *states]
