"""The checker on losses and objectives: right ones pass, wrong ones are caught."""

from dataclasses import replace

import numpy as np
import pytest

from scratchgan import gradcheck
from scratchgan.gan import Minimax, NonSaturating, objectives
from scratchgan.losses import Loss, MSELoss

# -- losses --------------------------------------------------------------------------------------------------------


class NotAveraged(MSELoss):
    def backward(self, dy=None):
        return super().backward(dy) * self.kept()[0].size


class Halved(Loss):
    """A loss of a user's, wrong by a factor."""

    def elements(self, input, target):
        return (input - target) ** 4

    def elements_grad(self, input, target):
        return 2 * (input - target) ** 3


class LeakyLoss(MSELoss):
    def elements_grad(self, input, target):
        return super().elements_grad(input, target) * np.ones(1)


class AbsoluteLoss(MSELoss):
    def elements(self, input, target):
        return abs(input - target) ** 2


class MutatingLoss(MSELoss):
    def elements_grad(self, input, target):
        grad = super().elements_grad(input, target)
        target *= 2
        return grad


@pytest.mark.parametrize("loss, wrong, words", [
    (NotAveraged(), {"input"}, "complex step"), (Halved(), {"input"}, "complex step"),
    (LeakyLoss(), {"input"}, "dtype"), (AbsoluteLoss(), {"input", "forward", "y"}, "analytic in input"),
    (MutatingLoss(), {"target", "input"}, "mutates target")], ids=lambda value: type(value).__name__)
def test_wrong_losses_are_caught(loss, wrong, words):
    report = gradcheck.check_loss(loss)
    assert set(report.wrong) == wrong
    assert any(words in row.check for row in report.failures)


def test_a_loss_that_raises_is_a_finding():
    report = gradcheck.check_loss(Loss())
    assert report.wrong == ["the pass"] and "NotImplementedError" in str(report)


# -- objectives ----------------------------------------------------------------------------------------------------


def changed(objective, which, slope):
    """The objective with another slope of one of its terms: slope(the right one)."""
    term = getattr(objective, which)
    return replace(objective, **{which: replace(term, slope=lambda s: slope(term.slope(s)))})


OBJECTIVES = {
    "right": (NonSaturating(0.5), [], ""),
    "negated": (changed(NonSaturating(), "real", lambda slope: -slope), ["real", "loss_d"], "complex step"),
    "halved": (changed(Minimax(), "g", lambda slope: slope / 2), ["fake for G", "loss_g"], "complex step"),
    "float64": (changed(Minimax(), "fake", lambda slope: slope * np.ones(1)), ["fake"], "dtype"),
    "real part": (changed(NonSaturating(), "fake", lambda slope: slope.real + 0j * slope), ["fake"],
                  "analytic backward"),
    "paired": (changed(objectives.get("relativistic"), "real", lambda slope: 2 * slope),
               ["real", "fake", "loss_d"], "complex step"),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_wrong_objectives_are_caught(name):
    objective, wrong, words = OBJECTIVES[name]
    report = gradcheck.check_objective(objective)
    assert report.wrong == wrong and (not wrong or words in {row.check for row in report.failures})
