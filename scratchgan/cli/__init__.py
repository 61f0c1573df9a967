"""The command `scratchgan`: what a person types. Each module has a group of commands, `main` the way out of them.

Status 0: done. 1: the work itself failed (numbers that are not finite, a wrong gradient). 2: a mistake that the user
can put right, told in one sentence. 128 and the signal's number: interrupted, 130 for Ctrl-C.
"""

import signal
import sys
from contextlib import suppress

from scratchgan import ranks
from scratchgan.cli import describing, evaluating, exporting, inspecting, profiling, sampling, training
from scratchgan.cli.options import Parser, Version, flush, leave, tell
from scratchgan.errors import UserError

CLOSED_PIPE = 141  # 128 + SIGPIPE, which Windows has not
DESCRIPTION = "Generative adversarial networks from scratch, on NumPy and CuPy."
EXAMPLES = """\
examples:
  scratchgan train                      train the fully connected GAN on MNIST, write to runs/mlp
  scratchgan train --data photos/       ... on a folder of images
  scratchgan train --resume runs/mlp    go on after Ctrl-C
  scratchgan sample runs/mlp            new samples in runs/mlp/sample.png
"""


def parser():
    """The parser of all commands; each sets `run`, the function that does it."""
    parser = Parser(prog="scratchgan", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("--version", action=Version, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", parser_class=Parser,
                                     required=False)
    for group in (training, sampling, evaluating, exporting, inspecting, describing, profiling):
        group.add(commands)
    return parser


def main(arguments=None):
    """Do what the arguments (default: those of the process) say; returns the exit status."""
    with suppress(AttributeError, OSError, ValueError):  # another stream in its place, or None, or a closed one
        sys.stdout.reconfigure(errors="backslashreplace")  # no path is worth a failure because of its letters
    try:
        status = dispatch(arguments)
        flush(sys.stdout)  # here, so that a closed pipe is noticed inside the try
        return status
    except UserError as error:
        return fail(error)
    except BrokenPipeError:  # `scratchgan ... | head`: nobody reads on, so nothing is said
        leave(sys.stdout)
        return CLOSED_PIPE
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        return fail(f"{where}{error.strerror or error}")
    except MemoryError as error:
        return fail(f"there is not enough memory ({str(error) or 'it is full'}): ask for less at once")
    except KeyboardInterrupt as error:  # a run that was stopped brings the line that resumes it
        tell_once(f"\nscratchgan: {str(error) or 'interrupted'}")
        return 128 + getattr(error, "signal", signal.SIGINT)


def dispatch(arguments):
    top = parser()
    try:
        options, unknown = top.parse_known_args(arguments)
    except SystemExit as over:  # --help and --version are done
        return over.code or 0
    if unknown:
        from scratchgan.recipes import names
        about = [options.command] + [name for name in [getattr(options, "recipe", None)] if name in names()]
        raise UserError(f"unrecognized arguments: {' '.join(unknown)}; see "
                        f"{' '.join(['scratchgan', *filter(None, about), '--help'])}")
    if not hasattr(options, "run"):
        top.print_help()
        return 0
    return options.run(options) or 0


def fail(error, status=2):
    """Tell an error in one line; returns the status."""
    tell_once(f"scratchgan: error: {' '.join(str(error).split())}")
    return status


def tell_once(line):
    """Of several processes that mpiexec has started the first one tells what has ended all."""
    if ranks.launched()[0] == 0:
        tell(line)
