"""Batch normalisation. The formulas take x as (B, n, C, ...): B batches of n samples, each with statistics of its own."""

import math

import numpy as np

from scratchgan import initializers, kernels
from scratchgan.backend import array_module
from scratchgan.layers.base import Layer


@kernels.formula
def batch_moments(x):
    """(mean, var) of each channel of each batch, (B, C): var = mean of (x - mean)^2. In float64 or complex128."""
    axes, x = averaged(x), x.astype(wide(x))
    mean = x.mean(axis=axes)
    return mean, ((x - per_channel(mean, x)) ** 2).mean(axis=axes)


@kernels.formula
def batch_norm(x, mean, r, weight, bias):
    """y = xhat weight + bias, xhat = (x - mean) r."""
    xhat = (x - per_channel(mean, x)) * per_channel(r, x)
    return narrow(xhat * per_channel(weight, x) + per_channel(bias, x), x)


@kernels.formula
def batch_norm_sums(dy, x, mean, r):
    """(sum dy, sum dy xhat) of each channel of each batch, (B, C): dbias and dweight."""
    axes, xhat = averaged(x), (x - per_channel(mean, x)) * per_channel(r, x)
    return dy.sum(axis=axes, dtype=wide(dy)), (dy * xhat).sum(axis=axes)


@kernels.formula
def batch_norm_grad(dy, x, mean, r, weight, dbias, dweight):
    """dx = weight r (dy - dbias / M - xhat dweight / M)."""
    M, xhat = values(x), (x - per_channel(mean, x)) * per_channel(r, x)
    dx = dy - per_channel(dbias, x) / M - xhat * per_channel(dweight, x) / M
    return narrow(dx * per_channel(r * weight, x), dy)


class BatchNorm2d(Layer):
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

    In training a pass moves running_mean and running_var towards its mean and its variance, by the share `momentum`,
    or by 1 / num_batches_tracked with momentum=None, which makes them averages over all batches so far; running_var
    takes the unbiased variance, times M / (M - 1). In eval mode mean and variance are the running ones, constants, so
    that dx = weight r dy; with track_running_stats=False they are the batch's there, too. An empty batch counts but
    moves nothing. `ValueError` for one value a channel in training, whose variance says nothing. Ioffe and Szegedy
    2015, "Batch normalization", algorithms 1 and 2 and section 3.
    """

    couples_samples = knows_batches = True
    inputs = ("NCHW",)  # the axes of x, a letter each, for each kind of input

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, bias=True, *,
                 weight_init=None, bias_init=None):
        super().__init__()
        if eps < 0:
            raise ValueError(f"{type(self).__name__}: eps must be 0 or more, not {eps}")
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        if affine:
            self.add_parameter("weight", ((num_features,), weight_init or initializers.ones))
        if affine and bias:
            self.add_parameter("bias", ((num_features,), bias_init or initializers.zeros))
        if track_running_stats:
            self.buffers["running_mean"] = self.xp.zeros(num_features, np.float32)
            self.buffers["running_var"] = self.xp.ones(num_features, np.float32)
            self.buffers["num_batches_tracked"] = self.xp.array(0, np.int64)

    def forward(self, x):
        ops = self.ops(x)
        self.expect(any(x.ndim == len(axes) and x.shape[axes.index("C")] == self.num_features for axes in self.inputs),
                    x, " or ".join(f"({', '.join(axes)})" for axes in self.inputs).replace("C", str(self.num_features)))
        z, of_batch = self.in_batches_apart(x), self.training or not self.track_running_stats
        mean, var = self.moments(z) if of_batch else self.running_moments(z)
        r = 1 / (var + self.eps) ** 0.5
        y = ops.batch_norm(z, mean, r, self.params.get("weight", 1.0), self.params.get("bias", 0.0))
        return self.keep(y.reshape(x.shape), z, mean, r, of_batch)

    def backward(self, dy, wrt="all"):
        z, mean, r, of_batch = self.kept(dy, wrt)
        ops, dz = self.ops(), dy.reshape(z.shape)
        dbias, dweight = ops.batch_norm_sums(dz, z, mean, r)            # sum dy, sum dy xhat
        for name, value in (("weight", dweight), ("bias", dbias)):
            if name in self.params and wrt != "input":
                for each in value:                                      # of the batches
                    self.accumulate(name, each)
        if wrt == "params":
            return None
        if not of_batch:
            dbias, dweight = 0 * dbias, 0 * dweight                     # mean and variance are constants
        dx = ops.batch_norm_grad(dz, z, mean, r, self.params.get("weight", 1.0), dbias, dweight)
        return dx.reshape(dy.shape)

    def in_batches_apart(self, x):
        """x as (B, n, C, ...): see `Layer.in_batches`."""
        count = self.batches if self.training else 1
        if len(x) % count:
            raise ValueError(f"{type(self).__name__}: {len(x)} samples are not {count} equal batches")
        return x.reshape(count, len(x) // count, *x.shape[1:])

    def moments(self, z):
        """(mean, var) of each batch; in training the running ones follow, but never a twin's."""
        M = values(z)
        if M == 1:
            raise ValueError(f"{type(self).__name__}: expected more than 1 value a channel in training, got input of "
                             f"shape {tuple(z.shape[1:])}")
        if z.size:
            mean, var = self.ops().batch_moments(z)
        else:
            mean = var = self.xp.zeros((len(z), self.num_features), wide(z))
        if self.training and self.track_running_stats and not self.is_twin:
            self.follow(mean, var * (M / (M - 1)), bool(z.size))
        return mean, var

    def follow(self, means, unbiased_vars, moves):
        """The running statistics follow those of the batches, one after the other."""
        for mean, var in zip(means, unbiased_vars):
            self.buffers["num_batches_tracked"] += 1
            share = 1 / self.buffers["num_batches_tracked"] if self.momentum is None else self.momentum
            if moves:
                self.move(mean, var, share)

    def move(self, mean, var, share):
        for name, value in (("running_mean", mean), ("running_var", var)):
            running = self.buffers[name]
            running += share * ((value.real if running.dtype.kind == "f" else value) - running)

    def running_moments(self, z):
        return (self.buffers[name][None].astype(wide(self.buffers[name])) for name in ("running_mean", "running_var"))

    def reset_buffers(self, seed, prefix):
        for name, value in zip(self.buffers, (0, 1, 0)):
            self.buffers[name][...] = value


class BatchNorm1d(BatchNorm2d):
    """`BatchNorm2d` for x (N, C) or (N, C, L), with M = N or N L values a channel."""

    inputs = ("NC", "NCL")


def averaged(x):
    """The axes of x (B, n, C, ...) that statistics are taken over."""
    return (1, *range(3, x.ndim))


def values(x):
    """M, the number of values a channel."""
    return x.shape[1] * math.prod(x.shape[3:])


def per_channel(vector, x):
    """(B, C) or (C,) so shaped that it goes with x (B, n, C, ...); a number as it is."""
    if isinstance(vector, float):
        return vector
    return vector.reshape(*vector.shape[:-1], 1, vector.shape[-1], *[1] * (x.ndim - 3))


def wide(x):
    """The dtype of sums over x."""
    return np.result_type(x.dtype, np.float64)


def narrow(y, x):
    """y in the precision of x."""
    real = np.finfo(x.dtype).dtype
    return y.astype(np.result_type(real, np.complex64) if y.dtype.kind == "c" else real, copy=False)
