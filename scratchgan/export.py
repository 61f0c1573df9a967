"""Writes the network that makes samples as an ONNX file, for other programs: a few nodes for each layer.

    scratchgan.export.save_onnx(scratchgan.load("runs/mlp"), "generator.onnx")

The model takes "z" (N, z_dim), float32, for any N, and, where the system has classes, "labels" (N,), int64. It gives
"images" (N, C, H, W), or whatever the samples are, in the system's value range, as `system.generate` does. Weights keep
the names that they have in the state dict. Needs the package `onnx`, nothing else here does.
"""

import copy
import importlib
import json

import numpy as np

from scratchgan.errors import UserError
from scratchgan.layers.conditional import joined
from scratchgan.layers.pooling import nearest
from scratchgan.system import System

OPSET, IR_VERSION = 18, 8  # of ONNX 1.13, from December 2022
Z, LABELS, IMAGES, BATCH = "z", "labels", "images", "N"


def save_onnx(system, path):
    """Write the network that makes a `System`'s samples to `path`, whole or not at all.

    `UserError` for a system without one, and for a layer that ONNX has not.
    """
    from scratchgan.files import replace_file, writing
    data = onnx_model(system).SerializeToString()
    with writing("the model to", path):
        replace_file(path, data)


def require_onnx():
    """The package `onnx`; `UserError` where it is not installed."""
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        raise UserError('Writing ONNX needs the package onnx, which is not installed here: pip install '
                        '"scratchgan[onnx]".') from error


def onnx_model(system):
    """The sampler in eval mode as an `onnx.ModelProto`, checked."""
    if not isinstance(system, System):
        raise TypeError(f"expected a System, such as a Game, got {type(system).__name__}")
    if system.sampler is None or system.latent is None:
        raise UserError(f"{type(system).__name__} makes no samples of noise: there is no network to export.")
    sampler = copy.deepcopy(system.sampler).to("cpu", "float32").eval()
    graph = Graph(require_onnx(), sampler)
    z = np.zeros((2, system.latent.z_dim), np.float32)  # goes through all layers, for the shapes between them
    x = system.latent.as_input(z)
    given, inputs = (graph.reshaped(Z, z.shape, x.shape), x), {Z: ("FLOAT", (BATCH, system.latent.z_dim))}
    if system.classes:
        given, inputs[LABELS] = (given, (LABELS, np.zeros(2, int))), ("INT64", (BATCH,))
    name, y = graph.add_layer(sampler, given)
    name = graph.reshaped(name, y.shape, (2, *system.sample_shape))
    if system.scale != 1:
        name = graph.add("Mul", name, graph.array(float(system.scale)))
    if system.value_range is None:
        graph.add("Identity", name, output=IMAGES)
    else:
        graph.add("Clip", name, *map(graph.array, map(float, system.value_range)), output=IMAGES)
    return graph.model(system.sampler_name or "sampler", inputs, {IMAGES: ("FLOAT", (BATCH, *system.sample_shape))},
                       about(system))


def about(system):
    """What the file says of where it comes from."""
    recipe = system.record or {}
    told = {"recipe": recipe.get("name"), "settings": json.dumps(recipe["settings"]) if recipe else None,
            "step": system.steps, "classes": system.classes or None}
    return {name: str(value) for name, value in told.items() if value is not None}


class Graph:
    """ONNX nodes and arrays as they are added, each under a name of its own: those of a network."""

    def __init__(self, onnx, network):
        self.onnx, self.nodes, self.arrays = onnx, [], {}
        self.keys = {id(layer): key for key, layer in network.named_layers()}

    def add(self, operator, *inputs, output=None, **attributes):
        """A node; returns the name of its output."""
        output = output or f"{operator}_{len(self.nodes)}"
        attributes = {name: value for name, value in attributes.items() if value is not None}
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def array(self, value, name=None):
        """A constant; returns its name. Floats become float32."""
        value = np.array(value, order="C")
        value = value.astype(np.float32) if value.dtype.kind == "f" else value.astype(np.int64)
        name = name or f"constant_{len(self.arrays)}"
        self.arrays[name] = self.onnx.numpy_helper.from_array(value, name)
        return name

    def reshaped(self, name, before, after):
        """Another shape for each sample. 0 means "as it is": the batch."""
        return name if before == after else self.add("Reshape", name, self.array([0, *after[1:]]))

    def add_layer(self, layer, given):
        """The nodes of a layer: (output's name, y), as its input is `given`, of which `Concat` takes a tuple."""
        kind, key = kind_of(layer), self.keys[id(layer)]
        if kind in CONTAINERS:
            return CONTAINERS[kind](self, layer, given)
        if kind is None:
            raise UserError(f"The layer {key.rstrip('.') or 'that is the sampler'}, {layer!r}, cannot be written as "
                            f"ONNX, which is possible for {', '.join([*NODES, *CONTAINERS])}, and what derives from "
                            "them without a forward of its own.")
        name, x = given
        y = layer.forward(x)
        if len(y) != len(x):
            raise UserError(f"The layer {key.rstrip('.')}, {layer!r}, changes the number of samples, which ONNX is not "
                            "told how to follow.")
        return NODES[kind](self, At(layer, key, x.shape, y.shape), name), y

    def model(self, name, inputs, outputs, properties):
        import scratchgan
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        ends = [[helper.make_tensor_value_info(name, getattr(kinds, kind), shape)
                 for name, (kind, shape) in each.items()] for each in (inputs, outputs)]
        graph = helper.make_graph(self.nodes, name, *ends, initializer=list(self.arrays.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
                                  producer_name="scratchgan", producer_version=scratchgan.__version__)
        helper.set_model_props(model, properties)
        self.onnx.checker.check_model(model, full_check=True)
        return model


def kind_of(layer):
    """The name of the layer of ours whose forward pass this one has, itself or by inheritance; None if it has none."""
    if "forward" in vars(layer):
        return None
    for kind in type(layer).__mro__:
        ours = kind.__module__.startswith(("scratchgan.layers.", "scratchgan.gan.growing"))
        if ours and (kind.__name__ in NODES or kind.__name__ in CONTAINERS):
            return kind.__name__
        if "forward" in vars(kind) and not ours:
            return None
    return None


class At:
    """A layer and where it stands: the key of its state dict, the shapes of its input and its output."""

    def __init__(self, layer, key, x_shape, y_shape):
        self.layer, self.key, self.x_shape, self.y_shape = layer, key, tuple(x_shape), tuple(y_shape)

    def state(self, graph, name, default=None, size=None):
        """The name of the parameter or buffer as a constant; without it `default`, `size` times, if that is given."""
        layer = self.layer
        value = layer.params.get(name, layer.buffers.get(name))
        if name == getattr(layer, "normalised", None):  # by `spectral_norm`
            value = layer.normalised_weight()
        if value is None and default is not None:
            value = np.full(size, default, np.float32)
        return "" if value is None else graph.array(value, f"{self.key}{name}")


# -- a function for each layer: (graph, the layer at its place, the input's name) -> the output's name ---------------


def linear(graph, at, x):
    weight, bias = at.state(graph, "weight"), at.state(graph, "bias")
    if len(at.x_shape) == 2:
        return graph.add("Gemm", x, weight, *[bias] * bool(bias), transB=1)
    y = graph.add("MatMul", x, graph.add("Transpose", weight, perm=[1, 0]))
    return graph.add("Add", y, bias) if bias else y


def maxout(graph, at, x):
    inner = at.layer.layers["linear"]
    shape = (*at.y_shape, at.layer.num_pieces)
    z = linear(graph, At(inner, f"{at.key}linear.", at.x_shape, shape), x)
    return graph.add("ReduceMax", graph.reshaped(z, None, shape), graph.array([-1]), keepdims=0)


def leaky_relu(graph, at, x):
    return graph.add("LeakyRelu", x, alpha=at.layer.negative_slope)


def softplus(graph, at, x):
    beta, threshold = at.layer.beta, at.layer.threshold
    if beta == 1 and threshold >= 20:  # beyond it both are x in float32
        return graph.add("Softplus", x)
    bx = graph.add("Mul", x, graph.array(beta))
    smooth = graph.add("Div", graph.add("Softplus", bx), graph.array(beta))
    return graph.add("Where", graph.add("Greater", bx, graph.array(threshold)), x, smooth)


def reshape(graph, at, x):
    return graph.reshaped(x, at.x_shape, at.y_shape)


def dropout(graph, at, x):
    return x  # in eval mode


def convolution(graph, at, x, operator="Conv", pads=None, with_bias=True, **more):
    g = at.layer.geometry
    begin, end = zip(*g.padding)
    weight, bias = at.state(graph, "weight"), at.state(graph, "bias") if with_bias else ""
    return graph.add(operator, x, weight, *[bias] * bool(bias), kernel_shape=g.kernel, strides=g.stride,
                     dilations=g.dilation, group=g.groups, pads=pads or (*begin, *end), **more)


def transposed_convolution(graph, at, x):
    """Output padding adds to the end what padding takes from it. ONNX has it below the stride only.

    Elsewhere the padding at the end is less by it; what is left reaches beyond all products and holds the bias alone.
    """
    layer, g = at.layer, at.layer.geometry
    allowed = [p if p < s else 0 for p, s in zip(layer.extra, g.stride)]
    rest = [p - q for p, q in zip(layer.extra, allowed)]
    begin, end = zip(*g.padding)
    pads = (*begin, *(max(p - r, 0) for p, r in zip(end, rest)))
    beyond = [max(r - p, 0) for p, r in zip(end, rest)]
    y = convolution(graph, at, x, "ConvTranspose", pads=pads, with_bias=not any(beyond), output_padding=allowed)
    if not any(beyond):
        return y
    y = graph.add("Pad", y, graph.array([0] * 6 + beyond))
    bias = at.state(graph, "bias")
    return graph.add("Add", y, graph.add("Reshape", bias, graph.array([-1, 1, 1]))) if bias else y


def batch_norm(graph, at, x):
    if not at.layer.track_running_stats:
        raise UserError(f"The layer {at.key.rstrip('.')}, {at.layer!r}, takes its statistics over the batch, for which "
                        "ONNX has no operator: train with track_running_stats=True.")
    size = at.layer.num_features
    inputs = [at.state(graph, "weight", 1, size), at.state(graph, "bias", 0, size), at.state(graph, "running_mean"),
              at.state(graph, "running_var")]
    return graph.add("BatchNormalization", x, *inputs, epsilon=at.layer.eps)


def instance_norm(graph, at, x):
    if at.layer.track_running_stats:
        return batch_norm(graph, at, x)
    size = at.layer.num_features
    return graph.add("InstanceNormalization", x, at.state(graph, "weight", 1, size), at.state(graph, "bias", 0, size),
                     epsilon=at.layer.eps)


def layer_norm(graph, at, x):
    shape = at.layer.normalized_shape
    bias = at.state(graph, "bias")
    return graph.add("LayerNormalization", x, at.state(graph, "weight", 1, shape), *[bias] * bool(bias),
                     axis=-len(shape), epsilon=at.layer.eps)


def padded(graph, at, x, value):
    """x with its padding and what the last windows need beyond it, so that every window lies inside."""
    g, after = at.layer.geometry, []
    for n, m, k, s, p, d in zip(at.x_shape[-2:], at.y_shape[-2:], g.kernel, g.stride, g.padding, g.dilation):
        after.append(max(0, (m - 1) * s + d * (k - 1) + 1 - n - p))
    pads = [0, 0, *g.padding, 0, 0, *after]
    return graph.add("Pad", x, graph.array(pads), graph.array(float(value))) if any(pads) else x


def max_pool(graph, at, x):
    g = at.layer.geometry
    return graph.add("MaxPool", padded(graph, at, x, -np.inf), kernel_shape=g.kernel, strides=g.stride,
                     dilations=g.dilation)


def avg_pool(graph, at, x):
    """The mean over whole windows, times what the layer divides by instead of their size."""
    g, like = at.layer.geometry, np.empty(at.x_shape, np.float32)
    y = graph.add("AveragePool", padded(graph, at, x, 0), kernel_shape=g.kernel, strides=g.stride)
    factor = np.prod(g.kernel) / at.layer.divisor(at.layer.window(like), like)
    return y if np.all(factor == 1) else graph.add("Mul", y, graph.array(factor))


def upsample(graph, at, x):
    """Which values are taken, axis by axis, since `Resize` rounds some ratios in another way."""
    scales = at.layer.scales(len(at.x_shape) - 2)
    for axis, scale in enumerate(scales, 2):
        if at.x_shape[axis] != at.y_shape[axis]:
            x = graph.add("Gather", x, graph.array(nearest(at.x_shape[axis], at.y_shape[axis], scale)), axis=axis)
    return x


def embedding(graph, at, labels):
    return graph.add("Gather", at.state(graph, "weight"), labels)


def operator(name):
    """For a layer that is one node without settings."""
    return lambda graph, at, x: graph.add(name, x)


NODES = {
    "Linear": linear, "Maxout": maxout, "LeakyReLU": leaky_relu, "ReLU": operator("Relu"), "Tanh": operator("Tanh"),
    "Sigmoid": operator("Sigmoid"), "Softplus": softplus, "Flatten": reshape, "Unflatten": reshape, "Reshape": reshape,
    "Dropout": dropout, "Conv2d": convolution, "ConvTranspose2d": transposed_convolution, "BatchNorm1d": batch_norm,
    "BatchNorm2d": batch_norm, "InstanceNorm2d": instance_norm, "LayerNorm": layer_norm, "AvgPool2d": avg_pool,
    "MaxPool2d": max_pool, "Upsample": upsample, "Embedding": embedding}


# -- layers made of others: (graph, the layer, its input) -> its output, each as (name, array) -------------------------


def sequential(graph, layer, given):
    for child in layer.layers.values():
        given = graph.add_layer(child, given)
    return given


def concat(graph, layer, given):
    names, parts = zip(*map(graph.add_layer, layer.layers.values(), given))
    return graph.add("Concat", *names, axis=1), joined(parts)


def growing(graph, layer, given):
    stage, alpha = layer.now()
    if (stage, alpha) != (len(layer.blocks) - 1, 1):
        raise UserError("The generator still grows: it can be written as ONNX once its last stage has faded in.")
    return layer.through(given, stage, alpha, graph.add_layer)


CONTAINERS = {"Sequential": sequential, "Concat": concat, "GrowingGenerator": growing}
