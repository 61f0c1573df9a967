"""Objectives: the formulas of the table, gradients by complex step, and no infinity at any score."""

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from scratchgan import backend, gradcheck
from scratchgan.gan import Minimax, NonSaturating, objectives

ROWS = {**objectives.TABLE, "mean of D's terms": NonSaturating(scale_d=np.float64(0.5)),
        "margin 3": objectives.EnergyMargin(np.float64(3.0), np.float64(1)),
        "drift": objectives.get("wasserstein", drift=np.float64(0.5))}


def relu(x):
    return np.maximum(0, x)


def log_sigmoid(x):
    return np.where(x > 0, -np.log1p(np.exp(-np.abs(x))), x - np.log1p(np.exp(-np.abs(x))))


# loss_d(real, fake), loss_g(fake, real) as the papers write them, D being a probability or any number.
PUBLISHED = {
    "minimax": (lambda r, f: -log_sigmoid(r).mean() - log_sigmoid(-f).mean(),
                lambda f, r: log_sigmoid(-f).mean()),
    "non-saturating": (lambda r, f: -log_sigmoid(r).mean() - log_sigmoid(-f).mean(),
                       lambda f, r: -log_sigmoid(f).mean()),
    "wasserstein": (lambda r, f: f.mean() - r.mean(), lambda f, r: -f.mean()),
    "least-squares": (lambda r, f: 0.5 * ((r - 1)**2).mean() + 0.5 * (f**2).mean(),
                      lambda f, r: 0.5 * ((f - 1)**2).mean()),
    "hinge": (lambda r, f: relu(1 - r).mean() + relu(1 + f).mean(), lambda f, r: -f.mean()),
    "energy-margin": (lambda r, f: r.mean() + relu(1 - f).mean(), lambda f, r: f.mean()),
    "relativistic": (lambda r, f: -log_sigmoid(r - f).mean(), lambda f, r: -log_sigmoid(f - r).mean()),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_losses_are_the_published_ones(name, rng):
    loss_d, loss_g = PUBLISHED[name]
    row = objectives.get(name)
    for _ in range(5):
        real, fake = 2 * rng.standard_normal((2, 7, 1))
        assert row.loss_d(real, fake) == pytest.approx(loss_d(real, fake), abs=1e-14)
        assert row.loss_g(fake, real) == pytest.approx(loss_g(fake, real), abs=1e-14)
        assert replace(row, scale_d=0.5).loss_d(real, fake) == pytest.approx(0.5 * loss_d(real, fake), abs=1e-14)


@pytest.mark.parametrize("name", ROWS)
def test_gradients_by_complex_step(name):
    for seed, shape in ((0, (4, 1)), (1, (3, 1, 2, 2)), (2, (1, 5)), (3, (5,))):
        gradcheck.check_objective(ROWS[name], seed=seed, shape=shape, name=name).raise_if_failed()


@pytest.mark.parametrize("name", ROWS)
def test_gradients_on_each_device(device, rng, name):
    real, fake = (backend.to_device(3 * rng.standard_normal((4, 1)), device) for _ in range(2))
    there = (*ROWS[name].grad_d(real, fake), ROWS[name].grad_g(fake, real))
    here = [backend.to_host(scores) for scores in (real, fake)]
    expected = (*ROWS[name].grad_d(*here), ROWS[name].grad_g(*here[::-1]))
    for a, b in zip(there, expected, strict=True):
        assert backend.device_of(a) == device and np.abs(backend.to_host(a) - b).max() < 1e-14


@pytest.mark.parametrize("term", ["real", "fake", "g"])
@pytest.mark.parametrize("name", ROWS)
def test_a_wrong_slope_is_found_by_the_check(name, term):
    row = ROWS[name]
    right = getattr(row, term)
    if right is None:
        return
    for change in (lambda slope: -slope, lambda slope: 1.0001 * slope, lambda slope: 0 * slope):
        wrong = replace(row, **{term: objectives.Term(right.value, lambda s, change=change: change(right.slope(s)))})
        assert not gradcheck.check_objective(wrong).ok


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_finite_at_any_score(name, dtype):
    row = ROWS[name]
    for real in (1e4, -1e4):
        for fake in (1e4, -1e4):
            r, f = np.full((3, 1), real, dtype), np.full((3, 1), fake, dtype)
            values = [row.loss_d(r, f), row.loss_g(f, r), *row.grad_d(r, f), row.grad_g(f, r)]
            assert all(np.isfinite(v).all() and v.dtype == dtype for v in values)


@pytest.mark.parametrize(("term", "kink", "slope"), [(objectives.ABOVE, 1, 0), (objectives.BELOW, -1, 0),
                                                     (objectives.margin(2), 2, 0)])
def test_slopes_at_a_kink(term, kink, slope):
    assert term.slope(np.full(1, kink, float)) == slope and term.value(np.full(1, kink, float)) == 0


def test_a_paired_row_does_not_see_a_shift_of_all_scores(rng):
    row = objectives.get("relativistic")
    real, fake = rng.standard_normal((2, 6, 1))
    assert row.loss_d(real + 3, fake + 3) == pytest.approx(row.loss_d(real, fake), abs=1e-14)
    dreal, dfake = row.grad_d(real, fake)
    assert dreal.sum() + dfake.sum() == pytest.approx(0, abs=1e-16)


def test_names_and_what_a_score_says():
    with pytest.raises(ValueError, match="Unknown objective 'gan': choose one of non-saturating, minimax, wasserstein"):
        objectives.get("gan")
    assert objectives.OBJECTIVE.kind.allows("hinge") and not objectives.OBJECTIVE.kind.allows("gan")
    zero = np.zeros((2, 1))
    assert (NonSaturating().says(zero) == 0.5).all() and (objectives.get("wasserstein").says(zero) == 0).all()


def test_drift(rng):
    real, fake = rng.standard_normal((2, 6, 1))
    row = objectives.get("wasserstein", drift=0.25)
    assert row.loss_d(real, fake) == pytest.approx(fake.mean() - real.mean() + 0.25 * (real**2).mean())
    assert pickle.loads(pickle.dumps(row)) == row
    row = objectives.get("non-saturating", smoothing=0.1, drift=0.25)
    assert row.loss_d(real, fake) == pytest.approx(
        objectives.get("non-saturating", smoothing=0.1).loss_d(real, fake) + 0.25 * (real**2).mean())
    with pytest.raises(ValueError, match="drift term is for objectives with a term of the real scores, which relativ"):
        objectives.get("relativistic", drift=0.1)


def test_losses_at_an_undecided_discriminator():
    zero = np.zeros((5, 1))
    assert NonSaturating().loss_d(zero, zero) == pytest.approx(2 * math.log(2))  # -V at the optimum is log 4
    assert NonSaturating(0.5).loss_d(zero, zero) == pytest.approx(math.log(2))
    assert NonSaturating().loss_g(zero) == pytest.approx(math.log(2))
    assert Minimax().loss_g(zero) == pytest.approx(-math.log(2))


def test_minimax_saturates_where_the_other_does_not():
    sure = np.full((1, 1), -20.0)
    assert abs(Minimax().grad_g(sure)) < 1e-8
    assert abs(NonSaturating().grad_g(sure)) > 0.99


def test_label_smoothing_is_one_sided():
    row, plain = objectives.get("non-saturating", smoothing=0.1), objectives.get("non-saturating")
    real, fake = np.array([0.3, -1.2]), np.array([0.7, 0.1])
    p = 1 / (1 + np.exp(-real))
    target = -(0.9 * np.log(p) + 0.1 * np.log(1 - p)).mean()
    assert row.loss_d(real, fake) - plain.loss_d(real, fake) == pytest.approx(target - -np.log(p).mean())
    assert row.loss_g(fake) == plain.loss_g(fake)
    for wrong in ({"smoothing": 2}, {"smoothing": -1}, {"drift": -1}, {"drift": np.nan}):
        with pytest.raises(ValueError, match="Objective minimax: smoothing must be"):
            objectives.get("minimax", **wrong)
