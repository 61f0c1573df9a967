"""Options: their types, and a parser whose complaints are single sentences."""

import argparse
import os
import re
import sys
from contextlib import suppress

from scratchgan.errors import UserError
from scratchgan.files import expanded


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises `UserError` and takes no abbreviations, which would change their meaning later."""

    def __init__(self, **settings):
        super().__init__(allow_abbrev=False, formatter_class=Formatter, **settings)

    def error(self, message):
        message = re.sub(r"^argument (\S+): (?=must )", r"\1 ", message)
        raise UserError(f"{message.removeprefix('argument ')}; see {self.prog} --help")


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Examples as they are written, and a column of names that is wide enough for most options."""

    def __init__(self, prog):
        super().__init__(prog, max_help_position=27)
        self._action_max_length = 14  # at least; argparse counts the names of commands without their indent


class Version(argparse.Action):
    """--version. The package's metadata are looked up only when they are asked for."""

    def __init__(self, *names, **settings):
        super().__init__(*names, nargs=0, **settings)

    def __call__(self, parser, *_):
        import scratchgan
        print(f"scratchgan {scratchgan.__version__}")
        parser.exit()


def say(line):
    """Print a line. A terminal that was closed, or a reader that has gone, is no reason to end a training."""
    write(line, sys.stdout)


def tell(line):
    """Print a line to standard error, if there is one that can be written to."""
    write(line, sys.stderr)


def write(line, stream):
    if stream is None:
        return
    try:
        print(line, file=stream)
        flush(stream)
    except OSError:
        leave(stream)


def flush(stream):
    """Of a stream that can only be written to there is nothing to flush."""
    if hasattr(stream, "flush"):
        stream.flush()


def leave(stream):
    """What is written to this stream from now on, the last flush included, goes nowhere."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def whole(low, high=None):
    """The type of a whole number from `low` to `high`."""
    bounds = f"{low} or more" if high is None else f"from {low} to {high:,}"

    def parse(text):
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or number < low or (high is not None and number > high):
            raise argparse.ArgumentTypeError(f"must be a whole number, {bounds}, not {text!r}")
        return number
    return parse


def channels(text):
    """The type of a number of channels, 1 or 3."""
    if text not in ("1", "3"):
        raise argparse.ArgumentTypeError(f"must be 1 (grey) or 3 (colour), not {text!r}")
    return int(text)


def shape(text):
    """The type of a shape, "4,3"."""
    try:
        sizes = tuple(int(size) for size in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 0:
        raise argparse.ArgumentTypeError(f"must be sizes with commas between them, such as 4,3, not {text!r}")
    return sizes


def path(text):
    """The type of a path: not empty, ~ expanded."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"must be a path, not {text!r}")
    return expanded(text)


def add_device(parser, default="auto"):
    """--device; `default` is the words for the help where None, no choice, means something else than "auto"."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto" if default == "auto" else None,
                        help=f"where to compute; auto: cuda where there is a usable device (default: {default})")
