"""The checker itself: right layers pass, wrong ones are caught, and the report names what is wrong."""

import copy
import importlib
from contextlib import contextmanager

import numpy as np
import pytest
from broken_layers import BROKEN, CORRECT, NegatedBias
from right_layers import BatchNorm, CentredSquare, Dense, Square
from torch_oracle import torch_module

from scratchgan import backend, gradcheck, initializers
from scratchgan.gradcheck.oracles import relative_error
from scratchgan.gradcheck.pytorch import PYTORCH
from scratchgan.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    InstanceNorm2d,
    LeakyReLU,
    Linear,
    ReLU,
    Sequential,
    Tanh,
)


def check(make, shape):
    layer = make()
    return gradcheck.check_layer(layer, input_shape=shape, batch_of_one=not isinstance(layer, BatchNorm))


@pytest.fixture
def zeroed_memory(monkeypatch):
    """Memory for results comes as zeros, not as what it held before: by chance, numbers that end a faulty pass."""
    monkeypatch.setattr(backend, "empty", lambda shape, dtype, order="C", xp=np: xp.zeros(shape, dtype, order))


# -- layers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CORRECT)
def test_right_layers_pass(name):
    make, shape = CORRECT[name]
    report = check(make, shape).raise_if_failed()
    assert report.ok and report.wrong == [] and report.failures == []
    assert report.worst("complex step") <= 1e-12
    assert report.worst("central differences") <= 1e-7


@pytest.mark.parametrize("name", BROKEN)
def test_wrong_layers_are_caught_and_named(name, zeroed_memory):
    make, shape, wrong, words = BROKEN[name]
    report = check(make, shape)
    assert not report.ok
    assert set(report.wrong) == wrong
    assert any(words in row.check for row in report.failures)
    with pytest.raises(gradcheck.GradientCheckError, match=report.wrong[0]):
        report.raise_if_failed()


@pytest.mark.parametrize("name", ["sign", "eps", "mutates dy", "float64 leak", "stale cache", "shared cache"])
def test_wrong_layers_are_caught_on_each_device(device, name):
    make, shape, wrong, words = BROKEN[name]
    layer = make().to(device)
    report = gradcheck.check_layer(layer, input_shape=shape, batch_of_one=name != "eps")
    assert set(report.wrong) == wrong and any(words in row.check for row in report.failures)


def test_an_eps_that_is_wrong_by_1e_5_is_invisible_to_the_usual_tolerances():
    make, shape, *_ = BROKEN["eps"]
    report = check(make, shape)
    assert 1e-7 < report.worst("complex step") < 1e-4
    assert all(row.tensor == "x" and row.where is not None for row in report.failures)


def test_the_layer_stays_as_it_is():
    for layer in (Dense(), BatchNorm()):
        layer.eval()
        layer.grad[...] = 3
        state = layer.state_dict()
        check(lambda layer=layer: layer, (4, 3))
        assert all(np.array_equal(state[key], value) for key, value in layer.state_dict().items())
        assert (layer.grad == 3).all() and layer.dtype == np.float32 and not layer.training


def test_a_layer_of_a_network_can_be_checked():
    net = Sequential(Dense(), Tanh())
    gradcheck.check_layer(net[0], input_shape=(2, 3)).raise_if_failed()


def test_the_same_seed_reproduces_the_inputs():
    a, b, c = (gradcheck.check_layer(Dense(), input_shape=(4, 3), seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(a.inputs["x"], b.inputs["x"]) and np.array_equal(a.inputs["dy"], b.inputs["dy"])
    assert not np.array_equal(a.inputs["x"], c.inputs["x"])
    again = gradcheck.check_layer(Dense(), a.inputs["x"], seed=1)
    assert np.array_equal(again.inputs["x"], a.inputs["x"])


def test_points_at_a_kink_are_skipped_by_differences_and_counted():
    x = np.random.default_rng(0).standard_normal((4, 5))
    x[1, 2], x[3, 0] = 1e-7, -1e-7
    report = gradcheck.check_layer(LeakyReLU(0.2), x, batch_of_one=False).raise_if_failed()
    (row,) = [row for row in report.rows if row.check == "central differences"]
    assert row.skipped == 2 and "2 entries at a kink skipped" in str(row)


def test_too_many_points_at_a_kink_are_no_check():
    report = gradcheck.check_layer(ReLU(), np.full((4, 5), 1e-7), batch_of_one=False)
    assert report.wrong == ["x"]
    assert any("too many entries lie at a kink" in row.detail for row in report.failures)


def test_a_wrong_slope_does_not_hide_as_a_kink():
    class WrongSlope(LeakyReLU):
        def backward(self, dy, wrt="all"):
            dx = super().backward(dy, wrt)
            return None if dx is None else dx * (1 + 1e-6)

    report = gradcheck.check_layer(WrongSlope(0.2), input_shape=(3, 4))
    checks = {row.check for row in report.failures}
    assert {"complex step", "central differences"} <= checks and not any(row.skipped for row in report.rows)


def test_a_gradient_that_is_zero_by_nature():
    assert gradcheck.check_layer(CenteredBias(), input_shape=(4, 3)).wrong == ["bias"]
    gradcheck.check_layer(CenteredBias(), input_shape=(4, 3), zero=("bias",)).raise_if_failed()
    assert "weight" in gradcheck.check_layer(CenteredBias(), input_shape=(4, 3), zero=("bias", "weight")).wrong


ZERO_BIASES = {
    "batch norm, 5": (lambda: Sequential(Linear(4, 6), BatchNorm1d(6), Tanh(), Linear(6, 2)), (5, 4)),
    "batch norm, 4": (lambda: Sequential(Linear(4, 6), BatchNorm1d(6), Tanh(), Linear(6, 2)), (4, 4)),
    "images": (lambda: Sequential(Conv2d(2, 3, 3), BatchNorm2d(3), Tanh()), (4, 2, 4, 4)),
    "instance norm": (lambda: Sequential(Conv2d(2, 3, 3), InstanceNorm2d(3), Tanh()), (3, 2, 5, 5)),
    "transposed": (lambda: Sequential(ConvTranspose2d(2, 3, 2), InstanceNorm2d(3, affine=True)), (2, 2, 3, 3)),
}


@pytest.mark.parametrize("name", ZERO_BIASES)
def test_a_gradient_that_is_zero_up_to_rounding(name):
    make, shape = ZERO_BIASES[name]
    report = gradcheck.check_layer(make(), input_shape=shape).raise_if_failed()
    (row, *_) = [row for row in report.rows if row.tensor == "0.bias" and "zero up to rounding" in row.check]
    assert str(row) in str(report) and "nothing was checked" in str(row)
    gradcheck.check_layer(make(), input_shape=shape, zero=("0.bias",)).raise_if_failed()
    for check in ("complex step", "float32"):
        assert gradcheck.check_layer(make(), input_shape=shape).worst(check) < 1e-5


def test_what_is_zero_only_by_mistake_is_named():
    report = gradcheck.check_layer(Unused(), input_shape=(4, 3))
    assert report.wrong == ["spare"] and "zero=('spare',)" in str(report)
    gradcheck.check_layer(Unused(), input_shape=(4, 3), zero=("spare",)).raise_if_failed()


class Unused(Dense):
    """A parameter that nothing depends on."""

    def __init__(self):
        super().__init__()
        self.add_parameter("spare", np.ones(2, np.float32))


def test_a_layer_that_couples_samples_may_refuse_a_batch_of_one():
    for layer, shape in ((Sequential(Linear(3, 4), BatchNorm1d(4)), (5, 3)), (CentredSquare(), (4, 3))):
        report = gradcheck.check_layer(layer, input_shape=shape).raise_if_failed()
        assert any("refuses a batch of 1" in row.check for row in report.rows)
    report = gradcheck.check_layer(BatchNorm2d(3), input_shape=(2, 3, 2, 2)).raise_if_failed()
    assert any(row.case == "batch of 1" for row in report.rows)  # which it takes


def test_equal_parameters_are_moved_in_the_copy_only():
    layer = Linear(4, 3, weight_init=initializers.zeros, bias_init=initializers.zeros)
    gradcheck.check_layer(layer).raise_if_failed()  # else: the true gradient of x is zero
    assert not layer.theta.any()


def test_values_that_central_differences_cannot_take():
    x = 1000 + np.random.default_rng(1).standard_normal((5, 3))
    assert not gradcheck.check_layer(BatchNorm1d(3), x).ok
    report = gradcheck.check_layer(BatchNorm1d(3), x, differences=False).raise_if_failed()
    assert report.worst("central differences") is None and report.worst("complex step") <= 1e-12


class TwoWays(Square):
    """A faster way and a formula, either of which may be wrong."""

    plain, factors = False, (2, 2)  # of kernel and formula

    def backward(self, dy, wrt="all"):
        return None if wrt == "params" else self.factors[self.plain] * self.x * dy


@pytest.mark.parametrize("factors, cases", [((2, 2), set()), ((2, -2), {"plain", "batch of 1, plain"}),
                                            ((3, 2), {"", "batch of 1"})])
def test_kernels_and_formulas_are_both_checked(monkeypatch, factors, cases):
    @contextmanager
    def plain():
        monkeypatch.setattr(TwoWays, "plain", True)
        yield
        monkeypatch.setattr(TwoWays, "plain", False)
    monkeypatch.setattr(gradcheck.layers, "plain", plain)
    monkeypatch.setattr(TwoWays, "factors", factors)
    report = gradcheck.check_layer(TwoWays(), input_shape=(3, 4))
    assert report.wrong == (["x"] if cases else [])
    assert {row.case for row in report.failures if row.check == "complex step"} == cases


class CenteredBias(Dense):
    """The mean over the batch is taken off, so that the bias does nothing."""

    def forward(self, x):
        y = super().forward(x)
        return y - self.params["bias"] - (y - self.params["bias"]).mean(axis=-1, keepdims=True)

    def backward(self, dy, wrt="all"):
        return super().backward(dy - dy.mean(axis=-1, keepdims=True), wrt)

    def add_gradients(self, dy):
        self.grads["weight"] += dy.T @ self.x


def test_input_shapes():
    assert gradcheck.check_layer(Linear(4, 3)).inputs["x"].shape == (3, 4)
    assert gradcheck.check_layer(BatchNorm(), batch_of_one=False).inputs["x"].shape == (5, 3)
    with pytest.raises(ValueError, match="Square: no input shape is known; give input_shape"):
        gradcheck.check_layer(Square())


def test_random_layers_draw_the_same_mask_in_every_pass():
    net = Sequential(Linear(3, 20), Dropout(0.5), Linear(20, 2))
    gradcheck.check_layer(net, input_shape=(4, 3)).raise_if_failed()


def test_errors_are_relative_to_the_largest_entry():
    assert relative_error([1.0, 2.0], [1.0, 4.0]) == (0.5, (1,))
    assert relative_error(np.zeros((2, 2)), np.zeros((2, 2)))[0] == 0
    assert relative_error([1.0], [0.0])[0] == np.inf
    assert relative_error([np.nan, 1.0], [1.0, 1.0]) == (np.inf, (0,))
    assert relative_error([1.0], [1.0, 2.0])[0] == np.inf
    assert relative_error(np.zeros((0, 2)), np.zeros((0, 2))) == (0, None)


# -- zero up to rounding -------------------------------------------------------------------------------------------


NORMALISED = {"linear": (lambda: Sequential(Linear(4, 6), BatchNorm1d(6), Tanh(), Linear(6, 2)), (5, 4), "0.bias"),
              "wide": (lambda: Sequential(Linear(40, 60), BatchNorm1d(60), ReLU(), Linear(60, 1)), (9, 40), "0.bias"),
              "convolution": (lambda: Sequential(Conv2d(2, 3, 3), InstanceNorm2d(3), Tanh(), Conv2d(3, 1, 2)),
                              (2, 2, 6, 6), "0.bias")}


def oracle_rows(report, tensor):
    return [row.check for row in report.rows if row.tensor == tensor and row.check != "float32"]


@pytest.mark.parametrize("name", NORMALISED)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_a_bias_before_normalisation_has_a_gradient_of_zero(name, scale):
    make, shape, bias = NORMALISED[name]
    net = make().initialize(3)
    net[0].params["weight"][...] *= scale
    x = np.random.default_rng(0).standard_normal(shape)
    report = gradcheck.check_network(net, x)
    assert "gradient is zero up to rounding: nothing was checked" in oracle_rows(report, bias)
    assert "complex step" not in oracle_rows(report, bias)
    assert f"{bias}: gradient is zero up to rounding" in str(report)
    said = gradcheck.check_network(net, x, zero=(bias,))
    assert "gradient is zero" in oracle_rows(said, bias)
    assert "0.weight" in gradcheck.check_network(net, x, zero=(bias, "0.weight")).wrong


def test_a_gradient_that_is_small_but_not_zero_is_checked():
    """Through nine saturated layers the first layer's gradient is tiny: 1e-9 of the last one's."""
    net = Sequential(*(layer for _ in range(9) for layer in (Linear(4, 4), Tanh()))).initialize(0)
    net.theta[...] *= 0.2
    report = gradcheck.check_network(net, input_shape=(5, 4)).raise_if_failed()
    assert all("complex step" in oracle_rows(report, f"{2 * i}.weight") for i in range(9))


def test_a_wrong_gradient_does_not_hide_as_rounding():
    class Vanishes(Dense):
        def add_gradients(self, dy):
            super().add_gradients(dy)
            self.grads["bias"] *= 1e-16
    assert gradcheck.check_network(Sequential(Vanishes(), Tanh()), input_shape=(4, 3)).wrong == ["0.bias"]

    class Invents(CenteredBias):
        def add_gradients(self, dy):
            super().add_gradients(dy)
            self.grads["bias"] += 1e-6
    assert "0.bias" in gradcheck.check_network(Sequential(Invents(), Tanh()), input_shape=(4, 3)).wrong


# -- reports --------------------------------------------------------------------------------------------------------


def test_table_and_report_are_readable():
    right, wrong = check(Dense, (4, 3)), check(NegatedBias, (4, 3))
    text = gradcheck.table([right, wrong])
    lines = text.splitlines()
    assert lines[0].split("  ")[0] == "checked" and "complex step" in lines[0] and "verdict" in lines[0]
    assert lines[2].startswith("Dense(), x (4, 3)") and lines[2].endswith("ok")
    assert "x, weight, bias" in lines[2]
    assert lines[3].startswith("NegatedBias()") and lines[3].endswith("WRONG")
    assert lines[4].strip().startswith("WRONG  bias: complex step  2.0e+00 (at most 1e-12); worst at (")
    assert lines[-1].startswith("2 checked") and lines[-1].endswith("1 WRONG")
    assert gradcheck.table([right]).endswith("all right")
    assert str(right).startswith("Dense(), x (4, 3): ok\n  seed 0; x (4, 3) float64, dy (4, 2) float64")
    assert str(wrong).startswith("NegatedBias(), x (4, 3): WRONG: bias")


def test_an_empty_report_is_not_ok():
    assert not gradcheck.Report("nothing").ok
    copied = copy.deepcopy(gradcheck.Report("nothing"))
    with pytest.raises(gradcheck.GradientCheckError):
        copied.raise_if_failed()


def test_a_pytorch_that_lacks_an_argument_is_no_oracle(monkeypatch):
    torch = torch_module()

    class Older(torch.nn.BatchNorm1d):
        def __init__(self, num_features, eps=1e-5):
            super().__init__(num_features, eps)
    monkeypatch.setattr(torch.nn, "BatchNorm1d", Older)
    report = gradcheck.check_layer(BatchNorm1d(3, bias=False), input_shape=(5, 3), batch_of_one=False)
    assert report.ok and report.worst(PYTORCH) is None


def test_memory_that_a_product_leaves_unwritten_is_seen(monkeypatch, zeroed_memory):
    products = importlib.import_module("scratchgan.kernels.numpy.gemm")
    monkeypatch.setattr(products, "dot", lambda a, b, out: out)
    report = gradcheck.check_layer(Linear(200, 120), input_shape=(60, 200))
    assert ("y", "all of it written") in [(row.tensor, row.check) for row in report.failures]


@pytest.mark.parametrize("check", [gradcheck.check_layer, gradcheck.check_network])
def test_a_tensor_that_there_is_not_cannot_be_zero(check):
    with pytest.raises(ValueError, match=r"there is no tensor 'bais': zero may name x, 0\.weight, 0\.bias"):
        check(Sequential(Linear(3, 2)), input_shape=(4, 3), zero=("bais",))
