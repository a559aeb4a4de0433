"""What the estimators share: their arguments, a fit that a seed repeats, pickles."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import rnnfast
from rnnfast import optimizers
from rnnfast.callbacks import EarlyStopping
from rnnfast.interop.bounds import extra
from rnnfast.models.sequential import Sequential
from rnnfast.random import seeded

extra("sklearn", "sklearn", "rnnfast.sklearn")  # before the imports that need it
from sklearn.base import BaseEstimator  # noqa: E402
from sklearn.utils import check_random_state  # noqa: E402


class NetworkEstimator(BaseEstimator):  # type: ignore[misc]
    """Base of all: subclasses have the arguments that are read here, and set `model_`."""

    model_: Any

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _optimizer(self) -> optimizers.Optimizer:
        if isinstance(self.optimizer, optimizers.Optimizer):
            return optimizers.get(optimizers.serialize(self.optimizer))  # the argument stays as it is
        made = optimizers.get(self.optimizer)
        made.learning_rate = self.learning_rate
        return made

    def _train(self, seed: int, x: np.ndarray, y: np.ndarray, held_out: tuple[Any, ...] | None, **given: Any) -> None:
        """Train `model_`, and keep how it went."""
        stop = [EarlyStopping("val_loss", min_delta=self.tol, patience=self.n_iter_no_change, restore_best_weights=True)] if held_out is not None else None
        options: Any = {"batch_size": self.batch_size, "epochs": self.epochs, "verbose": self.verbose, "callbacks": stop, "validation_data": held_out}
        with seeded(seed):
            self.history_ = Sequential.fit(self.model_, x, y, **options, **given).history
        self.n_iter_ = len(self.history_["loss"])
        self.loss_ = self.history_["loss"][-1]

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        if "model_" in state:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.rnnf"
                self.model_.save(path)
                state = state | {"model_": path.read_bytes()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state.get("model_"), bytes):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.rnnf"
                path.write_bytes(state["model_"])
                state = state | {"model_": rnnfast.load(path)}
        super().__setstate__(state)


class SequenceEstimator(NetworkEstimator):
    """Base of the classifier and the regressor.

    Parameters
    ----------
    cell : str
        "gru", "lstm", "rnn" or the name of another recurrent layer.
    units : int or list of int
        Of every recurrent layer, or of each.
    layers : int
    bidirectional : bool
    dropout : float in [0, 1)
        Behind each recurrent layer.
    features : int
        Columns of a 2-D X that make one step: (n_samples, steps * features), step after step. 1 for a matrix of lags.
    optimizer : str or Optimizer
        An Optimizer has its own learning rate.
    learning_rate : float or schedule
    epochs, batch_size : int
    early_stopping : bool
        Hold out `validation_fraction` of the samples and stop when their loss has not fallen by `tol` for `n_iter_no_change` epochs; the best weights stay.
    validation_fraction : float
    n_iter_no_change : int
    tol : float
    warm_start : bool
        Whether another fit goes on with the weights of the last one.
    random_state : int, RandomState or None
    verbose : {0, 1, 2}
    """

    def __init__(
        self,
        cell: str = "gru",
        units: Any = 32,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        features: int = 1,
        optimizer: Any = "adam",
        learning_rate: Any = 0.005,
        epochs: int = 50,
        batch_size: int = 32,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.cell = cell
        self.units = units
        self.layers = layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.features = features
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
