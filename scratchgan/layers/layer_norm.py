"""Layer normalisation."""

import numpy as np

from scratchgan import initializers, kernels
from scratchgan.layers.base import Layer


@kernels.formula
def layer_norm(x, eps, axes):
    """(xhat, r): xhat = (x - mean) r, r = 1 / sqrt(var + eps), over the last `axes` axes. Means are of float64."""
    d = x - mean_of(x, axes)
    d = d - mean_of(d, axes)  # what the mean lost in the precision of x
    r = (mean_of(d * d, axes) + eps) ** -0.5
    return d * r, r


@kernels.formula
def layer_norm_grad(g, xhat, r, axes):
    """dx = r (g - mean(g) - xhat mean(g xhat))."""
    return r * (g - mean_of(g, axes) - xhat * mean_of(g * xhat, axes))


@kernels.formula
def affine(xhat, weight, bias):
    """y = xhat weight + bias, of shapes that fit; either is None where it is not there."""
    y = xhat if weight is None else xhat * weight
    return y if bias is None else y + bias


@kernels.formula
def product_sums(dy, xhat, samples, out=None):
    """sum dy xhat over the axes of the samples, written into `out` if given."""
    return (dy * xhat).sum(axis=samples, out=out)


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

    Ba et al. 2016, "Layer normalization". NumPy makes one pass over memory for each operation: PyTorch's single pass is
    several times as fast.
    """

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True, *, weight_init=None,
                 bias_init=None):
        super().__init__()
        if eps < 0:
            raise ValueError(f"LayerNorm: eps must be 0 or more, not {eps}")
        shape = normalized_shape if hasattr(normalized_shape, "__len__") else (normalized_shape,)
        self.normalized_shape, self.eps, self.elementwise_affine = tuple(shape), float(eps), elementwise_affine
        if elementwise_affine:
            self.add_parameter("weight", (self.normalized_shape, weight_init or initializers.ones))
        if elementwise_affine and bias:
            self.add_parameter("bias", (self.normalized_shape, bias_init or initializers.zeros))

    def forward(self, x):
        ops, axes = self.ops(x), len(self.normalized_shape)
        self.expect(x.shape[max(0, x.ndim - axes):] == self.normalized_shape, x,
                    f"({', '.join(map(str, ('...', *self.normalized_shape)))})")
        xhat, r = ops.layer_norm(x, self.eps, axes)
        y = ops.affine(xhat, self.params.get("weight"), self.params.get("bias"))    # xhat weight + bias
        return self.keep(y, xhat, r)

    def backward(self, dy, wrt="all"):
        (xhat, r), axes, ops = self.kept(dy, wrt), len(self.normalized_shape), self.ops()
        if self.params and wrt in ("all", "params"):
            samples = tuple(range(dy.ndim - axes))                      # dweight = sum dy xhat, dbias = sum dy
            self.accumulate_by("weight", lambda out: ops.product_sums(dy, xhat, samples, out))
            if "bias" in self.params:
                self.accumulate_by("bias", lambda out: dy.sum(axis=samples, out=out))
        if wrt == "params":
            return None
        g = dy * self.params["weight"] if self.params else dy           # dL/dxhat
        return ops.layer_norm_grad(g, xhat, r, axes)
