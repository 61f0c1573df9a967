"""Normalisation to mean 0 and variance 1: over the batch, over each channel of an image."""

import inspect
import math

import numpy as np

from scratchgan import initializers
from scratchgan.backend import array_module, memory_order
from scratchgan.kernels import batch_norm
from scratchgan.kernels.results import store
from scratchgan.layers.base import Layer

LARGE = 1 << 15  # values of an image, from which on to pass over each by itself takes less than to copy them all


# -- the four passes, as plain formulas: x is (N, C, ...), vectors have a value a channel and are float64 or complex128


def plain_statistics(x):
    """(mean, var) of each channel, var = mean of (x - mean)^2."""
    axes, wide = (0, *range(2, x.ndim)), np.result_type(x.dtype, np.float64)
    mean = x.mean(axis=axes, dtype=wide)
    d, _ = less(x, mean)
    rest = d.mean(axis=axes, dtype=wide)  # of the mean, which was rounded to the precision of x
    return mean, (d * d).mean(axis=axes, dtype=wide) - rest * rest


def plain_normalise(x, mean, scale, bias):
    """y = (x - mean) scale + bias."""
    d, rest = less(x, mean)
    return d * shaped(scale, x) + shaped(bias - rest * scale, x)


def plain_gradient_sums(dy, x, mean):
    """(sum dy, sum dy (x - mean)) of each channel: dbias, and dweight but for the factor r."""
    d, rest = less(x, mean)
    axes, product = (0, *range(2, x.ndim)), dy * d
    dbias = dy.sum(axis=axes, dtype=np.result_type(dy.dtype, np.float64))
    return dbias, product.sum(axis=axes, dtype=np.result_type(product.dtype, np.float64)) - rest * dbias


def plain_input_gradient(dy, x, mean, scale, slope, offset):
    """dx = scale (dy + slope (x - mean) + offset)."""
    d, rest = less(x, mean)
    return (dy + d * shaped(slope, x) + shaped(offset - rest * slope, x)) * shaped(scale, x)


def less(x, mean):
    """(d, rest) with x - mean = d - rest, where d is in the precision of x and `rest` what the mean has beyond it."""
    centre = mean.astype(batch_norm.narrow(mean, x))
    return x - shaped(centre, x), mean - centre


def shaped(vector, x):
    """A value a channel, in the precision of x and shaped to go with it."""
    return vector.astype(batch_norm.narrow(vector, x), copy=False).reshape(-1, *[1] * (x.ndim - 2))


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
              = scale (dy + slope (x - mean) + offset)
                with scale = weight r, slope = -r dweight / M, offset = -dbias / M

    In training a pass moves running_mean and running_var towards its mean and its variance, by the share `momentum`,
    or by 1 / num_batches_tracked with momentum=None, which makes them averages over all batches so far. The running
    variance takes the unbiased one, times M / (M - 1). In eval mode mean and variance are the running ones, so that

        dx = weight r dy

    With track_running_stats=False the batch's are used there too. An empty batch counts but moves nothing; where
    there is one value a channel, whose variance says nothing, a training pass raises `ValueError`.

    backward keeps x by reference and the statistics; it forms xhat again. The passes over x are the plain formulas
    above, or the same ones of `scratchgan.kernels.batch_norm` where it has a faster way. Ioffe and Szegedy 2015,
    "Batch normalization", algorithms 1 and 2 and section 3.
    """

    couples_samples = knows_batches = True
    shapes = ()  # the inputs allowed: names of the axes before and after the channels

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, *,
                 weight_init=None, bias_init=None):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        if affine:
            self.add_parameter("weight", ((num_features,), weight_init or initializers.ones))
            self.add_parameter("bias", ((num_features,), bias_init or initializers.zeros))
        if track_running_stats:
            self.buffers["running_mean"] = self.xp.zeros(num_features, np.float32)
            self.buffers["running_var"] = self.xp.ones(num_features, np.float32)
            self.buffers["num_batches_tracked"] = self.xp.array(0, np.int64)

    def reset_buffers(self, seed, prefix):
        for name, value in zip(self.buffers, (0, 1, 0)):
            self.buffers[name][...] = value

    def forward(self, x):
        self.check_input(x)
        self.check_shape(x)
        z = self.units(x)
        out, parts = self.empty_like("y", z), self.parts(z)
        ys, kept = zip(*[self.normalised(z[part], out[part]) for part in parts])
        y = joined(ys, out)
        self.cache = z, parts, kept, x.shape, memory_order(x), y.dtype
        return self.whole("y", y, *self.cache[3:5])

    def normalised(self, z, out):
        """(y of one batch, what its backward pass needs)."""
        of_batch = self.training or not self.track_running_stats
        mean, var, far = self.batch_statistics(z) if of_batch else self.running_statistics(z)
        r = 1 / (var + self.eps) ** 0.5
        scale, bias = r * self.along(z, "weight", 1), self.along(z, "bias", 0)
        return normalise(z, mean, scale, bias, far, out), (mean, r, far, of_batch)

    def backward(self, dy, wrt="all"):
        z, parts, kept, shape, order, dtype = self.kept()
        self.check_gradient(dy, shape, dtype, wrt)
        dz = batch_norm.stored_like(dy.reshape(z.shape), z)
        out = None if wrt == "params" else self.empty_like("dx", dz)
        dxs = [self.differentiated(dz[part], z[part], *statistics, wrt, None if out is None else out[part])
               for part, statistics in zip(parts, kept)]
        return None if wrt == "params" else self.whole("dx", joined(dxs, out), shape, order)

    def differentiated(self, dz, z, mean, r, far, of_batch, wrt, out):
        """dx of one batch; its part of the parameters' gradients is added."""
        if of_batch or (self.affine and wrt != "input"):
            dbias, product = batch_norm.gradient_sums(dz, z, mean, far) or plain_gradient_sums(dz, z, mean)
            dweight = product * r
        if self.affine and wrt != "input":
            for name, value in ("weight", dweight), ("bias", dbias):
                if len(value) != self.num_features:
                    value = value.reshape(-1, self.num_features).sum(axis=0)
                self.accumulate(name, value)
        if wrt == "params":
            return None
        scale = r * self.along(z, "weight", 1)
        if not of_batch:
            return normalise(dz, 0 * r, scale, 0 * r, False, out)
        count = max(1, values_of(z))
        slope, offset = -r * dweight / count, -dbias / count
        dx = batch_norm.input_gradient(dz, z, mean, scale, slope, offset, far, out)
        return store(plain_input_gradient(dz, z, mean, scale, slope, offset), out) if dx is None else dx

    def parts(self, z):
        """Slices of the samples that are batches of their own: see `Layer.in_batches`."""
        count = self.batches if self.couples_samples and self.training else 1
        if len(z) % count:
            raise ValueError(f"{type(self).__name__}: {len(z)} samples are not {count} equal batches")
        size = len(z) // count
        return [slice(i * size, (i + 1) * size) for i in range(count)]

    def units(self, x):
        """x with what is normalised together along all axes but axis 1."""
        return x

    def whole(self, slot, z, shape, order):
        """The way back from `units`: z in this shape and memory order."""
        return z

    def along(self, z, name, default):
        """A parameter or buffer as often as its channels come along axis 1 of z."""
        value = self.params.get(name, self.buffers.get(name))
        if value is None:
            return default
        repeats = z.shape[1] // self.num_features
        return value if repeats == 1 else array_module(value).tile(value, repeats)

    def batch_statistics(self, z):
        """(mean, var, far) of the batch; in training the running ones follow, but never a twin's."""
        count = values_of(z)
        if count == 1:
            raise ValueError(f"{type(self).__name__}: expected more than 1 value a channel in training, got input of "
                             f"shape {tuple(z.shape)}")
        if z.size:
            mean, var, far = batch_norm.statistics(z) or (*plain_statistics(z), True)
        else:
            mean = var = array_module(z).zeros(z.shape[1], np.result_type(z.dtype, np.float64))
            far = True
        if self.training and self.track_running_stats and not self.is_twin:
            share = self.count_batch()
            if z.size:
                self.follow("running_mean", mean, share)
                self.follow("running_var", var * (count / (count - 1)), share)
        return mean, var, far

    def count_batch(self):
        """Count it; returns its share of the running statistics."""
        self.buffers["num_batches_tracked"] += 1
        return 1 / self.buffers["num_batches_tracked"] if self.momentum is None else self.momentum

    def follow(self, name, value, share):
        running = self.buffers[name]
        if len(value) != self.num_features:
            value = value.reshape(-1, self.num_features).mean(axis=0)
        running += share * ((value.real if running.dtype.kind == "f" else value) - running)

    def running_statistics(self, z):
        mean, var = self.along(z, "running_mean", None), self.along(z, "running_var", None)
        wide = np.result_type(mean.dtype, np.float64)
        mean, var = mean.astype(wide), var.astype(wide)
        return mean, var, batch_norm.is_far(mean, var)

    def check_shape(self, x):
        shapes = [(*before, self.num_features, *after) for before, after in self.shapes]
        if not any(x.ndim == len(shape) and x.shape[len(before)] == self.num_features
                   for shape, (before, _) in zip(shapes, self.shapes)):
            words = " or ".join(f"({', '.join(map(str, shape))})" for shape in shapes)
            raise ValueError(f"{type(self).__name__}: expected input of shape {words}, got {tuple(x.shape)}")

    def __repr__(self):
        return f"{type(self).__name__}({self.num_features}{changed(self)})"


def changed(layer):
    """Its arguments that are not the default ones."""
    defaults = inspect.signature(type(layer).__init__).parameters.values()
    return "".join(f", {p.name}={getattr(layer, p.name)}" for p in defaults
                   if hasattr(layer, p.name) and p.default not in (p.empty, getattr(layer, p.name)))


def normalise(z, mean, scale, bias, far, out):
    y = batch_norm.normalise(z, mean, scale, bias, far, out)
    return store(plain_normalise(z, mean, scale, bias), out) if y is None else y


def joined(parts, out):
    """The parts as one array: `out` where they were written into it."""
    if len(parts) == 1:
        return parts[0]
    return out if all(part.dtype == out.dtype for part in parts) else array_module(out).concatenate(parts)


def values_of(z):
    """How many values a channel has."""
    return len(z) * math.prod(z.shape[2:])


class BatchNorm2d(_BatchNorm):
    """Each channel of x (N, C, H, W) brought to mean `bias` and standard deviation `weight`, learned: see above.

    Uses the batch's statistics in training and the running ones in eval mode, by default.
    """

    shapes = (("N",), ("H", "W")),


class BatchNorm1d(_BatchNorm):
    """`BatchNorm2d` for x (N, C) or (N, C, L), with M = N or N L values a channel."""

    shapes = (("N",), ()), (("N",), ("L",))


class InstanceNorm2d(_BatchNorm):
    """`BatchNorm2d` with each channel of each image brought to mean 0 and variance 1 by itself: M = H W values.

    x (N, C, H, W) or (C, H, W). By default without weight and bias, and with the image's statistics in eval mode too.
    With track_running_stats=True eval mode takes running ones, averages over images; like PyTorch's they stay where
    they are with momentum=None, and num_batches_tracked is not counted. Ulyanov et al. 2016, "Instance
    normalization".
    """

    couples_samples = knows_batches = False
    shapes = (("N",), ("H", "W")), ((), ("H", "W"))

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=False, track_running_stats=False, *,
                 weight_init=None, bias_init=None):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, weight_init=weight_init,
                         bias_init=bias_init)

    def units(self, x):
        """(1, N C, H, W), to which channels last in memory are copied; but see `one_by_one`."""
        return x if self.one_by_one(x) else x.reshape(1, math.prod(x.shape[:-2]), *x.shape[-2:])

    def one_by_one(self, x):
        """Whether each image is treated by itself: those of which memory holds the channels last, if they are large."""
        return (x.ndim == 4 and len(x) > 1 and math.prod(x.shape[1:]) >= LARGE and array_module(x) is np
                and x.strides[0] != x.shape[1] * x.strides[1] and not (self.training and self.track_running_stats))

    def parts(self, z):
        return [slice(i, i + 1) for i in range(len(z))]

    def whole(self, slot, z, shape, order):
        z = z.reshape(shape)
        if memory_order(z) == order:
            return z
        out = self.empty_along(f"{slot} as x", shape, z.dtype, order, array_module(z))
        out[...] = z
        return out

    def count_batch(self):
        return self.momentum or 0
