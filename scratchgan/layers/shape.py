"""Layers that only reshape. The gradient is dy in the input's shape."""

import math

from scratchgan.layers.base import Layer


def _wrapped(axis, ndim, name):
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name}: dimension {axis} is out of range for an input of {ndim} dimensions")
    return axis % ndim


class _Reshaping(Layer):
    """y = x in another shape, a view where memory allows; dx = dy in x's shape."""

    piecewise_linear = True

    def forward(self, x):
        self.ops(x)
        return self.keep(x.reshape(self.output_shape(x.shape)), x.shape)

    def backward(self, dy, wrt="all"):
        x_shape = self.kept(dy, wrt)
        return None if wrt == "params" else dy.reshape(x_shape)

    def tangent(self, z, c=None):
        self.kept_for(z, c)
        return z.reshape(self.output_shape(z.shape))


class Flatten(_Reshaping):
    """Join the dimensions start_dim .. end_dim into one: (N, C, H, W) becomes (N, C H W) by default."""

    def __init__(self, start_dim=1, end_dim=-1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def output_shape(self, shape):
        first = _wrapped(self.start_dim, len(shape), "Flatten")
        last = _wrapped(self.end_dim, len(shape), "Flatten")
        if first > last:
            raise ValueError(f"Flatten: start_dim {self.start_dim} comes after end_dim {self.end_dim} "
                             f"in an input of shape {tuple(shape)}")
        return (*shape[:first], math.prod(shape[first:last + 1]), *shape[last + 1:])


class Unflatten(_Reshaping):
    """Split dimension `dim` into `unflattened_size` (one of whose entries may be -1)."""

    def __init__(self, dim, unflattened_size):
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def output_shape(self, shape):
        name = type(self).__name__
        axis = _wrapped(self.dim, len(shape), name)
        sizes = list(self.unflattened_size)
        if sizes.count(-1) == 1 and (rest := -math.prod(sizes)) > 0:
            sizes[sizes.index(-1)] = shape[axis] // rest
        if math.prod(sizes) != shape[axis] or min(sizes, default=1) < 0:
            raise ValueError(f"{name}: dimension {self.dim} of size {shape[axis]} does not split into "
                             f"{self.unflattened_size}")
        return (*shape[:axis], *sizes, *shape[axis + 1:])


class Reshape(Unflatten):
    """Each sample in the given shape: (N, ...) becomes (N, *shape), one entry of which may be -1."""

    def __init__(self, *shape):
        super().__init__(1, shape)

    def output_shape(self, shape):
        if not shape:
            raise ValueError("Reshape: expected a batch, got an input of 0 dimensions")
        return super().output_shape((shape[0], math.prod(shape[1:])))

    def __repr__(self):
        return f"Reshape{self.unflattened_size}"
