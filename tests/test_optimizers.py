"""Optimizers: against the published formulas written plainly, and against PyTorch where it is installed."""

import numpy as np
import pytest

from scratchgan import backend
from scratchgan.layers import Linear
from scratchgan.optimizers import SGD, Adam, Momentum, RMSprop
from scratchgan.schedules import cosine, linear, value


def network_and_grads(device="cpu", steps=12, dtype="float64"):
    rng = np.random.default_rng(0)
    network = Linear(4, 3).to(device, dtype)
    return network, [rng.standard_normal(network.theta.size) for _ in range(steps)]


def run(optimizer, grads):
    network = optimizer.network
    for grad in grads:
        network.grad[...] = backend.to_device(grad.astype(network.dtype), network.device)
        optimizer.step()
    return backend.to_host(network.theta)


def plain_sgd(theta, grads, lr, momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0):
    b = None
    for g in grads:
        g = g + weight_decay * theta
        b = g if b is None else momentum * b + (1 - dampening) * g
        theta = theta - lr * (g + momentum * b if nesterov else b if momentum else g)
    return theta


def plain_rmsprop(theta, grads, lr, alpha=0.99, eps=1e-8, momentum=0.0, centered=False, weight_decay=0.0):
    v = mean = b = 0
    for g in grads:
        g = g + weight_decay * theta
        v, mean = alpha * v + (1 - alpha) * g * g, alpha * mean + (1 - alpha) * g
        direction = g / (np.sqrt(v - mean**2 if centered else v) + eps)
        b = momentum * b + direction
        theta = theta - lr * b
    return theta


def plain_adam(theta, grads, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    m = v = 0
    for t, g in enumerate(grads, 1):
        g = g + weight_decay * theta
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        theta = theta - lr * (m / (1 - betas[0]**t)) / (np.sqrt(v / (1 - betas[1]**t)) + eps)
    return theta


CASES = [
    (SGD, plain_sgd, {"lr": 0.1}),
    (SGD, plain_sgd, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    (SGD, plain_sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (RMSprop, plain_rmsprop, {"lr": 0.01}),
    (RMSprop, plain_rmsprop, {"lr": 0.01, "alpha": 0.9, "momentum": 0.5, "centered": True, "weight_decay": 0.1}),
    (Adam, plain_adam, {"lr": 0.01}),
    (Adam, plain_adam, {"lr": 0.02, "betas": (0.5, 0.99), "eps": 1e-3, "weight_decay": 0.1}),
    (Adam, plain_adam, {"lr": 0.02, "betas": (0.0, 0.9)}),
]
SCHEDULED = [
    (SGD, {"lr": cosine(0.1, 0.01, 9), "momentum": linear(0.5, 0.9, 8)}),
    (RMSprop, {"lr": cosine(0.1, 0.01, 9)}),
    (Momentum, {"lr": cosine(0.1, 0.01, 9), "momentum": linear(0.0, 0.9, 8), "weight_decay": 0.1}),
    (Adam, {"lr": linear(0.1, 0.0, 9), "betas": (linear(0.0, 0.5, 9), cosine(0.9, 0.99, 7))}),
]


@pytest.mark.parametrize(("cls", "plain", "settings"), CASES)
def test_equals_the_published_formula(device, cls, plain, settings):
    network, grads = network_and_grads(device)
    start = backend.to_host(network.theta).copy()
    got = run(cls(network, **settings), grads)
    assert np.abs(got - plain(start, grads, **settings)).max() < 1e-12
    assert np.abs(got - start).max() > 0.01


@pytest.mark.parametrize(("cls", "plain", "settings"), CASES)
def test_equals_pytorch(cls, plain, settings):
    torch = pytest.importorskip("torch")
    network, grads = network_and_grads()
    theta = torch.nn.Parameter(torch.from_numpy(network.theta.copy()))
    peer = getattr(torch.optim, cls.__name__)([theta], **settings)
    for grad in grads:
        theta.grad = torch.from_numpy(grad.copy())
        peer.step()
    assert np.abs(run(cls(network, **settings), grads) - theta.detach().numpy()).max() < 1e-12


@pytest.mark.parametrize(("cls", "settings"), [(cls, settings) for cls, _, settings in CASES] + SCHEDULED)
def test_resumes_bit_for_bit_and_keeps_float32(cls, settings):
    network, grads = network_and_grads(dtype="float32")
    start = network.theta.copy()
    whole = run(cls(network, **settings), grads).copy()
    network.theta[...] = start
    first = cls(network, **settings)
    run(first, grads[:5])
    state = first.state_dict()
    assert all(v.dtype == np.float32 for k, v in state.items() if k != "steps")
    second = cls(network, **settings)
    second.load_state_dict(state)
    assert second.steps == 5
    assert run(second, grads[5:]).tobytes() == whole.tobytes()


@pytest.mark.parametrize(("cls", "settings"), [(cls, settings) for cls, _, settings in CASES] + SCHEDULED)
def test_reset_begins_anew(cls, settings, device):
    network, grads = network_and_grads(device)
    optimizer = cls(network, **settings)
    run(optimizer, grads[:5])
    begun = network.theta.copy()
    optimizer.reset()
    reset = run(optimizer, grads[5:]).copy()
    network.theta[...] = begun
    assert np.array_equal(run(cls(network, **settings), grads[5:]), reset)


def test_schedules_follow_the_step():
    network, grads = network_and_grads()
    start = network.theta.copy()
    rates = [0.1, 0.2, 0.4]
    got = run(SGD(network, lr=lambda step: rates[step]), grads[:3])
    assert np.abs(got - (start - sum(r * g for r, g in zip(rates, grads)))).max() < 1e-14
    optimizer = SGD(network, lr=0.1, momentum=linear(0.5, 0.7, 20))
    assert (optimizer.lr, optimizer.momentum, optimizer.steps) == (0.1, 0.5, 0)


def plain_momentum(theta, grads, lr, momentum):
    v = 0
    for step, g in enumerate(grads):
        v = value(momentum, step) * v - value(lr, step) * g
        theta = theta + v
    return theta


def test_classical_momentum_keeps_the_rate_of_each_gradient(device):
    network, grads = network_and_grads(device)
    start, falling = backend.to_host(network.theta).copy(), {"lr": linear(0.1, 0.0, 6), "momentum": linear(0.5, 0.7, 8)}
    got = run(Momentum(network, **falling), grads).copy()
    assert np.abs(got - plain_momentum(start, grads, **falling)).max() < 1e-14
    network.theta[...] = backend.to_device(start, device)
    assert np.abs(run(SGD(network, **falling), grads) - got).max() > 0.01
    assert np.abs(plain_momentum(start, grads, 0.1, 0.9) - plain_sgd(start, grads, 0.1, 0.9)).max() < 1e-14


# -- betas that change ---------------------------------------------------------------------------------------------

BETAS = [(0.0, cosine(0.9, 0.99, 8)), (linear(0.9, 0.2, 5), 0.999), (cosine(0.5, 0.9, 30), linear(0.99, 0.5, 9))]


def plain_changing_adam(theta, grads, lr, betas, eps=1e-8):
    """`plain_adam` with the betas of the step in every place."""
    m = v = 0
    for t, g in enumerate(grads, 1):
        b1, b2 = (value(beta, t - 1) for beta in betas)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        theta = theta - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return theta


@pytest.mark.parametrize("betas", BETAS)
def test_changing_betas_equal_the_plain_formula(device, betas):
    network, grads = network_and_grads(device)
    start = backend.to_host(network.theta).copy()
    got = run(Adam(network, 0.01, betas), grads)
    assert np.abs(got - plain_changing_adam(start, grads, 0.01, betas)).max() < 1e-12
    fixed = plain_adam(start, grads, 0.01, [value(beta, 0) for beta in betas])
    assert np.abs(got - fixed).max() > 1e-3  # they do change something


@pytest.mark.parametrize("betas", BETAS)
def test_changing_betas_equal_pytorchs_when_set_by_hand(betas):
    torch = pytest.importorskip("torch")
    network, grads = network_and_grads()
    theta = torch.nn.Parameter(torch.from_numpy(network.theta.copy()))
    peer = torch.optim.Adam([theta], lr=0.01)
    for step, grad in enumerate(grads):
        peer.param_groups[0]["betas"] = tuple(value(beta, step) for beta in betas)
        theta.grad = torch.from_numpy(grad.copy())
        peer.step()
    assert np.abs(run(Adam(network, 0.01, betas), grads) - theta.detach().numpy()).max() < 1e-12


def test_a_schedule_that_stays_has_the_bits_of_a_number():
    network, grads = network_and_grads(dtype="float32")
    start, ends = network.theta.copy(), set()
    for betas in ((0.9, 0.999), (lambda step: 0.9, lambda step: 0.999), (np.float64(0.9), np.float64(0.999))):
        network.theta[...] = start
        ends.add(run(Adam(network, 0.01, betas), grads).tobytes())
    assert len(ends) == 1
    network = Linear(2, 2)
    assert Adam(network, betas=(np.float32(0.5), 0)).betas == (0.5, 0.0)
    optimizer = Adam(network, lr=linear(1, 0, 4), betas=(0.5, linear(0.9, 0.8, 2)))
    assert (optimizer.lr, optimizer.betas, optimizer.hyper.tolist()) == (1.0, (0.5, 0.9), [1.0, 0.5, 0.9, 0.0])


@pytest.mark.parametrize(("make", "message"), [
    (lambda n: Adam(n, lr=-1), "Adam: lr must be a finite number >= 0, not -1"),
    (lambda n: SGD(n, lr=float("nan")), "SGD: lr must be a finite number >= 0, not nan"),
    (lambda n: Adam(n, betas=(0.9, 1.0)), r"Adam: beta2 must be a number from 0 to below 1, not 1\.0"),
    (lambda n: SGD(n, nesterov=True), "SGD: nesterov needs a momentum"),
    (lambda n: RMSprop(n, momentum=-0.1), "RMSprop: momentum must be a finite number >= 0"),
    (lambda n: Adam(n, eps=-1.0), r"Adam: eps must be a finite number >= 0, not -1\.0"),
    (lambda n: Adam(n, eps=float("nan")), "Adam: eps must be a finite number >= 0, not nan"),
    (lambda n: RMSprop(n, eps=float("inf")), "RMSprop: eps must be a finite number >= 0, not inf"),
    (lambda n: RMSprop(n, eps=-1e-9), "RMSprop: eps must be a finite number >= 0, not -1e-09"),
    (lambda n: RMSprop(n, alpha=2.0), r"RMSprop: alpha must be a number from 0 to below 1, not 2\.0"),
    (lambda n: RMSprop(n, alpha=-0.1), r"RMSprop: alpha must be a number from 0 to below 1, not -0\.1"),
    (lambda n: RMSprop(n, alpha=float("nan")), "RMSprop: alpha must be a number from 0 to below 1, not nan"),
    (lambda n: Adam(n, betas=(float("nan"), 0.9)), "Adam: beta1 must be a number from 0 to below 1, not nan"),
    (lambda n: Adam(n, betas=(0.9,)), r"Adam: betas must be two numbers from 0 to below 1, or schedules of such, not "),
    (lambda n: Adam(n, betas=(0.9, lambda step: 1)), "Adam: beta2 must be a number from 0 to below 1, not 1"),
    (lambda n: Adam(n, lr=lambda step: -1.0), r"Adam: lr must be a finite number >= 0, not -1\.0"),
    (lambda n: Adam(n, weight_decay=lambda step: 0.1), "Adam: weight_decay must be a number, not a schedule"),
    (lambda n: Adam(n, weight_decay=-1), "Adam: weight_decay must be a finite number >= 0, not -1"),
])
def test_refuses_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make(Linear(2, 2))


@pytest.mark.parametrize("what", [Linear(2, 2).parameters(), list(Linear(2, 2).parameters()), Linear(2, 2).theta, None],
                         ids=["generator", "list", "array", "None"])
def test_takes_a_network(what):
    with pytest.raises(TypeError, match=f"Adam: .*network.*{type(what).__name__}"):
        Adam(what)


def test_numbers_at_the_edge_are_taken():
    network = Linear(2, 2)
    assert Adam(network, eps=0.0, betas=(0, 0)).eps == 0 and RMSprop(network, alpha=0, eps=0).alpha == 0


@pytest.mark.parametrize("make", [SGD, RMSprop, Adam])
def test_zero_grad_is_the_networks(make):
    network = Linear(4, 3)
    optimizer = make(network)
    network.backward(network(np.ones((2, 4), np.float32)))
    assert network.grad.any()
    optimizer.zero_grad()
    assert not network.grad.any()
    start = network.theta.copy()
    optimizer.step()
    assert np.array_equal(network.theta, start)


def test_a_loop_of_ones_own_as_in_pytorch():
    """zero_grad, backward, step: the same weights as PyTorch's own loop."""
    torch = pytest.importorskip("torch")
    network, x = Linear(4, 3).initialize(0), np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    module = torch.nn.Linear(4, 3)
    module.load_state_dict({key: torch.from_numpy(value) for key, value in network.state_dict().items()})
    optimizer, peer = Adam(network, lr=0.1), torch.optim.Adam(module.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        y = network(x)
        network.backward(2 * y / y.size)
        optimizer.step()
        peer.zero_grad()
        module(torch.from_numpy(x)).square().mean().backward()
        peer.step()
    for key, ours in network.state_dict().items():
        np.testing.assert_allclose(ours, module.state_dict()[key].numpy(), rtol=1e-3, atol=1e-5)


def test_refuses_a_state_of_another_network():
    state = Adam(Linear(2, 2)).state_dict() | {"m": np.zeros(7)}
    with pytest.raises(ValueError, match=r"Adam: 'm' has shape \(7,\), expected \(6,\)"):
        Adam(Linear(2, 2)).load_state_dict(state)
    with pytest.raises(ValueError, match="lacks 'steps'"):
        Adam(Linear(2, 2)).load_state_dict({})


def test_refuses_the_state_of_another_optimizer():
    net = Linear(2, 2)
    (made := SGD(net, momentum=0.9)).step()
    (adam := Adam(net)).step()
    half = {name: value for name, value in adam.state_dict().items() if name != "v"}
    for state, has in ((made.state_dict(), "momentum_buffer"), (half, "m"), ({"steps": np.array([3])}, "none")):
        with pytest.raises(ValueError, match=rf"Adam: the state dict has the vectors {has}, where .* has m, v"):
            Adam(net).load_state_dict(state)
    with pytest.raises(ValueError, match="SGD: the state dict has the vectors m, v, where this optimizer has none"):
        SGD(net).load_state_dict(adam.state_dict())
    Adam(net).load_state_dict(Adam(net).state_dict())  # before its first step


def test_a_constant_gradient_has_no_spread(device):
    """v - mean^2 is 0, and in float32 now and then less: its root would be NaN."""
    network = Linear(9, 9).to(device)
    optimizer, rng = RMSprop(network, centered=True), np.random.default_rng(0)
    run(optimizer, [rng.standard_normal(network.theta.size)] * 1500)
    assert np.isfinite(backend.to_host(network.theta)).all()


@pytest.mark.parametrize("make", [lambda n: Adam(n, lr="1"), lambda n: Adam(n, betas=("1", 0.9))])
def test_what_is_no_number_is_refused_at_once(make):
    with pytest.raises(ValueError, match="must be"):
        make(Linear(2, 2))
