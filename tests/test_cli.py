"""The command line: what is written, said and returned. `sample` is in test_cli_sample.py."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import TINY, call, read
from PIL import Image

import scratchgan
from scratchgan import report, training
from scratchgan.cli import main
from scratchgan.cli import training as train_command

pytestmark = pytest.mark.usefixtures("alone")


# -- train ---------------------------------------------------------------------------------------------------------


def test_train_writes_a_run_and_says_so(capsys):
    out = call(capsys, *TINY)
    folder = Path("runs/mlp")
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints", "config.json", "curves.png", "metrics.csv", "real.png", "samples", "training.gif"]
    lines = out.splitlines()
    assert lines[0] == "training mlp on digits: 1,797 images 1x28x28"
    assert "device cpu; BLAS with 1 thread" in lines
    assert "writing to runs/mlp; Ctrl-C stops it so that it can be resumed" in lines
    assert lines[-1] == "more samples: scratchgan sample runs/mlp"
    with open(folder / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 31))
    assert len(list((folder / "samples").iterdir())) == 11  # step 0, each third, of 30
    assert read(folder / "real.png").shape == (456, 456)


def test_the_default_folder_is_the_first_that_is_free(capsys):
    Path("runs/mlp").mkdir(parents=True)
    Path("runs/mlp-2").touch()
    out = call(capsys, *TINY[:3], "--steps", "1")
    assert out.splitlines()[0] == "runs/mlp exists: writing to runs/mlp-3"
    assert Path("runs/mlp-3/metrics.csv").exists() and not list(Path("runs/mlp").iterdir())


def test_quiet_says_nothing(capsys):
    assert main([*TINY, "--quiet", "--out", "there"]) == 0
    assert capsys.readouterr() == ("", "")
    assert Path("there/training.gif").exists()


def test_preview_draws_on_the_terminal(capsys):
    out = call(capsys, "train", "--data", "digits", "--steps", "2", "--preview")
    assert out.count("samples at step") == 3 and "▒" in out


def test_options_reach_the_run():
    options = ("--data digits --epochs 2 --batch-size 900 --lr 1e-3 --lr-g 2e-3 --seed 5 --flip --log-every 2 "
               "--sample-every 3 --checkpoint-every 1 --keep 2 --threads 1 --device cpu --quiet")
    assert main(["train", "mlp", *options.split()]) == 0
    config = training.RunFolder.open("runs/mlp").config
    assert config["steps"] == 4 and config["batch_size"] == 900 and config["seed"] == 5 and config["flip"] is True
    assert config["settings"]["lr_d"] == 1e-3 and config["settings"]["lr_g"] == 2e-3
    assert (config["log_every"], config["sample_every"], config["checkpoint_every"], config["keep"]) == (2, 3, 1, 2)
    assert config["threads"] == 1 and config["device"] == "cpu"
    assert sorted(path.name for path in Path("runs/mlp/checkpoints").iterdir()) == ["step-00000003", "step-00000004"]


def test_runs_begun_at_once_take_names_one_after_the_other(capsys, monkeypatch, trained):
    """Another run takes the name that is free while the data are loaded."""
    from scratchgan import data
    load, taken = data.load, []

    def late(*arguments, **options):
        for name in ("mlp", "mlp-2"):
            shutil.copytree(trained, Path("runs", name))
            taken.append(name)
        return load(*arguments, **options)
    monkeypatch.setattr(data, "load", late)
    out = call(capsys, *TINY)
    assert taken and "runs/mlp exists: writing to runs/mlp-3" in out and "writing to runs/mlp-3;" in out
    assert training.RunFolder.open("runs/mlp-3").rows()[-1]["step"] == 30


def test_processes_begun_at_once_have_folders_of_their_own():
    command = [sys.executable, "-m", "scratchgan", *TINY[:3], "--steps", "3", "--quiet"]
    processes = [subprocess.Popen([*command, "--seed", str(seed)]) for seed in range(3)]
    assert [process.wait(60) for process in processes] == [0] * 3
    assert sorted(path.name for path in Path("runs").iterdir()) == ["mlp", "mlp-2", "mlp-3"]
    assert sorted(training.RunFolder.open(path).config["seed"] for path in Path("runs").iterdir()) == [0, 1, 2]


def test_the_length_is_the_recipe_s_by_default(monkeypatch):
    asked = {}

    def start(*arguments, **options):
        asked.update(options)
        raise scratchgan.errors.UserError("enough")
    monkeypatch.setattr(training, "start", start)
    assert main(["train", "--data", "digits"]) == 2
    assert asked["steps"] == 25_000  # 101 epochs of so few images would be 101 * 29
    assert asked["steps"] == scratchgan.recipes.get("mlp").default_steps(29)
    assert asked["sample_every"] == report.default_sample_every(asked["steps"], 29) and asked["log_every"] == 100


def test_epochs_are_counted_without_a_single_image_that_batch_normalisation_refuses(capsys):
    np.save("x.npy", np.random.default_rng(0).integers(0, 256, (65, 28, 28), np.uint8))
    out = call(capsys, "train", "wgan", "--widths-g", "8,8", "--widths-d", "8", "--data", "x.npy", "--epochs", "3")
    assert "3 steps of 64 images (3 epochs)" in out
    out = call(capsys, "train", "mlp", "--data", "x.npy", "--steps", "1", "--batch-size", "100")
    assert "1 step of 65 images, all there are instead of 100 (1 epoch)" in out


def test_a_folder_that_cannot_be_used_is_refused_before_the_data_are_loaded(capsys, monkeypatch, run):
    def load(*arguments, **options):
        raise AssertionError
    monkeypatch.setattr("scratchgan.data.load", load)
    assert "already holds a run" in call(capsys, *TINY, "--out", run, status=2)


def test_auto_means_the_digits_where_nothing_else_can_be_had(capsys):
    out = call(capsys, "train", "--steps", "1")
    assert "training on the bundled digits" in out and "chosen by --device auto" in out


def test_a_folder_of_images_and_resuming_on_it(capsys):
    rng = np.random.default_rng(0)
    Path("my photos (old)").mkdir()
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, (32, 40, 3), np.uint8)).save(f"my photos (old)/{i}.png")
    call(capsys, "train", "--data", "my photos (old)", "--steps", "2", "--quiet")
    out = call(capsys, "train", "--resume", "runs/mlp", "--steps", "3")  # finds the folder again
    assert "resumed after step 2" in out
    os.rename("my photos (old)", "moved")
    error = call(capsys, "train", "--resume", "runs/mlp", "--steps", "4", status=2)
    assert "are not where they were: say with --data" in error
    call(capsys, "train", "--resume", "runs/mlp", "--steps", "4", "--data", "moved")
    assert training.RunFolder.open("runs/mlp").rows()[-1]["step"] == 4


def interrupted(arguments, at, number=signal.SIGINT):
    """Run a command that gets a signal after step `at`; returns its status."""
    class Interrupting(report.Pictures):
        def on_step(self, run):
            super().on_step(run)
            if run.step == at:
                os.kill(os.getpid(), number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "Pictures", Interrupting)
        return main(arguments)


def test_ctrl_c_and_resuming_give_the_same_run_as_none(capsys, trained):
    assert interrupted([*TINY, "--out", "a b"], 13) == 130
    error = capsys.readouterr().err
    assert "Stopped at step 13; continue with: scratchgan train --resume" in error and "Traceback" not in error
    assert Path("a b/training.gif").exists() and Path("a b/curves.png").exists()
    out = call(capsys, "train", "--resume", "a b")
    assert "resumed after step 13" in out and "more samples: scratchgan sample 'a b'" in out
    timeless = [[{key: value for key, value in row.items() if key not in ("seconds", "images_per_second")}
                 for row in training.RunFolder.open(path, lock=False).rows()] for path in ("a b", trained)]
    assert timeless[0] == timeless[1]
    weights = "checkpoints/step-00000030/generator.safetensors"
    assert Path("a b", weights).read_bytes() == (trained / weights).read_bytes()
    grids = {path.name for path in Path("a b/samples").iterdir()}
    assert grids - {"epoch-000_step-00000013.png"} == {path.name for path in (trained / "samples").iterdir()}


def test_a_request_to_terminate_has_its_own_status(capsys):
    assert interrupted([*TINY, "--quiet"], 3, signal.SIGTERM) == 143
    assert "continue with: scratchgan train --resume runs/mlp" in capsys.readouterr().err


def test_ctrl_c_before_training_begins(capsys, monkeypatch):
    def load(*arguments, **options):
        raise KeyboardInterrupt
    monkeypatch.setattr("scratchgan.data.load", load)
    assert main(TINY) == 130
    assert capsys.readouterr().err == "\nscratchgan: interrupted\n"
    assert not list(Path().iterdir())


def test_numbers_that_are_not_finite_end_a_run_with_status_1(capsys):
    error = call(capsys, *TINY, "--lr", "1e30", status=1)
    assert error.startswith("scratchgan: error: Training diverged: ") and error.count("\n") == 1


def test_resuming_what_is_finished_says_so(capsys, run):
    out = call(capsys, "train", "--resume", run)
    assert out.count("\n") == 1 and "is finished: 30 steps are done" in out


def test_resuming_for_fewer_steps_than_are_done_says_so(capsys, run):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"steps": 50}))
    out = call(capsys, "train", "--resume", run, "--steps", 20)
    assert out.endswith("has done 30 steps, and was asked for 20: without a number it goes on to 50.\n")


def test_resuming_for_more_epochs(capsys, run):
    call(capsys, "train", "mlp", "--resume", run, "--epochs", "2")
    assert training.RunFolder.open(run).rows()[-1]["step"] == 58


# -- plot and the rest ---------------------------------------------------------------------------------------------


def test_plot_draws_while_a_row_is_being_written(capsys, run):
    (run / "curves.png").unlink()
    with open(run / "metrics.csv", "a") as file:
        file.write("31,1,0.5,0.")
    assert call(capsys, "plot", run) == "drew 30 rows of metrics, up to step 30, to runs/mlp/curves.png\n"
    assert read(run / "curves.png").shape[1] == 1080
    call(capsys, "plot", run, "--out", "curves.pdf")
    assert Path("curves.pdf").read_bytes().startswith(b"%PDF")


def test_data_list_and_fetch(capsys, monkeypatch, tmp_path):
    out = call(capsys, "data", "list")
    assert "mnist    not on this machine: scratchgan data fetch mnist" in out
    assert "digits   bundled with scratchgan" in out
    asked = []
    monkeypatch.setattr("scratchgan.data.fetch", lambda folder, announce: asked.append(folder) or "there")
    assert call(capsys, "data", "fetch", "mnist", "--data-dir", tmp_path) == "MNIST is in there\n"
    assert asked == [tmp_path]


def test_info_names_versions_threads_devices_and_data(capsys):
    rows = dict(line.split(maxsplit=1) for line in call(capsys, "info").splitlines() if not line.startswith("data"))
    assert rows["numpy"] == np.__version__ and rows["python"].startswith(sys.version.split()[0])
    assert "threads" in rows["BLAS"] and "cores" in rows["cpu"] and "cuda" in rows


def test_gradcheck_passes_its_options_on(capsys, monkeypatch):
    import contextlib

    import scratchgan.gradcheck
    from scratchgan import kernels
    asked, plain = [], []

    @contextlib.contextmanager
    def context():
        plain.append(True)
        yield

    def run(names, input_shape=None, **options):
        asked.append((names, input_shape, options))
        return []
    monkeypatch.setattr(scratchgan.gradcheck, "run", run)
    monkeypatch.setattr(scratchgan.gradcheck, "table", lambda reports: "")
    monkeypatch.setattr(kernels, "plain", context, raising=False)
    call(capsys, "gradcheck", "Linear")
    call(capsys, "gradcheck", "mine:Net", "--zero", "0.bias", "--zero", "3.bias", "--no-batch-of-one")
    assert asked == [(["Linear"], None, {}),
                     (["mine:Net"], None, {"zero": ("0.bias", "3.bias"), "batch_of_one": False})] and not plain
    call(capsys, "gradcheck", "--plain")
    assert plain == [True]


def test_gradcheck_of_a_network_that_normalises(capsys, monkeypatch):
    Path("nets.py").write_text("from scratchgan.layers import BatchNorm1d, Linear, Sequential, Tanh\n"
                               "def Net():\n"
                               "    return Sequential(Linear(4, 6), BatchNorm1d(6), Tanh())\n")
    monkeypatch.syspath_prepend(os.getcwd())
    for options in (["--no-batch-of-one"], ["--zero", "0.bias"]):
        assert main(["gradcheck", "nets:Net", "--input-shape", "5,4", *options]) == 0


def test_gradcheck_prints_a_table_and_fails_where_a_gradient_is_wrong(capsys, monkeypatch):
    assert "Tanh" in call(capsys, "gradcheck", "Tanh")
    import scratchgan.gradcheck
    right = scratchgan.gradcheck.run(["Tanh"])

    def run(names, input_shape=None, **options):
        assert not options
        assert names == ["mine:Layer"] and input_shape == (4, 3)
        right[0].add("x", "complex step", False)
        return right
    monkeypatch.setattr(scratchgan.gradcheck, "run", run)
    assert main(["gradcheck", "mine:Layer", "--input-shape", "4,3"]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_version_and_help(capsys):
    assert call(capsys, "--version") == f"scratchgan {scratchgan.__version__}\n"
    assert "scratchgan train --resume" in call(capsys)
    assert call(capsys) == call(capsys, "--help")
    for command in (["train"], ["sample"], ["plot"], ["export"], ["data", "fetch"], ["data", "list"], ["recipes"],
                    ["info"], ["gradcheck"], ["profile"]):
        out = call(capsys, *command, "--help")
        assert "example" in out and f"scratchgan {' '.join(command)}" in out.partition("example")[2]
        assert "None" not in out


def test_free_name(tmp_path):
    path = tmp_path / "a"
    assert train_command.free_name(path) == path
    path.symlink_to(tmp_path / "nowhere")
    assert train_command.free_name(path) == tmp_path / "a-2"
