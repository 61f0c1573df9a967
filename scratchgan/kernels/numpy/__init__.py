"""Faster functions for real NumPy arrays, under the names of the formulas that they compute."""

from scratchgan.kernels.formulas import Functions
from scratchgan.kernels.numpy import activations, batch_norm
from scratchgan.kernels.numpy.adam import adam
from scratchgan.kernels.numpy.convolution import convolution
from scratchgan.kernels.numpy.gemm import gemm

FASTER = Functions(
    adam=adam,
    batch_moments=batch_norm.batch_moments,
    batch_norm=batch_norm.batch_norm,
    batch_norm_grad=batch_norm.batch_norm_grad,
    batch_norm_sums=batch_norm.batch_norm_sums,
    channel_sums=batch_norm.channel_sums,
    convolution=convolution,
    gemm=gemm,
    leaky_relu=activations.leaky_relu,
    leaky_relu_grad=activations.leaky_relu_grad,
    sigmoid=activations.sigmoid,
    sigmoid_grad=activations.sigmoid_grad,
    softplus=activations.softplus,
    softplus_grad=activations.softplus_grad,
    tanh=activations.tanh,
    tanh_grad=activations.tanh_grad,
)
