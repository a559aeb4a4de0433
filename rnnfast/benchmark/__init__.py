"""Comparison with other libraries on one machine: `python -m rnnfast.benchmark`."""
