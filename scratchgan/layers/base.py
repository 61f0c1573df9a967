"""`Layer`: what every layer, container and network is.

A layer implements `forward` and `backward`. What else it has comes from three files, from the bottom up: `children`
(layers inside layers), `parameters` (one flat vector a network), `network` (move, copy, twin, save). To read the
mathematics, read the other files of this folder; to write a layer, read `Linear` and the README's example.
"""

import inspect

import numpy as np

from scratchgan import backend, kernels
from scratchgan.layers.network import Network

WRT = ("all", "input", "params")


class Layer(Network):
    """The base of layers and networks.

    params, grads, buffers, layers, training   see `Parameters`, `Network` and `Children`
    couples_samples  whether in training a sample's output depends on the others of its batch
    knows_batches    whether such a layer heeds `in_batches`

    A subclass calls `super().__init__()` first, creates parameters with `add_parameter`, and always reads them
    as `self.params[name]`: the views are rebound when a network takes the layer in or moves it. The same holds
    for children and `self.layers[name]`.
    """

    couples_samples = knows_batches = False

    def __init__(self):
        super().__init__()
        self._kept = None  # of the last forward pass: type, shape and dtype of y, and what backward needs
        self._ops = None   # its functions

    # -- what a subclass implements --------------------------------------------------------------------------

    def forward(self, x):
        """The output y, an array of its own. Ends with `return self.keep(y, ...)`: what backward needs, no more.

        What is kept is kept by reference: write into no array between the two passes, nor into `theta`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def backward(self, dy, wrt="all"):
        """From dy = dL/dy of the last forward pass: adds dL/dparams to `grads` and returns dx = dL/dx.

        `wrt` = "all", "input" (dx only: gradients stay as they are) or "params" (gradients only: returns None).
        Begins with `... = self.kept(dy, wrt)`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define backward")

    def __call__(self, x):
        return self.forward(x)

    # -- help for forward and backward -----------------------------------------------------------------------

    def ops(self, x=None):
        """The functions of a pass over x: see `scratchgan.kernels`. Without x those of the pass under way.

        With x, raises unless x is a float array on the parameters' device and of their precision.
        """
        if x is not None:
            self._check_input(x)
            vars(self)["_ops"] = kernels.of(x, self._theta, self._grad)
        return self._ops

    def keep(self, y, *values):
        """Keep what backward needs of the pass that made y; returns y."""
        # Past `__setattr__`, which would look for layers in it.
        vars(self)["_kept"] = type(y), y.shape, y.dtype, values[0] if len(values) == 1 else values
        return y

    def kept(self, dy, wrt="all"):
        """What `keep` was given, one value or a tuple. Raises unless dy is like y, and `wrt` one of the three words."""
        if self._kept is None:
            raise RuntimeError(f"{type(self).__name__}: backward needs a forward pass first")
        kind, shape, dtype, values = self._kept
        if not (type(dy) is kind and dy.dtype == dtype and dy.shape == shape and wrt in WRT):
            self._check_gradient(dy, kind, shape, dtype, wrt)
        return values

    def expect(self, fits, x, shape):
        """`ValueError` naming the layer, the shape that it takes and that of x, unless x `fits`."""
        if not fits:
            raise ValueError(f"{type(self).__name__}: expected input of shape {shape}, got {tuple(x.shape)}")

    def _check_input(self, x):
        theta = self._theta
        if type(x) is type(theta) and x.dtype == theta.dtype:
            return  # nothing to complain about, found quickly
        name = type(self).__name__
        if not backend.is_array(x):
            raise TypeError(f"{name}: expected an array, got {type(x).__name__}")
        if x.dtype not in backend.FLOATS:
            raise TypeError(f"{name}: expected a float array, got {x.dtype}")
        if self.params or self.buffers:
            if self.xp is not backend.array_module(x):
                raise TypeError(f"{name}: the parameters are on {self.device}, the input is on "
                                f"{backend.device_of(x)}; move one of them")
            mine, its = self.dtype, x.dtype
            if np.finfo(mine).dtype != np.finfo(its).dtype:
                raise TypeError(f"{name}: expected {mine} input like the parameters, got {its}; "
                                f"convert with x.astype({mine.name!r}) or layer.to(dtype={its.name!r})")

    def _check_gradient(self, dy, kind, shape, dtype, wrt):
        name = type(self).__name__
        if wrt not in WRT:
            raise ValueError(f'{name}: wrt must be "all", "input" or "params", not {wrt!r}')
        if not backend.is_array(dy):
            raise TypeError(f"{name}: expected an array for dy, got {type(dy).__name__}")
        if dy.dtype.name not in backend.DTYPES or np.finfo(dy.dtype).dtype != np.finfo(dtype).dtype:
            raise TypeError(f"{name}: dy has dtype {dy.dtype}, but the last output had {dtype}")
        if tuple(dy.shape) != tuple(shape):
            raise ValueError(f"{name}: dy has shape {tuple(dy.shape)}, but the last output had {tuple(shape)}")
        if (backend.device_of(dy) == "cpu") != issubclass(kind, np.ndarray | np.generic):
            raise TypeError(f"{name}: dy is on {backend.device_of(dy)}, but the last output was not; move one of them")
        if dy.dtype.kind == "c" and dtype.kind != "c" and self._grad.dtype.kind != "c":
            raise TypeError(f"{name}: dy is complex, but the pass was real; make the passes on a twin(dtype="
                            f"{dy.dtype.name!r})")

    # -- in words --------------------------------------------------------------------------------------------

    def __repr__(self):
        """The class with its children, or with those arguments of its construction that are not the usual ones."""
        words = [repr(layer) for layer in self.layers.values()]
        return f"{type(self).__name__}({', '.join(words or self._arguments())})"

    def _arguments(self):
        for parameter in inspect.signature(type(self).__init__).parameters.values():
            name = parameter.name
            value = vars(self).get(name, parameter.default)
            if name == "bias" and self.params:
                value = name in self.params
            if parameter.kind is parameter.VAR_POSITIONAL:
                yield from map(repr, value if value is not parameter.empty else ())
            elif value is not parameter.default:
                if parameter.default is parameter.empty:
                    yield repr(value)
                elif value != parameter.default:
                    yield f"{name}={value!r}"
