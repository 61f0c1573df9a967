"""The one selector: kernels or formulas, chosen as a pass begins, and that they agree."""

import contextvars
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from scratchgan import backend, kernels
from scratchgan.gradcheck.catalogue import layer_cases
from scratchgan.gradcheck.oracles import relative_error
from scratchgan.kernels import FORMULAS, plain
from scratchgan.kernels.formulas import Functions
from scratchgan.layers import BatchNorm2d, Conv2d, LeakyReLU, Linear, Sequential, Sigmoid, Softplus, Tanh
from scratchgan.losses import BCEWithLogitsLoss, CrossEntropyLoss
from scratchgan.optimizers import Adam

X = np.zeros(3, np.float32)
CASES = [(layer, shape) for cases in layer_cases().values() for layer, shape, *_ in cases]
every_layer = pytest.mark.parametrize(("layer", "shape"), CASES, ids=[f"{layer} {shape}" for layer, shape in CASES])


def chosen():
    return kernels.of(X) is FORMULAS


# -- where plain() holds -------------------------------------------------------------------------------------------


def test_kernels_outside_formulas_inside(device):
    x = backend.to_device(X, device)
    outside = kernels.of(x)
    assert outside is (kernels.numpy.FASTER if device == "cpu" else kernels.cupy.faster()) is not FORMULAS
    with plain():
        assert kernels.of(x) is FORMULAS
    assert kernels.of(x) is outside


def test_nested():
    with plain():
        with plain(False):
            assert not chosen()
            with plain():
                assert chosen()
            assert not chosen()
        assert chosen()
        with plain():
            pass
        assert chosen()
    assert not chosen()


def test_left_by_an_exception():
    with pytest.raises(ValueError, match="boom"), plain():
        raise ValueError("boom")
    assert not chosen()


def test_a_generator_may_be_left_inside():
    def steps():
        with plain():
            yield chosen()
    inside = steps()
    assert next(inside)
    inside.close()
    assert not chosen()


def test_one_thread_does_not_choose_for_another():
    entered, leave, seen = threading.Event(), threading.Event(), []

    def other():
        with plain():
            seen.append(chosen())
            entered.set()
            leave.wait(10)
            seen.append(chosen())
    thread = threading.Thread(target=other)
    thread.start()
    try:
        assert entered.wait(10) and not chosen()
        with plain():
            new = threading.Thread(target=lambda: seen.append(chosen()))
            new.start()
            new.join(10)
            assert chosen()
        assert not chosen()
    finally:
        leave.set()
        thread.join(10)
    assert seen == [True, False, True]


def test_it_belongs_to_the_context():
    with plain():
        context = contextvars.copy_context()
    assert context.run(chosen) and not chosen()


def test_complex_values_take_the_formulas():
    for dtype in ("complex64", "complex128"):
        z = np.zeros(3, dtype)
        assert kernels.of(z) is kernels.of(X, z) is kernels.of(z, X) is FORMULAS
        with plain(False):
            assert kernels.of(X, X, z) is FORMULAS
    assert kernels.of(X, X) is kernels.numpy.FASTER


def test_what_has_no_faster_way_is_the_formula():
    assert kernels.of(X).layer_norm_grad is FORMULAS.layer_norm_grad
    assert kernels.of(X).tanh_grad is not FORMULAS.tanh_grad
    with pytest.raises(AttributeError, match="there is no formula 'tahn_grad': import the file of its layer"):
        kernels.of(X).tahn_grad  # noqa: B018
    with pytest.raises(AttributeError, match="there is no formula 'tahn'"):
        FORMULAS.tahn  # noqa: B018


@pytest.mark.parametrize("value, expected", [("1", True), ("yes", True), ("0", False), ("", False), (None, False)])
def test_the_environment_variable(value, expected):
    code = ("import numpy as np\nfrom scratchgan import kernels\nx = np.ones(2, 'float32')\n"
            "print(kernels.of(x) is kernels.FORMULAS)\n"
            "with kernels.plain(False):\n    print(kernels.of(x) is kernels.FORMULAS)\n"
            "with kernels.plain():\n    print(kernels.of(x) is kernels.FORMULAS)\n")
    environment = {key: text for key, text in os.environ.items() if key != "SCRATCHGAN_PLAIN"}
    if value is not None:
        environment["SCRATCHGAN_PLAIN"] = value
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(expected), "False", "True"]


# -- from forward to backward --------------------------------------------------------------------------------------


class Forbidden(Functions):
    """Functions that this pass has no business with."""

    def __getattribute__(self, name):
        raise AssertionError(f"the other {name} was asked for in backward")


def forbid(monkeypatch, names):
    """No function of these names may be called from here on."""
    def forbidden(*arguments, **named):
        raise AssertionError("backward used another kind of function than forward did")
    for name in names:
        monkeypatch.setattr(kernels.FORMULAS, name, forbidden)


@every_layer
def test_a_pass_that_began_inside_plain_ends_with_the_formulas(monkeypatch, rng, layer, shape):
    layer, x = layer.twin(), rng.standard_normal(shape).astype(np.float32)
    with plain():
        y = layer.forward(x)
        expected = layer.backward(y)
        grad = layer.grad.copy()
        y = layer.forward(x) if type(layer).__name__ != "Dropout" else y
        layer.zero_grad()
    monkeypatch.setattr(kernels.numpy, "FASTER", Forbidden())
    assert np.array_equal(layer.backward(y), expected) and np.array_equal(layer.grad, grad)


@pytest.mark.parametrize("make, shape", [
    (Tanh, (4, 5)), (Sigmoid, (4, 5)), (Softplus, (4, 5)), (LeakyReLU, (4, 5)), (lambda: BatchNorm2d(3), (2, 3, 4, 4)),
    (lambda: Conv2d(2, 3, 3), (2, 2, 6, 6)), (lambda: Linear(4, 3), (5, 4))],
    ids=["Tanh", "Sigmoid", "Softplus", "LeakyReLU", "BatchNorm2d", "Conv2d", "Linear"])
def test_a_pass_that_began_outside_ends_with_the_kernels(monkeypatch, rng, make, shape):
    layer, x = make(), rng.standard_normal(shape).astype(np.float32)
    layer = layer.twin()
    y = layer.forward(x)
    expected = layer.backward(y)
    layer.zero_grad()
    forbid(monkeypatch, ["tanh_grad", "sigmoid_grad", "softplus_grad", "leaky_relu_grad", "batch_norm_sums",
                         "batch_norm_grad", "convolution", "channel_sums"])
    with plain():
        assert np.array_equal(layer.backward(y), expected)


def test_the_layers_of_a_network_may_differ():
    net, x = Sequential(Tanh(), Tanh()), np.full(3, 0.5, np.float32)
    with plain():
        h = net[0].forward(x)
    net[1].forward(h)
    assert net[0].ops() is FORMULAS and net[1].ops() is kernels.numpy.FASTER
    with plain(False):
        assert net.backward(x).shape == (3,) and net[0].ops() is FORMULAS


# -- kernels and formulas agree ------------------------------------------------------------------------------------


def passes(layer, x, dy, seed=0):
    layer = layer.twin()
    layer.set_step(seed, 0)
    y = layer.forward(x)
    dx = layer.backward(dy(y))
    return {"y": y, "dx": dx, **{key: sub.grads[name] for prefix, sub in layer.named_layers() for name in sub.params
                                 for key in [f"{prefix}{name}"]}}


def assert_agree(layer, x, dtype):
    layer = layer.to(dtype=dtype)
    x, rng = x.astype(dtype), np.random.default_rng(1)
    direction = rng.standard_normal(layer.twin().forward(x).shape).astype(dtype)
    fast = passes(layer, x, lambda y: direction)
    with plain():
        formulas = passes(layer, x, lambda y: direction)
    assert list(fast) == list(formulas)
    for name, value in fast.items():
        assert value.dtype == formulas[name].dtype == dtype and value.shape == formulas[name].shape
        error, where = relative_error(value, formulas[name])
        assert error <= (2e-6 if dtype == "float32" else 1e-13), f"{name} at {where}"


@every_layer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("training", [True, False])
def test_they_agree_for_every_layer(rng, layer, shape, dtype, training):
    assert_agree(layer.train(training), rng.standard_normal(shape), dtype)
    layer.to(dtype="float32").train()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_they_agree_in_a_network_of_larger_layers(rng, dtype):
    net = Sequential(Conv2d(3, 16, 4, 2, 1), LeakyReLU(0.2), Conv2d(16, 24, 4, 2, 1, bias=False), BatchNorm2d(24),
                     Tanh()).initialize(0)
    assert_agree(net, rng.standard_normal((8, 3, 32, 32)), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", [BCEWithLogitsLoss(), BCEWithLogitsLoss(reduction="sum", pos_weight=3.0),
                                  CrossEntropyLoss()], ids=repr)
def test_they_agree_for_losses(rng, loss, dtype):
    z, t = (4 * rng.standard_normal((6, 5))).astype(dtype), rng.uniform(0, 1, (6, 5)).astype(dtype)
    fast = loss.forward(z, t), loss.backward()
    with plain():
        formulas = loss.forward(z, t), loss.backward()
    for value, expected in zip(fast, formulas, strict=True):
        assert relative_error(value, expected)[0] <= (1e-6 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_they_agree_for_adam(rng, dtype):
    grads = rng.standard_normal((5, 4 * 3 + 3)).astype(dtype)

    def theta():
        network = Linear(4, 3).initialize(0).to(dtype=dtype)
        optimizer = Adam(network, lr=0.1)
        for grad in grads:
            network.grad[...] = grad
            optimizer.step()
        return network.theta
    fast = theta()
    with plain():
        assert relative_error(fast, theta())[0] <= (1e-6 if dtype == "float32" else 1e-14)


# -- no word about numbers that become 0 ---------------------------------------------------------------------------

FAR = [-1e4, -745.0, -709.0, -200.0, -110.0, -104.0, -100.0, -88.0, -50.0, -1.0, 0.0, 1.0, 50.0, 88.0, 100.0, 200.0,
       745.0, 1e4]
TINY = [-1e-30, -1e-20, 1e-20, 1e-30]
functions = pytest.mark.parametrize("wanted", [False, True], ids=["kernels", "formulas"])


@functions
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", [Sigmoid, Softplus, lambda: Softplus(3.0, 1.0), lambda: Softplus(1.0, 1e5), Tanh],
                         ids=["Sigmoid", "Softplus", "beta", "threshold", "Tanh"])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_activations_at_any_argument_whatever_the_callers_errstate(make, dtype, wanted, size):
    """Where e^-200 is 0 nothing went wrong, nor where tanh' is 1 up to rounding."""
    x = np.array(FAR + TINY, dtype)
    dy = np.full_like(x, size)
    expected = make()
    with np.errstate(all="ignore"):
        y, dx = expected.forward(x), expected.backward(dy)
    with plain(wanted), np.errstate(all="raise"):
        layer = make()
        got = layer.forward(x), layer.backward(dy)
    eps = np.finfo(dtype).eps
    assert np.isfinite(got[0]).all() and np.isfinite(got[1]).all()
    np.testing.assert_allclose(got[0], y, rtol=8 * eps, atol=np.finfo(dtype).tiny)
    np.testing.assert_allclose(got[1], dx, rtol=8 * eps, atol=size * np.finfo(dtype).tiny)


@functions
def test_large_arrays_too(wanted):
    """Which threads share."""
    x = np.resize(np.array(FAR, np.float32), 1 << 21)
    with plain(wanted), np.errstate(all="raise"):
        for layer in (Sigmoid(), Softplus(), Tanh()):
            layer.backward(layer.forward(x))


@functions
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_losses_at_any_argument_whatever_the_callers_errstate(dtype, wanted):
    z = np.array(FAR, dtype)
    with plain(wanted), np.errstate(all="raise"):
        loss = BCEWithLogitsLoss()
        assert float(loss(np.array([-200, 200], dtype), np.array([0, 1], dtype))) < 1e-80
        assert float(np.abs(loss.backward()).max()) < 1e-80
        for target in (np.zeros_like(z), np.ones_like(z), np.full_like(z, 0.3)):
            assert np.isfinite(loss(z, target)) and np.isfinite(loss.backward()).all()
        loss = CrossEntropyLoss()
        rows = np.array([[-1e4, 0, 1e4], [-200, 0, 200], [-104, 0, -50], [0, 90, 110]], dtype)
        assert loss(rows[[0, 1, 3]], np.array([2, 2, 2])) < 1e-3 and np.isfinite(loss.backward()).all()
        assert np.isfinite(loss(rows, np.full_like(rows, 1 / 3))) and np.isfinite(loss.backward()).all()
        assert kernels.sigmoid(z)[0] == 0 and kernels.softplus(z)[0] == 0
