"""What a step that is recorded does in other ways: a step is recorded once and run many times.

A CUDA graph repeats the very same operations on the very same memory. What differs between steps, the number of the
step, of which random numbers are a function, and rates on schedules, must then lie in the device's memory. While a
step is recorded, `counter` and `values` give that memory; otherwise they give numbers of the step.

A graph also knows what waits for what. Work that nothing waits for until much later, such as the gradients of weights,
is recorded `aside`, and runs beside what comes after it until the two are `joined`. Noise needs the number of the step
alone: it is recorded `ahead`, and drawn as the graph begins.
"""

from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

import numpy as np

NOTHING = nullcontext()
MOST_AHEAD = 1 << 20  # bytes of an array that is computed ahead: it has memory of its own in each step of a graph
_current = ContextVar("recording", default=None)


@contextmanager
def by(recording):
    """Inside, all functions of this file are those of a `captured.Recording`."""
    token = _current.set(recording)
    try:
        yield
    finally:
        _current.reset(token)


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


def aside(*places):
    """A context: what is computed inside, into these arrays, is read by nobody before `joined` is called."""
    recording = _current.get()
    return NOTHING if recording is None else recording.aside(places)


def ahead(nbytes):
    """A context: what is computed inside, so many bytes, needs the number of the step alone and may run before it."""
    recording = _current.get()
    return NOTHING if recording is None or nbytes > MOST_AHEAD else recording.ahead()


def joined():
    """From here on all that was computed aside may be read."""
    recording = _current.get()
    if recording is not None:
        recording.joined()
