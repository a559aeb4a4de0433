"""Whole models for the tests of reading ONNX."""

import numpy as np

from tests.interop.onnx_cases import graph, onnx, recurrent_arrays, value

MAKE = onnx.helper.make_node


def tagger(time="time", batch="batch"):
    """A bidirectional GRU with a projection: [time, batch, 4] -> [time, batch, 3]."""
    rng = np.random.default_rng(0)
    arrays = recurrent_arrays("GRU", rng, leave="XHL", direction="bidirectional")
    nodes = [
        MAKE("GRU", ["x", "W", "R", "B"], ["y"], direction="bidirectional", hidden_size=6), MAKE("Transpose", ["y"], ["t"], perm=[0, 2, 1, 3]),
        MAKE("Reshape", ["t", "shape"], ["r"]), MAKE("MatMul", ["r", "K"], ["m"]), MAKE("Softmax", ["m"], ["out"], axis=-1),
    ]  # fmt: skip
    weights = arrays | {"shape": np.array([0, 0, 12]), "K": rng.standard_normal((12, 3)).astype("f")}
    return graph(nodes, [value("x", None, [time, batch, 4])], ["out"], weights)


def decoder(names=("h_in", "h_out"), layers=2):
    """Stacked GRUs of one step or more, whose states of all layers are one input and one output; a sigmoid of a projection behind them."""
    rng = np.random.default_rng(1)
    nodes, weights, below = [], {"K": rng.standard_normal((6, 2)).astype("f"), "split": np.ones(layers, np.int64)}, "x"
    nodes.append(MAKE("Split", [names[0], "split"], [f"h{i}" for i in range(layers)], axis=0))
    for i in range(layers):
        arrays = recurrent_arrays("GRU", rng, sizes=(1, 1, 4 if i == 0 else 6, 6), leave="XHL")
        weights |= {f"{name}{i}": array for name, array in arrays.items()}
        nodes += [MAKE("GRU", [below, f"W{i}", f"R{i}", f"B{i}", "", f"h{i}"], [f"y{i}", f"n{i}"], hidden_size=6), MAKE("Squeeze", [f"y{i}", "one"], [f"s{i}"])]
        below = f"s{i}"
    weights["one"] = np.array([1])
    nodes += [MAKE("Concat", [f"n{i}" for i in range(layers)], [names[1]], axis=0), MAKE("MatMul", [below, "K"], ["m"]), MAKE("Sigmoid", ["m"], ["score"])]
    inputs = [value("x", None, ["time", "batch", 4]), value(names[0], None, [layers, "batch", 6])]
    return graph(nodes, inputs, ["score", names[1]], weights)


def with_states(torch, kind, batch_first=True, **options):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = getattr(torch.nn, kind)(4, 6, batch_first=batch_first, **options)
            self.out = torch.nn.Linear(6 * (2 if options.get("bidirectional") else 1), 3)

        def forward(self, x, h0=None, c0=None):
            y, new = self.rnn(x, h0 if c0 is None else (h0, c0))
            return (torch.sigmoid(self.out(y)), *(new if isinstance(new, tuple) else (new,))) if h0 is not None else self.out(y)

    return Net()
