"""Where the time goes: every product, byte and second counted once, and nothing changed by being watched."""

from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image
from small_conditional import conditional_game
from torch_oracle import torch_module

from scratchgan import backend, plots, profiling, recipes
from scratchgan.cli import describing, main
from scratchgan.gan import Game, Latent, NonSaturating
from scratchgan.layers import (
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Layer,
    LeakyReLU,
    Linear,
    Maxout,
    Sequential,
    Tanh,
    spectral_norm,
)
from scratchgan.optimizers import SGD, Adam


def small_game(device="cpu"):
    G = Sequential(Linear(4, 8), LeakyReLU(0.1), Linear(8, 9), Tanh()).initialize(0, "generator").to(device)
    D = Sequential(Maxout(9, 5, 2), Dropout(0.2), Linear(5, 1)).initialize(0, "discriminator").to(device)
    return Game(G, D, NonSaturating(), Adam(G), SGD(D), latent=Latent(4), sample_shape=(1, 3, 3))


def small_images(n=6):
    return np.random.default_rng(0).uniform(-1, 1, (n, 1, 3, 3)).astype(np.float32)


def watch(thing, around):
    return profiling.watched({"it": thing}, around)


# -- products ------------------------------------------------------------------------------------------------------

LAYERS = {
    "Linear": (lambda: Linear(3, 5), (7, 2, 3), 2 * 14 * 3 * 5),
    "Conv2d": (lambda: Conv2d(4, 6, (3, 2), 2, 1), (5, 4, 7, 8), 2 * 5 * 6 * 4 * 5 * 4 * 6),
    "Conv2d, no batch": (lambda: Conv2d(3, 2, 4, 2, 1), (3, 8, 8), 2 * 2 * 4 * 4 * 3 * 16),
    "Conv2d, groups": (lambda: Conv2d(4, 6, 3, groups=2), (5, 4, 7, 8), 2 * 5 * 6 * 5 * 6 * 2 * 9),
    "ConvTranspose2d": (lambda: ConvTranspose2d(10, 6, 4, 2, 1), (3, 10, 5, 4), 2 * 3 * 10 * 20 * 6 * 16),
    "ConvTranspose2d, groups": (lambda: ConvTranspose2d(10, 6, 4, groups=2), (3, 10, 5, 4), 2 * 3 * 10 * 20 * 3 * 16),
}


@pytest.mark.parametrize("name", LAYERS)
def test_products_of_known_layers(name):
    make, shape, expected = LAYERS[name]
    layer = make()
    assert profiling.products(layer, shape, layer(np.zeros(shape, np.float32)).shape) == expected


@pytest.mark.parametrize("name", [name for name in LAYERS if "groups" not in name])  # whose dW it counts twice
def test_products_as_torch_counts_them(name):
    torch = torch_module()
    from torch.utils.flop_counter import FlopCounterMode
    make, shape, forward = LAYERS[name]
    layer = make()
    kind = getattr(torch.nn, name.partition(",")[0])
    if isinstance(layer, Linear):
        theirs = kind(3, 5)
    else:
        g = layer.geometry
        theirs = kind(layer.in_channels, layer.out_channels, g.kernel, g.stride, g.padding[0][0])
    x = torch.zeros(shape, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        theirs(x).sum().backward()
    assert counter.get_total_flops() == 3 * forward


def test_products_of_a_normalised_weight():
    layer, counts = spectral_norm(Conv2d(3, 2, 4, 2, 1)), profiling.Survey()
    with watch(layer, counts.around):
        layer.backward(layer(np.ones((5, 3, 8, 8), np.float32)))
    forward = LAYERS["Conv2d, no batch"][2] * 5
    assert counts.flop == {("it", "forward"): forward, ("it", "backward"): 2 * forward}


def test_layers_without_a_product_have_none():
    assert profiling.products(Tanh(), (4, 5), (4, 5)) == 0


@pytest.mark.parametrize("wrt, times", [("all", 2), ("input", 1), ("params", 1)])
def test_backward_counts_the_products_it_is_asked_for(wrt, times):
    layer, counts = Linear(3, 5), profiling.Survey()
    with watch(layer, counts.around):
        layer(np.ones((2, 3), np.float32))
        layer.backward(np.ones((2, 5), np.float32), wrt)
        layer(np.ones((2, 3), np.float32))
        layer.backward(np.ones((2, 5), np.float32), wrt=wrt)
    assert counts.flop == {("it", "forward"): 2 * 60, ("it", "backward"): 2 * times * 60}


def test_products_of_a_step_of_mlp():
    """D's step: G and D of 2n forward, D's gradients but no dx of its first layer. G's: D forward and back, G back."""
    g, d, n = (64 * 256, 256 * 512, 512 * 784), (784 * 256, 256 * 128, 128), 3
    expected = sum(g) + 2 * sum(d) + 2 * sum(d) + 2 * sum(d[1:]) + sum(d) + sum(d) + sum(g) + sum(g[1:])
    images = np.zeros((n, 1, 28, 28), np.float32)
    assert profiling.step_flop(recipes.get("mlp").build(seed=0), images) == 2 * n * expected


# -- bytes ---------------------------------------------------------------------------------------------------------


def test_bytes_kept_count_once_each(device):
    network = Sequential(Linear(4, 8), LeakyReLU(), Linear(8, 3), Tanh(), Dropout(0.5)).to(device)
    counts = profiling.Survey()
    x = backend.to_device(np.ones((5, 4), np.float32), device)
    with profiling.watched(dict(network.named_layers()), counts.around):
        network(x)
        network(x[:2])  # the larger pass counts
    # LeakyReLU keeps its y, which the next Linear keeps too: it counts for one of them.
    assert counts.kept == {"": 0, "0.": 5 * 4 * 4, "1.": 5 * 8 * 4, "2.": 0, "3.": 5 * 3 * 4, "4.": 5 * 3 * 4}


def test_bytes_in_objects_count_and_parameters_do_not():
    @dataclass
    class Kept:
        a: np.ndarray
        inner: dict

    class Keeping(Layer):
        def __init__(self):
            super().__init__()
            self.add_parameter("weight", np.ones((3, 4), np.float32))

        def forward(self, x):
            a = np.zeros(10)
            kept = Kept(a, {"weight": self.params["weight"].T, "same": a.reshape(2, 5), "b": np.zeros(3, np.int8)})
            kept.inner["itself"] = kept
            return self.keep(x, kept, self, np.float32(1), "x.shape", np.zeros((0, 3)))

    layer, counts = Keeping(), profiling.Survey()
    with watch(layer, counts.around):
        layer(np.zeros(7))
    assert counts.kept == {"it": 83}


# -- watching ------------------------------------------------------------------------------------------------------


def test_a_step_is_the_same_when_watched(device):
    games = [small_game(device) for _ in range(2)]
    things = profiling.things_of(games[0])
    kinds = [type(thing) for thing in things.values()]
    for _ in range(3):
        profiling.survey(games[0], small_images())
        games[1].step(small_images())
    for name in games[0].networks:
        mine, other = (game.networks[name].state_dict() for game in games)
        assert mine.keys() == other.keys() and all((mine[key] == other[key]).all() for key in mine)
    assert [type(thing) for thing in things.values()] == kinds


def test_classes_come_back_after_an_error():
    game = small_game()
    with pytest.raises(ValueError, match="expected a batch of shape"):
        profiling.survey(game, np.zeros((2, 5), np.float32))
    assert type(game.generator) is Sequential and type(game.optimizer_d) is SGD


def test_a_twin_made_meanwhile_computes_for_itself_and_counts():
    layer, counts = Linear(3, 5), profiling.Survey()
    with watch(layer, counts.around):
        layer(np.ones((2, 3), np.float32))
        layer.twin()(np.ones((4, 3), np.float32))
    assert len(layer.kept(np.zeros((2, 5), np.float32))) == 2 and counts.flop["it", "forward"] == 2 * (2 + 4) * 15


def test_time_inside_what_is_watched_is_taken_off(monkeypatch):
    class Slow(Layer):
        def forward(self, x):
            now[0] += 5
            return x

    class Outer(Slow):
        def __init__(self):
            super().__init__()
            self.add_layer("inner", Slow())

        def forward(self, x):
            now[0] += 1
            y = self.layers["inner"](super().forward(self.layers["inner"](x)))
            now[0] += 2
            return y

    now, outer = [0.0], Outer()
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: now[0])
    clock = profiling.Clock(lambda: None)
    with profiling.watched(dict(outer.named_layers()), clock.around):
        outer(3)
        outer(3)
    assert clock.seconds == {("", "forward"): 2 * (1 + 5 + 2), ("inner.", "forward"): 2 * 10}


def test_profile_adds_up(device):
    game = small_game(device)
    result = profiling.profile(game, small_images(), steps=4)
    assert game.steps == 1 + 2 + 4 + 4 and result.steps == 4 and result.unwatched > 0
    assert [(part.owner, part.name) for part in result.parts] == [
        ("generator", "0 Linear(4, 8)"), ("generator", "1 LeakyReLU(negative_slope=0.1)"),
        ("generator", "2 Linear(8, 9)"), ("generator", "3 Tanh()"), ("generator", "update, Adam"),
        ("discriminator", "0 Maxout(9, 5, 2)"),
        ("discriminator", "0.linear Linear(9, 10)"), ("discriminator", "1 Dropout(p=0.2)"),
        ("discriminator", "2 Linear(5, 1)"), ("discriminator", "update, SGD")]
    assert all(seconds > 0 for part in result.parts for seconds in part.seconds.values())
    assert all(set(part.seconds) == ({"step"} if "update" in part.name else {"forward", "backward"})
               for part in result.parts)
    assert result.rest > 0
    assert sum(part.total for part in result.parts) + result.rest == pytest.approx(result.seconds)


def test_the_faster_half_is_reported(monkeypatch):
    """The first two of the measured steps take 2 s in one layer, the others 1 s."""
    game = small_game()
    now, slow, plain = [0.0], {4 + 4, 4 + 5}, Tanh.forward
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: now[0])

    def forward(self, x):
        now[0] += 2 if game.steps + 1 in slow else 1
        return plain(self, x)
    monkeypatch.setattr(Tanh, "forward", forward)
    result = profiling.profile(game, small_images(), steps=4)
    assert result.seconds == result.unwatched == 1 and result.rest == 0
    assert {part.name: part.total for part in result.parts if part.total} == {"3 Tanh()": 1}


# -- what is shown -------------------------------------------------------------------------------------------------


def made_up():
    part = profiling.Part
    return profiling.Profile([
        part("G", "0 " + "x" * 50, {"forward": 1e-3, "backward": 2e-3}, {"forward": 4e6, "backward": 4e6}, 3 * 2**20),
        part("G", "update, Adam", {"step": 2e-3}, {}),
        part("D", "0 Tanh()", {"forward": 4e-3}, {}, 2**19)], 0.010, 0.009, 7)


def test_names_are_shortened():
    layer = ConvTranspose2d(128, 64, 4, 2, 1, bias=False)
    assert profiling.short(repr(layer)) == "ConvTranspose2d(128, 64, 4, s=2, p=1)"


def test_table():
    lines = [line.split() for line in profiling.table(made_up()).splitlines()]
    assert lines[2:] == [
        ["G", "5.000", "50.0%", "0.0080", "3.00"],
        ["0", "x" * 39 + "...", "1.000", "4.0", "2.000", "2.0", "3.000", "30.0%", "0.0080", "3.00"],
        ["update,", "Adam", "2.000", "20.0%"],
        ["D", "4.000", "40.0%", "0.50"],
        ["0", "Tanh()", "4.000", "4.000", "40.0%", "0.50"],
        ["the", "rest", "1.000", "10.0%"],
        ["a", "step,", "in", "all", "10.000", "100.0%", "0.0080", "3.50"]]
    assert len({len(line) for line in profiling.table(made_up()).splitlines()[1:4]}) == 1


def test_bars():
    axes, = plots.bars(made_up(), "a title").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "G", "0 " + "x" * 39 + "...", "update, Adam", "D", "0 Tanh()", "the rest"]
    ends = [max(bar.get_x() + bar.get_width() for bar in axes.patches if round(bar.get_y() + 0.375) == y)
            for y in range(6)]
    np.testing.assert_allclose(ends, [0, 3, 2, 0, 4, 1], atol=1e-12)
    assert [text.get_text().strip() for text in axes.texts] == ["30.0%", "20.0%", "40.0%", "10.0%"]


@pytest.mark.usefixtures("alone")
def test_the_command(capsys, tmp_path):
    arguments = ["profile", "mlp", "--device", "cpu", "--threads", "1", "--steps", "2", "--batch-size", "4"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mlp, 4 images 1x28x28 a step, device cpu, BLAS with 1 thread"
    assert "faster half of 2 steps" in lines[1] and lines[-1] == "wrote profile-mlp.png"
    assert any(line.split()[:3] == ["4", "Linear(512,", "784)"] for line in lines)
    with Image.open("profile-mlp.png") as image:
        assert image.format == "PNG" and image.width == 1080
    assert main([*arguments, "--out", "a.svg"]) == 0 and main([*arguments, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "work/a.svg").read_bytes().startswith(b"<?xml") and (tmp_path / "profile-mlp.png").exists()
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["a.svg", "profile-mlp.png"]


def test_a_conditional_game_is_given_labels():
    game = conditional_game()
    batch = profiling.random_examples(game, 4)
    result = profiling.profile(game, batch, steps=5)
    assert {part.owner for part in result.parts} == {"generator", "discriminator"} and result.seconds > 0
    assert list(profiling.labels_for(game, batch)) == [0, 1, 2, 0]
    assert describing.shapes_of(game)["generator", "input"] == (2,)
