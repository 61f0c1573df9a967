"""`System`: what can be trained, saved, resumed, sampled and drawn."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from scratchgan import backend, ranks
from scratchgan.errors import UserError

GRID_SIDE, POINTS = 5, 1000  # samples in a picture: rows and columns of images, or points
MARGIN = 0.25  # of a picture of points about the data, as a share of their width


def mean(x):
    return x.mean()


class Metric:
    """A number of a step, function(mean, *arrays), computed when it is asked for: `mean` makes a number of an array.

    That of a step on a device is computed on the host. Steps that are recorded compute theirs together: the function
    then gets arrays with one axis more in front, and a `mean` over all others. It depends on nothing else that changes
    from step to step.
    """

    def __init__(self, function, *arrays):
        self.function, self.arrays = function, arrays

    def __call__(self):
        return self.function(mean, *(backend.to_host(each) if backend.is_array(each) else each for each in self.arrays))


class Metrics(Mapping):
    """Numbers of one step, read-only: floats, 0-d arrays, or functions that give these, such as a `Metric`. A value is
    computed (and waited for) when it is first read."""

    def __init__(self, values=(), **more):
        self._values = {**dict(values), **more}

    def __getitem__(self, name):
        value = self._values[name]
        if not isinstance(value, float):
            value = self._values[name] = float(value() if callable(value) else value)
        return value

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)

    def unread(self):
        """The numbers, arrays and functions themselves: nothing is computed."""
        return dict(self._values)

    def __reduce__(self):
        return Metrics, (dict(self),)  # the numbers: they can be pickled, what computes them cannot

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


def unit(images, value_range=(-1, 1)):
    """From a value range to [0, 1]; what lies outside is clipped. Bytes are from 0 to 255."""
    low, high = (0, 255) if images.dtype == np.uint8 else value_range
    return (np.clip(images, low, high) - low) / (high - low)


@dataclass(frozen=True)
class Panel:
    """A chart: its title, what its legend calls each metric, and its scale: "linear", "log", "share" (from 0 to 1) or
    "probability" (the same, with a line at 1/2).
    """

    title: str
    metrics: Mapping
    scale: str = "linear"


@dataclass(frozen=True)
class Grid:
    """A picture: images (N, C, H, W) in rows of `columns`."""

    images: np.ndarray = field(repr=False)
    columns: int = GRID_SIDE


@dataclass(frozen=True)
class Points:
    """A picture: points (N, 2) of the data, those that were made (N, 2), and where it is known what moves them.

    scores        (M, M) what D says of the points `mesh(M)`: its level sets
    scores_range  (low, high) that they lie in; None: whatever there is
    at, arrows    (K, 2) some samples, and the directions that they are moved in; long arrows for large gradients
    """

    data: np.ndarray = field(repr=False)
    samples: np.ndarray = field(repr=False)
    scores: np.ndarray | None = field(default=None, repr=False)
    scores_range: tuple | None = None
    at: np.ndarray | None = field(default=None, repr=False)
    arrows: np.ndarray | None = field(default=None, repr=False)

    @property
    def window(self):
        """(middle (2,), half the width) of the square that is shown: about the data, or else about the samples."""
        points = next((each for each in (self.data, self.samples[np.isfinite(self.samples).all(axis=1)]) if len(each)),
                      np.zeros((1, 2)))
        low, high = points.min(axis=0), points.max(axis=0)
        return (low + high) / 2, float(max((high - low).max() / 2, 1e-9)) * (1 + 2 * MARGIN)

    def mesh(self, side):
        """Points (side * side, 2) over the window, in rows from the top, each from the left."""
        middle, half = self.window
        steps = ((np.arange(side) + 0.5) / side * 2 - 1) * half
        x, y = np.meshgrid(middle[0] + steps, middle[1] - steps)
        return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def is_image(shape):
    """Whether (C, H, W) is the shape of a grey or colour image."""
    return len(shape) == 3 and shape[0] in (1, 3)


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
    sample_shape   shape of one sample, and of one example of a batch: (C, H, W) of an image, (2,) of a point; None
                   where any will do
    classes        how many classes the labels of its examples name; 0: it takes none
    value_range    (low, high) of the values of a batch and of a sample; None where there is no range
    sampler, latent   the network that makes samples, and the noise that it makes them of; None where there is none
    sampler_name   what people call that network: "generator", "decoder"
    scale          samples are what that network gives, times this
    cycle          after how many steps they are the same operations again, on other numbers, so that a CUDA graph can
                   repeat them: all that depends on the step is drawn by `random` or comes from `recording.values`.
                   None: steps are made one by one
    pack           how many samples belong together: ranks share a batch by so many
    phases         steps at which it works in ways of their own, such as the stages of one that grows: each is checked
    panels         the charts of a run, a tuple of `Panel`; metrics that are in none share one with their namesakes,
                   such as loss_a and loss_b
    """

    networks = optimizers = None
    steps = seed = classes = 0
    record = sampler = latent = sampler_name = None
    sample_shape = cycle = None
    value_range = (-1, 1)
    scale, pack = 1.0, 1
    panels = ()
    phases = (0,)

    def __repr__(self):
        networks = "".join(f"\n  {name}: {network!r}" for name, network in (self.networks or {}).items())
        return f"{type(self).__name__} at step {self.steps:,}{networks}"

    @property
    def device(self):
        """"cpu" or "cuda": where its networks are."""
        return next(iter(self.networks.values())).device

    @property
    def smallest_batch(self):
        """A batch of fewer examples may be too small: a run tries one before it begins."""
        return 2 if any(layer.couples_samples for network in self.networks.values()
                        for _, layer in network.named_layers()) else 1

    def couplings(self):
        """Names of what couples the samples of a batch in training, so that it does not go by shares of one."""
        return sorted({type(layer).__name__ for network in self.networks.values()
                       for _, layer in network.named_layers() if layer.couples_samples})

    def initialize(self, seed, device="cpu"):
        """Draw the weights of all networks from a seed and move them to a device: what a recipe does with a system that
        it has made. A subclass with arrays beside the networks sets and moves these, too.
        """
        self.seed = seed
        for name, network in self.networks.items():
            network.initialize(seed, name).to(device)
        return self

    def draw_from(self, step):
        """Have all that is random in a step, such as dropout, drawn as a function of (seed, step). Training calls it
        before each step, so that a run that is resumed goes on with the same bits.
        """
        for name, network in self.networks.items():
            network.set_step(self.seed, step, name)

    def step(self, batch, labels=None):
        """One training step on a batch (N, *sample_shape), which training gives as floats in the value range on the
        device of the networks; returns `Metrics`, which may omit names at some steps."""
        raise NotImplementedError(f"{type(self).__name__} does not define step")

    def gradient(self, batch, labels=None):
        """Of a system with one loss: sets every network's grad to d loss / d theta for a batch as `step` takes it, and
        returns a dict of metrics, "loss" among them. `gradcheck.check_system` compares the two."""
        raise NotImplementedError(f"{type(self).__name__} does not define gradient")

    def update(self, name):
        """One step of the optimizer of this name along its network's gradient, that of all ranks."""
        optimizer = self.optimizers[name]
        own = optimizer.network.grad
        gradient = self.reduce(own)
        if gradient is not own:
            own[...] = gradient
        optimizer.step()

    def sample(self, n, seed=0, labels=None):
        """n samples (n, *sample_shape), float32, in the value range, on the host. Leaves the system as it is."""
        raise UserError(f"{type(self).__name__} makes no samples.")

    @property
    def makes_samples(self):
        return type(self).sample is not System.sample

    def interpolate(self, first, last, rows, columns):
        """rows x columns samples, flat: each row goes from a sample of seed `first` to one of seed `last`."""
        raise UserError(f"{type(self).__name__} has no noise to interpolate.")

    def picture(self, run):
        """What a run shows of the system from time to time: a `Grid`, `Points`, or None.

        Here samples, always from the same noise: images, or points in the plane over those of the data.
        """
        shape = tuple(self.sample_shape or ())
        if not self.makes_samples or not (is_image(shape) or shape == (2,)):
            return None
        if is_image(shape):
            return Grid(self.sample(GRID_SIDE**2, seed=run.config["seed"]))
        return Points(run.examples(POINTS), self.sample(POINTS, seed=run.config["seed"]))

    def measure(self):
        """{name: number} of how good the system is by now, for each row of metrics.csv, progress lines and charts.
        Leaves the system as it is."""
        return {}

    def warnings(self, row):
        """Sentences that a person should hear, given a row of metrics: D has won, samples have collapsed.

        Called with each row in turn; after a resume first with the rows of before. Besides what metrics.csv has,
        a row of now has "sample_std", if the system makes samples: see `training.Watch`.
        """
        return []

    def unused(self, name):
        """Keys of the parameters of a network that a step leaves alone, as those of a stage yet to come."""
        return ()

    def about(self):
        """{what: in words} of the parts of the system, such as its objective: for `scratchgan recipes NAME`."""
        return {}

    def notes(self):
        """Lines that a run of the system should begin with."""
        return []

    def reduce(self, vector):
        """Makes the gradient vector of a rank's share of a batch that of the whole batch, and returns it."""
        ranks.share().make_mean(vector)
        return vector

    def state_dict(self):
        """What is neither in the networks nor in the optimizers, as JSON takes it."""
        return {"steps": self.steps, "seed": self.seed}

    def load_state_dict(self, state):
        """Take up such a state."""
        self.steps, self.seed = int(state["steps"]), int(state["seed"])
