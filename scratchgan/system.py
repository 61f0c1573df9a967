"""`System`: what can be trained, saved, resumed, sampled and drawn."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from scratchgan import backend
from scratchgan.errors import UserError


class Metrics(Mapping):
    """Numbers of one step, read-only. A value is computed (and waited for) when it is first read."""

    def __init__(self, values=(), **more):
        self._values = {**dict(values), **more}

    def __getitem__(self, name):
        if callable(self._values[name]):
            self._values[name] = float(self._values[name]())
        return self._values[name]

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)

    def __repr__(self):
        return f"Metrics({', '.join(f'{name}={self[name]:.4g}' for name in self)})"


def scaled(batch, value_range=(-1, 1)):
    """A batch as floats in the range of a system: uint8, 0 to 255, mapped onto it, floats as they are."""
    if batch.dtype.kind == "f" or value_range is None:
        return batch
    low, high = value_range
    x = backend.array_module(batch).multiply(batch, np.float32((high - low) / 255), dtype=np.float32)
    x += np.float32(low)
    return x


class System:
    """A game, an autoencoder, a classifier: whatever improves with one batch after another.

    Training, checkpoints, pictures and the command line ask a system for what is below, and for nothing else. A
    subclass sets `networks`, `optimizers` and `sample_shape`, and defines `step`; `sample`, if it makes samples.

    networks       name -> network; a checkpoint holds one file for each, under its name
    optimizers     name -> `Optimizer`; names without a dot
    steps          how many steps were done
    seed           of all that the system draws while it trains
    record         {"name", "seed", "settings", "facts"} of the recipe that built it, so that `load` can build it again;
                   None for a system of one's own
    sample_shape   shape of one sample, and of one example of a batch: (C, H, W) of an image, (2,) of a point
    value_range    (low, high) of the values of a batch and of a sample; None where there is no range
    sampler, latent   the network that makes samples, and the noise that it makes them of; None where there is none
    panels         title of a chart -> names of the metrics that share it; what the curves of a run show
    """

    networks = optimizers = None
    steps = seed = 0
    record = sampler = latent = None
    sample_shape = ()
    value_range = (-1, 1)
    panels = MappingProxyType({})

    def step(self, batch, labels=None):
        """One training step on a batch (N, *sample_shape); returns `Metrics`, which may omit names at some steps."""
        raise NotImplementedError(f"{type(self).__name__} does not define step")

    def sample(self, n, seed=0, labels=None):
        """n samples (n, *sample_shape), float32, in the value range, on the host. Leaves the system as it is."""
        raise UserError(f"{type(self).__name__} makes no samples.")

    def picture(self, run):
        """What a run shows of the system from time to time: see `scratchgan.plots`. None: nothing."""
        return None

    def warnings(self, row):
        """Sentences that a person should hear, given a row of metrics: D has won, samples have collapsed."""
        return []

    def reduce(self, vector):
        """The mean of a gradient vector over all ranks that train together; here there is one."""
        return vector

    def state_dict(self):
        """What is neither in the networks nor in the optimizers, as JSON takes it."""
        return {"steps": self.steps, "seed": self.seed}

    def load_state_dict(self, state):
        """Take up such a state."""
        self.steps, self.seed = int(state["steps"]), int(state["seed"])
