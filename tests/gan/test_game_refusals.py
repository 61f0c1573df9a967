"""What a game refuses, and what it takes for a number."""

import copy
import json

import numpy as np
import pytest
from small_conditional import conditional_game
from small_games import batches, small_game

import scratchgan
from scratchgan.gan import Game, Latent, NonSaturating, passes
from scratchgan.layers import Flatten, Layer, Linear, Reshape, Sequential, Sigmoid
from scratchgan.optimizers import Adam


@pytest.mark.parametrize("seed", [3.0, True, None, "abc", "3", np.float32(1), np.True_])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ValueError, match=r"Game: seed must be a whole number, not "):
        game = small_game()
        Game(game.generator, game.discriminator, NonSaturating(), game.optimizer_g, game.optimizer_d,
             latent=Latent(3), sample_shape=(1, 2, 2), seed=seed)


def test_whole_numbers_of_numpy_are_whole_numbers():
    one, other = small_game(), small_game()
    other = Game(other.generator, other.discriminator, NonSaturating(0.5), other.optimizer_g, other.optimizer_d,
                 latent=Latent(np.int32(3)), sample_shape=np.array([1, 2, 2]), seed=np.uint8(0), n_critic=np.int64(1))
    for x in batches(steps=3):
        one.step(x), other.step(x)
    assert np.array_equal(one.generator.theta, other.generator.theta)
    assert json.dumps(other.state_dict()) == json.dumps(one.state_dict())


def test_refuses_parts_that_do_not_fit():
    game = small_game()
    G, D, arguments = game.generator, game.discriminator, {"latent": Latent(3), "sample_shape": (1, 2, 2)}
    with pytest.raises(ValueError, match="optimizer_g is not an optimizer of the generator"):
        Game(G, D, NonSaturating(), Adam(D), Adam(G), **arguments)
    with pytest.raises(ValueError, match="optimizer_d is not an optimizer of the discriminator"):
        Game(G, D, NonSaturating(), Adam(G), Adam(copy.deepcopy(D)), **arguments)
    for wrong, message in (({"latent": 3}, "latent must be a Latent"), ({"n_critic": 0}, "n_critic must be a whole"),
                           ({"n_critic": 1.5}, "n_critic must be a whole number, 1 or more, not 1.5"),
                           ({"sample_shape": (1, 2.0, 2)}, "a size in sample_shape must be a whole number"),
                           ({"sample_shape": 784}, r"sample_shape must be a tuple, such as \(1, 28, 28\), not 784"),
                           ({"value_range": (1, -1)}, "value_range must be")):
        with pytest.raises((ValueError, TypeError), match=message):
            Game(G, D, NonSaturating(), Adam(G), Adam(D), **arguments | wrong)
    with pytest.raises(ValueError, match="Unknown objective 'nope': choose one of non-saturating, minimax"):
        Game(G, D, "nope", Adam(G), Adam(D), **arguments)


@pytest.mark.parametrize("made", [3, 8])
def test_refuses_a_generator_of_another_size_than_its_samples(made):
    G, D = Sequential(Linear(3, made)).initialize(0), Sequential(Flatten(), Linear(4, 1)).initialize(0)
    game = Game(G, D, NonSaturating(), Adam(G), Adam(D), latent=Latent(3), sample_shape=(1, 2, 2))
    words = rf"the generator makes {made} numbers a sample, \({made},\), and a sample of shape \(1, 2, 2\) has 4"
    for use in (lambda: game.sample(5), lambda: game.step(batches(6)[0])):
        with pytest.raises(ValueError, match=words):
            use()


def test_refuses_a_sigmoid_before_an_objective_that_has_its_own():
    G, D = Sequential(Linear(3, 4)), Sequential(Flatten(), Linear(4, 1), Sigmoid())
    def game(objective):
        return Game(G, D, objective, Adam(G), Adam(D), latent=Latent(3), sample_shape=(1, 2, 2))
    for objective in ("non-saturating", "minimax"):
        with pytest.raises(ValueError, match=f"{objective} takes scores before the sigmoid, .* leave out the Sigmoid"):
            game(objective)
    assert game("least-squares").discriminator is D


def test_refuses_labels_that_mean_nothing_and_none_where_they_mean_something():
    with pytest.raises(ValueError, match="Game: its samples are of no class: leave labels out"):
        small_game().sample(4, labels=[0])
    with pytest.raises(ValueError, match=r"a conditional game needs labels, .* for each of 5 samples, got none"):
        conditional_game().step(np.zeros((5, 1, 2, 2), np.float32))


def test_refuses_scores_that_are_not_one_a_sample():
    G = Sequential(Linear(3, 4)).initialize(0)
    D = Sequential(Reshape(2, 2), Flatten(0, 1), Linear(2, 1)).initialize(0)  # two scores a sample along axis 0
    for joint_batch, n in ((True, 12), (False, 6)):
        game = Game(G, D, NonSaturating(), Adam(G), Adam(D), latent=Latent(3), sample_shape=(4,),
                    joint_batch=joint_batch)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(passes, "PIXELS_TOGETHER", 0)
            message = rf"scores of shape \(N, ...\) for N samples, but for {n} it gave \({2 * n}, 1\)"
            with pytest.raises(ValueError, match=message):
                game.step(batches(shape=(4,))[0])


def test_a_paired_objective_needs_one_pass():
    class Counting(Layer):
        couples_samples = True
    G, D = Sequential(Linear(3, 4)), Sequential(Counting(), Linear(4, 1))
    with pytest.raises(ValueError, match="the objective relativistic compares real and fake samples in one pass"):
        Game(G, D, "relativistic", Adam(G), Adam(D), latent=Latent(3), sample_shape=(4,))


def test_points_have_no_range():
    game = small_game(value_range=None)
    game.step(100 * batches()[0])
    with pytest.raises(TypeError, match="no value range that uint8 could be scaled to"):
        game.step(np.zeros((3, 1, 2, 2), np.uint8))


@pytest.mark.parametrize(("batch", "error", "message"), [
    (np.zeros((3, 1, 2, 3), np.float32), ValueError, r"shape \(N, 1, 2, 2\), got \(3, 1, 2, 3\)"),
    (np.zeros((0, 1, 2, 2), np.float32), ValueError, r"got \(0, 1, 2, 2\)"),
    (np.zeros((3, 1, 2, 2), np.int64), TypeError, "array of floats in \\[-1, 1\\] or of uint8, got int64"),
    (np.full((3, 1, 2, 2), 255, np.float32), ValueError, "values in \\[-1, 1\\], got values from 255 to 255"),
    (np.full((3, 1, 2, 2), np.nan, np.float32), ValueError, "got values from nan to nan"),
    ([[1.0]], TypeError, "got list"),
])
def test_refuses_a_batch_that_does_not_fit(batch, error, message):
    game = small_game()
    before = game.generator.theta.copy()
    with pytest.raises(error, match=message):
        game.step(batch)
    assert game.steps == 0 and np.array_equal(game.generator.theta, before)


def test_recipes_refuse_what_they_do_not_have():
    with pytest.raises(scratchgan.errors.UserError, match="Unknown recipe 'nope': choose one of mlp"):
        scratchgan.recipes.get("nope")
    with pytest.raises(scratchgan.errors.UserError, match="Recipe mlp has no setting 'width': it has z_dim, widths_g"):
        scratchgan.recipes.get("mlp").build(width=3)
    game = scratchgan.recipes.get("mlp").build(lr_g=1e-3, z_dim=10)
    assert game.optimizer_g.lr == 1e-3 and game.optimizer_d.lr == 3e-4 and game.latent.z_dim == 10
