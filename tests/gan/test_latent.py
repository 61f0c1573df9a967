"""`Latent`: distributions, shapes, splits over ranks, interpolation."""

import numpy as np
import pytest

from scratchgan import backend, random
from scratchgan.gan import Latent


def test_both_kinds_have_mean_0_and_variance_1():
    for kind in ("normal", "uniform"):
        z = Latent(50, kind).draw(20_000, 3, "test")
        assert z.shape == (20_000, 50) and z.dtype == np.float32
        assert abs(z.mean()) < 0.005 and abs(z.var() - 1) < 0.005
    assert np.abs(Latent(50, "uniform").draw(20_000, 3, "test")).max() <= 3**0.5
    assert np.abs(Latent(50).draw(20_000, 3, "test")).max() > 4


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_a_batch_may_be_split(kind, device):
    latent = Latent(5, kind)
    whole = backend.to_host(latent.draw(8, 1, "noise", 7, device=device))
    parts = [backend.to_host(latent.draw(n, 1, "noise", 7, first, device=device)) for first, n in ((0, 3), (3, 5))]
    assert np.array_equal(whole, np.concatenate(parts))
    for other in ((2, "noise", 7), (1, "sample", 7), (1, "noise", 8)):
        assert not np.array_equal(whole, latent.draw(8, *other))


def test_normal_noise_is_that_of_the_random_numbers():
    drawn = Latent(4, z_shape=(1, 2, 2)).draw(3, 9, "noise", 2, dtype="float64")
    assert drawn.dtype == np.float64 and np.array_equal(drawn, random.normal((3, 4), 9, "noise", 2, dtype="float64"))


def test_shapes():
    latent = Latent(6, z_shape=(3, 2, 1))
    z = np.arange(12.0).reshape(2, 6)
    assert latent.as_input(z).shape == (2, 3, 2, 1) and np.shares_memory(latent.as_input(z), z)
    assert latent.as_input(z.reshape(2, 3, 2, 1)).shape == (2, 3, 2, 1)
    assert Latent(6).as_input(z).shape == (2, 6) and Latent(6).as_input(z[:0]).shape == (0, 6)
    for wrong in ((6,), (12,), (2, 3, 2), (2, 6, 1), (6, 2), (2, 5), (1, 2, 6)):
        with pytest.raises(ValueError, match=r"expected z of shape \(N, 3, 2, 1\) or \(N, 6\), got"):
            latent.as_input(np.zeros(wrong))
    for wrong in ([[0.0] * 6], np.array([["a"] * 6]), None):
        with pytest.raises(TypeError, match="expected an array of numbers as z"):
            latent.as_input(wrong)


@pytest.mark.parametrize(("arguments", "message"), [
    ((0,), "z_dim must be a whole number, 1 or more, not 0"), ((2.0,), "z_dim must be a whole number"),
    ((True,), "z_dim must be"), (("4",), "z_dim must be"), ((4, "cauchy"), "kind must be normal or uniform"),
    ((4, "normal", (2, 3)), r"z_shape \(2, 3\) does not hold z_dim = 4 numbers"),
    ((4, "normal", (2, 2.0)), "a size in z_shape must be a whole number")])
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Latent(*arguments)


def test_whole_numbers_of_numpy():
    for kind in (np.int64, np.int32, np.uint8):
        latent = Latent(kind(4), z_shape=(kind(2), kind(2)))
        assert latent.z_dim == 4 and type(latent.z_dim) is int and latent.z_shape == (2, 2)
        assert np.array_equal(latent.draw(3, 0, "a"), Latent(4).draw(3, 0, "a"))


def test_between_keeps_the_angle_and_the_length(rng):
    a, b = rng.normal(size=(2, 5, 64))
    latent = Latent(64)
    np.testing.assert_allclose(latent.between(a, b, 0), a)
    np.testing.assert_allclose(latent.between(a, b, 1), b)
    middle = latent.between(a, b, 0.5)
    lengths = [np.linalg.norm(v, axis=1) for v in (a, middle, b)]
    np.testing.assert_allclose(lengths[1], (lengths[0] + lengths[2]) / 2)
    for end, length in ((a, lengths[0]), (b, lengths[2])):
        cosine = (end * middle).sum(axis=1) / (length * lengths[1])
        np.testing.assert_allclose(2 * np.arccos(cosine), np.arccos((a * b).sum(axis=1) / lengths[0] / lengths[2]))
    np.testing.assert_allclose(latent.between(a, a, 0.3), a)


def test_between_is_a_line_for_uniform_noise():
    latent = Latent(6, "uniform")
    a, b = (latent.draw(4, seed, "test") for seed in (0, 1))
    assert np.abs(latent.between(a, b, 0.25) - (0.75 * a + 0.25 * b)).max() < 1e-6
    assert latent.between(a, b, 0.25).dtype == np.float32
