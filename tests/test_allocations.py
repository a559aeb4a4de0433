"""From the second call on, the engine takes no memory, and a live stream neither a lock nor the system: a preloaded library counts calls of the C library's
allocator and locks, and has the kernel end a process that makes a system call."""

import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "native" / "count_allocations.c"
PROGRAM = """
import ctypes, gc, os, sys
import numpy as np
import rnnfast
from rnnfast import Input, Sequential, layers

library = ctypes.CDLL(sys.argv[1])
count, counting = ctypes.c_long.in_dll(library, "allocation_count"), ctypes.c_int.in_dll(library, "allocation_counting")
largest, locks = ctypes.c_long.in_dll(library, "allocation_largest"), ctypes.c_long.in_dll(library, "lock_count")
rnnfast.set_num_threads(2)
model = Sequential([Input((None, 8)), layers.LSTM(64, return_sequences=True), layers.Dropout(0.1), layers.GRU(32), layers.Dense(4)])
model.compile("adam", "mse")
x, y = np.zeros((16, 50, 8), np.float32), np.zeros((16, 4), np.float32)
stream, frame = model.stream(), np.zeros(8, np.float32)
rnnfast.set_num_threads(1)
live = Sequential([Input((None, 8)), layers.Conv1D(8, 3, padding="causal"), layers.LSTM(16, return_sequences=True), layers.Dense(4)]).stream()
large = Sequential([Input((None, 8)), layers.GRU(128, return_sequences=True)]).stream()
chunk, answer, answers, wide, widths = np.zeros((8, 8), np.float32), *(np.empty(shape, np.float32) for shape in [(4,), (8, 4), (128,), (8, 128)])
left, right = Input((None, 8)), Input((None,), dtype="int32")
joined = layers.Concatenate()([left, layers.Embedding(9, 4, mask_zero=True)(right)])
forked = rnnfast.Model([left, right], [layers.GRU(16, return_sequences=True)(joined), layers.Dense(2)(joined)]).stream()
halves, token, tokens = [np.empty(16, np.float32), np.empty(2, np.float32)], np.int64(3), np.ones(8, np.int64)
parts = [np.empty((8, 16), np.float32), np.empty((8, 2), np.float32)]
pool = Sequential([Input((None, 8)), layers.LSTM(16, return_sequences=True)]).stream_pool(64)
some, rows, found = np.array([pool.open() for _ in range(64)])[::2].copy(), np.zeros((32, 8), np.float32), np.empty((32, 16), np.float32)
rnnfast.set_num_threads(2)
sequence = Sequential([Input((None, 8)), layers.GRU(32, return_sequences=True)])
sequence.compile("adam", "mse")
target = np.zeros((16, 50, 32), np.float32)
tagger = Sequential([Input((None, 8)), layers.GRU(32, return_sequences=True), layers.Dense(5)])
tagger.compile("adam", rnnfast.losses.SparseCategoricalCrossentropy(from_logits=True))
classes, narrow = np.zeros((16, 50), np.int64), np.zeros((16, 50), np.uint8)
recognizer = Sequential([Input((None, 8)), layers.GRU(32, return_sequences=True), layers.Dense(5)])
recognizer.compile("adam", "ctc")
labels = np.tile(np.array([1, 2, 3, 4, 0], np.int32).repeat(6), (16, 1))
x_in = Input((None, 8))
every, last = layers.GRU(32, return_sequences=True, return_state=True, name="both")(x_in)
several = rnnfast.Model(x_in, [layers.Dense(5, name="classes")(every), last, layers.Dense(1, name="unasked")(last)])
several.compile("adam", [rnnfast.losses.SparseCategoricalCrossentropy(from_logits=True), "mse", None], loss_weights=[1.0, 0.5, None])
targets = [narrow, np.zeros((16, 32), np.float32), None]
calls = {
    "train several outputs": lambda: several.train_on_batch(x, targets),
    "train": lambda: model.train_on_batch(x, y),
    "train on sequences": lambda: sequence.train_on_batch(x, target),
    "train on classes": lambda: tagger.train_on_batch(x, classes),
    "train on narrow classes": lambda: tagger.train_on_batch(x, narrow),
    "train on labels": lambda: recognizer.train_on_batch(x, labels),
    "test": lambda: model.test_on_batch(x, y),
    "predict": lambda: model.predict_on_batch(x),
    "long predict": lambda: sequence.predict_on_batch(x),
    "step": lambda: stream.step(frame),
}
rnnfast.set_num_threads(1)
calls |= {
    "live step": lambda: live.step(frame, answer),
    "live process": lambda: live.process(chunk, answers),
    "live step without an array for the result": lambda: live.step(frame),
    "live chunks of two sizes": lambda: (live.process(chunk, answers), live.process(chunk[:3], answers[:3])),
    "live step of several inputs and outputs": lambda: forked.step([frame, token], halves),
    "live process of several inputs and outputs": lambda: forked.process([chunk, tokens], parts),
    "large step": lambda: large.step(frame, wide),
    "large process": lambda: large.process(chunk, widths),
    "pool step": lambda: pool.step(some, rows, found),
}
gc.disable()
for name, call in calls.items():
    call()
    for _ in range(20):
        call()
    count.value = largest.value = locks.value = 0
    counting.value = 1
    for _ in range(100):
        call()
    counting.value = 0
    print(name, count.value, sep="=")
    print(name + ", largest", largest.value, sep="=")
    print(name + ", locks", locks.value, sep="=")
sys.stdout.flush()
if library.forbid_system_calls() == 0:
    for name, call in calls.items():
        if name.split()[0] in ("live", "large"):
            for _ in range(1000):
                call()
            os.write(1, (name + ", system calls=0\\n").encode())
else:
    os.write(1, b"forbidding=0\\n")
os._exit(0)
"""


LIVE = [
    "live step", "live process", "live step without an array for the result", "live chunks of two sizes", "live step of several inputs and outputs",
    "live process of several inputs and outputs", "large step", "large process",
]


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if platform.libc_ver()[0] != "glibc" or compiler is None:
        pytest.skip("needs glibc and a C compiler")
    library = tmp_path_factory.mktemp("preload") / "count.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
    environment = os.environ | {"LD_PRELOAD": str(library), "PYTHONMALLOC": "pymalloc"}
    result = subprocess.run([sys.executable, "-c", PROGRAM, str(library)], env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode in (0, -signal.SIGSYS), result.stderr
    return {name: int(number) for name, number in (line.split("=") for line in result.stdout.splitlines())}


@pytest.mark.parametrize("call", ["train", "train several outputs", "train on sequences", "train on classes", "train on narrow classes", "test", "predict", "step", *LIVE])
def test_no_allocation_after_the_first_call(counts, call):
    assert counts[call] == 0


@pytest.mark.parametrize("call", LIVE[:6])
def test_short_calls_of_a_stream_take_no_lock(counts, call):
    assert counts[f"{call}, locks"] == 0


@pytest.mark.parametrize("call", LIVE)
def test_a_stream_makes_no_system_call(counts, call):
    if "forbidding" in counts:
        pytest.skip("the kernel cannot forbid system calls here")
    assert counts.get(f"{call}, system calls") == 0


def test_a_pool_takes_no_more_than_pythons_own_objects(counts):
    assert counts["pool step, largest"] < 600


def test_a_long_result_is_the_only_allocation(counts):
    assert counts["long predict"] == 100  # numpy takes the array that the caller gets


def test_labels_are_checked_in_numpys_iterators_alone(counts):
    assert counts["train on labels, largest"] < 1200  # a copy of the labels has 3840 bytes
