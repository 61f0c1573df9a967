"""The parameters of a network as one flat vector, and their gradients as another."""

import itertools
import math

import numpy as np

from scratchgan import backend, kernels, recording
from scratchgan.layers.children import Children

_built = itertools.count()


@kernels.formula
def add_in_turn(totals, terms, fresh):
    """Each total += each of its terms, one after the other; the first takes the place of a total that is `fresh`."""
    for total, its_terms, replace in zip(totals, terms, fresh):
        for term in its_terms:
            if replace:
                total[...] = term
            else:
                total += term
            replace = False


class Parameters(Children):
    """The part of `Layer` that holds parameters.

    params   name -> array, a view into `theta`, the vector of all parameters of the network
    grads    name -> array of the same shape, a view into `grad`
    """

    def __init__(self):
        super().__init__()
        self.params, self._grads = {}, {}
        self._initializers = {}
        self._storage = {}                       # name -> (shape, its axes in the order in which memory holds them)
        self._stale = set()                      # names whose gradient awaits its zeros
        self._theta = self._grad = np.zeros(0, np.float32)
        self._number = next(_built)              # among all layers: what a layer draws from until a seed is given

    def add_parameter(self, name, value, storage=None):
        """Create the parameter `name` from an array, or from (shape, initializer).

        With an initializer every layer draws weights of its own; `network.initialize(seed)` draws them again, from a
        seed. `storage` gives the axes in the order in which memory holds them, (0, 1, ...) by default.
        """
        if self._owned:
            raise ValueError(f"{type(self).__name__}: add parameter {name!r} before a network takes the layer in")
        if isinstance(value, tuple):
            shape, initializer = value
            self._initializers[name] = initializer
            value = initializer(tuple(shape), 0, f"init/{self._number}/{name}")
        value = np.asarray(value) if not backend.is_array(value) else value
        if value.dtype.name not in backend.DTYPES:
            raise TypeError(f"{type(self).__name__}: parameter {name!r} must be float32 or float64, "
                            f"not {value.dtype}")
        self.params[name] = value
        self._storage[name] = tuple(value.shape), tuple(range(value.ndim) if storage is None else storage)
        self._pack()

    def named_parameters(self):
        """(state-dict key, array) of every parameter, here and below."""
        for prefix, layer in self.named_layers():
            for name, value in layer.params.items():
                yield f"{prefix}{name}", value

    def parameters(self):
        """Every parameter, here and below: writing into one changes the network. An optimizer takes the network."""
        for _, value in self.named_parameters():
            yield value

    # -- the two vectors -------------------------------------------------------------------------------------

    def _pack(self):
        """Copy all parameters into one new flat vector."""
        arrays = [value.transpose(layer._storage[name][1]) for _, layer in self.named_layers()
                  for name, value in layer.params.items()]
        if not arrays:
            self._bind(self._theta[:0], self._grad[:0])
            return
        if len({(value.dtype, backend.device_of(value)) for value in arrays}) > 1:
            raise TypeError(f"{type(self).__name__}: all parameters of a network must have one dtype and device; "
                            "convert the layers with .to() first")
        theta = backend.array_module(arrays[0]).concatenate([value.ravel() for value in arrays])
        self._bind(backend.copy(theta), backend.zeros_like(theta))

    def _bind(self, theta, grad):
        """Make every parameter and gradient, here and below, a view into these vectors."""
        vars(self).update(_theta=theta, _grad=grad, _stale=set())
        start = 0
        for name, (shape, axes) in self._storage.items():
            part = slice(start, start + math.prod(shape))
            stored = [shape[axis] for axis in axes]
            back = sorted(range(len(axes)), key=axes.__getitem__)
            self.params[name] = theta[part].reshape(stored).transpose(back)
            self._grads[name] = grad[part].reshape(stored).transpose(back)
            start = part.stop
        for child in self.layers.values():
            part = slice(start, start + child._theta.size)
            child._bind(theta[part], grad[part])
            start = part.stop

    @property
    def theta(self):
        """All parameters as one 1-D vector; writing into it writes into the layers."""
        return self._theta

    @property
    def grad(self):
        """All gradients as one 1-D vector, in the order of `theta`."""
        recording.joined()
        for _, layer in self.named_layers():
            if layer._stale:
                layer._write_zeros()
        return self._grad

    @property
    def grads(self):
        recording.joined()
        if self._stale:
            self._write_zeros()
        return self._grads

    def _write_zeros(self):
        for name in self._stale:
            self._grads[name].fill(0)
        self._stale.clear()

    def zero_grad(self):
        """Set all gradients to zero. Written out only where read: the next backward pass overwrites instead."""
        for _, layer in self.named_layers():
            if layer._grads:
                layer._stale.update(layer._grads)

    def accumulate(self, name, value):
        """grads[name] += value."""
        gradient = self._grads[name]
        with recording.aside(gradient):
            if name in self._stale:
                gradient[...] = value
                self._stale.discard(name)
            else:
                gradient += value

    def accumulate_by(self, name, compute):
        """grads[name] += compute(out), `out` being memory that the result may be written to.

        In the first pass after `zero_grad` that is the gradient itself; later it has its memory order, since to add
        arrays of unlike orders takes ten times as long.
        """
        gradient = self._grads[name]
        with recording.aside(gradient):
            if name in self._stale:
                value = compute(gradient)
                if value is not gradient:
                    gradient[...] = value
                self._stale.discard(name)
            else:
                gradient += compute(backend.empty_like(gradient))

    def accumulate_in_turn(self, terms):
        """grads[name] += each of terms[name], one after the other, for those names that are parameters."""
        names = [name for name in terms if name in self.params]
        if not names:
            return
        gradients = [self._grads[name] for name in names]
        with recording.aside(*gradients):
            self.ops().add_in_turn(gradients, [terms[name] for name in names],
                                   [name in self._stale for name in names])
        self._stale.difference_update(names)

    def accumulate_product(self, name, a, b):
        """grads[name] += a @ b."""
        self.accumulate_by(name, lambda out: self.ops().gemm(a, b, out))

    def initialize(self, seed, name=""):
        """Draw all initial weights again, as a function of the seed and each parameter's state-dict key.

        A `name` goes before the keys, so that two networks of one seed draw apart. Returns self.
        """
        for prefix, layer in self.named_layers(f"{name}." if name else ""):
            for key, initializer in layer._initializers.items():
                target = layer.params[key]
                value = initializer(target.shape, seed, f"init/{prefix}{key}")
                target[...] = backend.to_device(value.astype(target.dtype, copy=False), self.device)
            layer.reset_buffers(seed, prefix)
        return self

    def reset_buffers(self, seed, prefix):
        """Set the buffers to what they start from: `initialize` calls it once the weights are drawn."""
