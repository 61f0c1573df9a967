"""`scratchgan train`."""

import functools
from pathlib import Path

from scratchgan.cli.options import add_device, channels, check_settings, path, rate, whole
from scratchgan.errors import UserError

# What belongs to a run from its first step on: destination -> option.
FIXED = {"out": "--out", "seed": "--seed", "lr": "--lr", "lr_d": "--lr-d", "lr_g": "--lr-g",
         "batch_size": "--batch-size", "log_every": "--log-every", "sample_every": "--sample-every",
         "checkpoint_every": "--checkpoint-every", "keep": "--keep", "flip": "--flip", "channels": "--channels",
         "joint_batch": "--joint-batch"}

EXAMPLES = """\
examples:
  scratchgan train                                    MNIST, or the bundled digits where there is no network
  scratchgan train --data digits --steps 5000         less than a minute
  scratchgan train mlp --data photos/ --lr-d 1e-4     images of one's own, a slower discriminator
  scratchgan train dcgan64 --data photos/             at 64x64, in colour if the photos are
  scratchgan train --resume runs/mlp                  go on where a run was stopped
"""


def add(commands):
    parser = commands.add_parser("train", help="train a GAN: scratchgan train --data digits",
                                 description="Train the system of a recipe and write weights, metrics and pictures.",
                                 epilog=EXAMPLES)
    parser.set_defaults(run=run)
    parser.add_argument("recipe", metavar="RECIPE", nargs="?",
                        help="what to train, see `scratchgan recipes` (default: mlp)")
    add_data(parser)
    add_device(parser, default="auto, with --resume the device of the run")

    length = parser.add_argument_group("length and rates").add_mutually_exclusive_group()
    length.add_argument("--epochs", type=whole(1), metavar="N",
                        help="how often to go through the data (default: the recipe's, more where images are few)")
    length.add_argument("--steps", type=whole(1), metavar="N", help="how many steps to do, instead of epochs")
    rates = parser.add_argument_group("settings")
    rates.add_argument("--batch-size", type=whole(1), metavar="N", help="images in a step (default: the recipe's)")
    rates.add_argument("--lr", type=rate, metavar="RATE", help="learning rate of both networks")
    rates.add_argument("--lr-d", type=rate, metavar="RATE", help="of the discriminator (default: the recipe's)")
    rates.add_argument("--lr-g", type=rate, metavar="RATE", help="of the generator (default: the recipe's)")
    rates.add_argument("--channels", type=channels, metavar="1|3",
                       help="grey or colour, for recipes that can make both (default: as the data are; MNIST and the "
                            "digits are grey)")
    rates.add_argument("--joint-batch", action="store_true", default=None,
                       help="batch normalisation over real and fake images together in the discriminator's step "
                            "(default: over each alone)")
    rates.add_argument("--flip", action="store_true", default=None, help="mirror half of the images (default: no)")
    rates.add_argument("--seed", type=whole(0), metavar="N", help="of all random numbers (default: 0)")
    rates.add_argument("--threads", type=whole(1, 1024), metavar="N",
                       help="threads of the linear algebra and of the layers' own tasks on the CPU "
                            "(default: what the BLAS has set, usually one for each core)")

    files = parser.add_argument_group("what is written")
    files.add_argument("--out", type=path, metavar="FOLDER",
                       help="a new folder for the run (default: runs/RECIPE, or the first free runs/RECIPE-2, ...)")
    files.add_argument("--resume", type=path, metavar="RUN",
                       help="go on with the run in this folder, by default to the end that was planned")
    files.add_argument("--log-every", type=whole(1), metavar="STEPS",
                       help="between rows of metrics.csv (default: a hundredth of the run, at most 100)")
    files.add_argument("--sample-every", type=whole(1), metavar="STEPS",
                       help="between grids of samples (default: some epochs, so that there are 20 to 40)")
    files.add_argument("--checkpoint-every", type=whole(1), metavar="STEPS",
                       help="between checkpoints (default: 1000)")
    files.add_argument("--keep", type=whole(1), metavar="N", help="how many checkpoints to keep (default: 3)")

    shown = parser.add_argument_group("what is shown").add_mutually_exclusive_group()
    shown.add_argument("--preview", action="store_true", help="draw each grid of samples on the terminal, too")
    shown.add_argument("--quiet", action="store_true", help="nothing but errors")


def add_data(parser):
    parser.add_argument("--data", metavar="auto|mnist|digits|PATH",
                        help="MNIST, the bundled digits, or the path of a folder of images or of a .npy or .npz file; "
                             "auto: MNIST, or the digits where it cannot be had (default: auto)")
    parser.add_argument("--data-dir", type=path, metavar="FOLDER",
                        help="where MNIST is looked for and downloaded to (default: $SCRATCHGAN_DATA, then the "
                             "user's cache)")


def run(options):
    from scratchgan import report
    from scratchgan import training as runs
    say = silent if options.quiet else functools.partial(print, flush=True)
    device = options.device or "auto"
    # A run that is resumed stays on its device, unless another was asked for.
    asked = options.device if options.resume else device
    callbacks = [report.Pictures(options.preview)] if options.quiet else [
        report.Progress(asked, say), report.Pictures(options.preview)]
    try:
        run = (resume if options.resume else start)(options, say, callbacks)
    except runs.Diverged as error:
        from scratchgan.cli import fail
        return fail(error, 1)
    if run.batches is not None:  # else there was nothing left to do, which was said
        for line in report.closing(run):
            say(line)
    return 0


def silent(line):
    """Announces nothing."""


def start(options, say, callbacks):
    from scratchgan import backend, data, recipes, report
    from scratchgan import training as runs
    from scratchgan.training.folder import check_free
    recipe = recipes.get(options.recipe or "mlp")
    settings = {"lr_d": options.lr if options.lr_d is None else options.lr_d,
                "lr_g": options.lr if options.lr_g is None else options.lr_g}
    settings = {name: value for name, value in settings.items() if value is not None}
    check_settings(recipe, options)
    if options.joint_batch:
        settings["joint_batch"] = True
    out = options.out
    if out is None:
        wanted = Path("runs", recipe.name)
        out = free_name(wanted)
        if out != wanted:
            say(f"{wanted} exists: writing to {out}")
    check_free(out)  # what can be refused is refused before the data are loaded
    device = backend.device(options.device or "auto")

    name = "auto" if options.data is None else options.data
    free = "channels" in recipe.settings  # None: as many as the data have
    dataset = data.load(name, options.data_dir, size=recipe.image_size, channels=options.channels if free else 1,
                        announce=say, bars=not options.quiet)
    if free:
        settings["channels"] = dataset.images.shape[1]
    batch_size = options.batch_size or recipe.batch_size
    steps_per_epoch = -(-len(dataset) // batch_size)
    steps = options.steps or (options.epochs and options.epochs * steps_per_epoch)
    steps = steps or runs.default_steps(recipe, len(dataset), batch_size)
    return runs.start(
        recipe.name, dataset, out, settings, seed=options.seed or 0, device=device, batch_size=batch_size, steps=steps,
        log_every=options.log_every or report.default_log_every(steps),
        sample_every=options.sample_every or report.default_sample_every(steps, steps_per_epoch),
        checkpoint_every=options.checkpoint_every, keep=options.keep, flip=options.flip, threads=options.threads,
        callbacks=callbacks, announce=say)


def free_name(path):
    """The path, or the first of path-2, path-3, ... that does not exist."""
    number, name = 1, path
    while name.exists() or name.is_symlink():
        number += 1
        name = path.with_name(f"{path.name}-{number}")
    return name


def resume(options, say, callbacks):
    from scratchgan import training as runs
    from scratchgan.cli import datasets
    given = [option for name, option in FIXED.items() if getattr(options, name) is not None]
    if given:
        raise UserError(f"{given[0]} cannot be given with --resume: a run keeps its settings; leave it out, or start a "
                        "new run")
    config = runs.RunFolder.open(options.resume, lock=False).config
    if options.recipe not in (None, config["recipe"]):
        raise UserError(f"the run in {options.resume} is of recipe {config['recipe']}, not {options.recipe}: leave the "
                        "recipe out")
    steps = options.steps
    if options.epochs:
        steps = options.epochs * -(-config["data"]["size"] // config["batch_size"])
    name = None if options.data == "auto" else options.data

    def find(config):
        return datasets.of_run(config, name, options.data_dir, say, bars=not options.quiet)
    return runs.resume(options.resume, find, device=options.device, steps=steps, threads=options.threads,
                       callbacks=callbacks, announce=say)
