"""A run: the training loop, with what it logs, saves and survives."""

import math
import time
import warnings
from contextlib import closing, contextmanager, nullcontext

import numpy as np

from scratchgan import kernels
from scratchgan.errors import UserError
from scratchgan.ranks import ALONE
from scratchgan.training import checkpoint as checkpoints
from scratchgan.training.config import steps_per_epoch
from scratchgan.training.environment import using_threads
from scratchgan.training.sharing import resuming
from scratchgan.training.snapshot import Snapshot, first_bad_metric, not_finite
from scratchgan.training.stepping import in_range, maker
from scratchgan.training.stopping import Diverged, Interrupts, Stopped
from scratchgan.training.witness import watched_over


class Run:
    """A system in training: what callbacks see. `fit`, `start` and `resume` make one and call `train`.

    system, steps            what is trained, up to which step
    step                     steps done; `epoch`: epochs done; `finished`: whether that was all
    current                  whether the system is at `step`, not at a later one that was made together with it
    config                   what config.json holds, also where nothing is written
    batches                  of the data; None where there was nothing left to do
    folder                   a `RunFolder`, or None
    history                  the rows of metrics.csv as dicts
    measured                 the names in the newest row that `System.measure` gave
    evaluation               an `Evaluation`, or None
    evaluations              the rows of evaluations.jsonl as dicts
    announce                 called with a line that the person should see
    ranks                    who trains it together: rank 0 alone has the folder, the callbacks and a voice
    """

    def __init__(self, system, batches, config, folder=None, callbacks=(), announce=print, evaluation=None,
                 ranks=ALONE):
        self.system, self.batches, self.config, self.folder = system, batches, config, folder
        self.callbacks, self.announce = list(callbacks), announce
        self.step, self.steps, self.current = 0, config["steps"], True
        self.history, self.measured = [], ()
        self.evaluation, self.evaluations = evaluation, []
        self.ranks = ranks
        self.pending = []      # the metrics of the steps since the last log interval ended, as numbers
        self.unread = []       # those of the newest steps, with this rank's share of the batch
        self.saved = None      # the step of the newest checkpoint
        self.seconds = 0.0     # spent before this process
        self.good = Snapshot()

    @property
    def epoch(self):
        return self.step // (steps_per_epoch(self.config) or self.step + 1)

    def epochs(self, step):
        """How often the data have been gone through by a step; None where they have no end."""
        per_epoch = steps_per_epoch(self.config)
        return step / per_epoch if per_epoch else None

    def examples(self, n, seed=0):
        """n examples of the data, always the same for a seed, in the range of the system; all if there are fewer."""
        return in_range(self.batches.source.examples(n, seed)[0], self.system.value_range)

    @property
    def finished(self):
        return self.step >= self.steps

    def tell(self, event, *what):
        for callback in self.callbacks:
            getattr(callback, event)(self, *what)

    def train(self):
        """Train up to `steps`. Returns itself; raises `Stopped`, `Diverged` or `UserError` (a full disk).

        All ranks do so in step: whatever they decide here, they decide by what all of them know.
        """
        self.writes = self.ranks.by_first(lambda: self.folder is not None)
        if self.ranks.size > 1:  # whatever has drawn the weights of the others
            self.ranks.by_first(lambda: Snapshot().take(self.system)).restore(self.system)
        with self.witness(), self.ranks.together():
            return self.trained()

    def witness(self):
        several = self.folder and self.ranks.size > 1
        return watched_over(str(self.folder.path), self.ranks.size) if several else nullcontext()

    def trained(self):
        log_every, checkpoint_every = self.config["log_every"], self.config["checkpoint_every"]
        self.started = self.mark = time.perf_counter()
        self.seen = 0  # examples since the last log interval ended
        with (closing(self.folder) if self.folder else nullcontext(), warnings.catch_warnings(),
              using_threads(self.config["threads"]), kernels.gemm.tf32(self.config["tf32"]),
              Interrupts(lambda line: self.announce(line)) as interrupts):
            # Overflows are looked for at every log interval and told in words.
            warnings.simplefilter("ignore", RuntimeWarning)
            self.require_finite()
            with self.told_how_to_continue(interrupts), self.ended(interrupts):
                self.tell("on_start")
                if self.saved is None:
                    self.checkpoint()
                self.evaluate()  # where a killed process did not get to it
                make = maker(self.system, self.batches, self.callbacks, self.announce, self.ranks,
                             self.config["sync_bn"]).make
                while not self.finished:
                    made = make(self.step, self.undisturbed())
                    self.seen, self.learned = self.seen + made.examples, made.learned
                    last = self.step + len(made.metrics)
                    for metrics in made.metrics:
                        self.unread.append((made.share, metrics))
                        self.step += 1
                        self.current = self.step == last
                        self.tell("on_step")
                    if self.step % log_every == 0 or self.finished:
                        self.log()
                    asked = self.ranks.largest(interrupts.asked or 0)
                    if self.step % checkpoint_every == 0 or self.finished or asked or self.must_evaluate:
                        self.checkpoint()
                    if asked and not self.finished:
                        raise Stopped(self.how_to_continue(), asked)
                    self.evaluate()
        return self

    @contextmanager
    def ended(self, interrupts):
        """Callbacks are told the end, whatever it is, but for a second signal."""
        try:
            yield
        finally:
            if not interrupts.aborted:
                self.tell("on_end")

    @contextmanager
    def told_how_to_continue(self, interrupts):
        """A second signal ends the run with a line of how to go on, where it is alone."""
        try:
            yield
        except KeyboardInterrupt as error:
            if not interrupts.aborted or self.ranks.size > 1:
                raise
            raise Stopped(self.how_to_continue("Interrupted", self.saved), interrupts.asked) from error

    def undisturbed(self):
        """How many steps there are before the next one after which somebody looks at the system."""
        events = [self.config[name] for name in ("log_every", "checkpoint_every", "sample_every")]
        events += [self.evaluation.every] if self.evaluation else []
        return min(self.steps - self.step, *(every - self.step % every for every in events if every))

    def log(self):
        """End an interval: its row goes to the history, to metrics.csv and to the callbacks."""
        self.require_finite()
        now = time.perf_counter()
        row = {"step": self.step, "epoch": self.epoch, **means(self.pending)}
        row |= {f"grad_norm_{name}": norm(self.system.networks[name].grad) for name in self.learned
                if name in self.system.networks}
        speed, seconds = self.seen / max(now - self.mark, 1e-9), self.elapsed()
        self.mark, self.seen = now, 0
        with self.untimed():
            measures = {} if self.ranks.rank else self.system.measure()
        self.measured = tuple(measures)
        row |= {**measures, "images_per_second": round(speed, 1), "seconds": round(seconds, 3)}
        if self.step % self.config["log_every"] == 0:
            self.pending = []  # else the last interval is cut short: with more steps it would go on
            self.good.pending = []
        self.history.append(row)
        with self.untimed():
            if self.folder:
                self.folder.append(row)
            self.tell("on_log", row)

    @property
    def must_evaluate(self):
        """Whether this is a step to evaluate, and it has not been done."""
        return (self.evaluation is not None and self.step > 0
                and (self.step % self.evaluation.every == 0 or self.finished)
                and all(row["step"] != self.step for row in self.evaluations))

    def evaluate(self):
        """Measure the samples if it is time: the row goes to evaluations.jsonl and to the callbacks.

        This step has its checkpoint already, so that there is one wherever there is a row.
        """
        if not self.must_evaluate:
            return
        with self.untimed():
            measured = {} if self.ranks.rank else self.evaluation.row(self.system)
            row = {"step": self.step, "epoch": self.epoch, **measured}
            self.evaluations.append(row)
            if self.folder:
                self.folder.write_evaluations(self.evaluations)
                self.prune()
            self.tell("on_evaluation", row)

    @property
    def best(self):
        """The row of `evaluations` whose checkpoint is kept; None without."""
        return self.evaluation and self.evaluation.best(self.evaluations)

    def checkpoint(self):
        """Save the state, so that `resume` goes on from here with the same bits."""
        if not self.writes:
            return
        self.require_finite()
        if not self.folder:
            return
        with self.untimed():
            self.save()
            self.tell("on_checkpoint", self.folder.checkpoints / checkpoints.name_of(self.step))

    def save(self):
        if self.saved == self.step:
            return
        self.folder.sync_metrics()
        checkpoints.save(self.folder.checkpoints, self.system, self.step, self.pending, self.elapsed())
        self.prune()
        self.saved = self.step

    def prune(self):
        """Keep the newest checkpoints, and the best."""
        checkpoints.prune(self.folder.checkpoints, self.config["keep"], self.best and self.best["step"])

    @contextmanager
    def untimed(self):
        """Saving, measures and callbacks do not count in images_per_second."""
        before = time.perf_counter()
        yield
        self.mark += time.perf_counter() - before

    def elapsed(self):
        return self.seconds + time.perf_counter() - self.started

    def require_finite(self):
        """Keep this state in memory as the last good one; or, if it is not good, go back to that and raise `Diverged`.

        Reads the metrics that are pending, which on a device waits for them.
        """
        self.read()
        bad = first_bad_metric(self.pending)
        if bad:
            index, name, value = bad
            self.give_up(f"{name} was {value} at step {self.step - len(self.pending) + index + 1}")
        if self.good.step == self.step:
            return
        where = not_finite(self.system)
        if self.ranks.largest(where is not None):
            self.give_up(f"{where or 'an array of another process'} had values that are not finite by step {self.step}")
        self.good.take(self.system, self.step, self.pending)

    def read(self):
        """The unread metrics as numbers, those of the whole batch."""
        numbers = iter(self.unread and self.ranks.sum(np.array(
            [share.weight * float(values[name]) for share, values in self.unread for name in values])))
        self.pending += [{name: float(next(numbers)) for name in values} for _, values in self.unread]
        self.unread = []

    def give_up(self, what):
        if self.good.step is None:
            raise UserError(f"The system cannot be trained: {what}, before the first step of this run.")
        self.good.restore(self.system)
        self.step, self.pending, self.unread = self.good.step, self.good.pending, []
        line = f"Training diverged: {what}; the system is back at step {self.step}, the last good state"
        if self.folder:
            self.save()
            line += f", saved in {self.folder.checkpoints / checkpoints.name_of(self.step)}"
        raise Diverged(f"{line}; start again with smaller learning rates.")

    def how_to_continue(self, what="Stopped", saved=None):
        line = f"{what} at step {self.step}"
        if not self.folder:
            return f"{line}."
        line += f", the newest checkpoint is of step {saved}" if saved not in (None, self.step) else ""
        return f"{line}; continue with: {resuming(self.folder.path, self.ranks)}"


def means(metrics):
    """The mean of each metric over the steps that report it."""
    values = {}
    for each in metrics:
        for name, value in each.items():
            values.setdefault(name, []).append(value)
    return {name: math.fsum(numbers) / len(numbers) for name, numbers in values.items()}


def norm(vector):
    """The Euclidean norm, in float64, so that it is finite wherever the vector is."""
    wide = vector.astype(np.float64, copy=False)
    return math.sqrt((wide * wide).sum())
