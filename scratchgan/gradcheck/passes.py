"""One forward and backward pass, and what it left behind."""

import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scratchgan import backend
from scratchgan.gradcheck.oracles import host, is_rounding
from scratchgan.layers import Layer


@dataclass
class Pass:
    """y, dy and dx as the layer gave and got them; `grads` name -> copies on the host."""

    y: object
    dy: object
    dx: object
    grads: dict

    def gradients(self):
        """Tensor name -> gradient on the host: "x" first, then the parameters."""
        return {"x": host(self.dx), **self.grads}

    @cached_property
    def scale(self):
        """The size of gradients in this pass: the largest norm of any, dy included."""
        return max(float(np.linalg.norm(host(value))) for value in (self.dy, *self.gradients().values()))

    def floor(self, tensor):
        """What errors of this gradient are divided by at least: `scale` if it is zero up to rounding, else 0."""
        scale = self.scale
        return scale if tensor != "y" and is_rounding(self.gradients()[tensor], scale) else 0.0


class Labelled(Layer):
    """A layer of a tuple (x, labels, ...) as a layer of x, its tensors under their own names: the labels stay."""

    piecewise_linear = True  # if the layer is

    def __init__(self, layer, *labels):
        super().__init__()
        self.add_layer("of", layer)
        self.labels = labels  # a tuple, which every copy shares

    def forward(self, x):
        return self.of.forward(self.given(x))

    def backward(self, dy, wrt="all"):
        dx = self.of.backward(dy, wrt)
        return None if dx is None else dx[0]

    def tangent(self, z, c=None):
        return self.of.tangent(self.given(z), c)

    def given(self, x):
        return x, *[backend.to_device(labels[:len(x)], backend.device_of(x)) for labels in self.labels]

    def named_layers(self, prefix=""):
        return [(prefix, self), *self.of.named_layers(prefix)]

    def __repr__(self):
        return repr(self.of)


def named_params(layer):
    """State-dict key -> parameter."""
    return {f"{prefix}{name}": value for prefix, sub in layer.named_layers() for name, value in sub.params.items()}


def require_tensors(layer, names):
    """`ValueError` naming the first of these that is no tensor of the layer."""
    known = ["x", *named_params(layer)]
    for name in names:
        if name not in known:
            raise ValueError(f"there is no tensor {name!r}: zero may name {', '.join(known)}")


def named_grads(layer):
    """State-dict key -> copy of the gradient on the host."""
    return {f"{prefix}{name}": host(sub.grads[name]).copy() for prefix, sub in layer.named_layers()
            for name in sub.params}


def pristine(layer, like=None):
    """A copy that has made no pass; with the buffers of `like`, which has."""
    clone = copy.deepcopy(layer)
    if like is not None:
        for (_, mine), (_, its) in zip(clone.named_layers(), like.named_layers(), strict=True):
            mine.buffers = {name: copy.copy(value) for name, value in its.buffers.items()}
    return clone


def twin_of(layer, dtype=None):
    """A twin on parameters of its own, so that nothing that a wrong layer does spreads to the other checks."""
    return copy.deepcopy(layer).twin(dtype)


def forward(layer, x, seed, protect=True):
    """y, with the masks that every pass of a check has. `protect`: of a copy of x, which the layer may not spoil."""
    layer.set_step(seed, layer._draw[2])
    return layer.forward(x.copy() if protect else x)


def one_pass(layer, x, dy, seed, wrt=None, protect=True):
    """Forward, fresh gradients, backward."""
    y = forward(layer, x, seed, protect)
    layer.zero_grad()
    dy_in = dy.copy() if protect else dy
    dx = layer.backward(dy_in) if wrt is None else layer.backward(dy_in, wrt)
    return Pass(y, dy, dx, named_grads(layer))


def same_bits(a, b):
    """Equal values, shapes and dtypes (a NaN equals a NaN)."""
    a, b = np.asarray(host(a)), np.asarray(host(b))
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=True)
