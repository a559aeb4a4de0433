"""Instructions counted by callgrind, kernel by kernel: figures that need no quiet machine.

A small program runs under valgrind, which starts to count when the program says so: `start`, then after some calls of a case `dump`. What is kept is the cost of each call from the engine's
loops into a kernel of csrc/, with all that the kernel calls, and the cost of the engine's own loops; Python, NumPy and the system are left out. valgrind knows no AVX-512, so that the best instruction
set there is AVX2; RNNFAST_ISA chooses another.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from rnnfast import _engine
from rnnfast.benchmark.cases import CELLS, Case
from rnnfast.benchmark.rivals import prepare

CALLS = 4
DUMP, START = 0x43540003, 0x43540004  # callgrind's requests, valgrind/callgrind.h
# rax = the request's address, rdx = its default answer, then valgrind's mark, which does nothing on a processor: rdi rotated by 128 bits in all, xchg rbx, rbx; return rdx
REQUEST = bytes.fromhex("4889f8 31d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db 4889d0 c3")
LOOPS = "loops around the kernels"


def cases() -> list[Case]:
    """One row and 32 rows of each cell, a training step, a stream's step."""
    found = [Case("infer", cell, batch, 10, 64, 64) for cell in CELLS for batch in (1, 32)]
    found += [Case("train", cell, 32, 10, 64, 64) for cell in CELLS]
    return found + [Case("infer", cell, 1, 1, 64, 64, live=True) for cell in ("lstm", "gru")]


class Valgrind:
    """What a program asks of the valgrind that runs it; without one nothing happens."""

    def __init__(self) -> None:
        self.page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self.page.write(REQUEST)
        self.call = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)(ctypes.addressof(ctypes.c_char.from_buffer(self.page)))

    def request(self, number: int, text: str = "") -> int:
        named = ctypes.create_string_buffer(text.encode())
        return self.call(ctypes.byref((ctypes.c_size_t * 6)(number, ctypes.addressof(named))))


def run() -> None:
    """The program under valgrind."""
    valgrind = Valgrind()
    for case in cases():
        call, _ = prepare("rnnfast", case, 1)
        for _ in range(2):
            call()
        valgrind.request(START)
        call()  # what happens at a first call after instrumentation
        valgrind.request(DUMP, "before")
        for _ in range(CALLS):
            call()
        valgrind.request(DUMP, case.name)
    print(_engine.isa())


def calls(lines: list[str]) -> Iterator[tuple[str, str, str, int, bool]]:
    """Of a callgrind file: object and function that cost, the object that they are called from, instructions, and whether they are those of a call."""
    place = {"ob": "", "fn": "", "cob": "", "cfn": ""}
    called = False
    for line in lines:
        key, equals, value = line.partition("=")
        if equals and key in place:
            place[key] = value
        elif key == "calls":
            called = True
        elif re.match(r"[+\-*\d]\S* \d+$", line):
            cost = int(line.split()[1])
            if called:
                yield place["cob"] or place["ob"], place["cfn"], place["ob"], cost, True
                place["cob"] = ""
            else:
                yield place["ob"], place["fn"], place["ob"], cost, False
            called = False


def costs(text: str, isa: str) -> dict[str, float]:
    """Instructions a call of the case, by kernel."""
    found: Counter[str] = Counter()
    kernels = lambda path: "/_engine/cpu." in path
    for target, function, caller, cost, called in calls(text.splitlines()):
        kernel = re.fullmatch(rf"(\w+)_f32_{isa}", function)
        if called and kernel and kernels(target) and not kernels(caller):
            found[kernel[1]] += cost
        elif not called and "/_engine/" in target and not kernels(target):
            found[LOOPS] += cost
    return {name: cost / CALLS for name, cost in found.items()}


def compiler() -> str:
    """The compiler that the engine's kernels were built with, as their file says."""
    from rnnfast._engine import cpu

    found = re.search(rb"GCC: \([^)]*\) [\d.]+|clang version [\d.]+", Path(cpu.__file__).read_bytes())
    return found[0].decode() if found else "unknown"


def count() -> dict[str, Any]:
    """A report of all kernels.

    Raises
    ------
    RuntimeError
        If valgrind is missing, or the machine is not one that the requests are written for.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        raise RuntimeError(f"--instructions counts on x86-64 alone, this machine is {platform.machine()}.")
    if not shutil.which("valgrind"):
        raise RuntimeError("--instructions needs valgrind: apt install valgrind (Debian, Ubuntu), dnf install valgrind (Fedora), or https://valgrind.org.")
    environment = os.environ | {"RNNFAST_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--tool=callgrind", "--instr-atstart=no", "--compress-strings=no", "--compress-pos=no", f"--callgrind-out-file={folder}/out"]
        done = subprocess.run(["valgrind", "-q", *flags, sys.executable, "-m", __name__], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"valgrind ended with {done.returncode}: {done.stderr[-500:]}")
        isa, rows = done.stdout.split()[-1], []
        texts = {name[1]: text for path in Path(folder).iterdir() if (name := re.search(r"Client Request: (.*)", text := path.read_text()))}
        for case in cases():
            rows += [{"case": f"{case.name}: {kernel}", "instructions": cost} for kernel, cost in sorted(costs(texts[case.name], isa).items())]
    return {"set": "instructions", "date": date.today().isoformat(), "isa": isa, "compiler": compiler(), "rows": rows}


if __name__ == "__main__":
    run()
