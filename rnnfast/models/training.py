"""The training loop: compile, fit, evaluate, predict and their single-batch forms.

:class:`Trainer` knows batches, epochs, metrics and callbacks. What happens inside a step belongs to the model, which
gives it ``_train_step``, ``_test_step``, ``_predict_step`` and ``_output_mask``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rnnfast import losses
from rnnfast.callbacks import CallbackList, History
from rnnfast.models import data_adapter
from rnnfast.models.compiling import Compilable
from rnnfast.models.data_adapter import ArrayBatches, Batch, Batches, StreamBatches, make_batch, make_batches
from rnnfast.models.interrupts import ctrl_c_between_batches
from rnnfast.models.progress import Progress
from rnnfast.random import SeedGenerator

Logs = dict[str, Any]


class Trainer(Compilable):
    """Mixin that trains, evaluates and predicts.

    Attributes
    ----------
    history : History
        Of the last :meth:`fit`.
    stop_training : bool
        Set it to True in a callback to end training after the batch.
    """

    built: bool
    history: History
    _shuffle_seeds: SeedGenerator | None = None

    # What the model brings.
    _train_step: Callable[..., tuple[float, np.ndarray | None]]
    _test_step: Callable[..., tuple[float, np.ndarray]]
    _predict_step: Callable[..., Any]
    _output_mask: Callable[..., np.ndarray | None]
    build: Callable[..., Any]

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | list[int] = 1,
        *,
        lengths: Any = None,
        mask: Any = None,
        validation_lengths: Any = None,
        validation_mask: Any = None,
    ) -> History:
        """Train for some epochs.

        Parameters
        ----------
        x : array_like (N, T, F) or iterable of batches
            A generator or iterable yields (x, y[, sample_weight[, mask or lengths]]).
        y : array_like, (N, ...), optional
        batch_size : int, optional
            32 when None.
        epochs, initial_epoch : int
            Epochs `initial_epoch` to ``epochs - 1`` are run.
        verbose : {"auto", 0, 1, 2}
            See :class:`rnnfast.models.progress.Progress`.
        callbacks : list of Callback, optional
        validation_split : float
            This share of the samples, the last ones before shuffling, is held out for validation.
        validation_data : tuple (x, y[, sample_weight]) or iterable of batches, optional
            Goes before `validation_split`.
        shuffle : bool
            Arrays are taken in a new random order every epoch.
        class_weight : dict of int to float, optional
            Weights of the samples (or steps) by their target's class; they multiply `sample_weight`.
        sample_weight : array_like, (N,) or (N, T), optional
        steps_per_epoch, validation_steps : int, optional
            Batches an epoch; needed for generators without end.
        validation_batch_size : int, optional
        validation_freq : int or list of int
            Validate every so many epochs, or after the listed ones, counted from 1.
        lengths : array_like of int, (N,), optional
            Valid steps of each sequence.
        mask : array_like of bool, (N, T), optional
            Instead of `lengths`, any pattern of valid steps.
        validation_lengths, validation_mask : array_like, optional
            The same for `validation_data`.

        Returns
        -------
        History
            ``history.history`` maps names of logs to lists, a value an epoch.

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C: the batch is finished, ``on_train_end`` of the callbacks is run, finished epochs stay in
            ``model.history`` and the model can be used. A second Ctrl-C does not wait for the batch.
        """
        self._check_compiled("fit")
        seeds = self._shuffles() if shuffle else None
        options: Any = {"batch_size": batch_size, "shuffle": seeds, "steps": steps_per_epoch}
        batches = make_batches(f"{self._label}: fit", x, y, sample_weight, lengths=lengths, mask=mask, **options)
        check: Any = {"batch_size": validation_batch_size or batch_size, "steps": validation_steps}
        held_out: Batches | None = None
        if validation_data is not None:
            held_out = self._validation(validation_data, validation_lengths, validation_mask, **check)
        elif validation_split:
            if not isinstance(batches, ArrayBatches):
                raise ValueError(f"{self._label}: validation_split needs arrays, got batches from {type(x).__name__}.")
            first, last = data_adapter.split_last(batches.data, validation_split)
            batches, held_out = ArrayBatches(first, **options), ArrayBatches(last, **check)
        if isinstance(batches, ArrayBatches) and not len(batches.data.x):
            raise ValueError(
                f"{self._label}: x must have at least one sample to fit, got shape {batches.data.x.shape}."
            )
        hooks = self._hooks(callbacks, verbose, add_history=True, epochs=epochs, steps=batches.steps)
        self._run_epochs(batches, held_out, hooks, range(initial_epoch, epochs), class_weight, validation_freq)
        return self.history

    def _validation(self, data: Any, lengths: Any, mask: Any, batch_size: int | None, steps: int | None) -> Batches:
        owner = f"{self._label}: validation_data"
        if data_adapter.is_stream(data):
            return make_batches(owner, data, steps=steps, lengths=lengths, mask=mask)
        if not isinstance(data, list | tuple) or not 2 <= len(data) <= 3:
            raise ValueError(f"{owner} must be (x, y), (x, y, sample_weight) or an iterable of batches, got {data!r}.")
        return make_batches(owner, *data, batch_size=batch_size, steps=steps, lengths=lengths, mask=mask)

    def _run_epochs(
        self,
        batches: Batches,
        held_out: Batches | None,
        hooks: CallbackList,
        epochs: range,
        class_weight: Mapping[int, float] | None,
        validation_freq: int | list[int],
    ) -> None:
        self.stop_training = False
        logs: Logs = {}
        hooks.on_train_begin()
        try:
            with ctrl_c_between_batches() as interrupted:
                for epoch in epochs:
                    self.reset_metrics()
                    hooks.on_epoch_begin(epoch)
                    trained = self._run_train_batches(batches, hooks, class_weight, interrupted)
                    if not trained and epoch == epochs[0]:
                        raise ValueError(f"{self._label}: x must yield at least one batch to fit, got none.")
                    if not trained:
                        break
                    logs = trained
                    if held_out is not None and _is_due(epoch, validation_freq):
                        found = self._run_test_batches(held_out, hooks, interrupted)
                        logs |= {f"val_{name}": value for name, value in found.items()}
                    hooks.on_epoch_end(epoch, logs)
                    interrupted()
                    if self.stop_training:
                        break
        except KeyboardInterrupt:
            hooks.on_train_end(logs)
            raise
        hooks.on_train_end(logs)

    def _run_train_batches(
        self,
        batches: Batches,
        hooks: CallbackList,
        class_weight: Mapping[int, float] | None,
        interrupted: Callable[[], None],
    ) -> Logs:
        logs: Logs = {}
        for index, batch in enumerate(batches):
            hooks.on_train_batch_begin(index)
            logs = self._train_batch(batch, class_weight)
            hooks.on_train_batch_end(index, logs)
            interrupted()
            if self.stop_training:
                break
        if isinstance(batches, StreamBatches):
            hooks.params["steps"] = batches.steps
            self.stop_training |= batches.exhausted
        return logs

    def _run_test_batches(self, batches: Batches, hooks: CallbackList, interrupted: Callable[[], None]) -> Logs:
        self.reset_metrics()
        hooks.on_test_begin()
        logs: Logs = {}
        for index, batch in enumerate(batches):
            hooks.on_test_batch_begin(index)
            logs = self._test_batch(batch)
            hooks.on_test_batch_end(index, logs)
            interrupted()
        hooks.on_test_end(logs)
        return logs

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        *,
        lengths: Any = None,
        mask: Any = None,
    ) -> Any:
        """Return the loss and the metrics over some data. Arguments as for :meth:`fit`.

        Returns
        -------
        float, list of float or dict
            The loss; with metrics a list that begins with it; with `return_dict` a dict by name.
        """
        self._check_compiled("evaluate")
        options: Any = {"batch_size": batch_size, "steps": steps, "lengths": lengths, "mask": mask}
        batches = make_batches(f"{self._label}: evaluate", x, y, sample_weight, **options)
        hooks = self._hooks(callbacks, verbose, epochs=1, steps=batches.steps)
        logs = self._run_test_batches(batches, hooks, _never)
        if not logs:
            raise ValueError(f"{self._label}: x must yield at least one batch to evaluate, got none.")
        return _flat(logs, return_dict)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
        *,
        lengths: Any = None,
        mask: Any = None,
    ) -> Any:
        """Return the outputs for all samples, computed batch by batch.

        Parameters
        ----------
        x : array_like (N, T, F) or iterable of batches
            Of what an iterable yields only x, and the mask or lengths, are used.
        batch_size, verbose, steps, callbacks, lengths, mask
            As for :meth:`fit`.

        Returns
        -------
        ndarray or list of ndarray
        """
        options: Any = {"batch_size": batch_size, "steps": steps, "lengths": lengths, "mask": mask}
        batches = make_batches(f"{self._label}: predict", x, **options)
        hooks = self._hooks(callbacks, verbose, epochs=1, steps=batches.steps)
        hooks.on_predict_begin()
        found: list[Any] = []
        for index, batch in enumerate(batches):
            hooks.on_predict_batch_begin(index)
            self._build_for(batch.x)
            found.append(self._predict_step(batch.x, batch.mask))
            hooks.on_predict_batch_end(index, {"outputs": found[-1]})
        hooks.on_predict_end()
        if not found:
            raise ValueError(f"{self._label}: x must yield at least one batch to predict, got none.")
        if len(found) == 1:
            return found[0]
        if isinstance(found[0], list):
            return [np.concatenate(parts) for parts in zip(*found, strict=True)]
        return np.concatenate(found)

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
        *,
        lengths: Any = None,
        mask: Any = None,
    ) -> Any:
        """Run one step of training.

        Returns
        -------
        float, list of float or dict
            As :meth:`evaluate` returns them: means over all batches since :meth:`reset_metrics`.
        """
        self._check_compiled("train_on_batch")
        batch = make_batch(f"{self._label}: train_on_batch", x, y, sample_weight, lengths, mask)
        return _flat(self._train_batch(batch, class_weight), return_dict)

    def test_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        return_dict: bool = False,
        *,
        lengths: Any = None,
        mask: Any = None,
    ) -> Any:
        """Evaluate one batch; returns as :meth:`train_on_batch` does."""
        self._check_compiled("test_on_batch")
        batch = make_batch(f"{self._label}: test_on_batch", x, y, sample_weight, lengths, mask)
        return _flat(self._test_batch(batch), return_dict)

    def predict_on_batch(self, x: Any, *, lengths: Any = None, mask: Any = None) -> Any:
        """Return the outputs for one batch, in one call of the engine."""
        batch = make_batch(f"{self._label}: predict_on_batch", x, lengths=lengths, mask=mask)
        self._build_for(batch.x)
        return self._predict_step(batch.x, batch.mask)

    def _train_batch(self, batch: Batch, class_weight: Mapping[int, float] | None) -> Logs:
        numbers = isinstance(self.loss, losses.SparseCategoricalCrossentropy)
        batch = data_adapter.with_class_weight(self._with_targets(batch), class_weight, numbers)
        loss, y_pred = self._train_step(batch.x, batch.y, batch.sample_weight, batch.mask)
        return self._watch(batch, loss, y_pred)

    def _test_batch(self, batch: Batch) -> Logs:
        batch = self._with_targets(batch)
        loss, y_pred = self._test_step(batch.x, batch.y, batch.sample_weight, batch.mask)
        return self._watch(batch, loss, y_pred)

    def _watch(self, batch: Batch, loss: float, y_pred: np.ndarray | None) -> Logs:
        """Add a batch to the loss' mean, weighted by its number of samples, and to the metrics."""
        self._loss_tracker.update_state(loss, len(batch.x))
        if self._needs_predictions:
            mask = self._output_mask(batch.x, batch.mask)
            self._metric_list.update_state(batch.y, y_pred, batch.sample_weight, mask)
        return {"loss": self._loss_tracker.result(), **self._metric_list.result()}

    def _with_targets(self, batch: Batch) -> Batch:
        if batch.y is None:
            raise ValueError(f"{self._label}: y must be given to compute the loss, got None.")
        self._build_for(batch.x)
        return batch

    def _build_for(self, x: np.ndarray) -> None:
        if not self.built:
            self.build((None, *x.shape[1:]))

    def _shuffles(self) -> SeedGenerator:
        # Made at the first fit, so that a seed set at any time before it counts; kept, so that training goes on.
        if self._shuffle_seeds is None:
            self._shuffle_seeds = SeedGenerator()
        return self._shuffle_seeds

    def get_random_state(self) -> tuple[int, int] | None:
        """Return the state of the shuffling, None before the first shuffled :meth:`fit`."""
        return None if self._shuffle_seeds is None else self._shuffle_seeds.get_state()

    def set_random_state(self, state: tuple[int, int] | None) -> None:
        """Go on shuffling from a state that :meth:`get_random_state` returned."""
        self._shuffle_seeds = None if state is None else SeedGenerator(state[0])
        if self._shuffle_seeds is not None and state is not None:
            self._shuffle_seeds.set_state((state[0], state[1]))

    def _hooks(self, callbacks: Any, verbose: str | int, add_history: bool = False, **params: Any) -> CallbackList:
        hooks = CallbackList(callbacks, add_history=add_history)
        hooks.callbacks.append(Progress(verbose))
        hooks.set_model(self)
        hooks.set_params({"verbose": verbose, **params})
        return hooks


def _is_due(epoch: int, frequency: int | list[int]) -> bool:
    return epoch + 1 in frequency if isinstance(frequency, list | tuple) else (epoch + 1) % frequency == 0


def _flat(logs: Logs, return_dict: bool) -> Any:
    values = list(logs.values())
    if return_dict:
        return logs
    return values[0] if len(values) == 1 else values


def _never() -> None:
    """Stands where nothing is to be asked between batches."""
