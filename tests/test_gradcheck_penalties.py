"""`scratchgan gradcheck penalties`: all is right, and what second-order gradients get wrong is seen and named."""

import pytest

from scratchgan import gradcheck, layers
from scratchgan.gan import penalties, unrolled
from scratchgan.gradcheck.penalties import CRITICS, LOSSES, Residual, check_penalty, penalty_cases
from scratchgan.gradcheck.report import ADJOINT, CENTRAL, COMPLEX_STEP, FLOAT32
from scratchgan.layers import LeakyReLU, Linear, Sequential, Tanh

CASES = penalty_cases()["penalties"]
FUSED = "R1 + R2", "MLP, leaky ReLU", "tangents"


def test_there_is_every_penalty_and_critic_by_every_route():
    assert len(CASES) == len(set(CASES)) == 76
    assert {loss for loss, *_ in CASES} == set(LOSSES) and {critic for _, critic, _ in CASES} == set(CRITICS)
    for name, critic in CRITICS.items():
        routes = {route for loss, other, route in CASES if loss == "R1" and other == name}
        assert routes == ({"tangents", "complex step"} if Sequential(*critic()).is_piecewise_linear
                          else {"complex step"})


@pytest.mark.parametrize("case", CASES, ids=", ".join)
def test_all_are_right(case):
    report = check_penalty(*case).raise_if_failed()
    assert report.worst(COMPLEX_STEP) <= 1e-12 and report.worst(CENTRAL) <= 1e-7 and report.worst(FLOAT32) <= 1e-4
    assert (report.worst(ADJOINT) is None) == ("layer norm" in case[1])


def test_the_layer_of_ones_own_is_right():
    layer = Residual(Linear(3, 4), LeakyReLU(0.1), Linear(4, 3))
    assert layer.is_piecewise_linear and not Residual(Tanh()).is_piecewise_linear
    gradcheck.check_layer(layer, input_shape=(4, 3)).raise_if_failed()


def negated(method):
    return lambda *arguments: -method(*arguments)


def doubled(method):
    """The value stays, its gradient is doubled."""
    def wrong(*arguments):
        P, v = method(*arguments)
        return P, 2 * v
    return wrong


def halved(method):
    return lambda self, *of: tuple(weight / 2 for weight in method(self, *of))


def forgetful(method):
    """As a look ahead that takes Adam's step for one of SGD does."""
    return lambda self, k, dtheta: -1e-2 * dtheta


MISTAKES = {
    "the sign of a tangent": (layers.LeakyReLU, "tangent", negated, FUSED, {COMPLEX_STEP, CENTRAL, ADJOINT}),
    "the sign of a tangent, convolution": (layers.Conv2d, "tangent", negated, ("WGAN-GP", "conv, residual", "tangents"),
                                           {COMPLEX_STEP, CENTRAL, ADJOINT}),
    "a factor of dP/dg": (penalties.GradientPenalty, "slope", doubled, ("WGAN-GP", "MLP, leaky ReLU", "tangents"),
                          {COMPLEX_STEP, CENTRAL}),
    "a factor of dP/dg, by complex step": (penalties, "squares", doubled, ("R1", "conv, tanh", "complex step"),
                                           {COMPLEX_STEP, CENTRAL}),
    "a factor of P and dP/dg": (penalties.ZeroCentred, "weights", halved, FUSED, {CENTRAL}),
    "the adjoint of a look": (unrolled.LookByAdam, "adjoint", forgetful,
                              ("unrolled, Adam", "MLP, leaky ReLU", "complex step"), {COMPLEX_STEP, CENTRAL}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_seen(mistake, monkeypatch):
    where, name, change, case, checks = MISTAKES[mistake]
    check_penalty(*case).raise_if_failed()
    monkeypatch.setattr(where, name, change(getattr(where, name)))
    report = check_penalty(*case)
    failed = {row.check for row in report.failures}
    assert checks <= failed and (COMPLEX_STEP in checks or COMPLEX_STEP not in failed), report


@pytest.mark.parametrize("critic, kind", [("MLP, tanh", layers.Tanh), ("conv, softplus", layers.Softplus),
                                          ("MLP, layer norm", layers.LayerNorm)])
@pytest.mark.parametrize("loss", ["R1 + R2", "WGAN-GP"])
def test_the_wrong_route_is_seen(loss, critic, kind, monkeypatch):
    """A critic that is not piecewise linear by tangents: its first gradients are far off, and nothing raises."""
    monkeypatch.setattr(kind, "piecewise_linear", True)
    report = check_penalty(loss, critic, "complex step")
    failed = [row for row in report.failures if row.tensor == "0.weight"]
    if kind is layers.LayerNorm:  # it has no tangent that could be taken: a step raises
        assert "does not define tangent" in str(report)
        return
    assert {COMPLEX_STEP, CENTRAL} <= {row.check for row in failed} and "D" in report.wrong
    assert max(row.error for row in failed if row.check == COMPLEX_STEP) > 1e-4
