"""AvgPool2d, MaxPool2d and Upsample."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from torch_oracle import assert_layer_like_torch, torch_module

from scratchgan import backend
from scratchgan.gradcheck import check_layer
from scratchgan.layers import AvgPool2d, MaxPool2d, Upsample

seeds = st.integers(0, 2**32 - 1)
leading = st.sampled_from([(), (1,), (2,)])  # unbatched, and batches


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def poolings(draw, dilation):
    """(arguments of either pooling, input shape), such that every window holds at least one value."""
    kernel = draw(pairs(1, 3))
    arguments = {"kernel_size": kernel, "stride": draw(st.none() | pairs(1, 3)),
                 "padding": tuple(draw(st.integers(0, k // 2)) for k in kernel), "ceil_mode": draw(st.booleans())}
    dilations = (1, 1)
    if dilation:
        dilations = arguments["dilation"] = draw(pairs(1, 2))
    sizes = []
    for k, d, p in zip(kernel, dilations, arguments["padding"], strict=True):
        span = d * (k - 1) + 1
        sizes.append(draw(st.integers(max(1, span - 2 * p, d * (p > 0)), span + 3)))
    return arguments, (*draw(leading), draw(st.integers(1, 2)), *sizes)


averages = st.tuples(poolings(dilation=False), st.booleans(), st.none() | st.sampled_from([1, 3, -2]))


@given(averages, seeds)
def test_every_gradient_of_averages(case, seed):
    (arguments, shape), count_include_pad, divisor = case
    layer = AvgPool2d(**arguments, count_include_pad=count_include_pad, divisor_override=divisor)
    check_layer(layer, input_shape=shape, seed=seed, batch_of_one=len(shape) == 4).raise_if_failed()


@given(averages, seeds)
def test_averages_like_torch(case, seed):
    (arguments, shape), count_include_pad, divisor = case
    arguments.update(count_include_pad=count_include_pad, divisor_override=divisor)
    x = np.random.default_rng(seed).standard_normal(shape)
    assert_layer_like_torch(AvgPool2d(**arguments), torch_module().nn.AvgPool2d(**arguments), x, seed)


@given(poolings(dilation=True), seeds)
def test_every_gradient_of_maxima(case, seed):
    arguments, shape = case
    check_layer(MaxPool2d(**arguments), input_shape=shape, seed=seed, batch_of_one=len(shape) == 4).raise_if_failed()


@given(poolings(dilation=True), st.booleans(), seeds)
def test_maxima_like_torch(case, ties, seed):
    arguments, shape = case
    rng = np.random.default_rng(seed)
    x = rng.integers(-1, 2, shape) if ties else rng.standard_normal(shape)
    assert_layer_like_torch(MaxPool2d(**arguments), torch_module().nn.MaxPool2d(**arguments), x, seed)


def numbers(kind, axes):
    return kind | st.tuples(*[kind] * axes)


@st.composite
def upsamplings(draw):
    """(arguments, input shape): whole ratios, others, and smaller ones; one to three axes."""
    shape = tuple(draw(st.lists(st.integers(1, 3), min_size=3, max_size=5)))
    axes = len(shape) - 2
    if draw(st.booleans()):
        return {"size": draw(numbers(st.integers(1, 6 if axes < 3 else 3), axes))}, shape
    factors = st.integers(1, 3) | st.floats(0.4, 2.5)
    arguments = {"scale_factor": draw(numbers(factors, axes))}
    factors = arguments["scale_factor"] if isinstance(arguments["scale_factor"], tuple) else axes * [
        arguments["scale_factor"]]
    assume(all(int(n * factor) for n, factor in zip(shape[2:], factors, strict=True)))
    return arguments, shape


@given(upsamplings(), seeds)
def test_every_gradient_of_upsampling(case, seed):
    arguments, shape = case
    layer = Upsample(**arguments)
    assume(torch_agrees_with_itself(layer, shape))
    check_layer(layer, input_shape=shape, seed=seed).raise_if_failed()


def torch_agrees_with_itself(layer, shape):
    """False where PyTorch's forward pass takes other indices than its backward pass: where a factor gives n or 2 n."""
    if len(shape) == 4 or layer.scale_factor is None:
        return True
    sizes = zip(shape[2:], layer.output_shape(shape)[2:], layer.each(len(shape) - 2), strict=True)
    return all(factor in (1, 2) or m not in (n, 2 * n) for n, m, factor in sizes)


@given(upsamplings(), seeds)
def test_upsampling_like_torch(case, seed):
    arguments, shape = case
    layer = Upsample(**arguments)
    assume(torch_agrees_with_itself(layer, shape))
    x = np.random.default_rng(seed).standard_normal(shape)
    assert_layer_like_torch(layer, torch_module().nn.Upsample(**arguments), x, seed)


def test_upsampling_takes_torchs_indices_where_single_precision_decides():
    torch = torch_module()
    for n in range(1, 30):
        x = np.arange(n, dtype=np.float64).reshape(1, 1, n, 1)
        for m in range(1, 60):
            y = torch.nn.Upsample((m, 1))(torch.tensor(x)).numpy()
            assert np.array_equal(Upsample((m, 1)).forward(x), y), (n, m)
        for scale in (0.3, 1 / 3, 0.7, 1.05, 1.3, 1.7, 2.1, 10 / 3):
            if int(n * scale):
                y = torch.nn.Upsample(scale_factor=(scale, 1))(torch.tensor(x)).numpy()
                assert np.array_equal(Upsample(scale_factor=(scale, 1)).forward(x), y), (n, scale)


def special(rng, shape):
    """Random numbers with many NaN, infinities and ties."""
    x = rng.integers(-1, 2, shape).astype(np.float64)
    for value in (np.nan, np.inf, -np.inf, -np.inf):
        x[rng.random(shape) < 0.15] = value
    return x


@pytest.mark.parametrize("arguments", [(2,), (3, 2, 1), ((2, 3), 1, 1, 2)])
@pytest.mark.parametrize("values", ["special", "lowest", "one nan"])
def test_maxima_of_special_values_like_torch(rng, arguments, values):
    torch, x = torch_module(), rng.standard_normal((2, 3, 8, 9))
    if values == "special":
        x = special(rng, x.shape)
    elif values == "lowest":
        x[0] = -np.inf
    else:
        x[1, 2, 3, 4] = np.nan
    layer, t = MaxPool2d(*arguments), torch.tensor(x, requires_grad=True)
    y, yt = layer.forward(x), torch.nn.MaxPool2d(*arguments)(t)
    dy = rng.standard_normal(y.shape)
    yt.backward(torch.tensor(dy))
    assert np.array_equal(y, yt.detach().numpy(), equal_nan=True)
    np.testing.assert_allclose(layer.backward(dy), t.grad.numpy(), rtol=1e-13, atol=1e-15)


LAYERS = [AvgPool2d((3, 2), 2, 1), AvgPool2d(3, 2, 1, True, False), MaxPool2d((2, 3), 1, 1, 2),
          Upsample(scale_factor=2), Upsample((9, 3))]


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_every_gradient_on_each_device(device, layer):
    check_layer(layer.to(device), input_shape=(2, 2, 6, 5)).raise_if_failed()


@pytest.mark.parametrize("layer", [*LAYERS, AvgPool2d(2), MaxPool2d(2), MaxPool2d((2, 3), dilation=(1, 2))], ids=repr)
@pytest.mark.parametrize("shape", [(7, 2, 6, 12), (1, 2, 6, 12)])
@pytest.mark.parametrize("axes", [(0, 2, 3, 1), (2, 3, 0, 1), (3, 1, 2, 0)])
def test_the_memory_order_changes_no_bit(rng, layer, shape, axes):
    x = rng.standard_normal(shape)
    y = layer.forward(x)
    dy = rng.standard_normal(y.shape)
    dx = layer.backward(dy)
    for turned in (stored(x, axes), x.repeat(2, 1)[:, ::2], x[:, :, ::-1].copy()[:, :, ::-1]):
        for turned_dy in (dy, stored(dy, axes), dy.repeat(2, 3)[..., ::2]):
            assert np.array_equal(layer.forward(turned), y) and np.array_equal(layer.backward(turned_dy), dx)


def stored(array, axes):
    """The same values in memory that holds the axes in this order."""
    return np.ascontiguousarray(array.transpose(axes)).transpose(np.argsort(axes))


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_empty_batch(device, layer):
    x = backend.to_device(np.zeros((0, 2, 6, 5), np.float32), device)
    y = layer.forward(x)
    assert y.shape == (0, *layer.forward(backend.to_device(np.zeros((1, 2, 6, 5), np.float32), device)).shape[1:])
    layer.forward(x)
    assert layer.backward(y).shape == x.shape


@pytest.mark.parametrize("layer", [*LAYERS, Upsample(scale_factor=1)], ids=repr)
def test_results_keep_the_memory_order(device, layer, rng):
    """Chains of convolutions hand on NCHW views of (N, H, W, C)."""
    x = backend.to_device(rng.standard_normal((3, 6, 5, 2)), device).transpose(0, 3, 1, 2)
    y = layer.forward(x)
    dx = layer.backward(y)
    for array in (y, dx):
        assert array.transpose(0, 2, 3, 1).flags.c_contiguous
    plain = layer.forward(backend.to_device(np.ascontiguousarray(backend.to_host(x)), device))
    assert plain.flags.c_contiguous and (plain == y).all()


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_results_are_the_callers(layer, rng):
    """Of batches large enough for memory that is used again: what the next passes write is elsewhere."""
    x, z = rng.standard_normal((2, 200, 2, 6, 5))
    y = layer.forward(x)
    dx = layer.backward(y)
    before = y.copy(), dx.copy()
    layer.backward(layer.forward(z))
    assert np.array_equal(y, before[0]) and np.array_equal(dx, before[1])


def test_means_by_hand():
    x = np.arange(6.0).reshape(1, 2, 3)
    assert AvgPool2d((2, 1)).forward(x).tolist() == [[[1.5, 2.5, 3.5]]]
    layer = AvgPool2d(2, 2, 1)
    assert layer.forward(x).tolist() == [[[0, 0.75], [0.75, 2.25]]]
    assert layer.backward(np.array([[[4.0, 8], [12, 16]]])).tolist() == [[[1, 2, 2], [3, 4, 4]]]
    assert AvgPool2d(2, 2, 1, count_include_pad=False).forward(x).tolist() == [[[0, 1.5], [3, 4.5]]]
    assert AvgPool2d(2, 2, ceil_mode=True).forward(x).tolist() == [[[2, 3.5]]]
    with pytest.raises(TypeError):  # PyTorch's fifth is return_indices
        MaxPool2d(2, 2, 0, 1, True)


def test_the_first_of_equals_wins_and_nan_beats_all():
    layer = MaxPool2d(2)
    x = np.array([[[1, 2, -np.inf, -np.inf, 0, np.nan], [2, 1, -np.inf, -np.inf, np.inf, 1]]])
    y = layer.forward(x)
    assert np.array_equal(y, [[[2, -np.inf, np.nan]]], equal_nan=True)
    assert layer.backward(np.array([[[1.0, 2, 3]]])).tolist() == [[[0, 1, 2, 0, 0, 3], [0, 0, 0, 0, 0, 0]]]


def test_nan_and_infinite_values_like_torch(rng):
    torch = torch_module()
    x = rng.choice([np.nan, -np.inf, np.inf, 0, 1], (3, 2, 7, 7), p=[0.2, 0.3, 0.1, 0.2, 0.2])
    layer, t = MaxPool2d(3, 2, 1), torch.tensor(x, requires_grad=True)
    y = torch.nn.MaxPool2d(3, 2, 1)(t)
    assert np.array_equal(layer.forward(x), y.detach().numpy(), equal_nan=True)
    dy = rng.standard_normal(y.shape)
    y.backward(torch.tensor(dy))
    np.testing.assert_allclose(layer.backward(dy), t.grad.numpy(), rtol=0, atol=1e-15)


def test_a_window_without_a_value_gives_minus_infinity_and_no_gradient():
    layer = MaxPool2d(2, 1, 1, 2)  # the taps see rows and columns -1 and 1 of an image of one pixel
    assert layer.forward(np.zeros((1, 1, 1))).tolist() == [[[-np.inf]]]
    assert layer.backward(np.ones((1, 1, 1))).tolist() == [[[0]]]


def test_upsampling_by_hand():
    layer = Upsample(scale_factor=(1, 2))
    assert layer.forward(np.array([[[[1.0, 2]]]])).tolist() == [[[[1, 1, 2, 2]]]]
    assert layer.backward(np.array([[[[1.0, 2, 3, 4]]]])).tolist() == [[[[3, 7]]]]
    assert Upsample(3).forward(np.array([[[1.0, 2]]])).tolist() == [[[1, 1, 2]]]


@pytest.mark.parametrize("make, words", [
    (lambda: AvgPool2d(0), "AvgPool2d: kernel_size must be a whole number or a pair of them, 1 or more, not 0"),
    (lambda: AvgPool2d((2, 2, 2)), r"kernel_size must be .*, not \(2, 2, 2\)"),
    (lambda: MaxPool2d(2.5), "MaxPool2d: kernel_size must be .*, not 2.5"),
    (lambda: MaxPool2d(2, 0), "stride must be a whole number .*, 1 or more, not 0"),
    (lambda: MaxPool2d(2, padding=-1), "padding must be .*, 0 or more, not -1"),
    (lambda: MaxPool2d(2, dilation=0), "dilation must be .*, 1 or more"),
    (lambda: AvgPool2d(3, padding=2), "AvgPool2d: padding 2 is more than half of kernel_size 3"),
    (lambda: MaxPool2d((4, 2), padding=(2, 2)), r"padding \(2, 2\) is more than half of kernel_size \(4, 2\)"),
    (lambda: AvgPool2d(2, divisor_override=0), "divisor_override must not be 0"),
    (lambda: Upsample(), "Upsample: give either size or scale_factor"),
    (lambda: Upsample(2, 2), "Upsample: give either size or scale_factor"),
    (lambda: Upsample(2, mode="bilinear"), "Upsample: mode must be \"nearest\", not 'bilinear'"),
    (lambda: Upsample(2.5), "Upsample: size must be a number above 0, or one for each axis, not 2.5"),
    (lambda: Upsample(scale_factor=(2, 0)), r"scale_factor must be .*, not \(2, 0\)"),
    (lambda: Upsample(scale_factor=float("inf")), "scale_factor must be .*, not inf")])
def test_wrong_settings(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("layer, shape, words", [
    (AvgPool2d(2), (4, 4), r"AvgPool2d: expected input of shape \(N, C, H, W\) or \(C, H, W\), .*, got \(4, 4\)"),
    (MaxPool2d(2), (1, 1, 1, 4, 4), "MaxPool2d: expected input of shape"),
    (MaxPool2d(2), (2, 0, 4, 4), "of which only N may be 0"),
    (MaxPool2d(2), (0, 4, 4), "of which only N may be 0"),
    (AvgPool2d(3), (1, 2, 5), r"AvgPool2d: the window does not fit into an input of shape \(1, 2, 5\)"),
    (MaxPool2d(2, dilation=4), (1, 1, 4, 9), "the output would be 0x3"),
    (Upsample(2), (2, 2), r"Upsample: expected input of shape \(N, C, \.\.\.\)"),
    (Upsample(2), (1, 1, 1, 1, 1, 1), "one to three axes after the channels"),
    (Upsample(2), (1, 0, 4), "of which only N may be 0"),
    (Upsample((2, 3)), (1, 1, 4), "Upsample: 2 sizes do not fit an input of shape"),
    (Upsample(scale_factor=0.2), (1, 1, 4, 6), r"would become one of \(0, 1\)")])
def test_wrong_shapes(layer, shape, words):
    with pytest.raises(ValueError, match=words):
        layer.forward(np.zeros(shape, np.float32))


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_wrong_input_and_gradient(layer):
    with pytest.raises(TypeError, match="expected a float array, got int64"):
        layer.forward(np.zeros((1, 1, 6, 6), np.int64))
    y = layer.forward(np.zeros((1, 1, 6, 6), np.float32))
    with pytest.raises(ValueError, match="dy has shape"):
        layer.backward(y[0])
    with pytest.raises(TypeError, match="dy has dtype float64"):
        layer.backward(y.astype(np.float64))


def test_repr_says_what_matters():
    assert repr(AvgPool2d(2)) == "AvgPool2d(2)"
    assert repr(AvgPool2d(3, 2, 1, divisor_override=5)) == "AvgPool2d(3, stride=2, padding=1, divisor_override=5)"
    assert repr(MaxPool2d((3, 2), dilation=2, ceil_mode=True)) == "MaxPool2d((3, 2), dilation=2, ceil_mode=True)"
    assert repr(Upsample(scale_factor=2)) == "Upsample(scale_factor=2)"
    assert repr(Upsample((2, 3))) == "Upsample(size=(2, 3))"
