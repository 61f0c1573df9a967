"""Instance normalisation."""

from scratchgan.layers.batch_norm import BatchNorm2d


class InstanceNorm2d(BatchNorm2d):
    """`BatchNorm2d` of batches of one: each channel of each image is brought to mean 0 and variance 1 by itself.

    M = H W. x (N, C, H, W) or (C, H, W). By default without weight and bias, and with the image's statistics in eval
    mode too. With track_running_stats=True eval mode takes running ones, averages over images; like PyTorch's they stay
    where they are with momentum=None, and num_batches_tracked is not counted. Ulyanov et al. 2016, "Instance
    normalization".
    """

    couples_samples = knows_batches = False
    inputs = ("NCHW", "CHW")

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=False, track_running_stats=False, bias=True, *,
                 weight_init=None, bias_init=None):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, bias, weight_init=weight_init,
                         bias_init=bias_init)

    def in_batches_apart(self, x):
        return x.reshape(len(x) if x.ndim == 4 else 1, 1, *x.shape[-3:])

    def follow(self, means, variances, M):
        if len(means) and self.momentum is not None:
            count = self.buffers["num_batches_tracked"].copy()  # to be counted in vain
            means, variances = (vectors.mean(axis=0, keepdims=True) for vectors in (means, variances))
            self.ops().running_averages(self.buffers["running_mean"], self.buffers["running_var"], count, means,
                                        variances, M, self.momentum)
