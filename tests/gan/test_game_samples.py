"""What a game makes: samples."""

import re

import numpy as np
import pytest
from small_games import batches, normalised_game, small_game

from scratchgan import backend
from scratchgan.gan import Game, Latent, NonSaturating
from scratchgan.layers import Linear, Sequential
from scratchgan.optimizers import Adam


def test_samples_do_not_depend_on_each_other_and_leave_the_statistics():
    game = normalised_game()
    for x in batches(dtype=np.float64):
        game.step(x)
    before = game.generator.state_dict()
    z = game.latent.draw(9, 1, "sample")
    whole = game.generate(z)
    assert np.abs(game.generate(z[4:5]) - whole[4:5]).max() < 1e-6
    assert all(value.tobytes() == before[key].tobytes() for key, value in game.generator.state_dict().items())
    assert game.generator.training


def test_sampling_changes_nothing(device):
    game, other = small_game(device), small_game(device)
    for x in batches(steps=4):
        game.step(x)
        images = game.sample(5, seed=1)
        other.step(x)
    assert images.shape == (5, 1, 2, 2) and images.dtype == np.float32 and isinstance(images, np.ndarray)
    assert np.abs(images).max() <= 1
    assert backend.to_host(game.generator.theta).tobytes() == backend.to_host(other.generator.theta).tobytes()
    assert game.sample(5, seed=1).tobytes() == images.tobytes()
    assert game.sample(5, seed=2).tobytes() != images.tobytes()


def test_sampling_in_chunks_gives_one_sample_set(monkeypatch):
    game = small_game()
    whole = game.sample(10, seed=4)
    for limit, value in (("SAMPLES_AT_ONCE", 3), ("PIXELS_AT_ONCE", 4 * 3), ("PIXELS_AT_ONCE", 1)):
        with monkeypatch.context() as cut:
            cut.setattr(f"scratchgan.gan.sampling.{limit}", value)
            assert np.abs(game.sample(10, seed=4) - whole).max() < 1e-6


@pytest.mark.parametrize("shape", [(3,), (2, 2), (3, 1), (2, 6), (1, 1, 3), ()])
def test_generate_refuses_z_of_another_shape(shape):
    with pytest.raises(ValueError, match=rf"expected z of shape \(N, 3\), got {re.escape(str(shape))}"):
        small_game().generate(np.zeros(shape, np.float32))


def test_generate_takes_numbers_of_any_precision():
    game = small_game()
    z = game.latent.draw(5, 0, "test")
    assert np.array_equal(game.generate(z.astype(np.float64)), game.generate(z))
    assert game.generate(np.ones((2, 3), int)).shape == (2, 1, 2, 2)
    with pytest.raises(TypeError, match="expected an array of numbers as z, got list"):
        game.generate([[1, 2, 3]])


def test_samples_are_clipped_into_the_value_range():
    G = Sequential(Linear(3, 4)).initialize(0)
    G.theta[...] *= 20
    D = Sequential(Linear(4, 1))
    made = {}
    for values in ((-1, 1), (0, 2), None):
        game = Game(G, D, NonSaturating(), Adam(G), Adam(D), latent=Latent(3), sample_shape=(4,), value_range=values)
        made[values] = game.sample(50)
    assert np.abs(made[None]).max() > 2
    for values in ((-1, 1), (0, 2)):
        assert np.array_equal(made[values], np.clip(made[None], *values))
