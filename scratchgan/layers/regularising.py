"""Layers that act in training only."""

from scratchgan import kernels, random
from scratchgan.backend import array_module, device_of, empty_like
from scratchgan.layers.base import Layer


@kernels.formula
def dropout(x, kept, scale):
    """(y, m): y = x m, m = scale where kept, else 0, both in the memory order of x."""
    mask = array_module(x).multiply(kept, scale, out=empty_like(x.real))
    return x * mask, mask


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
        ops = self.ops(x)
        return self.keep(*(ops.dropout(x, *self.drawn(x)) if self.training else (x * 1, 1)))

    def backward(self, dy, wrt="all"):
        mask = self.kept(dy, wrt)
        return None if wrt == "params" else dy * mask

    def tangent(self, z, c=None):
        return z * self.kept_for(z, c)

    def drawn(self, x):
        """(which values of x are kept in this pass, 1 / (1 - p))."""
        seed, key, step, count = self._draw
        self._draw[3] += 1
        kept = random.at_least(self.p, x.shape or (1,), seed, f"dropout/{key}/{count}", step, device=device_of(x))
        return kept.reshape(x.shape), x.real.dtype.type(1 / (1 - self.p) if self.p < 1 else 0)
