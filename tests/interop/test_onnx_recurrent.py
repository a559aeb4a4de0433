"""ONNX's recurrent operators with every attribute: against float64 NumPy, and against onnxruntime where it has them (layout 0, float32)."""

import numpy as np
import pytest

import rnnfast
from tests.interop.onnx_cases import graph, judged, onnx, recurrent_arrays, recurrent_model, repeated, value
from tests.reference.onnx_cells import TAKES, recurrent

DIRECTIONS = ["forward", "reverse", "bidirectional"]
SETTINGS = {
    "RNN": [{}, {"clip": 0.375}, {"activations": ["Relu"]}],
    "LSTM": [{}, {"clip": 0.375}, {"input_forget": 1}, {"clip": 0.25, "input_forget": 1, "leave": "P"}, {"leave": "P"}, {"leave": "C"}],
    "GRU": [{}, {"linear_before_reset": 1}, {"clip": 0.375}, {"clip": 0.375, "linear_before_reset": 1}],
}
CASES = [(op, settings) for op, several in SETTINGS.items() for settings in several]


def compare(op, arrays, judge=True, tolerance=2e-6, fixed=True, opset=14, **attributes):
    model = recurrent_model(op, arrays, opset, fixed, **attributes)
    ready = rnnfast.from_onnx(model.SerializeToString())
    feeds = {name: arrays[name] for name in ready.input_names}
    found = list(repeated(ready, feeds).values())
    wide = {name: array.astype("f8") if array.dtype.kind == "f" else array for name, array in arrays.items()}
    expected = recurrent(op, wide["X"], wide["W"], wide["R"], wide.get("B"), wide.get("L"), wide.get("H"), wide.get("C"), wide.get("P"), **attributes)
    for mine, right in zip(found, expected, strict=True):
        assert mine.dtype == arrays["X"].dtype and mine.shape == right.shape
        np.testing.assert_allclose(mine, right, atol=tolerance, rtol=tolerance)
    if judge:
        for mine, theirs in zip(found, judged(model, feeds), strict=True):
            np.testing.assert_allclose(mine, theirs, atol=5e-6, rtol=5e-6)
    return ready


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("op", "settings"), CASES)
def test_attributes(op, settings, direction):
    attributes = settings | {"direction": direction}
    leave = attributes.pop("leave", "")
    if "activations" in attributes:
        attributes["activations"] *= 2 if direction == "bidirectional" else 1
    rng = np.random.default_rng(0)
    for lengths in (None, [5, 2, 3], [0, 5, 1]):
        compare(op, recurrent_arrays(op, rng, lengths=lengths, leave=leave, **attributes), **attributes)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("op", "settings"), CASES)
def test_batch_first_and_double(op, settings, direction):
    attributes = {name: one for name, one in settings.items() if name not in ("leave", "activations")} | {"direction": direction, "layout": 1}
    rng = np.random.default_rng(1)
    compare(op, recurrent_arrays(op, rng, "f8", lengths=[4, 0, 5], **attributes), judge=False, tolerance=1e-13, **attributes)
    compare(op, recurrent_arrays(op, rng, "f4", **attributes), judge=False, **attributes)


@pytest.mark.parametrize("op", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("leave", ["B", "HC", "BHCPL", "P"])
@pytest.mark.parametrize("fixed", [True, False])
def test_inputs_left_out(op, leave, fixed):
    compare(op, recurrent_arrays(op, np.random.default_rng(2), lengths=[1, 5, 2], leave=leave), fixed=fixed)


@pytest.mark.parametrize("opset", [7, 14, 22])
@pytest.mark.parametrize("op", ["RNN", "LSTM", "GRU"])
def test_versions(op, opset):
    compare(op, recurrent_arrays(op, np.random.default_rng(3)), opset=opset)


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("name", ["Relu", "Tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign", "Softplus"])
def test_activations(name, given):
    """Every function in every role; without parameters those of the standard, where onnxruntime's are other ones for ThresholdedRelu."""
    numbers = {"alpha": [0.6, 0.45, 0.55], "beta": [0.1, 0.2, 0.3]} if given else {"alpha": [], "beta": []}
    if not given and name in ("Affine", "ScaledTanh"):
        return
    rng = np.random.default_rng(4)
    judge = given or name != "ThresholdedRelu"
    for op, roles in {"RNN": 1, "GRU": 2, "LSTM": 3}.items():
        for place in range(roles):
            names = ["Sigmoid", "Tanh", "Tanh"][-roles:] if roles < 3 else ["Sigmoid", "Tanh", "Tanh"]
            names[place] = name
            attributes = {"activations": names}
            for count, kind in enumerate(("alpha", "beta")):
                if TAKES.get(name, 0) > count and numbers[kind]:
                    attributes[f"activation_{kind}"] = numbers[kind][:1]
            arrays = recurrent_arrays(op, rng, sizes=(3, 2, 3, 4))
            arrays["W"] *= 0.5
            compare(op, arrays, judge=judge, tolerance=1e-5, **attributes)


def test_parameters_go_to_the_functions_that_have_them():
    names = ["HardSigmoid", "LeakyRelu", "Tanh", "Sigmoid", "Affine", "Elu"]
    attributes = {"activations": names, "activation_alpha": [0.3, 0.1, 0.7, 0.9], "activation_beta": [0.4, 0.05], "direction": "bidirectional"}
    compare("LSTM", recurrent_arrays("LSTM", np.random.default_rng(5), direction="bidirectional"), **attributes)
    attributes = {"activations": ["sigmoid", "TANH"]}  # as older exporters write them
    model = recurrent_model("GRU", recurrent_arrays("GRU", np.random.default_rng(5)), **attributes)
    rnnfast.from_onnx(model.SerializeToString())


@pytest.mark.parametrize("threads", [1, 2])
def test_long_and_wide(threads):
    """Beyond the sizes at which a run is copied and threads are shared out."""
    before = rnnfast.get_num_threads()
    rnnfast.set_num_threads(threads)
    try:
        for attributes in ({}, {"clip": 0.5}, {"direction": "bidirectional"}):
            arrays = recurrent_arrays("GRU", np.random.default_rng(6), sizes=(21, 17, 9, 70), lengths=[21, 1, 0] + [7] * 14, **attributes)
            arrays["R"] *= 0.2
            compare("GRU", arrays, tolerance=1e-5, **attributes)
    finally:
        rnnfast.set_num_threads(before)


def test_sizes_may_change_from_call_to_call():
    rng = np.random.default_rng(7)
    arrays = recurrent_arrays("LSTM", rng, leave="HCL")
    weights = {name: array for name, array in arrays.items() if name != "X"}
    node = onnx.helper.make_node("LSTM", ["X", "W", "R", "B", "", "", "", "P"], ["", "Y_h"], hidden_size=6)
    model = graph([node], [value("X", arrays["X"], ["time", "batch", 4])], ["Y_h"], weights)
    ready = rnnfast.from_onnx(model.SerializeToString())
    for time, batch in ((1, 1), (5, 3), (9, 40), (5, 3), (300, 2)):
        x = rng.standard_normal((time, batch, 4)).astype("f")
        np.testing.assert_allclose(ready.run({"X": x})["Y_h"], judged(model, {"X": x})[0], atol=5e-6)
    assert ready.run({"X": np.zeros((4, 0, 4))})["Y_h"].shape == (1, 0, 6)


@pytest.mark.parametrize(
    ("op", "attributes", "words"),
    [
        ("RNN", {"direction": "backward"}, "direction: unknown 'backward'"),
        ("RNN", {"clip": -1.0}, "clip must be a positive number"),
        ("RNN", {"layout": 2}, "layout must be 0 or 1"),
        ("RNN", {"hidden_size": 5}, "hidden_size is 5"),
        ("RNN", {"activations": ["Gelu"]}, "unknown 'Gelu'"),
        ("RNN", {"activations": ["Affine"]}, "Affine has no default parameters"),
        ("LSTM", {"activations": ["Tanh"]}, "activations must be 3 names, got 1"),
        ("GRU", {"activation_alpha": [1.0]}, "are left over"),
        ("GRU", {"input_forget": 1}, "attribute 'input_forget' is not one that is known"),
        ("GRU", {"linear_before_reset": 2}, "must be 0 or 1"),
        ("RNN", {"clip": 3}, "attribute 'clip' must be float"),
        ("LSTM", {"direction": "bidirectional"}, "W must have shape"),
    ],
)
def test_wrong_attributes(op, attributes, words):
    model = recurrent_model(op, recurrent_arrays(op, np.random.default_rng(0)), **attributes)
    if "clip" in attributes and isinstance(attributes["clip"], int):
        next(one for one in model.graph.node[0].attribute if one.name == "clip").type = onnx.AttributeProto.INT
    elif attributes == {"activations": ["Gelu"]}:
        model.graph.node[0].name = "cell"
        words = r"node 'cell' \(RNN\): activations: " + words
    with pytest.raises(rnnfast.FormatError, match=words):
        rnnfast.from_onnx(model.SerializeToString())


@pytest.mark.parametrize(("name", "shape"), [("W", (1, 24, 0)), ("W", (24, 4)), ("R", (1, 24, 5)), ("B", (1, 24)), ("P", (1, 24)), ("W", (1, 23, 4))])
def test_wrong_weights(name, shape):
    arrays = recurrent_arrays("LSTM", np.random.default_rng(0)) | {name: np.zeros(shape, "f")}
    with pytest.raises(rnnfast.FormatError, match=f"node 'Y' .LSTM.: {name} must"):
        rnnfast.from_onnx(recurrent_model("LSTM", arrays, hidden_size=6).SerializeToString())


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("L", np.array([5, 6, 1], np.int32), "lengths must be in"),
        ("L", np.array([5, -1, 1], np.int32), "lengths must be in"),
        ("L", np.array([5, 1], np.int32), "sequence_lens must be integers"),
        ("H", np.zeros((1, 2, 6), "f"), "initial_h must be float32 of shape"),
        ("C", np.zeros((2, 3, 6), "f"), "initial_c must be float32 of shape"),
        ("X", np.zeros((5, 3, 5), "f"), "must have shape"),
        ("X", np.zeros((5, 3), "f"), "rank 3"),
    ],
)
def test_wrong_arrays(name, array, words):
    arrays = recurrent_arrays("LSTM", np.random.default_rng(0), lengths=[5, 1, 2])
    model = recurrent_model("LSTM", arrays)
    for one in model.graph.input:
        one.type.tensor_type.ClearField("shape")
    ready = rnnfast.from_onnx(model.SerializeToString())
    with pytest.raises(ValueError, match=words):
        ready.run({key: arrays[key] for key in ready.input_names} | {name: array})
