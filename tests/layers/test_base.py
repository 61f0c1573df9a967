"""What a layer's own code uses: ops, keep, kept, expect; and how it is written out."""

import numpy as np
import pytest
from small_networks import network, ones

from scratchgan import backend, kernels
from scratchgan.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    InstanceNorm2d,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    Maxout,
    MaxPool2d,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    Softplus,
    Tanh,
    Upsample,
    spectral_norm,
)


class Scale(Layer):
    """y = s x, with the contract's words and nothing else."""

    def __init__(self, features, power=1):
        super().__init__()
        self.features, self.power = features, power
        self.add_parameter("s", np.full(features, 2, np.float32))

    def forward(self, x):
        self.ops(x)
        self.expect(x.shape[-1:] == (self.features,), x, f"(..., {self.features})")
        return self.keep(self.params["s"] * x, x)

    def backward(self, dy, wrt="all"):
        x = self.kept(dy, wrt)
        if wrt != "input":
            self.accumulate("s", (dy * x).sum(axis=0))
        return None if wrt == "params" else dy * self.params["s"]


def test_the_two_methods_a_layer_must_define():
    class Nothing(Layer):
        pass
    with pytest.raises(NotImplementedError, match="Nothing does not define forward"):
        Nothing()(np.zeros(2))
    with pytest.raises(NotImplementedError, match="Nothing does not define backward"):
        Nothing().backward(np.zeros(2))


# -- keep and kept -------------------------------------------------------------------------------------------------


def test_kept_gives_back_what_keep_was_given():
    layer, y = Layer(), np.ones((2, 3), np.float32)
    assert layer.keep(y) is y and layer.kept(y) == ()
    assert layer.keep(y, y) is y and layer.kept(y, "input") is y
    layer.keep(y, 1, None, "x")
    assert layer.kept(2 * y, "params") == (1, None, "x")
    layer.keep(y, (1, 2))
    assert layer.kept(y) == (1, 2)


def test_what_is_kept_may_be_asked_for_again_until_the_next_pass():
    layer, x = Scale(3), np.ones((2, 3), np.float32)
    layer(x)
    assert layer.kept(x) is x and layer.kept(x) is x
    layer(x[:1])
    with pytest.raises(ValueError, match=r"Scale: dy has shape \(2, 3\), but the last output had \(1, 3\)"):
        layer.kept(x)


@pytest.mark.parametrize("layer", [Linear(4, 3), LeakyReLU(0.2), LeakyReLU(-0.2), ReLU(), Tanh(), Sigmoid(), Softplus(),
                                   Dropout(), Dropout().eval(), Maxout(4, 3, 2)], ids=repr)
def test_backward_of_some_rows_is_that_of_all_with_no_gradient_in_the_others(layer, device, rng):
    D = Sequential(Linear(4, 4), layer).initialize(1).to(device, "float64")
    assert all(each.keeps_rows for _, each in D.named_layers())
    x = backend.to_device(rng.standard_normal((6, 4)), device)
    dy = D.forward(x)
    dy[:2] = dy[5:] = 0
    D.zero_grad()
    dx = D.backward(dy)
    grad = D.grad.copy()
    D.zero_grad()
    with D.only_rows(slice(2, 5)):
        assert abs(D.backward(dy[2:5]) - dx[2:5]).max() < 1e-15
        with pytest.raises(ValueError, match=r"the last output had \(3, "):
            D.backward(dy)
    assert abs(D.grad - grad).max() < 1e-14
    assert abs(D.backward(dy, "input") - dx).max() < 1e-15  # all rows are there again


def test_the_tangent_of_some_rows_is_theirs_in_that_of_all(rng):
    D = Sequential(Linear(4, 5), LeakyReLU(0.2), Dropout(), Linear(5, 2)).initialize(1).to(dtype="float64")
    x, z = rng.standard_normal((2, 6, 4))
    ones = np.ones_like(D.forward(x))
    D.backward(ones, "tangent")
    expected = D.tangent(z)[2:5]
    D.zero_grad()
    with D.only_rows(slice(2, 5)):
        D.backward(ones[2:5], "tangent")
        assert abs(D.tangent(z[2:5]) - expected).max() < 1e-15
        assert D[0].cotangent().shape == (3, 5)
        with pytest.raises(ValueError, match=r"expected a tangent like the last input, float64 of shape \(3, 4\), got"):
            D.tangent(z)
    assert D[0].cotangent().shape == (6, 5) and D.tangent(z).shape == (6, 2)  # of all rows again
    D.zero_grad()
    with D.only_rows(slice(2, 5)):
        D.tangent(z[2:5])  # with the dy that all rows had
    some = D.grad.copy()
    D.zero_grad()
    z[:2] = z[5:] = 0  # of the others nothing comes
    D.backward(ones, "tangent")
    D.tangent(z)
    assert abs(D.grad - some).max() < 1e-14


def test_another_forward_pass_is_not_taken_for_one_that_keeps_rows():
    class Centred(Linear):
        def forward(self, x):
            return super().forward(x - x.mean(axis=0))

    class Same(Linear):
        def forward(self, x):
            return super().forward(x)
        keeps_rows = True
    assert [kind.keeps_rows for kind in (Centred, Same, Scale, Conv2d)] == [False, True, False, False]


def test_kept_layers_are_no_children():
    layer, inner, y = Layer(), Tanh(), np.ones(2)
    layer.keep(y, inner)
    assert layer.kept(y) is inner and not layer.layers


@pytest.mark.parametrize("dy, wrt, error, words", [
    (np.zeros((2, 4), np.float32), "all", ValueError, r"dy has shape \(2, 4\), but the last output had \(2, 3\)"),
    (np.zeros((2, 3)), "all", TypeError, "dy has dtype float64, but the last output had float32"),
    (np.zeros((2, 3), np.int64), "all", TypeError, "dy has dtype int64, but the last output had float32"),
    (np.zeros((2, 3), np.complex128), "all", TypeError, "dy has dtype complex128, but the last output had float32"),
    ([[0.0] * 3] * 2, "all", TypeError, "expected an array for dy, got list"),
    (np.zeros((2, 3), np.float32), "x", ValueError, 'wrt must be "all", "input", "params" or "tangent", not \'x\''),
    (np.zeros((2, 3), np.float32), None, ValueError, 'wrt must be "all", "input", "params" or "tangent", not None')])
def test_kept_complains_about_what_does_not_fit(dy, wrt, error, words):
    layer = Scale(3)
    with pytest.raises(RuntimeError, match="Scale: backward needs a forward pass first"):
        layer.kept(dy, wrt)
    layer(np.ones((2, 3), np.float32))
    with pytest.raises(error, match=f"Scale: {words}"):
        layer.backward(dy, wrt)
    assert not layer.grad.any()


def test_a_complex_gradient_of_a_real_pass_through_the_kernels_is_refused():
    layer, x = Tanh(), np.ones((2, 3), np.float32)
    layer(x)
    with pytest.raises(TypeError, match=r'Tanh: dy is complex, but the pass was real; make the passes on a twin\(dtype='
                                        r"'complex64'\)"):
        layer.backward(x.astype(np.complex64))


# -- ops and expect ------------------------------------------------------------------------------------------------


def test_ops_are_those_of_the_last_pass():
    layer, x = Scale(3), np.ones((2, 3), np.float32)
    assert layer.ops(x) is kernels.of(x) is layer.ops()
    assert layer.twin("complex64").ops(x) is kernels.FORMULAS  # its gradients will be complex
    assert layer.twin("complex64").ops(x.astype(np.complex64)) is kernels.FORMULAS
    assert layer.ops(x.astype(np.complex64)) is kernels.FORMULAS is layer.ops()


@pytest.mark.parametrize("x, error, words", [
    (np.zeros((2, 5), np.float32), ValueError, r"expected input of shape \(\.\.\., 3\), got \(2, 5\)"),
    (np.float32(1), ValueError, r"expected input of shape \(\.\.\., 3\), got \(\)"),
    (np.zeros((2, 3), np.int64), TypeError, "expected a float array, got int64"),
    (np.zeros((2, 3), np.uint8), TypeError, "expected a float array, got uint8"),
    (np.zeros((2, 3), np.float16), TypeError, "expected a float array, got float16"),
    (np.zeros((2, 3)), TypeError, "expected float32 input like the parameters, got float64; convert with "
     r"x.astype\('float32'\) or layer.to\(dtype='float64'\)"),
    (np.zeros((2, 3), np.complex128), TypeError, "expected float32 input like the parameters, got complex128"),
    ([[1.0] * 3], TypeError, "expected an array, got list")])
def test_a_wrong_input_names_the_layer_what_it_expects_and_what_it_got(x, error, words):
    layer = Scale(3)
    for _ in range(2):
        with pytest.raises(error, match=f"Scale: {words}"):
            layer.forward(x)
        layer.forward(np.zeros((2, 3), np.float32))


def test_layers_without_parameters_take_either_precision():
    for dtype in ("float32", "float64", "complex64", "complex128"):
        x = np.ones((2, 3), dtype)
        layer = Sequential(Tanh(), Flatten(), LeakyReLU())
        assert layer(x).dtype == layer.backward(x).dtype == dtype


def test_an_input_on_another_device_names_both(device):
    net, x = network().to(device), np.ones((2, 3), np.float32)
    if device == "cpu":
        assert net.forward(x).shape == (2, 2)
    else:
        with pytest.raises(TypeError, match="Linear: the parameters are on cuda, the input is on cpu"):
            net.forward(x)


# -- fresh arrays --------------------------------------------------------------------------------------------------


def test_results_are_never_written_again(device):
    net = network().to(device)
    first = net.forward(ones(net, 2, 3))
    dx = net.backward(ones(net, 2, 2))
    before = first.copy(), dx.copy()
    for n in (2, 5, 2):
        y = net.forward(0 * ones(net, n, 3))
        net.backward(y)
        first_again = net.forward(3 * ones(net, 2, 3))
        assert first_again is not first
    assert (first == before[0]).all() and (dx == before[1]).all()


# -- in words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer, words", [
    (Linear(2, 3), "Linear(2, 3)"), (Linear(2, 3, bias=False), "Linear(2, 3, bias=False)"),
    (ReLU(), "ReLU()"), (LeakyReLU(), "LeakyReLU()"), (LeakyReLU(0.2), "LeakyReLU(negative_slope=0.2)"),
    (Softplus(2), "Softplus(beta=2.0)"), (Dropout(), "Dropout()"), (Dropout(0.3), "Dropout(p=0.3)"),
    (Flatten(), "Flatten()"), (Reshape(2, -1), "Reshape(2, -1)"), (Maxout(4, 3, 2), "Maxout(4, 3, 2)"),
    (Conv2d(2, 4, 3, padding=1, bias=False), "Conv2d(2, 4, 3, padding=1, bias=False)"),
    (Conv2d(2, 4, 3, 2, "valid"), "Conv2d(2, 4, 3, stride=2, padding='valid')"),
    (AvgPool2d(2), "AvgPool2d(2)"), (MaxPool2d(3, 2), "MaxPool2d(3, stride=2)"),
    (Upsample(scale_factor=2), "Upsample(scale_factor=2)"), (BatchNorm2d(3), "BatchNorm2d(3)"),
    (BatchNorm2d(3, affine=False), "BatchNorm2d(3, affine=False)"), (InstanceNorm2d(3), "InstanceNorm2d(3)"),
    (BatchNorm2d(3, bias=False), "BatchNorm2d(3, bias=False)"),
    (LayerNorm(4, elementwise_affine=False), "LayerNorm((4,), elementwise_affine=False)"),
    (spectral_norm(Linear(3, 2)), "spectral_norm(Linear(3, 2))"),
    (Sequential(), "Sequential()"), (Sequential(Sequential(Tanh())), "Sequential(Sequential(Tanh()))"),
    (Scale(3), "Scale(3)"), (Scale(3, 2), "Scale(3, power=2)")], ids=str)
def test_written_out_as_it_was_built(layer, words):
    assert repr(layer) == words


def test_an_array_is_written_out_as_its_shape():
    class Shift(Tanh):
        def __init__(self, by, mean=None, deviation=None):
            super().__init__()
            self.by, self.mean = np.asarray(by), np.zeros(3) if mean is None else mean
    assert repr(Shift([1, 2])) == "Shift(array of shape (2,), mean=array of shape (3,))"
    assert repr(Dropout(np.float64(0.5))) == "Dropout()"


@pytest.mark.parametrize("plain", [True, False])
def test_a_complex_gradient_of_a_real_pass_is_refused(plain):
    layer = Linear(2, 2)
    with kernels.plain(plain):
        y = layer(np.ones((3, 2), np.float32))
        layer.zero_grad()
        with pytest.raises(TypeError, match="Linear: dy is complex, but the pass was real; make the passes on a twin"):
            layer.backward(y.astype(np.complex64))


def test_a_gradient_on_another_device_is_refused(device):
    if device == "cpu":
        return
    layer = Linear(2, 2).to(device)
    y = layer(backend.to_device(np.ones((3, 2), np.float32), device))
    with pytest.raises(TypeError, match="Linear: dy is on cpu, but the last output was not; move one of them"):
        layer.backward(backend.to_host(y))
