"""The official ONNX node tests of RNN, LSTM and GRU, with layout 1 too."""

import importlib
import warnings

import numpy as np
import pytest

import rnnfast
from tests.peers import require

require("onnx")


def official():
    """The operators' own cases: each module puts its own into a list when it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        node = importlib.import_module("onnx.backend.test.case.node")
        for name in ("rnn", "lstm", "gru"):
            importlib.import_module(f"onnx.backend.test.case.node.{name}")
    return [case for case in node._NodeTestCases if case.model.graph.node[0].op_type in ("RNN", "LSTM", "GRU")]


CASES = official()


def test_there_are_eighteen():
    assert len(CASES) == 18


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_official_case(case):
    model = rnnfast.from_onnx(case.model.SerializeToString())
    for inputs, outputs in case.data_sets:
        names = [value.name for value in case.model.graph.input]
        found = model.run(dict(zip(names, inputs, strict=True)))
        for value, expected in zip(case.model.graph.output, outputs, strict=True):
            np.testing.assert_allclose(found[value.name], expected, rtol=case.rtol, atol=case.atol)
            assert found[value.name].dtype == expected.dtype
