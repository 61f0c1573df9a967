"""A step recorded once and run many times: what may differ from one run to the next.

A CUDA graph repeats the very same operations on the very same memory. What differs between steps, the number of the
step, of which random numbers are a function, and rates on schedules, must then lie in the device's memory. While a
step is recorded, `counter` and `values` give that memory; otherwise they give numbers of the step.
"""

from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

_current = ContextVar("recording", default=None)


@contextmanager
def by(numbers):
    """Inside, `counter` and `values` are those of `numbers`: see `captured.Numbers`."""
    token = _current.set(numbers)
    try:
        yield
    finally:
        _current.reset(token)


def counter(step):
    """(array, offset): a step is array[0] + offset; array, uint64 (1,) on the device, is None outside a recording.

    For kernels that draw random numbers.
    """
    numbers = _current.get()
    return (None, step) if numbers is None else numbers.counter(step)


def values(function, step, dtype, of=None):
    """function(step) as a tuple of numbers of a dtype; in a recording, of 0-d arrays on the device that hold them.

    function  step -> numbers, a function of nothing else
    of        whose `steps` count, such as an optimizer; None: those of the system
    """
    numbers = _current.get()
    if numbers is None:
        return tuple(map(np.dtype(dtype).type, function(step)))
    return numbers.values(function, step, dtype, of)
