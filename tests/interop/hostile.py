"""Files that mean harm: how readers are held to "a model or one FormatError, quickly, with little memory, nothing run and nothing else opened"."""

from __future__ import annotations

import os
import resource
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from rnnfast.errors import FormatError

SECONDS, BYTES = 2.0, 128 << 20
_ALWAYS_WRONG = ("exec", "compile", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect", "socket.bind", "shutil.rmtree", "os.remove", "os.rename")
_LIBRARIES = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[2] / "rnnfast"))
_watched: list[tuple[str, str]] | None = None
_hooked = False


def _hook(event: str, arguments: tuple) -> None:
    if _watched is None or not (event in _ALWAYS_WRONG or event == "open"):
        return
    if event == "compile" and arguments[1] == "<unknown>":  # ast.literal_eval of an array's header, which runs nothing
        return
    if event == "exec" and arguments[0].co_filename.startswith((*_LIBRARIES, "<frozen")):  # an import
        return
    _watched.append((event, str(arguments[0])))


@contextmanager
def _watching(path: Path, others: tuple[Path, ...]) -> Iterator[None]:
    """Fail where anything but `path` and `others` is opened, or anything is run."""
    global _watched, _hooked
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked = True
    _watched = []
    try:
        yield
    finally:
        seen, _watched = _watched, None
    allowed = {os.path.realpath(one) for one in (path, *others)}
    libraries = (*_LIBRARIES, "/proc", "/sys")
    wrong = [(event, name) for event, name in seen if event != "open" or not (os.path.realpath(name) in allowed or name.startswith(libraries) or name.isdigit())]
    assert not wrong, f"{path.name}: reading it did {wrong[:5]}"


def check_calm(load: Callable[[Path], object], path: Path, others: tuple[Path, ...] = ()) -> bool:
    """Load a file: returns whether it was refused with a FormatError that names it; any other error, and too much time or memory, fails."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    tracemalloc.start()
    refused = False
    try:
        with _watching(path, others), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load(path)
    except FormatError as error:
        refused = True
        assert path.name in str(error), f"the error does not name the file: {error}"
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    seconds, grown = time.perf_counter() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert peak < BYTES and grown < BYTES, f"{path.name}: took {max(peak, grown) >> 20} MB"
    # tracing allocations makes Python a few times slower; a busy machine too
    assert seconds < 10 * SECONDS, f"{path.name}: took {seconds:.1f} s"
    return refused


def check_refused(load: Callable[[Path], object], path: Path, others: tuple[Path, ...] = ()) -> None:
    """The file must end in a FormatError."""
    assert check_calm(load, path, others), f"{path.name}: was read as if nothing were wrong"


def mutations(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Damaged forms of a file: cut, flipped, overwritten with extreme numbers, repeated and swapped pieces."""
    rng = np.random.default_rng(seed)
    extremes = [b"\x00" * 8, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\xff" * 7 + b"\x7f", b"\x80" + b"\x00" * 7, b"../../..", b"\n" * 8]
    for _ in range(count):
        data = bytearray(content)
        for _ in range(int(rng.integers(1, 4))):
            place, size = int(rng.integers(len(data))), int(rng.integers(1, 9))
            kind = rng.integers(6)
            if kind == 0:
                data[place] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                data[place : place + size] = rng.bytes(size)
            elif kind == 2:
                data[place : place + size] = extremes[rng.integers(len(extremes))][:size]
            elif kind == 3:
                del data[place : place + int(rng.integers(1, 2 + len(data) // 2))]
            elif kind == 4:
                data[place:place] = data[place : place + 64]
            else:
                other = int(rng.integers(len(data)))
                data[place : place + size], data[other : other + size] = data[other : other + size], data[place : place + size]
            if not data:
                break
        yield bytes(data)
