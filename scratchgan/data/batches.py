"""Batches of a source, as a pure function of (seed, step)."""

import math
import operator

from scratchgan import random
from scratchgan.errors import UserError


class Batches:
    """The batches of a `Source` for one seed. `batch(step)` gives those of any step, in any order.

    Of a data set each epoch visits every example once, in an order of its own; the last batch of an epoch is smaller
    where the size does not divide, and is left out with `drop_last`. An endless source gives new examples for ever.
    With `flip` each image is mirrored left-right with probability 1/2. `stream` names the random numbers: two
    batches of one seed with different names have nothing in common.
    """

    def __init__(self, source, batch_size, seed=0, flip=False, drop_last=False, stream="data"):
        self.steps_per_epoch = source.steps_per_epoch(batch_size, drop_last)
        self.source, self.batch_size, self.seed = source, operator.index(batch_size), operator.index(seed)
        self.flip, self.drop_last, self.stream = flip, drop_last, stream
        if flip and len(source.sample_shape) != 3:
            raise UserError(f"{source.name}: only images can be mirrored, not examples of shape "
                            f"{tuple(source.sample_shape)}: leave flip out")
        self._epoch, self._order = None, None

    def size(self, step):
        """How many examples the batch of a step has."""
        return len(self.rows(step))

    def batch(self, step, rank=0, ranks=1, pack=1):
        """(examples (n, *sample_shape), labels (n,) or None) as the source holds them: images are uint8.

        With `ranks` processes that share each batch: the part of one of them, `share` of all. The parts of all
        ranks, one after the other, are the batch of a single rank, up to the last whole pack.
        """
        step = operator.index(step)
        rows = self.rows(step)
        part = share(len(rows), rank, ranks, pack)
        examples, labels = self.source.take(rows[part], self.seed)
        if self.flip:
            u = random.uniform((len(examples), 1), self.seed, f"{self.stream}/flip", step, part.start)
            mirrored = u[:, 0] < 0.5
            examples[mirrored] = examples[mirrored, ..., ::-1]
        return examples, labels

    def rows(self, step):
        """The numbers of the examples in the batch of a step."""
        if self.steps_per_epoch is None:
            return range(step * self.batch_size, (step + 1) * self.batch_size)
        epoch, index = divmod(step, self.steps_per_epoch)
        return self.order(epoch)[index * self.batch_size:(index + 1) * self.batch_size]

    def order(self, epoch):
        """The numbers of all examples of a data set, in the order of an epoch."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = random.permutation(self.source.size, self.seed, f"{self.stream}/order", epoch)
        return self._order

    def alike(self, step):
        """How many steps, from this one on and within its epoch, have batches of one size; infinity without epochs."""
        if self.steps_per_epoch is None:
            return math.inf
        left = self.steps_per_epoch - step % self.steps_per_epoch
        smaller_last = self.steps_per_epoch * self.batch_size > self.source.size
        return left - 1 if smaller_last and left > 1 else left


class PairBatches:
    """Batches of a `Pair`; `batch(step)` gives ((a, b), None).

    Both are of equal size at every step, so the last smaller batch of an epoch is always left out. An epoch is the
    longer one's; the shorter one begins again.
    """

    def __init__(self, pair, batch_size, seed=0, flip=False):
        self.both = [Batches(pair.first, batch_size, seed, flip, True),
                     Batches(pair.second, batch_size, seed, flip, True, "data/second")]
        self.source, self.batch_size, self.seed = pair, self.both[0].batch_size, self.both[0].seed
        self.flip, self.drop_last = flip, True
        lengths = [each.steps_per_epoch for each in self.both if each.steps_per_epoch is not None]
        self.steps_per_epoch = max(lengths, default=None)

    def size(self, step):
        return self.batch_size

    def batch(self, step, rank=0, ranks=1, pack=1):
        return tuple(each.batch(step, rank, ranks, pack)[0] for each in self.both), None


def share(n, rank, ranks, pack=1):
    """The slice of n examples that belongs to a rank: as many packs as the others', one more or less.

    Of several ranks none has what is left over of a last pack.
    """
    n, rank, ranks = map(operator.index, (n, rank, ranks))
    if not 0 <= rank < ranks:
        raise ValueError(f"rank must be from 0 to {ranks - 1}, not {rank}")
    if ranks == 1:
        return slice(0, n)
    return slice(n // pack * rank // ranks * pack, n // pack * (rank + 1) // ranks * pack)
