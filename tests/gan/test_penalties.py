"""Penalties on D's gradient: both routes against the complex step of the whole loss, and PyTorch's double backward."""

import copy

import numpy as np
import pytest
from test_parts import X, make, networks

from scratchgan import backend, gradcheck, schedules
from scratchgan.gan import Game, Latent
from scratchgan.gan.augmentation import InstanceNoise
from scratchgan.gan.penalties import GradientPenalty, WeightDecay, ZeroCentred
from scratchgan.kernels import FORMULAS
from scratchgan.layers import (
    BatchNorm1d,
    Concat,
    Conv2d,
    Dropout,
    Embedding,
    Flatten,
    LayerNorm,
    LeakyReLU,
    Linear,
    ReLU,
    Sequential,
    Tanh,
    spectral_norm,
)
from scratchgan.optimizers import Adam
from scratchgan.profiling import watched

CRITICS = {"leaky ReLU": lambda: networks()[1],
           "tanh": lambda: Sequential(Linear(4, 6), Tanh(), Dropout(0.2), Linear(6, 1)),
           "layer norm": lambda: Sequential(Linear(4, 6), LayerNorm(6), LeakyReLU(0.2), Linear(6, 1)),
           "map of scores": lambda: Sequential(Linear(4, 6), LeakyReLU(0.2), Linear(6, 3))}
PENALTIES = {"R1": (ZeroCentred(0.7),), "R2": (ZeroCentred(0, 0.4),), "GP": (GradientPenalty(3.0),),
             "all": (ZeroCentred(0.7, 0.4), GradientPenalty(3.0), WeightDecay(0.1))}


def critic(name):
    return CRITICS[name]().initialize(0, "d")


@pytest.mark.parametrize("penalties", PENALTIES)
@pytest.mark.parametrize("name", CRITICS)
def test_gradients_are_those_of_the_loss(name, penalties):
    for objective, parts in (("relativistic", {}), ("wasserstein", {"augmentation": (InstanceNoise(0.2),)}),
                             ("non-saturating", {"simultaneous": True})):
        game = make(objective=objective, D=critic(name), penalties=copy.deepcopy(PENALTIES[penalties]), **parts)
        gradcheck.check_game(game, X[0], directions=2, entries=5).raise_if_failed()


def test_tangents_are_taken_where_d_is_piecewise_linear_alone():
    R, GP = ZeroCentred(0.5, 0.5), GradientPenalty()
    for name, route in (("leaky ReLU", "tangents"), ("tanh", "complex step"), ("layer norm", "complex step")):
        fused = ", with the loss" if route == "tangents" else ""
        for first, second in ((R, GP), (GP, R)):
            told = make(D=critic(name), penalties=(first, second)).about()["penalties in D's loss"]
            assert told == f"{first} by {route}{fused}, {second} by {route}"


def gradient_of(game, real, fake):
    game.draw_from(0)
    game.discriminator_gradient(real, fake)
    return backend.to_host(game.discriminator.grad).copy()


@pytest.mark.parametrize("penalties", PENALTIES)
def test_both_routes_agree(penalties, device, monkeypatch):
    D = Sequential(Conv2d(2, 3, 3), LeakyReLU(0.2), Flatten(), Linear(12, 1)).initialize(0, "d").to(device, "float64")
    G = Sequential(Linear(3, 32)).initialize(0, "g").to(device, "float64")
    game = Game(G, D, "relativistic", Adam(G), Adam(D), latent=Latent(3), sample_shape=(2, 4, 4),
                penalties=copy.deepcopy(PENALTIES[penalties]))
    rng = np.random.default_rng(0)
    real, fake = (backend.to_device(rng.standard_normal((5, 2, 4, 4)), device) for _ in range(2))
    by_tangents = gradient_of(game, real, fake)
    monkeypatch.setattr(type(D), "is_piecewise_linear", False)
    by_complex_step = gradient_of(game, real, fake)
    assert np.abs(by_tangents - by_complex_step).max() <= 1e-12 * np.abs(by_complex_step).max()


@pytest.mark.parametrize("name, critic", {
    "scores": lambda: Sequential(Linear(8, 6), LeakyReLU(0.2), Linear(6, 1)),
    "map of scores": lambda: Sequential(Linear(8, 6), ReLU(), Linear(6, 3)),
    "no activation": lambda: Sequential(Linear(8, 6), Linear(6, 1, bias=False))}.items())
def test_points_between_are_found_behind_a_linear_layer(name, critic, device, monkeypatch):
    G, D = (network.to(device, "float64") for network in (Sequential(Linear(3, 8)).initialize(0, "g"),
                                                          critic().initialize(0, "d")))
    game = Game(G, D, "relativistic", Adam(G), Adam(D), latent=Latent(3), sample_shape=(8,),
                penalties=(GradientPenalty(3.0),))
    rng = np.random.default_rng(0)
    real, fake = (backend.to_device(rng.standard_normal((5, 8)), device) for _ in range(2))
    found = []
    for shares in (True, False):
        if not shares:
            monkeypatch.setattr(GradientPenalty, "shares_passes", lambda self, D: False)
        assert game.penalties[0].shares_passes(D) == shares
        game.draw_from(0)
        scores, metrics = game.discriminator_gradient(real, fake)
        both = backend.array_module(fake).concatenate([scores.real, scores.fake])
        assert scores.joint and D.backward(both, "input").shape == (10, 8)  # D's last pass is that of both
        found.append([backend.to_host(value) for value in (D.grad.copy(), scores.real, scores.fake,
                                                           metrics["loss_d"]())])
    for shared, apart in zip(*found, strict=True):
        assert np.abs(shared - apart).max() <= 1e-13 * np.abs(apart).max()


def test_a_critic_that_is_watched_goes_through_its_passes_as_a_whole():
    def critic():
        return Sequential(Linear(4, 6), LeakyReLU(0.2), Linear(6, 1)).initialize(0, "d")
    games = [make(D=critic(), penalties=(GradientPenalty(),)) for _ in range(2)]
    plain, seen = [game.discriminator for game in games]
    passed = []
    with watched({"D": seen}, lambda key, thing, name, call, *arguments: [passed.append(name), call(*arguments)][1]):
        assert GradientPenalty().shares_passes(plain) and not GradientPenalty().shares_passes(seen)
        for game in games:
            game.step(X[0])
    assert passed.count("tangent") == 1 and np.allclose(seen.theta, plain.theta, rtol=0, atol=1e-6)
    plain.forward = plain.forward  # as one hooks into it
    assert not GradientPenalty().shares_passes(plain)


def test_the_slope_of_the_penalty_is_analytic_where_the_gradient_is_zero():
    for h in (0, 1e-20j):
        P, v = FORMULAS.unit_slope(np.array([[h, 0], [3 + h, 4]], "complex128"), 1)
        assert abs(P.imag - 4.8e-20 * bool(h)) <= 1e-30 and abs(v[0]).max() < 1e-19


@pytest.mark.parametrize("D", [Sequential(Tanh(), Linear(4, 1)), Sequential(Linear(4, 6), Tanh(), Linear(6, 1)),
                               Sequential(spectral_norm(Linear(4, 6)), LeakyReLU(), Linear(6, 1)),
                               Sequential(Linear(4, 6), spectral_norm(Linear(6, 1))),
                               Sequential(Linear(4, 1))], ids=repr)
def test_other_critics_have_the_points_between_on_a_twin(D):
    assert not GradientPenalty().shares_passes(D)
    game = make(D=D.initialize(0, "d"), penalties=(GradientPenalty(),))
    gradcheck.check_game(game, X[0], directions=2, entries=5).raise_if_failed()


@pytest.mark.parametrize("penalty", [ZeroCentred(0.7, 0.4), ZeroCentred(0.7), GradientPenalty(3.0)], ids=repr)
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-9), ("float32", 1e-4)])
def test_double_backward_of_pytorch(penalty, dtype, tolerance):
    torch = pytest.importorskip("torch")
    D = Sequential(Conv2d(2, 3, 3), LeakyReLU(0.2), Flatten(), Linear(12, 1)).initialize(0, "d").to(dtype=dtype)
    G = Sequential(Linear(3, 32)).to(dtype=dtype)
    game = Game(G, D, "relativistic", Adam(G), Adam(D), latent=Latent(3), sample_shape=(2, 4, 4), penalties=(penalty,))
    rng = np.random.default_rng(0)
    real, fake = (rng.standard_normal((5, 2, 4, 4)).astype(dtype) for _ in range(2))
    ours = gradient_of(game, real, fake)

    theirs = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.LeakyReLU(0.2), torch.nn.Flatten(),
                                 torch.nn.Linear(12, 1)).to(getattr(torch, dtype))
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in D.state_dict().items()})
    r, f = (torch.from_numpy(x).requires_grad_() for x in (real, fake))
    loss = torch.nn.functional.softplus(theirs(f) - theirs(r)).mean()
    def slopes(x):
        return torch.autograd.grad(theirs(x).sum(), x, create_graph=True)[0].flatten(1)
    if isinstance(penalty, ZeroCentred):
        loss = loss + sum(weight / 2 * (slopes(x) ** 2).sum(1).mean() for x, weight in zip((r, f), penalty.weights()))
    else:
        from scratchgan import random
        e = torch.from_numpy(random.uniform((5, 1, 1, 1), 0, "penalty.0/between", 0, dtype=dtype))
        loss = loss + 3.0 * ((slopes(f + e * (r - f)).norm(dim=1) - 1) ** 2).mean()
    loss.backward()
    named = {f"{prefix}{name}": grad for prefix, layer in D.named_layers() for name, grad in layer.grads.items()}
    assert ours.any()
    for key, parameter in theirs.named_parameters():
        expected = parameter.grad.numpy()
        floor = 1e-3 * np.abs(ours).max()  # the last bias has none
        assert np.abs(named[key] - expected).max() <= tolerance * max(np.abs(expected).max(), floor), key


def test_a_critic_whose_gradient_is_zero():
    D = Sequential(Linear(4, 1)).initialize(0, "d")
    D.theta[...] = 0
    game = make(D=D, objective="wasserstein", penalties=(GradientPenalty(), ZeroCentred(1)))
    assert game.step(X[0])["loss_d"] == pytest.approx(10.0) and np.isfinite(D.theta).all()


def test_gamma_follows_its_schedule():
    penalty = ZeroCentred(schedules.cosine(1.0, 0.1, 10), 0.5)
    for step, r1 in ((0, 1.0), (5, 0.55), (10, 0.1), (99, 0.1)):
        penalty.set_step(0, step, "penalty.0")
        assert penalty.weights() == (pytest.approx(r1), 0.5)


def test_a_conditional_critic(monkeypatch):
    D = Sequential(Concat(None, Embedding(3, 2)), Linear(6, 5), LeakyReLU(0.1), Linear(5, 1)).initialize(0, "d")
    G = Sequential(Concat(None, Embedding(3, 2)), Linear(5, 4)).initialize(0, "g")
    labels = np.array([0, 1, 2, 0, 1, 1])
    for route in ("tangents", "complex step"):
        monkeypatch.setattr(Sequential, "piecewise_linear", route == "tangents")
        for objective in ("relativistic", "wasserstein"):
            game = Game(G, D, objective, Adam(G), Adam(D), latent=Latent(3), sample_shape=(4,), classes=3,
                        penalties=(ZeroCentred(0.7, 0.4), GradientPenalty()))
            assert route in game.penalties[1].about(D)
            gradcheck.check_game(game, X[0], labels, directions=2, entries=5).raise_if_failed()


def test_what_does_not_fit_is_refused():
    D = Sequential(Linear(4, 6), BatchNorm1d(6), LeakyReLU(0.1), Linear(6, 1))
    for penalty in (ZeroCentred(1), GradientPenalty()):
        with pytest.raises(ValueError, match=r"judges each by itself, but BatchNorm1d\(6\) couples .* take LayerNorm"):
            make(D=D, penalties=(penalty,))
    for kind in (ZeroCentred, GradientPenalty, WeightDecay):
        with pytest.raises(ValueError, match="must be a finite number >= 0, not -1"):
            kind(-1)
