"""A process that outlives a run of several ranks, to say how to go on where one of them was killed: mpiexec then kills
all others at once. Run as a script; it reads "done" where the run has ended in a way of its own.
"""

import os
import re
import shlex
import subprocess
import sys
from contextlib import contextmanager


@contextmanager
def watched_over(path, size):
    """Inside, a witness watches over this process, which trains with size - 1 others in the folder of a run."""
    witness = subprocess.Popen([sys.executable, "-I", __file__, path, str(size)], stdin=subprocess.PIPE,
                               start_new_session=True)
    try:
        yield
    finally:
        witness.communicate(b"done")


def how_to_continue(path, size):
    """In words, from the newest checkpoint on."""
    try:
        steps = [int(name[5:]) for name in os.listdir(os.path.join(path, "checkpoints"))
                 if re.fullmatch(r"step-\d{8,}", name)]
    except OSError:
        steps = []
    if not steps:
        return f"there is no checkpoint in {path} yet: start again"
    return (f"continue from step {max(steps)} with: mpiexec -n {size} scratchgan train --resume "
            f"{shlex.quote(path)}")


if __name__ == "__main__":
    if sys.stdin.buffer.read() != b"done":
        sys.stderr.write(f"\nscratchgan: error: a process of the run has died; {how_to_continue(*sys.argv[1:3])}\n")
