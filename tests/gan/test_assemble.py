"""From settings to the parts of a game."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from small_parts import energies, networks

from scratchgan import gradcheck, recipes
from scratchgan.errors import UserError
from scratchgan.gan import Game, Latent, assemble, objectives
from scratchgan.optimizers import Adam

X = np.random.default_rng(0).uniform(-1, 1, (9, 6, 4)).astype(np.float32)


def chosen(**values):
    defaults = {setting.name: setting.default for setting in assemble.SETTINGS}
    return SimpleNamespace(**{"schedule": "constant", **defaults, **values})


def assembled(values, D=None, **more):
    G, ours = networks()
    D = D or ours
    return assemble.game(G, D, Adam(G), Adam(D), values, latent=Latent(3), sample_shape=(4,), **more)


def another(setting, values):
    """The first of these values that is one of the setting's, and not its default."""
    return next(value for value in values if setting.kind.allows(value) and value != setting.default)


def others(number, share):
    """{name: a value that is not the default} of all settings."""
    values = {setting.name: another(setting, (True, number, share, *objectives.TABLE)) for setting in assemble.SETTINGS}
    return values | {"objective": "non-saturating"}


def test_settings_make_the_parts():
    game = assembled(chosen())
    assert game.objective == objectives.get("non-saturating") and game.n_critic == 1 and not game.simultaneous
    assert all(assemble.parts(argument, chosen(), game.generator) == () for argument in assemble.PARTS)
    on = others(2, 0.1)
    for argument, kinds in assemble.PARTS.items():
        assert [type(part) for part in assemble.parts(argument, chosen(**on), game.generator)] == list(kinds)
    alone = {"unroll": 0, "pull_away": 0.0, "pack": 1}  # what does not go with the others, or with this D
    game = assembled(chosen(**on | alone), scale_d=0.5)
    assert game.objective == objectives.get("non-saturating", 0.5, 0.1, on["drift"])
    assert game.n_critic == 2 and game.simultaneous
    assert [len(parts) for parts in (game.augmentation, game.penalties, game.penalties_g)] == [1, 3, 1]
    for x in X:
        game.step(x)
    assert game.steps == 9 and game.sampler is not game.generator
    assert assembled(chosen(unroll=2)).unrolled.steps == 2


@pytest.mark.parametrize("kind", [kind for kinds in assemble.PARTS.values() for kind in kinds])
def test_each_setting_of_a_part_reaches_it(kind):
    G = networks()[0]
    assert kind.of(chosen(), G) is None
    first, second = others(5, 0.1), others(6, 0.2)

    def numbers(values):
        part = kind.of(chosen(schedule="linear", decay_steps=10, **values), G)
        values = {name: value(10) if isinstance(value, partial) else value for name, value in vars(part).items()}
        return {name: value for name, value in values.items() if isinstance(value, int | float | str)}
    for setting in kind.SETTINGS:
        if first[setting.name] != second[setting.name]:
            assert numbers(first) != numbers(first | {setting.name: second[setting.name]}), setting.name


@pytest.mark.parametrize("name", ["mlp", "dcgan28", "dcgan64"])
@pytest.mark.parametrize("values", [{"objective": "relativistic", "ema": 5}, {"objective": "hinge", "n_critic": 2,
                                    "clip": 0.1, "instance_noise": 0.1, "weight_decay_d": 1e-3, "simultaneous": True}],
                         ids=lambda values: values["objective"])
def test_recipes_take_the_settings_of_games(name, values):
    recipe = recipes.get(name)
    small = {"widths_g": (6,), "widths_d": (5,)} if name == "mlp" else {}
    game = recipe.build(seed=1, **{**small, **recipe.small, **values})
    images = np.random.default_rng(0).uniform(-1, 1, (2, *game.sample_shape)).astype(np.float32)
    gradcheck.check_game(game, images, directions=1, entries=2).raise_if_failed()
    assert game.record["settings"]["objective"] == values["objective"]


def test_settings_have_a_default_that_they_allow_and_a_line_of_help():
    for setting in assemble.SETTINGS:
        assert setting.kind.allows(setting.default) and len(setting.help) > 10 and setting.option.startswith("--")


def test_settings_that_do_not_fit_are_refused():
    G, D = networks()
    with pytest.raises(UserError, match="objective energy-margin needs a discriminator that gives an energy"):
        assembled(chosen(objective="energy-margin"), D)
    with pytest.raises(ValueError, match="objective energy-margin needs a discriminator that gives an energy"):
        Game(G, D, "energy-margin", Adam(G), Adam(D), latent=Latent(3), sample_shape=(4,))
    D = energies(D)
    assert assembled(chosen(objective="energy-margin"), D).objective.score == "energy"
    with pytest.raises(UserError, match="objective hinge needs a discriminator that gives a score, not an energy"):
        assembled(chosen(objective="hinge"), D)
    with pytest.raises(UserError, match=r"leave them out\. In effect, .*: --r1 1, --r2 1, --unroll 2, --ema"):
        recipes.get("r3gan28").build(unroll=2, width=2)
    with pytest.raises(UserError, match="Recipe mlp: objective must be one of non-saturating, minimax, wasserstein"):
        recipes.get("mlp").build(objective="gan")
