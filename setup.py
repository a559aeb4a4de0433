"""Build of the engine: the C of csrc/ once per instruction set, each with its own flags, and the Cython modules."""

import os
import platform
import sys
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

# No -ffast-math (it changes the whole process' floating-point mode) and no contraction (only explicit fused multiply-adds fuse).
C_FLAGS = ["-O3", "-g0", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]
OPENMP = ["-Xpreprocessor", "-fopenmp"] if sys.platform == "darwin" else ["-fopenmp"]
ISA_FLAGS = {
    "x86_64": {"generic": [], "avx2": ["-mavx2", "-mfma"], "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma"]},
    "aarch64": {"generic": [], "neon": []},
}
for flags in ISA_FLAGS.values():
    flags["portable_tiles"] = []
if sys.platform == "linux":
    ISA_FLAGS["x86_64"]["amx"] = ISA_FLAGS["x86_64"]["avx512"]  # tiles are said to the assembler
EMULATE = os.environ.get("RNNFAST_EMULATE") == "1"  # for tests: the kernels for 64-byte vectors on AVX2
if EMULATE:
    ISA_FLAGS["x86_64"]["emulated_avx512"] = ["-mavx2", "-mfma", "-Wno-psabi", "-Og"]  # -O3 takes ten times as long
HEADERS = sorted(str(path) for path in Path("csrc").rglob("*") if path.suffix in (".h", ".def"))
MACHINE = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())


class BuildEngine(build_ext):
    """build_ext that first compiles one object per instruction set."""

    def build_extension(self, ext):
        if ext.name == "rnnfast._engine.cpu":
            for isa, flags in ISA_FLAGS.get(MACHINE, {"generic": [], "portable_tiles": []}).items():
                source = f"csrc/isa/{isa}.c"
                made = self.compiler.object_filenames([source], output_dir=self.build_temp)
                if self.force or newer_group([source, *HEADERS], made[0]):
                    self.compiler.compile([source], output_dir=self.build_temp, include_dirs=["csrc"], extra_postargs=C_FLAGS + flags)
                ext.extra_objects += made
        super().build_extension(ext)


def module(name, sources=(), openmp=False):
    flags = OPENMP if openmp else []
    return Extension(
        f"rnnfast._engine.{name}",
        [f"rnnfast/_engine/{name}.pyx", *sources],
        include_dirs=["csrc", numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"), *([("RNNF_EMULATE", "1")] if EMULATE else [])],
        extra_compile_args=[*C_FLAGS, *flags, "-Wno-unused-function", "-Wno-maybe-uninitialized"],
        extra_link_args=flags,
        depends=HEADERS,
    )


# What the modules have in common, memoryviews above all, is a module of its own. Its last name alone becomes known to the process too, so it must be no other package's.
SHARED = "rnnfast._engine.rnnfast_shared"
MODULES = sorted(path.stem for path in Path("rnnfast/_engine").glob("*.pyx"))

setup(
    ext_modules=cythonize(
        [*(module(name, ["csrc/dispatch.c"] if name == "cpu" else (), openmp=name == "program") for name in MODULES), Extension(SHARED, [f"{SHARED.replace('.', '/')}.c"], extra_compile_args=C_FLAGS)],
        # what reaches the modules has been checked in Python; C's rules, without Python's for negative indices and for division of negative numbers and by zero
        compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True, "initializedcheck": False},
        shared_utility_qualified_name=SHARED,
    ),
    cmdclass={"build_ext": BuildEngine},
)
