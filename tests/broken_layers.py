"""Layers as a user writes them, wrong, for the tests of the gradient checker.

`BROKEN` maps a name to (layer, input shape, what the report must name, words in the failing check): the checker
must blame exactly these tensors or properties, and none besides.
"""

import numpy as np
from broken_tangents import TANGENTS
from right_layers import BatchNorm, CentredSquare, Dense, Gain, Square

from scratchgan import backend
from scratchgan.backend import array_module
from scratchgan.layers import Layer, Linear


class NotCentred(CentredSquare):
    """The gradient of a bias that counts for nothing is not zero."""

    def bias_gradient(self, dz, dd):
        return dd.sum(axis=0)


class DividesByOnes(Layer):
    """y = x w with w all ones, by which dx divides where it should multiply."""

    def __init__(self):
        super().__init__()
        self.add_parameter("weight", np.ones(3, np.float32))

    def forward(self, x):
        self.x = x
        return x * self.params["weight"]

    def backward(self, dy, wrt="all"):
        if wrt != "input":
            self.grads["weight"] += (dy * self.x).sum(axis=0)
        return None if wrt == "params" else dy / self.params["weight"]


class NegatedBias(Dense):
    def add_gradients(self, dy):
        self.grads["weight"] += dy.T @ self.x
        self.grads["bias"] -= dy.sum(axis=0)


class NoBiasGradient(Dense):
    def add_gradients(self, dy):
        self.grads["weight"] += dy.T @ self.x


class TransposedWeightGradient(Dense):
    def add_gradients(self, dy):
        self.grads["weight"] += self.x.T @ dy
        self.grads["bias"] += dy.sum(axis=0)


class TransposedInBackward(Dense):
    def backward(self, dy, wrt="all"):
        super().backward(dy, "params" if wrt != "input" else "input")
        return None if wrt == "params" else dy @ self.params["weight"].T


class WrongAxis(Dense):
    def add_gradients(self, dy):
        self.grads["weight"] += dy.T @ self.x
        self.grads["bias"] += dy.sum(axis=1)[:len(self.params["bias"])]


class Overwrites(Dense):
    def add_gradients(self, dy):
        self.grads["weight"][...] = dy.T @ self.x
        self.grads["bias"] += dy.sum(axis=0)


class Rebinds(Dense):
    def add_gradients(self, dy):
        self.grads["weight"] = self.grads["weight"] + dy.T @ self.x
        self.grads["bias"] += dy.sum(axis=0)


class IgnoresInput(Dense):
    def backward(self, dy, wrt="all"):
        self.add_gradients(dy)
        return None if wrt == "params" else dy @ self.params["weight"]


class IgnoresParams(Dense):
    def backward(self, dy, wrt="all"):
        if wrt != "input":
            self.add_gradients(dy)
        return dy @ self.params["weight"]


class DecaysWeight(Dense):
    def backward(self, dy, wrt="all"):
        dx = super().backward(dy, wrt)
        self.params["weight"] *= 0.5
        return dx


class SumOfOneRow(Dense):
    """Wrong only where the batch is 1."""

    def add_gradients(self, dy):
        self.grads["weight"] += dy.T @ self.x
        self.grads["bias"] += dy.sum(axis=0) if len(dy) > 1 else 0


class MutatesInput(Square):
    def forward(self, x):
        self.x = x.copy()
        x *= x
        return x.copy()


class MutatesDy(Square):
    def backward(self, dy, wrt="all"):
        dy *= 2 * self.x
        return None if wrt == "params" else dy.copy()


class MutatesOutput(Square):
    def forward(self, x):
        self.y = super().forward(x)
        return self.y

    def backward(self, dy, wrt="all"):
        self.y += 1
        return super().backward(dy, wrt)


class View(Layer):
    """y is a view of x, dx one of dy."""

    def forward(self, x):
        self.shape = x.shape
        return x.reshape(-1)

    def backward(self, dy, wrt="all"):
        return None if wrt == "params" else dy.reshape(self.shape)


class ReturnsItsBias(Layer):
    """y = b, without a copy."""

    def __init__(self):
        super().__init__()
        self.add_parameter("bias", np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32))

    def forward(self, x):
        self.x, bias = x, self.params["bias"]
        return bias if x.dtype == bias.dtype else bias + 0 * x

    def backward(self, dy, wrt="all"):
        if wrt != "input":
            self.grads["bias"] += dy
        return None if wrt == "params" else 0 * dy * self.x


class LendsItsBuffer(Square):
    def forward(self, x):
        if getattr(self, "room", None) is None or self.room.shape != x.shape or self.room.dtype != x.dtype:
            self.room = array_module(x).empty_like(x)
        self.x = x
        self.room[...] = x * x
        return self.room


class LeavesAGap(Square):
    """dx is not written where x is largest."""

    def backward(self, dy, wrt="all"):
        if wrt == "params":
            return None
        dx, right = backend.empty_like(dy), 2 * self.x * dy
        here = self.x.real < self.x.real.max()
        dx[here] = right[here]
        return dx


class LeaksFloat64(Square):
    def forward(self, x):
        return super().forward(x) * array_module(x).ones(1)


class LeaksFloat64Backward(Square):
    def backward(self, dy, wrt="all"):
        dx = super().backward(dy, wrt)
        return None if dx is None else dx * array_module(dx).ones(1)


class StaleCache(Square):
    def forward(self, x):
        if getattr(self, "first", None) is None or self.first.shape != x.shape or self.first.dtype != x.dtype:
            self.first = x
        y = super().forward(x)
        self.x = self.first
        return y


CACHES = {}


class SharedCache(Square):
    """One cache for the layer and all its twins."""

    def forward(self, x):
        CACHES["x"] = x
        return x * x

    def backward(self, dy, wrt="all"):
        return None if wrt == "params" else 2 * CACHES["x"] * dy


class ChildByAttribute(Layer):
    """A child held as PyTorch's are."""

    def __init__(self):
        super().__init__()
        self.child = Linear(3, 2)

    def forward(self, x):
        return self.child.forward(x)

    def backward(self, dy, wrt="all"):
        return self.child.backward(dy, wrt)


class HiddenChild(ChildByAttribute):
    """A child that the layer does not know of: its gradient is in no vector."""

    def __init__(self):
        Layer.__init__(self)
        child = Linear(3, 2)
        self.child = lambda: child

    def forward(self, x):
        return self.child().forward(x)

    def backward(self, dy, wrt="all"):
        return self.child().backward(dy, wrt)


class Absolute(Square):
    """|x| of a complex number is not analytic."""

    def forward(self, x):
        self.x = x
        return abs(x) * x

    def backward(self, dy, wrt="all"):
        return None if wrt == "params" else 2 * abs(self.x.real) * dy


class Conjugate(Square):
    def forward(self, x):
        self.x = x
        return x * x.conj()


class ConjugateBackward(Square):
    def backward(self, dy, wrt="all"):
        return None if wrt == "params" else 2 * self.x.conj() * dy


class MemoryOrder(Square):
    """Reads its input in the order of memory."""

    def forward(self, x):
        y = super().forward(x)
        return y.ravel(order="K").reshape(x.shape)


class EvalOnly(Square):
    """Wrong only in eval mode."""

    def backward(self, dy, wrt="all"):
        dx = super().backward(dy, wrt)
        return dx if self.training or dx is None else 2 * dx


class WritesBuffers(Gain):
    def __init__(self):
        super().__init__()
        self.buffers["passes"] = np.zeros(1, np.float32)

    def forward(self, x):
        self.buffers["passes"] = self.buffers["passes"] + 1
        return super().forward(x)


class Noisy(Square):
    """Draws from a generator of its own, so that no two passes agree."""

    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(0)

    def forward(self, x):
        self.mask = self.rng.uniform(0.5, 1, x.shape).astype(x.real.dtype)
        return super().forward(x) * self.mask

    def backward(self, dy, wrt="all"):
        return super().backward(dy * self.mask, wrt)


class NoInputGradient(Square):
    def backward(self, dy, wrt="all"):
        return None


class Constant(Square):
    def forward(self, x):
        self.x = x
        return 0 * x + 1

    def backward(self, dy, wrt="all"):
        return None if wrt == "params" else 0 * dy


class NeedsTwoRows(Square):
    def forward(self, x):
        if len(x) < 2:
            raise ValueError("at least two rows")
        return super().forward(x)


class RealOnly(Square):
    def forward(self, x):
        if x.dtype.kind == "c":
            raise TypeError("no complex values here")
        return super().forward(x)


CORRECT = {
    "Dense": (Dense, (4, 3)),
    "Square": (Square, (2, 3)),
    "Gain": (Gain, (2, 3)),
    "BatchNorm": (BatchNorm, (5, 3)),
    "CentredSquare": (CentredSquare, (5, 3)),
    "View": (View, (2, 3)),
    "ChildByAttribute": (ChildByAttribute, (4, 3)),
}

BROKEN = {
    "sign": (NegatedBias, (4, 3), {"bias"}, "complex step"),
    "missing gradient": (NoBiasGradient, (4, 3), {"bias"}, "complex step"),
    "transposed gradient": (lambda: TransposedWeightGradient(3, 3), (4, 3), {"weight"}, "complex step"),
    "transposed weight": (lambda: TransposedInBackward(3, 3), (4, 3), {"x"}, "complex step"),
    "wrong axis": (WrongAxis, (4, 3), {"bias"}, "complex step"),
    "overwrites": (Overwrites, (4, 3), {"weight"}, "accumulation"),
    "rebinds": (Rebinds, (4, 3), {"weight"}, "gradient in the flat vector"),
    "ignores wrt=input": (IgnoresInput, (4, 3), {"weight", "bias"}, 'wrt="input"'),
    "ignores wrt=params": (IgnoresParams, (4, 3), {"x"}, 'wrt="params"'),
    "one sample": (SumOfOneRow, (4, 3), {"bias"}, "complex step"),
    "refuses one sample": (NeedsTwoRows, (4, 3), {"the pass"}, "forward and backward"),
    "not zero": (NotCentred, (5, 3), {"bias"}, "complex step"),
    "divides by ones": (DividesByOnes, (2, 3), {"x"}, "complex step"),
    "missing term": (lambda: BatchNorm(mean_term=0.0), (5, 3), {"x"}, "complex step"),
    "N - 1": (lambda: BatchNorm(count=-1), (5, 3), {"x"}, "complex step"),
    "eps": (lambda: BatchNorm(backward_eps=2e-5), (5, 3), {"x"}, "complex step"),
    "mutates x": (MutatesInput, (2, 3), {"x"}, "forward mutates x"),
    "mutates dy": (MutatesDy, (2, 3), {"dy", "the pass"}, "backward mutates dy"),
    "mutates y": (MutatesOutput, (2, 3), {"y"}, "backward mutates y"),
    "returns a parameter": (ReturnsItsBias, (2, 3), {"y", "x"}, "fresh, not the parameters"),
    "lends its buffer": (LendsItsBuffer, (2, 3), {"y"}, "kept by a later pass"),
    "gap": (LeavesAGap, (2, 3), {"x"}, "all of it written"),
    "float64 leak": (LeaksFloat64, (2, 3), {"y"}, "dtype"),
    "float64 leak in backward": (LeaksFloat64Backward, (2, 3), {"x", "dx"}, "dtype"),
    "stale cache": (StaleCache, (2, 3), {"x"}, "stale cache"),
    "shared cache": (SharedCache, (2, 3), {"x"}, "twin"),
    "abs": (Absolute, (2, 3), {"forward", "x"}, "analytic"),
    "conjugate": (Conjugate, (2, 3), {"forward", "x"}, "analytic"),
    "conjugate in backward": (ConjugateBackward, (2, 3), {"x"}, "analytic backward"),
    "real only": (RealOnly, (2, 3), {"forward", "the pass"}, "analytic in x"),
    "order of memory": (MemoryOrder, (2, 3), {"y"}, "memory order: by columns"),
    "eval only": (EvalOnly, (2, 3), {"x"}, "complex step"),
    "returns no dx": (NoInputGradient, (2, 3), {"x"}, "shape of dx"),
    "constant": (Constant, (2, 3), {"x"}, "gradient is not all zero"),
    "decays its weight": (DecaysWeight, (4, 3), {"weight", "x"}, "mutates parameters"),
    "own generator": (Noisy, (2, 3), {"y"}, "the same each time"),
    "hidden child": (HiddenChild, (4, 3), {"the pass"}, "forward and backward"),
    "writes buffers": (WritesBuffers, (2, 3), {"passes"}, "buffer in a twin"),
    **TANGENTS,
}
