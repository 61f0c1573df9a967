"""On CUDA a linear layer and the activation next to it are one kernel, where the product is small.

    forward     y = f(x W^T + b)     Linear, then f
    backward    dx = (dy W) f'(x)    Linear, then, on the way back, the derivative of the f before it, from its output y

A small GAN's step on a GPU is a chain of kernels of a few microseconds each, and an elementwise one left out saves one
and a half. Both layers keep what they keep otherwise, for any pass that follows, and the bits are those of the layers
one after the other. Whoever changes a line of `Linear`, `LeakyReLU` or `Tanh` for CUDA changes it here, too; with the
formulas (`kernels.plain`) and for complex values the layers' own lines run.
"""

from scratchgan.kernels import FORMULAS
from scratchgan.layers.activations import LeakyReLU, ReLU, Tanh
from scratchgan.layers.linear import Linear, rows


def function(activation):
    """(the name of its formula, its numbers) if its backward pass needs its output alone, else None.

    Of the very classes here: what is derived from them, as by one's own `forward`, is computed by itself.
    """
    if type(activation) is Tanh:
        return ("tanh",)
    if type(activation) in (LeakyReLU, ReLU) and activation.negative_slope >= 0:
        return "leaky_relu", activation.negative_slope
    return None


def is_pair(linear, activation):
    """Whether they are one kernel: layers of these very classes with no method of their own."""
    return (type(linear) is Linear and function(activation) is not None
            and not {"forward", "backward"} & (vars(linear).keys() | vars(activation).keys()))


def forward(layers, x):
    """Through the layers one after the other."""
    layers = list(layers)
    while layers:
        layer = layers.pop(0)
        x = pair(layer, layers.pop(0), x) if layers and is_pair(layer, layers[0]) else layer.forward(x)
    return x


def backward(layers, dy, wrt):
    """Back through them, the first of which is the only one to heed that `wrt` may be "params"."""
    layers = list(layers)
    while layers:
        layer = layers.pop()
        each = "all" if wrt == "params" and layers else wrt
        if layers and wrt != "tangent" and is_pair(layer, layers[-1]):
            dy = pair_grad(layer, layers.pop(), dy, each)
        else:
            dy = layer.backward(dy, each)
    return dy


def products():
    """The file of both kernels, which imports CuPy."""
    from scratchgan.kernels.cupy import gemm
    return gemm


def pair(linear, activation, x):
    """y = f(x W^T + b)."""
    if linear.ops(x) is FORMULAS:
        return activation.forward(linear.forward(x))
    linear.expect(x.shape[-1:] == (linear.in_features,), x, f"(..., {linear.in_features})")
    y = products().activated_linear(rows(x), linear.params["weight"], linear.params.get("bias"), *function(activation))
    y = linear.keep(y.reshape(*x.shape[:-1], linear.out_features), x)
    activation.ops(y)
    return activation.keep(y, y)


def pair_grad(linear, activation, dy, wrt):
    """dx of the activation, from dy of the linear layer after it; gradients of that one's parameters."""
    if linear.ops() is FORMULAS:
        return activation.backward(linear.backward(dy, wrt), wrt)
    x = linear.kept(dy, wrt)
    y = activation.kept(x)  # checks that it has an output like this layer's input
    name, *numbers = function(activation)
    dx = products().gemm_through(rows(dy), linear.params["weight"], rows(y), f"{name}_grad", *numbers)
    if wrt == "all":
        linear.backward(dy, "params")
    return dx.reshape(x.shape)
