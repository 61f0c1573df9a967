"""The few operations worth writing twice: plainly, and fast.

Each takes `out` (an array to write into, or None for a fresh one) and works on NumPy and CuPy arrays, real and
complex. Where NumPy has a faster way to the same numbers it is used for real arrays; the plain formula stays
beside it for everything else, and a test holds one to the other.
"""

from scratchgan.kernels.activations import (
    leaky_relu,
    leaky_relu_grad,
    sigmoid,
    sigmoid_grad,
    softplus,
    softplus_grad,
    tanh,
    tanh_grad,
)
from scratchgan.kernels.adam import adam
from scratchgan.kernels.batch_norm import channel_sums
from scratchgan.kernels.convolution import fast_convolution
from scratchgan.kernels.gemm import gemm

__all__ = [
    "adam",
    "channel_sums",
    "fast_convolution",
    "gemm",
    "leaky_relu",
    "leaky_relu_grad",
    "sigmoid",
    "sigmoid_grad",
    "softplus",
    "softplus_grad",
    "tanh",
    "tanh_grad",
]
