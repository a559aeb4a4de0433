"""One adapter a library: `prepare(case, threads)` gives a call that runs the case once and a call that gives what is compared.

What is compared is the output sequence of an inference case, and the recurrent kernel (Keras' layout) after one training step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnnfast.benchmark.cases import CELLS, Case

Prepared = tuple[Callable[[], Any], Callable[[], np.ndarray]]
RATE, EPSILON = 1e-3, 1e-7
# PyTorch adds epsilon after the bias correction, the others before: the same first step, which is what is compared.
TORCH_EPSILON = EPSILON / (1 - 0.999) ** 0.5


def reorder(array: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """Blocks of the last axis in another order."""
    blocks = np.split(array, len(order), axis=-1)
    return np.concatenate([blocks[i] for i in order], axis=-1)


def rnnfast(case: Case, threads: int) -> Prepared:
    import rnnfast as library

    library.set_num_threads(threads)
    data = case.data()
    layer = {"lstm": library.layers.LSTM, "gru": library.layers.GRU, "rnn": library.layers.SimpleRNN}[case.cell]
    model = library.Sequential([library.Input((None, case.inputs)), layer(case.units, return_sequences=True)])
    model.set_weights([data["kernel"], data["recurrent"], data["bias"]])
    if case.mode == "infer":
        return (lambda: model.predict_on_batch(data["x"])), (lambda: model.predict_on_batch(data["x"]))
    model.compile(library.optimizers.Adam(RATE, epsilon=EPSILON), "mse")
    step = lambda: model.train_on_batch(data["x"], data["target"])
    return step, lambda: (step(), model.get_weights()[1])[1]


def torch(case: Case, threads: int) -> Prepared:
    import torch as library

    library.set_num_threads(threads)
    data = case.data()
    order = (1, 0, 2) if case.cell == "gru" else tuple(range(CELLS[case.cell]))
    layer = {"lstm": library.nn.LSTM, "gru": library.nn.GRU, "rnn": library.nn.RNN}[case.cell](case.inputs, case.units, batch_first=True)
    bias = reorder(data["bias"], order)
    with library.no_grad():
        layer.weight_ih_l0.copy_(library.from_numpy(reorder(data["kernel"], order).T.copy()))
        layer.weight_hh_l0.copy_(library.from_numpy(reorder(data["recurrent"], order).T.copy()))
        layer.bias_ih_l0.copy_(library.from_numpy(bias if bias.ndim == 1 else bias[0]))
        layer.bias_hh_l0.copy_(library.from_numpy(bias[1]) if bias.ndim == 2 else library.zeros(bias.shape))
    x, target = library.from_numpy(data["x"]), library.from_numpy(data["target"])
    if case.mode == "infer":

        def run() -> Any:
            with library.inference_mode():
                return layer(x)[0]

        return run, lambda: run().numpy()
    if bias.ndim == 1:
        layer.bias_hh_l0.requires_grad_(False)
    optimizer = library.optim.Adam([p for p in layer.parameters() if p.requires_grad], RATE, eps=TORCH_EPSILON, foreach=True)

    def step() -> None:
        optimizer.zero_grad()
        ((layer(x)[0] - target) ** 2).mean().backward()
        optimizer.step()

    def check() -> np.ndarray:
        step()
        return reorder(layer.weight_hh_l0.detach().numpy().T, tuple(int(i) for i in np.argsort(order)))

    return step, check


def onnx_bytes(case: Case) -> bytes:
    """The case as an ONNX model of one node."""
    from onnx import TensorProto, helper, numpy_helper

    data, units = case.data(), case.units
    order = {"lstm": (0, 3, 1, 2), "gru": (0, 1, 2), "rnn": (0,)}[case.cell]
    bias = reorder(data["bias"], order)
    both = np.concatenate([bias, np.zeros_like(bias)] if bias.ndim == 1 else [bias[0], bias[1]])
    weights = {"W": reorder(data["kernel"], order).T[None], "R": reorder(data["recurrent"], order).T[None], "B": both[None]}
    attributes: dict[str, Any] = {"hidden_size": units} | ({"linear_before_reset": 1} if case.cell == "gru" else {})
    nodes = [
        helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]),
        helper.make_node(case.cell.upper(), ["xt", "W", "R", "B"], ["yd"], **attributes),
        helper.make_node("Squeeze", ["yd", "axis"], ["yt"]),
        helper.make_node("Transpose", ["yt"], ["y"], perm=[1, 0, 2]),
    ]
    constants = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in weights.items()]
    constants.append(numpy_helper.from_array(np.array([1]), "axis"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [case.batch, case.time, case.inputs])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [case.batch, case.time, units])
    graph = helper.make_graph(nodes, "case", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return bytes(model.SerializeToString())


def onnxruntime(case: Case, threads: int) -> Prepared:
    import onnxruntime as library

    options = library.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = library.InferenceSession(onnx_bytes(case), options, providers=["CPUExecutionProvider"])
    feed = {"x": case.data()["x"]}
    run = lambda: session.run(None, feed)[0]
    return run, run


def openvino(case: Case, threads: int) -> Prepared:
    import openvino as library

    core = library.Core()
    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(core.read_model(onnx_bytes(case), b""), "CPU", options).create_infer_request()
    x = case.data()["x"]
    request.set_input_tensor(library.Tensor(x, shared_memory=True))
    output = request.get_output_tensor()

    def run(_shared: Any = x) -> Any:  # the tensor does not keep its memory alive
        request.infer()
        return output.data

    return run, lambda: run().copy()


def _jax_forward(case: Case) -> Callable[..., Any]:
    import jax
    from jax import numpy as jnp

    def cell(w: Any, state: Any, gates: Any) -> Any:
        h, c = state
        product = h @ w["recurrent"] + (w["bias"][1] if case.cell == "gru" else 0)
        if case.cell == "rnn":
            h = jnp.tanh(gates + product)
        elif case.cell == "lstm":
            i, f, g, o = jnp.split(gates + product, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
        else:
            (xz, xr, xn), (hz, hr, hn) = jnp.split(gates, 3, axis=-1), jnp.split(product, 3, axis=-1)
            z = jax.nn.sigmoid(xz + hz)
            h = z * h + (1 - z) * jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn)
        return (h, c), h

    def forward(w: Any, x: Any) -> Any:
        bias = w["bias"][0] if case.cell == "gru" else w["bias"]
        gates = jnp.swapaxes(x @ w["kernel"] + bias, 0, 1)
        start = jnp.zeros((case.batch, case.units))
        return jnp.swapaxes(jax.lax.scan(lambda s, g: cell(w, s, g), (start, start), gates)[1], 0, 1)

    return forward


def jax(case: Case, threads: int) -> Prepared:
    import jax as library
    from jax import numpy as jnp

    data = case.data()
    x, target = jnp.asarray(data["x"]), jnp.asarray(data["target"])
    w = {name: jnp.asarray(data[name]) for name in ("kernel", "recurrent", "bias")}
    forward = _jax_forward(case)
    if case.mode == "infer":
        compiled = library.jit(forward)
        return (lambda: compiled(w, x).block_until_ready()), (lambda: np.asarray(compiled(w, x)))

    def update(w: Any, m: Any, v: Any, t: Any) -> Any:
        g = library.grad(lambda w: ((forward(w, x) - target) ** 2).mean())(w)
        m = library.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = library.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        rate = RATE * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        return library.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + EPSILON), w, m, v), m, v, t + 1

    compiled = library.jit(update)
    zeros = library.tree.map(jnp.zeros_like, w)
    state = [w, zeros, zeros, jnp.float32(1)]

    def step() -> None:
        state[:] = library.block_until_ready(compiled(*state))

    def check() -> np.ndarray:
        step()
        return np.asarray(state[0]["recurrent"])

    return step, check


def keras(case: Case, threads: int) -> Prepared:
    import keras as library

    data = case.data()
    layer = {"lstm": library.layers.LSTM, "gru": library.layers.GRU, "rnn": library.layers.SimpleRNN}[case.cell]
    model = library.Sequential([library.Input((case.time, case.inputs), batch_size=case.batch), layer(case.units, return_sequences=True)])
    model.set_weights([data["kernel"], data["recurrent"], data["bias"]])
    if case.mode == "infer":
        run = lambda: model.predict_on_batch(data["x"])
        return run, lambda: np.asarray(run())
    model.compile(library.optimizers.Adam(RATE, epsilon=EPSILON), "mse")
    step = lambda: model.train_on_batch(data["x"], data["target"])
    return step, lambda: (step(), model.get_weights()[1])[1]


ALL: dict[str, Callable[[Case, int], Prepared]] = {
    "rnnfast": rnnfast, "torch": torch, "onnxruntime": onnxruntime, "openvino": openvino, "jax": jax, "keras": keras,
}  # fmt: skip
INFERENCE_ONLY = ("onnxruntime", "openvino")
