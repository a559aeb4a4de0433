"""Fuzz the readers: damage valid files of each format and hold every outcome to "a model or a FormatError", in 2 s and 128 MB, with nothing run and nothing else opened.

    python -m tests.interop.fuzz --seconds 60 --format onnx

prints for each format how many files were read, how many were refused, and how many made a model all the same. A failure prints the seed that repeats it, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import rnnfast
from rnnfast import FormatError, Input, Sequential, interop, layers
from tests.interop.hostile import SECONDS, check_calm, mutations

Load = Callable[[Path], object]
Seeds = list[tuple[bytes, Load]]
ROUND = 20  # mutations of one seed file before the next one's turn


def sample(*chain: layers.Layer) -> Sequential:
    """A small model with random weights."""
    model = Sequential([Input((None, 2), name="x"), *chain])
    rng = np.random.default_rng(len(chain))
    model.set_weights([np.abs(rng.normal(0, 0.5, v.shape)) for v in model.weights])
    return model


def plain() -> Sequential:
    return sample(layers.LSTM(3, return_sequences=True, name="lstm"), layers.Dense(1, name="dense"))


def mixed() -> Sequential:
    chain = [layers.Conv1D(3, 2, padding="causal"), layers.GRU(3, return_sequences=True), layers.BatchNormalization()]
    return sample(*chain, layers.LSTM(2, return_sequences=True), layers.Dense(2, activation="softmax"))


def written(folder: Path, ending: str, models: list[Sequential], write: Callable[[Sequential, Path], None], load: Load = rnnfast.load) -> Seeds:
    """The files of some models, and what reads them."""
    made = []
    for i, model in enumerate(models):
        path = folder / f"seed{i}{ending}"
        write(model, path)
        made.append((path.read_bytes(), load))
    return made


def rnnf(folder: Path) -> Seeds:
    return written(folder, ".rnnf", [plain(), mixed()], lambda model, path: model.save(path))


def nam(folder: Path) -> Seeds:
    from rnnfast.interop.nam import write

    return written(folder, ".nam", [plain()], write)


def rtneural(folder: Path) -> Seeds:
    from rnnfast.interop.rtneural import write
    from rnnfast.interop.state_dicts import to_state_dict

    def flat(model: Sequential, path: Path) -> None:
        path.write_text(json.dumps({name: array.tolist() for name, array in to_state_dict(model).items()}))

    return written(folder, ".json", [plain(), mixed()], write) + written(folder, ".json", [plain()], flat)


def onnx(folder: Path) -> Seeds:
    bidirectional = sample(layers.Bidirectional(layers.GRU(3, return_sequences=True)), layers.GlobalMaxPooling1D(), layers.Dense(1))
    both = lambda model, path: interop.to_onnx(model, path, states=True, lengths=model is bidirectional)
    return written(folder, ".onnx", [plain(), mixed(), bidirectional], both)


def tensors(ending: str) -> Callable[[Path], Seeds]:
    """Files of weights, read as a model and into one."""

    def make(folder: Path) -> Seeds:
        from rnnfast.interop.torch_files import write

        target = plain()
        weights = written(folder, ending, [plain()], write, target.load_weights)
        return weights if ending == ".npz" else weights + written(folder, ending, [plain()], write)

    return make


def keras_models() -> list[object]:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    k = keras.layers
    chain = [k.Input((None, 2)), k.Bidirectional(k.LSTM(3, return_sequences=True)), k.Dense(1)]
    x = k.Input((None, 2))
    return [keras.Sequential(chain), keras.Model(x, k.Add()([k.GRU(2, return_sequences=True)(x), x]))]


def keras(folder: Path) -> Seeds:
    return written(folder, ".keras", keras_models(), lambda model, path: model.save(path))  # type: ignore[arg-type]


def h5(folder: Path) -> Seeds:
    whole = written(folder, ".h5", keras_models(), lambda model, path: model.save(path))  # type: ignore[arg-type]
    target = sample(layers.Bidirectional(layers.LSTM(3, return_sequences=True)), layers.Dense(1))
    return whole + written(folder, ".weights.h5", keras_models()[:1], lambda model, path: model.save_weights(path), target.load_weights)  # type: ignore[arg-type]


FORMATS = {
    "rnnf": rnnf, "keras": keras, "h5": h5, "onnx": onnx, "rtneural": rtneural, "nam": nam, "pt": tensors(".pt"), "safetensors": tensors(".safetensors"), "npz": tensors(".npz"),
}  # fmt: skip


def damaged(content: bytes, seed: int) -> Iterator[bytes]:
    """Mutations of a file; of every second round of an archive those of its members, in an archive that is whole."""
    if seed % 2 == 0 or not content.startswith(b"PK"):
        yield from mutations(content, ROUND, seed)
        return
    rng = np.random.default_rng(seed)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    chosen = int(rng.choice([i for i, (_, text) in enumerate(members) if text]))
    for change in mutations(members[chosen][1], ROUND, seed):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for i, (info, text) in enumerate(members):
                archive.writestr(info.filename, change if i == chosen else text, info.compress_type)
        yield file.getvalue()


def check(load: Load, path: Path) -> bool:
    """As check_calm, which traces memory; a file that was slow with it must be read within the time without it."""
    start = time.perf_counter()
    refused = check_calm(load, path)
    if time.perf_counter() - start > SECONDS:
        start = time.perf_counter()
        with contextlib.suppress(FormatError):
            load(path)
        seconds = time.perf_counter() - start
        assert seconds < SECONDS, f"took {seconds:.1f} s"
    return refused


def fuzz(name: str, seconds: float, seed: int) -> int:
    """Fuzz one format and print the counts; the number of failures."""
    counts, failures = {"refused": 0, "loaded": 0}, 0
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seeds = FORMATS[name](Path(folder))
        path = Path(folder) / "damaged"
        for content, load in seeds:
            path.write_bytes(content)
            load(path)  # which imports its module
            assert not check(load, path), f"{name}: the undamaged file was refused"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            content, load = seeds[seed % len(seeds)]
            for place, text in enumerate(damaged(content, seed // len(seeds))):
                path.write_bytes(text)
                try:
                    counts["refused" if check(load, path) else "loaded"] += 1
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    failures += 1
                    print(f"{name}: seed {seed}, file {place}: {type(error).__name__}: {str(error)[:300]}", flush=True)
            seed += 1
    print(f"{name:<12}{sum(counts.values()) + failures:>8} files{counts['refused']:>8} refused{counts['loaded']:>8} loaded{failures:>6} failures", flush=True)
    return failures


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each format")
    parser.add_argument("--format", choices=sorted(FORMATS), action="append", help="one of them; may be repeated; default: all")
    parser.add_argument("--seed", type=int, default=0, help="where to begin, to repeat a failure")
    arguments = parser.parse_args()
    return 1 if sum(fuzz(name, arguments.seconds, arguments.seed) for name in arguments.format or FORMATS) else 0


if __name__ == "__main__":
    sys.exit(main())
