"""Conv2d and ConvTranspose2d, whichever kernel computes them: against derivatives, PyTorch and sums by hand."""

import copy

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch_oracle import assert_layer_like_torch, torch_module

from scratchgan import backend, initializers
from scratchgan.gradcheck import check_layer, check_network
from scratchgan.gradcheck.oracles import relative_error
from scratchgan.layers import Conv2d, ConvTranspose2d, Sequential

SAME = pytest.mark.filterwarnings("ignore:Using padding=.same.:UserWarning")  # PyTorch says that it costs a copy

# -- layers and shapes that fit each other, drawn at random ---------------------------------------------------------

sizes = st.integers(1, 3)
pairs = sizes | st.tuples(sizes, sizes)
margins = st.integers(0, 2) | st.tuples(st.integers(0, 2), st.integers(0, 2))
seeds = st.integers(0, 2**32 - 1)


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


@st.composite
def convolutions(draw, most=4):
    """(name, arguments, input shape) of a convolution: all that both constructors take, batched or not."""
    name, groups = draw(st.sampled_from(["Conv2d", "ConvTranspose2d"])), draw(st.integers(1, 2))
    kernel, stride, padding = draw(pairs), draw(pairs), draw(margins)
    arguments = {"in_channels": groups * draw(st.integers(1, 2)), "out_channels": groups * draw(st.integers(1, 2)),
                 "kernel_size": kernel, "dilation": draw(st.integers(1, 2)), "groups": groups,
                 "bias": draw(st.booleans())}
    reach = [arguments["dilation"] * (k - 1) + 1 for k in pair(kernel)]
    if name == "Conv2d":
        if draw(st.integers(0, 4)) == 0:
            padding = draw(st.sampled_from(["same", "valid"]))
            stride = 1 if padding == "same" else stride
        around = pair({"same": 2, "valid": 0}.get(padding, padding) if isinstance(padding, str) else padding)
        low = [max(1, r - 2 * p) for r, p in zip(reach, around)]
    else:
        arguments["output_padding"] = tuple(draw(st.integers(0, max(s, arguments["dilation"]) - 1))
                                            for s in pair(stride))
        low = [max(1, -((r - 2 * p - s - 1) // s)) for r, p, s in zip(reach, pair(padding), pair(stride))]
    arguments |= {"stride": stride, "padding": padding}
    size = tuple(draw(st.integers(n, n + most - 1)) for n in low)
    batch = draw(st.sampled_from([(), (1,), (2,)]))
    return name, arguments, (*batch, arguments["in_channels"], *size)


LAYERS = {"Conv2d": Conv2d, "ConvTranspose2d": ConvTranspose2d}


@SAME
@settings(max_examples=50)
@given(convolutions(most=2), seeds)
def test_every_gradient(convolution, seed):
    name, arguments, shape = convolution
    ones = LAYERS[name](**{**arguments, "bias": False}, weight_init=initializers.ones)
    assume(ones.forward(np.ones(shape, np.float32)).any())  # strides may step over a small image, from zero to zero
    layer = LAYERS[name](**arguments).initialize(seed)
    check_layer(layer, input_shape=shape, seed=seed, batch_of_one=len(shape) == 4).raise_if_failed()


@SAME
@settings(max_examples=50)
@given(convolutions(), seeds)
def test_anything_like_torch(convolution, seed):
    name, arguments, shape = convolution
    x = np.random.default_rng(seed).standard_normal(shape)
    module = getattr(torch_module().nn, name)(**arguments)
    assert_layer_like_torch(LAYERS[name](**arguments).initialize(seed), module, x, seed)


# -- a grid of what PyTorch takes -----------------------------------------------------------------------------------

GRID = [  # name, positional arguments, the input's size; with two channels or more in each group
    ("Conv2d", (4, 6, 3), (5, 4)), ("Conv2d", (4, 6, (2, 3), (2, 1), (0, 2)), (5, 4)),
    ("Conv2d", (4, 6, 3, 3, 2, 2), (7, 6)), ("Conv2d", (4, 6, (3, 4), 1, "same", (2, 1)), (4, 5)),
    ("Conv2d", (4, 6, (4, 1), 1, "same"), (1, 2)), ("Conv2d", (4, 6, 3, 2, "valid"), (6, 7)),
    ("Conv2d", (4, 6, 3, 1, 1, 1, 2), (4, 4)), ("Conv2d", (4, 4, 3, 2, 1, 1, 4, False), (5, 5)),
    ("Conv2d", (4, 6, 1), (3, 3)), ("Conv2d", (4, 6, 2, 5, 3), (2, 2)),
    ("Conv2d", (1, 1, 1, 1, 0, 1, 1, False), (1, 1)),
    ("ConvTranspose2d", (4, 6, 3), (3, 4)), ("ConvTranspose2d", (4, 6, (2, 3), (2, 1), (0, 2)), (3, 4)),
    ("ConvTranspose2d", (4, 6, 3, 3, 2, 2), (3, 2)), ("ConvTranspose2d", (4, 6, 3, 2, 1, (1, 0), 2), (4, 3)),
    ("ConvTranspose2d", (4, 4, 2, 1, 0, 1, 4, False, 2), (3, 3)), ("ConvTranspose2d", (4, 6, 1, 4, 0, 3), (2, 2)),
    ("ConvTranspose2d", (4, 6, 2, 3), (2, 2)), ("ConvTranspose2d", (1, 1, 1, 1, 0, 0, 1, False), (1, 1)),
    # kernel 4, stride 2, padding 1, from many channels to many, to even and odd sizes, and from or to an image
    *(("Conv2d", (16, 24, 4, 2, 1, 1, 1, False), size) for size in
      [(16, 16), (14, 14), (8, 8), (6, 6), (4, 4), (2, 2), (14, 6), (2, 12), (15, 9), (3, 30), (7, 7)]),
    *(("ConvTranspose2d", (24, 16, 4, 2, 1, 0, 1, False), size) for size in
      [(8, 8), (7, 7), (4, 4), (3, 3), (2, 2), (1, 1), (7, 3), (1, 6), (5, 14)]),
    ("ConvTranspose2d", (24, 16, 4, 2, 1, 1), (7, 4)), ("Conv2d", (16, 24, 4, 2, 1), (8, 6)),
    ("Conv2d", (16, 24, 4, 2, 1, 1, 2), (8, 8)),
    *(("Conv2d", (channels, 16, 4, 2, 1, 1, 1, False), size) for channels, size in
      [(1, (28, 28)), (3, (16, 16)), (4, (12, 6)), (2, (9, 7)), (3, (2, 2))]),
    *(("ConvTranspose2d", (16, channels, 4, 2, 1, 0, 1, False), size) for channels, size in
      [(1, (14, 14)), (3, (8, 8)), (4, (6, 3)), (2, (5, 7)), (3, (1, 1))]),
    ("ConvTranspose2d", (16, 3, 4, 2, 1), (4, 4)),
    # the kernel as large as the larger image, no padding
    *(("Conv2d", (16, channels, kernel, 1, 0, 1, 1, False), pair(kernel)) for channels, kernel in
      [(1, 7), (1, 4), (24, (3, 5)), (1, 1)]),
    *(("ConvTranspose2d", (20, channels, kernel, 1, 0, 0, 1, False), (1, 1)) for channels, kernel in
      [(16, 7), (16, 4), (3, (3, 5))]),
    ("Conv2d", (16, 2, 4), (4, 4)), ("ConvTranspose2d", (20, 16, 4), (1, 1)), ("Conv2d", (3, 5, 4, 2), (4, 4)),
]


def named(case):
    name, arguments, size = case
    return f"{name}{arguments}-{size}".replace(" ", "")


@SAME
@pytest.mark.parametrize("batch", [(3,), (1,), (), (0,)], ids=["3", "1", "unbatched", "empty"])
@pytest.mark.parametrize("case", GRID, ids=named)
def test_grid_like_torch(case, batch):
    name, arguments, size = case
    x = np.random.default_rng(1).standard_normal((*batch, arguments[0], *size))
    module = getattr(torch_module().nn, name)(*arguments)
    assert_layer_like_torch(LAYERS[name](*arguments).initialize(1), module, x)


def test_a_state_dict_goes_to_torch_and_back():
    torch = torch_module()
    ours = Sequential(Conv2d(3, 4, (2, 3), groups=1), ConvTranspose2d(4, 6, 3, groups=2, bias=False)).initialize(5)
    theirs = torch.nn.Sequential(torch.nn.Conv2d(3, 4, (2, 3)),
                                 torch.nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False))
    state = {key: value.numpy() for key, value in theirs.state_dict().items()}
    ours.load_state_dict(state)
    assert {key: value.tobytes() for key, value in ours.state_dict().items()} \
        == {key: value.tobytes() for key, value in state.items()}
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 5)).astype(np.float32)
    assert relative_error(ours(x), theirs(torch.tensor(x)).detach().numpy())[0] <= 1e-5


# -- the kernels for large images and many channels -----------------------------------------------------------------

LARGE = [
    (Conv2d, (8, 6, 4, 2, 1, 1, 1, False), (3, 8, 14, 10)), (ConvTranspose2d, (6, 9, 4, 2, 1), (3, 6, 7, 4)),
    (Conv2d, (3, 8, 4, 2, 1), (3, 3, 12, 10)), (ConvTranspose2d, (8, 1, 4, 2, 1, 0, 1, False), (3, 8, 5, 6)),
    (Conv2d, (8, 1, 4, 1, 0, 1, 1, False), (3, 8, 4, 4)), (ConvTranspose2d, (10, 8, (4, 3)), (3, 10, 1, 1)),
    (Conv2d, (4, 6, 3, 2, 1, 2, 2), (3, 4, 9, 8)), (ConvTranspose2d, (6, 4, 3, 2, 1, 1, 2, True, 1), (3, 6, 4, 5)),
]


@pytest.mark.parametrize(("kind", "arguments", "shape"), LARGE)
def test_gradients_of_larger_layers(kind, arguments, shape):
    check_network(kind(*arguments).initialize(2), input_shape=shape, directions=4, entries=12).raise_if_failed()


def gradients(layer, x, dy):
    layer = copy.deepcopy(layer)
    y = layer.forward(x)
    dx = layer.backward(dy)
    return {"y": y, "x": dx, **layer.grads}


def orders(array):
    """(name, the same values with memory in another order)."""
    for name, axes in (("NHWC", (0, 2, 3, 1)), ("HWNC", (2, 3, 0, 1)), ("CHWN", (1, 2, 3, 0)), ("NWCH", (0, 3, 1, 2))):
        yield name, np.ascontiguousarray(array.transpose(axes)).transpose(np.argsort(axes))
    wide = np.full((*array.shape[:3], 2 * array.shape[3]), np.nan, array.dtype)
    wide[..., ::2] = array
    yield "every other column", wide[..., ::2]
    channels = np.full((len(array), array.shape[1] + 3, *array.shape[2:]), np.nan, array.dtype)
    channels[:, 2:-1] = array
    yield "some channels", channels[:, 2:-1]
    yield "upside down", array[:, :, ::-1].copy()[:, :, ::-1]
    yield "one image for all", np.broadcast_to(array[:1], array.shape)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("kind", "arguments", "shape"), LARGE)
def test_any_memory_order(kind, arguments, shape, dtype, rng):
    layer = kind(*arguments).initialize(3).to(dtype=dtype)
    x = rng.standard_normal(shape).astype(dtype)
    dy = rng.standard_normal(layer.forward(x).shape).astype(dtype)
    for (name, x_view), (_, dy_view) in zip(orders(x), orders(dy)):
        expected = gradients(layer, np.ascontiguousarray(x_view), np.ascontiguousarray(dy_view))
        for ours, theirs in ((x_view, dy_view), (x_view, dy_view.copy()), (x_view.copy(), dy_view)):
            for tensor, value in gradients(layer, ours, theirs).items():
                assert relative_error(value, expected[tensor])[0] <= {"float64": 1e-13, "float32": 1e-5}[dtype], \
                    (name, tensor)


@pytest.mark.parametrize(("kind", "arguments", "shape"), LARGE)
def test_what_is_asked_is_what_is_done(kind, arguments, shape, rng):
    """`wrt`, in any sequence, after one forward pass."""
    layer = kind(*arguments).initialize(4).to(dtype="float64")
    x = rng.standard_normal(shape)
    dy = rng.standard_normal(layer.forward(x).shape)
    expected = gradients(layer, x, dy)
    layer.forward(2 * x)
    layer.backward(dy)
    y = layer.forward(x)
    layer.zero_grad()
    assert layer.backward(dy, "params") is None
    grad = layer.grad.copy()
    for wrt in ("input", "input", "all"):
        assert relative_error(layer.backward(dy, wrt), expected["x"])[0] <= 1e-13
    assert np.array_equal(layer.grad, 2 * grad)
    assert relative_error(y, expected["y"])[0] <= 1e-13  # still there
    for name, value in layer.grads.items():
        assert relative_error(value, 2 * expected[name])[0] <= 1e-13


# -- on each device -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "arguments", "shape"), [
    (Conv2d, (2, 4, (2, 3), (2, 1), 1, 1, 2), (2, 2, 3, 3)), (Conv2d, (2, 1, 3, 1, "same", 1, 1, False), (1, 2, 2, 2)),
    (Conv2d, (2, 3, 4, 2, 1), (2, 2, 4, 2)), (ConvTranspose2d, (2, 4, (2, 3), (2, 3), 1, (1, 2), 2), (2, 2, 2, 2)),
    (ConvTranspose2d, (3, 2, 4, 2, 1, 0, 1, False), (2, 3, 2, 1)), (ConvTranspose2d, (3, 2, 2), (3, 1, 1))])
def test_every_gradient_on_each_device(device, kind, arguments, shape):
    check_layer(kind(*arguments).to(device), input_shape=shape, batch_of_one=len(shape) == 4).raise_if_failed()


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 2, 3, 1)])
def test_the_gradient_of_the_bias_keeps_its_digits(axes):
    shape = 64, 16, 32, 32
    dy = np.full([shape[axis] for axis in axes], 0.1, np.float32).transpose(np.argsort(axes))
    layer = Conv2d(2, 16, 1)
    layer.forward(np.zeros((64, 2, 32, 32), np.float32))
    layer.backward(dy, "params")
    assert np.allclose(layer.grads["bias"], 64 * 32 * 32 * np.float64(np.float32(0.1)), rtol=1e-6)


@pytest.mark.parametrize(("kind", "arguments", "shape", "y_shape"), [
    (Conv2d, (2, 3, 4, 2, 1), (0, 2, 6, 4), (0, 3, 3, 2)), (Conv2d, (2, 3, 3, 1, 0, 1, 1, False), (0, 2, 4, 4),
                                                           (0, 3, 2, 2)),
    (ConvTranspose2d, (2, 3, 4, 2, 1), (0, 2, 3, 2), (0, 3, 6, 4))])
def test_empty_batch(device, kind, arguments, shape, y_shape):
    layer = kind(*arguments).to(device)
    y = layer.forward(backend.to_device(np.zeros(shape, np.float32), device))
    assert y.shape == y_shape
    layer.grads["weight"][...] = 1
    assert layer.backward(y).shape == shape
    assert (layer.grads["weight"] == 1).all()
    layer.zero_grad()
    layer.backward(y)
    assert not backend.to_host(layer.grad).any()


# -- by hand --------------------------------------------------------------------------------------------------------


def test_by_hand():
    layer = Conv2d(1, 1, 2, stride=1, padding=(0, 1))
    layer.params["weight"][...] = [[[[1, 2], [3, 4]]]]
    layer.params["bias"][...] = 100
    x = np.array([[[1, 10], [5, 50]]], np.float32)
    assert layer.forward(x).tolist() == [[[100 + 2 + 20, 100 + 1 + 20 + 15 + 200, 100 + 10 + 150]]]
    assert layer.backward(np.array([[[1, 0, 2]]], np.float32)).tolist() == [[[2, 1 * 0 + 2 * 1], [4, 2 * 3]]]
    assert layer.grads["weight"].tolist() == [[[[2 * 10, 1], [2 * 50, 5]]]]
    assert layer.grads["bias"].tolist() == [3]


def test_transposed_by_hand():
    layer = ConvTranspose2d(1, 1, 2, stride=2, output_padding=1)
    layer.params["weight"][...] = [[[[1, 2], [3, 4]]]]
    layer.params["bias"][...] = 100
    y = layer.forward(np.array([[[1, 10]]], np.float32))
    assert y.tolist() == [[[101, 102, 110, 120, 100], [103, 104, 130, 140, 100], [100] * 5]]
    dy = np.zeros((1, 3, 5), np.float32)
    dy[0, 1, 2], dy[0, 2, 2] = 7, 9
    assert layer.backward(dy).tolist() == [[[0, 3 * 7]]]
    assert layer.grads["weight"].tolist() == [[[[0, 0], [70, 0]]]]
    assert layer.grads["bias"].tolist() == [16]


@pytest.mark.parametrize("layer", [Conv2d(8, 40, 5, groups=2), ConvTranspose2d(40, 8, 5, groups=2)], ids=repr)
def test_initial_weights_are_within_pytorchs_bounds(layer):
    for value in layer.params.values():
        assert np.abs(value).max() <= 0.1
    assert np.abs(layer.params["weight"]).max() > 0.099


def test_initializers_are_taken():
    for kind in LAYERS.values():
        layer = kind(2, 3, 2, weight_init=initializers.ones, bias_init=initializers.zeros)
        assert (layer.params["weight"] == 1).all() and not layer.params["bias"].any()


def test_repr_says_what_was_asked():
    assert repr(Conv2d(3, 4, 3)) == "Conv2d(3, 4, 3)"
    assert repr(Conv2d(4, 8, (2, 3), (2, 1), 1, 2, 2, False)) == \
        "Conv2d(4, 8, (2, 3), stride=(2, 1), padding=1, dilation=2, groups=2, bias=False)"
    assert repr(Conv2d(3, 4, 4, padding="same")) == "Conv2d(3, 4, 4, padding='same')"
    assert repr(ConvTranspose2d(4, 3, 4, 2, 1, 1)) == "ConvTranspose2d(4, 3, 4, stride=2, padding=1, output_padding=1)"


# -- refusals -------------------------------------------------------------------------------------------------------

REFUSED = [  # name, arguments, input shape (None: at construction), words
    ("Conv2d", (3, 4, 3, 2, "same"), None, 'Conv2d: padding="same" needs stride 1, not \\(2, 2\\)'),
    ("Conv2d", (3, 4, 3, 1, "full"), None, "padding must be a number, a pair, \"same\" or \"valid\", not 'full'"),
    ("Conv2d", (3, 4, 3, 1, 0, 1, 2), None, "in_channels 3 and out_channels 4 must be multiples of groups 2"),
    ("Conv2d", (4, 3, 3, 1, 0, 1, 2), None, "in_channels 4 and out_channels 3 must be multiples of groups 2"),
    ("Conv2d", (4, 4, 3, 1, 0, 1, 0), None, "groups must be a whole number, 1 or more, not 0"),
    ("Conv2d", (3, 4, 3, 0), (2, 3, 5, 5), "stride must be a whole number or a pair of them, 1 or more, not 0"),
    ("Conv2d", (3, 4, 3, 1, -1), (2, 3, 5, 5), "padding must be a whole number or a pair of them, 0 or more, not -1"),
    ("Conv2d", (3, 4, 3, 1, 0, 0), (2, 3, 5, 5), "dilation must be a whole number or a pair of them, 1 or more"),
    ("Conv2d", (3, 4, (3, 3, 3)), (2, 3, 5, 5), r"kernel_size must be .* not \(3, 3, 3\)"),
    ("Conv2d", (3, 4, 3), (2, 4, 5, 5), r"Conv2d: expected input of shape \(N, 3, H, W\) or \(3, H, W\), got"),
    ("Conv2d", (3, 4, 3), (5, 5), r"Conv2d: expected input of shape .*, got \(5, 5\)"),
    ("Conv2d", (3, 4, 3), (1, 2, 3, 5, 5), r"Conv2d: expected input of shape .*, got \(1, 2, 3, 5, 5\)"),
    ("Conv2d", (3, 4, 3), (2, 3, 2, 5), r"Conv2d: an input of size \(2, 5\) would give an output of size \(0, 3\)"),
    ("Conv2d", (3, 4, 3, 1, 0, 3), (2, 3, 6, 9), r"Conv2d: an input of size \(6, 9\) would give an output of size"),
    ("Conv2d", (3, 4, 3, 1, 1), (2, 3, 0, 5), r"Conv2d: an input of size \(0, 5\) would give"),
    ("ConvTranspose2d", (3, 4, 3, 1, "same"), None, "ConvTranspose2d: padding must be a number or a pair, not 'same'"),
    ("ConvTranspose2d", (4, 3, 3, 1, 0, 0, 2), None, "must be multiples of groups 2"),
    ("ConvTranspose2d", (3, 4, 3, 2, 0, 2), (2, 3, 5, 5), r"output_padding \(2, 2\) must be smaller than the stride"),
    ("ConvTranspose2d", (3, 4, 3), (2, 4, 5, 5), r"ConvTranspose2d: expected input of shape \(N, 3, H, W\) or .*"),
    ("ConvTranspose2d", (3, 4, 3, 1, 2), (2, 3, 1, 5), r"ConvTranspose2d: an input of size \(1, 5\) would give"),
    ("ConvTranspose2d", (3, 4, 3), (2, 3, 0, 5), r"ConvTranspose2d: an input of size \(0, 5\) would give"),
]


@pytest.mark.parametrize(("name", "arguments", "shape", "words"), REFUSED)
def test_refused(name, arguments, shape, words):
    with pytest.raises(ValueError, match=words):
        layer = LAYERS[name](*arguments)
        assert shape
        layer.forward(np.zeros(shape, np.float32))


@pytest.mark.parametrize(("name", "arguments", "shape", "words"), REFUSED)
def test_refused_by_torch_too(name, arguments, shape, words):
    torch = torch_module()
    with pytest.raises((ValueError, RuntimeError, TypeError)):
        module = getattr(torch.nn, name)(*arguments)
        module(torch.zeros(shape or (2, 3, 5, 5)))


@pytest.mark.parametrize(("x", "error", "words"), [
    (np.zeros((2, 3, 5, 5), np.int64), TypeError, "Conv2d: expected a float array, got int64"),
    (np.zeros((2, 3, 5, 5)), TypeError, "Conv2d: expected float32 input like the parameters, got float64"),
    ([[1.0]], TypeError, "Conv2d: expected an array, got list")])
def test_wrong_input(x, error, words):
    with pytest.raises(error, match=words):
        Conv2d(3, 4, 3).forward(x)


@pytest.mark.parametrize(("kind", "y_shape"), [(Conv2d, (2, 4, 3, 3)), (ConvTranspose2d, (2, 4, 7, 7))])
def test_wrong_gradient(kind, y_shape):
    layer = kind(3, 4, 3)
    with pytest.raises(RuntimeError, match="backward needs a forward pass first"):
        layer.backward(np.zeros(y_shape, np.float32))
    layer.forward(np.zeros((2, 3, 5, 5), np.float32))
    for dy, error, words in ((np.zeros(y_shape[1:], np.float32), ValueError, "dy has shape"),
                             (np.zeros(y_shape), TypeError, "dy has dtype float64"), ([0.0], TypeError, "got list")):
        with pytest.raises(error, match=words):
            layer.backward(dy)
    with pytest.raises(ValueError, match='wrt must be "all"'):
        layer.backward(np.zeros(y_shape, np.float32), "x")
    assert not layer.grad.any()
