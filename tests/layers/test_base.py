"""The contract that every layer inherits: parameters in one vector, lazy zeros, copies, devices, dtypes."""

import copy

import numpy as np
import pytest

from scratchgan import backend, initializers
from scratchgan.layers import (
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Layer,
    LeakyReLU,
    Linear,
    MaxPool2d,
    Sequential,
    Tanh,
)


def network():
    return Sequential(Linear(3, 4), LeakyReLU(0.1), Sequential(Linear(4, 2, bias=False), Tanh())).initialize(7)


def on(network, array):
    return backend.to_device(np.asarray(array, network.dtype), network.device)


def ones(network, *shape):
    return on(network, np.ones(shape))


def host(array):
    return backend.to_host(array).copy()


def one_pass(net, x, dy):
    y = net.forward(x)
    net.zero_grad()
    return host(y), host(net.backward(dy)), host(net.grad)


# -- one flat vector -----------------------------------------------------------------------------------------------


def test_parameters_and_gradients_are_views_of_theta_and_grad(device):
    net = network().to(device)
    assert net.theta.shape == net.grad.shape == (3 * 4 + 4 + 2 * 4,)
    start = 0
    for _, layer in net.named_layers():
        for name, value in layer.params.items():
            part = slice(start, start + value.size)
            value[...] = start
            assert (net.theta[part] == start).all()
            net.theta[part] = -1
            assert (value == -1).all()
            layer.grads[name][...] = 5
            assert (net.grad[part] == 5).all()
            start += value.size
    assert start == net.theta.size


def test_an_in_place_write_is_seen_by_the_next_pass(device):
    net = network().to(device)
    x = ones(net, 2, 3)
    net.theta[...] = 0
    assert not host(net.forward(x)).any()
    net[0].params["bias"][...] = 1
    net[2][0].params["weight"][...] = 1
    np.testing.assert_allclose(host(net.forward(x)), np.tanh(4), rtol=1e-6)


def test_backward_adds_and_zero_grad_clears(device):
    net = network().to(device)
    x, dy = ones(net, 2, 3), ones(net, 2, 2)
    assert not host(net.grad).any()
    _, _, once = one_pass(net, x, dy)
    assert once.any()
    net.backward(dy)
    assert np.array_equal(host(net.grad), 2 * once)
    net.zero_grad()
    assert not host(net.grad).any()
    net.backward(dy)
    assert np.array_equal(host(net.grad), once)


def test_pending_zeros_are_never_seen(device):
    """Whatever is read after zero_grad, and in whatever order, is zero; unread zeros do not hide what is added."""
    net = network().to(device)
    x, dy = ones(net, 2, 3), ones(net, 2, 2)
    _, _, once = one_pass(net, x, dy)
    net.zero_grad()
    assert not host(net[0].grads["bias"]).any()
    net.backward(dy)
    assert np.array_equal(host(net.grad), once)
    net.zero_grad()
    net[2].backward(dy)  # only the upper half of the network
    assert not host(net.grad)[:16].any()
    assert np.array_equal(host(net.grad)[16:], once[16:])
    net.zero_grad()
    net.zero_grad()
    assert not host(net[2].grad).any() and not host(net.grad).any()


def test_zeros_that_were_written_out_do_not_come_again():
    net = network()
    net.zero_grad()
    net.grad[...] = 3
    net[0].accumulate("bias", np.ones(4, np.float32))
    assert (net[0].grads["bias"] == 4).all()
    assert (net[0].grads["weight"] == 3).all()


def test_one_layer_alone_and_a_layer_without_parameters():
    layer = Linear(2, 3)
    assert layer.theta.size == 9 and layer.params["bias"].base is not None
    assert Tanh().theta.size == Tanh().grad.size == 0
    Tanh().zero_grad()


def test_a_layer_belongs_to_one_network():
    layer = Linear(2, 2)
    Sequential(layer)
    with pytest.raises(ValueError, match=r"Sequential: layer '1' \(Linear\(2, 2\)\) already belongs to a network"):
        Sequential(Linear(2, 2), layer)
    with pytest.raises(ValueError, match="Linear: add parameter 'gain' before a network takes the layer in"):
        layer.add_parameter("gain", np.ones(2, np.float32))
    with pytest.raises(ValueError, match="Linear belongs to a network: move the network instead"):
        layer.to(dtype="float64")
    with pytest.raises(ValueError, match="already belongs"):
        Sequential(shared := Tanh(), shared)


def test_layers_are_taken_in_all_or_none():
    net, one = Sequential(Linear(2, 3)), Linear(3, 2)
    for second in (3, one):
        with pytest.raises((TypeError, ValueError), match="'2'"):
            net.add_layers({"1": one, "2": second})
        assert len(net) == 1 and net.theta.size == 9
    net.add_layers({"1": one, "2": Tanh()})
    assert len(net) == 3 and net.theta.size == 17


def test_what_a_parameter_may_be():
    with pytest.raises(TypeError, match="Layer: parameter 'n' must be float32 or float64, not int64"):
        Layer().add_parameter("n", [1, 2])
    with pytest.raises(TypeError, match="Sequential: all parameters of a network must have one dtype and device"):
        Sequential(Linear(2, 2), Linear(2, 2).to(dtype="float64"))
    layer = Layer()
    layer.add_parameter("a", np.float32(3))
    layer.add_parameter("b", ((2, 2), initializers.ones))
    assert layer.theta.tolist() == [3, 1, 1, 1, 1]


def test_the_two_methods_a_layer_must_define():
    class Nothing(Layer):
        pass
    with pytest.raises(NotImplementedError, match="Nothing does not define forward"):
        Nothing()(np.zeros(2))
    with pytest.raises(NotImplementedError, match="Nothing does not define backward"):
        Nothing().backward(np.zeros(2))


# -- initial weights, modes ----------------------------------------------------------------------------------------


def test_initialize_is_a_function_of_seed_and_name(device):
    def theta(*arguments):
        return host(network().to(device).initialize(*arguments).theta)
    assert np.array_equal(theta(1), theta(1))
    assert not np.array_equal(theta(1), theta(2))
    assert not np.array_equal(theta(1, "generator"), theta(1, "discriminator"))


def test_initialize_in_float64_gives_the_same_weights():
    assert np.array_equal(network().to(dtype="float64").initialize(3).theta, network().initialize(3).theta)


def test_train_and_eval_reach_every_layer():
    net = Sequential(Dropout(), Sequential(Dropout()))
    assert net.eval() is net and not any(layer.training for _, layer in net.named_layers())
    assert net.train() is net and all(layer.training for _, layer in net.named_layers())


# -- devices and dtypes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_to(device, dtype):
    net = network()
    before = net.theta.copy()
    one_pass(net, ones(net, 2, 3), ones(net, 2, 2))
    net[0].buffers.update(mean=np.ones(2, np.float32), count=np.zeros(1, np.int64))
    assert net.to(device, dtype) is net
    assert net.dtype == net.theta.dtype == net.grad.dtype == dtype and net.device == device
    assert np.array_equal(host(net.theta), before) and not host(net.grad).any()
    assert net[0].buffers["mean"].dtype == dtype and net[0].buffers["count"].dtype == np.int64
    y = net.forward(ones(net, 2, 3))
    assert y.dtype == dtype and backend.device_of(y) == device
    assert net.backward(y).dtype == dtype
    assert np.array_equal(host(net.to("cpu", "float32").theta), before)


def test_to_is_for_networks_outside_their_workspace():
    net = network()
    with net.workspace(), pytest.raises(ValueError, match="leave the workspace before"):
        net.to(dtype="float64")
    net.to(dtype="float64").forward(np.ones((2, 3)))


def test_to_refuses_other_dtypes():
    for dtype in ("float16", "int32"):
        with pytest.raises(TypeError, match=f"dtype must be one of float32, .*, not {dtype}"):
            network().to(dtype=dtype)


def test_a_complex_network_becomes_real_again_without_a_warning():
    net = network().to(dtype="complex128")
    net.theta[...] += 1j
    assert net.to(dtype="float64").theta.dtype == np.float64


def test_an_input_on_another_device_names_both(device):
    net, x = network().to(device), np.ones((2, 3), np.float32)
    if device == "cpu":
        assert net.forward(x).shape == (2, 2)
    else:
        with pytest.raises(TypeError, match="Linear: the parameters are on cuda, the input is on cpu"):
            net.forward(x)


# -- copies --------------------------------------------------------------------------------------------------------


def test_deepcopy_is_independent(device):
    net = network().to(device)
    net[0].buffers["mean"] = ones(net, 2)
    x, dy = ones(net, 2, 3), ones(net, 2, 2)
    _, dx, grad = one_pass(net, x, dy)
    theta = host(net.theta)
    clone = copy.deepcopy(net)
    assert np.array_equal(host(clone.grad), grad) and np.array_equal(host(clone.theta), theta)
    clone.theta[...] = 0
    clone.grad[...] = 0
    clone[0].buffers["mean"][...] = 9
    clone.forward(0 * x)
    assert np.array_equal(host(net.theta), theta) and np.array_equal(host(net.grad), grad)
    assert (net[0].buffers["mean"] == 1).all()
    assert np.array_equal(host(net.backward(dy)), dx)  # its cache is its own, too
    with pytest.raises(RuntimeError, match="needs a forward pass"):
        copy.deepcopy(net).backward(dy)


def test_a_copied_child_belongs_to_no_network():
    net = network()
    child = copy.deepcopy(net[0])
    assert Sequential(child)[0] is child
    child.theta[...] = 0
    assert net.theta.any()


def test_a_copy_of_a_twin_is_no_twin():
    assert all(layer.is_twin for _, layer in network().twin().named_layers())
    assert not any(layer.is_twin for _, layer in copy.deepcopy(network().twin()).named_layers())


def test_two_live_passes_of_one_network(device):
    net = network().to(device)
    rng = np.random.default_rng(0)
    x1, x2 = (on(net, rng.standard_normal((2, 3))) for _ in range(2))
    dy = ones(net, 2, 2)
    alone = [one_pass(copy.deepcopy(net), x, dy) for x in (x1, x2)]
    twin = net.twin()
    net.zero_grad()
    for network_, x in ((net, x1), (twin, x2)):
        network_.forward(x)
    dx2, dx1 = host(twin.backward(dy)), host(net.backward(dy))
    assert np.array_equal(dx1, alone[0][1]) and np.array_equal(dx2, alone[1][1])
    assert np.array_equal(host(net.grad), alone[0][2]) and np.array_equal(host(twin.grad), alone[1][2])


def test_a_twin_shares_theta_and_has_its_own_gradient(device):
    net = network().to(device)
    twin = net.twin()
    net.theta[...] = 0
    assert not host(twin.theta).any() and not host(twin[0].params["weight"]).any()
    twin.grad[...] = 1
    assert not host(net.grad).any()
    twin.eval()
    assert net.training


def test_a_complex_twin_has_real_weights_and_complex_gradients(device):
    net = network().to(device)
    twin = net.twin("complex64")
    y = twin.forward(ones(net, 2, 3).astype(np.complex64))
    dx = twin.backward(y)
    assert y.dtype == dx.dtype == twin.grad.dtype == np.complex64 and twin.theta.dtype == np.float32


# -- state dicts ---------------------------------------------------------------------------------------------------


def test_state_dict_goes_round(device):
    net, other = network().to(device), network().initialize(8).to(device)
    net[0].buffers["mean"] = ones(net, 2)
    other[0].buffers["mean"] = 0 * ones(net, 2)
    state = net.state_dict()
    assert list(state) == ["0.weight", "0.bias", "0.mean", "2.0.weight"]
    assert all(isinstance(value, np.ndarray) for value in state.values())
    other.load_state_dict(state)
    assert np.array_equal(host(other.theta), host(net.theta)) and (other[0].buffers["mean"] == 1).all()
    state["0.weight"][...] = 0  # a copy
    assert host(net[0].params["weight"]).any() and host(other[0].params["weight"]).any()


def test_load_state_dict_converts_the_precision():
    net = network().to(dtype="float64")
    net.load_state_dict(network().initialize(2).state_dict())
    assert net.dtype == np.float64 and np.array_equal(net.theta, network().initialize(2).theta)


@pytest.mark.parametrize("change, words", [
    (lambda state: state.pop("0.bias"), "Sequential: the state dict lacks '0.bias'"),
    (lambda state: state.update({"9.weight": np.ones(1)}), "Sequential: the state dict has '9.weight', which this"),
    (lambda state: state.update({"2.0.weight": np.ones((4, 2))}),
     r"Sequential: '2.0.weight' has shape \(4, 2\), expected \(2, 4\)"),
    (lambda state: state.update({"2.0.weight": np.full((2, 4), "x")}), "could not convert")])
def test_a_state_dict_that_does_not_fit_changes_nothing(change, words):
    net = network()
    before = net.theta.copy()
    state = network().initialize(2).state_dict()
    change(state)
    with pytest.raises(ValueError, match=words):
        net.load_state_dict(state)
    assert np.array_equal(net.theta, before)


def test_state_dict_to_torch_and_back():
    torch = pytest.importorskip("torch", reason="PyTorch, the third oracle, is not installed")
    nn = torch.nn
    module = nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.1), nn.Sequential(nn.Linear(4, 2, bias=False), nn.Tanh()))
    net = network()
    module.load_state_dict({key: torch.from_numpy(value) for key, value in net.state_dict().items()}, strict=True)
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    np.testing.assert_allclose(net.forward(x), module(torch.from_numpy(x)).detach().numpy(), rtol=1e-5)
    other = network().initialize(9)
    other.load_state_dict(module.state_dict())
    assert np.array_equal(other.theta, net.theta)


# -- workspaces ----------------------------------------------------------------------------------------------------


def test_a_workspace_gives_the_same_numbers_from_the_same_memory(device):
    net = network().to(device)
    rng = np.random.default_rng(0)
    inputs = [on(net, rng.standard_normal((n, 3))) for n in (4, 6, 2, 6)]
    dys = [on(net, rng.standard_normal((n, 2))) for n in (4, 6, 2, 6)]
    expected = [one_pass(net, x, dy) for x, dy in zip(inputs, dys, strict=True)]
    share = backend.module_of(device).may_share_memory
    with net.workspace():
        for x, dy, numbers in zip(inputs, dys, expected, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(one_pass(net, x, dy), numbers, strict=True))
        assert share(net.forward(inputs[1]), net.forward(inputs[1]))
        assert share(net.forward(inputs[1]), net.forward(inputs[2]))  # another shape
        with net.workspace():
            assert share(net.forward(inputs[1]), net.forward(inputs[1]))
        assert share(net.forward(inputs[1]), net.forward(inputs[1]))
    assert not share(net.forward(inputs[1]), net.forward(inputs[1]))


def test_a_workspace_serves_batches_of_different_sizes():
    def build():
        return Sequential(Conv2d(1, 9, 3, 1, 1), BatchNorm2d(9), LeakyReLU(inplace=True), MaxPool2d(2),
                          Conv2d(9, 8, 4, 2, 1), BatchNorm2d(8), LeakyReLU(0.2, inplace=True), Dropout(0.5),
                          ConvTranspose2d(8, 3, 4, 2, 1), Tanh())
    rng, inside, outside = np.random.default_rng(0), build().initialize(0), build().initialize(0)
    with inside.workspace():
        for n in (2, 5, 1, 3, 5):
            x, dy = rng.standard_normal((n, 1, 12, 8)), rng.standard_normal((n, 3, 6, 4))
            passes = [one_pass(net, x.astype(np.float32), dy.astype(np.float32)) for net in (inside, outside)]
            assert all(np.array_equal(a, b) for a, b in zip(*passes, strict=True))
    for key, value in inside.state_dict().items():
        assert np.array_equal(value, outside.state_dict()[key]), key


def test_results_outside_a_workspace_outlive_it(device):
    net = network().to(device)
    y = net.forward(ones(net, 2, 3))
    before = host(y)
    with net.workspace():
        net.forward(0 * ones(net, 2, 3))
        net.backward(ones(net, 2, 2))
    net.forward(0 * ones(net, 2, 3))
    assert np.array_equal(host(y), before)


def test_an_exception_leaves_the_workspace():
    net = network()
    with pytest.raises(ValueError, match="boom"), net.workspace():
        raise ValueError("boom")
    x = ones(net, 2, 3)
    assert not np.may_share_memory(net.forward(x), net.forward(x))
