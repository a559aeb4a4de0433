"""Metrics: values, weights, masks, accumulation. Parity with Keras is in test_parity_metrics.py."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnfast import losses, metrics
from rnnfast.errors import ShapeError

RNG = np.random.default_rng(0)
CLASSIFIERS = ["categorical_accuracy", "top_k_categorical_accuracy", "auc", "precision", "recall", "f1_score"]
NAMES = [*CLASSIFIERS, "binary_accuracy", "accuracy", "r2_score", "mse", "rmse", "mae", "mape", "msle", "log_cosh"]
NAMES += ["huber", "kld", "poisson", "bce", "categorical_crossentropy"]


def data(name, *lead):
    p = RNG.uniform(0.05, 0.95, (*lead, 3))
    y = np.eye(3)[RNG.integers(0, 3, lead)] if name in CLASSIFIERS else RNG.uniform(0.1, 1.0, (*lead, 3))
    return y, p


@pytest.mark.parametrize("name", NAMES)
def test_batches_add_up_and_reset_forgets(name):
    y, p = data(name, 24)
    w = RNG.uniform(0.5, 2.0, 24)
    whole = metrics.get(name)(y, p, w)
    metric = metrics.get(name)
    metric.update_state(np.roll(y, 1, 0), p)
    metric.reset_state()
    for rows in (slice(10), slice(10, 11), slice(11, 24)):
        metric.update_state(y[rows], p[rows], w[rows])
    np.testing.assert_allclose(metric.result(), whole, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_masked_rows_do_not_count_whatever_they_hold(name):
    y, p = data(name, 4, 6)
    mask = RNG.random((4, 6)) < 0.6
    w = RNG.uniform(0.5, 2.0, (4, 6))
    expected = metrics.get(name)(y[mask], p[mask], w[mask])
    y, p = np.where(mask[..., None], y, np.nan), np.where(mask[..., None], p, np.nan)
    np.testing.assert_allclose(metrics.get(name)(y, p, w, mask), expected, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_config_round_trip_and_empty_result(name):
    metric = metrics.get(name)
    again = metrics.deserialize(metrics.serialize(metric))
    assert again.get_config() == metric.get_config()
    assert np.all(np.asarray(metric.result()) == 0)
    assert metric.direction in ("up", "down")


def test_sample_weights_reach_all_steps():
    y, p = RNG.normal(size=(3, 4, 1)), RNG.normal(size=(3, 4, 1))
    w = np.array([1.0, 0.0, 3.0])
    expected = metrics.MeanAbsoluteError()(y, p, np.repeat(w[:, None], 4, 1))
    assert metrics.MeanAbsoluteError()(y[..., 0], p, w) == pytest.approx(expected, rel=1e-14)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10)), min_size=2, max_size=40))
def test_auc_is_the_chance_of_the_right_order(pairs):
    truth = np.array([label for label, _ in pairs])
    scores = np.array([score / 10 for _, score in pairs])
    if truth.all() or not truth.any():
        return
    ranks = np.subtract.outer(scores[truth], scores[~truth])
    expected = np.where(ranks == 0, 0.5, ranks > 0).mean()
    thresholds = np.linspace(0, 1, 21)[1:-1] + 0.001  # between all the scores
    got = metrics.AUC(thresholds=thresholds)(truth[:, None], scores[:, None])
    assert got == pytest.approx(expected, abs=1e-12)


def test_precision_and_recall_options():
    y, p = np.eye(3)[[0, 1, 2, 0]], np.array([[0.9, 0.5, 0.2], [0.6, 0.7, 0.1], [0.5, 0.4, 0.3], [0.2, 0.1, 0.4]])
    np.testing.assert_allclose(metrics.Precision(thresholds=[0.8, 0.0])(y, p), [1.0, 4 / 12])
    assert metrics.Recall(top_k=1)(y, p) == 0.5
    assert metrics.Precision(top_k=1, class_id=0)(y, p) == 0.5
    assert metrics.Recall(class_id=1, thresholds=0.45)(y, p) == 1.0
    assert metrics.Precision()(y, np.zeros((4, 3))) == 0.0


def test_top_k_with_few_classes_and_unknown_labels():
    metric = metrics.SparseTopKCategoricalAccuracy(k=5)
    assert metric([0, 1, 7, -1], np.full((4, 2), 0.5)) == 0.5
    assert metrics.SparseTopKCategoricalAccuracy(k=1)([0, 1], [[0.5, 0.5], [0.9, 0.1]]) == 0.5


def test_losses_as_metrics_take_their_arguments():
    p = RNG.uniform(0.1, 0.9, (6, 4))
    labels = np.array([0, 1, 2, 3, 0, 1])
    metric = metrics.SparseCategoricalCrossentropy(ignore_class=0)
    expected = losses.SparseCategoricalCrossentropy(ignore_class=0)(labels, p)
    assert metric(labels, p) == pytest.approx(expected)
    assert metrics.deserialize(metrics.serialize(metric))(labels, p) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("y_shape", "p_shape", "kind"),
    [
        ((8, 1), (8, 1), "BinaryAccuracy"),
        ((8,), (8, 1), "BinaryAccuracy"),
        ((8, 4, 1), (8, 4, 1), "BinaryAccuracy"),
        ((8,), (8, 3), "SparseCategoricalAccuracy"),
        ((8, 1), (8, 3), "SparseCategoricalAccuracy"),
        ((8, 4), (8, 4, 3), "SparseCategoricalAccuracy"),
        ((8, 3), (8, 3), "CategoricalAccuracy"),
        ((8, 4, 3), (8, 4, 3), "CategoricalAccuracy"),
    ],
)
def test_accuracy_is_resolved_by_shape(y_shape, p_shape, kind):
    several = metrics.MetricList(["accuracy"], ["acc"])
    assert several.metrics == []
    several.update_state(np.zeros(y_shape), RNG.uniform(size=p_shape))
    assert [type(metric).__name__ for metric in several.metrics] == [kind, kind]
    assert list(several.result()) == ["accuracy", "acc"]


def test_metric_list_names_and_weights():
    several = metrics.MetricList(["mae", "mae", metrics.MeanSquaredError()], ["mae", "mse"])
    several.update_state([0.0, 0.0], [[1.0], [3.0]], sample_weight=np.array([3.0, 1.0]))
    assert several.result() == {
        "mae": 2.0,
        "mae_1": 2.0,
        "mean_squared_error": 5.0,
        "weighted_mae": 1.5,
        "mse": 3.0,
    }
    several.reset_state()
    assert several.result()["mae"] == 0.0


def test_functions_are_metrics():
    def worst(y_true, y_pred):
        return np.abs(y_true - y_pred).max(-1)

    metric = metrics.get(worst)
    assert metric.name == "worst"
    assert metric([[0.0, 0.0]] * 2, np.array([[1.0, 2.0], [4.0, 0.0]]), sample_weight=[1.0, 3.0]) == 3.5
    scalar = metrics.get(lambda y_true, y_pred: 7.0)
    assert scalar([1.0], [1.0]) == 7.0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: metrics.get("acuracy"), ValueError, "Unknown metric 'acuracy'. Did you mean 'accuracy'"),
        (lambda: metrics.get(None), ValueError, "got None"),
        (
            lambda: metrics.get("mae")(np.zeros((4, 2)), np.zeros((4, 3))),
            ShapeError,
            r"\(4, 3\) or \(4,\), got \(4, 2\)",
        ),
        (lambda: metrics.get("auc")(np.zeros(4), np.zeros((4, 3))), ShapeError, "must have 3 values"),
        (
            lambda: metrics.get("sparse_categorical_accuracy")(np.eye(3), np.eye(3)),
            ShapeError,
            "one class number a row",
        ),
        (lambda: metrics.get("mae")([0.0], [0.0], [1.0, 2.0]), ShapeError, "sample_weight must have shape"),
        (lambda: metrics.AUC(num_thresholds=1), ValueError, "num_thresholds must be at least 2"),
        (lambda: metrics.AUC(curve="roc"), ValueError, "curve must be 'ROC' or 'PR'"),
        (lambda: metrics.AUC(summation_method="sum"), ValueError, "summation_method"),
        (lambda: metrics.AUC(num_labels=2)(np.eye(3), np.eye(3)), ValueError, "must have 2 labels, got 3"),
        (lambda: metrics.Precision(thresholds=2.0), ValueError, r"thresholds must lie in \[0, 1\]"),
        (lambda: metrics.F1Score(average="mean"), ValueError, "average must be"),
        (lambda: metrics.FBetaScore(beta=0.0), ValueError, "beta must be greater than 0"),
        (lambda: metrics.F1Score(threshold=0.0), ValueError, "threshold must be in"),
        (lambda: metrics.R2Score("sum"), ValueError, "class_aggregation"),
        (lambda: metrics.R2Score(num_regressors=-1), ValueError, "num_regressors"),
        (lambda: metrics.TopKCategoricalAccuracy(0), ValueError, "k must be at least 1"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
