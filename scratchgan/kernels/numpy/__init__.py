"""Faster functions for real NumPy arrays, under the names of the formulas that they compute."""

from scratchgan.kernels.formulas import Functions
from scratchgan.kernels.numpy import activations, batch_norm, gemm, maxout, optimizers
from scratchgan.kernels.numpy.convolution import convolution

FASTER = Functions(
    adam=optimizers.adam,
    batch_moments=batch_norm.batch_moments,
    batch_norm=batch_norm.batch_norm,
    batch_norm_grad=batch_norm.batch_norm_grad,
    batch_norm_sums=batch_norm.batch_norm_sums,
    channel_sums=batch_norm.channel_sums,
    convolution=convolution,
    gemm=gemm.gemm,
    leaky_relu=activations.leaky_relu,
    leaky_relu_grad=activations.leaky_relu_grad,
    linear=gemm.linear,
    maxout=maxout.maxout,
    maxout_grad=maxout.maxout_grad,
    momentum=optimizers.momentum,
    row_sums=gemm.row_sums,
    sigmoid=activations.sigmoid,
    sigmoid_grad=activations.sigmoid_grad,
    softplus=activations.softplus,
    softplus_grad=activations.softplus_grad,
    tanh=activations.tanh,
    tanh_grad=activations.tanh_grad,
)
