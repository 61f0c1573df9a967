"""Looking ahead: G's gradient through K steps of D."""

import copy

import numpy as np
import pytest
from test_parts import X, make, networks

from scratchgan import backend, gradcheck
from scratchgan.gan import Game, Latent
from scratchgan.gan.augmentation import InstanceNoise, Pack
from scratchgan.gan.penalties import WeightDecay
from scratchgan.gan.unrolled import Unrolled
from scratchgan.gan.updates import Clip
from scratchgan.layers import BatchNorm1d, LeakyReLU, Linear, Sequential
from scratchgan.optimizers import SGD, Adam, RMSprop

CASES = {"one step": (Unrolled(1), {}), "three": (Unrolled(3), {}), "by SGD": (Unrolled(2, 0.1), {}),
         "apart": (Unrolled(2), {"joint_batch": False}),
         "simultaneous, noise": (Unrolled(2), {"simultaneous": True, "augmentation": (InstanceNoise(0.1),)})}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("objective", ["non-saturating", "wasserstein", "relativistic"])
def test_the_gradient_is_that_of_the_whole_loss(case, objective):
    unrolled, parts = CASES[case]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scratchgan.gan.passes.PIXELS_TOGETHER", 0)
        game = make(objective=objective, unrolled=unrolled, **parts)
        gradcheck.check_game(game, X[0], directions=2, entries=5).raise_if_failed()


def test_with_batch_normalisation_packs_and_where_v_is_zero():
    D = Sequential(Linear(8, 6), BatchNorm1d(6), LeakyReLU(0.1), Linear(6, 1)).initialize(0, "d")
    for joint in (False, True):
        game = make(D=copy.deepcopy(D), unrolled=Unrolled(2), augmentation=(Pack(2),), joint_batch=joint)
        gradcheck.check_game(game, X[0], directions=2, entries=5).raise_if_failed()
    dead = Sequential(Linear(4, 6), LeakyReLU(0.0), Linear(6, 1)).initialize(0, "d")
    dead.layers["0"].params["bias"][:3] = -100  # units that no sample reaches: their gradients and v are 0
    game = make(D=dead, unrolled=Unrolled(2))
    gradcheck.check_game(game, X[0], directions=2, entries=5, steps=0).raise_if_failed()


def test_d_its_buffers_and_its_optimizer_stay(device):
    game = make(device, unrolled=Unrolled(3))
    for x in X[:2]:
        game.step(x)
    D, before = game.discriminator, backend.to_host(game.discriminator.theta).copy()
    moments = {name: backend.to_host(value).copy() for name, value in game.optimizer_d.state.items()}
    real, _ = game.prepared(X[2])
    game.draw_from(game.steps)
    fake = game.fakes(len(real))
    game.generator_gradient(real, fake)
    assert np.array_equal(backend.to_host(D.theta), before) and game.optimizer_d.steps == 2
    assert all(np.array_equal(backend.to_host(game.optimizer_d.state[name]), value) for name, value in moments.items())


def test_a_look_is_a_step_of_the_optimizer():
    D = Sequential(Linear(4, 6), LeakyReLU(0.1), Linear(6, 1)).initialize(0, "d")  # nothing random in it
    for optimizer, unrolled in ((Adam(D, 1e-2), Unrolled(2)), (SGD(D, 0.1), Unrolled(2))):
        game = make(D=D, unrolled=unrolled)
        game.optimizer_d = optimizer
        game.step(X[0])
        real, fake = game.prepared(X[1])[0], game.fakes(len(X[1]))
        ahead = float(game.generator_gradient(real, fake)["loss_g"]())
        for _ in range(2):
            game.discriminator_gradient(real, fake)
            game.optimizer_d.step()
        assert float(game.objective.loss_g(D.forward(fake))) == pytest.approx(ahead, rel=1e-5)
        D.initialize(0, "d")


def test_what_does_not_go_with_it_is_refused():
    with pytest.raises(ValueError, match=r"D's penalties .* are not looked ahead at: leave them out"):
        make(unrolled=Unrolled(2), penalties=(WeightDecay(0.1),))
    with pytest.raises(ValueError, match="steps must be a whole number, 1 or more"):
        Unrolled(0)
    G, D = networks()
    for optimizer in (RMSprop(D), SGD(D, 0.1, momentum=0.5), Adam(D, weight_decay=0.1)):
        with pytest.raises(ValueError, match=r"by Adam or plain SGD: give|weight decay of D's optimizer"):
            Game(G, D, "hinge", Adam(G), optimizer, latent=Latent(3), sample_shape=(4,), unrolled=Unrolled(2))
    with pytest.raises(ValueError, match=r"what follows D's update \(Clip\(0\.1\)\) is not looked ahead at"):
        make(unrolled=Unrolled(2), updates_d=(Clip(0.1),))
    with pytest.raises(ValueError, match="lr must be a finite number >= 0, not -1"):
        Unrolled(2, -1)
