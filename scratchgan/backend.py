"""The array module, NumPy or CuPy for CUDA, and memory for results. The only room that imports CuPy, when asked to.

Code elsewhere never names a device: it asks `array_module(x)` for the module that x belongs to and calls
functions that both have.
"""

import functools
import importlib
import math
import sys
import warnings

import numpy as np

from scratchgan.errors import UserError
from scratchgan.memory import POOL, SMALLEST

# The four number types of the engine: two to train in, two to differentiate with by complex step.
DTYPES = {name: np.dtype(name) for name in ("float32", "float64", "complex64", "complex128")}
FLOATS = frozenset(DTYPES.values())


def array_module(x):
    """`cupy` if the array lives on a CUDA device, else `numpy`."""
    if type(x) is np.ndarray:
        return np
    cupy = sys.modules.get("cupy")
    return cupy if cupy is not None and isinstance(x, cupy.ndarray) else np


def is_array(x):
    return isinstance(x, np.ndarray | np.generic) or array_module(x) is not np


def device_of(x):
    """"cpu" or "cuda": where the array lives."""
    return "cpu" if array_module(x) is np else "cuda"


def to_host(x):
    """The array (or scalar) as a NumPy array; copies from the device if it has to."""
    return np.asarray(x) if array_module(x) is np else x.get()


def to_device(x, device):
    """The array on "cpu" or "cuda"; the same object if it is there already."""
    if device == "cpu":
        return to_host(x)
    return module_of(device).asarray(x)


def module_of(device):
    """The array module of "cpu" or "cuda"."""
    return np if device == "cpu" else importlib.import_module("cupy")


def empty(shape, dtype, order="C", xp=np):
    """An uninitialised array to write a result into: the one place where memory for results comes from."""
    if xp is not np:
        return xp.empty(shape, dtype, order)
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < SMALLEST or not POOL.works:
        return np.empty(shape, dtype, order)
    return POOL.array(shape, dtype, order, size)


def empty_like(x):
    """`empty` in the shape, dtype and memory order of x."""
    xp, flags = array_module(x), x.flags
    if flags.c_contiguous:
        return empty(x.shape, x.dtype, xp=xp)
    if flags.f_contiguous:
        return empty(x.shape, x.dtype, "F", xp)
    return empty_along(x.shape, x.dtype, memory_order(x), xp)


def empty_along(shape, dtype, axes, xp=np):
    """`empty` whose memory holds the axes in this order: axes[0] is the slowest."""
    stored = empty([shape[axis] for axis in axes], dtype, xp=xp)
    return stored.transpose(sorted(range(len(axes)), key=axes.__getitem__))


def memory_order(x):
    """The axes of x from the slowest in memory to the fastest."""
    return _memory_order(x.strides)


@functools.lru_cache(maxsize=1024)
def _memory_order(strides):
    return tuple(sorted(range(len(strides)), key=lambda axis: -abs(strides[axis])))


def flat(x):
    """The elements of x as a 1-D view in the order of memory, or None where they are not dense."""
    if x.ndim == 1 and x.flags.c_contiguous:
        return x
    stored = x if x.flags.c_contiguous else x.transpose(memory_order(x))
    return stored.reshape(-1) if stored.flags.c_contiguous else None


def zeros_like(vector, dtype=None):
    """A vector of zeros beside this one: as long, on its device, of its dtype or the one given.

    On NumPy it takes up physical memory only once it is written to.
    """
    xp, dtype = array_module(vector), np.dtype(dtype or vector.dtype)
    if xp is not np:
        return xp.zeros(vector.shape, dtype)
    block = np.zeros(vector.size + 64 // dtype.itemsize, dtype)
    start = -block.ctypes.data % 64 // dtype.itemsize  # on a cache line, as the results of `empty`
    return block[start:start + vector.size]


def copy(vector):
    """An independent copy of a vector."""
    new = zeros_like(vector)
    new[...] = vector
    return new


@functools.cache
def cuda_problem():
    """None where CUDA can be used, else the reason in a few words."""
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        return 'CuPy is not installed (pip install "scratchgan[cuda13]" or "scratchgan[cuda12]")'
    except OSError as error:  # no folder for its cache can be made
        return f"CuPy cannot be imported ({error})"
    try:
        if cupy.cuda.runtime.getDeviceCount() < 1:
            return "no CUDA device was found"
        float(cupy.ones(2, dtype=np.float32).sum())  # a device that is listed can still be unusable
        importlib.import_module("scratchgan.kernels.cupy.gemm").library()  # cuBLAS can be missing
    except Exception as error:  # CuPy and the driver raise many types here; each means "not usable"
        return f"the CUDA device cannot be used ({str(error).strip().splitlines()[0]})"
    return None


def device(name="auto"):
    """Resolve "cpu", "cuda" or "auto" (CUDA where a usable device is) to "cpu" or "cuda".

    Raises `UserError` for any other name, and for "cuda" where there is no usable device.
    """
    if name not in ("cpu", "cuda", "auto"):
        raise UserError(f"Unknown device {name!r}: choose cpu, cuda or auto.")
    if name == "cpu":
        return "cpu"
    problem = cuda_problem()
    if problem is None:
        return "cuda"
    if name == "cuda":
        raise UserError(f"Device cuda was asked for, but {problem}; use --device cpu, or auto to choose.")
    return "cpu"


def devices():
    """How many CUDA devices there are; 0 where CuPy or the driver is missing."""
    try:
        return module_of("cuda").cuda.runtime.getDeviceCount()
    except Exception:  # of many types
        return 0


def use_device(number):
    """Let this process use the CUDA device of this number, counted round where there are fewer."""
    module_of("cuda").cuda.Device(number % devices()).use()


def device_in_use():
    """What tells the CUDA device that this process uses from the others of its machine."""
    return module_of("cuda").cuda.Device().pci_bus_id


def free_memory():
    """Bytes of the CUDA device that nobody uses."""
    cupy = module_of("cuda")
    cupy.get_default_memory_pool().free_all_blocks()
    return cupy.cuda.runtime.memGetInfo()[0]


def nccl_problem():
    """None where NCCL is installed, else what to do, in a few words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy warns where it is missing, as the line does that is made of this
        there = importlib.import_module("cupy.cuda.nccl").available
    version = module_of("cuda").cuda.runtime.runtimeGetVersion() // 1000
    return None if there else f"NCCL is not installed (pip install nvidia-nccl-cu{version})"


def nccl(size, rank):
    """What adds up arrays over so many processes, each with a CUDA device of its own."""
    return importlib.import_module("cupyx.distributed").NCCLBackend(size, rank, use_mpi=True)


def dtype(name):
    """The NumPy dtype of "float32", "float64", "complex64" or "complex128"; `TypeError` for any other."""
    resolved = np.dtype(name)
    if resolved.name not in DTYPES:
        raise TypeError(f"dtype must be one of {', '.join(DTYPES)}, not {resolved.name}")
    return resolved
