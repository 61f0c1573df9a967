"""Maxout."""

from scratchgan import kernels
from scratchgan.backend import array_module
from scratchgan.layers.base import Layer
from scratchgan.layers.linear import Linear


@kernels.formula
def maxout(z):
    """(y, won): the largest of the last axis, and where it is: one True for each y, at the first of equals."""
    xp = array_module(z)
    winner = xp.argmax(z.real, axis=-1)[..., None]
    return xp.take_along_axis(z, winner, axis=-1)[..., 0], winner == xp.arange(z.shape[-1])


@kernels.formula
def maxout_grad(dy, won):
    """dz = dy for the piece that won, else 0."""
    return array_module(dy).where(won, dy[..., None], dy.dtype.type(0))


class Maxout(Layer):
    """y[n, o] = max over k of z[n, o, k], z = x W^T + b: each output is the largest of `num_pieces` linear ones.

    x (..., in_features), W (out_features * num_pieces, in_features), row o * num_pieces + k for piece k of
    output o; y (..., out_features). Only the winning piece gets the gradient (the first of equals):

        dz[n, o, k] = dy[n, o] if k = argmax z[n, o] else 0;   dW = dz^T x,  db = sum_n dz,  dx = dz W

    Goodfellow et al. 2013, "Maxout networks", section 3.
    """

    keeps_rows = piecewise_linear = True

    def __init__(self, in_features, out_features, num_pieces, *, weight_init=None, bias_init=None):
        super().__init__()
        self.in_features, self.out_features, self.num_pieces = in_features, out_features, num_pieces
        self.linear = Linear(in_features, out_features * num_pieces, weight_init=weight_init, bias_init=bias_init)

    def forward(self, x):
        ops = self.ops(x)
        z = self.linear.forward(x)                                      # x W^T + b
        y, won = ops.maxout(z.reshape(*z.shape[:-1], self.out_features, self.num_pieces))
        return self.keep(y, won)

    def backward(self, dy, wrt="all"):
        dz = self.ops().maxout_grad(dy, self.kept(dy, wrt))             # the winner gets dy
        return self.linear.backward(dz.reshape(*dy.shape[:-1], self.out_features * self.num_pieces), wrt)

    def tangent(self, z, c=None):
        won, y = self.kept_for(z, c), self.linear.tangent(z, c)
        return (y.reshape(won.shape) * won).sum(axis=-1)                # of the piece that won

    def __repr__(self):
        return f"Maxout({self.in_features}, {self.out_features}, {self.num_pieces})"
