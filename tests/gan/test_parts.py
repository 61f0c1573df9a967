"""The parts that a game is made of, and how settings make them."""

import copy

import numpy as np
import pytest
from small_parts import make, networks

from scratchgan import backend, gradcheck
from scratchgan.gan import Game, Latent, objectives
from scratchgan.gan.augmentation import Augmentation, InstanceNoise, seen_shape
from scratchgan.gan.generator_penalties import Diversity
from scratchgan.gan.penalties import Penalty, WeightDecay
from scratchgan.gan.updates import Clip, Ema, Update
from scratchgan.layers import BatchNorm1d, Dropout, Layer, LeakyReLU, Linear, Sequential, spectral_norm
from scratchgan.optimizers import SGD, Adam

X = np.random.default_rng(0).uniform(-1, 1, (9, 6, 4)).astype(np.float32)


# -- augmentation --------------------------------------------------------------------------------------------------


def test_instance_noise_has_its_sigma_and_is_drawn_anew_in_each_pass(device):
    layer, x = InstanceNoise(0.3), backend.to_device(np.zeros((200, 50), np.float32), device)
    layer.set_step(0, 5, "augmentation.0")
    first, second = (backend.to_host(layer.forward(x)) for _ in range(2))
    assert abs(first.std() - 0.3) < 0.005 and abs(first.mean()) < 0.01 and abs((first * second).mean()) < 0.003
    layer.set_step(0, 5, "augmentation.0")
    assert np.array_equal(backend.to_host(layer.forward(x)), first)
    for other in ((1, 5, "augmentation.0"), (0, 6, "augmentation.0"), (0, 5, "augmentation.1")):
        layer.set_step(*other)
        assert not np.array_equal(backend.to_host(layer.forward(x)), first)


def test_instance_noise_falls_linearly():
    layer, x = InstanceNoise(0.4, until=100), np.zeros((200, 50))
    for step, sigma in ((0, 0.4), (50, 0.2), (75, 0.1), (100, 0), (1000, 0)):
        layer.set_step(0, step)
        assert layer.forward(x).std() == pytest.approx(sigma, rel=0.02)
    with pytest.raises(ValueError, match="sigma must be a finite number >= 0"):
        InstanceNoise(-1)


def test_augmentations_pass_the_checks_of_layers():
    gradcheck.check_layer(InstanceNoise(0.5), input_shape=(4, 3)).raise_if_failed()
    gradcheck.check_layer(InstanceNoise(0.5, 10), input_shape=(2, 1, 3, 3)).raise_if_failed()


class Halves(Augmentation):
    """D sees the first half of a sample, twice as bright."""

    def seen_shape(self, shape):
        return shape[0] // 2, *shape[1:]

    def forward(self, x):
        self.shape = x.shape
        return 2 * x[:, :x.shape[1] // 2]

    def backward(self, dy, wrt="all"):
        dx = np.zeros(self.shape, dy.dtype)
        dx[:, :self.shape[1] // 2] = 2 * dy
        return dx


def test_d_sees_what_the_augmentations_make():
    parts = Halves(), InstanceNoise(0.1)
    assert seen_shape(parts, (4,)) == (2,) and seen_shape((), [4, 3]) == (4, 3)
    seen = []
    D = networks(inputs=2)[1]
    forward = D.forward
    D.forward = lambda x: seen.append(x.copy()) or forward(x)
    game = make(D=D, augmentation=parts)
    fake = game.generator.twin().forward(game.latent.draw(6, 0, "noise"))
    game.step(X[0])
    first = seen[0]  # real and fake in one pass
    for batch, part in ((X[0], first[:6]), (fake, first[6:])):
        noise = part - 2 * batch[:, :2]
        assert 0.05 < noise.std() < 0.2 and np.abs(noise).max() > 0
    assert np.abs((first[:6] - 2 * X[0][:, :2]) - (first[6:] - 2 * fake[:, :2])).max() > 0.01  # drawn apart
    assert np.abs(seen[1] - first[6:]).max() > 0.01                                           # and anew for G


# -- all together, against the complex step ------------------------------------------------------------------------


class Everything(Penalty):
    """.05 mean of (D(real) s), a penalty that makes a pass of its own."""

    def gradient(self, D, real, fake, labels=None):
        twin = D.twin(D.grad.dtype)
        twin.set_step(7, 7)
        scores = twin.forward(real)
        twin.zero_grad()
        twin.backward(0.1 / scores.size * scores, "params")
        grad = D.grad
        grad += twin.grad
        return 0.05 * (scores * scores).mean()


PARTS = {"simultaneous": {"simultaneous": True}, "n_critic": {"n_critic": 2}, "apart": {"joint_batch": False},
         "noise": {"augmentation": (InstanceNoise(0.2), InstanceNoise(0.1, 10))},
         "penalties": {"penalties": (WeightDecay(0.3), Everything())},
         "updates": {"updates_d": (Clip(0.3),)},
         "noise, simultaneous": {"augmentation": (InstanceNoise(0.2),), "simultaneous": True},
         "all apart": {"augmentation": (InstanceNoise(0.2),), "penalties": (WeightDecay(0.3), Everything()),
                       "joint_batch": False, "simultaneous": True, "n_critic": 2, "updates_d": (Clip(0.3),)}}


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("objective", objectives.TABLE)
def test_gradients_of_every_objective_with_every_part(objective, parts):
    game = make(objective=objective, **PARTS[parts])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scratchgan.gan.passes.PIXELS_TOGETHER", 0)
        report = gradcheck.check_game(game, X[0], directions=2, entries=5).raise_if_failed()
    zero = {row.tensor for row in report.rows if "zero up to rounding" in row.check}
    # The last bias moves real and fake scores alike: nothing to a difference, or where all slopes are 1 and -1.
    dreal, dfake = game.objective.grad_d(np.full(1, 0.3), np.full(1, 0.1))
    alike = abs(dreal + dfake) < 1e-12 and not game.penalties
    assert zero == ({"discriminator.3.bias"} if alike else set())


@pytest.mark.parametrize("objective", objectives.TABLE)
def test_every_objective_with_batch_normalisation_in_both_networks(objective):
    G, _ = networks(normalised=True)
    D = Sequential(Linear(4, 6), BatchNorm1d(6), LeakyReLU(0.1), Linear(6, 1)).initialize(0, "d")
    for more in ({}, {"simultaneous": True}, {"joint_batch": True}):
        game = make(objective=objective, G=copy.deepcopy(G), D=copy.deepcopy(D), **more)
        report = gradcheck.check_game(game, X[0], directions=2, entries=5).raise_if_failed()
        zero = {row.tensor for row in report.rows if "zero up to rounding" in row.check}
        assert {"generator.0.bias", "discriminator.0.bias"} <= zero


# -- penalties -----------------------------------------------------------------------------------------------------


def test_weight_decay_is_that_of_the_optimizer(device):
    """Added to the gradient by either, where D's loss is the same: SGD's steps agree."""
    def trained(decay, **parts):
        game = make(device, **parts)
        game.optimizer_d = SGD(game.discriminator, 0.1, weight_decay=decay)
        losses = [game.step(x)["loss_d"] for x in X]
        return backend.to_host(game.discriminator.theta), losses
    one, losses = trained(0, penalties=(WeightDecay(0.05),))
    other, without = trained(0.05)
    assert np.abs(one - other).max() < 1e-6 and np.abs(one - trained(0)[0]).max() > 1e-3
    start = backend.to_host(networks()[1].theta)
    assert losses[0] - without[0] == pytest.approx(0.025 * (start**2).sum(), rel=1e-5)


def test_a_penalty_may_refuse_d():
    class NoDropout(Penalty):
        def check(self, D):
            if any(isinstance(layer, Dropout) for layer in D):
                raise ValueError("NoDropout: the discriminator has dropout")
    with pytest.raises(ValueError, match="the discriminator has dropout"):
        make(penalties=(NoDropout(),))
    with pytest.raises(NotImplementedError, match="Penalty does not define gradient"):
        make(penalties=(Penalty(),)).step(X[0])
    with pytest.raises(ValueError, match="weight must be"):
        WeightDecay(-1)


# -- updates -------------------------------------------------------------------------------------------------------


def test_clipped_weights_stay_in_their_range(device):
    game = make(device, objective="wasserstein", n_critic=2, updates_d=(Clip(0.05),))
    for x in X:
        game.step(x)
        assert backend.to_host(abs(game.discriminator.theta)).max() <= np.float32(0.05)
    assert backend.to_host(abs(game.generator.theta)).max() > 0.05
    for wrong in (0, -1, np.inf):
        with pytest.raises(ValueError, match="limit must be a finite number > 0"):
            Clip(wrong)


@pytest.mark.parametrize("n_critic", [1, 3])
def test_the_moving_average(device, n_critic):
    G, D = networks(device, normalised=True)
    ema = Ema(G, half_life=2, ramp=0.5)
    game = make(device, G=G, D=D, updates_g=(ema,), n_critic=n_critic)
    average = backend.to_host(G.theta).astype(np.float64)
    for step, x in enumerate(X, 1):
        game.step(x)
        if step % n_critic == 0:
            d = 2 ** (-n_critic / min(2, 0.5 * step))
            average = d * average + (1 - d) * backend.to_host(G.theta)
    assert np.abs(backend.to_host(ema.average.theta) - average).max() < 1e-6
    assert list(game.networks) == ["generator", "discriminator", "average"] and game.sampler is ema.average
    assert list(game.optimizers) == ["generator", "discriminator"]
    for key, value in G.state_dict().items():
        if "running" in key or "num_batches" in key:
            assert np.array_equal(ema.average.state_dict()[key], value)


def test_the_average_begins_with_the_weights_of_g(device):
    G, D = networks(normalised=True)
    game = make(G=G, D=D, updates_g=(Ema(G, 50),)).initialize(5, device)
    assert game.sampler is not G and game.sampler.device == device and game.seed == 5
    for key, value in game.generator.state_dict().items():
        assert np.array_equal(value, game.sampler.state_dict()[key])
    with pytest.raises(ValueError, match=r"seed must be a whole number, not 5\.5"):
        game.initialize(5.5)


def test_samples_are_made_with_the_average():
    G, D = networks()
    game = make(G=G, D=D, updates_g=(Ema(G, 50),))
    for x in X:
        game.step(x)
    plain = make(G=copy.deepcopy(game.sampler))
    assert np.array_equal(game.sample(5), plain.sample(5))
    assert not np.array_equal(game.sample(5), make(G=copy.deepcopy(G)).sample(5))


def test_a_run_with_an_average_is_resumed_to_the_bit(tmp_path):
    from scratchgan import training

    def build():
        G, D = networks(normalised=True)
        return make(G=G, D=D, updates_g=(Ema(G, 10),), augmentation=(InstanceNoise(0.1, 20),))
    settings = {"batch_size": 3, "checkpoint_every": 4, "log_every": 2, "announce": lambda line: None}
    data = X.reshape(-1, 4)
    one, two, three = build(), build(), build()
    training.fit(one, data, 9, **settings)
    training.fit(two, data, 5, tmp_path / "run", **settings)
    training.fit(three, data, 9, tmp_path / "run", resume=True, **settings)
    for name, network in one.networks.items():
        for key, value in network.state_dict().items():
            assert np.array_equal(value, three.networks[name].state_dict()[key]), (name, key)


def test_an_update_must_say_what_it_does():
    with pytest.raises(NotImplementedError, match="Update does not define after"):
        make(updates_g=(Update(),)).step(X[0])


def test_ranks_share_the_mean_gradient():
    class OfTwo(Game):
        """The other rank's gradient is as large and points elsewhere."""

        def reduce(self, vector):
            return (vector + vector[::-1]) / 2
    G, D = networks()
    game = OfTwo(G, D, "hinge", SGD(G, 0.1), SGD(D, 0.1), latent=Latent(3), sample_shape=(4,))
    before = {name: network.theta.copy() for name, network in game.networks.items()}
    game.step(X[0])
    for name, network in game.networks.items():
        assert np.array_equal(network.grad, network.grad[::-1]) and network.grad.any()
        assert np.abs(network.theta - before[name] + np.float32(0.1) * network.grad).max() < 1e-7


def test_one_network_cannot_play_both():
    G = Sequential(Linear(3, 3))
    with pytest.raises(ValueError, match="generator and discriminator are one network"):
        Game(G, G, "hinge", Adam(G), Adam(G), latent=Latent(3), sample_shape=(3,))


def test_networks_of_parts_have_names_of_their_own():
    G, D = networks()
    with pytest.raises(ValueError, match="two networks have one name among generator, discriminator, average, average"):
        make(G=G, D=D, updates_g=(Ema(G, 3),), updates_d=(Ema(D, 5),))


@pytest.mark.parametrize("inside", [BatchNorm1d(4), Linear(4, 4), Sequential(Linear(4, 4))])
def test_an_augmentation_with_a_state_is_refused(inside):
    class Learned(Augmentation):
        def __init__(self):
            super().__init__()
            self.inside = inside
    with pytest.raises(ValueError, match=r"the augmentation .* has parameters or buffers"):
        make(augmentation=(InstanceNoise(0.1), Learned()))


@pytest.mark.parametrize("joint_batch", [None, False, True])
@pytest.mark.parametrize("simultaneous", [False, True])
def test_a_paired_objective_with_spectral_normalisation(joint_batch, simultaneous):
    def d():
        return Sequential(spectral_norm(Linear(4, 6)), LeakyReLU(0.1), spectral_norm(Linear(6, 1))).initialize(0, "d")
    game = make(objective="relativistic", D=d(), joint_batch=joint_batch, simultaneous=simultaneous)
    gradcheck.check_game(game, X[0], directions=2, entries=5).raise_if_failed()
    before = {key: value.copy() for key, value in game.discriminator.state_dict().items()}
    game.step(X[0])
    changed = {key for key, value in game.discriminator.state_dict().items() if not np.array_equal(value, before[key])}
    assert any(key.endswith("_u") for key in changed)


def test_a_paired_objective_refuses_what_cannot_keep_real_and_fake_apart():
    class Centred(Layer):
        couples_samples = True
    D = Sequential(Linear(4, 6), Centred(), Linear(6, 1))
    with pytest.raises(ValueError, match="couples samples and cannot keep the two apart: take joint_batch=True"):
        make(objective="relativistic", D=D)
    assert make(objective="relativistic", D=D, joint_batch=True).joint_batch
    assert not make(objective="hinge", D=D).joint_batch


@pytest.mark.parametrize("wrong", [{"penalties": (Diversity(0.1),)}, {"penalties_g": (WeightDecay(0.1),)},
                                   {"augmentation": ("pack",)}, {"updates_d": (InstanceNoise(0.1),)}, {"unrolled": 3}])
def test_parts_in_the_wrong_place_are_refused(wrong):
    with pytest.raises(TypeError, match=rf"is no part for {next(iter(wrong)).removesuffix('_d')}"):
        make(**wrong)
