"""Layers: each a forward pass, a backward pass, and the derivation that joins them."""

from scratchgan.layers.activations import LeakyReLU, ReLU, Sigmoid, Softplus, Tanh
from scratchgan.layers.base import Layer
from scratchgan.layers.batch_norm import BatchNorm1d, BatchNorm2d
from scratchgan.layers.conditional import Concat, Embedding
from scratchgan.layers.containers import Sequential
from scratchgan.layers.convolution import Conv2d, ConvTranspose2d
from scratchgan.layers.energy import AutoencoderEnergy
from scratchgan.layers.instance_norm import InstanceNorm2d
from scratchgan.layers.layer_norm import LayerNorm
from scratchgan.layers.linear import Linear
from scratchgan.layers.maxout import Maxout
from scratchgan.layers.pooling import AvgPool2d, MaxPool2d, Upsample
from scratchgan.layers.regularising import Dropout
from scratchgan.layers.shape import Flatten, Reshape, Unflatten
from scratchgan.layers.spectral import spectral_norm

__all__ = [
    "AutoencoderEnergy",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Concat",
    "Conv2d",
    "ConvTranspose2d",
    "Dropout",
    "Embedding",
    "Flatten",
    "InstanceNorm2d",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "Maxout",
    "ReLU",
    "Reshape",
    "Sequential",
    "Sigmoid",
    "Softplus",
    "Tanh",
    "Unflatten",
    "Upsample",
    "spectral_norm",
]
