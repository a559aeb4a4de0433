"""Estimators of whole sequences: a class, or numbers, for each."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.model_selection import train_test_split
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, check_is_fitted, column_or_1d, validate_data

from rnnfast.builders import many_to_one
from rnnfast.random import seeded
from rnnfast.sklearn._arrays import as_sequences
from rnnfast.sklearn._base import SequenceEstimator

AT_ONCE = 256


class _Sequences(SequenceEstimator):
    """fit and the outputs of the network."""

    _loss: Any

    def _targets(self, y: Any) -> tuple[np.ndarray, int, Any]:
        """The network's targets, how many outputs it has, and the labels to stratify by."""
        raise NotImplementedError

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train on sequences.

        Parameters
        ----------
        X : array_like of shape (n_samples, steps, features) or (n_samples, steps * features), or list of n_samples arrays of shape (steps_i, features)
        y : array_like of shape (n_samples,), for a regressor also (n_samples, n_outputs)
        sample_weight : array_like of shape (n_samples,), optional

        Returns
        -------
        self
        """
        again = self.warm_start and hasattr(self, "model_")
        x, lengths = as_sequences(self, X, reset=not again)
        target, outputs, strata = self._targets(y)
        check_consistent_length(x, target)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        seed = self._seed()
        if not again:
            self._build(seed, x.shape[2], outputs)
        train, held_out = self._split(len(x), seed, strata)
        parts: list[Any] = [[None if one is None else one[rows] for one in (x, target, weights, lengths)] for rows in (train, held_out) if rows is not None]
        (x, target, weights, lengths), *rest = parts
        given = {"validation_lengths": rest[0].pop()} if rest else {}
        self._train(seed, x, target, tuple(rest[0]) if rest else None, sample_weight=weights, lengths=lengths, **given)
        return self

    def _build(self, seed: int, features: int, outputs: int) -> None:
        activation, loss = self._loss
        with seeded(seed):
            stack = {name: getattr(self, name) for name in ("cell", "units", "layers", "bidirectional", "dropout")}
            self.model_ = many_to_one(features, outputs, activation=activation, **stack)
        self.model_.compile(self._optimizer(), {"class_name": loss, "config": {"reduction": "mean_with_sample_weight"}})

    def _split(self, samples: int, seed: int, strata: Any) -> tuple[Any, Any]:
        """The samples to train on and those held out."""
        if not self.early_stopping:
            return slice(None), None
        return train_test_split(np.arange(samples), test_size=self.validation_fraction, random_state=seed, stratify=strata)  # type: ignore[no-any-return]

    def _outputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        x, lengths = as_sequences(self, X, reset=False)
        found: np.ndarray = self.model_.predict(x, lengths=lengths, batch_size=AT_ONCE, verbose=0)
        return found.astype(np.float64)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


class SequenceClassifier(ClassifierMixin, _Sequences):  # type: ignore[misc]
    __doc__ = f"""A recurrent network that gives each sequence a class.

    {(SequenceEstimator.__doc__ or "").split(chr(10), 2)[2].strip()}

    Attributes
    ----------
    classes_ : ndarray
    model_ : Sequential
        The trained network.
    n_features_in_ : int
        Columns of a 2-D X; otherwise features of a step.
    feature_names_in_ : ndarray
        Of a 2-D X whose columns have names.
    n_iter_ : int
        Epochs that were run.
    history_ : dict of list
        The loss, a value an epoch, and ``val_loss`` with early stopping.
    loss_ : float

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast.sklearn import SequenceClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=(n, 2)) for n in rng.integers(5, 15, 60)]
    >>> y = np.array(["up" if x[-1, 0] > 0 else "down" for x in X])
    >>> model = SequenceClassifier(units=8, epochs=30, learning_rate=0.02, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.9), model.predict_proba(X[:3]).shape
    (True, (3, 2))
    """

    classes_: np.ndarray
    _loss = ("softmax", "SparseCategoricalCrossentropy")

    def _targets(self, y: Any) -> tuple[np.ndarray, int, Any]:
        y = validate_data(self, y=y, multi_output=False)
        check_classification_targets(y)
        classes, numbers = np.unique(y, return_inverse=True)
        if self.warm_start and hasattr(self, "model_") and not np.array_equal(classes, self.classes_):
            raise ValueError(f"{type(self).__name__}: warm_start needs the classes of the first fit, {self.classes_}, got {classes}.")
        self.classes_ = classes
        return numbers, len(classes), numbers

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes.

        Parameters
        ----------
        X
            As for :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`.
        """
        return self._outputs(X)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each sequence, shape (n_samples,)."""
        places = self._outputs(X).argmax(axis=1)
        found: np.ndarray = self.classes_[places]
        return found


class SequenceRegressor(RegressorMixin, _Sequences):  # type: ignore[misc]
    __doc__ = f"""A recurrent network that gives each sequence a number, or several, trained on the mean squared error.

    {(SequenceEstimator.__doc__ or "").split(chr(10), 2)[2].strip()}

    Attributes
    ----------
    model_ : Sequential
        The trained network.
    n_features_in_ : int
        Columns of a 2-D X; otherwise features of a step.
    feature_names_in_ : ndarray
        Of a 2-D X whose columns have names.
    n_iter_ : int
        Epochs that were run.
    history_ : dict of list
        The loss, a value an epoch, and ``val_loss`` with early stopping.
    loss_ : float

    Notes
    -----
    Targets are learned as they are; where they are far from 0 or large, put this into a ``TransformedTargetRegressor`` with a ``StandardScaler``.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast.sklearn import SequenceRegressor
    >>> X = np.random.default_rng(0).normal(size=(80, 6))  # a matrix of lags
    >>> y = X.mean(axis=1)
    >>> model = SequenceRegressor(units=8, epochs=40, learning_rate=0.02, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    _loss = (None, "MeanSquaredError")

    def _targets(self, y: Any) -> tuple[np.ndarray, int, Any]:
        y = np.asarray(validate_data(self, y=y, multi_output=True, y_numeric=True), np.float32)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        self._vector = y.ndim == 1
        target = y[:, None] if self._vector else y
        if self.warm_start and hasattr(self, "model_") and target.shape[1] != self.model_.output_shape[1]:
            raise ValueError(f"{type(self).__name__}: warm_start needs {self.model_.output_shape[1]} outputs as in the first fit, got {target.shape[1]}.")
        return target, target.shape[1], None

    def predict(self, X: Any) -> np.ndarray:
        """The number of each sequence, of shape (n_samples,), or (n_samples, n_outputs) as y was."""
        found = self._outputs(X)
        return found[:, 0] if self._vector else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
