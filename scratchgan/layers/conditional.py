"""What a network does with labels: a conditional network takes a tuple (x, labels)."""

import numpy as np

from scratchgan import backend, initializers
from scratchgan.backend import array_module, empty_along, memory_order
from scratchgan.layers.base import Layer
from scratchgan.layers.shape import Flatten


class Embedding(Layer):
    """y[n] = E[labels[n]]: a row of E for each label, learned.

    labels (...), whole numbers from 0 to num_embeddings - 1; E (num_embeddings, embedding_dim); y (..., embedding_dim).
    In words of `Linear`, y = H E with one-hot rows, H[n, k] = 1 if labels[n] = k else 0, so that

        dE[k] = sum over n with labels[n] = k of dy[n]        dE = H^T dy

    computed as that product: it has the same bits each time, which additions to the rows of a GPU's memory have not.
    Labels get no gradient: `backward` returns None. E starts from N(0, 1), as in PyTorch, unless an initializer is
    given. `ValueError` for a label out of range, on the host; a GPU would have to be waited for.
    """

    piecewise_linear = True

    def __init__(self, num_embeddings, embedding_dim, *, weight_init=None):
        super().__init__()
        for what, size in (("num_embeddings", num_embeddings), ("embedding_dim", embedding_dim)):
            if not hasattr(size, "__index__") or size < 1:
                raise ValueError(f"Embedding: {what} must be a whole number, 1 or more, not {size!r}")
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.add_parameter("weight", ((num_embeddings, embedding_dim), weight_init or initializers.normal(1.0)))

    def forward(self, labels):
        self.ops(labels)
        return self.keep(self.params["weight"].take(labels, axis=0), labels)

    def backward(self, dy, wrt="all"):
        self.kept(dy, wrt)
        if wrt in ("all", "params"):
            self.accumulate_rows(dy)                                            # dE = H^T dy

    def tangent(self, z, c=None):
        """c_n E[labels[n]], H being as constant as the 1 of a bias: whatever z is. Adds c_n dy_n to dE."""
        dy, labels = self.cotangent(), self._kept[3]
        if c is None:
            return array_module(dy).zeros(dy.shape, dy.dtype)
        c = c.reshape(-1, *[1] * (dy.ndim - 1))
        self.accumulate_rows(c * dy)                                            # dE = H^T (c dy)
        return c * self.params["weight"].take(labels, axis=0)

    def accumulate_rows(self, dy):
        xp, labels = array_module(dy), self._kept[3]
        one_hot = (labels.reshape(-1) == xp.arange(self.num_embeddings)[:, None]).astype(dy.real.dtype)     # H^T
        self.accumulate_product("weight", one_hot, dy.reshape(-1, self.embedding_dim))

    def _check_input(self, labels):
        if not backend.is_array(labels) or labels.dtype.kind not in "iu":
            got = labels.dtype if backend.is_array(labels) else type(labels).__name__
            raise TypeError(f"Embedding: expected an array of whole numbers, got {got}")
        if self.xp is not array_module(labels):
            raise TypeError(f"Embedding: the parameters are on {self.device}, the labels are on "
                            f"{backend.device_of(labels)}; move one of them")
        if self.device == "cpu" and labels.size and not 0 <= labels.min() <= labels.max() < self.num_embeddings:
            raise ValueError(f"Embedding: labels must be from 0 to {self.num_embeddings - 1}, got {labels.min()} to "
                             f"{labels.max()}")


class Concat(Layer):
    """y = [f_0(x_0), f_1(x_1), ...] along axis 1, of a tuple x: each part through the layer of its place.

    dx = (f_0's dx of its columns of dy, ...): a tuple again, None in it for labels. A layer given as None stands for
    `Flatten()`, so that Concat(None, Embedding(10, 10)) makes (N, features + 10) of images or vectors and their labels;
    Sequential() leaves a part as it is, and Concat(Sequential(), Sequential(Embedding(10, 784), Reshape(1, 28, 28)))
    adds a map to images (N, C, 28, 28). State-dict keys are `1.weight`, ..., by the place of the layer.
    """

    piecewise_linear = True

    def __init__(self, *layers):
        super().__init__()
        self.add_layers({str(index): Flatten() if layer is None else layer for index, layer in enumerate(layers)})

    def forward(self, x):
        if not isinstance(x, tuple) or len(x) != len(self.layers):
            got = f"{len(x)} parts" if isinstance(x, tuple) else type(x).__name__
            raise TypeError(f"Concat: expected a tuple of {len(self.layers)} parts, such as (x, labels), got {got}")
        parts = [layer.forward(part) for layer, part in zip(self.layers.values(), x)]
        if len({(part.shape[:1], part.shape[2:], part.ndim > 1) for part in parts}) > 1 or parts[0].ndim < 2:
            raise ValueError(f"Concat: parts of shapes {', '.join(str(tuple(part.shape)) for part in parts)} cannot be "
                             "joined along axis 1")
        return self.keep(joined(parts), [part.shape[1] for part in parts])

    def backward(self, dy, wrt="all"):
        sizes, start, dx = self.kept(dy, wrt), 0, []
        for layer, size in zip(self.layers.values(), sizes):
            dx.append(layer.backward(dy[:, start:start + size], wrt))
            start += size
        return None if wrt == "params" else tuple(dx)

    def tangent(self, z, c=None):
        return joined([layer.tangent(part, c) for layer, part in zip(self.layers.values(), z)])


def joined(parts):
    """The parts side by side along axis 1, in the memory order of the first."""
    first, xp = parts[0], array_module(parts[0])
    shape = len(first), sum(part.shape[1] for part in parts), *first.shape[2:]
    y = empty_along(shape, np.result_type(*[part.dtype for part in parts]), memory_order(first), xp)
    return xp.concatenate(parts, axis=1, out=y)
