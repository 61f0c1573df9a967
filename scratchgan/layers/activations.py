"""Activation functions. Each takes any shape and differentiates elementwise: dx = dy f'(x)."""

from scratchgan import kernels
from scratchgan.layers.base import Layer


class LeakyReLU(Layer):
    """y = x for x > 0, else negative_slope x;  dx = dy (1 for x > 0, else negative_slope).

    At x = 0, where no derivative exists, the gradient is negative_slope dy, as in PyTorch. With `inplace` y takes the
    memory of x, and dx that of dy, inside `workspace()`: only behind a layer that does not need its output again, so
    not behind Tanh or Sigmoid, nor as a network's first or last, whose x or dy is the caller's.
    """

    def __init__(self, negative_slope=0.01, inplace=False):
        super().__init__()
        self.negative_slope, self.inplace = float(negative_slope), inplace
        if inplace and self.negative_slope < 0:
            raise ValueError("LeakyReLU: inplace needs y to have the sign of x: a negative_slope of 0 or more, not "
                             f"{negative_slope}")

    def room(self, slot, x):
        return x if self.inplace and self._in_workspace else self.empty_like(slot, x)

    def forward(self, x):
        self.check_input(x)
        y = kernels.leaky_relu(x, self.negative_slope, out=self.room("y", x))
        self.cache = y if self.inplace else x  # its sign, which is y's too
        return y

    def backward(self, dy, wrt="all"):
        x = self.kept()
        self.check_gradient(dy, x.shape, x.dtype, wrt)
        if wrt == "params":
            return None
        return kernels.leaky_relu_grad(dy, x, self.negative_slope, out=self.room("dx", dy))

    def __repr__(self):
        return f"LeakyReLU({self.negative_slope})"


class ReLU(LeakyReLU):
    """y = max(x, 0);  dx = dy for x > 0, else 0 (at x = 0 too)."""

    def __init__(self, inplace=False):
        super().__init__(0.0, inplace)

    def __repr__(self):
        return "ReLU()"


class Tanh(Layer):
    """y = tanh x;  dx = dy (1 - y^2)."""

    def forward(self, x):
        self.check_input(x)
        y = kernels.tanh(x, out=self.empty_like("y", x))
        self.cache = y
        return y

    def backward(self, dy, wrt="all"):
        y = self.kept()
        self.check_gradient(dy, y.shape, y.dtype, wrt)
        return None if wrt == "params" else kernels.tanh_grad(dy, y, out=self.empty_like("dx", dy))


class Sigmoid(Layer):
    """y = 1 / (1 + exp(-x));  dx = dy y (1 - y) = dy y(x) y(-x)."""

    def forward(self, x):
        self.check_input(x)
        y = kernels.sigmoid(x, out=self.empty_like("y", x))
        self.cache = x, y  # not y alone: 1 - y has lost its digits where y is near 1, y(-x) has not
        return y

    def backward(self, dy, wrt="all"):
        x, y = self.kept()
        self.check_gradient(dy, x.shape, x.dtype, wrt)
        return None if wrt == "params" else kernels.sigmoid_grad(dy, x, y, out=self.empty_like("dx", dy))


class Softplus(Layer):
    """y = log(1 + exp(beta x)) / beta, and y = x where beta x > threshold;  dx = dy sigmoid(beta x), or dy there."""

    def __init__(self, beta=1.0, threshold=20.0):
        super().__init__()
        self.beta, self.threshold = float(beta), float(threshold)

    def forward(self, x):
        self.check_input(x)
        self.cache = x
        return kernels.softplus(x, self.beta, self.threshold, out=self.empty_like("y", x))

    def backward(self, dy, wrt="all"):
        x = self.kept()
        self.check_gradient(dy, x.shape, x.dtype, wrt)
        if wrt == "params":
            return None
        return kernels.softplus_grad(dy, x, self.beta, self.threshold, out=self.empty_like("dx", dy))

    def __repr__(self):
        return f"Softplus(beta={self.beta}, threshold={self.threshold})"
