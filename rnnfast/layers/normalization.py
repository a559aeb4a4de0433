"""BatchNormalization."""

from __future__ import annotations

from typing import Any

from rnnfast import constraints, initializers, regularizers
from rnnfast.layers.base import Layer, register
from rnnfast.plan import Builder, Tensor, Variable
from rnnfast.plan.normalization import batch_normalize


@register
class BatchNormalization(Layer):
    """``y = (x - mean) / sqrt(variance + epsilon) * gamma + beta``, feature by feature (Ioffe and Szegedy 2015, arXiv 1502.03167).

    In training the mean and the variance (that of the population: divided by the count) are the batch's, over all its valid steps, and the moving ones follow:
    ``moving = moving * momentum + batch * (1 - momentum)``. Otherwise, and with ``trainable=False``, the moving ones are used. Masked steps are normalised, but no
    part of the statistics; a batch without any valid step is normalised by the moving ones.

    Parameters
    ----------
    axis : int, default -1
        Only the last one.
    momentum : float, default 0.99
    epsilon : float, default 1e-3
    center, scale : bool
        Whether there is a beta and a gamma.
    beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer : default "zeros", "ones", "zeros", "ones"
    beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint : optional

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import layers
    >>> layers.BatchNormalization()(np.array([[1.0], [3.0]], np.float32), training=True).round(2).ravel()
    array([-1.,  1.], dtype=float32)
    """

    uses_mask = streams = True

    def __init__(
        self, axis: int = -1, momentum: float = 0.99, epsilon: float = 1e-3, center: bool = True, scale: bool = True, beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones", moving_mean_initializer: Any = "zeros", moving_variance_initializer: Any = "ones", beta_regularizer: Any = None,
        gamma_regularizer: Any = None, beta_constraint: Any = None, gamma_constraint: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.axis, self.center, self.scale = axis, bool(center), bool(scale)
        self.momentum, self.epsilon = self._number("momentum", momentum, 1.0), self._number("epsilon", epsilon, float("inf"))
        self.beta_initializer, self.gamma_initializer = initializers.get(beta_initializer), initializers.get(gamma_initializer)
        self.moving_mean_initializer, self.moving_variance_initializer = initializers.get(moving_mean_initializer), initializers.get(moving_variance_initializer)
        self.beta_regularizer, self.gamma_regularizer = regularizers.get(beta_regularizer), regularizers.get(gamma_regularizer)
        self.beta_constraint, self.gamma_constraint = constraints.get(beta_constraint), constraints.get(gamma_constraint)
        self.gamma: Variable | None = None
        self.beta: Variable | None = None
        self.moving_mean: Variable
        self.moving_variance: Variable

    def _number(self, argument: str, value: Any, most: float) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
            raise ValueError(f"BatchNormalization '{self.name}': {argument} must be a number from 0 to {most}, got {value!r}.")
        return float(value)

    def create_weights(self, input_shape: tuple[int | None, ...]) -> None:
        width = input_shape[-1]
        if self.axis not in (-1, len(input_shape) - 1):
            raise ValueError(f"BatchNormalization '{self.name}': axis must be the last one, -1, got {self.axis!r}.")
        if width is None:
            raise ValueError(f"BatchNormalization '{self.name}': the last dimension of the input must be known, got {input_shape}.")
        if self.scale:
            self.gamma = self.add_weight((width,), "gamma", self.gamma_initializer, self.gamma_regularizer, self.gamma_constraint)
        if self.center:
            self.beta = self.add_weight((width,), "beta", self.beta_initializer, self.beta_regularizer, self.beta_constraint)
        self.moving_mean = self.add_weight((width,), "moving_mean", self.moving_mean_initializer, trainable=False)
        self.moving_variance = self.add_weight((width,), "moving_variance", self.moving_variance_initializer, trainable=False)

    def describe(self, b: Builder, x: Tensor) -> Tensor:
        moving = (self.moving_mean, self.moving_variance)
        return batch_normalize(b, x, self.gamma, self.beta, moving, (self.epsilon, self.momentum), b.training and self.trainable)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config() | {"axis": self.axis, "momentum": self.momentum, "epsilon": self.epsilon, "center": self.center, "scale": self.scale}
        for role in ("beta", "gamma"):
            config[f"{role}_regularizer"] = regularizers.serialize(getattr(self, f"{role}_regularizer"))
            config[f"{role}_constraint"] = constraints.serialize(getattr(self, f"{role}_constraint"))
        for role in ("beta", "gamma", "moving_mean", "moving_variance"):
            config[f"{role}_initializer"] = initializers.serialize(getattr(self, f"{role}_initializer"))
        return config
