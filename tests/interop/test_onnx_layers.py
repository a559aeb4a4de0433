"""Graphs as models of layers: the numbers are the graph's at any size, and what has no layer is refused by its node."""

import warnings

import numpy as np
import pytest

import rnnfast
from rnnfast import FormatError, Input, Model, Sequential, interop, layers
from tests.interop.onnx_cases import graph, recurrent_arrays, recurrent_model, value
from tests.interop.onnx_models import MAKE, decoder, tagger
from tests.peers import require


def lifted(proto):
    return rnnfast.from_onnx(proto.SerializeToString()).to_layers()


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


@pytest.mark.parametrize("tail", [[], [layers.Activation("relu")], [layers.Dense(2)]], ids=["end", "activation", "dense"])
def test_a_flatten_stays_one(tail, rng, tmp_path):
    model = Sequential([Input((6, 3)), layers.GRU(4, return_sequences=True), layers.Flatten(), *tail])
    interop.to_onnx(model, tmp_path / "flat.onnx")
    x = rng.standard_normal((2, 6, 3)).astype(np.float32)
    found = rnnfast.load(tmp_path / "flat.onnx").to_layers().predict_on_batch(x)
    np.testing.assert_allclose(found, model.predict_on_batch(x), atol=1e-6)


def nets(torch):
    """Modules with the layers that they should become."""
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self, kind, how, **options):
            super().__init__()
            self.rnn = getattr(nn, kind)(3, 4, batch_first=how != "time first", **options)
            self.out, self.how = nn.Linear(8 if options.get("bidirectional") else 4, 2), how

        def forward(self, x):
            y, h = self.rnn(x)
            h = h[0] if isinstance(h, tuple) else h
            y = {"last": lambda: y[:, -1], "state": lambda: h[-1], "ways": lambda: torch.cat([h[-2], h[-1]], 1), "mean": lambda: y.mean(1)}.get(self.how, lambda: y)()
            return torch.relu(self.out(y))

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.rnn, self.out = nn.Embedding(7, 3), nn.GRU(3, 4, batch_first=True), nn.Linear(4, 5)

        def forward(self, x):
            return self.out(self.rnn(self.embedding(x))[0]).log_softmax(-1)

    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.rnn, self.rows, self.out = nn.Conv1d(3, 6, 3, padding=1), nn.BatchNorm1d(6), nn.LSTM(6, 4, batch_first=True), nn.LayerNorm(4), nn.Linear(4, 5)
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2)

        def forward(self, x):
            x = torch.relu(self.norm(self.conv(x.transpose(1, 2)))).transpose(1, 2)
            return self.out(self.rows(self.rnn(x)[0]))

    return {
        "rnn": (Net("RNN", "last"), ["SimpleRNN", "Dense", "Activation"]), "lstm": (Net("LSTM", "last", num_layers=2), ["LSTM", "LSTM", "Dense", "Activation"]),
        "gru": (Net("GRU", "state"), ["GRU", "Dense", "Activation"]), "ways": (Net("LSTM", "ways", bidirectional=True), ["Bidirectional", "Dense", "Activation"]),
        "stack": (Net("GRU", "all", bidirectional=True, num_layers=2), ["Bidirectional", "Bidirectional", "Dense", "Activation"]),
        "time first": (Net("GRU", "time first"), ["GRU", "Dense", "Activation"]), "mean": (Net("LSTM", "mean"), ["LSTM", "GlobalAveragePooling1D", "Dense", "Activation"]),
        "tokens": (Tokens(), ["Embedding", "GRU", "Dense", "Activation"]),
        "windows": (Windows(), ["ZeroPadding1D", "Conv1D", "Activation", "LSTM", "LayerNormalization", "Dense"]),
        "one end of two": (Net("GRU", "last", bidirectional=True), "last step"),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "ways", "stack", "time first", "mean", "tokens", "windows", "one end of two"])
def test_exported_from_torch(name, tmp_path):
    torch = require("torch")
    torch.manual_seed(0)
    module, expected = nets(torch)[name]
    draw = lambda batch, time: torch.randint(0, 7, (batch, time)) if name == "tokens" else torch.randn(*((time, batch) if name == "time first" else (batch, time)), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), (draw(2, 5),), str(tmp_path / "m.onnx"), dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "a", 1: "b"}})
    read = rnnfast.load(tmp_path / "m.onnx")
    if isinstance(expected, str):
        with pytest.raises(FormatError, match=expected):
            read.to_layers()
        return
    model = read.to_layers()
    assert type(model) is Sequential and kinds(model) == expected
    x = draw(3, 8)
    with torch.no_grad():
        right = module(x).numpy()
    turn = (lambda a: a.swapaxes(0, 1)) if name == "time first" else (lambda a: a)
    np.testing.assert_allclose(turn(model.predict_on_batch(turn(x.numpy()))), right, atol=2e-6)
    model.compile("adam", "mse")
    assert np.isfinite(model.train_on_batch(turn(x.numpy()), turn(right) + 1))


@pytest.mark.parametrize("op", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("settings", [{}, {"direction": "reverse"}, {"direction": "bidirectional"}, {"layout": 1}])
def test_states(op, settings):
    """Final states are outputs, states that are the same in all rows are learned, and states may be inputs."""
    rng = np.random.default_rng(0)
    arrays = recurrent_arrays(op, rng, leave="LP", **settings)
    proto = recurrent_model(op, arrays, **settings)
    if settings.get("direction") == "bidirectional":
        with pytest.raises(FormatError, match="initial states that are not inputs of one direction"):
            lifted(proto)
    elif settings.get("direction") == "reverse":
        with pytest.raises(FormatError, match="go_backwards"):
            lifted(proto)
    else:
        model = lifted(proto)
        given = [arrays["X"].swapaxes(0, 1) if not settings else arrays["X"], *(arrays[name].reshape(3, 6) for name in "HC" if name in arrays)]
        assert type(model) is Model and len(model.predict_on_batch(given)) == {"LSTM": 3}.get(op, 2)
    trained = {name: np.repeat(arrays[name][..., :1, :], 3, -2) if not settings.get("layout") else np.repeat(arrays[name][:1], 3, 0) for name in "HC" if name in arrays}
    node = MAKE(op, ["X", "W", "R", "B", "", *trained], ["", "Y_h"], hidden_size=6, **settings)
    model = lifted(graph([node], [value("X", arrays["X"])], ["Y_h"], {name: arrays[name] for name in "WRB"} | trained))
    assert kinds(model) == ["Bidirectional" if settings.get("direction") == "bidirectional" else "SimpleRNN" if op == "RNN" else op]
    assert any("initial_state" in weight.name for weight in model.weights)


def test_peepholes_hard_gates_and_double():
    rng = np.random.default_rng(1)
    arrays = recurrent_arrays("LSTM", rng, "f8", leave="LHC")
    assert kinds(lifted(recurrent_model("LSTM", arrays))) == ["PeepholeLSTM"]
    arrays = recurrent_arrays("LSTM", rng, leave="LHCP")
    hard = lifted(recurrent_model("LSTM", arrays, activations=["HardSigmoid", "Tanh", "Tanh"]))
    assert hard.layers[0].get_config()["recurrent_activation"] == "hard_sigmoid_02"
    assert kinds(lifted(tagger())) == ["Bidirectional", "Dense", "Activation"]


def test_joined_branches():
    rng = np.random.default_rng(2)
    draw = lambda *shape: rng.standard_normal(shape).astype("f")
    nodes = [
        MAKE("MatMul", ["x", "K"], ["a"]), MAKE("Tanh", ["a"], ["t"]), MAKE("MatMul", ["x", "K2"], ["a2"]), MAKE("Add", ["b", "a2"], ["ab"]), MAKE("Mul", ["t", "ab"], ["m"]), MAKE("Sub", ["m", "t"], ["s"]),
        MAKE("Concat", ["s", "x"], ["c"], axis=-1), MAKE("Transpose", ["c"], ["ct"], perm=[0, 2, 1]), MAKE("GlobalMaxPool", ["ct"], ["p"]), MAKE("Flatten", ["p"], ["f"]),
        MAKE("Gemm", ["f", "G", "b2"], ["y"], transB=1),
    ]  # fmt: skip
    proto = graph(nodes, [value("x", None, ["n", "t", 3])], ["y"], {"K": draw(3, 4), "K2": draw(3, 4), "b": draw(4), "G": draw(2, 7), "b2": draw(2)})
    assert sorted(kinds(lifted(proto))) == ["Activation", "Concatenate", "Dense", "Dense", "Dense", "GlobalMaxPooling1D", "Multiply", "Subtract"]


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([MAKE("Mul", ["x", "v"], ["y"])], "Mul.*takes a constant there"), ([MAKE("Sin", ["x"], ["y"])], "Sin of what depends on the inputs"),
        ([MAKE("Elu", ["x"], ["y"], alpha=0.5)], "activation of these parameters"), ([MAKE("MatMul", ["x", "x2"], ["y"])], "constant matrix"),
        ([MAKE("Softmax", ["x"], ["y"], axis=1)], "over the features"), ([MAKE("ReduceMean", ["x"], ["y"], axes=[2])], "over the time"),
    ],
)  # fmt: skip
def test_refused(nodes, words):
    inputs = [value("x", None, ["n", "t", 3])] + ([value("x2", None, ["n", 3, 3])] if "x2" in nodes[0].input else [])
    weights = {"v": np.array([1, 2, 3], "f")} if "v" in nodes[0].input else {}
    with pytest.raises(FormatError, match=f"{words}.*runs as it is"):
        lifted(graph(nodes, inputs, ["y"], weights))


@pytest.mark.parametrize(("start", "end", "axis"), [(0, 10, 0), (-10, 2**40, 0), (0, 4, 1)])
def test_slices_that_only_longer_sequences_or_larger_batches_meet(start, end, axis):
    arrays = recurrent_arrays("GRU", np.random.default_rng(0), leave="XHL")
    bounds = {"s": np.array([start]), "e": np.array([end]), "a": np.array([axis])}
    nodes = [MAKE("Slice", ["x", "s", "e", "a"], ["z"]), MAKE("GRU", ["z", "W", "R", "B"], ["", "y"], hidden_size=6)]
    with pytest.raises(FormatError, match=r"a slice that ends where|it takes a part"):
        lifted(graph(nodes, [value("x", None, ["t", "n", 4])], ["y"], arrays | bounds))


def test_refused_by_the_judge():
    """A stack whose states are one input has no model of layers; a graph whose numbers depend on its sizes neither."""
    with pytest.raises(FormatError, match="has no layer"):
        lifted(decoder())
    nodes = [MAKE("Shape", ["x"], ["s"]), MAKE("Slice", ["s", "one", "two"], ["t"]), MAKE("Cast", ["t"], ["f"], to=1), MAKE("Tile", ["f", "three"], ["b"]), MAKE("MatMul", ["x", "K"], ["m"]), MAKE("Add", ["m", "b"], ["y"])]
    weights = {"one": np.array([1]), "two": np.array([2]), "three": np.array([3]), "K": np.eye(3, dtype="f")}
    with pytest.raises(FormatError, match="layers that seem to fit give other numbers"):
        lifted(graph(nodes, [value("x", None, ["n", "t", 3])], ["y"], weights))


def test_written_again(tmp_path):
    """What this library wrote as ONNX comes back as the same layers, and goes on to other formats."""
    rng = np.random.default_rng(3)
    model = Sequential([Input((None, 3), name="x"), rnnfast.layers.GRU(4, return_sequences=True), rnnfast.layers.LSTM(5), rnnfast.layers.Dense(2)])
    model.set_weights([rng.normal(0, 0.5, v.shape) for v in model.weights])
    interop.to_onnx(model, tmp_path / "m.onnx")
    interop.convert(tmp_path / "m.onnx", tmp_path / "m.npz")
    again = Sequential([Input((None, 3)), rnnfast.layers.GRU(4, return_sequences=True), rnnfast.layers.LSTM(5), rnnfast.layers.Dense(2)])
    again.load_weights(tmp_path / "m.npz")
    x = rng.normal(size=(2, 6, 3)).astype("f")
    np.testing.assert_array_equal(again.predict_on_batch(x), model.predict_on_batch(x))


def drawn(model, seed=4):
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 0.5, v.shape) for v in model.weights])
    return model


@pytest.mark.parametrize("merge", ["concat", "sum", "ave", "mul"])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("cell", ["SimpleRNN", "LSTM", "GRU"])
def test_two_nodes_are_one_bidirectional(cell, sequences, merge, tmp_path):
    two = lambda **options: rnnfast.layers.Bidirectional(getattr(rnnfast.layers, cell)(4, **options), merge_mode=merge)
    model = drawn(Sequential([Input((None, 3), name="x"), two(return_sequences=True), two(return_sequences=sequences), rnnfast.layers.Dense(2)]))
    interop.to_onnx(model, tmp_path / "m.onnx")
    again = rnnfast.load(tmp_path / "m.onnx").to_layers()
    assert type(again) is Sequential and kinds(again) == ["Bidirectional", "Bidirectional", "Dense"] and again.layers[0].merge_mode == merge
    x = np.random.default_rng(5).normal(size=(2, 6, 3)).astype("f")
    np.testing.assert_array_equal(again.predict_on_batch(x), model.predict_on_batch(x))
    assert [v.shape for v in again.weights] == [v.shape for v in model.weights]


@pytest.mark.parametrize("states", [False, True])
def test_two_nodes_with_states(states, tmp_path):
    x, given = Input((None, 3), name="x"), [Input((4,), name=name) for name in "abcd"]
    y, *ends = rnnfast.layers.Bidirectional(rnnfast.layers.LSTM(4, return_sequences=True, return_state=True))(x, initial_state=given if states else None)
    joined = rnnfast.layers.Concatenate()([ends[0], ends[2]])
    model = drawn(Model([x, *given] if states else x, [rnnfast.layers.Dense(2)(y), joined]))
    interop.to_onnx(model, tmp_path / "m.onnx")
    again = rnnfast.load(tmp_path / "m.onnx").to_layers()
    assert "Bidirectional" in kinds(again)
    rng = np.random.default_rng(5)
    arrays = [rng.normal(size=shape).astype("f") for shape in [(2, 6, 3), *[(2, 4)] * 4 * states]]
    for found, right in zip(again.predict_on_batch(arrays if states else arrays[0]), model.predict_on_batch(arrays if states else arrays[0]), strict=True):
        np.testing.assert_array_equal(found, right)


def test_two_directions_that_are_used_apart_stay_two_layers(tmp_path):
    x = Input((None, 3), name="x")
    ways = [rnnfast.layers.GRU(4)(x), rnnfast.layers.GRU(4, go_backwards=True)(x)]
    model = drawn(Model(x, rnnfast.layers.Add()([rnnfast.layers.Dense(2)(way) for way in ways])))
    interop.to_onnx(model, tmp_path / "m.onnx")
    assert sorted(kinds(rnnfast.load(tmp_path / "m.onnx").to_layers())) == ["Add", "Dense", "Dense", "GRU", "GRU"]


def test_a_shared_layer_stays_one(tmp_path):
    x, other = Input((None, 3), name="x"), Input((None, 3), name="other")
    rnn, dense = rnnfast.layers.LSTM(4), rnnfast.layers.Dense(2)
    model = drawn(Model([x, other], rnnfast.layers.Subtract()([dense(rnn(x)), dense(rnn(other))])))
    interop.to_onnx(model, tmp_path / "m.onnx")
    again = rnnfast.load(tmp_path / "m.onnx").to_layers()
    assert again.count_params() == model.count_params() and sorted(kinds(again)) == ["Dense", "LSTM", "Subtract"]
    arrays = list(np.random.default_rng(5).normal(size=(2, 2, 6, 3)).astype("f"))
    np.testing.assert_array_equal(again.predict_on_batch(arrays), model.predict_on_batch(arrays))


@pytest.mark.parametrize("turned", [False, True])
def test_weights_that_layers_would_untie_are_refused(turned):
    rng = np.random.default_rng(6)
    table = rng.normal(size=(7, 4)).astype("f")
    nodes = [MAKE("Gather", ["E", "t"], ["e"]), *([MAKE("Transpose", ["E"], ["ET"], perm=[1, 0])] if turned else []), MAKE("MatMul", ["e", "ET"], ["y"])]
    proto = graph(nodes, [value("t", np.zeros((1, 1), np.int64), ["n", "s"])], ["y"], {"E": table} | ({} if turned else {"ET": table.T.copy()}))
    if turned:
        with pytest.raises(FormatError, match=r"shares an array of shape \(4, 7\) with Embedding"):
            lifted(proto)
    else:
        assert kinds(lifted(proto)) == ["Embedding", "Dense"]


def test_equal_biases_are_stored_once_and_stay_two(tmp_path):
    model = Sequential([Input((None, 3), name="x"), rnnfast.layers.GRU(4, return_sequences=True), rnnfast.layers.GRU(4), rnnfast.layers.Dense(4), rnnfast.layers.Dense(4)])
    interop.to_onnx(model, tmp_path / "m.onnx")
    assert kinds(rnnfast.load(tmp_path / "m.onnx").to_layers()) == ["GRU", "GRU", "Dense", "Dense"]
