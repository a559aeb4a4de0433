"""Weights stored as float32, bfloat16 and int8, and ONNX Runtime's float32 and dynamic int8 beside them: time of a prediction and error of its outputs.

All take turns in one process, in blocks of calls; figures are medians. Errors are those of the output sequence against rnnfast's float32, relative to its root mean square.
ONNX Runtime quantizes LSTM dynamically (weights and, step by step, activations of 8 bits); it has no such GRU.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rnnfast import Input, Sequential, _engine, layers
from rnnfast.utils import set_random_seed

CASES = [(cell, *sizes) for sizes in ((1, 100, 512, 512), (1, 50, 1024, 1024), (1, 1, 512, 512), (1, 1, 1024, 1024), (16, 50, 512, 512)) for cell in ("lstm", "gru")]
MODES = {"float32": None, "bfloat16": "bfloat16", "int8": "int8"}
ONNX_GATES = {"lstm": (0, 3, 1, 2), "gru": (0, 1, 2)}
Run = Callable[[], np.ndarray]


def models(cell: str, inputs: int, units: int) -> dict[str, Sequential]:
    """One recurrent layer with the same weights, stored in each way."""
    made = {}
    for name, mode in MODES.items():
        set_random_seed(0)
        layer = {"lstm": layers.LSTM, "gru": layers.GRU}[cell](units, return_sequences=True)
        made[name] = Sequential([Input((None, inputs)), layer])
        made[name].quantize(mode)
    return made


def onnx_model(cell: str, weights: list[np.ndarray]) -> Any:
    """The same layer as an ONNX node, time first."""
    from onnx import TensorProto, helper, numpy_helper

    blocks = lambda w: np.concatenate([np.split(w, len(ONNX_GATES[cell]), -1)[i] for i in ONNX_GATES[cell]], -1)
    kernel, recurrent, bias = (blocks(w) for w in weights)
    units, both = len(recurrent), np.concatenate([bias, np.zeros_like(bias)]) if bias.ndim == 1 else bias.reshape(-1)
    arrays = {"W": kernel.T[None], "R": recurrent.T[None], "B": both[None]}
    attributes: dict[str, Any] = {"hidden_size": units} | ({"linear_before_reset": 1} if cell == "gru" else {})
    node = helper.make_node(cell.upper(), ["x", *arrays], ["y"], **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None, len(kernel)])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()]
    return helper.make_model(helper.make_graph([node], "case", [x], [y], constants), opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def onnxruntime_runs(cell: str, weights: list[np.ndarray], x: np.ndarray, threads: int) -> dict[str, Run]:
    """ONNX Runtime with the weights as they are and, where it can, quantized dynamically."""
    import logging

    import onnx
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    runs: dict[str, Run] = {}
    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder, "f.onnx"), Path(folder, "q.onnx")
        onnx.save(onnx_model(cell, weights), plain)
        files = {"ort float32": plain}
        if cell == "lstm":
            logging.disable(logging.WARNING)  # advice about preprocessing
            quantize_dynamic(plain, small, weight_type=QuantType.QInt8, per_channel=True)
            logging.disable(logging.NOTSET)
            files["ort int8"] = small
        for name, file in files.items():
            session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            feed = {"x": np.ascontiguousarray(x.swapaxes(0, 1))}
            runs[name] = lambda session=session, feed=feed: session.run(None, feed)[0][:, 0].swapaxes(0, 1)  # type: ignore[misc]
    return runs


def medians(runs: dict[str, Run], seconds: float, rounds: int = 5) -> dict[str, float]:
    """Microseconds of each; a block's first calls, in which the threads of the one before may still spin, do not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            run()
            start = time.perf_counter()
            run()
            once = time.perf_counter() - start
            for _ in range(max(3, int(seconds / rounds / once))):
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
    return {name: 1e6 * float(np.median(found)) for name, found in times.items()}


def measure(case: tuple[str, int, int, int, int], threads: int, seconds: float) -> dict[str, Any]:
    """Times and errors of one case."""
    cell, batch, steps, inputs, units = case
    _engine.set_num_threads(threads)
    x = np.random.default_rng(0).standard_normal((batch, steps, inputs), np.float32)
    made = models(cell, inputs, units)
    runs: dict[str, Run] = {name: lambda model=model: model.predict_on_batch(x) for name, model in made.items()}  # type: ignore[misc]
    if all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")):
        runs |= onnxruntime_runs(cell, made["float32"].get_weights(), x, threads)
    exact = runs["float32"]()
    spread = float(np.sqrt(np.mean(exact**2)))
    errors = {name: float(np.sqrt(np.mean((run() - exact) ** 2))) / spread for name, run in runs.items()}
    return {"case": f"{cell} {batch},{steps},{inputs},{units}", "threads": threads, "us": medians(runs, seconds), "error": errors}


def main(seconds: float, path: str | None = None, threads: tuple[int, ...] = ()) -> int:
    """Print all cases and, to `path`, write them as JSON."""
    columns = ("float32", "bfloat16", "int8", "ort float32", "ort int8")
    settings = threads or tuple(sorted({1, _engine.get_num_threads()}))
    lines = []
    print(f"isa {_engine.isa()}; microseconds (relative error of the outputs)")
    print(f"{'case (B,T,I,H)':<22}{'threads':>8}" + "".join(f"{name:>22}" for name in columns) + f"{'best / float32':>16}")
    for case in CASES:
        for count in settings:
            lines.append(measure(case, count, seconds))
            us, error = lines[-1]["us"], lines[-1]["error"]
            shown = "".join(f"{f'{us[name]:.1f} ({error[name]:.0e})' if name in us else '':>22}" for name in columns)
            print(f"{lines[-1]['case']:<22}{count:>8}{shown}{us['float32'] / min(us['bfloat16'], us['int8']):>16.2f}", flush=True)
    _engine.set_num_threads(max(settings))
    if path:
        Path(path).write_text(json.dumps({"isa": _engine.isa(), "rows": lines}, indent=1))
    return 0
