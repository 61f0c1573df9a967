"""Training: runs, what they log and save, and how they survive.

    run = training.start("mlp", data, out="runs/first")     a new run of a recipe
    run = training.resume("runs/first", loader)             after Ctrl-C, a crash or a power cut: the same bits
    game = training.load("runs/first")                      what came out
    history = training.fit(game, data, steps=1000)          a system of one's own
"""

from scratchgan.system import System
from scratchgan.training.callbacks import Callback
from scratchgan.training.config import steps_per_epoch
from scratchgan.training.evaluation import Evaluation
from scratchgan.training.fit import epoch_length, fit, load, resume, start
from scratchgan.training.folder import RunFolder
from scratchgan.training.reopening import panels_of
from scratchgan.training.run import Run
from scratchgan.training.stopping import Diverged, Stopped
from scratchgan.training.watch import Watch

__all__ = ["Callback", "Diverged", "Evaluation", "Run", "RunFolder", "Stopped", "System", "Watch", "epoch_length",
           "fit", "load", "panels_of", "resume", "start", "steps_per_epoch"]
