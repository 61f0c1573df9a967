"""Layers made of layers."""

from scratchgan.layers import fused
from scratchgan.layers.base import WRT, Layer


class Sequential(Layer):
    """y = f_n(... f_2(f_1(x))): the layers one after the other; backward goes through them in reverse.

    It is piecewise linear if its layers are. State-dict keys are `0.weight`, `0.bias`, `2.weight`, ... as in PyTorch.
    """

    keeps_rows = piecewise_linear = True

    def __init__(self, *layers):
        super().__init__()
        self.add_layers({str(index): layer for index, layer in enumerate(layers)})

    def forward(self, x):
        if self.device == "cuda":
            return fused.forward(self.layers.values(), x)
        for layer in self.layers.values():
            x = layer.forward(x)
        return x

    def backward(self, dy, wrt="all"):
        if wrt not in WRT:
            raise ValueError(f'{type(self).__name__}: wrt must be "all", "input", "params" or "tangent", not {wrt!r}')
        layers, last = list(self.layers.values()), 0
        while wrt == "params" and last < len(layers) - 1 and not layers[last].theta.size:
            last += 1  # below the first layer with parameters nothing needs a gradient
        if self.device == "cuda":
            dy = fused.backward(layers[last:], dy, wrt)
        else:
            for layer in reversed(layers[last:]):
                dy = layer.backward(dy, "all" if wrt == "params" and layer is not layers[last] else wrt)
        return None if wrt == "params" else dy

    def tangent(self, z, c=None):
        for layer in self.layers.values():
            z = layer.tangent(z, c)
        return z

    def append(self, layer):
        """Take one more layer in, at the end. Returns self."""
        self.add_layer(str(len(self.layers)), layer)
        return self

    def __len__(self):
        return len(self.layers)

    def __getitem__(self, index):
        """A layer; of a slice, a `Sequential` of the very same layers, which go on belonging to this network.

        Once this network is moved, converted or grows, take the slice again.
        """
        layers = list(self.layers.values())
        if not isinstance(index, slice):
            return layers[index]
        start, stop, step = index.indices(len(layers))
        if step != 1:
            raise ValueError(f"{type(self).__name__}: a slice must take neighbours, not each {step}th layer")
        before = sum(layer.theta.size for layer in layers[:start])
        here = slice(before, before + sum(layer.theta.size for layer in layers[start:stop]))
        part = EMPTY._shell()  # a step may slice: a copy is made sooner than a new network
        vars(part).update(_theta=self._theta[here], _grad=self._grad[here], _owned=True,
                          layers={str(i): layer for i, layer in enumerate(layers[start:stop])})
        return part

    def __iter__(self):
        return iter(self.layers.values())


EMPTY = Sequential()  # of which slices are copies
