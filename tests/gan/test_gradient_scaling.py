"""G's gradient made larger where that on its samples is small."""

import numpy as np
import pytest
from test_parts import X, make

from scratchgan import backend, gradcheck, recipes
from scratchgan.gan.augmentation import InstanceNoise
from scratchgan.gan.updates import GradientScaling

PARTS = ({}, {"simultaneous": True}, {"augmentation": (InstanceNoise(0.1),), "n_critic": 1})


def stepped(game, device):
    """The gradient of G that its optimizer was given, and dL_G/dG(z)."""
    seen, backward = [], game.generator.backward

    def heard(dx, wrt="all"):
        seen.append(backend.to_host(dx).copy())
        return backward(dx, wrt)
    game.generator.backward = heard
    game.step(backend.to_device(X[0], device))
    return backend.to_host(game.generator.grad).copy(), seen[-1]


@pytest.mark.parametrize("parts", PARTS)
def test_it_multiplies_by_target_over_norm_and_never_makes_smaller(parts, device):
    plain, dx = stepped(make(device, **parts), device)
    norm = np.linalg.norm(dx)
    for target, factor in ((3 * norm, 3), (norm / 3, 1)):
        scaled, same = stepped(make(device, **parts, updates_g=(GradientScaling(target),)), device)
        assert np.array_equal(same, dx) and np.abs(scaled - factor * plain).max() < 1e-5 * np.abs(plain).max()


def test_the_gradient_that_is_checked_is_that_of_the_loss():
    game = make(updates_g=(GradientScaling(10.0),), simultaneous=True)
    gradcheck.check_game(game, X[0], directions=2, entries=5).raise_if_failed()


def test_no_gradient_stays_none(device):
    part, game = GradientScaling(0.1), make(device)
    part.sees(backend.to_device(np.zeros((3, 4), np.float32), device))
    game.generator.zero_grad()
    part.before(game.generator)
    assert not backend.to_host(game.generator.grad).any()


def test_as_a_setting():
    (part,) = recipes.get("mlp").build(scale_gradient=0.1).updates["generator"]
    assert repr(part) == "GradientScaling(0.1)"
    for target in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="GradientScaling: target must be a finite number > 0"):
            GradientScaling(target)
