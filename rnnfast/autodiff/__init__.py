"""Gradients of functions that are written in NumPy: a tape, and the table of operations that it records."""

from rnnfast.autodiff.tape import Tape, Traced, Weight

__all__ = ["Tape", "Traced", "Weight"]
