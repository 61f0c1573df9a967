"""Layers inside layers: added by name, or assigned as attributes as in PyTorch."""

import copy

import numpy as np
import pytest

from scratchgan.gradcheck import check_layer
from scratchgan.layers import Layer, Linear, ReLU, Sequential, Tanh
from scratchgan.optimizers import SGD


class Net(Layer):
    """Written as in PyTorch."""

    def __init__(self, hidden=2):
        super().__init__()
        self.fc, self.act = Linear(3, hidden), Tanh()
        self.head = Sequential(Linear(hidden, 4), ReLU(), Linear(4, 2, bias=False))

    def forward(self, x):
        return self.head(self.act(self.fc(x)))

    def backward(self, dy, wrt="all"):
        above = "input" if wrt == "input" else "all"
        return self.fc.backward(self.act.backward(self.head.backward(dy, above), above), wrt)


def named(net):
    return [prefix for prefix, _ in net.named_layers()]


# -- as attributes -------------------------------------------------------------------------------------------------


def test_a_layer_assigned_as_an_attribute_becomes_a_child():
    net = Net()
    assert list(net.layers) == ["fc", "act", "head"]
    assert named(net) == ["", "fc.", "act.", "head.", "head.0.", "head.1.", "head.2."]
    assert net.fc is net.layers["fc"] and net.head[0] is net.layers["head"].layers["0"]
    assert net.theta.size == 3 * 2 + 2 + 2 * 4 + 4 + 4 * 2
    assert list(net.state_dict()) == ["fc.weight", "fc.bias", "head.0.weight", "head.0.bias", "head.2.weight"]
    net.theta[...] = 3
    assert (net.fc.params["weight"] == 3).all() and (net.head[2].params["weight"] == 3).all()


def test_it_learns_and_its_gradient_is_right(rng):
    net = Net().initialize(0)
    check_layer(net, input_shape=(5, 3)).raise_if_failed()
    x, before = rng.standard_normal((5, 3)).astype(np.float32), net.theta.copy()
    net.backward(net(x))
    SGD(net, lr=0.1).step()
    assert (net.theta != before).mean() > 0.5 and not np.array_equal(net.fc.params["bias"], before[6:8])


def test_the_same_keys_as_pytorchs_module():
    torch = pytest.importorskip("torch", reason="PyTorch, the third oracle, is not installed")
    nn = torch.nn

    class Theirs(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act = nn.Linear(3, 2), nn.Tanh()
            self.head = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2, bias=False))

        def forward(self, x):
            return self.head(self.act(self.fc(x)))

    theirs, net = Theirs(), Net()
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in net.state_dict().items()}, strict=True)
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    np.testing.assert_allclose(net(x), theirs(torch.from_numpy(x)).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_child_may_be_replaced():
    net = Net()
    old, act = net.fc, net.act
    net.fc = Linear(3, 2, bias=False)
    assert net.fc is not old and net.layers["fc"] is net.fc and net.act is act
    assert list(net.layers) == ["fc", "act", "head"]  # in its place
    assert "fc.bias" not in net.state_dict() and net.theta.size == 3 * 2 + 2 * 4 + 4 + 4 * 2
    net.theta[...] = 5
    assert not (old.theta == 5).any()
    assert Sequential(old)[0] is old  # free for another network
    check_layer(net.initialize(0), input_shape=(5, 3)).raise_if_failed()


def test_an_attribute_may_become_a_layer_and_a_layer_something_else():
    class Late(Layer):
        def __init__(self, wanted):
            super().__init__()
            self.fc = self.norm = None
            if wanted:
                self.fc = Linear(3, 2)
    net = Late(True)
    assert net.fc is net.layers["fc"] and net.norm is None and Late(False).fc is None
    assert list(net.state_dict()) == ["fc.weight", "fc.bias"] and not Late(False).state_dict()


def test_what_is_no_longer_a_layer_is_no_longer_part_of_the_network():
    """As in PyTorch; or it is refused: but the old layer never stays behind, out of reach."""
    for remove in (lambda net: setattr(net, "fc", None), lambda net: delattr(net, "fc")):
        net = Net()
        fc = net.fc
        try:
            remove(net)
        except (TypeError, AttributeError) as error:
            assert "'fc'" in str(error) and net.fc is fc
        else:
            assert getattr(net, "fc", None) is None
            assert named(net) == ["", "act.", "head.", "head.0.", "head.1.", "head.2."]
            assert net.theta.size == 2 * 4 + 4 + 4 * 2


def test_twins_and_copies_see_children_of_their_own():
    net = Net()
    for other in (net.twin(), copy.deepcopy(net)):
        assert other.fc is other.layers["fc"] is not net.fc and other.head[0] is not net.head[0]
        other.fc.training = False
        assert net.fc.training
    x = np.ones((2, 3), np.float32)
    twin, clone = net.twin(), copy.deepcopy(net)
    net.theta[...] = 0
    assert not twin(x).any() and clone(x).any() and twin.fc.is_twin and not clone.fc.is_twin


def test_a_copy_may_replace_a_child_of_its_own():
    net = Net()
    clone = copy.deepcopy(net)
    clone.fc = Linear(3, 2, bias=False)
    assert "bias" in net.fc.params and "fc.bias" in net.state_dict() and "fc.bias" not in clone.state_dict()


def test_attributes_that_are_not_there():
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'conv'"):
        Net().conv  # noqa: B018
    assert not hasattr(Net(), "conv")


# -- what would not become part of the network ---------------------------------------------------------------------


def test_a_layer_before_super_init_is_refused():
    class Early(Layer):
        def __init__(self):
            self.fc = Linear(3, 2)
            super().__init__()
    with pytest.raises(TypeError, match=r"Early: call super\(\).__init__\(\) before you assign layer 'fc'"):
        Early()


def test_a_parameter_before_super_init_is_refused():
    class Early(Layer):
        def __init__(self):
            self.add_parameter("scale", np.ones(3, np.float32))
    with pytest.raises(AttributeError, match=r"Early: call super\(\).__init__\(\) first"):
        Early()


@pytest.mark.parametrize("held", [
    lambda: [Linear(3, 2)], lambda: (Tanh(), Linear(3, 2)), lambda: {"a": Linear(3, 2)}, lambda: {Linear(3, 2)},
    lambda: [1, None, Tanh()], lambda: [[Linear(3, 2), Tanh()]], lambda: [("a", Linear(3, 2))],
    lambda: {"a": [Linear(3, 2)]}],
    ids=["list", "tuple", "dict", "set", "among others", "nested", "pairs", "in a dict"])
@pytest.mark.parametrize("name", ["blocks", "layers"])
def test_layers_in_lists_and_dicts_are_refused(held, name):
    class Stack(Layer):
        def __init__(self):
            super().__init__()
            setattr(self, name, held())
    words = f"'{name}', are not part of the network: put them into a Sequential, or call self.add_layer"
    with pytest.raises(TypeError, match=f"Stack: layers in a list or dict, as in {words}"):
        Stack()


def test_other_lists_and_dicts_are_no_ones_business():
    class Plain(Layer):
        def __init__(self):
            self.before = [1]
            super().__init__()
            self.sizes, self.words, self.kind, self.none = [1, 2], {"a": np.ones(2)}, Linear, ()
    assert Plain().sizes == [1, 2] and Plain().kind is Linear and Plain().before == [1]


@pytest.mark.parametrize("name", ["forward", "theta", "grad", "train"])
def test_a_name_that_every_layer_has_is_refused(name):
    """Else the child would be in the state dict but not be found under its name."""
    with pytest.raises((TypeError, ValueError, AttributeError, KeyError), match=name):
        setattr(Net(), name, Linear(2, 2))


# -- by name -------------------------------------------------------------------------------------------------------


def test_a_layer_belongs_to_one_network():
    layer = Linear(2, 2)
    Sequential(layer)
    with pytest.raises(ValueError, match=r"Sequential: layer '1' \(Linear\(2, 2\)\) already belongs to a network"):
        Sequential(Linear(2, 2), layer)
    with pytest.raises(ValueError, match="Linear belongs to a network: move the network instead"):
        layer.to(dtype="float64")
    with pytest.raises(ValueError, match="already belongs"):
        Sequential(shared := Tanh(), shared)
    with pytest.raises(ValueError, match=r"Net: layer 'act' .* already belongs to a network; give every network"):
        net = Net()
        net.act = layer
    with pytest.raises(ValueError, match=r"Sequential: layer '0' \(Linear\(2, 2\)\) is a twin, .* would copy them"):
        Sequential(layer.twin())
    with pytest.raises(ValueError, match="Net: add layer 'more' before a network takes this one in"):
        Sequential(inner := Net())
        inner.more = Tanh()


@pytest.mark.parametrize("second", [3, "one", "float64"])
def test_layers_are_taken_in_all_or_none(second):
    net, one = Sequential(Linear(2, 3)), Linear(3, 2)
    unfit = {"one": one, "float64": Linear(2, 2).to(dtype="float64")}.get(second, second)
    with pytest.raises((TypeError, ValueError)):
        net.add_layers({"1": one, "2": unfit})
    assert len(net) == 1 and net.theta.size == 9 and list(net.state_dict()) == ["0.weight", "0.bias"]
    net.add_layers({"1": one, "2": Tanh()})
    assert len(net) == 3 and net.theta.size == 17


def test_a_replacement_that_does_not_fit_changes_nothing():
    net = Net()
    fc, theta = net.fc, net.theta.copy()
    with pytest.raises(TypeError, match="Net: all parameters of a network must have one dtype and device; convert"):
        net.fc = Linear(3, 2).to(dtype="float64")
    assert net.fc is fc and np.array_equal(net.theta, theta)
    with pytest.raises(ValueError, match="already belongs"):
        Sequential(fc)


def test_only_layers():
    with pytest.raises(TypeError, match="Net: 'act' must be a Layer, not function"):
        Net().add_layer("act", lambda x: x)


def test_named_layers_begin_with_the_prefix_given():
    net = Net()
    assert named(net)[:2] == ["", "fc."]
    assert [prefix for prefix, _ in net.named_layers("g.")][:2] == ["g.", "g.fc."]
    assert [prefix for prefix, _ in net.head.named_layers()] == ["", "0.", "1.", "2."]
    assert named(net)[-1] == "head.2."


def test_a_child_of_a_layer_that_a_network_has_stays():
    class Block(Layer):
        def __init__(self):
            super().__init__()
            self.a, self.b = Linear(2, 2), Linear(2, 2)
    block = Block()
    net = Sequential(block)
    for change in (lambda: delattr(block, "b"), lambda: setattr(block, "b", None)):
        with pytest.raises(ValueError, match="Block: take 'b' out before a network takes this layer in"):
            change()
    net.theta[:] = 0
    assert not block.a.params["weight"].any() and net.theta.size == 12
