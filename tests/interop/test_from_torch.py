"""Models of live PyTorch modules give PyTorch's numbers, for every option, on random weights; what has no exact counterpart is refused by name."""

import copy
import doctest
from pathlib import Path

import numpy as np
import pytest

import rnnfast
from rnnfast import FormatError, layers
from rnnfast.interop.torch import load_state_dict, to_state_dict
from tests.interop.torch_models import random_weights, run
from tests.peers import require

torch = require("torch")
nn = torch.nn

DTYPES = {"float32": 2e-5, "float64": 1e-12}
OPTIONS = {
    "plain": {},
    "stack": {"num_layers": 3},
    "both": {"bidirectional": True},
    "all": {"num_layers": 2, "bidirectional": True, "dropout": 0.4, "batch_first": True},
    "no-bias": {"bias": False, "num_layers": 2, "bidirectional": True},
    "wide": {"hidden_size": 37, "batch_first": True},
}
KINDS = {
    "RNN": {"relu": {"nonlinearity": "relu", "num_layers": 2}},
    "LSTM": {"proj": {"proj_size": 2}, "proj-all": {"proj_size": 3, "num_layers": 2, "bidirectional": True, "bias": False}},
    "GRU": {},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "options"), [(k, n) for k, own in KINDS.items() for n in (OPTIONS | own)])
def test_recurrent_modules(kind, options, dtype, rng):
    """Output sequences and, if asked for, h_n and c_n; batches stand first."""
    given = {"hidden_size": 5} | (OPTIONS | KINDS[kind])[options]
    module = random_weights(getattr(nn, kind)(3, **given, dtype=getattr(torch, dtype)))
    x = rng.normal(size=(4, 9, 3)).astype(dtype)
    y, states = run(module, x if module.batch_first else x.swapaxes(0, 1))
    y = y.numpy() if module.batch_first else y.numpy().swapaxes(0, 1)
    np.testing.assert_allclose(rnnfast.from_torch(module).predict_on_batch(x), y, rtol=0, atol=DTYPES[dtype])
    found = rnnfast.from_torch(module, return_state=True).predict_on_batch(x)
    h, *c = states if isinstance(states, tuple) else [states]
    count = 2 if kind == "LSTM" else 1
    expected = [y, *h.numpy(), *(c[0].numpy() if c else [])]
    assert len(found) == len(expected) == 1 + count * module.num_layers * (1 + module.bidirectional)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=DTYPES[dtype])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kind", "options"), [("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu"}), ("LSTMCell", {}), ("GRUCell", {})])
def test_cells(kind, options, bias, rng):
    """A cell becomes the layer that runs it over a sequence; a stream runs it step by step."""
    cell = random_weights(getattr(nn, kind)(3, 5, bias=bias, **options))
    x, state, steps = rng.normal(size=(4, 6, 3)).astype(np.float32), None, []
    with torch.no_grad():
        for t in range(6):
            state = cell(torch.tensor(x[:, t]), state)
            steps.append((state[0] if kind == "LSTMCell" else state).numpy())
    y, *states = rnnfast.from_torch(cell, return_state=True).predict_on_batch(x)
    np.testing.assert_allclose(y, np.stack(steps, 1), atol=2e-6)
    for mine, theirs in zip(states, state if kind == "LSTMCell" else [state], strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), atol=2e-6)
    stream = rnnfast.from_torch(cell).stream()
    for t in range(6):
        np.testing.assert_allclose(np.ravel(stream.step(x[0, t])), steps[t][0], atol=2e-6)


class FirstOfTuple(nn.Module):
    def forward(self, found):
        return found[0]


def runnable(module):
    """A Sequential as PyTorch itself can run it: with what takes the output out of a recurrent module's tuple."""
    inner = [runnable(one) if isinstance(one, nn.Sequential) else one for one in module]
    return nn.Sequential(*(two for one in inner for two in ([one, FirstOfTuple()] if isinstance(one, nn.RNNBase) else [one])))


def sequences():
    yield "tagger", (nn.Embedding(11, 4, padding_idx=0), nn.Dropout(0.2), nn.LSTM(4, 6, 2, batch_first=True, bidirectional=True), nn.Linear(12, 5)), 11
    yield "norms", (nn.GRU(3, 6, batch_first=True), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 4, bias=False), nn.LogSoftmax(dim=-1)), (7, 3)
    yield "nested", (nn.Linear(3, 4), nn.Sequential(nn.GELU(), nn.Sequential(nn.RNN(4, 5, batch_first=True), nn.Identity())), nn.LayerNorm(5, bias=False)), (7, 3)
    yield "two", (nn.LSTM(3, 4, batch_first=True, proj_size=2), nn.GRU(2, 5, batch_first=True), nn.LayerNorm(5, elementwise_affine=False)), (7, 3)
    yield "flat", (nn.GRU(3, 4, batch_first=True), nn.Flatten(), nn.BatchNorm1d(28), nn.Linear(28, 2), nn.Softmax(1)), (7, 3)
    yield "tokens-flat", (nn.Embedding(9, 2), nn.Flatten(), nn.Linear(14, 3), nn.ReLU()), 9
    yield "perceptron", (nn.Linear(7, 6), nn.BatchNorm1d(6, eps=1e-3), nn.GLU(), nn.Flatten(), nn.Linear(3, 2), nn.Sigmoid()), (7,)
    yield "bare-norm", (nn.Linear(7, 6), nn.BatchNorm1d(6, affine=False), nn.Hardswish()), (7,)


@pytest.mark.parametrize(("modules", "shape"), [pytest.param(m, s, id=name) for name, m, s in sequences()])
def test_sequential(modules, shape, rng):
    source = random_weights(nn.Sequential(*modules))
    x = rng.integers(0, shape, (4, 7)) if isinstance(shape, int) else rng.normal(size=(4, *shape)).astype(np.float32)
    np.testing.assert_allclose(rnnfast.from_torch(source).predict_on_batch(x), run(runnable(source), x).numpy(), atol=5e-6)


def convolutions():
    yield "valid", (nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Conv1d(4, 2, 2, dilation=2))
    yield "padded", (nn.Conv1d(3, 4, 3, padding=1), nn.BatchNorm1d(4), nn.SiLU(), nn.Conv1d(4, 6, 3, stride=2, padding=2, groups=2), nn.Softmax(dim=1))
    yield "same", (nn.Dropout(0.1), nn.Conv1d(3, 4, 4, padding="same", bias=False), nn.Mish(), nn.Conv1d(4, 4, 3, padding=(3,), dilation=3), nn.GLU(1))
    yield "padding before a Flatten", (nn.Conv1d(3, 4, 1, padding=1), nn.Flatten(), nn.Linear(4 * 15, 5))
    yield "classifier", (nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.Tanh(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(4 * 11, 5), nn.ReLU(), nn.Linear(5, 2))


@pytest.mark.parametrize("modules", [pytest.param(m, id=name) for name, m in convolutions()])
def test_channels_last(modules, rng):
    """PyTorch takes [B, C, T], the model [B, T, C]; a Linear behind a Flatten has its weights in the model's order."""
    module = random_weights(nn.Sequential(*modules))
    x = rng.normal(size=(4, 13, 3)).astype(np.float32)
    y, model = run(module, x.swapaxes(1, 2)).numpy(), rnnfast.from_torch(module)
    expected = y.swapaxes(1, 2) if y.ndim == 3 else y
    np.testing.assert_allclose(model.predict_on_batch(x), expected, atol=5e-6)
    other = random_weights(copy.deepcopy(module))
    other.load_state_dict({name: torch.from_numpy(array) for name, array in to_state_dict(model).items()}, strict=True)
    np.testing.assert_array_equal(run(other, x.swapaxes(1, 2)).numpy(), y)
    model.set_weights([w + 1 for w in model.get_weights()])
    load_state_dict(model, module.state_dict())
    np.testing.assert_allclose(model.predict_on_batch(x), expected, atol=5e-6)


def test_what_is_flattened_in_another_order_has_no_state_dict():
    x = rnnfast.Input((6, 3))
    flat = layers.Flatten()(layers.Conv1D(4, 3)(x))
    for reader, y in (("BatchNormalization", layers.BatchNormalization()(flat)), ("Add", layers.Add()([layers.Flatten()(layers.LSTM(4, return_sequences=True)(layers.Cropping1D(1)(x))), flat]))):
        model = rnnfast.Model(x, layers.Dense(2)(y))
        for call in (lambda model=model: to_state_dict(model), lambda model=model: load_state_dict(model, {})):
            with pytest.raises(FormatError, match=rf"{reader} .* stands behind a Flatten of a convolution's output"):
                call()


@pytest.mark.parametrize("options", [{"kernel_size": 1, "padding": 4}, {"kernel_size": 3, "padding": 4}, {"kernel_size": 2, "padding": 3, "stride": 3}], ids=str)
def test_padding_that_is_wider_than_the_window(options, rng):
    module = random_weights(nn.Sequential(nn.Conv1d(2, 3, **options), nn.ReLU(), nn.Conv1d(3, 2, 1, padding=2)))
    for steps in (1, 9):
        x = rng.normal(size=(2, steps, 2)).astype(np.float32)
        np.testing.assert_allclose(rnnfast.from_torch(module).predict_on_batch(x), run(module, x.swapaxes(1, 2)).numpy().swapaxes(1, 2), atol=5e-6)


ACTIVATIONS = "ReLU ReLU6 Tanh Sigmoid SiLU GELU ELU SELU CELU Hardtanh Hardsigmoid Hardswish Softplus Softsign LogSigmoid Mish Tanhshrink Softshrink Hardshrink".split()


@pytest.mark.parametrize("module", [getattr(nn, name)() for name in ACTIVATIONS] + [nn.LeakyReLU(), nn.LeakyReLU(0.2), nn.LeakyReLU(0.3)], ids=lambda m: type(m).__name__)
def test_activations(module, rng):
    both = random_weights(nn.Sequential(nn.Linear(4, 6, dtype=torch.float64), module))
    x = rng.normal(size=(50, 4)) * 5
    np.testing.assert_allclose(rnnfast.from_torch(both).predict_on_batch(x), run(both, x).numpy(), atol=1e-8)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_short_floats_become_float32(dtype, rng):
    """Exactly: the numbers are those of the module's own weights, computed with in float32."""
    module = random_weights(nn.GRU(3, 5, batch_first=True)).to(getattr(torch, dtype))
    x = rng.normal(size=(2, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(rnnfast.from_torch(module).predict_on_batch(x), run(module.float(), x)[0].numpy(), atol=2e-6)


def test_the_module_stays_as_it_was_and_shares_nothing(rng):
    module = random_weights(nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.BatchNorm1d(4)))
    module.train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    model = rnnfast.from_torch(module)
    model.set_weights([w * 0 for w in model.get_weights()])
    assert all(one.training for one in module.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_the_models_file_holds_the_modules_numbers(tmp_path):
    module = random_weights(nn.LSTM(3, 4, batch_first=True))
    model = rnnfast.from_torch(module)
    (x,), (y,) = model.proof
    np.testing.assert_array_equal(y, run(module, x)[0].numpy())
    model.save(tmp_path / "m.rnnf")
    np.testing.assert_array_equal(rnnfast.load(tmp_path / "m.rnnf").predict_on_batch(x), model.predict_on_batch(x))


def test_dropout_between_levels_trains_as_pytorchs():
    """On the outputs of all levels but the last, drawn anew at every step."""
    model = rnnfast.from_torch(nn.LSTM(3, 4, 3, dropout=0.5))
    assert [type(layer).__name__ for layer in model.layers] == ["LSTM", "Dropout", "LSTM", "Dropout", "LSTM"]
    assert [layer.rate for layer in model.layers[1::2]] == [0.5, 0.5]


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 4)

    def forward(self, x):
        return self.rnn(x)[0][-1]


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def hooked():
    module = nn.Linear(3, 2)
    module.register_forward_hook(lambda m, x, y: 2 * y)
    return module


def twice():
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.ReLU(), layer)


REFUSED = {
    "own forward": (Own(), "Own: not a module whose computation is known.*load_state_dict"),
    "another forward": (Doubled(3, 2), "Doubled"),
    "hooks": (hooked(), "hooks"),
    "parametrised": (torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)), "parametrizations"),
    "weights twice": (twice(), "twice"),
    "unknown": (nn.Sequential(nn.Linear(3, 2), nn.PReLU()), "PReLU '1'.*Known"),
    "slope": (nn.Sequential(nn.Linear(3, 2), nn.LeakyReLU(0.1)), r"LeakyReLU '1': negative_slope must be one of 0.2, 0.01, 0.3, got 0.1"),
    "gelu": (nn.Sequential(nn.Linear(3, 2), nn.GELU("tanh")), "approximate"),
    "conv-rnn": (nn.Sequential(nn.Conv1d(3, 4, 3), nn.LSTM(9, 3, batch_first=True)), r"LSTM '1': PyTorch hands it \[B, C, T\]"),
    "rnn-conv": (nn.Sequential(nn.GRU(3, 4), nn.Conv1d(4, 2, 3)), "Conv1d '1'"),
    "rnn-batchnorm": (nn.Sequential(nn.GRU(3, 4), nn.BatchNorm1d(4)), "BatchNorm1d '1'.*steps it takes for channels"),
    "conv-linear": (nn.Sequential(nn.Conv1d(3, 4, 3), nn.Linear(9, 2)), "Linear '1'"),
    "conv-layernorm": (nn.Sequential(nn.Conv1d(3, 4, 3), nn.LayerNorm(9)), "LayerNorm '1'"),
    "conv-flat": (nn.Sequential(nn.Conv1d(3, 4, 3), nn.Flatten(), nn.BatchNorm1d(8), nn.Linear(8, 2)), "BatchNorm1d '2'"),
    "conv-flat-end": (nn.Sequential(nn.Conv1d(3, 4, 3), nn.Flatten()), "must have a module that says"),
    "stride-flat": (nn.Sequential(nn.Conv1d(3, 4, 3, stride=2), nn.Flatten(), nn.Linear(8, 2)), "inputs of 5 to 6 steps"),
    "reflect": (nn.Conv1d(3, 4, 3, padding=1, padding_mode="reflect"), "padding_mode"),
    "flat-rnn": (nn.Sequential(nn.GRU(3, 4, batch_first=True), nn.Flatten(), nn.GRU(8, 2, batch_first=True)), r"GRU '2': PyTorch hands it \[B, F\]"),
    "time-first-flat": (nn.Sequential(nn.GRU(3, 4), nn.Flatten(), nn.Linear(8, 2)), "batch_first=True"),
    "partial-flat": (nn.Sequential(nn.GRU(3, 4, batch_first=True), nn.Flatten(0, 1), nn.Linear(4, 2)), "from dim 1"),
    "axes": (nn.Sequential(nn.LSTM(3, 4, batch_first=True), nn.LSTM(4, 4)), "LSTM '1': batch_first=False"),
    "max-norm": (nn.Sequential(nn.Embedding(5, 3, max_norm=1.0), nn.GRU(3, 4)), "max_norm"),
    "late embedding": (nn.Sequential(nn.Dropout(0.1), nn.Embedding(5, 3), nn.GRU(3, 4)), "Embedding"),
    "batch statistics": (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False)), "track_running_stats"),
    "two axes": (nn.Sequential(nn.GRU(3, 4), nn.LayerNorm((7, 4))), "normalized_shape"),
    "softmax over time": (nn.Sequential(nn.GRU(3, 4, batch_first=True), nn.Softmax(1)), "dim must be that of the features, 2, got 1"),
    "widths": (nn.Sequential(nn.GRU(3, 4), nn.Linear(5, 2)), "Linear '1': takes 5 features, the modules before it give 4"),
    "all dropped": (nn.Sequential(nn.Linear(3, 4), nn.Dropout(1.0)), "rate"),
    "complex": (nn.Linear(3, 2, dtype=torch.complex64), "weight"),
    "meta": (nn.Linear(3, 2, device="meta"), "meta"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_exact_counterpart_is_refused(case):
    module, text = REFUSED[case]
    with pytest.raises(FormatError, match=text):
        rnnfast.from_torch(module)


def test_what_is_no_module():
    with pytest.raises(TypeError, match=r"torch\.nn\.Module or a state dict"):
        rnnfast.from_torch(3)
    with pytest.raises(ValueError, match="return_state is for one recurrent module"):
        rnnfast.from_torch(nn.Sequential(nn.GRU(3, 4), nn.Linear(4, 2)), return_state=True)
    with pytest.raises(ValueError, match="return_state needs the module"):
        rnnfast.from_torch(nn.GRU(3, 4).state_dict(), return_state=True)


def test_the_page():
    results = doctest.testfile(str(Path(__file__).parents[2] / "docs" / "pytorch.md"), module_relative=False)
    assert results.attempted > 10
    assert results.failed == 0
