"""Calls of an ONNX graph with shapes that came before, which go from array to array: the same numbers and errors as step by step, and results that nothing changes later."""

import threading

import numpy as np
import pytest

import rnnfast
from rnnfast.layers.runner import PLANS_KEPT
from tests.interop.onnx_cases import graph, judged, onnx, recurrent_arrays, repeated, value
from tests.interop.onnx_models import decoder, tagger

MAKE = onnx.helper.make_node


def ready(model):
    return rnnfast.from_onnx(model.SerializeToString())


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("f")


def stepwise(model, feeds):
    """The outputs of a model that has not run before."""
    return ready(model).run(feeds)


def test_shapes_that_come_and_go():
    for model, make in ((tagger(), lambda t, b: {"x": numbers(t, b, 4, seed=t)}), (decoder(), lambda t, b: {"x": numbers(t, b, 4, seed=t), "h_in": numbers(2, b, 6)})):
        one = ready(model)
        for t, b in ((1, 1), (1, 1), (1, 1), (7, 2), (1, 1), (7, 2), (7, 2), (0, 2), (0, 2), (0, 2), (1, 1)):
            feeds = make(t, b)
            found = one.run(feeds)
            for name, expected in stepwise(model, feeds).items():
                np.testing.assert_array_equal(found[name], expected, strict=True)


def test_results_are_the_callers():
    one, xs = ready(tagger()), [numbers(4, 2, 4, seed=seed) for seed in range(6)]
    before = [one(x) for x in xs]
    kept = [y.copy() for y in before]
    for y, same in zip(before, kept, strict=True):
        np.testing.assert_array_equal(y, same)
    for x, y, same in zip(xs, before, kept, strict=True):
        y[...] = 9
        np.testing.assert_array_equal(one(x), same)


def test_outputs_of_one_value_share_no_memory():
    nodes = [MAKE("Neg", ["x"], ["a"]), MAKE("Identity", ["a"], ["b"]), MAKE("Transpose", ["a"], ["c"]), MAKE("Shape", ["a"], ["s"])]
    one = ready(graph(nodes, [value("x", None, ["m", "n"])], ["a", "b", "c", "s", "k"], {"k": np.ones(2, "f")}))
    x = numbers(2, 3)
    for _ in range(4):
        a, b, c, s, k = one(x)
        assert np.array_equal(a, -x) and np.array_equal(b, -x) and np.array_equal(c, -x.T) and s.tolist() == [2, 3] and k.tolist() == [1, 1]
        for array in (a, b, c, s, k):
            array[...] = 9


def test_inputs_of_any_kind():
    one, x = ready(tagger()), numbers(6, 2, 4)
    expected = one(x)
    for same in (x.astype("f8"), x.tolist(), np.asfortranarray(x), np.repeat(x, 2, 0)[::2], x.astype(">f4"), np.ma.array(x), x):
        np.testing.assert_array_equal(one(same), expected)
    with pytest.raises(TypeError, match="input 'x' must be float32, got complex128"):
        one(x.astype(complex))
    with pytest.raises(ValueError, match="no input is called 'z'"):
        one.run({"x": x, "z": x})
    with pytest.raises(ValueError, match="input 'x' must be given"):
        one.run({})


def test_wrong_numbers_name_their_node():
    one = ready(graph([MAKE("Gather", ["table", "x"], ["row"]), MAKE("Neg", ["row"], ["y"])], [value("x", np.zeros(1, np.int64), ["n"])], ["y"], {"table": numbers(5, 3)}))
    for at in ([1, 2], [0, 4], [-5, 3]):
        assert one(np.array(at)).shape == (2, 3)
    for _ in range(2):
        with pytest.raises(rnnfast.ShapeError, match=r"node 'row' \(Gather\): .*out of bounds"):
            one(np.array([1, 5]))
    assert one(np.array([3, 3])).shape == (2, 3)


def test_shapes_that_numbers_decide():
    nodes = [MAKE("Range", ["zero", "x", "one"], ["r"]), MAKE("Unsqueeze", ["x", "axes"], ["u"]), MAKE("Expand", ["k", "u"], ["e"])]
    weights = {"zero": np.array(0), "one": np.array(1), "axes": np.array([0]), "k": np.ones(1, "f")}
    one = ready(graph(nodes, [value("x", np.array(3))], ["r", "e"], weights))
    for n in (3, 3, 3, 5, 5, 2, 0, 3):
        r, e = one(np.array(n))
        assert r.tolist() == list(range(n)) and e.tolist() == [1] * n
    with pytest.raises(rnnfast.FormatError, match="is not allowed"):
        one(np.array(1 << 40))


def test_no_warnings_of_floats():
    one = ready(graph([MAKE("Div", ["x", "x"], ["d"]), MAKE("Log", ["x"], ["l"])], [value("x", None, ["n"])], ["d", "l"]))
    for _ in range(4):
        d, logs = one(np.array([0, 1, -1], "f"))
        assert np.isnan(d[0]) and d[1] == 1 and logs[0] == -np.inf and np.isnan(logs[2])


def test_a_left_out_output_is_no_input():
    arrays = {f"{name}{i}": array for i in (0, 1) for name, array in recurrent_arrays("LSTM", np.random.default_rng(i), sizes=(1, 1, 4, 4), leave="XHCLP").items()}
    nodes = [
        MAKE("LSTM", ["x", "W0", "R0", "B0"], ["y", "", "c"], hidden_size=4), MAKE("Squeeze", ["y", "one"], ["s"]),
        MAKE("LSTM", ["s", "W1", "R1", "B1", "", "c"], ["z", "", "last"], hidden_size=4),
    ]  # fmt: skip
    model = graph(nodes, [value("x", None, ["t", "b", 4])], ["z", "last"], arrays | {"one": np.array([1])})
    feeds = {"x": numbers(5, 2, 4)}
    for found, expected in zip(repeated(ready(model), feeds).values(), judged(model, feeds), strict=True):
        np.testing.assert_allclose(found, expected, atol=3e-6)


def test_what_is_kept_has_a_bound():
    one = ready(tagger())
    for time in range(1, 2 * PLANS_KEPT):
        for _ in range(3):
            one(numbers(time, 1, 4))
    assert len(one._program.kept) == PLANS_KEPT
    x = numbers(3000, 10, 4)
    assert np.array_equal(one(x), one(x)) and np.array_equal(one(x), stepwise(tagger(), {"x": x})["out"])
    assert not one._program.kept[next(reversed(one._program.kept))].standing  # too large to stay


@pytest.mark.parametrize("model", [tagger, decoder])
def test_threads(model):
    one, made = ready(model()), model()
    feeds = [{name: numbers(*shape, seed=seed) for name, shape in ((n, s) for n, s in (("x", (20, 2, 4)), ("h_in", (2, 2, 6))) if n in one.inputs)} for seed in range(6)]
    expected = [stepwise(made, one_feed) for one_feed in feeds]
    wrong = []

    def call(feed, right):
        for _ in range(60):
            found = one.run(feed)
            if any(not np.array_equal(found[name], right[name]) for name in right):
                wrong.append(feed)

    threads = [threading.Thread(target=call, args=pair) for pair in zip(feeds, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_another_number_of_threads():
    one, x, before = ready(tagger()), numbers(40, 9, 4), rnnfast.get_num_threads()
    expected = one(x)
    try:
        for threads in (1, 2, 1, 2):
            rnnfast.set_num_threads(threads)
            for _ in range(3):
                np.testing.assert_array_equal(one(x), expected)
    finally:
        rnnfast.set_num_threads(before)
