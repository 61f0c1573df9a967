"""`scratchgan export`: onnxruntime makes the same images. Skipped, and said, where it is not installed."""

import copy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from small_conditional import conditional_game

import scratchgan
from scratchgan import layers, training
from scratchgan.cli import main
from scratchgan.errors import UserError
from scratchgan.export import CONTAINERS, NODES, onnx_model, save_onnx
from scratchgan.gan import Game, Latent, NonSaturating
from scratchgan.initializers import uniform
from scratchgan.layers import (
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Embedding,
    Flatten,
    InstanceNorm2d,
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
    Unflatten,
    Upsample,
    spectral_norm,
)
from scratchgan.optimizers import SGD
from scratchgan.system import System

pytestmark = pytest.mark.usefixtures("alone")

Z = 12
RUN = ["train", "--data", "digits", "--device", "cpu", "--threads", "1", "--quiet"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main([*RUN, "--steps", "4", "--checkpoint-every", "2", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run(trained):
    """A run of `mlp` of 4 steps, as runs/mlp in the folder we are in."""
    shutil.copytree(trained, "runs/mlp")


def onnxruntime():
    pytest.importorskip("onnx", reason="onnx, which writes the files, is not installed")
    return pytest.importorskip("onnxruntime", reason="onnxruntime, which reads them, is not installed")


def game_of(*layers_of_g, seed=0):
    """A game whose generator these layers are, on noise (N, Z)."""
    G = Sequential(*copy.deepcopy(layers_of_g)).initialize(seed)
    shape = G.twin().eval().forward(np.zeros((2, Z), np.float32)).shape[1:]
    shape = (1,) * (3 - len(shape)) + shape
    D = Sequential(Reshape(-1), Linear(int(np.prod(shape)), 1))
    return practised(Game(G, D, NonSaturating(), SGD(G, 0.1), SGD(D, 0.1), latent=Latent(Z), sample_shape=shape,
                          value_range=None))


def practised(system, passes=20):
    """The game after some training passes of its generator, from which running statistics come."""
    for step in range(passes):
        system.generator.forward(system.latent.as_input(system.latent.draw(8, 0, "practice", step)))
    system.generator.to()  # forgets the caches
    return system


def assert_same_images(system, model, sizes=(1, 5)):
    """Images of the file, a path or its bytes, against the game's."""
    session = onnxruntime().InferenceSession(model, providers=["CPUExecutionProvider"])
    inputs, (images,) = session.get_inputs(), session.get_outputs()
    assert [(at.name, at.shape, at.type) for at in inputs] == [
        ("z", ["N", system.latent.z_dim], "tensor(float)"), *[("labels", ["N"], "tensor(int64)")][:system.classes]]
    assert (images.name, images.shape) == ("images", ["N", *system.sample_shape])
    for n in sizes:
        noise = np.random.default_rng(n).standard_normal((n, system.latent.z_dim)).astype(np.float32)
        labels = np.random.default_rng(n + 1).integers(system.classes, size=n) if system.classes else None
        expected = system.generate(noise.astype(system.sampler.dtype), labels)
        (made,) = session.run(["images"], {"z": noise} if labels is None else {"z": noise, "labels": labels})
        assert made.shape == expected.shape and made.dtype == np.float32
        assert not n or np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(made, expected, rtol=0, atol=1e-5)


def image(channels, *more):
    return Reshape(channels, 12 // channels // 2, 2), *more


NETWORKS = {
    "Linear": [Linear(Z, 6), Linear(6, 4, bias=False)],
    "Linear of a sequence": [Reshape(3, 4), Linear(4, 5), Linear(5, 2, bias=False)],
    "Maxout": [Maxout(Z, 5, 3), Reshape(5, 1), Maxout(1, 2, 2)],
    "LeakyReLU": [LeakyReLU(0.2), LeakyReLU(-0.5), ReLU()],
    "Tanh": [Tanh(), Sigmoid()],
    "Softplus": [Softplus(), Softplus(2.0, 1.0), Softplus(0.5)],
    "Flatten": [Unflatten(1, (3, -1)), Flatten(1, 2), Reshape(2, 6), Flatten()],
    "Dropout": [Dropout(0.4), Tanh(), Dropout()],
    "nothing": [Dropout(0.4)],
    "Sequential": [Linear(Z, 4), Sequential(Tanh(), Sequential(Linear(4, 3))), Sequential()],
    "Conv2d": [*image(2), Conv2d(2, 3, 3, padding=1), Conv2d(3, 4, (1, 2), (2, 1), (2, 1), bias=False),
               Conv2d(4, 2, 2, padding="same", dilation=3, groups=2)],
    "ConvTranspose2d": [Reshape(Z, 1, 1), ConvTranspose2d(Z, 4, 3, bias=False), ConvTranspose2d(4, 3, 4, 2, 1),
                        ConvTranspose2d(3, 6, (2, 3), (2, 3), 1, (1, 2), 3, True, 2)],
    "BatchNorm": [BatchNorm1d(Z, weight_init=uniform(0.5, 1.5), bias_init=uniform(-1, 1)), Reshape(3, 4),
                  BatchNorm1d(3, 1e-2, affine=False), *image(2), BatchNorm2d(2, momentum=None), Tanh()],
    "AvgPool2d": [*image(1), AvgPool2d((2, 1)), Upsample((7, 8)), AvgPool2d(3, 2, 1), Upsample((7, 6)),
                  AvgPool2d(3, 2, 1, True), Upsample((6, 7)), AvgPool2d(3, 2, 1, True, False), Upsample((5, 4)),
                  AvgPool2d(2, 1, 1, divisor_override=3), Upsample((5, 5)), AvgPool2d(2, 2, 0)],
    "MaxPool2d": [*image(1), MaxPool2d((2, 1)), Upsample((7, 8)), MaxPool2d(3, 2, 1), Upsample((7, 6)),
                  MaxPool2d(3, 2, 1, ceil_mode=True), Upsample((9, 8)), MaxPool2d(2, 2, 1, 2, ceil_mode=True),
                  MaxPool2d(2, 1, 1)],
    "Upsample": [*image(2), Upsample(scale_factor=2), Upsample(scale_factor=(1.7, 3)), Upsample((4, 31))],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_layers_give_the_same(name):
    onnxruntime()
    system = game_of(*NETWORKS[name])
    assert_same_images(system, onnx_model(system).SerializeToString())


@pytest.mark.parametrize("network", [
    image(2, BatchNorm2d(2, 0.5)), image(2, InstanceNorm2d(2)), image(3, InstanceNorm2d(3, 0.1, affine=True)),
    image(2, InstanceNorm2d(2, affine=True, track_running_stats=True)), (LayerNorm(Z), LayerNorm(Z, 0.1, bias=False)),
    image(2, LayerNorm((3, 2)), LayerNorm(2, 0.1, elementwise_affine=False)),
    (spectral_norm(Linear(Z, 12)), *image(3, spectral_norm(Conv2d(3, 2, 1)), spectral_norm(ConvTranspose2d(2, 3, 2))))],
    ids=repr)
def test_onnx_normalisation_gives_the_same(network, rng):
    onnxruntime()
    system = game_of(*copy.deepcopy(network))
    system.generator.theta[...] += rng.uniform(-0.3, 0.3, system.generator.theta.shape)
    for _, layer in system.generator.named_layers():
        for name in {"running_mean", "running_var"} & set(layer.buffers):
            layer.buffers[name][...] = rng.uniform(0.5, 2, layer.num_features)
    assert_same_images(system, onnx_model(system).SerializeToString())


def test_onnx_is_known_for_every_layer():
    every = {name for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    discriminators = {"AutoencoderEnergy"}
    assert every - {"Layer"} - discriminators <= {*NODES, *CONTAINERS}


def test_onnx_of_a_trained_run(run, capsys):
    onnx = onnxruntime() and sys.modules["onnx"]
    assert main(["export", "runs/mlp", "--format", "onnx"]) == 0
    assert capsys.readouterr().out == ("wrote the generator of step 4, z (N, 64) to images (N, 1, 28, 28), to "
                                       "runs/mlp/generator.onnx\n")
    system = scratchgan.load("runs/mlp")
    assert_same_images(system, "runs/mlp/generator.onnx", (1, 100))
    model = onnx.load("runs/mlp/generator.onnx")
    onnx.checker.check_model(model, full_check=True)
    weights = {array.name: onnx.numpy_helper.to_array(array) for array in model.graph.initializer}
    for key, value in system.generator.state_dict().items():
        np.testing.assert_array_equal(weights[key], value)
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told["recipe"] == "mlp" and told["step"] == "4" and '"z_dim": 64' in told["settings"]
    assert model.producer_name == "scratchgan" and model.producer_version == scratchgan.__version__


def test_onnx_of_a_checkpoint_takes_the_place_of_an_older_file(run, capsys):
    onnxruntime()
    for checkpoint, step in (("", 4), ("/checkpoints/step-00000002", 2)):
        assert main(["export", f"runs/mlp{checkpoint}", "--out", "g.onnx"]) == 0
        assert f"of step {step}," in capsys.readouterr().out
    assert_same_images(training.load("runs/mlp/checkpoints/step-00000002"), "g.onnx")
    assert sorted(path.name for path in Path().iterdir()) == ["g.onnx", "runs"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_onnx_leaves_the_game_as_it_is(dtype):
    onnxruntime()
    system = game_of(Linear(Z, 8), Dropout(0.5), Linear(8, 3), Tanh())
    system.generator.to(dtype=dtype)
    theta, kept = system.generator.theta.copy(), [layer._kept for _, layer in system.generator.named_layers()]
    model = onnx_model(system).SerializeToString()
    assert np.array_equal(system.generator.theta, theta) and system.generator.dtype == dtype
    assert all(layer.training and layer._kept is before
               for (_, layer), before in zip(system.generator.named_layers(), kept))
    assert_same_images(system, model)


class Twice(Tanh):
    """A layer of the user's own."""

    def forward(self, x):
        return 2 * super().forward(x)


class Hidden(Sequential):
    def __init__(self, n):
        super().__init__(Linear(Z, n), LeakyReLU(0.3))


class Deeper(Hidden):
    def __init__(self):
        super().__init__(5)


class Half(Linear):
    """Half as many out, and more methods that have nothing to do with the pass."""

    def __init__(self, n):
        super().__init__(n, n // 2)
        self.note = "mine"

    def norm(self):
        return float(np.abs(self.params["weight"]).sum())


DERIVED = {
    "Sequential": [Deeper(), Linear(5, 3)], "Linear": [Half(Z), Tanh()], "twice": [type("Half", (Half,), {})(Z)],
    "ReLU": [Linear(Z, 8), type("Mine", (ReLU,), {})()], "Tanh named Linear": [type("Linear", (Tanh,), {})()],
    "BatchNorm1d": [type("Norm", (BatchNorm1d,), {"__init__": lambda self: BatchNorm1d.__init__(self, Z, 1e-3)})()],
    "Reshape": [type("Square", (Reshape,), {"__init__": lambda self: Reshape.__init__(self, 3, 2, 2)})()],
    "spectral": [spectral_norm(Half(Z))],
    "backward": [type("Straight", (Tanh,), {"backward": lambda self, dy, wrt="all": dy})()]}


@pytest.mark.parametrize("name", DERIVED)
def test_onnx_of_classes_that_keep_the_forward_pass(name):
    onnxruntime()
    system = game_of(*DERIVED[name])
    assert_same_images(system, onnx_model(system).SerializeToString())


def test_onnx_of_a_generator_that_is_a_class_of_its_own(tmp_path):
    onnxruntime()

    class Generator(Sequential):
        def __init__(self):
            super().__init__(Linear(4, 9), Tanh(), Reshape(1, 3, 3))
    G, D = Generator().initialize(0), Sequential(Reshape(9), Linear(9, 1))
    game = Game(G, D, NonSaturating(), SGD(G, 0.1), SGD(D, 0.1), latent=Latent(4), sample_shape=(1, 3, 3))
    save_onnx(game, tmp_path / "g.onnx")
    assert_same_images(game, str(tmp_path / "g.onnx"))


def test_onnx_of_a_layer_of_ones_own_is_refused():
    onnxruntime()
    named = type("Linear", (Twice,), {})  # by a name of ours
    again = type("Again", (named,), {"__init__": lambda self: named.__init__(self)})
    patched = Tanh()
    patched.forward = lambda x: x
    for layer, words in ((Twice(), r"The layer 1\.0, Twice\(\), cannot be written as ONNX, .* possible for Linear, "),
                         (named(), r"The layer 1\.0, Linear\(\), cannot"),
                         (again(), r"The layer 1\.0, Again\(\), cannot"),
                         (patched, r"The layer 1\.0, Tanh\(\), cannot"),
                         (Unflatten(0, (-1, 2)), r"The layer 1\.0, .* changes the number of samples")):
        with pytest.raises(UserError, match=words):
            onnx_model(game_of(Tanh(), Sequential(layer)))


@pytest.mark.parametrize("arguments", [
    (4, 3, 2, 1, 0, 1, 1, True, 2), (4, 3, 2, 1, 1, 1, 1, True, 3), (4, 3, 3, 1, 2, 2, 1, False, 3),
    (4, 3, 1, 1, 0, 2, 1, True, 3), (4, 6, (2, 3), (1, 2), (0, 1), (2, 1), 2, True, (3, 2)),
    (4, 2, 2, 2, 0, 3, 1, True, 4), (4, 2, 2, 2, 0, 3, 1, False, 4), (4, 2, 3, 3, 1, 2, 1, True, 1)], ids=str)
def test_output_padding_of_every_size(arguments):
    """Below the stride, as ONNX has it, and not, within the padding and beyond it."""
    onnxruntime()
    system = game_of(Linear(Z, 36), Reshape(4, 3, 3), ConvTranspose2d(*arguments, bias_init=uniform(1, 2)))
    assert_same_images(system, onnx_model(system).SerializeToString())


@pytest.mark.parametrize("value_range", [(-1, 1), (0, 1), None])
def test_onnx_gives_values_in_the_range(value_range):
    onnxruntime()
    system = game_of(Linear(Z, 8, weight_init=uniform(-2, 2)))
    system.value_range = value_range
    made = system.sample(50)
    assert (made.min() < -1.5) == (value_range is None)
    assert_same_images(system, onnx_model(system).SerializeToString())


def test_onnx_gives_points_in_the_coordinates_of_the_data():
    onnxruntime()
    system = scratchgan.recipes.get("grid25").build()
    assert system.scale == 4
    assert_same_images(system, onnx_model(system).SerializeToString())


def test_onnx_is_of_the_network_that_makes_the_samples():
    """Of the moving average of the generator, where there is one."""
    onnxruntime()

    class Averaged(Game):
        sampler = None
    system = game_of(Linear(Z, 8))
    system.__class__ = Averaged
    Averaged.sampler = Sequential(Linear(Z, 8)).initialize(5)
    model = onnx_model(system)
    weights = {array.name: sys.modules["onnx"].numpy_helper.to_array(array) for array in model.graph.initializer}
    assert np.array_equal(weights["0.weight"], Averaged.sampler.state_dict()["0.weight"])


def test_onnx_needs_a_system_with_a_generator():
    onnxruntime()
    with pytest.raises(UserError, match="System makes no samples of noise: there is no network to export"):
        onnx_model(System())
    with pytest.raises(TypeError, match="expected a System, such as a Game, got Sequential"):
        onnx_model(Sequential(Linear(2, 3)))


def test_without_onnx_one_sentence_says_what_to_install(run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", "runs/mlp"]) == 2
    assert capsys.readouterr().err == ('scratchgan: error: Writing ONNX needs the package onnx, which is not installed '
                                       'here: pip install "scratchgan[onnx]".\n')
    assert not list(Path("runs/mlp").glob("*onnx*"))


def test_half_a_file_is_never_there(monkeypatch, tmp_path):
    onnxruntime()
    system = game_of(Linear(Z, 4))
    Path("g.onnx").write_bytes(b"older")

    def full(descriptor):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"Cannot write the model to g\.onnx: No space left on device; free some space"):
        save_onnx(system, "g.onnx")
    assert Path("g.onnx").read_bytes() == b"older" and [path.name for path in Path().iterdir()] == ["g.onnx"]


@pytest.mark.parametrize("arguments, words", [
    (["nonesuch"], "There is no run in nonesuch"),
    (["runs/mlp", "--format", "torch"], "invalid choice: 'torch' (choose from"),
    (["runs/mlp", "--out", "g.png"], "--out must be a file that ends in .onnx, not 'g.png'"),
    (["runs/mlp", "--out", "folder.onnx"], "--out must be a file that ends in .onnx, not 'folder.onnx'"),
    (["runs/mlp", "--out", "no/g.onnx"], "there is no folder no to write g.onnx to"),
    (["runs/mlp", "--out", ""], "--out must be a path")])
def test_bad_input(arguments, words, run, capsys):
    Path("folder.onnx").mkdir()
    assert main(["export", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert sorted(path.name for path in Path().iterdir()) == ["folder.onnx", "runs"]


@pytest.mark.parametrize("name", ["dcgan28", "dcgan64"])
@pytest.mark.parametrize("channels", [1, 3])
def test_onnx_of_dcgan(name, channels):
    onnxruntime()
    system = practised(scratchgan.recipes.get(name).build(seed=1, channels=channels), 10)
    assert_same_images(system, onnx_model(system).SerializeToString(), (3,))


def test_onnx_of_a_vae_is_its_decoder_under_that_name(capsys):
    onnxruntime()
    assert main(["train", "vae", *RUN[1:], "--steps", "2", "--out", "vae", "--widths", "5"]) == 0
    assert main(["export", "vae"]) == 0
    assert capsys.readouterr().out.startswith("wrote the decoder of step 2, z (N, 20) to images (N, 1, 28, 28), to vae")
    assert_same_images(scratchgan.load("vae"), "vae/decoder.onnx", (3,))


def test_onnx_has_no_statistics_of_a_batch():
    onnxruntime()
    system = game_of(BatchNorm1d(Z, track_running_stats=False))
    with pytest.raises(UserError, match=r"The layer 0, BatchNorm1d\(.*\), takes its statistics over the batch"):
        onnx_model(system)


def test_onnx_of_a_generator_that_takes_labels():
    onnxruntime()
    system = conditional_game()
    model = onnx_model(system)
    assert ("classes", "3") in [(entry.key, entry.value) for entry in model.metadata_props]
    assert_same_images(system, model.SerializeToString(), (0, 1, 9))


def test_onnx_of_labels_as_maps_beside_images():
    onnxruntime()
    G, D = Sequential(Concat(Sequential(Linear(2, 4), Reshape(1, 2, 2)), Sequential(Embedding(3, 4), Reshape(1, 2, 2))),
                      Sequential(Conv2d(2, 1, 1))).initialize(0), conditional_game().discriminator
    system = Game(G, D, NonSaturating(), SGD(G, 0.1), SGD(D, 0.1), latent=Latent(2), sample_shape=(1, 2, 2), classes=3)
    assert_same_images(system, onnx_model(system).SerializeToString(), (1, 9))


def test_onnx_of_a_run_of_cgan(capsys):
    onnxruntime()
    assert main(["train", "cgan", *RUN[1:], "--steps", "2", "--out", "cgan", "--widths-g", "5", "--widths-d", "4"]) == 0
    assert main(["export", "cgan"]) == 0
    assert capsys.readouterr().out == ("wrote the generator of step 2, z (N, 100) and labels (N,) to images "
                                       "(N, 1, 28, 28), to cgan/generator.onnx\n")
    assert_same_images(scratchgan.load("cgan"), "cgan/generator.onnx", (1, 30))


def test_onnx_of_a_generator_that_has_grown():
    onnxruntime()
    system = scratchgan.recipes.get("progressive").build(z_dim=3, widths=(4, 3, 2), decay_steps=30)
    for step in (0, 22):
        system.draw_from(step)
        with pytest.raises(UserError, match="The generator still grows: it can be written as ONNX once"):
            onnx_model(system)
    system.draw_from(29)
    assert_same_images(system, onnx_model(system).SerializeToString(), (1, 3))
