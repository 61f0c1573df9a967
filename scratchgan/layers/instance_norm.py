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

    def follow(self, means, unbiased_vars, moves):
        if moves and self.momentum is not None:
            self.move(means.mean(axis=0), unbiased_vars.mean(axis=0), self.momentum)
