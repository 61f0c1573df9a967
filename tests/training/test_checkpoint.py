"""Checkpoints: whole or absent, checked, and readable by others."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tiny_recipe
from tiny_recipe import RECIPE

from scratchgan import layers, training
from scratchgan.errors import UserError
from scratchgan.gan import Game, Latent, NonSaturating
from scratchgan.optimizers import Adam
from scratchgan.training import checkpoint


@pytest.fixture
def game():
    """A game that has taken a few steps."""
    game = RECIPE.build(seed=1)
    images = np.random.default_rng(0).random((8, *tiny_recipe.SHAPE), np.float32)
    for _ in range(3):
        game.step(images)
    return game


def everything(system):
    """All that a checkpoint holds, as it is in memory."""
    return ([network.theta.tolist() for network in system.networks.values()],
            [{key: value.tolist() for key, value in optimizer.state_dict().items()}
             for optimizer in system.optimizers.values()], system.state_dict())


def test_what_is_saved_is_what_is_read(game, tmp_path):
    path = checkpoint.save(tmp_path, game, 600, seconds=1.5)
    assert path == tmp_path / "step-00000600"
    assert sorted(os.listdir(path)) == ["discriminator.safetensors", "generator.safetensors",
                                        "optimizers.safetensors", "state.json"]
    assert os.listdir(tmp_path) == ["step-00000600"]
    other = RECIPE.build(seed=2)
    assert everything(other) != everything(game)
    read = checkpoint.read(path)
    checkpoint.restore(read, other)
    assert everything(other) == everything(game)
    assert read.step == 600 and read.state["seconds"] == 1.5 and read.state["system"] == {"steps": 3, "seed": 1}
    assert other.optimizer_g.steps == 3 and other.optimizer_d.lr == pytest.approx(0.01 / 1.01**3)


def test_torch_loads_the_files(game, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file
    path = checkpoint.save(tmp_path, game, 1)
    nn = torch.nn
    model = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.1), nn.Linear(8, 36), nn.Tanh())
    model.load_state_dict(load_file(path / "generator.safetensors"), strict=True)
    z = game.latent.draw(5, 0, "sample")
    expected = game.generate(z).reshape(5, 36)
    np.testing.assert_allclose(model(torch.from_numpy(z)).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    vectors = load_file(path / "optimizers.safetensors")
    assert {"generator.m", "generator.v", "generator.steps", "discriminator.momentum_buffer"} <= set(vectors)


def test_buffers_and_scalars_go_with_the_weights(tmp_path):
    class Counted(layers.Linear):
        def __init__(self):
            super().__init__(3, 3)
            self.buffers["count"] = np.array(7)
            self.buffers["mean"] = np.arange(6, dtype=np.float32).reshape(2, 3).T

    def build():
        networks = [layers.Sequential(Counted()) for _ in range(2)]
        return Game(*networks, NonSaturating(), *map(Adam, networks), latent=Latent(3), sample_shape=(3,))

    saved, other = build(), build()
    other.generator[0].buffers["count"][...] = 0
    other.generator[0].buffers["mean"][...] = 0
    checkpoint.restore(checkpoint.read(checkpoint.save(tmp_path, saved, 1)), other)
    count, mean = other.generator[0].buffers["count"], other.generator[0].buffers["mean"]
    assert count.shape == () and count == 7 and count.dtype.kind == "i"
    np.testing.assert_array_equal(mean, np.arange(6).reshape(2, 3).T)


def test_the_newest_are_kept(game, tmp_path):
    for step in (5, 10, 100, 20):
        checkpoint.save(tmp_path, game, step)
    checkpoint.prune(tmp_path, 2)
    assert sorted(os.listdir(tmp_path)) == ["step-00000020", "step-00000100"]


# -- a disk that is full, or not ours ------------------------------------------------------------------------------


@pytest.mark.parametrize("call", range(6))  # three array files, state.json, the folder, the folder above
def test_a_full_disk_leaves_the_last_good_checkpoint(game, tmp_path, monkeypatch, call):
    good = checkpoint.save(tmp_path, game, 1)
    before = {path.name: path.read_bytes() for path in good.iterdir()}
    fsync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == call + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"^Cannot write the checkpoint .*step-00000002: No space left on device; free "
                                        r"some space or choose another disk\.$"):
        checkpoint.save(tmp_path, game, 2)
    assert {path.name: path.read_bytes() for path in good.iterdir()} == before
    assert os.listdir(tmp_path) == ["step-00000001"] or call == 5  # at last the new one is there, and whole
    assert all(checkpoint.read(path).step == step for step, path in checkpoint.found(tmp_path))


LIMITED = """
import resource, sys
import tiny_recipe
from scratchgan import training
from scratchgan.errors import UserError
tiny_recipe.register()
class Limit(training.Callback):
    def on_step(self, run):
        if run.step == 7:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))  # the array files need more
try:
    training.start("tiny", tiny_recipe.dataset(), sys.argv[1], steps=20, log_every=50, checkpoint_every=5, device="cpu",
                   callbacks=[Limit()])
except UserError as error:
    print(error)
"""


def test_a_write_that_the_system_refuses(tmp_path):
    pytest.importorskip("resource")
    out = tmp_path / "run"
    result = subprocess.run([sys.executable, "-c", LIMITED, out], cwd=os.path.dirname(tiny_recipe.__file__),
                            capture_output=True, text=True, timeout=60)
    assert result.stderr == ""
    assert "Cannot write the checkpoint" in result.stdout and "File too large" in result.stdout
    assert sorted(os.listdir(out / "checkpoints")) == ["step-00000000", "step-00000005"]
    assert checkpoint.read(out / "checkpoints" / "step-00000005").step == 5


def test_a_folder_that_cannot_be_written(game, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"Cannot write the checkpoint .*choose a folder that can be written to"):
        checkpoint.save(tmp_path / "absent", game, 1)
    if os.geteuid():
        tmp_path.chmod(0o500)
        with pytest.raises(UserError, match="Permission denied"):
            checkpoint.save(tmp_path, game, 1)
        tmp_path.chmod(0o700)


def test_a_checkpoint_that_a_training_removes_while_it_is_read(game, tmp_path, monkeypatch):
    read = checkpoint.read
    checkpoint.save(tmp_path, game, 1)

    def late(path):
        if path.name == "step-00000001":
            checkpoint.save(tmp_path, game, 2)
            checkpoint.prune(tmp_path, 1)
        return read(path)
    monkeypatch.setattr(checkpoint, "read", late)
    assert checkpoint.newest(tmp_path, pytest.fail)[0].step == 2


# -- damaged and foreign ones --------------------------------------------------------------------------------------


def damage_truncate(path):
    (path / "generator.safetensors").write_bytes((path / "generator.safetensors").read_bytes()[:100])


def damage_bit(path):
    data = bytearray((path / "optimizers.safetensors").read_bytes())
    data[-5] ^= 1
    (path / "optimizers.safetensors").write_bytes(data)


def damage_absent(path):
    (path / "discriminator.safetensors").unlink()


def damage_json(path):
    (path / "state.json").write_bytes((path / "state.json").read_bytes()[:40])


def damage_keys(path):
    (path / "state.json").write_text('{"format": 1}')


def damage_other(path):
    (path / "state.json").write_text("[1, 2]")


@pytest.mark.parametrize("damage, file", [
    (damage_truncate, "generator.safetensors is damaged: its SHA-256 is "),
    (damage_bit, "optimizers.safetensors is damaged: its SHA-256 is "),
    (damage_absent, "discriminator.safetensors is missing"), (damage_json, "state.json is damaged"),
    (damage_keys, "state.json is damaged"), (damage_other, "state.json is damaged")])
def test_damage_is_found_and_named(game, tmp_path, damage, file):
    path = checkpoint.save(tmp_path, game, 1)
    checkpoint.read(path)
    damage(path)
    with pytest.raises(checkpoint.Damaged, match=file):
        checkpoint.read(path)


def test_a_file_that_is_no_safetensors_is_not_opened_by_other_means(game, tmp_path):
    """Also with its right digest: nothing is unpickled."""
    import hashlib
    import pickle
    path = checkpoint.save(tmp_path, game, 1)
    data = pickle.dumps({"0.weight": 1})
    (path / "generator.safetensors").write_bytes(data)
    state = json.loads((path / "state.json").read_text())
    state["sha256"]["generator.safetensors"] = hashlib.sha256(data).hexdigest()
    (path / "state.json").write_text(json.dumps(state))
    with pytest.raises(checkpoint.Damaged, match=r"generator\.safetensors is damaged: "):
        checkpoint.read(path)


def test_no_file_outside_the_folder_is_read(game, tmp_path):
    path = checkpoint.save(tmp_path, game, 1)
    (tmp_path / "secret").write_text("x")
    state = json.loads((path / "state.json").read_text())
    state["sha256"] = {"../secret": "0"}
    (path / "state.json").write_text(json.dumps(state))
    with pytest.raises(checkpoint.Damaged, match="secret is missing"):
        checkpoint.read(path)


def test_a_newer_format_is_not_called_damage(game, tmp_path):
    path = checkpoint.save(tmp_path, game, 1)
    state = json.loads((path / "state.json").read_text()) | {"format": 2}
    (path / "state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match="format 2, this version of scratchgan reads 1") as error:
        checkpoint.read(path)
    assert not isinstance(error.value, checkpoint.Damaged)


def test_a_run_of_another_precision_is_loaded_and_resumed(tmp_path, data):
    def precise():
        game = RECIPE.build()
        for network in game.networks.values():
            network.to(dtype="float64")
        return game
    training.fit(precise(), data, 4, tmp_path / "run", log_every=4)
    loaded = training.load(tmp_path / "run")
    assert loaded.generator.dtype == loaded.discriminator.dtype == np.float64
    run = training.resume(tmp_path / "run", lambda config: data, steps=7, announce=None)
    whole = precise()
    training.fit(whole, data, 7)
    assert everything(run.system) == everything(whole)


def test_a_checkpoint_of_something_else_changes_nothing(game, tmp_path):
    read = checkpoint.read(checkpoint.save(tmp_path, game, 1))
    wider = RECIPE.build(hidden=9)
    anonymous = tiny_recipe.make()
    adam = RECIPE.build()
    adam.optimizer_d = Adam(adam.discriminator)
    precise = RECIPE.build()
    for network in precise.networks.values():
        network.to(dtype="float64")
    for other, words in ((wider, "does not fit this system .*expected"),
                         (anonymous, "of recipe tiny, not of networks without a recipe"),
                         (adam, "its optimizers are .*SGD.*, the system's are .*Adam"),
                         (precise, "float32, expected float64")):
        before = everything(other)
        with pytest.raises(UserError, match=words):
            checkpoint.restore(read, other)
        assert everything(other) == before


def test_a_misfit_found_late_is_taken_back(game, tmp_path):
    """The generator fits and the discriminator does not: the generator is as it was, too."""
    read = checkpoint.read(checkpoint.save(tmp_path, game, 1))
    read.arrays["discriminator"]["0.bias"] = np.zeros(3, np.float32)
    other = RECIPE.build(seed=2)
    before = everything(other)
    with pytest.raises(UserError, match=r"'0\.bias' has shape"):
        checkpoint.restore(read, other)
    assert everything(other) == before


# -- load ----------------------------------------------------------------------------------------------------------


def test_load_takes_a_run_or_one_checkpoint(begun):
    folder = begun(20, seed=4)
    game = training.load(folder)
    assert game.steps == 20 and game.device == "cpu" and game.record["seed"] == 4
    older = training.load(folder / "checkpoints" / "step-00000015")
    assert older.steps == 15
    assert not np.array_equal(game.sample(2), older.sample(2))
    assert not list(folder.rglob(".*"))


def test_load_announces_what_it_takes_instead(begun):
    folder, lines = begun(20), []
    (folder / "checkpoints" / "step-00000020" / "state.json").unlink()
    assert training.load(folder, announce=lines.append).steps == 15
    assert len(lines) == 1 and "step 15 instead" in lines[0]
    assert (folder / "checkpoints" / "step-00000020").is_dir()  # load changes nothing


def test_load_says_what_is_wrong(begun, tmp_path):
    with pytest.raises(UserError, match="There is no run in"):
        training.load(tmp_path / "nowhere")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text('{"model": "gpt"}')
    with pytest.raises(UserError, match=r"not the config\.json of a run: it lacks format"):
        training.load(tmp_path / "foreign")
    (tmp_path / "foreign" / "config.json").write_text('{"model')
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        training.load(tmp_path / "foreign")
    folder = begun(20)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"recipe": "gone"}))
    with pytest.raises(UserError, match="Unknown recipe 'gone'"):
        training.load(folder)
