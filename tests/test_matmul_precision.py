"""float32 products by parts of bfloat16: how exact 1, 2 and 3 parts are, what the three words do, and that tiles keep every promise about bits but the named one.

No CPU with AMX is needed: all that stands around the tile instructions runs on tiles in plain C. Where there is AMX, everything runs on it too."""

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Sequential, _report, layers
from rnnfast._engine import cpu

EPS = 2.0**-24
# a part leaves at most 2^-8 of what it is taken from: what two numbers of n parts lose (three parts are the number itself), and the products that are left out
LOST = {1: 2 * 2.0**-8 + 2.0**-16, 2: 3 * 2.0**-16 + 2.0**-23, 3: 2 * 2.0**-24 + 2.0**-32}


BEFORE = cpu.tiles()


@pytest.fixture(autouse=True, params=["portable", *filter(None, [BEFORE])])
def tiles(request):
    """The tiles in use, and afterwards all as it was. Every test has the same numbers."""
    global RNG
    RNG = np.random.default_rng(7)
    cpu._use_tiles(request.param)
    yield request.param
    cpu._use_tiles(BEFORE)
    rnnfast.set_float32_matmul_precision("highest")


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def bound(a, w, bias, parts):
    """Of the error: what the parts lose, and a rounding for each addition: 17 in a line of k, then one for each of its products."""
    sizes = np.abs(a.astype(float)) @ np.abs(w.astype(float))
    additions = 17 + 1 + -(-a.shape[1] // 32) * (parts * (parts + 1) // 2)
    return LOST[parts] * sizes + 1.01 * additions * EPS * ((1 + LOST[parts]) * sizes + np.abs(bias))


def check(a, w, bias, parts):
    got = cpu.split_matmul(a, w, bias, parts)
    want = a.astype(float) @ w.astype(float) + bias
    assert np.all(np.abs(got - want) <= bound(a, w, bias, parts))
    return got


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 1, 1), (16, 32, 16), (17, 33, 65), (32, 64, 48), (40, 257, 130)])
def test_products_of_any_size(parts, shape):
    rows, depth, columns = shape
    check(normal(rows, depth), normal(depth, columns), normal(columns), parts)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_sums_that_cancel(parts):
    half, w = normal(16, 64), normal(64, 32)
    a, w = np.concatenate([half, -half], axis=1), np.concatenate([w, w * np.float32(1 + 2.0**-20)])
    check(a, w, np.zeros(32, np.float32), parts)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_huge_ranges(parts):
    a = normal(16, 96) * np.exp2(RNG.integers(-60, 60, (16, 96))).astype(np.float32)
    w = normal(96, 32) * np.exp2(RNG.integers(-40, 40, (96, 32))).astype(np.float32)
    check(a, w, normal(32), parts)


def test_three_parts_are_no_worse_than_a_chain():
    a, w = normal(32, 256), normal(256, 128)
    want = a.astype(float) @ w.astype(float)
    parts = cpu.split_matmul(a, w, np.zeros(128, np.float32), 3)
    chain = np.zeros_like(parts)
    for k in range(256):
        chain = (chain.astype(float) + a[:, k : k + 1].astype(float) * w[k]).astype(np.float32)
    assert np.sqrt(np.mean((parts - want) ** 2)) <= np.sqrt(np.mean((chain - want) ** 2))


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_infinities_and_nan_are_those_of_a_plain_product(parts):
    a, w = np.full((16, 33), 0.75, np.float32), np.full((33, 16), 0.3, np.float32)
    a[0, 3] = np.inf
    a[1, 5] = -np.inf
    a[2, 3], a[2, 4] = np.inf, -np.inf
    a[3, 32] = np.nan
    a[4, 7] = np.inf
    w[7, 2] = 0
    w[9, 3] = np.inf
    a[5, 9], a[6, 9] = 0, -1.0
    a[7, 9] = -np.inf
    w[12, 4] = -np.float32(1 / 3)
    a[8, 12] = np.inf
    with np.errstate(invalid="ignore"):
        want = a.astype(float) @ w.astype(float)
    got = cpu.split_matmul(a, w, np.zeros(16, np.float32), parts)
    plain = np.isfinite(want)
    assert 0 < plain.sum() < plain.size
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(got[np.isinf(want)], want[np.isinf(want)])
    assert np.isfinite(got[plain]).all()


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_largest_and_subnormal_numbers(parts):
    largest = np.finfo(np.float32).max
    a, w = np.array([[largest, 0], [-largest, 0], [1e-39, 1e-39], [1, 1]], np.float32), np.array([[0.25], [1e-40]], np.float32)
    got = cpu.split_matmul(a, w, np.zeros(1, np.float32), parts)[:, 0]
    np.testing.assert_allclose(got[:2], [largest / 4, -largest / 4], rtol=LOST[parts] + 4 * EPS)
    assert got[2] == 0  # read as zeros, as everywhere in the engine
    assert got[3] == 0.25


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_row_does_not_depend_on_those_beside_it(parts):
    a, w, bias = normal(37, 70), normal(70, 50), normal(50)
    whole = cpu.split_matmul(a, w, bias, parts)
    order = RNG.permutation(37)
    np.testing.assert_array_equal(cpu.split_matmul(np.ascontiguousarray(a[order]), w, bias, parts), whole[order])
    for row in (0, 20, 36):
        np.testing.assert_array_equal(cpu.split_matmul(a[row : row + 1], w, bias, parts)[0], whole[row])


CELLS = {
    "SimpleRNN": lambda dtype: layers.SimpleRNN(257, return_sequences=True, dtype=dtype),
    "LSTM": lambda dtype: layers.LSTM(257, return_sequences=True, dtype=dtype),
    "GRU": lambda dtype: layers.GRU(256, return_sequences=True, dtype=dtype),
    "GRU, reset before": lambda dtype: layers.GRU(256, reset_after=False, return_sequences=True, dtype=dtype),
    "Bidirectional": lambda dtype: layers.Bidirectional(layers.SimpleRNN(256, return_sequences=True, dtype=dtype), dtype=dtype),
    "Statal": lambda dtype: layers.Statal(256, state="trace", slots=2, return_sequences=True, dtype=dtype),
}


def net(cell, dtype="float32"):
    rnnfast.utils.set_random_seed(1)
    return Sequential([Input((None, 40), dtype=dtype), CELLS[cell](dtype), layers.Dense(33, dtype=dtype)])


@pytest.mark.parametrize("cell", CELLS)
def test_layers_compute_the_same_function(cell):
    """Beside float64 with the same weights; an error grows little from step to step."""
    model, exact, x = net(cell), net(cell, "float64"), normal(18, 3, 40)
    exact.set_weights(model.get_weights())
    want = exact.predict(x.astype(float))
    errors = {}
    for word in ("highest", "high", "medium"):
        rnnfast.set_float32_matmul_precision(word)
        errors[word] = np.abs(model.predict(x) - want).max()
    assert errors["highest"] < 1e-5
    assert errors["high"] < 1e-4
    assert errors["highest"] < errors["medium"] < 1e-1


def test_same_bits_for_any_threads_order_and_padding():
    rnnfast.set_float32_matmul_precision("high")
    model, x, lengths = net("GRU"), normal(19, 4, 40), RNG.integers(1, 5, 19)
    threads = rnnfast.get_num_threads()
    found = []
    for n in (1, 2):
        rnnfast.set_num_threads(n)
        found.append(model.predict(x, lengths=lengths))
    rnnfast.set_num_threads(threads)
    np.testing.assert_array_equal(*found)
    order = RNG.permutation(19)
    np.testing.assert_array_equal(model.predict(x[order], lengths=lengths[order]), found[0][order])
    padded = np.concatenate([x, normal(19, 2, 40)], axis=1)
    np.testing.assert_array_equal(model.predict(padded, lengths=lengths)[:, :4], found[0])


@pytest.mark.parametrize("word", ["high", "medium"])
def test_first_step_leaves_out_a_state_of_zero(word):
    rnnfast.set_float32_matmul_precision(word)
    layer, x = layers.GRU(256, return_sequences=True), normal(70, 2, 40)
    assert np.array_equal(layer(x), layer(x, initial_state=[np.zeros((70, 256), np.float32)]))


def test_a_pool_has_the_bits_of_a_batch_of_its_capacity():
    rnnfast.set_float32_matmul_precision("high")
    model, x = net("LSTM"), normal(16, 2, 40)
    pool, whole = model.stream_pool(16), model.predict(x)
    ids = [pool.open() for _ in range(16)]
    for t in range(2):
        got = pool.step(dict(zip(ids, x[:, t], strict=True)))
        np.testing.assert_array_equal(np.stack([got[i] for i in ids]), whole[:, t])


def test_a_row_alone_is_exact_at_every_word():
    model, x = net("LSTM"), normal(1, 3, 40)
    want = model.predict(x)
    rnnfast.set_float32_matmul_precision("medium")
    np.testing.assert_array_equal(model.predict(x), want)
    np.testing.assert_array_equal(model.stream().process(x[0]), want[0])


def test_the_words_give_the_same_bits_without_tiles():
    cpu._use_tiles("")
    model, x = net("LSTM"), normal(16, 2, 40)
    want = model.predict(x)
    for word in ("high", "medium"):
        rnnfast.set_float32_matmul_precision(word)
        np.testing.assert_array_equal(model.predict(x), want)
    assert f"precision={word} (as highest: no AMX)" in str(model.plan(16, 2))


def test_float64_and_small_layers_stay_as_they_are():
    rnnfast.set_float32_matmul_precision("medium")
    for model in (net("LSTM", "float64"), Sequential([Input((None, 8)), layers.LSTM(64)])):
        assert "bfloat16" not in str(model.plan(32, 2)).partition("\n")[2]


def test_a_plan_says_what_was_chosen(tiles):
    model = net("LSTM")
    assert "bfloat16" not in str(model.plan(16, 2))
    rnnfast.set_float32_matmul_precision("high")
    assert f"precision=high ({tiles})" in str(model.plan(16, 2)).splitlines()[0]
    assert "W=2x bfloat16 R=2x bfloat16" in str(model.plan(16, 2))
    assert "257 -> 33 linear W=2x bfloat16" in str(model.plan(16, 2))
    assert "bfloat16" not in str(model.plan(15, 2)).partition("\n")[2]


def test_plans_follow_the_setting():
    model, x = net("LSTM"), normal(16, 2, 40)
    first = model.predict_on_batch(x)
    rnnfast.set_float32_matmul_precision("medium")
    coarse = model.predict_on_batch(x)
    rnnfast.set_float32_matmul_precision("highest")
    assert np.abs(coarse - first).max() > 1e-5
    np.testing.assert_array_equal(model.predict_on_batch(x), first)


@pytest.mark.parametrize("word", ["high", "medium"])
def test_training_follows_the_gradient_of_highest(word):
    """The forward products are split; what goes back is exact for what went forward."""
    x, dy = normal(16, 3, 40), normal(16, 3, 33)
    model = net("LSTM")
    want = model.runner().vjp(x, dy)
    rnnfast.set_float32_matmul_precision(word)
    got = model.runner().vjp(x, dy)
    for one, other in zip([got["x"], *got["weights"]], [want["x"], *want["weights"]], strict=True):
        assert np.abs(one - other).max() <= {"high": 1e-4, "medium": 3e-2}[word] * np.abs(other).max()


def test_a_model_trains_and_its_panels_follow_its_weights():
    rnnfast.set_float32_matmul_precision("medium")
    model, x, y = net("SimpleRNN"), normal(16, 2, 40), normal(16, 2, 33)
    model.compile(rnnfast.optimizers.Adam(1e-3), "mse")
    losses = [model.train_on_batch(x, y) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    np.testing.assert_allclose(model.evaluate(x, y), np.mean((model.predict(x) - y) ** 2), rtol=1e-5)


def test_the_setting(tiles):
    assert rnnfast.get_float32_matmul_precision() == "highest"
    with pytest.raises(ValueError, match=r"must be 'highest', 'high' or 'medium', got 'hihg'\. Did you mean 'high'"):
        rnnfast.set_float32_matmul_precision("hihg")
    with pytest.raises(ValueError, match="got None"):
        rnnfast.set_float32_matmul_precision(None)
    rnnfast.set_float32_matmul_precision("high")
    assert rnnfast.get_float32_matmul_precision() == "high"
    assert _report.config()["precision"] == f"high (bfloat16 tiles: {tiles})"
