"""Layers inside layers."""


TWICE = "to apply one twice, make layer.twin(grad=layer.grad) in each forward pass, and keep it for backward"


class Children:
    """The part of `Layer` that holds other layers: `layers`, name -> child, in forward order.

    A layer that is assigned as an attribute becomes a child of that name, and is found under it again.
    """

    def __init__(self):
        self.layers = {}
        self._owned = False  # another layer holds the flat vector
        self._tree = None    # what `named_layers` found below a prefix

    def __setattr__(self, name, value):
        own = vars(self).get("layers", {})
        if isinstance(value, Children):
            if "layers" not in vars(self):
                raise TypeError(f"{type(self).__name__}: call super().__init__() before you assign layer {name!r}")
            if hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__}: {name!r} is a name of Layer's own: call the layer otherwise")
            self.add_layer(name, value)
            vars(self).pop(name, None)
        elif "layers" in vars(self) and (name == "layers" or _holds_layer(value)):
            raise TypeError(f"{type(self).__name__}: layers in a list or dict, as in {name!r}, are not part of the "
                            "network: put them into a Sequential, or call self.add_layer(name, layer) for each")
        else:
            if name in own:
                delattr(self, name)
            super().__setattr__(name, value)

    def __delattr__(self, name):
        if name not in vars(self).get("layers", ()):
            super().__delattr__(name)
            return
        if self._owned:
            raise ValueError(f"{type(self).__name__}: take {name!r} out before a network takes this layer in")
        self.layers.pop(name)._owned = False
        self._tree = None
        self._pack()

    def __getattr__(self, name):
        layers = vars(self).get("layers", ())
        if name in layers:
            return layers[name]
        if "_owned" not in vars(self) and not name.startswith("__"):
            raise AttributeError(f"{type(self).__name__}: call super().__init__() first, before anything of a layer is "
                                 "used")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def add_layer(self, name, layer):
        """Take a child in: its parameters move into this layer's flat vector, under the key `name.`"""
        self.add_layers({name: layer})

    def add_layers(self, layers):
        """`add_layer` for each name and layer of a dict."""
        new = {}
        for name, layer in layers.items():
            if not isinstance(layer, Children):
                raise TypeError(f"{type(self).__name__}: {name!r} must be a Layer, not {type(layer).__name__}")
            if self._owned:
                raise ValueError(f"{type(self).__name__}: add layer {name!r} before a network takes this one in")
            if layer._owned or any(layer is other for other in new.values()):
                raise ValueError(f"{type(self).__name__}: layer {name!r} ({layer!r}) already belongs to a network; "
                                 f"give every network layers of its own; {TWICE}")
            if layer.is_twin:
                raise ValueError(f"{type(self).__name__}: layer {name!r} ({layer!r}) is a twin, whose weights are "
                                 f"another's, and a network would copy them; {TWICE}")
            new[name] = layer
        before = self.layers
        vars(self)["layers"] = {**before, **new}
        self._tree = None
        try:
            self._pack()
        except TypeError:  # as their dtypes or devices differ
            vars(self)["layers"], self._tree = before, None
            raise
        for layer in before.values():
            layer._owned = layer in self.layers.values()
        for layer in new.values():
            layer._owned = True
        for prefix, layer in self.named_layers():  # copies of one layer draw apart
            layer._draw[1] = f"{self._number}.{prefix}"

    def named_layers(self, prefix=""):
        """(prefix, layer) of this layer and all below it, in the order of `theta`; prefixes end in a dot."""
        if self._tree is None or self._tree[0] != prefix:
            below = [pair for name, child in self.layers.items() for pair in child.named_layers(f"{prefix}{name}.")]
            vars(self)["_tree"] = prefix, below  # not this layer: in a cycle its arrays would wait for the collector
        return [(prefix, self), *self._tree[1]]


def _holds_layer(value):
    """Whether there is a layer in a list, tuple, set or dict, at any depth."""
    if isinstance(value, list | tuple | set):
        return any(isinstance(item, Children) or _holds_layer(item) for item in value)
    return isinstance(value, dict) and _holds_layer(list(value.values()))
