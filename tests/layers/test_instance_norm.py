"""InstanceNorm2d."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_oracle import assert_close, torch_module

from scratchgan import backend
from scratchgan.gan import Game, Latent, NonSaturating, passes
from scratchgan.gradcheck import check_layer
from scratchgan.layers import BatchNorm2d, Conv2d, Flatten, InstanceNorm2d, Linear, Sequential, Unflatten
from scratchgan.optimizers import SGD

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 3)
options = st.fixed_dictionaries({
    "eps": st.sampled_from([1e-5, 0.1]), "momentum": st.sampled_from([0.1, 1.0, None]), "affine": st.booleans(),
    "track_running_stats": st.booleans(), "bias": st.booleans()})


@st.composite
def images(draw, values=2):
    """(N, C, H, W) or (C, H, W) with at least so many values a channel."""
    height = draw(sizes)
    least = -(-values // height)
    return *draw(st.sampled_from([(), (1,), (3,)])), draw(sizes), height, draw(st.integers(least, least + 2))


def drawn(layer, seed):
    """The layer, its weights and buffers drawn."""
    rng = np.random.default_rng(seed)
    for name, value in {**layer.params, **layer.buffers}.items():
        if value.ndim:
            value[...] = rng.uniform(0.5, 2, value.shape) * (1 if name == "running_var" else rng.choice([-1, 1]))
    return layer


@given(images(values=5), options, seeds)  # of three, dx is one number, which may be small beside its rounding
def test_every_gradient(shape, options, seed):
    layer = drawn(InstanceNorm2d(shape[-3], **options), seed)
    check_layer(layer, input_shape=shape, seed=seed, batch_of_one=len(shape) == 4).raise_if_failed()


@given(images(), options, st.booleans(), seeds)
def test_like_torch(shape, options, training, seed):
    torch, rng = torch_module(), np.random.default_rng(seed)
    layer = drawn(InstanceNorm2d(shape[-3], **options), seed).to(dtype="float64").train(training)
    theirs = torch.nn.InstanceNorm2d(shape[-3], **options).double().train(training)
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in layer.state_dict().items()}, strict=True)
    for _ in range(2):
        x, dy = rng.normal(3, 2, shape), rng.standard_normal(shape)
        t = torch.tensor(x, requires_grad=True)
        y, yt = layer.forward(x), theirs(t)
        layer.zero_grad(), theirs.zero_grad()
        yt.backward(torch.tensor(dy))
        assert_close(y, yt, 1e-9, "y")
        assert_close(layer.backward(dy), t.grad, 1e-9, "dx")
        for name, parameter in theirs.named_parameters():
            assert_close(layer.grads[name], parameter.grad, 1e-9, name)
        for name, buffer in theirs.named_buffers():
            assert_close(layer.buffers[name], buffer, 1e-9, name)


@pytest.mark.parametrize("shape", [(0, 3, 2, 2), (2, 3, 0, 2)])
@pytest.mark.parametrize("options", [{}, {"affine": True, "track_running_stats": True}])
def test_no_images_move_nothing(device, shape, options):
    layer = drawn(InstanceNorm2d(3, **options), 0).to(device)
    before = layer.state_dict()
    y = layer.forward(backend.to_device(np.zeros(shape, np.float32), device))
    assert y.shape == layer.backward(y).shape == shape
    assert not backend.to_host(layer.grad).any()
    assert all(np.array_equal(value, before[key]) for key, value in layer.state_dict().items())


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (2, 3, 0, 1), (0, 2, 3, 1), (0, 2, 1, 3)])
@pytest.mark.parametrize("track_running_stats", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_any_memory_order(rng, axes, track_running_stats, training):
    layer = drawn(InstanceNorm2d(3, affine=True, track_running_stats=track_running_stats), 0).train(training)
    x, dy = rng.standard_normal((2, 2, 3, 4, 5)).astype(np.float32)
    expected = copy.deepcopy(layer)
    y0, dx0 = expected.forward(x), expected.backward(dy)
    turned, dturned = (np.ascontiguousarray(a.transpose(axes)).transpose(np.argsort(axes)) for a in (x, dy))
    y = layer.forward(turned)
    np.testing.assert_allclose(y, y0, atol=1e-6)
    dx = layer.backward(dturned)
    np.testing.assert_allclose(dx, dx0, atol=1e-6)
    np.testing.assert_allclose(layer.grad, expected.grad, atol=1e-5)
    for name, value in expected.buffers.items():
        np.testing.assert_allclose(layer.buffers[name], value, atol=1e-6)
    assert y.strides == dx.strides == turned.strides
    np.testing.assert_allclose(layer.backward(dy), dx0, atol=1e-6)  # stored in another order than x


def test_a_convolution_and_its_instances_convert_nothing(rng):
    net = Sequential(Conv2d(3, 8, 3), InstanceNorm2d(8))
    z = net[0].forward(rng.standard_normal((2, 3, 8, 6)).astype(np.float32))
    y = net[1].forward(z)
    dx = net[1].backward(y)
    assert backend.memory_order(z) == (0, 2, 3, 1)
    assert y.strides == dx.strides == z.strides


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 2, 3, 1), (2, 3, 0, 1)])
@pytest.mark.parametrize("options", [{}, {"affine": True, "track_running_stats": True}])
def test_results_are_stored_as_the_input_is(rng, axes, options):
    x = rng.standard_normal([(2, 3, 5, 4)[axis] for axis in axes]).astype(np.float32).transpose(np.argsort(axes))
    layer = InstanceNorm2d(3, **options)
    y = layer.forward(x)
    assert y.strides == layer.backward(y).strides == x.strides


def test_running_statistics_do_not_depend_on_whether_d_could_see_real_and_fake_in_one_pass(monkeypatch, rng):
    x, states = rng.uniform(-1, 1, (4, 1, 4, 4)).astype(np.float32), []
    for most in (0, passes.PIXELS_TOGETHER):
        monkeypatch.setattr(passes, "PIXELS_TOGETHER", most)
        G = Sequential(Linear(3, 16), Unflatten(1, (1, 4, 4))).initialize(0, "g")
        D = Sequential(InstanceNorm2d(1, track_running_stats=True), BatchNorm2d(1), Flatten(), Linear(16, 1))
        game = Game(G, D.initialize(0, "d"), NonSaturating(), SGD(G, 0), SGD(D, 0), latent=Latent(3),
                    sample_shape=(1, 4, 4))
        game.step(x)
        states.append(D.state_dict())
    assert all(np.array_equal(value, states[1][key]) for key, value in states[0].items())


def test_a_twin_leaves_the_running_statistics(rng):
    layer = InstanceNorm2d(2, track_running_stats=True)
    x, before = rng.standard_normal((2, 2, 3, 3)).astype(np.float32), layer.state_dict()
    layer.twin().forward(x)
    assert all(np.array_equal(value, before[key]) for key, value in layer.state_dict().items())
    layer.forward(x)
    assert not np.array_equal(layer.buffers["running_mean"], before["running_mean"])


def test_running_statistics_are_means_over_images_with_unbiased_variances(device, rng):
    """Eval mode takes them, and gives weight r dy back; no pass is counted."""
    layer = InstanceNorm2d(2, eps=0.5, momentum=0.25, track_running_stats=True).to(device)
    x = rng.normal(3, 2, (4, 2, 3, 5)).astype(np.float32)
    layer.forward(backend.to_device(x, device))
    mean = 0.25 * x.mean(axis=(0, 2, 3), dtype=np.float64)
    var = 0.75 + 0.25 * x.var(axis=(2, 3), ddof=1, dtype=np.float64).mean(axis=0)
    np.testing.assert_allclose(backend.to_host(layer.buffers["running_mean"]), mean, rtol=1e-6)
    np.testing.assert_allclose(backend.to_host(layer.buffers["running_var"]), var, rtol=1e-6)
    assert backend.to_host(layer.buffers["num_batches_tracked"]) == 0
    y = backend.to_host(layer.eval().forward(backend.to_device(x[:1, :, :1, :1], device)))  # of one pixel
    r = 1 / np.sqrt(var + 0.5)
    np.testing.assert_allclose(y[0, :, 0, 0], (x[0, :, 0, 0] - mean) * r, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(backend.to_host(layer.backward(backend.to_device(y, device)))[0, :, 0, 0],
                               y[0, :, 0, 0] * r, rtol=1e-5)
    np.testing.assert_allclose(backend.to_host(layer.buffers["running_mean"]), mean, rtol=1e-6)  # as before


def test_without_momentum_they_stay(rng):
    layer = InstanceNorm2d(2, momentum=None, track_running_stats=True)
    layer.forward(rng.standard_normal((2, 2, 3, 3)).astype(np.float32))
    assert layer.buffers["running_mean"].tolist() == [0, 0] and layer.buffers["running_var"].tolist() == [1, 1]


def test_an_image_does_not_see_those_beside_it(rng):
    """However many are taken for one batch elsewhere; in eval mode neither."""
    layer, x = drawn(InstanceNorm2d(3, affine=True), 0), rng.standard_normal((4, 3, 5, 4)).astype(np.float32)
    dy = rng.standard_normal(x.shape).astype(np.float32)
    assert not layer.couples_samples and not layer.knows_batches
    with layer.in_batches(2):
        y = layer.forward(x)
    dx = layer.backward(dy)
    assert np.array_equal(layer.train(False).forward(x), y)
    for i in range(4):
        np.testing.assert_allclose(layer.forward(x[i]), y[i], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(layer.backward(dy[i]), dx[i], rtol=1e-5, atol=1e-6)


def test_data_far_from_zero_keep_their_digits(device, rng):
    x = rng.normal(1e3, 1, (3, 2, 30, 20)).astype(np.float32)
    wide = x.astype(np.float64)
    d = wide - wide.mean(axis=(2, 3), keepdims=True)
    expected = d / np.sqrt((d * d).mean(axis=(2, 3), keepdims=True) + 1e-5)
    for axes in ((0, 1, 2, 3), (0, 2, 3, 1)):
        stored = np.ascontiguousarray(x.transpose(axes)).transpose(np.argsort(axes))
        y = backend.to_host(InstanceNorm2d(2).to(device).forward(backend.to_device(stored, device)))
        assert y.dtype == np.float32 and np.abs(y - expected).max() < 2e-6


def test_parameters():
    assert not InstanceNorm2d(3).state_dict() and not InstanceNorm2d(3, bias=True).params
    assert list(InstanceNorm2d(3, affine=True).params) == ["weight", "bias"]
    layer = InstanceNorm2d(3, affine=True, track_running_stats=True, bias=False)
    assert list(layer.state_dict()) == ["weight", "running_mean", "running_var", "num_batches_tracked"]
    assert layer.params["weight"].tolist() == [1, 1, 1]


def test_refusals():
    with pytest.raises(ValueError, match=r"InstanceNorm2d: eps must be 0 or more, not -0\.1"):
        InstanceNorm2d(3, -0.1)
    with pytest.raises(ValueError, match=r"InstanceNorm2d: expected more than 1 value a channel in training"):
        InstanceNorm2d(3).eval().forward(np.zeros((4, 3, 1, 1), np.float32))
    for shape in ((2, 4, 3, 3), (3, 3), (4, 3, 3)):
        with pytest.raises(ValueError, match=r"InstanceNorm2d: expected input of shape \(N, 3, H, W\) or \(3, H, W\)"):
            InstanceNorm2d(3).forward(np.zeros(shape, np.float32))
    assert repr(InstanceNorm2d(3)) == "InstanceNorm2d(3)"
    assert repr(InstanceNorm2d(3, 1e-5, 0.1, True)) == "InstanceNorm2d(3, affine=True)"
    assert repr(InstanceNorm2d(3, affine=True, bias=False)) == "InstanceNorm2d(3, affine=True, bias=False)"
