"""The ways into a run: `fit` for a system of one's own, `start` and `resume` for recipes, `load` for what came out."""

import json
from pathlib import Path

from scratchgan import recipes
from scratchgan.data.dataset import as_source
from scratchgan.errors import UserError
from scratchgan.training import checkpoint as checkpoints
from scratchgan.training import environment
from scratchgan.training.folder import RunFolder, check_free
from scratchgan.training.run import Run
from scratchgan.training.system import System
from scratchgan.training.watch import Watch

DEFAULTS = {"batch_size": 64, "seed": 0, "flip": False, "log_every": 100, "sample_every": 1000,
            "checkpoint_every": 1000, "keep": 3}


def fit(system, data, steps, out=None, callbacks=(), *, batch_size=None, seed=None, flip=None, log_every=None,
        sample_every=None, checkpoint_every=None, keep=None, threads=None, resume=False, announce=print):
    """Train `system` on `data` up to step `steps`; returns the history, a list with a dict per log interval.

    system            a `System`, such as a `Game`
    data              a `Source`, such as a `Dataset`; or an array: uint8 (N, C, H, W), or float (N, ...) in [-1, 1]
    out               the folder to write the run to; None writes nothing
    callbacks         `Callback`s; `Watch()` is put before them unless one is among them
    batch_size, seed  of the batches; the system's recipe has them, else 64 and 0
    flip              mirror half of the images (no)
    log_every, sample_every, checkpoint_every
                      in steps: 100, 1000, 1000. Pictures are made by callbacks, which read `sample_every`
    keep              how many checkpoints are kept (3)
    threads           of the BLAS; as they are by default, and afterwards as they were before
    resume            go on with the run in `out`, from its newest checkpoint: the system must be built as it was
                      then, data and settings must be those of the run (what is None is taken from it), and the
                      rest of the run has the same bits as if it had never been interrupted
    announce          is called with each line that a person should see

    Raises `Stopped` after Ctrl-C or SIGTERM, `Diverged` when a number is not finite, `UserError` for mistakes.
    """
    given = {"batch_size": batch_size, "seed": seed, "flip": flip, "log_every": log_every,
             "sample_every": sample_every, "checkpoint_every": checkpoint_every, "keep": keep}
    if not isinstance(system, System):
        raise TypeError(f"fit: expected a System (networks, optimizers, step, sample, state_dict), "
                        f"got {type(system).__name__}")
    if not resume:
        return begin(system, data, steps, out, callbacks, given, threads, announce).train().history
    if out is None:
        raise UserError("Nothing to resume: give the folder of the run as out.")
    folder = RunFolder.open(out)
    try:
        run = reopen(folder, lambda config: as_source(data), lambda config: system, steps, threads, callbacks,
                     announce, given)
        return run.history if run.finished else run.train().history
    finally:
        folder.close()


def start(recipe_name, data, out=None, settings=None, *, seed=0, device="auto", batch_size=None, steps=None,
          log_every=None, sample_every=None, checkpoint_every=None, keep=None, flip=None, threads=None, callbacks=(),
          announce=print):
    """Build the recipe with `settings` (name -> value) over its own, train it as `fit` does; returns the `Run`.

    `steps` by default: the recipe's epochs, at least its `min_steps`. `batch_size` by default: the recipe's.
    """
    recipe = recipes.get(recipe_name)
    if out is not None:
        check_free(out)
    data = as_source(data)
    given = {"batch_size": recipe.batch_size if batch_size is None else batch_size, "seed": seed, "flip": flip,
             "log_every": log_every, "sample_every": sample_every, "checkpoint_every": checkpoint_every, "keep": keep}
    if steps is None:
        steps = default_steps(recipe, len(data), given["batch_size"])
    system = recipe.build(seed, device, **(settings or {}))
    return begin(system, data, steps, out, callbacks, given, threads, announce).train()


def default_steps(recipe, size, batch_size):
    """A recipe's epochs on `size` images, or its `min_steps` if that is more."""
    require_whole(batch_size=batch_size)
    return max(recipe.epochs * -(-size // batch_size), recipe.min_steps)


def resume(path, data_loader, *, device=None, steps=None, threads=None, callbacks=(), announce=print):
    """Go on with the run of a recipe in the folder `path`, to the bit as if it had never stopped; returns the `Run`.

    data_loader  config -> the data set of the run; its SHA-256 is compared
    device       "cpu", "cuda" or "auto"; the run's by default
    steps        a new total, to make the run longer; the run's by default
    threads      as for `fit`; the run's by default

    All else comes from config.json. A run that has no steps left says so and is returned as it is, its `batches`
    None and its data not loaded.
    """
    folder = RunFolder.open(path)
    try:
        def build(config):
            return rebuild(folder, config, config["device"] if device is None else device)
        run = reopen(folder, data_loader, build, steps, threads, callbacks, announce, {})
        return run if run.finished else run.train()
    finally:
        folder.close()


def load(path, device="cpu", announce=print):
    """The system of a run: the recipe of its config.json with the weights of its newest whole checkpoint.

    `path` is the folder of a run, or one checkpoint inside it. `device` need not be the one it was trained on.
    """
    path = Path(path)
    inside = (path / checkpoints.STATE).exists()
    folder = RunFolder.open(path.resolve().parent.parent if inside else path, lock=False)
    checkpoint = checkpoints.read(path) if inside else checkpoints.newest(folder.checkpoints, announce)[0]
    if checkpoint is None:
        raise UserError(f"{path} has no checkpoint yet: wait until the training has written one.")
    system = rebuild(folder, folder.config, device)
    checkpoints.restore(checkpoint, system)
    return system


# -- how runs are put together -------------------------------------------------------------------------------------


def begin(system, data, steps, out, callbacks, given, threads, announce):
    """A new `Run` at step 0, its folder made."""
    recipe = getattr(system, "record", None) or {}
    usual = dict(DEFAULTS)
    if recipe:
        usual |= {"seed": recipe["seed"], "batch_size": recipes.get(recipe["name"]).batch_size}
    chosen = {name: usual[name] if value is None else value for name, value in given.items()}
    require_whole(steps=steps, **{name: value for name, value in chosen.items() if name not in ("seed", "flip")},
                  threads=1 if threads is None else threads)
    dataset = as_source(data)
    require_shape(system, dataset)
    config = {"recipe": recipe.get("name"), "settings": recipe.get("settings", {}),
              "weights_seed": recipe.get("seed"), **chosen, "steps": steps, "data": dataset.record(),
              **circumstances(system, threads)}
    folder = None if out is None else RunFolder.create(out, config)
    batches = dataset.batches(chosen["batch_size"], chosen["seed"], chosen["flip"])
    return Run(system, batches, config, folder, watched(callbacks), announce)


def reopen(folder, load_data, build, steps, threads, callbacks, announce, given):
    """The `Run` of a folder at its newest whole checkpoint, its metrics cut back to it."""
    config = folder.config
    for name, value in given.items():
        if value is not None and value != config[name]:
            raise UserError(f"The run in {folder.path} has {name} {config[name]}, not {value}: leave {name} out, or "
                            "start a new run.")
    require_whole(steps=config["steps"] if steps is None else steps, threads=1 if threads is None else threads)
    if steps is not None:
        config["steps"] = steps
    checkpoint, damaged = checkpoints.newest(folder.checkpoints, announce)
    system = build(config)
    require_same_system(folder, system)
    run = Run(system, None, config, folder, watched(callbacks), announce)
    if checkpoint is not None:
        checkpoints.restore(checkpoint, system)
        run.step = run.saved = checkpoint.step
        run.pending, run.seconds = checkpoint.state["pending"], checkpoint.state["seconds"]
    if run.finished:
        run.history = folder.rows()
        announce(f"The run in {folder.path} is finished: {run.step} steps are done; to go on, ask for more steps.")
        return run
    dataset = load_data(config)
    recorded = config["data"]
    if dataset.sha256 != recorded["sha256"]:
        raise UserError(f"The data are not those of the run: {dataset.name} has SHA-256 {dataset.sha256}, the run in "
                        f"{folder.path} was trained on {recorded['name']} with {recorded['sha256']}; give it those.")
    now = circumstances(system, config["threads"] if threads is None else threads)
    tell_changes({name: config.get(name) for name in now}, now, announce)
    config |= now
    folder.write_config()
    folder.clean()
    checkpoints.clean(folder.checkpoints)
    checkpoints.set_aside(damaged)
    run.history = folder.cut(run.step, config["log_every"])
    expected = run.step // config["log_every"]
    if len(run.history) != expected:
        announce(f"{folder.metrics} holds {len(run.history)} of {expected} rows up to step {run.step}: the others "
                 "are lost.")
    if checkpoint is None:
        announce(f"The run in {folder.path} has no checkpoint: it starts from the beginning.")
    run.batches = dataset.batches(config["batch_size"], config["seed"], config["flip"])
    return run


def rebuild(folder, config, device):
    """The system of a run's recipe, its weights still those of the beginning."""
    if config["recipe"] is None:
        raise UserError(f"The run in {folder.path} trains networks of one's own, which cannot be built from its "
                        "config.json: build them, and use scratchgan.fit(..., resume=True).")
    recipe = recipes.get(config["recipe"])
    return recipe.build(config.get("weights_seed", config["seed"]), device, **config["settings"])


def require_same_system(folder, system):
    """`UserError` unless recipe, settings and precision are those of the run."""
    recipe = getattr(system, "record", None) or {}
    network = next(iter(system.networks.values()))
    settings = json.loads(json.dumps(recipe.get("settings", {}), default=lambda number: number.item()))
    config = folder.config
    if config["recipe"] is not None:  # an older run lacks a setting that came later, whose default is what it had
        config = {**config, "settings": {**recipes.get(config["recipe"]).settings, **config["settings"]}}
    for what, here in (("recipe", recipe.get("name")), ("settings", settings), ("dtype", network.dtype.name)):
        if here != config[what]:
            raise UserError(f"The run in {folder.path} has {what} {config[what]}, not {here}: build the system as it "
                            "was.")


def require_shape(system, dataset):
    """`UserError` if the system says what shape its images have and the data have another."""
    expected, shape = getattr(system, "sample_shape", None), dataset.sample_shape
    if expected is not None and tuple(expected) != shape:
        raise UserError(f"The images of {dataset.name} have shape {shape}, the system takes {tuple(expected)}: load "
                        "them in that shape (data.load has size= and channels=), or build the system for theirs.")


def require_whole(**numbers):
    for name, value in numbers.items():
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
            raise UserError(f"{name} must be a whole number, 1 or more, not {value!r}.")


def circumstances(system, threads):
    """What config.json says of device, threads and versions."""
    network = next(iter(system.networks.values()))
    return {"device": network.device, "dtype": network.dtype.name,
            "threads": environment.threads_now() if threads is None else threads, "versions": environment.versions(),
            "blas": environment.blas_name()}


def tell_changes(then, now, announce):
    """One line if circumstances differ that change how numbers are rounded."""
    then, now = ({name: value for name, value in {**each, **each["versions"]}.items() if name != "versions"}
                 for each in (then, now))
    changed = [f"{name} {then.get(name)} is now {value}" for name, value in now.items()
               if then.get(name) != value and name != "cupy"]
    if changed:
        announce(f"Results may differ in the last bits from an uninterrupted run: {', '.join(changed)}.")


def watched(callbacks):
    callbacks = list(callbacks)
    return callbacks if any(isinstance(callback, Watch) for callback in callbacks) else [Watch(), *callbacks]
