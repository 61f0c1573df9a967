"""Normalisation of each sample by itself to mean 0 and variance 1."""

import numpy as np

from scratchgan import initializers
from scratchgan.backend import array_module
from scratchgan.kernels import layer_norm
from scratchgan.kernels.results import store
from scratchgan.layers.base import Layer
from scratchgan.layers.normalisation import changed


def plain_normalise(x, weight, bias, eps, axes):
    """(y, kept): y = xhat weight + bias with xhat = (x - mean) r over the last `axes` axes.

    `kept` is (mean, shift, r) with xhat = (x - mean) r + shift, the shift for what the mean lost in the precision of x.
    """
    mean = mean_of(x, axes)
    d = x - mean
    rest = mean_of(d, axes)
    d = d - rest
    r = (mean_of(d * d, axes) + eps) ** -0.5
    y = d * r
    y = y if weight is None else y * weight
    return y if bias is None else y + bias, array_module(x).stack([mean, -rest * r, r])


def plain_gradients(dy, x, kept, weight, axes, wrt):
    """(dx, dweight, dbias): dx = r (g - mean(g) - xhat mean(g xhat)); None where `wrt` does not ask for it."""
    mean, shift, r = kept
    xhat, samples = (x - mean) * r + shift, tuple(range(x.ndim - axes))
    sums = (None, None) if wrt == "input" else ((dy * xhat).sum(axis=samples), dy.sum(axis=samples))
    if wrt == "params":
        return None, *sums
    g = dy if weight is None else dy * weight
    return r * (g - mean_of(g, axes) - xhat * mean_of(g * xhat, axes)), *sums


def mean_of(a, axes):
    """Over each sample, added up in float64."""
    wide = np.result_type(a.dtype, np.float64)
    return a.mean(axis=tuple(range(a.ndim - axes, a.ndim)), keepdims=True, dtype=wide).astype(a.dtype)


class LayerNorm(Layer):
    """y = xhat weight + bias, xhat = (x - mean) / sqrt(var + eps), with mean and variance over all of a sample.

    A sample is what the last axes hold, of sizes `normalized_shape` (a number or a tuple), x (..., *normalized_shape);
    weight and bias have its shape and exist if `elementwise_affine`, bias if `bias` too. As for batch normalisation,
    with r = 1 / sqrt(var + eps), g = weight dy and means over the D values of the sample,

        dx = r (g - mean(g) - xhat mean(g xhat))        dweight = sum dy xhat, dbias = sum dy, over the samples

    The passes over x are the plain formulas above, or the same ones of `scratchgan.kernels.layer_norm` where it has a
    faster way. Ba et al. 2016, "Layer normalization".
    """

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True, *, weight_init=None,
                 bias_init=None):
        super().__init__()
        shape = normalized_shape if hasattr(normalized_shape, "__len__") else (normalized_shape,)
        self.normalized_shape, self.eps, self.elementwise_affine = tuple(shape), eps, elementwise_affine
        if elementwise_affine:
            self.add_parameter("weight", (self.normalized_shape, weight_init or initializers.ones))
            if bias:
                self.add_parameter("bias", (self.normalized_shape, bias_init or initializers.zeros))

    def forward(self, x):
        self.check_input(x)
        axes = len(self.normalized_shape)
        if x.shape[max(0, x.ndim - axes):] != self.normalized_shape:
            expected = ", ".join(map(str, ("...", *self.normalized_shape)))
            raise ValueError(f"LayerNorm: expected input of shape ({expected}), got {tuple(x.shape)}")
        weight, bias = self.params.get("weight"), self.params.get("bias")
        out = self.empty_like("y", x)
        y, statistics = (layer_norm.normalise(x, weight, bias, self.eps, axes, out)
                         or plain_normalise(x, weight, bias, self.eps, axes))
        y = store(y, out)
        self.cache = x, statistics, y.dtype
        return y

    def backward(self, dy, wrt="all"):
        x, statistics, dtype = self.kept()
        self.check_gradient(dy, x.shape, dtype, wrt)
        if wrt == "all" and not self.params:
            wrt = "input"
        out = None if wrt == "params" else self.empty_like("dx", x)
        weight, axes = self.params.get("weight"), len(self.normalized_shape)
        dx, dweight, dbias = (layer_norm.gradients(dy, x, statistics, weight, axes, out, wrt)
                              or plain_gradients(dy, x, statistics, weight, axes, wrt))
        for name, value in {"weight": dweight, "bias": dbias}.items():
            if name in self.params and value is not None:
                self.accumulate(name, value)
        return dx if dx is None else store(dx, out)

    def __repr__(self):
        bias = ", bias=False" if self.elementwise_affine and "bias" not in self.params else ""
        return f"LayerNorm({self.normalized_shape}{changed(self)}{bias})"
