"""Keras files that mean harm, or are damaged, are refused: nothing is run, nothing else is opened, little time and memory go by."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnnfast
from rnnfast.interop import keras_files  # noqa: F401 - imported before files are watched
from tests.interop.hostile import check_calm, check_refused, mutations
from tests.peers import require

h5py = require("h5py")
GOLDEN = Path(__file__).parent / "golden"
FUZZ = int(os.environ.get("RNNFAST_FUZZ", "60"))


def harmed(tmp_path: Path, change: Callable[[Any], None]) -> Path:
    """A whole-model file after a change by h5py."""
    path = tmp_path / "harmed.h5"
    path.write_bytes((GOLDEN / "keras22.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        names = [name for name in file["model_weights"] if name.startswith("dense")]
        file.attrs["_"] = names[0]
        change(file)
        del file.attrs["_"]
    return path


def kernel(file: Any) -> str:
    """The path of a weight."""
    group = f"model_weights/{file.attrs['_']}"
    return f"{group}/{next(iter(file[group].attrs['weight_names']))}"


def replaced(make: Callable[[Any, str], None]) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        name = kernel(file)
        del file[name]
        make(file, name)

    return change


def external(file: Any, name: str) -> None:
    file[name] = h5py.ExternalLink("/etc/passwd", "/x")


def external_storage(file: Any, name: str) -> None:
    file.create_dataset(name, (3, 2), "f4", external=[("/etc/passwd", 0, 24)])


def virtual(file: Any, name: str) -> None:
    layout = h5py.VirtualLayout((3, 2), "f4")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (3, 2))
    file.create_virtual_dataset(name, layout)


def cyclic(file: Any) -> None:
    file["model_weights/again"] = file["model_weights"]


def deep(file: Any) -> None:
    file.create_group("/".join("a" * 100))


HARMED: dict[str, Callable[[Any], None]] = {
    "external link": replaced(external),
    "soft link": replaced(lambda file, name: file.__setitem__(name, h5py.SoftLink("/model_weights"))),
    "external storage": replaced(external_storage),
    "virtual dataset": replaced(virtual),
    "shape bomb": replaced(lambda file, name: file.create_dataset(name, (1 << 20, 1 << 20), "f4", chunks=(64, 64))),
    "half a gigabyte": replaced(lambda file, name: file.create_dataset(name, (1 << 14, 1 << 13), "f4", chunks=(64, 64))),
    "chunk bomb": replaced(lambda file, name: file.create_dataset(name, (3, 2), "f4", chunks=(1 << 14, 1 << 13), maxshape=(None, None))),
    "compressed": replaced(lambda file, name: file.create_dataset(name, data=np.zeros((3, 2), "f4"), compression="gzip")),
    "integers": replaced(lambda file, name: file.__setitem__(name, np.zeros((3, 2), "i4"))),
    "text": replaced(lambda file, name: file.__setitem__(name, ["a", "b"])),
    "objects": replaced(lambda file, name: file.create_dataset(name, (3,), h5py.ref_dtype)),
    "records": replaced(lambda file, name: file.create_dataset(name, (3,), np.dtype([("a", "f4"), ("b", "f4")]))),
    "complex": replaced(lambda file, name: file.__setitem__(name, np.zeros((3, 2), "c8"))),
    "no numbers": replaced(lambda file, name: file.__setitem__(name, h5py.Empty("f4"))),
    "a group": replaced(lambda file, name: file.create_group(name)),
    "a type": replaced(lambda file, name: file.__setitem__(name, np.dtype("f4"))),
    "missing": replaced(lambda file, name: None),
    "more": lambda file: file.__setitem__("model_weights/more", np.zeros(3)),
    "cyclic": cyclic,
    "deep": deep,
    "configuration nested without end": lambda file: file.attrs.__setitem__("model_config", "[" * 50_000),
    "configuration of bytes": lambda file: file.attrs.__setitem__("model_config", np.frombuffer(b"\xff\xfe", np.uint8)),
    "configuration that is a list": lambda file: file.attrs.__setitem__("model_config", "[]"),
    "names that are numbers": lambda file: file[f"model_weights/{file.attrs['_']}"].attrs.__setitem__("weight_names", np.arange(3)),
    "paths upwards": lambda file: file[f"model_weights/{file.attrs['_']}"].attrs.__setitem__("weight_names", ["../../x", "/y"]),
    "a weight twice": lambda file: file[f"model_weights/{file.attrs['_']}"].attrs.__setitem__("weight_names", [kernel(file).rpartition("/")[2]] * 2),
}


@pytest.mark.parametrize("make", [lambda file, name: file.__setitem__(name, file["one"]), lambda file, name: file.create_group(name)], ids=["links", "groups"])
def test_many_objects(make, tmp_path):
    path = tmp_path / "many.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["one"] = np.zeros(1, "f4")
        for i in range(20_000):
            make(file, f"x{i}")
    check_refused(rnnfast.load, path)
    with pytest.raises(rnnfast.FormatError, match="/: holds 20001 of more than 20000 objects"):
        rnnfast.load(path)


@pytest.mark.parametrize("name", HARMED)
def test_harmed_files_are_refused(name, tmp_path):
    check_refused(rnnfast.load, harmed(tmp_path, HARMED[name]))


def test_big_endian_and_half_precision_are_read(tmp_path):
    def turned(file: Any, name: str) -> None:
        file[name] = np.arange(6).reshape(3, 2).astype(">f8")

    model = rnnfast.load(harmed(tmp_path, replaced(turned)))
    assert model.get_weights()[-2].dtype == np.float32
    assert np.array_equal(model.get_weights()[-2], np.arange(6).reshape(3, 2))


def archive(tmp_path: Path, **changed: bytes | None) -> Path:
    """A .keras file with some members replaced, or left out."""
    path = tmp_path / "harmed.keras"
    with zipfile.ZipFile(GOLDEN / "keras213.keras") as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = changed.get(name.partition(".")[0], source.read(name))
            if content is not None:
                target.writestr(name, content)
    return path


def doubling() -> bytes:
    """Nested models that each use the one inside twice: 2^40 calls."""
    kind = lambda name, layers, out: {"class_name": "Functional", "config": {"name": name, "layers": layers, "input_layers": [[f"{name}_in", 0, 0]], "output_layers": [out]}}
    inlet = lambda name: {"class_name": "InputLayer", "name": f"{name}_in", "config": {"batch_input_shape": [None, 2], "name": f"{name}_in"}, "inbound_nodes": []}
    act = {"class_name": "Activation", "name": "act", "config": {"name": "act", "trainable": True, "activation": "relu"}, "inbound_nodes": [[["m0_in", 0, 0, {}]]]}
    model = kind("m0", [inlet("m0"), act], ["act", 0, 0])
    for i in range(1, 41):
        inner = model | {"name": f"m{i - 1}", "inbound_nodes": [[[f"m{i}_in", 0, 0, {}]], [[f"m{i - 1}", 1, 0, {}]]]}
        model = kind(f"m{i}", [inlet(f"m{i}"), inner], [f"m{i - 1}", 2, 0])
    return json.dumps(model).encode()


def test_archives(tmp_path):
    for changed in (
        {"config": b"{" * 100_000}, {"config": b"[1]"}, {"config": b'{"class_name": "Sequential", "class_name": "Sequential"}'}, {"config": doubling()},
        {"metadata": None}, {"metadata": b"[]"}, {"model": None}, {"model": b"\x89HDF\r\n\x1a\n" + bytes(100)}, {"model": b"x"}, {"config": b" " * (9 << 20)},
        {"model": bytes(70 << 20)},
    ):  # fmt: skip
        check_refused(rnnfast.load, archive(tmp_path, **changed))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_with_members_that_should_not_be_there(tmp_path):
    path = archive(tmp_path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("config.json", "{}")
    check_refused(rnnfast.load, path)
    path = archive(tmp_path, model=None)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("model.weights.npz", b"")
    with pytest.raises(rnnfast.FormatError, match="pickled objects"):
        rnnfast.load(path)


def test_weights_alone(tmp_path):
    """load_weights is as strict: what fails leaves the model as it was."""
    model = rnnfast.load(GOLDEN / "keras213.keras")
    before = model.get_weights()
    with zipfile.ZipFile(GOLDEN / "keras213.keras") as file:
        content = file.read("model.weights.h5")
    for seed, damaged in enumerate(mutations(content, FUZZ // 3, 5)):
        path = tmp_path / f"{seed}.weights.h5"
        path.write_bytes(damaged)
        if check_calm(model.load_weights, path):
            assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(before, model.get_weights(), strict=True))
        before = model.get_weights()


@pytest.mark.parametrize("name", ["keras22.h5", "keras213.keras", "keras3.keras"])
def test_damaged_files(name, tmp_path):
    content = (GOLDEN / name).read_bytes()
    for i, damaged in enumerate(mutations(content, FUZZ, 1)):
        path = tmp_path / f"{i}_{name}"
        path.write_bytes(damaged)
        check_calm(rnnfast.load, path)


def test_damaged_members(tmp_path):
    """Inside the archive, where no checksum stands before the reader."""
    with zipfile.ZipFile(GOLDEN / "keras3.keras") as file:
        members = {name: file.read(name) for name in file.namelist()}
    for member in ("config.json", "model.weights.h5"):
        for damaged in mutations(members[member], FUZZ // 2, 2):
            content = io.BytesIO()
            with zipfile.ZipFile(content, "w") as file:
                for name, whole in members.items():
                    file.writestr(name, damaged if name == member else whole)
            path = tmp_path / "damaged.keras"
            path.write_bytes(content.getvalue())
            check_calm(rnnfast.load, path)
