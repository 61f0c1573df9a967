"""Layers made of layers."""

from scratchgan.layers.base import WRT, Layer


class Sequential(Layer):
    """y = f_n(... f_2(f_1(x))): the layers one after the other; backward goes through them in reverse.

    State-dict keys are `0.weight`, `0.bias`, `2.weight`, ... as in PyTorch.
    """

    chain = True

    def __init__(self, *layers):
        super().__init__()
        self.add_layers({str(index): layer for index, layer in enumerate(layers)})

    def forward(self, x):
        if not self.layers:
            return self.own(x)
        for layer in self.layers.values():
            x = layer.forward(x)
        return x

    def backward(self, dy, wrt="all"):
        if wrt not in WRT:
            raise ValueError(f'Sequential: wrt must be "all", "input" or "params", not {wrt!r}')
        if not self.layers:
            return None if wrt == "params" else self.own(dy)
        if wrt == "input":
            for layer in reversed(self.layers.values()):
                dy = layer.backward(dy, "input")
            return dy
        # Below the first layer with parameters nothing needs a gradient unless dx is asked for.
        layers, stop = list(self.layers.values()), 0
        while wrt == "params" and stop < len(layers) - 1 and not layers[stop].theta.size:
            stop += 1
        for i in range(len(layers) - 1, stop - 1, -1):
            dy = layers[i].backward(dy, "params" if wrt == "params" and i == stop else "all")
        return dy

    def __len__(self):
        return len(self.layers)

    def __getitem__(self, index):
        return list(self.layers.values())[index]

    def __iter__(self):
        return iter(self.layers.values())
