"""The checker on networks, games and systems: right ones pass, wrong gradients are named by their tensors."""

from dataclasses import replace

import numpy as np
import pytest
from broken_layers import NegatedBias
from right_layers import Dense

from scratchgan import gradcheck
from scratchgan.gan import Game, Latent, NonSaturating, objectives
from scratchgan.gan.passes import Scores
from scratchgan.layers import (
    BatchNorm1d,
    Dropout,
    LeakyReLU,
    Linear,
    Sequential,
    Tanh,
)
from scratchgan.losses import MSELoss
from scratchgan.optimizers import SGD, Adam
from scratchgan.system import Metrics, System


def test_a_wrong_layer_in_a_network_is_named_by_its_key():
    net = Sequential(Linear(3, 8), Tanh(), Sequential(NegatedBias(8, 4)), Linear(4, 1))
    report = gradcheck.check_network(net, input_shape=(4, 3))
    assert report.wrong == ["2.0.bias"]
    net = Sequential(Linear(3, 8), Tanh(), Sequential(Dense(8, 4)), Linear(4, 1))
    report = gradcheck.check_network(net, input_shape=(4, 3)).raise_if_failed()
    assert report.worst("complex step") <= 1e-12


def test_one_wrong_entry_among_many_is_seen_along_a_direction():
    class OneEntry(Dense):
        def add_gradients(self, dy):
            super().add_gradients(dy)
            self.grads["weight"][17, 3] *= 1.0001

    report = gradcheck.check_network(OneEntry(60, 50), input_shape=(4, 60))
    assert report.wrong == ["weight"]


def game(generator=None, discriminator=None, objective=None, joint_batch=None):
    G = generator or Sequential(Linear(5, 16), LeakyReLU(0.2), Linear(16, 6), Tanh())
    D = discriminator or Sequential(Linear(6, 12), LeakyReLU(0.2), Linear(12, 1))
    return Game(G.initialize(0, "generator"), D.initialize(0, "discriminator"), objective or NonSaturating(),
                Adam(G, 1e-3), SGD(D, 1e-2, momentum=0.5), latent=Latent(5), sample_shape=(1, 2, 3),
                joint_batch=joint_batch)


REAL = np.random.default_rng(0).uniform(-1, 1, (4, 1, 2, 3)).astype(np.float32)


def test_a_right_game_passes_and_stays_as_it_is():
    ours = game()
    ours.step(REAL)
    theta, steps = ours.generator.theta.copy(), ours.steps
    report = gradcheck.check_game(ours, REAL).raise_if_failed()
    assert report.worst("complex step") <= 1e-12
    tensors = {row.tensor for row in report.rows}
    assert {"generator.0.weight", "generator.2.bias", "discriminator.0.weight", "discriminator.2.bias"} <= tensors
    assert np.array_equal(ours.generator.theta, theta) and ours.steps == steps
    assert ours.generator.dtype == np.float32


def test_a_game_with_dropout():
    D = Sequential(Linear(6, 40), LeakyReLU(0.2), Dropout(0.5), Linear(40, 1))
    gradcheck.check_game(game(discriminator=D), REAL).raise_if_failed()


@pytest.mark.parametrize("joint_batch", [None, True])
def test_a_game_with_batch_statistics(joint_batch):
    G = Sequential(Linear(5, 8, bias=False), BatchNorm1d(8), LeakyReLU(0.2), Linear(8, 6), Tanh())
    D = Sequential(Linear(6, 12, bias=False), BatchNorm1d(12), LeakyReLU(0.2), Dropout(0.2), Linear(12, 1))
    report = gradcheck.check_game(game(G, D, joint_batch=joint_batch), REAL).raise_if_failed()
    assert report.worst("complex step") <= 1e-12
    assert {"generator.1.weight", "discriminator.1.bias"} <= {row.tensor for row in report.rows}


def changed(**slopes):
    """The non-saturating row with other slopes, a function of the right one: real, fake, g."""
    row = NonSaturating()

    def with_slope(term, change):
        return replace(term, slope=lambda s: change(term.slope(s)))
    return replace(row, **{name: with_slope(getattr(row, name), change) for name, change in slopes.items()})


@pytest.mark.parametrize("wrong", ["real", "fake"])
def test_a_gradient_that_is_left_out_of_separate_passes_is_seen(wrong):
    D = Sequential(Linear(6, 12, bias=False), BatchNorm1d(12), LeakyReLU(0.2), Linear(12, 1))
    forgets = changed(**{wrong: lambda slope: 0 * slope})
    wrong = gradcheck.check_game(game(discriminator=D, objective=forgets), REAL).wrong
    assert wrong and all(name.startswith("discriminator") for name in wrong)


def test_a_wrong_objective_is_blamed_on_the_player_that_it_misleads():
    for objective, player in ((changed(g=lambda slope: 1.001 * slope), "generator"),
                              (changed(fake=lambda slope: -slope), "discriminator")):
        wrong = gradcheck.check_game(game(objective=objective), REAL).wrong
        assert wrong and all(name.startswith(player) for name in wrong)


def test_a_wrong_gradient_through_the_discriminator_is_blamed_on_the_generator():
    class WrongThrough(Dense):
        def backward(self, dy, wrt="all"):
            dx = super().backward(dy, wrt)
            return 2 * dx if wrt == "input" else dx

    wrong = gradcheck.check_game(game(discriminator=Sequential(WrongThrough(6, 1))), REAL).wrong
    assert wrong == [f"generator.{name}" for name in ("0.weight", "0.bias", "2.weight", "2.bias")]


class StaleCache(Game):
    """Scores both kinds before it goes back through either: the gradient on real samples meets the fakes' caches."""

    def discriminator_gradient(self, real, fake, labels=None):
        D, real = self.discriminator, real.reshape(fake.shape)
        D.zero_grad()
        scores = Scores(D.forward(real), D.forward(fake))
        for dscores in self.objective.grad_d(scores.real, scores.fake):
            D.backward(dscores, "params")
        return scores, {"loss_d": lambda: self.objective.loss_d(scores.real, scores.fake)}


class WillingToBeFooled(Game):
    """G's step leaves its gradient in D, too."""

    def generator_gradient(self, real, fake, labels=None, scores=None):
        D = self.discriminator
        of_fake = D.forward(fake)
        dx = D.backward(self.objective.grad_g(of_fake))
        self.generator.zero_grad()
        self.generator.backward(dx, "params")
        return {"loss_g": lambda: self.objective.loss_g(of_fake)}


class ReachesG(Game):
    """D's step goes on into G."""

    def discriminator_gradient(self, real, fake, labels=None):
        result = super().discriminator_gradient(real, fake, labels)
        self.generator.backward(np.ones_like(fake))
        return result


class ForgetsAPenalty(Game):
    """Its loss has the penalty, its gradient has not."""

    def discriminator_gradient(self, real, fake, labels=None):
        scores, metrics = super().discriminator_gradient(real, fake, labels)
        loss, theta = metrics["loss_d"], self.discriminator.theta
        return scores, metrics | {"loss_d": lambda: loss() + (theta * theta).sum()}


def of_kind(kind, **settings):
    ours = game(**settings)
    return kind(ours.generator, ours.discriminator, ours.objective, ours.optimizer_g, ours.optimizer_d,
                latent=ours.latent, sample_shape=ours.sample_shape)


def test_gradients_that_a_game_of_ones_own_gets_wrong_are_named():
    wrong = gradcheck.check_game(of_kind(StaleCache), REAL).wrong
    assert "discriminator.0.weight" in wrong and all(name.startswith("discriminator") for name in wrong)
    report = gradcheck.check_game(of_kind(WillingToBeFooled), REAL)
    assert report.wrong == ["generator"]
    assert "it changes the discriminator's gradient" in str(report)
    assert gradcheck.check_game(of_kind(ReachesG), REAL).wrong[0] == "discriminator"
    wrong = gradcheck.check_game(of_kind(ForgetsAPenalty), REAL).wrong
    assert wrong and all(name.startswith("discriminator.") for name in wrong)


class Autoencoder(System):
    """One loss over two networks, kept in a dict; one of them is not trained."""

    sample_shape = (6,)

    def __init__(self, factor=1.0):
        self.networks = {"encoder": Sequential(Linear(6, 40), Dropout(0.5), Linear(40, 3)).initialize(0, "encoder"),
                         "decoder": Sequential(Linear(3, 6), Tanh()).initialize(0, "decoder"),
                         "apart": Linear(2, 2)}
        self.optimizers = {"both ways": SGD(self.networks["encoder"], 0.1), "back": Adam(self.networks["decoder"])}
        self.factor = factor

    def step(self, batch, labels=None):
        self.draw_from(self.steps)
        metrics = self.gradient(batch)
        for name in self.optimizers:
            self.update(name)
        self.steps += 1
        return Metrics(metrics)

    def gradient(self, batch, labels=None):
        encoder, decoder, _ = self.networks.values()
        x, loss = batch.astype(encoder.dtype), MSELoss()
        value = loss(decoder(encoder(x)), x)
        encoder.zero_grad(), decoder.zero_grad()
        encoder.backward(self.factor * decoder.backward(loss.backward()), "params")
        return {"loss": value}


def test_a_system_with_one_loss():
    batch, right = REAL.reshape(4, 6), Autoencoder()
    report = gradcheck.check_system(right, batch, name="mine").raise_if_failed()
    assert report.worst("complex step") <= 1e-12 and report.name == "mine" and right.steps == 0
    assert {row.tensor.partition(".")[0] for row in report.rows} == {"encoder", "decoder"}
    wrong = gradcheck.check_system(Autoencoder(1.0001), batch).wrong
    assert wrong == [f"encoder.{name}" for name in ("0.weight", "0.bias", "2.weight", "2.bias")]
    assert gradcheck.check_system(game(), REAL).wrong == ["the pass"]  # a game has two losses


def test_games_know_gradients_of_zero():
    G = Sequential(Linear(5, 8), BatchNorm1d(8), LeakyReLU(0.2), Linear(8, 6), Tanh())
    D = Sequential(Linear(6, 12), BatchNorm1d(12), LeakyReLU(0.2), Linear(12, 1))
    ours = game(G, D, objectives.get("relativistic"))
    report = gradcheck.check_game(ours, REAL).raise_if_failed()
    zero = {"generator.0.bias", "discriminator.0.bias", "discriminator.3.bias"}
    assert {row.tensor for row in report.rows if "zero up to rounding" in row.check} == zero
    gradcheck.check_game(ours, REAL, zero=zero).raise_if_failed()
    assert gradcheck.check_game(ours, REAL, zero=("generator.0.weight",)).wrong == ["generator.0.weight"]
