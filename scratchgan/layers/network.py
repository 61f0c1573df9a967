"""What one does with a whole network: move it, copy it, share its weights, save and load it."""

import copy
from contextlib import contextmanager

import numpy as np

from scratchgan import backend
from scratchgan.layers.parameters import Parameters


class Network(Parameters):
    """The part of `Layer` that is about networks.

    buffers   name -> array: state that is not trained, such as running means
    training  whether the layer acts as in training (dropout drops)
    is_twin   whether it shares the weights of another, whose buffers it must not change
    batches   of how many batches, one after the other, an input is made: see `in_batches`
    """

    batches = 1

    def __init__(self):
        super().__init__()
        self.buffers = {}
        self.training, self.is_twin = True, False
        self._draw = [0, f"{self._number}.", 0, 0]  # seed, key, step, pass: where random layers draw

    # -- what it is made of ----------------------------------------------------------------------------------

    @property
    def is_piecewise_linear(self):
        """Whether all layers are `piecewise_linear`, so that `tangent` gives second-order gradients, and exactly."""
        return all(layer.piecewise_linear for _, layer in self.named_layers())

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

        If that changes something, gradients start from zero, and twins, slices and optimizers that were made before
        keep the old arrays: make them anew.
        """
        if self._owned:
            raise ValueError(f"{type(self).__name__} belongs to a network: move the network instead")
        device = self.device if device is None else backend.device(device)
        dtype = self.dtype if dtype is None else backend.dtype(dtype)
        def fits(value):
            return backend.device_of(value) == device and (value.dtype.kind not in "fc" or value.dtype == dtype)
        buffers = [value for _, layer in self.named_layers() for value in layer.buffers.values()
                   if backend.is_array(value)]
        if self.dtype == dtype and all(map(fits, [self._theta, *buffers])):
            return self
        def moved(value, dtype):  # `real` first, as dropping an imaginary part warns
            return backend.to_device(value.real if dtype.kind == "f" else value, device).astype(dtype)
        theta = backend.copy(moved(self._theta, dtype))
        self._bind(theta, backend.zeros_like(theta))
        for _, layer in self.named_layers():
            for name, value in layer.buffers.items():
                if backend.is_array(value):
                    layer.buffers[name] = moved(value, dtype if value.dtype.kind in "fc" else value.dtype)
            layer._kept = layer._cotangent = None
            layer.is_twin = False
        return self

    def train(self, mode=True):
        for _, layer in self.named_layers():
            layer.training = mode
        return self

    def eval(self):
        return self.train(False)

    @contextmanager
    def in_batches(self, count):
        """Inside, an input in training is taken for `count` equal batches one after the other: batch normalisation
        takes statistics of each, as `count` passes would."""
        layers = [layer for _, layer in self.named_layers()]
        before = [layer.batches for layer in layers]
        try:
            for layer in layers:
                layer.batches = count
            yield self
        finally:
            for layer, number in zip(layers, before):
                layer.batches = number

    def set_step(self, seed, step, name=""):
        """Say where random layers draw from: each forward pass is then a function of (seed, key, step, pass).

        A `name` goes before the keys, so that two networks of one seed draw apart.
        """
        for prefix, layer in self.named_layers():
            layer._draw[:] = seed, f"{name}.{prefix}" if name else prefix, step, 0

    # -- copies ----------------------------------------------------------------------------------------------

    def _shell(self, memo=None):
        """A copy that keeps nothing and shares arrays of parameters and buffers; all else that may change is copied."""
        memo = {} if memo is None else memo
        shell = memo[id(self)] = object.__new__(type(self))
        own = vars(shell)  # past `__setattr__`, which would look for layers in each value
        own.update(vars(self))
        for name, value in vars(self).items():
            if name in TABLES:
                own[name] = value.copy()
            elif name in PASSING or type(value) in FIXED:
                continue
            elif backend.is_array(value) or isinstance(value, list | dict | set):
                own[name] = copy.deepcopy(value, memo)
        own.update(_tree=None, _kept=None, _cotangent=None, _owned=False)
        own.pop("batches", None)
        own["layers"] = {name: memo.get(id(child)) or child._shell(memo) for name, child in self.layers.items()}
        for child in shell.layers.values():
            vars(child)["_owned"] = True
        return shell

    def twin(self, dtype=None, grad=None):
        """A second live pass through the same weights: shares `theta`, has its own cache and its own `grad`.

        A twin never writes buffers. A complex `dtype` gives a twin for complex-step derivatives: real weights,
        complex activations and gradients. With a `grad`, such as this network's, it adds its gradients to that vector.
        """
        if dtype is not None and grad is not None:
            raise ValueError(f"{type(self).__name__}: a twin has the dtype of its grad: give one of the two")
        twin = self._shell()
        if grad is None:
            grad = backend.zeros_like(self._theta, self.dtype if dtype is None else backend.dtype(dtype))
        twin._bind(self._theta, grad)
        for (_, layer), (_, mine) in zip(twin.named_layers(), self.named_layers()):
            vars(layer)["is_twin"] = True
            if grad is self._grad:
                vars(layer)["_stale"] = mine._stale  # of one memory either knows what the other has written
        return twin

    def __copy__(self):
        raise TypeError(f"{type(self).__name__}: use .twin() to share its weights, copy.deepcopy for a copy of its own")

    def __deepcopy__(self, memo):
        """An independent copy: its own parameters, gradients and buffers."""
        clone = self._shell(memo)
        clone._bind(backend.copy(self._theta), backend.copy(self.grad))
        for _, layer in clone.named_layers():
            layer.buffers = {name: copy.copy(value) for name, value in layer.buffers.items()}
            layer.is_twin = False
        return clone

    def __getstate__(self):
        """What pickle takes: no pass is under way in what it gives back, and gradients are zero."""
        left_out = ("params", "_grads", "_grad", "_kept", "_ops", "_input", "_cotangent", "_tree", "is_twin")
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __setstate__(self, state):
        vars(self).update(state, params={}, _grads={}, _kept=None, _ops=None, _input=None, _cotangent=None, _tree=None,
                          _owned=False, is_twin=False)
        for child in self.layers.values():
            child._owned = True
        self._bind(self._theta, backend.zeros_like(self._theta))

    # -- state dict ------------------------------------------------------------------------------------------

    def set_buffer(self, name, value):
        """Give a buffer of this layer a value of its shape: in place, unless the buffer is a plain number."""
        held = self.buffers[name]
        if hasattr(held, "__setitem__"):
            held[...] = backend.to_device(value, self.device)
        else:
            value = np.asarray(backend.to_host(value))
            self.buffers[name] = value.astype(held.dtype)[()] if isinstance(held, np.generic) else value.item()

    def state_dict(self):
        """{key: host array} of parameters and buffers, copies in PyTorch's keys and layouts."""
        return {key: np.array(backend.to_host(value), order="C") for key, value in self._state()}

    def _state(self):
        for prefix, layer in self.named_layers():
            for name, value in (*layer.params.items(), *layer.buffers.items()):
                yield f"{prefix}{name}", value

    def load_state_dict(self, state):
        """Read a state dict of exactly these keys and shapes; `ValueError` naming the first that differs.

        Nothing is changed unless everything fits.
        """
        targets, name = dict(self._state()), type(self).__name__
        for key in (key for key in targets if key not in state):
            raise ValueError(f"{name}: the state dict lacks {key!r}")
        for key in (key for key in state if key not in targets):
            raise ValueError(f"{name}: the state dict has {key!r}, which this network has not")
        values = {key: np.asarray(state[key], getattr(target, "dtype", None)) for key, target in targets.items()}
        for key, target in targets.items():
            if values[key].shape != np.shape(target):
                raise ValueError(f"{name}: {key!r} has shape {values[key].shape}, expected {np.shape(target)}")
        for prefix, layer in self.named_layers():
            for key, target in layer.params.items():
                target[...] = backend.to_device(values[prefix + key], self.device)
            for key in layer.buffers:
                layer.set_buffer(key, values[prefix + key])


# What `_shell` sees to itself, or others after it.
PASSING = ("layers", "_theta", "_grad", "_kept", "_cotangent", "_tree")
# Of its own, with what is in them shared at first.
TABLES = ("params", "buffers", "_grads", "_initializers", "_storage", "_stale", "_draw")
FIXED = {int, float, bool, str, type(None)}
