"""A guest in somebody's process: forks, threads, other runtimes, the floating-point mode, what an import brings."""

import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Sequential, layers
from rnnfast.layers.runner import Runner
from tests import peers


@pytest.fixture
def two_threads():
    kept = rnnfast.get_num_threads()
    rnnfast.set_num_threads(2)
    yield
    rnnfast.set_num_threads(kept)


@pytest.fixture
def one_thread(two_threads):
    rnnfast.set_num_threads(1)


@pytest.fixture
def model(rng):
    made = Sequential([Input((None, 32)), layers.LSTM(96, return_sequences=True), layers.Dense(3)])
    made.set_weights([rng.normal(0, 0.2, w.shape) for w in made.get_weights()])
    made.compile("adam", "mse")
    return made


@pytest.fixture
def x(rng):
    return rng.normal(size=(16, 40, 32)).astype(np.float32)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_gives_the_same_bits_and_does_not_hang(model, x, two_threads):
    expected = model.predict_on_batch(x)
    child = os.fork()
    if child == 0:
        same = np.array_equal(model.predict_on_batch(x), expected)
        model.train_on_batch(x, expected)
        os._exit(0 if same and rnnfast.get_num_threads() == 1 else 1)
    waiter = threading.Timer(60, os.kill, (child, 9))
    waiter.start()
    _, status = os.waitpid(child, 0)
    waiter.cancel()
    assert status == 0
    assert np.array_equal(model.predict_on_batch(x), expected)


PLACES = """
import os, sys
import numpy as np, rnnfast
from rnnfast import Input, Sequential, layers
from rnnfast.layers.runner import Runner

rnnfast.set_num_threads(2)
model = Sequential([Input((None, 32)), layers.LSTM(256)])
x = np.zeros((64, 20, 32), np.float32)
before, cores = set(os.listdir("/proc/self/task")), os.sched_getaffinity(0)
for _ in range(3):
    model.predict_on_batch(x)
(worker,) = (int(task) for task in set(os.listdir("/proc/self/task")) - before)
assert os.sched_getaffinity(0) == cores, "callers are not touched"
left_out = cores - os.sched_getaffinity(worker)
assert len(left_out) == 1, "one core is left to the caller"
first, second, *_ = sorted(cores)
bound = left_out if sys.argv[1] == "worker" else None
if bound:
    os.sched_setaffinity(worker, bound)
for core in (first, second, first):  # the caller moves, whatever core it was on
    os.sched_setaffinity(0, {core})
    model.predict_on_batch(x)
assert os.sched_getaffinity(worker) == (bound or cores), "what somebody else says stands; a caller that was bound lets its workers go"
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two cores")
@pytest.mark.parametrize("bound", ["caller", "worker"])
def test_workers_keep_off_the_core_of_their_caller(bound, tmp_path):
    env = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    found = subprocess.run([sys.executable, "-c", PLACES, bound], capture_output=True, text=True, cwd=tmp_path, env=env, timeout=120)
    assert found.returncode == 0, found.stderr


def test_many_python_threads_share_a_model(model, x, two_threads):
    expected = model.predict_on_batch(x)
    wrong = []

    def work(rows):
        for _ in range(10):
            if not np.array_equal(model.predict_on_batch(x[:rows]), expected[:rows]):
                wrong.append(rows)

    workers = [threading.Thread(target=work, args=(rows,)) for rows in (16, 16, 5, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def forget_plans(model, rng):
    """Use a model for more shapes than it keeps plans, and the memory that is free then for other things."""
    for time in range(6, 30):
        model.test_on_batch(rng.standard_normal((8, time, 2)).astype(np.float32), np.zeros((8, 1), np.float32))
        model(np.zeros((2, time, 2), np.float32), training=True)
    gc.collect()
    return [np.full(size, 1e3, dtype) for size in range(1, 400) for dtype in (np.float32, np.float64)]


def test_training_goes_on_after_its_plan_was_forgotten(rng):
    x, y = rng.standard_normal((64, 5, 2)).astype(np.float32), rng.standard_normal((64, 1)).astype(np.float32)
    losses = []
    for forgetting in (False, True):
        rnnfast.utils.set_random_seed(0)
        model = Sequential([Input((None, 2)), layers.LSTM(8), layers.Dense(1)])
        model.compile(optimizer="sgd", loss="mse")
        losses.append([])
        for _ in range(4):
            losses[-1] += [model.train_on_batch(x, y) for _ in range(2)]
            kept = forget_plans(model, rng) if forgetting else None
        del kept
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    "layer", [layers.LSTM(8, trained_initial_state=True), layers.Statal(5, slots=2, state="trace"), layers.GRU(6, zoneout=0.2)], ids=["initial state", "statal", "zoneout"]
)
def test_predictions_go_on_after_their_plan_was_forgotten(layer, rng):
    model = Sequential([Input((None, 2)), layer, layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    model.set_weights([rng.standard_normal(w.shape) for w in model.get_weights()])
    x = rng.standard_normal((16, 5, 2)).astype(np.float32)
    expected = model.predict_on_batch(x)
    for _ in range(3):
        kept = forget_plans(model, rng)
        np.testing.assert_array_equal(model.predict_on_batch(x), expected)
        del kept


def test_other_threads_find_a_plan_when_it_is_whole(model, x, monkeypatch):
    connect, found = Runner.connect, []

    def look(bound, xs, outputs):
        found.append(any(one is bound for one in model.runner().bounds.values()) and any(array.shape == (1,) for array in outputs))
        connect(bound, xs, outputs)

    monkeypatch.setattr(Runner, "connect", staticmethod(look))
    model.predict_on_batch(x[:3])
    assert found and not any(found)


def test_subnormals_of_the_caller_survive(model, x, two_threads):
    tiny = np.float32(1e-40)
    for run in (lambda: model.predict_on_batch(x), lambda: model.train_on_batch(x, model.predict_on_batch(x))):
        run()
        assert np.float32(tiny * np.float32(0.5)) > 0
        assert np.all(np.full(100, tiny) * np.float32(0.5) > 0)


def test_torch_in_the_same_process(model, x, two_threads):
    torch = peers.require("torch")
    torch.set_num_threads(2)
    a = torch.ones(300, 300)
    expected, product = model.predict_on_batch(x), (a @ a).numpy()
    for _ in range(20):
        assert np.array_equal((a @ a).numpy(), product)
        assert np.array_equal(model.predict_on_batch(x), expected)


def test_import_brings_numpy_alone():
    code = "import sys, numpy; before = set(sys.modules); import rnnfast; print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    foreign = {name for name in names if name not in sys.stdlib_module_names and not name.startswith(("rnnfast", "_cython", "cython_runtime"))}
    assert foreign <= {"numpy"}
    assert not {"argparse", "multiprocessing", "asyncio", "unittest", "http", "csv", "pathlib", "random", "signal"} & set(names)


def test_an_import_leaves_what_few_models_need_for_later():
    code = "import sys, rnnfast; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {f"rnnfast.{name}" for name in ("autodiff.tape", "autodiff.scan", "plan.python_cell", "decoding", "models.stream", "models.stream_pool", "models.saving")} & set(names)


class Calling(layers.Cell):
    """A step that calls a function first."""

    state_size = output_size = 2
    before = staticmethod(lambda: None)

    def call(self, inputs, states):
        type(self).before()
        return inputs + states[0], [inputs + states[0]]


@pytest.fixture
def calling(monkeypatch):
    made = Sequential([Input((None, 2)), layers.RNN(Calling(), return_sequences=True)])

    def before(function):
        monkeypatch.setattr(Calling, "before", staticmethod(function))

    return made, before


def test_a_cell_that_calls_its_own_model_is_told_so(calling):
    model, before = calling
    x = np.ones((2, 3, 2), np.float32)
    expected = model.predict_on_batch(x)
    model.predict_on_batch(x)
    before(lambda: model.predict_on_batch(x))
    with pytest.raises(RuntimeError, match="called its own model while that runs"):
        model.predict_on_batch(x)
    calls = []

    def other_shape():
        if not calls:
            calls.append(None)
            calls[0] = model.predict_on_batch(x[:1])

    before(other_shape)
    assert np.array_equal(model.predict_on_batch(x), expected)
    assert np.array_equal(calls[0], expected[:1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_while_another_thread_predicts_leaves_no_lock_taken(calling, one_thread):
    model, before = calling
    x, inside, go_on = np.ones((2, 3, 2), np.float32), threading.Event(), threading.Event()
    expected, main = model.predict_on_batch(x), threading.main_thread()

    def wait():
        if threading.current_thread() is not main:
            inside.set()
            go_on.wait(60)

    before(wait)
    worker = threading.Thread(target=model.predict_on_batch, args=(x,))
    worker.start()
    assert inside.wait(60)
    child = os.fork()
    if child == 0:
        model.set_weights(model.get_weights())
        same = all(np.array_equal(model.predict_on_batch(x), expected) for _ in range(2))
        os._exit(0 if same else 1)
    waiter = threading.Timer(60, os.kill, (child, 9))
    waiter.start()
    _, status = os.waitpid(child, 0)
    waiter.cancel()
    go_on.set()
    worker.join()
    assert status == 0
    assert np.array_equal(model.predict_on_batch(x), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_inside_of_a_prediction(calling, one_thread):
    """The child is in the prediction as its parent was, and ends it."""
    model, before = calling
    x, forked = np.ones((2, 3, 2), np.float32), []
    expected = model.predict_on_batch(x)
    before(lambda: forked or forked.append(os.fork()))
    found = model.predict_on_batch(x)
    if forked[0] == 0:
        os._exit(0 if np.array_equal(found, expected) and np.array_equal(model.predict_on_batch(x), expected) else 1)
    assert os.waitpid(forked[0], 0)[1] == 0
    assert np.array_equal(found, expected)
