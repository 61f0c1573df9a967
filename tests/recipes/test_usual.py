"""The optimizers that recipes share, with the schedules that settings ask for."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from scratchgan import recipes
from scratchgan.errors import UserError
from scratchgan.layers import Linear
from scratchgan.optimizers import Adam, RMSprop
from scratchgan.recipes.usual import adam, adam_settings, rmsprop, rmsprop_settings
from scratchgan.settings import checked

DECAY = {"schedule": "cosine", "decay_steps": 8, "lr_final": 0.5}


def made(make, settings, n_critic=1, **given):
    return make(Linear(2, 2), Linear(2, 2), SimpleNamespace(**checked(settings, given, "test"), n_critic=n_critic))


def rates(optimizer, steps):
    """The rate of each step, of a network without gradients."""
    found = []
    for _ in range(steps):
        optimizer.step()
        found.append(optimizer.lr)
    return found


@pytest.mark.parametrize(("make", "settings", "kind"), [(adam, adam_settings((3e-3, 1e-3), 0.5), Adam),
                                                        (rmsprop, rmsprop_settings((3e-3, 1e-3)), RMSprop)])
def test_rates_of_two_players(make, settings, kind):
    of_g, of_d = made(make, settings)
    assert type(of_g) is type(of_d) is kind and (of_g.lr, of_d.lr) == (3e-3, 1e-3)
    assert of_g.schedules["lr"] == 3e-3  # a number: nothing decays
    of_g, of_d = made(make, settings, **DECAY, lr=0.1)
    half = 0.1 * (0.75 + 0.25 * np.cos(np.pi * np.minimum(np.arange(10) / 8, 1)))
    assert rates(of_g, 10) == rates(of_d, 10) == pytest.approx(half)
    of_g, of_d = made(make, settings, n_critic=4, **DECAY, lr=0.1)
    assert rates(of_g, 3) == pytest.approx(half[[0, 4, 8]])  # G's steps are fewer, not its decay slower


def test_the_usual_ones_are_pytorchs():
    of_g, _ = made(rmsprop, rmsprop_settings(5e-5))
    assert (of_g.lr, of_g.alpha, of_g.eps) == (5e-5, 0.99, 1e-8)
    of_g, _ = made(adam, adam_settings(2e-4, 0.5))
    assert (of_g.lr, of_g.betas, of_g.eps) == (2e-4, (0.5, 0.999), 1e-8)


def test_beta2_goes_to_its_last_value():
    of_g, of_d = made(adam, adam_settings(1e-3, 0.0, 0.9, beta2_final=0.99, schedule="linear"), decay_steps=3)
    rates(of_d, 4)
    assert of_g.betas == (0.0, 0.9) and of_d.betas == (0.0, 0.99)


@pytest.mark.parametrize("name", ["mlp", "dcgan28", "dcgan64"])
def test_a_recipe_decays_when_it_is_asked_to(name):
    recipe = recipes.get(name)
    game = recipe.build(**recipe.small)
    assert all(not callable(value) for each in game.optimizers.values() for value in each.schedules.values())
    assert game.record["settings"]["decay_steps"] == 0
    decaying = {**recipe.small, "schedule": "cosine", "lr_final": 0.1}
    game = recipe.build(**decaying, lr=0.2)
    assert game.record["settings"]["decay_steps"] == recipe.min_steps
    assert game.optimizer_g.schedules["lr"](recipe.min_steps) == pytest.approx(0.02)
    game = recipe.build(**decaying, lr=0.2, steps=50)
    assert game.optimizer_d.schedules["lr"](50) == pytest.approx(0.02)
    assert recipe.build(**decaying, decay_steps=9, steps=50).record["settings"]["decay_steps"] == 9


def test_a_recipe_may_count_steps():
    """A recipe of endless data: its steps are a run's by default, and what decays decays over them."""
    recipe = replace(recipes.get("mlp"), steps=700)
    assert recipe.default_steps() == recipe.default_steps(938) == 700
    assert recipe.build(schedule="linear").record["settings"]["decay_steps"] == 700


@pytest.mark.parametrize(("given", "message"), [
    ({"schedule": "step"}, "schedule must be one of constant, linear, cosine, not 'step'"),
    ({"decay_steps": -1}, "decay_steps must be a whole number, 0 or more, not -1"),
    ({"lr_final": -0.1}, r"lr_final must be a finite number, 0 or more, not -0\.1"),
    ({"beta2_final": 1.0}, r"beta2_final must be a number from 0 to below 1, not 1\.0"),
    ({"beta1": 1}, "beta1 must be a number from 0 to below 1, not 1"),
])
def test_refuses_what_is_of_no_use(given, message):
    with pytest.raises(UserError, match=f"Recipe mlp: {message}"):
        recipes.get("mlp").build(**given)
