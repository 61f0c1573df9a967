"""What holds for every recipe, at an eighth of its width: it resumes to the bit, has the same gradients on CUDA, and
refuses what does not fit it with one sentence."""

import numpy as np
import pytest

from scratchgan import backend, data, recipes, training
from scratchgan.data import Dataset
from scratchgan.errors import UserError
from scratchgan.gradcheck.oracles import relative_error
from scratchgan.profiling import labels_for, random_examples

WIDTHS = ("widths", "widths_g", "widths_d", "ngf", "ndf", "width", "codes", "hidden")
QUIET = {"threads": 1, "announce": lambda line: None}


def eighth(recipe):
    """Settings at an eighth of the recipe's width."""
    def small(value):
        return tuple(max(2, width // 8) for width in value) if isinstance(value, tuple) else max(2, value // 8)
    settings = {setting.name: small(setting.default) for setting in recipe.settings if setting.name in WIDTHS}
    assert settings, f"{recipe.name} has no setting of width"
    return settings


def source(recipe):
    """12 examples, or an endless sampler of the recipe's own."""
    shape = recipe.facts["shape"]
    if len(shape) == 1:
        return data.load(recipe.name)
    rng = np.random.default_rng(0)
    return Dataset.of("noise", rng.integers(0, 256, (12, *shape), np.uint8), np.arange(12) % 10, "made by a test")


def state(system):
    return {f"{name}.{key}": value for name, network in system.networks.items()
            for key, value in network.state_dict().items()}


@pytest.mark.parametrize("name", recipes.names())
def test_three_steps_killed_and_resumed_to_the_bit(name, tmp_path):
    recipe = recipes.get(name)
    examples, settings = source(recipe), eighth(recipe)
    whole = training.start(name, examples, tmp_path / "whole", settings, seed=3, batch_size=4, steps=4, **QUIET)

    class Killed(Exception):
        pass

    class Kill(training.Callback):
        def on_step(self, run):
            if run.step == 3:
                raise Killed
    with pytest.raises(Killed):
        training.start(name, examples, tmp_path / "run", settings, seed=3, batch_size=4, steps=4, checkpoint_every=2,
                       callbacks=[Kill()], **QUIET)
    resumed = training.resume(tmp_path / "run", lambda config: examples, **QUIET)
    assert resumed.system.steps == 4
    expected = state(whole.system)
    for key, value in state(resumed.system).items():
        assert np.array_equal(value, expected[key]), key
    for optimizer, other in zip(resumed.system.optimizers.values(), whole.system.optimizers.values(), strict=True):
        for key, value in optimizer.state_dict().items():
            assert np.array_equal(value, other.state_dict()[key]), key
    if resumed.system.makes_samples:
        assert resumed.system.sample(3, seed=1).shape == (3, *recipe.facts["shape"])


def built(recipe, device, dtype, lr):
    system = recipe.build(seed=2, device=device, **eighth(recipe))
    for network in system.networks.values():
        network.to(dtype=dtype)
    for optimizer in system.optimizers.values():
        optimizer.load_state_dict(optimizer.state_dict())  # in the network's new precision
        if lr is not None:
            optimizer.schedules["lr"] = lr
    return system


def stepped(recipe, device, dtype, steps=None, lr=None):
    """The recipe's system after so many steps; without, after as many as the first of G takes."""
    system = built(recipe, device, dtype, lr)
    examples = random_examples(system, 8)
    for _ in range(steps or getattr(system, "n_critic", 1)):
        system.step(backend.to_device(examples, device), labels_for(system, examples))
    return system


@pytest.mark.parametrize("name", recipes.names())
def test_steps_on_a_device_are_those_on_the_host(name, device):
    """The gradients of both players in float32, the weights after three in float64.

    Their steps are of rate 0: Adam's first goes by the sign of a gradient, and rounding decides that of a small one.
    """
    if device == "cpu":
        pytest.skip("that is what the device is compared with")
    recipe = recipes.get(name)
    ours, theirs = (stepped(recipe, where, "float32", lr=0.0) for where in ("cpu", device))
    compared = 0
    for player, network in ours.networks.items():
        largest = max(float(np.abs(network.grad).max(initial=0)), 1e-30)
        for (prefix, mine), (_, its) in zip(network.named_layers(), theirs.networks[player].named_layers()):
            for key, gradient in mine.grads.items():
                if np.abs(gradient).max() > 1e-5 * largest:  # else it is zero by nature, up to rounding
                    error = relative_error(backend.to_host(its.grads[key]), gradient, floor=largest)[0]
                    assert error <= 1e-5, (player, prefix, key)
                    compared += 1
    assert compared >= 4
    ours, theirs = (stepped(recipe, where, "float64", 3) for where in ("cpu", device))
    for key, value in state(ours).items():
        assert relative_error(state(theirs)[key], value, floor=1.0)[0] <= 1e-9, key


@pytest.mark.parametrize("name", recipes.names())
def test_what_does_not_fit_is_refused_with_a_sentence(name):
    recipe = recipes.get(name)
    wrong = [{"no_such_setting": 1}, {recipe.settings[0].name: "many"}, {"no": 2}]
    for settings in wrong:
        with pytest.raises(UserError, match=rf"Recipe {name}"):
            recipe.build(**settings)
    with pytest.raises(UserError, match=rf"Recipe {name} takes examples of shape"):
        recipe.build(facts={"shape": (1, 5, 7)})
    if recipe.facts.get("classes"):
        with pytest.raises(UserError, match="needs examples with labels"):
            recipe.build(facts={"classes": 0})
