"""Adam and its relatives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rnnfast.optimizers.base import Optimizer


class Adam(Optimizer):
    """Running means of the gradient and of its square, corrected for their start at zero.

    ``m += (1 - beta_1) * (g - m)``, ``v += (1 - beta_2) * (g^2 - v)``,
    ``alpha = lr * sqrt(1 - beta_2^t) / (1 - beta_1^t)``, ``w -= alpha * m / (sqrt(v) + epsilon)``; with `amsgrad` the
    greatest v so far stands in the root (Kingma and Ba, ICLR 2015; Reddi, Kale and Kumar, ICLR 2018).

    Engine: kind ``"adam"``, slots ``("m", "v")`` or ``("m", "v", "vhat")``, scalars
    ``(alpha, lr * weight_decay, 1 - beta_1, 1 - beta_2, epsilon, amsgrad)``.
    """

    engine_kind, arguments = "adam", ("beta_1", "beta_2", "epsilon", "amsgrad")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(learning_rate, **common)
        self.beta_1, self.beta_2 = self._number("beta_1", beta_1, "in [0, 1)"), self._number("beta_2", beta_2, "in [0, 1)")
        self.epsilon, self.amsgrad = self._number("epsilon", epsilon, "at least 0"), bool(amsgrad)

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("m", "v", "vhat") if self.amsgrad else ("m", "v")

    def step_scalars(self) -> tuple[float, ...]:
        t = self.iterations + 1
        alpha = self.learning_rate * math.sqrt(1.0 - self.beta_2**t) / (1.0 - self.beta_1**t)
        return alpha, self._decay(), 1.0 - self.beta_1, 1.0 - self.beta_2, self.epsilon, float(self.amsgrad)

    def _update(self, w: np.ndarray, g: np.ndarray, slots: list[np.ndarray], scalars: tuple[float, ...]) -> None:
        alpha, _, one_minus_beta_1, one_minus_beta_2, epsilon, amsgrad = scalars
        m, v = slots[:2]
        m += one_minus_beta_1 * (g - m)
        v += one_minus_beta_2 * (np.square(g) - v)
        if amsgrad:
            v = np.maximum(slots[2], v, out=slots[2])
        w -= alpha * m / (np.sqrt(v) + epsilon)


class AdamW(Adam):
    """:class:`Adam` with weight decay on.

    Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **common: Any,
    ) -> None:
        if weight_decay is None:
            raise ValueError("AdamW: weight_decay must be a float, got None. Use Adam to train without it.")
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **common)


class Nadam(Optimizer):
    """Adam with Nesterov momentum.

    m and v as in :class:`Adam`; with ``u_t = beta_1 * (1 - 0.96^t / 2)`` and U_t the product of u_1 to u_t,
    ``w -= lr * (u_{t+1} m / (1 - U_{t+1}) + (1 - u_t) g / (1 - U_t)) / (sqrt(v / (1 - beta_2^t)) + epsilon)``
    (Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016).

    Engine: kind ``"nadam"``, slots ``("m", "v")``, scalars ``(lr * u_{t+1} / (1 - U_{t+1}), lr * weight_decay,
    lr * (1 - u_t) / (1 - U_t), 1 - beta_1, 1 - beta_2, epsilon, 1 / (1 - beta_2^t))``.
    """

    engine_kind, arguments = "nadam", ("beta_1", "beta_2", "epsilon")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **common: Any,
    ) -> None:
        super().__init__(learning_rate, **common)
        self.beta_1, self.beta_2 = self._number("beta_1", beta_1, "in [0, 1)"), self._number("beta_2", beta_2, "in [0, 1)")
        self.epsilon = self._number("epsilon", epsilon, "at least 0")
        self._product = (0, 1.0)  # t and U_t of the last step asked for: a run of steps costs one factor each

    @property
    def slot_names(self) -> tuple[str, ...]:
        return "m", "v"

    def _u(self, t: int) -> float:
        return self.beta_1 * (1.0 - 0.5 * 0.96**t)

    def _u_product(self, t: int) -> float:
        at, product = self._product if self._product[0] <= t else (0, 1.0)
        for i in range(at + 1, t + 1):
            product *= self._u(i)
            if product < 1e-30:  # one minus it is one from here on
                product = 0.0
                break
        self._product = (t, product)
        return product

    def step_scalars(self) -> tuple[float, ...]:
        t, rate = self.iterations + 1, self.learning_rate
        product = self._u_product(t)
        ahead = self._u(t + 1)
        m_factor = rate * ahead / (1.0 - product * ahead)
        g_factor = rate * (1.0 - self._u(t)) / (1.0 - product)
        one_minus_betas = (1.0 - self.beta_1, 1.0 - self.beta_2)
        return m_factor, self._decay(), g_factor, *one_minus_betas, self.epsilon, 1.0 / (1.0 - self.beta_2**t)

    def _update(self, w: np.ndarray, g: np.ndarray, slots: list[np.ndarray], scalars: tuple[float, ...]) -> None:
        m_factor, _, g_factor, one_minus_beta_1, one_minus_beta_2, epsilon, v_factor = scalars
        m, v = slots
        m += one_minus_beta_1 * (g - m)
        v += one_minus_beta_2 * (np.square(g) - v)
        w -= (m_factor * m + g_factor * g) / (np.sqrt(v * v_factor) + epsilon)
