"""spectral_norm."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_oracle import assert_close, assert_layer_like_torch, torch_module

from scratchgan import backend
from scratchgan.gradcheck import check_layer
from scratchgan.layers import Conv2d, ConvTranspose2d, LeakyReLU, Linear, Sequential, Tanh, spectral_norm

U, V, ORIGINAL = (f"parametrizations.weight.{name}" for name in ("0._u", "0._v", "original"))
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 4)


@st.composite
def cases(draw):
    """(name of the class, its arguments, input shape), for weights of more than one number."""
    n, n_in, n_out, k = draw(sizes), draw(sizes), draw(st.integers(2, 4)), draw(sizes)
    kind = draw(st.sampled_from(["Linear", "Conv2d", "ConvTranspose2d"]))
    if kind == "Linear":
        return kind, (n_in, n_out, draw(st.booleans())), (n, n_in)
    arguments = n_in, n_out, min(k, 3), draw(st.integers(1, 2))
    return kind, arguments, (n, n_in, 4, 3)


OURS = {"Linear": Linear, "Conv2d": Conv2d, "ConvTranspose2d": ConvTranspose2d}
options = st.fixed_dictionaries({"n_power_iterations": st.integers(1, 3), "dim": st.sampled_from([None, 0, 1, -1])})


def singular_values(layer, dim=0):
    w = backend.to_host(layer.params[ORIGINAL]).astype(np.float64)
    return np.linalg.svd(np.moveaxis(w, dim, 0).reshape(w.shape[dim], -1), compute_uv=False)


@given(cases(), options, seeds)
def test_every_gradient(case, options, seed):
    kind, arguments, shape = case
    layer = spectral_norm(OURS[kind](*arguments), **options).initialize(seed)
    check_layer(layer, input_shape=shape, seed=seed).raise_if_failed()


@given(cases(), options, st.booleans(), seeds)
def test_like_torch(case, options, training, seed):
    kind, arguments, shape = case
    torch = torch_module()
    layer = spectral_norm(OURS[kind](*arguments), **options).initialize(seed).train(training)
    theirs = torch.nn.utils.parametrizations.spectral_norm(getattr(torch.nn, kind)(*arguments), **options)
    x = np.random.default_rng(seed).standard_normal(shape)
    assert_layer_like_torch(layer, theirs, x, seed)
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in layer.state_dict().items()}, strict=True)
    theirs.train(training)
    for _ in range(3):
        y, expected = layer.forward(x.astype(np.float32)), theirs(torch.tensor(x.astype(np.float32)))
    assert_close(y, expected, 1e-5, "y")
    state = theirs.state_dict()
    assert set(state) == set(layer.state_dict())
    for key, value in layer.state_dict().items():
        assert value.shape == tuple(state[key].shape)
        np.testing.assert_allclose(value, state[key].numpy(), atol=1e-5)


@pytest.mark.parametrize("kind, arguments, shape", [
    ("Linear", (4, 3), (5, 4)), ("Conv2d", (2, 3, 3), (2, 2, 4, 4)), ("ConvTranspose2d", (3, 2, 2, 2), (2, 3, 3, 3))])
def test_every_gradient_on_each_device(device, kind, arguments, shape):
    layer = spectral_norm(OURS[kind](*arguments)).to(device)
    check_layer(layer, input_shape=shape).raise_if_failed()


def test_the_limit_is_the_largest_singular_value(device, rng):
    for layer, dim, shape in ((spectral_norm(Linear(6, 5, bias=False)), 0, (2, 6)),
                              (spectral_norm(Conv2d(3, 4, 2)), 0, (1, 3, 2, 2)),
                              (spectral_norm(ConvTranspose2d(3, 4, 2)), 1, (1, 3, 2, 2))):
        layer.initialize(0).to(device)
        x = backend.to_device(rng.standard_normal(shape).astype(np.float32), device)
        for _ in range(200):
            layer.forward(x)
        s = singular_values(layer, dim)
        v = backend.to_host(layer.normalised_weight())
        np.testing.assert_allclose(v * s[0], backend.to_host(layer.params[ORIGINAL]), rtol=1e-5, atol=1e-7)
        assert s[0] > 1.05 * s[1]  # else there would be nothing to find


def test_one_number_becomes_its_sign():
    layer = spectral_norm(Linear(1, 1, bias=False))
    layer.params[ORIGINAL][...] = -3
    assert layer.forward(np.full((2, 1), 5, np.float32)).tolist() == [[-5], [-5]]
    assert layer.backward(np.ones((2, 1), np.float32)).tolist() == [[-1], [-1]]
    assert layer.grads[ORIGINAL].tolist() == [[0]]


def test_at_the_limit_the_gradient_is_that_of_the_weight_over_its_largest_singular_value(rng):
    """u and v held fixed: what they would add is zero there."""
    layer = spectral_norm(Linear(4, 3, bias=False)).initialize(0).to(dtype="float64")
    x, dy = rng.standard_normal((5, 4)), rng.standard_normal((5, 3))
    for _ in range(500):
        layer.forward(x)
    layer.backward(dy)
    w = layer.params[ORIGINAL].copy()

    def loss(w):
        return (dy * (x @ (w / np.linalg.svd(w, compute_uv=False)[0]).T)).sum()
    for index in np.ndindex(w.shape):
        step = np.zeros_like(w)
        step[index] = 1e-6
        central = (loss(w + step) - loss(w - step)) / 2e-6
        assert abs(layer.grads[ORIGINAL][index] - central) < 1e-7


def test_only_a_training_pass_of_the_network_itself_iterates(device, rng):
    layer = spectral_norm(Linear(5, 4)).initialize(1).to(device)
    x = backend.to_device(rng.standard_normal((3, 5)).astype(np.float32), device)
    twin = layer.twin()

    def vectors():
        return [backend.to_host(layer.buffers[key]).copy() for key in (U, V)]
    before = vectors()
    for other in (twin, layer.twin().eval(), layer.eval()):
        other.backward(other.forward(x))
    with pytest.raises(ValueError):
        layer.train().forward(x[:, 1:])
    assert all(map(np.array_equal, vectors(), before))
    y = layer.forward(x)
    assert not any(map(np.array_equal, vectors(), before))
    assert np.array_equal(backend.to_host(twin.train().forward(x)), backend.to_host(y))


def test_backward_belongs_to_its_own_forward_pass(rng):
    layer, x = spectral_norm(Linear(5, 4)).initialize(1), rng.standard_normal((3, 5)).astype(np.float32)
    layer.forward(x)
    again = copy.deepcopy(layer)
    twin = layer.twin()
    y = twin.forward(x)
    layer.forward(x)  # moves u and v
    expected = again.eval().backward(again.forward(x))
    np.testing.assert_array_equal(twin.backward(y), expected)
    np.testing.assert_array_equal(twin.grad, again.grad)


def test_weights_drawn_again_have_new_vectors():
    net = Sequential(spectral_norm(Linear(6, 5)), LeakyReLU(0.2), spectral_norm(Linear(5, 1))).initialize(3)
    for layer in (net[0], net[2]):
        s = singular_values(layer)
        assert s[0] / np.linalg.svd(layer.normalised_weight(), compute_uv=False)[0] == pytest.approx(s[0], rel=0.02)
    other = Sequential(spectral_norm(Linear(6, 5)), LeakyReLU(0.2), spectral_norm(Linear(5, 1))).initialize(3)
    assert all(np.array_equal(value, other.state_dict()[key]) for key, value in net.state_dict().items())
    assert set(net.state_dict()) == {f"{i}.{key}" for i in (0, 2) for key in ("bias", ORIGINAL, U, V)}
    assert other.initialize(4).state_dict()[f"0.{U}"].tolist() != net.state_dict()[f"0.{U}"].tolist()


def test_after_zero_grad_only_the_last_pass_counts(rng):
    net = Sequential(spectral_norm(Conv2d(2, 4, 4, 2, 1)), LeakyReLU(0.2), spectral_norm(Conv2d(4, 1, 2)))
    x = rng.standard_normal((2, 2, 4, 4)).astype(np.float32)
    again = copy.deepcopy(net)
    for _ in range(3):
        y = net.forward(x)
        net.zero_grad()
        net.backward(y, "params")
    for _ in range(3):
        y0 = again.forward(x)
    again.backward(y0)
    np.testing.assert_array_equal(y, y0)
    np.testing.assert_array_equal(net.grad, again.grad)
    assert net.grad.any()


def test_refusals():
    for layer, options, words in (
            (Tanh(), {}, r"Tanh\(\) has no parameter 'weight' of 2 axes"),
            (Linear(3, 2), {"name": "bias"}, "no parameter 'bias' of 2 axes"),
            (spectral_norm(Linear(3, 2)), {}, r"spectral_norm\(Linear\(3, 2\)\) has no parameter 'weight'"),
            (Linear(3, 2), {"n_power_iterations": 0}, "n_power_iterations must be 1 or more, not 0"),
            (Linear(3, 2), {"dim": 2}, "dim 2 is out of range for a weight of 2 axes"),
            (Sequential(Linear(3, 2))[0], {}, "belongs to a network")):
        with pytest.raises(ValueError, match=words):
            spectral_norm(layer, **options)
    with pytest.raises(TypeError, match="expected a Layer, got str"):
        spectral_norm("Linear")
    layer = spectral_norm(Linear(3, 2))
    assert isinstance(layer, Linear)
    with pytest.raises(RuntimeError, match="Linear: backward needs a forward pass first"):
        layer.backward(np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"Linear: expected input of shape \(\.\.\., 3\), got \(2, 2\)"):
        layer.forward(np.zeros((2, 2), np.float32))
    assert set(layer.params) == set(layer.grads) == {ORIGINAL, "bias"}
