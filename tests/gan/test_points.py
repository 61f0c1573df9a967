"""`PointGame`: coordinates, what it measures, and what its pictures say."""

import copy

import numpy as np
import pytest

from scratchgan import backend, plots
from scratchgan.data.toys import TOYS
from scratchgan.gan import Game, Latent, PointGame
from scratchgan.gan.augmentation import Augmentation
from scratchgan.gan.updates import Ema
from scratchgan.layers import LeakyReLU, Linear, ReLU, Sequential
from scratchgan.metrics.modes import of_modes
from scratchgan.optimizers import Adam

GRID = TOYS["grid25"]()


def networks(seen=2):
    G = Sequential(Linear(2, 8), ReLU(), Linear(8, 2))
    return G, Sequential(Linear(seen, 8), LeakyReLU(0.2), Linear(8, 1))


def game(objective="non-saturating", seen=2, scale=4.0, device="cpu", **parts):
    G, D = networks(seen)
    return PointGame(G, D, objective, Adam(G, 1e-3), Adam(D, 1e-3), latent=Latent(2), scale=scale,
                     modes=parts.pop("modes", GRID.modes), **parts).initialize(3, device)


class Run:
    """What a picture asks of a run."""

    config = {"seed": 5}  # noqa: RUF012

    @staticmethod
    def examples(n):
        return GRID.examples(n)[0]


class Joined(Augmentation):
    """D sees the points of a batch in pairs."""

    def seen_shape(self, shape):
        return (2 * shape[0],)

    def forward(self, x):
        return x.reshape(-1, 4)

    def backward(self, dy, wrt="all"):
        return dy.reshape(-1, 2)


def test_the_networks_see_coordinates_divided_by_the_scale(device):
    """The same steps as a plain game that is given points / 4; samples are 4 times as large."""
    ours = game(device=device)
    G, D = networks()
    plain = Game(G, D, "non-saturating", Adam(G, 1e-3), Adam(D, 1e-3), latent=Latent(2), sample_shape=(2,),
                 value_range=None).initialize(3, device)
    for step in range(3):
        batch = GRID.batches(16).batch(step)[0]
        ours.step(backend.to_device(batch, device))
        plain.step(backend.to_device(batch / 4, device))
    assert np.array_equal(backend.to_host(ours.discriminator.theta), backend.to_host(plain.discriminator.theta))
    assert np.array_equal(backend.to_host(ours.generator.theta), backend.to_host(plain.generator.theta))
    assert np.array_equal(ours.sample(7, 1), 4 * plain.sample(7, 1))
    assert np.array_equal(ours.interpolate(1, 2, 3, 4), 4 * plain.interpolate(1, 2, 3, 4))


def test_measures_are_those_of_the_average(device):
    ours = game(device=device)
    assert ours.measure() == of_modes(ours.sample(10_000, ours.seed), **GRID.modes)
    assert set(ours.measure()) == {"modes", "fair", "hq", "kl"}
    G, D = networks()
    averaged = PointGame(G, D, "hinge", Adam(G), Adam(D), latent=Latent(2), modes=TOYS["ring8"]().modes,
                         updates_g=[Ema(G, 100)]).initialize(0, device)
    average = averaged.networks["average"]
    average.theta[...] = 0
    average[2].params["bias"][...] = backend.to_device(np.array([0, 1], np.float32), device)  # all at a centre
    assert averaged.measure()["modes"] == 1 and averaged.measure()["hq"] == 1
    assert game(modes=None).measure() == {} and len(game(modes=None).panels) == len(game().panels) - 3


@pytest.mark.parametrize("objective", ["non-saturating", "wasserstein", "relativistic"])
def test_the_picture_shows_scores_and_gradients_where_they_are(objective, device):
    ours = game(objective, device=device)
    before = copy.deepcopy(ours)
    picture = ours.picture(Run)
    mesh = picture.mesh(96)
    middle, half = picture.window
    assert np.abs(middle).max() < 0.2 and 4 < half < 8 and mesh.shape == (96 * 96, 2)
    assert mesh[0, 0] < -4 and mesh[0, 1] > 4 and mesh[1, 0] > mesh[0, 0] and mesh[96, 1] < mesh[0, 1]  # from top left
    D = copy.deepcopy(ours.discriminator).to("cpu", "float64")

    def s(points):
        return D.forward(points.astype(np.float64) / 4)[:, 0]
    scores = s(mesh)
    expected = 1 / (1 + np.exp(-scores)) if objective == "non-saturating" else scores
    np.testing.assert_allclose(picture.scores.ravel(), expected, atol=1e-5)
    assert picture.scores_range == ((0, 1) if objective == "non-saturating" else None)

    k, real = len(picture.at), s(picture.data[:len(picture.at)])

    def losses(points):
        return ours.objective.g.value(s(points) - (real if ours.objective.paired else 0))
    gradient = np.empty((k, 2))
    for axis in (0, 1):  # central differences of each sample's own loss
        move = np.eye(2)[axis] * 1e-6
        at = picture.at.astype(np.float64)
        gradient[:, axis] = (losses(at + move) - losses(at - move)) / 2e-6
    cosine = (gradient * -picture.arrows).sum() / np.linalg.norm(gradient) / np.linalg.norm(picture.arrows)
    assert np.array_equal(picture.at, picture.samples[:k]) and cosine > 1 - 1e-6
    for name, network in ours.networks.items():  # nothing of the game has changed
        for array in ("theta", "grad"):
            assert np.array_equal(*(backend.to_host(getattr(each, array))
                                    for each in (network, before.networks[name])))
    batch = backend.to_device(Run.examples(8), device)
    assert dict(ours.step(batch)) == dict(before.step(batch))


def test_a_discriminator_of_several_points_is_not_asked_about_one():
    ours = game(seen=4, augmentation=[Joined()])
    ours.step(GRID.batches(16).batch(0)[0])
    picture = ours.picture(Run)
    assert picture.scores is picture.arrows is None and len(picture.samples) == len(picture.data) == 1000
    assert plots.drawn(picture).shape == (plots.PLANE + plots.LEGEND, plots.PLANE, 3)


def test_other_samples_are_refused():
    G, D = networks()
    with pytest.raises(ValueError, match=r"PointGame: samples are points of shape \(2,\), not \(3,\)"):
        PointGame(G, D, "hinge", Adam(G), Adam(D), latent=Latent(2), sample_shape=(3,))
