"""Writes torch_dynamo_*.onnx and .npz: models of PyTorch's newer ONNX exporter, with inputs (of other sizes where it allows them) and PyTorch's outputs.

Made with PyTorch 2.13 and onnxscript: python -m tests.interop.golden.make_torch_dynamo
"""

from pathlib import Path

import numpy as np
import onnx
import torch

from tests.interop.onnx_models import with_states

CASES = {  # kind, options, axes that may vary by input, sizes of the example, sizes of the inputs that are written
    "lstm": ("LSTM", {"num_layers": 2, "bidirectional": True}, ({0, 1},), [(2, 5, 4)], [(3, 7, 4)]),
    "gru_states": ("GRU", {"batch_first": False}, ({1}, {1}), [(5, 2, 4), (1, 2, 6)], [(5, 3, 4), (1, 3, 6)]),
    "rnn": ("RNN", {}, ({0},), [(2, 5, 4)], [(3, 5, 4)]),
}

for name, (kind, options, axes, example, sizes) in CASES.items():
    torch.manual_seed(0)
    module = with_states(torch, kind, **options).eval()
    dynamic = tuple(dict.fromkeys(varying, torch.export.Dim.AUTO) for varying in axes)
    path = Path(__file__).parent / f"torch_dynamo_{name}"
    arguments = tuple(torch.randn(*size) for size in example)
    torch.onnx.export(module, arguments, f"{path}.onnx", dynamo=True, input_names=["x", "h0"][: len(sizes)], dynamic_shapes=dynamic, external_data=False)
    model = onnx.load(f"{path}.onnx")
    for node in model.graph.node:
        node.ClearField("metadata_props")  # where in PyTorch it comes from
    del model.graph.value_info[:]
    onnx.save(model, f"{path}.onnx")
    given = [torch.randn(*size) for size in sizes]
    with torch.no_grad():
        found = module(*given)
    outputs = found if isinstance(found, tuple) else (found,)
    np.savez(f"{path}.npz", **{f"input{i}": x.numpy() for i, x in enumerate(given)}, **{f"output{i}": y.numpy() for i, y in enumerate(outputs)})
