"""State dicts become models by their names and shapes, models become state dicts that PyTorch accepts strictly, and nothing of either is left over unsaid."""

import numpy as np
import pytest

import rnnfast
from rnnfast import FormatError, Input, Sequential, layers
from rnnfast.interop import torch_files
from rnnfast.interop.torch import from_torch, load_state_dict, to_state_dict
from tests.interop.torch_models import random_weights, run
from tests.peers import require

torch = require("torch")
safetensors = require("safetensors.torch")
nn = torch.nn
ENDINGS = ["pt", "pth", "safetensors"]


class Net(nn.Module):
    """Tokens, a recurrent stack, a norm, scores of every step."""

    def __init__(self, kind=nn.LSTM, bias=True, head_first=False, **options):
        super().__init__()
        if head_first:
            self.head = nn.Linear(8, 3, bias=bias)
        self.embedding = nn.Embedding(11, 4)
        self.rnn = kind(4, 8 if not options.get("bidirectional") else 4, batch_first=True, bias=bias, **options)
        self.norm = nn.LayerNorm(8)
        if not head_first:
            self.head = nn.Linear(8, 3, bias=bias)

    def forward(self, x):
        return self.head(self.norm(self.rnn(self.embedding(x))[0]))


def save(tensors, path):
    (safetensors.save_file if str(path).endswith("safetensors") else torch.save)(tensors, str(path))


def open_in_torch(path):
    return safetensors.load_file(str(path)) if str(path).endswith("safetensors") else torch.load(path, weights_only=True)


OPTIONS = {"plain": {}, "stack": {"num_layers": 3}, "both": {"num_layers": 2, "bidirectional": True}, "no-bias": {"bias": False}, "head-first": {"head_first": True}}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_pytorch_file_to_model_and_back(kind, options, ending, tmp_path, rng):
    """load gives PyTorch's numbers; what write makes of the model, PyTorch accepts strictly and computes the same with."""
    net = random_weights(Net(getattr(nn, kind), **OPTIONS[options]))
    save(net.state_dict(), tmp_path / f"theirs.{ending}")
    model = rnnfast.load(tmp_path / f"theirs.{ending}")
    x = rng.integers(0, 11, (4, 7))
    y = run(net, x).numpy()
    np.testing.assert_allclose(model.predict_on_batch(x), y, atol=5e-6)
    torch_files.write(model, tmp_path / f"ours.{ending}")
    again = Net(getattr(nn, kind), **OPTIONS[options])
    again.load_state_dict(open_in_torch(tmp_path / f"ours.{ending}"), strict=True)
    np.testing.assert_allclose(run(again, x).numpy(), y, atol=5e-6)
    np.testing.assert_array_equal(rnnfast.load(tmp_path / f"ours.{ending}").predict_on_batch(x), model.predict_on_batch(x))


def every_layer():
    return [
        Input((None, 4)), layers.Conv1D(6, 3, padding="causal", name="conv"), layers.BatchNormalization(name="batch"), layers.Dropout(0.1),
        layers.Bidirectional(layers.ProjectedLSTM(5, 2, return_sequences=True), name="projected"), layers.SimpleRNN(3, return_sequences=True, name="rnn_l0"),
        layers.SimpleRNN(3, return_sequences=True, name="rnn_l1"), layers.GRU(4, return_sequences=True, use_bias=False, name="gru"),
        layers.LayerNormalization(center=False, name="norm"), layers.TimeDistributed(layers.Dense(5, activation="relu"), name="hidden"), layers.LSTM(3, name="lstm"),
        layers.Dense(2, use_bias=False, name="head"),
    ]  # fmt: skip


@pytest.mark.parametrize("ending", [*ENDINGS, "npz"])
def test_write_then_load_weights(ending, tmp_path, rng):
    """Every layer that PyTorch has; in the layers' own layout the others too."""
    model, other = Sequential(every_layer()), Sequential(every_layer())
    model.set_weights([rng.uniform(0.2, 1.0, w.shape) for w in model.get_weights()])
    torch_files.write(model, tmp_path / f"m.{ending}")
    other.load_weights(tmp_path / f"m.{ending}")
    for name, a, b in zip([v.path for v in model.weights], model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


def test_every_layer_in_pytorch(rng):
    """The modules with these names take the tensors strictly; one bias becomes two, of which the second is 0."""
    model = Sequential(every_layer())
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    module = nn.ModuleDict({
        "conv": nn.Conv1d(4, 6, 3), "batch": nn.BatchNorm1d(6), "projected": nn.LSTM(6, 5, proj_size=2, bidirectional=True), "rnn": nn.RNN(4, 3, 2),
        "gru": nn.GRU(3, 4, bias=False), "norm": nn.LayerNorm(4, bias=False), "hidden": nn.Linear(4, 5), "lstm": nn.LSTM(5, 3), "head": nn.Linear(3, 2, bias=False),
    })  # fmt: skip
    tensors = to_state_dict(model)
    assert list(tensors) == list(module.state_dict())
    module.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()}, strict=True)
    x = rng.normal(size=(3, 8, 6)).astype(np.float32)
    for name, width in [("projected", 6), ("gru", 3), ("lstm", 5)]:
        layer = next(one for one in model.layers if one.name == name)
        y, state = run(module[name], x[..., :width].swapaxes(0, 1))
        expected = state[0][0] if name == "lstm" else y.swapaxes(0, 1)
        np.testing.assert_allclose(layer(x[..., :width]), expected.numpy(), atol=1e-5)
    assert not np.any(tensors["lstm.bias_hh_l0"])


def test_npz_of_any_model(tmp_path, rng):
    """An .npz has the layers' own names, so it takes what PyTorch has not."""
    make = lambda: Sequential([Input((None, 3)), layers.IndRNN(4, return_sequences=True, name="ind"), layers.Statal(5, name="statal")])
    model, other = make(), make()
    torch_files.write(model, tmp_path / "m.npz")
    other.load_weights(tmp_path / "m.npz")
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_npz_of_pytorchs_names(tmp_path, rng):
    net = random_weights(Net(nn.GRU))
    np.savez(tmp_path / "m.npz", **{name: tensor.numpy() for name, tensor in net.state_dict().items()})
    x = rng.integers(0, 11, (4, 7))
    np.testing.assert_allclose(rnnfast.load(tmp_path / "m.npz").predict_on_batch(x), run(net, x).numpy(), atol=5e-6)


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_load_weights_finds_layers_by_kind_and_shape(ending, tmp_path, rng):
    """Whatever the names are, and whatever order the file keeps; also the layers that stand for one module of several levels."""
    net = random_weights(Net(nn.LSTM, num_layers=2))
    save(net.state_dict(), tmp_path / f"m.{ending}")
    stack = [layers.LSTM(8, return_sequences=True), layers.LSTM(8, return_sequences=True)]
    model = Sequential([Input((None,)), layers.Embedding(11, 4), *stack, layers.LayerNormalization(epsilon=1e-5), layers.Dense(3)])
    model.load_weights(tmp_path / f"m.{ending}")
    x = rng.integers(0, 11, (4, 7))
    np.testing.assert_allclose(model.predict_on_batch(x), run(net, x).numpy(), atol=5e-6)


def test_load_weights_of_equal_shapes(tmp_path, rng):
    """By name, or in the order of the file, or by number; where a file keeps no order and names say nothing, not at all."""
    tensors = {f"{name}.{role}": rng.normal(size=(4, 4) if role == "weight" else 4).astype(np.float32) for name in ("one", "another") for role in ("weight", "bias")}
    named = Sequential([Input((4,)), layers.Dense(4, name="another"), layers.Dense(4, name="one")])
    load_state_dict(named, tensors, in_order=False)
    np.testing.assert_array_equal(named.layers[0].get_weights()[0], tensors["another.weight"].T)
    plain = Sequential([Input((4,)), layers.Dense(4), layers.Dense(4)])
    load_state_dict(plain, tensors)
    np.testing.assert_array_equal(plain.layers[0].get_weights()[0], tensors["one.weight"].T)
    with pytest.raises(FormatError, match="'another', 'one' have equal shapes, and this file keeps no order"):
        load_state_dict(plain, tensors, in_order=False)
    numbered = {name.replace("another", "net.2").replace("one", "net.10"): array for name, array in tensors.items()}
    load_state_dict(plain, numbered, in_order=False)
    np.testing.assert_array_equal(plain.layers[0].get_weights()[0], numbered["net.2.weight"].T)


NESTED = [
    lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "x": None}]}},
    lambda state: {"model_state_dict": state, "loss": 0.25, "big": 1 << 80},
    lambda state: {"model": dict(state)},
]


@pytest.mark.parametrize("wrap", NESTED)
def test_checkpoints(wrap, tmp_path, rng):
    """A state dict under one of three names; what stands beside it is left alone."""
    net = random_weights(Net())
    torch.save(wrap(net.state_dict()), tmp_path / "m.pt")
    x = rng.integers(0, 11, (4, 7))
    np.testing.assert_allclose(rnnfast.load(tmp_path / "m.pt").predict_on_batch(x), run(net, x).numpy(), atol=5e-6)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_types_of_numbers(dtype, ending, tmp_path):
    """The two short floats become float32 exactly; float64 stays."""
    net = random_weights(nn.GRU(3, 4)).to(getattr(torch, dtype))
    save(net.state_dict(), tmp_path / f"m.{ending}")
    kernel = rnnfast.load(tmp_path / f"m.{ending}").layers[0].get_weights()[0]
    assert kernel.dtype == ("float64" if dtype == "float64" else "float32")
    r, z, n = net.weight_ih_l0.detach().double().numpy().T.reshape(3, 3, 4).swapaxes(0, 1)
    np.testing.assert_array_equal(kernel, np.concatenate([z, r, n], 1))


def test_views_of_one_storage(tmp_path):
    """Tensors that are parts of a larger one, transposed ones, and two of one storage."""
    whole = torch.randn(100)
    state = {"weight_ih_l0": whole[10:34].view(3, 8).T, "weight_hh_l0": whole[40:56].view(8, 2), "bias_ih_l0": whole[60:76:2], "bias_hh_l0": whole[60:76:2]}
    torch.save(state, tmp_path / "m.pt")
    found = rnnfast.load(tmp_path / "m.pt").layers[0].get_weights()
    np.testing.assert_array_equal(found[0], state["weight_ih_l0"].numpy().T)
    np.testing.assert_array_equal(found[2], 2 * state["bias_ih_l0"].numpy())


def test_big_endian(tmp_path, monkeypatch):
    state = {name: tensor.clone() for name, tensor in nn.GRU(3, 4).state_dict().items()}
    torch.save(state, tmp_path / "little.pt")
    import zipfile

    with zipfile.ZipFile(tmp_path / "little.pt") as little, zipfile.ZipFile(tmp_path / "big.pt", "w") as big:
        for name in little.namelist():
            content = little.read(name)
            content = b"big" if name.endswith("byteorder") else np.frombuffer(content, "<f4").astype(">f4").tobytes() if "/data/" in name else content
            big.writestr(name, content)
    assert torch.equal(torch.load(tmp_path / "big.pt")["weight_ih_l0"], state["weight_ih_l0"])
    for a, b in zip(rnnfast.load(tmp_path / "big.pt").get_weights(), rnnfast.load(tmp_path / "little.pt").get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_cell_state_dicts_and_nonlinearity(rng):
    cell = random_weights(nn.RNNCell(3, 4, nonlinearity="relu"))
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    found = rnnfast.from_torch(cell.state_dict(), nonlinearity="relu").predict_on_batch(x)
    np.testing.assert_array_equal(found, rnnfast.from_torch(cell).predict_on_batch(x))
    with pytest.raises(ValueError, match="nonlinearity must be 'tanh' or 'relu'"):
        rnnfast.from_torch(cell.state_dict(), nonlinearity="sigmoid")


def test_from_torch_of_numpy_and_back():
    """to_state_dict undoes from_torch, but for the sum of an LSTM's biases."""
    module = random_weights(nn.GRU(3, 4, 2, bidirectional=True))
    for name, array in to_state_dict(from_torch(module)).items():
        np.testing.assert_array_equal(array, module.state_dict()[name].numpy(), err_msg=name)


def shaped(**shapes):
    return {name.replace("__", "."): np.zeros(shape, np.float32) for name, shape in shapes.items()}


RNN = {"rnn__weight_ih_l0": (12, 3), "rnn__weight_hh_l0": (12, 4)}
OPEN = {
    "nonlinearity": (shaped(weight_ih_l0=(4, 3), weight_hh_l0=(4, 4)), "does not say whether with tanh or relu"),
    "linears": (shaped(**RNN, a__weight=(5, 4), a__bias=5, b__weight=(2, 5), b__bias=2), "What stands between Linear layers"),
    "linear first": (shaped(a__weight=(3, 7), a__bias=3, **RNN), "What stands between Linear layers"),
    "no recurrent": (shaped(a__weight=(3, 7), a__bias=3), "no recurrent module"),
    "square table": (shaped(a__weight=(3, 3), **RNN), "fit each other in no order"),
    "convolution": (shaped(a__weight=(3, 2, 5), a__bias=3, **RNN), "'a'|a: its tensors do not say"),
    "scale alone": (shaped(**RNN, a__weight=4), "its tensors do not say"),
    "name": (shaped(**RNN, a__alpha=4), "'a.alpha': is not a name"),
    "attention": (shaped(a__in_proj_weight=(12, 4), **RNN), "in_proj_weight"),
    "places to change": (shaped(decoder__weight_ih_l0=(9, 3), decoder__weight_hh_l0=(9, 3), encoder__weight_ih_l0=(9, 3), encoder__weight_hh_l0=(9, 3)), "'decoder' and 'encoder' have equal widths"),
    "widths": (shaped(**RNN, a__weight=(2, 5), a__bias=2), "no order"),
    "levels": (shaped(weight_ih_l1=(12, 3), weight_hh_l1=(12, 4)), "levels 0, 1"),
    "level widths": (shaped(weight_ih_l0=(12, 3), weight_hh_l0=(12, 4), weight_ih_l1=(12, 5), weight_hh_l1=(12, 4)), "must take the 4 features"),
    "half": (shaped(weight_ih_l0=(12, 3)), "no recurrent module, which has"),
    "gates": (shaped(weight_ih_l0=(8, 3), weight_hh_l0=(8, 4)), "do not fit one module of RNN, LSTM or GRU"),
    "one bias": (shaped(weight_ih_l0=(12, 3), weight_hh_l0=(12, 4), bias_ih_l0=12), "bias_hh"),
    "half reverse": (shaped(weight_ih_l0=(12, 3), weight_hh_l0=(12, 4), weight_hh_l0_reverse=(12, 4)), "weight_hh_reverse"),
    "projected gru": (shaped(weight_ih_l0=(12, 3), weight_hh_l0=(12, 2), weight_hr_l0=(2, 4)), "projection is an LSTM's"),
    "rank": (shaped(weight_ih_l0=(12, 3, 1), weight_hh_l0=(12, 4)), "matrices"),
    "nothing": (shaped(weight_ih_l0=(12, 0), weight_hh_l0=(12, 4)), "do not fit"),
    "half norm": (shaped(**RNN, a__weight=4, a__bias=4, a__running_mean=4), "do not fit one Linear"),
    "empty": ({}, "got those of 0"),
    "integers": ({"weight_ih_l0": np.zeros((12, 3), np.int64), "weight_hh_l0": np.zeros((12, 4))}, "must hold floats, got dtype int64"),
    "objects": ({"weight_ih_l0": np.zeros((12, 3), object)}, "must hold floats, got dtype object"),
    "complex": ({"weight_ih_l0": np.zeros((12, 3), complex)}, "must hold floats"),
    "sparse": ({"weight_ih_l0": torch.zeros(12, 3).to_sparse()}, "dense"),
    "many": (shaped(**{f"a{i}__weight": (2, 2) for i in range(300)}), "1 to 256 layers"),
}  # fmt: skip


@pytest.mark.parametrize("case", OPEN)
def test_what_a_state_dict_leaves_open_is_refused(case):
    tensors, text = OPEN[case]
    with pytest.raises(FormatError, match=text):
        rnnfast.from_torch(tensors)


def test_order_from_shapes_alone():
    """A file without an order: the only one that fits is taken, or none."""
    state = shaped(z__weight=(9, 5), a__weight=(2, 6), a__bias=2, m__weight_ih_l0=(24, 5), m__weight_hh_l0=(24, 6))
    model = rnnfast.interop.state_dicts.from_state_dict(dict(sorted(state.items())), in_order=False)
    assert [layer.name for layer in model.layers] == ["z", "m_l0", "a"]
    two = shaped(m__weight_ih_l0=(15, 5), m__weight_hh_l0=(15, 5), k__weight_ih_l0=(15, 5), k__weight_hh_l0=(15, 5))
    with pytest.raises(FormatError, match="several orders"):
        rnnfast.interop.state_dicts.from_state_dict(two, in_order=False)
    numbered = {name.replace("m.", "r.10.").replace("k.", "r.2."): array for name, array in two.items()}
    assert [layer.name for layer in rnnfast.from_torch(numbered).layers] == ["r.10_l0", "r.2_l0"]
    model = rnnfast.interop.state_dicts.from_state_dict(numbered, in_order=False)
    assert [layer.name for layer in model.layers] == ["r.2_l0", "r.10_l0"]


MISFITS = {
    "shape": (shaped(dense__weight=(3, 4), dense__bias=3), r"dense: must have \{.*'weight': \(3, 5\)\} for Dense 'dense', got \{.*'weight': \(3, 4\)\}"),
    "more": (shaped(dense__weight=(3, 5), dense__bias=3, x__weight=(3, 3), x__bias=3), "'x'.*The model needs 'dense'"),
    "fewer": (shaped(x__weight=(3, 5)), "The model needs 'dense'"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_weights_that_do_not_fit_change_nothing(case):
    model = Sequential([Input((5,)), layers.Dense(3, name="dense")])
    before = model.get_weights()
    with pytest.raises(FormatError, match=MISFITS[case][1]):
        load_state_dict(model, MISFITS[case][0])
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


INEXPRESSIBLE = {
    "reset_after": layers.GRU(4, reset_after=False),
    "activation": layers.LSTM(4, activation="relu"),
    "recurrent_activation": layers.GRU(4, recurrent_activation="hard_sigmoid"),
    "activation='elu'": layers.SimpleRNN(4, activation="elu"),
    "go_backwards": layers.LSTM(4, go_backwards=True),
    "zoneout": layers.LSTM(4, zoneout=0.1),
    "trained_initial_state": layers.GRU(4, trained_initial_state=True),
    "merge_mode": layers.Bidirectional(layers.LSTM(4), merge_mode="sum"),
    "two directions": layers.Bidirectional(layers.LSTM(4), backward_layer=layers.LSTM(4, go_backwards=True, use_bias=False)),
    "IndRNN": layers.IndRNN(4),
    "LayerNormLSTM": layers.LayerNormLSTM(4),
    "center and scale": layers.LayerNormalization(scale=False),
    "Statal": layers.Statal(3),
}


@pytest.mark.parametrize("text", INEXPRESSIBLE)
def test_what_pytorch_has_not_is_refused_by_name(text, tmp_path):
    model = Sequential([Input((None, 3)), INEXPRESSIBLE[text]])
    with pytest.raises(FormatError, match=text):
        torch_files.write(model, tmp_path / "m.pt")
    assert not list(tmp_path.iterdir())


def test_names_that_meet():
    with pytest.raises(FormatError, match=r"rnn\.weight_ih_l0.*rename"):
        to_state_dict(Sequential([Input((None, 3)), layers.GRU(4, return_sequences=True, name="rnn"), layers.GRU(4, name="rnn_l0")]))


def test_unknown_ending(tmp_path):
    with pytest.raises(FormatError, match=r"must be \.pt, \.pth, \.safetensors or \.npz"):
        torch_files.write(Sequential([Input((3,)), layers.Dense(2)]), tmp_path / "m.bin")
    with pytest.raises(rnnfast.NotBuiltError):
        to_state_dict(Sequential([layers.Dense(2)]))


def test_convert(tmp_path, rng):
    """From PyTorch's file to the native one and back to PyTorch's."""
    net = random_weights(Net(nn.GRU, num_layers=2))
    torch.save(net.state_dict(), tmp_path / "a.pt")
    rnnfast.interop.convert(tmp_path / "a.pt", tmp_path / "b.rnnf")
    rnnfast.interop.convert(tmp_path / "b.rnnf", tmp_path / "c.safetensors")
    for name, tensor in safetensors.load_file(tmp_path / "c.safetensors").items():
        assert torch.equal(tensor, net.state_dict()[name]), name


def test_npz_that_does_not_fit(tmp_path):
    torch_files.write(Sequential([Input((5,)), layers.Dense(3)]), tmp_path / "m.npz")
    with pytest.raises(FormatError, match=r"weight 0 must be the model's \S+/kernel \(5, 4\), got \S+/kernel \(5, 3\)"):
        Sequential([Input((5,)), layers.Dense(4)]).load_weights(tmp_path / "m.npz")
    with pytest.raises(FormatError, match=r"weight 1 must be the model's nothing, got \S+/bias"):
        Sequential([Input((5,)), layers.Dense(3, use_bias=False)]).load_weights(tmp_path / "m.npz")
    with pytest.raises(FormatError, match="is not a name"):
        rnnfast.load(tmp_path / "m.npz")
