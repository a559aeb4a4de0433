"""What a user calls to train, evaluate and predict: fit, evaluate, predict and their single-batch forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnfast.callbacks import CallbackList, History, Logs
from rnnfast.models import data_adapter
from rnnfast.models.data_adapter import ArrayBatches, Batches, make_batch, make_batches
from rnnfast.models.loop import Loop
from rnnfast.models.progress import Progress
from rnnfast.models.truncated import check_truncate
from rnnfast.random import SeedGenerator


class Trainer(Loop):
    """Mixin that trains, evaluates and predicts.

    Attributes
    ----------
    history : History
        Of the last :meth:`fit`.
    stop_training : bool
        Set it to True in a callback to end training after the batch.
    """

    input_names: list[str] | None = None  # of a model with several inputs
    _shuffle_seeds: SeedGenerator | None = None
    _truncate: tuple[int, int] | None = None  # of the call that runs

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
        resets: Any = None,
        truncate: tuple[int, int] | None = None,
    ) -> History:
        """Train for some epochs.

        Parameters
        ----------
        x : array_like (N, T, F) or iterable of batches
            A generator or iterable yields (x, y[, sample_weight[, mask or lengths[, resets]]]).
        y : array_like (N, ...), for a model with several outputs a list of them or a dict by `output_names`, optional
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
            Weights of the samples (or steps) by their target's class; they multiply `sample_weight`. For one output only.
        sample_weight : array_like, (N,) or (N, T), optional
            For several outputs one array for all, or a list or dict as `y`.
        steps_per_epoch, validation_steps : int, optional
            Batches an epoch; needed for generators without end. Of arrays, and of generators, an epoch of training goes on where the one before it stopped; the one
            that meets the arrays' end is shorter.
        validation_batch_size : int, optional
        validation_freq : int or list of int
            Validate every so many epochs, or after the listed ones, counted from 1.
        lengths : array_like of int, (N,), optional
            Valid steps of each sequence.
        mask : array_like of bool, (N, T), optional
            Instead of `lengths`, any pattern of valid steps.
        validation_lengths, validation_mask : array_like, optional
            The same for `validation_data`.
        resets : array_like of bool, (N, T), optional
            Where it is True a new episode begins: recurrent states start from zero before that step, and no gradient goes back beyond it.
        truncate : (k1, k2), optional
            Truncated back-propagation through time: after every k1 steps of a batch the optimizer makes a step, along the gradient of the loss of those k1
            steps, which goes back through the last k2. States are carried from window to window and start from zero with every batch.

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
        self._truncate = check_truncate(self._label, truncate)
        _check_epochs(self._label, epochs, initial_epoch, validation_freq)
        seeds = self._shuffles() if shuffle else None
        options: Any = {"batch_size": batch_size, "shuffle": seeds, "steps": steps_per_epoch}
        batches = make_batches(f"{self._label}: fit", x, y, sample_weight, lengths=lengths, mask=mask, names=self.input_names, heads=self._heads, resets=resets, **options)
        check: Any = {"batch_size": validation_batch_size or batch_size, "steps": validation_steps}
        held_out: Batches | None = None
        if validation_data is not None:
            held_out = self._validation(validation_data, validation_lengths, validation_mask, **check)
        elif validation_split:
            if not isinstance(batches, ArrayBatches):
                raise ValueError(f"{self._label}: validation_split needs arrays, got batches from {type(x).__name__}.")
            first, last = data_adapter.split_last(batches.data, validation_split)
            batches, held_out = ArrayBatches(first, **options), ArrayBatches(last, **check)
        if isinstance(batches, ArrayBatches) and not batches.data.samples:
            raise ValueError(f"{self._label}: x must have at least one sample to fit, got none.")
        if isinstance(batches, ArrayBatches):
            batches.resumes = True
        hooks = self._hooks(callbacks, verbose, add_history=True, epochs=epochs, steps=batches.steps)
        self._run_epochs(batches, held_out, hooks, range(initial_epoch, epochs), class_weight, validation_freq)
        return self.history

    def _validation(self, data: Any, lengths: Any, mask: Any, batch_size: int | None, steps: int | None) -> Batches:
        owner = f"{self._label}: validation_data"
        if data_adapter.is_stream(data):
            return make_batches(owner, data, steps=steps, lengths=lengths, mask=mask, names=self.input_names, heads=self._heads)
        if not isinstance(data, list | tuple) or not 2 <= len(data) <= 3:
            raise ValueError(f"{owner} must be (x, y), (x, y, sample_weight) or an iterable of batches, got {_kinds(data)}.")
        return make_batches(owner, *data, batch_size=batch_size, steps=steps, lengths=lengths, mask=mask, names=self.input_names, heads=self._heads)

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
        resets: Any = None,
    ) -> Any:
        """Return the loss and the metrics over some data. Arguments as for :meth:`fit`.

        Returns
        -------
        float, list of float or dict
            The loss; with metrics a list that begins with it; with `return_dict` a dict by name. With several outputs the losses of each follow, named
            ``<output>_loss`` and without their weights, then the metrics, named ``<output>_<metric>`` and sorted.
        """
        self._check_compiled("evaluate")
        options: Any = {"batch_size": batch_size, "steps": steps, "lengths": lengths, "mask": mask, "names": self.input_names, "resets": resets}
        batches = make_batches(f"{self._label}: evaluate", x, y, sample_weight, heads=self._heads, **options)
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
        resets: Any = None,
    ) -> Any:
        """Return the outputs for all samples, computed batch by batch.

        Parameters
        ----------
        x : array_like (N, T, F) or iterable of batches
            Of what an iterable yields only x, and the mask or lengths, are used.
        batch_size, verbose, steps, callbacks, lengths, mask, resets
            As for :meth:`fit`.

        Returns
        -------
        ndarray, or list or dict of ndarray
            Of several outputs a list, or a dict if the model's outputs were given as one.
        """
        options: Any = {"batch_size": batch_size, "steps": steps, "lengths": lengths, "mask": mask, "names": self.input_names, "resets": resets}
        batches = make_batches(f"{self._label}: predict", x, **options)
        hooks = self._hooks(callbacks, verbose, epochs=1, steps=batches.steps)
        hooks.on_predict_begin()
        found: list[Any] = []
        for index, batch in enumerate(batches):
            hooks.on_predict_batch_begin(index)
            self._build_for(batch.x)
            found.append(self._predict_step(batch.x, batch.mask, **batch.episodes))
            hooks.on_predict_batch_end(index, {"outputs": found[-1]})
        hooks.on_predict_end()
        if not found:
            raise ValueError(f"{self._label}: x must yield at least one batch to predict, got none.")
        several = isinstance(found[0], list)
        joined = found[0] if len(found) == 1 else [np.concatenate(parts) for parts in zip(*found, strict=True)] if several else np.concatenate(found)
        return self._shown(joined)

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
        resets: Any = None,
        truncate: tuple[int, int] | None = None,
    ) -> Any:
        """Run one step of training, or with `truncate` one for each window. Arguments as for :meth:`fit`.

        Returns
        -------
        float, list of float or dict
            As :meth:`evaluate` returns them, of this batch alone.
        """
        if sample_weight is class_weight is mask is resets is truncate is None:
            loss = self._train_again(x, y, lengths)
            if loss is not None:
                self._loss_tracker.reset_state()
                self._loss_tracker.update_state(loss, len(x))
                found = self._loss_tracker.result()
                return {"loss": found} if return_dict else found
        self._check_compiled("train_on_batch")
        self._truncate = check_truncate(self._label, truncate)
        self.reset_metrics()
        batch = make_batch(f"{self._label}: train_on_batch", x, y, sample_weight, lengths, mask, self.input_names, resets, self._heads)
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
        resets: Any = None,
    ) -> Any:
        """Evaluate one batch; returns as :meth:`train_on_batch` does."""
        self._check_compiled("test_on_batch")
        self.reset_metrics()
        batch = make_batch(f"{self._label}: test_on_batch", x, y, sample_weight, lengths, mask, self.input_names, resets, self._heads)
        return _flat(self._test_batch(batch), return_dict)

    def predict_on_batch(self, x: Any, *, lengths: Any = None, mask: Any = None, resets: Any = None) -> Any:
        """Return the outputs for one batch, in one call of the engine."""
        batch = make_batch(f"{self._label}: predict_on_batch", x, lengths=lengths, mask=mask, names=self.input_names, resets=resets)
        self._build_for(batch.x)
        return self._shown(self._predict_step(batch.x, batch.mask, **batch.episodes))

    def _shown(self, result: Any) -> Any:
        """The outputs as the caller sees them."""
        return result

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


def _flat(logs: Logs, return_dict: bool) -> Any:
    if return_dict:
        return logs
    values = [value for name, value in logs.items() if name != "gradient_norm"]
    return values[0] if len(values) == 1 else values


def _never() -> None:
    """Stands where nothing is to be asked between batches."""


def _check_epochs(owner: str, epochs: Any, initial_epoch: Any, validation_freq: Any) -> None:
    several = isinstance(validation_freq, list | tuple)
    counts = [("epochs", epochs, 0), ("initial_epoch", initial_epoch, 0), *(("validation_freq", one, 1) for one in (validation_freq if several else [validation_freq]))]
    for name, value, least in counts:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{owner}: fit: {name} must be an integer of at least {least}, got {value!r}.")


def _kinds(data: Any) -> str:
    """What something is, without the numbers in it."""
    return f"{type(data).__name__} of {', '.join(type(one).__name__ for one in data) or 'nothing'}" if isinstance(data, list | tuple) else type(data).__name__
