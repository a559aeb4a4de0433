"""Scores and baselines give the numbers that others have published; a backtest never looks ahead."""

import numpy as np
import pytest

from rnnfast import NotBuiltError, ShapeError, data
from rnnfast.data import Drift, LeastSquares, Mean, Naive, SeasonalNaive, baselines, mae, mase, rmse, smape
from rnnfast.datasets import air_passengers
from rnnfast.examples.forecasting import sines

# Quarterly Australian beer production, 1992 to 2010 (megalitres), Australian Bureau of Statistics 8301.0.55.001.
BEER = np.array(
    """443 410 420 532 433 421 410 512 449 381 423 531 426 408 416 520 409 398 398 507 432 398 406 526 428 397 403 517 435 383 424 521 421 402 414 500 451 380
    416 492 428 408 406 506 435 380 421 490 435 390 412 454 416 403 408 482 438 386 405 491 427 383 394 473 420 390 410 488 415 398 419 488 414 374""".split(),
    float,
)

# Hyndman and Athanasopoulos, "Forecasting: principles and practice", 3rd edition, section 5.8: the table of accuracies on these data, trained up to 2007.
PUBLISHED = {
    Drift(): (64.9, 58.9, 4.12),
    Mean(): (38.4, 34.8, 2.44),
    Naive(): (62.7, 57.4, 4.01),
    SeasonalNaive(4): (14.3, 13.4, 0.937),
}


@pytest.mark.parametrize("baseline", PUBLISHED, ids=lambda each: each.name)
def test_beer_production(baseline):
    train, test = BEER[:64], BEER[64:]
    forecast = baseline.fit(train).predict(train, len(test))
    found = rmse(test, forecast), mae(test, forecast), mase(test, forecast, train, season=4)
    assert tuple(float(f"{value:.3g}") for value in found) == PUBLISHED[baseline]


@pytest.mark.parametrize("steps, naive", [(51, "0.0202"), (60, "0.2570")])
def test_noisy_sines(steps, naive):
    """Of A. Géron's "Hands-on machine learning", 2nd edition, chapter 15; least squares must do better."""
    series = sines(10_000, steps)
    train, valid, horizon = series[:7000], series[7000:9000], steps - 50
    errors = [float(np.square(each.fit(train).predict(valid[:, :50], horizon) - valid[:, 50:]).mean()) for each in (Naive(), LeastSquares(50, horizon))]
    assert f"{errors[0]:.4f}" == naive
    assert errors[1] < errors[0] / 5


def test_published_examples_of_smape_and_mase():
    """Of sktime's documentation (mean_absolute_percentage_error, mean_absolute_scaled_error)."""
    train, test, forecast = [5, 0.5, 4, 6, 3, 5, 2], [3, -0.5, 2, 7, 2], [2.5, 0.0, 2, 8, 1.25]
    assert smape(test, forecast) == pytest.approx(100 * 0.5553379953379953, rel=1e-14)
    assert mase(test, forecast, train) == pytest.approx(0.18333333333333335, rel=1e-14)


def test_scores_by_hand():
    y, f = [[1.0, 2.0], [3.0, 4.0]], [[1.0, 4.0], [3.0, 0.0]]
    assert (mae(y, f), data.last_step_mse(y, f)) == (1.5, 10.0)
    assert rmse(y, f) == pytest.approx(np.sqrt(5))
    assert smape([0.0, 0.0, 2.0], [0.0, 5.0, 2.0]) == pytest.approx(200 / 3)
    assert mase([2.0], [4.0], [[0.0, 1.0, 2.0], [5.0, 6.0, 3.0]]) == pytest.approx(2 / 1.5)


def test_last_step_error_can_be_watched(rng):
    from rnnfast import Input, Sequential, layers

    model = Sequential([Input((None, 2)), layers.GRU(3, return_sequences=True)])
    model.compile("adam", "mse", metrics=[data.last_step_mse])
    x, y = rng.standard_normal((4, 6, 2)), rng.standard_normal((4, 6, 3))
    found = model.evaluate(x, y, return_dict=True, verbose=0)["last_step_mse"]
    assert found == pytest.approx(data.last_step_mse(y, model.predict(x, verbose=0)), rel=1e-6)


@pytest.mark.parametrize("baseline", [*baselines(3, lags=4, season=5)], ids=lambda each: each.name)
def test_several_histories_are_forecast_as_each_alone(baseline, rng):
    series = rng.standard_normal((6, 20))
    baseline.fit(series)
    both = baseline.predict(series, 3)
    assert both.shape == (6, 3)
    np.testing.assert_allclose(both, [baseline.predict(row, 3) for row in series], rtol=1e-12, atol=1e-12)


def test_least_squares_finds_a_recurrence():
    series = [1.0, 1.0]
    for _ in range(30):
        series.append(1.6 * series[-1] - 0.8 * series[-2] + 0.3)
    forecast = LeastSquares(lags=2, horizon=5).fit(series[:20]).predict(series[:20], 5)
    np.testing.assert_allclose(forecast, series[20:25], rtol=1e-9)


class Spy:
    """Says what it saw."""

    def __init__(self):
        self.fitted, self.seen = [], []

    def fit(self, series, past=None, future=None):
        self.fitted.append((series, past, future))

    def predict(self, history, horizon, past=None, future=None):
        self.seen.append((history, past, future))
        return np.zeros(horizon)


@pytest.mark.parametrize("fit, window", [("first", None), ("each", None), ("never", 7), ("each", 4)])
def test_backtest_never_looks_ahead(fit, window):
    series, spy = np.arange(20.0), Spy()
    result = data.backtest(spy, series, horizon=3, start=9, stride=2, window=window, fit=fit, past=series[:, None], future=series[:, None])
    assert result.origins.tolist() == [9, 11, 13, 15, 17]
    np.testing.assert_array_equal(result.targets, [series[o : o + 3] for o in result.origins])
    np.testing.assert_array_equal(result.train, series[:9])
    for origin, (history, past, future) in zip(result.origins, spy.seen, strict=True):
        first = 0 if window is None else origin - window
        np.testing.assert_array_equal(history, np.arange(first, origin))
        np.testing.assert_array_equal(past[:, 0], np.arange(first, origin))
        np.testing.assert_array_equal(future[:, 0], np.arange(first, origin + 3))
    assert len(spy.fitted) == {"first": 1, "each": 5, "never": 0}[fit]
    for origin, columns in zip(result.origins, spy.fitted, strict=False):
        assert all(each.max() == origin - 1 for each in columns)


def test_backtest_takes_a_function():
    result = data.backtest(lambda history, horizon: [history[-1]] * horizon, [1, 2, 4, 8], horizon=1, start=2)
    assert result.forecasts.tolist() == [[2], [4]]
    assert result.scores()["MAE"] == 3
    assert data.backtest(lambda history, horizon: [0, history[-1]], [1, 2, 5, 8], horizon=2, start=1).rmse_by_step().tolist() == pytest.approx([14.5**0.5, 26**0.5])


def test_compare_prints_every_baseline_beside_the_model():
    lines = []
    series = air_passengers()[1]
    results = data.compare({"model": SeasonalNaive(12)}, series, horizon=6, lags=13, season=12, start=96, stride=6, print_fn=lines.append)
    scores = {name: result.scores(season=12) for name, result in results.items()}
    assert list(scores) == ["model", "naive", "seasonal naive", "drift", "mean", "least squares"]
    assert scores["model"] == scores["seasonal naive"]
    assert scores["least squares"]["MASE"] < scores["seasonal naive"]["MASE"] < scores["naive"]["MASE"]
    assert len(lines) == 7
    assert lines[0].split() == ["MAE", "RMSE", "sMAPE", "MASE"]
    other = data.backtest(Naive(), series, 6, start=97, stride=6)
    with pytest.raises(ValueError, match="same origins"):
        data.compare({"other": other}, series, 6, lags=13, start=96, stride=6)


def test_scores_of_a_constant_series():
    scores = data.backtest(Naive(), np.ones(10), horizon=2).scores()
    assert (scores["MAE"], scores["sMAPE"]) == (0, 0)
    assert np.isnan(scores["MASE"])


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: mae([1.0], [1.0, 2.0]), ShapeError, "one shape"),
        (lambda: mae([], []), ShapeError, "not be empty"),
        (lambda: mae([np.nan], [1.0]), ValueError, "y_true must be finite, got nan at 0"),
        (lambda: mase([1.0], [1.0], [1.0, 2.0], season=2), ValueError, "more than season = 2"),
        (lambda: mase([1.0], [1.0], [1.0, 1.0]), ValueError, "no error"),
        (lambda: data.last_step_mse([1.0], [1.0]), ShapeError, r"\(N, T, ...\)"),
        (lambda: Naive().predict([], 1), ValueError, "at least 1 steps"),
        (lambda: Naive().predict([1.0], 0), ValueError, "horizon must be an integer > 0"),
        (lambda: SeasonalNaive(4).predict([1.0, 2.0], 1), ValueError, "at least 4 steps, got 2"),
        (lambda: LeastSquares(2, 2).predict([1.0, 2.0], 1), NotBuiltError, "Call fit"),
        (lambda: LeastSquares(2, 2).fit([1.0, 2.0]), ValueError, "length . horizon = 4 steps, got 2"),
        (lambda: LeastSquares(1, 2).fit(np.arange(9.0)).predict([1.0], 3), ValueError, "at most 2"),
        (lambda: data.backtest(Naive(), [1.0, 2.0, 3.0], horizon=4), ValueError, "at least 6 steps, got 3"),
        (lambda: data.backtest(Naive(), [1.0, np.inf, 3.0], horizon=1), ValueError, "finite"),
        (lambda: data.backtest(Naive(), np.arange(9.0), 1, fit="once"), ValueError, "'first', 'each' or 'never'"),
        (lambda: data.backtest(Naive(), np.arange(9.0), 1, past=np.ones((8, 1))), ShapeError, "9 steps"),
        (lambda: data.backtest(lambda history, horizon: 1.0, np.arange(9.0), 1), ShapeError, r"shape \(1,\)"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
