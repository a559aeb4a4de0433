"""One native call a batch: forward, loss, backward, penalties, clipping and the optimizer's update in one plan."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast._engine import Buffer
from rnnfast.errors import ShapeError
from rnnfast.layers.runner import Arrays, Bound, Masks, Runner, States
from rnnfast.losses import Loss
from rnnfast.optimizers import Optimizer
from rnnfast.plan import Builder, Tensor
from rnnfast.plan.ctc import add_ctc, label_room
from rnnfast.plan.params import aligned_zeros

LOSSES = ("mse", "mae", "mape", "msle", "huber", "log_cosh", "binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy",
          "kl_divergence", "poisson", "hinge", "squared_hinge", "categorical_hinge", "cosine_similarity")  # fmt: skip
UPDATES = ("sgd", "rmsprop", "adam", "nadam", "adagrad")


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


def last_steps(valid: np.ndarray, count: int) -> np.ndarray:
    """Of the valid steps (B, T) the last `count` of each row."""
    left = valid[:, ::-1].cumsum(axis=1)[:, ::-1]
    last: np.ndarray = valid & (left <= count)
    return last


class Steps:
    """Training and test steps of a runner.

    Parameters
    ----------
    runner : Runner
    loss : Loss
    optimizer : Optimizer
    predictions : bool
        Whether a training step also returns the predictions.
    before : Steps, optional
        Whose optimizer state of the same variables goes on.
    loss_steps : int, optional
        Of each row only so many of its last valid steps count.
    log_norm : bool
        Whether the norm of the gradient is measured also where nothing is clipped.

    Attributes
    ----------
    output_mask : bool array (B, T) or None
        The steps of the output that counted in the last step.
    gradient_norm : float or None
        Of the whole gradient before clipping, in the last training step.
    """

    def __init__(
        self, runner: Runner, loss: Loss, optimizer: Optimizer, predictions: bool, before: Steps | None = None, loss_steps: int | None = None, log_norm: bool = False
    ) -> None:
        self.runner, self.loss, self.optimizer, self.predictions = runner, loss, optimizer, predictions
        self.loss_steps, self.measures = loss_steps, log_norm or bool(optimizer.clipnorm or optimizer.clipvalue or optimizer.global_clipnorm)
        self.gradient_norm: float | None = None
        self.norm = np.zeros(1)
        self.carried: dict[int, States] = {}  # of truncated training, by the batch's size
        self.output_mask: np.ndarray | None = None
        self.scalars = np.zeros(8)
        size = runner.params.trainable_size + 16
        self.slots = [aligned_zeros(size, runner.dtype) for _ in optimizer.slot_names]
        for slot, start in zip(self.slots, optimizer.slot_init, strict=True):
            slot[...] = start
        self.places = [(v, v.offset, int(np.prod(v.shape, dtype=object))) for v in runner.variables if v.trainable]
        if before is not None and before.optimizer is optimizer:
            self._go_on(before)
        self.penalized = [v for v in runner.params.variables if v.regularizer is not None]
        self.constrained: list[Any] = [v for v in runner.params.variables if v.constraint is not None and v.trainable]

    def _go_on(self, before: Steps) -> None:
        places = {v: (offset, size) for v, offset, size in before.places}
        for v, offset, size in self.places:
            if v in places:
                start, _ = places[v]
                for slot, old in zip(self.slots, before.slots, strict=True):
                    slot[offset : offset + size] = old[start : start + size]

    # -- plans -----------------------------------------------------------------------------------------------------------------

    def _bound(self, xs: Arrays, valid: Masks, resets: Masks, train: bool, carried: States | None, columns: int) -> Bound:
        key = ("train" if train else "test", id(self), carried is not None, self.runner.sizes(xs, valid, resets), label_room(columns))
        bound = self.runner.bounds.get(key)
        if bound is None:
            bound = self.runner.start(xs, valid, train, train, 0, carried=carried)
            self._describe(bound, train, columns)
            self.runner.finish(key, bound)
        return bound

    def _describe(self, bound: Bound, train: bool, columns: int) -> None:
        b, tensors = bound.builder, [t for _, t in bound.outputs]
        if len(tensors) != 1 or len(tensors[0].features) != 1:
            raise ValueError(f"{self.runner.owner}: a model that is trained must have one output of shape (B, F) or (B, T, F), got {[t.shape for t in tensors]}.")
        y = b.packed(tensors[0])
        bound.outputs = [(b.output(y, "predictions", alone=False), y)] if self.predictions or not train else []
        self._add_loss(b, bound, y, train, columns)
        if train:
            b.backward()
            self._add_update(b)
            b.plan.add(self.runner.params.pack_op(), "pack", at=0)

    def _add_loss(self, b: Builder, bound: Bound, y: Tensor, train: bool, columns: int) -> None:
        target, weight, value = Buffer("target", 0), np.zeros(y.rows.capacity), np.zeros(2)
        weight_buffer, result = Buffer("weight", 0), Buffer("loss", 0)
        weight_buffer.point(weight.ctypes.data, 1)
        result.point(value.ctypes.data, 1)
        outside = {"weight": weight_buffer, "result": result}
        if not self.loss.per_sequence:
            columns = self._add_row_loss(b, y, target, outside, train)
        elif y.timed:
            add_ctc(b, y, columns, {**outside, "labels": target}, self.loss.numbers(y.width), train)
        else:
            raise ShapeError(f"{self.runner.owner}: loss '{self.loss.name}' needs an output of shape (B, T, classes), got {y.shape}.")
        for tensor, regularizer in b.activities:
            self._activity(b, tensor, regularizer, result, train)
        for v in self.penalized:
            gradient = self.runner.params.operand(v, True) if train and v.trainable else None
            step = self._penalty(b, v, gradient, result)
            b._tape.insert(0, step) if train else step()  # after every gradient is written
        bound.extra |= {"target": target, "columns": columns, "weight": weight, "value": value, "y": y, "even": False}

    def _add_row_loss(self, b: Builder, y: Tensor, target: Buffer, outside: dict[str, Buffer], train: bool) -> int:
        """A loss with a value a row of y: returns the target's values a row."""
        numbers = loss_numbers(self.loss)
        columns = 1 if LOSSES[numbers["loss"]] == "sparse_categorical_crossentropy" else y.width
        rows = b.rows_buffer("target rows", y.rows, columns)
        b.op("gather", y.rows, {"x": target, "y": rows}, "target", n=columns)
        buffers = {**outside, "x": y.buffer, "kept": rows, "work": b.buffer("partial losses", y.rows.capacity // 32 + 32)}
        if train:
            buffers["dx"] = b.rows_buffer("d loss", y.rows, y.width)
            b.hand_over(y, buffers["dx"])
        b.op("loss", y.rows, buffers, LOSSES[numbers["loss"]], n=y.width, m=columns, **numbers)
        return columns

    def _activity(self, b: Builder, x: Tensor, regularizer: Any, result: Buffer, train: bool) -> None:
        share = 1 / max(1, x.rows.batch)
        numbers = {"n": x.width, "parameter": (regularizer.l1 * share, regularizer.l2 * share)}
        b.op("activity", x.rows, {"x": x.buffer, "result": result}, **numbers)
        if train:
            b.give(x, lambda dx: b.op("activity", x.rows, {"x": x.buffer, "dx": dx}, **numbers))

    def _penalty(self, b: Builder, v: Any, gradient: Buffer | None, result: Buffer) -> Any:
        buffers = {"x": self.runner.params.operand(v), "dx": gradient, "result": result}
        size = int(np.prod(v.shape, dtype=object))
        return lambda: b.op("penalty", None, buffers, v.path, n=size, parameter=(v.regularizer.l1, v.regularizer.l2))

    def _add_update(self, b: Builder) -> None:
        params, optimizer = self.runner.params, self.optimizer
        gradient, values, scalars = Buffer("gradient", 0), params.buffer, Buffer("scalars", 0)
        gradient.point(params.grads.ctypes.data, 0)
        scalars.point(self.scalars.ctypes.data, 0)
        limit = optimizer.global_clipnorm or optimizer.clipnorm
        if self.measures:
            segments, norm = params.segments[: params.trainable_count + 1], Buffer("norm", 0)
            norm.point(self.norm.ctypes.data, 1)
            buffers = {"dx": gradient, "work": b.buffer("squares", 2 * len(segments)), "result": norm}
            kind = 1 if optimizer.global_clipnorm else 2 if optimizer.clipnorm else 0
            b.op("clip", None, buffers, f"norm {limit or ''}", segments, kind=kind, rate=limit or 0.0)
        buffers = {"kernel": values, "dkernel": gradient, "bias": scalars}
        for i, slot in enumerate(self.slots):
            buffers[f"slot{i}"] = Buffer("slot", 0)
            buffers[f"slot{i}"].point(slot.ctypes.data, 0)
        b.op("update", None, buffers, optimizer.engine_kind, n=params.trainable_size, kind=UPDATES.index(optimizer.engine_kind), rate=optimizer.clipvalue or 0.0)

    def _mask_at(self, bound: Bound, valid: Masks) -> np.ndarray | None:
        """Which steps of the output exist, None where all do."""
        y = bound.extra["y"]
        if not y.timed or all(steps is None for steps in valid):
            return None
        if not y.rows.masked:  # no layer looks at the mask: it passes through
            roots = [source.rows for source in bound.sources]
            steps = valid[roots.index(y.rows.root)] if y.rows.root in roots else None
            return steps if steps is not None and steps.shape == y.shape[:2] else None
        mask = np.zeros(y.shape[:2], bool)
        mask.reshape(-1)[y.rows.source] = True
        return None if mask.all() else mask

    def _counted(self, mask: np.ndarray | None, y: Tensor, counted: np.ndarray | None) -> np.ndarray | None:
        """The steps of the output that exist and count, None where all do."""
        if counted is None and self.loss_steps is not None:
            if not y.timed:
                raise ValueError(f"{self.runner.owner}: loss_steps needs an output at every step, of shape (B, T, F), got {y.shape}.")
            counted = last_steps(np.ones(y.shape[:2], bool) if mask is None else mask, self.loss_steps)
        if counted is None or counted.all():
            return mask
        return counted if mask is None else mask & counted

    # -- runs ------------------------------------------------------------------------------------------------------------------

    def _point_target(self, bound: Bound, target: np.ndarray) -> None:
        """Let the loss read the target: where it lies, or, of another type, from a copy that the plan keeps the memory of."""
        dtype = np.dtype(np.int64 if self.loss.per_sequence else self.runner.dtype)
        if target.dtype != dtype or not target.flags.carray:
            staged = bound.extra.get("staged")
            if staged is None or staged.size < target.size:
                staged = bound.extra["staged"] = np.empty(target.size, dtype)
            copy = staged[: target.size].reshape(target.shape)
            np.copyto(copy, target, casting="unsafe")
            target = copy
        bound.extra["target"].point(target.ctypes.data, target.shape[-1] if self.loss.per_sequence else bound.extra["columns"])

    def run(
        self, x: Any, y: Any, sample_weight: Any, mask: Any, train: bool, resets: Any = None, counted: np.ndarray | None = None, carried: States | None = None
    ) -> tuple[float, np.ndarray | None]:
        """One step: (loss, predictions or None).

        Parameters
        ----------
        counted : bool array (B, T), optional
            The steps of the output that count; by default as `loss_steps` says.
        carried : dict of layer name to states, optional
            Where the layers' states come from and go to.
        """
        runner, sequences = self.runner, self.loss.per_sequence
        xs = runner.check_inputs(x)
        valid = runner.check_masks(xs, mask, None)
        steps = valid if sequences else runner.steps_to_run(valid)
        cuts = runner.check_resets(xs, resets)
        bound = self._bound(xs, steps, cuts, train, carried, (*np.shape(y), 0)[1] if sequences else 0)
        shape, rows = bound.extra["y"].shape, bound.extra["y"].rows
        outputs = [np.empty(shape, runner.dtype) for _ in bound.outputs]
        with bound.program.lock:
            runner.refresh(bound, steps, cuts)
            self.output_mask = output_mask = self._counted(self._mask_at(bound, valid), bound.extra["y"], counted)
            target = self.loss.prepare(y, shape, output_mask)
            loss_mask = self.loss.target_mask(target, output_mask)
            even = sample_weight is None and loss_mask is None and not rows.masked  # weights that the last call may have left here
            if not (even and bound.extra["even"]):
                weighed, places = (shape[:1], rows.order) if sequences else (shape[:-1], rows.source)
                coefficients = self.loss.coefficients(weighed, sample_weight, loss_mask)
                if coefficients.size > 1:
                    coefficients = np.broadcast_to(coefficients, weighed).reshape(-1)[places]
                bound.extra["weight"][: len(places)] = coefficients.reshape(-1)
            bound.extra["even"] = even
            self._point_target(bound, target)
            runner.connect(bound, xs, outputs)
            if train:
                scalars = self.optimizer.step_scalars()
                self.scalars[: len(scalars)] = scalars
            else:
                runner.params.pack(bound.program.team_size)
            bound.program.run()
            value = float(bound.extra["value"][0])
        if train:
            self.gradient_norm = float(self.norm[0]) if self.measures else None
            self.optimizer.iterations += 1
            runner.params.version += 1
            for v in self.constrained:
                v.assign(v.constraint(v.value))
        return value, outputs[0] if outputs else None
