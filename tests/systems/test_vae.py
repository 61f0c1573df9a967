"""The VAE: its step against PyTorch and the complex step, its pictures, runs of its recipe."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from torch_oracle import assert_close, torch_module

import scratchgan
from scratchgan import backend, data, gradcheck, recipes, training
from scratchgan.cli import main
from scratchgan.errors import UserError
from scratchgan.gan import Latent
from scratchgan.layers import Conv2d, ConvTranspose2d, Flatten, Linear, ReLU, Sequential, Tanh
from scratchgan.optimizers import Adam
from scratchgan.systems import VAE

TINY = {"z_dim": 3, "widths": (5,)}


def build(device="cpu", dtype="float32", **settings):
    vae = recipes.get("vae").build(seed=3, device=device, **{**TINY, **settings})
    for network in vae.networks.values():
        network.to(dtype=dtype)
    return vae


def digits(n, channels=1):
    return data.load("digits", size=28, channels=channels).images[:n] / np.float32(255)


def convolutional(device="cpu"):
    """On 2x4x4 images, z as (3, 1, 1)."""
    encoder = Sequential(Conv2d(2, 3, 2, 2), Tanh(), Flatten(), Linear(12, 6)).initialize(0, "encoder").to(device)
    decoder = Sequential(ConvTranspose2d(3, 4, 2), ReLU(), ConvTranspose2d(4, 2, 2, 2)).initialize(0, "d").to(device)
    return VAE(encoder, decoder, Adam(encoder), Adam(decoder), latent=Latent(3, z_shape=(3, 1, 1)),
               sample_shape=(2, 4, 4))


# -- a step -------------------------------------------------------------------------------------------------------


def test_published_settings():
    recipe = recipes.get("vae")
    vae = recipe.build()
    assert recipe.batch_size == 128 and recipe.epochs == 20 and vae.value_range == recipe.value_range == (0, 1)
    assert recipe.default_steps(469) == 20 * 469  # on MNIST it is not made longer
    for network, shapes in zip(vae.networks.values(), ([(400, 784), (40, 400)], [(400, 20), (784, 400)]), strict=True):
        state = network.state_dict()
        assert [value.shape for key, value in state.items() if key.endswith("weight")] == shapes
    for optimizer in vae.optimizers.values():
        assert optimizer.lr == 1e-3 and optimizer.betas == (0.9, 0.999)


def test_loss_and_gradients_of_torch():
    torch, vae = torch_module(), build(dtype="float64", z_dim=6, widths=(9,))
    nn, x = torch.nn, digits(8).astype(np.float64)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 9), nn.ReLU(), nn.Linear(9, 12)).double()
    decoder = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 784), nn.Unflatten(1, (1, 28, 28))).double()
    for ours, theirs in ((vae.encoder, encoder), (vae.decoder, decoder)):
        theirs.load_state_dict({key: torch.from_numpy(value) for key, value in ours.state_dict().items()}, strict=True)
    eps, t = torch.tensor(vae.latent.draw(8, vae.seed, "noise", vae.steps, dtype="float64")), torch.tensor(x)
    normal = torch.distributions.Normal
    mu, logvar = encoder(t).chunk(2, dim=1)
    logits = decoder(mu + torch.exp(logvar / 2) * eps)
    reconstruction = nn.functional.binary_cross_entropy_with_logits(logits, t, reduction="sum") / 8
    prior = normal(torch.zeros_like(mu), torch.ones_like(mu))
    kl = torch.distributions.kl_divergence(normal(mu, torch.exp(logvar / 2)), prior).sum() / 8
    (reconstruction + kl).backward()

    metrics = vae.gradient(x)
    for name, value in {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}.items():
        assert_close(metrics[name], value, 1e-9, name)
    for network, theirs in ((vae.encoder, encoder), (vae.decoder, decoder)):
        grads = {f"{prefix}{name}": grad for prefix, sub in network.named_layers() for name, grad in sub.grads.items()}
        for key, parameter in theirs.named_parameters():
            assert_close(grads[key], parameter.grad, 1e-9, key)


def test_gradients_by_complex_step(device):
    images = np.random.default_rng(0).uniform(0, 1, (3, 2, 4, 4)).astype(np.float32)
    vae = convolutional(device)
    theta = vae.encoder.theta.copy()
    report = gradcheck.check_system(vae, images, directions=2, entries=8).raise_if_failed()
    assert report.worst("complex step") <= 1e-12 and vae.steps == 0 and bool((vae.encoder.theta == theta).all())
    tensors = {row.tensor for row in report.rows if row.check == "complex step"}
    assert {"encoder.0.weight", "encoder.3.bias", "decoder.0.weight", "decoder.2.bias"} <= tensors


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_a_wrong_gradient_is_named(name):
    class Wrong(VAE):
        def gradient(self, batch, labels=None):
            metrics = super().gradient(batch, labels)
            self.networks[name].grad[...] *= 1.00001
            return metrics
    vae = build()
    vae.__class__ = Wrong
    report = gradcheck.check_system(vae, digits(2), directions=1, entries=2)
    assert report.wrong and all(tensor.startswith(f"{name}.") for tensor in report.wrong)


def test_first_3_steps_are_the_same_on_every_device(device):
    host, there = build(), build(device)
    assert there.device == device
    for x in np.split(digits(12), 3):
        mine, theirs = host.step(x), there.step(backend.to_device(x, device))
        assert set(mine) == {"loss", "reconstruction", "kl"}
        assert all(abs(mine[key] - theirs[key]) < 1e-3 for key in mine)
    for network, other in zip(host.networks.values(), there.networks.values()):
        assert np.abs(network.theta - backend.to_host(other.theta)).max() < 1e-5
    assert np.abs(host.sample(3) - there.sample(3)).max() < 1e-5


def test_it_learns_and_no_logarithm_is_of_zero():
    vae, x = build(widths=(30,), lr=1e-2), digits(64)
    losses = [vae.step(x)["loss"] for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0] and vae.steps == 60
    vae.decoder.theta[...] *= 1e4
    assert all(np.isfinite(value) for value in vae.step(np.round(x)).values())
    assert np.isfinite(vae.encoder.grad).all() and np.isfinite(vae.decoder.grad).all()


def test_bytes_are_scaled_and_labels_left_aside():
    one, two = build(), build()
    pixels = data.load("digits", size=28).images[:4]
    first, second = one.step(pixels), two.step(pixels / np.float32(255), np.arange(4))
    assert isinstance(first["loss"], float) and abs(first["loss"] - second["loss"]) < 1e-3


def test_gradients_are_the_mean_over_ranks():
    vae, given = build(), []
    vae.reduce = lambda vector: given.append(vector.copy()) or 0 * vector
    before = vae.encoder.theta.copy()
    vae.step(digits(4))
    assert len(given) == 2 and given[0].any() and np.array_equal(vae.encoder.theta, before)


# -- what a person sees -------------------------------------------------------------------------------------------


def test_samples_are_what_the_decoder_makes_of_noise(device):
    vae = build(device)
    for x in np.split(digits(8), 2):
        vae.step(x)
    theta = vae.decoder.theta.copy()
    images, z = vae.sample(5, seed=1), vae.latent.draw(5, 1, "sample")
    logits = backend.to_host(vae.decoder.twin().forward(backend.to_device(z, device)))
    assert images.dtype == np.float32 and images.shape == (5, 1, 28, 28)
    assert np.allclose(images, 1 / (1 + np.exp(-logits)), atol=1e-6) and images.min() >= 0 and images.max() <= 1
    rows = vae.interpolate(1, 2, 5, 3)
    assert np.allclose(rows[::3], images, atol=1e-5)
    assert bool((vae.decoder.theta == theta).all()) and list(vae.sampler.state_dict()) == list(vae.decoder.state_dict())


def test_a_reconstruction_is_of_the_mean_of_the_code(device):
    vae, x = convolutional(device), np.random.default_rng(0).uniform(0, 1, (7, 2, 4, 4)).astype(np.float32)
    mu, logvar = vae.encode(x)
    assert mu.shape == logvar.shape == (7, 3) and mu.dtype == np.float32
    assert np.array_equal(vae.reconstruct(x), vae.generate(mu)) and vae.reconstruct(x).shape == x.shape


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_shows_samples_images_and_their_reconstructions(channels):
    vae = recipes.get("vae").build(channels=channels, **TINY)
    real = digits(5, channels)
    run = SimpleNamespace(config={"seed": 0}, examples=lambda n, seed=0: real[:n])
    picture = vae.picture(run)
    assert picture.columns == 5 and picture.images.shape == (35, channels, 28, 28)
    assert np.array_equal(picture.images[:25], vae.sample(25)) and np.array_equal(picture.images[25:30], real)
    assert np.array_equal(picture.images[30:], vae.reconstruct(real))


def test_a_code_that_says_nothing_is_told():
    vae = build()
    assert vae.warnings({"step": 50, "kl": 0.01}) == vae.warnings({"step": 500, "kl": 5.0}) == []
    assert "the code has collapsed" in vae.warnings({"step": 500, "kl": 0.01})[0]


# -- runs ---------------------------------------------------------------------------------------------------------


def test_a_resumed_run_has_the_same_bits(tmp_path):
    """At an eighth of the width."""
    images = data.Dataset.of("some", data.load("digits", size=28).images[:20], None, "made by a test")

    def begin(out, steps):
        training.start("vae", images, out, {"widths": (50,)}, device="cpu", batch_size=8, steps=steps, threads=1,
                       checkpoint_every=2, announce=lambda line: None)
    begin(tmp_path / "whole", 3)
    begin(tmp_path / "parts", 2)
    training.resume(tmp_path / "parts", lambda config: images, steps=3, announce=lambda line: None)
    for file in ("encoder.safetensors", "decoder.safetensors", "optimizers.safetensors"):
        whole, parts = ((tmp_path / run / "checkpoints" / "step-00000003" / file).read_bytes()
                        for run in ("whole", "parts"))
        assert whole == parts, file


@pytest.mark.usefixtures("alone")
def test_every_command_knows_it(capsys):
    tiny = ["--z-dim", "3", "--widths", "5"]
    run = ["train", "vae", "--data", "digits", "--steps", "3", "--batch-size", "4", "--device", "cpu", *tiny]
    assert main(run) == 0
    assert "at the end: loss " in capsys.readouterr().out
    for command in ("sample runs/vae", "sample runs/vae --interpolate 1 2", "plot runs/vae",
                    "sample runs/vae -n 3 --out a.npy", "profile vae --steps 1 --batch-size 2 --z-dim 3 --widths 5"):
        assert main(command.split()) == 0, command
    images = np.load("a.npy")
    assert np.array_equal(images, scratchgan.load("runs/vae").sample(3)) and images.max() > 0.3
    names = {path.name for path in Path("runs/vae").iterdir()}
    assert {"real.png", "sample.png", "interpolation.png", "curves.png", "training.gif"} <= names


# -- bad input ----------------------------------------------------------------------------------------------------


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match=r"Recipe vae takes examples of shape \(1, 28, 28\), not \(1, 32, 32\)"):
        recipes.get("vae").build(facts={"shape": (1, 32, 32)})
    with pytest.raises(UserError, match=r"channels must be 1 \(grey\) or 3 \(colour\), not 2"):
        recipes.get("vae").build(channels=2)
    vae, x = build(), digits(2)
    for batch, words in ((2 * x - 1, r"VAE.step: expected values in \[0, 1\], got values from -1 to 1"),
                         (x[:, :, :20], r"VAE.step: expected a batch of shape \(N, 1, 28, 28\)"),
                         (x[:0], r"VAE.step: expected a batch of shape")):
        with pytest.raises(ValueError, match=words):
            vae.step(batch)


def test_parts_that_do_not_fit_are_refused():
    def parts(**other):
        encoder, decoder = Sequential(Flatten(), Linear(16, 6)), Sequential(Linear(3, 16))
        given = {"encoder": encoder, "decoder": decoder, "optimizer_e": Adam(encoder), "optimizer_d": Adam(decoder),
                 "latent": Latent(3), "sample_shape": (1, 4, 4), **other}
        return VAE(**given)
    one, linear = Sequential(Linear(16, 6)), Linear(3, 16)
    x = np.ones((2, 1, 4, 4), np.float32)
    assert np.isfinite(parts().step(x)["loss"]) and parts().sample(2).shape == (2, 1, 4, 4)
    for other, words in (({"optimizer_d": Adam(linear)}, r"optimizer_d is not an optimizer of the decoder: .*Adam\(d"),
                         ({"latent": Latent(3, "uniform")}, 'latent must be a Latent of kind "normal"'),
                         ({"encoder": None}, "encoder must be a network"),
                         ({"sample_shape": (1, 4, 0)}, "VAE: a size in sample_shape must be"),
                         ({"decoder": linear, "optimizer_d": Adam(linear)}, "decoder must be a Sequential"),
                         ({"encoder": one, "decoder": one, "optimizer_e": (adam := Adam(one)), "optimizer_d": adam},
                          "encoder and decoder are one network")):
        with pytest.raises((TypeError, ValueError), match=words):
            parts(**other)
    with pytest.raises(ValueError, match=r"the encoder must give \(N, 8\), .* of 4 numbers, not \(2, 6\)"):
        parts(latent=Latent(4)).step(x)
    small = Sequential(Linear(3, 15))
    with pytest.raises(ValueError, match=r"the decoder must give a logit for each value of 2 samples \(1, 4, 4\)"):
        parts(decoder=small, optimizer_d=Adam(small)).step(x)
