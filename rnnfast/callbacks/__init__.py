"""Callbacks: what happens around epochs and batches."""

from __future__ import annotations

from rnnfast.callbacks.base import Callback, Logs
from rnnfast.callbacks.listing import CallbackList
from rnnfast.callbacks.monitors import EarlyStopping, ModelCheckpoint, MonitorCallback, ReduceLROnPlateau
from rnnfast.callbacks.records import CSVLogger, History
from rnnfast.callbacks.simple import LambdaCallback, LearningRateScheduler, TerminateOnNaN

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "Logs",
    "ModelCheckpoint",
    "MonitorCallback",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
]
