"""Ranks as threads of one process, which meet where processes would."""

import threading

import numpy as np

from scratchgan import ranks
from scratchgan.backend import to_host


class Threads(ranks.Ranks):
    """One of several; `together` holds what they share."""

    def __init__(self, rank, size, together):
        self.rank, self.size, self.together_ = rank, size, together

    def sum(self, array):
        return sum(self.exchange(array)[1:], start=self.exchanged[0])

    def exchange(self, value):
        """What each rank gives, in their order."""
        slots, barrier = self.together_
        slots[self.rank] = value.copy()
        barrier.wait(30)
        self.exchanged = list(slots)
        barrier.wait(30)
        return self.exchanged


def in_ranks(size, work):
    """[work(one of the `Threads`), ...] by as many of them at once."""
    together, results, errors = ([None] * size, threading.Barrier(size)), [None] * size, []

    def run(rank):
        try:
            results[rank] = work(Threads(rank, size, together))
        except BaseException as error:
            errors.append(error)
            together[1].abort()
    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise next((error for error in errors if not isinstance(error, threading.BrokenBarrierError)), errors[0])
    return results


def apart(a, b):
    """The largest distance of two systems' buffers, as a share of the largest value of each, and of their weights, as
    one of the network's: a bias whose gradient is zero by nature moves by rounding alone."""
    worst = 0.0
    for name, network in a.networks.items():
        mine, its = network.state_dict(), b.networks[name].state_dict()
        for key in mine:
            scale = to_host(network.theta) if key in dict(network.named_parameters()) else mine[key]
            worst = max(worst, np.abs(mine[key] - its[key]).max(initial=0) / max(1e-3, np.abs(scale).max(initial=0)))
    return float(worst)
