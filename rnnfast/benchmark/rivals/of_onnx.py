"""ONNX Runtime and OpenVINO, which run the same ONNX model."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from rnnfast.benchmark.cases import Case
from rnnfast.benchmark.rivals import Prepared, refuse, reorder, twice

ORDER = {"lstm": (0, 3, 1, 2), "gru": (0, 1, 2), "rnn": (0,)}


def layer_weights(case: Case, weights: list[dict[str, np.ndarray]], layer: int) -> dict[str, np.ndarray]:
    """W, R and B of all directions."""
    order = ORDER[case.cell]
    both = [[reorder(w["kernel"], order).T, reorder(w["recurrent"], order).T, reorder(w["bias"], order)] for w in weights]
    biases = [np.concatenate([b, np.zeros_like(b)] if b.ndim == 1 else [b[0], b[1]]) for _, _, b in both]
    stacks = ([w for w, _, _ in both], [r for _, r, _ in both], biases)
    return {f"{name}{layer}": np.ascontiguousarray(np.stack(parts)) for name, parts in zip("WRB", stacks, strict=True)}


def onnx_bytes(case: Case) -> bytes:
    """The case as an ONNX model; a live one takes states hK (and cK) and gives next_hK (and next_cK)."""
    states = ("h", "c") if case.cell == "lstm" else ("h",)
    attributes: dict[str, Any] = {"hidden_size": case.units, "direction": "bidirectional" if case.bidirectional else "forward"}
    attributes |= {"linear_before_reset": 1} if case.cell == "gru" else {}
    constants = {"lengths": case.row_lengths.astype(np.int32)} if case.lengths else {}
    constants["joined"] = np.array([case.time, case.batch, case.directions * case.units])
    nodes, inputs, outputs, y = [helper.make_node("Transpose", ["x"], ["y0"], perm=[1, 0, 2])], [], [], "y0"
    for k, weights in enumerate(case.weights()):
        constants |= layer_weights(case, weights, k)
        taken = [f"{s}{k}" for s in states] if case.live else []
        given = [f"next_{name}" for name in taken]
        inputs += taken
        outputs += given
        source = [y, f"W{k}", f"R{k}", f"B{k}", "lengths" if case.lengths else "", *taken]
        nodes.append(helper.make_node(case.cell.upper(), source, [f"d{k}", *given], **attributes))
        nodes.append(helper.make_node("Transpose", [f"d{k}"], [f"t{k}"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", [f"t{k}", "joined"], [y := f"y{k + 1}"]))
    if case.outputs:
        constants |= dict(zip(("D", "E"), case.head(), strict=True))
        nodes += [helper.make_node("MatMul", [y, "D"], ["product"]), helper.make_node("Add", ["product", "E"], [y := "dense"])]
    nodes.append(helper.make_node("Transpose", [y], ["y"], perm=[1, 0, 2]))
    info = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    state = (case.directions, case.batch, case.units)
    graph = helper.make_graph(
        nodes, "case", [info("x", case.batch, case.time, case.inputs), *(info(name, *state) for name in inputs)],
        [info("y", case.batch, case.time, case.outputs or case.directions * case.units), *(info(name, *state) for name in outputs)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return bytes(model.SerializeToString())


def start(case: Case) -> dict[str, np.ndarray]:
    """The inputs of the first call."""
    states = [f"{s}{k}" for k in range(case.layers) for s in (("h", "c") if case.cell == "lstm" else ("h",))] if case.live else []
    return {"x": case.data()["x"]} | {name: np.zeros((case.directions, case.batch, case.units), np.float32) for name in states}


def onnxruntime(case: Case, threads: int) -> Prepared:
    import onnxruntime as library

    refuse(case, mode=("train", "backward"), resets=True)
    options = library.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = library.InferenceSession(onnx_bytes(case), options, providers=["CPUExecutionProvider"])
    feed = start(case)
    states = [name for name in feed if name != "x"]

    def run() -> Any:
        y, *after = session.run(None, feed)
        feed.update(zip(states, after, strict=True))
        return y

    return run, twice(run) if case.live else run


def openvino(case: Case, threads: int) -> Prepared:
    import openvino as library

    refuse(case, mode=("train", "backward"), resets=True)
    core = library.Core()
    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(core.read_model(onnx_bytes(case), b""), "CPU", options).create_infer_request()
    feed = start(case)
    inputs = {name: library.Tensor(value, shared_memory=True) for name, value in feed.items()}
    for name, tensor in inputs.items():
        request.set_tensor(name, tensor)
    states = [(tensor.data, request.get_tensor(f"next_{name}").data) for name, tensor in inputs.items() if name != "x"]
    output = request.get_tensor("y")

    def run(_shared: Any = feed) -> Any:  # the tensors do not keep their memory alive
        request.infer()
        for before, after in states:
            before[:] = after
        return output.data

    return run, twice(run) if case.live else lambda: run().copy()
