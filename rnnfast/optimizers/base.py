"""What all optimizers share: the learning rate, clipping, weight decay and state."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rnnfast import schedules

RANGES: dict[str, Callable[[float], bool]] = {
    "at least 0": lambda x: x >= 0,
    "greater than 0": lambda x: x > 0,
    "in [0, 1]": lambda x: 0 <= x <= 1,
    "in [0, 1)": lambda x: 0 <= x < 1,
}


class Optimizer:
    """Base class of the optimizers.

    Parameters
    ----------
    learning_rate : float or LearningRateSchedule
    weight_decay : float, optional
        Before the update, weights lose ``learning_rate * weight_decay`` of their value (decoupled decay).
    clipnorm : float, optional
        Each weight's gradient is scaled down to at most this norm.
    clipvalue : float, optional
        Gradients are cut to [-clipvalue, clipvalue].
    global_clipnorm : float, optional
        All gradients are scaled by one number so that their joint norm is at most this. Only one kind of clipping at a
        time.
    name : str, optional

    Attributes
    ----------
    iterations : int
        Finished steps.
    engine_kind : str
        The engine's name of the update.
    slot_names, slot_init : tuple
        Arrays kept per weight, and the value they start from.
    """

    engine_kind = ""
    arguments: tuple[str, ...] = ()

    def __init__(
        self,
        learning_rate: Any = 0.001,
        *,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
    ) -> None:
        self.name = name or type(self).__name__.lower()
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        given = {key: self._number(key, value, "greater than 0") for key, value in clips.items() if value is not None}
        if len(given) > 1:
            raise ValueError(f"{type(self).__name__} {self.name!r}: only one kind of clipping can be set, got {given}.")
        self.clipnorm, self.clipvalue, self.global_clipnorm = (given.get(key) for key in clips)
        self.weight_decay = None if weight_decay is None else self._number("weight_decay", weight_decay, "at least 0")
        self.iterations = 0
        self._rate = self._as_rate(learning_rate)
        self._slots: list[list[np.ndarray]] = []

    def _number(self, name: str, value: Any, wanted: str) -> float:
        """An argument as a float, if it is a finite number of the range of that name."""
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise ValueError(f"{type(self).__name__} {self.name!r}: {name} must be a number, got {value!r}.")
        number = float(value)
        if not math.isfinite(number) or not RANGES[wanted](number):
            raise ValueError(f"{type(self).__name__} {self.name!r}: {name} must be {wanted}, got {value!r}.")
        return number

    def _as_rate(self, value: Any) -> float | schedules.LearningRateSchedule:
        if isinstance(value, dict):
            return schedules.deserialize(value)
        if isinstance(value, schedules.LearningRateSchedule):
            return value
        if isinstance(value, bool) or not isinstance(value, int | float | np.number | np.ndarray) or np.ndim(value):
            raise ValueError(
                f"{type(self).__name__} {self.name!r}: learning_rate must be a float or a LearningRateSchedule, "
                f"got {value!r}."
            )
        return self._number("learning_rate", float(value), "at least 0")

    @property
    def learning_rate(self) -> float:
        """The rate of the coming step. Assignable: a float, or a schedule (which a float cannot replace)."""
        return self._rate if isinstance(self._rate, float) else self._rate(self.iterations)

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        rate = self._as_rate(value)
        if isinstance(rate, float) and not isinstance(self._rate, float):
            raise TypeError(
                f"{type(self).__name__} {self.name!r}: learning_rate follows {type(self._rate).__name__} and cannot be "
                "set to a float. Make the optimizer with a float to change it during training."
            )
        self._rate = rate

    @property
    def slot_names(self) -> tuple[str, ...]:
        """Names of the arrays kept per weight in this configuration."""
        return ()

    @property
    def slot_init(self) -> tuple[float, ...]:
        """First value of each of these arrays."""
        return (0.0,) * len(self.slot_names)

    def step_scalars(self) -> tuple[float, ...]:
        """Return the numbers of the coming step, as the class describes under "Engine"."""
        raise NotImplementedError

    def _decay(self) -> float:
        return self.learning_rate * (self.weight_decay or 0.0)

    def _update(self, w: np.ndarray, g: np.ndarray, slots: list[np.ndarray], scalars: tuple[float, ...]) -> None:
        raise NotImplementedError

    def apply(self, params: list[np.ndarray], grads: Sequence[np.ndarray]) -> None:
        """Run one step on `params`, in place.

        Parameters
        ----------
        params : list of ndarray
            Floating-point; the same list in every call, since the slots belong to its entries.
        grads : sequence of ndarray
            Of the same shapes; left as they are.
        """
        if not self._slots:
            self._slots = [[np.full_like(w, value) for value in self.slot_init] for w in params]
        scalars = self.step_scalars()
        for w, g, slots in zip(params, self._clipped(grads), self._slots, strict=True):
            w -= w * scalars[1]
            self._update(w, g, slots, scalars)
        self.iterations += 1

    def _clipped(self, grads: Sequence[np.ndarray]) -> list[np.ndarray]:
        if self.clipvalue is not None:
            return [np.clip(g, -self.clipvalue, self.clipvalue) for g in grads]
        if self.clipnorm is not None:
            return [g * _shrink(float(np.square(g, dtype=np.float64).sum()), self.clipnorm) for g in grads]
        if self.global_clipnorm is not None:
            scale = _shrink(sum(float(np.square(g, dtype=np.float64).sum()) for g in grads), self.global_clipnorm)
            return [g * scale for g in grads]
        return list(grads)

    def get_state(self) -> dict[str, Any]:
        """Return all that changes from step to step: iterations, the rate if it is a float, slots that `apply` made."""
        state: dict[str, Any] = {"iterations": self.iterations}
        if isinstance(self._rate, float):
            state["learning_rate"] = self._rate
        for index, slots in enumerate(self._slots):
            state |= {f"{name}/{index}": slot.copy() for name, slot in zip(self.slot_names, slots, strict=True)}
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`get_state` returned."""
        self.iterations = int(state["iterations"])
        if "learning_rate" in state:
            self._rate = float(state["learning_rate"])
        count = sum(key.startswith(f"{self.slot_names[0]}/") for key in state) if self.slot_names else 0
        self._slots = [[state[f"{name}/{index}"].copy() for name in self.slot_names] for index in range(count)]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the learning rate as it is now."""
        rate = self._rate if isinstance(self._rate, float) else schedules.serialize(self._rate)
        common = ("name", "weight_decay", "clipnorm", "clipvalue", "global_clipnorm")
        return {"learning_rate": rate, **{name: getattr(self, name) for name in (*common, *self.arguments)}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Optimizer:
        """Make one from :meth:`get_config`'s result."""
        return cls(**config)


def _shrink(sum_of_squares: float, limit: float) -> float:
    """The factor that brings a gradient to norm `limit`, 1 when it is shorter; NaN for an infinite or NaN gradient."""
    norm = math.sqrt(sum_of_squares)
    return limit / max(norm, limit) if math.isfinite(norm) else math.nan
