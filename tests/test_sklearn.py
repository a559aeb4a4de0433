"""Estimators: scikit-learn's own checks, every form of X, cross-validation, repeatable fits, pickles that hold the native format."""

import copy
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

from tests.peers import require

require("sklearn")

from sklearn.base import clone  # noqa: E402
from sklearn.compose import TransformedTargetRegressor  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

import rnnfast  # noqa: E402
from rnnfast.random import global_seed_generator  # noqa: E402
from rnnfast.sklearn import Forecaster, SequenceClassifier, SequenceRegressor  # noqa: E402

# Why a check cannot hold; everything else does.
ROUNDING = {"check_sample_weight_equivalence_on_dense_data": "samples of weight 2 and samples taken twice differ in the rounding of float32, and the check allows 1e-7"}
SERIES = {
    "check_n_features_in_after_fitting": "a history may be longer or shorter than the series that were learned",
    "check_fit2d_1feature": "a column is a step; one step is no series, and the error says how many steps are needed",
    "check_fit1d": "one series alone has one axis",
    "check_fit2d_predict1d": "one history alone has one axis",
}
CHECKED = {
    "classifier": (SequenceClassifier(units=8, epochs=15, learning_rate=0.05), ROUNDING),
    "regressor": (SequenceRegressor(units=8, epochs=20, learning_rate=0.05), ROUNDING),
    "forecaster": (Forecaster(lags=1, units=2, epochs=1), SERIES),
}


@pytest.mark.parametrize(("estimator", "expected"), CHECKED.values(), ids=CHECKED)
def test_the_checks_of_scikit_learn(estimator, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_estimator(estimator, expected_failed_checks=expected, on_fail=None)
    assert {one["check_name"]: str(one["exception"])[:300] for one in found if one["status"] == "failed"} == {}
    assert {one["check_name"] for one in found if one["status"] == "xfail"} <= set(expected)  # rounding may be kind
    assert sum(one["status"] == "passed" for one in found) > 30


def sequences(count=60, features=2, seed=0):
    rng = np.random.default_rng(seed)
    X = [rng.normal(size=(n, features)) for n in rng.integers(4, 9, count)]
    return X, np.array(["up" if x[-1, 0] > 0 else "down" for x in X])


def classifier(**options):
    return SequenceClassifier(**({"units": 6, "epochs": 25, "learning_rate": 0.03, "random_state": 0} | options))


# -- forms of X ----------------------------------------------------------------------------------------------------------------


def test_sequences_of_different_lengths():
    X, y = sequences()
    model = classifier().fit(X, y)
    assert model.score(X, y) > 0.9
    assert list(model.classes_) == ["down", "up"]
    assert (model.n_features_in_, model.n_iter_, len(model.history_["loss"])) == (2, 25, 25)
    assert np.allclose(model.predict_proba(X).sum(axis=1), 1)
    alone = np.concatenate([model.predict_proba(x[None]) for x in X])
    assert np.array_equal(model.predict_proba(X), alone)
    assert np.array_equal(model.predict_proba(np.array(X, dtype=object)), alone)


def test_an_array_of_three_axes_is_its_rows_of_steps_and_a_list_of_its_sequences():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(20, 5, 2)), rng.normal(size=(20, 3))
    forms = [X, list(X), X.reshape(20, 10), X.reshape(20, 10).tolist()]
    found = [SequenceRegressor(units=3, epochs=2, features=2, random_state=1).fit(form, y) for form in forms]
    assert [model.n_features_in_ for model in found] == [2, 2, 10, 10]
    expected = found[0].predict(X)
    assert expected.shape == (20, 3)
    for model in found:
        assert all(np.array_equal(model.predict(form), expected) for form in forms)


def test_a_matrix_of_lags():
    X = np.random.default_rng(0).normal(size=(80, 6))
    y = 100 + 20 * X[:, -2:].sum(axis=1)
    model = TransformedTargetRegressor(SequenceRegressor("lstm", units=8, epochs=40, learning_rate=0.03, random_state=0), transformer=StandardScaler())
    assert make_pipeline(StandardScaler(), model).fit(X, y).score(X, y) > 0.9


# -- tools of scikit-learn -----------------------------------------------------------------------------------------------------


def test_cross_validation_and_grid_search_over_lists():
    X, y = sequences()
    assert cross_val_score(classifier(), X, y, cv=3).mean() > 0.7
    search = GridSearchCV(classifier(epochs=8), {"cell": ["rnn", "gru"], "bidirectional": [False, True]}, cv=2).fit(X, y)
    assert search.best_estimator_.predict(X).shape == (60,)
    parameters = classifier(cell="rnn").get_params()
    assert clone(classifier(cell="rnn")).get_params() == parameters


def test_a_seed_repeats_a_fit_and_leaves_the_others_alone():
    X, y = sequences()
    before = global_seed_generator().get_state()
    found = [classifier(epochs=3, dropout=0.2, random_state=seed, early_stopping=True, n_iter_no_change=9).fit(X, y).predict_proba(X) for seed in (5, 5, 6)]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert global_seed_generator().get_state() == before


@pytest.mark.parametrize("copied", [lambda model: pickle.loads(pickle.dumps(model)), copy.deepcopy], ids=["pickle", "copy"])
def test_pickles_hold_the_native_format(copied):
    X, y = sequences()
    model = classifier(warm_start=True).fit(X, y)
    state = model.__getstate__()
    assert isinstance(state["model_"], bytes)
    assert state["model_"].startswith(b"PK")
    assert b"rnnfast.models" not in pickle.dumps(model)
    again = copied(model)
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))
    assert np.array_equal(again.fit(X, y).predict_proba(X), model.fit(X, y).predict_proba(X))  # training goes on with the same bits
    assert pickle.loads(pickle.dumps(classifier())).get_params() == classifier().get_params()


def test_a_pickle_of_a_damaged_model_is_refused():
    model = classifier(epochs=1).fit(*sequences())
    state = model.__getstate__()
    damaged = bytearray(state["model_"])
    damaged[len(damaged) // 2] ^= 1
    with pytest.raises(rnnfast.FormatError):
        classifier().__setstate__(state | {"model_": bytes(damaged)})


# -- training ------------------------------------------------------------------------------------------------------------------


def test_early_stopping_keeps_the_best_weights():
    X, y = sequences()
    model = classifier(epochs=200, early_stopping=True, validation_fraction=0.2, n_iter_no_change=3).fit(X, y)
    assert model.n_iter_ < 200
    assert len(model.history_["val_loss"]) == model.n_iter_


def test_sample_weights_and_warm_starts():
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(40, 4)), np.repeat([0, 1], 20)
    weighted = classifier(epochs=10).fit(X, y, sample_weight=np.where(y == 1, 1.0, 0.0))
    assert (weighted.predict(X) == 1).all()
    model = classifier(epochs=5, warm_start=True)
    losses = [model.fit(X, y).loss_ for _ in range(4)]
    assert losses[-1] < losses[0]
    with pytest.raises(ValueError, match="warm_start needs the classes of the first fit"):
        model.fit(X, y + 1)


def test_arguments_are_not_changed():
    optimizer = rnnfast.optimizers.SGD(0.5)
    model = classifier(optimizer=optimizer, epochs=1).fit(*sequences())
    assert model.optimizer is optimizer
    assert (optimizer.iterations, model.model_.optimizer.iterations, model.model_.optimizer.learning_rate) == (0, 2, 0.5)


# -- forecasts -----------------------------------------------------------------------------------------------------------------

T = np.arange(160)
WAVE = 10 + np.sin(T / 3)


def forecaster(**options):
    return Forecaster(**({"lags": 12, "horizon": 3, "units": 6, "epochs": 12, "learning_rate": 0.02, "random_state": 0} | options))


def test_a_series_is_learned_and_continued():
    model = forecaster(epochs=30).fit(WAVE[:140])
    assert np.abs(model.predict() - WAVE[140:143]).max() < 0.3
    assert np.array_equal(model.predict(), model.predict(WAVE[:140]))
    assert np.array_equal(model.predict(2), model.predict()[:2])
    assert model.score(WAVE[120:]) > 0.9
    assert model.model_.predict(WAVE[:140]).tolist() == model.predict().tolist()
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(), model.predict())
    recursive = forecaster(strategy="recursive", horizon=1, epochs=2).fit(WAVE)
    assert recursive.predict(7).shape == (7,)


def test_several_series_in_every_form():
    rows = np.stack([WAVE, WAVE * 1.1])
    model = forecaster().fit(rows)
    assert model.predict().shape == (2, 3)
    for form in (rows[..., None], [WAVE, WAVE * 1.1]):
        assert np.array_equal(forecaster().fit(form).predict(), model.predict())
    ragged = forecaster(season=6, early_stopping=True).fit([WAVE, WAVE[:90] * 1.1, WAVE[:50]])
    assert ragged.predict().shape == (3, 3)
    assert ragged.predict(rows[:, :40]).shape == (2, 3)


def test_columns_that_are_known_up_to_now():
    columns = np.stack([np.cos(T / 3), WAVE, np.sin(T / 5)], axis=1)
    model = forecaster(target=1).fit(columns)
    assert (model.predict().shape, model.predict(columns[:50]).shape, model.n_features_in_) == ((3,), (3,), 3)
    first = forecaster().fit(columns[None][..., [1, 0, 2]])
    assert np.array_equal(first.predict()[0], model.predict())


def test_splits_in_time():
    scores = cross_val_score(forecaster(), WAVE, cv=TimeSeriesSplit(2, test_size=30))
    assert scores.shape == (2,)
    search = GridSearchCV(forecaster(epochs=4), {"lags": [6, 12]}, cv=TimeSeriesSplit(2, test_size=30)).fit(WAVE)
    assert search.predict(WAVE).shape == (3,)


# -- errors --------------------------------------------------------------------------------------------------------------------

X3 = np.zeros((6, 5, 2))
Y = np.array([0, 1] * 3)
FITTED = classifier(epochs=1).fit(X3, Y)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: classifier(features=2).fit(np.zeros((6, 5)), Y), "features must be a positive divisor of the 5 columns"),
        (lambda: FITTED.predict(np.zeros((6, 5, 3))), "X has 3 features, but SequenceClassifier is expecting 2"),
        (lambda: FITTED.predict(np.zeros((6, 6))), "X has 1 features, but SequenceClassifier is expecting 2"),
        (lambda: FITTED.predict([np.zeros((3, 2)), np.zeros((4, 3))]), "same number of features"),
        (lambda: FITTED.predict([np.zeros((3, 2)), np.full((4, 2), np.nan)]), "NaN"),
        (lambda: FITTED.predict([np.zeros((3, 2, 2)), np.zeros((4, 2, 2))]), r"must have shape \(T, F\)"),
        (lambda: classifier(cell="gruu").fit(X3, Y), "unknown name 'gruu'"),
        (lambda: classifier().fit(X3, Y[:4]), "inconsistent"),
        (lambda: classifier().fit(X3, Y, sample_weight=-np.ones(6)), "[Nn]egative"),
        (lambda: SequenceRegressor().predict(X3), "not fitted"),
        (lambda: forecaster().predict(), "not fitted"),
        (lambda: forecaster().fit(WAVE[:10]), "at least lags"),
        (lambda: forecaster(epochs=1).fit(WAVE).predict(WAVE[:5]), r"at least lags \+ season = 12 steps, got 5"),
        (lambda: forecaster(epochs=1).fit(WAVE).score(WAVE[:14]), "= 15 steps to be scored, got 14"),
        (lambda: forecaster(epochs=1).fit(WAVE).predict(4), "horizon must be at most 3"),
        (lambda: forecaster(target=3).fit(np.zeros((50, 2))), r"target must be a column of X, in \[0, 2\)"),
        (lambda: forecaster().fit([np.zeros((50, 2)), np.zeros((40, 3))]), "all series must have shape"),
    ],
)
def test_bad_input(call, text):
    with pytest.raises((ValueError, NotFittedError), match=text):
        call()


def test_without_scikit_learn_the_extra_is_named():
    program = "import sys; sys.modules['sklearn'] = None; import rnnfast; rnnfast.sklearn"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'rnnfast[sklearn]'" in found.stderr
