"""Layers whose tangent is wrong: entries of `broken_layers.BROKEN`."""

import numpy as np
from right_layers import Square

from scratchgan.layers import LeakyReLU, Linear, Sequential, Tanh


class FlippedTangent(Linear):
    def tangent(self, z, c=None):
        return -super().tangent(z, c)


class FlippedTangentGradient(Linear):
    """dW -= dy^T z."""

    def tangent(self, z, c=None):
        super().tangent(-z, c)
        return z @ self.params["weight"].T + (0 if c is None else c[:, None] * self.params["bias"])


class NoBiasTangent(Linear):
    def tangent(self, z, c=None):
        return super().tangent(z)


class NoBiasTangentGradient(Linear):
    def tangent(self, z, c=None):
        y = super().tangent(z)
        return y if c is None else y + c[:, None] * self.params["bias"]


class OwnMask(LeakyReLU):
    """Its tangent takes the branches of z."""

    def tangent(self, z, c=None):
        return self.ops().leaky_relu(z, self.negative_slope)


class LearnsInTangentPass(Linear):
    def backward(self, dy, wrt="all"):
        return super().backward(dy, "all") if wrt == "tangent" else super().backward(dy, wrt)

    def tangent(self, z, c=None):
        vars(self)["_cotangent"] = np.ones((len(z), self.out_features), z.dtype)  # else it complains
        return super().tangent(z, c)


class SpoilsMask(LeakyReLU):
    """Its tangent is a forward pass like any other."""

    def tangent(self, z, c=None):
        y = super().tangent(z, c)
        self.forward(z)
        return y


class NotLinear(Tanh):
    piecewise_linear = True


class NoTangent(Square):
    piecewise_linear = True


TANGENTS = {
    "tangent's sign": (lambda: FlippedTangent(3, 2), (4, 3), {"tangent"}, "adjoint"),
    "tangent's sign in dW": (lambda: FlippedTangentGradient(3, 2), (4, 3), {"weight"}, "complex step of backward"),
    "tangent without bias": (lambda: NoBiasTangent(3, 2), (4, 3), {"tangent", "bias"}, "tangent of c x is c y"),
    "tangent without db": (lambda: NoBiasTangentGradient(3, 2), (4, 3), {"bias"}, "backward of c dy"),
    "tangent with its own mask": (lambda: OwnMask(0.2), (4, 3), {"tangent"}, "adjoint"),
    "tangent holds no dy": (lambda: LearnsInTangentPass(3, 2), (4, 3), {"weight", "bias"}, 'wrt="tangent"'),
    "tangent forgets the pass": (lambda: SpoilsMask(0.2), (4, 3), {"tangent", "x"}, "backward after tangent"),
    "no tangent": (NoTangent, (4, 3), {"tangent"}, "defined"),
    "tangent of what is not linear": (lambda: Sequential(Linear(3, 4), NotLinear(), Linear(4, 2)), (4, 3),
                                      {"tangent", "0.weight", "0.bias", "2.weight"}, "complex step of backward"),
}
