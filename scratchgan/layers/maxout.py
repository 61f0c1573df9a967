"""Maxout."""

from scratchgan.backend import array_module
from scratchgan.layers.base import Layer
from scratchgan.layers.linear import Linear


class Maxout(Layer):
    """y[n, o] = max over k of z[n, o, k], z = x W^T + b: each output is the largest of `num_pieces` linear ones.

    x (..., in_features), W (out_features * num_pieces, in_features), row o * num_pieces + k for piece k of
    output o; y (..., out_features). Only the winning piece gets the gradient (the first of equals):

        dz[n, o, k] = dy[n, o] if k = argmax z[n, o] else 0;   dW = dz^T x,  db = sum_n dz,  dx = dz W

    Goodfellow et al. 2013, "Maxout networks", section 3.
    """

    piecewise_linear = True

    def __init__(self, in_features, out_features, num_pieces, *, weight_init=None, bias_init=None):
        super().__init__()
        self.in_features, self.out_features, self.num_pieces = in_features, out_features, num_pieces
        self.linear = Linear(in_features, out_features * num_pieces, weight_init=weight_init, bias_init=bias_init)

    def forward(self, x):
        self.ops(x)
        z = self.linear.forward(x)                                      # x W^T + b
        z = z.reshape(*z.shape[:-1], self.out_features, self.num_pieces)
        xp = array_module(z)
        winner = xp.argmax(z.real, axis=-1)[..., None]
        y = xp.take_along_axis(z, winner, axis=-1)[..., 0]              # max over k
        return self.keep(y, winner == xp.arange(self.num_pieces))  # which piece won: one True a group

    def backward(self, dy, wrt="all"):
        won = self.kept(dy, wrt)
        dz = array_module(dy).where(won, dy[..., None], dy.dtype.type(0))  # the winner gets dy
        return self.linear.backward(dz.reshape(*dy.shape[:-1], self.out_features * self.num_pieces), wrt)

    def tangent(self, z, c=None):
        won, y = self.kept_for(z, c), self.linear.tangent(z, c)
        return (y.reshape(won.shape) * won).sum(axis=-1)                # of the piece that won

    def __repr__(self):
        return f"Maxout({self.in_features}, {self.out_features}, {self.num_pieces})"
