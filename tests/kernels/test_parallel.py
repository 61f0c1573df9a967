"""Tasks shared by threads: each is done once, and the caller's settings are as they were."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from functools import partial
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from scratchgan.kernels.numpy import parallel
from scratchgan.kernels.numpy.gemm import gemm


@pytest.fixture(autouse=True)
def three_threads():
    with threadpool_limits(3, user_api="blas"):
        yield


def blas_threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def at_once(count, function):
    """Tasks that end only when so many run at the same time."""
    barrier = threading.Barrier(count, timeout=10)
    return [lambda: (barrier.wait(), function())] * count


def test_each_task_once_and_several_at_a_time():
    done, names = [], set()
    parallel.run([lambda i=i: done.append(i) for i in range(100)])
    assert sorted(done) == list(range(100))
    parallel.run(at_once(3, lambda: names.add(threading.current_thread())))
    assert len(names) == 3 and threading.current_thread() in names
    parallel.run([])


def test_the_blas_has_one_thread_inside_and_as_many_as_before_afterwards():
    inside = []
    parallel.run(at_once(3, lambda: inside.append(blas_threads())))
    assert inside == [{1}] * 3 and blas_threads() == {3}
    with pytest.raises(ZeroDivisionError):
        parallel.run(at_once(2, lambda: 1 / 0))
    assert blas_threads() == {3}


def test_the_blas_keeps_its_threads_where_no_task_calls_it():
    seen = []
    with threadpool_limits(3, "blas"):
        parallel.run(at_once(3, lambda: seen.append(blas_threads())), products=False)
        assert seen == [{3}] * 3 and blas_threads() == {3}


def test_a_task_shares_nothing_further():
    seen = []

    def task():
        mine = threading.current_thread()
        parallel.run([lambda: seen.append(threading.current_thread() is mine)] * 3)
        seen.append(parallel.workers() == 1)
    parallel.run(at_once(3, task))
    assert seen == [True] * 12 and parallel.workers() == 3


def test_an_exception_is_raised_when_all_have_ended_and_nothing_new_begins(monkeypatch):
    skip, skipped, ended, new = parallel._skip, threading.Event(), [], []
    monkeypatch.setattr(parallel, "_skip", lambda left: (skip(left), skipped.set()))
    begun = threading.Barrier(3, timeout=10)

    def fails():
        begun.wait()
        raise LookupError("this one")

    def goes_on():
        begun.wait()
        skipped.wait(10)
        time.sleep(0.01)
        ended.append(True)
    for tasks in ([fails, goes_on, goes_on], [goes_on, goes_on, fails]):
        with pytest.raises(LookupError, match="this one"):
            parallel.run([*tasks, *[lambda: new.append(True)] * 10])
        assert ended == [True, True] and new == []
        skipped.clear(), ended.clear()


def test_an_interrupt_waits_for_the_tasks_that_run(monkeypatch):
    interrupted, ended = threading.Event(), []

    class Interrupted(queue.SimpleQueue):
        def get(self):
            if threading.current_thread() is threading.main_thread() and not interrupted.is_set():
                interrupted.set()
                raise KeyboardInterrupt
            return super().get()

    def task():
        if threading.current_thread() is not threading.main_thread():
            interrupted.wait(10)
            time.sleep(0.01)
            ended.append(True)
    monkeypatch.setattr(queue, "SimpleQueue", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        parallel.run(at_once(2, task))
    assert ended == [True] and blas_threads() == {3}


INTERRUPTS = """
import random, signal
import numpy as np
from threadpoolctl import threadpool_limits
from scratchgan.kernels.numpy import parallel

armed = False

def interrupt(*_):
    global armed
    if armed:  # one for each time that it is: none in the lines that look at what it left
        armed = False
        raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
xs, delay = [np.ones(2000) for _ in range(4)], random.Random(0)
with threadpool_limits(2, user_api="blas"):
    for _ in range(500):
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, delay.uniform(1e-5, 2e-3))
            while armed:
                parallel.run([lambda x=x: np.add(x, 0, out=x) for x in xs])
        except KeyboardInterrupt:
            pass
        assert not parallel._lock.locked() and parallel.workers() == 2
    parallel.run([lambda x=x: np.add(x, 1, out=x) for x in xs])
print("each of", len(xs), "is", {float(value) for x in xs for value in x})
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer signals here")
def test_interrupts_at_any_moment_leave_nothing_waiting():
    """In a process of its own, as one that waits for ever would hold up the tests."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTS], capture_output=True, text=True, timeout=100)
    assert done.stdout == "each of 4 is {2.0}\n", done.stderr


def test_errstate_holds_in_every_thread():
    seen = []
    with np.errstate(over="raise"):
        parallel.run(at_once(3, lambda: seen.append(np.geterr()["over"])))
    assert seen == ["raise"] * 3


def test_two_callers_at_once():
    results, arrays = [], [np.full(1000, float(i)) for i in range(8)]

    def doubled(x):
        out = np.empty_like(x)
        parallel.run([lambda part=part: np.multiply(x[part], 2, out=out[part])
                      for part in parallel.split(slice(0, 1000), 10)])
        return out

    def caller(i):
        results.extend((doubled(arrays[i]) == 2 * i).all() for _ in range(50))
    threads = [threading.Thread(target=caller, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 400 and all(results) and blas_threads() == {3}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own():
    parallel.run(at_once(3, lambda: None))
    child = os.fork()
    if not child:
        try:
            parallel.run(at_once(3, lambda: None))
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_without_another_thread_to_be_had(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")
    with monkeypatch.context() as full:
        full.setattr(parallel, "_helpers", [])
        full.setattr(threading.Thread, "start", refuse)
        for _ in range(2):
            done = np.zeros(5)
            parallel.run([lambda i=i, done=done: done.__setitem__(i, done[i] + 1) for i in range(5)])
            assert (done == 1).all()
    test_each_task_once_and_several_at_a_time()


def test_scratch_memory():
    a, b = parallel.scratch("float32", (3, 5), (7,))
    a[...], b[...] = 1, 2
    assert a.shape == (3, 5) and b.dtype == np.float32 and (a == 1).all() and (b == 2).all()
    assert a.ctypes.data % 64 == b.ctypes.data % 64 == 0
    assert parallel.scratch(np.float64, (2, 2))[0].ctypes.data == a.ctypes.data  # lent again
    (a, b), c = parallel.scratch("float32", ((3, 5), (40,)), (2,))
    assert (a.shape, b.shape, c.shape) == ((3, 5), (40,), (2,))
    assert a.ctypes.data == b.ctypes.data and not np.may_share_memory(b, c)
    d, = parallel.scratch("float32", (4,), arena="another")
    assert not any(np.may_share_memory(d, array) for array in (a, b, c))
    others = []
    parallel.run(at_once(3, lambda: others.append(parallel.scratch("float32", (3,))[0])))
    assert len({other.ctypes.data for other in others}) == 3


def test_scratch_memory_is_laid_out_once(monkeypatch):
    monkeypatch.setattr(parallel, "KEPT", 2)
    lend = partial(parallel.scratch, "float32", arena="laid out")
    first = lend((40,), (2, 3))
    assert lend((40,), (2, 3)) is first
    lend((7,))
    lend((8,))  # the third
    assert lend((40,), (2, 3)) is not first
    assert np.shares_memory(lend((40,), (2, 3))[0], first[0])
    large = lend((1 << 20,))[0]  # in other memory, as all from now on
    assert np.shares_memory(lend((40,), (2, 3))[0], large) and not np.shares_memory(first[0], large)
    with monkeypatch.context() as patch:
        patch.setattr(parallel, "Block", Mock(side_effect=MemoryError))
        with pytest.raises(MemoryError):
            lend((2 << 20,))
    assert lend((40,), (2, 3))[0].shape == (40,)
    parallel._local.arenas.pop("laid out")


def test_scratch_memory_that_grows_lets_go_of_what_it_had():
    tracemalloc.start()
    try:
        for size in (1 << 20, 2 << 20, 3 << 20):
            parallel.scratch("uint8", (size,), arena="growing")
        current, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        parallel._local.arenas.pop("growing")
    assert 3 << 20 < current <= peak < 3.5 * (1 << 20)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_scratch_memory_like_an_array_has_its_memory_order(axes):
    x = np.zeros((2, 3, 5)).transpose(axes)
    like = parallel.scratch_like(x)
    assert (like.shape, like.strides, like.dtype) == (x.shape, x.strides, x.dtype)
    assert parallel.scratch_like(x[1:]).ctypes.data == like.ctypes.data


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 60))
def test_split(start, size, parts):
    pieces = parallel.split(slice(start, start + size), parts)
    assert [i for piece in pieces for i in range(start + size)[piece]] == list(range(start, start + size))
    lengths = [piece.stop - piece.start for piece in pieces]
    assert len(pieces) <= max(1, parts) and max(lengths) - min(lengths) <= 1


@given(st.permutations(range(3)), st.integers(1, 30), st.sampled_from(["dense", "one other", "gaps"]))
def test_by_blocks_treats_each_element_once(axes, block, kind):
    x = np.arange(60.0).reshape(3, 4, 5).transpose(axes)
    x = x[::-1, ::2] if kind == "gaps" else x
    out = np.zeros_like(x, order="C" if kind == "one other" else "K")

    def function(x, out):
        out += x + 1
    parallel.by_blocks(function, x, out, shared_from=10, block=block)
    assert np.array_equal(out, x + 1)


def test_elementwise_work_is_not_shared_while_the_blas_waits_for_more_of_its_own():
    x, names = np.zeros(parallel.SHARED_FROM), set()
    barrier = threading.Barrier(3)

    def together(piece):
        barrier.wait(timeout=10)
        names.add(threading.current_thread())
    parallel.run(at_once(3, lambda: None))
    parallel.by_blocks(together, x, block=len(x) // 3 + 1)
    assert len(names) == 3
    names.clear()
    gemm(np.eye(2), np.eye(2))
    parallel.by_blocks(lambda piece: names.add(threading.current_thread()), x)
    assert names == {threading.current_thread()}
    names.clear()
    heavy = threading.Barrier(3 if hasattr(os, "sched_setaffinity") else 1)
    parallel.by_blocks(lambda piece: (heavy.wait(timeout=10), names.add(threading.current_thread())), x,
                       block=len(x) // 3 + 1 if heavy.parties == 3 else len(x), beside_blas=True)
    assert len(names) == heavy.parties


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads are kept to cores on Linux only")
def test_helpers_run_on_other_cores_than_the_caller_who_may_run_on_any(monkeypatch):
    before, seen = os.sched_getaffinity(0), {}
    caller, mine = threading.current_thread(), min(before)
    assert parallel._own_core() in before
    monkeypatch.setattr(parallel, "_own_core", lambda: mine)  # it may be moved to another meanwhile

    def look():
        seen[threading.current_thread()] = os.sched_getaffinity(0)
    for _ in range(20):
        parallel.run(at_once(3, look))
        assert os.sched_getaffinity(0) == before == seen.pop(caller)
        assert set.union(*seen.values()) == (before - {mine} or before)
    try:
        os.sched_setaffinity(0, {mine})
        parallel.run(at_once(3, look))
        assert set.union(*seen.values()) == {mine}  # no other core
    finally:
        os.sched_setaffinity(0, before)
