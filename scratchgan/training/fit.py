"""The ways into a run: `fit` for a system of one's own, `start` and `resume` for recipes, `load` for what came out."""

import functools
from pathlib import Path

from scratchgan import ranks as processes
from scratchgan import recipes
from scratchgan.data.dataset import as_source
from scratchgan.errors import UserError
from scratchgan.system import System
from scratchgan.training import checkpoint as checkpoints
from scratchgan.training import reopening
from scratchgan.training.config import DEFAULTS, checked
from scratchgan.training.evaluation import Evaluation
from scratchgan.training.folder import RunFolder, check_free
from scratchgan.training.reopening import circumstances, rebuild, speaker, watched
from scratchgan.training.run import Run
from scratchgan.training.sharing import require_batch_norm, require_same_data, require_same_device, told, too_small
from scratchgan.training.snapshot import Snapshot
from scratchgan.training.stepping import taken_in


def by_all_ranks(function):
    """A function that an exception in one rank alone ends in all of them: see `Ranks.together`."""
    @functools.wraps(function)
    def together(*arguments, **named):
        with processes.joined().together():
            return function(*arguments, **named)
    return together


@by_all_ranks
def fit(system, data, steps, out=None, callbacks=(), *, batch_size=None, seed=None, flip=None, drop_last=None,
        log_every=None, sample_every=None, checkpoint_every=None, keep=None, threads=None, resume=False,
        announce=print, evaluation=None, sync_bn=None, tf32=None):
    """Train `system` on `data` up to step `steps`; returns the history, a list with a dict per log interval.

    system            a `System`, such as a `Game`
    data              a `Source`, such as a `Dataset`; or an array: uint8 (N, C, H, W), or float (N, ...) in the value
                      range of the system; or a pair of either
    out               the folder to write the run to; None writes nothing
    callbacks         `Callback`s; `Watch()` is put before them unless one is among them
    batch_size, seed  of the batches; the system's recipe has them, else 64 and 0
    flip              mirror half of the images (no)
    drop_last         leave out the last batch of an epoch where it is smaller (no, unless it is a single example and
                      the system refuses that, as batch normalisation does)
    log_every, sample_every, checkpoint_every
                      in steps: 100, 1000, 1000. Pictures are made by callbacks, which read `sample_every`
    keep              how many checkpoints are kept (3)
    threads           of the BLAS; as they are by default, and afterwards as they were before; of several processes
                      each by default has its share of the cores
    resume            go on with the run in `out`, from its newest checkpoint: the system must be built as it was
                      then, data and settings must be those of the run (what is None is taken from it), and the
                      rest of the run has the same bits as if it had never been interrupted
    announce          is called with each line that a person should see; None: nothing is said
    evaluation        an `Evaluation`: samples are measured at intervals, and the best checkpoint is kept, too
    sync_bn           where mpiexec has started several processes, whether batch normalisation takes its statistics
                      over the whole batch, not over each process's share of it (no)
    tf32              on CUDA, whether large products may round their factors to TF32: faster, 10 bits of fraction (no)

    On CUDA several steps at a time are launched as a CUDA graph, with the bits of steps made one by one; `announce` is
    told so, or why not, such as a callback that looks at each step: see `Callback.each_step`.

    Processes that mpiexec has started train together, see `scratchgan.ranks`: the first one writes, measures, has the
    callbacks and announces.

    Raises `Stopped` after Ctrl-C, SIGTERM or SIGHUP, `Diverged` when a number is not finite, `UserError` for mistakes.
    """
    given = {"batch_size": batch_size, "seed": seed, "flip": flip, "drop_last": drop_last, "log_every": log_every,
             "sample_every": sample_every, "checkpoint_every": checkpoint_every, "keep": keep,
             "evaluation": evaluation and evaluation.record(), "sync_bn": sync_bn, "tf32": tf32}
    if not isinstance(system, System):
        raise TypeError(f"fit: expected a System (a Game, or a class derived from scratchgan.System), "
                        f"got {type(system).__name__}")
    if not resume:
        return begin(system, data, steps, out, callbacks, given, threads, announce, evaluation).train().history
    if out is None:
        raise UserError("Nothing to resume: give the folder of the run as out.")
    folder = RunFolder.open(out, lock=processes.joined().rank == 0)
    try:
        run = reopening.reopen(folder, lambda config: as_source(data, system.value_range), lambda config: system,
                               steps, threads, callbacks, announce, given, evaluation or Evaluation.of(folder.config))
        return run.history if run.batches is None else run.train().history
    finally:
        folder.close()


@by_all_ranks
def start(recipe_name, data, out=None, settings=None, *, seed=0, device="auto", batch_size=None, steps=None,
          log_every=None, sample_every=None, checkpoint_every=None, keep=None, flip=None, drop_last=None, threads=None,
          callbacks=(), announce=print, evaluation=None, sync_bn=None, tf32=None):
    """Build the recipe with `settings` (name -> value) over its own, train it as `fit` does; returns the `Run`.

    `steps` by default: the recipe's, or its epochs, at least its `min_steps`. Schedules without `decay_steps` go over
    these steps, also when the run is made longer later. `batch_size` by default: the recipe's.
    """
    recipe = recipes.get(recipe_name)
    ranks = processes.joined()
    if out is not None and ranks.rank == 0:
        check_free(out)
    ranks.take_device(device)
    data = as_source(data, recipe.value_range)
    given = {"batch_size": recipe.examples(settings) if batch_size is None else batch_size, "seed": seed, "flip": flip,
             "drop_last": drop_last, "log_every": log_every, "sample_every": sample_every,
             "checkpoint_every": checkpoint_every, "keep": keep,
             "evaluation": evaluation and evaluation.record(), "sync_bn": sync_bn, "tf32": tf32}
    if steps is None:
        size = checked("batch_size", given["batch_size"])
        steps = recipe.default_steps(epoch_length(recipe, data, size, settings, drop_last, sync_bn))
    steps = checked("steps", steps)
    system = recipe.build(seed, device, recipe.learn(data), steps=steps, **(settings or {}))
    return begin(system, data, steps, out, callbacks, given, threads, announce, evaluation).train()


def epoch_length(recipe, source, batch_size, settings=None, drop_last=None, sync_bn=None):
    """How many steps an epoch of a run of the recipe has, None without an end: a last, smaller batch that the system
    refuses is left out, unless `drop_last` is given."""
    steps, ranks = source.steps_per_epoch(batch_size, bool(drop_last)), processes.joined()
    least = 2 * (settings or {}).get("pack", 1) * ranks.size  # two packs each, which no system refuses: none is built
    if drop_last is not None or steps in (None, 1) or not 0 < source.size % batch_size < least:
        return steps
    system = recipe.build(0, "cpu", recipe.learn(source), **(settings or {}))
    return taken_batches(system, lambda leave: source.batches(batch_size, drop_last=leave), None, ranks,
                         bool(sync_bn)).steps_per_epoch


@by_all_ranks
def resume(path, data_loader, *, device=None, steps=None, threads=None, callbacks=(), announce=print, data_dir=None):
    """Go on with the run of a recipe in the folder `path`, to the bit as if it had never stopped; returns the `Run`.

    data_loader  config -> the data of the run; their SHA-256 is compared
    device       "cpu", "cuda" or "auto"; the run's by default
    steps        a new total, to make the run longer; the run's by default
    threads      as for `fit`; the run's by default
    data_dir     where MNIST is looked for first, if the run has evaluations

    All else comes from config.json. A run that has no steps left, nor an evaluation, says so and is returned as it is,
    its `batches` None and its data not loaded.
    """
    ranks = processes.joined()
    folder = RunFolder.open(path, lock=ranks.rank == 0)
    try:
        def build(config):
            ranks.take_device(config["device"] if device is None else device)
            return rebuild(folder, config, config["device"] if device is None else device)
        run = reopening.reopen(folder, data_loader, build, steps, threads, callbacks, announce, {},
                               Evaluation.of(folder.config, data_dir))
        return run if run.batches is None else run.train()
    finally:
        folder.close()


def load(path, device="cpu", announce=print):
    """The system of a run: the recipe of its config.json with the weights of its newest whole checkpoint.

    `path` is the folder of a run, or one checkpoint inside it. `device` need not be the one it was trained on.
    """
    path, announce = Path(path), speaker(announce)
    inside = (path / checkpoints.STATE).exists()
    folder = RunFolder.open(path.resolve().parent.parent if inside else path, lock=False)
    checkpoint = checkpoints.read(path) if inside else checkpoints.newest(folder.checkpoints, announce)[0]
    if checkpoint is None:
        raise UserError(f"{path} has no checkpoint: give another run, or wait until its training has written one.")
    system = rebuild(folder, folder.config, device)
    checkpoints.restore(checkpoint, system)
    return system


def begin(system, data, steps, out, callbacks, given, threads, announce, evaluation=None):
    """A new `Run` at step 0, its folder made."""
    ranks = processes.joined()
    announce, record, usual = speaker(announce, ranks), system.record or {}, dict(DEFAULTS)
    if record:
        usual |= {"seed": record["seed"], "batch_size": recipes.get(record["name"]).examples(record["settings"])}
    chosen = ranks.by_first(lambda: {name: checked(name, usual[name] if value is None else value)
                                     for name, value in given.items()})
    steps, threads = checked("steps", steps), checked("threads", ranks.threads if threads is None else threads)
    source = as_source(data, system.value_range)
    require_fit(system, source)
    require_batch_norm(system, chosen["sync_bn"])
    if chosen["tf32"] and system.device != "cuda":
        raise UserError("tf32 is for CUDA, and the system is on the CPU: leave it out.")
    require_same_data(source, ranks)
    require_same_device(system, ranks)
    if evaluation and ranks.rank == 0:
        evaluation.prepare(system, source, announce)
    batches = taken_batches(system, lambda drop_last: source.batches(
        chosen["batch_size"], chosen["seed"], chosen["flip"], drop_last), given["drop_last"],
        ranks, chosen["sync_bn"])
    chosen["drop_last"] = batches.drop_last
    config = {"recipe": record.get("name"), "settings": record.get("settings", {}),
              "weights_seed": record.get("seed"), "facts": record.get("facts", {}), **chosen, "steps": steps,
              "data": source.record(), **circumstances(system, threads, ranks)}
    folder = None if out is None or ranks.rank else RunFolder.create(out, config)
    for line in told(system, config, ranks, out):
        announce(line)
    return Run(system, batches, config, folder, watched(callbacks, ranks), announce, evaluation, ranks)


def require_fit(system, source):
    """`UserError` if the system says what its examples and labels are and the data have others."""
    expected, shape = system.sample_shape, tuple(source.sample_shape)
    if expected is not None and tuple(expected) != shape:
        raise UserError(f"The examples of {source.name} have shape {shape}, the system takes {tuple(expected)}: load "
                        "them in that shape (data.load has size= and channels=), or build the system for theirs.")
    if system.classes and not 0 < source.classes <= system.classes:
        raise UserError(f"The labels of {source.name} name {source.classes} classes, the system takes "
                        f"{system.classes}: give it data with labels, or build the system for theirs.")


def taken_batches(system, make, drop_last, ranks, sync_bn):
    """make(drop_last) -> `Batches` that the system takes: without the last, smaller batch of an epoch where it refuses
    that and `drop_last` is None; `UserError` where it refuses them all the same."""
    batches = make(bool(drop_last))
    last = (batches.steps_per_epoch or 1) - 1  # the only one that may be smaller
    refused = refusal(system, batches, last, ranks, sync_bn)
    if refused and last and drop_last is None:
        batches = make(True)
        refused = refusal(system, batches, 0, ranks, sync_bn)
    if refused:
        raise UserError(f"The system does not take a batch of {refused[0]} examples: {refused[1]}.")
    return batches


def refusal(system, batches, index, ranks, sync_bn):
    """(how many examples, what it says) of a batch that the system does not take, else None; it stays as it is."""
    if ranks.size > 1:
        why = too_small(system, batches.size(index), ranks, sync_bn)
        return why and (batches.size(index), why)
    batch, labels = batches.batch(index)
    size = len(batch[0] if isinstance(batch, tuple) else batch)
    if size >= system.smallest_batch:
        return None
    before = Snapshot().take(system)
    system.draw_from(0)  # as the first step of the run does again
    try:
        system.step(taken_in(system, batch), labels)
    except ValueError as error:
        return size, str(error).rstrip(".")
    finally:
        before.restore(system)
    return None
