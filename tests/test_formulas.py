"""The formula that is read is a formula that runs: change one, and the gradient check names the tensor, and training
with plain kernels goes another way.

`MISTAKES` has every formula of the package: a new one needs an entry here.
"""

from functools import partial

import numpy as np
import pytest

from scratchgan import kernels
from scratchgan.gradcheck import check_layer, check_loss, check_network
from scratchgan.gradcheck.report import COMPLEX_STEP
from scratchgan.kernels import FORMULAS
from scratchgan.layers import (
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    InstanceNorm2d,
    LayerNorm,
    LeakyReLU,
    Linear,
    Maxout,
    MaxPool2d,
    Sequential,
    Sigmoid,
    Softplus,
    Tanh,
    Upsample,
)
from scratchgan.losses import BCEWithLogitsLoss
from scratchgan.optimizers import SGD, Adam, Momentum, RMSprop


def flipped(formula):
    """The sign of the result, or of the first of several."""
    def wrong(*arguments, **named):
        result = formula(*arguments, **named)
        return (-result[0], *result[1:]) if isinstance(result, tuple) else -result
    return wrong


def with_argument(index, change):
    """Another value in place of one argument: a term of the sum has another sign or is missing."""
    def mistake(formula):
        def wrong(*arguments, **named):
            arguments = list(arguments)
            arguments[index] = change(arguments[index])
            return formula(*arguments, **named)
        return wrong
    return mistake


def with_result(index, change):
    def mistake(formula):
        def wrong(*arguments):
            result = list(formula(*arguments))
            result[index] = change(result[index])
            return tuple(result)
        return wrong
    return mistake


def with_method(name, mistake):
    """Of the object that `convolution` gives."""
    def mistaken(formula):
        def wrong(*arguments):
            convolution = formula(*arguments)
            setattr(convolution, name, mistake(getattr(convolution, name)))
            return convolution
        return wrong
    return mistaken


def without_the_last_term(formula):
    """a @ b without the last column of a and row of b."""
    return lambda a, b, out=None: formula(a[:, :-1], b[:-1], out)


def negative(a):
    return -a


def doubled(a):
    return 2 * a


def conv():
    return Conv2d(2, 3, 3, 2, 1)


def transposed():
    return ConvTranspose2d(2, 3, 3, 2, 1)


def maxout():
    return Maxout(4, 3, 2)


BATCH, IMAGES = (5, 4), (3, 2, 4, 5)
LINEAR = "x linear.weight linear.bias"
# formula: [(a mistake in it, a layer, the shape of x, the tensors whose gradients are then wrong), ...]
MISTAKES = {
    "gemm": [(with_argument(0, negative), lambda: Linear(4, 3), BATCH, "bias"),  # y, dW and dx agree on a changed sign
             (without_the_last_term, lambda: Linear(4, 3), BATCH, "x weight bias")],
    "linear": [(flipped, lambda: Linear(4, 3), BATCH, "x weight bias"),
               (with_argument(2, negative), lambda: Linear(4, 3), BATCH, "bias")],
    "row_sums": [(flipped, lambda: Linear(4, 3), BATCH, "bias")],
    "leaky_relu": [(flipped, lambda: LeakyReLU(0.2), BATCH, "x"),
                   (with_argument(1, negative), lambda: LeakyReLU(-0.2), BATCH, "x")],
    "leaky_relu_grad": [(flipped, lambda: LeakyReLU(0.2), BATCH, "x"),
                        (with_argument(1, negative), lambda: LeakyReLU(0.2), BATCH, "x"),
                        (with_argument(2, negative), lambda: LeakyReLU(0.2), BATCH, "x")],
    "tanh": [(flipped, Tanh, BATCH, "x"), (with_argument(0, doubled), Tanh, BATCH, "x")],
    "tanh_grad": [(flipped, Tanh, BATCH, "x"), (with_argument(1, doubled), Tanh, BATCH, "x")],
    "sigmoid": [(with_argument(0, doubled), Sigmoid, BATCH, "x")],  # flipped it is another function, rightly derived
    "sigmoid_grad": [(flipped, Sigmoid, BATCH, "x"), (with_argument(1, negative), Sigmoid, BATCH, "x")],
    "softplus": [(flipped, Softplus, BATCH, "x"),
                 (with_argument(1, doubled), lambda: Softplus(2.0, 1.0), BATCH, "x")],
    "softplus_grad": [(flipped, Softplus, BATCH, "x"), (with_argument(1, negative), Softplus, BATCH, "x"),
                      (with_argument(3, doubled), lambda: Softplus(2.0, 1.0), BATCH, "x")],
    "dropout": [],  # its mask depends on the layer's number: see the test of it alone
    "convolution": [(with_method("forward", flipped), conv, IMAGES, "x weight"),
                    (with_method("input_gradient", flipped), conv, IMAGES, "x"),
                    (with_method("weight_gradient", flipped), conv, IMAGES, "weight"),
                    (with_method("tap_weight", flipped), conv, IMAGES, "weight"),
                    (with_method("forward", flipped), transposed, IMAGES, "x"),
                    (with_method("input_gradient", flipped), transposed, IMAGES, "x weight"),
                    (with_method("weight_gradient", flipped), transposed, IMAGES, "weight")],
    "add_bias": [(with_argument(1, negative), lambda: Conv2d(2, 3, 3), IMAGES, "bias")],
    "channel_sums": [(flipped, conv, IMAGES, "bias"), (with_argument(0, doubled), transposed, IMAGES, "bias")],
    "batch_moments": [(flipped, lambda: BatchNorm2d(2), IMAGES, "x"),
                      (with_result(1, doubled), lambda: BatchNorm2d(2), IMAGES, "x"),
                      (flipped, lambda: InstanceNorm2d(2), IMAGES, "x")],
    "batch_statistics": [(flipped, lambda: BatchNorm2d(2), IMAGES, "x"),
                         (with_result(2, doubled), lambda: BatchNorm2d(2), IMAGES, "x")],
    "batch_norm": [(flipped, lambda: BatchNorm2d(2), IMAGES, "x weight bias"),
                   (with_argument(4, negative), lambda: BatchNorm1d(4), BATCH, "bias")],
    "batch_norm_sums": [(flipped, lambda: BatchNorm2d(2), IMAGES, "x bias"),
                        (with_result(1, negative), lambda: BatchNorm2d(2), IMAGES, "x weight"),
                        (with_argument(2, negative), lambda: BatchNorm1d(4), BATCH, "x weight")],
    "batch_norm_grad": [(flipped, lambda: BatchNorm2d(2), IMAGES, "x"),
                        (with_argument(5, negative), lambda: BatchNorm2d(2), IMAGES, "x"),
                        (with_argument(6, negative), lambda: BatchNorm1d(4), BATCH, "x")],
    "affine": [(flipped, lambda: LayerNorm(4), BATCH, "x weight bias"),
               (with_argument(2, negative), lambda: LayerNorm((4, 5)), IMAGES, "bias")],
    "product_sums": [(flipped, lambda: LayerNorm(4), BATCH, "weight")],
    "add_in_turn": [(with_argument(1, lambda terms: [2 * each for each in terms]), lambda: BatchNorm2d(2), IMAGES,
                     "weight bias")],
    "layer_norm": [(flipped, lambda: LayerNorm(4), BATCH, "x"),
                   (with_result(1, negative), lambda: LayerNorm((4, 5)), IMAGES, "x")],
    "layer_norm_grad": [(flipped, lambda: LayerNorm(4), BATCH, "x"),
                        (with_argument(1, doubled), lambda: LayerNorm((4, 5)), IMAGES, "x")],
    "average_pool": [(flipped, lambda: AvgPool2d(2), IMAGES, "x")],
    "average_pool_grad": [(flipped, lambda: AvgPool2d(2), IMAGES, "x"),
                          (with_argument(2, doubled), lambda: AvgPool2d(3, 2, 1), IMAGES, "x")],
    "max_pool": [(flipped, lambda: MaxPool2d(2), IMAGES, "x"),
                 (with_result(1, lambda winner: winner % 4 + 1), lambda: MaxPool2d(2), IMAGES, "x")],
    "max_pool_grad": [(flipped, lambda: MaxPool2d(2), IMAGES, "x")],
    "max_pool_tangent": [],  # only tangents need it: see the test of it alone
    "repeat": [(flipped, lambda: Upsample((4, 10)), IMAGES, "x")],  # one axis: for two its sign changes twice
    "repeat_grad": [(flipped, lambda: Upsample((7, 5)), IMAGES, "x")],
    "maxout": [(flipped, maxout, BATCH, LINEAR),
               (with_result(1, lambda won: np.roll(won, 1, -1)), maxout, BATCH, LINEAR)],
    "maxout_grad": [(flipped, maxout, BATCH, LINEAR), (with_argument(0, doubled), maxout, BATCH, LINEAR)],
    "adam": [],  # no gradient: see the test of it alone
    **dict.fromkeys(("above_slope", "below_slope", "constant", "difference", "direction", "logit_slope", "noisy",
                     "one_batch", "scaled_slope", "slopes_of_both", "unit_slope", "weighted_squares"),
                    ()),  # of games: see tests/gan
    "momentum": [],
    "running_averages": [],
    "moving_average": [],
    "rmsprop": [],
    "sgd": [],
}
CASES = [(name, *case) for name, cases in MISTAKES.items() for case in cases]
every = pytest.mark.parametrize(("name", "mistake", "make", "shape", "tensors"), CASES,
                                ids=[f"{name}-{i}" for name, cases in MISTAKES.items() for i in range(len(cases))])


def test_every_formula_is_here():
    assert sorted(MISTAKES) == sorted(vars(FORMULAS))


def wrong_tensors(report):
    return {row.tensor for row in report.failures if row.check == COMPLEX_STEP}


@every
def test_a_mistake_in_a_formula_is_found_and_named(monkeypatch, name, mistake, make, shape, tensors):
    layer = make().initialize(0)
    with kernels.plain():
        check_layer(layer, input_shape=shape, batch_of_one=False).raise_if_failed()
        monkeypatch.setattr(FORMULAS, name, mistake(getattr(FORMULAS, name)))
        report = check_layer(layer, input_shape=shape, batch_of_one=False)
    assert not report.ok and wrong_tensors(report) == set(tensors.split())


def with_weights_before(layer, shape):
    """A network in which the layer's dx goes on to weights."""
    before = Linear(shape[1], shape[1]) if len(shape) == 2 else Conv2d(shape[1], shape[1], 1)
    return Sequential(before, layer).initialize(0)


def trained(network, shape, optimizer=SGD):
    rng, optimizer = np.random.default_rng(0), optimizer(network, lr=0.1)
    for _ in range(3):
        y = network.forward(rng.standard_normal(shape).astype(np.float32))
        optimizer.zero_grad()
        network.backward(y + rng.standard_normal(y.shape).astype(np.float32), "params")
        optimizer.step()
    return network.theta.tobytes()


@every
def test_training_with_plain_kernels_uses_it(monkeypatch, name, mistake, make, shape, tensors):
    with kernels.plain():
        right = trained(with_weights_before(make(), shape), shape)
        assert trained(with_weights_before(make(), shape), shape) == right
        monkeypatch.setattr(FORMULAS, name, mistake(getattr(FORMULAS, name)))
        assert trained(with_weights_before(make(), shape), shape) != right


def test_the_formula_of_adam(monkeypatch):
    def steps():
        return trained(Linear(4, 3).initialize(0), (5, 4), Adam)
    with kernels.plain():
        right = steps()
        for index, change in ((1, negative), (4, doubled), (5, lambda beta2: beta2 / 2), (6, negative), (7, doubled)):
            with monkeypatch.context() as patch:
                patch.setattr(FORMULAS, "adam", with_argument(index, change)(FORMULAS.adam))
                assert steps() != right
        assert steps() == right
    with monkeypatch.context() as patch:
        patch.setattr(FORMULAS, "adam", lambda *arguments: None)
        assert steps() != Linear(4, 3).initialize(0).theta.tobytes()  # the kernel does not need it


@pytest.mark.parametrize("name, optimizer, numbers", [
    ("momentum", Momentum, (3, 4)), ("sgd", SGD, (5,)), ("sgd", partial(SGD, momentum=0.9), (3, 4, 5)),
    ("rmsprop", partial(RMSprop, momentum=0.9, centered=True), (5, 6, 7, 8))])
def test_the_formulas_of_other_optimizers(monkeypatch, name, optimizer, numbers):
    def steps():
        return trained(Linear(4, 3).initialize(0), (5, 4), optimizer)
    with kernels.plain():
        right = steps()
        for index, change in ((1, negative), *((number, lambda value: value / 2) for number in numbers)):
            with monkeypatch.context() as patch:
                patch.setattr(FORMULAS, name, with_argument(index, change)(getattr(FORMULAS, name)))
                assert steps() != right
        assert steps() == right


def test_the_formula_of_dropout(monkeypatch):
    with kernels.plain():
        monkeypatch.setattr(FORMULAS, "dropout", with_result(1, doubled)(FORMULAS.dropout))
        report = check_layer(Dropout(), input_shape=BATCH, batch_of_one=False)
    assert wrong_tensors(report) == {"x"}


def test_the_formula_of_running_averages(monkeypatch):
    def averages():
        layer = BatchNorm2d(2)
        layer.forward(np.random.default_rng(0).standard_normal(IMAGES).astype(np.float32))
        return [layer.buffers[name].tolist() for name in ("running_mean", "running_var")]
    with kernels.plain():
        right = averages()
        for index in (3, 4, 6):
            with monkeypatch.context() as patch:
                patch.setattr(FORMULAS, "running_averages", with_argument(index, doubled)(FORMULAS.running_averages))
                assert averages() != right
        assert averages() == right


def test_the_formula_of_the_tangent_of_max_pooling(monkeypatch):
    with kernels.plain():
        for mistake in (flipped, with_argument(1, lambda winner: winner % 4 + 1)):
            with monkeypatch.context() as patch:
                patch.setattr(FORMULAS, "max_pool_tangent", mistake(FORMULAS.max_pool_tangent))
                report = check_layer(MaxPool2d(2), input_shape=IMAGES, batch_of_one=False)
            assert set(report.wrong) == {"tangent"}


@pytest.mark.parametrize("name", ["sigmoid", "softplus"])
def test_losses_use_the_formulas_too(monkeypatch, name):
    with kernels.plain():
        check_loss(BCEWithLogitsLoss()).raise_if_failed()
        monkeypatch.setattr(FORMULAS, name, flipped(getattr(FORMULAS, name)))
        report = check_loss(BCEWithLogitsLoss())
    assert wrong_tensors(report) == {"input"}


@pytest.mark.parametrize(("name", "mistake", "tensors"), [
    ("tanh_grad", flipped, "x 0.weight 0.bias"), ("channel_sums", flipped, "0.bias"),
    ("batch_norm_grad", flipped, "x 0.weight 0.bias"), ("gemm", with_argument(0, negative), "5.bias")])
def test_in_a_network_it_is_named_too(monkeypatch, name, mistake, tensors):
    """What lies behind a wrong dx is wrong with it; what lies above is right."""
    network = Sequential(Conv2d(1, 2, 3), Tanh(), BatchNorm2d(2), LeakyReLU(0.2), Flatten(), Linear(8, 2)).initialize(1)
    with kernels.plain():
        check_network(network, input_shape=(4, 1, 4, 4)).raise_if_failed()
        monkeypatch.setattr(FORMULAS, name, mistake(getattr(FORMULAS, name)))
        report = check_network(network, input_shape=(4, 1, 4, 4))
    assert wrong_tensors(report) == set(tensors.split())


def test_a_formula_does_not_take_the_name_of_another():
    def tanh(x):
        return 2 * x
    with pytest.raises(ValueError, match=r"scratchgan\.layers\.activations has a formula 'tanh' already"):
        kernels.formula(tanh)
