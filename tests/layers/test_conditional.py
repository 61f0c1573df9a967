import numpy as np
import pytest
from torch_oracle import TOLERANCES, assert_close, torch_module

from scratchgan import backend, gradcheck
from scratchgan.gan import Game, Latent
from scratchgan.layers import BatchNorm1d, Concat, Conv2d, Embedding, LeakyReLU, Linear, Reshape, Sequential, Tanh
from scratchgan.optimizers import Adam


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape", [(), (7,), (2, 3), (0,)])
def test_embedding_like_torch(rng, dtype, shape):
    torch = torch_module()
    layer, labels = Embedding(5, 3).to(dtype=dtype), np.asarray(rng.integers(5, size=shape))
    module = torch.nn.Embedding(5, 3, dtype=getattr(torch, dtype))
    module.load_state_dict({key: torch.from_numpy(value) for key, value in layer.state_dict().items()}, strict=True)
    y, expected = layer.forward(labels), module(torch.from_numpy(labels))
    dy = np.asarray(rng.standard_normal(y.shape), dtype)
    assert layer.backward(dy) is None
    expected.backward(torch.from_numpy(dy))
    assert y.dtype == dtype and not np.shares_memory(y, layer.theta)
    assert_close(y, expected, 0, "y")
    assert_close(layer.grads["weight"], module.weight.grad, TOLERANCES[dtype], "weight")


def test_rows_start_normal_and_their_gradients_add_up(device):
    weight = backend.to_host(Embedding(1000, 10).to(device).params["weight"])
    assert abs(weight.mean()) < 0.05 and abs(weight.std() - 1) < 0.05
    layer, labels = Embedding(4, 2).to(device), backend.to_device(np.array([3, 1, 3], np.uint8), device)
    layer.forward(labels)
    dy = backend.to_device(np.array([[1, 2], [3, 4], [5, 6]], np.float32), device)
    for wrt in ("all", "input", "params", "tangent"):
        assert layer.backward(dy, wrt) is None
    assert layer.grads["weight"].tolist() == [[0, 0], [6, 8], [0, 0], [12, 16]]
    c = backend.to_device(np.array([1, 0, 2], np.float32), device)
    layer.zero_grad()
    assert layer.tangent(labels, c).tolist() == (c[:, None] * layer.forward(labels)).tolist()
    assert layer.grads["weight"].tolist() == [[0, 0], [0, 0], [0, 0], [11, 14]]


@pytest.mark.parametrize("labels, error, words", [
    (np.array([0.0, 1.0]), TypeError, "expected an array of whole numbers, got float64"),
    (np.array([True]), TypeError, "expected an array of whole numbers, got bool"),
    ([0, 1], TypeError, "expected an array of whole numbers, got list"),
    (np.array([0, 3]), ValueError, "labels must be from 0 to 2, got 0 to 3"),
    (np.array([-1, 2]), ValueError, "labels must be from 0 to 2, got -1 to 2")])
def test_labels_that_do_not_fit(labels, error, words):
    with pytest.raises(error, match=f"Embedding: {words}"):
        Embedding(3, 2).forward(labels)


def test_sizes_that_do_not_fit():
    for sizes, name in (((0, 2), "num_embeddings"), ((2, 1.5), "embedding_dim")):
        with pytest.raises(ValueError, match=f"Embedding: {name} must be a whole number, 1 or more"):
            Embedding(*sizes)


def test_parts_side_by_side(device):
    layer = Concat(None, Embedding(3, 2)).to(device)
    x, labels = (backend.to_device(value, device) for value in (np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2),
                                                                np.array([2, 0])))
    y = layer.forward((x, labels))
    assert y[:, :4].tolist() == x.reshape(2, 4).tolist()
    assert y[:, 4:].tolist() == layer.layers["1"].params["weight"][labels].tolist()
    dx, dlabels = layer.backward(2 * y)
    assert dx.tolist() == (2 * x).tolist() and dlabels is None
    assert layer.backward(y, "params") is None
    assert list(layer.state_dict()) == ["1.weight"] and repr(layer) == "Concat(Flatten(), Embedding(3, 2))"


def test_a_map_of_the_label_beside_an_image(rng):
    layer = Concat(Sequential(), Sequential(Embedding(3, 12), Reshape(1, 3, 4)))
    x = rng.standard_normal((5, 2, 3, 4)).astype(np.float32)
    y = layer.forward((x, np.array([0, 1, 2, 2, 1])))
    assert y.shape == (5, 3, 3, 4) and np.array_equal(y[:, :2], x) and np.array_equal(y[2, 2], y[3, 2])


@pytest.mark.parametrize("x, error, words", [
    (np.zeros((2, 3), np.float32), TypeError, r"expected a tuple of 2 parts, such as \(x, labels\), got ndarray"),
    ((np.zeros((2, 3), np.float32),), TypeError, "expected a tuple of 2 parts, .* got 1 parts"),
    ((np.zeros((2, 3), np.float32), np.zeros(3, int)), ValueError, r"shapes \(2, 3\), \(3, 2\) cannot be joined"),
    ((np.zeros((2, 3), np.float32), np.zeros((2, 1), int)), ValueError, r"shapes \(2, 3\), \(2, 1, 2\) cannot be")])
def test_parts_that_do_not_fit(x, error, words):
    with pytest.raises(error, match=f"Concat: .*{words}"):
        Concat(None, Embedding(4, 2)).forward(x)


def game(device="cpu", **settings):
    """A conditional game on images (1, 4, 4), with a convolution in D and batch normalisation in G."""
    G = Sequential(Concat(None, Embedding(10, 3)), Linear(5, 8), BatchNorm1d(8), LeakyReLU(0.1), Linear(8, 16), Tanh(),
                   Reshape(1, 4, 4)).initialize(0, "g").to(device)
    D = Sequential(Concat(Sequential(), Sequential(Embedding(10, 16), Reshape(1, 4, 4))), Conv2d(2, 4, 4, 2, 1),
                   LeakyReLU(0.2), Reshape(-1), Linear(16, 1)).initialize(0, "d").to(device)
    return Game(G, D, "non-saturating", Adam(G, 1e-2), Adam(D, 1e-2), latent=Latent(2), sample_shape=(1, 4, 4),
                classes=10, **settings)


@pytest.mark.parametrize("settings", [{}, {"joint_batch": False}, {"n_critic": 2}, {"simultaneous": True}],
                         ids=lambda settings: next(iter(settings), "plain"))
def test_a_conditional_game(rng, settings):
    images, labels = rng.uniform(-1, 1, (6, 1, 4, 4)).astype(np.float32), np.array([0, 9, 2, 2, 5, 9])
    gradcheck.check_game(game(**settings), images, labels, steps=2, directions=2, entries=5,
                         zero=("generator.1.bias",)).raise_if_failed()


def test_a_conditional_game_on_each_device(device, rng):
    played = game(device)
    images = backend.to_device(rng.uniform(-1, 1, (6, 1, 4, 4)).astype(np.float32), device)
    before = backend.to_host(played.discriminator.theta).copy()
    played.step(images, np.arange(6))
    assert np.isfinite(backend.to_host(played.generator.theta)).all()
    rows = (backend.to_host(played.discriminator.theta) - before)[:160].reshape(10, 16)
    assert rows[:6].any(axis=1).all() and not rows[6:].any()  # labels that were not there learn nothing


def test_a_conditional_network_is_checked_with_its_labels(rng):
    x = rng.standard_normal((4, 2)), np.array([1, 0, 2, 2])
    network = Sequential(Concat(None, Embedding(3, 3)), Linear(5, 4), LeakyReLU(0.2), Linear(4, 1))
    for check in (gradcheck.check_layer, gradcheck.check_network):
        report = check(network, x).raise_if_failed()
        assert {row.tensor for row in report.rows} >= {"x", "0.1.weight", "1.weight", "1.bias", "3.bias", "tangent"}
        assert report.inputs["x[1]"].tolist() == [1, 0, 2, 2]
