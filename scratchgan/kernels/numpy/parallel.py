"""Tasks on several cores: NumPy lets go of the interpreter inside its loops, so that Python threads share the work.

A convolution is cut into independent tasks. Each calls the BLAS with one thread, which beats one task at a time with
the BLAS on all cores: elementwise passes use all cores too, and a task's blocks stay in the cache of its core. As many
tasks run at once as the BLAS has threads, so one number (`--threads`, threadpoolctl) limits both; `run` gives
the BLAS its threads back before it returns.
"""

import contextvars
import ctypes
import functools
import itertools
import math
import os
import queue
import threading
from contextlib import contextmanager, suppress

import numpy as np

from scratchgan.backend import flat, memory_order
from scratchgan.memory import SMALLEST, Block

SHARED_FROM = 1 << 18  # elements: below, an elementwise operation is not worth dividing
BLOCK = 1 << 17  # elements: a few such blocks fit into a cache, and are worth the call
KEPT = 64  # sets of arrays to work in that an arena keeps: those of the layers of a network

_local = threading.local()  # .busy: this thread is inside `run`; .arenas: its scratch memory by name
_lock = threading.Lock()    # one `run` at a time has the helpers
_helpers = []               # (queue of work, thread) of each
# Whether the BLAS last worked with threads of its own: for some milliseconds they wait for more work, busily. No core
# looks free to the scheduler then, which may put a helper where the caller runs.
_blas_awake = False
_own_core = getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None  # on Linux


def blas_is_called():
    """To be called before the BLAS is, other than in a task."""
    global _blas_awake
    _blas_awake = True


@functools.cache
def _libraries():
    from threadpoolctl import ThreadpoolController  # here, since it looks through every loaded library
    return ThreadpoolController().select(user_api="blas").lib_controllers


def workers():
    """How many tasks run at once: the number of threads of the BLAS; 1 inside a task."""
    count = 1
    if not getattr(_local, "busy", False):
        for library in _libraries():
            count = max(count, library.get_num_threads() or 1)
    return count


def run(tasks, products=True):
    """Call every task (a function without arguments) once, several at a time, in no order to rely on.

    The tasks see the caller's context, so that its `np.errstate` holds for them too. After an exception no further task
    begins, and it is raised once those that had begun have ended. Without `products` no task may call the BLAS, whose
    threads then need not be taken away and given back.
    """
    global _blas_awake
    count, held, before = min(workers(), len(tasks)), [], []
    try:
        # Ctrl-C may come between any two lines, but not inside a call like extend(map(...)): what it did is known.
        if count > 1:
            held.extend(map(_lock.acquire, [False]))
        if held != [True]:
            for task in tasks:
                task()
            return
        if products:
            _blas_awake = False
            before = [library.get_num_threads() for library in _libraries()]
            _set_threads([1] * len(before))
        _share(tasks, count)
    finally:
        try:
            _set_threads(before)
        except KeyboardInterrupt:
            _set_threads(before)
            raise
        finally:
            if held == [True]:
                _lock.release()


def _set_threads(numbers):
    for library, number in zip(_libraries(), numbers):
        library.set_num_threads(number)


def _share(tasks, count):
    left, ended = iter(tasks), queue.SimpleQueue()  # an iterator of a list hands each task to one thread
    # What was handed out and what came back is known whenever Ctrl-C comes.
    errors, sent, back = [], [], []
    try:
        helpers = _helpers_there(count - 1)
        _keep_apart([helper for _, helper in helpers])
        jobs = [(contextvars.copy_context(), left, ended) for _ in helpers]
        sent.extend(map(queue.SimpleQueue.put, [work for work, _ in helpers], jobs))
        errors.append(_work(left))
    except BaseException as error:
        errors.append(error)
        _skip(left)
    while len(back) < len(sent):
        try:
            back.extend(map(queue.SimpleQueue.get, [ended]))
        except BaseException as error:  # while helpers still write into the caller's arrays
            errors.append(error)
            _skip(left)
    for error in errors + back:
        if error is not None:
            raise error


def _helpers_there(count):
    """So many helpers, or fewer where the system lets no more threads start."""
    while len(_helpers) < count:
        work = queue.SimpleQueue()
        helper = threading.Thread(target=_help, args=(work,), name="scratchgan", daemon=True)
        try:
            helper.start()
        except RuntimeError:
            break
        _helpers.append((work, helper))
    return _helpers[:count]


def _keep_apart(helpers):
    """Have the helpers run on other cores than this thread, which itself stays free to run anywhere."""
    if _own_core is None:
        return
    with suppress(OSError):
        allowed = os.sched_getaffinity(0)
        cores = allowed - {_own_core()} or allowed
        for helper in helpers:
            if getattr(helper, "cores", None) != cores:
                os.sched_setaffinity(helper.native_id, cores)
                helper.cores = cores


def _help(mine):
    while True:
        context, left, ended = mine.get()
        ended.put(context.run(_work, left))
        del context, left, ended  # an idle thread keeps no task, and no array of a task, alive


def _work(left):
    """Take tasks until none is left; returns the exception that ended it early."""
    _local.busy = True
    try:
        for task in left:
            task()
    except BaseException as error:  # also KeyboardInterrupt: the other threads must end first
        _skip(left)
        return error
    finally:
        _local.busy = False


def _skip(left):
    for _ in left:
        pass


def _forget_helpers():
    global _lock
    _helpers.clear()
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)  # threads do not survive a fork


def scratch(dtype, *shapes, arena="task"):
    """Arrays of these shapes to work in, uninitialised: valid until this thread asks for some in this arena again.

    For a tuple of shapes they come as a tuple, all in one place, to be used in turn.
    """
    place, key = _arena(arena), (dtype, shapes)
    arrays = place.arrays.get(key)
    if arrays is None:
        arrays = _placed(place, np.dtype(dtype), shapes)
        if len(place.arrays) >= KEPT:
            place.arrays.clear()
        place.arrays[key] = arrays
    return arrays


def _placed(arena, dtype, shapes):
    """Arrays of these shapes, one after the other in the arena."""
    in_turn = [isinstance(shape[0], tuple) for shape in shapes]
    sizes = [-(-max(map(math.prod, shape if turns else [shape])) * dtype.itemsize // 64) * 64
             for shape, turns in zip(shapes, in_turn)]
    memory, arrays, start = arena.memory(sum(sizes)), [], 0
    for shape, turns, size in zip(shapes, in_turn, sizes):
        place = memory[start:start + size].view(dtype)
        each = tuple(place[:math.prod(s)].reshape(s) for s in (shape if turns else [shape]))
        arrays.append(each if turns else each[0])
        start += size
    return tuple(arrays)


def scratch_like(x):
    """An array like x, in memory order, too, to work in, for which the same holds."""
    place = _arena("task").memory(x.nbytes)[:x.nbytes].view(x.dtype)
    if x.flags.c_contiguous:
        return place.reshape(x.shape)
    axes = memory_order(x)
    return place.reshape([x.shape[axis] for axis in axes]).transpose(sorted(range(x.ndim), key=axes.__getitem__))


class _Arena:
    """Memory of a thread to work in, and the arrays that lie there, by what was asked for."""

    def __init__(self):
        self.bytes, self.arrays = np.empty(0, np.uint8), {}

    def memory(self, size):
        """So many bytes or more, the same as before where they were enough."""
        size = max(size, SMALLEST)
        if self.bytes.size < size:
            self.bytes, self.arrays = np.empty(0, np.uint8), {}  # the old memory goes before the new one comes
            block = Block(size)  # none of the pool's, which would keep the old one for others
            self.bytes = block.bytes[block.start:block.start + size]
        return self.bytes


def _arena(name):
    arenas = _local.__dict__.setdefault("arenas", {})
    return arenas.get(name) or arenas.setdefault(name, _Arena())


@contextmanager
def long_runs(wanted=True):
    """Inside, NumPy's operations on arrays that are not contiguous but have long runs of elements are fast.

    It copies such operands into a buffer, which takes three times as long as the operation, unless their runs are
    longer than the buffer, which is 8,192 elements otherwise.
    """
    before = np.setbufsize(16) if wanted else None
    try:
        yield
    finally:
        if wanted:
            np.setbufsize(before)


def split(indices, parts):
    """The slice of indices as at most `parts` slices of nearly the same length."""
    start, size = indices.start, indices.stop - indices.start
    parts = max(1, min(parts, size))
    edges = [start + size * part // parts for part in range(parts + 1)]
    return [slice(*pair) for pair in itertools.pairwise(edges)]


def by_blocks(function, *arrays, shared_from=SHARED_FROM, block=BLOCK, beside_blas=False):
    """Call function(*arrays), which treats each element by itself; piece by piece where the arrays are large.

    A piece stays in the cache from one pass of the function to the next. The cores share the pieces of arrays of
    `shared_from` elements and more; but not while the threads of the BLAS wait busily for more work, unless
    `beside_blas`.
    """
    first = arrays[0]
    size, strides, flats = first.size, first.strides, []
    if size <= min(block, shared_from):
        function(*arrays)
        return
    for array in arrays:
        one = flat(array) if array.strides == strides else None
        if one is None:
            function(*arrays)
            return
        flats.append(one)

    def work(*parts):
        for start in range(0, parts[0].size, block):
            function(*(part[start:start + block] for part in parts))
    parts = workers() if size >= shared_from and (not _blas_awake or (beside_blas and _own_core)) else 1
    task = function if size <= parts * block else work
    if parts == 1:
        task(*flats)
        return
    shares = split(slice(0, size), parts)
    run([functools.partial(task, *[one[share] for one in flats]) for share in shares], products=False)
