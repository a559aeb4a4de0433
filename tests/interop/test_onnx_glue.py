"""The operators between the recurrences: against onnxruntime, in the forms of the opsets that changed them."""

import numpy as np
import pytest

import rnnfast
from rnnfast.interop.onnx.operators import OPERATORS
from tests.interop.onnx_cases import graph, judged, onnx, repeated, value

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 8)).astype("f")
M, N = RNG.standard_normal((2, 3)).astype("f"), RNG.standard_normal((3, 4)).astype("f")
POSITIVE = np.abs(X) + 0.1
I = lambda *values: np.array(values, np.int64)
CHANNELS = [RNG.standard_normal(3).astype("f") for _ in range(3)] + [np.abs(RNG.standard_normal(3)).astype("f") + 0.1]
SAME = ("Neg", "Abs", "Sign", "Exp", "Floor", "Ceil", "Round", "Sin", "Cos", "Tanh", "Sigmoid", "Softplus", "Softsign", "Mish", "Relu", "Reciprocal", "IsNaN", "Identity",
        "LeakyRelu", "Elu", "Celu", "Selu", "HardSigmoid", "HardSwish", "ThresholdedRelu", "Softmax", "LogSoftmax", "GlobalAveragePool", "GlobalMaxPool", "Flatten",
        "Size", "Shape", "Dropout", "Transpose", "Erf")  # fmt: skip
PAIRS = ("Add", "Sub", "Mul", "Div", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual")

# operator, inputs (of a node: the first is fed, the others are weights), attributes, opset
CASES = [(op, [X], {}, 18) for op in SAME]
CASES += [(op, [X, Y], {}, 18) for op in PAIRS for Y in (POSITIVE, X[0], X[:, :1], X[0, 0, 0])]
CASES += [(op, [I(7, -7, 6), I(2, 2, -3)], {}, 18) for op in ("Add", "Div", "Mul", "Less")]
CASES += [(op, [X > 0, X[:, :1] > 0.5], {}, 18) for op in ("And", "Or", "Xor")] + [("Not", [X > 0], {}, 18)]
CASES += [(op, [POSITIVE], {}, 18) for op in ("Sqrt", "Log")] + [(op, [X, POSITIVE, X[:, :1]], {}, 18) for op in ("Max", "Min", "Sum", "Mean")]
CASES += [("Pow", [POSITIVE, Y], {}, 18) for Y in (X, np.array(2, np.int64), np.array(0.5, "f"))] + [("PRelu", [X, CHANNELS[0][:, None]], {}, 16)]
CASES += [("LeakyRelu", [X], {"alpha": 0.3}, 16), ("Elu", [X], {"alpha": 0.3}, 18), ("HardSigmoid", [X], {"alpha": 0.1, "beta": 0.4}, 18)]
CASES += [("Gelu", [X], {"approximate": how}, 20) for how in ("none", "tanh")]
CASES += [("Clip", [X], {"min": -0.5, "max": 0.25}, 6 + 1), ("Clip", [X, np.array(-0.5, "f"), np.array(0.5, "f")], {}, 18), ("Clip", [X, None, np.array(0.5, "f")], {}, 13)]
CASES += [("Where", [X > 0, X, X[:, :1]], {}, 18), ("Dropout", [X], {"ratio": 0.4}, 10)]
CASES += [("Softmax", [X], {"axis": axis}, opset) for axis in (1, 2) for opset in (7, 11, 13)] + [("LogSoftmax", [X], {}, 11), ("Softmax", [X], {}, 11), ("Softmax", [X], {"axis": -2}, 13)]
CASES += [("Transpose", [X], {"perm": [2, 0, 1]}, 18), ("Reshape", [X, I(0, -1)], {}, 14), ("Reshape", [X, I(4, 12)], {}, 7), ("Flatten", [X], {"axis": 2}, 13), ("Flatten", [X], {"axis": -1}, 13)]
CASES += [("Squeeze", [X[:, :1]], {"axes": [1]}, 11), ("Squeeze", [X[:, :1], I(1)], {}, 13), ("Squeeze", [X[:, :1]], {}, 13), ("Squeeze", [X[..., :1], I(-1)], {}, 13)]
CASES += [("Unsqueeze", [X], {"axes": [0, 3]}, 11), ("Unsqueeze", [X, I(0, -1)], {}, 13)]
CASES += [("Concat", [X, X[:, :, :2]], {"axis": 2}, 13), ("Concat", [X, X, X], {"axis": -3}, 13)]
CASES += [("Slice", [X], {"starts": [1, -4], "ends": [2, 100], "axes": [0, 2]}, 9), ("Slice", [X, I(0, 1), I(2, 3)], {}, 13)]
CASES += [("Slice", [X, I(-1), I(-100), I(2), I(-2)], {}, 13), ("Slice", [X, I(5), I(2), I(-1), I(-1)], {}, 13), ("Slice", [X, I(3), I(1), I(2)], {}, 13)]
CASES += [("Slice", [X, I(start), I(end), I(2), I(step)], {}, 13) for start in (0, 7, 8, -1, -8, -9, 100, -100, -(2**31), 2**63 - 1) for end in (0, 3, -8, -9, 2**31 - 1, 2**63 - 1, -(2**31), -(2**63)) for step in (2, -1, -3)]
CASES += [("Gather", [X, I(2, 0, -1)], {"axis": 1}, 13), ("Gather", [X, np.array(1)], {"axis": 2}, 13), ("Gather", [X, np.array([[0], [1]])], {}, 13)]
CASES += [("GatherElements", [X, np.array([[[1, -1]]])], {"axis": 2}, 13), ("Shape", [X], {"start": 1, "end": -1}, 15), ("Expand", [X[:, :1], I(3, 1)], {}, 13), ("Tile", [X, I(1, 2, 3)], {}, 13)]
CASES += [("Expand", [X[:, :1], I(4, 2, 3, 8)], {}, 13), ("ConstantOfShape", [I(2, 3)], {}, 9), ("ConstantOfShape", [I(2)], {"value": onnx.numpy_helper.from_array(I(7))}, 9)]
CASES += [("Range", [np.array(a), np.array(b), np.array(c)], {}, 13) for a, b, c in ((1, 9, 3), (5, -2, -2), (3, 3, 1), (0.5, 2.1, 0.4))]
CASES += [("Cast", [X], {"to": to}, 13) for to in (1, 6, 7, 9, 11)] + [("CastLike", [X, I(1)], {}, 15)]
CASES += [("Pad", [X], {"pads": [0, 1, 2, 0, 0, 1], "value": 0.5}, 10), ("Pad", [X, I(0, 0, 2, 0, 0, 3)], {"mode": "reflect"}, 13), ("Pad", [X, I(0, 0, 2, 0, 1, 3)], {"mode": "edge"}, 13)]
CASES += [("Pad", [X, I(0, 0, -2, 1, 0, 3), np.array(2, "f")], {}, 13), ("Pad", [X, I(1, 2), None, I(-1)], {}, 18), ("Pad", [X, I(0, 0, 2, 0, 0, 2)], {"mode": "wrap"}, 19)]
CASES += [(f"Reduce{kind}", [X], attributes, 11) for kind in ("Mean", "Sum", "Max", "Min", "Prod", "L2", "SumSquare") for attributes in ({}, {"axes": [1], "keepdims": 0}, {"axes": [0, -1]})]
CASES += [("ReduceSum", [X, I(1)], {"keepdims": 0}, 13), ("ReduceMean", [X, I(-1)], {}, 18), ("ReduceMax", [X], {"noop_with_empty_axes": 1}, 18)]
CASES += [(op, [np.round(X)], attributes, 13) for op in ("ArgMax", "ArgMin") for attributes in ({}, {"axis": -1, "keepdims": 0}, {"axis": 2, "select_last_index": 1})]
CASES += [("MatMul", [X, RNG.standard_normal((8, 5)).astype("f")], {}, 13), ("MatMul", [X, X.swapaxes(1, 2).copy()], {}, 13), ("MatMul", [X, X[0, 0]], {}, 13)]
CASES += [("Gemm", [M, N], {}, 13), ("Gemm", [M, N, N[0]], {}, 13), ("Gemm", [M.T.copy(), N.T.copy(), N[:1]], {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}, 13), ("Gemm", [M, N, N[0]], {}, 7)]
CASES += [("LayerNormalization", [X, X[0, 0]], {}, 17), ("LayerNormalization", [X, X[0], X[1]], {"axis": 1, "epsilon": 0.01}, 17)]
CASES += [("BatchNormalization", [X, *CHANNELS], {"epsilon": 0.01}, opset) for opset in (7, 9, 15)]
CONVS = [{}, {"pads": [2, 1]}, {"strides": [2]}, {"dilations": [2], "kernel_shape": [3]}, {"auto_pad": "SAME_UPPER", "strides": [3]}, {"auto_pad": "SAME_LOWER"}, {"auto_pad": "VALID"}]
CASES += [("Conv", [X, RNG.standard_normal((4, 3, 3)).astype("f"), RNG.standard_normal(4).astype("f")], attributes, 11) for attributes in CONVS]
CASES += [("Conv", [X, RNG.standard_normal((6, 1, 3)).astype("f")], {"group": 3}, 11)]
POOLS = [{}, {"strides": [2], "ceil_mode": 1}, {"pads": [1, 2], "strides": [3], "ceil_mode": 1}, {"pads": [2, 2], "strides": [2]}, {"auto_pad": "SAME_LOWER", "strides": [2]}]
CASES += [(op, [X], attributes | {"kernel_shape": [3]}, 11) for op in ("MaxPool", "AveragePool") for attributes in POOLS]
CASES += [("MaxPool", [X], {"kernel_shape": [3], "dilations": [2]}, 11), ("AveragePool", [X], {"kernel_shape": [3], "pads": [1, 1], "count_include_pad": 1}, 11)]
CASES += [("AveragePool", [X], {"kernel_shape": [3], "pads": [1, 1], "strides": [3], "count_include_pad": 1, "ceil_mode": 1}, 19)]


def case_graph(op, inputs, attributes, opset, fixed=1, outputs=("y",)):
    """One node; the first `fixed` inputs are the graph's."""
    names = [f"x{i}" if array is not None else "" for i, array in enumerate(inputs)]
    node = onnx.helper.make_node(op, names, list(outputs), **attributes)
    given = {name: array for name, array in zip(names, inputs, strict=True) if array is not None}
    fed = dict(list(given.items())[:fixed])
    weights = {name: array for name, array in given.items() if name not in fed}
    return graph([node], [value(name, array, [None] * np.ndim(array)) for name, array in fed.items()], list(outputs), weights, opset), fed


@pytest.mark.parametrize(("op", "inputs", "attributes", "opset"), CASES, ids=[f"{i}-{case[0]}-{case[3]}" for i, case in enumerate(CASES)])
def test_as_onnxruntime(op, inputs, attributes, opset):
    expected = None
    for fixed in (1, len(inputs)):  # with weights, and with all inputs from outside
        model, fed = case_graph(op, inputs, attributes, opset, fixed)
        expected = judged(model, fed)[0] if expected is None else expected
        found = repeated(rnnfast.from_onnx(model.SerializeToString()), fed)["y"]
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=3e-6, atol=3e-6)
        assert not any(np.shares_memory(found, array) for array in fed.values())


@pytest.mark.parametrize(("op", "inputs", "attributes", "opset"), [CASES[i] for i in range(0, len(CASES), 3)], ids=lambda one: one if isinstance(one, str) else "")
def test_constants_are_computed_when_read(op, inputs, attributes, opset):
    model, fed = case_graph(op, inputs, attributes, opset)
    expected = judged(model, fed)[0]
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in fed.items())
    del model.graph.input[:]
    ready = rnnfast.from_onnx(model.SerializeToString())
    assert not ready.input_names and len(ready._program.steps) == (not OPERATORS[op].folds)
    np.testing.assert_allclose(ready.run({})["y"], expected, rtol=3e-6, atol=3e-6)


def test_every_operator_is_tried():
    tried = {case[0] for case in CASES} | {"Split", "Swish", "SplitToSequence", "SequenceAt"}  # those below
    assert set(OPERATORS) == tried


@pytest.mark.parametrize(("inputs", "attributes", "opset", "count"), [([X], {"axis": 2}, 11, 2), ([X, I(1, 2)], {"axis": 1}, 13, 2), ([X], {"axis": 2, "num_outputs": 3}, 18, 3), ([X], {"axis": 2, "split": [3, 5]}, 11, 2)])
def test_split(inputs, attributes, opset, count):
    model, fed = case_graph("Split", inputs, attributes, opset, outputs=[f"y{i}" for i in range(count)])
    found = repeated(rnnfast.from_onnx(model.SerializeToString()), fed)
    for mine, right in zip(found.values(), judged(model, fed), strict=True):
        np.testing.assert_array_equal(mine, right)


@pytest.mark.parametrize("parts", [None, np.array(3), I(5, 3)])
def test_sequences(parts):
    make = onnx.helper.make_node
    nodes = [make("SplitToSequence", ["x"] + ["parts"] * (parts is not None), ["s"], axis=2, **({"keepdims": 0} if parts is None else {})), make("SequenceAt", ["s", "at"], ["y"])]
    weights = {"at": np.array(1)} | ({} if parts is None else {"parts": parts})
    model = graph(nodes, [value("x", X)], ["y"], weights)
    np.testing.assert_array_equal(repeated(rnnfast.from_onnx(model.SerializeToString()), {"x": X})["y"], judged(model, {"x": X})[0])


def test_swish():
    model, fed = case_graph("Swish", [X], {"alpha": 0.5}, 24)
    np.testing.assert_allclose(rnnfast.from_onnx(model.SerializeToString()).run(fed)["y"], X / (1 + np.exp(-0.5 * X)), atol=1e-6)


def test_old_softmax_flattens():
    model, fed = case_graph("Softmax", [X], {"axis": 1}, 11)
    found = rnnfast.from_onnx(model.SerializeToString()).run(fed)["y"]
    np.testing.assert_allclose(found.sum((1, 2)), 1, rtol=1e-5)


@pytest.mark.parametrize("chosen", [True, False])
def test_if_with_a_constant_condition(chosen):
    make = onnx.helper.make_node
    branch = lambda name, op: onnx.helper.make_graph([make(op, ["x", "one"], ["inner"])], name, [], [onnx.helper.make_empty_tensor_value_info("inner")])
    nodes = [
        make("Shape", ["one"], ["shape"]), make("Gather", ["shape", "zero"], ["size"]), make("Equal", ["size", "wanted"], ["same"]),
        make("If", ["same"], ["y"], then_branch=branch("then", "Add"), else_branch=branch("else", "Sub")), make("Neg", ["y"], ["z"]),
    ]  # fmt: skip
    weights = {"one": np.ones(1, "f"), "zero": np.array(0), "wanted": np.array(1 if chosen else 2)}
    model = graph(nodes, [value("x", X)], ["z"], weights)
    found = rnnfast.from_onnx(model.SerializeToString()).run({"x": X})["z"]
    np.testing.assert_array_equal(found, judged(model, {"x": X})[0])
    np.testing.assert_array_equal(found, -(X + 1 if chosen else X - 1))


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "words"),
    [
        ("Squeze", [X], {}, r"node 'y' \(Squeze\): the operator is not supported. Did you mean 'Squeeze'\? Known: Abs"),
        ("Loop", [X], {}, r"not supported.*Known: Abs"),
        ("Transpose", [X], {"axes": [1]}, "attribute 'axes' is not one that is known: perm"),
        ("Transpose", [X], {"perm": 3}, "attribute 'perm' must be ints, got 3"),
        ("Concat", [X], {}, "attribute 'axis' must be given"),
        ("Cast", [X], {"to": 10}, "attribute 'to' must be one of the types"),
        ("Add", [X], {}, "must have 2 inputs"),
        ("Add", [X, X, X], {}, "must have 2 inputs"),
        ("MatMul", [X, None], {}, "must have 2 inputs"),
    ],
)
def test_refused_when_read(op, inputs, attributes, words):
    model, _ = case_graph(op, inputs, attributes, 17)
    with pytest.raises(rnnfast.FormatError, match=words):
        rnnfast.from_onnx(model.SerializeToString())


def test_other_domains_and_functions_are_refused():
    node = onnx.helper.make_node("Gelu", ["x"], ["y"], name="act", domain="com.microsoft")
    model = graph([node], [value("x", X)], ["y"])
    with pytest.raises(rnnfast.FormatError, match=r"node 'act' \(com.microsoft.Gelu\): operators of the domain 'com.microsoft'"):
        rnnfast.from_onnx(model.SerializeToString())
    model = graph([onnx.helper.make_node("Relu", ["x"], ["y"])], [value("x", X)], ["y"])
    model.functions.append(onnx.helper.make_function("own", "f", ["a"], ["b"], [], [onnx.helper.make_opsetid("", 17)]))
    with pytest.raises(rnnfast.FormatError, match=r"functions of the model's own are not supported: own\.f"):
        rnnfast.from_onnx(model.SerializeToString())


@pytest.mark.parametrize("dtype", ["f2", "c8"])
def test_other_types_are_refused(dtype):
    model = graph([onnx.helper.make_node("Add", ["x", "w"], ["y"])], [value("x", X)], ["y"])
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(2, dtype), "w"))
    with pytest.raises(rnnfast.FormatError, match="initializer 'w': elements of type"):
        rnnfast.from_onnx(model.SerializeToString())


def test_shapes_that_do_not_fit_name_the_node():
    model, _ = case_graph("Conv", [X, np.ones((4, 3, 3), "f")], {}, 17)
    ready = rnnfast.from_onnx(model.SerializeToString())
    with pytest.raises(rnnfast.ShapeError, match=r"node 'y' \(Conv\): W of float32 \(4, 3, 3\) does not fit"):
        ready.run({"x0": X[:, :2]})
    with pytest.raises(rnnfast.ShapeError, match=r"input 'x0' must have shape \(\?, \?, \?\), got \(3, 8\)"):
        ready.run({"x0": X[0]})
