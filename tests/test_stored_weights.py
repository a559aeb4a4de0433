"""Weights stored as bfloat16 or int8: what they decode to, how far results are from those of the decoded weights, and that their bits depend on nothing else."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import rnnfast
from rnnfast import FormatError, Input, Model, Sequential, layers
from rnnfast._engine import cpu
from tests.reference import layers as oracle

MODES = ["bfloat16", "int8"]
CELLS = {
    "rnn": (layers.SimpleRNN, {}), "lstm": (layers.LSTM, {}), "gru": (layers.GRU, {}), "gru before": (layers.GRU, {"reset_after": False}),
    "peephole": (layers.PeepholeLSTM, {}), "mingru": (layers.MinGRU, {}), "indrnn": (layers.IndRNN, {}),
}  # fmt: skip
INPUTS, UNITS = 67, 77  # odd depths, and panels that are not full


def rounded(w):
    """The nearest bfloat16, ties to even."""
    bits = np.asarray(w, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def integers(w):
    """Scales (columns) and integers of a matrix."""
    largest = np.abs(w).max(axis=0).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inverse = np.where(largest > 1e-30, np.float32(127) / largest, np.float32(0))
    return np.where(largest > 1e-30, largest / np.float32(127), 0).astype(np.float32), np.rint(w * inverse)


def decoded(w, mode):
    """A matrix as it is stored, in float64."""
    if mode == "bfloat16":
        return rounded(w).astype(np.float64)
    scale, q = integers(w)
    return q * scale.astype(np.float64)


def dense(w, mode, activation=None):
    model = Sequential([Input((w.shape[0],)), layers.Dense(w.shape[1], use_bias=False, activation=activation)])
    model.set_weights([w])
    model.quantize(mode)
    return model


def recurrent(name, rng, mode=None, sequences=True, **options):
    kind, own = CELLS[name]
    model = Sequential([Input((None, INPUTS)), kind(UNITS, return_sequences=sequences, **own, **options)])
    model.set_weights([rng.standard_normal(w.shape, np.float32) * 0.15 for w in model.get_weights()])
    model.quantize(mode)
    return model


@pytest.fixture(params=["in pairs", "in fours"])
def layout(request):
    """Each of the two layouts of int8, in turn."""
    before, fours = cpu.dot4(), request.param == "in fours"
    if not cpu._use_dot4(fours):
        pytest.skip("this CPU has AVX-512 without VNNI")
    yield fours
    cpu._use_dot4(before)


@pytest.fixture
def both_layouts():
    """A function that gives the results of two layouts, of a prediction by a model that is made anew."""
    before = cpu.dot4()
    if not cpu._use_dot4(True):
        pytest.skip("this CPU has AVX-512 without VNNI")

    def both(predict):
        found = []
        for fours in (False, True):
            assert cpu._use_dot4(fours)
            found.append(predict())
        return found

    yield both
    cpu._use_dot4(before)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("depth", [64, 65, 200])
def test_what_is_stored_is_what_the_mode_says_on_every_instruction_set(mode, depth, rng):
    w = rng.standard_normal((depth, 70), np.float32) * rng.uniform(1e-3, 1e3, 70).astype(np.float32)
    stored = dense(w, mode).predict_on_batch(np.eye(depth, dtype=np.float32))
    np.testing.assert_allclose(stored, decoded(w, mode), rtol=3e-7)
    bound = np.abs(w) * 2.0**-8 if mode == "bfloat16" else np.abs(w).max(axis=0) / 127 / 2 * (1 + 1e-6)
    assert (np.abs(stored - w) <= bound).all()


@pytest.mark.parametrize("rows", [1, 2, 31])
def test_a_product_of_int8_is_within_the_rounding_of_its_operands(rows, rng):
    w, x = rng.standard_normal((300, 90), np.float32), rng.standard_normal((rows, 300), np.float32)
    y = dense(w, "int8").predict_on_batch(x)
    exact = x.astype(np.float64) @ decoded(w, "int8")
    half = np.abs(x).max(axis=1, keepdims=True) / 32767 / 2 * (1 + 1e-5)
    bound = half * np.abs(decoded(w, "int8")).sum(axis=0) + 3e-7 * np.abs(exact)
    assert (np.abs(y - exact) <= bound).all()
    assert (np.abs(y - x.astype(np.float64) @ w) <= bound + np.abs(x).sum(axis=1, keepdims=True) * np.abs(w).max(axis=0) / 254 * (1 + 1e-6)).all()


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("depth", [500, 2000, 20001])
def test_the_largest_sums_of_int8_fit(depth, rows, layout):
    model = dense(np.full((depth, 64), -3, np.float32), "int8")
    np.testing.assert_allclose(model.predict_on_batch(np.full((rows, depth), 7, np.float32)), -21.0 * depth, rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7, 24, 25, 49])
@pytest.mark.parametrize(("depth", "columns"), [(64, 64), (65, 70), (66, 100), (515, 200), (1027, 333)])
def test_bytes_in_fours_give_the_bits_of_pairs(rows, depth, columns, both_layouts, rng):
    w, x = rng.standard_normal((depth, columns), np.float32), rng.standard_normal((rows, depth), np.float32)
    w[:, 5] = np.abs(w[:, 5])
    x[0] = np.abs(x[0])
    pairs, fours = both_layouts(lambda: dense(w, "int8").predict_on_batch(x))
    assert np.array_equal(pairs, fours)


@pytest.mark.parametrize("mode", ["bfloat16", "int8"])
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("batch", [1, 2, 30])
def test_first_step_leaves_out_a_state_of_zero(name, batch, mode, layout, rng):
    layer = recurrent(name, rng, mode).layers[0]
    x = rng.standard_normal((batch, 2, INPUTS), np.float32)
    zeros = [np.zeros((batch, n), np.float32) for n in layer.state_sizes]
    assert np.array_equal(layer(x), layer(x, initial_state=zeros))


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("batch", [1, 2, 30])
def test_cells_have_the_same_bits_with_bytes_in_fours(name, batch, both_layouts, rng):
    model = recurrent(name, rng, "int8")
    x = rng.standard_normal((batch, 6, INPUTS), np.float32)

    def predict():
        same = Sequential.from_config(model.get_config())
        same.set_weights(model.get_weights())
        return same.predict_on_batch(x)

    pairs, fours = both_layouts(predict)
    assert np.array_equal(pairs, fours)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_columns_and_rows_that_are_not_finite_do_not_touch_others_in_either_layout(bad, layout, rng):
    w, x = rng.standard_normal((66, 70), np.float32), rng.standard_normal((5, 66), np.float32)
    whole = dense(w, "int8").predict_on_batch(x)
    w[7, 30], x[2, 9] = bad, bad
    y = dense(w, "int8").predict_on_batch(x)
    assert np.isnan(y[2]).all() and np.isnan(y[:, 30]).all()
    assert np.array_equal(np.delete(np.delete(y, 2, 0), 30, 1), np.delete(np.delete(whole, 2, 0), 30, 1))


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("batch", [1, 30])
def test_bfloat16_gives_the_bits_of_float32_weights_of_these_values(name, batch, rng):
    model, same = recurrent(name, rng, "bfloat16"), recurrent(name, rng)
    kept = ("kernel", "recurrent_kernel")
    same.set_weights([rounded(v.value) if v.name in kept and v.value.ndim == 2 and v.shape[0] >= 64 else v.value for v in model.weights])
    x = rng.standard_normal((batch, 6, INPUTS), np.float32)
    assert np.array_equal(model.predict_on_batch(x), same.predict_on_batch(x))
    assert not np.array_equal(model.predict_on_batch(x), (model.quantize(None), model.predict_on_batch(x))[1])


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "gru before"])
@pytest.mark.parametrize("mode", MODES)
def test_recurrent_layers_are_near_the_oracle_with_the_decoded_weights(name, mode, rng):
    model, steps = recurrent(name, rng, mode), 6
    kernel, recurrent_kernel, bias = model.get_weights()
    weights = [decoded(kernel, mode), decoded(recurrent_kernel, mode), bias]
    kind, options = CELLS[name]
    x = rng.standard_normal((4, steps, INPUTS), np.float32)
    ((expected, *_), _, _) = oracle.Recurrent(kind.__name__, weights, return_sequences=True, **options).forward(x.astype(np.float64))
    # a step's sums are off by half a unit of each operand; the gates' slopes are at most 1, and states keep at most all of their error and what R makes of it
    unit = (np.abs(x).max() * np.abs(weights[0]).sum(axis=0).max() + np.abs(weights[1]).sum(axis=0).max()) / 32767 / 2 if mode == "int8" else 0
    assert np.abs(model.predict_on_batch(x) - expected).max() <= 2e-6 + steps * unit


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("mode", MODES)
def test_the_bits_do_not_depend_on_batch_threads_padding_or_calls(name, mode, rng, threads=(1, 2)):
    model = recurrent(name, rng, mode)
    x = rng.standard_normal((30, 7, INPUTS), np.float32)
    before = rnnfast.get_num_threads()
    try:
        rnnfast.set_num_threads(threads[0])
        whole = model.predict_on_batch(x)
        rnnfast.set_num_threads(threads[1])
        assert np.array_equal(model.predict_on_batch(x), whole)
        for rows in ([4], [9, 2], list(range(29, 3, -1))):
            assert np.array_equal(model.predict_on_batch(x[rows]), whole[rows])
        lengths = rng.integers(1, 8, 30)
        ragged = model.predict_on_batch(x, lengths=lengths)
        assert all(np.array_equal(ragged[r, :n], whole[r, :n]) for r, n in enumerate(lengths))
        stream = model.stream()
        assert np.array_equal(np.concatenate([stream.process(x[5, :4]), [stream.step(x[5, t]) for t in range(4, 7)]]), whole[5])
        pool = model.stream_pool(4)
        ids = [pool.open() for _ in range(3)]
        for t in range(7):
            found = pool.step({one: x[r, t] for r, one in enumerate(ids)})
            assert all(np.array_equal(found[one], whole[r, t]) for r, one in enumerate(ids))
    finally:
        rnnfast.set_num_threads(before)


def test_large_kernels_and_stacks_shared_by_threads_give_the_same_bits(rng):
    model = Sequential([Input((None, 64)), layers.LSTM(320, return_sequences=True, recurrent_initializer="glorot_uniform"), layers.LSTM(96, return_sequences=True), layers.Bidirectional(layers.GRU(128, return_sequences=True))])
    model.quantize("int8")
    x, before = rng.standard_normal((1, 20, 64), np.float32), rnnfast.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            rnnfast.set_num_threads(threads)
            found.append(model.predict_on_batch(x))
        assert np.array_equal(*found)
    finally:
        rnnfast.set_num_threads(before)


def test_small_matrices_stay_as_they_are(rng):
    x = rng.standard_normal((3, 5, 8), np.float32)
    model = Sequential([Input((None, 8)), layers.LSTM(63, return_sequences=True), layers.Dense(9)])
    exact = model.predict_on_batch(x)
    model.quantize("int8")
    assert np.array_equal(model.predict_on_batch(x), exact)
    assert "int8" not in str(model.plan(3, 5))


def test_the_plan_and_the_summary_say_what_is_stored_how(rng):
    model = Sequential([Input((None, 8)), layers.LSTM(64, return_sequences=True), layers.TimeDistributed(layers.Dense(64)), layers.Dense(2)])
    assert "int8" not in str(model.plan(1, 9))
    model.quantize("int8")
    text = str(model.plan(1, 9)).split("\n")
    assert sum(" R=int8" in line for line in text) == 1 and sum(" W=int8" in line for line in text) == 1
    shown = []
    model.layers[0].quantize("bfloat16")
    model.summary(shown.append)
    assert "LSTM, bfloat16" in shown[0] and "TimeDistributed, int8" in shown[0]
    assert [layer.quantization_mode for layer in model.layers] == ["bfloat16", "int8", "int8"]


@pytest.mark.parametrize("mode", MODES)
def test_columns_of_zeros_tiny_huge_and_not_finite_numbers(mode, rng):
    w = rng.standard_normal((64, 70), np.float32)
    w[:, 3], w[:, 5] = 0, w[:, 5] * 1e-36
    w[:, 20] *= 5e35
    w[7, 30], w[9, 31] = np.nan, np.inf
    for rows in (1, 5):
        x = rng.standard_normal((rows, 64), np.float32)
        x[:, 9] = 0 if mode == "int8" else 1
        y = dense(w, mode).predict_on_batch(x)
        assert (y[:, 3] == 0).all() and (np.abs(y[:, 5]) < 1e-33).all()
        np.testing.assert_allclose(y[:, 20], x.astype(np.float64) @ decoded(w[:, 20:21], mode)[:, 0], rtol=1e-2, atol=1e33)
        assert np.isnan(y[:, 30]).all() and not np.isfinite(y[:, 31]).any()
        assert np.isfinite(np.delete(y, [30, 31], axis=1)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("mode", MODES)
def test_a_row_that_is_not_finite_spoils_itself_alone(mode, bad, rng):
    model = recurrent("lstm", rng, mode)
    x = rng.standard_normal((5, 4, INPUTS), np.float32)
    whole = model.predict_on_batch(x)
    x[2, 1, 3] = bad
    y = model.predict_on_batch(x)
    rest = [0, 1, 3, 4]
    assert np.array_equal(y[rest], whole[rest]) and np.array_equal(y[2, 0], whole[2, 0])
    if mode == "int8" or np.isnan(bad):
        assert np.isnan(y[2, 1:]).all()


def test_rows_of_zeros_and_of_tiny_and_huge_numbers(rng):
    w = rng.standard_normal((64, 64), np.float32)
    x = rng.standard_normal((4, 64), np.float32) * np.array([[0], [1e-34], [1e30], [1]], np.float32)
    y = dense(w, "int8").predict_on_batch(x)
    exact = x.astype(np.float64) @ decoded(w, "int8")
    assert (y[0] == 0).all() and (np.abs(y[1]) < 1e-30).all()
    np.testing.assert_allclose(y[2:] / [[1e30], [1]], exact[2:] / [[1e30], [1]], atol=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_files_and_configurations_keep_the_choice(mode, rng, tmp_path):
    model = Sequential([Input((None, 70)), layers.Bidirectional(layers.LSTM(64, return_sequences=True)), layers.GRU(64), layers.Dense(64)])
    x = rng.standard_normal((2, 5, 70), np.float32)
    exact = model.predict_on_batch(x)
    model.save(tmp_path / "float.rnnf")
    model.quantize(mode)
    stored = model.predict_on_batch(x)
    assert not np.array_equal(stored, exact)
    model.layers[1].quantize(None)
    model.save(tmp_path / "m.rnnf")
    again = rnnfast.load(tmp_path / "m.rnnf")
    assert [layer.quantization_mode for layer in again.layers] == [mode, None, mode]
    assert np.array_equal(again.predict_on_batch(x), model.predict_on_batch(x))
    assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), model.get_weights(), strict=True))
    clone = Sequential.from_config(again.get_config())
    assert [layer.quantization_mode for layer in clone.layers] == [mode, None, mode]
    assert np.array_equal(rnnfast.load(tmp_path / "float.rnnf", weights=mode).predict_on_batch(x), stored)
    again.quantize(None)
    assert np.array_equal(again.predict_on_batch(x), exact)


def test_changes_reach_plans_streams_and_other_models_that_exist(rng):
    inputs = Input((None, 64))
    layer = layers.LSTM(64, return_sequences=True)
    hidden = layer(inputs)
    one, other = Model(inputs, hidden), Model(inputs, layers.Dense(64)(hidden))
    x = rng.standard_normal((1, 5, 64), np.float32)
    exact, stream, seen = one.predict_on_batch(x), one.stream(), other.predict_on_batch(x)
    first = stream.step(x[0, 0])
    layer.quantize("int8")
    stored = one.predict_on_batch(x)
    assert not np.array_equal(stored, exact) and np.abs(stored - exact).max() < 0.02
    assert not np.array_equal(other.predict_on_batch(x), seen)
    assert np.array_equal(first, exact[0, 0]) and not np.array_equal(stream.step(x[0, 1]), exact[0, 1])
    one.set_weights([2 * w for w in one.get_weights()])
    assert not np.array_equal(one.predict_on_batch(x), stored)
    layer.quantize(None)
    one.set_weights([w / 2 for w in one.get_weights()])
    assert np.array_equal(one.predict_on_batch(x), exact) and np.array_equal(other.predict_on_batch(x), seen)


def test_a_quantized_model_is_evaluated_but_not_trained(rng):
    model = Sequential([Input((None, 64)), layers.GRU(64), layers.Dense(1)])
    x, y = rng.standard_normal((8, 5, 64), np.float32), rng.standard_normal((8, 1), np.float32)
    model.compile("adam", "mse")
    model.train_on_batch(x, y)
    loss = model.test_on_batch(x, y)
    model.quantize("int8")
    assert model.test_on_batch(x, y) != loss
    for attempt in (lambda: model.train_on_batch(x, y), lambda: model.fit(x, y, verbose=0), lambda: model.vjp(x, y)):
        with pytest.raises(ValueError, match=r"'gru.*' is quantized to int8, which is for inference alone. Call quantize\(None\) before training"):
            attempt()
    model.quantize(None)
    assert model.test_on_batch(x, y) == loss
    model.train_on_batch(x, y)
    assert model.optimizer.iterations == 2


def test_what_cannot_be_quantized_says_why(tmp_path):
    model = Sequential([Input((None, 64)), layers.GRU(64)])
    with pytest.raises(ValueError, match=r"GRU '.*': unknown quantization mode 'int4'. Did you mean 'int8'\?"):
        model.quantize("int4")
    with pytest.raises(ValueError, match=r"Embedding '.*': cannot be quantized"):
        layers.Embedding(9, 64).quantize("int8")
    with pytest.raises(ValueError, match="cannot be quantized"):
        layers.LayerNormLSTM(64).quantize("int8")
    with pytest.raises(ValueError, match="no layer that can be quantized"):
        Sequential([Input((None, 64)), layers.Flatten()]).quantize("int8")
    mixed = Sequential([Input((9,), dtype="float64"), layers.Dense(9, dtype="float64")])
    with pytest.raises(ValueError, match="only float32 layers can be quantized, this one is float64"):
        mixed.quantize("int8")
    model.quantize("int8")
    config = model.get_config()
    config["layers"][1]["quantization"] = "int3"
    with pytest.raises(ValueError, match="unknown quantization mode 'int3'"):
        Sequential.from_config(config)
    model.save(tmp_path / "m.rnnf")
    with pytest.raises((ValueError, FormatError), match="int5"):
        rnnfast.load(tmp_path / "m.rnnf", weights="int5")


def test_layers_that_are_built_later_and_states_beside_others_are_stored_too(rng):
    model = Sequential([layers.LSTM(64, return_sequences=True, zoneout=0.1), layers.Statal(64, state="trace", slots=2)])
    model.quantize("int8")
    x = rng.standard_normal((2, 4, 64), np.float32)
    model.predict_on_batch(x)
    plan = str(model.plan(2, 4))
    assert " W=int8 R=int8" in plan  # the LSTM's
    assert plan.count("W=int8") == 2 and plan.count("R=int8") == 1  # what many states enter side by side stays float32


def test_one_direction_alone():
    """Its model does not train either, and a choice that fails changes nothing."""
    model = Sequential([Input((None, 64)), layers.Bidirectional(layers.LSTM(64))])
    both = model.layers[0]
    both.backward_layer.quantize("int8")
    assert both.quantization_mode == "int8"
    assert both.forward_layer.quantization_mode is None
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="quantize"):
        model.train_on_batch(np.zeros((2, 3, 64), np.float32), np.zeros((2, 128), np.float32))
    with pytest.raises(ValueError, match="int9"):
        model.quantize("int9")
    assert [both.forward_layer.quantization_mode, both.backward_layer.quantization_mode] == [None, "int8"]


def test_threads_that_make_the_first_prediction_together(rng):
    model = Sequential([Input((None, 65)), layers.LSTM(65, return_sequences=True), layers.Dense(65)])
    x = rng.standard_normal((2, 4, 65)).astype(np.float32)
    for mode in [None, "bfloat16"] * 10:
        model.quantize(mode)
        barrier, found = threading.Barrier(2), []

        def first(barrier=barrier, found=found):
            barrier.wait()
            found.append(model.predict_on_batch(x))

        team = [threading.Thread(target=first) for _ in range(2)]
        for thread in team:
            thread.start()
        for thread in team:
            thread.join()
        expected = model.predict_on_batch(x)
        assert len(found) == 2
        assert all((one == expected).all() for one in found)
