"""Layers as a user writes them, right ones, for the tests of the gradient checker."""

import numpy as np

from scratchgan.layers import Layer


class Dense(Layer):
    """y = x W^T + b, in the simplest style: caches as attributes, gradients added with +=."""

    def __init__(self, n_in=3, n_out=2):
        super().__init__()
        rng = np.random.default_rng(1)
        self.add_parameter("weight", rng.standard_normal((n_out, n_in)).astype(np.float32))
        self.add_parameter("bias", rng.standard_normal(n_out).astype(np.float32))

    def forward(self, x):
        self.x = x
        return x @ self.params["weight"].T + self.params["bias"]

    def backward(self, dy, wrt="all"):
        if wrt != "input":
            self.add_gradients(dy)
        return None if wrt == "params" else dy @ self.params["weight"]

    def add_gradients(self, dy):
        self.grads["weight"] += dy.T @ self.x
        self.grads["bias"] += dy.sum(axis=0)


class Square(Layer):
    """y = x^2, without parameters."""

    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, dy, wrt="all"):
        return None if wrt == "params" else 2 * self.x * dy


class Gain(Layer):
    """y = g x with one gain for everything."""

    def __init__(self):
        super().__init__()
        self.add_parameter("gain", np.array([1.5], np.float32))

    def forward(self, x):
        self.x = x
        return self.params["gain"] * x

    def backward(self, dy, wrt="all"):
        if wrt != "input":
            self.grads["gain"] += (dy * self.x).sum()
        return None if wrt == "params" else self.params["gain"] * dy


class BatchNorm(Layer):
    """y = (x - mean) / sqrt(var + eps) weight + bias over the batch, with running means for eval mode."""

    input_shape = (5, 3)

    def __init__(self, features=3, eps=1e-5, backward_eps=None, count=0, mean_term=1.0):
        super().__init__()
        self.eps, self.backward_eps = eps, eps if backward_eps is None else backward_eps
        self.count, self.mean_term = count, mean_term  # count: what is added to N in the backward pass
        self.add_parameter("weight", np.linspace(0.5, 1.5, features).astype(np.float32))
        self.add_parameter("bias", np.linspace(-1, 1, features).astype(np.float32))
        self.buffers["running_mean"] = np.zeros(features, np.float32)
        self.buffers["running_var"] = np.ones(features, np.float32)

    def statistics(self, x):
        if not self.training:
            return self.buffers["running_mean"], self.buffers["running_var"]
        mean = x.mean(axis=0)
        var = ((x - mean) ** 2).mean(axis=0)
        if not self.is_twin:
            n = len(x)
            self.buffers["running_mean"] = 0.9 * self.buffers["running_mean"] + 0.1 * mean
            self.buffers["running_var"] = 0.9 * self.buffers["running_var"] + 0.1 * var * n / (n - 1)
        return mean, var

    def forward(self, x):
        mean, var = self.statistics(x)
        self.var, self.centred = var, x - mean
        return self.centred / (var + self.eps) ** 0.5 * self.params["weight"] + self.params["bias"]

    def backward(self, dy, wrt="all"):
        scale = (self.var + self.backward_eps) ** -0.5
        normal = self.centred * scale
        if wrt != "input":
            self.grads["weight"] += (dy * self.centred / (self.var + self.eps) ** 0.5).sum(axis=0)
            self.grads["bias"] += dy.sum(axis=0)
        if wrt == "params":
            return None
        g = dy * self.params["weight"]
        if not self.training:
            return g * scale
        n = len(dy) + self.count
        return scale * (g - self.mean_term * g.sum(axis=0) / n - normal * (g * normal).sum(axis=0) / n)


class CentredSquare(Layer):
    """y = d^2, d = x g + b less its mean over the batch, so that b counts for nothing."""

    def __init__(self):
        super().__init__()
        self.add_parameter("gain", np.array([0.5, 1.5, 2.5], np.float32))
        self.add_parameter("bias", np.array([1.0, 2.0, 3.0], np.float32))

    def forward(self, x):
        if len(x) < 2:
            raise ValueError("a mean over one sample says nothing")
        z = x * self.params["gain"] + self.params["bias"]
        self.x, self.d = x, z - z.mean(axis=0)
        return self.d * self.d

    def backward(self, dy, wrt="all"):
        dd = 2 * dy * self.d
        dz = dd - dd.mean(axis=0)
        if wrt != "input":
            self.grads["gain"] += (dz * self.x).sum(axis=0)
            self.grads["bias"] += self.bias_gradient(dz, dd)
        return None if wrt == "params" else dz * self.params["gain"]

    def bias_gradient(self, dz, dd):
        return dz.sum(axis=0)
