"""The fully connected layer."""

import functools
import math

from scratchgan import initializers
from scratchgan.kernels import gemm
from scratchgan.layers.base import Layer


def _rows(x):
    """x as a matrix (..., features) -> (rows, features), and the memory order for the layer's result."""
    return (x, "F") if x.ndim == 2 else (x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), "C")


@functools.lru_cache(maxsize=16)
def _ones(xp, n, dtype):
    return xp.ones(n, dtype)


class Linear(Layer):
    """y = x W^T + b, for x of shape (..., in_features), W (out_features, in_features), b (out_features,).

    With the rows of all leading axes counted by n, y[n, o] = sum_i x[n, i] W[o, i] + b[o], so by the chain rule

        dW[o, i] = sum_n dy[n, o] x[n, i]        dW = dy^T x
        db[o]    = sum_n dy[n, o]
        dx[n, i] = sum_o dy[n, o] W[o, i]        dx = dy W

    Weight and bias start from U(-1/sqrt(in_features), 1/sqrt(in_features)), as in PyTorch, unless initializers
    are given. A matrix comes out stored by columns (features first in memory), which BLAS computes faster.
    """

    def __init__(self, in_features, out_features, bias=True, *, weight_init=None, bias_init=None):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        default = initializers.fan_in_uniform(in_features)
        self.add_parameter("weight", ((out_features, in_features), weight_init or default))
        if bias:
            self.add_parameter("bias", ((out_features,), bias_init or default))

    def forward(self, x):
        self.check_input(x, self.in_features)
        weight, bias = self.params["weight"], self.params.get("bias")
        self.cache = x  # dW needs it
        rows, order = _rows(x)
        y = self.empty("y", (len(rows), self.out_features), self.result_dtype(x), order)
        gemm(rows, weight.T, out=y)
        if bias is not None:
            y += bias
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], self.out_features)

    def backward(self, dy, wrt="all"):
        x, weight = self.kept(), self.params["weight"]
        self.check_gradient(dy, (*x.shape[:-1], self.out_features), self.result_dtype(x), wrt)
        rows, order = _rows(dy)
        if wrt != "input":
            self.accumulate_product("weight", rows.T, _rows(x)[0])
            if "bias" in self.params:
                ones = _ones(self.xp, len(rows), dy.dtype)
                self.accumulate_product("bias", rows.T, ones)  # the sum over n as a product, which BLAS does fast
        if wrt == "params":
            return None
        dx = self.empty("dx", (len(rows), self.in_features), self.result_dtype(dy), order)
        gemm(rows, weight, out=dx)
        return dx if x.ndim == 2 else dx.reshape(x.shape)

    def __repr__(self):
        bias = "" if "bias" in self.params else ", bias=False"
        return f"Linear({self.in_features}, {self.out_features}{bias})"
