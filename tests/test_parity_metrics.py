"""Metrics over several batches, with weights and masks, against Keras."""

import numpy as np
import pytest

from rnnfast import metrics
from tests.peers import as_array, require

keras = require("keras")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CASES = [
    ("BinaryAccuracy", {}, "binary"),
    ("BinaryAccuracy", {"threshold": 0.3}, "binary"),
    ("CategoricalAccuracy", {}, "onehot"),
    ("SparseCategoricalAccuracy", {}, "sparse"),
    ("TopKCategoricalAccuracy", {"k": 2}, "onehot"),
    ("SparseTopKCategoricalAccuracy", {"k": 3}, "sparse"),
    ("Accuracy", {}, "equal"),
    ("Precision", {}, "binary"),
    ("Precision", {"thresholds": [0.2, 0.7]}, "onehot"),
    ("Precision", {"top_k": 2}, "onehot"),
    ("Recall", {"class_id": 1, "thresholds": 0.4}, "onehot"),
    ("Recall", {"top_k": 2, "class_id": 2}, "onehot"),
    ("AUC", {}, "binary"),
    ("AUC", {"curve": "PR"}, "binary"),
    ("AUC", {"curve": "PR", "summation_method": "minoring", "num_thresholds": 20}, "onehot"),
    ("AUC", {"summation_method": "majoring", "thresholds": [0.3, 0.1, 0.8]}, "onehot"),
    ("AUC", {"multi_label": True, "num_labels": 5}, "onehot"),
    ("AUC", {"multi_label": True, "label_weights": [1.0, 2.0, 3.0, 4.0, 5.0], "curve": "PR"}, "onehot"),
    ("AUC", {"from_logits": True}, "regression"),
    ("F1Score", {}, "onehot"),
    ("F1Score", {"average": "macro", "threshold": 0.5}, "onehot"),
    ("FBetaScore", {"average": "micro", "beta": 2.0}, "onehot"),
    ("FBetaScore", {"average": "weighted", "beta": 0.5}, "onehot"),
    ("R2Score", {}, "regression"),
    ("R2Score", {"class_aggregation": "variance_weighted_average"}, "regression"),
    ("R2Score", {"class_aggregation": None}, "regression"),
    ("R2Score", {"num_regressors": 2}, "regression"),
    ("MeanSquaredError", {}, "regression"),
    ("RootMeanSquaredError", {}, "regression"),
    ("MeanAbsoluteError", {}, "regression"),
    ("MeanAbsolutePercentageError", {}, "regression"),
    ("MeanSquaredLogarithmicError", {}, "regression"),
    ("LogCoshError", {}, "regression"),
    ("KLDivergence", {}, "onehot"),
    ("Poisson", {}, "onehot"),
    ("BinaryCrossentropy", {"label_smoothing": 0.1}, "binary"),
    ("CategoricalCrossentropy", {}, "onehot"),
    ("SparseCategoricalCrossentropy", {}, "sparse"),
]
# Keras gives masks to these only; here every metric heeds them.
MASKS = {"BinaryAccuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy", "MeanSquaredError"}
MASKS |= {"MeanAbsoluteError", "SparseTopKCategoricalAccuracy", "SparseCategoricalCrossentropy"}


def batch(rng, kind, *lead):
    p = rng.uniform(0.02, 0.98, (*lead, 5)).astype("float32")
    if kind == "binary":
        p = p[..., :1]
        return (rng.random(p.shape) < p).astype("float32"), p
    if kind == "sparse":
        return rng.integers(0, 5, lead), p
    if kind == "onehot":
        return np.eye(5, dtype="float32")[rng.integers(0, 5, lead)], p
    if kind == "equal":
        return rng.integers(0, 2, (*lead, 1)).astype("float32"), rng.integers(0, 2, (*lead, 1)).astype("float32")
    return (rng.random((*lead, 5)) < 0.5).astype("float32") + p * 0.5, rng.normal(size=(*lead, 5)).astype("float32")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "config", "kind"), CASES)
def test_three_batches(name, config, kind, weighted):
    rng = np.random.default_rng(0)
    ours, theirs = getattr(metrics, name)(**config), getattr(keras.metrics, name)(**config)
    for size in (9, 4, 7):
        y, p = batch(rng, kind, size)
        w = rng.uniform(0.5, 2.0, size).astype("float32") if weighted else None
        ours.update_state(y, p, w)
        theirs.update_state(y, p, w)
    np.testing.assert_allclose(ours.result(), as_array(theirs.result()), rtol=3e-5, atol=1e-6)
    assert ours.direction == {"up": "up", "down": "down"}[theirs._direction]
    assert ours.name == getattr(keras.metrics, name)(name=ours.name).name


@pytest.mark.parametrize(("name", "config", "kind"), [case for case in CASES if case[0] in MASKS])
def test_masked_sequences(name, config, kind):
    rng = np.random.default_rng(1)
    ours, theirs = getattr(metrics, name)(**config), getattr(keras.metrics, name)(**config)
    for size in (3, 5):
        y, p = batch(rng, kind, size, 6)
        mask, w = rng.random((size, 6)) < 0.6, rng.uniform(0.5, 2.0, (size, 6)).astype("float32")
        ours.update_state(y, p, w, mask)
        tensor = keras.ops.convert_to_tensor(p)
        keras.src.backend.set_keras_mask(tensor, keras.ops.convert_to_tensor(mask))
        theirs.update_state(y, tensor, w)
    np.testing.assert_allclose(ours.result(), as_array(theirs.result()), rtol=3e-5)
