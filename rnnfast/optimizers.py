"""Optimizers: how gradients move weights.

``apply`` is the readable definition and works on plain arrays; in training the engine runs the same update over all
weights at once, from the numbers of ``step_scalars()``. A whole step is: clip the gradients, shrink the weights by
``learning_rate * weight_decay``, update, count the iteration.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnfast import schedules
from rnnfast.registry import Registry


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
        given = {key: value for key, value in clips.items() if value is not None}
        if len(given) > 1:
            raise ValueError(f"{type(self).__name__} {self.name!r}: only one kind of clipping can be set, got {given}.")
        for key, value in given.items():
            self._check(key, value, value > 0.0, "greater than 0")
        self.clipnorm, self.clipvalue, self.global_clipnorm = clipnorm, clipvalue, global_clipnorm
        if weight_decay is not None:
            self._check("weight_decay", weight_decay, weight_decay >= 0.0, "at least 0")
        self.weight_decay = weight_decay
        self.iterations = 0
        self._rate = self._as_rate(learning_rate)
        self._slots: list[list[np.ndarray]] = []

    def _check(self, name: str, value: float, holds: bool, wanted: str) -> None:
        if not holds or math.isinf(value):
            raise ValueError(f"{type(self).__name__} {self.name!r}: {name} must be {wanted}, got {value!r}.")

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
        self._check("learning_rate", float(value), float(value) >= 0.0, "at least 0")
        return float(value)

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
        self._check("momentum", momentum, 0.0 <= momentum <= 1.0, "in [0, 1]")
        self.momentum, self.nesterov = float(momentum), bool(nesterov)

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
        self._check("rho", rho, 0.0 <= rho <= 1.0, "in [0, 1]")
        self._check("momentum", momentum, 0.0 <= momentum <= 1.0, "in [0, 1]")
        self.rho, self.momentum, self.epsilon, self.centered = float(rho), float(momentum), epsilon, bool(centered)

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
        self._check("beta_1", beta_1, 0.0 <= beta_1 < 1.0, "in [0, 1)")
        self._check("beta_2", beta_2, 0.0 <= beta_2 < 1.0, "in [0, 1)")
        self.beta_1, self.beta_2, self.epsilon, self.amsgrad = float(beta_1), float(beta_2), epsilon, bool(amsgrad)

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
        self._check("beta_1", beta_1, 0.0 <= beta_1 < 1.0, "in [0, 1)")
        self._check("beta_2", beta_2, 0.0 <= beta_2 < 1.0, "in [0, 1)")
        self.beta_1, self.beta_2, self.epsilon = float(beta_1), float(beta_2), epsilon
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
        holds = initial_accumulator_value >= 0.0
        self._check("initial_accumulator_value", initial_accumulator_value, holds, "at least 0")
        self.initial_accumulator_value, self.epsilon = float(initial_accumulator_value), epsilon

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


def _shrink(sum_of_squares: float, limit: float) -> float:
    """The factor that brings a gradient to norm `limit`, 1 when it is shorter; NaN for an infinite or NaN gradient."""
    norm = math.sqrt(sum_of_squares)
    return limit / max(norm, limit) if math.isfinite(norm) else math.nan


_REGISTRY: Registry[Optimizer] = Registry(
    "optimizer", {"sgd": SGD, "rmsprop": RMSprop, "adam": Adam, "adamw": AdamW, "nadam": Nadam, "adagrad": Adagrad}
)

serialize = _REGISTRY.serialize
deserialize = _REGISTRY.deserialize


def get(identifier: Any) -> Optimizer:
    """Return the optimizer for a name, class, config or :class:`Optimizer`.

    Examples
    --------
    >>> get("adam").learning_rate
    0.001
    """
    optimizer = _REGISTRY.get(identifier)
    if not isinstance(optimizer, Optimizer):
        raise ValueError(f"optimizer must be a name or an Optimizer of rnnfast.optimizers, got {identifier!r}.")
    return optimizer
