"""Faster functions for real CuPy arrays, under the names of the formulas that they compute.

They are loaded when the first array of CuPy asks for them, as they import CuPy.
"""

from functools import cache

from scratchgan.kernels.formulas import Functions


@cache
def faster():
    from scratchgan.kernels.cupy import batch_norm, convolution, gemm, pooling
    return Functions(
        add_in_turn=batch_norm.add_in_turn,
        average_pool=pooling.average_pool,
        average_pool_grad=pooling.average_pool_grad,
        batch_moments=batch_norm.batch_moments,
        batch_norm=batch_norm.batch_norm,
        batch_norm_grad=batch_norm.batch_norm_grad,
        batch_norm_sums=batch_norm.batch_norm_sums,
        batch_statistics=batch_norm.batch_statistics,
        channel_sums=batch_norm.channel_sums,
        convolution=convolution.convolution,
        gemm=gemm.gemm,
        max_pool=pooling.max_pool,
        max_pool_grad=pooling.max_pool_grad,
        max_pool_tangent=pooling.max_pool_tangent,
        repeat=pooling.repeat,
        repeat_grad=pooling.repeat_grad,
        running_averages=batch_norm.running_averages,
    )
