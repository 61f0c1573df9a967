"""`scratchgan evaluate`: figures of samples, beside those of yardsticks."""

import json
import math

import numpy as np

from scratchgan.cli.options import add_device, path, tell, whole
from scratchgan.cli.sampling import check_target, run_of
from scratchgan.errors import UserError

FEWEST, MOST, USUAL, STACKED = 100, 50_000, 10_000, 26_000
SHAPES = {"mnist": (1, 28, 28), "stacked": (3, 28, 28)}
PART = 1000  # images that are scaled at once
SLACK = 1e-3  # beyond [0, 1] or [-1, 1], as of a float16
# As in `metrics.measures`; the last only where it is named, since its net is downloaded, and slow without a GPU.
NAMES = ("frechet", "kernel", "precision-recall", "density-coverage", "classes", "inception", "conditional", "parzen",
         "memorisation", "inception-frechet")
# How the figures of the table are written; the others are in --json alone.
FORMATS = {"modes": ".0f", "fair": "d", "hq": ".3f", "frechet": ".3f", "kernel": ".5f", "precision": ".3f",
           "recall": ".3f", "density": ".3f", "coverage": ".3f", "kl": ".4f", "rarest": ".3f", "sure": ".3f",
           "inception": ".3f", "conditional": ".3f", "parzen": ".1f", "memorised": ".3f", "inception-frechet": ".2f"}
OF_OTHERS = {"parzen": "of pixels", "memorised": "of pixels", "inception-frechet": "Inception"}
PAIRS, PAIRS_A_ROW = 24, 4  # of a picture of samples beside their nearest training images
EXAMPLES = f"""\
examples:
  scratchgan evaluate runs/dcgan28                            10,000 samples against MNIST's test images
  scratchgan evaluate runs/mlp --metrics frechet,parzen
  scratchgan evaluate samples.npy --json > figures.jsonl      a line for the samples and for each yardstick
  scratchgan evaluate runs/stacked                            26,000 samples: modes of 1,000, KL, sure share
  scratchgan evaluate runs/mlp --pairs pairs.png              the samples most like a training image, beside it
  scratchgan evaluate runs/ring8                              points: modes, high quality, KL

measures: {', '.join(NAMES[:5])},
          {', '.join(NAMES[5:-1])}, and if named {NAMES[-1]}
          (pip install "scratchgan[fidelity]"), the Frechet distance of published figures

figures:  frechet, kernel      distance of the features from those of the real images; alike: 0
          precision, density   are samples like real images? alike: near 1, as the row of training images shows
          recall, coverage     are real images like samples? the same
          kl, rarest, sure     of the digits that samples are taken for: KL to uniform, the smallest share; share
                               whose digit is surer than .9 (so is that of most noise: look at precision, too)
          inception            from 1 to 10: samples are surely of a class, and all classes are there
          conditional          share that are the digit that they were asked to be
          parzen               log-likelihood of the real images in nats; its error is that of the real images, and
                               in --json parzen_draw_se that of other samples
          memorised            share as near to one training image as the nearest 1% of test images, of 2,000 samples
          modes, fair, hq      of points: modes with a good sample, with a fifth of their share; share of good ones
"""


def add(commands):
    parser = commands.add_parser("evaluate", help="measure samples: scratchgan evaluate runs/dcgan28",
                                 description="Measure samples of digits against the test images of MNIST, and beside "
                                             "them training images, noise and ten images again and again. Figures are "
                                             "told with their standard errors. Those in features name the net by its "
                                             "SHA-256: those of another net, or of another number of samples, do not "
                                             "compare.", epilog=EXAMPLES)
    parser.set_defaults(run=evaluate)
    parser.add_argument("what", metavar="RUN|FILE", type=path,
                        help="the folder of a run, or one of its checkpoints; or a .npy or .npz file of images "
                             "(N, 1, 28, 28), or (N, 3, 28, 28) of stacked digits, uint8 or in [0, 1] or [-1, 1]")
    parser.add_argument("--against", choices=tuple(SHAPES),
                        help="the real images (default: mnist, or stacked, of images of three channels)")
    parser.add_argument("--metrics", metavar="NAME,...",
                        help=f"which, with commas between them (default: all but {NAMES[-1]})")
    parser.add_argument("-n", "--number", type=whole(FEWEST, MOST), metavar="N",
                        help=f"samples of a run (default: {USUAL:,}; of stacked digits {STACKED:,})")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N",
                        help="of samples, yardsticks and standard errors (default: 0)")
    parser.add_argument("--pairs", type=path, metavar="NAME.png",
                        help=f"a picture of the {PAIRS} samples that are most like copies, each beside the training "
                             "image that is nearest to it")
    parser.add_argument("--json", action="store_true", help="a line of JSON for the samples and for each yardstick")
    parser.add_argument("--data-dir", type=path, metavar="FOLDER",
                        help="where MNIST is looked for and downloaded to (default: $SCRATCHGAN_DATA, then the user's "
                             "cache)")
    add_device(parser)


def evaluate(options):
    from scratchgan import backend
    from scratchgan.metrics.inception import inception_net
    from scratchgan.training.evaluation import plain
    names, device = chosen(options.metrics), backend.device(options.device)
    check_pairs(options.pairs)
    if "inception-frechet" in names:
        inception_net(device)  # which complains before the work
        if not options.json:
            tell("the Inception net looks at five sets of images: minutes on a GPU, hours on a CPU")
    images, labels, source = given(options, device)
    if options.against and images.shape[1:] != SHAPES[options.against]:
        raise UserError(f"--against {options.against} is for samples of shape {SHAPES[options.against]}, and those of "
                        f"{options.what} have {tuple(images.shape[1:])}: leave it out")
    if options.pairs and images.shape[1:] != (1, 28, 28):
        raise UserError(f"--pairs is for images of digits, which {options.what} does not make: leave it out")
    if options.metrics and "conditional" in names and labels is None:
        raise UserError("conditional is for runs whose samples are asked to be of a class, such as those of cgan, and "
                        f"those of {options.what} are not: leave it out")
    if source is not None:
        rows, facts, words = of_points(options, images, source)
    elif images.shape[1:] == SHAPES["stacked"]:
        rows, facts, words = of_stacked(options, images, device)
    else:
        rows, facts, words = of_digits(options, names, images, labels, device)
    if options.json:
        for name, figures in rows.items():
            print(json.dumps({"set": name, "of": str(options.what), "n": len(images), "seed": options.seed, **facts,
                              **{key: plain(value) for key, value in figures.items()}}))
        return
    for line in table(rows, facts.get("net")):
        print(line)
    print(f"\n{len(images):,} samples of {options.what} against {words}, seed {options.seed}")


def chosen(text):
    """The measures that are asked for."""
    if text is None:
        return NAMES[:-1]
    names = tuple(name.strip() for name in text.split(","))
    wrong = next((name for name in names if name not in NAMES), None)
    if wrong is not None:
        raise UserError(f"--metrics must be of {', '.join(NAMES)}, with commas between them, not {wrong!r}")
    return names


def check_pairs(out):
    """Complain before the work if there can be no such picture."""
    if out is not None:
        if out.suffix.lower() != ".png" or out.is_dir():
            raise UserError(f"--pairs must be a file NAME.png, not {str(out)!r}")
        check_target(out, ".png", "--pairs")


# -- what is measured ----------------------------------------------------------------------------------------------


def given(options, device):
    """(images in [0, 1], labels or None, None) of digits, or (points, None, their source) of a toy set."""
    from scratchgan import data, plots, training
    from scratchgan.training.evaluation import DIGITS
    if options.what.suffix.lower() in (".npy", ".npz") and not options.what.is_dir():
        if options.number:
            raise UserError("-n is for runs: of a file all images are measured; leave it out")
        return of_file(options.what), None, None
    if options.what.is_file():
        raise UserError(f"{options.what} is neither the folder of a run nor a .npy or .npz file of images")
    system = training.load(options.what, device)
    if not system.makes_samples:
        raise UserError(f"{options.what} is a run of a {type(system).__name__}, which makes no samples to measure: "
                        "give the run of a GAN")
    n, shape = options.number or USUAL, tuple(system.sample_shape)
    name = training.RunFolder.open(run_of(options.what), lock=False).config["data"]["name"]
    if shape == (2,):
        source = data.TOYS[name]() if name in data.TOYS else None
        if source is None or not source.modes:
            raise UserError(f"{options.what} makes points of {name}, which has no modes to count: look at them with "
                            "scratchgan sample")
        return system.sample(n, options.seed), None, source
    if shape == SHAPES["stacked"] and name == "stacked":
        n = options.number or STACKED
    elif shape != SHAPES["mnist"]:
        raise UserError(f"{options.what} makes samples of shape {shape} of {name}, and MNIST's are (1, 28, 28): give "
                        "the run of a recipe that makes such, trained on grey images, or of stacked")
    digits = name in (*DIGITS, "stacked")
    if not digits:
        tell(f"{options.what} has learned from {name}: its samples are measured as if they were MNIST's digits")
    labels = np.arange(n) % 10 if system.classes == 10 and digits else None  # as the classes take turns
    images = system.sample(n, options.seed)
    if not np.isfinite(images).all():
        raise UserError(f"{options.what} makes samples that are NaN or infinite: give an earlier checkpoint of the run")
    for start in range(0, n, PART):
        images[start:start + PART] = plots.unit(images[start:start + PART], system.value_range)
    return images, labels, None


def of_file(file):
    """The images of a file, float32 (N, 1 or 3, 28, 28) in [0, 1]; `UserError` for what is none."""
    from scratchgan.data.arrays import read_arrays
    images, _ = read_arrays(file)
    if images.ndim < 2 or images.shape[1:] not in (*SHAPES.values(), (28, 28), (28, 28, 1), (28, 28, 3), (784,)):
        raise UserError(f"{file} holds an array of shape {images.shape}: MNIST's images are (N, 1, 28, 28), those of "
                        "stacked digits (N, 3, 28, 28)")
    if not FEWEST <= len(images) <= MOST:
        best = STACKED if 3 in images.shape[1:] else USUAL
        raise UserError(f"{file} holds {len(images):,} images: give {FEWEST} to {MOST:,}, best {best:,}")
    if images.dtype.kind != "f" and images.dtype != np.uint8:
        raise UserError(f"{file} holds {images.dtype} images: convert them to uint8, or to floats in [0, 1]")
    images = images.transpose(0, 3, 1, 2) if images.shape[1:] == (28, 28, 3) else images.reshape(
        -1, images.size // len(images) // 784, 28, 28)
    if images.dtype == np.uint8:
        return images / np.float32(255)
    if not np.isfinite(images).all():
        raise UserError(f"{file} holds values that are NaN or infinite: remove the images that have them")
    low, high = float(images.min()), float(images.max())
    if low < -1 - SLACK or high > 1 + SLACK:
        raise UserError(f"{file} holds floats from {low:g} to {high:g}: scale them to [0, 1] or [-1, 1], or convert "
                        "them to uint8")
    images = images.astype(np.float32)
    return np.clip((images + 1) / 2 if low < -SLACK else images, 0, 1)


# -- figures -------------------------------------------------------------------------------------------------------


def of_digits(options, names, images, labels, device):
    """({set: its figures}, what all have in common, against what) of the samples and the yardsticks."""
    from scratchgan import data
    from scratchgan.metrics import feature_record, measures
    from scratchgan.metrics.inception import inception_facts
    announce = None if options.json else tell
    train, test = (data.load_mnist(split, options.data_dir, announce=announce) for split in ("train", "test"))
    reference = measures.seen("test images", test.images, device=device, training=train.images)
    validation, rows = measures.validation_images(train), {}

    def sets():
        yield measures.seen("samples", images, labels, device, train.images)
        yield from measures.yardsticks(train, len(images), options.seed, device)
    for it in sets():
        rows[it.name] = measures.measured(it, reference, validation, names, options.seed)
    if options.pairs:
        write_pairs(options.pairs, images, train.images)
        (tell if options.json else print)(f"wrote samples beside the training images nearest to them, the most alike "
                                          f"first, to {options.pairs}\n")
    facts = {"against": "mnist", "against_sha256": test.sha256, "net": feature_record()["sha256"]}
    return (rows, facts | (inception_facts() if "inception-frechet" in names else {}),
            f"the {len(test):,} test images of mnist")


def of_stacked(options, images, device):
    """The same of stacked MNIST: three random test images, noise and ten images again and again are the yardsticks."""
    from scratchgan import data
    from scratchgan.metrics import feature_record, stacked
    if options.metrics:
        raise UserError(f"--metrics is for images of one digit, and those of {options.what} are of three, whose modes, "
                        "KL and sure share are told: leave it out")
    test = data.load_mnist("test", options.data_dir, announce=None if options.json else tell)
    judged = {"samples": stacked.judged(images, device)}
    judged |= stacked.yardsticks(test, len(images), options.seed, device)
    rows = {name: stacked.of_stacked(p, options.seed) for name, p in judged.items()}
    return (rows, {"against": "stacked", "against_sha256": test.sha256, "net": feature_record()["sha256"]},
            "the 1,000 modes of stacked MNIST (perfect: three random test images as channels)")


def of_points(options, points, source):
    """The same of points in the plane: a perfect sampler and a smear are the yardsticks."""
    from scratchgan import random
    from scratchgan.metrics import modes
    if options.metrics:
        raise UserError(f"--metrics is for images, and {options.what} makes points, whose modes, high quality and KL "
                        "are told: leave it out")
    perfect = source.examples(len(points), options.seed)[0]
    low, high = perfect.min(axis=0), perfect.max(axis=0)
    smear = low + (high - low) * random.uniform(perfect.shape, options.seed, "metrics/smear")
    rows = {name: modes.of_modes(each, **source.modes) | modes.errors(each, **source.modes, seed=options.seed)
            for name, each in (("samples", points), ("perfect", perfect), ("smear", smear))}
    return rows, {"against": source.name}, f"the {len(source.modes['centres'])} modes of {source.name}"


def write_pairs(out, images, training):
    """Sample | nearest training image, of those with the smallest d1 / d2; each training image once."""
    from scratchgan import plots
    from scratchgan.metrics import neighbours
    ratios, nearest = neighbours(images, training)
    order = ratios.argsort(kind="stable")
    first = order[np.sort(np.unique(nearest[order], return_index=True)[1])][:PAIRS]
    pairs = np.concatenate([images[first], training[nearest[first]] / np.float32(255)], axis=3)
    plots.save_png(out, plots.image_grid(pairs, min(len(pairs), PAIRS_A_ROW), pad=4, value_range=(0, 1)))


def table(rows, net):
    """A line for each figure, with the net that it was measured with; below how many are taken for each digit."""
    figures = [name for name in FORMATS if any(name in row for row in rows.values())]
    cells = [["", *rows, *(["net (SHA-256)"] if net else [])]]
    for name in figures:
        last = [] if not net else [OF_OTHERS.get(name, net[:16])]
        cells.append([name, *(written(row, name) for row in rows.values()), *last])
    yield from columns(cells)
    counts = {name: row["counts"] for name, row in rows.items() if "counts" in row}
    if counts:
        yield ""
        yield from columns([["taken for", *map(str, range(10))],
                            *([name, *(f"{count:,}" for count in row)] for name, row in counts.items())])


def written(row, name):
    """"12.34 +- 0.05" """
    if name not in row:
        return "-"
    error = row.get(f"{name}_se")
    return f"{row[name]:{FORMATS[name]}}" + ("" if error is None or math.isnan(error)
                                             else f" +- {error:{FORMATS[name]}}")


def columns(cells):
    """Rows of text in columns, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for first, *others in cells:
        yield "  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:]))])
