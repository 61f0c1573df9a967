"""Spectral normalisation."""

import functools
from contextlib import contextmanager

from scratchgan import kernels, random, recording
from scratchgan.backend import array_module, empty_along, memory_order, to_device
from scratchgan.layers.base import Layer
from scratchgan.layers.convolution import ConvTranspose2d

FIRST_STEPS = 15  # of the power iteration, from random vectors


def spectral_norm(layer, name="weight", n_power_iterations=1, eps=1e-12, dim=None):
    """Make `layer` compute with its weight W divided by the largest singular value of W. Returns the layer itself.

    W is the parameter `name` as a matrix: the axis `dim` (1 for ConvTranspose2d, else 0) by all others. With vectors
    u and v of length 1, which are buffers, the layer's weight becomes

        V = W / s,  s = u^T W v;        u <- W v / |W v|,  v <- W^T u / |W^T u|

    On the right is the power iteration, whose limit of s is the largest singular value: `n_power_iterations` steps
    at the start of each training pass of the network itself, never of a twin, and 15 steps to begin with. No length
    below `eps` divides. u and v count as constants in the gradient, as in PyTorch; at the limit that is exact, since
    there s is stationary in both. From ds = u^T dW v then

        dW = dV / s - (sum dV W / s^2) u v^T = (dV - (sum dV V) u v^T) / s

    State-dict keys are PyTorch's: parametrizations.weight.original for W, parametrizations.weight.0._u and ._v.
    Miyato et al. 2018, "Spectral normalization for generative adversarial networks", algorithm 1.

    `ValueError` if a network has taken the layer in already, or for a `name` that is no parameter of 2 axes or more.
    """
    if not isinstance(layer, Layer):
        raise TypeError(f"spectral_norm: expected a Layer, got {type(layer).__name__}")
    if layer._owned:
        raise ValueError(f"spectral_norm: {layer!r} belongs to a network; apply it before a network takes the layer in")
    if name not in layer.params or layer.params[name].ndim < 2:
        raise ValueError(f"spectral_norm: {layer!r} has no parameter {name!r} of 2 axes or more")
    if n_power_iterations < 1:
        raise ValueError(f"spectral_norm: n_power_iterations must be 1 or more, not {n_power_iterations}")
    ndim = layer.params[name].ndim
    dim = int(isinstance(layer, ConvTranspose2d)) if dim is None else dim
    if not -ndim <= dim < ndim:
        raise ValueError(f"spectral_norm: dim {dim} is out of range for a weight of {ndim} axes")
    layer.__class__ = _normalised(type(layer))
    layer.normalised, layer.dim, layer.eps, layer.n_power_iterations = name, dim % ndim, float(eps), n_power_iterations
    for names in (layer.params, layer._storage, layer._initializers):
        if name in names:
            names[layer.key("original")] = names.pop(name)
    del layer._grads[name]
    layer._pack()
    layer.reset_buffers(0, "")
    return layer


@functools.cache
def _normalised(kind):
    """The class of the same name whose passes go through those of `_SpectralNorm`."""
    return type(kind.__name__, (_SpectralNorm, kind), {"__module__": kind.__module__, "__doc__": kind.__doc__})


def _unpickled(kind):
    return object.__new__(_normalised(kind))


class _SpectralNorm(Layer):
    """Comes before the layer's own class, which finds V where it looks for its weight."""

    def __reduce__(self):
        return _unpickled, (type(self).__mro__[2],), self.__getstate__()

    def forward(self, x):
        w, u, v = self.params[self.key("original")], *self.vectors()
        changes = self.training and not self.is_twin
        if changes:
            u, v = self.power_iteration(w, v, self.n_power_iterations)
        s = self.length(u, w, v)                                                    # u^T W v
        weight = w / s                                                              # V
        with self.weight_is(weight):
            y = super().forward(x)
        if changes:
            self.buffers[self.key("0._u")][...], self.buffers[self.key("0._v")][...] = u, v
        self.of_weight = weight, s, u, v
        return y

    def backward(self, dy, wrt="all"):
        self.kept(dy, wrt)
        weight, s, u, v = self.of_weight
        dweight = empty_along(weight.shape, self._grad.dtype, memory_order(weight), array_module(weight))
        with self.weight_is(weight, dweight):
            dx = super().backward(dy, wrt)                                          # and dV
        recording.joined()
        if wrt in ("all", "params"):
            xp = array_module(u)
            moved = xp.moveaxis(weight, self.dim, 0)
            uv = xp.moveaxis((u[:, None] * v).reshape(moved.shape), 0, self.dim)
            # dW = (dV - (sum dV V) u v^T) / s
            self.accumulate(self.key("original"), (dweight - (dweight * weight).sum() * uv) / s)
        return dx

    @contextmanager
    def weight_is(self, weight, dweight=None):
        """Inside, the layer has this weight; its gradient, zero if the layer adds none, is in dweight afterwards."""
        name = self.normalised
        self.params[name] = weight
        if dweight is not None:
            self._grads[name] = dweight
            self._stale.add(name)
        try:
            yield
            if name in self._stale:
                dweight.fill(0)
        finally:
            del self.params[name]
            self._grads.pop(name, None)
            self._stale.discard(name)

    def key(self, name):
        return f"parametrizations.{self.normalised}.{name}"

    def matrix(self, w):
        return array_module(w).moveaxis(w, self.dim, 0).reshape(w.shape[self.dim], -1)

    def vectors(self):
        """Copies of u and v, as a later pass changes the buffers."""
        return self.buffers[self.key("0._u")].copy(), self.buffers[self.key("0._v")].copy()

    def power_iteration(self, w, v, steps):
        w, gemm = self.matrix(w), kernels.of(w).gemm
        for _ in range(steps):
            u = self.unit(gemm(w, v))
            v = self.unit(gemm(w.T, u))
        return u, v

    def unit(self, a):
        xp = array_module(a)
        return a / xp.maximum(xp.sqrt((a * a).sum()).real, self.eps)

    def normalised_weight(self):
        """V with u and v as they are."""
        w, u, v = self.params[self.key("original")], *self.vectors()
        return w / self.length(u, w, v)

    def length(self, u, w, v):
        """u^T W v."""
        return (u * kernels.of(w).gemm(self.matrix(w), v)).sum()

    def reset_buffers(self, seed, prefix):
        super().reset_buffers(seed, prefix)
        w = self.params[self.key("original")]
        keys = self.key("0._u"), self.key("0._v")
        v = random.normal((1, w.size // w.shape[self.dim]), seed, f"init/{prefix}{keys[1]}")[0]
        v = to_device(v.astype(w.dtype), self.device)
        for key, value in zip(keys, self.power_iteration(w, self.unit(v), FIRST_STEPS)):
            self.buffers.setdefault(key, value)[...] = value

    def __repr__(self):
        return f"spectral_norm({super().__repr__()})"
