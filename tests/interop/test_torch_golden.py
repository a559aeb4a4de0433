"""Files that PyTorch and safetensors wrote are read where neither is installed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rnnfast

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["torch_net.pt", "torch_net_1.6.pt", "torch_net.safetensors"])
def test_golden(name):
    run = np.load(GOLDEN / "torch_net_run.npz")
    np.testing.assert_allclose(rnnfast.load(GOLDEN / name).predict_on_batch(run["x"]), run["y"], atol=1e-6)


def test_numpy_is_all_that_is_needed(tmp_path):
    code = f"""
import pickle, sys
from rnnfast import interop
for name in ("torch", "safetensors"):
    sys.modules[name] = None
pickle.load = pickle.loads = pickle.Unpickler = pickle._Unpickler = None
interop.convert(r"{GOLDEN / "torch_net.pt"}", r"{tmp_path / "m.safetensors"}")
interop.convert(r"{tmp_path / "m.safetensors"}", r"{tmp_path / "m.pt"}")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    a, b = (rnnfast.load(path) for path in (GOLDEN / "torch_net.pt", tmp_path / "m.pt"))
    for one, other in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
