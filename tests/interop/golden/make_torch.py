"""Makes the files torch_net.*: a small net as PyTorch 2.13 and the package safetensors write it, as PyTorch 1.6 to 2.0 did, and what it makes of an input.

    python tests/interop/golden/make_torch.py
"""

import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(5, 2)
        self.rnn = torch.nn.LSTM(2, 3, bidirectional=True, batch_first=True)
        self.head = torch.nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(self.embedding(x))[0])


def without(old: Path, new: Path, *names: str) -> None:
    """A copy of an archive without some members."""
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(new, "w") as target:
        for name in source.namelist():
            if not name.endswith(names):
                target.writestr(zipfile.ZipInfo(name), source.read(name))


if __name__ == "__main__":
    torch.manual_seed(7)
    net = Net()
    x = torch.tensor([[0, 3, 1, 4, 2], [2, 2, 0, 1, 4]])
    torch.save(net.state_dict(), HERE / "torch_net.pt")
    without(HERE / "torch_net.pt", HERE / "torch_net_1.6.pt", "byteorder", ".format_version", ".storage_alignment", "serialization_id")
    save_file(net.state_dict(), HERE / "torch_net.safetensors")
    np.savez(HERE / "torch_net_run.npz", x=x.numpy(), y=net(x).detach().numpy())
