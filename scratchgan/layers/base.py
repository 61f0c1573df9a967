"""`Layer`: what every layer, container and network is.

A layer implements `forward` and `backward`. What else it has comes from three files, from the bottom up: `children`
(layers inside layers), `parameters` (one flat vector a network), `network` (move, copy, twin, save). To read the
mathematics, read the other files of this folder; to write a layer, read `Linear` and the README's example.
"""

import inspect
from contextlib import contextmanager

import numpy as np

from scratchgan import backend, kernels
from scratchgan.layers.network import Network

WRT = ("all", "input", "params", "tangent")


class Layer(Network):
    """The base of layers and networks.

    params, grads, buffers, layers, training   see `Parameters`, `Network` and `Children`
    couples_samples   whether in training a sample's output depends on the others of its batch
    knows_batches     whether such a layer heeds `in_batches`
    keeps_rows        whether what `keep` is given are arrays of one row a sample, or numbers: see `only_rows`
    piecewise_linear  whether y is linear in x, beside the bias and within the branch that x takes, such as ReLU's x > 0

    A subclass calls `super().__init__()` first, creates parameters with `add_parameter`, and always reads them
    as `self.params[name]`: the views are rebound when a network takes the layer in or moves it. The same holds
    for children and `self.layers[name]`.
    """

    couples_samples = knows_batches = keeps_rows = piecewise_linear = False

    def __init_subclass__(cls, **arguments):
        """A class that changes `forward` has no `tangent` but its own: that of its base belongs to another function.
        Nor does it keep the same."""
        super().__init_subclass__(**arguments)
        def place(name):
            return next(i for i, base in enumerate(cls.__mro__) if name in vars(base))
        if place("forward") < place("tangent"):
            cls.tangent = Layer.tangent
            cls.piecewise_linear = vars(cls).get("piecewise_linear", False)
        if place("forward") < place("keeps_rows"):
            cls.keeps_rows = False

    def __init__(self):
        super().__init__()
        self._kept = None       # of the last forward pass: type, shape and dtype of y, and what backward needs
        self._ops = None        # its functions
        self._input = None      # type, shape and dtype of its x
        self._cotangent = None  # dy of the last backward(dy, "tangent") through it

    # -- what a subclass implements --------------------------------------------------------------------------

    def forward(self, x):
        """The output y, an array of its own. Ends with `return self.keep(y, ...)`: what backward needs, no more.

        What is kept is kept by reference: write into no array between the two passes, nor into `theta`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def backward(self, dy, wrt="all"):
        """From dy = dL/dy of the last forward pass: adds dL/dparams to `grads` and returns dx = dL/dx.

        `wrt` = "all", "input" (dx only: gradients stay as they are), "params" (gradients only: returns None) or
        "tangent" (as "input", and dy is held for `tangent`): gradients are added to where `wrt in ("all", "params")`.
        Begins with `... = self.kept(dy, wrt)`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define backward")

    def tangent(self, z, c=None):
        """J z + c b: what the last forward pass, its branches held fixed, makes of z where each bias is c_n b.

        z (N, ...) like the last x, c (N,) a number a sample, or None for 0. With the dy held by the last
        backward(dy, "tangent") it adds to the gradients

            dW += sum_n dy_n z_n^T        db += sum_n c_n dy_n

        which is d<dy, W z + c b>/d(W, b). In a network that is piecewise linear z = c x gives the gradient of
        sum_n c_n <dy_n, y_n>, and c = 0 the derivative of the gradients along z: see `derivatives`. Begins with
        `... = self.kept_for(z, c)`; a layer with parameters finds its dy by `self.cotangent()`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define tangent")

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
            vars(self)["_input"] = type(x), x.shape, x.dtype
        return self._ops

    def keep(self, y, *values):
        """Keep what backward needs of the pass that made y; returns y."""
        # Past `__setattr__`, which would look for layers in it.
        vars(self)["_kept"] = type(y), y.shape, y.dtype, values[0] if len(values) == 1 else values
        vars(self)["_cotangent"] = None
        return y

    def kept(self, dy, wrt="all"):
        """What `keep` was given, one value or a tuple. Raises unless dy is like y, and `wrt` one of the words."""
        if self._kept is None:
            raise RuntimeError(f"{type(self).__name__}: backward needs a forward pass first")
        kind, shape, dtype, values = self._kept
        if not (type(dy) is kind and dy.dtype == dtype and dy.shape == shape and wrt in WRT):
            self._check_gradient(dy, kind, shape, dtype, wrt)
        if wrt == "tangent" and self.params:
            vars(self)["_cotangent"] = dy
        return values

    @contextmanager
    def only_rows(self, rows):
        """Inside, `backward` and `tangent` are those of some samples of the last pass, a slice: dy and dx are theirs
        alone.

        Of a network all of whose layers have `keeps_rows`.
        """
        layers = [layer for _, layer in self.named_layers()]
        before = [(layer._kept, layer._input, layer._cotangent) for layer in layers]

        def part(value):
            if isinstance(value, tuple):
                return tuple(map(part, value))
            return value[rows] if backend.is_array(value) else value

        def fewer(shape):
            return len(range(shape[0])[rows]), *shape[1:]
        try:
            for layer, (kept, last, dy) in zip(layers, before):
                vars(layer)["_cotangent"] = part(dy)
                if kept is not None:
                    kind, shape, dtype, values = kept
                    vars(layer)["_kept"] = kind, fewer(shape), dtype, part(values)
                if last is not None:
                    kind, shape, dtype = last
                    vars(layer)["_input"] = kind, fewer(shape), dtype
            yield self
        finally:
            for layer, (kept, last, dy) in zip(layers, before):
                vars(layer).update(_kept=kept, _input=last, _cotangent=dy)

    def kept_for(self, z, c=None):
        """What `keep` was given, for `tangent`. Raises unless z is like the last x, and c None or a number a sample."""
        name = type(self).__name__
        if self._kept is None or self._input is None:
            raise RuntimeError(f"{name}: tangent needs a forward pass first, one with self.ops(x)")
        kind, shape, dtype = self._input
        if not (type(z) is kind and z.dtype == dtype and z.shape == shape):
            self._check_tangent(z, kind, shape, dtype)
        if c is not None and not (type(c) is kind and c.ndim == 1 and len(c) in (1, *shape[:1])):
            raise ValueError(f"{name}: c must be an array of one number a sample on the device of z, for an input of "
                             f"shape {tuple(shape)}, got {getattr(c, 'shape', c)}")
        return self._kept[3]

    def cotangent(self):
        """The dy that `tangent` needs."""
        if self._cotangent is None:
            raise RuntimeError(f'{type(self).__name__}: tangent needs backward(dy, "tangent") of the last forward pass '
                               "first")
        return self._cotangent

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
            raise ValueError(f'{name}: wrt must be "all", "input", "params" or "tangent", not {wrt!r}')
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

    def _check_tangent(self, z, kind, shape, dtype):
        name, like = type(self).__name__, f"like the last input, {dtype} of shape {tuple(shape)}"
        if not backend.is_array(z):
            raise TypeError(f"{name}: expected a tangent {like}, got {type(z).__name__}")
        if z.dtype != dtype or (backend.device_of(z) == "cpu") != issubclass(kind, np.ndarray | np.generic):
            raise TypeError(f"{name}: expected a tangent {like}, got {z.dtype} on {backend.device_of(z)}")
        if tuple(z.shape) != tuple(shape):
            raise ValueError(f"{name}: expected a tangent {like}, got shape {tuple(z.shape)}")

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
                array = backend.is_array(value) and value.ndim > 0
                told = f"array of shape {value.shape}" if array else repr(value)
                if parameter.default is parameter.empty:
                    yield told
                elif array or value != parameter.default:
                    yield f"{name}={told}"
