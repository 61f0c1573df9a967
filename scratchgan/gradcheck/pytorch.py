"""PyTorch as the third oracle, where it is installed, for the layers and losses that it has under the same name.

A gradient may be right and yet be that of another function than the one meant, as where the forward pass and the
backward pass agree on a wrong stride. Here y, too, is compared with that of PyTorch, as are the buffers that a
training pass leaves; all in float64.
"""

import importlib.util
import inspect
import warnings
from functools import partial

import numpy as np

from scratchgan.gradcheck.oracles import host

PYTORCH = "PyTorch"
TOLERANCE = 1e-9
DRAWS = "Dropout"  # in training, a mask of its own
OLD = ("reduce", "size_average")  # arguments that "reduction" has replaced


def installed():
    return importlib.util.find_spec("torch") is not None


def _names(torch, layer):
    """What a layer's repr may be made of."""
    settings = {name: getattr(layer, name) for name in ("n_power_iterations", "eps", "dim") if hasattr(layer, name)}
    return {**vars(torch.nn), "spectral_norm": partial(torch.nn.utils.parametrizations.spectral_norm, **settings)}


def module_like(layer):
    """PyTorch's module for a layer of the package, its state loaded; None where there is none."""
    of_package = all(type(sub).__module__.startswith("scratchgan.layers.") for _, sub in layer.named_layers())
    if not installed() or not of_package or (layer.training and DRAWS in repr(layer)):
        return None
    import torch

    try:  # names, arguments and defaults are PyTorch's
        module = eval(repr(layer), {"__builtins__": {}}, _names(torch, layer))
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
