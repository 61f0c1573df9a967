"""The recipes dcgan28 and dcgan64: sizes, PyTorch's published networks and step, runs."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from torch_oracle import torch_module

import scratchgan
from scratchgan import backend, data, recipes, training
from scratchgan.cli import main
from scratchgan.gan import passes
from scratchgan.gradcheck.oracles import relative_error

TINY = {"z_dim": 5, "ngf": 3, "ndf": 2}


def torch_networks(name, nz=100, ngf=64, ndf=64, nc=1):
    """Generator and discriminator as PyTorch's examples write them, the Sigmoid left out."""
    nn = torch_module().nn

    def up(i, o, k, s, p):
        return [nn.ConvTranspose2d(i, o, k, s, p, bias=False), nn.BatchNorm2d(o), nn.ReLU(True)]

    def down(i, o, k, s, p):
        return [nn.Conv2d(i, o, k, s, p, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.2, inplace=True)]

    if name == "dcgan28":
        G = nn.Sequential(*up(nz, ngf * 2, 7, 1, 0), *up(ngf * 2, ngf, 4, 2, 1),
                          nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False), nn.Tanh())
        D = nn.Sequential(nn.Conv2d(nc, ndf, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True),
                          *down(ndf, ndf * 2, 4, 2, 1), nn.Conv2d(ndf * 2, 1, 7, 1, 0, bias=False))
        return G, D
    G = nn.Sequential(*up(nz, ngf * 8, 4, 1, 0), *up(ngf * 8, ngf * 4, 4, 2, 1), *up(ngf * 4, ngf * 2, 4, 2, 1),
                      *up(ngf * 2, ngf, 4, 2, 1), nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False), nn.Tanh())
    D = nn.Sequential(nn.Conv2d(nc, ndf, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True),
                      *down(ndf, ndf * 2, 4, 2, 1), *down(ndf * 2, ndf * 4, 4, 2, 1), *down(ndf * 4, ndf * 8, 4, 2, 1),
                      nn.Conv2d(ndf * 8, 1, 4, 1, 0, bias=False))
    return G, D


def load_into(module, state):
    torch = torch_module()
    module.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in state.items()}, strict=True)


def photos(n, channels, side, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, channels, side, side)).astype(np.float32)


def digits(n, steps):
    """Batches of the bundled digits at 28x28, in [-1, 1]."""
    images = data.load("digits", size=28).images[:n * steps].astype(np.float64) / 127.5 - 1
    return images.reshape(steps, n, 1, 28, 28)


# -- sizes and settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "channels", "side"), [("dcgan28", 1, 28), ("dcgan64", 3, 64)])
def test_published_settings(name, channels, side):
    recipe = recipes.get(name)
    assert recipe.batch_size == 64 and recipe.epochs == 25 and recipe.facts["shape"] == (channels, side, side)
    game = recipe.build(seed=0, device="cpu")
    assert game.sample_shape == (channels, side, side) and game.latent.z_shape == (100, 1, 1) and not game.joint_batch
    assert game.objective.scale_d == 1
    for optimizer in game.optimizers.values():
        assert optimizer.lr == 2e-4 and optimizer.betas == (0.5, 0.999) and optimizer.eps == 1e-8
    for network in game.networks.values():
        for key, value in network.state_dict().items():
            if key.endswith("bias") or key.endswith("running_mean"):
                assert not value.any(), key
            elif value.ndim == 4:
                assert abs(value.std() - 0.02) < 0.002 and abs(value.mean()) < 0.002, key
            elif key.endswith("weight"):
                assert abs(value.std() - 0.02) < 0.006 and abs(value.mean() - 1) < 0.01, key


def test_settings_are_taken():
    game = recipes.get("dcgan64").build(channels=1, z_dim=7, ngf=2, ndf=3, lr_d=1e-3, beta1=0.9, negative_slope=0.1)
    assert game.generator[0].params["weight"].shape == (7, 16, 4, 4)
    assert game.discriminator[0].params["weight"].shape == (3, 1, 4, 4)
    assert game.discriminator[1].negative_slope == 0.1 and game.optimizer_d.lr == 1e-3
    assert game.optimizer_g.betas == (0.9, 0.999)
    assert game.sample(2).shape == (2, 1, 64, 64)


def test_a_run_on_few_images_does_not_take_hours():
    assert recipes.get("dcgan28").default_steps(29) == 2500
    assert recipes.get("dcgan64").default_steps(29) == 1000
    assert recipes.get("dcgan28").default_steps(938) == 25 * 938


# -- PyTorch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "channels", "side"), [("dcgan28", 1, 28), ("dcgan64", 3, 64)])
def test_weights_go_to_torch_and_back(name, channels, side, tmp_path):
    torch = torch_module()
    game = recipes.get(name).build(seed=1, device="cpu")
    pixels = data.Dataset.of("noise", np.random.default_rng(0).integers(0, 256, (4, channels, side, side), np.uint8),
                             None, "made by a test")
    scratchgan.fit(game, pixels, steps=2, out=tmp_path / "run", batch_size=4, threads=1, announce=lambda line: None)
    checkpoint = max((tmp_path / "run" / "checkpoints").iterdir())
    networks = dict(zip(game.networks, torch_networks(name, nc=channels)))
    z = game.latent.as_input(game.latent.draw(3, 5, "test"))
    inputs = {"generator": z, "discriminator": photos(3, channels, side)}
    for player, theirs in networks.items():
        ours, x = game.networks[player].twin(), inputs[player]
        load_into(theirs, load_file(checkpoint / f"{player}.safetensors"))
        for mode in (False, True):
            expected = theirs.train(mode)(torch.tensor(x)).detach().numpy()
            assert relative_error(ours.train(mode).forward(x), expected)[0] <= 1e-5, (player, mode)
    with torch.no_grad():
        for player, theirs in networks.items():
            for parameter in theirs.parameters():
                parameter += 0.01
            ours, x = game.networks[player], inputs[player]
            ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
            expected = theirs.eval()(torch.tensor(x)).numpy()
            assert relative_error(ours.twin().eval().forward(x), expected)[0] <= 1e-5, player


@pytest.fixture
def torch_alone():
    """PyTorch on one thread: its others would keep a core busy while ours work."""
    torch = torch_module()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class TorchGame:
    """The step of PyTorch's example, in its order and words."""

    def __init__(self, game, dtype):
        self.torch = torch = torch_module()
        self.netG, self.netD = torch_networks("dcgan28")
        for net, ours in ((self.netG, game.generator), (self.netD, game.discriminator)):
            load_into(net, ours.state_dict())
            net.to(getattr(torch, dtype))
        self.optimizerD = torch.optim.Adam(self.netD.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.optimizerG = torch.optim.Adam(self.netG.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.criterion = torch.nn.BCEWithLogitsLoss()

    def step(self, real, noise):
        torch, netD, netG = self.torch, self.netD, self.netG
        real, noise = torch.tensor(real), torch.tensor(noise).reshape(len(noise), -1, 1, 1)
        ones, zeros = torch.ones(len(real), dtype=real.dtype), torch.zeros(len(real), dtype=real.dtype)
        netD.zero_grad()
        output = netD(real).view(-1)
        errD_real = self.criterion(output, ones)
        errD_real.backward()
        D_x = output.sigmoid().mean().item()
        fake = netG(noise)
        output = netD(fake.detach()).view(-1)
        errD_fake = self.criterion(output, zeros)
        errD_fake.backward()
        D_G_z1 = output.sigmoid().mean().item()
        self.optimizerD.step()
        netG.zero_grad()
        output = netD(fake).view(-1)
        errG = self.criterion(output, ones)
        errG.backward()
        self.optimizerG.step()
        return {"loss_d": (errD_real + errD_fake).item(), "loss_g": errG.item(), "d_real": D_x, "d_fake": D_G_z1,
                "d_fake_after": output.sigmoid().mean().item()}


def golden(dtype, steps, n):
    """(our metrics, PyTorch's) of each step; then both games."""
    game = recipes.get("dcgan28").build(seed=3, device="cpu")
    for network in game.networks.values():
        network.to(dtype=dtype)
    theirs, metrics = TorchGame(game, dtype), []
    for i, x in enumerate(digits(n, steps).astype(dtype)):
        noise = game.latent.draw(n, game.seed, "noise", i, dtype=dtype)
        metrics.append((dict(game.step(x)), theirs.step(x, noise)))
    return metrics, game, theirs


@pytest.mark.parametrize("together", [passes.PIXELS_TOGETHER, 0], ids=["one pass", "two passes"])
def test_golden_trajectory_of_torch(torch_alone, monkeypatch, together):
    """With D's real and fake images in one pass, as small batches go, and one after the other."""
    monkeypatch.setattr(passes, "PIXELS_TOGETHER", together)
    metrics, game, theirs = golden("float64", 10, 8)
    for step, (ours, expected) in enumerate(metrics):
        for key, value in expected.items():
            assert abs(ours[key] - value) <= 1e-8 * max(1, abs(value)), (step, key)
    for network, net in ((game.generator, theirs.netG), (game.discriminator, theirs.netD)):
        state = net.state_dict()
        assert list(state) == list(network.state_dict())
        for key, value in network.state_dict().items():
            assert relative_error(value, state[key].numpy())[0] <= 1e-8, key
    assert abs(metrics[9][0]["loss_d"] - metrics[0][0]["loss_d"]) > 0.1  # it learned


def test_golden_trajectory_of_torch_in_float32(torch_alone):
    for step, (ours, expected) in enumerate(golden("float32", 10, 8)[0]):
        for key in ("loss_d", "loss_g"):
            assert abs(ours[key] - expected[key]) <= 0.02 * expected[key], (step, key)


def test_finite_for_200_steps():
    game = recipes.get("dcgan28").build(seed=3, device="cpu")
    for x in digits(2, 200).astype(np.float32):
        metrics = game.step(x)
        assert all(np.isfinite(value) for value in metrics.values())
    for network in game.networks.values():
        assert all(np.isfinite(value).all() for value in network.state_dict().values())


# -- devices and runs -----------------------------------------------------------------------------------------------


def test_first_3_steps_are_the_same_on_every_device(device):
    host, there = (recipes.get("dcgan28").build(seed=3, device=d, **TINY) for d in ("cpu", device))
    assert there.device == device
    for x in digits(4, 3).astype(np.float32):
        mine, theirs = host.step(x), there.step(x)
        assert all(abs(mine[key] - theirs[key]) < 1e-5 for key in mine)
    for network, other in zip(host.networks.values(), there.networks.values()):
        assert np.abs(network.theta - backend.to_host(other.theta)).max() < 1e-5
        state = other.state_dict()
        for key, value in network.state_dict().items():
            assert np.abs(value - state[key]).max() < 1e-5, key


def test_a_resumed_run_has_the_same_bits(tmp_path):
    """Running statistics are part of the state."""
    images = data.load("digits", size=28)
    images = data.Dataset.of("some", images.images[:20], None, "made by a test")

    def begin(out, steps):
        training.start("dcgan28", images, out, TINY, device="cpu", batch_size=8, steps=steps, threads=1,
                       checkpoint_every=2, announce=lambda line: None)
    begin(tmp_path / "whole", 4)
    begin(tmp_path / "parts", 2)
    training.resume(tmp_path / "parts", lambda config: images, steps=4, announce=lambda line: None)
    for file in ("generator.safetensors", "discriminator.safetensors", "optimizers.safetensors"):
        whole, parts = ((tmp_path / run / "checkpoints" / "step-00000004" / file).read_bytes()
                        for run in ("whole", "parts"))
        assert whole == parts, file


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(("name", "side"), [("dcgan28", 28), ("dcgan64", 64)])
def test_train_and_sample(name, side, capsys):
    tiny = [f"--{key.replace('_', '-')}={value}" for key, value in TINY.items()]
    assert main(["train", name, "--data", "digits", "--batch-size", "2", "--steps", "2", "--device", "cpu", *tiny]) == 0
    assert f"training {name} on digits: 1,797 images 1x{side}x{side}" in capsys.readouterr().out
    system = scratchgan.load(Path("runs") / name)
    assert system.sample(2).shape == (2, 1, side, side)
    assert main(["sample", f"runs/{name}", "-n", "4"]) == 0
