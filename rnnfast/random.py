"""Seeds: every random number in the package comes from a stream that a user can fix, save and restore.

A :class:`SeedGenerator` hands out 63-bit seeds; each seed starts its own ``PCG64`` stream. The sequence of seeds is
splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) of a start and a
counter, so its state is two integers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["SeedGenerator", "generator", "global_seed_generator", "seeded"]

_WORD = (1 << 64) - 1


def _splitmix64(seed: int, counter: int) -> int:
    z = (seed + (counter + 1) * 0x9E3779B97F4A7C15) & _WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
    return z ^ (z >> 31)


def check_seed(owner: str, seed: object) -> int:
    """Return `seed` as an int in [0, 2**64), or raise an error that names its owner."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= int(seed) <= _WORD:
        raise ValueError(f"{owner}: seed must be an integer in [0, 2**64), got {seed!r}.")
    return int(seed)


class SeedGenerator:
    """A repeatable sequence of seeds.

    Parameters
    ----------
    seed : int, optional
        Start of the sequence. None takes one from the global generator, which starts from the operating system's
        entropy until :func:`rnnfast.utils.set_random_seed` fixes it.

    Examples
    --------
    >>> a, b = SeedGenerator(7), SeedGenerator(7)
    >>> [a.next(), a.next()] == [b.next(), b.next()]
    True
    """

    def __init__(self, seed: int | None = None) -> None:
        self._config_seed = seed
        self._seed = global_seed_generator().next() if seed is None else check_seed("SeedGenerator", seed)
        self._counter = 0

    def next(self) -> int:
        """Return the next seed, an integer in [0, 2**63)."""
        value = _splitmix64(self._seed, self._counter) >> 1
        self._counter += 1
        return value

    def get_state(self) -> tuple[int, int]:
        """Return ``(seed, counter)``; :meth:`set_state` goes on from there."""
        return self._seed, self._counter

    def set_state(self, state: tuple[int, int]) -> None:
        """Continue from a state that :meth:`get_state` returned."""
        seed, counter = state
        self._seed, self._counter = check_seed("SeedGenerator", seed), check_seed("SeedGenerator", counter)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"seed": self._config_seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SeedGenerator:
        """Make one from :meth:`get_config`'s result."""
        return cls(**config)


_global: SeedGenerator | None = None


def global_seed_generator() -> SeedGenerator:
    """Return the process-wide generator that everything without a seed of its own draws from."""
    global _global
    if _global is None:
        _global = SeedGenerator(int.from_bytes(os.urandom(8), "little"))
    return _global


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What is drawn inside from the process-wide generator is that of a seed; it goes on as before afterwards."""
    source = global_seed_generator()
    state = source.get_state()
    source.set_state((seed, 0))
    try:
        yield
    finally:
        source.set_state(state)


def generator(seed: int) -> np.random.Generator:
    """Return numpy's generator over the PCG64 stream that starts at `seed`."""
    return np.random.Generator(np.random.PCG64(seed))
