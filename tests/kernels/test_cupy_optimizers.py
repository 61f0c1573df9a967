"""CuPy's kernels of optimizers, against their formulas."""

import numpy as np
import pytest

from scratchgan import kernels
from scratchgan.backend import to_device, to_host
from scratchgan.kernels import FORMULAS

CALLS = [("adam", 4, (0.5, 0.99, 0.01, 1e-3)), ("momentum", 3, (0.9, 0.1)), ("moving_average", 2, (0.3,)),
         ("sgd", 3, (0.9, 0.7, 0.1, False)), ("sgd", 3, (0.9, 1.0, 0.1, True)),
         ("sgd", 2, (None, 0.0, 0.0, 0.1, False)),
         ("rmsprop", 5, (0.9, 1e-3, 0.8, 0.1)), ("rmsprop", 3, (None, None, 0.9, 1e-3, 0.8, 0.1)),
         ("rmsprop", 4, (None, 0.9, 1e-3, 0.8, 0.1))]


@pytest.mark.parametrize("name, vectors, numbers", CALLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_is_its_formula_in_one_kernel(cuda, rng, launches, name, vectors, numbers, dtype):
    start = [rng.standard_normal(300).astype(dtype) for _ in range(vectors)]
    if name in ("adam", "rmsprop"):
        start[3 if name == "adam" else 2] = 2 + rng.random(300).astype(dtype)  # at least the square of a mean
    constants = ("rmsprop", 0.9), ("rmsprop", 1e-3)  # alpha and eps are on no schedule
    on_device = [to_device(np.array(x, dtype), cuda) if type(x) is float and (name, x) not in constants else x
                 for x in numbers]
    faster, results = kernels.of(to_device(start[0], cuda)), []
    for functions, arguments in ((FORMULAS, numbers), (faster, numbers), (faster, on_device)):
        moved = [to_device(vector.copy(), cuda) for vector in start]
        getattr(functions, name)(*moved, *arguments)
        results.append(list(map(to_host, moved)))
        assert functions is FORMULAS or launches(getattr(functions, name), *moved, *arguments) == 1
    for formula, by_number, by_array in zip(*results, strict=True):
        np.testing.assert_allclose(by_number, formula, rtol=20 * np.finfo(dtype).eps, atol=20 * np.finfo(dtype).eps)
        np.testing.assert_array_equal(by_array, by_number)
