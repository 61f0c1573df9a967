"""The convolution of kernel 4, stride 2, padding 1 by Winograd's algorithm F(2x2, 2x2): 9 products for 16.

In one dimension. Pair the pixels, X[J] = (x[2J - 1], x[2J]), and the kernel's entries, w0 = (w[0], w[1]) and
w1 = (w[2], w[3]); then y[i] = X[i] w0 + X[i+1] w1 has stride 1. Two outputs together, from X0, X1, X2 = X[2t], X[2t+1],
X[2t+2], need three products instead of four (Winograd 1980; Lavin and Gray 2016):

    d = (X0 - X1, X1, X1 - X2)      u = (w0, w0 + w1, w1)      m = d u      y[2t] = m0 + m1      y[2t+1] = m1 - m2

The two gradients follow, with e = (dy0, dy0 + dy1, dy1), which is dm but for the sign of its last entry:

    g = e u:  dX0 += g0, dX1 += g1 - g0 - g2, dX2 += g2        v = d e:  dw0 = v0 + v1, dw1 = v1 - v2

In two dimensions this happens to rows (index k), then to columns (index l), and a product is a matrix product over
samples and tiles: (tiles, 4 C) times (4 C, O), the 4 for the 2x2 pixels (r, q) of a pair of pairs. Arrays are
(N, H, W, C) here. Of d, e, g and m only one k is held at a time, for some samples and rows of tiles: a fraction of x,
which stays in a core's cache. Of u and v all is held, 9/4 of w, in one memory for all convolutions.
"""

import threading
import weakref

import numpy as np

from scratchgan.kernels.numpy import parallel
from scratchgan.kernels.numpy.convolution.layout import (
    CHANNELS_LAST,
    WEIGHT,
    channels_last,
    empty_images,
    memory_of_weight,
)
from scratchgan.kernels.numpy.gemm import dot

TILES = 512  # rows of a matrix product: fewer are slower, more leave the cache


class _Lent(threading.local):
    to = None  # the convolution (a weak reference) whose u the memory for it still holds


_lent = _Lent()


class Winograd:
    """See `scratchgan.layers.convolution.Taps`, whose results these equal but for rounding.

    A row of tiles t makes the rows 2t and 2t + 1 of y from the rows 4t - 1 to 4t + 4 of x.
    """

    @staticmethod
    def fits(geometry, x_shape, y_shape):
        return (geometry.kernel == (4, 4) and geometry.stride == (2, 2) and geometry.padding == ((1, 1), (1, 1))
                and geometry.dilation == (1, 1) and geometry.groups == 1 and x_shape[1] >= 8)

    def __init__(self, geometry, weight, x_shape, y_shape):
        self.weight, self.x_shape, self.y_shape = weight.transpose(WEIGHT), x_shape, y_shape
        self.n, self.c, self.h, self.w = x_shape
        self.o, self.oh, self.ow = y_shape[1:]
        self.th, self.tw = -(-self.oh // 2), -(-self.ow // 2)  # tiles in a column, in a row
        # Of an odd number of outputs the last tile has but one: it needs no product of index 2.
        self.tiles = (self.tw, self.tw, self.ow // 2)

    def blocks(self, samples, size):
        """(samples, first row of tiles, how many): pieces of about `size` tiles."""
        limit = max(1, size // self.tw)
        for part in parallel.split(samples, -(-(samples.stop - samples.start) // limit)):
            rows = max(1, limit // (part.stop - part.start))
            for t in range(0, self.th, rows):
                yield part, t, min(rows, self.th - t)

    def rows_of_tiles(self, t, count, k):
        """How many of `count` rows of tiles from t on have a product of index k."""
        return count if k < 2 else min(count, self.oh // 2 - t)

    # -- y from x ----------------------------------------------------------------------------------------------

    def forward(self, x):
        y = empty_images(self.y_shape, x.dtype)
        X, Y = channels_last(x), y.transpose(CHANNELS_LAST)
        u = self.transformed()
        parallel.run([lambda block=block: self._forward(X, Y, u, *block)
                      for half in parallel.split(slice(0, self.n), parallel.workers())
                      for block in self.blocks(half, TILES)])
        return y

    @parallel.long_runs()
    def _forward(self, X, Y, u, samples, t, most):
        X, Y, n = X[samples], Y[samples, 2 * t:2 * (t + most)], samples.stop - samples.start
        for k in range(3):
            count = self.rows_of_tiles(t, most, k)
            even0, even1, odd0, odd1, (p, m0), d0, d1, d2, m1, m2 = parallel.scratch(
                X.dtype, *self.tiled(n, most, self.o)[1:], *self.tiled(n, most, self.o)[1:],
                [self.pixel_shape(n, count, 2), self.tiled(n, count, self.o)[0]],
                *self.tiled(n, count, 2, 2 * self.c), *self.tiled(n, count, self.o)[1:])
            even, odd = [even0, even1], [odd0, odd1]  # rows of y, each by the column in its tile
            self.pixel_rows(X, t, k, p)
            self.pixel_columns(p, [d0, d1, d2])
            for l, (d, m) in enumerate(((d0, m0), (d1, m1), (d2, m2))):
                dot(d.reshape(-1, 4 * self.c), u[k, l].reshape(-1, self.o), m.reshape(-1, self.o))
            rows = (even, odd, (m0, m2))[k]
            np.add(m0, m1, out=rows[0])
            np.subtract(m1[:len(m2)], m2, out=rows[1])
            for b in range(2):
                if k == 1:
                    even[b] += odd[b]
                    Y[:, 0::2, b::2] = even[b].transpose(1, 2, 0, 3)
                elif k == 2:
                    odd[b][:, :, :count] -= rows[b]
                    Y[:, 1::2, b::2] = odd[b][:, :, :count].transpose(1, 2, 0, 3)

    def tiled(self, n, count, *features):
        """Shapes by l of what has a row of features for each tile: (tiles in a row, n, rows of tiles, features)."""
        return [(tiles, n, count, *features) for tiles in self.tiles]

    def pixel_shape(self, samples, count, parities):
        return parities, samples, count, 4 * self.tw + 2, self.c

    def pixel_rows(self, X, t, k, p, first=0):
        """p[r, :, i] = d_k of the rows of x in tile t + i, for the pixels r of a pair; its columns start at -1."""
        p[:, :, :, 0] = 0
        p[:, :, :, self.w + 1:] = 0
        inside = p[:, :, :, 1:self.w + 1]
        for r in range(len(p)):
            for i in range(p.shape[2]):
                x0, x1, x2 = (self.row(X, 4 * (t + i) + offset + r + first) for offset in (-1, 1, 3))
                difference(*((x0, x1), (x1, None), (x1, x2))[k], out=inside[r, :, i])

    def row(self, X, i):
        return X[:, i] if 0 <= i < self.h else None

    def pixel_columns(self, p, d):
        """d[l] = d_l of the columns of p, whose pairs of pixels lie side by side."""
        pairs = p.reshape(*p.shape[:3], 2 * self.tw + 1, 2 * self.c).transpose(3, 1, 2, 0, 4)
        d[0][...], d[1][...], d[2][...] = pairs[0:-1:2], pairs[1::2], pairs[2:2 * len(d[2]) + 1:2]
        d[0] -= d[1]
        np.subtract(d[1][:len(d[2])], d[2], out=d[2])

    # -- x from y ----------------------------------------------------------------------------------------------

    def input_gradient(self, dy):
        dx = empty_images(self.x_shape, dy.dtype)
        X, Y = dx.transpose(CHANNELS_LAST), channels_last(dy)
        u = self.transformed()
        # The rows of x of the two parities are apart: with a core for each, a product has all samples.
        cores = parallel.workers()
        parallel.run([lambda share=share, r=r: self._input_gradient(X, Y, u[:, :, r], share, range(2)[r])
                      for share in parallel.split(slice(0, self.n), -(-cores // 2))
                      for r in parallel.split(slice(0, 2), cores)])
        return dx

    @parallel.long_runs()
    def _input_gradient(self, X, Y, u, samples, parities):
        for part, t, count in self.blocks(samples, TILES):
            self._input_gradient_block(X[part], Y[part], u, parities, t, count)

    def _input_gradient_block(self, X, Y, u, parities, t, count):
        n, last = len(X), count - 1
        for k in (1, 0, 2):  # in this order every row of x is assigned before it is added to
            count = self.rows_of_tiles(t, last + 1, k)
            (f, p), *eg = parallel.scratch(
                X.dtype, [(n, count, self.ow, self.o), self.pixel_shape(n, count, len(parities))],
                *self.tiled(n, count, self.o), *self.tiled(n, count, len(parities), 2 * self.c))
            e, g = eg[:3], eg[3:]
            self.output_rows(Y, t, k, f)
            output_columns(f, e)
            for l in range(3):
                factor = u[k, l].reshape(-1, self.o)
                dot(e[l].reshape(-1, self.o), factor.T, g[l].reshape(-1, len(factor)))
            self.join_columns(g, p)
            for pixels, r in zip(p, parities):
                for i in range(count):
                    dx = pixels[:, i, 1:self.w + 1]
                    put((subtract, assign, subtract)[k], self.row(X, 4 * (t + i) + 1 + r), dx)
                    if k == 0:
                        put(assign if i or not t else add_to, self.row(X, 4 * (t + i) - 1 + r), dx)
                    elif k == 2:
                        put(assign if i == last else add_to, self.row(X, 4 * (t + i) + 3 + r), dx)

    def output_rows(self, Y, t, k, f):
        """f[:, i] = e_k of the rows of dy in tile t + i."""
        for i in range(f.shape[1]):
            y = Y[:, 2 * (t + i):2 * (t + i) + 2]
            if k == 1 and y.shape[1] == 2:
                np.add(y[:, 0], y[:, 1], out=f[:, i])
            else:
                f[:, i] = y[:, k // 2]

    def join_columns(self, g, p):
        """Columns of p from g: dX0 += g0, dX1 += g1 - g0 - g2, dX2 += g2. Overwrites g."""
        pairs = p.reshape(*p.shape[:3], 2 * self.tw + 1, 2 * self.c).transpose(3, 1, 2, 0, 4)
        g[1] -= g[0]
        g[1][:len(g[2])] -= g[2]
        g[0][1:] += g[2][:self.tw - 1]
        pairs[0:-1:2], pairs[1::2] = g[0], g[1]
        if len(g[2]) == self.tw:  # else these pixels lie outside
            pairs[-1] = g[2][-1]

    # -- w from x and y ----------------------------------------------------------------------------------------

    def weight_gradient(self, x, dy, out=None):
        X, Y = channels_last(x), channels_last(dy)
        v = self.take_memory()
        parallel.run([lambda k=k, r=r: self._weight_gradient(X, Y, k, r, v[k, :, r])
                      for k in range(3) for r in range(2)])
        dw = memory_of_weight(out, (self.o, self.c, 4, 4), x.dtype)
        w = dw.transpose(WEIGHT)
        parallel.run([lambda a=a, r=r: self._weight_from(v[:, :, r], w, a, r) for a in range(2) for r in range(2)])
        return dw

    @parallel.long_runs()
    def _weight_gradient(self, X, Y, k, r, v):
        """v of this k and r, summed over all tiles block by block."""
        v, first = v.reshape(3, 2 * self.c, self.o), True
        for samples, t, count in self.blocks(slice(0, self.n), TILES):
            n, count = samples.stop - samples.start, self.rows_of_tiles(t, count, k)
            (p, f, product), *de = parallel.scratch(
                X.dtype, [self.pixel_shape(n, count, 1), (n, count, self.ow, self.o), (2 * self.c, self.o)],
                *self.tiled(n, count, 1, 2 * self.c), *self.tiled(n, count, self.o))
            d, e = de[:3], de[3:]
            self.pixel_rows(X[samples], t, k, p, first=r)
            self.pixel_columns(p, d)
            self.output_rows(Y[samples], t, k, f)
            output_columns(f, e)
            for l in range(3):
                out = v[l] if first else product
                dot(d[l].reshape(-1, 2 * self.c).T, e[l].reshape(-1, self.o), out)
                if not first:
                    v[l] += product
            first = False

    @staticmethod
    def _weight_from(v, w, a, r):
        """w[2a + r] = v_0 + v_1 or v_1 - v_2 in both directions."""
        v0, v1, v2 = parallel.scratch(v.dtype, *[v.shape[2:]] * 3)
        for l, row in enumerate((v0, v1, v2)):
            (np.subtract if a else np.add)(v[a, l], v[a + 1, l], out=row)
        np.add(v0, v1, out=w[r + 2 * a, 0:2])
        np.subtract(v1, v2, out=w[r + 2 * a, 2:4])

    # -- u from w ----------------------------------------------------------------------------------------------

    def transformed(self):
        """u, made unless it is still there from the pass before."""
        there = _lent.to is not None and _lent.to() is self
        u = self.take_memory()
        if not there:
            parallel.run([lambda k=k, r=r: self._transform(k, r, u[k, :, r]) for k in range(3) for r in range(2)])
        _lent.to = weakref.ref(self)
        return u

    def take_memory(self):
        """Memory for u or v, by k, l, r, q. It is 9/4 of w, so that all convolutions take turns with one."""
        _lent.to = None
        return parallel.scratch(self.weight.dtype, (3, 3, 2, 2, self.c, self.o), arena="weights")[0]

    def _transform(self, k, r, u):
        first, second = self.weight[r], self.weight[2 + r]
        for l, columns in ((0, slice(0, 2)), (2, slice(2, 4))):
            if k == 1:
                np.add(first[columns], second[columns], out=u[l])
            else:
                u[l] = (second if k else first)[columns]
        np.add(u[0], u[2], out=u[1])


def output_columns(f, e):
    """e[l] = e_l of the columns of f."""
    f = f.transpose(2, 0, 1, 3)
    e[0][...], e[2][...] = f[0::2], f[1::2]
    np.add(e[0][:len(e[2])], e[2], out=e[1][:len(e[2])])
    e[1][len(e[2]):] = e[0][len(e[2]):]


def difference(a, b, out):
    """out = a - b, where None is zero."""
    if a is None and b is None:
        out.fill(0)
    elif b is None:
        out[...] = a
    elif a is None:
        np.negative(b, out=out)
    else:
        np.subtract(a, b, out=out)


def assign(out, a):
    out[...] = a


def add_to(out, a):
    out += a


def subtract(out, a):
    out -= a


def put(operation, out, a):
    """Apply the operation, unless the row `out` lies outside."""
    if out is not None:
        operation(out, a)
