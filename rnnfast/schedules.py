"""Learning rates that depend on the step: called with the number of finished steps, they return a float."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Any

from rnnfast.registry import Registry


class LearningRateSchedule:
    """Base class; subclasses define ``__call__(step)`` and list their constructor's arguments."""

    arguments: tuple[str, ...] = ()

    def __call__(self, step: int) -> float:
        """Return the learning rate of the step after `step` finished ones."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {argument: getattr(self, argument) for argument in (*self.arguments, "name")}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LearningRateSchedule:
        """Make one from :meth:`get_config`'s result."""
        return cls(**config)


class ExponentialDecay(LearningRateSchedule):
    """``initial_learning_rate * decay_rate ** (step / decay_steps)``; `staircase` rounds the exponent down.

    Examples
    --------
    >>> ExponentialDecay(0.1, decay_steps=100, decay_rate=0.5)(200)
    0.025
    """

    arguments = ("initial_learning_rate", "decay_steps", "decay_rate", "staircase")

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, _steps(type(self), decay_steps)
        self.decay_rate, self.staircase, self.name = decay_rate, staircase, name

    def __call__(self, step: int) -> float:
        p = step / self.decay_steps
        return float(self.initial_learning_rate * self.decay_rate ** (math.floor(p) if self.staircase else p))


class InverseTimeDecay(LearningRateSchedule):
    """``initial_learning_rate / (1 + decay_rate * step / decay_steps)``; `staircase` rounds the fraction down."""

    arguments = ("initial_learning_rate", "decay_steps", "decay_rate", "staircase")

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, _steps(type(self), decay_steps)
        self.decay_rate, self.staircase, self.name = decay_rate, staircase, name

    def __call__(self, step: int) -> float:
        p = step / self.decay_steps
        return float(self.initial_learning_rate / (1.0 + self.decay_rate * (math.floor(p) if self.staircase else p)))


class PolynomialDecay(LearningRateSchedule):
    """``(initial_learning_rate - end_learning_rate) * (1 - step / decay_steps) ** power + end_learning_rate``.

    After `decay_steps` the rate stays at its end; with `cycle` it starts again over the next multiple of `decay_steps`.
    """

    arguments = ("initial_learning_rate", "decay_steps", "end_learning_rate", "power", "cycle")

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, _steps(type(self), decay_steps)
        self.end_learning_rate, self.power, self.cycle, self.name = end_learning_rate, power, cycle, name

    def __call__(self, step: int) -> float:
        if self.cycle:
            p = step / (self.decay_steps * max(1, math.ceil(step / self.decay_steps)))
        else:
            p = min(step, self.decay_steps) / self.decay_steps
        span = self.initial_learning_rate - self.end_learning_rate
        return float(span * (1.0 - p) ** self.power + self.end_learning_rate)


class PiecewiseConstantDecay(LearningRateSchedule):
    """``values[i]`` up to and including step ``boundaries[i]``, the last value after the last boundary.

    Examples
    --------
    >>> rate = PiecewiseConstantDecay([100, 200], [0.1, 0.01, 0.001])
    >>> rate(100), rate(101), rate(1000)
    (0.1, 0.01, 0.001)
    """

    arguments = ("boundaries", "values")

    def __init__(self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant") -> None:
        if len(boundaries) != len(values) - 1 or list(boundaries) != sorted(boundaries):
            raise ValueError(
                "PiecewiseConstantDecay: boundaries must be increasing and one fewer than values, "
                f"got boundaries {boundaries} and values {values}."
            )
        self.boundaries, self.values, self.name = list(boundaries), list(values), name

    def __call__(self, step: int) -> float:
        return float(self.values[bisect.bisect_left(self.boundaries, step)])


class CosineDecay(LearningRateSchedule):
    """Half a cosine from the initial rate down to `alpha` times it, after an optional linear warm-up.

    Parameters
    ----------
    initial_learning_rate : float
    decay_steps : int
        Length of the decay, without the warm-up.
    alpha : float
        Share of the starting rate that is left at the end.
    warmup_target : float, optional
        The rate goes linearly from the initial one to this in `warmup_steps`, and decays from there.
    warmup_steps : int

    Notes
    -----
    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.

    Examples
    --------
    >>> rate = CosineDecay(0.0, 100, warmup_target=0.1, warmup_steps=10)
    >>> rate(5), rate(10), rate(110)
    (0.05, 0.1, 0.0)
    """

    arguments = ("initial_learning_rate", "decay_steps", "alpha", "warmup_target", "warmup_steps")

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, _steps(type(self), decay_steps)
        self.alpha, self.name, self.warmup_target, self.warmup_steps = alpha, name, warmup_target, warmup_steps

    def __call__(self, step: int) -> float:
        peak = self.initial_learning_rate
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return float(peak + (self.warmup_target - peak) * (step / self.warmup_steps))
            peak, step = self.warmup_target, step - self.warmup_steps
        return float(peak * _cosine(min(step, self.decay_steps) / self.decay_steps, self.alpha))


class CosineDecayRestarts(LearningRateSchedule):
    """Cosine decays one after the other (SGDR).

    Each is `t_mul` times as long and starts `m_mul` times as high as the one before; `alpha` as in
    :class:`CosineDecay`. Loshchilov and Hutter, ICLR 2017.
    """

    arguments = ("initial_learning_rate", "first_decay_steps", "t_mul", "m_mul", "alpha")

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        if t_mul < 1.0:
            raise ValueError(f"CosineDecayRestarts: t_mul must be at least 1, got {t_mul!r}.")
        self.initial_learning_rate = initial_learning_rate
        self.first_decay_steps = _steps(type(self), first_decay_steps, "first_decay_steps")
        self.t_mul, self.m_mul, self.alpha, self.name = t_mul, m_mul, alpha, name

    def __call__(self, step: int) -> float:
        length, left, restarts = float(self.first_decay_steps), float(step), 0
        if self.t_mul == 1.0:
            restarts, left = int(left // length), left % length
        while left >= length:
            left, length, restarts = left - length, length * self.t_mul, restarts + 1
        return float(self.initial_learning_rate * _cosine(left / length, self.alpha, self.m_mul**restarts))


def _cosine(fraction: float, alpha: float, height: float = 1.0) -> float:
    return (1.0 - alpha) * height * 0.5 * (1.0 + math.cos(math.pi * fraction)) + alpha


def _steps(owner: type, value: int, name: str = "decay_steps") -> int:
    if not value > 0:
        raise ValueError(f"{owner.__name__}: {name} must be greater than 0, got {value!r}.")
    return value


_REGISTRY: Registry[LearningRateSchedule] = Registry(
    "learning rate schedule",
    {
        "exponential_decay": ExponentialDecay,
        "inverse_time_decay": InverseTimeDecay,
        "polynomial_decay": PolynomialDecay,
        "piecewise_constant_decay": PiecewiseConstantDecay,
        "cosine_decay": CosineDecay,
        "cosine_decay_restarts": CosineDecayRestarts,
    },
)

serialize = _REGISTRY.serialize
deserialize = _REGISTRY.deserialize
