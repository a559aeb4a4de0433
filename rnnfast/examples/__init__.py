"""Small real tasks, one module each: ``python -m rnnfast.examples.NAME [--quick]``.

Each has ``run(quick=False) -> dict[str, float]``, which prints its scores beside honest baselines and returns them.
"""
