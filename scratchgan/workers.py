"""Threads that run the same lines side by side, each on its share of a batch.

NumPy lets go of the interpreter lock inside products and elementwise loops, so Python threads compute at once. With
BLAS at one thread each, two workers with half a batch finish a step of small networks sooner than one worker whose
BLAS uses both cores: everything between the products runs in parallel too.
"""

import functools
import os
import queue
import threading

from threadpoolctl import ThreadpoolController

MIN_SHARE = 32  # samples: with fewer, the products become too thin to be fast

_limit = None


def cores():
    """How many workers there may be: the cores of this process, or what `set_threads` said."""
    if _limit is not None:
        return _limit
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(n):
    """Use at most n threads from now on (None: one a core). Returns the setting before."""
    global _limit
    before, _limit = _limit, n
    return before


def shares(n):
    """How `n` samples are split: a slice for each worker, of sizes that differ by one at most."""
    size = max(1, min(cores(), n // MIN_SHARE))
    return [slice(n * rank // size, n * (rank + 1) // size) for rank in range(size)]


class Team:
    """`size` workers, of which the calling thread is the first."""

    def __init__(self, size):
        self.size = size
        self._barrier = threading.Barrier(size)
        self._jobs = [queue.SimpleQueue() for _ in range(size - 1)]
        self._done = queue.SimpleQueue()
        for rank, jobs in enumerate(self._jobs, 1):
            threading.Thread(target=self._serve, args=(rank, jobs), name=f"scratchgan-{rank}", daemon=True).start()

    def run(self, function):
        """function(rank) on every worker; returns when all are done, and raises what the first failure raised."""
        if self.size == 1:
            function(0)
            return
        with one_blas_thread():
            for jobs in self._jobs:
                jobs.put(function)
            errors = [self._attempt(function, 0)]
            errors += [self._done.get() for _ in self._jobs]
        errors = [error for error in errors if error is not None]
        if errors:
            self._barrier.reset()
            raise next((e for e in errors if not isinstance(e, threading.BrokenBarrierError)), errors[0])

    def meet(self):
        """Wait here until every worker has come."""
        if self.size > 1:
            self._barrier.wait()

    def _attempt(self, function, rank):
        try:
            function(rank)
        except BaseException as error:
            self._barrier.abort()  # let nobody wait for this worker
            return error
        return None

    def _serve(self, rank, jobs):
        while True:
            self._done.put(self._attempt(jobs.get(), rank))


@functools.cache
def team(size):
    """The team of this size; its threads sleep between steps."""
    return Team(size)


@functools.cache
def _blas():
    return [lib for lib in ThreadpoolController().lib_controllers if lib.user_api == "blas"]


class one_blas_thread:
    """A context in which BLAS uses one thread; the setting before is given back."""

    def __enter__(self):
        self.before = [lib.get_num_threads() for lib in _blas()]
        for lib in _blas():
            lib.set_num_threads(1)

    def __exit__(self, *exception):
        for lib, n in zip(_blas(), self.before):
            lib.set_num_threads(n)


# A forked child has none of its parent's threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=team.cache_clear)
