"""Forecasters: what the network is given, what comes back on the series' scale, alone, in batches, saved, streamed and backtested."""

import sys

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, NotBuiltError, ShapeError, callbacks, layers
from rnnfast.builders import Forecaster, forecaster
from rnnfast.data import MinMaxScaler

STRATEGIES = ["recursive", "direct", "seq2seq"]
OPTIONS = [{}, {"season": 4}, {"season": 4, "log": True, "scaler": "minmax"}, {"scaler": None}]


@pytest.fixture(autouse=True)
def seed():
    rnnfast.utils.set_random_seed(7)


@pytest.fixture
def series(rng):
    t = np.arange(80)
    return 20 + 0.1 * t + 3 * np.sin(t * np.pi / 2) + 0.1 * rng.standard_normal(80)


def trained(strategy, series, past=None, future=None, horizon=3, lags=6, **options):
    model = forecaster(horizon, lags, strategy, units=4, past=0 if past is None else past.shape[-1], future=0 if future is None else future.shape[-1], **options)
    model.fit(series, past=past, future=future, epochs=2, verbose=0)
    return model


def by_hand(model, history, horizon, options, past=None, future=None):
    """The forecast written out for one history: logarithm, difference, scaling, network, and back."""
    season, log, ahead = options.get("season", 0), options.get("log"), model.pipeline.ahead
    first, second = model.pipeline.scalers
    u = np.log(history) if log else history
    z = u[season:] - u[:-season] if season else u
    unscale = (lambda v: v * first.scale[0] + first.offset[0]) if first else (lambda v: v)
    z = (z - first.offset[0]) / first.scale[0] if first else z
    T, lags = len(history), model.pipeline.lags
    columns = np.zeros((T + horizon, 0))
    for given, early in ((past, 0), (future, ahead)):
        if given is not None:
            columns = np.column_stack([columns, np.vstack([given[early:], np.full((T + horizon - len(given) + early, given.shape[1]), np.nan)])])
    if first and columns.shape[1]:
        columns = (columns - second.offset) / second.scale
    rows, outputs = np.column_stack([z, columns[season:T]])[-lags:], []
    while len(outputs) < horizon:
        y = model.predict_on_batch(rows[None].astype(np.float32))[0].reshape(-1)
        outputs.extend(y.astype(np.float64))
        rows = np.vstack([rows, np.concatenate([y[:1], columns[T + len(outputs) - 1]])])
    known = list(u)
    for d in outputs[:horizon]:
        known.append(unscale(d) + (known[-season] if season else 0))
    forecast = np.array(known[T:])
    return np.exp(forecast) if log else forecast


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_forecast_is_the_pipeline_by_hand(strategy, options, series):
    model = trained(strategy, series, **options)
    np.testing.assert_allclose(model.predict(series), by_hand(model, series, 3, options), rtol=1e-6)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_columns_known_ahead_enter_early(strategy, series, rng):
    future = rng.standard_normal((83, 2))
    past = None if strategy == "recursive" else rng.standard_normal((80, 1))
    model = trained(strategy, series, past, future[:80], season=4)
    found = model.predict(series, past=past, future=future)
    np.testing.assert_allclose(found, by_hand(model, series, 3, {"season": 4}, past, future), rtol=1e-6)
    changed = future.copy()
    changed[-1] += 5
    assert not np.allclose(model.predict(series, past=past, future=changed)[-1], found[-1])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_known_columns_are_learned(strategy, rng):
    """The series is its column, known ahead: without it nothing can be forecast."""
    column = rng.choice([-1.0, 1.0], (300, 1))
    model = forecaster(2, 4, strategy, future=1, units=16)
    model.fit(column[:250, 0], future=column[:250], epochs=20, verbose=0)
    result = model.backtest(column[:, 0], start=250, fit="never", future=column)
    assert result.scores()["MAE"] < 0.2


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_windows_are_those_of_the_series(strategy, series):
    model = forecaster(3, 6, strategy, units=2, season=4, scaler=None)
    model.pipeline.fit(model.pipeline.check(series, None, None))
    x, y = model.pipeline.samples(model.pipeline.check(np.stack([series, series + 9]), None, None), stride=2)
    ahead, z = model.pipeline.ahead, series[4:] - series[:-4]
    starts = range(0, len(z) - 6 - ahead + 1, 2)
    assert len(x) == len(y) == 2 * len(starts)
    for i, start in enumerate(starts):
        for window in (i, i + len(starts)):
            np.testing.assert_allclose(x[window, :, 0], z[start : start + 6])
            np.testing.assert_allclose(y[window], z[start + 6 : start + 6 + ahead])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_only_the_end_of_a_history_counts_and_batches_are_rows(strategy, series):
    model = trained(strategy, series, season=4)
    long, short = model.predict(series), model.predict(series[-10:])
    np.testing.assert_array_equal(long, short)
    both = model.predict(np.stack([series, series[::-1]]))
    np.testing.assert_array_equal(both[0], long)
    np.testing.assert_array_equal(both[1], model.predict(series[::-1]))
    assert model.predict(np.empty((0, 80))).shape == (0, 3)


def test_many_histories_are_forecast_some_at_a_time(series, monkeypatch, rng):
    model, histories = trained("recursive", series), rng.standard_normal((7, 9))
    whole = model.predict(histories)
    monkeypatch.setattr(sys.modules[Forecaster.__module__], "AT_ONCE", 3)
    np.testing.assert_array_equal(model.predict(histories), whole)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_saved_with_its_scaler(strategy, series, rng, tmp_path):
    past, future = None if strategy == "recursive" else rng.standard_normal((80, 1)), rng.standard_normal((83, 2))
    model = trained(strategy, series, past, future[:80], season=4, log=True, scaler=MinMaxScaler((-1, 1)))
    model.save(tmp_path / "model.rnnf")
    loaded = rnnfast.load(tmp_path / "model.rnnf")
    assert type(loaded) is type(model)
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(loaded.predict(series, past=past, future=future), model.predict(series, past=past, future=future))
    for each in (model, loaded):
        each.fit(series, past=past, future=future[:80], epochs=1, verbose=0, shuffle=False)
    np.testing.assert_array_equal(loaded.predict(series, past=past, future=future), model.predict(series, past=past, future=future))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_stream_forecasts_as_predict_does(strategy, series, rng):
    past, future = None if strategy == "recursive" else rng.standard_normal((80, 1)), rng.standard_normal((83, 2))
    model = trained(strategy, series, past, future[:80], season=4)
    stream = model.stream()

    def step(t):
        return stream.step(series[t], past=None if past is None else past[t], future=future[t + 1 : t + 4])

    live = np.array([step(t) for t in range(10)])
    assert np.isnan(live[:4]).all()
    assert np.isfinite(live[4:]).all()
    expected = model.predict(series[:10], past=None if past is None else past[:10], future=future[:13])
    np.testing.assert_array_equal(live[9], expected)
    state, ahead = stream.get_state(), step(10)
    stream.set_state(state)
    np.testing.assert_array_equal(step(10), ahead)
    stream.reset()
    np.testing.assert_array_equal([step(t) for t in range(10)], live)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_constant_series_stays_constant(strategy):
    model = trained(strategy, np.full(40, 7.5))
    np.testing.assert_array_equal(model.predict(np.full(6, 7.5)), [7.5] * 3)
    model = trained(strategy, np.full(40, 7.5), season=4, log=True)
    np.testing.assert_allclose(model.predict(np.full(10, 7.5)), [7.5] * 3, rtol=1e-12)


def test_recursive_looks_as_far_as_it_is_asked(series):
    model = trained("recursive", series)
    np.testing.assert_array_equal(model.predict(series, 10)[:3], model.predict(series))
    assert trained("direct", series, horizon=1).predict(series, 5).shape == (5,)  # one step ahead is the same thing
    assert trained("direct", series).predict(series, 2).shape == (2,)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_held_out_steps_are_not_scaled_by(strategy, series):
    shifted = series.copy()
    shifted[60:] += 1000
    scaler = trained(strategy, series[:60]).pipeline.scalers[0]
    model = forecaster(3, 6, strategy, units=4)
    history = model.fit(shifted, epochs=2, validation_split=0.25, verbose=0)
    assert model.pipeline.scalers[0].get_config() == scaler.get_config()
    assert history.history["val_loss"][0] > 100 * history.history["loss"][0]
    several = forecaster(3, 6, strategy, units=4)
    several.fit(np.stack([series, series, shifted]), epochs=1, validation_split=0.3, verbose=0)
    np.testing.assert_allclose(several.pipeline.scalers[0].offset, series.mean())


def test_backtest_trains_a_copy(series):
    model = trained("direct", series, season=4)
    weights, forecast = model.get_weights(), model.predict(series)
    first = model.backtest(series, start=60, epochs=3, verbose=0)
    assert first.forecasts.shape == (18, 3)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(model.predict(series), forecast)
    never = model.backtest(series, start=60, fit="never")
    np.testing.assert_array_equal(never.forecasts[0], model.predict(series[:60]))
    each = model.backtest(series, start=60, stride=5, window=40, fit="each", epochs=1, verbose=0)
    assert each.origins.tolist() == [60, 65, 70, 75]


def test_later_values_do_not_change_earlier_forecasts(series):
    other, found = series.copy(), []
    other[70:] = 0
    for each in (series, other):
        rnnfast.utils.set_random_seed(1)
        found.append(forecaster(3, 6, units=4).backtest(each, start=60, fit="each", epochs=1, verbose=0).forecasts)
    np.testing.assert_array_equal(found[0][:11], found[1][:11])
    assert not np.array_equal(found[0][11:], found[1][11:])


def test_stops_early_on_the_held_out_part(series):
    model = forecaster(3, 6, units=4)
    history = model.fit(series, epochs=60, validation_split=0.2, verbose=0, callbacks=[callbacks.EarlyStopping(patience=2, restore_best_weights=True)])
    assert "val_loss" in history.history


def test_float64(series):
    rnnfast.config.set_floatx("float64")
    try:
        model = trained("seq2seq", series)
    finally:
        rnnfast.config.set_floatx("float32")
    assert model.predict_on_batch(np.zeros((1, 6, 1))).dtype == np.float64
    assert np.isfinite(model.predict(series)).all()


NAN = np.r_[np.ones(30), np.nan, np.ones(30)]
REFUSED = [
    (lambda: forecaster(0, 4), ValueError, "horizon must be an integer > 0"),
    (lambda: forecaster(1, 0), ValueError, "lags must be an integer > 0"),
    (lambda: forecaster(1, 4, "directly"), ValueError, "Did you mean 'direct'"),
    (lambda: forecaster(1, 4, season=0), ValueError, "season"),
    (lambda: forecaster(1, 4, scaler="standart"), ValueError, "Did you mean 'standard'"),
    (lambda: forecaster(1, 4, cell="grub"), ValueError, "gru"),
    (lambda: forecaster(1, 4, past=-1), ValueError, "past"),
    (lambda: forecaster(3, 4, "recursive", past=1), ValueError, "would have to be forecast too"),
    (lambda: forecaster(5, 4, future=1), ValueError, "lags must be at least horizon = 5"),
    (lambda: Forecaster([Input((None, 2)), layers.GRU(4), layers.Dense(2)], horizon=2, pipeline=forecaster(2, 4).pipeline), ValueError, r"begin with Input\(\(None, 1\)\)"),
    (lambda: forecaster(50, 4).fit(np.arange(40.0)), ValueError, r"at least lags \+ season \+ horizon = 54 steps, got 40"),
    (lambda: forecaster(2, 4).fit(NAN), ValueError, "series must be finite, got nan at 30. Fill the gap"),
    (lambda: forecaster(2, 4, log=True).fit(np.arange(40.0)), ValueError, "positive for log=True, got 0.0"),
    (lambda: forecaster(2, 4).fit(["a"] * 40), ValueError, "real numbers"),
    (lambda: forecaster(2, 4).fit(np.ones((2, 30, 1))), ShapeError, "1 or 2 axes"),
    (lambda: forecaster(2, 4).fit(np.ones(20), past=np.ones((20, 1))), ValueError, "past must have 0 columns"),
    (lambda: forecaster(2, 4, future=2).fit(np.ones(20)), ValueError, "future must have 2 columns, as the model was made, got none"),
    (lambda: forecaster(2, 4, future=2).fit(np.ones(20), future=np.ones((20, 3))), ShapeError, r"shape \(20, 2\), got \(20, 3\)"),
    (lambda: forecaster(2, 4).fit(np.ones(20), validation_split=0.01), ValueError, "validation_split 0.01 of 20 steps"),
    (lambda: forecaster(2, 4).fit(np.ones(20), validation_split=0.9), ValueError, "too short"),
    (lambda: forecaster(2, 4).predict(np.ones(20)), NotBuiltError, "Call fit"),
    (lambda: trained("direct", np.arange(20.0)).predict(np.arange(5.0)), ValueError, r"lags \+ season = 6 steps, got 5"),
    (lambda: trained("direct", np.arange(20.0)).predict(np.arange(9.0), 4), ValueError, "at most 3"),
    (lambda: trained("direct", np.arange(20.0), future=np.ones((20, 1))).predict(np.arange(9.0), future=np.ones((9, 1))), ShapeError, r"future must have shape \(12, 1\)"),
    (lambda: trained("direct", np.arange(20.0), bidirectional=True).stream(), ValueError, "cannot be streamed"),
    (lambda: trained("direct", np.arange(20.0)).stream().step(np.nan), ValueError, "finite"),
    (lambda: trained("direct", np.arange(20.0)).stream().step(1.0, future=[[1.0]]), ShapeError, "future of a step"),
    (lambda: forecaster(2, 4).backtest(np.ones(20), 3), ValueError, "at most 2"),
]


@pytest.mark.parametrize("call, error, message", REFUSED)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_file_with_a_broken_pipeline_is_refused(series, tmp_path):
    from rnnfast.models.saving import load_archive, save_archive

    model = trained("direct", series)
    model.save(tmp_path / "model.rnnf")
    config, arrays = load_archive(tmp_path / "model.rnnf")
    for change in ({"lags": -1}, {"past": 2}, {"scalers": None}, {"scalers": [{"class_name": "os.system", "config": {}}, None]}):
        broken = {**config, "config": {**config["config"], "pipeline": {**config["config"]["pipeline"], **change}}}
        save_archive(tmp_path / "broken.rnnf", broken, arrays)
        with pytest.raises(rnnfast.FormatError, match="does not describe a model"):
            rnnfast.load(tmp_path / "broken.rnnf")
