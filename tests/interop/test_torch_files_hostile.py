"""Files of tensors that are damaged or mean harm: one FormatError, quickly, with little memory, nothing run."""

import io
import json
import os
import pickle
import struct
import warnings
import zipfile

import numpy as np
import pytest

from rnnfast import FormatError, Input, Sequential, layers, load
from rnnfast.interop import torch_files
from rnnfast.interop.torch_archive import read_pt
from rnnfast.models.saving import load_archive
from tests.interop.hostile import check_calm, check_refused, mutations
from tests.peers import require

torch = require("torch")
ROUNDS = int(os.environ.get("RNNFAST_FUZZ", "60"))  # damaged files of each kind


def zipped(path, text, storages=(b"\0" * 96, b"\0" * 48), **extra):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", text)
        for i, content in enumerate(storages):
            archive.writestr(f"archive/data/{i}", content)
        for name, content in extra.items():
            archive.writestr(f"archive/{name}", content)
    return path


def glob(module, name):
    return f"c{module}\n{name}\n".encode()


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value):
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def integers(values):
    return b"(" + b"".join(map(integer, values)) + b"t"


def storage(kind="FloatStorage", key="0", size=24, first="storage"):
    return b"(" + text(first) + glob("torch", kind) + text(key) + text("cpu") + integer(size) + b"tQ"


ORDERED = glob("collections", "OrderedDict")


def tensor(where=None, offset=0, shape=(6, 4), strides=(4, 1), tail=b"\x89" + ORDERED + b")R"):
    return glob("torch._utils", "_rebuild_tensor_v2") + b"(" + (where or storage()) + integer(offset) + integers(shape) + integers(strides) + tail + b"tR"


def state(*entries):
    return b"\x80\x02" + ORDERED + b")R(" + b"".join(text(name) + value for name, value in entries) + b"u."


SECOND = ("weight_hh_l0", tensor(where=storage(key="1", size=12), shape=(6, 2), strides=(2, 1)))
GRU = state(("weight_ih_l0", tensor()), SECOND)


class Harm:
    def __reduce__(self):
        return os.system, ("touch /tmp/rnnfast_was_here",)


PICKLES = {
    "runs a command": pickle.dumps({"weight_ih_l0": Harm()}, protocol=2),
    "runs a command, protocol 4": pickle.dumps(Harm(), protocol=4),
    "os.system": b"\x80\x02" + glob("os", "system") + text("true") + b"\x85R.",
    "posix.system": b"\x80\x02" + glob("posix", "system") + b"(" + text("true") + b"tR.",
    "eval": b"\x80\x02" + glob("builtins", "eval") + text("1") + b"\x85R.",
    "torch.load": b"\x80\x02" + glob("torch", "load") + text("x") + b"\x85R.",
    "a class of torch": b"\x80\x02" + glob("torch.nn.modules.rnn", "LSTM") + b")R.",
    "a parameter": b"\x80\x02" + glob("torch._utils", "_rebuild_parameter") + b"(" + tensor() + b"\x88" + ORDERED + b")RtR.",
    "a sparse tensor": b"\x80\x02" + glob("torch._utils", "_rebuild_sparse_tensor") + b")R.",
    "a quantized tensor": b"\x80\x02" + glob("torch._utils", "_rebuild_qtensor") + b")R.",
    "a meta tensor": b"\x80\x02" + glob("torch._utils", "_rebuild_meta_tensor_no_storage") + b")R.",
    "a dotted name": b"\x80\x02" + glob("collections", "OrderedDict.__init__.__globals__") + b")R.",
    "a storage called": b"\x80\x02" + glob("torch", "FloatStorage") + b")R.",
    "an ordered dict of items": b"\x80\x02" + ORDERED + b"](K\x01K\x02t\x85R.",
    "calls a number": b"\x80\x02K\x01)R.",
    "calls a tensor": b"\x80\x02" + tensor() + b")R.",
    "instance": b"\x80\x02(" + text("x") + b"ios\nsystem\n.",
    "new object": b"\x80\x02" + ORDERED + b")\x81.",
    "build on a dict": b"\x80\x02}}b.",
    "build on a tensor": b"\x80\x02" + tensor() + b"}b.",
    "build of attributes": b"\x80\x02" + ORDERED + b")R}" + text("__class__") + b"K\x01sb.",
    "build of a tuple": b"\x80\x02" + ORDERED + b")R(N}tb.",
    "stack global": b"\x80\x02" + text("os") + text("system") + b"\x93.",
    "frame": b"\x80\x04\x95" + b"\x10" + b"\0" * 7 + b"}.",
    "protocol 3": b"\x80\x03}.",
    "extension": b"\x80\x02\x82\x01.",
    "text persistent id": b"\x80\x02Pstorage\n.",
    "nothing": b"",
    "only a stop": b"\x80\x02.",
    "two objects": b"\x80\x02}}.",
    "more behind": GRU + b"}",
    "no stop": GRU[:-1],
    "underflow": b"\x80\x02\x87.",
    "no mark": b"\x80\x02}u.",
    "memo without": b"\x80\x02h\x07.",
    "memo in itself": b"\x80\x02]q\x00h\x00a.",
    "dict in itself": b"\x80\x02}q\x00" + text("state_dict") + b"h\x00s.",
    "by a tuple": b"\x80\x02})K\x01s.",
    "by a list": b"\x80\x02}]K\x01s.",
    "half a pair": b"\x80\x02}(K\x01u.",
    "text cut": b"\x80\x02X\xff\xff\xff\xff.",
    "text of no code": b"\x80\x02X\x01\0\0\0\xff.",
    "long name": b"\x80\x02c" + b"a" * 100_000 + b"\nb\n.",
    "deep lists": b"\x80\x02" + b"]" * 60_000 + b"a" * 59_999 + b".",
    "deep tuples": b"\x80\x02)" + b"\x85" * 100_000 + b".",
    "deep tuples as a key": b"\x80\x02})" + b"\x85" * 100_000 + b"Ns.",
    "deep marks": b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".",
    "many operations": b"\x80\x02" + b"N0" * 1_000_000 + b".",
    "many objects": b"\x80\x02" + b"]" * 300_000,
    "memo doubles": b"\x80\x02]q\x00" + b"".join(b"(h%ch%ctq%c" % (i, i, i + 1) for i in range(200)) + b".",
    "large numbers": b"\x80\x02" + (b"\x8a\xff" + b"\x7f" * 255) * 10_000 + b".",
    "a list": b"\x80\x02].",
    "a tensor alone": b"\x80\x02" + tensor() + b".",
    "no tensors": b"\x80\x02}" + text("epoch") + b"K\x01s.",
    "two state dicts": b"\x80\x02}(" + text("model") + b"}" + text("state_dict") + b"}u.",
    "an empty state dict": b"\x80\x02}" + text("model") + b"}s.",
    "a number among tensors": state(("weight_ih_l0", tensor()), ("epoch", b"K\x01")),
    "numbered": b"\x80\x02}K\x01" + tensor() + b"s.",
}
TENSORS = {
    "out of the storage": tensor(shape=(7, 4)),
    "behind the storage": tensor(offset=1),
    "offset far": tensor(offset=1 << 61),
    "offset overflows": tensor(offset=1 << 64),
    "offset negative": tensor(offset=-1),
    "shape negative": tensor(shape=(-6, -4)),
    "shape overflows": tensor(shape=(1 << 32, 1 << 32), strides=(0, 0)),
    "shape huge": tensor(shape=(1 << 61, 2)),
    "stride negative": tensor(offset=23, strides=(-4, -1)),
    "stride overflows": tensor(strides=(1 << 61, 1)),
    "stride zero": tensor(strides=(0, 1)),
    "strides overlap": tensor(strides=(1, 1)),
    "strides overlap otherwise": tensor(shape=(3, 4), strides=(3, 3)),
    "too few strides": tensor(strides=(4,)),
    "many axes": tensor(shape=(1,) * 40, strides=(1,) * 40),
    "no tuple": tensor().replace(integers((4, 1)), b"K\x01"),
    "booleans": tensor().replace(integers((4, 1)), b"\x88\x88\x86"),
    "floats": tensor().replace(integers((4, 1)), b"G" + struct.pack(">d", 4.0) + b"K\x01\x86"),
    "hooks": tensor(tail=b"\x89" + ORDERED + b")R" + text("a") + b"K\x01s"),
    "marks of its own": tensor(tail=b"\x89" + ORDERED + b")R}"),
    "no storage": tensor(where=b"N"),
    "no storage's name": tensor(where=storage(first="module")),
    "storage of a function": tensor(where=storage(kind="load")),
    "complex": tensor(where=storage(kind="ComplexFloatStorage")),
    "untyped": tensor(where=storage(kind="UntypedStorage")),
    "negative storage": tensor(where=storage(size=-24)),
    "storage too large": tensor(where=storage(size=1 << 40)),
    "storage larger than its member": tensor(where=storage(size=25)),
    "doubles of floats": tensor(where=storage(kind="DoubleStorage")),
    "missing storage": tensor(where=storage(key="7")),
    "storage elsewhere": tensor(where=storage(key="../../../etc/passwd")),
    "the pickle as storage": tensor(where=storage(key="../data.pkl")),
}
NO_WEIGHTS = {
    "integers": tensor(where=storage(kind="IntStorage")),
    "booleans": tensor(where=storage(kind="BoolStorage", size=96)),
    "bytes": tensor(where=storage(kind="ByteStorage", size=96)),
    "empty": tensor(shape=(0, 1 << 61)),
}


@pytest.mark.parametrize("case", PICKLES)
def test_pickles(case, tmp_path):
    check_refused(read_pt, zipped(tmp_path / "m.pt", PICKLES[case]))
    assert not os.path.exists("/tmp/rnnfast_was_here")


@pytest.mark.parametrize("case", TENSORS)
def test_tensors(case, tmp_path):
    check_refused(read_pt, zipped(tmp_path / "m.pt", state(("weight_ih_l0", TENSORS[case]), SECOND)))


@pytest.mark.parametrize("case", NO_WEIGHTS)
def test_tensors_that_are_no_weights(case, tmp_path):
    check_refused(torch_files.read, zipped(tmp_path / "m.pt", state(("weight_ih_l0", NO_WEIGHTS[case]), SECOND)))


def test_the_same_in_order(tmp_path):
    """What the cases above depart from is read."""
    assert [w.shape for w in torch_files.read(zipped(tmp_path / "m.pt", GRU)).get_weights()] == [(4, 6), (2, 6)]


def test_two_sizes_of_one_storage(tmp_path):
    other = tensor(where=storage(size=12), shape=(6, 2), strides=(2, 1))
    check_refused(read_pt, zipped(tmp_path / "m.pt", state(("weight_ih_l0", tensor()), ("weight_hh_l0", other))))


ARCHIVES = {
    "a storage too many": {"storages": (b"\0" * 96, b"\0" * 48, b"\0" * 48)},
    "a short storage": {"storages": (b"\0" * 95, b"\0" * 48)},
    "a long storage": {"storages": (b"\0" * 97, b"\0" * 48)},
    "no storage": {"storages": ()},
    "byte order": {"byteorder": b"middle"},
    "constants": {"constants.pkl": b"\x80\x02)."},
    "code": {"code/__torch__.py": b"import os"},
    "two pickles": {"sub/data.pkl": GRU},
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_archives(case, tmp_path):
    check_refused(read_pt, zipped(tmp_path / "m.pt", GRU, **ARCHIVES[case]))


def test_many_tensors_of_few_numbers(tmp_path):
    where = storage(size=1 << 18)
    entries = [(f"r{i}.weight_{role}_l0", tensor(where=where, shape=(512, 512), strides=(512, 1))) for i in range(200) for role in ("ih", "hh")]
    check_refused(torch_files.read, zipped(tmp_path / "m.pt", state(*entries), (b"\0" * (1 << 20),)))


def test_names_twice_and_bombs(tmp_path):
    path = tmp_path / "m.pt"
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "w") as archive:
        for name, content in [("a/data.pkl", GRU), ("a/data/0", b"\0" * 96), ("a/data/1", b"\0" * 48), ("a/data/0", b"\1" * 96)]:
            archive.writestr(name, content)
    check_refused(read_pt, path)
    for name, size in [("a/data.pkl", 20 << 20), ("a/data/0", 100 << 20)]:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open(name, "w") as member:
                for _ in range(size >> 20):
                    member.write(b"\0" * (1 << 20))
            if "pkl" not in name:
                archive.writestr("a/data.pkl", GRU.replace(integer(24), integer(size // 4)))
        check_refused(read_pt, path)


def test_bombs_in_many_pieces(tmp_path):
    """Members that are each of an allowed size: all together are counted."""
    size = 8 << 20
    for ending, count in (("npz", 8), ("pt", 8)):
        with zipfile.ZipFile(tmp_path / f"m.{ending}", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for i in range(count):
                array = npy(shape=f"({size // 4},)", data=bytes(size))
                archive.writestr(*((f"l{i}.npy", array) if ending == "npz" else (f"a/data/{i}", bytes(size))))
            entries = [(f"l{i}", tensor(storage(key=str(i), size=size // 4), shape=(size // 4,), strides=(1,))) for i in range(count)]
            if ending == "pt":
                archive.writestr("a/data.pkl", state(*entries))
        check_refused(torch_files.read_npz if ending == "npz" else read_pt, tmp_path / f"m.{ending}")


def test_directories_of_many_members(tmp_path):
    """Every member of the list is the same one of the file; already the names would take memory and time."""
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
    entries = b"".join(struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0) + b"%05x.npy" % i for i in range(100_000))
    end = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 100_000, 100_000, len(entries), len(local))
    end += struct.pack("<4sIQI", b"PK\6\7", 0, len(local) + len(entries), 1) + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path = tmp_path / "m.zip"
    path.write_bytes(local + entries + end)
    for reader in (load, torch_files.read_npz, read_pt, load_archive):
        check_refused(reader, path)
        with pytest.raises(FormatError, match="its list of members has 5500000 bytes, more than the"):
            reader(path)


def test_what_torch_writes_besides_state_dicts(tmp_path):
    """Refused with what to do instead."""
    module = torch.nn.GRU(3, 4)
    cases = {
        "module": lambda path: torch.save(module, path),
        "script": lambda path: torch.jit.save(torch.jit.script(module), path),
        "legacy": lambda path: torch.save(module.state_dict(), path, _use_new_zipfile_serialization=False),
        "protocol": lambda path: torch.save(module.state_dict(), path, pickle_protocol=4),
        "parameters": lambda path: torch.save(dict(module.named_parameters()), path),
        "sparse": lambda path: torch.save({"weight": torch.eye(3).to_sparse()}, path),
        "expanded": lambda path: torch.save({"weight_ih_l0": torch.zeros(1).expand(12, 3), "weight_hh_l0": torch.zeros(12, 4)}, path),
        "complex": lambda path: torch.save({"weight_ih_l0": torch.zeros(12, 3, dtype=torch.complex64)}, path),
        "meta": lambda path: torch.save({"weight_ih_l0": torch.zeros(12, 3, device="meta")}, path),
    }
    for name, save in cases.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            save(tmp_path / f"{name}.pt")
        check_refused(load, tmp_path / f"{name}.pt")


# safetensors


def safe(path, header, data=b"\0" * 96, size=None):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(content) if size is None else size).to_bytes(8, "little") + content + data)
    return path


def entry(dtype="F32", shape=(6, 4), start=0, end=96):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


FULL = {"weight_ih_l0": entry(), "weight_hh_l0": entry("F32", (6, 2), 96, 144)}
HEADERS = {
    "no object": b"[1, 2, 3, 4]",
    "not json": b'{"a": ',
    "no dtype": {"a": {"shape": [1], "data_offsets": [0, 4]}},
    "more": {"a": entry() | {"x": 1}},
    "dtype": {"a": entry("F8_E4M3")},
    "dtype of a list": {"a": entry() | {"dtype": [["F32"]]}},
    "negative": {"a": entry(shape=(-6, -4))},
    "overflow": {"a": entry(shape=(1 << 62, 4))},
    "product overflows": {"a": entry(shape=(1 << 32, 1 << 32, 6), end=96)},
    "float shape": {"a": entry(shape=(6.0, 4.0))},
    "boolean shape": {"a": entry(shape=(True, 24))},
    "many axes": {"a": entry(shape=(1,) * 33)},
    "backwards": {"a": entry(start=96, end=0)},
    "outside": {"a": entry(start=0, end=192, shape=(12, 4))},
    "hole": {"a": entry(start=4, end=100)},
    "overlap": {"a": entry(), "b": entry()},
    "left over": {"a": entry(shape=(6, 2), end=48)},
    "three places": {"a": entry() | {"data_offsets": [0, 48, 96]}},
    "places of text": {"a": entry() | {"data_offsets": ["0", "96"]}},
    "nothing": {},
    "only metadata": {"__metadata__": {"format": "pt"}},
    "twice": b'{"a":{"dtype":"F32","shape":[24],"data_offsets":[0,96]},"a":{"dtype":"F32","shape":[24],"data_offsets":[0,96]}}',
    "deep": b'{"a":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
    "long": b'{"a":[' + b"[]," * 3_000_000 + b"[]]}",
    "wide": b"{" + b",".join(b'"%d":{}' % i for i in range(50_000)) + b"}",
    "numbers": b'{"a":' + b"9" * 1_000_000 + b"}",
}


@pytest.mark.parametrize("case", HEADERS)
def test_safetensors_headers(case, tmp_path):
    check_refused(torch_files.read_safetensors, safe(tmp_path / "m.safetensors", HEADERS[case]))


@pytest.mark.parametrize("size", [0, 1, 7, 1 << 20, 1 << 40, (1 << 64) - 1])
def test_safetensors_header_sizes(size, tmp_path):
    check_refused(torch_files.read, safe(tmp_path / "m.safetensors", FULL, b"\0" * 144, size))


def test_safetensors_in_order(tmp_path):
    model = torch_files.read(safe(tmp_path / "m.safetensors", FULL, b"\0" * 144))
    assert [w.shape for w in model.get_weights()] == [(4, 6), (2, 6)]


# npz


def npy(descr="'<f4'", shape="(6, 4)", data=b"\0" * 96, order="False", version=b"\x01\x00"):
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + len(header).to_bytes(2 if version[0] == 1 else 4, "little") + header + data


ARRAYS = {
    "objects": npy("'|O'", "(1,)", pickle.dumps([Harm()])),
    "records": npy("[('a', '<f4')]"),
    "dates": npy("'<M8[s]'", "(12,)"),
    "text": npy("'<U6'", "(4,)"),
    "complex": npy("'<c8'", "(12,)"),
    "negative": npy(shape="(-6, -4)"),
    "huge": npy(shape="(4611686018427387904, 4)"),
    "overflow": npy(shape="(18446744073709551616, 4)"),
    "large": npy(shape="(1000000, 1000000)"),
    "short": npy(data=b"\0" * 95),
    "long": npy(data=b"\0" * 97),
    "version": npy(version=b"\x03\x00"),
    "expression": npy(shape="(__import__('os').system('true'),)"),
    "deep": b"\x93NUMPY\x02\x00" + (9000).to_bytes(4, "little") + b"(" * 8999 + b"\n",
    "no header": b"\x93NUMPY",
    "nothing": b"",
}


@pytest.mark.parametrize("case", ARRAYS)
def test_npz_members(case, tmp_path):
    path = tmp_path / "m.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weight_ih_l0.npy", ARRAYS[case])
        archive.writestr("weight_hh_l0.npy", npy(shape="(6, 2)", data=b"\0" * 48))
    check_refused(torch_files.read_npz, path)


def test_npz_by_columns_and_of_other_byte_orders(tmp_path):
    arrays = {"weight_ih_l0": np.asfortranarray(np.arange(24.0).reshape(6, 4)), "weight_hh_l0": np.arange(12, dtype=">f4").reshape(6, 2)}
    np.savez_compressed(tmp_path / "m.npz", **arrays)
    found = torch_files.read_npz(tmp_path / "m.npz")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype.isnative


# damaged files


def small():
    return Sequential([Input((None, 3)), layers.GRU(4, name="rnn", return_sequences=True), layers.Dense(2, name="head")])


def good(ending, path):
    torch_files.write(small(), path / f"good.{ending}")
    return (path / f"good.{ending}").read_bytes()


@pytest.mark.parametrize("ending", ["pt", "safetensors", "npz"])
def test_damaged_files(ending, tmp_path):
    path = tmp_path / f"m.{ending}"
    model = small()
    for reader in (torch_files.read, lambda path: torch_files.read_weights(path, model)):
        for content in mutations(good(ending, tmp_path), ROUNDS, 1):
            path.write_bytes(content)
            check_calm(reader, path)


def test_damaged_pickles(tmp_path):
    """Behind whole checksums, so that the damage reaches the machine."""
    source = io.BytesIO()
    torch.save({"state_dict": torch.nn.GRU(3, 4).state_dict(), "lr": [0.1, None, (1, 2)], "step": 1 << 40}, source)
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    whole = next(name for name in members if name.endswith("data.pkl"))
    for content in mutations(members[whole], 4 * ROUNDS, 2):
        with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
            for name, member in members.items():
                archive.writestr(name, content if name == whole else member)
        check_calm(torch_files.read, tmp_path / "m.pt")


def test_damaged_headers(tmp_path):
    """Of safetensors and npz, with lengths that agree."""
    for content in mutations(json.dumps(FULL).encode(), 2 * ROUNDS, 3):
        check_calm(torch_files.read, safe(tmp_path / "m.safetensors", content, b"\0" * 144))
    for content in mutations(npy(), 2 * ROUNDS, 4):
        with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
            archive.writestr("weight_ih_l0.npy", content)
            archive.writestr("weight_hh_l0.npy", npy(shape="(6, 2)", data=b"\0" * 48))
        check_calm(torch_files.read, tmp_path / "m.npz")
