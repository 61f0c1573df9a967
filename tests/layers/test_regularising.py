import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_oracle import assert_layer_like_torch, torch_module

from scratchgan import backend
from scratchgan.gradcheck import check_layer
from scratchgan.layers import Dropout, Sequential

seeds = st.integers(0, 2**32 - 1)


@given(st.floats(0, 0.7), st.sampled_from([(20,), (4, 6), (3, 3, 4)]), seeds)
def test_every_gradient(p, shape, seed):
    check_layer(Dropout(p), input_shape=shape, seed=seed, batch_of_one=False).raise_if_failed()


@pytest.mark.parametrize("shape", [(3, 5), (12,)])
def test_every_gradient_on_each_device(device, shape):
    check_layer(Dropout(0.4).to(device), input_shape=shape, batch_of_one=False).raise_if_failed()


def test_p_of_one_drops_everything():
    layer, x = Dropout(1.0), np.ones((3, 4), np.float32)
    assert not layer.forward(x).any()
    assert not layer.backward(x).any()
    assert np.array_equal(layer.eval().forward(x), x)


@pytest.mark.parametrize("p, training", [(0.0, True), (1.0, True), (0.3, False)])
def test_like_torch_where_nothing_is_random(p, training):
    layer = Dropout(p).train(training)
    x = np.random.default_rng(0).standard_normal((3, 4))
    assert_layer_like_torch(layer, torch_module().nn.Dropout(p), x)


def test_drops_p_and_keeps_the_mean():
    x = np.ones((200, 500), np.float32)
    y = Dropout(0.3).forward(x)
    assert set(np.unique(y)) == {0, np.float32(1 / 0.7)}
    assert abs((y == 0).mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / x.size)
    assert abs(y.mean() - 1) < 0.01


@pytest.mark.parametrize("net", [Sequential(Dropout(0.5), Dropout(0.5)),
                                 Sequential(Sequential(Dropout(0.5)), Sequential(Sequential(Dropout(0.5)))),
                                 Sequential(Dropout(0.5), Dropout(0.5)).twin()], ids=["flat", "nested", "twin"])
def test_layers_of_a_network_draw_independent_masks_without_set_step(net):
    """As in PyTorch: of two layers in a row a quarter is kept, and the mean stays."""
    x = np.ones((400, 100), np.float32)
    for _ in range(2):
        y = net(x)
        assert set(np.unique(y)) == {0, 4}
        assert abs((y != 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / x.size)
        assert abs(y.mean() - 1) < 0.05
    again = net(x)
    assert not np.array_equal(again, y)


def test_two_networks_draw_independent_masks_without_set_step():
    masks = [Sequential(Dropout(0.5))(np.ones((200, 50), np.float32)) for _ in range(2)]
    assert abs((masks[0] * masks[1] != 0).mean() - 0.25) < 0.03


def test_after_set_step_the_masks_are_those_of_the_keys_whenever_the_layers_were_built():
    def masks():
        net = Sequential(Dropout(0.5), Sequential(Dropout(0.5)))
        net.set_step(3, 4, "discriminator")
        return net(np.ones((20, 30), np.float32))
    assert np.array_equal(masks(), masks())


def test_mask_is_a_function_of_seed_key_step_and_pass(device):
    x = backend.to_device(np.ones((8, 16), np.float32), device)
    def masks(seed, step):
        net = Sequential(Dropout(), Dropout()).to(device)
        net.set_step(seed, step)
        return [backend.to_host(layer.forward(x)) for layer in (net[0], net[1], net[0])]
    first, other_key, other_pass = masks(1, 2)
    assert np.array_equal(masks(1, 2)[0], first)
    assert np.array_equal(masks(1, 2)[2], other_pass)
    for mask in (other_key, other_pass, masks(0, 2)[0], masks(1, 3)[0]):
        assert not np.array_equal(mask, first)


def test_mask_of_a_sample_does_not_depend_on_the_batch():
    layer = Dropout()
    layer.set_step(0, 0)
    whole = layer.forward(np.ones((8, 5), np.float32))
    layer.set_step(0, 0)
    assert np.array_equal(layer.forward(np.ones((3, 5), np.float32)), whole[:3])


def test_same_mask_in_every_precision():
    results = []
    for dtype in ("float32", "float64", "complex128"):
        layer = Dropout()
        layer.set_step(0, 0)
        results.append(layer.forward(np.ones((6, 5), dtype)) != 0)
    assert all(np.array_equal(result, results[0]) for result in results)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape, axes", [((4, 3, 5, 2), (0, 2, 3, 1)), ((4, 6), (1, 0))], ids=["NHWC", "F"])
def test_results_keep_the_memory_order_and_the_mask(device, rng, shape, axes, training):
    layer, x = Dropout(0.5).to(device).train(training), rng.standard_normal(shape).astype(np.float32)
    def passes(x):
        layer.set_step(0, 0)
        return layer.forward(x), layer.backward(x)
    plain = passes(backend.to_device(x, device))
    turned = backend.to_device(np.ascontiguousarray(x.transpose(axes)), device).transpose(np.argsort(axes).tolist())
    for result, expected in zip(passes(turned), plain, strict=True):
        # CuPy's operators give rows in any case.
        assert expected.flags.c_contiguous and (device == "cuda" or result.transpose(axes).flags.c_contiguous)
        assert (result == expected).all()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(), (0, 3), (3, 0)])
def test_scalars_and_empty_batches(device, shape, training):
    layer = Dropout(0.5).to(device).train(training)
    y = layer.forward(backend.to_device(np.ones(shape, np.float32), device))
    assert y.shape == shape and y.dtype == np.float32
    assert layer.backward(y).shape == shape


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_p_must_be_a_probability(p):
    with pytest.raises(ValueError, match="Dropout: p must be a probability from 0 to 1"):
        Dropout(p)


def test_copies_of_a_layer_draw_apart_in_one_network():
    once = Sequential(Dropout(0.5))
    net = Sequential(*[copy.deepcopy(once) for _ in range(2)], *[pickle.loads(pickle.dumps(once)) for _ in range(2)])
    y = net(np.ones((400, 100), np.float32))
    assert abs((y != 0).mean() - 1 / 16) < 0.01 and abs(y.mean() - 1) < 0.1
