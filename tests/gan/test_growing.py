"""Growing networks: stages, fading, gradients in each of them, and the game that makes them grow."""

import numpy as np
import pytest

from scratchgan import backend, gradcheck, recipes
from scratchgan.gan.growing import GrowingGenerator, Growth
from scratchgan.layers import Linear
from scratchgan.recipes import progressive

STEPS = 30  # of each game here: 10 a stage
SMALL = {"z_dim": 3, "widths": (3, 2, 2), "decay_steps": STEPS}
NOW = [(0, 1.0), (1, 0.25), (1, 1.0), (2, 0.75), (2, 1.0)]
IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 1, 28, 28)).astype(np.float32)


def networks(stage, alpha, dtype="float64", device="cpu"):
    """G and D for images of 3x3, 6x6 and 12x12, held at one stage."""
    def growth(step):
        return stage, alpha
    return (progressive.generator((3, 2, 2), 3, 4, 2, growth).initialize(0, "g").to(device, dtype),
            progressive.discriminator((3, 2, 2), 3, 2, growth).initialize(0, "d").to(device, dtype))


def game(step=0, device="cpu", **settings):
    """A game that has come to this step."""
    game = recipes.get("progressive").build(seed=2, device=device, **SMALL, **settings)
    game.load_state_dict({"steps": step, "seed": 2})
    return game


def test_stages_and_how_far_they_are_faded_in():
    growth = Growth(3, 12)
    assert [growth(step) for step in range(12)] == [
        (0, 1), (0, 1), (0, 1), (0, 1), (1, 0), (1, 0.5), (1, 1), (1, 1), (2, 0), (2, 0.5), (2, 1), (2, 1)]
    assert growth(12) == growth(1000) == (2, 1)
    assert [step for step in range(100) if growth.begins(step)] == [4, 8]
    assert all(Growth(1, 5)(step) == (0, 1) for step in range(9))
    assert [Growth(3, 2)(step)[0] for step in range(4)] == [0, 1, 2, 2]
    assert [round(Growth(3, 10)(step)[1], 9) for step in range(4, 7)] == [0.4, 1, 1]


@pytest.mark.parametrize(("stage", "alpha"), NOW)
def test_gradients_in_each_stage(stage, alpha, device):
    size = 3 * 2**stage
    for network, shape in zip(networks(stage, alpha, device=device), ((2, 4), (2, 2, size, size))):
        report = gradcheck.check_network(network, input_shape=shape, directions=2, entries=6, zero=network.unused())
        report.raise_if_failed()
        assert network.is_piecewise_linear
        used = {f"blocks.{i}" for i in range(stage + 1)} | {f"images.{stage - i}" for i in range(1 + (alpha < 1))}
        every = {f"{kind}.{i}" for kind in ("blocks", "images") for i in range(3)}
        assert {".".join(key.split(".")[:2]) for key in network.unused()} == every - used


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stage_begins_where_the_one_before_ends(stage, rng):
    (G, D), (old_g, old_d) = networks(stage, 0.0), networks(stage - 1, 1.0)
    z, x = rng.standard_normal((2, 4)), rng.standard_normal((2, 2, 3 * 2**stage, 3 * 2**stage))
    assert np.allclose(G.forward(z), old_g.forward(z).repeat(2, axis=2).repeat(2, axis=3), atol=1e-14)
    half = (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4
    assert np.allclose(D.forward(x), old_d.forward(half), atol=1e-14)


def test_blocks_and_images_belong_together():
    with pytest.raises(ValueError, match="GrowingGenerator: each stage needs a block and a layer for images, got"):
        GrowingGenerator([Linear(1, 1), Linear(1, 1)], [Linear(1, 1)], Growth(2, 9))


# -- the game ---------------------------------------------------------------------------------------------------------


R1_R2 = {"objective": "relativistic", "gp": 0.0, "drift": 0.0, "r1": 1.0, "r2": 1.0}


@pytest.mark.parametrize(("step", "settings"), [
    (2, {"drift": 1.0}), (12, {"drift": 1.0}), (17, {"drift": 1.0}), (23, {"drift": 1.0}), (27, {"drift": 1.0}),
    (12, R1_R2), (12, {"gp": 0.0, "drift": 1.0, "unroll": 1})])
def test_gradients_of_the_game(step, settings):
    report = gradcheck.check_game(game(step, **settings), IMAGES[:2], steps=1, directions=1, entries=1)
    report.raise_if_failed()


@pytest.mark.parametrize(("step", "size", "alpha"), [(3, 7, 1), (11, 14, 0.2), (18, 14, 1), (24, 28, 0.8), (40, 28, 1)])
def test_d_sees_images_as_large_as_gs(step, size, alpha, device):
    system = game(step, device)
    real, _ = system.prepared(backend.to_device(IMAGES, device))
    assert real.shape == system.fakes(3).shape == (3, 1, size, size)

    def mean(x, factor):
        n = x.shape[-1] // factor
        return x.reshape(3, 1, n, factor, n, factor).mean(axis=(3, 5))
    whole = mean(IMAGES, 28 // size)
    blend = (1 - alpha) * np.kron(mean(whole, 2), np.ones((2, 2))) + alpha * whole if alpha < 1 else whole
    assert np.abs(backend.to_host(real) - blend).max() < 1e-6
    metrics = system.step(backend.to_device(IMAGES, device))
    assert metrics["image_size"] == pytest.approx(size / 2 + alpha * size / 2)


def test_a_new_stage_resets_the_optimizers_and_nothing_else_does():
    system = game(8)
    for step, count in ((8, 1), (9, 2), (10, 1), (11, 2)):
        assert system.steps == step
        system.step(IMAGES)
        assert [optimizer.steps for optimizer in system.optimizers.values()] == [count, count]
        if count == 1:  # b1 = 0: m is the gradient alone, and so, for once, is v's root
            for optimizer in system.optimizers.values():
                assert np.allclose(optimizer.state["v"], optimizer.state["m"]**2, rtol=1e-5)


def test_weights_of_a_stage_sleep_until_it_begins():
    system = game()
    before = {name: network.state_dict() for name, network in system.networks.items()}
    for _ in range(12):
        asleep = {name: system.unused(name) for name in system.networks}
        system.step(IMAGES)
        for name, network in system.networks.items():
            state = network.state_dict()
            for key in asleep[name]:
                assert np.array_equal(state[key], before[name][key]), key
    assert any(key.startswith("blocks.2.") for key in asleep["generator"])
    assert not any(key.startswith("blocks.1.") for key in asleep["generator"])
    assert not np.array_equal(state["blocks.1.2.weight"], before["discriminator"]["blocks.1.2.weight"])


@pytest.mark.parametrize(("step", "side"), [(3, 4), (15, 2), (27, 1)])
def test_samples_are_as_large_as_the_last_stage(step, side, device):
    system = game(step, device, ema=5.0)
    samples = system.sample(2)
    assert samples.shape == (2, 1, 28, 28)
    assert np.array_equal(samples, np.kron(samples[:, :, ::side, ::side], np.ones((side, side), np.float32)))
    assert side == 1 or not np.array_equal(samples, np.kron(samples[:, :, ::2 * side, ::2 * side],
                                                            np.ones((2 * side, 2 * side), np.float32)))


def test_samples_after_a_step_are_those_of_the_checkpoint():
    system, loaded = game(9), game(0)
    system.step(IMAGES)  # the next stage begins, its alpha still 0
    loaded.load_state_dict(system.state_dict())
    for name, network in loaded.networks.items():
        network.load_state_dict(system.networks[name].state_dict())
    assert np.array_equal(system.sample(3), loaded.sample(3))
    assert system.fakes(1).shape[-1] == 14


def test_it_says_how_it_grows():
    assert game().about()["growth"].startswith("images 7x7, 14x14, 28x28, each for as many of the run's steps")
    assert game().phases == (0, 22) and Growth(3, STEPS)(22) == (2, pytest.approx(0.4))
    assert game().panels[-1].metrics == {"image_size": "image size"}
