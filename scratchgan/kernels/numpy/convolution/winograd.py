"""The convolution of kernel 4, stride 2, padding 1 by Winograd's algorithm F(2x2, 2x2): 9 products for 16.

In one dimension. Pair the pixels, X[J] = (x[2J - 1], x[2J]), and the kernel's entries, w0 = (w[0], w[1]) and
w1 = (w[2], w[3]); then y[i] = X[i] w0 + X[i+1] w1 has stride 1. Two outputs together, from X0, X1, X2 = X[2t], X[2t+1],
X[2t+2], need three products instead of four (Winograd 1980; Lavin and Gray 2016):

    d = (X0 - X1, X1, X1 - X2)      u = (w0, w0 + w1, w1)      m = d u      y[2t] = m0 + m1      y[2t+1] = m1 - m2

The two gradients follow, with e = (dy0, dy0 + dy1, dy1), which is dm but for the sign of its last entry:

    g = e u:  dX0 += g0, dX1 += g1 - g0 - g2, dX2 += g2        v = d e:  dw0 = v0 + v1, dw1 = v1 - v2

In two dimensions this happens to rows (index k), then to columns (index l), and a product is a matrix product over
samples and tiles: (tiles, 4 C) times (4 C, O), the 4 for the 2x2 pixels (r, q) of a pair of pairs. Arrays are
(N, H, W, C) here. A pass is a task for each core or so; they share nothing. Each makes what it needs of u or v itself,
of one k at a time: at most 3/4 of w. d, e, g and m are held for some samples and rows of tiles: a fraction of x, which
stays in a core's cache. The k come in the order 1, 0, 2: what two of them share is assigned before it is added to.
"""

from functools import partial

import numpy as np

from scratchgan.kernels.numpy import parallel
from scratchgan.kernels.numpy.convolution.columns import Columns
from scratchgan.kernels.numpy.convolution.layout import (
    CHANNELS_LAST,
    WEIGHT,
    channels_last,
    empty_images,
    memory_of_weight,
)
from scratchgan.kernels.numpy.gemm import dot

TILES = 512        # rows of a matrix product: fewer are slower, more leave the cache
NUMBERS = 1 << 15  # tiles times channels of x: fewer channels take more tiles, so that calls are few
NARROW = 48        # channels of x, below which im2col makes y and dw faster


class Winograd:
    """See `scratchgan.layers.convolution.Taps`, whose results these equal but for rounding.

    With few channels only dx is made so, y and dw as `Columns` makes them. A row of tiles t makes the rows 2t and
    2t + 1 of y from the rows 4t - 1 to 4t + 4 of x.
    """

    @staticmethod
    def fits(geometry, x_shape, y_shape):
        return (geometry.kernel == (4, 4) and geometry.stride == (2, 2) and geometry.padding == ((1, 1), (1, 1))
                and geometry.dilation == (1, 1) and geometry.groups == 1 and x_shape[1] >= 8)

    def __init__(self, geometry, weight, x_shape, y_shape):
        self.weight, self.x_shape, self.y_shape = weight.transpose(WEIGHT), x_shape, y_shape
        self.n, self.c, _, self.w = x_shape
        self.narrow = Columns(geometry, weight, x_shape, y_shape) if self.c < NARROW else None
        self.o, self.oh, self.ow = y_shape[1:]
        self.th, self.tw = -(-self.oh // 2), -(-self.ow // 2)  # tiles in a column, in a row
        # Of an odd number of outputs the last tile has but one: it needs no product of index 2.
        self.tiles = (self.tw, self.tw, self.ow // 2)

    def blocks(self, n, k):
        """(samples, first row of tiles, how many that have a product of index k): pieces made at once."""
        limit = max(1, max(TILES, NUMBERS // self.c) // self.tw)
        for samples in parallel.split(slice(0, n), -(-n // limit)):
            rows = max(1, limit // (samples.stop - samples.start))
            for t in range(0, self.th, rows):
                yield samples, t, min(rows, (self.th if k < 2 else self.oh // 2) - t)

    # -- y from x ----------------------------------------------------------------------------------------------

    def forward(self, x):
        if self.narrow:
            return self.narrow.forward(x)
        y = empty_images(self.y_shape, x.dtype)
        X, Y, cores = channels_last(x), y.transpose(CHANNELS_LAST), parallel.workers()
        wide = self.weight.size >= 4 * x.size  # then to make d on every core costs less than to make all of u there
        shares = parallel.split(slice(0, self.n), 1 if wide else cores)
        parallel.run([partial(self._forward, X[samples], Y[samples, ..., features], self.weight[..., features])
                      for samples in shares
                      for features in parallel.split(slice(0, self.o), -(-cores // len(shares)))])
        return y

    @parallel.long_runs()
    def _forward(self, X, Y, w):
        for k in INTO:
            u = transformed(w, k)
            for samples, t, count in self.blocks(len(X), k):
                self._forward_block(X[samples], Y[samples, 2 * t:2 * (t + count)], u, k, t, count)

    def _forward_block(self, X, Y, u, k, t, count):
        n, o = len(X), Y.shape[-1]
        (p, m0), d0, d1, d2, m1, m2 = parallel.scratch(
            X.dtype, (self.pixel_shape(X, count, 2), self.tiled(n, count, o)[0]),
            *self.tiled(n, count, 2, 2 * self.c), *self.tiled(n, count, o)[1:])
        self.pixel_rows(X, t, k, p)
        self.pixel_columns(p, [d0, d1, d2])
        for d, factor, m in zip((d0, d1, d2), u, (m0, m1, m2)):
            dot(d.reshape(-1, 4 * self.c), factor.reshape(-1, o), m.reshape(-1, o))
        m0 += m1
        m1[:len(m2)] -= m2
        for a, into in INTO[k]:
            rows = Y[:, a::2]
            for b, m in enumerate((m0, m1[:self.ow - self.tw])):  # the columns of y of either parity
                into(rows[:, :, b::2], m.transpose(1, 2, 0, 3)[:, :rows.shape[1]])

    def tiled(self, n, count, *features):
        """Shapes by l of what has a row of features for each tile: (tiles in a row, n, rows of tiles, features)."""
        return [(tiles, n, count, *features) for tiles in self.tiles]

    def pixel_shape(self, X, count, parities):
        return parities, len(X), count, 4 * self.tw + 2, X.shape[-1]

    def pixel_rows(self, X, t, k, p, first=0):
        """p[r, :, i] = d_k of the rows of x in tile t + i, for the pixels r of a pair; its columns start at -1."""
        p[:, :, :, 0] = 0
        p[:, :, :, self.w + 1:] = 0
        for r, out in enumerate(p[:, :, :, 1:self.w + 1], first):
            x1 = rows_of_tiles(X, 4 * t + 1 + r, p.shape[2])
            if k == 0:
                subtract_rows(rows_of_tiles(X, 4 * t - 1 + r, p.shape[2]), x1, out)
            elif k == 1:
                out[:, :x1.shape[1]] = x1
                out[:, x1.shape[1]:] = 0
            else:
                subtract_rows(x1, rows_of_tiles(X, 4 * t + 3 + r, p.shape[2]), out)

    def pixel_columns(self, p, d):
        """d[l] = d_l of the columns of p, whose pairs of pixels lie side by side."""
        pairs = p.reshape(*p.shape[:3], 2 * self.tw + 1, 2 * p.shape[-1]).transpose(3, 1, 2, 0, 4)
        d[0][...], d[1][...], d[2][...] = pairs[0:-1:2], pairs[1::2], pairs[2:2 * len(d[2]) + 1:2]
        d[0] -= d[1]
        np.subtract(d[1][:len(d[2])], d[2], out=d[2])

    # -- x from y ----------------------------------------------------------------------------------------------

    def input_gradient(self, dy):
        dx = empty_images(self.x_shape, dy.dtype)
        X, Y, cores = dx.transpose(CHANNELS_LAST), channels_last(dy), parallel.workers()
        # The rows of x of the two parities are apart: with a core for each, a product has all samples.
        parallel.run([partial(self._input_gradient, X[samples], Y[samples], parities)
                      for samples in parallel.split(slice(0, self.n), -(-cores // 2))
                      for parities in ([(0, 1)] if cores == 1 else [(0,), (1,)])])
        return dx

    @parallel.long_runs()
    def _input_gradient(self, X, Y, parities):
        for k in INTO:
            u = transformed(self.weight, k, parities)
            for samples, t, count in self.blocks(len(X), k):
                self._input_gradient_block(X[samples], Y[samples], u, k, parities, t, count)

    def _input_gradient_block(self, X, Y, u, k, parities, t, count):
        n = len(X)
        (f, p), *eg = parallel.scratch(
            X.dtype, ((n, count, self.ow, self.o), self.pixel_shape(X, count, len(parities))),
            *self.tiled(n, count, self.o), *self.tiled(n, count, len(parities), 2 * self.c))
        e, g = eg[:3], eg[3:]
        output_columns(self.output_rows(Y, t, k, f), e)
        for l in range(3):
            factor = u[l].reshape(-1, self.o)
            dot(e[l].reshape(-1, self.o), factor.T, g[l].reshape(-1, len(factor)))
        self.join_columns(g, p)
        for r, dx in zip(parities, p[:, :, :, 1:self.w + 1]):
            x1 = rows_of_tiles(X, 4 * t + 1 + r, count)
            (subtract, assign, subtract)[k](x1, dx[:, :x1.shape[1]])
            if k == 0:
                x0 = rows_of_tiles(X, 4 * t - 1 + r, count)
                x0[...] = dx[:, count - x0.shape[1]:]
            elif k == 2:
                x2, shared = rows_of_tiles(X, 4 * t + 3 + r, count), min(count, self.th - 1 - t)
                x2[:, :shared] += dx[:, :shared]  # the last tile shares none
                x2[:, shared:] = dx[:, shared:x2.shape[1]]

    def output_rows(self, Y, t, k, f):
        """f[:, i] = e_k of the rows of dy in tile t + i; returns f, or a view of dy where that is the same."""
        count = f.shape[1]
        y0, y1 = Y[:, 2 * t:2 * (t + count):2], Y[:, 2 * t + 1:2 * (t + count):2]
        if k == 1:
            np.add(y0[:, :y1.shape[1]], y1, out=f[:, :y1.shape[1]])
            f[:, y1.shape[1]:] = y0[:, y1.shape[1]:]
            return f
        return y1 if k else y0

    def join_columns(self, g, p):
        """Columns of p from g: dX0 += g0, dX1 += g1 - g0 - g2, dX2 += g2. Overwrites g."""
        pairs = p.reshape(*p.shape[:3], 2 * self.tw + 1, 2 * p.shape[-1]).transpose(3, 1, 2, 0, 4)
        g[1] -= g[0]
        g[1][:len(g[2])] -= g[2]
        g[0][1:] += g[2][:self.tw - 1]
        pairs[0:-1:2], pairs[1::2] = g[0], g[1]
        if len(g[2]) == self.tw:  # else these pixels lie outside
            pairs[-1] = g[2][-1]

    # -- w from x and y ----------------------------------------------------------------------------------------

    def weight_gradient(self, x, dy, out=None):
        if self.narrow:
            return self.narrow.weight_gradient(x, dy, out)
        X, Y = channels_last(x), channels_last(dy)
        dw = memory_of_weight(out, (self.o, self.c, 4, 4), x.dtype)
        w = dw.transpose(WEIGHT)
        parallel.run([partial(self._weight_gradient, X[..., channels], Y, w[r::2, :, channels], r)
                      for r in range(2) for channels in parallel.split(slice(0, self.c), -(-parallel.workers() // 2))])
        return dw

    @parallel.long_runs()
    def _weight_gradient(self, X, Y, w, r):
        """w, by a, columns, C, O, has the rows 2a + r of all."""
        (v,) = parallel.scratch(w.dtype, (3, 2, *w.shape[2:]), arena="weights")
        for k in INTO:
            first = True
            for samples, t, count in self.blocks(len(X), k):
                self._weight_gradient_block(X[samples], Y[samples], v, r, k, t, count, first)
                first = False
            v[0] += v[1]
            v[1] -= v[2]
            for a, into in INTO[k]:
                into(w[a].reshape(2, 2, *w.shape[2:]), v[:2])

    def _weight_gradient_block(self, X, Y, v, r, k, t, count, first):
        """v of this k and r, or what this block adds to it."""
        n, pixels = len(X), 2 * X.shape[-1]
        (p, f, product), *de = parallel.scratch(
            X.dtype, (self.pixel_shape(X, count, 1), (n, count, self.ow, self.o), (pixels, self.o)),
            *self.tiled(n, count, 1, pixels), *self.tiled(n, count, self.o))
        d, e = de[:3], de[3:]
        self.pixel_rows(X, t, k, p, first=r)
        self.pixel_columns(p, d)
        output_columns(self.output_rows(Y, t, k, f), e)
        for d_l, e_l, v_l in zip(d, e, v.reshape(3, pixels, self.o)):
            dot(d_l.reshape(-1, pixels).T, e_l.reshape(-1, self.o), v_l if first else product)
            if not first:
                v_l += product


# -- u from w --------------------------------------------------------------------------------------------------


def transformed(w, k, parities=(0, 1)):
    """u of this k and of the rows of these parities, by l, r, q, C, O."""
    (u,) = parallel.scratch(w.dtype, (3, len(parities), 2, *w.shape[2:]), arena="weights")
    pairs = w.reshape(2, 2, 2, 2, *w.shape[2:])[:, parities[0]:parities[-1] + 1].swapaxes(1, 2)  # by a, b, r, q, C, O
    if k == 1:
        np.add(pairs[0], pairs[1], out=u[::2])
    else:
        u[::2] = pairs[k // 2]
    np.add(u[0], u[2], out=u[1])
    return u


# -- pieces ----------------------------------------------------------------------------------------------------


def output_columns(f, e):
    """e[l] = e_l of the columns of f."""
    f = f.transpose(2, 0, 1, 3)
    e[0][...], e[2][...] = f[0::2], f[1::2]
    np.add(e[0][:len(e[2])], e[2], out=e[1][:len(e[2])])
    e[1][len(e[2]):] = e[0][len(e[2]):]


def rows_of_tiles(X, first, count):
    """Rows first, first + 4, ... of x, of so many tiles, but for those that lie outside: the first or the last."""
    return X[:, first if first >= 0 else first + 4:first + 4 * count:4]


def subtract_rows(a, b, out):
    """out = a - b, where a may lack the first row, and b the last: they are zero."""
    start, stop = out.shape[1] - a.shape[1], b.shape[1]
    np.subtract(a[:, :stop - start], b[:, start:], out=out[:, start:stop])
    if start:
        np.negative(b[:, :start], out=out[:, :start])
    if stop < out.shape[1]:
        out[:, stop:] = a[:, stop - start:]


def assign(out, a):
    out[...] = a


def add_to(out, a):
    out += a


def subtract(out, a):
    out -= a


# What is summed over l for an index k goes into rows a of a result: 0 is k0 + k1, and 1 is k1 - k2.
INTO = {1: ((0, assign), (1, assign)), 0: ((0, add_to),), 2: ((1, subtract),)}
