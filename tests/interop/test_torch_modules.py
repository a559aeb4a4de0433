"""rnnfast.torch's modules are torch's in everything but speed: outputs, gradients, options, state dicts, copies, errors."""

import copy
import io
import itertools
import pickle
import re
import threading
import warnings

import pytest

import rnnfast
from tests.peers import require

torch = require("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import rnnfast.torch as fast

from torch import nn  # noqa: E402
from torch.nn.utils import prune  # noqa: E402
from torch.nn.utils import rnn as packing  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN", "ignore:.*prims_common")
LENGTHS = [3, 6, 1, 4]


def leaves(result):
    """The tensors of an output, in order."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, packing.PackedSequence):
        return [result.data]
    return [tensor for one in result for tensor in leaves(one)]


def pair(kind, *sizes, **options):
    """Torch's module and rnnfast's with the same weights."""
    theirs, ours = getattr(nn, kind)(*sizes, **options), getattr(fast, kind)(*sizes, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def states(kind, stack, batch, units, projection=0):
    """Random states to start from; an LSTM's are two."""
    first = torch.randn(*stack, *batch, projection or units, dtype=torch.float64)
    return (first, torch.randn(*stack, *batch, units, dtype=torch.float64)) if kind.startswith("LSTM") else first


def everything(module, x, hx, wrap=lambda x: x):
    """Outputs, and gradients of the input, the states and the weights for random upstream gradients."""
    x = x.clone().requires_grad_()
    given = [h.clone().requires_grad_() for h in (leaves(hx) if hx is not None else [])]
    arguments = () if hx is None else (tuple(given),) if isinstance(hx, tuple) else (given[0],)
    outputs = leaves(module(wrap(x), *arguments))
    generator = torch.Generator().manual_seed(1)
    upstream = [torch.randn(y.shape, dtype=y.dtype, generator=generator) for y in outputs]
    gradients = torch.autograd.grad(outputs, [x, *given, *module.parameters()], upstream)
    with torch.no_grad():
        plain = leaves(module(wrap(x), *arguments))
    return [*(y.detach() for y in outputs), *plain, *gradients]


def assert_same(ours, theirs, tolerance=1e-10):
    assert len(ours) == len(theirs)
    for own, other in zip(ours, theirs, strict=True):
        assert own.shape == other.shape
        own, other = own.detach(), other.detach()
        assert float((own - other).abs().max()) <= tolerance * max(1.0, float(other.abs().max()))


def is_ours(y):
    return type(y.grad_fn).__name__ == "ThroughBackward"


OPTIONS = [
    dict(zip(("num_layers", "bidirectional", "bias", "batch_first"), values, strict=True))
    for values in itertools.product((1, 3), (False, True), (True, False), (False, True))
]


@pytest.mark.parametrize("form", ["padded", "states", "packed", "unbatched"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN tanh", "RNN relu", "LSTM projected"])
def test_every_option(kind, form):
    kind, _, extra = kind.partition(" ")
    torch.manual_seed(0)
    more = {"proj_size": 3} if extra == "projected" else {"nonlinearity": extra} if extra else {}
    for options in OPTIONS:
        theirs, ours = pair(kind, 5, 7, **options, **more, dtype=torch.float64)
        stack, batch = (options["num_layers"] * (1 + options["bidirectional"]),), () if form == "unbatched" else (4,)
        shape = (6,) if form == "unbatched" else (4, 6) if options["batch_first"] else (6, 4)
        x = torch.randn(*shape, 5, dtype=torch.float64)
        hx = None if form == "padded" else states(kind, stack, batch, 7, more.get("proj_size", 0))
        wrap = lambda x, first=options["batch_first"]: (
            packing.pack_padded_sequence(x, torch.tensor(LENGTHS), first, enforce_sorted=False) if form == "packed" else x
        )
        assert_same(everything(ours, x, hx, wrap), everything(theirs, x, hx, wrap))
        assert form == "unbatched" or is_ours(leaves(ours(wrap(x), hx))[0])


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell tanh", "RNNCell relu"])
def test_cells(kind):
    kind, _, nonlinearity = kind.partition(" ")
    torch.manual_seed(0)
    for bias, batch, given in itertools.product((True, False), ((), (4,), (500,)), (False, True)):  # the gradients of 500 rows are added up in parts
        theirs, ours = pair(kind, 5, 7, bias=bias, dtype=torch.float64, **({"nonlinearity": nonlinearity} if nonlinearity else {}))
        hx = states(kind, (), batch, 7) if given else None
        x = torch.randn(*batch, 5, dtype=torch.float64)
        assert_same(everything(ours, x, hx), everything(theirs, x, hx))


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.filterwarnings("ignore:rnnfast.torch. a Tensor that is not plain memory")
def test_cells_called_again(kind, bias):
    """Calls like the one before go a shorter way; each that differs in something from it must be seen."""
    torch.manual_seed(0)
    theirs, ours = pair(kind, 5, 7, bias=bias)
    wide = torch.randn(6, 10)
    lone = torch.zeros(6, 5, dtype=torch.complex64).conj().imag
    xs = [wide[:2, :5].contiguous(), wide[:2, :5], wide[:3, 5:].contiguous(), wide[:, ::2], wide[:2, :5].contiguous(), wide[0, :5], lone, nn.Parameter(wide[:2, :5].clone())]
    seen, expected = [], []
    for step, x in enumerate(itertools.chain(xs, xs)):
        hx = states(kind, (), x.shape[:-1], 7) if step % 3 else None
        hx = None if hx is None else tuple(h.float() for h in hx) if isinstance(hx, tuple) else hx.float()
        for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
            with mode():
                seen += leaves(ours(x, hx))
                expected += leaves(theirs(x, hx))
            assert seen[-1].requires_grad is expected[-1].requires_grad and seen[-1].is_inference() is expected[-1].is_inference()
        if step == 9:
            with torch.no_grad():
                theirs.weight_hh.mul_(0.5)
                ours.weight_hh.mul_(0.5)
    assert_same(seen, expected, 1e-5)  # at the end: no later call has written to an earlier one's results
    assert len({y.data_ptr() for y in seen}) == len(seen)
    x = xs[0]
    hx = (torch.zeros(3, 7),) * 2 if kind == "LSTMCell" else torch.zeros(3, 7)
    for arguments in ((x[:, :4],), (x, hx), (x.double(),), (x[None, None],)):
        with torch.no_grad(), pytest.raises(Exception) as right:
            theirs(*arguments)
        with torch.no_grad(), pytest.raises(right.type):
            ours(*arguments)


@pytest.mark.parametrize("batch", [1, 64, 130])
@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cells_at_larger_sizes(kind, batch):
    """A row alone, and more rows than the gradients of weights are added up of at once."""
    torch.manual_seed(0)
    theirs, ours = pair(kind, 70, 135)
    x, hx = torch.randn(batch, 70), states(kind, (), (batch,), 135)
    hx = tuple(h.float() for h in hx) if isinstance(hx, tuple) else hx.float()
    for given in (None, hx):
        assert_same(everything(ours, x, given), everything(theirs, x, given), 3e-5)


@pytest.mark.filterwarnings("ignore:rnnfast.torch. a Tensor that is not plain memory")
@pytest.mark.parametrize("kind", ["RNN", "RNNCell"])
def test_a_tensor_that_has_left_torch_func(kind):
    theirs, ours = pair(kind, 3, 4)
    left = []
    torch.func.grad(lambda x: (left.append(x), x.square().sum())[1])(torch.randn(2, 3))
    for _ in range(2):  # the second is the short way of cells
        for mode in (torch.no_grad, torch.enable_grad):
            with mode():
                assert_same(leaves(ours(left[0])), leaves(theirs(left[0])), 1e-6)
        ours(torch.randn(2, 3))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_float32_at_larger_sizes(kind):
    torch.manual_seed(0)
    theirs, ours = pair(kind, 40, 70, num_layers=2, bidirectional=True)
    x = torch.randn(33, 19, 40)
    assert_same(everything(ours, x, None), everything(theirs, x, None), 3e-5)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_packed_at_larger_sizes(kind):
    torch.manual_seed(0)
    theirs, ours = pair(kind, 48, 96)
    lengths = torch.randint(1, 81, (32,))
    wrap = lambda x: packing.pack_padded_sequence(x, lengths, enforce_sorted=False)
    x = torch.randn(int(lengths.max()), 32, 48)
    for _ in range(3):
        assert_same(everything(ours, x, None, wrap), everything(theirs, x, None, wrap), 1e-4)


def test_lengths_that_vary():
    theirs, ours = pair("GRU", 3, 4, batch_first=True, dtype=torch.float64)
    for time in (40, 33, 7, 39, 40, 1):
        x = torch.randn(2, time, 3, dtype=torch.float64)
        assert_same(everything(ours, x, None), everything(theirs, x, None))
        lengths = torch.randint(1, time + 1, (2,))
        lengths[0] = time
        wrap = lambda x, lengths=lengths: packing.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        assert_same(everything(ours, x, None, wrap), everything(theirs, x, None, wrap))


def test_noncontiguous_and_expanded_tensors():
    theirs, ours = pair("LSTM", 3, 4, dtype=torch.float64)
    x = torch.randn(3, 2, 5, dtype=torch.float64).transpose(0, 2)
    assert_same(leaves(ours(x)), leaves(theirs(x)))
    h = torch.randn(1, 1, 4, dtype=torch.float64).expand(1, 2, 4)
    assert_same(leaves(ours(x, (h, h))), leaves(theirs(x, (h, h))))
    for module in (theirs, ours):
        module(x)[0].sum().backward()  # an upstream gradient of stride 0
    assert_same([p.grad for p in ours.parameters()], [p.grad for p in theirs.parameters()])


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_gradcheck(kind):
    torch.manual_seed(0)
    module = getattr(fast, kind)(2, 3, num_layers=2, bidirectional=True, dtype=torch.float64)
    x, hx = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True), states(kind, (4,), (2,), 3)
    given = [h.requires_grad_() for h in leaves(hx)]
    run = lambda x, *given: tuple(leaves(module(x, given if kind == "LSTM" else given[0])))
    assert torch.autograd.gradcheck(run, (x, *given))


def test_only_some_outputs_and_inputs_have_gradients():
    theirs, ours = pair("LSTM", 3, 4, num_layers=2, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    for use in (lambda y, h, c: h[-1], lambda y, h, c: c[0], lambda y, h, c: y[2]):
        found = []
        for module in (ours, theirs):
            y, (h, c) = module(x)
            found.append(torch.autograd.grad(use(y, h, c).square().sum(), list(module.parameters()), allow_unused=True))
        assert_same(*([g if g is not None else torch.zeros(1) for g in one] for one in found))
    for module in (ours, theirs):
        module.requires_grad_(False)
        module.weight_hh_l0.requires_grad_()
        module(x)[0].sum().backward()
    assert ours.weight_ih_l0.grad is None
    assert_same([ours.weight_hh_l0.grad], [theirs.weight_hh_l0.grad])


def test_backward_twice_and_forwards_between():
    module = fast.GRU(3, 4, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    y, other = module(x)[0], module(2 * x)[0]
    first = torch.autograd.grad(y.square().sum(), [x, *module.parameters()], retain_graph=True)
    torch.autograd.grad(other.sum(), x)
    module(3 * x)
    again = torch.autograd.grad(y.square().sum(), [x, *module.parameters()])
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)


def test_one_module_many_times_in_a_graph():
    theirs, ours = pair("LSTMCell", 3, 3, dtype=torch.float64)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    for module in (ours, theirs):
        h = c = torch.zeros(2, 3, dtype=torch.float64)
        for step in x:
            h, c = module(step, (h, c))
        h.sum().backward()
    assert_same([p.grad for p in ours.parameters()], [p.grad for p in theirs.parameters()])


def test_plans_are_given_back():
    module = fast.LSTM(3, 4)
    x = torch.randn(5, 2, 3)
    for _ in range(3):
        kept = [module(x)[0] for _ in range(4)]
        kept[0].sum().backward()
    del kept
    (idle,) = module.__dict__["_rnnfast"].idle.values()
    assert len(idle) <= 8


def test_second_derivative_is_torchs():
    theirs, ours = pair("LSTM", 2, 3, dtype=torch.float64)
    x = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in (ours, theirs):
            (first,) = torch.autograd.grad(module(x)[0].pow(3).sum(), x, create_graph=True)
            found.append(torch.autograd.grad(first.square().sum(), [x, *module.parameters()]))
    assert_same(*found)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["LSTM", "GRUCell"])
def test_many_gradients_at_once_are_torchs(kind):
    theirs, ours = pair(kind, 3, 4, dtype=torch.float64)
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in (ours, theirs):
            y = leaves(module(x))[0]
            seeds = torch.eye(y.numel(), dtype=torch.float64).reshape(-1, *y.shape)
            together = torch.autograd.grad(y, x, seeds, is_grads_batched=True, retain_graph=True)
            vectorized = torch.autograd.functional.jacobian(lambda x, module=module: leaves(module(x))[0], x, vectorize=True)
            mapped = torch.vmap(lambda g, y=y: torch.autograd.grad(y, x, g, retain_graph=True)[0])(seeds)
            found.append([*together, vectorized, mapped, *torch.autograd.grad(y.sum(), x)])
    assert_same(*found)


class Returns(torch.autograd.Function):
    """A tensor as it is, whose gradient is something else."""

    @staticmethod
    def forward(ctx, y, make):
        ctx.make = make
        return y.clone()

    @staticmethod
    def backward(ctx, g):
        return ctx.make(g), None


@pytest.mark.parametrize(
    "make", [lambda g: torch._efficientzerotensor(g.shape, dtype=g.dtype), lambda g: torch.complex(torch.zeros_like(g), g).conj().imag], ids=["zero", "negative"]
)
def test_gradients_without_memory_of_their_own(make):
    theirs, ours = pair("GRU", 3, 4, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    found = []
    for module in (ours, theirs):
        y, h = module(x)
        (Returns.apply(y, make).sum() + h.sum()).backward()
        found.append([p.grad for p in module.parameters()])
    assert_same(*found)


def test_a_tensor_of_zeros_without_memory():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, ours = pair("GRU", 3, 4)
        zeros = torch._efficientzerotensor((5, 2, 3))
        try:
            expected = leaves(theirs(zeros))
        except RuntimeError as error:
            with pytest.raises(RuntimeError, match=re.escape(str(error)[:40])):
                ours(zeros)
        else:
            assert_same(leaves(ours(zeros)), expected, 1e-6)


def test_a_weight_changed_before_backward_is_an_error():
    module = fast.LSTM(3, 4)
    y = module(torch.randn(5, 2, 3))[0]
    with torch.no_grad():
        module.weight_hh_l0.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def change_in_place(module):
    with torch.no_grad():
        module.weight_hh_l0.mul_(0.5)


def change_data(module):
    module.weight_hh_l0.data.mul_(0.5)


def change_one_row(module):
    module.weight_hh_l0.data[7] = 0.25


def change_storage(module):
    module.weight_hh_l0.data = torch.randn_like(module.weight_hh_l0)


def change_parameter(module):
    module.weight_hh_l0 = nn.Parameter(torch.randn_like(module.weight_hh_l0))


def change_by_numpy(module):
    module.bias_hh_l0.detach().numpy()[3] += 1


def change_type(module):
    module.double()


CHANGES = [change_in_place, change_data, change_one_row, change_storage, change_parameter, change_by_numpy, change_type]


@pytest.mark.parametrize("units", [6, 80])
@pytest.mark.parametrize("change", CHANGES)
def test_changed_weights_are_seen(change, units):
    theirs, ours = pair("LSTM", 3, units)
    x = torch.randn(5, 2, 3)
    with torch.no_grad():
        before = ours(x)[0]
        change(ours)
        theirs.to(ours.weight_hh_l0.dtype).load_state_dict(ours.state_dict())
        x = x.to(ours.weight_hh_l0.dtype)
        after = ours(x)[0]
        assert not torch.equal(before, after)
        assert_same([after], [theirs(x)[0]], 1e-5)


def turn(module):
    for name in ("weight_ih", "weight_hh"):
        weight = next(p for key, p in module.named_parameters() if key.startswith(name))
        weight.data = weight.data.t()


def repeat_the_first(module):
    bias = next(p for key, p in module.named_parameters() if key.startswith("bias_ih"))
    bias.data = bias.data[:1].expand(len(bias))


def take_relu(module):
    module.nonlinearity, mode = "relu", "RNN_RELU"
    if isinstance(module, nn.RNN):
        module.mode = mode


@pytest.mark.parametrize("change", [turn, repeat_the_first, take_relu])
@pytest.mark.parametrize("kind", ["RNN", "RNNCell"])
def test_the_same_memory_read_in_another_way(kind, change):
    theirs, ours = pair(kind, 6, 6)
    x = torch.randn(4, 6)
    with torch.no_grad():
        for _ in range(2):  # the second is the short way of cells
            assert_same(leaves(ours(x)), leaves(theirs(x)), 1e-6)
        change(theirs)
        change(ours)
        assert_same(leaves(ours(x)), leaves(theirs(x)), 1e-6)


def test_computed_weights():
    theirs, ours = pair("GRU", 3, 4, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    for scale in (1.0, 0.5, 2.0):
        weights = {name: p.detach() * scale for name, p in ours.named_parameters()}
        assert_same(leaves(torch.func.functional_call(ours, weights, x)), leaves(torch.func.functional_call(theirs, weights, x)))
    for module in (theirs, ours):
        prune.l1_unstructured(module, "weight_hh_l0", amount=0.5)
    assert_same(leaves(ours(x)), leaves(theirs(x)))


def test_training_goes_as_torchs():
    torch.manual_seed(0)
    theirs, ours = pair("LSTM", 3, 8, num_layers=2, dtype=torch.float64)
    x, target = torch.randn(7, 4, 3, dtype=torch.float64), torch.randn(7, 4, 8, dtype=torch.float64)
    for module in (ours, theirs):
        optimizer = torch.optim.Adam(module.parameters(), 0.01)
        for _ in range(10):
            optimizer.zero_grad()
            (module(x)[0] - target).square().mean().backward()
            nn.utils.clip_grad_norm_(module.parameters(), 0.1)
            optimizer.step()
    assert_same(list(ours.parameters()), list(theirs.parameters()), 1e-8)


def test_dropout_between_layers():
    torch.manual_seed(0)
    module = fast.GRU(4, 64, num_layers=2, dropout=0.4)
    x = torch.randn(20, 8, 4, requires_grad=True)
    torch.manual_seed(5)
    first = module(x)[0]
    assert not torch.equal(first, module(x)[0])
    torch.manual_seed(5)
    assert torch.equal(first, module(x)[0])  # torch.manual_seed rules
    grads = [torch.autograd.grad(first.sum(), x, retain_graph=True)[0] for _ in range(2)]
    assert torch.equal(*grads)  # the second pass has the first one's masks
    theirs, ours = pair("GRU", 4, 64, num_layers=2, dropout=0.4)
    assert_same(leaves(ours.eval()(x)), leaves(theirs.eval()(x)), 1e-5)
    # the upper layer sees units kept with probability 0.6 and scaled by 1 / 0.6: with identity-like weights the mean stays and zeros appear
    relu = fast.RNN(8, 8, num_layers=2, dropout=0.4, nonlinearity="relu", bias=False)
    with torch.no_grad():
        for name, p in relu.named_parameters():
            p.copy_(torch.eye(8) if "ih" in name else torch.zeros(8, 8))
        y = relu(torch.ones(200, 20, 8))[0]
    assert y.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    assert float((y == 0).double().mean()) == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"])
def test_the_same_class_in_all_but_forward(kind):
    torch.manual_seed(3)
    theirs = getattr(nn, kind)(3, 4)
    torch.manual_seed(3)
    ours = getattr(fast, kind)(3, 4)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    theirs.load_state_dict(ours.state_dict())


def test_copies_and_files():
    module = nn.Sequential(fast.LSTM(3, 4, num_layers=2))
    x = torch.randn(5, 2, 3)
    expected = module(x)[0]
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(file, weights_only=False)):
        assert "_rnnfast" not in copied[0].__dict__
        assert torch.equal(copied(x)[0], expected)
        copied[0].weight_hh_l0.data.zero_()
    assert torch.equal(module(x)[0], expected)


class Tagger(nn.Module):
    """A model with modules of all kinds, one of them shared."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.body = nn.ModuleDict({"encoder": nn.LSTM(4, 3, bidirectional=True, batch_first=True), "gru": nn.GRU(6, 6, batch_first=True)})
        self.cell = nn.GRUCell(6, 6)
        self.same = self.cell

    def forward(self, tokens):
        x = self.body["gru"](self.body["encoder"](self.embedding(tokens))[0])[0]
        return self.same(x[:, -1], self.cell(x[:, 0]))


def test_accelerate_and_restore():
    model, tokens = Tagger(), torch.randint(0, 10, (2, 5))
    before, parameters, gru = model(tokens), list(model.parameters()), model.body["gru"]
    calls = []
    gru.register_forward_hook(lambda *_: calls.append("hook"))
    assert fast.accelerate(model) is model
    assert type(gru) is fast.GRU
    assert model.body["gru"] is gru and model.same is model.cell
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert_same([model(tokens)], [before], 1e-6)
    assert calls
    fast.restore(model)
    assert type(gru) is nn.GRU
    assert "_rnnfast" not in gru.__dict__
    assert torch.equal(model(tokens), before)


def test_accelerate_leaves_other_classes():
    class Own(nn.LSTM):
        pass

    model = nn.Sequential(Own(3, 4))
    with pytest.warns(UserWarning, match="'0' is a Own"):
        fast.accelerate(model)
    assert type(model[0]) is Own


def test_hooks_and_gradients_that_add_up():
    theirs, ours = pair("LSTM", 3, 4, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    for module in (ours, theirs):
        module.weight_ih_l0.register_hook(lambda g: g * 2)
        for _ in range(2):
            module(x)[0].sum().backward()
    assert_same([p.grad for p in ours.parameters()], [p.grad for p in theirs.parameters()])
    assert all(p.grad.is_contiguous() for p in ours.parameters())


def test_shared_parameters():
    theirs, ours = pair("GRU", 4, 4, num_layers=2, dtype=torch.float64)
    for module in (theirs, ours):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            setattr(module, f"{name}_l1", getattr(module, f"{name}_l0"))
    x = torch.randn(5, 2, 4, dtype=torch.float64)
    assert_same(everything(ours, x, None), everything(theirs, x, None))


def test_stacks_as_wavefronts(monkeypatch):
    """Where the layers of a plan without a backward part become one op."""
    monkeypatch.setattr("rnnfast.plan.schedule.Wave.better", lambda *estimates: True)
    before = rnnfast.get_num_threads()
    rnnfast.set_num_threads(2)
    try:
        for kind in ("LSTM", "GRU", "RNN"):
            theirs, ours = pair(kind, 4, 5, num_layers=3)
            x = torch.randn(9, 2, 4)
            with torch.no_grad():
                torch.testing.assert_close(ours(x)[0], theirs(x)[0])
            torch.testing.assert_close(ours(x)[0], theirs(x)[0])
    finally:
        rnnfast.set_num_threads(before)


@pytest.mark.filterwarnings("ignore:rnnfast.torch")
def test_what_torch_takes_over():
    theirs, ours = pair("GRU", 3, 4)
    x = torch.randn(5, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x)[0].dtype is theirs(x)[0].dtype
    with pytest.raises(RuntimeError, match="Batching rule not implemented"):  # which torch does not have either
        torch.vmap(lambda x: ours(x)[0], in_dims=1)(x.unsqueeze(2))
    half = copy.deepcopy(ours).bfloat16()
    assert half(x.bfloat16())[0].dtype is torch.bfloat16
    meta = fast.LSTM(3, 4, device="meta")
    assert meta(torch.empty(5, 2, 3, device="meta"))[0].shape == (5, 2, 4)
    assert fast.RNN(3, 4)(torch.zeros(5, 0, 3))[0].shape == (5, 0, 4)


def test_says_once_that_torch_takes_over(monkeypatch):
    monkeypatch.setattr("rnnfast.torch.fallback._warned", set())
    module, x = fast.LSTM(3, 4).bfloat16(), torch.randn(5, 2, 3).bfloat16()
    with pytest.warns(UserWarning, match=r"dtype torch.bfloat16 is not supported"):
        module(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module(x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["LSTM", "GRUCell"])
def test_compiled_module_is_torchs(kind):
    theirs, ours = pair(kind, 3, 4)
    x = torch.randn(5, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of a compiler that reads the engine's functions
        assert_same(leaves(torch.compile(nn.Sequential(ours), backend="eager")(x)), leaves(theirs(x)), 1e-6)
    assert "_rnnfast" not in ours.__dict__
    ours(x)
    assert "_rnnfast" in ours.__dict__


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_scripted_module_is_torchs():
    module = nn.Sequential(fast.GRU(3, 4))
    x = torch.randn(5, 2, 3)
    assert_same([torch.jit.script(module)(x)[0]], [module(x)[0]], 1e-6)


BAD = [
    ("LSTM", lambda: (torch.randn(5, 2, 4),)), ("LSTM", lambda: (torch.randn(5, 2, 3).double(),)), ("GRU", lambda: (torch.randn(3),)),
    ("GRU", lambda: (torch.randn(5, 2, 3), torch.randn(1, 3, 4))), ("LSTM", lambda: (torch.randn(5, 2, 3), (torch.randn(2, 4), torch.randn(2, 4)))),
    ("RNN", lambda: (torch.randn(0, 2, 3),)), ("LSTMCell", lambda: (torch.randn(2, 4),)), ("GRUCell", lambda: (torch.randn(2, 3), torch.randn(3, 4))),
    ("LSTMCell", lambda: (torch.randn(2, 3), torch.randn(2, 2, 4))),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "arguments"), BAD)
def test_errors_are_torchs(kind, arguments):
    theirs, ours = pair(kind, 3, 4)
    arguments = arguments()
    with pytest.raises((RuntimeError, ValueError, TypeError)) as expected:
        theirs(*arguments)
    with pytest.raises(expected.type) as found:
        ours(*arguments)
    assert str(found.value) == str(expected.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("module", "shape"), [(fast.LSTM(4, 8, num_layers=2), (12, 3, 4)), (fast.LSTMCell(4, 8), (3, 4)), (fast.GRUCell(4, 40), (3, 4))])
def test_threads(module, shape):
    x = torch.randn(shape)

    def outcome():
        first = module(x)
        first = first[0] if isinstance(first, tuple) else first
        return [first, *(torch.autograd.grad(first.square().sum(), list(module.parameters())) if torch.is_grad_enabled() else ())]

    expected = outcome()
    wrong = []

    def work():
        for i in range(30):
            with torch.set_grad_enabled(i % 2 == 0):
                if not all(torch.equal(found, right) for found, right in zip(outcome(), expected, strict=False)):
                    wrong.append(i)

    team = [threading.Thread(target=work) for _ in range(3)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    assert not wrong


class Encoded(torch.utils.data.Dataset):
    """Samples that a module makes in a loader's worker."""

    def __init__(self, module):
        self.module = module

    def __len__(self):
        return 4

    def __getitem__(self, i):
        with torch.no_grad():
            return self.module(torch.full((30, 8, 32), float(i)))[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_loader_workers():
    module = fast.GRU(32, 64)
    data = Encoded(module)
    expected = [data[i] for i in range(4)]
    for i, y in enumerate(torch.utils.data.DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="fork")):
        assert torch.equal(y, expected[i])


@pytest.mark.parametrize("mode", ["inference", "made in inference", "no grad"])
def test_modes_without_gradients(mode):
    theirs, ours = pair("LSTM", 3, 4)
    x = torch.randn(5, 2, 3)
    if mode == "made in inference":
        with torch.inference_mode():
            theirs, ours = pair("LSTM", 3, 4)
    with torch.no_grad() if mode == "no grad" else torch.inference_mode():
        assert_same(leaves(ours(x)), leaves(theirs(x)), 1e-6)
        change_in_place(ours)
        change_in_place(theirs)
        assert_same(leaves(ours(x)), leaves(theirs(x)), 1e-6)
    if mode == "inference":
        assert_same(everything(ours, x, None), everything(theirs, x, None), 1e-5)


def test_checkpointed():
    theirs, ours = pair("GRU", 3, 4, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    for reentrant in (True, False):
        run = lambda module, reentrant=reentrant: torch.utils.checkpoint.checkpoint(lambda x: module(x)[0], x, use_reentrant=reentrant)
        found = []
        for module in (ours, theirs):
            module.zero_grad()
            run(module).sum().backward()
            found.append([p.grad for p in module.parameters()])
        assert_same(*found)


def test_pytorchs_own_inputs(monkeypatch):
    common = require("torch.testing._internal.common_modules")  # which needs expecttest
    calls = []
    original = fast.LSTM._call
    monkeypatch.setattr("rnnfast.torch.modules.Accelerated._call", lambda *given, **more: calls.append(1) or original(*given, **more))
    kinds = [nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell]
    cases = 0
    for info in (info for info in common.module_db if info.module_cls in kinds):
        for case in info.module_inputs_func(info, device="cpu", dtype=torch.float64, requires_grad=True, training=True):
            made, given = case.constructor_input, case.forward_input
            theirs, ours = pair(info.module_cls.__name__, *made.args, **made.kwargs, dtype=torch.float64)
            found = []
            for module in (ours, theirs):
                outputs = leaves(module(*given.args, **given.kwargs))
                found.append([*outputs, *torch.autograd.grad([y.square().sum() for y in outputs], list(module.parameters()))])
            assert_same(*found)
            cases += 1
    assert cases == len(calls) > 80


@pytest.mark.parametrize("other", [torch.zeros(400, 3), torch.zeros(8, 300), torch.zeros(8, 3, dtype=torch.float64)])
def test_a_weight_of_another_size_is_not_written_beyond_the_panels(other):
    """Sizes of the tensors that stand there now count, not those that the module was made with."""
    from rnnfast.torch.weights import turn

    target = torch.full((6, 8), 7.0)
    whole = target[:3]
    if other.shape == (8, 3):
        turn(other, whole)
        assert (whole == 0).all()
    else:
        with pytest.raises(RuntimeError):
            turn(other, whole)
    assert (target[3:] == 7).all()
