"""Mean and variance of each channel, and running averages of them."""

import math

import numpy as np

from scratchgan import kernels, ranks
from scratchgan.backend import array_module
from scratchgan.layers.base import Layer


@kernels.formula
def running_averages(running_mean, running_var, count, means, variances, M, momentum):
    """running += share (value - running) for each batch in turn, where the values (B, C) are of M numbers a channel.

    share = momentum, or 1 / count if that is None; the variance's value is M / (M - 1) times what is given.
    """
    for mean, var in zip(means, variances):
        count += 1
        share = 1 / count if momentum is None else momentum
        for running, value in ((running_mean, mean), (running_var, var * (M / (M - 1)))) if M else ():
            running += share * ((value.real if running.dtype.kind == "f" else value) - running)


class RunningStatistics(Layer):
    """What normalisation by channels knows of its input: the statistics of a batch, or running ones.

    In training running_mean and running_var move towards the mean and the variance of each batch, by the share
    `momentum`, or with momentum=None by 1 / num_batches_tracked, which makes them averages over all batches so far.
    running_var takes the unbiased variance, times M / (M - 1) for M values a channel. An empty batch counts but moves
    nothing. In eval mode they stand for the batch's, unless track_running_stats=False, without which there are none.
    """

    def __init__(self, num_features, momentum, track_running_stats):
        super().__init__()
        self.num_features, self.momentum, self.track_running_stats = num_features, momentum, track_running_stats
        if track_running_stats:
            self.buffers = {"running_mean": np.zeros(num_features, np.float32),
                            "running_var": np.ones(num_features, np.float32),
                            "num_batches_tracked": np.array(0, np.int64)}

    def moments(self, z):
        """(mean, r, whether they are the batch's) for z (B, n, C, ...): (B, C), or (1, C) of running ones."""
        if self.track_running_stats and not self.training:
            mean, var = (self.buffers[name][None].astype(wide(z)) for name in ("running_mean", "running_var"))
            return mean, 1 / (var + self.eps) ** 0.5, False
        share = self.shared()
        M = values_a_channel(z) * share.total // share.count
        if M == 1:
            raise ValueError(f"{type(self).__name__}: expected more than 1 value a channel in training, got input of "
                             f"shape {tuple(z.shape[1:])}")
        mean = var = r = array_module(z).zeros((len(z), self.num_features), wide(z))
        if z.size:
            mean, var, r = self.ops().batch_statistics(z, self.eps)
            if not share.is_all:
                own, mean = mean, share.mean(mean)
                var = share.mean(var + (own - mean) ** 2)
                r = 1 / (var + self.eps) ** 0.5
        if self.training and self.track_running_stats and not self.is_twin:
            self.follow(mean, var, M)
        return mean, r, True

    def shared(self):
        """The share of a batch that z is, where statistics are those of the whole batch (`sync_bn`); else it is all."""
        share = ranks.share()
        return share if share.sync_bn and self.couples_samples else ranks.ALL

    def follow(self, means, variances, M):
        """The running statistics follow those of the batches."""
        self.ops().running_averages(*self.buffers.values(), means, variances, M, self.momentum)

    def reset_buffers(self, seed, prefix):
        for name, value in zip(self.buffers, (0, 1, 0)):
            self.buffers[name][...] = value


def values_a_channel(x):
    """M, for x (B, n, C, ...)."""
    return x.shape[1] * math.prod(x.shape[3:])


def wide(x):
    """The dtype of sums over x: float64 or complex128."""
    return np.result_type(x.dtype, np.float64)
