"""Batch normalisation. Its formulas take x as (B, n, C, ...): B batches of n samples, each with its own statistics."""

import numpy as np

from scratchgan import initializers, kernels
from scratchgan.backend import array_module
from scratchgan.layers.running_statistics import RunningStatistics, values_a_channel, wide


@kernels.formula
def batch_moments(x):
    """(mean, var) of each channel of each batch, (B, C), in float64 or complex128: var = mean of (x - mean)^2."""
    axes, x = (1, *range(3, x.ndim)), x.astype(wide(x))
    mean = x.mean(axis=axes)
    return mean, ((x - per_channel(mean, x)) ** 2).mean(axis=axes)


@kernels.formula
def batch_statistics(x, eps):
    """(mean, var, r) of each channel of each batch, r = 1 / sqrt(var + eps)."""
    mean, var = kernels.of(x).batch_moments(x)
    return mean, var, 1 / (var + eps) ** 0.5


@kernels.formula
def batch_norm(x, mean, r, weight, bias):
    """y = xhat weight + bias, xhat = (x - mean) r."""
    xhat = (x - per_channel(mean, x)) * per_channel(r, x)
    return narrow(xhat * per_channel(weight, x) + per_channel(bias, x), x)


@kernels.formula
def batch_norm_sums(dy, x, mean, r):
    """(sum dy, sum dy xhat) of each channel of each batch, (B, C): dbias and dweight."""
    axes, xhat = (1, *range(3, x.ndim)), (x - per_channel(mean, x)) * per_channel(r, x)
    return dy.sum(axis=axes, dtype=wide(dy)), (dy * xhat).sum(axis=axes)


@kernels.formula
def batch_norm_grad(dy, x, mean, r, weight, dbias, dweight):
    """dx = weight r (dy - dbias / M - xhat dweight / M)."""
    M, xhat = max(1, values_a_channel(x)), (x - per_channel(mean, x)) * per_channel(r, x)
    dx = dy - per_channel(dbias, x) / M - xhat * per_channel(dweight, x) / M
    return narrow(dx * per_channel(r * weight, x), dy)


class BatchNorm2d(RunningStatistics):
    """y = xhat weight + bias, xhat = (x - mean) / sqrt(var + eps), mean and variance of each channel over the batch.

    x and y are (N, C, H, W); weight and bias (C,), if `affine`. With r = 1 / sqrt(var + eps), g = weight dy = dL/dxhat
    and M = N H W values a channel, over which all sums go,

        dbias = sum dy        dweight = sum dy xhat

    and as the mean and the variance = sum (x - mean)^2 / M depend on every x of the channel,

        dvar  = sum g (x - mean) (-1/2) r^3 = -(r^2 / 2) sum g xhat
        dmean = -r sum g                             (d var / d mean = -2 sum (x - mean) / M = 0)
        dx    = g r + dvar 2 (x - mean) / M + dmean / M
              = r (g - sum g / M - xhat sum (g xhat) / M)
              = weight r (dy - dbias / M - xhat dweight / M)

    In eval mode mean and variance are running ones, constants, so that dx = weight r dy: see `RunningStatistics`.
    `ValueError` for one value a channel in training, whose variance says nothing. Ioffe and Szegedy 2015, "Batch
    normalization", algorithms 1 and 2 and section 3.
    """

    couples_samples = knows_batches = True
    inputs = ("NCHW",)  # the axes of x, a letter each, for each kind of input

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, bias=True, *,
                 weight_init=None, bias_init=None):
        super().__init__(num_features, momentum, track_running_stats)
        if eps < 0:
            raise ValueError(f"{type(self).__name__}: eps must be 0 or more, not {eps}")
        self.eps, self.affine = float(eps), affine
        if affine:
            self.add_parameter("weight", ((num_features,), weight_init or initializers.ones))
        if affine and bias:
            self.add_parameter("bias", ((num_features,), bias_init or initializers.zeros))

    def forward(self, x):
        ops = self.ops(x)
        self.expect(any(x.ndim == len(axes) and x.shape[axes.index("C")] == self.num_features for axes in self.inputs),
                    x, " or ".join(f"({', '.join(axes)})" for axes in self.inputs).replace("C", str(self.num_features)))
        z = self.in_batches_apart(x)
        mean, r, of_batch = self.moments(z)                             # of each channel, r = 1 / sqrt(var + eps)
        # y = (x - mean) r weight + bias
        y = ops.batch_norm(z, mean, r, self.params.get("weight", 1.0), self.params.get("bias", 0.0))
        return self.keep(y.reshape(x.shape), z, mean, r, of_batch)

    def backward(self, dy, wrt="all"):
        z, mean, r, of_batch = self.kept(dy, wrt)
        ops, dz, weight = self.ops(), dy.reshape(z.shape), self.params.get("weight", 1.0)
        dbias, dweight = ops.batch_norm_sums(dz, z, mean, r)            # sum dy, sum dy xhat
        if wrt in ("all", "params") and self.params:                    # batch after batch, as so many passes would
            self.accumulate_in_turn({name: of_batches if self.knows_batches else of_batches.sum(axis=0, keepdims=True)
                                     for name, of_batches in (("weight", dweight), ("bias", dbias))})
        if wrt == "params":
            return None
        if not of_batch:
            dbias = dweight = array_module(dbias).zeros_like(dbias)     # mean and variance are constants
        elif not self.shared().is_all:                                  # M of the share goes with the mean of the sums
            dbias, dweight = self.shared().mean(array_module(dbias).stack([dbias, dweight]))
        # dx = weight r (dy - dbias / M - xhat dweight / M)
        return ops.batch_norm_grad(dz, z, mean, r, weight, dbias, dweight).reshape(dy.shape)

    def in_batches_apart(self, x):
        """x as (B, n, C, ...): see `Layer.in_batches`."""
        count = self.batches if self.training else 1
        if len(x) % count:
            raise ValueError(f"{type(self).__name__}: {len(x)} samples are not {count} equal batches")
        return x.reshape(count, len(x) // count, *x.shape[1:])


class BatchNorm1d(BatchNorm2d):
    """`BatchNorm2d` for x (N, C) or (N, C, L), with M = N or N L values a channel."""

    inputs = ("NC", "NCL")


def per_channel(vector, x):
    """(B, C) or (C,) so shaped that it goes with x (B, n, C, ...); a number as it is."""
    if isinstance(vector, float):
        return vector
    return vector.reshape(*vector.shape[:-1], 1, vector.shape[-1], *[1] * (x.ndim - 3))


def narrow(y, x):
    """y in the precision of x."""
    real = np.finfo(x.dtype).dtype
    return y.astype(np.result_type(real, np.complex64) if y.dtype.kind == "c" else real, copy=False)
