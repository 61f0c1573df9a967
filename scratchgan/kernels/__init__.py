"""The functions that layers, losses and optimizers compute with: each a formula, and perhaps a faster way to it.

A formula stands in the file of its layer, beside its derivation, for any array module and for complex values too:

    @kernels.formula
    def tanh_grad(dy, y):
        return dy * (1 - y * y)

`kernels/numpy/` and `kernels/cupy/` offer faster functions under the same names, for real arrays. `kernels.of(x)` is a
namespace of what to use for arrays like x, so that `kernels.of(x).tanh_grad` is one or the other; complex values always
take the formulas. Inside `with kernels.plain():`, or with SCRATCHGAN_PLAIN=1, everything does.
"""

import os
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from scratchgan.backend import array_module
from scratchgan.kernels import cupy, gemm, numpy
from scratchgan.kernels.formulas import FORMULAS, formula

__all__ = ["FORMULAS", "formula", "gemm", "of", "plain", "sigmoid", "softplus"]

_plain = ContextVar("plain", default=os.environ.get("SCRATCHGAN_PLAIN", "0") not in ("", "0"))


def of(*arrays):
    """The functions for these arrays: of the device that they are on; the formulas where one of them is complex."""
    if _plain.get():
        return FORMULAS
    for array in arrays:
        if array.dtype.kind == "c":
            return FORMULAS
    return numpy.FASTER if array_module(arrays[0]) is np else cupy.faster()


def sigmoid(x):
    """1 / (1 + exp(-x)): see `scratchgan.layers.activations`."""
    return of(x).sigmoid(x)


def softplus(x):
    """log(1 + exp(x)): see `scratchgan.layers.activations`."""
    return of(x).softplus(x)


@contextmanager
def plain(wanted=True):
    """Inside, every pass that begins uses the formulas."""
    token = _plain.set(wanted)
    try:
        yield
    finally:
        _plain.reset(token)
