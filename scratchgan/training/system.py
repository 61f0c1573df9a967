"""What training knows of the thing it trains."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class System(Protocol):
    """A game, an autoencoder, a classifier: whatever improves with one batch after another.

    `Game` is one. Runs, checkpoints and warnings use nothing beyond this, except that they ask for

    record       {"name", "seed", "settings"} of the recipe that built the system, so that it can be built again
    sample_shape shape of one image, to refuse data that does not fit before anything is written
    objective    whose `score` tells whether d_real and d_fake are probabilities

    where the system has them.
    """

    @property
    def networks(self):
        """{name: network}, each a `Layer`; a checkpoint holds one file per network under its name."""

    @property
    def optimizers(self):
        """{name: `Optimizer`}; names without a dot."""

    def step(self, batch, labels=None):
        """One training step on images (n, ...) in [-1, 1]. Returns a mapping from names to numbers, the same
        names at every step, which may be computed only when they are read."""

    def sample(self, n, seed=0, labels=None):
        """n images (n, C, H, W) in [-1, 1], float32, on the host. Leaves the system as it is."""

    def state_dict(self):
        """What is neither in the networks nor in the optimizers, as JSON takes it."""

    def load_state_dict(self, state):
        """Take up such a state."""
