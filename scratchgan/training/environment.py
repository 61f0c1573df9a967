"""What results depend on besides the configuration: versions, the BLAS, numbers of threads."""

import platform
import sys
import threading
from contextlib import contextmanager

import numpy as np

import scratchgan

_lock, _limits = threading.Lock(), []  # of the runs in this process that have set a number of threads


def versions():
    """{"python", "numpy", "cupy", "scratchgan"}; "cupy" is None where it is not in use."""
    cupy = sys.modules.get("cupy")
    return {"python": platform.python_version(), "numpy": np.__version__,
            "cupy": cupy.__version__ if cupy else None, "scratchgan": scratchgan.__version__}


def blas_libraries():
    from threadpoolctl import threadpool_info  # here, since it looks through every loaded library
    return [library for library in threadpool_info() if library["user_api"] == "blas"]


def blas_name():
    """NumPy's BLAS and the processor's kind that it chose its routines for: "scipy-openblas 0.3.31 SkylakeX"."""
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    kinds = sorted({library["architecture"] for library in blas_libraries() if "architecture" in library})
    return " ".join([built["name"], built["version"], *kinds])


def threads_now():
    """How many threads the BLAS uses; None where that cannot be asked."""
    return max((library["num_threads"] for library in blas_libraries()), default=None)


@contextmanager
def using_threads(number):
    """Inside, the BLAS uses this number of threads (None: as it is), which changes how sums are rounded.

    Where several overlap, in threads of a program, the newest that goes on holds, and after the last it is as before.
    """
    if number is None:
        yield
        return
    from threadpoolctl import threadpool_limits
    with _lock:
        mine = [threadpool_limits(number, user_api="blas")]  # sets the number, and knows what it found
        _limits.append(mine)
    try:
        yield
    finally:
        with _lock:
            place = next(i for i, each in enumerate(_limits) if each is mine)
            if place == len(_limits) - 1:
                mine[0].restore_original_limits()
            else:  # the next one found what this one had set, and shall restore what this one found
                _limits[place + 1][0] = mine[0]
            del _limits[place]
