"""`Layer`: what every layer, container and network is.

A layer implements `forward` and `backward`; this class gives it parameters that live in one flat vector,
gradients that accumulate, devices and dtypes, state dicts, twins and workspaces. To read the mathematics, read
the other files of this folder; to write a layer, read `Linear` and the README's example.
"""

import copy
from contextlib import contextmanager

import numpy as np

from scratchgan import backend
from scratchgan.kernels import gemm
from scratchgan.layers.memory import Memory

WRT = ("all", "input", "params")


class Layer(Memory):
    """The base of layers and networks.

    params   name -> array; views into `theta`, the 1-D vector of all parameters of the network
    grads    name -> array of the same shape; views into `grad`. `backward` adds to them, `zero_grad` clears
    buffers  name -> array: state that is not trained, such as running means
    layers   name -> child layer, in forward order; a container reads its children from here
    cache    what `forward` keeps for `backward`, by reference: write into no array between the two, nor into `theta`
    training whether the layer acts as in training (dropout drops)
    couples_samples  whether in training a sample's output depends on the others of its batch
    knows_batches    whether such a layer heeds `batches`, the number of batches that its input is made of

    A subclass calls `super().__init__()` first, creates parameters with `add_parameter`, and always reads them
    as `self.params[name]`: the views are rebound when a network takes the layer in or moves it. The same holds
    for children and `self.layers[name]`.
    """

    couples_samples = knows_batches = False
    batches = 1

    def __init__(self):
        super().__init__()
        self.params, self.buffers, self.layers = {}, {}, {}
        self.cache = None
        self.training = True
        self.is_twin = False
        self._owned = False                     # another layer holds the flat vector
        self._grads, self._initializers, self._storage = {}, {}, {}
        self._stale = set()                     # names whose gradient awaits its zeros
        self._tree = None                       # what `walk` found
        self._draw = [0, "", 0, 0]              # seed, key, step, pass: where random layers draw
        self._theta, self._grad = np.zeros(0, np.float32), np.zeros(0, np.float32)

    # -- what a subclass implements --------------------------------------------------------------------------

    def forward(self, x):
        """The output y, a fresh array. Keeps in `self.cache` what backward needs, and nothing else."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def backward(self, dy, wrt="all"):
        """From dy = dL/dy of the last forward pass: adds dL/dparams to `grads` and returns dx = dL/dx.

        `wrt` = "all", "input" (dx only: gradients stay as they are) or "params" (gradients only: returns None).
        """
        raise NotImplementedError(f"{type(self).__name__} does not define backward")

    def __call__(self, x):
        return self.forward(x)

    def __repr__(self):
        inside = ", ".join(repr(layer) for layer in self.layers.values())
        return f"{type(self).__name__}({inside})"

    # -- parameters: one flat vector -------------------------------------------------------------------------

    def add_parameter(self, name, value, storage=None):
        """Create the parameter `name` from an array, or from (shape, initializer).

        With an initializer, a layer alone draws from seed 0; `network.initialize(seed)` draws again. `storage`
        gives the axes in the order in which memory holds them, (0, 1, ...) by default.
        """
        if self._owned:
            raise ValueError(f"{type(self).__name__}: add parameter {name!r} before a network takes the layer in")
        if isinstance(value, tuple):
            shape, initializer = value
            self._initializers[name] = initializer
            value = initializer(tuple(shape), 0, f"init/{name}")
        value = np.asarray(value) if not backend.is_array(value) else value
        if value.dtype.name not in backend.DTYPES:
            raise TypeError(f"{type(self).__name__}: parameter {name!r} must be float32 or float64, "
                            f"not {value.dtype}")
        self.params[name] = value
        self._storage[name] = tuple(range(value.ndim) if storage is None else storage)
        self._pack()

    def add_layer(self, name, layer):
        """Take a child in: its parameters move into this layer's flat vector, under the key `name.`"""
        self.add_layers({name: layer})

    def add_layers(self, layers):
        """`add_layer` for each name and layer of a dict."""
        new = {}
        for name, layer in layers.items():
            if not isinstance(layer, Layer):
                raise TypeError(f"{type(self).__name__}: {name!r} must be a Layer, not {type(layer).__name__}")
            if self._owned:
                raise ValueError(f"{type(self).__name__}: add layer {name!r} before a network takes this one in")
            if layer._owned or any(layer is other for other in new.values()):
                raise ValueError(f"{type(self).__name__}: layer {name!r} ({layer!r}) already belongs to a network; "
                                 "give every network layers of its own, or share weights with .twin()")
            new[name] = layer
        self.layers.update(new)
        for layer in new.values():
            layer._owned = True
        self._tree = None
        self._pack()

    def walk(self, prefix=""):
        """(prefix, layer) of this layer and all below it, in the order of `theta`; prefixes end in a dot."""
        if self._tree is None or self._tree[0][0] != prefix:
            below = [pair for name, child in self.layers.items() for pair in child.walk(f"{prefix}{name}.")]
            self._tree = [(prefix, self), *below]
        return self._tree

    def _pack(self):
        """Copy all parameters into one new flat vector."""
        arrays = [value.transpose(layer._storage[name]) for _, layer in self.walk()
                  for name, value in layer.params.items()]
        if not arrays:
            return
        if len({(value.dtype, backend.device_of(value)) for value in arrays}) > 1:
            raise TypeError(f"{type(self).__name__}: all parameters of a network must have one dtype and device; "
                            "convert the layers with .to() first")
        size = sum(value.size for value in arrays)
        theta, start = backend.empty((size,), arrays[0].dtype, xp=backend.array_module(arrays[0])), 0
        for value in arrays:
            theta[start:start + value.size].reshape(value.shape)[...] = value
            start += value.size
        self._bind(theta, backend.zeros_like(theta))

    def _bind(self, theta, grad):
        """Make every parameter and gradient, here and below, a view into these vectors."""
        self._theta, self._grad, self._stale = theta, grad, set()
        start = 0
        for name, old in self.params.items():
            part, axes = slice(start, start + old.size), self._storage[name]
            shape = [old.shape[axis] for axis in axes]
            back = sorted(range(len(axes)), key=axes.__getitem__)
            self.params[name] = theta[part].reshape(shape).transpose(back)
            self._grads[name] = grad[part].reshape(shape).transpose(back)
            start += old.size
        for child in self.layers.values():
            part = slice(start, start + child._theta.size)
            child._bind(theta[part], grad[part])
            start += child._theta.size

    @property
    def theta(self):
        """All parameters as one 1-D vector; writing into it writes into the layers."""
        return self._theta

    @property
    def grad(self):
        """All gradients as one 1-D vector, in the order of `theta`."""
        for _, layer in self.walk():
            if layer._stale:
                layer._write_zeros()
        return self._grad

    @property
    def grads(self):
        if self._stale:
            self._write_zeros()
        return self._grads

    def _write_zeros(self):
        for name in self._stale:
            self._grads[name].fill(0)
        self._stale.clear()

    def zero_grad(self):
        """Set all gradients to zero. Written out only where read: the next backward pass overwrites instead."""
        for _, layer in self.walk():
            if layer._grads:
                layer._stale.update(layer._grads)

    def accumulate(self, name, value):
        """grads[name] += value."""
        if name in self._stale:
            self._grads[name][...] = value
            self._stale.discard(name)
        else:
            self._grads[name] += value

    def accumulate_into(self, name, write):
        """Have `write(array, add)` put a gradient into grads[name]: over what is there, or added to it."""
        write(self._grads[name], name not in self._stale)
        self._stale.discard(name)

    def accumulate_product(self, name, a, b):
        """grads[name] += a @ b, written straight into place on the first pass after `zero_grad`."""
        gemm(a, b, out=self._grads[name], accumulate=name not in self._stale)
        self._stale.discard(name)

    def initialize(self, seed, name=""):
        """Draw all initial weights again, as a function of the seed and each parameter's state-dict key.

        A `name` goes before the keys, so that two networks of one seed draw apart. Returns self.
        """
        for prefix, layer in self.walk(f"{name}." if name else ""):
            for key, initializer in layer._initializers.items():
                target = layer.params[key]
                value = initializer(target.shape, seed, f"init/{prefix}{key}")
                target[...] = backend.to_device(value.astype(target.dtype, copy=False), self.device)
            layer.reset_buffers(seed, prefix)
        return self

    def reset_buffers(self, seed, prefix):
        """Set the buffers to what they start from: `initialize` calls it once the weights are drawn."""

    # -- device, dtype, mode ---------------------------------------------------------------------------------

    @property
    def xp(self):
        """The array module of the parameters."""
        return backend.array_module(self._theta)

    @property
    def device(self):
        return backend.device_of(self._theta)

    @property
    def dtype(self):
        """The dtype of the parameters (float32 if there are none)."""
        return self._theta.dtype

    def to(self, device=None, dtype=None):
        """Move to "cpu" or "cuda", convert to "float32", "float64", "complex64" or "complex128". Returns self.

        Gradients start from zero afterwards; twins and optimizers made before keep the old arrays.
        """
        if self._owned:
            raise ValueError(f"{type(self).__name__} belongs to a network: move the network instead")
        if self._in_workspace:
            raise ValueError(f"{type(self).__name__}: leave the workspace before you move or convert the network")
        device = self.device if device is None else backend.device(device)
        dtype = self.dtype if dtype is None else backend.dtype(dtype)
        def moved(value, dtype):  # `real` first, as dropping an imaginary part warns
            return backend.to_device(value.real if dtype.kind == "f" else value, device).astype(dtype)
        theta = backend.copy(moved(self._theta, dtype))
        self._bind(theta, backend.zeros_like(theta))
        for _, layer in self.walk():
            for name, value in layer.buffers.items():
                layer.buffers[name] = moved(value, dtype if value.dtype.kind in "fc" else value.dtype)
            layer.cache = None
            Memory.__init__(layer)
        return self

    def train(self, mode=True):
        for _, layer in self.walk():
            layer.training = mode
        return self

    def eval(self):
        return self.train(False)

    @contextmanager
    def in_batches(self, count):
        """Inside, what a training pass takes is `count` equal batches one after the other: layers that couple samples
        treat each alone, as `count` passes would."""
        for _, layer in self.walk():
            layer.batches = count
        try:
            yield self
        finally:
            for _, layer in self.walk():
                layer.batches = 1

    def set_step(self, seed, step, name=""):
        """Say where random layers draw from: each forward pass is then a function of (seed, key, step, pass).

        A `name` goes before the keys, so that two networks of one seed draw apart.
        """
        for prefix, layer in self.walk():
            layer._draw = [seed, f"{name}.{prefix}" if name else prefix, step, 0]

    # -- copies ----------------------------------------------------------------------------------------------

    def _shell(self):
        """A copy whose dicts and children are its own but whose arrays are shared; no cache, no buffers lent."""
        shell = copy.copy(self)
        shell.params, shell.buffers = dict(self.params), dict(self.buffers)
        shell._grads, shell._stale = dict(self._grads), set()
        Memory.__init__(shell)
        shell._tree = None
        shell._draw, shell.cache, shell._owned = list(self._draw), None, False
        shell.layers = {name: child._shell() for name, child in self.layers.items()}
        for child in shell.layers.values():
            child._owned = True
        return shell

    def twin(self, dtype=None):
        """A second live pass through the same weights: shares `theta`, has its own cache and its own `grad`.

        A twin never writes buffers. A complex `dtype` gives a twin for complex-step derivatives: real weights,
        complex activations and gradients.
        """
        twin = self._shell()
        grad = backend.zeros_like(self._theta, self.dtype if dtype is None else backend.dtype(dtype))
        twin._bind(self._theta, grad)
        for _, layer in twin.walk():
            layer.is_twin = True
        return twin

    def __deepcopy__(self, memo):
        """An independent copy: its own parameters, gradients and buffers."""
        clone = self._shell()
        clone._bind(backend.copy(self._theta), backend.copy(self.grad))
        for _, layer in clone.walk():
            layer.buffers = {name: value.copy() for name, value in layer.buffers.items()}
            layer.is_twin = False
        return clone

    # -- state dict ------------------------------------------------------------------------------------------

    def state_dict(self):
        """{key: host array} of parameters and buffers, copies in PyTorch's keys and layouts."""
        return {f"{prefix}{name}": np.array(backend.to_host(value), order="C")
                for prefix, layer in self.walk() for name, value in {**layer.params, **layer.buffers}.items()}

    def load_state_dict(self, state):
        """Read a state dict of exactly these keys and shapes; `ValueError` naming the first that differs.

        Nothing is changed unless everything fits.
        """
        targets = {f"{prefix}{name}": value for prefix, layer in self.walk()
                   for name, value in {**layer.params, **layer.buffers}.items()}
        name = type(self).__name__
        for key in (key for key in targets if key not in state):
            raise ValueError(f"{name}: the state dict lacks {key!r}")
        for key in (key for key in state if key not in targets):
            raise ValueError(f"{name}: the state dict has {key!r}, which this network has not")
        values = {key: np.asarray(state[key], target.dtype) for key, target in targets.items()}
        for key, target in targets.items():
            if values[key].shape != target.shape:
                raise ValueError(f"{name}: {key!r} has shape {values[key].shape}, expected {target.shape}")
        for key, target in targets.items():
            target[...] = backend.to_device(values[key], self.device)

    # -- help for forward and backward -----------------------------------------------------------------------

    def kept(self):
        """What the last forward pass kept; `RuntimeError` if there was none."""
        if self.cache is None:
            raise RuntimeError(f"{type(self).__name__}: backward needs a forward pass first")
        return self.cache

    def check_input(self, x, features=None):
        """Raise unless x is a float array on the parameters' device, of their precision, (..., features)."""
        theta = self._theta
        if type(x) is type(theta) and x.dtype == theta.dtype and (features is None or x.shape[-1:] == (features,)):
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
            if mine != its and np.finfo(mine).dtype != np.finfo(its).dtype:
                raise TypeError(f"{name}: expected {mine} input like the parameters, got {its}; "
                                f"convert with x.astype({mine.name!r}) or layer.to(dtype={its.name!r})")
        if features is not None and (x.ndim == 0 or x.shape[-1] != features):
            raise ValueError(f"{name}: expected input of shape (..., {features}), got {tuple(x.shape)}")

    def result_dtype(self, x):
        """The dtype of what this layer's parameters make of x, which has their precision: complex if either is."""
        return x.dtype if x.dtype.kind == "c" else self._theta.dtype

    def check_gradient(self, dy, shape, dtype, wrt):
        """Raise unless dy has the last output's shape and precision and `wrt` is one of the three words."""
        if type(dy) is np.ndarray and dy.dtype == dtype and dy.shape == shape and wrt in WRT:
            return  # nothing to complain about, found quickly
        name = type(self).__name__
        if wrt not in WRT:
            raise ValueError(f'{name}: wrt must be "all", "input" or "params", not {wrt!r}')
        if not backend.is_array(dy):
            raise TypeError(f"{name}: expected an array for dy, got {type(dy).__name__}")
        if dy.dtype != dtype and (dy.dtype.name not in backend.DTYPES
                                  or np.finfo(dy.dtype).dtype != np.finfo(dtype).dtype):
            raise TypeError(f"{name}: dy has dtype {dy.dtype}, but the last output had {dtype}")
        if tuple(dy.shape) != tuple(shape):
            raise ValueError(f"{name}: dy has shape {tuple(dy.shape)}, but the last output had {tuple(shape)}")
