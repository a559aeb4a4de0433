"""From raw series and sequences to arrays: windows, padding, splits in time, scalers, vocabularies; forecasts scored beside baselines."""

from rnnfast.data.backtesting import Backtest, backtest, compare, score_table
from rnnfast.data.baselines import Baseline, Drift, LeastSquares, Mean, Naive, SeasonalNaive, baselines
from rnnfast.data.padding import bucket_by_length, pad_sequences
from rnnfast.data.scalers import MinMaxScaler, Scaler, StandardScaler
from rnnfast.data.scores import last_step_mse, mae, mase, rmse, smape
from rnnfast.data.splits import rolling_origins, split_in_time
from rnnfast.data.text import Vocabulary, token_streams, token_windows
from rnnfast.data.windows import timeseries_dataset_from_array, windows

__all__ = [
    "Backtest",
    "Baseline",
    "Drift",
    "LeastSquares",
    "Mean",
    "MinMaxScaler",
    "Naive",
    "Scaler",
    "SeasonalNaive",
    "StandardScaler",
    "Vocabulary",
    "backtest",
    "baselines",
    "bucket_by_length",
    "compare",
    "last_step_mse",
    "mae",
    "mase",
    "pad_sequences",
    "rmse",
    "rolling_origins",
    "score_table",
    "smape",
    "split_in_time",
    "timeseries_dataset_from_array",
    "token_streams",
    "token_windows",
    "windows",
]
