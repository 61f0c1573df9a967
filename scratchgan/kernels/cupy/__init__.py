"""Faster functions for real CuPy arrays, under the names of the formulas that they compute.

They are loaded when the first array of CuPy asks for them, as they import CuPy.
"""

from functools import cache

from scratchgan.kernels.formulas import Functions


@cache
def faster():
    from scratchgan.kernels.cupy import (
        activations,
        batch_norm,
        convolution,
        games,
        gemm,
        layer_norm,
        optimizers,
        pooling,
    )
    return Functions(
        add_bias=convolution.add_bias,
        add_in_turn=batch_norm.add_in_turn,
        adam=optimizers.adam,
        affine=layer_norm.affine,
        average_pool=pooling.average_pool,
        average_pool_grad=pooling.average_pool_grad,
        batch_moments=batch_norm.batch_moments,
        batch_norm=batch_norm.batch_norm,
        batch_norm_grad=batch_norm.batch_norm_grad,
        batch_norm_sums=batch_norm.batch_norm_sums,
        batch_statistics=batch_norm.batch_statistics,
        channel_sums=batch_norm.channel_sums,
        convolution=convolution.convolution,
        direction=games.direction,
        dropout=activations.dropout,
        gemm=gemm.gemm,
        layer_norm=layer_norm.layer_norm,
        layer_norm_grad=layer_norm.layer_norm_grad,
        leaky_relu=activations.leaky_relu,
        leaky_relu_grad=activations.leaky_relu_grad,
        linear=gemm.linear,
        max_pool=pooling.max_pool,
        max_pool_grad=pooling.max_pool_grad,
        max_pool_tangent=pooling.max_pool_tangent,
        maxout=activations.maxout,
        maxout_grad=activations.maxout_grad,
        momentum=optimizers.momentum,
        moving_average=optimizers.moving_average,
        noisy=games.noisy,
        product_sums=layer_norm.product_sums,
        repeat=pooling.repeat,
        repeat_grad=pooling.repeat_grad,
        rmsprop=optimizers.rmsprop,
        row_sums=gemm.row_sums,
        running_averages=batch_norm.running_averages,
        one_batch=games.one_batch,
        scaled_slope=games.scaled_slope,
        slopes_of_both=games.slopes_of_both,
        sgd=optimizers.sgd,
        sigmoid=activations.sigmoid,
        sigmoid_grad=activations.sigmoid_grad,
        softplus=activations.softplus,
        softplus_grad=activations.softplus_grad,
        tanh=activations.tanh,
        tanh_grad=activations.tanh_grad,
        unit_slope=games.unit_slope,
        weighted_squares=games.weighted_squares,
    )
