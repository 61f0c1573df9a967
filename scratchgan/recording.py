"""A step recorded once and run many times: what may differ from one run to the next.

A CUDA graph repeats the very same operations on the very same memory. What differs between steps, the number of the
step, of which random numbers are a function, and rates on schedules, must then lie in the device's memory. While a
`Recording` is made, `counter` and `values` give that memory; otherwise they give numbers of the step.
"""

from contextvars import ContextVar

import numpy as np

_current = ContextVar("recording", default=None)


def counter(step):
    """(array, offset): a step is array[0] + offset; array, uint64 (1,) on the device, is None outside a recording.

    For kernels that draw random numbers.
    """
    recording = _current.get()
    return (None, step) if recording is None else recording.counter(step)


def values(function, step, dtype, of=None):
    """function(step) as a tuple of numbers of a dtype; in a recording, of 0-d arrays on the device that hold them.

    function  step -> numbers, a function of nothing else
    of        whose `steps` count, such as an optimizer; None: those of the system
    """
    recording = _current.get()
    if recording is None:
        return tuple(map(np.dtype(dtype).type, function(step)))
    return recording.values(function, step, dtype, of)
