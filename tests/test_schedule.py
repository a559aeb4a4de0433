"""What the schedule chooses on a machine of given rates, what a plan prints of it, and that a wavefront gives the same bits."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import rnnfast
from rnnfast import Input, Sequential, _engine, layers
from rnnfast.plan import machine, schedule
from rnnfast.plan.machine import Machine
from rnnfast.plan.schedule import SPLIT_NONE, SPLIT_ROWS, SPLIT_UNITS, Work, choose_pair, choose_split, choose_wave

WAYS = (SPLIT_ROWS, SPLIT_UNITS)


@pytest.fixture(autouse=True)
def restore_threads():
    kept = rnnfast.get_num_threads()
    yield
    rnnfast.set_num_threads(kept)


@pytest.fixture
def fixed(monkeypatch):
    """Every plan is made for the machine that is assumed where none is measured."""
    monkeypatch.setattr(schedule, "machine", lambda threads: Machine())


def work(batch, time, units, gates=4, depth=None):
    return Work(batch, time, units, units, gates, units if depth is None else depth, 4, 8, min(time, 16))


@pytest.mark.parametrize(
    ("batch", "time", "units", "threads", "split"),
    [
        (1, 100, 32, 1, SPLIT_NONE),
        (1, 100, 16, 2, SPLIT_NONE),  # a step costs less than a meeting
        (1, 100, 512, 2, SPLIT_UNITS),
        (32, 100, 64, 2, SPLIT_ROWS),
        (3, 100, 16, 4, SPLIT_NONE),  # too few rows for the team
        (64, 50, 64, 4, SPLIT_ROWS),
    ],
)
def test_split(batch, time, units, threads, split, fixed):
    assert choose_split(work(batch, time, units), threads, WAYS).split == split


def test_only_what_the_op_can_do_is_chosen(fixed):
    assert choose_split(work(1, 100, 512), 2, (SPLIT_ROWS,)).split == SPLIT_NONE
    assert choose_split(work(4, 100, 512), 2, (SPLIT_ROWS,)).split == SPLIT_ROWS


@pytest.mark.parametrize("barrier", [3e-8, 3e-7])
def test_rows_are_shared_for_sure_and_units_of_one_row_on_trial(barrier, monkeypatch):
    """Cores that were near each other, or far, when that was measured may be otherwise in a second: a team whose meetings last goes back to one thread, but rows that have met cannot be parted."""
    now = Machine(flops=250e9, l2_bytes=1 << 20, l2_rate=200e9, l3_rate=110e9, barrier=barrier, region=2e-6, measured=True)
    monkeypatch.setattr(schedule, "machine", lambda threads: now)
    assert choose_split(work(1, 100, 64), 2, WAYS).split == SPLIT_UNITS
    assert choose_split(work(8, 100, 64), 2, WAYS).split == SPLIT_ROWS


def test_units_without_a_product_need_no_meeting(fixed):
    meeting, free = work(1, 100, 64, depth=64), work(1, 100, 64, depth=0)
    assert free.seconds(Machine(barrier=1), 1, 32, threads=2) < 1 < meeting.seconds(Machine(barrier=1), 1, 32, threads=2)


def test_weights_behind_the_cache_are_read_at_its_rate():
    slow, fast = Machine(l3_rate=1e9), Machine(l3_rate=1e12)
    near, far = work(1, 10, 64), work(1, 10, 1024)
    assert near.seconds(slow, 1, 64) == near.seconds(fast, 1, 64)
    assert far.seconds(slow, 1, 1024) > 2 * far.seconds(fast, 1, 1024)


def test_pair_runs_beside_or_one_after_the_other(fixed):
    beside, choices = choose_pair([work(1, 100, 32)] * 2, 2, WAYS)
    assert beside and [c.split for c in choices] == [SPLIT_NONE] * 2
    beside, choices = choose_pair([work(1, 100, 192)] * 2, 2, WAYS)  # shared, half of the kernel stays in a core's cache
    assert not beside and [c.split for c in choices] == [SPLIT_UNITS] * 2


def test_pair_is_judged_by_the_rates_of_its_team(monkeypatch):
    """A thread that runs beside another is one of a team whose rates were measured, not one of the machine assumed for a thread alone."""
    fast = Machine(flops=127e9, l2_bytes=2 << 20, l2_rate=91e9, l3_rate=22e9, barrier=2e-7, region=2e-6, measured=True)
    monkeypatch.setattr(schedule, "machine", lambda threads: Machine() if threads == 1 else fast)
    for units in (32, 64, 128, 256):
        assert choose_pair([work(1, 100, units)] * 2, 2, WAYS)[0]
    beside, choices = choose_pair([work(1, 100, 512)] * 2, 2, WAYS)  # 4 MB, of which L2 keeps a quarter for one thread and half for two
    assert not beside and [c.split for c in choices] == [SPLIT_UNITS] * 2


@pytest.mark.parametrize(
    ("units", "threads", "stages"),
    [([64] * 4, 2, [2, 2]), ([64] * 4, 4, [1, 1, 1, 1]), ([64] * 3, 8, [1, 1, 1]), ([256, 32, 32, 32], 2, [1, 3])],
)
def test_wave_stages_are_balanced(units, threads, stages, fixed):
    wave = choose_wave([work(1, 100, n) for n in units], threads)
    assert wave.stages == stages
    assert 1 < wave.chunk <= 32


def test_wave_instead_of_meetings_at_each_step(monkeypatch):
    """By estimates that are about the same, a wave whose kernels stay in L2 is better; not one that reads them again in each chunk."""
    monkeypatch.setattr(schedule, "machine", lambda threads: Machine(flops=105e9, l2_bytes=2 << 20, l2_rate=90e9, l3_rate=21e9, barrier=1.6e-7, region=2e-6))
    for units, better in (64, True), (128, True), (256, False), (512, False):
        layers = [work(1, 100, units)] * 4
        choices = [choose_split(one, 2, WAYS) for one in layers]
        wave = choose_wave(layers, 2)
        assert wave.near == better
        assert wave.better(sum(c.one for c in choices), sum(c.best for c in choices)) == better


def test_calibration_is_finite_and_can_be_switched_off(monkeypatch):
    machine.machine.cache_clear()
    found = machine.machine(2)
    assert found.l2_bytes >= 64 * 1024
    assert all(0 < rate < 1e15 for rate in (found.flops, found.l2_rate, found.l3_rate))
    assert all(0 < seconds < 1 for seconds in (found.barrier, found.region))
    assert machine.machine(2) is found
    machine.machine.cache_clear()
    monkeypatch.setenv("RNNFAST_CALIBRATE", "0")
    assert machine.machine(2) == Machine()
    machine.machine.cache_clear()


def test_a_clock_that_stands_still_gives_fixed_rates(monkeypatch):
    monkeypatch.setattr(machine, "perf_counter", lambda: 0.0)
    machine.machine.cache_clear()
    assert not machine.machine(2).measured
    machine.machine.cache_clear()


# -- the faster way is found out -----------------------------------------------------------------------------------------------------------


def tried(estimate, one, team, calls=3000):
    """The ways that calls take, 0 for one thread, and their seconds over those of the faster way, where calls take what `one` and `team` say of their number."""
    trial, ways, spent, least = _engine.Trial(estimate), [], 0.0, 0.0
    for i in range(calls):
        took = one(i), team(i)
        ways.append(trial.way)
        spent, least = spent + took[trial.way], least + min(took)
        trial.judge(took[trial.way])
    return ways, spent / least


@pytest.mark.parametrize("estimate", [(100e-6, 60e-6), (60e-6, 50e-6), (500e-6, 250e-6), (20e-6, 15e-6)])
@pytest.mark.parametrize(("one", "team"), [(90e-6, 50e-6), (50e-6, 90e-6), (60e-6, 20e-3)])
def test_the_faster_way_is_taken_soon_and_the_other_seldom(one, team, estimate):
    ways, cost = tried(estimate, lambda i: one, lambda i: team)
    kept = sum(ways[500:]) / len(ways[500:])
    assert kept > 0.95 if team < one else kept < 0.05
    assert cost < (1.15 if team < 1e-3 else 4)  # the calls at the start, some of them late, are among 3000


def test_a_late_call_now_and_then_changes_nothing():
    ways, _ = tried((100e-6, 60e-6), lambda i: 90e-6, lambda i: 10e-3 if i % 200 == 150 else 50e-6)
    assert sum(ways) > 0.9 * len(ways)


def test_missing_cores_are_met_and_their_return_is_seen():
    ways, _ = tried((100e-6, 60e-6), lambda i: 90e-6, lambda i: 1e-3 if 1000 <= i < 2000 else 50e-6, 6000)
    assert sum(ways[1010:2000]) < 20
    assert sum(ways[4000:]) > 1850


def test_a_team_that_meets_another_one_at_its_start_is_soon_tried_again():
    def team(i):  # NumPy's own threads spin for a while after the products that drew the weights
        return 6e-3 if i < 30 and i % 2 else 1.5e-3

    ways, _ = tried((800e-6, 450e-6), lambda i: 2.2e-3, team, 200)
    assert sum(ways[80:]) > 0.9 * len(ways[80:])


@pytest.mark.parametrize(("team", "kept"), [(5e-3, True), (12e-3, False)])
def test_what_a_young_program_said_is_doubted(team, kept):
    trial = _engine.Trial((8e-3, 4e-3))
    for _ in range(20):
        trial.judge((10e-3, 14e-3)[trial.way])
    assert trial.way == 0
    trial.doubt()
    ways = []
    for _ in range(10):
        ways.append(trial.way)
        trial.judge((10e-3, team)[trial.way])
    assert ways[:2] == [1, 1] and all(ways[:6]) == all(ways) == kept


def test_work_of_many_sizes(rng):
    sizes = rng.uniform(0.1, 1, 3000)
    ways, _ = tried((100e-6, 60e-6), lambda i: 90e-6 * sizes[i], lambda i: 50e-6 * sizes[i])
    assert sum(ways[500:]) > 0.9 * len(ways[500:])


def test_long_calls_are_not_tried_where_that_costs_a_user_seconds():
    assert all(tried((2.0, 1.0), lambda i: 2.0, lambda i: 1.0, 500)[0])
    assert not all(tried((2.0, 1.0), lambda i: 2.0, lambda i: 30.0, 4)[0])  # unless the team is seen to be slower than one thread was estimated


def test_long_calls_are_tried_again_where_one_way_takes_less_than_one_and_a_half_times_the_other():
    ways, cost = tried((78e-3, 40e-3), lambda i: 78e-3, lambda i: 0.4 if i < 2 else 40e-3, 300)
    assert not all(ways[:20]) and all(ways[40:]) and cost < 1.2


def test_long_calls_whose_team_was_slower_at_their_start_are_soon_tried_again():
    ways, _ = tried((29e-3, 16e-3), lambda i: 29e-3, lambda i: 40e-3 if i < 16 else 17e-3, 40)
    assert ways[4:16].count(0) > 6 and all(ways[20:32])


def test_one_thread_that_was_estimated_too_low_is_tried_once():
    ways, _ = tried((12e-3, 6e-3), lambda i: 47e-3, lambda i: 22e-3, 20)
    assert ways.count(0) == 2


# -- wavefronts ------------------------------------------------------------------------------------------------------------------------


def stack(kinds, units=24, **options):
    model = Sequential([Input((None, 11))] + [getattr(layers, kind)(units, return_sequences=True, **options) for kind in kinds])
    model.build((None, None, 11))
    return model


def forced(monkeypatch, stages, chunk):
    monkeypatch.setattr("rnnfast.plan.wave.choose_wave", lambda works, threads: schedule.Wave(stages, chunk, 0.0))
    monkeypatch.setattr("rnnfast.plan.plan.region_seconds", lambda threads: -1.0)


@pytest.mark.parametrize(("stages", "threads"), [([2, 2], 2), ([1, 1, 2], 3), ([1, 1, 1, 1], 4), ([3, 1], 3)])
@pytest.mark.parametrize(("batch", "time", "chunk"), [(1, 20, 4), (1, 21, 4), (5, 13, 3), (1, 3, 8)])
@pytest.mark.parametrize("kinds", [("LSTM", "GRU", "SimpleRNN", "LSTM"), ("GRU",) * 4])
def test_wave_gives_the_same_bits(kinds, batch, time, chunk, stages, threads, monkeypatch, rng):
    model = stack(kinds)
    x = rng.normal(size=(batch, time, 11)).astype(np.float32)
    lengths = rng.integers(0, time + 1, batch)
    resets = rng.random((batch, time)) < 0.2
    calls = [{}, {"lengths": lengths}, {"resets": resets}]
    rnnfast.set_num_threads(1)
    expected = [model.predict_on_batch(x, **options) for options in calls]
    forced(monkeypatch, stages, chunk)
    rnnfast.set_num_threads(threads)
    for _ in range(3):  # counts are ready for the next run
        assert all(np.array_equal(model.predict_on_batch(x, **options), y) for options, y in zip(calls, expected, strict=True))
    assert "wave=" in str(model.plan(batch, time))


def test_wave_ends_before_what_it_cannot_hold(monkeypatch, rng):
    """A layer from the end of time, and one that starts from a state of the layer before it, are no part of a chain."""
    forced(monkeypatch, [1, 1], 4)
    rnnfast.set_num_threads(2)
    options = {"return_sequences": True}
    model = Sequential([Input((None, 5)), layers.LSTM(8, **options), layers.GRU(8, go_backwards=True, **options), layers.GRU(8, **options), layers.LSTM(8)])
    lines = model.plan(2, 30).lines
    assert [("lstm" in line, "gru" in line, "wave=" in line) for line in lines if line.startswith("recurrent")] == [
        (True, False, False), (False, True, False), (True, True, True),
    ]  # fmt: skip

    x = Input((None, 5))
    y, *states = layers.LSTM(8, return_sequences=True, return_state=True)(x)
    chained = rnnfast.Model(x, layers.LSTM(8)(y, initial_state=states))
    assert "wave=" not in str(chained.plan(2, 30))


@pytest.mark.parametrize(("batch", "time"), [(0, 4), (3, 0)])
def test_nothing_to_compute(batch, time, monkeypatch):
    forced(monkeypatch, [1, 1], 4)
    rnnfast.set_num_threads(2)
    assert stack(("LSTM", "GRU"))(np.zeros((batch, time, 11), np.float32)).shape == (batch, time, 24)


def test_streams_and_pools_of_stacks(monkeypatch, rng):
    model = stack(("LSTM", "GRU", "LSTM"))
    x = rng.normal(size=(3, 12, 11)).astype(np.float32)
    rnnfast.set_num_threads(1)
    expected = model.predict_on_batch(x)
    forced(monkeypatch, [2, 1], 2)
    rnnfast.set_num_threads(2)
    stream = model.stream()
    assert np.array_equal(np.vstack([stream.process(x[0, :7]), stream.process(x[0, 7:])]), expected[0])
    pool = model.stream_pool(4)
    ids = np.array([pool.open() for _ in range(3)])
    assert np.array_equal(np.concatenate([pool.process(ids, x[:, :5]), pool.process(ids, x[:, 5:])], axis=1), expected)


def test_more_threads_than_cores(rng):
    """Meetings that wait for the operating system, after which a program runs on one thread for a while."""
    model = stack(("LSTM",), units=256)
    x = rng.normal(size=(1, 12, 11)).astype(np.float32)
    rnnfast.set_num_threads(1)
    expected = model.predict_on_batch(x)
    rnnfast.set_num_threads(12)
    assert all(np.array_equal(model.predict_on_batch(x), expected) for _ in range(12))


def test_training_has_no_wave(monkeypatch, rng):
    forced(monkeypatch, [1, 1], 4)
    rnnfast.set_num_threads(2)
    model = stack(("LSTM", "LSTM"))
    x, dy = rng.normal(size=(2, 9, 11)).astype(np.float32), rng.normal(size=(2, 9, 24)).astype(np.float32)
    shared = model.vjp(x, dy)
    rnnfast.set_num_threads(1)
    alone = model.vjp(x, dy)
    assert np.array_equal(shared["x"], alone["x"])


def test_plan_says_why(fixed):
    rnnfast.set_num_threads(2)
    text = str(Sequential([Input((None, 64)), layers.LSTM(512)]).plan(1, 100))
    assert "split=units (one thread " in text
    assert "threads=2" in text.splitlines()[0]
    small = str(Sequential([Input((None, 4)), layers.LSTM(8)]).plan(1, 2))
    assert "threads=1" in small.splitlines()[0]
    assert "split=one thread" in small


# -- memory ----------------------------------------------------------------------------------------------------------------------------

MIB = 2**20


def plans(kind, shape):
    """Of a prediction and of a training step."""
    batch, time, inputs, units = shape
    model = Sequential([Input((None, inputs)), getattr(layers, kind)(units, return_sequences=True)])
    inference = dict(model.plan(batch, time).memory)  # now, for training has panels of its own made of the same variables
    runner = model.runner()
    xs = [np.zeros((batch, time, inputs), np.float32)]
    bound = runner.start(xs, [None], True, True, 0)
    bound.builder.backward()
    return inference, bound.builder.plan.memory


@pytest.mark.parametrize("shape", [(1, 100, 64, 64), (8, 100, 256, 256), (32, 100, 128, 128), (128, 20, 128, 512), (256, 100, 16, 64), (1, 1000, 1, 40)])
@pytest.mark.parametrize(("kind", "slots"), [("LSTM", 5), ("GRU", 4), ("SimpleRNN", 1)])
def test_memory_bounds(kind, slots, shape, fixed):
    rnnfast.set_num_threads(2)
    batch, time, _, units = shape
    inference, training = plans(kind, shape)
    vectors = 8 * 4 * 64  # of variables and panels, which start on a line of their own
    lanes = _engine.lanes("float32")
    assert inference["panels"] <= inference["weights"] * -(-units // lanes) * lanes / units + vectors
    assert inference["tape"] == inference["states kept"] == inference["gradients"] == 0
    assert inference["working"] <= 2 * 2 * MIB
    assert inference["outputs"] <= 4 * batch * (time + 1) * units
    steps, padded = batch * (time + 1), -(-units // 16) * 16
    assert training["tape"] <= 4 * slots * steps * padded + 192 * (padded // 4)
    assert training["states kept"] <= 4 * steps * padded


def test_plan_prints_its_memory():
    line = str(Sequential([Input((None, 64)), layers.LSTM(64)]).plan(4, 50)).splitlines()[1]
    assert line.startswith("memory in MiB: weights 0.13, panels 0.13, working ")


@pytest.mark.parametrize("limit", [{"OMP_THREAD_LIMIT": "1"}, {"OMP_DYNAMIC": "true"}])
def test_fewer_threads_than_asked_for(limit):
    """OpenMP may give a team fewer; nobody waits for those that are missing."""
    code = (
        "import numpy as np, rnnfast; from rnnfast import Input, Sequential, layers; rnnfast.set_num_threads(2)\n"
        "model = Sequential([Input((None, 64)), layers.LSTM(256, return_sequences=True), layers.LSTM(256)])\n"
        "print(model.predict_on_batch(np.ones((1, 9, 64), 'f')).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | limit, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "(1, 256)\n"
