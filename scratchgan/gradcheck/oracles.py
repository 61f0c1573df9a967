"""The oracles: derivatives of a scalar that use forward passes only.

The scalar is L = sum(dy * y) with a random cotangent dy, so that its gradient is what backward(dy) returns. Both
oracles move one entry of one array in place and run the pass again; results are float64 arrays on the host.
"""

import itertools

import numpy as np

from scratchgan import backend
from scratchgan.derivatives import STEPS

H = STEPS[np.dtype("float64")]
ROUNDING = 2.0**10  # times a dtype's eps: what sums of many terms lose
DIFFERENCE = 2.0**-17  # about the cube root of float64's precision, where rounding and truncation balance


def host(array):
    return backend.to_host(array)


def relative_error(a, b, floor=0.0):
    """(max|a - b| / max|b|, index of the worst entry); infinite if a value is not finite or only b is zero.

    `floor`: the least to divide by, where b is nothing but rounding errors of numbers of that size.
    """
    a, b = np.asarray(host(a)), np.asarray(host(b))
    if a.shape != b.shape:
        return np.inf, None
    if not a.size:
        return 0.0, None
    difference = np.abs(a.astype(np.result_type(a, np.float64)) - b)
    difference = np.where(np.isfinite(difference), difference, np.inf)
    index = np.unravel_index(np.argmax(difference), a.shape)
    worst, scale = float(difference[index]), max(float(np.abs(b).max()), floor)
    error = 0.0 if worst == 0 else worst / scale if scale > 0 and np.isfinite(worst) else np.inf
    return error, tuple(int(i) for i in index)


def is_rounding(values, scale, dtype="float64"):
    """Whether all values are zero up to rounding: nothing beside `scale`, the size of the gradients around them.

    Where terms cancel, as in the gradient of a bias before batch normalisation, a sum that is 0 comes out as a few
    times 1e-16 of its terms, and to divide an error by it says nothing.
    """
    return bool(np.max(np.abs(values), initial=0) <= ROUNDING * np.finfo(dtype).eps * scale)


def all_entries(shape):
    return list(itertools.product(*(range(size) for size in shape)))


def contract(dy, y):
    """sum(dy * y) on the host."""
    return float(np.sum(dy * host(y)))


def complex_step(run, array, dy, entries, values=None):
    """dL/d(array) at the given entries: Im L(array + i h e) / h for each unit vector e.

    `run()` gives y for what `array` (complex, changed in place and put back) holds. `values`: real values for the
    entries instead of the array's own, to look at the derivative a little off the point.
    """
    own, out = host(array), np.empty(len(entries))
    own = own.copy()
    for k, entry in enumerate(entries):
        array[entry] = complex((own[entry] if values is None else values[k]).real, H)
        out[k] = contract(dy, run().imag) / H
        array[entry] = own[entry]
    return out


def central(run, array, dy, entries):
    """(L(array + h e) - L(array - h e)) / 2h at the given entries; `array` is real float64."""
    own, out = host(array).copy(), np.empty(len(entries))
    for k, entry in enumerate(entries):
        up, down = around(own[entry])
        array[entry] = up
        above = host(run()).copy()
        array[entry] = down
        out[k] = contract(dy, above - host(run())) / (up - down)
        array[entry] = own[entry]
    return out


def around(value):
    """The two points of the central difference."""
    h = DIFFERENCE * max(1.0, abs(float(value.real)))
    return float(value.real) + h, float(value.real) - h


def crosses_kink(run, array, dy, entries, here, tolerance):
    """For each entry, whether the branch changes between the two points of the central difference.

    The derivative of a smooth function is nearly straight over the tiny interval, so its second difference is
    about h^2; a kink or a jump makes it as large as the change of slope. `here`: the derivative at the middle.
    """
    own = host(array)
    above, below = (complex_step(run, array, dy, entries, [around(own[entry])[side] + 0j for entry in entries])
                    for side in (0, 1))
    return np.abs(above - 2 * here + below) > tolerance


def along(run, array, dy, direction):
    """The derivative of L along `direction` (of array's shape, host): Im L(array + i h direction) / h."""
    own = array.copy()
    array += backend.to_device(1j * H * direction, backend.device_of(array))
    out = contract(dy, run().imag) / H
    array[...] = own
    return out
