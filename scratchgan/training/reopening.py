"""A run out of its folder, and what a run depends on besides its configuration."""

import json

from scratchgan import ranks as processes
from scratchgan import recipes
from scratchgan.errors import UserError
from scratchgan.system import Panel
from scratchgan.training import checkpoint as checkpoints
from scratchgan.training import environment
from scratchgan.training.callbacks import Callback
from scratchgan.training.config import checked
from scratchgan.training.run import Run
from scratchgan.training.sharing import require_same_device, require_shares, told
from scratchgan.training.watch import Watch


def reopen(folder, load_data, build, steps, threads, callbacks, announce, given, evaluation=None):
    """The `Run` of a folder at its newest whole checkpoint, its metrics and evaluations cut back to it."""
    ranks, config = processes.joined(), folder.config
    announce = speaker(announce, ranks)
    for name, value in given.items():
        if value is not None and value != config[name]:
            raise UserError(f"The run in {folder.path} has {name} {config[name]}, not {value}: leave {name} out, or "
                            "start a new run.")
    planned = config["steps"]
    if steps is not None:
        config["steps"] = checked("steps", steps)
    if threads is None:
        threads = config["threads"] if config["ranks"] == ranks.size else ranks.threads
    else:
        threads = checked("threads", threads)
    checkpoint, damaged = checkpoints.newest(folder.checkpoints, announce)
    system = build(config)
    require_same_system(folder, system)
    run = Run(system, None, config, None if ranks.rank else folder, watched(callbacks, ranks), announce, evaluation,
              ranks)
    if checkpoint is not None:
        checkpoints.restore(checkpoint, system)
        run.step = run.saved = checkpoint.step
        run.pending, run.seconds = checkpoint.state["pending"], checkpoint.state["seconds"]
    run.evaluations = [row for row in folder.evaluations() if row["step"] <= run.step]
    if run.finished and not run.must_evaluate:
        run.history = folder.rows()
        if run.step < planned:
            announce(f"The run in {folder.path} has done {run.step} steps, and was asked for {steps}: without a number "
                     f"it goes on to {planned}.")
        else:
            announce(f"The run in {folder.path} is finished: {run.step} steps are done; to go on, ask for more steps.")
        return run
    source = load_data(config)
    recorded = config["data"]
    if source.sha256 != recorded["sha256"]:
        raise UserError(f"The data are not those of the run: {source.name} has SHA-256 {source.sha256}, the run in "
                        f"{folder.path} was trained on {recorded['name']} with {recorded['sha256']}; give it those.")
    run.batches = source.batches(config["batch_size"], config["seed"], config["flip"], config["drop_last"])
    require_shares(system, run.batches, ranks, config["sync_bn"])
    require_same_device(system, ranks)
    if evaluation and ranks.rank == 0:
        evaluation.prepare(system, source, announce)
    folder.rows()  # refused before anything is changed, where they cannot be read
    now = circumstances(system, threads, ranks)
    tell_changes({name: config.get(name) for name in now}, now, announce)
    config |= now
    for line in told(system, config, ranks, folder.path) if ranks.size > 1 else ():
        announce(line)
    ranks.largest(0)  # all have read what rank 0 now changes
    if ranks.rank:
        return run
    folder.write_config()
    folder.make()
    folder.clean()
    checkpoints.clean(folder.checkpoints)
    checkpoints.set_aside(damaged)
    if folder.evaluated.exists():
        folder.write_evaluations(run.evaluations)
    run.history = folder.rows() if run.finished else folder.cut(run.step, config["log_every"])
    expected = run.step // config["log_every"]
    if len(run.history) != expected and not run.finished:
        announce(f"{folder.metrics} holds {len(run.history)} of {expected} rows up to step {run.step}: the others "
                 "are lost.")
    if checkpoint is None:
        announce(f"The run in {folder.path} has no checkpoint: it starts from the beginning.")
    return run


def rebuild(folder, config, device):
    """The system of a run's recipe, its weights still those of the beginning."""
    if config["recipe"] is None:
        raise UserError(f"The run in {folder.path} trains networks of one's own, which cannot be built from its "
                        "config.json: build them, and use scratchgan.fit(..., resume=True).")
    recipe = recipes.get(config["recipe"])
    seed = config.get("weights_seed")
    facts, settings = recipe.as_recorded(config)
    system = recipe.build(config["seed"] if seed is None else seed, device, facts, **settings)
    for network in system.networks.values():
        network.to(dtype=config["dtype"])
    return system


def panels_of(folder):
    """The charts of a run, as it recorded them; as its recipe has them, where it is older than that."""
    config = folder.config
    if "panels" in config:
        return tuple(Panel(**panel) for panel in config["panels"])
    return () if config["recipe"] is None else rebuild(folder, config, "cpu").panels


def require_same_system(folder, system):
    """`UserError` unless recipe, settings, facts and precision are those of the run."""
    record, config = system.record or {}, folder.config
    network = next(iter(system.networks.values()))
    facts, settings = config.get("facts", {}), config["settings"]
    if config["recipe"] is not None:  # an older run may lack what came later, whose default is what it had
        recipe = recipes.get(config["recipe"])
        facts, settings = recipe.as_recorded(config)
        settings = {**{setting.name: setting.default for setting in recipe.settings}, **settings}
    for what, here, there in (("recipe", record.get("name"), config["recipe"]),
                              ("settings", record.get("settings", {}), settings),
                              ("facts", record.get("facts", {}), facts),
                              ("dtype", network.dtype.name, config["dtype"])):
        if as_json(here) != as_json(there):
            raise UserError(f"The run in {folder.path} has {what} {there}, not {here}: build the system as it was.")


def as_json(value):
    return json.loads(json.dumps(value, default=lambda number: number.item()))


def circumstances(system, threads, ranks):
    """What config.json says of the system and of what it runs on, as it is now."""
    network = next(iter(system.networks.values()))
    return {"device": network.device, "dtype": network.dtype.name, "ranks": ranks.size,
            "threads": environment.threads_now() if threads is None else threads, "versions": environment.versions(),
            "blas": environment.blas_name(),
            "panels": [{"title": panel.title, "metrics": dict(panel.metrics), "scale": panel.scale}
                       for panel in system.panels]}


def tell_changes(then, now, announce):
    """One line if circumstances differ that change how numbers are rounded."""
    then, now = ({name: value for name, value in {**each, **(each["versions"] or {})}.items()
                  if name not in ("versions", "panels")} for each in (then, now))
    changed = [f"{name} {then.get(name)} is now {value}" for name, value in now.items()
               if then.get(name) != value and name != "cupy"]
    if changed:
        announce(f"Results may differ in the last bits from an uninterrupted run: {', '.join(changed)}.")


def watched(callbacks, ranks):
    """The callbacks of a run, `Watch` before them unless one is among them; rank 0 has them."""
    callbacks = list(callbacks or ())
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks must be Callbacks (scratchgan.training.Callback), not {callback!r}")
    if ranks.rank:
        return []
    return callbacks if any(isinstance(callback, Watch) for callback in callbacks) else [Watch(), *callbacks]


def speaker(announce, ranks=processes.ALONE):
    """What lines are said with: nothing, for None, and by all ranks but the first."""
    if announce is not None and not callable(announce):
        raise TypeError(f"announce must be a function that takes a line, or None, not {announce!r}")
    return (lambda line: None) if announce is None or ranks.rank else announce
