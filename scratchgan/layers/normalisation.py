"""Batch normalisation."""

import numpy as np

from scratchgan import initializers
from scratchgan.kernels import batch_norm
from scratchgan.layers.base import Layer


class _BatchNorm(Layer):
    """y = (x - mean) / sqrt(var + eps) weight + bias, with mean and variance of each channel over the batch.

    x and y are (N, C, ...); weight and bias (C,) exist if `affine`. With r = 1 / sqrt(var + eps), xhat = (x - mean) r
    and M values a channel, all sums over these values,

        dbias = sum dy        dweight = sum dy xhat

    The mean and the variance = sum (x - mean)^2 / M depend on every x of the channel. With g = weight dy = dL/dxhat:

        dvar  = sum g (x - mean) (-1/2) r^3 = -(r^2 / 2) sum g xhat
        dmean = -r sum g                             (d var / d mean = -2 sum (x - mean) / M = 0)
        dx    = g r + dvar 2 (x - mean) / M + dmean / M
              = r (g - sum g / M - xhat sum (g xhat) / M)
              = weight r (dy - dbias / M - xhat dweight / M)

    In training a pass moves running_mean and running_var towards its mean and its variance, by the share `momentum`,
    or by 1 / num_batches_tracked with momentum=None, which makes them averages over all batches so far. The running
    variance takes the unbiased one, times M / (M - 1). In eval mode mean and variance are the running ones, so that

        dx = weight r dy

    With track_running_stats=False the batch's are used there too. An empty batch counts but moves nothing; where
    there is one value a channel, whose variance says nothing, a training pass raises `ValueError`.

    backward keeps x by reference and the statistics; it forms xhat again. Ioffe and Szegedy 2015, "Batch
    normalization", algorithms 1 and 2 and section 3.
    """

    couples_samples = True
    dims = ()  # the axes that may follow the channels: one tuple of names for each shape allowed

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, *,
                 weight_init=None, bias_init=None):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        if affine:
            self.add_parameter("weight", ((num_features,), weight_init or initializers.ones))
            self.add_parameter("bias", ((num_features,), bias_init or initializers.zeros))
        if track_running_stats:
            self.buffers["running_mean"] = np.zeros(num_features, np.float32)
            self.buffers["running_var"] = np.ones(num_features, np.float32)
            self.buffers["num_batches_tracked"] = np.array(0, np.int64)

    def forward(self, x):
        self.check_input(x)
        self.check_shape(x)
        of_batch = self.training or not self.track_running_stats
        mean, var = self.batch_statistics(x) if of_batch else self.running_statistics()
        r = (var + self.eps) ** -0.5
        weight, bias = self.params.get("weight", 1), self.params.get("bias", 0)
        y = batch_norm.normalise(x, mean, r * weight, bias + 0 * r, out=self.empty_like("y", x))
        self.cache = x, mean, r, of_batch, y.dtype
        return y

    def backward(self, dy, wrt="all"):
        x, mean, r, of_batch, dtype = self.kept()
        self.check_gradient(dy, x.shape, dtype, wrt)
        dy = batch_norm.stored_like(dy, x)
        dbias = dweight = 0 * r
        if of_batch or (self.affine and wrt != "input"):
            dbias, product = batch_norm.gradient_sums(dy, x, mean)
            dweight = product * r
        if self.affine and wrt != "input":
            self.accumulate("weight", dweight.astype(dtype))
            self.accumulate("bias", dbias.astype(dtype))
        if wrt == "params":
            return None
        scale, out = r * self.params.get("weight", 1), self.empty_like("dx", dy)
        if not of_batch:
            return batch_norm.normalise(dy, 0 * r, scale, 0 * r, out=out)
        count = max(1, x.size // self.num_features)
        return batch_norm.input_gradient(dy, x, mean, scale, -dweight * r / count, -dbias / count, out=out)

    def batch_statistics(self, x):
        """(mean, var) of the batch; in training the running ones follow, but never a twin's."""
        count = x.size // self.num_features
        if count == 1:
            raise ValueError(f"{type(self).__name__}: expected more than 1 value a channel in training, got input of "
                             f"shape {tuple(x.shape)}")
        if count:
            mean, var = batch_norm.statistics(x)
        else:
            mean = var = self.xp.zeros(self.num_features, np.result_type(x.dtype, np.float64))
        if self.training and self.track_running_stats and not self.is_twin:
            self.buffers["num_batches_tracked"] += 1
            if count:
                self.follow("running_mean", mean)
                self.follow("running_var", var * (count / (count - 1)))
        return mean, var

    def follow(self, name, value):
        running = self.buffers[name]
        share = 1 / self.buffers["num_batches_tracked"] if self.momentum is None else self.momentum
        running[...] = (1 - share) * running + share * (value.real if running.dtype.kind == "f" else value)

    def running_statistics(self):
        mean, var = self.buffers["running_mean"], self.buffers["running_var"]
        wide = np.result_type(mean.dtype, np.float64)
        return mean.astype(wide), var.astype(wide)

    def check_shape(self, x):
        if x.ndim < 2 or x.ndim - 2 not in map(len, self.dims) or x.shape[1] != self.num_features:
            shapes = " or ".join(f"({', '.join(['N', str(self.num_features), *dims])})" for dims in self.dims)
            raise ValueError(f"{type(self).__name__}: expected input of shape {shapes}, got {tuple(x.shape)}")

    def __repr__(self):
        defaults = {"eps": 1e-5, "momentum": 0.1, "affine": True, "track_running_stats": True}
        changed = "".join(f", {name}={getattr(self, name)}" for name, default in defaults.items()
                          if getattr(self, name) != default)
        return f"{type(self).__name__}({self.num_features}{changed})"


class BatchNorm2d(_BatchNorm):
    """Each channel of x (N, C, H, W) brought to mean `bias` and standard deviation `weight`, learned: see above.

    Uses the batch's statistics in training and the running ones in eval mode, by default.
    """

    dims = ("H", "W"),


class BatchNorm1d(_BatchNorm):
    """`BatchNorm2d` for x (N, C) or (N, C, L), with M = N or N L values a channel."""

    dims = (), ("L",)
