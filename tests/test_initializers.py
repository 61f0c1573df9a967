"""Initial weights: the distributions, their bounds, and where they are drawn from."""

import copy
import math
import pickle

import numpy as np
import pytest

from scratchgan import initializers
from scratchgan.layers import LeakyReLU, Linear, Sequential

SHAPE = (300, 200)  # fan_in 200, fan_out 300


def spread(init, shape=SHAPE):
    w = init(shape, 0, "test")
    assert w.shape == shape and w.dtype == np.float32
    assert abs(w.mean()) < 5 * w.std() / math.sqrt(w.size)
    return w.std(), np.abs(w).max()


@pytest.mark.parametrize(("init", "std"), [
    (initializers.normal(0.02), 0.02),
    (initializers.xavier_normal(), math.sqrt(2 / 500)),
    (initializers.xavier_normal(gain=5 / 3), 5 / 3 * math.sqrt(2 / 500)),
    (initializers.kaiming_normal(), math.sqrt(2 / 200)),
    (initializers.kaiming_normal(0.2), math.sqrt(2 / 1.04 / 200)),
])
def test_normal_initializers_have_the_published_deviation(init, std):
    assert spread(init)[0] == pytest.approx(std, rel=0.02)


@pytest.mark.parametrize(("init", "bound"), [
    (initializers.uniform(-0.05, 0.05), 0.05),
    (initializers.fan_in_uniform(200), 1 / math.sqrt(200)),
    (initializers.xavier_uniform(), math.sqrt(6 / 500)),
    (initializers.kaiming_uniform(), math.sqrt(6 / 200)),
    (initializers.kaiming_uniform(math.sqrt(5)), 1 / math.sqrt(200)),  # PyTorch's way to its Linear default
])
def test_uniform_initializers_fill_the_published_interval(init, bound):
    std, largest = spread(init)
    assert std == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert 0.99 * bound < largest <= bound * (1 + 1e-6)


def test_fans_count_the_kernel():
    assert initializers.fans((8, 4, 3, 5)) == (60, 120)
    with pytest.raises(ValueError, match=r"two or more dimensions, not shape \(3,\)"):
        initializers.fans((3,))


def test_marginal_logit_is_the_logit_of_the_mean_image():
    images = np.array([[[0.0, 1.0, 0.0]], [[1.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]]])
    bias = initializers.marginal_logit(images)((3,), 0, "bias")  # the last two are always 1 and always 0
    assert bias == pytest.approx([math.log(0.25 / 0.75), math.log(0.999 / 0.001), math.log(0.001 / 0.999)], rel=1e-6)


@pytest.mark.parametrize("images", [np.full((2, 3), 128, np.uint8), np.full((2, 3), -0.1), np.full((2, 3), np.nan)])
def test_marginal_logit_takes_values_from_0_to_1(images):
    with pytest.raises(ValueError, match=r"marginal_logit: values must lie in \[0, 1\]"):
        initializers.marginal_logit(images)


def test_initialize_draws_by_seed_and_key():
    def network():
        return Sequential(Linear(4, 4), LeakyReLU(), Linear(4, 4))

    a, b, c = network().initialize(1), network().initialize(1), network().initialize(2)
    assert a.theta.tobytes() == b.theta.tobytes()
    assert not np.any(a.theta == c.theta)
    assert not np.any(a[0].params["weight"] == a[2].params["weight"])
    expected = initializers.fan_in_uniform(4)((4, 4), 1, "init/2.weight")
    assert np.array_equal(a.state_dict()["2.weight"], expected)
    assert not np.any(network().initialize(1, "generator").theta == a.theta)


@pytest.mark.parametrize("init", [
    initializers.zeros, initializers.ones, initializers.constant(np.array([[1.0, 2.0]] * 3)),
    initializers.uniform(-1, 2), initializers.normal(0.02, 1.0), initializers.fan_in_uniform(4),
    initializers.xavier_uniform(2.0), initializers.xavier_normal(), initializers.kaiming_uniform(0.2),
    initializers.kaiming_normal()], ids=lambda init: f"{init.func.__name__}{init.args[:1] if init.args else ''}"[:30])
def test_pickled_and_copied_they_draw_the_same(init):
    for again in (pickle.loads(pickle.dumps(init)), copy.deepcopy(init)):
        assert again((3, 2), 5, "x").tobytes() == init((3, 2), 5, "x").tobytes()


def test_marginal_logit_may_be_pickled():
    init = pickle.loads(pickle.dumps(initializers.marginal_logit(np.full((4, 1, 2), 0.25))))
    assert init((2,), 0, "bias") == pytest.approx(math.log(0.25 / 0.75))
