"""The fully connected layer."""

import math

from scratchgan import initializers, kernels
from scratchgan.backend import array_module
from scratchgan.kernels import FORMULAS
from scratchgan.layers.base import Layer


@kernels.formula
def linear(x, weight, bias):
    """y = x W^T + b, for x (n, in) and W (out, in); b (out,) may be None."""
    y = FORMULAS.gemm(x, weight.T)
    if bias is not None:
        y += bias
    return y


@kernels.formula
def row_sums(dy, out=None):
    """sum_n dy[n, o], written into `out` if given: as a product, which is faster than NumPy's sum."""
    return FORMULAS.gemm(dy.T, array_module(dy).ones(len(dy), dy.dtype), out)


class Linear(Layer):
    """y = x W^T + b, for x of shape (..., in_features), W (out_features, in_features), b (out_features,).

    With the rows of all leading axes counted by n, y[n, o] = sum_i x[n, i] W[o, i] + b[o], so by the chain rule

        dW[o, i] = sum_n dy[n, o] x[n, i]        dW = dy^T x
        db[o]    = sum_n dy[n, o]
        dx[n, i] = sum_o dy[n, o] W[o, i]        dx = dy W

    Weight and bias start from U(-1/sqrt(in_features), 1/sqrt(in_features)), as in PyTorch, unless initializers
    are given.
    """

    keeps_rows = piecewise_linear = True

    def __init__(self, in_features, out_features, bias=True, *, weight_init=None, bias_init=None):
        super().__init__()
        for what, size in (("in_features", in_features), ("out_features", out_features)):
            if not hasattr(size, "__index__") or size < 0:
                raise ValueError(f"Linear: {what} must be a whole number, 0 or more, not {size!r}")
        self.in_features, self.out_features = in_features, out_features
        default = initializers.fan_in_uniform(in_features)
        self.add_parameter("weight", ((out_features, in_features), weight_init or default))
        if bias:
            self.add_parameter("bias", ((out_features,), bias_init or default))

    def forward(self, x):
        ops = self.ops(x)
        self.expect(x.shape[-1:] == (self.in_features,), x, f"(..., {self.in_features})")
        y = ops.linear(rows(x), self.params["weight"], self.params.get("bias"))             # x W^T + b
        return self.keep(y.reshape(*x.shape[:-1], self.out_features), x)

    def backward(self, dy, wrt="all"):
        x = self.kept(dy, wrt)
        dy, dx = rows(dy), None
        if wrt != "params":  # first, as the layer before waits for it
            dx = self.ops().gemm(dy, self.params["weight"]).reshape(x.shape)    # dx = dy W
        if wrt in ("all", "params"):
            self.accumulate_product("weight", dy.T, rows(x))                    # dW = dy^T x
            if "bias" in self.params:
                self.accumulate_by("bias", lambda out: self.ops().row_sums(dy, out))    # db = sum_n dy
        return dx

    def tangent(self, z, c=None):
        self.kept_for(z, c)
        dy, y = rows(self.cotangent()), self.ops().gemm(rows(z), self.params["weight"].T)   # z W^T
        self.accumulate_product("weight", dy.T, rows(z))                                    # dW = dy^T z
        if c is not None and "bias" in self.params:
            c = array_module(c).repeat(c, len(dy) // max(len(c), 1))                        # for each row
            self.accumulate_product("bias", dy.T, c)                                        # db = sum_n c_n dy_n
            y += (self.params["bias"][:, None] * c).T                   # + c b, features first in memory, as in y
        return y.reshape(*z.shape[:-1], self.out_features)


def rows(x):
    """(..., features) as a matrix (rows, features)."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
