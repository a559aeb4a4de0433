"""Gradient descent, and its forms that divide by the size of past gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast.optimizers.base import Optimizer


class SGD(Optimizer):
    """Gradient descent, with momentum and Nesterov's form of it.

    ``w -= lr * g``; with momentum ``v = momentum * v - lr * g; w += v``, with `nesterov` ``w += momentum * v - lr * g``
    (Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013).

    Engine: kind ``"sgd"``, slots ``("momentum",)`` unless momentum is 0, scalars
    ``(lr, lr * weight_decay, momentum, nesterov)``.

    Examples
    --------
    >>> w = np.array([1.0])
    >>> SGD(0.5).apply([w], [np.array([0.2])])
    >>> w
    array([0.9])
    """

    engine_kind, arguments = "sgd", ("momentum", "nesterov")

    def __init__(self, learning_rate: Any = 0.01, momentum: float = 0.0, nesterov: bool = False, **common: Any) -> None:
        super().__init__(learning_rate, **common)
        self.momentum, self.nesterov = self._number("momentum", momentum, "in [0, 1]"), bool(nesterov)

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    def step_scalars(self) -> tuple[float, ...]:
        return self.learning_rate, self._decay(), self.momentum, float(self.nesterov)

    def _update(self, w: np.ndarray, g: np.ndarray, slots: list[np.ndarray], scalars: tuple[float, ...]) -> None:
        rate, _, momentum, nesterov = scalars
        if not slots:
            w -= rate * g
            return
        (v,) = slots
        v[...] = momentum * v - rate * g
        w += momentum * v - rate * g if nesterov else v


class RMSprop(Optimizer):
    """Gradient divided by the root of a running mean of its square.

    ``v = rho * v + (1 - rho) * g^2``, ``d = lr * g / sqrt(v + epsilon)``, ``w -= d``. `centered` subtracts the square
    of a running mean of g from v; with momentum ``m = momentum * m + d; w -= m``
    (Hinton, "Neural networks for machine learning", lecture 6e, 2012; Graves, arXiv:1308.0850, eq. 38-45).

    Engine: kind ``"rmsprop"``, slots ``"v"``, then ``"momentum"`` unless momentum is 0, then ``"average_gradient"`` if
    centered; scalars ``(lr, lr * weight_decay, rho, momentum, epsilon, centered)``.
    """

    engine_kind, arguments = "rmsprop", ("rho", "momentum", "epsilon", "centered")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(learning_rate, **common)
        self.rho, self.momentum = self._number("rho", rho, "in [0, 1]"), self._number("momentum", momentum, "in [0, 1]")
        self.epsilon, self.centered = self._number("epsilon", epsilon, "at least 0"), bool(centered)

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("v", *["momentum"] * (self.momentum > 0.0), *["average_gradient"] * self.centered)

    def step_scalars(self) -> tuple[float, ...]:
        return self.learning_rate, self._decay(), self.rho, self.momentum, self.epsilon, float(self.centered)

    def _update(self, w: np.ndarray, g: np.ndarray, slots: list[np.ndarray], scalars: tuple[float, ...]) -> None:
        rate, _, rho, momentum, epsilon, centered = scalars
        v = slots[0]
        v[...] = rho * v + (1.0 - rho) * np.square(g)
        power = v
        if centered:
            mean = slots[-1]
            mean[...] = rho * mean + (1.0 - rho) * g
            power = v - np.square(mean)
        step = rate * g / np.sqrt(power + epsilon)
        if momentum:
            slots[1][...] = momentum * slots[1] + step
            step = slots[1]
        w -= step


class Adagrad(Optimizer):
    """Gradient divided by the root of the sum of its squares so far.

    ``a += g^2``, ``w -= lr * g / sqrt(a + epsilon)`` (Duchi, Hazan and Singer, JMLR 12, 2011).

    Engine: kind ``"adagrad"``, slots ``("accumulator",)`` that start at `initial_accumulator_value`, scalars
    ``(lr, lr * weight_decay, epsilon)``.
    """

    engine_kind, arguments = "adagrad", ("initial_accumulator_value", "epsilon")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **common: Any,
    ) -> None:
        super().__init__(learning_rate, **common)
        self.initial_accumulator_value = self._number("initial_accumulator_value", initial_accumulator_value, "at least 0")
        self.epsilon = self._number("epsilon", epsilon, "at least 0")

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("accumulator",)

    @property
    def slot_init(self) -> tuple[float, ...]:
        return (self.initial_accumulator_value,)

    def step_scalars(self) -> tuple[float, ...]:
        return self.learning_rate, self._decay(), self.epsilon

    def _update(self, w: np.ndarray, g: np.ndarray, slots: list[np.ndarray], scalars: tuple[float, ...]) -> None:
        rate, _, epsilon = scalars
        (a,) = slots
        a += np.square(g)
        w -= rate * g / np.sqrt(a + epsilon)
