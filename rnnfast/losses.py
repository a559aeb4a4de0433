"""Losses: what training makes small.

The NumPy code here is the readable definition, in float64; the engine computes the same values and their derivatives
in C, told which by :meth:`Loss.engine`.

A loss has two halves. ``call(y_true, y_pred)`` gives one value a sample or time step: the last axis is averaged (or
summed, for cross-entropy and divergence) away. The reduction is then one weighted sum of these values, whose weights
:meth:`Loss.coefficients` computes from the reduction, the sample weights and the mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast import config
from rnnfast.errors import ShapeError
from rnnfast.registry import Registry

REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none")


class Loss:
    """Base class of the losses.

    Parameters
    ----------
    name : str, optional
    reduction : {"sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none"}
        The first two are the same: the sum divided by the number of values, of which masked ones do not count.
        ``"sum"`` does not divide, ``"mean_with_sample_weight"`` divides by the sum of the weights, ``"none"`` (or
        None) returns the values themselves, and is for calls only: a model cannot train on it.

    Examples
    --------
    >>> MeanSquaredError()([[0.0], [1.0]], [[1.0], [3.0]])
    2.5
    >>> MeanSquaredError()([[0.0], [1.0]], [[1.0], [3.0]], sample_weight=[1.0, 0.5])
    1.5
    """

    kind = ""
    default_name = ""
    arguments: tuple[str, ...] = ()

    def __init__(self, name: str | None = None, reduction: str | None = "sum_over_batch_size") -> None:
        reduction = "none" if reduction is None else reduction
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"{type(self).__name__}: reduction must be one of {REDUCTIONS} or None, got {reduction!r}."
            )
        self.name = name or self.default_name or type(self).__name__
        self.reduction = reduction

    def engine(self) -> tuple[str, tuple[float, ...]]:
        """Return the engine's name of the loss and its parameters."""
        return self.kind, ()

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return a value for each sample or step, shape ``y_pred.shape[:-1]``, of targets that `prepare` returned."""
        raise NotImplementedError

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> Any:
        """Return the reduced loss.

        Parameters
        ----------
        y_true : array_like
            Shape of `y_pred`; a last axis of size one may be missing on one of them.
        y_pred : array_like, (B, ..., F)
        sample_weight : array_like, (B,) or (B, T), optional
        mask : array_like of bool, (B,) or (B, T), optional
            False where a value does not count, whatever it is.

        Returns
        -------
        float
            Or an ndarray of weighted values for ``reduction="none"``.
        """
        y_pred = np.asarray(y_pred, np.float64)
        y_true = self.prepare(y_true, y_pred.shape)
        values = self.call(y_true, y_pred.reshape(-1, 1) if y_pred.ndim == 1 else y_pred)
        weights = self.coefficients(values.shape, sample_weight, self.target_mask(y_true, mask))
        # A value without weight is left out rather than multiplied by zero: padding may hold NaN.
        weighted = np.multiply(
            values, weights, out=np.zeros_like(values), where=np.broadcast_to(weights != 0, values.shape)
        )
        return weighted if self.reduction == "none" else float(weighted.sum())

    def prepare(self, y_true: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Return `y_true` in the shape of predictions of the given `shape`, or raise :class:`ShapeError`."""
        return _fit_shape(self.name, np.asarray(y_true), shape)

    def target_mask(self, y_true: np.ndarray, mask: Any) -> Any:
        """Return `mask` without the values that the targets themselves exclude; here `mask` as it is."""
        return mask

    def coefficients(self, shape: tuple[int, ...], sample_weight: Any = None, mask: Any = None) -> np.ndarray:
        """Return c, broadcastable to values v of `shape`, so that the reduced loss is ``sum(c * v)``."""
        weights = np.ones((1,) * len(shape))
        if sample_weight is not None:
            weights = expand_weights(self.name, "sample_weight", np.asarray(sample_weight, np.float64), shape)
        size, divisor = float(np.prod(shape)), 1.0
        if mask is not None:
            mask = expand_weights(self.name, "mask", np.asarray(mask, bool), shape)
            weights = weights * mask
            size *= mask.sum() / max(mask.size, 1)
        if self.reduction in ("sum_over_batch_size", "mean"):
            divisor = size
        elif self.reduction == "mean_with_sample_weight":
            divisor = (
                float(np.broadcast_to(weights, shape).sum()) if sample_weight is not None else float(np.prod(shape))
            )
        return weights / divisor if divisor else np.zeros_like(weights)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        own = {name: getattr(self, name) for name in self.arguments}
        return {"name": self.name, "reduction": self.reduction, **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Loss:
        """Make one from :meth:`get_config`'s result."""
        return cls(**config)


class MeanSquaredError(Loss):
    """``mean((y_true - y_pred)^2)`` over the last axis."""

    kind, default_name = "mse", "mean_squared_error"

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return np.square(y_true - y_pred).mean(-1)


class MeanAbsoluteError(Loss):
    """``mean(|y_true - y_pred|)`` over the last axis."""

    kind, default_name = "mae", "mean_absolute_error"

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return np.abs(y_true - y_pred).mean(-1)


class MeanAbsolutePercentageError(Loss):
    """``100 * mean(|y_true - y_pred| / max(|y_true|, epsilon))`` over the last axis.

    Engine parameters: epsilon.
    """

    kind, default_name = "mape", "mean_absolute_percentage_error"

    def engine(self) -> tuple[str, tuple[float, ...]]:
        return self.kind, (config.epsilon(),)

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return 100.0 * (np.abs(y_true - y_pred) / np.maximum(np.abs(y_true), config.epsilon())).mean(-1)


class MeanSquaredLogarithmicError(Loss):
    """``mean((log(max(y_true, epsilon) + 1) - log(max(y_pred, epsilon) + 1))^2)`` over the last axis.

    Engine parameters: epsilon.
    """

    kind, default_name = "msle", "mean_squared_logarithmic_error"

    def engine(self) -> tuple[str, tuple[float, ...]]:
        return self.kind, (config.epsilon(),)

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        floor = config.epsilon()
        return np.square(np.log1p(np.maximum(y_true, floor)) - np.log1p(np.maximum(y_pred, floor))).mean(-1)


class Huber(Loss):
    """Quadratic for small errors, linear for large ones.

    With e = |y_true - y_pred|, ``e^2 / 2`` up to `delta` and ``delta * e - delta^2 / 2`` beyond; mean over the last
    axis. Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35 (1964).
    Engine parameters: delta.
    """

    kind, default_name, arguments = "huber", "huber_loss", ("delta",)

    def __init__(
        self, delta: float = 1.0, reduction: str | None = "sum_over_batch_size", name: str | None = None
    ) -> None:
        super().__init__(name, reduction)
        self.delta = float(delta)

    def engine(self) -> tuple[str, tuple[float, ...]]:
        return self.kind, (self.delta,)

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        error = np.abs(y_true - y_pred)
        return np.where(error <= self.delta, 0.5 * error**2, self.delta * error - 0.5 * self.delta**2).mean(-1)


class LogCosh(Loss):
    """``mean(log(cosh(y_pred - y_true)))`` over the last axis, without overflow for large errors."""

    kind, default_name = "log_cosh", "log_cosh"

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        error = np.abs(y_pred - y_true)
        return (error + np.log1p(np.exp(-2.0 * error)) - np.log(2.0)).mean(-1)


class KLDivergence(Loss):
    """``sum(y_true * log(y_true / y_pred))`` over the last axis, both clipped to [epsilon, 1].

    Engine parameters: epsilon.
    """

    kind, default_name = "kl_divergence", "kl_divergence"

    def engine(self) -> tuple[str, tuple[float, ...]]:
        return self.kind, (config.epsilon(),)

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        truth, predicted = (np.clip(y, config.epsilon(), 1.0) for y in (y_true, y_pred))
        return (truth * np.log(truth / predicted)).sum(-1)


class Poisson(Loss):
    """``mean(y_pred - y_true * log(y_pred + epsilon))`` over the last axis.

    Engine parameters: epsilon.
    """

    kind, default_name = "poisson", "poisson"

    def engine(self) -> tuple[str, tuple[float, ...]]:
        return self.kind, (config.epsilon(),)

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return (y_pred - y_true * np.log(y_pred + config.epsilon())).mean(-1)


class _CrossEntropy(Loss):
    """Arguments of the two cross-entropies whose targets are probabilities."""

    arguments = ("from_logits", "label_smoothing", "axis")

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(name, reduction)
        if not 0.0 <= label_smoothing <= 1.0:
            raise ValueError(f"{type(self).__name__}: label_smoothing must be in [0, 1], got {label_smoothing!r}.")
        _check_axis(self, axis)
        self.from_logits, self.label_smoothing, self.axis = bool(from_logits), float(label_smoothing), axis

    def engine(self) -> tuple[str, tuple[float, ...]]:
        return self.kind, (float(self.from_logits), self.label_smoothing, config.epsilon())


class BinaryCrossentropy(_CrossEntropy):
    """``-mean(y log p + (1 - y) log(1 - p))`` over the last axis.

    Parameters
    ----------
    from_logits : bool
        `y_pred` holds logits x, p = sigmoid(x); otherwise p, clipped to [epsilon, 1 - epsilon].
    label_smoothing : float
        Targets become ``y * (1 - s) + s / 2``.
    axis : int
        -1.

    Notes
    -----
    Engine parameters: from_logits (0 or 1), label_smoothing, epsilon.
    """

    kind = default_name = "binary_crossentropy"

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        target = y_true * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing
        if self.from_logits:
            values = np.maximum(y_pred, 0.0) - y_pred * target + np.log1p(np.exp(-np.abs(y_pred)))
        else:
            p = np.clip(y_pred, config.epsilon(), 1.0 - config.epsilon())
            values = -(target * np.log(p) + (1.0 - target) * np.log1p(-p))
        return values.mean(-1)


class CategoricalCrossentropy(_CrossEntropy):
    """``-sum(y log p)`` over the classes, the last axis; targets are probabilities or one-hot.

    Parameters
    ----------
    from_logits : bool
        `y_pred` holds logits, p = softmax; otherwise p, divided by its sum and clipped to [epsilon, 1 - epsilon].
    label_smoothing : float
        Targets become ``y * (1 - s) + s / classes``.
    axis : int
        -1.

    Notes
    -----
    Engine parameters: from_logits (0 or 1), label_smoothing, epsilon.
    """

    kind = default_name = "categorical_crossentropy"

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        target = y_true * (1.0 - self.label_smoothing) + self.label_smoothing / y_pred.shape[-1]
        return -(target * _log_probabilities(y_pred, self.from_logits)).sum(-1)


class SparseCategoricalCrossentropy(Loss):
    """``-log p[y]`` for class numbers y, shape ``y_pred.shape[:-1]`` or that with a last axis of size one.

    Parameters
    ----------
    from_logits : bool
        As in :class:`CategoricalCrossentropy`.
    ignore_class : int, optional
        Targets of this class are left out of the mean as if masked.
    axis : int
        -1.

    Notes
    -----
    Engine parameters: from_logits (0 or 1), epsilon, ignore_class (NaN for none).

    Examples
    --------
    >>> round(SparseCategoricalCrossentropy()([0, 1], [[0.5, 0.5], [0.75, 0.25]]), 4)
    1.0397
    """

    kind = default_name = "sparse_categorical_crossentropy"
    arguments = ("from_logits", "ignore_class")

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str | None = None,
    ) -> None:
        super().__init__(name, reduction)
        _check_axis(self, axis)
        self.from_logits, self.ignore_class = bool(from_logits), ignore_class

    def engine(self) -> tuple[str, tuple[float, ...]]:
        ignored = np.nan if self.ignore_class is None else float(self.ignore_class)
        return self.kind, (float(self.from_logits), config.epsilon(), ignored)

    def prepare(self, y_true: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Return the class numbers as int64 in shape ``shape[:-1]``; raise ValueError for numbers out of range."""
        y_true = np.asarray(y_true)
        if y_true.shape not in (shape[:-1], (*shape[:-1], 1)):
            raise ShapeError(
                f"{self.name}: y_true must have shape {shape[:-1]} (class numbers) for predictions of shape {shape}, "
                f"got {y_true.shape}. For one-hot targets use 'categorical_crossentropy'."
            )
        if y_true.dtype.kind not in "biuf":
            raise ValueError(f"{self.name}: y_true must hold numbers, got dtype {y_true.dtype}.")
        labels = y_true.reshape(shape[:-1]).astype(np.int64)
        used = labels if self.ignore_class is None else labels[labels != self.ignore_class]
        if used.size and not 0 <= used.min() <= used.max() < shape[-1]:
            raise ValueError(
                f"{self.name}: y_true must hold class numbers in [0, {shape[-1]}), got {used.min()} to {used.max()}."
            )
        return labels

    def target_mask(self, y_true: np.ndarray, mask: Any) -> Any:
        if self.ignore_class is None:
            return mask
        kept = y_true != self.ignore_class
        return kept if mask is None else kept & expand_weights(self.name, "mask", np.asarray(mask, bool), kept.shape)

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        ignored = np.zeros(y_true.shape, bool) if self.ignore_class is None else y_true == self.ignore_class
        rows = np.where(ignored, 0, y_true)[..., None]
        values = -np.take_along_axis(_log_probabilities(y_pred, self.from_logits), rows, -1)[..., 0]
        return np.where(ignored, 0.0, values)


def _check_axis(loss: Loss, axis: int) -> None:
    if axis != -1:
        raise ValueError(f"{type(loss).__name__}: axis must be -1 (the last one), got {axis!r}.")


def _log_probabilities(y_pred: np.ndarray, from_logits: bool) -> np.ndarray:
    if from_logits:
        shifted = y_pred - y_pred.max(-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    p = y_pred / y_pred.sum(-1, keepdims=True)
    return np.log(np.clip(p, config.epsilon(), 1.0 - config.epsilon()))


def _fit_shape(name: str, y_true: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    fitting = {shape, (*shape, 1)} if len(shape) == 1 else {shape}
    fitting |= {shape[:-1]} if shape[-1:] == (1,) and len(shape) > 1 else set()
    if y_true.shape not in fitting:
        wanted = " or ".join(map(str, sorted(fitting, key=len, reverse=True)))
        raise ShapeError(
            f"{name}: y_true must have shape {wanted} for predictions of shape {shape}, got {y_true.shape}."
        )
    if y_true.dtype.kind not in "biuf":
        raise ValueError(f"{name}: y_true must hold real numbers, got dtype {y_true.dtype}.")
    return y_true.reshape(shape if len(shape) > 1 else (*shape, 1))


def expand_weights(name: str, what: str, given: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Give weights of shape (B,), (B, T) or (B, 1) the rank of the values they weigh."""
    while given.ndim > len(shape) and given.shape[-1] == 1:
        given = given[..., 0]
    fits = 0 < given.ndim <= len(shape) and all(a in (1, b) for a, b in zip(given.shape, shape, strict=False))
    if not fits or given.shape[0] != shape[0]:
        wanted = " or ".join(str(shape[: rank + 1]) for rank in range(min(len(shape), 2)))
        raise ShapeError(f"{name}: {what} must have shape {wanted}, got {given.shape}.")
    return given.reshape(given.shape + (1,) * (len(shape) - given.ndim))


_REGISTRY: Registry[Loss] = Registry(
    "loss",
    {
        "mean_squared_error": MeanSquaredError,
        "mse": MeanSquaredError,
        "mean_absolute_error": MeanAbsoluteError,
        "mae": MeanAbsoluteError,
        "mean_absolute_percentage_error": MeanAbsolutePercentageError,
        "mape": MeanAbsolutePercentageError,
        "mean_squared_logarithmic_error": MeanSquaredLogarithmicError,
        "msle": MeanSquaredLogarithmicError,
        "huber": Huber,
        "huber_loss": Huber,
        "log_cosh": LogCosh,
        "binary_crossentropy": BinaryCrossentropy,
        "bce": BinaryCrossentropy,
        "categorical_crossentropy": CategoricalCrossentropy,
        "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
        "kl_divergence": KLDivergence,
        "kld": KLDivergence,
        "poisson": Poisson,
    },
)

serialize = _REGISTRY.serialize
deserialize = _REGISTRY.deserialize


def get(identifier: Any) -> Loss | None:
    """Return the loss for a name, class, config or :class:`Loss`; None for None.

    Examples
    --------
    >>> get("mse").name
    'mean_squared_error'
    """
    loss = _REGISTRY.get(identifier)
    if loss is not None and not isinstance(loss, Loss):
        raise ValueError(f"loss must be a name or a Loss of rnnfast.losses (the engine computes it), got {loss!r}.")
    return loss
