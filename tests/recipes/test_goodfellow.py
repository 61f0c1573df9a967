"""The recipe goodfellow: sizes, first weights, rates; its steps beside PyTorch's."""

import numpy as np
import pytest
from torch_oracle import torch_module

import scratchgan
from scratchgan import data, gradcheck, recipes, training
from scratchgan.cli import datasets, main
from scratchgan.errors import UserError
from scratchgan.gradcheck.networks import in_precision
from scratchgan.layers import Dropout

RECIPE = recipes.get("goodfellow")
SMALL = {"z_dim": 7, "widths_g": (16, 12), "widths_d": (10, 8), "pieces": 3, "bound_g": 0.5, "bound_d": 0.5}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_published_sizes_and_first_weights(digits):
    facts = RECIPE.learn(digits)
    game = RECIPE.build(facts=facts)
    G, D = (network.state_dict() for network in (game.generator, game.discriminator))
    assert [value.shape for key, value in G.items() if key.endswith("weight")] == [(1200, 100), (1200, 1200),
                                                                                   (784, 1200)]
    assert [value.shape for key, value in D.items() if key.endswith("weight")] == [(1200, 784), (1200, 240), (1, 240)]
    for state, bound in ((G, 0.05), (D, 0.005)):
        for key, value in state.items():
            if key.endswith("weight"):
                assert 0.97 * bound < np.abs(value).max() <= bound
                assert abs(value.std() * 3**0.5 - bound) < bound / 10
            elif key != "4.bias":
                assert not value.any(), key
    means = digits.images.mean(axis=0).ravel() / 255
    bias = G["4.bias"]
    assert np.abs(1 / (1 + np.exp(-bias)) - means)[means > 1e-6].max() < 1e-6
    assert bias.min() == pytest.approx(np.log(1e-7)) and (means == 0).any()  # clipped
    assert [layer.p for _, layer in game.discriminator.named_layers() if isinstance(layer, Dropout)] == [0.2, 0.5, 0.5]
    assert game.latent.kind == "uniform" and game.value_range == (0, 1) and game.simultaneous and game.joint_batch
    assert game.objective.name == "non-saturating" and game.objective.scale_d == 0.5
    alike = {"step": 300, "sample_std": 0.01}
    assert not game.warnings(alike) and game.warnings({**alike, "step": 501})  # its first samples are all the mean
    assert (RECIPE.batch_size, RECIPE.epochs, RECIPE.split) == (100, 50, "train50k")
    assert not RECIPE.build().generator.state_dict()["4.bias"].any()  # without data


def test_rates_and_momenta():
    for optimizer in RECIPE.build().optimizers.values():
        rate, momentum = (optimizer.schedules[name] for name in ("lr", "momentum"))
        assert (optimizer.lr, optimizer.momentum) == (0.1, 0.5)
        assert rate(500) == pytest.approx(0.1 / 1.000004**500) and rate(10**7) == 1e-6
        for epoch, expected in ((1, 0.5), (2, 0.5 + 0.2 / 249), (100, 0.5 + 0.2 * 99 / 249), (250, 0.7), (900, 0.7)):
            for batch in (0, 499):  # the same in all of an epoch
                assert momentum(500 * (epoch - 1) + batch) == pytest.approx(expected)


def test_they_are_told(capsys):
    main(["recipes", "goodfellow"])
    told = capsys.readouterr().out
    assert "Momentum(lr=from 0.1 to 1e-06, momentum=from 0.5 to 0.7" in told and "(default: 1.000004)" in told


def test_options_of_the_release():
    game = RECIPE.build(n_critic=3, scale_gradient=0.1, instance_noise=0.2, **SMALL)
    assert not game.simultaneous  # the players take turns
    assert repr(game.augmentation[0]) == "InstanceNoise(0.2)" and repr(game.updates["generator"][0]) == (
        "GradientScaling(0.1)")
    of_g, of_d = (optimizer.schedules for optimizer in game.optimizers.values())
    for name in ("lr", "momentum"):  # G's steps are fewer, its rates fall no slower
        assert of_g[name](1000) == pytest.approx(of_d[name](3000))


@pytest.mark.parametrize("more", [{}, {"n_critic": 2}, {"scale_gradient": 5.0, "instance_noise": 0.1}])
def test_gradients_are_those_of_the_losses(more, digits):
    game = RECIPE.build(facts=RECIPE.learn(digits), **SMALL, **more)
    gradcheck.check_game(game, digits.images[:5] / np.float32(255), directions=2, entries=5).raise_if_failed()


class Replica:
    """The protocol in PyTorch: one z, one batch of fakes, one mask for both losses; classical momentum."""

    def __init__(self, game):
        self.torch, self.pieces = torch_module(), game.discriminator[1].num_pieces
        self.players = [[self.torch.tensor(value, requires_grad=True) for value in network.state_dict().values()]
                        for network in (game.generator, game.discriminator)]
        self.velocities = [[self.torch.zeros_like(p) for p in player] for player in self.players]

    def linear(self, x, player, layer):
        return self.torch.nn.functional.linear(x, player[2 * layer], player[2 * layer + 1])

    def made(self, z):
        G = self.players[0]
        return self.torch.sigmoid(self.linear(self.linear(self.linear(z, G, 0).relu(), G, 1).relu(), G, 2))

    def scores(self, x, masks):
        for layer, mask in enumerate(masks):
            x = self.linear(x * mask, self.players[1], layer)
            if layer < 2:
                x = x.reshape(len(x), -1, self.pieces).amax(dim=2)
        return x

    def step(self, real, z, masks, lr, momentum):
        torch, n = self.torch, len(real)
        cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits
        real, z, masks = torch.tensor(real.reshape(n, -1)), torch.tensor(z), [torch.tensor(mask) for mask in masks]
        of_real = self.scores(real, [mask[:n] for mask in masks])
        of_fake = self.scores(self.made(z), [mask[n:] for mask in masks])
        ones, zeros = torch.ones_like(of_real), torch.zeros_like(of_real)
        loss_d = 0.5 * (cross_entropy(of_real, ones) + cross_entropy(of_fake, zeros))
        losses = cross_entropy(of_fake, ones), loss_d
        gradients = [torch.autograd.grad(loss, player, retain_graph=True)
                     for loss, player in zip(losses, self.players, strict=True)]
        with torch.no_grad():
            for player, velocity, grads in zip(self.players, self.velocities, gradients, strict=True):
                for p, v, g in zip(player, velocity, grads, strict=True):
                    v.mul_(momentum).sub_(lr * g)
                    p.add_(v)
        return [float(loss.detach()) for loss in losses]


def test_steps_equal_pytorchs(digits):
    """In float64, with our noise and our masks, and rates that change as if a step were an epoch of hundreds."""
    changing = {"lr_decay": 1.3, "lr_min": 0.05, "momentum_epochs": 4, "steps_per_epoch": 1}
    game = in_precision(RECIPE.build(facts=RECIPE.learn(digits), **SMALL, **changing))
    theirs, n = Replica(game), 6
    begun = game.discriminator.theta.copy()
    for step in range(5):
        real = digits.images[n * step:n * (step + 1)] / 255
        metrics = game.step(real)
        masks = [layer._kept[3] for _, layer in game.discriminator.named_layers() if isinstance(layer, Dropout)]
        assert all(mask.shape[0] == 2 * n and not np.array_equal(mask[:n], mask[n:]) for mask in masks)
        loss_g, loss_d = theirs.step(real, game.z, masks, max(0.1 / 1.3**step, 0.05), 0.5 + 0.2 * min(step / 3, 1))
        assert (metrics["loss_g"], metrics["loss_d"]) == pytest.approx((loss_g, loss_d), rel=1e-10)
    for network, player in zip(game.networks.values(), theirs.players, strict=True):
        for (key, value), p in zip(network.state_dict().items(), player, strict=True):
            assert np.abs(value - p.detach().numpy()).max() <= 1e-9, key
    assert np.abs(game.discriminator.theta - begun).max() > 1e-3


def test_a_run_is_loaded_without_its_data(digits, tmp_path):
    source = datasets.of_recipe(RECIPE, "digits")
    run = training.start("goodfellow", source, tmp_path / "run", SMALL, steps=2, batch_size=4, threads=1, announce=None)
    loaded = scratchgan.load(tmp_path / "run", run.system.device)
    assert np.array_equal(loaded.sample(3, seed=1), run.system.sample(3, seed=1))
    assert np.array_equal(loaded.record["facts"]["pixel_means"], digits.pixel_means())
    assert 0 <= loaded.sample(3).min() <= loaded.sample(3).max() <= 1


@pytest.mark.parametrize("means", [[[0.5]], "grey", [[[0.1, 0.2], [0.3]]], np.full((1, 28, 28), 1.5).tolist(),
                                   np.full((1, 28, 28), np.nan).tolist()])
def test_pixel_means_that_are_none_are_refused(means):
    with pytest.raises(UserError, match=r"the fact pixel_means must be numbers from 0 to 1 in the shape \(1, 28, 28\)"):
        RECIPE.build(facts={"pixel_means": means})
