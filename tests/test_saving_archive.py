"""The native file format: exact round trips, atomic writes, and one clear error for every broken file."""

import io
import json
import math
import os
import random
import stat
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from rnnfast.errors import FormatError
from rnnfast.models import saving
from rnnfast.models.saving import load_archive, save_archive

CONFIG = {"name": "m", "layers": [{"units": 4, "rate": 0.1}], "none": None, "tiny": 5e-324, "third": 1 / 3}
ARRAYS = {
    "weights/gru/kernel": np.arange(12, dtype="float32").reshape(3, 4),
    "weights/gru/bias": np.array([1.0, -0.0, math.nan]),
    "seed": np.array([1, 2**63 - 1]),
    "empty": np.zeros((0, 3), "float32"),
    "scalar": np.float64(3.5) * np.ones(()),
    "flags": np.array([True, False]),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "m.rnnf"
    save_archive(path, CONFIG, ARRAYS)
    return path


def assert_same(arrays, expected):
    assert set(arrays) == set(expected)
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()
        assert arrays[name].flags.writeable


def test_round_trip(path):
    config, arrays = load_archive(path)
    assert config == CONFIG
    assert_same(arrays, ARRAYS)


def test_equal_contents_make_equal_files(path, tmp_path):
    other = tmp_path / "other.rnnf"
    save_archive(other, dict(reversed(CONFIG.items())), dict(reversed(ARRAYS.items())))
    assert other.read_bytes() == path.read_bytes()


def test_numpy_and_zip_tools_can_read_it(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        with archive.open("weights/gru/kernel.npy") as member:
            np.testing.assert_array_equal(np.load(io.BytesIO(member.read())), ARRAYS["weights/gru/kernel"])
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())


KINDS = st.sampled_from(["?", "i1", "u1", "<i2", ">i4", "<u8", "<f2", "<f4", ">f8"])


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9_]{1,5}(/[a-z]{1,3})?", fullmatch=True),
        npst.arrays(KINDS, npst.array_shapes(min_dims=0, min_side=0)),
    )
)
def test_any_arrays_round_trip(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("any") / "m.rnnf"
    save_archive(path, {}, arrays)
    _, found = load_archive(path)
    assert_same(found, {name: array.astype(array.dtype.newbyteorder("<")) for name, array in arrays.items()})


@settings(max_examples=60, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists))
def test_config_comes_back_exactly(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("config") / "m.rnnf"
    save_archive(path, {"value": value}, {})
    assert load_archive(path) == ({"value": value}, {})


def test_layout_and_strides_do_not_matter(tmp_path):
    array = np.arange(24.0).reshape(4, 6)
    for given_array in (np.asfortranarray(array), array[::-1][::-1], array.astype(">f8")):
        save_archive(tmp_path / "m", {"n": np.float32(0.1), "i": np.int64(3)}, {"a": given_array})
        config, arrays = load_archive(tmp_path / "m")
        np.testing.assert_array_equal(arrays["a"], array)
        assert config == {"n": float(np.float32(0.1)), "i": 3}


# Broken files


def load_bytes(tmp_path, content, **options):
    path = tmp_path / "broken.rnnf"
    path.write_bytes(content)
    return load_archive(path, **options)


def test_every_flipped_byte_is_found(path, tmp_path):
    content = path.read_bytes()
    rng = random.Random(0)
    for index in range(len(content)):
        broken = bytearray(content)
        broken[index] ^= 1 << rng.randrange(8)
        with pytest.raises(FormatError, match=r"broken\.rnnf: "):
            load_bytes(tmp_path, broken)


def test_every_cut_is_found(path, tmp_path):
    content = path.read_bytes()
    for size in range(0, len(content), 3):
        with pytest.raises(FormatError):
            load_bytes(tmp_path, content[:size])
    for more in (content + b"\0", b"\0" + content, content + content):
        with pytest.raises(FormatError):
            load_bytes(tmp_path, more)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_refused(tmp_path_factory, noise):
    with pytest.raises(FormatError):
        load_bytes(tmp_path_factory.mktemp("noise"), noise)


def forge(members, compression=zipfile.ZIP_STORED, manifest=None):
    """A file of the format with the given members and right checksums, whatever the members hold."""
    import hashlib

    listed = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in members}
    head = {"format": "rnnfast", "version": 1, "members": listed, **(manifest or {})}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("manifest.json", json.dumps(head))
        for name, data in members:
            archive.writestr(name, data)
        archive.comment = saving._COMMENT + b"0" * 64
    digits = hashlib.sha256(file.getvalue()[:-64]).hexdigest().encode()
    return file.getvalue()[:-64] + digits


def npy(descr="<f4", shape="(2,)", data=b"\0" * 8, magic=b"\x93NUMPY\x01\x00", order="False"):
    header = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return magic + struct.pack("<H", len(header)) + header + data


def test_a_forged_file_loads(tmp_path):
    config, arrays = load_bytes(tmp_path, forge([("config.json", b"{}"), ("a.npy", npy())]))
    assert (config, list(arrays)) == ({}, ["a"])


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (npy("|O"), "header is not one"),
        (npy("<f4", order="True"), "header is not one"),
        (npy("<c8"), "header is not one"),
        (npy("<V4"), "header is not one"),
        (npy(shape="(2, -1)"), "header is not one"),
        (npy(shape="(" + "9" * 30 + ",)"), "header is not one"),
        (npy(shape="(4611686018427387904, 4)"), r"needs 73786976294838206464 bytes"),
        (npy(shape="(3,)"), r"shape \(3,\) of '<f4' needs 12 bytes"),
        (npy("<f8"), "needs 16 bytes"),
        (npy(data=b""), "needs 8 bytes"),
        (npy(magic=b"\x93NUMPY\x02\x00"), "format 1.0"),
        (b"", "format 1.0"),
        (b"\x80\x04K\x01.", "format 1.0"),
    ],
)
def test_wrong_array_headers(tmp_path, member, reason):
    with pytest.raises(FormatError, match=rf"broken\.rnnf: a\.npy: .*{reason}"):
        load_bytes(tmp_path, forge([("config.json", b"{}"), ("a.npy", member)]))


@pytest.mark.parametrize(
    "name", ["../a.npy", "/a.npy", "a/../../b.npy", "a//b.npy", "./a.npy", "C:/a.npy", "a\\b.npy", "a.pkl", "a\x07.npy"]
)
def test_unsafe_names(tmp_path, name):
    with pytest.raises(FormatError, match="the name is not one of this format"):
        load_bytes(tmp_path, forge([("config.json", b"{}"), (name, npy())]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: forge([("a.npy", npy())]), "config.json: missing"),
        (lambda: forge([("config.json", b"[]")]), "config.json: must be a JSON object, got list"),
        (lambda: forge([("config.json", b"{")]), "config.json: not a whole"),
        (lambda: forge([("config.json", b"\xff")]), "config.json: not a whole"),
        (lambda: forge([("config.json", b"[" * 200_000)]), "config.json: not a whole"),
        (lambda: forge([("config.json", b"{}")], manifest={"version": 2}), "version 2 is not 1; install a newer"),
        (
            lambda: forge([("config.json", b"{}")], manifest={"format": "keras"}),
            "format must be 'rnnfast', got 'keras'",
        ),
        (
            lambda: forge([("config.json", b"{}"), ("a.npy", npy())], manifest={"members": {}}),
            "a.npy: the manifest and",
        ),
        (lambda: forge([("config.json", b"{}")], manifest={"members": []}), "config.json: the manifest and"),
        (lambda: forge([("config.json", b"{}")], manifest={"members": {"config.json": 3}}), "manifest says None"),
        (
            lambda: forge([("config.json", b"{}")], manifest={"members": {"config.json": {"size": 2, "sha256": "0"}}}),
            "config.json: the checksum does not match",
        ),
        (lambda: forge([("config.json", b"{}"), ("a.npy", bytes(1 << 20))], zipfile.ZIP_DEFLATED), "compressed"),
        (lambda: forge([("config.json", b"{}")])[:-64] + b"0" * 64, "checksum of the whole file"),
    ],
)
def test_wrong_contents(tmp_path, content, message):
    with pytest.raises(FormatError, match=message):
        load_bytes(tmp_path, content())


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_names(tmp_path):
    with pytest.raises(FormatError, match=r"a\.npy: the name occurs twice"):
        load_bytes(tmp_path, forge([("config.json", b"{}"), ("a.npy", npy()), ("a.npy", npy())]))


def test_swapped_members(path, tmp_path):
    one, two = npy(data=b"1" * 8), npy(data=b"2" * 8)
    right = forge([("config.json", b"{}"), ("a.npy", one), ("b.npy", two)])
    with zipfile.ZipFile(io.BytesIO(right)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    with pytest.raises(FormatError, match=r"a\.npy: the checksum does not match"):
        load_bytes(tmp_path, forge([("config.json", b"{}"), ("a.npy", two), ("b.npy", one)], manifest=manifest))


def test_sizes_are_limited_before_memory_is_taken(path, tmp_path, monkeypatch):
    with pytest.raises(FormatError, match="bytes are more than max_bytes=100"):
        load_archive(path, max_bytes=100)
    monkeypatch.setattr(saving, "_MAX_TEXT", 10)
    with pytest.raises(FormatError, match=r"manifest\.json: .* more than the 10 allowed"):
        load_archive(path)


def test_overlapping_members_are_refused(tmp_path):
    content = bytearray(forge([("config.json", b"{}"), ("a.npy", npy(data=b"\0" * 8))]))
    # The size in the central directory says that the member is as long as several files.
    at = content.rfind(b"a.npy") - 46
    content[at + 20 : at + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    with pytest.raises(FormatError, match=r"members claim .* bytes in a file of"):
        load_bytes(tmp_path, bytes(content))


def test_missing_file_and_folder_are_os_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_archive(tmp_path / "none")
    with pytest.raises(OSError, match="directory"):
        load_archive(tmp_path)


# Writing


@pytest.mark.parametrize(
    ("config", "arrays", "message"),
    [
        ({"a": object()}, {}, "config must hold JSON types, got <object"),
        ({}, {"a": np.array(["x"])}, "array 'a' must hold booleans, integers or floats, got dtype <U1"),
        ({}, {"a": np.array([None])}, "got dtype object"),
        ({}, {"../a": np.zeros(1)}, "name must be a relative path"),
        ({}, {"": np.zeros(1)}, "name must be a relative path"),
    ],
)
def test_what_cannot_be_saved_is_named_and_leaves_the_old_file(path, config, arrays, message):
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        save_archive(path, config, arrays)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device"), MemoryError])
@pytest.mark.parametrize("where", ["_write_member", "os.fsync", "os.replace", "_digest"])
def test_a_stopped_save_leaves_the_old_file_and_nothing_else(path, monkeypatch, error, where):
    before = path.read_bytes()

    def stop(*args):
        raise error

    monkeypatch.setattr(f"rnnfast.models.saving.{where}", stop)
    with pytest.raises(error if isinstance(error, type) else OSError):
        save_archive(path, {"new": 1}, ARRAYS)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_permissions_and_links(path, tmp_path):
    os.chmod(path, 0o640)
    save_archive(path, {}, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    mask = os.umask(0o027)
    try:
        save_archive(tmp_path / "new", {}, {})
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    os.symlink(path, tmp_path / "link")
    before = path.read_bytes()
    save_archive(tmp_path / "link", {"through": 1}, {})
    assert path.read_bytes() == before
    assert not os.path.islink(tmp_path / "link")


def test_file_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_archive("m.rnnf", {"a": 1}, {})
    assert load_archive("m.rnnf") == ({"a": 1}, {})
    with pytest.raises(FileNotFoundError):
        save_archive("none/m.rnnf", {}, {})
