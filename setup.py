"""Build of the engine: the C of csrc/ once per instruction set, each with its own flags, and the Cython modules."""

import hashlib
import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

# Pointers do not wrap around, whatever Python was built with: else loops over several arrays are not vectorised (a loss took 2.4 times as long).
# No -ffast-math (it changes the whole process' floating-point mode) and no contraction (only explicit fused multiply-adds fuse).
C_FLAGS = ["-O3", "-g0", "-std=gnu11", "-fstrict-overflow", "-fwrapv", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]
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


def digest_of(sources, flags):
    digest = hashlib.sha256(repr(flags).encode())
    for path in sources:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def is_current(made, record, sources, flags):
    """Whether a file is made of these sources: by their content, if it is still the one that the record is of, else by their dates."""
    try:
        date, digest = record.read_text().split()
        if int(date) == os.stat(made).st_mtime_ns:
            return digest == digest_of(sources, flags)
    except (OSError, ValueError):
        pass
    return not newer_group(sources, made)


def keep_record(made, record, sources, flags):
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(f"{os.stat(made).st_mtime_ns} {digest_of(sources, flags)}\n")


class BuildEngine(build_ext):
    """build_ext that first compiles one object per instruction set, knows sources by their content, and uses all cores."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extension(self, ext):
        made = Path(self.get_ext_fullpath(ext.name))
        what = made, Path(self.build_temp, "made", f"{ext.name}.txt"), sorted([*ext.sources, *ext.depends]), [ext.extra_compile_args, ext.define_macros]
        anew = ext.name == "rnnfast._engine.cpu" and self.objects(ext)
        if anew or not is_current(*what):
            made.unlink(missing_ok=True)
        super().build_extension(ext)
        keep_record(*what)

    def objects(self, ext):
        """Make the objects of the instruction sets; whether any was made anew."""
        flags = ISA_FLAGS.get(MACHINE, {"generic": [], "portable_tiles": []})
        with ThreadPoolExecutor(self.parallel) as pool:
            found = list(pool.map(self.object, flags, flags.values()))
        ext.extra_objects += [made for made, _ in found]
        return any(anew for _, anew in found)

    def object(self, isa, flags):
        source = f"csrc/isa/{isa}.c"
        (made,) = self.compiler.object_filenames([source], output_dir=self.build_temp)
        what = made, Path(self.build_temp, "made", f"{isa}.txt"), [source, *HEADERS], C_FLAGS + flags
        anew = self.force or not is_current(*what)
        if anew:
            self.compiler.compile([source], output_dir=self.build_temp, include_dirs=["csrc"], extra_postargs=C_FLAGS + flags)
        keep_record(*what)
        return made, anew


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
