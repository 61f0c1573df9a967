"""Layers that only reshape. The gradient is dy in the input's shape."""

import math

from scratchgan.layers.base import Layer


def _wrapped(axis, ndim, name):
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name}: dimension {axis} is out of range for an input of {ndim} dimensions")
    return axis % ndim


class _Reshaping(Layer):
    """y = x in another shape; dx = dy in x's shape."""

    def forward(self, x):
        self.check_input(x)
        y = x.reshape(self.output_shape(x.shape))
        self.cache = x.shape, y.shape, x.dtype
        return self.own(y)

    def backward(self, dy, wrt="all"):
        x_shape, y_shape, dtype = self.kept()
        self.check_gradient(dy, y_shape, dtype, wrt)
        return None if wrt == "params" else self.own(dy.reshape(x_shape))


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

    def __repr__(self):
        return f"Flatten({self.start_dim}, {self.end_dim})"


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

    def __repr__(self):
        return f"Unflatten({self.dim}, {self.unflattened_size})"


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
