"""`Source`: what training takes its batches from. A data set, an endless sampler, or a pair of unpaired sets."""

import hashlib
import operator
from collections.abc import Mapping

from scratchgan import random
from scratchgan.data.batches import Batches, PairBatches
from scratchgan.errors import UserError


class Source:
    """Where examples come from. A subclass sets what is below and defines `take`.

    name           what the data are called: "mnist", "ring8", the name of a folder
    origin         one line: the path they were read from, whom to credit
    sha256         tells whether two sources are the same: of the content of a data set, of the description of a sampler
    sample_shape   of one example: (C, H, W) of an image, (2,) of a point
    size           how many examples there are; None: no end of them
    classes        how many classes the labels name; 0: there are no labels
    modes          {"centres": points, "sigma": of the Gaussian about each} of a mixture that knows them; else None

    Images are uint8, 0 to 255, and become floats in its own range where a system takes them in. Floats are taken
    as they are.
    """

    name: str
    origin: str
    sha256: str
    sample_shape: tuple
    size = None
    classes = 0
    modes = None

    def take(self, rows, seed=0):
        """(examples, labels or None) of these numbers: indices of a data set; of an endless source a `range`.

        The examples are a new array. What an endless source gives for a number is a function of it and the seed.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define take")

    def batches(self, batch_size, seed=0, flip=False, drop_last=False):
        """The `Batches` of a seed."""
        return Batches(self, batch_size, seed, flip, drop_last)

    def steps_per_epoch(self, batch_size, drop_last=False):
        """How many batches show every example once; None without an end."""
        if isinstance(batch_size, bool) or not hasattr(batch_size, "__index__") or batch_size < 1:
            raise UserError(f"batch_size must be a whole number, 1 or more, not {batch_size!r}")
        if self.size is None:
            return None
        if drop_last and self.size < batch_size:
            raise UserError(f"{self.name} has {self.size} examples, fewer than the batch size {batch_size}: choose a "
                            "smaller batch size, or keep the last, smaller batch")
        batch_size = operator.index(batch_size)  # NumPy's own unsigned numbers have no negative
        return self.size // batch_size if drop_last else -(-self.size // batch_size)

    def examples(self, n, seed=0):
        """(examples, labels or None): n drawn at random, always the same for a seed; all if there are fewer."""
        if self.size is None:
            return self.take(range(n), seed)
        return self.take(random.permutation(self.size, seed, "report/real")[:n], seed)

    def facts(self):
        """What a recipe may know of the data."""
        return Facts({"name": self.name, "shape": list(self.sample_shape), "classes": self.classes,
                      "size": self.size, "modes": self.modes})

    def record(self):
        """What config.json says of the data."""
        return {"name": self.name, "source": self.origin, "sha256": self.sha256, "size": self.size,
                "shape": list(self.sample_shape)}


class Facts(Mapping):
    """Names and values, all as JSON takes them. A function in a value's place is called when it is first read.

    name          what the data are called
    shape         of one example, a list
    classes       of the labels; 0 without
    size          of the data set; None without an end
    modes         `Source.modes`
    pixel_means   of a data set: the mean of each value, of images in [0, 1], as lists in that shape
    """

    def __init__(self, values):
        self._values = dict(values)

    def __getitem__(self, name):
        if callable(self._values[name]):
            self._values[name] = self._values[name]()
        return self._values[name]

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)


class Sampler(Source):
    """A source without end. A subclass sets `name`, `description` and `sample_shape`, and defines `draw`.

    description   one line with every number that makes the distribution: two samplers are the same if theirs are
    """

    description: str

    def draw(self, n, seed, first):
        """(examples, labels or None) with the numbers first to first + n - 1, each a function of seed and number."""
        raise NotImplementedError(f"{type(self).__name__} does not define draw")

    @property
    def origin(self):
        return self.description

    @property
    def sha256(self):
        return hashlib.sha256(self.description.encode()).hexdigest()

    def take(self, rows, seed=0):
        return self.draw(len(rows), seed, rows.start)


class Pair(Source):
    """Two sources whose examples do not belong together, for systems that learn to turn one kind into the other.

    A batch is a pair of arrays of equal length. Labels are left out.
    """

    def __init__(self, first, second):
        self.first, self.second = first, second
        self.name = f"{first.name}+{second.name}"
        self.origin = f"{first.origin}; {second.origin}"
        self.sha256 = hashlib.sha256(f"{first.sha256} {second.sha256}".encode()).hexdigest()
        self.sample_shape = (tuple(first.sample_shape), tuple(second.sample_shape))
        self.size = max((each.size for each in (first, second) if each.size is not None), default=None)

    def take(self, rows, seed=0):
        raise TypeError("the examples of a pair have no common numbers: take them from its first and its second")

    def batches(self, batch_size, seed=0, flip=False, drop_last=True):
        return PairBatches(self, batch_size, seed, flip)

    def steps_per_epoch(self, batch_size, drop_last=True):
        return PairBatches(self, batch_size).steps_per_epoch

    def examples(self, n, seed=0):
        return (self.first.examples(n, seed)[0], self.second.examples(n, seed)[0]), None
