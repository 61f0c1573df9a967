"""BatchNorm1d and BatchNorm2d."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_oracle import assert_close, torch_module

from scratchgan import backend, initializers, kernels
from scratchgan.gan import Game, Latent, NonSaturating
from scratchgan.gradcheck import check_layer
from scratchgan.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    LayerNorm,
    LeakyReLU,
    Linear,
    Sequential,
    Unflatten,
    spectral_norm,
)
from scratchgan.optimizers import Adam
from scratchgan.training import checkpoint

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
seeds = st.integers(0, 2**32 - 1)
options = st.fixed_dictionaries({
    "eps": st.sampled_from([1e-5, 1e-2, 1.0]), "momentum": st.sampled_from([0.1, 0.9, 1.0, None]),
    "affine": st.booleans(), "track_running_stats": st.booleans(), "bias": st.booleans()})


@st.composite
def shapes(draw, values=2):
    """(N, C), (N, C, L) or (N, C, H, W) with at least so many values a channel."""
    rest = draw(st.lists(st.integers(1, 3), max_size=2))
    least = -(-values // int(np.prod(rest)))
    return draw(st.integers(least, least + 3)), draw(st.integers(1, 4)), *rest


def layer_for(shape, random=None, **options):
    """A layer for inputs of this shape; its weights and buffers are drawn."""
    random = random or np.random.default_rng(0)
    layer = (BatchNorm2d if len(shape) == 4 else BatchNorm1d)(shape[1], **options)
    for name, value in {**layer.params, **layer.buffers}.items():
        if value.ndim:
            value[...] = random.uniform(0.5, 2, value.shape) * (1 if name == "running_var" else random.choice([-1, 1]))
    return layer


def torch_for(layer):
    nn = torch_module().nn
    kind = nn.BatchNorm1d if isinstance(layer, BatchNorm1d) else nn.BatchNorm2d
    return kind(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats,
                bias="bias" in layer.params)


def stored(array, axes):
    """The same values in memory that holds the axes in this order."""
    return np.ascontiguousarray(array.transpose(axes)).transpose(np.argsort(axes))


# -- right values and gradients ------------------------------------------------------------------------------------


@given(shapes(values=3), options, seeds)  # normalised, two values are -1 and 1: but for eps, dx is zero
def test_every_gradient(shape, options, seed):
    layer = layer_for(shape, np.random.default_rng(seed), **options)
    check_layer(layer, input_shape=shape, seed=seed, batch_of_one=np.prod(shape[2:]) > 2).raise_if_failed()


@given(shapes(), options, st.booleans(), seeds)
def test_values_gradients_and_running_statistics_like_torch(shape, options, training, seed):
    torch, rng = torch_module(), np.random.default_rng(seed)
    layer = layer_for(shape, rng, **options).to(dtype="float64").train(training)
    theirs = torch_for(layer).double().train(training)
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in layer.state_dict().items()}, strict=True)
    for n in (shape[0], 2 * shape[0], shape[0] + 1):  # batches of several sizes, for the averages
        x = rng.normal(3, 2, (n, *shape[1:]))
        t = torch.tensor(x, requires_grad=True)
        y, yt = layer.forward(x), theirs(t)
        dy = rng.standard_normal(x.shape)
        theirs.zero_grad()
        yt.backward(torch.tensor(dy))
        layer.zero_grad()
        assert_close(y, yt, 1e-9, "y")
        assert_close(layer.backward(dy), t.grad, 1e-9, "dx")
        for name, parameter in theirs.named_parameters():
            assert_close(layer.grads[name], parameter.grad, 1e-9, name)
        for name, buffer in theirs.named_buffers():
            assert_close(layer.buffers[name], buffer, 1e-9, name)
            assert layer.buffers[name].shape == tuple(buffer.shape)


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 2), (2, 3, 0), (0, 3, 2, 2), (2, 3, 0, 2)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_empty_batch_like_torch(shape, training, momentum):
    torch = torch_module()
    layer = layer_for(shape, momentum=momentum).train(training)
    theirs = torch_for(layer).train(training)
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in layer.state_dict().items()}, strict=True)
    x = torch.zeros(shape, requires_grad=True)
    theirs(x).sum().backward()
    y = layer.forward(x.detach().numpy())
    assert y.shape == layer.backward(y).shape == tuple(x.grad.shape) == shape
    assert not layer.grad.any() and not theirs.weight.grad.any()
    for name in STATISTICS:
        assert np.array_equal(layer.buffers[name], theirs.get_buffer(name).numpy())


@pytest.mark.parametrize("shape", [(0, 3), (2, 3, 0)])
def test_an_empty_batch_counts_and_moves_nothing(device, shape):
    layer = layer_for(shape).to(device)
    before = {name: backend.to_host(value).copy() for name, value in layer.buffers.items()}
    y = layer.forward(backend.to_device(np.zeros(shape, np.float32), device))
    assert y.shape == layer.backward(y).shape == shape
    assert not backend.to_host(layer.grad).any()
    for name in STATISTICS:
        assert np.array_equal(backend.to_host(layer.buffers[name]), before[name] + (name == "num_batches_tracked"))


def test_by_hand(device):
    layer = BatchNorm1d(1, eps=0.0).to(device)
    layer.params["weight"][...] = 2
    layer.params["bias"][...] = 5
    x, dy = (backend.to_device(np.array(values, np.float32)[:, None], device) for values in ([1, 3], [1, 0]))
    assert backend.to_host(layer.forward(x)).tolist() == [[3], [7]]  # xhat = -1, 1
    assert backend.to_host(layer.backward(dy)).tolist() == [[0], [0]]  # moving either of two only moves mean and var
    assert backend.to_host(layer.grads["weight"]).tolist() == [-1]
    assert backend.to_host(layer.grads["bias"]).tolist() == [1]
    np.testing.assert_allclose(backend.to_host(layer.buffers["running_mean"]), [0.2], rtol=1e-6)
    np.testing.assert_allclose(backend.to_host(layer.buffers["running_var"]), [0.9 + 0.1 * 2], rtol=1e-6)  # unbiased
    assert backend.to_host(layer.buffers["num_batches_tracked"]) == 1


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 3), (3, 3, 2, 2)])
@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"track_running_stats": False}, {"affine": False},
                                     {"bias": False}])
def test_every_gradient_on_each_device(device, shape, options):
    layer = layer_for(shape, **options).to(device)
    check_layer(layer, input_shape=shape, batch_of_one=len(shape) > 2).raise_if_failed()


def test_the_checker_catches_an_eps_of_twice_the_size_in_backward():
    class Wrong(BatchNorm2d):
        def keep(self, y, z, mean, r, of_batch):
            return super().keep(y, z, mean, (r**-2 + 1e-5) ** -0.5, of_batch)

    report = check_layer(Wrong(3), input_shape=(4, 3, 3, 3))
    assert {"x", "weight"} <= set(report.wrong)
    (error,) = [row.error for row in report.rows if (row.tensor, row.check, row.case) == ("x", "complex step", "")]
    assert 1e-6 < error < 1e-4


def test_batches_in_one_pass_are_those_batches_one_after_the_other(device, rng):
    together, in_turn = (BatchNorm2d(3, momentum=0.3).to(device, "float64") for _ in range(2))
    x, dy = (backend.to_device(rng.standard_normal((6, 3, 4, 2)), device) for _ in range(2))
    with together.in_batches(2):
        y = together.forward(x)
    dx = together.backward(dy)
    for part in (slice(0, 3), slice(3, 6)):
        assert np.abs(backend.to_host(in_turn.forward(x[part]) - y[part])).max() < 1e-14
        assert np.abs(backend.to_host(in_turn.backward(dy[part]) - dx[part])).max() < 1e-14
    for name, value in {**in_turn.grads, **in_turn.buffers}.items():
        assert np.abs(backend.to_host({**together.grads, **together.buffers}[name] - value)).max() < 1e-14
    with pytest.raises(ValueError, match="6 samples are not 4 equal batches"), together.in_batches(4):
        together.forward(x)


# -- digits --------------------------------------------------------------------------------------------------------

FAR = {"forward": 1e-6, "dx": 2e-6, "weight": 2e-6, "bias": 1e-6}  # of float32's 6e-8, after sums of 4,000


def away_from_zero(axes, mean):
    rng = np.random.default_rng(5)
    x = stored(rng.normal(mean, 1, (64, 24, 8, 8)).astype(np.float32), axes)
    return x, stored(rng.standard_normal(x.shape).astype(np.float32), axes)


def errors_away_from_zero(pass_of, x, dy):
    """{tensor: error of a pass in float32 against the formula in float64}, over the largest value."""
    wide, dwide = x.astype(np.float64), dy.astype(np.float64)
    axes = 0, 2, 3
    d = wide - wide.mean(axes, keepdims=True)
    r = 1 / np.sqrt((d * d).mean(axes, keepdims=True) + 1e-5)
    xhat, n = d * r, x.size / x.shape[1]
    dweight, dbias = (dwide * xhat).sum(axes, keepdims=True), dwide.sum(axes, keepdims=True)
    expected = {"forward": xhat, "dx": r * (dwide - dbias / n - xhat * dweight / n), "weight": dweight, "bias": dbias}
    return {name: np.abs(got - expected[name].reshape(got.shape)).max() / np.abs(expected[name]).max()
            for name, got in pass_of(x, dy).items()}


def our_pass(device):
    def run(x, dy):
        layer = BatchNorm2d(x.shape[1]).to(device)
        y = layer.forward(backend.to_device(x, device))
        dx = layer.backward(backend.to_device(dy, device))
        return {key: backend.to_host(value) for key, value in {"forward": y, "dx": dx, **layer.grads}.items()}
    return run


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (2, 3, 0, 1), (0, 2, 3, 1)])
@pytest.mark.parametrize("mean", [0, 3.8, 1e3])  # at 3.8 deviations nothing is subtracted yet
def test_data_away_from_zero_keep_their_digits(device, axes, mean):
    errors = errors_away_from_zero(our_pass(device), *away_from_zero(axes, mean))
    assert all(errors[name] <= FAR[name] for name in FAR), errors


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (2, 3, 0, 1)])
def test_data_far_from_zero_are_as_accurate_as_torchs(axes):
    torch = torch_module()

    def their_pass(x, dy):
        module, t = torch.nn.BatchNorm2d(x.shape[1]), torch.tensor(x, requires_grad=True)
        y = module(t)
        y.backward(torch.tensor(dy))
        return {"forward": y.detach().numpy(), "dx": t.grad.numpy(), "weight": module.weight.grad.numpy(),
                "bias": module.bias.grad.numpy()}

    x, dy = away_from_zero(axes, 1e3)
    ours, theirs = errors_away_from_zero(our_pass("cpu"), x, dy), errors_away_from_zero(their_pass, x, dy)
    for name in FAR:
        assert ours[name] <= max(theirs[name], np.finfo(np.float32).eps), (name, ours, theirs)


# -- memory --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape, axes", [((6, 3), (1, 0)), ((6, 3, 4), (2, 0, 1)), ((6, 3, 4, 5), (2, 3, 0, 1)),
                                         ((6, 3, 4, 5), (0, 2, 3, 1)), ((6, 3, 4, 5), (0, 1, 2, 3))])
@pytest.mark.parametrize("training", [True, False])
def test_results_are_stored_as_the_input_is(rng, shape, axes, training):
    layer = layer_for(shape).train(training)
    x, dy = rng.standard_normal((2, *shape)).astype(np.float32)
    expected = copy.deepcopy(layer)
    y0, dx0 = expected.forward(x), expected.backward(dy)
    layer.zero_grad()
    y = layer.forward(stored(x, axes))
    assert y.strides == stored(x, axes).strides
    for other in (axes, range(len(shape))):  # dy in another order than x too
        dx = layer.backward(stored(dy, tuple(other)))
        assert dx.strides == y.strides
        np.testing.assert_allclose(dx, dx0, atol=1e-6)
    np.testing.assert_allclose(y, y0, atol=1e-6)
    np.testing.assert_allclose(layer.grad, 2 * expected.grad, atol=1e-5)


def test_a_convolution_and_its_normalisation_convert_nothing(rng):
    net = Sequential(Conv2d(3, 8, 4, 2, 1, bias=False), BatchNorm2d(8), LeakyReLU(0.2), Conv2d(8, 4, 4, 2, 1))
    x = rng.standard_normal((2, 3, 16, 16)).astype(np.float32)
    z = net[0].forward(x)
    y = net[1].forward(z)
    assert backend.memory_order(y) == backend.memory_order(z)
    assert backend.memory_order(net[1].backward(y)) == backend.memory_order(z)


# -- buffers -------------------------------------------------------------------------------------------------------


def buffers_of(layer):
    return {name: backend.to_host(value).copy() for name, value in layer.buffers.items()}


def test_only_a_training_pass_of_the_network_itself_moves_the_running_statistics(device, rng):
    layer = BatchNorm1d(3).to(device)
    x = backend.to_device(rng.standard_normal((4, 3)).astype(np.float32), device)
    twin, before = layer.twin(), buffers_of(layer)
    for other in (twin, layer.twin("complex64"), twin.eval(), layer.eval()):
        other.backward(other.forward(x if other.grad.dtype.kind == "f" else x + 0j))
    for name, value in buffers_of(layer).items():
        assert np.array_equal(value, before[name])
    layer.train().forward(x)
    for name, value in buffers_of(layer).items():
        assert not np.array_equal(value, before[name])
        assert value.dtype == before[name].dtype
        assert np.array_equal(backend.to_host(twin.buffers[name]), value)  # a twin sees what moved


def test_a_real_network_may_train_on_complex_values():
    layer, again = BatchNorm1d(3), BatchNorm1d(3)
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    layer.forward(x + 1e-20j)
    again.forward(x)
    for name in STATISTICS:
        np.testing.assert_allclose(layer.buffers[name], again.buffers[name], rtol=1e-5)


def test_complex_weights_on_real_values():
    layer = BatchNorm1d(2).to(dtype="complex128")
    layer.params["weight"][...] = 1j
    x = np.array([[1.0, 2], [3, 4]])
    np.testing.assert_allclose(layer.forward(x), 1j * BatchNorm1d(2).to(dtype="float64").forward(x), rtol=1e-12)


def test_buffers_go_with_the_network(device, rng):
    layer = BatchNorm2d(3).to(device)
    x = backend.to_device(rng.standard_normal((4, 3, 2, 2)).astype(np.float32), device)
    layer.forward(x)
    state = layer.state_dict()
    assert list(state) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert state["num_batches_tracked"].shape == () and state["num_batches_tracked"].dtype == np.int64
    clone, other = copy.deepcopy(layer), BatchNorm2d(3).to(device)
    other.load_state_dict(state)
    layer.forward(x)
    for copied in (clone, other):
        assert all(np.array_equal(value, state[key]) for key, value in copied.state_dict().items())
        copied.forward(x)
        assert all(np.array_equal(value, copied.state_dict()[key]) for key, value in layer.state_dict().items())
    wide = layer.to("cpu", "float64")
    assert [wide.buffers[name].dtype.name for name in STATISTICS] == ["float64", "float64", "int64"]
    assert wide.buffers["num_batches_tracked"].shape == ()
    with pytest.raises(ValueError, match="'num_batches_tracked' has shape"):
        layer.load_state_dict({**state, "num_batches_tracked": np.zeros(1, np.int64)})


def game(seed=0):
    G = Sequential(Linear(3, 8), BatchNorm1d(8, momentum=None), LeakyReLU(0.2), Linear(8, 16), Unflatten(1, (1, 4, 4)))
    D = Sequential(Conv2d(1, 2, 3), BatchNorm2d(2), LeakyReLU(0.2), Flatten(), Linear(8, 1))
    G.initialize(seed, "g"), D.initialize(seed, "d")
    return Game(G, D, NonSaturating(), Adam(G), Adam(D), latent=Latent(3), sample_shape=(1, 4, 4), seed=seed)


def test_a_resumed_run_has_the_running_statistics_to_the_bit(tmp_path, rng):
    batches = rng.uniform(-1, 1, (6, 5, 1, 4, 4)).astype(np.float32)
    whole, resumed = game(), game(seed=1)
    resumed.load_state_dict({"steps": 0, "seed": 0})
    for step, batch in enumerate(batches):
        if step == 3:
            checkpoint.restore(checkpoint.read(checkpoint.save(tmp_path, whole, step)), resumed)
        whole.step(batch)
        if step >= 3:
            resumed.step(batch)
    assert int(whole.generator[1].buffers["num_batches_tracked"]) == 6
    for name in whole.networks:
        theirs = resumed.networks[name].state_dict()
        assert all(np.array_equal(value, theirs[key]) for key, value in whole.networks[name].state_dict().items())
    before = whole.generator.state_dict()
    whole.sample(4)
    assert all(np.array_equal(value, before[key]) for key, value in whole.generator.state_dict().items())


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer, shape", [
    (BatchNorm1d(3), (1, 3)), (BatchNorm1d(3), (1, 3, 1)), (BatchNorm2d(3), (1, 3, 1, 1)),
    (BatchNorm1d(3, track_running_stats=False).eval(), (1, 3))])
def test_one_value_a_channel_is_refused_in_training(layer, shape):
    before = buffers_of(layer)
    words = rf"{type(layer).__name__}: expected more than 1 value a channel in training, got .* shape \({shape[0]}, 3"
    with pytest.raises(ValueError, match=words):
        layer.forward(np.ones(shape, np.float32))
    assert all(np.array_equal(value, before[name]) for name, value in buffers_of(layer).items())
    if layer.track_running_stats:
        np.testing.assert_allclose(layer.eval().forward(np.ones(shape, np.float32)), 1, rtol=1e-4)


@pytest.mark.parametrize("layer, shape, expected", [
    (BatchNorm1d(3), (4, 2), r"\(N, 3\) or \(N, 3, L\), got \(4, 2\)"), (BatchNorm1d(3), (3,), r"got \(3,\)"),
    (BatchNorm1d(3), (2, 3, 1, 1), r"got \(2, 3, 1, 1\)"), (BatchNorm2d(3), (3, 2, 2), r"\(N, 3, H, W\), got"),
    (BatchNorm2d(3), (2, 4, 2, 2), r"\(N, 3, H, W\), got \(2, 4, 2, 2\)")])
def test_wrong_shapes(layer, shape, expected):
    with pytest.raises(ValueError, match=rf"{type(layer).__name__}: expected input of shape .*{expected}"):
        layer.forward(np.zeros(shape, np.float32))


def test_wrong_types_and_gradients():
    with pytest.raises(TypeError, match="BatchNorm1d: expected float32 input like the parameters, got float64"):
        BatchNorm1d(3, affine=False).forward(np.zeros((2, 3)))  # it would round the running statistics
    layer = BatchNorm1d(3)
    with pytest.raises(RuntimeError, match="BatchNorm1d: backward needs a forward pass first"):
        layer.backward(np.zeros((2, 3), np.float32))
    layer.forward(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"BatchNorm1d: dy has shape \(3, 3\)"):
        layer.backward(np.zeros((3, 3), np.float32))


@pytest.mark.parametrize("kind", [BatchNorm1d, BatchNorm2d])
def test_a_negative_eps_is_refused(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__}: eps must be 0 or more, not -1e-05"):
        kind(3, -1e-5)


def test_initial_values_and_name():
    layer = BatchNorm2d(2)
    assert layer.params["weight"].tolist() == [1, 1] and layer.params["bias"].tolist() == [0, 0]
    drawn = BatchNorm2d(2, weight_init=initializers.normal(0.02, 1.0), bias_init=initializers.ones)
    assert 0 < np.abs(drawn.params["weight"] - 1).max() < 0.2 and drawn.params["bias"].tolist() == [1, 1]
    assert not BatchNorm2d(2, affine=False).params and not BatchNorm2d(2, track_running_stats=False).buffers
    assert list(BatchNorm2d(2, bias=False).params) == ["weight"]
    assert repr(layer) == "BatchNorm2d(2)"
    assert repr(BatchNorm1d(2, momentum=None, bias=False)) == "BatchNorm1d(2, momentum=None, bias=False)"
    assert repr(BatchNorm2d(2, 0.1, track_running_stats=False)) == "BatchNorm2d(2, eps=0.1, track_running_stats=False)"
    assert repr(BatchNorm1d(2, momentum=None, affine=False)) == "BatchNorm1d(2, momentum=None, affine=False)"


@pytest.mark.parametrize("plain", [True, False])
def test_an_infinite_gradient_stays_where_it_is_in_eval_mode(plain):
    layer = BatchNorm1d(2).eval()
    with kernels.plain(plain):
        layer(np.ones((3, 2), np.float32))
        dy = np.array([[np.inf, 1], [1, 1], [1, 1]], np.float32)
        with np.errstate(invalid="ignore"):
            dx = layer.backward(dy)
    assert np.isinf(dx[0, 0]) and np.isfinite(dx.ravel()[1:]).all()


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("make", [lambda eps: BatchNorm1d(4, eps=eps), lambda eps: LayerNorm(4, eps=eps),
                                  lambda eps: spectral_norm(Linear(4, 4), eps=eps)])
def test_numbers_of_numpy_do_not_change_the_precision(make, plain):
    layer = make(np.float64(1e-5)).initialize(0)
    with kernels.plain(plain):
        y = layer(np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32))
        assert y.dtype == layer.backward(y).dtype == np.float32
