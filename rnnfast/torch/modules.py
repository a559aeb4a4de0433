"""torch.nn's recurrent modules on the engine: each is torch's own class with another `forward`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.compiler import is_compiling
from torch.nn.utils.rnn import PackedSequence

from rnnfast import _engine
from rnnfast.torch.autograd import Engine, room_for, run
from rnnfast.torch.fallback import DTYPES, PLAIN, compiler, context, plain, unfit, warn_once
from rnnfast.torch.plans import Size
from rnnfast.torch.weights import Spec

CELLS = {"LSTM": ("lstm", "tanh"), "GRU": ("gru", "tanh"), "RNN_TANH": ("simple_rnn", "tanh"), "RNN_RELU": ("simple_rnn", "relu")}

CELL_NAMES = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]


class Accelerated:
    """What all modules of this package share. Attributes are torch's; `_rnnfast` in a module's dict holds its engine and goes into no copy and no file."""

    torch_class: type
    __dict__: dict[str, Any]

    def _spec(self, dtype: torch.dtype) -> Spec:
        raise NotImplementedError

    def _names(self) -> list[str]:
        raise NotImplementedError

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("mode", "nonlinearity"):  # which torch reads at every call
            self.__dict__.pop("_rnnfast", None)
        super().__setattr__(name, value)

    def _weights(self) -> list[Any]:
        """Torch's weights, in torch's order."""
        parameters, names = self.__dict__["_parameters"], self._names()
        try:
            return [parameters[name] for name in names]
        except KeyError:  # computed ones: parametrizations, weight norm, pruning
            return [getattr(self, name) for name in names]

    def _engine(self, dtype: torch.dtype) -> Engine:
        engine = self.__dict__.get("_rnnfast")
        if engine is None or engine.spec.dtype != DTYPES[dtype]:
            engine = self.__dict__["_rnnfast"] = Engine(self._spec(dtype))
        return engine

    def _fits(self, x: Any, states: Any, weights: list[Any]) -> bool:
        """Whether the engine can take these, and has the weights; otherwise torch's own function takes them, or says what is wrong with them."""
        engine = self.__dict__.get("_rnnfast")
        known = engine is not None and engine.weights.holds(weights)  # then they are still fit
        tensors = [x, *states] if known else [x, *states, *weights]
        for t in tensors:
            if not isinstance(t, torch.Tensor):
                return False
        reason = context() or unfit(tensors)
        if reason is not None:
            warn_once(reason)
            return False
        dtype = weights[0].dtype
        for t in tensors:
            if t.dtype is not dtype:
                return False
        if not known:
            self._engine(dtype).weights.bring(weights)
        return x.numel() > 0

    def _call(
        self, x: torch.Tensor, states: list[torch.Tensor], weights: list[torch.Tensor], batch: int, time: int, batch_sizes: Any = None,
        batch_first: bool = False, rate: float = 0.0,
    ) -> Any:  # fmt: skip
        """Run a call that fits."""
        size = self._size(x, states, weights, batch, room_for(time), batch_first, rate)
        return run(self._engine(x.dtype), size, time, batch_sizes, x.contiguous(), [t.contiguous() for t in states], weights)

    def _size(
        self, x: torch.Tensor, states: list[torch.Tensor], weights: list[torch.Tensor], batch: int, room: int, batch_first: bool = False, rate: float = 0.0
    ) -> Size:
        """Of the plan that these tensors need now."""
        dx = dstates = gradients = False
        if torch.is_grad_enabled():
            dx, dstates = x.requires_grad, True in [t.requires_grad for t in states]
            gradients = dx or dstates or True in [t.requires_grad for t in weights]
        threads = min(_engine.get_num_threads(), torch.get_num_threads())
        return Size(batch, room, batch_first, bool(states), rate, gradients, dx, dstates, threads, _engine.get_float32_matmul_precision())

    def __getstate__(self) -> dict[str, Any]:
        state: Any = dict(super().__getstate__())  # type: ignore[call-overload]
        state.pop("_rnnfast", None)
        return state

    def __prepare_scriptable__(self) -> Any:
        plain: Any = object.__new__(self.torch_class)
        plain.__dict__ = {name: value for name, value in self.__dict__.items() if name != "_rnnfast"}
        return plain


class Sequence(Accelerated):
    """LSTM, GRU and RNN."""

    mode: str
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    batch_first: bool
    dropout: float
    bidirectional: bool
    proj_size: int
    training: bool
    _flat_weights_names: list[str]

    def _spec(self, dtype: torch.dtype) -> Spec:
        cell, activation = CELLS[self.mode]
        return Spec(
            cell, self.input_size, self.hidden_size, self.proj_size, self.num_layers, bool(self.bidirectional), self.bias, activation, True, DTYPES[dtype]
        )

    def _names(self) -> list[str]:
        return self._flat_weights_names

    def flatten_parameters(self) -> None:
        """As torch's, which does nothing on a CPU; and take the weights for changed, whoever has written to them."""
        super().flatten_parameters()  # type: ignore[misc]
        engine = self.__dict__.get("_rnnfast")
        if engine is not None:
            engine.weights.forget()

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As torch's."""
        if not is_compiling() and not compiler():
            found = self._packed(input, hx) if isinstance(input, PackedSequence) else self._padded(input, hx)
            if found is not None:
                return found
        return super().forward(input, hx)  # type: ignore[misc]

    def _states(self, hx: Any) -> tuple[Any, ...]:
        return () if hx is None else tuple(hx) if self.mode == "LSTM" and isinstance(hx, tuple | list) else (hx,)

    def _good(self, x: torch.Tensor, states: Any, batch: int) -> bool:
        """Whether sizes are as they must be."""
        count, width = self.num_layers * (2 if self.bidirectional else 1), self.proj_size or self.hidden_size
        widths = (width, self.hidden_size) if self.mode == "LSTM" else (width,)
        if x.size(-1) != self.input_size or (self.training and self.dropout == 1) or (states and len(states) != len(widths)):
            return False
        return all(tuple(t.shape) == (count, batch, n) for t, n in zip(states, widths, strict=False))

    def _rate(self) -> float:
        return self.dropout if self.training and self.num_layers > 1 else 0.0

    def _padded(self, x: Any, hx: Any) -> Any:
        states, weights = self._states(hx), self._weights()
        if not self._fits(x, states, weights) or x.dim() not in (2, 3):
            return None
        single, axis = x.dim() == 2, 0 if self.batch_first else 1
        if any(t.dim() != x.dim() for t in states):
            return None
        if single:
            x, states = x.unsqueeze(axis), tuple(t.unsqueeze(1) for t in states)
        batch, time = (x.size(0), x.size(1)) if self.batch_first else (x.size(1), x.size(0))
        if not self._good(x, states, batch):
            return None
        y, *ends = self._call(x, list(states), weights, batch, time, None, self.batch_first, self._rate())
        if single:
            y, ends = y.squeeze(axis), [t.squeeze(1) for t in ends]
        return y, tuple(ends) if self.mode == "LSTM" else ends[0]

    def _packed(self, packed: PackedSequence, hx: Any) -> Any:
        x, batch_sizes, order, back = packed
        states, weights = self._states(hx), self._weights()
        if not self._fits(x, states, weights) or x.dim() != 2 or batch_sizes.dim() != 1 or batch_sizes.device.type != "cpu":
            return None
        sizes = batch_sizes.numpy()
        batch = int(sizes[0])
        if not self._good(x, states, batch) or sizes[-1] < 1 or (sizes[1:] > sizes[:-1]).any() or int(sizes.sum()) != len(x):
            return None
        if order is not None:
            states = tuple(t.index_select(1, order) for t in states)
        y, *ends = self._call(x, list(states), weights, batch, len(sizes), sizes, False, self._rate())
        if back is not None:
            ends = [t.index_select(1, back) for t in ends]
        return PackedSequence(y, batch_sizes, order, back), tuple(ends) if self.mode == "LSTM" else ends[0]


class Cell(Accelerated):
    """LSTMCell, GRUCell and RNNCell."""

    mode: str
    input_size: int
    hidden_size: int
    bias: bool

    def _spec(self, dtype: torch.dtype) -> Spec:
        cell, activation = CELLS[self.mode]
        return Spec(cell, self.input_size, self.hidden_size, 0, 1, False, self.bias, activation, False, DTYPES[dtype])

    def _names(self) -> list[str]:
        return CELL_NAMES if self.bias else CELL_NAMES[:2]

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As torch's."""
        found = None
        if not is_compiling() and not compiler():
            found = self._again(input, hx)
            if found is None:
                found = self._step(input, hx)
        return super().forward(input, hx) if found is None else found  # type: ignore[misc]

    def _again(self, x: Any, hx: Any) -> Any:
        """A call with contiguous tensors and the weights of the call before, which fit; None for all others, which need a closer look."""
        engine = self.__dict__.get("_rnnfast")
        if engine is None or type(x) not in PLAIN:
            return None
        spec, shape, pair = engine.spec, x.shape, self.torch_class is nn.LSTMCell
        if hx is None:
            states: list[Any] = []
        elif pair:
            if type(hx) is not tuple or len(hx) != 2:
                return None
            states = list(hx)
        else:
            states = [hx]
        if len(shape) != 2 or shape[1] != spec.inputs or not shape[0] or not plain(x, engine.dtype):
            return None
        wanted = (shape[0], spec.units)
        for t in states:
            if type(t) not in PLAIN or t.shape != wanted or not plain(t, engine.dtype):
                return None
        weights = self._weights()
        if context() is not None or not engine.weights.holds(weights):
            return None
        ends = run(engine, self._size(x, states, weights, shape[0], 1), 1, None, x, states, weights)
        return tuple(ends) if pair else ends[0]

    def _step(self, x: Any, hx: Any) -> Any:
        states = () if hx is None else tuple(hx) if self.mode == "LSTM" and isinstance(hx, tuple | list) else (hx,)
        weights = self._weights()
        if not self._fits(x, states, weights) or x.dim() not in (1, 2) or any(t.dim() != x.dim() for t in states):
            return None
        single = x.dim() == 1
        if single:
            x, states = x.unsqueeze(0), tuple(t.unsqueeze(0) for t in states)
        batch = x.size(0)
        if (
            x.size(1) != self.input_size
            or any(tuple(t.shape) != (batch, self.hidden_size) for t in states)
            or len(states) not in (0, 2 if self.mode == "LSTM" else 1)
        ):
            return None
        ends = self._call(x, list(states), weights, batch, 1)
        if single:
            ends = [t.squeeze(0) for t in ends]
        return tuple(ends) if self.mode == "LSTM" else ends[0]


class LSTM(Sequence, nn.LSTM):
    """:class:`torch.nn.LSTM` on the engine: the same arguments, weights, results and gradients.

    Examples
    --------
    >>> import torch
    >>> import rnnfast.torch
    >>> lstm = rnnfast.torch.LSTM(3, 4, num_layers=2, batch_first=True)
    >>> y, (h, c) = lstm(torch.zeros(2, 5, 3))
    >>> y.shape, h.shape
    (torch.Size([2, 5, 4]), torch.Size([2, 2, 4]))
    """

    torch_class = nn.LSTM


class GRU(Sequence, nn.GRU):
    """:class:`torch.nn.GRU` on the engine: the same arguments, weights, results and gradients."""

    torch_class = nn.GRU


class RNN(Sequence, nn.RNN):
    """:class:`torch.nn.RNN` on the engine: the same arguments, weights, results and gradients."""

    torch_class = nn.RNN


class LSTMCell(Cell, nn.LSTMCell):
    """:class:`torch.nn.LSTMCell` on the engine: the same arguments, weights, results and gradients."""

    torch_class, mode = nn.LSTMCell, "LSTM"


class GRUCell(Cell, nn.GRUCell):
    """:class:`torch.nn.GRUCell` on the engine: the same arguments, weights, results and gradients."""

    torch_class, mode = nn.GRUCell, "GRU"


class RNNCell(Cell, nn.RNNCell):
    """:class:`torch.nn.RNNCell` on the engine: the same arguments, weights, results and gradients."""

    torch_class = nn.RNNCell

    @property
    def mode(self) -> str:  # type: ignore[override]
        return f"RNN_{self.nonlinearity.upper()}"


MODULES = (LSTM, GRU, RNN, LSTMCell, GRUCell, RNNCell)
