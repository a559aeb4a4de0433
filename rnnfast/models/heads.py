"""Heads: what is asked of each output of a model: its loss, the loss' weight, its metrics."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnnfast import losses
from rnnfast.errors import ShapeError
from rnnfast.layers.inlets import each
from rnnfast.metrics import Mean, MeanMetricWrapper, Metric, MetricList, serialize


@dataclass(eq=False)
class Head:
    """One output.

    Attributes
    ----------
    name : str
    loss : Loss or None
        None where the output is not trained.
    weight : float
        Of the loss in the model's loss.
    metrics : MetricList
    loss_steps : int or None
        Of each row only so many of its last valid steps count.
    time_weights : ndarray (T,) or None
    mean : Mean
        Of the loss over the batches, without its weight.
    """

    name: str
    loss: losses.Loss | None
    weight: float
    metrics: MetricList
    loss_steps: int | None
    time_weights: np.ndarray | None
    mean: Mean


def unique_names(names: Sequence[str]) -> list[str]:
    """The names with ``_1``, ``_2``... behind those that occurred before."""
    counts: Counter[str] = Counter()
    found: list[str] = []
    for name in names:
        unique = name
        while unique in found:
            counts[name] += 1
            unique = f"{name}_{counts[name]}"
        found.append(unique)
    return found


def by_output(owner: str, what: str, names: list[str], given: Any) -> list[Any]:
    """What was given for each output: a list in their order, a dict by name, or, for one output, the thing itself."""
    if len(names) == 1 and isinstance(given, list | tuple) and len(given) == 1:
        return list(given)
    return each(owner, what, names, given, "output")


def is_row(given: Any) -> bool:
    """Whether this is one array of numbers, or None, instead of one for each output."""
    return given is None or isinstance(given, np.ndarray) or (isinstance(given, list | tuple) and all(_is_number(one) for one in given))


class Heads:
    """All outputs of a compiled model.

    Parameters
    ----------
    owner : str
        As errors name the model.
    names : list of str
        Of the outputs.
    loss, loss_weights, metrics, weighted_metrics, loss_steps, time_weights
        As `compile` takes them.
    """

    def __init__(
        self,
        owner: str,
        names: list[str],
        *,
        loss: Any,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        loss_steps: Any = None,
        time_weights: Any = None,
    ) -> None:
        self.names, self.several = names, len(names) > 1
        self._given = [_metrics_by_output(owner, what, names, given) for what, given in (("metrics", metrics), ("weighted_metrics", weighted_metrics))]
        steps = by_output(owner, "loss_steps", names, loss_steps) if isinstance(loss_steps, list | tuple | Mapping) else [loss_steps] * len(names)
        times = [time_weights] * len(names) if is_row(time_weights) else by_output(owner, "time_weights", names, time_weights)
        columns = (names, _losses(owner, names, loss), by_output(owner, "loss_weights", names, loss_weights), zip(*self._given, strict=True), steps, times)
        self.list = [
            Head(name, found, _weight(owner, weight), MetricList(*pair), _steps(owner, count), _time_weights(owner, row), _mean(f"{name}_loss"))
            for name, found, weight, pair, count, row in zip(*columns, strict=True)
        ]
        for head in self.list:
            _check(owner, head)
        self.trained = [head for head in self.list if head.loss is not None]
        self.needs_predictions = any(len(head.metrics) for head in self.list)
        self.weighs_time = any(head.time_weights is not None for head in self.list)

    @property
    def loss(self) -> Any:
        """The loss, or for several outputs the list of losses and None."""
        return [head.loss for head in self.list] if self.several else self.list[0].loss

    @property
    def metrics(self) -> list[Any]:
        """The means of several losses, and the metrics whose kind is known."""
        means: list[Any] = [head.mean for head in self.trained] if len(self.trained) > 1 else []
        return means + [metric for head in self.list for metric in head.metrics.metrics]

    def targets(self, owner: str, y: Any) -> list[Any]:
        """The targets of several outputs, from a list or dict; as in Keras a list may leave those out that have no loss, and one target alone need not be in one."""
        if isinstance(y, Mapping):
            return by_output(owner, "y", self.names, y)
        given = list(y) if isinstance(y, list | tuple) else [y]
        if len(given) == len(self.trained) < len(self.list):
            found = iter(given)
            return [next(found) if head in self.trained else None for head in self.list]
        return by_output(owner, "y", self.names, y)

    def reset_state(self) -> None:
        """Forget the batches that the losses and the metrics have seen."""
        for head in self.list:
            head.mean.reset_state()
            head.metrics.reset_state()

    def update_metrics(self, y: Any, y_pred: Any, sample_weight: Any, masks: Any) -> None:
        """Add a batch to the metrics; arguments are lists where there are several outputs."""
        if not self.several:
            self.list[0].metrics.update_state(y, y_pred, sample_weight, masks)
            return
        for head, *batch in zip(self.list, y, y_pred, sample_weight, masks or [None] * len(self.list), strict=True):
            if len(head.metrics):
                head.metrics.update_state(*batch)

    def update_losses(self, values: Sequence[float], samples: int) -> None:
        """Add a batch of so many samples to the means of several losses."""
        for head, value in zip(self.trained, values, strict=True):
            head.mean.update_state(value, samples)

    def result(self) -> dict[str, Any]:
        """Means of several losses in the order of the outputs, then the metrics: of one output by their names, of several by the output's and theirs, sorted."""
        if not self.several:
            return self.list[0].metrics.result()
        found = {f"{head.name}_{name}": value for head in self.list for name, value in head.metrics.result().items()}
        means = {head.mean.name: head.mean.result() for head in self.trained} if len(self.trained) > 1 else {}
        return means | {name: found[name] for name in sorted(found)}

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this again, as JSON can hold them."""

        def shown(values: Sequence[Any]) -> Any:
            return list(values) if self.several else values[0]

        times = [None if head.time_weights is None else head.time_weights.tolist() for head in self.list]
        written = [shown([_serialize_metrics(one) for one in given]) for given in self._given]
        return {
            "loss": shown([None if head.loss is None else losses.serialize(head.loss) for head in self.list]),
            "loss_weights": shown([head.weight for head in self.list]),
            "metrics": written[0],
            "weighted_metrics": written[1],
            "loss_steps": shown([head.loss_steps for head in self.list]),
            "time_weights": shown(times),
        }


def _losses(owner: str, names: list[str], given: Any) -> list[losses.Loss | None]:
    if isinstance(given, Mapping) and "class_name" not in given:
        missing = [name for name in names if name not in given]
        if missing:
            raise ValueError(f"{owner}: loss must say something for each output, None where there is none; output '{missing[0]}' is missing.")
    alone = not isinstance(given, list | tuple | Mapping) or (isinstance(given, Mapping) and "class_name" in given)
    made = losses.get(given) if alone else None
    found = [made] * len(names) if alone else [losses.get(one) for one in by_output(owner, "loss", names, given)]
    if not any(found):
        several = "" if len(names) == 1 else ", for one output at least"
        raise ValueError(f"{owner}: loss must be a name or a Loss{several}, got None.")
    return found


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float | np.number) and not isinstance(given, bool)


def _weight(owner: str, given: Any) -> float:
    if given is None:
        return 1.0
    if not _is_number(given) or not np.isfinite(given):
        raise ValueError(f"{owner}: loss_weights must be finite numbers, got {given!r}.")
    return float(given)


def _metrics_by_output(owner: str, what: str, names: list[str], given: Any) -> list[list[Any] | None]:
    if len(names) == 1:
        if isinstance(given, Mapping):
            given = by_output(owner, what, names, given)[0]
        if isinstance(given, list | tuple):  # Keras takes lists in the list too
            given = [one for some in given for one in (some if isinstance(some, list | tuple) else [some])]
        return [given]
    if given is not None and not isinstance(given, list | tuple | Mapping):
        raise ValueError(f"{owner}: {what} must be a list with an entry for each output, or a dict by their names, got {given!r}.")
    found = by_output(owner, what, names, given or None)
    return [one if one is None or isinstance(one, list) else list(one) if isinstance(one, tuple) else [one] for one in found]


def _mean(name: str) -> Mean:
    mean = Mean(name)
    mean.direction = "down"
    return mean


def _steps(owner: str, given: Any) -> int | None:
    if given is not None and (isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 1):
        raise ValueError(f"{owner}: loss_steps must be a positive integer, got {given!r}.")
    return None if given is None else int(given)


def _time_weights(owner: str, given: Any) -> np.ndarray | None:
    weights = None if given is None else np.asarray(given, np.float64)
    if weights is not None and weights.ndim != 1:
        raise ShapeError(f"{owner}: time_weights must have shape (T,), got {weights.shape}.")
    return weights


def _check(owner: str, head: Head) -> None:
    if head.loss is None:
        return
    if head.loss.reduction == "none":
        raise ValueError(f"{owner}: loss {head.loss.name!r} must have a reduction to be trained on, got 'none'.")
    if head.loss.per_sequence and (head.loss_steps is not None or head.time_weights is not None):
        raise ValueError(f"{owner}: loss_steps and time_weights have no meaning for loss {head.loss.name!r}, a value for whole sequences.")


def _serialize_metrics(given: list[Any] | None) -> list[Any] | None:
    if given is None:
        return None
    written: list[Any] = []
    for one in given:
        if isinstance(one, str | dict):
            written.append(one)
        elif isinstance(one, Metric) and not isinstance(one, MeanMetricWrapper):
            written.append(serialize(one))
        else:
            warnings.warn(f"metric {one!r} is a function and is not saved.", stacklevel=5)
    return written
