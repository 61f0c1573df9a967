"""What a run shows and says of a game."""

import numpy as np
import pytest

from scratchgan import recipes
from scratchgan.gan import Game, Latent, NonSaturating, objectives, shown
from scratchgan.layers import BatchNorm1d, Linear, Reshape, Sequential
from scratchgan.optimizers import SGD

SHAPE = (1, 4, 4)


def game(*after, objective=None):
    G = Sequential(Linear(3, 16), *after, Reshape(*SHAPE))
    D = Sequential(Reshape(16), Linear(16, 1))
    return Game(G, D, objective or NonSaturating(), SGD(G, 0.1), SGD(D, 0.1), latent=Latent(3), sample_shape=SHAPE)


FINE = {"step": 500, "d_real": 0.7, "d_fake": 0.3, "grad_norm_generator": 1.0, "sample_std": 1.0}
WON = {**FINE, "d_real": 0.999, "d_fake": 0.001, "grad_norm_generator": 1e-4}
FLAT = {**FINE, "sample_std": 0.01}


def test_the_discriminator_has_won():
    system = game()
    assert system.warnings(WON) == []  # no gradient was larger
    assert system.warnings(FINE) == []
    (warning,) = system.warnings(WON)
    assert "discriminator has won" in warning and "try" in warning and "\n" not in warning


@pytest.mark.parametrize("part", [{"d_real": 0.9}, {"d_fake": 0.1}, {"grad_norm_generator": 0.5}])
def test_it_has_not_won_yet(part):
    system = game()
    system.warnings(FINE)
    assert system.warnings({**WON, **part}) == []


def test_scores_that_are_no_probabilities():
    system = game(objective=objectives.get("wasserstein"))
    assert [system.warnings(row) for row in (FINE, WON)] == [[], []]
    loss, scores, _ = system.panels
    assert loss.title == "loss" and scores.title == "mean score D gives" and scores.scale == "linear"


def test_the_samples_have_collapsed():
    (warning,) = game().warnings(FLAT)
    assert "collapsed" in warning and "batch normalisation" in warning
    (warning,) = game(BatchNorm1d(16)).warnings(FLAT)
    assert "collapsed" in warning and "batch normalisation" not in warning
    assert game().warnings({**FLAT, "step": shown.SETTLING}) == []  # it has hardly begun
    row = dict(FLAT)
    del row["sample_std"]
    assert game().warnings(row) == []


def test_rows_that_lack_what_g_reports_are_no_reason_to_warn():
    """Where G learns at every fifth step only."""
    assert game().warnings({"step": 500, "loss_d": 0.1}) == []
    system, lacking = game(), {name: value for name, value in WON.items() if name != "grad_norm_generator"}
    assert [system.warnings(row) for row in (lacking, FINE, lacking, lacking)] == [[]] * 4
    assert system.warnings(WON) == system.warnings(lacking) != []  # as it was when it was last known


def test_panels_name_what_a_step_reports():
    system = game()
    metrics = system.step(np.zeros((2, *SHAPE), np.float32))
    assert {name for panel in system.panels for name in panel.metrics} == {
        *metrics, "grad_norm_generator", "grad_norm_discriminator"}
    assert [panel.scale for panel in system.panels] == ["linear", "probability", "log"]


def test_interpolation_goes_from_one_seed_to_the_other():
    system = recipes.get("mlp").build(widths_g=(8,), widths_d=(8,))
    images = system.interpolate(1, 2, 2, 4)
    np.testing.assert_allclose(images[[0, 4]], system.sample(2, seed=1), atol=1e-5)
    np.testing.assert_allclose(images[[3, 7]], system.sample(2, seed=2), atol=1e-5)
    assert abs(images[1] - images[0]).max() > 1e-3 and abs(images[2] - images[1]).max() > 1e-3


@pytest.mark.parametrize("rows, columns", [(0, 3), (3, 0), (-1, 2), (2, 1.5), (True, 2)])
def test_a_grid_of_an_interpolation_has_rows_and_columns(rows, columns):
    with pytest.raises(ValueError, match="rows and columns must be a whole number, 1 or more, not"):
        game().interpolate(1, 2, rows, columns)


@pytest.mark.parametrize("wrong", [{"n": -1}, {"n": 2.0}, {"n": 2, "seed": True}, {"n": 2, "seed": 1.5}])
def test_sample_takes_whole_numbers(wrong):
    with pytest.raises(ValueError, match=r"Game.sample: (n|seed) must be a whole number"):
        game().sample(**wrong)
    assert game().sample(0).shape == (0, *SHAPE)


def test_what_a_game_is_made_of():
    system = recipes.get("mlp").build(widths_g=(8,), widths_d=(8,), objective="hinge", clip=0.1, n_critic=3)
    assert system.about() == {"objective": "hinge (Lim and Ye 2017), D's loss times 0.5",
                              "noise": "Latent(64, 'normal', (64,))",
                              "with an update of the discriminator": "Clip(0.1)",
                              "steps": "3 of the discriminator for each one of the generator"}
    assert list(recipes.get("mlp").build().about()) == ["objective", "noise"]
