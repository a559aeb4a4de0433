"""Statal: neurons that remember what they have seen. The equations stand in csrc/cells/statal.h."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np

from rnnfast.errors import suggest
from rnnfast.layers.base import positive, register
from rnnfast.layers.recurrent import Recurrent
from rnnfast.plan import Tensor
from rnnfast.plan.direction import Direction

STATES = ("value", "binary", "probability", "trace")
OUTPUTS = ("activation", "state", "both")
FIRINGS = ("hard", "soft")
SLOTS_MOST = 8  # as the engine's STATES_MOST
HALF_LIVES = (10.0, 1000.0)  # of the first and the last slot, in steps


@register
class Statal(Recurrent):
    """Neurons with a memory of what they have seen: each has a state, zero at the start, that its firing writes and that all neurons read at the next step.

    With ``a_t = f(x_t W + s_{t-1} R + b)`` and the firing ``g_t = [a_t > threshold]``:

    ============= ================================================= =================================
    state         rule                                              meaning
    ============= ================================================= =================================
    "value"       s' = g a + (1 - g) s                              the last activation seen
    "binary"      s' = max(s, g)                                    seen or not
    "probability" s' = 1 - (1 - s) (1 - p)                          the probability of having seen it
    "trace"       s'_k = g a + (1 - g) d_k s_k for each slot k      when it was seen
    ============= ================================================= =================================

    with ``p = sigmoid(sharpness (a - threshold))``. Backward, the step function's derivative is taken to be that of p (straight-through: Bengio, Léonard and
    Courville 2013, arXiv 1308.3432; such surrogates compared: Neftci, Mostafa and Zenke 2019, arXiv 1901.09948), and max(s, g) is ``1 - (1 - s) (1 - g)``, which is
    the same for states of 0 and 1. `firing="soft"` puts p in the place of g, so that the gradients are exact.

    Weights: kernel (I, H), recurrent_kernel (K H, H), bias (H), where row ``k H + j`` of the recurrent kernel belongs to slot k of neuron j.
    The states, of `return_state` and `initial_state`, are K arrays (B, H).

    Parameters
    ----------
    units : int
        Neurons H.
    activation : str, default "relu"
    state : {"value", "binary", "probability", "trace"}
    slots : int, default 1
        K, at most 8; more than one only for "trace".
    threshold : float, default 0.0
    sharpness : float, default 4.0
        At 4 the surrogate's slope at the threshold is 1.
    decays : sequence of K float in (0, 1], optional
        d_k a step, for "trace"; by default half-lives are spread geometrically from 10 to 1000 steps (a single slot has 100).
    firing : {"hard", "soft"}
        "probability" is soft anyhow.
    output : {"activation", "state", "both"}
        What the layer gives: a (H), the states (K H), or both side by side (H + K H). Where no step has been yet the activation is 0.
    **kwargs
        As of :class:`Recurrent`.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> layers.Statal(4, state="trace", slots=2, output="both", return_sequences=True)(np.ones((2, 5, 3), np.float32)).shape
    (2, 5, 12)
    """

    def __init__(
        self, units: int, *, activation: Any = "relu", state: str = "value", slots: int = 1, threshold: float = 0.0, sharpness: float = 4.0,
        decays: Any = None, firing: str = "hard", output: str = "activation", **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(units, activation=activation, **kwargs)
        self.state, self.firing, self.output = self._choice("state", state, STATES), self._choice("firing", firing, FIRINGS), self._choice("output", output, OUTPUTS)
        self.slots = self.states = self._slots(slots)
        self.threshold, self.sharpness = self._number("threshold", threshold), self._number("sharpness", sharpness)
        if self.sharpness <= 0:
            raise ValueError(f"{self._owner}: sharpness must be positive, got {sharpness!r}.")
        self.decays = self._decays(decays)
        self.cell = "statal" if state in ("value", "trace") else "statal_seen"
        self.recurrent_activation = "sigmoid" if firing == "soft" or state == "probability" else "linear"

    @property
    def _owner(self) -> str:
        return f"{type(self).__name__} '{self.name}'"

    def _choice(self, argument: str, value: Any, known: tuple[str, ...]) -> str:
        if value not in known:
            raise ValueError(f"{self._owner}: unknown {argument} {value!r}. {suggest(value, known)}")
        return str(value)

    def _number(self, argument: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not isfinite(value):
            raise ValueError(f"{self._owner}: {argument} must be a finite number, got {value!r}.")
        return float(value)

    def _slots(self, value: Any) -> int:
        slots = positive(self, "slots", value)
        if slots > (SLOTS_MOST if self.state == "trace" else 1):
            limit = f"at most {SLOTS_MOST}" if self.state == "trace" else f"1 for state='{self.state}' (only 'trace' has more)"
            raise ValueError(f"{self._owner}: slots must be {limit}, got {slots}.")
        return slots

    def _decays(self, given: Any) -> tuple[float, ...]:
        """A factor for each slot; 1 where the state does not fade."""
        if self.state != "trace":
            if given is not None:
                raise ValueError(f"{self._owner}: decays belong to state='trace', got {given!r} with state='{self.state}'.")
            return (1.0,)
        if given is None:
            exponents = np.linspace(0, 1, self.slots) if self.slots > 1 else [0.5]
            return tuple(0.5 ** (1 / (HALF_LIVES[0] * (HALF_LIVES[1] / HALF_LIVES[0]) ** float(e))) for e in exponents)
        decays = tuple(self._number("decays", d) for d in np.ravel(given).tolist())
        if len(decays) != self.slots or not all(0 < d <= 1 for d in decays):
            raise ValueError(f"{self._owner}: decays must be {self.slots} numbers in (0, 1], one a slot, got {given!r}.")
        return decays

    @property
    def output_size(self) -> int:
        return self.units * {"activation": 1, "state": self.slots, "both": 1 + self.slots}[self.output]

    def recurrent_shape(self) -> tuple[int, ...]:
        return (self.slots * self.units, self.units)

    def direction(self, initial: list[Tensor], backwards: bool = False) -> Direction:
        constants = (self.threshold, self.sharpness, *self.decays)
        return replace(super().direction(initial, backwards), constants=constants, wide=self.slots, output=self.output)

    def get_config(self) -> dict[str, Any]:
        names = ("state", "slots", "threshold", "sharpness", "firing", "output")
        config = super().get_config() | {name: getattr(self, name) for name in names}
        return config | {"decays": list(self.decays) if self.state == "trace" else None}
