"""The tile instructions that csrc/split.h says to the assembler, run by a program that does them where the CPU has none."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(platform.machine() != "x86_64" or platform.system() != "Linux" or shutil.which("cc") is None, reason="x86-64 Linux with a C compiler")
def test_products_have_the_bits_of_tiles_in_plain_c(tmp_path):
    program = tmp_path / "emulated_tiles"
    sources = [ROOT / "tests/native/emulated_tiles.c", ROOT / "csrc/isa/portable_tiles.c"]
    subprocess.run(["cc", "-O2", "-std=gnu11", "-ffp-contract=off", f"-I{ROOT / 'csrc'}", *sources, "-lm", "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("traps ")
