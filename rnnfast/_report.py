"""What this machine and build are: `rnnfast info` and `rnnfast.show_config()`."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np

from rnnfast import _engine


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _caches() -> str:
    found = []
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            found.append(f"L{level} {size}")
    return ", ".join(found) or "unknown"


def config() -> dict[str, str]:
    """The facts that :func:`show_config` prints, by name."""
    from rnnfast import __version__

    return {
        "rnnfast": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "caches": _caches(),
        "isa": f"{_engine.isa()} (available: {', '.join(_engine.available_isas())})",
        "threads": str(_engine.get_num_threads()),
        "precision": f"{_engine.get_float32_matmul_precision()} (bfloat16 tiles: {_engine.tiles() or 'none, all words give the bits of highest'})",
    }


def show_config() -> None:
    """Print version, CPU, caches, instruction set and threads.

    Examples
    --------
    >>> import rnnfast
    >>> rnnfast.show_config()  # doctest: +ELLIPSIS
    rnnfast   ...
    """
    for name, value in config().items():
        print(f"{name:<10}{value}")
