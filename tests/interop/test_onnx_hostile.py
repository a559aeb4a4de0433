"""ONNX files that mean harm: a model or one FormatError that names the file, quickly, with nothing else opened."""

import os
import warnings

import numpy as np
import pytest

import rnnfast
import rnnfast.interop.onnx.model  # before files are watched while they are read
from tests.interop.hostile import check_calm, check_refused, mutations
from tests.interop.onnx_cases import graph, onnx, recurrent_arrays, recurrent_model, value
from tests.interop.onnx_models import decoder, tagger

MAKE = onnx.helper.make_node
X = value("x", None, ["n", 2])
I = lambda *values: np.array(values, np.int64)
FUZZED = 150


def written(tmp_path, model, name="m.onnx"):
    path = tmp_path / name
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def refused(tmp_path, model, words):
    path = written(tmp_path, model)
    check_refused(rnnfast.load, path)
    with pytest.raises(rnnfast.FormatError, match=words):
        rnnfast.from_onnx(path)


@pytest.mark.parametrize("number", range(3))
def test_fuzzed(number, tmp_path):
    """Damaged files: each ends in a model, which runs or says why not, or in a FormatError."""
    arrays = recurrent_arrays("LSTM", np.random.default_rng(0), sizes=(3, 2, 2, 2))
    content = [decoder(), tagger(), recurrent_model("LSTM", arrays)][number].SerializeToString()
    path = tmp_path / "m.onnx"
    for i, damaged in enumerate(mutations(content, FUZZED, seed=number)):
        path.write_bytes(damaged)
        if i % 5 == 0:
            check_calm(rnnfast.interop.onnx.read, path)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                ready = rnnfast.from_onnx(damaged)
                ready.run(dict(zip(ready.input_names, ready.sample(), strict=True)))
            except ValueError:  # FormatError or ShapeError
                pass


def test_cut_at_every_length(tmp_path):
    content = decoder().SerializeToString()
    for size in range(0, len(content), 37):
        with pytest.raises(rnnfast.FormatError):
            rnnfast.from_onnx(content[:size])


@pytest.mark.parametrize("dims", [[-1, 2], [1 << 62, 1 << 62], [1 << 40], [3], [0, 1 << 62], [1] * 40])
def test_dimensions(dims, tmp_path):
    model = graph([MAKE("Add", ["x", "w"], ["y"])], [X], ["y"], {"w": np.ones((1, 2), "f")})
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)
    refused(tmp_path, model, "initializer 'w'")


def test_dimensions_of_inputs(tmp_path):
    for dim in (-1, 1 << 60):
        model = graph([MAKE("Neg", ["x"], ["y"])], [value("x", None, [dim, 2])], ["y"])
        refused(tmp_path, model, "input 'x'")


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([MAKE("Add", ["x", "b"], ["a"]), MAKE("Neg", ["a"], ["b"])], "takes 'b', which nothing before it gives"),
        ([MAKE("Add", ["y", "x"], ["y"])], "takes 'y', which nothing before it gives"),
        ([MAKE("Neg", ["x"], ["x"])], "value 'x': has no name, or one that is given twice"),
        ([MAKE("Neg", ["x"], ["y"]), MAKE("Neg", ["x"], ["y"])], "'y': has no name, or one that is given twice"),
        ([MAKE("Neg", ["nothing"], ["y"])], "takes 'nothing'"),
        ([MAKE("Neg", [], ["y"])], "must have 1 inputs"),
        ([MAKE("Neg", ["x"], [])], "outputs"),
        ([MAKE("Neg", ["x"], ["z"])], "outputs: takes 'y'"),
    ],
)
def test_wires(nodes, words, tmp_path):
    refused(tmp_path, graph(nodes, [X], ["y"]), words)


def test_initializers(tmp_path):
    model = graph([MAKE("Add", ["x", "w"], ["y"])], [X], ["y"], {"w": np.ones(2, "f"), "left": np.ones(3, "f")})
    refused(tmp_path, model, "initializers: without a use: left")
    model.graph.initializer[1].name = "w"
    refused(tmp_path, model, "initializer 'w': has no name, or one that occurs twice")
    del model.graph.initializer[1]
    model.graph.initializer[0].raw_data += b"\0"
    refused(tmp_path, model, "needs 8 bytes, 9 are there")
    model.graph.initializer[0].ClearField("raw_data")
    refused(tmp_path, model, "needs 2 numbers, 0 are there")


HUGE = [
    ("ConstantOfShape", [I(1 << 40)], {}), ("ConstantOfShape", [I(1 << 31, 1 << 33)], {}), ("ConstantOfShape", [I(1 << 28)], {}), ("ConstantOfShape", [I(-5)], {}),
    ("Expand", [np.ones(1, "f"), I(1 << 31)], {}), ("Expand", [np.ones((1 << 10, 1), "f"), I(1, 1 << 20)], {}), ("Tile", [np.ones(9, "f"), I(1 << 40)], {}),
    ("Range", [np.array(0), np.array(1 << 60), np.array(1)], {}), ("Range", [np.array(0.0), np.array(1e300), np.array(1e-9)], {}),
    ("Pad", [np.ones(3, "f"), I(1 << 40, 1 << 40)], {}), ("Pad", [np.ones(3, "f"), I(0, 1 << 40)], {"mode": "edge"}), ("Reshape", [np.ones(4, "f"), I(1 << 62, 1 << 62)], {}),
    ("Add", [np.ones((1 << 16, 1), "f"), np.ones((1, 1 << 16), "f")], {}), ("Gather", [np.ones((1, 1 << 16), "f"), np.zeros(1 << 16, np.int64)], {}),
    ("Unsqueeze", [np.ones(1), np.arange(60)], {}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "attributes"), HUGE, ids=[f"{i}-{one[0]}" for i, one in enumerate(HUGE)])
def test_huge_arrays(op, inputs, attributes, tmp_path):
    """Of constants when the file is read, of what the caller gives when it runs."""
    names = [f"w{i}" for i in range(len(inputs))]
    refused(tmp_path, graph([MAKE(op, names, ["y"], **attributes)], [], ["y"], dict(zip(names, inputs, strict=True)), opset=18), rf"node 'y' \({op}\)")
    model = graph([MAKE(op, names, ["y"], **attributes)], [value(name, array) for name, array in zip(names, inputs, strict=True)], ["y"], opset=18)
    if sum(array.nbytes for array in inputs) < 1 << 19:
        with pytest.raises(ValueError, match=rf"node 'y' \({op}\)"):
            rnnfast.from_onnx(model.SerializeToString()).run(dict(zip(names, inputs, strict=True)))


def test_chains_that_double(tmp_path):
    """Many small steps to a huge array, and many steps over a large one."""
    doubling = [MAKE("Concat", [f"a{i}", f"a{i}"], [f"a{i + 1}"], axis=0) for i in range(64)]
    path = written(tmp_path, graph(doubling, [], ["a64"], {"a0": np.ones(2, "f")}))
    if not check_calm(rnnfast.load, path):
        with pytest.raises(rnnfast.FormatError, match="not allowed"):
            rnnfast.load(path).run({})
    squares = [MAKE("MatMul", [f"a{i}", f"a{i}"], [f"a{i + 1}"]) for i in range(2000)]
    assert not check_calm(rnnfast.load, written(tmp_path, graph(squares, [], ["a2000"], {"a0": np.ones((700, 700), "f")})))
    sums = [MAKE("Exp", [f"a{i}"], [f"a{i + 1}"]) for i in range(5000)]
    assert not check_calm(rnnfast.load, written(tmp_path, graph(sums, [], ["a5000"], {"a0": np.ones(1 << 18, "f")})))


def test_deeply_nested_branches(tmp_path):
    inner = onnx.helper.make_graph([MAKE("Neg", ["x"], ["y"])], "g", [], [onnx.helper.make_empty_tensor_value_info("y")])
    for depth in (1, 5, 20):
        made = inner
        for _ in range(depth):
            made = onnx.helper.make_graph([MAKE("If", ["c"], ["y"], then_branch=made, else_branch=inner)], "g", [], [onnx.helper.make_empty_tensor_value_info("y")])
        made.input.append(X)
        made.initializer.append(onnx.numpy_helper.from_array(np.array(True), "c"))
        model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        assert check_calm(rnnfast.load, written(tmp_path, model)) is (depth > 12)


def test_conditions_that_are_not_constant(tmp_path):
    branch = lambda: onnx.helper.make_graph([MAKE("Neg", ["x"], ["z"])], "g", [], [onnx.helper.make_empty_tensor_value_info("z")])
    nodes = [MAKE("ReduceMax", ["x"], ["m"], keepdims=0), MAKE("Cast", ["m"], ["c"], to=9), MAKE("If", ["c"], ["y"], name="choice", then_branch=branch(), else_branch=branch())]
    refused(tmp_path, graph(nodes, [X], ["y"]), r"node 'choice' \(If\): the condition must be a constant")


@pytest.mark.parametrize("opsets", [[("", 6)], [("", 99)], [], [("", 17), ("ai.onnx", 17)], [("com.microsoft", 1)]])
def test_versions(opsets, tmp_path):
    model = graph([MAKE("Neg", ["x"], ["y"])], [X], ["y"])
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(*one) for one in opsets)
    refused(tmp_path, model, "opset")


def packed(number, content):
    """A field of protobuf with a length."""
    head, size = bytes([number << 3 | 2]), len(content)
    while size > 127:
        head, size = head + bytes([size & 127 | 128]), size >> 7
    return head + bytes([size]) + content


MANY = 1 << 21
PARTS = {
    "nodes": packed(7, b"\x0a\x00" * MANY),
    "initializers": packed(7, b"\x2a\x00" * MANY),
    "opset_imports": b"\x42\x00" * MANY,
    "numbers of a tensor": packed(7, packed(5, b"\x10\x07" + packed(7, b"\x01" * 2 * MANY))),
    "numbers of an attribute": packed(7, packed(1, packed(5, packed(8, b"\x01" * MANY)))),
    "numbers of an attribute, one by one": packed(7, packed(1, packed(5, b"\x40\x01" * MANY))),
    "floats of an attribute": packed(7, packed(1, packed(5, packed(7, bytes(4) * MANY)))),
    "empty texts": packed(7, packed(1, packed(5, b"\x4a\x00" * MANY))),
    "unknown fields": b"\x7a\x00" * MANY,
    "the same number again": b"\x08\x08" * 2 * MANY,
}


@pytest.mark.parametrize("case", PARTS)
def test_many_parts(case, tmp_path):
    """Two bytes of a file can be two hundred in memory: they are counted first."""
    refused(tmp_path, b"\x08\x08" + PARTS[case] + packed(8, b"\x10\x11"), "model: its parts would take more than")


def test_many_tensors(tmp_path):
    empty = packed(7, b"".join(packed(5, b"\x08\x00\x10\x01" + packed(8, b"%x" % i)) for i in range(100_001)))
    refused(tmp_path, b"\x08\x08" + empty + packed(8, b"\x10\x11"), "graph: has more than 100000 tensors")


def test_large_graphs_are_read():
    """50,000 nodes with names and shapes of all values; numbers that are not in raw_data."""
    nodes = [MAKE("Add", [f"value_{i}", "weight"], [f"value_{i + 1}"], name=f"/layer/Add_{i}") for i in range(50_000)]
    model = graph(nodes, [value("value_0", None, ["n", 2])], ["value_50000"], {"weight": np.ones(2, "f")})
    model.graph.value_info.extend(value(f"value_{i}", None, ["n", 2]) for i in range(1, 50_000))
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].float_data.extend([1, 2])
    model.graph.initializer.append(onnx.helper.make_tensor("unread", onnx.TensorProto.FLOAT, [1 << 20], np.zeros(1 << 20, "f")))
    with pytest.raises(rnnfast.FormatError, match="without a use: unread"):
        rnnfast.from_onnx(model.SerializeToString())


# -- external data -------------------------------------------------------------------------------------------------------------


def with_external(tmp_path, location="w.bin", content=bytes(16), **entries):
    """A model in the folder `inside` whose weight stands in another file."""
    folder = tmp_path / "inside"
    folder.mkdir(exist_ok=True)
    if content is not None:
        (folder / "w.bin").write_bytes(content)
    model = graph([MAKE("Add", ["x", "w"], ["y"])], [value("x", None, [4])], ["y"], {"w": np.ones(4, "f")})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, text in ({"location": location} | entries).items():
        tensor.external_data.add(key=key, value=str(text))
    return written(folder, model)


def test_external_data(tmp_path):
    path = with_external(tmp_path, content=np.arange(8, dtype="f").tobytes(), offset=8, length=16)
    np.testing.assert_array_equal(rnnfast.load(path)(np.zeros(4)), [2, 3, 4, 5])
    path.with_name("below").mkdir()
    path.with_name("w.bin").rename(path.with_name("below") / "v.bin")
    path = with_external(tmp_path, "below/v.bin", None)
    np.testing.assert_array_equal(rnnfast.load(path)(np.zeros(4)), [0, 1, 2, 3])
    with pytest.raises(rnnfast.FormatError, match="only of a model that is given as a path"):
        rnnfast.from_onnx(path.read_bytes())


@pytest.mark.parametrize(
    "entries",
    [{"offset": -4}, {"offset": "1e3"}, {"offset": 1 << 70}, {"offset": 1}, {"length": 15}, {"length": -1}, {"length": 1 << 62}, {"offset": "٣"}, {"basepath": "/"}],
)
def test_external_ranges(entries, tmp_path):
    with pytest.raises(rnnfast.FormatError, match=r"m.onnx: initializer 'w': (external data|offset and length)"):
        rnnfast.load(with_external(tmp_path, **entries))


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "a/../../secret", "./w.bin", "", "w.bin/", "inside//w.bin", "..", "w\0.bin", "C:\\w.bin", "missing", "w.bin/w"])
def test_external_locations(location, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(16))
    check_refused(rnnfast.load, with_external(tmp_path, location))


def test_external_links(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(16))
    for make in (os.symlink, os.link):
        path = with_external(tmp_path, content=None)
        make(secret, path.with_name("w.bin"))
        with pytest.raises(rnnfast.FormatError, match=r"link|single name"):
            rnnfast.load(path)
        path.with_name("w.bin").unlink()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "w.bin").write_bytes(bytes(16))
    path = with_external(tmp_path, "folder/w.bin")
    path.with_name("folder").symlink_to(tmp_path / "outside", target_is_directory=True)
    with pytest.raises(rnnfast.FormatError, match="behind a link"):
        rnnfast.load(path)


def test_external_pipes_and_folders(tmp_path):
    for make in (os.mkfifo, os.mkdir):
        path = with_external(tmp_path, "odd", None)
        make(path.with_name("odd"))
        with pytest.raises(rnnfast.FormatError, match=r"regular file|cannot be opened"):
            rnnfast.load(path)
        path.with_name("odd").unlink() if make is os.mkfifo else path.with_name("odd").rmdir()


def test_altered_native_files(tmp_path):
    """A native file with whole checksums but another graph is held to the same rules."""
    from rnnfast.models.saving import load_archive, save_archive

    rnnfast.from_onnx(decoder().SerializeToString()).save(tmp_path / "m.rnnf")
    config, arrays = load_archive(tmp_path / "m.rnnf")
    changes = [{"opset": "x"}, {"nodes": [{}]}, {"nodes": None}, {"inputs": [["x", "float16", None]]}, {"inputs": [["x", "float32", [-1]]]}, {"initializers": {"a": 99}}, {"outputs": ["q"]}, {"initializers": {"a": -1}}]
    for change in changes:
        save_archive(tmp_path / "m.rnnf", config | {"config": config["config"] | change}, arrays)
        check_refused(rnnfast.load, tmp_path / "m.rnnf")
    save_archive(tmp_path / "m.rnnf", config, arrays | {"selftest/output0": arrays["selftest/output0"] + 1})
    with pytest.raises(rnnfast.FormatError, match="self-test failed"):
        rnnfast.load(tmp_path / "m.rnnf")
