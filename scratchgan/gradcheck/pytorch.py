"""PyTorch as the third oracle, where it is installed, for the layers and losses that it has under the same name.

A gradient may be right and yet be that of another function than the one meant, as where the forward pass and the
backward pass agree on a wrong stride. Here y, too, is compared with that of PyTorch, as are the buffers that a
training pass leaves; all in float64. Second-order gradients are compared with its double backward.
"""

import copy
import importlib.util
import inspect
import warnings
from contextlib import contextmanager
from functools import partial

import numpy as np

from scratchgan.gradcheck.oracles import host
from scratchgan.gradcheck.report import PYTORCH

TOLERANCE = 1e-9
DRAWS = "Dropout"  # in training, a mask of its own
OLD = ("reduce", "size_average")  # arguments that "reduction" has replaced


def installed():
    return importlib.util.find_spec("torch") is not None


def _names(torch, layer):
    """What a layer's repr may be made of."""
    settings = {name: getattr(layer, name) for name in ("n_power_iterations", "eps", "dim") if hasattr(layer, name)}
    return {**vars(torch.nn), "spectral_norm": partial(torch.nn.utils.parametrizations.spectral_norm, **settings)}


def module_like(layer, **others):
    """PyTorch's module for a layer of the package, its state loaded; None where there is none.

    others   class name -> a function that makes PyTorch's module for layers of that class, which are not the package's
    """
    of_package = all(type(sub).__module__.startswith("scratchgan.layers.") or type(sub).__name__ in others
                     for _, sub in layer.named_layers())
    if not installed() or not of_package or (layer.training and DRAWS in repr(layer)):
        return None
    import torch

    try:  # names, arguments and defaults are PyTorch's
        module = eval(repr(layer), {"__builtins__": {}}, {**_names(torch, layer), **others})
    except (NameError, SyntaxError, TypeError):  # TypeError: an older PyTorch lacks an argument
        return None
    module = module.double().train(layer.training)
    module.load_state_dict({key: torch.from_numpy(value) for key, value in layer.state_dict().items()}, strict=True)
    return module


def check_layer_by_pytorch(report, layer, trained, x, passed):
    """Rows for y, every gradient, and every buffer after the pass, which `trained` has made from `layer`'s state."""
    module = module_like(layer)
    if module is None:
        return
    import torch

    t = torch.tensor(host(x), requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's advice on what is slow there
        y = module(t)
    report.compare("y", PYTORCH, passed.y, y.detach().numpy(), TOLERANCE)
    y.backward(torch.tensor(host(passed.dy)))
    theirs = {"x": t.grad, **{name: value.grad for name, value in module.named_parameters()}}
    for tensor, gradient in passed.gradients().items():
        report.compare(tensor, PYTORCH, gradient, theirs[tensor].numpy(), TOLERANCE, floor=passed.floor(tensor))
    state = trained.state_dict()
    for name, value in module.named_buffers():
        report.compare(name, PYTORCH, state[name].astype(np.float64), value.double().numpy(), TOLERANCE)


def loss_like(loss):
    """PyTorch's loss of this name with these settings, or None."""
    if not installed() or type(loss).__module__ != "scratchgan.losses":
        return None
    import torch

    kind = getattr(torch.nn, type(loss).__name__)
    settings = {name: getattr(loss, name) for name in inspect.signature(kind).parameters
                if hasattr(loss, name) and name not in OLD}
    for name in ("weight", "pos_weight"):
        if settings.get(name) is not None:
            settings[name] = torch.tensor(np.asarray(host(settings[name]), np.float64))
    return kind(**settings)


def check_loss_by_pytorch(report, loss, input, target, dy, y, gradient):
    """Rows for the loss and its gradient."""
    module = loss_like(loss)
    if module is None:
        return
    import torch

    z, t = torch.tensor(host(input), requires_grad=True), torch.tensor(host(target))
    theirs = module(z, t)
    report.compare("y", PYTORCH, y, theirs.detach().numpy(), TOLERANCE)
    theirs.backward(*[] if dy is None else [torch.tensor(host(dy))])
    report.compare("input", PYTORCH, gradient, z.grad.numpy(), TOLERANCE)


# -- second order --------------------------------------------------------------------------------------------------


@contextmanager
def one_thread():
    """Inside, PyTorch computes on one thread: a few rows are too little work to share."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def chain(*modules):
    import torch

    return torch.nn.Sequential(*modules)


def residual(f):
    """x + f(x)."""
    import torch

    class Residual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.f = f

        def forward(self, x):
            return x + self.f(x)
    return Residual()


def losses_of(name):
    """(loss_d, loss_g), functions of the scores of real and of fake samples, of a row of the objectives' table."""
    from torch.nn.functional import softplus

    return {"non-saturating": (lambda real, fake: softplus(-real).mean() + softplus(fake).mean(),
                               lambda real, fake: softplus(-fake).mean()),
            "relativistic": (lambda real, fake: softplus(fake - real).mean(),
                             lambda real, fake: softplus(real - fake).mean()),
            "wasserstein": (lambda real, fake: fake.mean() - real.mean(), lambda real, fake: -fake.mean())}[name]


def double_backward(module, objective, formula, points):
    """{name: gradient} of loss_d + formula(dD/dx at each of the points), the first two being real and fake."""
    import torch

    points = [torch.tensor(x, requires_grad=True) for x in points]
    slopes = [torch.autograd.grad(module(x).sum(), x, create_graph=True)[0].flatten(1) for x in points]
    loss = losses_of(objective)[0](*map(module, points[:2])) + formula(*slopes)
    module.zero_grad()
    loss.backward()
    return {name: value.grad.numpy().copy() for name, value in module.named_parameters()}


def look_ahead(module, objective, optimizer, steps, real, fake):
    """{"fake": gradient} of loss_g after some steps of D by Adam or SGD, all of them in the graph."""
    import torch

    def scores(x):
        return torch.func.functional_call(module, theta, (x,))
    loss_d, loss_g = losses_of(objective)
    real, fake, theta = torch.tensor(real), torch.tensor(fake, requires_grad=True), dict(module.named_parameters())
    update = (adam if "m" in optimizer.state else sgd)(optimizer, theta)
    for _ in range(steps):
        loss = loss_d(scores(real), scores(fake))
        grads = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        theta = {name: update(name, value, g) for (name, value), g in zip(theta.items(), grads, strict=True)}
    return {"fake": torch.autograd.grad(loss_g(scores(real), scores(fake)), fake)[0].numpy()}


def sgd(optimizer, theta):
    return lambda name, value, g: value - optimizer.lr * g


def adam(optimizer, theta):
    """Kingma and Ba 2015, algorithm 1, from the moments that our optimizer has: its are divided by 1 - beta."""
    import torch

    (b1, b2), eps, moments, t = optimizer.betas, optimizer.eps, {}, dict.fromkeys(theta, optimizer.steps)
    for key, beta in (("m", b1), ("v", b2)):
        layout = copy.deepcopy(optimizer.network)
        layout.theta[...] = optimizer.state[key]
        moments[key] = {name: (1 - beta) * torch.from_numpy(value) for name, value in layout.state_dict().items()}
    m, v = moments["m"], moments["v"]

    def update(name, value, g):
        t[name] += 1
        m[name] = b1 * m[name] + (1 - b1) * g
        v[name] = b2 * v[name] + (1 - b2) * g * g
        return value - (optimizer.lr * m[name] / (1 - b1 ** t[name])
                        / ((v[name] / (1 - b2 ** t[name])).sqrt() + eps))
    return update
