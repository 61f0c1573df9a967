"""`CapturedStep`: training steps recorded once as a CUDA graph, then launched with one call.

At the sizes of small GANs a GPU waits for Python: an operation of CuPy costs about 14 microseconds of the host's time,
one in a graph about one of the device's. A recorded step runs the very kernels of an eager one, to the same bits.
"""

import math
import weakref
from contextlib import contextmanager, suppress
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np

from scratchgan import backend, kernels, recording
from scratchgan.system import Metric, Metrics

BESIDE = 3             # streams for what nothing waits for until later
OUT_OF_MEMORY = 2      # cudaErrorMemoryAllocation
SLOT, SLOTS = 8, 4096  # bytes of a number that changes from launch to launch, and how many there may be


class Unrecordable(RuntimeError):
    """A step cannot be recorded: why, in a sentence."""


class NoMemory(Unrecordable, MemoryError):
    """The device has too little memory to record it."""


class CapturedStep:
    """`steps` steps of a system on batches of one shape (N, ...), in one CUDA graph.

    batch    (steps, N, ...) on the device, floats in the range of the system: what the steps learn from. The caller
             fills it before `run`
    labels   (steps, N) int64 likewise, of a system with classes; else None
    learned  names of the optimizers that the last of the steps uses, once they were recorded

    The system must be on CUDA and have a `cycle` of which `steps` is a multiple. The first run of `steps` steps is made
    eagerly, so that all kernels are compiled and all moments there; the second is recorded. `Unrecordable` if a step
    does what a graph cannot hold, such as reading a number of the device; the system is then as it was. A system whose
    weights or moments lie elsewhere by now, as after `load_state_dict` of an optimizer, begins anew: a graph knows
    addresses only.
    """

    def __init__(self, system, batch_shape, steps=1):
        if system.device != "cuda":
            raise ValueError("CapturedStep: the system must be on CUDA")
        if system.cycle is None:
            raise Unrecordable(f"the steps of {type(system).__name__} are not known to repeat")
        if steps < 1 or steps % system.cycle:
            raise ValueError(f"CapturedStep: steps must be a multiple of its cycle {system.cycle}, not {steps}")
        self.system, self.steps, self.xp = system, steps, backend.module_of("cuda")
        dtype = next(iter(system.networks.values())).dtype
        self.batch = self.xp.zeros((steps, *batch_shape), dtype)
        self.labels = self.xp.zeros((steps, batch_shape[0]), np.int64) if system.classes else None
        self.warm, self.graph, self.learned = False, None, ()

    def run(self, steps):
        """Makes so many steps, a multiple of `self.steps`; returns the `Metrics` of the last `self.steps`."""
        if steps < 1 or steps % self.steps:
            raise ValueError(f"CapturedStep.run: steps must be a multiple of {self.steps}, not {steps}")
        if self.system.steps % self.system.cycle:
            raise ValueError("CapturedStep.run: the system is in the middle of a cycle of its steps")
        for _ in range(steps // self.steps):
            if self.graph is not None and self.addresses() != self.recorded_at:
                self.warm, self.graph = False, None
            metrics = self.launch() if self.warm else self.eagerly()
        return metrics

    def addresses(self):
        """Where the weights and the optimizers' vectors are."""
        return [each.theta.data.ptr for each in self.system.networks.values()] + [
            vector.data.ptr for each in self.system.optimizers.values() for vector in each.state.values()]

    def eagerly(self):
        self.warm = True
        return [self.step(k) for k in range(self.steps)]

    def step(self, k):
        self.system.draw_from(self.system.steps)
        return self.system.step(self.batch[k], None if self.labels is None else self.labels[k])

    def launch(self):
        if self.graph is None:
            self.record()
        self.recording.update()
        self.graph.launch(self.xp.cuda.get_current_stream())
        self.system.steps += self.steps
        for optimizer, steps in self.made:
            optimizer.made(steps)
        return self.kept.metrics()

    def record(self):
        """Runs the steps in Python with nothing done on the device; what Python counts is set back."""
        counters = self.system.optimizers
        start, before = self.system.steps, {name: each.hyper.copy() for name, each in counters.items()}
        self.recording = Recording(self.system, self.xp)
        try:
            with self.recording.under_way(self.batch.dtype) as stream:
                graph, kept = self.recorded(stream)
            kept.prepare()
            self.graph, self.kept, self.recorded_at = graph, kept, self.addresses()
            made = [(each, each.steps - int(before[name][-1])) for name, each in counters.items()]
            self.made = [(each, steps) for each, steps in made if steps]
        except Exception as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            kind = NoMemory if lacks_memory(error) else Unrecordable
            raise kind(f"a step cannot be recorded: {why}") from error
        finally:
            self.system.steps = start
            for name, each in counters.items():
                each.hyper[:] = before[name]

    def recorded(self, stream):
        """(the graph, what its metrics are made of)."""
        stream.begin_capture()
        try:
            self.recording.beginning = stream.record()
            metrics = []
            for k in range(self.steps):
                before = {name: each.steps for name, each in self.system.optimizers.items()}
                metrics.append(self.step(k).unread())
                self.recording.step_is_over()
            self.learned = [name for name, each in self.system.optimizers.items() if each.steps != before[name]]
            kept = Kept(metrics, self.xp)
        except BaseException:
            with suppress(Exception):
                stream.end_capture()
            raise
        return stream.end_capture(), kept


@cache
def streams(device):
    """The streams of all recordings on a device, as cuBLAS keeps memory for each: the main one, that ahead of it, and
    those beside."""
    cuda = backend.module_of("cuda").cuda
    return [cuda.Stream(non_blocking=True, priority=priority) for priority in (-1, 0, *[0] * BESIDE)]  # -1 goes first


def lacks_memory(error):
    """Whether an error tells that the device, or the host, has too little memory."""
    cuda = backend.module_of("cuda").cuda
    of_device = isinstance(error, (cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError))
    return isinstance(error, MemoryError) or (of_device and error.status == OUT_OF_MEMORY)


def more_memory(size):
    """Memory for a recording's pool, which catches the device's own error, but not `NoMemory`."""
    cuda = backend.module_of("cuda").cuda
    try:
        return cuda.MemoryPointer(cuda.Memory(size), 0)
    except cuda.runtime.CUDARuntimeError as error:
        if not lacks_memory(error):
            raise
        raise NoMemory(f"the device has no {-(-size >> 20)} MiB more for it") from error


class Recording:
    """What `scratchgan.recording` asks while a step is recorded, and what the graph needs as long as it lives.

    The numbers that differ from launch to launch, the steps done and `recording.values`, have slots in `memory`. All
    other memory is of a pool that nobody else takes from. None of it is used again before the step is over: what is
    computed aside may still read it. What is computed ahead has memory for good, as it is written while earlier steps
    are under way. Nothing multiplies ahead: that stream has no cuBLAS.

    Where the device has no more memory, recording ends: the pool would rather give back what seems free, which recorded
    operations use, and try again. What others have left is given back before.
    """

    def __init__(self, system, xp):
        self.system, self.xp = system, xp
        self.memory = xp.zeros(SLOT * SLOTS, np.uint8)
        xp.get_default_memory_pool().free_all_blocks()
        self.pool, self.held, self.for_good = xp.cuda.MemoryPool(more_memory), [], []
        self.stream, self.early, *self.beside = streams(xp.cuda.Device().id)
        self.places = {}  # address of what is computed aside -> its stream: two results at one place keep their order
        self.apart = []   # streams on which anything was computed since the last join
        self.beginning = None  # an event, the first of the graph
        self.start = {}  # id -> (whoever counts steps, its steps as the recording began)
        self.functions, self.used = [], 1
        self.start_of(system)

    @contextmanager
    def under_way(self, dtype):
        """Inside, what is launched goes to the stream that is given, in memory of the pool."""
        one = self.xp.ones((1, 1), dtype)
        with self.xp.cuda.using_allocator(self.allocate), recording.by(self):
            for stream in (*self.beside, self.stream):
                with stream:
                    kernels.of(one).gemm(one, one)  # cuBLAS is ready there
                stream.synchronize()                # nothing of this is under way when the graph is
            with self.stream:
                yield self.stream

    def allocate(self, size):
        self.held.append(self.pool.malloc(size))
        return self.held[-1]

    def allocate_for_good(self, size):
        self.for_good.append(self.pool.malloc(size))
        return self.for_good[-1]

    def step_is_over(self):
        self.joined()
        self.held.clear()

    @contextmanager
    def aside(self, places):
        before = [self.places.setdefault(place.data.ptr, self.beside[len(self.places) % BESIDE]) for place in places]
        stream = before[0]
        for other in (self.stream, *(each for each in before if each is not stream and each in self.apart)):
            stream.wait_event(other.record())
        self.places.update((place.data.ptr, stream) for place in places)
        if stream not in self.apart:
            self.apart.append(stream)
        with stream:
            yield

    @contextmanager
    def ahead(self):
        self.early.wait_event(self.beginning)
        with self.xp.cuda.using_allocator(self.allocate_for_good), self.early:
            yield
        self.xp.cuda.get_current_stream().wait_event(self.early.record())

    def joined(self):
        for stream in self.apart:
            self.stream.wait_event(stream.record())
        self.apart.clear()

    def counter(self, step):
        return self.memory[:SLOT].view(np.uint64), step - self.start_of(self.system)

    def values(self, function, step, dtype, of):
        of, dtype, first = of or self.system, np.dtype(dtype), self.used
        self.used += len(function(step))
        if self.used > SLOTS:
            raise Unrecordable(f"the steps have more than {SLOTS} numbers that change: record fewer at a time")
        self.functions.append((first, function, of, step - self.start_of(of), dtype))
        return tuple(self.memory[SLOT * i:SLOT * i + dtype.itemsize].view(dtype).reshape(())
                     for i in range(first, self.used))

    def start_of(self, of):
        """Its steps as the recording began: whoever counts steps asks for numbers before it counts the first."""
        return self.start.setdefault(id(of), (of, of.steps))[1]

    def update(self):
        """Set them for a launch that begins at the step that comes next: one small copy to the device."""
        host = np.zeros(SLOT * self.used, np.uint8)
        host[:SLOT].view(np.uint64)[0] = self.system.steps
        for first, function, of, offset, dtype in self.functions:
            numbers = function(of.steps + offset)
            host[SLOT * first:SLOT * (first + len(numbers))].view(dtype)[::SLOT // dtype.itemsize] = numbers
        self.memory.data.copy_from_host_async(host.ctypes.data, host.nbytes)


class Slot(NamedTuple):
    """A place among the copies: those of one array of each step."""

    dtype: np.dtype
    first: int
    shape: tuple

    def of(self, copies):
        return copies[self.dtype][self.first:self.first + math.prod(self.shape)].reshape(self.shape)


class Kept:
    """What the metrics of recorded steps are made of, copied after each launch by one kernel for each dtype.

    metrics   of each step, {name: number, array or function}; when one is read, all of the launches that somebody
              still holds are computed together, by NumPy
    """

    def __init__(self, metrics, xp):
        self.xp, self.constants = xp, [{} for _ in metrics]
        self.unread = weakref.WeakSet()  # launches: what nobody holds any more is never computed
        self.groups = {}  # name -> (function, the steps that have it, the slots of its arguments)
        self.arrays = {}  # dtype -> arrays, those of one slot together
        self.slots = {}   # ids of the arrays of a slot -> the slot
        for name in dict.fromkeys(name for each in metrics for name in each):
            steps = [k for k, each in enumerate(metrics) if name in each]
            of_name = [value_of(metrics[k][name]) for k in steps]
            if all(is_number(each) for each in of_name):
                for k, value in zip(steps, of_name):
                    self.constants[k][name] = float(value)
                continue
            of_name = [each if isinstance(each, Metric) else Metric(itself, each) for each in of_name]
            slots = [self.slot(arrays) for arrays in zip(*(each.arrays for each in of_name), strict=True)]
            self.groups[name] = of_name[0].function, steps, slots

    def prepare(self):
        """Once the recording is over."""
        self.gathers = {dtype: gather(self.xp, arrays) for dtype, arrays in self.arrays.items()}

    def slot(self, arrays):
        """Where the copies of these arrays will be, one of each step; what is no array stays what it is."""
        if not backend.is_array(arrays[0]):
            return arrays[0]
        key = tuple(map(id, arrays))
        if key not in self.slots:
            among = self.arrays.setdefault(arrays[0].dtype, [])
            first = sum(each.size for each in among)
            among += map(self.xp.ascontiguousarray, arrays)
            self.slots[key] = Slot(arrays[0].dtype, first, (len(arrays), *arrays[0].shape))
        return self.slots[key]

    def metrics(self):
        """The `Metrics` of each step of the launch."""
        launch = Launch(self, {dtype: take() for dtype, take in self.gathers.items()})
        self.unread.add(launch)
        return [LaunchMetrics(launch, k) for k in range(len(self.constants))]

    def compute(self):
        """The numbers of all launches, on the host: the copies of one travel once, a metric of all is one call."""
        launches = list(self.unread)
        tables = [[dict(each) for each in self.constants] for _ in launches]
        copies = [{dtype: backend.to_host(each) for dtype, each in launch.copies.items()} for launch in launches]
        for name, (function, steps, slots) in self.groups.items():
            arrays = [np.concatenate([slot.of(each) for each in copies]) if isinstance(slot, Slot) else slot
                      for slot in slots]
            numbers = iter(function(mean_of_each, *arrays).tolist())
            for table, k in product(tables, steps):
                table[k][name] = next(numbers)
        for launch, table in zip(launches, tables, strict=True):
            launch.numbers, launch.copies = table, None
        self.unread.clear()


class Launch:
    """What one launch left: copies on the device, until the numbers of one of its steps are asked for."""

    def __init__(self, kept, copies):
        self.kept, self.copies, self.numbers = kept, copies, None

    def of_step(self, k):
        if self.numbers is None:
            self.kept.compute()
        return self.numbers[k]


class LaunchMetrics(Metrics):
    """`Metrics` of the k-th step of a launch."""

    def __init__(self, launch, k):
        self.launch, self.k = launch, k

    _values = property(lambda self: self.launch.of_step(self.k))


def itself(mean, x):
    return x


def mean_of_each(x):
    """The mean of each x[k]."""
    return x.reshape(len(x), -1).mean(axis=1)


def value_of(each):
    """What a function among metrics gives; a `Metric` of arrays as it is."""
    later = isinstance(each, Metric) and any(map(backend.is_array, each.arrays))
    return each() if callable(each) and not later else each


def is_number(x):
    return isinstance(x, float | int | np.generic)


def numbers_of(metrics):
    """{name: number} of each step: those of its `Metrics` that Python computed, which stay the same in a graph."""
    values = [{name: value_of(value) for name, value in each.unread().items()} for each in metrics]
    return [{name: float(value) for name, value in each.items() if is_number(value)} for each in values]


def gather(xp, arrays):
    """A function that gives a copy of the arrays, one after the other, by one kernel."""
    addresses = xp.asarray(np.concatenate([each.data.ptr + each.itemsize * np.arange(each.size, dtype=np.uint64)
                                           for each in arrays]))
    copy = xp.ElementwiseKernel("uint64 address", "T copy", "copy = *(const T*)address", "gather_numbers")
    return lambda: copy(addresses, xp.empty(addresses.shape, arrays[0].dtype))
