"""Whole ONNX models: calls, files, proof by onnxruntime, streams, what PyTorch's exporters write."""

import copy
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import rnnfast
from rnnfast.interop.onnx.stream import stem
from tests.interop.onnx_cases import graph, judged, onnx, value
from tests.interop.onnx_models import decoder, tagger, with_states
from tests.peers import require

MAKE = onnx.helper.make_node


def test_calls():
    model = tagger()
    ready = rnnfast.from_onnx(model.SerializeToString())
    assert ready.input_names == ["x"] and ready.output_names == ["out"] and ready.inputs == {"x": ("float32", ["time", "batch", 4])}
    for shape in ((5, 3, 4), (1, 1, 4), (40, 9, 4)):
        x = np.random.default_rng(2).standard_normal(shape).astype("f")
        expected = judged(model, {"x": x})[0]
        for found in (ready.run({"x": x})["out"], ready.predict(x), ready(x), ready.predict_on_batch({"x": x.astype("f8")}), ready.run({"x": x[::-1]})["out"][::-1]):
            assert found.dtype == np.float32
            if found.shape == expected.shape and found.flags.c_contiguous:
                np.testing.assert_allclose(found, expected, atol=3e-6)
    with pytest.raises(ValueError, match=r"no input is called 'y'.*Known: x"):
        ready.run({"y": x})
    with pytest.raises(ValueError, match="input 'x' must be given"):
        ready.run({})
    with pytest.raises(TypeError, match="input 'x' must be float32, got complex128"):
        ready(x.astype(complex))
    with pytest.raises(rnnfast.ShapeError, match=r"must have shape \(time, batch, 4\), got \(5, 4\)"):
        ready(x[0, :5])
    with pytest.raises(ValueError, match=r"cannot be streamed, because none of its inputs \(x\)"):
        ready.stream()


@pytest.mark.parametrize("way", [lambda model: pickle.loads(pickle.dumps(model)), copy.deepcopy, copy.copy], ids=["pickle", "deepcopy", "copy"])
def test_copies(way):
    ready, x = rnnfast.from_onnx(tagger().SerializeToString()), np.ones((5, 3, 4), "f")
    expected = ready(x)
    assert np.array_equal(way(ready)(x), expected)


def test_several_outputs_are_new_arrays():
    ready = rnnfast.from_onnx(graph([MAKE("Identity", ["x"], ["a"]), MAKE("Neg", ["x"], ["b"])], [value("x", np.zeros(3, "f"))], ["a", "b", "k", "x"], {"k": np.ones(2)}).SerializeToString())
    x = np.arange(3, dtype="f")
    found = ready(x)
    assert [one.tolist() for one in found] == [[0, 1, 2], [0, -1, -2], [1, 1], [0, 1, 2]]
    for one in found:
        one[...] = 9
    assert x.tolist() == [0, 1, 2] and ready(x)[2].tolist() == [1, 1]


def test_what_only_shapes_decide_is_computed_once_for_each():
    nodes = [
        MAKE("Shape", ["x"], ["s"]), MAKE("ConstantOfShape", ["s"], ["zeros"]), MAKE("Cast", ["s"], ["f"], to=1), MAKE("Add", ["x", "zeros"], ["y"]),
        MAKE("Shape", ["y"], ["later"]), MAKE("ReduceSum", ["f"], ["sum"], keepdims=0),
    ]  # fmt: skip
    ready = rnnfast.from_onnx(graph(nodes, [value("x", None, ["a", "b"])], ["y", "zeros", "s", "sum", "later"]).SerializeToString())
    asked = []
    for step in ready._program.steps:
        step.function = lambda *values, kept=step.function, member=step.member: (asked.append(member), kept(*values))[1]
    for a, b in ((2, 3), (2, 3), (4, 1), (2, 3), (300, 400), (300, 400)):
        x = np.arange(a * b, dtype="f").reshape(a, b)
        y, zeros, shape, total, later = ready(x)
        assert np.array_equal(y, x) and not zeros.any() and shape.tolist() == later.tolist() == [a, b] and total == a + b
        for one in (y, zeros, shape, total, later):
            one[...] = 9
    assert sum("(ConstantOfShape)" in member for member in asked) == 4  # once for each shape, but for what is too large to be kept
    assert sum("(Add)" in member for member in asked) == 5  # the third time it goes from array to array


def test_files(tmp_path):
    model, path = decoder(), tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    ready = rnnfast.load(path)
    rnnfast.interop.convert(path, tmp_path / "m.rnnf")
    ready.save(tmp_path / "again.rnnf")
    assert (tmp_path / "m.rnnf").read_bytes() == (tmp_path / "again.rnnf").read_bytes()
    same = rnnfast.load(tmp_path / "m.rnnf")
    feeds = dict(zip(ready.input_names, ready.sample(), strict=True))
    for name, found in same.run(feeds).items():
        np.testing.assert_array_equal(found, ready.run(feeds)[name])
    same.save(tmp_path / "third.rnnf")
    assert (tmp_path / "third.rnnf").read_bytes() == (tmp_path / "m.rnnf").read_bytes()


def test_saved_models_need_numpy_alone(tmp_path):
    rnnfast.from_onnx(decoder().SerializeToString()).save(tmp_path / "m.rnnf")
    code = f"import sys; sys.modules['onnx'] = sys.modules['google'] = None; import rnnfast; print(rnnfast.load({str(tmp_path / 'm.rnnf')!r}).output_names)"
    assert "['score', 'h_out']" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_proof(tmp_path):
    model = tagger()
    require("onnxruntime")
    ready = rnnfast.from_onnx(model.SerializeToString(), prove=True)
    xs, expected = ready.proof
    np.testing.assert_array_equal(expected[0], judged(model, {"x": xs[0]})[0])
    ready.save(tmp_path / "m.rnnf")
    np.testing.assert_array_equal(rnnfast.load(tmp_path / "m.rnnf").proof[1][0], expected[0])


def test_without_onnx(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'rnnfast\[onnx\]'"):
        rnnfast.from_onnx(b"\x08\x08")


# -- streams -------------------------------------------------------------------------------------------------------------------


def test_stream_of_steps_and_chunks():
    model = decoder()
    ready = rnnfast.from_onnx(model.SerializeToString())
    x = np.random.default_rng(3).standard_normal((11, 4)).astype("f")
    whole = judged(model, {"x": x[:, None], "h_in": np.zeros((2, 1, 6), "f")})
    stream = ready.stream()
    assert stream.states == {"h_in": "h_out"}
    steps = np.stack([stream.step(one) for one in x])
    np.testing.assert_allclose(steps, whole[0][:, 0], atol=3e-6)
    np.testing.assert_allclose(stream.get_state()["h_in"], whole[1], atol=3e-6)
    stream.reset()
    np.testing.assert_allclose(np.concatenate([stream.process(x[:4]), stream.process(x[4:5]), stream.process(x[5:])]), steps, atol=3e-6)
    stream.reset()
    stream.process(x[:6])
    state, other = stream.get_state(), stream.copy()
    first = stream.process(x[6:])
    np.testing.assert_array_equal(other.process(x[6:]), first)
    stream.set_state(state)
    np.testing.assert_array_equal(stream.process(x[6:]), first)
    with pytest.raises(rnnfast.ShapeError, match=r"state 'h_in' must have shape \(2, 1, 6\)"):
        stream.set_state({"h_in": np.zeros((2, 6))})
    with pytest.raises(ValueError, match="state must have"):
        stream.set_state({})
    with pytest.raises(rnnfast.ShapeError, match="at least one"):
        stream.process(x[:0])
    with pytest.raises(ValueError, match="x"):
        stream.step(np.zeros(5))


def test_states_are_found_by_the_nodes_or_told():
    ready = rnnfast.from_onnx(decoder(("a", "17")).SerializeToString())
    assert ready.stream().states == {"a": "17"} == ready.stream({"a": "17"}).states
    with pytest.raises(ValueError, match="no output is called 'b'"):
        ready.stream({"a": "b"})
    accumulator = graph([MAKE("Add", ["x", "state"], ["new_state"]), MAKE("Neg", ["new_state"], ["y"])], [value(name, None, ["n", 2]) for name in ("x", "state")], ["y", "new_state"])
    stream = rnnfast.from_onnx(accumulator.SerializeToString()).stream()
    assert stream.states == {"state": "new_state"}
    np.testing.assert_array_equal(stream.process([[1, 2], [3, 4], [5, 6]]), [[-1, -2], [-4, -6], [-9, -12]])


def test_several_inputs_and_outputs_by_name():
    nodes = [MAKE("Add", ["x", "z"], ["s"]), MAKE("Add", ["s", "state"], ["stateN"]), MAKE("Neg", ["stateN"], ["y"]), MAKE("Identity", ["s"], ["sum"])]
    model = graph(nodes, [value(name, None, [1, 2]) for name in ("x", "z", "state")], ["y", "sum", "stateN"])
    stream = rnnfast.from_onnx(model.SerializeToString()).stream()
    found = stream.process({"x": [[1, 2], [3, 4]], "z": np.ones((2, 2))})
    assert found["y"].tolist() == [[-2, -3], [-6, -8]] and found["sum"].tolist() == [[2, 3], [4, 5]]
    with pytest.raises(ValueError, match="must be given a dict"):
        stream.step([1, 2])


@pytest.mark.parametrize("names", [("h", "h_out"), ("h0", "hn"), ("initial_h", "Y_h"), ("state", "stateN"), ("past_conv", "present_conv"), ("hiddenIn", "hiddenOut"), ("c_in", "cn"), ("cache.0.in", "cache.0.out")])
def test_names_of_states(names):
    assert stem(names[0]) == stem(names[1]) != ""


# -- exporters -----------------------------------------------------------------------------------------------------------------


def exported(module, arguments, names, dynamic, path):
    """A file of PyTorch's exporter by tracing. What its newer one writes stands in golden/, since it takes long."""
    torch = require("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), arguments, path, dynamo=False, input_names=names, dynamic_axes={name: {axis: f"n{axis}" for axis in axes} for name, axes in dynamic.items()})
    return rnnfast.load(path)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("states", [False, True])
def test_exported_from_torch(kind, states, tmp_path):
    torch = require("torch")
    torch.manual_seed(0)
    module = with_states(torch, kind, batch_first=not states, **({} if states else {"num_layers": 2, "bidirectional": True}))
    count = {"LSTM": 2}.get(kind, 1) if states else 0
    names = ["x", *("h0", "c0")[:count]]
    draw = lambda time, batch: (torch.randn(time, batch, 4), *(torch.randn(1, batch, 6) for _ in range(count)))
    ready = exported(module, draw(5, 2), names, {name: [1] if i else [0, 1] for i, name in enumerate(names)}, str(tmp_path / "m.onnx"))
    for given in (draw(5, 2), draw(7, 3)):
        with torch.no_grad():
            expected = module(*given)
        found = ready([one.numpy() for one in given])
        for mine, right in zip(found if states else [found], expected if states else [expected], strict=True):
            np.testing.assert_allclose(mine, right.numpy(), atol=2e-6)
    if states:
        stream, x = ready.stream(), torch.randn(9, 1, 4)
        assert list(stream.states) == names[1:] and stream._whole is not None
        with torch.no_grad():
            expected = module(x, *(torch.zeros(1, 1, 6) for _ in range(count)))[0][:, 0].numpy()
        np.testing.assert_allclose(stream.process(x[:, 0].numpy()), expected, atol=2e-6)
        stream.reset()
        np.testing.assert_allclose(np.stack([stream.step(one) for one in x[:, 0].numpy()]), expected, atol=2e-6)


@pytest.mark.parametrize("name", ["lstm", "gru_states", "rnn"])
def test_golden_files_of_the_newer_exporter(name):
    golden = Path(__file__).parent / "golden"
    ready, numbers = rnnfast.load(golden / f"torch_dynamo_{name}.onnx"), np.load(golden / f"torch_dynamo_{name}.npz")
    found = ready([numbers[f"input{i}"] for i in range(len(ready.input_names))])
    for i, mine in enumerate(found if isinstance(found, list) else [found]):
        np.testing.assert_allclose(mine, numbers[f"output{i}"], atol=2e-6)


def test_exported_text_classifier(tmp_path):
    torch = require("torch")
    torch.manual_seed(0)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            n = torch.nn
            self.embedding, self.norm, self.conv, self.batch_norm = n.Embedding(20, 5), n.LayerNorm(5), n.Conv1d(5, 8, 3, padding=1), n.BatchNorm1d(8)
            self.pool, self.rnn, self.out, self.drop = n.MaxPool1d(2), n.GRU(8, 6, batch_first=True, bidirectional=True), n.Linear(12, 3), n.Dropout(0.5)

        def forward(self, tokens):
            x = self.norm(self.embedding(tokens)).transpose(1, 2)
            y, _ = self.rnn(self.pool(torch.relu(self.batch_norm(self.conv(x)))).transpose(1, 2))
            return torch.log_softmax(self.out(self.drop(torch.cat([y[:, -1], y.mean(1)], 1)[:, :12] + y.max(1).values)), -1)

    module = Net()
    module.batch_norm.running_mean.normal_()
    module.batch_norm.running_var.uniform_(0.5, 2)
    tokens = torch.randint(0, 20, (2, 8))
    ready = exported(module, (tokens,), ["tokens"], {"tokens": [0, 1]}, str(tmp_path / "m.onnx"))
    for given in (tokens, torch.randint(0, 20, (3, 14))):
        with torch.no_grad():
            np.testing.assert_allclose(ready(given.numpy()), module(given).numpy(), atol=3e-6)
