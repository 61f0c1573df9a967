"""Optimizers in order of increasing complexity, with PyTorch's semantics, and schedules for their rates.

Each takes a network and steps its one flat vector: theta <- theta - (something made of grad). A learning rate
(and SGD's momentum) is a number or a schedule, a function of the number of steps done.
"""

import functools
from numbers import Real

import numpy as np

from scratchgan import backend, kernels
from scratchgan.layers.base import Layer


def exponential_decay(initial, factor, floor=0.0):
    """max(floor, initial / factor^step)."""
    return functools.partial(_exponential, initial, factor, floor)


def _exponential(initial, factor, floor, step):
    return max(floor, initial * factor**-step)  # which may underflow, but not overflow


def linear_ramp(first, last, start, stop):
    """`first` until step `start`, `last` from step `stop` on, a straight line between."""
    return functools.partial(_linear, first, last, start, stop)


def _linear(first, last, start, stop, step):
    if step >= stop:
        return last
    return first if step <= start else first + (last - first) * (step - start) / (stop - start)


class Optimizer:
    """The base. `state`: name -> 1-D array beside theta; `steps`: how many were made.

    The numbers that change between steps live in one small vector, `hyper` = (learning rate, momentum, steps),
    so that a step recorded on a device can read them there.
    """

    def __init__(self, network, lr, momentum=0.0, weight_decay=0.0):
        name = type(self).__name__
        if not isinstance(network, Layer):
            raise TypeError(f"{name}: expected a network (a Layer), got {type(network).__name__}; an optimizer takes "
                            "the network itself, not its parameters")
        for what, value in (("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay)):
            if callable(value) and what != "weight_decay":
                continue
            if not isinstance(value, Real) or not (value >= 0 and np.isfinite(value)):
                raise ValueError(f"{name}: {what} must be a finite number >= 0, not {value}")
        self.network, self.weight_decay = network, weight_decay
        self.schedules = {"lr": lr, "momentum": momentum}
        self.hyper = np.zeros(3)
        self.state = {}
        self._apply_schedules()

    lr = property(lambda self: float(self.hyper[0]))
    momentum = property(lambda self: float(self.hyper[1]))
    steps = property(lambda self: int(self.hyper[2]))

    def _apply_schedules(self):
        for i, value in enumerate(self.schedules.values()):
            self.hyper[i] = value(self.steps) if callable(value) else value

    def zero_grad(self):
        """Set the network's gradients to zero."""
        self.network.zero_grad()

    def step(self):
        """Change theta by one step along the gradient that is in `network.grad`."""
        self._apply_schedules()
        theta, grad = self.network.theta, self.network.grad
        if self.weight_decay:
            grad = grad + theta.dtype.type(self.weight_decay) * theta
        self.update(theta, grad)
        self.hyper[2] += 1

    def update(self, theta, grad):
        """Step theta in place."""
        raise NotImplementedError

    def vector(self, name):
        """The state vector `name`, zero at first."""
        if name not in self.state:
            self.state[name] = backend.zeros_like(self.network.theta)
        return self.state[name]

    def state_dict(self):
        """{"steps": (1,) int64, name: vector, ...} on the host."""
        return {"steps": np.array([self.steps]), **{k: backend.to_host(v).copy() for k, v in self.state.items()}}

    def load_state_dict(self, state):
        name, size = type(self).__name__, self.network.theta.size
        if "steps" not in state:
            raise ValueError(f"{name}: the state dict lacks 'steps'")
        vectors = {key: value for key, value in state.items() if key != "steps"}
        for key, value in vectors.items():
            if value.shape != (size,):
                raise ValueError(f"{name}: {key!r} has shape {tuple(value.shape)}, expected ({size},)")
        dtype, device = self.network.dtype, self.network.device
        self.state = {}
        for key, value in vectors.items():
            self.vector(key)[...] = backend.to_device(np.array(value, dtype), device)
        self.hyper[2] = int(state["steps"][0])
        self._apply_schedules()


def require_eps(optimizer, eps):
    if not (eps >= 0 and np.isfinite(eps)):
        raise ValueError(f"{type(optimizer).__name__}: eps must be a finite number >= 0, not {eps}")


class SGD(Optimizer):
    """g = grad;  b = momentum b + (1 - dampening) g (b = g at first);  theta -= lr b.

    With nesterov theta -= lr (g + momentum b); without momentum theta -= lr g. (Sutskever et al. 2013.)
    """

    def __init__(self, network, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
        super().__init__(network, lr, momentum, weight_decay)
        if nesterov and (not momentum or dampening):
            raise ValueError("SGD: nesterov needs a momentum and no dampening")
        self.dampening, self.nesterov = dampening, nesterov

    def update(self, theta, grad):
        kind, direction = theta.dtype.type, grad
        if self.schedules["momentum"]:
            b, first = self.vector("momentum_buffer"), self.steps == 0
            b *= kind(self.momentum)
            b += grad if first else kind(1 - self.dampening) * grad
            direction = grad + kind(self.momentum) * b if self.nesterov else b
        theta -= kind(self.lr) * direction


class RMSprop(Optimizer):
    """v = alpha v + (1 - alpha) g^2;  theta -= lr g / (sqrt(v) + eps).  (Tieleman and Hinton 2012, lecture 6.5.)

    `centered` subtracts the square of the running mean of g from v; with `momentum`, b = momentum b + g / (...)
    and theta -= lr b.
    """

    def __init__(self, network, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False):
        super().__init__(network, lr, momentum, weight_decay)
        require_eps(self, eps)
        if not 0 <= alpha < 1:
            raise ValueError(f"RMSprop: alpha must be a number from 0 to below 1, not {alpha}")
        self.alpha, self.eps, self.centered = alpha, eps, centered

    def update(self, theta, grad):
        kind, xp = theta.dtype.type, self.network.xp
        v = self.vector("square_avg")
        v *= kind(self.alpha)
        v += kind(1 - self.alpha) * (grad * grad)
        spread = v
        if self.centered:
            mean = self.vector("grad_avg")
            mean *= kind(self.alpha)
            mean += kind(1 - self.alpha) * grad
            spread = v - mean * mean
        direction = grad / (xp.sqrt(spread) + kind(self.eps))
        if self.schedules["momentum"]:
            b = self.vector("momentum_buffer")
            b *= kind(self.momentum)
            b += direction
            direction = b
        theta -= kind(self.lr) * direction


class Adam(Optimizer):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  theta -= lr m' / (sqrt(v') + eps), t = steps + 1,

    with m' = m / (1 - b1^t), v' = v / (1 - b2^t) (Kingma and Ba 2015, algorithm 1). `weight_decay` adds to the
    gradient. The state holds M = m / (1 - b1) and V = v / (1 - b2), so that with c = sqrt((1 - b2) / (1 - b2^t))

        M = b1 M + g;  V = b2 V + g^2;  theta -= lr (1 - b1) / ((1 - b1^t) c)  M / (sqrt(V) + eps / c)
    """

    def __init__(self, network, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(network, lr, weight_decay=weight_decay)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Adam: betas must be two numbers from 0 to below 1, not {betas}")
        require_eps(self, eps)
        self.betas, self.eps = tuple(betas), eps

    def update(self, theta, grad):
        (b1, b2), t = self.betas, self.steps + 1
        c = ((1 - b2) / (1 - b2**t)) ** 0.5
        rate = self.lr * (1 - b1) / ((1 - b1**t) * c)
        kernels.of(theta).adam(theta, grad, self.vector("m"), self.vector("v"), b1, b2, rate, self.eps / c)


@kernels.formula
def adam(theta, grad, m, v, beta1, beta2, rate, eps):
    """M = b1 M + g;  V = b2 V + g^2;  theta -= rate M / (sqrt(V) + eps), in place, all 1-D."""
    kind, xp = theta.dtype.type, backend.array_module(theta)
    m *= kind(beta1)
    m += grad
    v *= kind(beta2)
    v += grad * grad
    theta -= kind(rate) * m / (xp.sqrt(v) + kind(eps))
