"""Tangents: second-order gradients by one more forward pass. Every layer's own is checked by `gradcheck`."""

import copy
import pickle

import numpy as np
import pytest
from torch_oracle import assert_close, torch_module

from scratchgan import backend, kernels
from scratchgan.derivatives import gradient_derivative
from scratchgan.gradcheck.oracles import relative_error
from scratchgan.layers import (
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Embedding,
    Flatten,
    LayerNorm,
    LeakyReLU,
    Linear,
    Maxout,
    MaxPool2d,
    ReLU,
    Sequential,
    Tanh,
    Upsample,
    spectral_norm,
)


def critic():
    return Sequential(Conv2d(2, 8, 4, 2, 1), LeakyReLU(0.2), Conv2d(8, 6, 4, 2, 1), LeakyReLU(0.2), Flatten(),
                      Linear(6 * 9, 5), ReLU(), Linear(5, 1)).initialize(0)


def penalty(D, x, weight=10.0):
    """WGAN-GP's, weight / N sum_n (|g_n| - 1)^2, g = dD/dx: its value; its gradient is added to D's."""
    s = D.forward(x)
    g = D.backward(backend.array_module(s).ones_like(s), "tangent")
    norm = ((g * g).sum(axis=(1, 2, 3), keepdims=True)) ** 0.5
    D.tangent(2 * weight / len(x) * (norm - 1) * g / norm)
    return weight * ((norm - 1) ** 2).mean()


def test_gradient_penalty_like_torchs_double_backward(rng):
    torch = torch_module()
    D, x = critic().to(dtype="float64"), rng.standard_normal((5, 2, 12, 12))
    nn = torch.nn
    module = nn.Sequential(nn.Conv2d(2, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 6, 4, 2, 1), nn.LeakyReLU(0.2),
                           nn.Flatten(), nn.Linear(54, 5), nn.ReLU(), nn.Linear(5, 1)).double()
    module.load_state_dict({key: torch.from_numpy(value) for key, value in D.state_dict().items()}, strict=True)
    t = torch.tensor(x, requires_grad=True)
    (g,) = torch.autograd.grad(module(t).sum(), t, create_graph=True)
    theirs = 10 * ((g.flatten(1).norm(dim=1) - 1) ** 2).mean()
    theirs.backward()
    D.zero_grad()
    assert penalty(D, x) == pytest.approx(theirs.item(), rel=1e-12)
    grads = {f"{prefix}{name}": grad for prefix, layer in D.named_layers() for name, grad in layer.grads.items()}
    assert grads["0.weight"].any() and grads["7.weight"].any()
    for name, parameter in module.named_parameters():
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert_close(grads[name], expected, 1e-9, name)


NETWORKS = {
    "critic": (critic, (5, 2, 12, 12)),
    "pooling": (lambda: Sequential(Conv2d(1, 4, 3), MaxPool2d(2), Upsample(scale_factor=2), LeakyReLU(0.1),
                                   AvgPool2d(3, 1), ConvTranspose2d(4, 2, 3, 2), ReLU(), Flatten(), Linear(162, 1)),
                (3, 1, 8, 8)),
    "maxout": (lambda: Sequential(Linear(3, 6), Dropout(0.3), Maxout(6, 4, 3), Dropout(0.3), Maxout(4, 1, 2)), (6, 3)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("plain", [False, True])
def test_both_routes_agree(device, name, plain):
    """With the loss fused in: z = c x + v gives the gradient of <c s> and of <v, g> together."""
    make, shape = NETWORKS[name]
    D = make().initialize(1).to(device, "float64")
    rng = np.random.default_rng(0)
    x, v = (backend.to_device(rng.standard_normal(shape), device) for _ in range(2))
    c = backend.to_device(rng.standard_normal(len(x)), device)
    by_sample = c.reshape(-1, *[1] * (len(shape) - 1))
    with kernels.plain(plain):
        D.set_step(0, 0)
        s = D.forward(x)
        g = D.backward(s / s, "tangent")
        D.zero_grad()
        y, of_tangent = D.tangent(by_sample * x + v, c), D.grad.copy()
        D.zero_grad()
        D.backward(c[:, None].copy())
        D.set_step(0, 0)
        expected = D.grad + gradient_derivative(D, x, s / s, v)
    assert D.is_piecewise_linear and expected.any()
    assert relative_error(of_tangent, expected)[0] <= 1e-12
    assert float((y - c[:, None] * s).sum()) == pytest.approx(float((g * v).sum()), rel=1e-9)  # c s + ds


def test_which_networks_are_piecewise_linear():
    class Residual(Sequential):
        def forward(self, x):
            return x + super().forward(x)

    class Named(Sequential):
        pass

    class Said(Residual):
        piecewise_linear = True

    conditional = Concat(None, Sequential(Embedding(3, 4), ReLU()))
    for network in (critic(), Sequential(), Named(Linear(2, 2)), Said(Linear(2, 2)), conditional, Maxout(2, 2, 2)):
        assert network.is_piecewise_linear, network
    for network in (Tanh(), BatchNorm1d(3), LayerNorm(3), spectral_norm(Linear(3, 2)), Residual(Linear(2, 2)),
                    Sequential(Linear(2, 2), Sequential(Tanh())), Sequential(Conv2d(1, 1, 1), BatchNorm2d(1))):
        assert not network.is_piecewise_linear, network


def test_what_it_needs_before(device):
    layer, x = Linear(3, 2).to(device), backend.to_device(np.ones((4, 3), np.float32), device)
    with pytest.raises(RuntimeError, match="Linear: tangent needs a forward pass first"):
        layer.tangent(x)
    y = layer.forward(x)
    for wrt in ("all", "input", "params"):
        layer.backward(y, wrt)
        with pytest.raises(RuntimeError, match=r'Linear: tangent needs backward\(dy, "tangent"\) of the last forward'):
            layer.tangent(x)
    layer.backward(y, "tangent")
    layer.tangent(x)
    for other in (layer.twin(), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer).to()):
        with pytest.raises(RuntimeError, match="tangent needs"):
            other.tangent(x)
    layer.forward(x)  # another pass: the dy held belongs to the one before
    with pytest.raises(RuntimeError, match="tangent needs backward"):
        layer.tangent(x)
    for layer in (BatchNorm1d(3), spectral_norm(Linear(3, 2))):
        with pytest.raises(NotImplementedError, match=f"{type(layer).__name__} does not define tangent"):
            layer.tangent(x)


@pytest.mark.parametrize("z, c, error, words", [
    (np.zeros((4, 2), np.float32), None, ValueError, r"a tangent like the last input, float32 of shape \(4, 3\), got"),
    (np.zeros((4, 3)), None, TypeError, "a tangent like the last input, float32 of shape .*, got float64"),
    ([0.0] * 3, None, TypeError, "a tangent like the last input, .* got list"),
    (np.zeros((4, 3), np.float32), np.zeros(3, np.float32), ValueError, r"c must be .* got \(3,\)"),
    (np.zeros((4, 3), np.float32), np.zeros((4, 1), np.float32), ValueError, r"c must be .* got \(4, 1\)"),
    (np.zeros((4, 3), np.float32), 2.0, ValueError, "c must be an array of one number a sample .* got 2.0")])
@pytest.mark.parametrize("make", [lambda: Linear(3, 2), ReLU, Flatten, Dropout, lambda: Maxout(3, 2, 2)])
def test_a_tangent_that_does_not_fit(make, z, c, error, words):
    layer = make()
    y = layer.forward(np.ones((4, 3), np.float32))
    layer.backward(y, "tangent")
    with pytest.raises(error, match=f"{type(layer).__name__}: {words}" if words[0] == "c" else words):
        layer.tangent(z, c)
    assert not layer.grad.any()
