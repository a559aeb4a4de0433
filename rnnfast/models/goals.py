"""Goals: the losses in a plan, each with what it reads at a call and how it hands its gradient on."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast._engine import Buffer
from rnnfast.errors import ShapeError
from rnnfast.losses import Loss
from rnnfast.models.heads import Head
from rnnfast.plan import Builder, Tensor
from rnnfast.plan.ctc import add_ctc

LOSSES = ("mse", "mae", "mape", "msle", "huber", "log_cosh", "binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy",
          "kl_divergence", "poisson", "hinge", "squared_hinge", "categorical_hinge", "cosine_similarity")  # fmt: skip


def loss_numbers(loss: Loss) -> dict[str, Any]:
    """What the engine's loss op needs to know of a loss."""
    kind, given = loss.engine()
    numbers: dict[str, Any] = {"loss": LOSSES.index(kind), "from_logits": 0, "parameter": (0.0, 1e-7, float("nan"))}
    if kind == "huber":
        numbers["parameter"] = (given[0], 0.0, 0.0)
    elif kind == "sparse_categorical_crossentropy":
        numbers |= {"from_logits": int(given[0]), "parameter": (0.0, given[1], given[2])}
    elif len(given) == 3:
        numbers |= {"from_logits": int(given[0]), "parameter": (given[1], given[2], 0.0)}
    elif len(given) == 1:
        numbers["parameter"] = (0.0, given[0], 0.0)
    return numbers


class Goal:
    """The loss of one output in one plan.

    Parameters
    ----------
    owner : str
        As errors name the model.
    place : int
        Of the output among all.
    b : Builder
    y : Tensor
        The output, packed rows.
    head : Head
        With a loss.
    columns : int
        Greatest number of labels, for a loss of whole sequences.
    train : bool
        Whether y gets the gradient.

    Attributes
    ----------
    weight : float
        Of the loss in the model's. The engine's value and gradient contain it, by the rows' coefficients; a loss of weight 0 has no gradient and is only watched.
    """

    def __init__(self, owner: str, place: int, b: Builder, y: Tensor, head: Head, columns: int, train: bool) -> None:
        assert head.loss is not None
        if len(y.features) != 1:
            raise ShapeError(f"{owner}: an output that is trained must have shape (B, F) or (B, T, F), got {y.shape} of '{head.name}'.")
        if head.loss_steps is not None and not y.timed:
            raise ValueError(f"{owner}: loss_steps needs an output at every step, of shape (B, T, F), got {y.shape}.")
        self.place, self.y, self.loss, self.weight, self.columns = place, y, head.loss, head.weight, columns
        self.dtype = np.dtype(np.int64 if self.loss.per_sequence else b.dtype)
        self.rows_weights, self.result = np.zeros(y.rows.capacity), np.zeros(1)
        self.even = False  # whether all rows weigh the same, from the last call on
        looks = type(self.loss).prepare is not Loss.prepare or type(self.loss).target_mask is not Loss.target_mask
        self.plain = not looks and self.dtype == b.dtype  # whether targets of y's shape are taken as they are, whatever they hold
        self.staged = np.empty(0, self.dtype)
        self.target, weight_buffer, result = Buffer("target", 0), Buffer("weight", 0), Buffer("loss", 0)
        weight_buffer.hold(self.rows_weights, 1)
        result.hold(self.result, 1)
        outside = {"weight": weight_buffer, "result": result}
        learns = train and self.weight != 0
        if not self.loss.per_sequence:
            self._add_row_loss(b, outside, learns)
        elif y.timed:
            add_ctc(b, y, columns, {**outside, "labels": self.target}, self.loss.numbers(y.width), learns)
        else:
            raise ShapeError(f"{owner}: loss '{self.loss.name}' needs an output of shape (B, T, classes), got {y.shape}.")
        if train and not learns:
            no_gradient(b, y)

    def _add_row_loss(self, b: Builder, outside: dict[str, Buffer], learns: bool) -> None:
        """A loss with a value a row of y."""
        y, numbers = self.y, loss_numbers(self.loss)
        self.columns = columns = 1 if LOSSES[numbers["loss"]] == "sparse_categorical_crossentropy" else y.width
        buffers = {**outside, "x": y.buffer, "y": self.target, "work": b.buffer("partial losses", y.rows.capacity // 32 + 32)}
        if learns:
            buffers["dx"] = b.rows_buffer("d loss", y.rows, y.width)
        b.op("loss", y.rows, buffers, LOSSES[numbers["loss"]], n=y.width, m=columns, **numbers)
        b.hand_over(y, buffers.get("dx"))

    def fill(self, target: Any, sample_weight: Any, mask: np.ndarray | None) -> None:
        """Take the targets and weights of a call; `mask` says which steps count."""
        loss, shape, rows = self.loss, self.y.shape, self.y.rows
        found = loss.prepare(target, shape, mask)
        counts = loss.target_mask(found, mask)
        even = sample_weight is None and counts is None and not rows.masked  # weights that the last call may have left here
        if not (even and self.even):
            weighed, places = (shape[:1], rows.order) if loss.per_sequence else (shape[:-1], rows.source)
            coefficients = loss.coefficients(weighed, sample_weight, counts) * (self.weight or 1.0)
            if coefficients.size > 1:
                coefficients = np.broadcast_to(coefficients, weighed).reshape(-1)[places]
            self.rows_weights[: len(places)] = coefficients.reshape(-1)
        self.even = even
        self._point_target(found)

    def _point_target(self, target: np.ndarray) -> None:
        """Let the loss read the target: where it lies, or, of another type, from a copy that the plan keeps the memory of."""
        if target.dtype != self.dtype or not target.flags.carray:
            if self.staged.size < target.size:
                self.staged = np.empty(target.size, self.dtype)
            copy = self.staged[: target.size].reshape(target.shape)
            np.copyto(copy, target, casting="unsafe")
            target = copy
        self.target.point(target.ctypes.data, target.shape[-1] if self.loss.per_sequence else self.columns)

    @property
    def value(self) -> float:
        """The loss of the last call, without its weight."""
        value = float(self.result[0])
        return value if self.weight in (0.0, 1.0) else value / self.weight


def no_gradient(b: Builder, y: Tensor) -> None:
    """Give an output that is not trained a gradient of zeros, which the layers behind it pass on."""
    zeros = b.rows_buffer("d untrained", y.rows, y.width)
    b.op("copy", y.rows, {"x": b.constant(0.0, y.width), "y": zeros}, n=y.width)  # a stride of 0: the same row again and again
    b.hand_over(y, zeros)
