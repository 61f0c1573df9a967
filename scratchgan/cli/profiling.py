"""`scratchgan profile`: where a training step's time goes."""

from scratchgan.cli.options import add_device, channels, path, say, whole
from scratchgan.cli.sampling import CURVE_KINDS, check_target
from scratchgan.cli.settings import add_recipe, settings_of
from scratchgan.errors import UserError
from scratchgan.files import writing

EXAMPLES = """\
examples:
  scratchgan profile mlp                                   a table here, a chart in profile-mlp.png
  scratchgan profile mlp --batch-size 512 --threads 1
  scratchgan profile mlp --device cuda --out charts/a.svg

GFLOP counts the multiplications and additions of the matrix products by the direct algorithm; a faster algorithm shows
as more GFLOP/s. "kept" is what a layer holds for its backward pass, memory shared by several counted for the first.
"the rest" is in no layer and no update: noise, losses, copies of the batch, Python between the layers.
"""


def add(commands):
    parser = commands.add_parser("profile", help="where a step's time goes: scratchgan profile mlp", add_help=False,
                                 usage="scratchgan profile RECIPE [options] [settings of the recipe]",
                                 description="Train a recipe for some steps on random images and measure the time of "
                                             "each layer, forward and backward, and of each update.", epilog=EXAMPLES)
    parser.set_defaults(run=run)
    add_recipe(parser, "what to train, see `scratchgan recipes`")
    parser.add_argument("--batch-size", type=whole(1), metavar="N", help="images in a step (default: the recipe's)")
    parser.add_argument("--channels", type=channels, metavar="1|3",
                        help="grey or colour, for recipes that can make both (default: the recipe's)")
    parser.add_argument("--steps", type=whole(1), metavar="N",
                        help="how many to measure (default: as many as take 5 seconds, 5 to 200)")
    parser.add_argument("--threads", type=whole(1, 1024), metavar="N",
                        help="threads of the linear algebra and of the layers' own tasks on the CPU "
                             "(default: what the BLAS has set, usually one for each core)")
    parser.add_argument("--out", type=path, metavar="PATH",
                        help=f"the chart, NAME{', NAME'.join(CURVE_KINDS)}, or a folder for it "
                             "(default: profile-RECIPE.png)")
    add_device(parser)


def run(options):
    from scratchgan import backend, plots, profiling, recipes, report
    from scratchgan.profiling import random_examples
    from scratchgan.training.environment import threads_now, using_threads
    recipe = recipes.get(options.recipe)
    settings = settings_of(recipe, options)
    out = target(options)
    system = recipe.build(seed=0, device=backend.device(options.device), channels=options.channels, **settings)
    count, device = options.batch_size or recipe.examples(settings), system.device
    images = random_examples(system, count)
    with using_threads(options.threads):
        threads = f", BLAS with {report.counted(threads_now() or 1, 'thread')}" if device == "cpu" else ""
        examples = report.counted(count, report.noun(system.sample_shape))
        what = f"{recipe.name}, {examples} {'x'.join(map(str, system.sample_shape))} a step"
        say(f"{what}, device {device}{threads}")
        if device == "cuda":
            say("steps made one by one; `scratchgan train` records them as CUDA graphs, which take less")
        result = profiling.profile(system, images, options.steps)
    print(f"the mean of the faster half of {report.counted(result.steps, 'step')}; "
          f"a step takes {result.unwatched * 1e3:.3f} ms when its layers are not timed\n")
    print(profiling.table(result))
    with writing("the chart", out):
        plots.save_figure(out, plots.bars(result, f"{what}, {device}: {result.seconds * 1e3:.2f} ms"))
    print(f"\nwrote {out}")


def target(options):
    """The file for the chart; complains before the work if it cannot be written."""
    name = f"profile-{options.recipe}.png"
    out = options.out
    out = path(name) if out is None else out / name if out.is_dir() else out
    if out.suffix.lower() not in CURVE_KINDS or out.is_dir():
        raise UserError(f"--out must be a folder that exists or a file that ends in {', '.join(CURVE_KINDS)}, "
                        f"not {str(options.out)!r}")
    check_target(out, out.suffix.lower())
    return out
