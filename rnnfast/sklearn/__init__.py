"""Estimators for scikit-learn: recurrent networks that classify and regress sequences, and that forecast series.

They take 3-D arrays, lists of sequences of different lengths and 2-D arrays, and work in pipelines, grid searches and cross-validation; their pickles hold the native
model file. Needs scikit-learn: ``pip install 'rnnfast[sklearn]'``.
"""

from rnnfast.sklearn._base import SequenceEstimator
from rnnfast.sklearn._forecaster import Forecaster
from rnnfast.sklearn._sequences import SequenceClassifier, SequenceRegressor

__all__ = ["Forecaster", "SequenceClassifier", "SequenceEstimator", "SequenceRegressor"]
