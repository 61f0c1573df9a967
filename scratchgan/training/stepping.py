"""How the steps of a run are made: one by one, or on CUDA several at a time, recorded as a graph."""

from typing import NamedTuple

import numpy as np

from scratchgan import backend, ranks
from scratchgan.captured import CapturedStep, Unrecordable, lacks_memory, numbers_of
from scratchgan.data.batches import Batches
from scratchgan.data.dataset import InMemory
from scratchgan.system import scaled
from scratchgan.training.callbacks import Callback
from scratchgan.training.sharing import shared
from scratchgan.training.snapshot import Snapshot, arrays

TOGETHER = 20       # steps in a graph: a launch takes the host about as long as a few steps take the device
LEFT_OVER = 5       # in one for what is left before the next log interval or epoch
AHEAD = 1_000_003   # cycles that a proof leaps over: what Python does at some steps only should show then
RESIDENT = 4 << 30  # bytes of a data set up to which it stays on the device, if four times as much is free there
NO_MEMORY = "no memory is left"


class Made(NamedTuple):
    """Steps that were made: their metrics, how many examples they saw, all ranks together, the names of the optimizers
    that the last of them used, and the `Share` that this rank has of each batch."""

    metrics: list
    examples: int
    learned: list
    share: ranks.Share = ranks.ALL


class OneByOne:
    """Makes one step at a time, on this rank's share of each batch."""

    def __init__(self, system, batches, each=ranks.ALONE, sync_bn=False):
        self.system, self.batches, self.ranks, self.sync_bn = system, batches, each, sync_bn

    def make(self, step, most=1):
        """Up to `most` steps from this one on."""
        size = self.batches.size(step)
        batch, labels = self.batches.batch(step, self.ranks.rank, self.ranks.size, self.system.pack)
        batch = taken_in(self.system, batch)
        self.system.draw_from(step)
        before = {name: optimizer.steps for name, optimizer in self.system.optimizers.items()}
        with ranks.learning(shared(self.system, size, self.ranks, self.sync_bn)) as share:
            metrics = self.system.step(batch, labels)
        learned = [name for name, optimizer in self.system.optimizers.items() if optimizer.steps != before[name]]
        return Made([metrics], size, learned, share)


class Recorded(OneByOne):
    """Makes steps by `CapturedStep`: graphs of several, one of a single cycle, and for batches of other sizes.

    A graph is proved before it is used: two launches, the second of them `AHEAD`, must leave the same bits as as many
    steps made one by one. Where the first is refused, `announce` is told, and all steps are made one by one. Where a
    later one is, or any for want of memory, other graphs go on. Data make room only for the first.
    """

    def __init__(self, system, batches, announce):
        super().__init__(system, batches)
        self.graphs, self.refused, self.announce = {}, set(), announce  # by (size of the batch, steps)
        self.given_up = self.told = False
        self.images = self.labels = self.epoch = None
        if isinstance(batches.source, InMemory) and not batches.flip:
            self.take_data(batches.source)

    def take_data(self, source):
        """Onto the device, where they have room."""
        size, limit = source.images.nbytes, min(RESIDENT, backend.free_memory() // 4)
        if size > limit:
            self.announce(f"The data stay on the host, and each batch is copied to the device: they take "
                          f"{-(-size >> 20)} MiB, more than the {limit >> 20} that they may take there.")
            return
        self.images = backend.to_device(source.images, "cuda")
        self.labels = None if source.labels is None else backend.to_device(source.labels, "cuda")

    def make(self, step, most=1):
        cycle, size, most = self.system.cycle, self.batches.size(step), min(most, self.batches.alike(step))
        several = (n // cycle * cycle for n in (TOGETHER, LEFT_OVER, cycle))
        steps = next((n for n in several if 0 < n <= most and (size, n) not in self.refused), None)
        if self.given_up or steps is None or self.system.steps % cycle:
            return super().make(step)
        return self.together(step, size, steps) or super().make(step)

    def together(self, step, size, steps):
        """So many steps from this one on, by a graph; None where it is refused, and no longer held."""
        begun = (size, steps) in self.graphs
        try:
            if not begun:
                shape = size, *self.batches.source.sample_shape
                self.graphs[size, steps] = CapturedStep(self.system, shape, steps)
            graph = self.graphs[size, steps]
            self.fill(graph, step)
        except MemoryError:
            self.refuse(size, steps, NO_MEMORY, full=True)
            return None
        if begun and graph.graph is None and not self.proved(graph):
            return None
        return Made(graph.run(steps), steps * size, graph.learned if begun else list(self.system.optimizers))

    def fill(self, graph, step):
        """The batches of its steps, from this one on, in its memory."""
        if self.images is None:
            parts = [self.batches.batch(step + k) for k in range(graph.steps)]
            examples, labels = (None if part[0] is None else np.concatenate(part) for part in zip(*parts, strict=True))
        else:
            epoch, index = divmod(step, self.batches.steps_per_epoch)
            if epoch != self.epoch:  # once an epoch: a copy from the host waits for all launches before it
                self.epoch, self.order = epoch, backend.to_device(self.batches.order(epoch), "cuda")
            rows = self.order[index * self.batches.batch_size:][:graph.steps * graph.batch.shape[1]]
            examples = self.images[rows]
            labels = self.labels[rows] if graph.labels is not None else None
        examples = scaled(backend.to_device(examples, "cuda"), self.system.value_range)
        graph.batch[...] = examples.reshape(graph.batch.shape)
        if graph.labels is not None:
            graph.labels[...] = backend.to_device(labels, "cuda").reshape(graph.labels.shape)

    def proved(self, graph):
        """Whether it can be recorded, and leaves the same bits as steps made one by one; the system stays as it is."""
        before, problem, full = None, None, False
        try:
            before = Snapshot().take(self.system)
            self.twice(lambda: graph.run(graph.steps))
            recorded = {key: value.copy() for key, value in arrays(self.system).items()}
            before.restore(self.system)
            eager = self.twice(graph.eagerly)
            if not all(same_bits(recorded[key], value) for key, value in arrays(self.system).items()):
                problem = "they would not have the same bits"
            elif any(numbers_of(metrics) != graph.kept.constants for metrics in eager):
                problem = "a metric is a number of Python's, which would stay the same"
        except Exception as error:
            full = lacks_memory(error)
            if not full and not isinstance(error, Unrecordable):
                raise
            problem = str(error) if isinstance(error, Unrecordable) else NO_MEMORY
        finally:
            if before is not None:
                before.restore(self.system)
        if problem:
            self.refuse(graph.batch.shape[1], graph.steps, problem, full)
        elif not self.told:
            self.told = True
            self.announce(f"Steps are recorded as CUDA graphs, up to {TOGETHER} a launch; they have the same bits.")
        return problem is None

    def refuse(self, size, steps, problem, full):
        """From now on there is no graph of so many steps on batches of this size, or none at all."""
        if self.told or full:  # there is another graph, or a smaller one may fit
            self.refused.add((size, steps))
            self.graphs.pop((size, steps), None)
            self.announce(f"Batches of {size}, {steps} at a time, are not recorded as a CUDA graph: {problem}.")
        else:
            self.given_up = True
            self.graphs.clear()
            self.announce(f"Steps are made one by one, not recorded as a CUDA graph: {problem}.")
        if not self.told and self.images is not None:
            self.images = self.labels = self.order = self.epoch = None
            if full:
                self.announce("The data make room on the device: from now on each batch is copied there.")

    def twice(self, make):
        """What make() gives now, and at steps far ahead."""
        now = make()
        self.system.steps += AHEAD * self.system.cycle
        return now, make()


def same_bits(a, b):
    return bool((a.reshape(-1).view(np.uint8) == b.reshape(-1).view(np.uint8)).all())


def maker(system, batches, callbacks, announce, each=ranks.ALONE, sync_bn=False):
    """How the steps of a run are made, by one of these ranks."""
    device = system.device
    one_by_one = OneByOne(system, batches, each, sync_bn)
    if device != "cuda":
        return one_by_one
    watching = [type(callback).__name__ for callback in callbacks
                if callback.each_step and type(callback).on_step is not Callback.on_step]
    narrow = all(network.dtype == np.float32 for network in system.networks.values())
    problem = (f"the steps of {type(system).__name__} are not known to repeat" if system.cycle is None
               else "the noise of float64 is drawn on the host" if not narrow
               else f"{watching[0]} looks at each of them" if watching
               else "processes share each batch" if each.size > 1
               else "batches are pairs" if not isinstance(batches, Batches) else None)
    if problem:
        announce(f"Steps are made one by one, not recorded as a CUDA graph: {problem}.")
        return one_by_one
    return Recorded(system, batches, announce)


def in_range(batch, value_range):
    """A batch, or a pair of them, as floats in the range of a system."""
    if isinstance(batch, tuple):
        return tuple(scaled(each, value_range) for each in batch)
    return scaled(batch, value_range)


def taken_in(system, batch):
    """A batch, or a pair of them, as the system's step takes it: on the device of its networks, and scaled there, so
    that bytes travel and not floats."""
    device = system.device
    parts = [backend.to_device(each, device) for each in (batch if isinstance(batch, tuple) else (batch,))]
    return in_range(tuple(parts) if isinstance(batch, tuple) else parts[0], system.value_range)
