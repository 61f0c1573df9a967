"""NumPy's memory, used again: what somebody holds is never given out again, what nobody holds is."""

import copy
import ctypes
import gc
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from scratchgan import backend, memory, recipes
from scratchgan.kernels.numpy import parallel
from scratchgan.layers import Conv2d, Layer, LeakyReLU, Linear, Sequential
from scratchgan.memory import POOL, SMALLEST, Pool

COUNTS = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
pytestmark = pytest.mark.skipif(not COUNTS, reason="this Python does not count references as the pool needs it")
SHAPE = (64, 96)  # of float32: above SMALLEST


def new(pool, shape=SHAPE, dtype="float32", order="C"):
    dtype = np.dtype(dtype)
    return pool.array(shape, dtype, order, int(np.prod(shape)) * dtype.itemsize)


def address(array):
    return array.ctypes.data


def blocks_of(pool):
    return [block for blocks in pool.blocks.values() for block in blocks]


def free_blocks(pool):
    return sum(pool.free([block]) is not None for block in blocks_of(pool))


def test_the_pool_works_here():
    assert Pool.works


# -- held and dropped ----------------------------------------------------------------------------------------------


class Own(np.ndarray):
    """A subclass, whose views NumPy chains otherwise."""


def generator(array):
    yield 1
    yield array


def begun(array):
    """A frame that waits, and holds the array."""
    paused = generator(array)
    next(paused)
    return paused


KEEPERS = {
    "itself": lambda a: a, "a list": lambda a: [a], "rows": lambda a: a[1:3], "a row": lambda a: a[-1],
    "transposed": lambda a: a.T, "reshaped": lambda a: a.reshape(-1), "another dtype": lambda a: a.view(np.uint8),
    "steps": lambda a: a[::2, ::-3], "an axis more": lambda a: a[None], "diagonal": np.diagonal,
    "broadcast": lambda a: np.broadcast_to(a, (3, *a.shape)), "a real part": lambda a: a.view(np.complex64).real,
    "a view of a view of a view": lambda a: a[1:].T[2:, None][1],
    "each row": list, "an iterator": iter, "flat": lambda a: a.flat,
    "windows": lambda a: np.lib.stride_tricks.sliding_window_view(a, 3, axis=1), "a memoryview": memoryview,
    "part of a memoryview": lambda a: memoryview(a)[1:],
    "an array of a memoryview": lambda a: np.asarray(memoryview(a)),
    "a subclass": lambda a: a.view(Own), "a view of a subclass": lambda a: a.view(Own)[1:].T,
    "a buffer": lambda a: np.frombuffer(a, np.float32, 5), "ctypes": lambda a: a.ctypes,
    "a pointer": lambda a: a.ctypes.data_as(ctypes.c_void_p), "dlpack": np.from_dlpack, "a frame": begun,
    "a function": lambda a: lambda: a, "a method": lambda a: a.sum, "masked": np.ma.asarray}


def check_kept(keep):
    pool = Pool()
    array = new(pool)
    array[...] = 5
    place = address(array)
    kept = keep(array)
    del array
    others = [new(pool) for _ in range(3)]
    for other in others:
        other[...] = 7
        assert address(other) != place
    assert ctypes.c_float.from_address(place).value == 5
    del kept
    gc.collect()
    assert address(new(pool)) == place
    assert len(blocks_of(pool)) == 4


@pytest.mark.parametrize("keep", KEEPERS.values(), ids=KEEPERS)
def test_what_is_held_is_not_given_out_until_it_is_dropped(keep):
    check_kept(keep)


def test_nor_is_what_torch_holds():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    check_kept(torch.from_numpy)
    check_kept(lambda a: torch.from_numpy(a)[1:].T.unsqueeze(0)[:, 3:])
    check_kept(torch.as_tensor)
    check_kept(torch.from_dlpack)


def test_copies_hold_nothing():
    pool = Pool()
    array = new(pool)
    place, copies = address(array), [array.copy(), copy.deepcopy(array), array[[1, 2]], array + 1, array.tolist()]
    del array
    assert address(new(pool)) == place and len(copies) == 5


def test_an_array_in_a_cycle_comes_back_with_the_cycle():
    pool = Pool()
    cycle = [new(pool)]
    cycle.append(cycle)
    place = address(cycle[0])
    del cycle
    gc.collect()
    assert address(new(pool)) == place


@given(st.lists(st.tuples(st.sampled_from([16384, 17000, 18000, 40000]), st.booleans(), st.integers(0, 9)),
                max_size=60))
def test_no_two_arrays_that_live_overlap(steps):
    """Whatever is asked for and dropped, each array keeps what was written into it."""
    pool, held = Pool(), []
    for number, (size, drop, which) in enumerate(steps):
        if drop and held:
            del held[which % len(held)]
        array = new(pool, (size,), np.uint8)
        array[...] = number
        held.append((number, array[1:] if which % 2 else array))
        del array
    for number, array in held:
        assert (array == number).all()
    assert len(blocks_of(pool)) <= len(steps)


# -- sizes ---------------------------------------------------------------------------------------------------------


@given(st.integers(SMALLEST, 1 << 24))
def test_at_most_an_eighth_of_a_block_is_unused(size):
    pool = Pool()
    array = new(pool, (size,), np.uint8)
    (block,) = blocks_of(pool)
    assert array.nbytes == size and address(array) % 64 == 0
    assert size + 64 <= block.bytes.nbytes <= size * 9 / 8 + 64


def test_blocks_serve_other_shapes_dtypes_and_orders_of_about_that_size():
    pool = Pool()
    place = address(new(pool, (64, 96)))
    for shape, dtype, order in (((96, 64), "float32", "C"), ((64, 96), "float32", "F"), ((32, 96), "float64", "F"),
                                ((16, 96), "complex128", "C"), ((64 * 96 * 4,), "uint8", "C"),
                                ((64, 95), "float32", "C")):
        array = new(pool, shape, dtype, order)
        assert address(array) == place and array.shape == shape and array.dtype == dtype
        assert array.flags[f"{order}_CONTIGUOUS"] and array.flags.writeable and array.flags.aligned
        del array
    assert len(blocks_of(pool)) == 1
    for size in (SMALLEST, 2 * 64 * 96 * 4):
        assert address(new(pool, (size,), np.uint8)) != place
    assert len(blocks_of(pool)) == 3


def test_blocks_that_nothing_asks_for_go(monkeypatch):
    monkeypatch.setattr(memory, "IDLE", 2)
    pool = Pool()
    idle, held, used = (new(pool, (size,), np.uint8) for size in (1 << 20, 1 << 19, 1 << 18))
    del idle, used
    for _ in range(2 * 64 + 10):
        new(pool, (1 << 18,), np.uint8)
    assert sorted(len(block.bytes) >> 18 for block in blocks_of(pool)) == [1, 2, 4]  # until one more is needed
    more = new(pool, (1 << 17,), np.uint8)
    assert sorted(len(block.bytes) >> 17 for block in blocks_of(pool)) == [1, 2, 4]
    assert all(np.shares_memory(array, block.bytes) for array, block in
               ((held, pool.blocks[1 << 19][0]), (more, pool.blocks[1 << 17][0])))
    pool.clear()
    held[...] = 3
    assert not blocks_of(pool) and (held == 3).all()


def test_blocks_in_use_now_and_then_stay():
    pool = Pool()
    place = address(new(pool, (1 << 20,), np.uint8))
    for i in range(20):
        held = [new(pool, (SMALLEST << i % 5,), np.uint8) for _ in range(i)]
        assert address(new(pool, (1 << 20,), np.uint8)) == place
        del held


# -- threads -------------------------------------------------------------------------------------------------------


def in_a_thread(function):
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def test_each_thread_has_blocks_of_its_own():
    place = address(backend.empty(SHAPE, "float32"))
    theirs = in_a_thread(lambda: (backend.empty(SHAPE, "float32"), len(blocks_of(POOL))))
    assert theirs[1] == 1 and address(theirs[0]) != place
    theirs[0][...] = 4  # it outlives its thread and its pool
    others = [backend.empty(SHAPE, "float32") for _ in range(5)]
    for other in others:
        other[...] = 7
    assert (theirs[0] == 4).all()


def test_an_array_that_another_thread_holds_is_not_given_out():
    pool = Pool()
    held, dropped, done = threading.Event(), threading.Event(), threading.Event()
    box = [new(pool)]
    place = address(box[0])

    def other():
        mine = box.pop()[1:]
        held.set()
        dropped.wait(10)
        del mine
        done.set()
    thread = threading.Thread(target=other)
    thread.start()
    held.wait(10)
    assert address(new(pool)) != place
    dropped.set()
    done.wait(10)
    thread.join()
    assert place in {address(array) for array in [new(pool), new(pool)]}


def test_many_threads_at_once():
    """Each writes its number into arrays that it hands to the next, and finds that of the one before."""
    wrong, count = [], 6
    boxes, barrier = [None] * count, threading.Barrier(count, timeout=30)

    def work(i):
        for step in range(100):
            boxes[i] = backend.empty(SHAPE, "float32")
            boxes[i][...] = 1000 * i + step
            barrier.wait()
            mine = boxes[(i - 1) % count][1:]
            barrier.wait()
            boxes[i] = None
            backend.empty(SHAPE, "float32")[...] = -1
            if not (mine == 1000 * ((i - 1) % count) + step).all():
                wrong.append((i, step))
            del mine
            barrier.wait()
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and None in boxes


# -- what is asked of `backend` ------------------------------------------------------------------------------------


@pytest.mark.parametrize("works", [True, False])
def test_empty(monkeypatch, works):
    monkeypatch.setattr(Pool, "works", works)
    for order in "CF":
        array = backend.empty((65, 97), "float32", order)
        assert array.shape == (65, 97) and array.dtype == np.float32 and array.flags[f"{order}_CONTIGUOUS"]
        assert (array.base is not None) == works
        assert not works or address(array) % 64 == 0
        small = backend.empty((3, 5), "float64", order)
        assert small.base is None and small.flags[f"{order}_CONTIGUOUS"]
    assert backend.empty((0, 1 << 20), "float32").shape == (0, 1 << 20)
    assert backend.empty((), "float32").shape == ()
    moved = backend.empty_along((64, 3, 20, 20), np.float32, (0, 2, 3, 1))
    assert backend.memory_order(moved) == (0, 2, 3, 1) and moved.transpose(0, 2, 3, 1).flags.c_contiguous
    for axes in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        x = np.zeros((30, 20, 40)).transpose(axes)
        for other in (x, x[::2]):
            like = backend.empty_like(other)
            assert like.shape == other.shape and like.dtype == x.dtype
            assert backend.memory_order(like) == backend.memory_order(x)
            assert not works or address(like) % 64 == 0


def test_without_the_pool_nothing_is_used_again(monkeypatch):
    monkeypatch.setattr(Pool, "works", False)
    before = len(blocks_of(POOL))
    net = Sequential(Linear(64, 96), LeakyReLU(0.2))
    x = np.ones((128, 64), np.float32)
    assert net.backward(net.forward(x)).shape == x.shape
    assert len(blocks_of(POOL)) == before


@pytest.mark.parametrize("count", [1, 3, 1 << 12])
def test_vectors_start_on_a_cache_line(count):
    assert address(backend.zeros_like(np.ones(count, np.float32))) % 64 == 0


# -- training ------------------------------------------------------------------------------------------------------


class Fails(Layer):
    """Passes on what it gets, or raises."""

    def __init__(self):
        super().__init__()
        self.now = False

    def forward(self, x):
        return x

    def backward(self, dy, wrt="all"):
        if self.now:
            raise LookupError("this time")
        return None if wrt == "params" else dy


def test_results_that_somebody_keeps_stay_as_they_are(rng):
    net = Sequential(Conv2d(3, 8, 4, 2, 1), LeakyReLU(0.2), Conv2d(8, 9, 3)).initialize(0)
    kept = []
    for _ in range(8):
        x = rng.standard_normal((8, 3, 20, 20)).astype(np.float32)
        y = net.forward(x)
        dx = net.backward(y)
        kept.append([(each, each.copy()) for each in (x, y, dx[1:].transpose(1, 0, 3, 2), y[2])])
        del y, dx
    for each, copied in (pair for pairs in kept for pair in pairs):
        assert np.array_equal(each, copied)


@pytest.mark.parametrize("threads", [1, 2])
def test_steps_of_training_do_not_make_the_pool_grow(rng, threads):
    POOL.clear()
    game, batch = recipes.get("mlp").build(seed=0), rng.uniform(-1, 1, (64, 1, 28, 28)).astype(np.float32)
    sizes = []
    with threadpool_limits(threads, user_api="blas"):
        for _ in range(12):
            game.step(batch)
            sizes.append((len(blocks_of(POOL)), sum(block.bytes.nbytes for block in blocks_of(POOL))))
    assert sizes[0][0] > 0 and len(set(sizes[2:])) == 1


def test_what_a_failed_step_held_comes_back_when_its_exception_goes(rng):
    POOL.clear()
    fails = Fails()
    net = Sequential(Linear(64, 256), LeakyReLU(0.2), fails, Linear(256, 200), LeakyReLU(0.2)).initialize(0)
    x = rng.standard_normal((128, 64)).astype(np.float32)

    def step():
        net.zero_grad()
        return net.backward(net.forward(x)).sum()
    right = [step(), step()]
    count = len(blocks_of(POOL))
    for _ in range(5):
        fails.now = True
        try:
            step()
        except LookupError as error:
            while_held = free_blocks(POOL)
            assert error.__traceback__ is not None
        assert free_blocks(POOL) > while_held  # what the frames of the failed pass held
        fails.now = False
        assert step() == right[0]
        assert len(blocks_of(POOL)) == count


@pytest.mark.parametrize("caller_fails", [True, False])
def test_an_exception_leaves_a_kernel_when_nothing_writes_any_more(caller_fails):
    """Else memory that comes back with the exception would be written to by a helper, in somebody else's array."""
    POOL.clear()
    both_run, places, written = threading.Barrier(2, timeout=10), [], []

    def task(out):
        both_run.wait()
        if (threading.current_thread() is threading.main_thread()) == caller_fails:
            raise KeyboardInterrupt
        time.sleep(0.05)
        out[...] = 1
        written.append(True)

    def kernel():
        out = backend.empty(SHAPE, "float32")
        places.append(address(out))
        parallel.run([lambda: task(out)] * 2)

    with threadpool_limits(2, user_api="blas"), pytest.raises(KeyboardInterrupt) as caught:
        kernel()
    assert written == [True]
    del caught
    gc.collect()
    assert places == [address(backend.empty(SHAPE, "float32"))]  # no idle thread holds it


def test_a_larger_batch_leaves_nothing_behind_for_good():
    pool = Pool()

    def steps(rows, count):
        for _ in range(count):
            held = [pool.array((rows, 100), np.dtype("float32"), "C", rows * 400) for _ in range(8)]
            del held
    steps(64, 10)
    steps(2048, 3)
    steps(64, 2000)
    assert sum(block.bytes.nbytes for blocks in pool.blocks.values() for block in blocks) < 2 * 8 * 64 * 400
