"""One native call a batch: forward, the losses of all outputs, backward, penalties, clipping and the optimizer's update in one plan."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np

from rnnfast._engine import Buffer, Lengths, Lesson
from rnnfast.layers.runner import Arrays, Bound, Masks, Runner, States
from rnnfast.models.goals import Goal, no_gradient
from rnnfast.models.heads import Head
from rnnfast.optimizers import Optimizer
from rnnfast.plan import Builder, Tensor
from rnnfast.plan.ctc import label_room
from rnnfast.plan.params import aligned_zeros

_numbers = count()  # of steps, whose plans may outlive them in the runner's cache
UPDATES = ("sgd", "rmsprop", "adam", "nadam", "adagrad")


def last_steps(valid: np.ndarray, number: int) -> np.ndarray:
    """Of the valid steps (B, T) the last so many of each row."""
    left = valid[:, ::-1].cumsum(axis=1)[:, ::-1]
    last: np.ndarray = valid & (left <= number)
    return last


class Steps:
    """Training and test steps of a runner.

    Parameters
    ----------
    runner : Runner
    heads : list of Head
        One for each output.
    optimizer : Optimizer
    predictions : bool
        Whether a training step also returns the predictions.
    before : Steps, optional
        Whose optimizer state of the same variables goes on.
    log_norm : bool
        Whether the norm of the gradient is measured also where nothing is clipped.

    Attributes
    ----------
    output_masks : list of bool array (B, T) or None
        Of each output, the steps that counted in the last step.
    losses : list of float
        Of the outputs that have one, in the last step, without their weights.
    gradient_norm : float or None
        Of the whole gradient before clipping, in the last training step.
    lesson : Lesson or None
        What runs another step of arrays like the last step's, if that had nothing but them and perhaps lengths.
    """

    def __init__(self, runner: Runner, heads: list[Head], optimizer: Optimizer, predictions: bool, before: Steps | None = None, log_norm: bool = False) -> None:
        if len(heads) != len(runner.graph.outputs):
            raise ValueError(f"{runner.owner}: was compiled for {len(heads)} outputs and has {len(runner.graph.outputs)}; call compile again.")
        self.runner, self.heads, self.optimizer, self.predictions = runner, heads, optimizer, predictions
        self.several, self.sequences = len(heads) > 1, any(head.loss.per_sequence for head in heads if head.loss is not None)
        self.measures = log_norm or bool(optimizer.clipnorm or optimizer.clipvalue or optimizer.global_clipnorm)
        self.number = next(_numbers)
        self.counts_last = any(head.loss_steps is not None for head in heads)
        self.no_masks: Masks = [None] * len(heads)
        self.no_columns = [0] * len(heads)
        self.output_masks = self.no_masks
        self.losses: list[float] = []
        self.gradient_norm: float | None = None
        self.lesson: Lesson | None = None
        self.norm = np.zeros(1)
        self.carried: dict[int, States] = {}  # of truncated training, by the batch's size
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

    def _bound(self, xs: Arrays, valid: Masks, resets: Masks, train: bool, carried: States | None, columns: list[int]) -> Bound:
        key = ("train" if train else "test", self.number, carried is not None, self.runner.sizes(xs, valid, resets), *(map(label_room, columns) if self.sequences else ()))
        bound = self.runner.bounds.get(key)
        if bound is None:
            bound = self.runner.start(xs, valid, train, train, 0, carried=carried)
            self._describe(bound, train, columns)
            bound.program = bound.builder.plan.compile()
            self.runner.keep(key, bound)
        return bound

    def _describe(self, bound: Bound, train: bool, columns: list[int]) -> None:
        b = bound.builder
        ys = [b.packed(tensor) for _, tensor in bound.outputs]
        names = ["predictions"] if not self.several else [f"predictions of '{head.name}'" for head in self.heads]
        b.shared.update(y.buffer for y in ys)  # the losses read them
        bound.outputs = [(b.output(y, name), y) for y, name in zip(ys, names, strict=True)] if self.predictions or not train else []
        goals = []
        for place, (head, y, labels) in enumerate(zip(self.heads, ys, columns, strict=True)):
            if head.loss is not None:
                goals.append(Goal(self.runner.owner, place, b, y, head, labels, train))
            elif train:
                no_gradient(b, y)
        b.when_masked.append(lambda: bound.extra["fill"]())
        bound.extra |= {"ys": ys, "goals": goals, "penalty": self._add_penalties(b, train)}
        if train:
            b.backward()
            self._add_update(b)
            b.plan.add(self.runner.params.pack_op(), "pack", at=0)

    def _add_penalties(self, b: Builder, train: bool) -> np.ndarray | None:
        """Add the penalties of weights and outputs; where the engine adds them up."""
        if not (b.activities or self.penalized):
            return None
        value, result = np.zeros(1), Buffer("penalty", 0)
        result.hold(value, 1)
        for tensor, regularizer in b.activities:
            self._activity(b, tensor, regularizer, result, train)
        for v in self.penalized:
            gradient = self.runner.params.operand(v, True) if train and v.trainable else None
            step = self._penalty(b, v, gradient, result)
            b._tape.insert(0, step) if train else step()  # after every gradient is written
        return value

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
        gradient.hold(params.grads, 0)
        scalars.hold(self.scalars, 0)
        limit = optimizer.global_clipnorm or optimizer.clipnorm
        if self.measures:
            segments, norm = params.segments[: params.trainable_count + 1], Buffer("norm", 0)
            norm.hold(self.norm, 1)
            buffers = {"dx": gradient, "work": b.buffer("squares", 2 * len(segments)), "result": norm}
            kind = 1 if optimizer.global_clipnorm else 2 if optimizer.clipnorm else 0
            b.op("clip", None, buffers, f"norm {limit or ''}", segments, kind=kind, rate=limit or 0.0)
        buffers = {"kernel": values, "dkernel": gradient, "bias": scalars}
        for i, slot in enumerate(self.slots):
            buffers[f"slot{i}"] = Buffer("slot", 0)
            buffers[f"slot{i}"].hold(slot, 0)
        b.op("update", None, buffers, optimizer.engine_kind, n=params.trainable_size, kind=UPDATES.index(optimizer.engine_kind), rate=optimizer.clipvalue or 0.0)

    def _masks(self, bound: Bound, valid: Masks, counted: np.ndarray | None) -> Masks:
        """Of each output the steps that exist and count, None where all do."""
        if counted is None and not self.counts_last and not bound.builder.late_rows and all(steps is None for steps in valid):
            return self.no_masks
        return [self._counted(self._mask_at(bound, y, valid), y, head, counted) for y, head in zip(bound.extra["ys"], self.heads, strict=True)]

    @staticmethod
    def _mask_at(bound: Bound, y: Tensor, valid: Masks) -> np.ndarray | None:
        """Which steps of an output exist, None where all do."""
        if not y.timed:
            return None
        if not y.rows.masked:  # no layer looks at the mask: it passes through
            if all(steps is None for steps in valid):
                return None
            roots = [source.rows for source in bound.sources]
            steps = valid[roots.index(y.rows.root)] if y.rows.root in roots else None
            return steps if steps is not None and steps.shape == y.shape[:2] else None
        mask = np.zeros(y.shape[:2], bool)
        mask.reshape(-1)[y.rows.source] = True
        return None if mask.all() else mask

    @staticmethod
    def _counted(mask: np.ndarray | None, y: Tensor, head: Head, counted: np.ndarray | None) -> np.ndarray | None:
        if counted is None and head.loss_steps is not None and y.timed:
            counted = last_steps(np.ones(y.shape[:2], bool) if mask is None else mask, head.loss_steps)
        if counted is None or counted.all():
            return mask
        return counted if mask is None else mask & counted

    # -- runs ------------------------------------------------------------------------------------------------------------------

    def _columns(self, ys: list[Any]) -> list[int]:
        """Of each output the greatest number of labels, 0 where its loss has none."""
        if not self.sequences:
            return self.no_columns
        return [(*np.shape(y), 0)[1] if head.loss is not None and head.loss.per_sequence else 0 for head, y in zip(self.heads, ys, strict=True)]

    def run(
        self, x: Any, y: Any, sample_weight: Any, mask: Any, train: bool, resets: Any = None, counted: np.ndarray | None = None, carried: States | None = None
    ) -> tuple[float, Any]:
        """One step: (loss, predictions or None); y, sample_weight and predictions are lists where there are several outputs.

        Parameters
        ----------
        counted : bool array (B, T), optional
            The steps of the output that count; by default as `loss_steps` says.
        carried : dict of layer name to states, optional
            Where the layers' states come from and go to.
        """
        runner = self.runner
        targets, weights = (y, sample_weight or [None] * len(y)) if self.several else ([y], [sample_weight])
        xs = runner.check_inputs(x)
        valid = runner.check_masks(xs, mask, None)
        steps = valid if self.sequences else runner.steps_to_run(valid)
        cuts = runner.check_resets(xs, resets)
        bound = self._bound(xs, steps, cuts, train, carried, self._columns(targets))
        outputs = [np.empty(t.shape, runner.dtype) for _, t in bound.outputs]
        goals: list[Goal] = bound.extra["goals"]

        def fill() -> None:
            """Before the run, or in it where it finds out which steps the outputs have."""
            self.output_masks = self._masks(bound, valid, counted)
            for goal in goals:
                goal.fill(targets[goal.place], weights[goal.place], self.output_masks[goal.place])

        if train:
            self.lesson = None
        with bound.program.lock:
            runner.refresh(bound, steps, cuts)
            if bound.builder.late_rows:
                bound.extra["fill"] = fill
            else:
                fill()
            runner.connect(bound, xs, outputs)
            total = self._execute(bound, train)
            self.losses = [goal.value for goal in goals]
        for goal, loss in zip(goals, self.losses, strict=True):
            total += goal.weight * loss
        if train:
            self._finish_update()
            bare = self.output_masks is self.no_masks or (getattr(mask, "ndim", 0) == 1 and counted is weights[0] is None)
            if carried is cuts[0] is None and not outputs and bare:
                self.lesson = self._lesson(bound)
        return total, (outputs if self.several else outputs[0]) if outputs else None

    def again(self, x: Any, y: Any, lengths: Any) -> float | None:
        """The loss of another training step like the last one, None (and no step) if these arrays or that step need a closer look."""
        if self.lesson is None:
            return None
        loss: float | None = self.lesson.learn(x, y, lengths, self.optimizer.step_scalars())
        if loss is not None:
            self.losses = [loss]
            self.optimizer.iterations += 1
        return loss

    def _lesson(self, bound: Bound) -> Lesson | None:
        """The straight way through a plan whose buffers are connected, None if more than x, y and lengths may differ at the next step, or they are not taken as they are."""
        goal: Goal = bound.extra["goals"][0]
        scored, lengths = goal.y.rows, bound.sources[0].rows.masked
        if "lesson" not in bound.extra:
            single = len(bound.sources) == len(self.heads) == 1 and not (self.runner.inlets[0].tokens or self.runner.inlets[0].maskers)
            single &= not (self.counts_last or bound.builder.late_rows or (lengths and goal.y.timed and not scored.masked))
            watched = self.measures or self.constrained or bound.extra["penalty"] is not None or goal.weight != 1.0
            numbers, dtype = (self.scalars, goal.result, self.runner.params.age), self.runner.dtype
            bound.extra["lesson"] = None
            if single and goal.plain and not (watched or bound.builder.seeds):
                x, shapes = bound.sources[0], (bound.sources[0].shape, goal.y.shape)
                ragged = (Lengths(x.rows, bound.builder.derived), scored, goal.rows_weights, goal.loss.averages) if lengths else ()
                bound.extra["lesson"] = Lesson(bound.program, x.buffer, goal.target, shapes, dtype, *numbers, *ragged)
        return bound.extra["lesson"] if goal.even or lengths else None

    def _execute(self, bound: Bound, train: bool) -> float:
        """The native call; returns the penalties."""
        if train:
            for i, value in enumerate(self.optimizer.step_scalars()):  # faster than a tuple's way into a slice
                self.scalars[i] = value
        else:
            self.runner.params.pack(bound.program.team_size)
        penalty: np.ndarray | None = bound.extra["penalty"]
        if penalty is not None:
            penalty[0] = 0.0
        bound.program.run()
        return 0.0 if penalty is None else float(penalty[0])

    def _finish_update(self) -> None:
        self.gradient_norm = float(self.norm[0]) if self.measures else None
        self.optimizer.iterations += 1
        self.runner.params.age.now += 1
        for v in self.constrained:
            v.assign(v.constraint(v.value))
