"""Layers that act in training only."""

from scratchgan import random
from scratchgan.backend import array_module, device_of, empty_like
from scratchgan.layers.base import Layer


class Dropout(Layer):
    """In training y = x m, with m = 1/(1 - p) with probability 1 - p, else 0, so that E[y] = x; else y = x.

    dx = dy m. The mask is a function of (seed, the layer's key, step, pass): `set_step` says the first three, and
    every training pass after it takes the next mask (Srivastava et al. 2014; "inverted", as in PyTorch).
    """

    keeps_rows = piecewise_linear = True

    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p must be a probability from 0 to 1, not {p}")
        self.p = p

    def forward(self, x):
        self.ops(x)
        mask = self.next_mask(x) if self.training else 1
        return self.keep(x * mask, mask)

    def backward(self, dy, wrt="all"):
        mask = self.kept(dy, wrt)
        return None if wrt == "params" else dy * mask

    def tangent(self, z, c=None):
        return z * self.kept_for(z, c)

    def next_mask(self, x):
        (seed, key, step, count), dtype = self._draw, x.real.dtype
        self._draw[3] += 1
        shape = x.shape if x.ndim else (1,)
        kept = random.at_least(self.p, shape, seed, f"dropout/{key}/{count}", step, device=device_of(x))
        mask = empty_like(x.real)  # in the memory order of x, so that y and dx have it too
        scale = dtype.type(1 / (1 - self.p) if self.p < 1 else 0)
        return array_module(x).multiply(kept.reshape(x.shape), scale, out=mask)
