"""`scratchgan train`."""

import functools
from pathlib import Path

from scratchgan.cli.options import add_device, channels, path, whole
from scratchgan.cli.options import say as aloud
from scratchgan.cli.settings import add_recipe, given, settings_of
from scratchgan.errors import UserError
from scratchgan.settings import option

EVALUATE = ("evaluate", "best_by", "evaluate_samples")  # what --evaluate-every may be given with
# What belongs to a run from its first step on, besides the settings of its recipe.
FIXED = ("out", "seed", "batch_size", "log_every", "sample_every", "checkpoint_every", "keep", "flip", "drop_last",
         "channels", "evaluate_every", "sync_bn", "tf32", *EVALUATE)

EXAMPLES = """\
examples:
  scratchgan train                                    MNIST, or the bundled digits where there is no network
  scratchgan train --data digits --steps 5000         less than a minute
  scratchgan train --data photos/ --epochs 200        images of one's own
  scratchgan train ring8                              points in the plane, about a minute
  scratchgan train mlp --help                         with the settings of this recipe
  scratchgan train dcgan64 --data photos/             at 64x64, in colour if the photos are
  scratchgan train --resume runs/mlp                  go on where a run was stopped
  mpiexec -n 2 scratchgan train mlp                   two processes share each batch
"""


def add(commands):
    parser = commands.add_parser("train", help="train a GAN: scratchgan train --data digits", add_help=False,
                                 usage="scratchgan train [RECIPE] [options] [settings of the recipe]",
                                 description="Train the system of a recipe and write weights, metrics and pictures. "
                                             "`scratchgan train RECIPE --help` shows the settings of a recipe, too.",
                                 epilog=EXAMPLES)
    parser.set_defaults(run=run)
    add_recipe(parser, "what to train, see `scratchgan recipes` (default: mlp)", optional=True)
    add_data(parser)
    add_device(parser, default="auto, with --resume the device of the run")

    length = parser.add_argument_group("length").add_mutually_exclusive_group()
    length.add_argument("--epochs", type=whole(1), metavar="N",
                        help="how often to go through the data (default: the recipe's, more where images are few)")
    length.add_argument("--steps", type=whole(1), metavar="N",
                        help="how many steps to do, instead of epochs; with --resume how many in all")
    batches = parser.add_argument_group("batches")
    batches.add_argument("--batch-size", type=whole(1), metavar="N", help="examples in a step (default: the recipe's)")
    batches.add_argument("--drop-last", action="store_true", default=None,
                         help="leave out the last batch of an epoch where it is smaller (default: no, unless it is "
                              "one example, and the networks do not take that)")
    batches.add_argument("--channels", type=channels, metavar="1|3",
                         help="grey or colour, for recipes that can make both (default: as the data are; MNIST and "
                              "the digits are grey)")
    batches.add_argument("--flip", action="store_true", default=None, help="mirror half of the images (default: no)")
    batches.add_argument("--seed", type=whole(0), metavar="N", help="seed of all random numbers (default: 0)")
    batches.add_argument("--tf32", action="store_true", default=None,
                         help="on CUDA large products may round their factors to TF32: faster, 10 bits of fraction "
                              "(default: no)")
    batches.add_argument("--sync-bn", action="store_true", default=None,
                         help="with mpiexec: batch normalisation takes its statistics over the whole batch, not over "
                              "each process's share (default: no)")
    batches.add_argument("--threads", type=whole(1, 1024), metavar="N",
                         help="threads of the linear algebra and of the layers' own tasks on the CPU "
                              "(default: what the BLAS has set, usually one for each core; with mpiexec each "
                              "process its share of the cores)")

    files = parser.add_argument_group("what is written")
    files.add_argument("--out", type=path, metavar="FOLDER",
                       help="a new folder for the run (default: runs/RECIPE, or the first free runs/RECIPE-2, ...)")
    files.add_argument("--resume", type=path, metavar="RUN",
                       help="go on with the run in this folder, by default to the end that was planned")
    files.add_argument("--log-every", type=whole(1), metavar="STEPS",
                       help="steps between rows of metrics.csv (default: a hundredth of the run, at most 100; on "
                            "CUDA more in a long run, so that there are 200 to 400)")
    files.add_argument("--sample-every", type=whole(1), metavar="STEPS",
                       help="steps between pictures (default: some epochs, so that there are 20 to 40)")
    files.add_argument("--checkpoint-every", type=whole(1), metavar="STEPS",
                       help="steps between checkpoints (default: 1000, in a long run more, so that there are about 20)")
    files.add_argument("--keep", type=whole(1), metavar="N", help="how many checkpoints to keep (default: 3)")

    measured = parser.add_argument_group("what is measured")
    measured.add_argument("--evaluate-every", type=whole(1), metavar="STEPS",
                          help="steps between measures of the samples, of recipes that make digits, against MNIST's "
                               "test images; the best checkpoint is kept besides the newest (default: never)")
    measured.add_argument("--evaluate", metavar="NAME,...",
                          help="measures, as in `scratchgan evaluate --metrics`, but for memorisation and "
                               "inception-frechet (default: frechet,precision-recall,classes,conditional)")
    measured.add_argument("--evaluate-samples", type=whole(100, 50_000), metavar="N",
                          help="how many samples are measured (default: 10,000)")
    measured.add_argument("--best-by", metavar="FIGURE",
                          help="which figure tells the best checkpoint, such as recall (default: frechet, or the first "
                               "that is measured)")

    shown = parser.add_argument_group("what is shown").add_mutually_exclusive_group()
    shown.add_argument("--preview", action="store_true", help="draw each picture on the terminal, too")
    shown.add_argument("--quiet", action="store_true", help="nothing but errors")


def add_data(parser):
    parser.add_argument("--data", metavar="NAME|PATH",
                        help="a name of `scratchgan data list`, or the path of a folder of images or of a .npy or .npz "
                             "file; auto: what the recipe is made for, of images MNIST, or the digits where it cannot "
                             "be had (default: auto)")
    parser.add_argument("--data-dir", type=path, metavar="FOLDER",
                        help="where MNIST is looked for and downloaded to (default: $SCRATCHGAN_DATA, then the "
                             "user's cache)")


def run(options):
    from scratchgan import ranks
    with ranks.joined().together():
        return together(options, ranks.joined())


def together(options, ranks):
    """Of several ranks the first one alone writes and speaks."""
    from scratchgan import report
    from scratchgan import training as runs
    options.quiet = options.quiet or ranks.rank > 0
    say = silent if options.quiet else aloud
    device = options.device or "auto"
    # A run that is resumed stays on its device, unless another was asked for.
    asked = options.device if options.resume else device
    callbacks = [report.Pictures(options.preview)] if options.quiet else [
        report.Progress(asked, say), report.Pictures(options.preview)]
    try:
        run = (resume if options.resume else start)(options, ranks, say, callbacks)
    except runs.Diverged as error:
        from scratchgan.cli import fail
        return fail(error, 1)
    if run.batches is not None:  # else there was nothing left to do, which was said
        for line in report.closing(run):
            say(line)
    return 0


def silent(line):
    """Announces nothing."""


def start(options, ranks, say, callbacks):
    from scratchgan import backend, recipes, report
    from scratchgan import training as runs
    from scratchgan.cli import datasets
    from scratchgan.training.folder import Taken, check_free
    recipe = recipes.get(options.recipe or "mlp")
    settings = settings_of(recipe, options)
    wanted = options.out or Path("runs", recipe.name)
    out = options.out or free_name(wanted)
    ranks.by_first(lambda: check_free(out))  # what can be refused is refused before the data are loaded
    evaluation = evaluation_of(options)
    ranks.take_device(options.device or "auto")
    device = backend.device(options.device or "auto")

    with ranks.in_turn():  # the first may have to download them
        source = datasets.of_recipe(recipe, options.data, options.data_dir, options.channels, say, not options.quiet)
    batch_size = options.batch_size or recipe.examples(settings)
    per_epoch = runs.epoch_length(recipe, source, batch_size, settings, options.drop_last, options.sync_bn)
    if options.epochs and per_epoch is None:
        raise UserError(f"--epochs cannot be given: {source.name} has no end; give --steps")
    steps = options.steps or (options.epochs and options.epochs * per_epoch)
    steps = steps or recipe.default_steps(per_epoch)
    begin = functools.partial(
        runs.start, recipe.name, source, settings=settings, seed=options.seed or 0, device=device,
        batch_size=batch_size, steps=steps, log_every=options.log_every or report.default_log_every(steps, device),
        sample_every=options.sample_every or report.default_sample_every(steps, per_epoch),
        checkpoint_every=options.checkpoint_every or report.default_checkpoint_every(steps),
        keep=options.keep, flip=options.flip, drop_last=options.drop_last, threads=options.threads,
        callbacks=callbacks, announce=say, evaluation=evaluation, sync_bn=options.sync_bn,
        tf32=options.tf32)
    while True:
        if out != wanted:
            say(f"{wanted} exists: writing to {out}")
        try:
            return begin(out)
        except Taken:
            if options.out:
                raise
            out = free_name(wanted)  # another run has taken the name while the data were loaded


def evaluation_of(options):
    """The `Evaluation` that is asked for; None without."""
    from scratchgan import training
    given = {name: getattr(options, name) for name in EVALUATE if getattr(options, name) is not None}
    if not options.evaluate_every:
        if given:
            raise UserError(f"{option(next(iter(given)))} is for --evaluate-every: give that, too, or leave it out")
        return None
    measures = {"measures": [name.strip() for name in given.pop("evaluate").split(",")]} if "evaluate" in given else {}
    samples = {"samples": given.pop("evaluate_samples")} if "evaluate_samples" in given else {}
    return training.Evaluation(options.evaluate_every, data_dir=options.data_dir, **measures, **samples, **given)


def free_name(path):
    """The path, or the first of path-2, path-3, ... that does not exist."""
    number, name = 1, path
    while name.exists() or name.is_symlink():
        number += 1
        name = path.with_name(f"{path.name}-{number}")
    return name


def resume(options, ranks, say, callbacks):
    from scratchgan import training as runs
    from scratchgan.cli import datasets
    from scratchgan.training.config import steps_per_epoch
    kept = [name for name in FIXED if getattr(options, name) is not None] + list(given(options))
    if kept:
        raise UserError(f"{option(kept[0])} cannot be given with --resume: a run keeps its settings; leave it out, or "
                        "start a new run")
    config = runs.RunFolder.open(options.resume, lock=False).config
    if options.recipe not in (None, config["recipe"]):
        raise UserError(f"the run in {options.resume} is of recipe {config['recipe']}, not {options.recipe}: leave the "
                        "recipe out")
    steps = options.steps
    if options.epochs:
        if steps_per_epoch(config) is None:
            raise UserError("--epochs cannot be given: the data of the run have no end; give --steps")
        steps = options.epochs * steps_per_epoch(config)
    name = None if options.data == "auto" else options.data

    def find(config):
        with ranks.in_turn():
            return datasets.of_run(config, name, options.data_dir, say, bars=not options.quiet)
    return runs.resume(options.resume, find, device=options.device, steps=steps, threads=options.threads,
                       callbacks=callbacks, announce=say,
                       data_dir=options.data_dir or datasets.folder_of_mnist(config["data"]["source"]))
