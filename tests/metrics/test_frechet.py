"""Frechet and kernel distance where they are known in closed form."""

import numpy as np
import pytest

from scratchgan.metrics import arrays
from scratchgan.metrics.frechet import frechet, kernel_distance, moments, of_gaussians, square_root


def covariance(rng, f):
    a = rng.standard_normal((f, f))
    return a @ a.T


def test_gaussians_of_one_basis(rng):
    """C1 and C2 with the same eigenvectors: |m1 - m2|^2 + sum (sqrt w1 - sqrt w2)^2."""
    basis = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    w1, w2 = rng.uniform(0, 3, (2, 6))
    w1[0] = 0
    m1, m2 = rng.standard_normal((2, 6))
    expected = ((m1 - m2) ** 2).sum() + ((np.sqrt(w1) - np.sqrt(w2)) ** 2).sum()
    assert of_gaussians(m1, basis * w1 @ basis.T, m2, basis * w2 @ basis.T) == pytest.approx(expected, abs=1e-6)


def test_any_two_gaussians(rng):
    """tr (C1 C2)^1/2 is the sum of the roots of the eigenvalues of C1 C2, which is not symmetric; and
    a linear map y = A x takes N(0, 1) to N(0, A A^T)."""
    c1, c2, zero = covariance(rng, 5), covariance(rng, 5), np.zeros(5)
    roots = np.sqrt(np.linalg.eigvals(c1 @ c2).real).sum()
    assert of_gaussians(zero, c1, zero, c2) == pytest.approx(np.trace(c1) + np.trace(c2) - 2 * roots, rel=1e-10)
    assert of_gaussians(zero, c1, zero, c2) == pytest.approx(of_gaussians(zero, c2, zero, c1), rel=1e-10)
    root = square_root(c1)
    assert np.allclose(root @ root, c1) and np.allclose(root, root.T)


def test_a_shift_a_scale_and_the_same(rng):
    x = rng.standard_normal((200, 5)) + 1000
    assert frechet(x, x)["frechet"] < 1e-9
    assert frechet(x, x + 3)["frechet"] == pytest.approx(45)
    mean, c = moments(x)
    assert np.allclose(c, np.cov(x.T)) and np.allclose(mean, x.mean(axis=0))
    assert frechet(x, 2 * (x - mean) + mean)["frechet"] == pytest.approx(np.trace(c))


def test_the_errors_are_those_of_new_draws():
    rng = np.random.default_rng(3)
    draws = [(rng.standard_normal((500, 4)), rng.standard_normal((500, 4)) + 1) for _ in range(40)]
    for measure, name in ((frechet, "frechet"), (kernel_distance, "kernel")):
        found = [measure(*sets) for sets in draws]
        spread = np.std([each[name] for each in found])
        assert 0.7 < np.mean([each[f"{name}_se"] for each in found]) / spread < 1.4, name


def test_only_the_errors_depend_on_the_seed(rng):
    a, b = rng.standard_normal((2, 60, 3))
    assert frechet(a, b) == frechet(a, b) != frechet(a, b, seed=1)
    assert frechet(a, b)["frechet"] == frechet(a, b, seed=1)["frechet"]
    one, other = kernel_distance(a, b), kernel_distance(a, b, seed=1)
    assert one == kernel_distance(a, b) and one["kernel_se"] != other["kernel_se"]
    assert one["kernel"] == pytest.approx(other["kernel"], abs=1e-12)


@pytest.mark.parametrize("n, m", [(2, 2), (6, 9), (25, 31)])
def test_kernel_distance_of_its_definition(rng, monkeypatch, n, m):
    monkeypatch.setattr(arrays, "ENTRIES", 7)
    x, y = rng.standard_normal((n, 3)), rng.standard_normal((m, 3))
    def mean(a, b, same):
        values = [(float(u @ v) / 3 + 1) ** 3 for i, u in enumerate(a) for j, v in enumerate(b) if not same or i != j]
        return sum(values) / len(values)
    found = kernel_distance(x, y)
    assert found["kernel"] == pytest.approx(mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False), abs=1e-12)
    assert np.isnan(found["kernel_se"]) == (n == 2)


def test_kernel_distance_is_unbiased():
    """Of N(0, 1) against N(m, 1) E k(x, y) is known: E (1 + a b)^3 = 1 + 3 mu nu + 3 (1 + mu^2)(1 + nu^2)
    + (mu^3 + 3 mu)(nu^3 + 3 nu)."""
    rng = np.random.default_rng(5)
    def mean_of_kernel(mu, nu):
        return 1 + 3 * mu * nu + 3 * (1 + mu**2) * (1 + nu**2) + (mu**3 + 3 * mu) * (nu**3 + 3 * nu)
    for shift in (0.0, 0.5):
        values = [kernel_distance(rng.standard_normal((20, 1)), rng.standard_normal((20, 1)) + shift)["kernel"]
                  for _ in range(60)]
        expected = mean_of_kernel(0, 0) + mean_of_kernel(shift, shift) - 2 * mean_of_kernel(0, shift)
        assert abs(np.mean(values) - expected) < 3 * np.std(values) / np.sqrt(60)


def test_of_two_rows_there_is_no_error(rng):
    a, b = rng.standard_normal((2, 3, 4))
    for measure, name in ((frechet, "frechet"), (kernel_distance, "kernel")):
        assert np.isfinite(list(measure(a, b).values())).all()
        for found in (measure(a[:2], b), measure(a, b[:2])):
            assert np.isfinite(found[name]) and np.isnan(found[f"{name}_se"])


def test_what_cannot_be_measured_is_named():
    x = np.ones((3, 2))
    for measure in (frechet, kernel_distance):
        with pytest.raises(ValueError, match="fake features: expected 2 or more rows"):
            measure(x, x[:1])
        with pytest.raises(ValueError, match="real features have 2 numbers each, fake features 1"):
            measure(x, x[:, :1])
