"""Optimizers in order of increasing complexity, with PyTorch's semantics.

Each takes a network and steps its one flat vector: theta <- theta - (something made of grad). A learning rate, a
momentum and Adam's betas are numbers or schedules: see `scratchgan.schedules`.
"""

import numpy as np

from scratchgan import backend, kernels, recording, schedules
from scratchgan.layers.base import Layer


class Optimizer:
    """The base. `state`: name -> 1-D array beside theta; `steps`: how many were made.

    `schedules`: name -> number or schedule of what may change between steps: lr, and `more`. Their values of a step
    live in one small vector, `hyper` = (lr, ..., steps), so that a step recorded on a device can read them there.
    """

    def __init__(self, network, lr, weight_decay=0.0, **more):
        name = type(self).__name__
        if not isinstance(network, Layer):
            raise TypeError(f"{name}: expected a network (a Layer), got {type(network).__name__}; an optimizer takes "
                            "the network itself, not its parameters")
        if callable(weight_decay):
            raise ValueError(f"{name}: weight_decay must be a number, not a schedule")
        schedules.check(f"{name}: weight_decay", weight_decay)
        self.network, self.weight_decay = network, weight_decay
        self.schedules = {"lr": lr, **more}
        for what, schedule in self.schedules.items():
            schedules.check(f"{name}: {what}", schedule, below=1 if what.startswith("beta") else np.inf)
        self.hyper = np.zeros(len(self.schedules) + 1)
        self.state = {}
        self.vectors = None  # the names in `state` once a step was made, where a subclass tells them
        self._apply_schedules()

    lr = property(lambda self: float(self.hyper[0]))
    steps = property(lambda self: int(self.hyper[-1]))

    def _apply_schedules(self):
        self.hyper[:-1] = self.scheduled(self.steps)

    def scheduled(self, step):
        """[lr, ...] after this many steps."""
        return [float(schedules.value(schedule, step)) for schedule in self.schedules.values()]

    def numbers(self, function):
        """function(steps) in theta's precision, such as `scheduled`: what a formula takes, also of a recorded step."""
        return recording.values(function, self.steps, self.network.theta.dtype, of=self)

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
        self.hyper[-1] += 1

    def made(self, steps):
        """Count steps, 1 or more, that a recording has made; rates are then those of the last of them."""
        self.hyper[-1] += steps - 1
        self._apply_schedules()
        self.hyper[-1] += 1

    def update(self, theta, grad):
        """Step theta in place."""
        raise NotImplementedError

    def reset(self):
        """Begin anew: moments are zero, no step was made, schedules start again."""
        for vector in self.state.values():
            vector.fill(0)
        self.hyper[-1] = 0
        self._apply_schedules()

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
        if self.vectors is not None and vectors.keys() != {*(self.vectors if vectors or state["steps"][0] else ())}:
            raise ValueError(f"{name}: the state dict has the vectors {', '.join(vectors) or 'none'}, where this "
                             f"optimizer has {', '.join(self.vectors) or 'none'}")
        dtype, device = self.network.dtype, self.network.device
        self.state = {}
        for key, value in vectors.items():
            self.vector(key)[...] = backend.to_device(np.array(value, dtype), device)
        self.hyper[-1] = int(state["steps"][0])
        self._apply_schedules()


def require_eps(optimizer, eps):
    if not (eps >= 0 and np.isfinite(eps)):
        raise ValueError(f"{type(optimizer).__name__}: eps must be a finite number >= 0, not {eps}")


class SGD(Optimizer):
    """g = grad;  b = momentum b + (1 - dampening) g (b = g at first);  theta -= lr b.

    With nesterov theta -= lr (g + momentum b); without momentum theta -= lr g. (Sutskever et al. 2013.)
    """

    def __init__(self, network, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
        super().__init__(network, lr, weight_decay, momentum=momentum)
        if nesterov and (not momentum or dampening):
            raise ValueError("SGD: nesterov needs a momentum and no dampening")
        self.dampening, self.nesterov = dampening, nesterov
        self.vectors = ("momentum_buffer",) if momentum else ()

    momentum = property(lambda self: float(self.hyper[1]))

    def update(self, theta, grad):
        b = self.vector("momentum_buffer") if self.schedules["momentum"] else None
        kernels.of(theta).sgd(theta, grad, b, *self.numbers(self.constants), self.nesterov)

    def constants(self, steps):
        """(momentum, the share of g in b, lr) of the step after this many."""
        lr, factor = self.scheduled(steps)
        return factor, 1 - self.dampening if steps else 1.0, lr


@kernels.formula
def sgd(theta, grad, b, factor, share, rate, nesterov):
    """b = factor b + share g;  theta -= rate b, in place, all 1-D. Nesterov: g + factor b for b; b is None: g."""
    direction = grad
    if b is not None:
        b *= factor
        b += share * grad
        direction = grad + factor * b if nesterov else b
    theta -= rate * direction


class Momentum(Optimizer):
    """v = momentum v - lr g;  theta += v: classical momentum (Sutskever et al. 2013, eqs. 1 and 2).

    While the rate is constant this is `SGD`, whose b is -v / lr. Where it falls, a past gradient keeps the rate of its
    own step here; there it gets that of today.
    """

    def __init__(self, network, lr=1e-3, momentum=0.9, weight_decay=0.0):
        super().__init__(network, lr, weight_decay, momentum=momentum)
        self.vectors = ("velocity",)

    momentum = property(lambda self: float(self.hyper[1]))

    def update(self, theta, grad):
        rate, factor = self.numbers(self.scheduled)
        kernels.of(theta).momentum(theta, grad, self.vector("velocity"), factor, rate)


@kernels.formula
def momentum(theta, grad, v, factor, rate):
    """v = factor v - rate g;  theta += v, in place, all 1-D."""
    v *= factor
    v -= rate * grad
    theta += v


class RMSprop(Optimizer):
    """v = alpha v + (1 - alpha) g^2;  theta -= lr g / (sqrt(v) + eps).  (Tieleman and Hinton 2012, lecture 6.5.)

    `centered` subtracts the square of the running mean of g from v; with `momentum`, b = momentum b + g / (...)
    and theta -= lr b.
    """

    def __init__(self, network, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False):
        super().__init__(network, lr, weight_decay, momentum=momentum)
        require_eps(self, eps)
        if not 0 <= alpha < 1:
            raise ValueError(f"RMSprop: alpha must be a number from 0 to below 1, not {alpha}")
        self.alpha, self.eps, self.centered = alpha, eps, centered
        self.vectors = ("square_avg", *["grad_avg"] * centered, *["momentum_buffer"] * bool(momentum))

    momentum = property(lambda self: float(self.hyper[1]))

    def update(self, theta, grad):
        v, (rate, factor) = self.vector("square_avg"), self.numbers(self.scheduled)
        mean = self.vector("grad_avg") if self.centered else None
        b = self.vector("momentum_buffer") if self.schedules["momentum"] else None
        kernels.of(theta).rmsprop(theta, grad, v, mean, b, self.alpha, self.eps, factor, rate)


@kernels.formula
def rmsprop(theta, grad, v, mean, b, alpha, eps, factor, rate):
    """v = alpha v + (1 - alpha) g^2;  theta -= rate g / (sqrt(v) + eps), in place, all 1-D.

    With mean = alpha mean + (1 - alpha) g it is the root of v - mean^2, of 0 where rounding makes that less. With
    b = factor b + g / (...), theta -= rate b. Either is None where it is not used.
    """
    xp = backend.array_module(theta)
    v *= alpha
    v += (1 - alpha) * (grad * grad)
    spread = v
    if mean is not None:
        mean *= alpha
        mean += (1 - alpha) * grad
        spread = xp.maximum(v - mean * mean, 0)
    direction = grad / (xp.sqrt(spread) + eps)
    if b is not None:
        b *= factor
        b += direction
        direction = b
    theta -= rate * direction


class Adam(Optimizer):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  theta -= lr m' / (sqrt(v') + eps), t = steps + 1,

    with m' = m / (1 - b1^t), v' = v / (1 - b2^t) (Kingma and Ba 2015, algorithm 1). `weight_decay` adds to the
    gradient. Betas that are schedules have their values of the step in every formula, 1 - b^t included, as PyTorch's
    Adam has when they are set between steps; the weights of past gradients then no longer add up to 1.
    The state holds M = m / (1 - b1) and V = v / (1 - b2), so that with c = sqrt((1 - b2) / (1 - b2^t))

        M = b1' M + g;  V = b2' V + g^2;  theta -= lr (1 - b1) / ((1 - b1^t) c)  M / (sqrt(V) + eps / c)

    where b' = b (1 - a) / (1 - b), which is b while it stays as it was; a is the beta of the step before.
    """

    def __init__(self, network, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        if len(betas) != 2:
            raise ValueError(f"Adam: betas must be two numbers from 0 to below 1, or schedules of such, not {betas}")
        super().__init__(network, lr, weight_decay, beta1=betas[0], beta2=betas[1])
        require_eps(self, eps)
        self.eps, self.vectors = eps, ("m", "v")

    betas = property(lambda self: (float(self.hyper[1]), float(self.hyper[2])))

    def update(self, theta, grad):
        kernels.of(theta).adam(theta, grad, self.vector("m"), self.vector("v"), *self.numbers(self.constants))

    def constants(self, steps):
        """(b1', b2', lr (1 - b1) / ((1 - b1^t) c), eps / c) of the step after this many."""
        (lr, b1, b2), t = self.scheduled(steps), steps + 1
        _, a1, a2 = self.scheduled(max(0, steps - 1))
        c = ((1 - b2) / (1 - b2**t)) ** 0.5
        rate = lr * (1 - b1) / ((1 - b1**t) * c)
        return b1 * ((1 - a1) / (1 - b1)), b2 * ((1 - a2) / (1 - b2)), rate, self.eps / c


@kernels.formula
def adam(theta, grad, m, v, beta1, beta2, rate, eps):
    """M = b1 M + g;  V = b2 V + g^2;  theta -= rate M / (sqrt(V) + eps), in place, all 1-D."""
    m *= beta1
    m += grad
    v *= beta2
    v += grad * grad
    theta -= rate * m / (backend.array_module(theta).sqrt(v) + eps)
