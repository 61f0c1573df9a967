"""Processes that train one system together: each, a rank, learns from its share of every batch.

A loss is a mean over the samples of a batch. With L_k the mean over the n_k of N samples that rank k has,

    L = sum_k w_k L_k,    dL/dtheta = sum_k w_k dL_k/dtheta,    w_k = n_k / N

so that each rank computes with its share as with a batch of its own, and `Share.mean` makes of what the ranks have that
of the whole batch: of gradients, of metrics, with `sync_bn` of the statistics of batch normalisation. What is drawn
for a sample belongs to its number in the whole batch (`Share.rows`, which `random` asks). Any number of ranks thus
trains the same system, to rounding, unless something else couples samples.

mpiexec starts the processes, MPI (mpi4py) or on devices NCCL (`cupyx.distributed`) adds up what they have.
"""

import functools
import os
import sys
import time
import traceback
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace

import numpy as np

from scratchgan import backend
from scratchgan.errors import UserError

# What mpiexec tells a process of: its rank, and how many there are (MPICH, Open MPI).
ENVIRONMENT = (("PMI_RANK", "PMI_SIZE"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"))
PATIENCE = 5.0  # seconds: an error that all ranks have, they have by then


class Ranks:
    """One process by itself: what ranks ask of each other, with nobody to answer.

    rank, size   which one this is, of how many
    """

    rank, size = 0, 1

    def sum(self, array):
        """The sum of an array over all ranks, which each gets. It may be in the array's own memory."""
        return array

    def largest(self, number):
        """The largest of the whole numbers that the ranks give."""
        return number

    def by_first(self, function):
        """What function() gives in rank 0, which alone calls it; its `UserError` is raised in all."""
        return function()

    @contextmanager
    def in_turn(self):
        """Rank 0 goes first, then all others."""
        yield

    @contextmanager
    def together(self):
        """Inside, an exception in one rank alone is told, and ends all of them; one that all have is raised in each.

        One that has `by_all` is known to be such.
        """
        yield

    def take_device(self, device):
        """Of several ranks on a machine each uses a CUDA device of its own, unless the device is the CPU."""

    @property
    def over_the_host(self):
        """Why arrays on devices are added up by MPI, over the host, and not by NCCL; None where they are."""
        return None

    @property
    def threads(self):
        """Threads for each rank, of the cores that ranks share; None where there is one: as they are by default."""
        return None


ALONE = Ranks()


class MpiRanks(Ranks):
    """The processes that mpiexec has started."""

    def __init__(self):
        from mpi4py import MPI
        self.MPI, self.world, self.failed = MPI, MPI.COMM_WORLD, MPI.COMM_WORLD.Dup()
        self.rank, self.size = self.world.rank, self.world.size
        self.local = self.world.Split_type(MPI.COMM_TYPE_SHARED)  # those on this machine

    def sum(self, array):
        if backend.array_module(array) is not np:
            return self.sum_on_devices(array)
        total = np.asarray(array, order="C")
        self.world.Allreduce(self.MPI.IN_PLACE, total)
        return total

    def sum_on_devices(self, array):
        if self.nccl is None:
            return backend.to_device(self.sum(backend.to_host(array)), "cuda")
        total = backend.array_module(array).ascontiguousarray(array)
        self.nccl.all_reduce(total, total)
        return total

    @functools.cached_property
    def over_the_host(self):
        mine = self.MPI.Get_processor_name(), backend.device_in_use(), backend.nccl_problem()
        each = self.world.allgather(mine)
        if len({(machine, device) for machine, device, _ in each}) < self.size:
            return "processes share a device"
        return next((problem for *_, problem in each if problem), None)

    @functools.cached_property
    def nccl(self):
        return None if self.over_the_host else backend.nccl(self.size, self.rank)

    def largest(self, number):
        return self.world.allreduce(number, self.MPI.MAX)

    def by_first(self, function):
        value = error = None
        if not self.rank:
            try:
                value = function()
            except UserError as raised:
                error = raised
        value, error = self.world.bcast((value, error))
        if error:
            raise error
        return value

    @contextmanager
    def in_turn(self):
        if self.rank:
            self.world.Barrier()
        try:
            yield
        finally:
            if not self.rank:
                self.world.Barrier()

    @contextmanager
    def together(self):
        try:
            yield
        except BaseException as error:
            if not getattr(error, "by_all", False) and not self.all_have_failed():
                self.end_all(error)
            raise

    def all_have_failed(self):
        """Whether the other ranks come here within some seconds."""
        met, since = self.failed.Ibarrier(), time.monotonic()
        while not met.Test():
            if time.monotonic() - since > PATIENCE:
                return False
            time.sleep(0.01)
        return True

    def end_all(self, error):
        """Tell the error, and end: mpiexec then ends the others. (MPI_Abort may end them before this was told.)

        That of MPICH does if it sees its connection to this process end before the process: closed here, as else the
        order is chance, and the others would wait for ever.
        """
        if not isinstance(error, UserError | KeyboardInterrupt):
            traceback.print_exc()
        said = " ".join(str(error).split()) or type(error).__name__
        print(f"scratchgan: error: process {self.rank} of {self.size}: {said}", file=sys.stderr, flush=True)
        with suppress(KeyError, ValueError, OSError):
            os.close(int(os.environ["PMI_FD"]))
        os._exit(2 if isinstance(error, UserError) else 1)

    def take_device(self, device):
        if device != "cpu" and backend.devices():
            with suppress(Exception):  # one that cannot be used is told of by whoever asks for it: `backend.device`
                backend.use_device(self.local.rank)

    @property
    def threads(self):
        mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        shared = mine < (os.cpu_count() or 1)  # by mpiexec
        return mine if shared else max(1, mine // self.local.size)


def launched():
    """(rank, size) as mpiexec has told this process; (0, 1) without it."""
    for names in ENVIRONMENT:
        if all(os.environ.get(name, "").isdecimal() for name in names):
            return tuple(int(os.environ[name]) for name in names)
    return 0, 1


@functools.cache
def joined():
    """The `Ranks` that this process belongs to; `UserError` where it cannot talk to them."""
    _, size = launched()
    if size == 1:
        return ALONE
    try:
        ranks = MpiRanks()
    except (ImportError, RuntimeError) as error:
        raise UserError(f"mpiexec has started {size} processes, but mpi4py, with which they train together, cannot be "
                        f'imported ({error}): pip install "scratchgan[mpi]"') from error
    if ranks.size != size:
        raise UserError(f"mpiexec has started {size} processes, but mpi4py knows of {ranks.size}: it belongs to "
                        "another MPI than mpiexec; take the mpiexec that is installed with it")
    return ranks


# -- the share of a batch ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    """Samples first to first + count of the `total` in a batch: those of this rank. By default there is no more.

    sync_bn  whether batch normalisation takes its statistics over the whole batch
    batches  how many batches a pass goes over at once: see `passing`
    """

    first: int = 0
    count: int = 1
    total: int = 1
    sync_bn: bool = False
    ranks: Ranks = ALONE
    batches: int = 1

    @property
    def weight(self):
        return self.count / self.total

    @property
    def is_all(self):
        return self.count == self.total

    def mean(self, array):
        """sum_k w_k array_k over the ranks: what is a mean over the samples of each, over those of the batch."""
        return array if self.is_all else self.ranks.sum(self.weight * array)

    def make_mean(self, vector):
        """Makes a vector that mean, in its own memory."""
        if self.is_all:
            return
        vector *= self.weight
        total = self.ranks.sum(vector)
        if total is not vector:
            vector[...] = total

    def rows(self, n):
        """[(first, count), ...]: which rows of the whole batch's are the n rows of this share.

        They may be one a sample, one for several, such as a pack, or several for one.
        """
        each, left = divmod(n, self.batches)
        start, odd = divmod(self.first * each, self.count)
        whole, uneven = divmod(self.total * each, self.count)
        if left or odd or uneven:
            raise ValueError(f"{n} rows do not go with {self.count} of {self.total} samples: what is drawn in a step "
                             "must have a row for each")
        return [(batch * whole + start, each) for batch in range(self.batches)]


ALL = Share()
_current = ContextVar("share", default=ALL)


def share():
    """The share that this process has of the batch which it learns from just now."""
    return _current.get()


@contextmanager
def learning(share):
    """Inside, this process learns from a share of a batch."""
    token = _current.set(share)
    try:
        yield share
    finally:
        _current.reset(token)


def passing(batches):
    """Inside, a pass goes over so many batches at once, one after the other, such as the real and the fake samples."""
    return learning(replace(share(), batches=batches))
