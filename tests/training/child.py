"""A training in a process of its own, to be killed: child.py OUT STEPS RESUME KILL_AT PAUSE.

KILL_AT = n > 0: the process kills itself at its n-th call of os.fsync, os.rename or os.replace, which lie in the
midst of writing a checkpoint or config.json. Prints "step N" after each step, then waits for PAUSE milliseconds.
"""

import os
import signal
import sys
import time

import tiny_recipe

from scratchgan import training


class Tell(training.Callback):
    def __init__(self, pause):
        self.pause = pause

    def on_step(self, run):
        print("step", run.step, flush=True)
        time.sleep(self.pause)


def kill_at(moment):
    calls = [0]

    def counting(original):
        def counted(*arguments, **options):
            calls[0] += 1
            if calls[0] == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)
        return counted

    for name in ("fsync", "rename", "replace"):
        setattr(os, name, counting(getattr(os, name)))


if __name__ == "__main__":
    out, steps, resume, moment, pause = sys.argv[1], *map(int, sys.argv[2:])
    tiny_recipe.register()
    if moment:
        kill_at(moment)
    data = tiny_recipe.dataset()
    if resume:
        training.resume(out, lambda config: data, callbacks=[Tell(pause / 1000)])
    else:
        training.start("tiny", data, out, device="cpu", steps=steps, log_every=7, checkpoint_every=8,
                       callbacks=[Tell(pause / 1000)])
