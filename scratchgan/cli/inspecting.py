"""`scratchgan data`, `info` and `gradcheck`: what there is, and whether it is right."""

import os
import platform
from contextlib import nullcontext

from scratchgan.cli.options import path, shape
from scratchgan.errors import UserError

PACKAGES = ("scratchgan", "numpy", "matplotlib", "pillow", "safetensors", "threadpoolctl", "tqdm")
CUPY = ("cupy-cuda13x", "cupy-cuda12x", "cupy")  # names under which CuPy is installed

GRADCHECK_EXAMPLES = """\
examples:
  scratchgan gradcheck                                       all layers, losses and systems
  scratchgan gradcheck Linear BCELoss                        these
  scratchgan gradcheck penalties                             second-order gradients, by every route
  scratchgan gradcheck mylayers:MyLayer --input-shape 4,3    a layer of one's own, in mylayers.py
  scratchgan gradcheck nets:Net --no-batch-of-one            a network that normalises over the batch
  scratchgan gradcheck --plain                               the formulas beside the derivations
"""


def add(commands):
    parser = commands.add_parser("data", help="list or download data sets: scratchgan data list",
                                 description="List the data sets, or download one.")
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    action = actions.add_parser("fetch", help="download a data set: scratchgan data fetch mnist",
                                description="Download a data set and verify it. What is there is kept.",
                                epilog="example:\n  scratchgan data fetch mnist --data-dir ~/data")
    action.set_defaults(run=fetch)
    action.add_argument("name", metavar="NAME", help="mnist")
    add_data_dir(action, "where it is downloaded to")
    action = actions.add_parser("list", help="what is on this machine: scratchgan data list",
                                description="List the named data sets and where they are.",
                                epilog="example:\n  scratchgan data list")
    action.set_defaults(run=listing)
    add_data_dir(action, "where MNIST is looked for first")

    parser = commands.add_parser("info", help="versions, threads, devices, data: scratchgan info",
                                 description="Show what results and speed depend on here.",
                                 epilog="example:\n  scratchgan info")
    parser.set_defaults(run=info)
    add_data_dir(parser, "where MNIST is looked for first")

    parser = commands.add_parser("gradcheck", help="check gradients: scratchgan gradcheck Linear",
                                 description="Check hand-written gradients against derivatives by complex step and by "
                                             "central differences.", epilog=GRADCHECK_EXAMPLES)
    parser.set_defaults(run=gradcheck)
    parser.add_argument("names", metavar="NAME", nargs="*",
                        help="what to check, MODULE:NAME for one's own (default: all)")
    parser.add_argument("--input-shape", type=shape, metavar="SIZES",
                        help="of the input of MODULE:NAME, batch first, such as 4,3 (default: its own, where it says)")
    parser.add_argument("--zero", metavar="TENSOR", action="append", default=[],
                        help="a tensor of MODULE:NAME, such as 0.bias, whose gradient is zero by nature; may be given "
                             "several times")
    parser.add_argument("--no-batch-of-one", action="store_true",
                        help="MODULE:NAME takes no batch of 1, as where it normalises over the batch")
    parser.add_argument("--plain", action="store_true",
                        help="compute with the formulas beside the derivations instead of the fast kernels")


def add_data_dir(parser, what):
    parser.add_argument("--data-dir", type=path, metavar="FOLDER",
                        help=f"{what} (default: $SCRATCHGAN_DATA, then the user's cache)")


# -- data ----------------------------------------------------------------------------------------------------------


def fetch(options):
    from scratchgan import data
    if options.name != "mnist":
        raise UserError(f"there is no data set {options.name!r} to download: mnist is the one")
    print(f"MNIST is in {data.fetch(options.data_dir, announce=print)}")


def listing(options):
    from scratchgan import data
    for name, where in data.find(options.data_dir):
        print(f"{name:8} {where or 'not on this machine: scratchgan data fetch mnist'}")


# -- info ----------------------------------------------------------------------------------------------------------


def info(options):
    rows = [("python", f"{platform.python_version()}, {platform.platform()}"),
            *((name, version_of(name) or "not installed") for name in PACKAGES),
            ("cupy", next((f"{version_of(name)} ({name})" for name in CUPY if version_of(name)), "not installed")),
            *linear_algebra(), *devices(), *found_data(options.data_dir)]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{width}}  {value}")


def version_of(package):
    """Its version without importing it; None if it is not installed."""
    from importlib import metadata
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def linear_algebra():
    from scratchgan.training import environment
    threads = environment.threads_now()
    yield "BLAS", f"{environment.blas_name()}, {'an unknown number of' if threads is None else threads} threads"


def devices():
    from scratchgan import backend, report
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "cpu", f"{platform.machine()}, {cores} cores"
    problem = backend.cuda_problem()
    if problem:
        yield "cuda", problem
        return
    runtime = backend.module_of("cuda").cuda.runtime
    for index in range(runtime.getDeviceCount()):
        memory = runtime.getDeviceProperties(index)["totalGlobalMem"] / 2**30
        yield f"cuda {index}", f"{report.device_name(index)}, {memory:.0f} GiB"


def found_data(data_dir):
    from scratchgan import data
    for name, where in data.find(data_dir):
        yield f"data {name}", where or "not on this machine"


# -- gradcheck -----------------------------------------------------------------------------------------------------


def gradcheck(options):
    from scratchgan import kernels
    from scratchgan.gradcheck import run, table
    of_targets = {"zero": tuple(options.zero)} if options.zero else {}
    of_targets |= {"batch_of_one": False} if options.no_batch_of_one else {}
    with kernels.plain() if options.plain else nullcontext():
        reports = run(options.names, options.input_shape, **of_targets)
    print(table(reports))
    return 0 if all(report.ok for report in reports) else 1
