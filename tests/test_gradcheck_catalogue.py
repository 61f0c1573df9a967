"""`gradcheck.run`: the catalogue of everything in the package, and targets of the user's own."""

import numpy as np
import pytest
from torch_oracle import torch_module

from scratchgan import gradcheck, layers, losses, recipes
from scratchgan.errors import UserError
from scratchgan.gan import objectives
from scratchgan.gradcheck import catalogue
from scratchgan.losses import Loss
from scratchgan.optimizers import SGD
from scratchgan.system import Metrics, System


def test_the_catalogue_has_every_layer_loss_objective_and_recipe():
    every_layer = {name for name in layers.__all__ if name != "Layer"}
    every_loss = {name for name, value in vars(losses).items()
                  if isinstance(value, type) and issubclass(value, Loss) and value is not Loss}
    assert set(gradcheck.choices()) == (every_layer | every_loss | set(objectives.TABLE) | {"penalties"}
                                        | set(recipes.names()))


@pytest.mark.parametrize("name", [name for name in gradcheck.choices()
                                  if name not in ("penalties", *recipes.names())])
def test_everything_in_the_catalogue_is_right(name):
    reports = gradcheck.run([name])
    assert reports
    for report in reports:
        report.raise_if_failed()


@pytest.mark.parametrize("name", catalogue.layer_cases())
def test_every_layer_of_the_catalogue_on_each_device(device, name):
    layer, *arguments = catalogue.layer_cases()[name][0]
    catalogue.check_case(layer.to(device), *arguments).raise_if_failed()


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_is_right(name):
    for report in gradcheck.run([name]):
        report.raise_if_failed()


class Autoencoder(System):
    """Two networks of which one takes what the other gives."""

    sample_shape = (6,)

    def __init__(self):
        self.networks = {"encoder": layers.Sequential(layers.Linear(6, 3), layers.Tanh(), layers.Dropout(0.5)),
                         "decoder": layers.Sequential(layers.Linear(3, 6), layers.Tanh())}
        self.optimizers = {name: SGD(network, 0.1) for name, network in self.networks.items()}

    def step(self, batch, labels=None):
        encoder, decoder = self.networks.values()
        loss = losses.MSELoss()
        value = loss(decoder(encoder(batch)), batch)
        encoder.zero_grad(), decoder.zero_grad()
        encoder.backward(decoder.backward(loss.backward()), "params")
        for optimizer in self.optimizers.values():
            optimizer.step()
        return Metrics(loss=value)


def test_a_recipe_that_is_no_game(monkeypatch):
    recipe = recipes.Recipe("autoencoder", "for tests", "none", lambda settings, facts: Autoencoder(), (), 8, 1,
                            facts={"shape": (6,)})
    monkeypatch.setitem(recipes._RECIPES, "autoencoder", recipe)
    reports = gradcheck.run(["autoencoder"])
    assert [report.name for report in reports] == ["autoencoder: encoder", "autoencoder: decoder"]
    assert [report.raise_if_failed().inputs["x"].shape[1:] for report in reports] == [(6,), (3,)]


MODULE = '''
import numpy as np
from scratchgan.layers import Layer, Linear
from scratchgan.losses import MSELoss

class Doubled(Layer):
    input_shape = (2, 3)

    def forward(self, x):
        return 2 * x

    def backward(self, dy, wrt="all"):
        return None if wrt == "params" else 2 * dy

class Wrong(Doubled):
    def backward(self, dy, wrt="all"):
        return None if wrt == "params" else 3 * dy

class Shapeless(Doubled):
    input_shape = None

class ByMethod(Doubled):
    @classmethod
    def input_shape(cls):
        return (4, 1)

class MyLoss(MSELoss):
    pass

class NeedsArgument(Layer):
    def __init__(self, n):
        super().__init__()

def make():
    return Linear(4, 2)

def large():
    return Linear(100, 50)

instance = Linear(3, 1)
number = 3
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_layers_for_gradcheck.py").write_text(MODULE)
    (tmp_path / "my_bad_module_for_gradcheck.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_layers_for_gradcheck"


@pytest.mark.parametrize("name, shape, expected", [
    ("Doubled", None, (2, 3)), ("Doubled", (5,), (5,)), ("ByMethod", None, (4, 1)), ("Shapeless", (3, 2), (3, 2)),
    ("make", None, (3, 4)), ("instance", None, (3, 3)), ("instance", [2, 2, 3], (2, 2, 3)), ("large", None, (3, 100))])
def test_targets(module, name, shape, expected):
    (report,) = gradcheck.run([f"{module}:{name}"], shape)
    report.raise_if_failed()
    assert report.inputs["x"].shape == expected and f"{module}:{name}" in report.name


def test_a_target_may_be_a_loss_and_a_wrong_one_is_named(module):
    (right,) = gradcheck.run([f"{module}:MyLoss"], (2, 2))
    assert right.ok and right.inputs["input"].shape == (2, 2)
    (wrong,) = gradcheck.run([f"{module}:Wrong"])
    assert wrong.wrong == ["x"]


@pytest.mark.parametrize("target, words", [
    ("Conv9", r"Unknown name 'Conv9': choose from Linear, .*CrossEntropyLoss, .*, mlp"),
    ("{}:Missing", r"has no 'Missing'; the layers and losses it defines are: Doubled, Wrong, .*MyLoss"),
    ("{}:number", "number must be a Layer or a Loss, .*, not int"),
    ("{}:NeedsArgument", "NeedsArgument cannot be called without arguments"),
    ("{}:Shapeless", "The input shape of .*:Shapeless is not known: give --input-shape"),
    ("no_such_module_at_all:Name", "The module 'no_such_module_at_all' cannot be imported: ModuleNotFoundError"),
    ("my_bad_module_for_gradcheck:Name", "cannot be imported: ZeroDivisionError: division by zero"),
    (":Name", "must have the form package.module:Name"), ("{}:", "must have the form package.module:Name")])
def test_bad_targets(module, target, words):
    with pytest.raises(UserError, match=words) as error:
        gradcheck.run([target.format(module)])
    assert "\n" not in str(error.value)


def test_an_input_shape_is_for_targets():
    with pytest.raises(UserError, match="An input shape is for targets of your own"):
        gradcheck.run(["Linear"], (4, 3))


@pytest.mark.parametrize("name", catalogue.layer_cases())
def test_a_complex_gradient_for_a_real_input(name, rng):
    """backward is linear in dy: a complex twin gives both parts at once."""
    for layer, shape, *_ in catalogue.layer_cases()[name]:
        layer.to(dtype="float64")
        x, parts = rng.standard_normal(shape), []
        dy = rng.standard_normal((2, *layer.twin().forward(x).shape))
        for dtype, given in ((None, dy[0]), (None, dy[1]), ("complex128", dy[0] + 1j * dy[1])):
            twin = layer.twin(dtype)
            twin.set_step(0, 0)
            twin.forward(x)
            parts.append([twin.backward(given), twin.grad])
        for real, imaginary, both in zip(*parts, strict=True):
            np.testing.assert_allclose(both, real + 1j * imaginary, rtol=1e-12, atol=1e-12)


def negated(method):
    return lambda self, *arguments: -method(self, *arguments)


def test_a_right_gradient_of_another_function_is_seen_by_pytorch(monkeypatch):
    torch_module()
    monkeypatch.setattr(layers.Sigmoid, "forward", negated(layers.Sigmoid.forward))
    monkeypatch.setattr(layers.Sigmoid, "backward", lambda self, dy, wrt="all", backward=layers.Sigmoid.backward:
                        None if wrt == "params" else -backward(self, dy, wrt))
    monkeypatch.setattr(layers.Sigmoid, "tangent", negated(layers.Sigmoid.tangent))
    monkeypatch.setattr(losses.MSELoss, "elements", negated(losses.MSELoss.elements))
    monkeypatch.setattr(losses.MSELoss, "elements_grad", negated(losses.MSELoss.elements_grad))
    for name, wrong in (("Sigmoid", ["y", "x"]), ("MSELoss", ["y", "input"])):
        report = gradcheck.run([name])[0]
        assert report.wrong == wrong and {row.check for row in report.failures} == {"PyTorch"}


def test_running_statistics_are_those_of_pytorch(monkeypatch):
    torch_module()
    forward = layers.BatchNorm1d.forward

    def doubled(self, x):
        y = forward(self, x)
        self.buffers["running_mean"] = self.buffers["running_mean"] * (1 if self.is_twin or not self.training else 2)
        return y
    monkeypatch.setattr(layers.BatchNorm1d, "forward", doubled)
    assert gradcheck.run(["BatchNorm1d"])[0].wrong == ["running_mean"]


def test_a_layer_of_ones_own_is_not_compared_with_pytorchs():
    class Tanh(layers.Tanh):
        def forward(self, x):
            return 2 * super().forward(x)

        def backward(self, dy, wrt="all"):
            return super().backward(2 * dy, wrt)
    gradcheck.check_layer(Tanh(), input_shape=(2, 3)).raise_if_failed()


def test_a_recipe_whose_step_raises_is_a_finding(monkeypatch):
    """The other checks are made all the same."""
    def backward(self, dy, wrt="all"):
        raise ArithmeticError("no gradient today")
    monkeypatch.setattr(layers.Tanh, "backward", backward)
    *tanh, recipe = gradcheck.run(["Tanh", "mlp"])
    assert all(report.wrong == ["the pass"] for report in tanh)
    assert recipe.wrong == ["the pass"] and "no gradient today" in str(recipe)
