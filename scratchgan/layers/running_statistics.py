"""Mean and variance of each channel, and running averages of them."""

import math

import numpy as np

from scratchgan import ranks
from scratchgan.backend import array_module
from scratchgan.layers.base import Layer


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
        """(mean, var, whether they are the batch's) for z (B, n, C, ...): (B, C), or (1, C) of running ones."""
        if self.track_running_stats and not self.training:
            return *(self.buffers[name][None].astype(wide(z)) for name in ("running_mean", "running_var")), False
        share = self.shared()
        M = values_a_channel(z) * share.total // share.count
        if M == 1:
            raise ValueError(f"{type(self).__name__}: expected more than 1 value a channel in training, got input of "
                             f"shape {tuple(z.shape[1:])}")
        mean = var = array_module(z).zeros((len(z), self.num_features), wide(z))
        if z.size:
            own, var = self.ops().batch_moments(z)
            mean = share.mean(own)
            var = var if share.is_all else share.mean(var + (own - mean) ** 2)
        if self.training and self.track_running_stats and not self.is_twin:
            self.follow(mean, var * (M / (M - 1)), moves=z.size > 0)
        return mean, var, True

    def shared(self):
        """The share of a batch that z is, where statistics are those of the whole batch (`sync_bn`); else it is all."""
        share = ranks.share()
        return share if share.sync_bn and self.couples_samples else ranks.ALL

    def follow(self, means, unbiased_vars, moves):
        """The running statistics follow those of the batches, one after the other."""
        for mean, var in zip(means, unbiased_vars):
            self.buffers["num_batches_tracked"] += 1
            share = 1 / self.buffers["num_batches_tracked"] if self.momentum is None else self.momentum
            self.move(mean, var, share if moves else 0)

    def move(self, mean, var, share):
        for name, value in (("running_mean", mean), ("running_var", var)):
            running = self.buffers[name]
            running += share * ((value.real if running.dtype.kind == "f" else value) - running)

    def reset_buffers(self, seed, prefix):
        for name, value in zip(self.buffers, (0, 1, 0)):
            self.buffers[name][...] = value


def values_a_channel(x):
    """M, for x (B, n, C, ...)."""
    return x.shape[1] * math.prod(x.shape[3:])


def wide(x):
    """The dtype of sums over x: float64 or complex128."""
    return np.result_type(x.dtype, np.float64)
