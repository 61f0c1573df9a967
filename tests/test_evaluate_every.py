"""`scratchgan train --evaluate-every`: figures of digits while a run goes on."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import call, fails

from scratchgan import data, metrics, plots, training
from scratchgan.metrics import measures
from scratchgan.training.evaluation import Evaluation

pytestmark = pytest.mark.usefixtures("alone")
FEW = ["--evaluate-samples", "100"]


@pytest.fixture
def small_mnist(monkeypatch):
    """The bundled digits are MNIST, its test images 300 of them."""
    digits = data.load("digits", size=28)
    monkeypatch.setattr(data, "load_mnist", lambda split, *_, **__: digits if split == "train" else data.Dataset.of(
        "mnist", digits.images[:300], digits.labels[:300], "made by a test"))
    monkeypatch.setattr(measures, "TRAINED", 300)


@pytest.fixture
def drawn(monkeypatch):
    """[the evaluations in each picture of curves], which are not drawn."""
    found = []
    monkeypatch.setattr(plots, "save_curves", lambda *arguments: found.append(arguments[-1]))
    return found


def train(capsys, *arguments):
    return call(capsys, "train", *arguments, "--data", "digits", "--device", "cpu", "--threads", "1")


def rows_of(folder):
    return [json.loads(line) for line in Path(folder, "evaluations.jsonl").read_text().splitlines()]


def test_a_run_is_evaluated_as_the_command_evaluates_it(small_mnist, drawn, capsys):
    out = train(capsys, "cgan", "--widths-g", "8,8,8,8", "--widths-d", "8,8,8", "--steps", "5", "--evaluate-every", "2",
                "--batch-size", "8", "--best-by", "recall", *FEW)
    rows = rows_of("runs/cgan")
    assert [row["step"] for row in rows] == [2, 4, 5]
    lines = out.splitlines()
    assert ("evaluated every 2 steps against MNIST's test images: frechet, precision-recall, classes, conditional of "
            "100 samples; the checkpoint that is the best by recall is kept") in lines
    assert [line.split(":")[0] for line in lines if line.startswith("evaluated at")] == [
        f"evaluated at step {step}" for step in (2, 4, 5)]
    assert "runs/cgan/checkpoints/step-00000002" in lines[-1]  # no sample is any good, so the first is the best
    assert lines[-1].startswith("the best by recall, 0 +- 0 at step 2")
    assert lines[-1] == call(capsys, "plot", "runs/cgan").splitlines()[-1]
    assert drawn == [rows, rows]
    command = call(capsys, "evaluate", "runs/cgan/checkpoints/step-00000004", "-n", "100", "--json", "--device", "cpu",
                   "--metrics", "frechet,precision-recall,classes,conditional")
    samples = json.loads(command.splitlines()[0])
    assert rows[1].pop("step") == 4 and rows[1].pop("epoch") == 0
    for name in ("frechet", "frechet_se"):  # roots of what is 0 up to rounding, which hangs on where arrays lie
        assert rows[1].pop(name) == pytest.approx(samples.pop(name), rel=1e-6)
    assert rows[1] == {name: value for name, value in samples.items() if name not in ("set", "of")}
    assert rows[1]["net"] == metrics.feature_record()["sha256"] and "conditional" in rows[1]


def test_it_changes_no_bit_of_the_training(small_mnist, device):
    digits, folders = data.load("digits", size=28), []
    for evaluated in (None, Evaluation(2, ["frechet"], samples=100)):
        run = training.start("vae", digits, f"runs/{len(folders)}", {"widths": (8,)}, device=device, steps=4,
                             log_every=1, batch_size=8, evaluation=evaluated, announce=None)
        folders.append(run.folder.path)
    one, other = ({path.name: path.read_bytes() for path in (folder / "checkpoints" / "step-00000004").iterdir()
                   if path.name != "state.json"} for folder in folders)
    assert one == other and len(one) > 1
    one, other = ([{**row, "images_per_second": 0, "seconds": 0} for row in training.RunFolder.open(folder).rows()]
                  for folder in folders)
    assert one == other
    assert [row["step"] for row in rows_of(folders[1])] == [2, 4]


def test_a_resumed_run_goes_on_with_it(small_mnist, drawn, capsys):
    train(capsys, "mlp", "--widths-g", "8", "--widths-d", "8", "--steps", "4", "--evaluate-every", "2", "--evaluate",
          "parzen, frechet", *FEW)
    first = rows_of("runs/mlp")
    assert "parzen" in first[0] and "recall" not in first[0]
    out = call(capsys, "train", "--resume", "runs/mlp", "--steps", "6", "--device", "cpu")
    assert "evaluated at step 6: frechet" in out and "; the checkpoint that is the best by parzen is kept" in out
    assert rows_of("runs/mlp")[:2] == first and len(rows_of("runs/mlp")) == 3


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers_end_no_training(bad, small_mnist, drawn, monkeypatch, capsys):
    from scratchgan.gan import Game
    monkeypatch.setattr(Game, "sample", lambda self, n, seed=0: np.full((n, 1, 28, 28), bad, np.float32))
    out = train(capsys, "mlp", "--widths-g", "8", "--widths-d", "8", "--steps", "2", "--evaluate-every", "1", *FEW)
    assert "evaluated at step 2: no figures, since samples hold values that are no numbers" in out
    assert [row["step"] for row in rows_of("runs/mlp")] == [1, 2] and "frechet" not in rows_of("runs/mlp")[0]


def test_curves_have_a_chart_for_what_was_evaluated():
    rows = [{"step": step, "epoch": 0, "loss_d": 1.0, "seconds": 1.0} for step in range(1, 9)]
    evaluations = [{"step": 4, "n": 100, "frechet": 3.0, "frechet_se": 0.5, "recall": 0.2, "counts": [1]},
                   {"step": 8, "n": 100, "frechet": None, "recall": 0.4}, {"step": 9, "frechet": 2.0}]
    axes = plots.curves(rows, steps_per_epoch=2, evaluations=evaluations).axes
    assert [each.get_ylabel() for each in axes] == ["loss", "Frechet distance", "share"]
    line, shares = axes[1].get_lines()[0], axes[2].get_lines()[0]
    assert line.get_xdata().tolist() == [2, 4, 4.5]
    np.testing.assert_array_equal(line.get_ydata(), [3, np.nan, 2])
    assert shares.get_ydata().tolist()[:2] == [0.2, 0.4]
    bars = axes[1].collections[0].get_segments()
    assert bars[0].tolist() == [[2, 2.5], [2, 3.5]] and bars[2].tolist() == [[4.5, 2], [4.5, 2]]
    assert len(plots.curves(rows).axes) == 1


def test_what_cannot_be_evaluated_is_refused_before_the_run(small_mnist, capsys, tmp_path):
    np.save("photos.npy", np.zeros((8, 1, 28, 28), np.uint8))
    data_digits = "--data digits --device cpu --steps 2 --evaluate-every 1"
    for arguments, words in (
            (f"classifier {data_digits}", "A Classifier makes no samples that could be evaluated"),
            ("ring8 --device cpu --steps 2 --evaluate-every 1", "in every row of metrics.csv (modes, high quality,"),
            ("spiral --device cpu --steps 2 --evaluate-every 1", "Samples of shape (2,) cannot be evaluated"),
            (f"dcgan64 {data_digits}", "Samples of shape (1, 64, 64) cannot be evaluated"),
            (f"vae --channels 3 {data_digits}", "Samples of shape (3, 28, 28) cannot be evaluated"),
            ("mlp --data photos.npy --device cpu --evaluate-every 1", "Samples that are learned from photos.npy"),
            (f"mlp {data_digits} --best-by conditional", "since the system is not conditional"),
            (f"mlp {data_digits} --best-by beauty", "the best by 'beauty' here: choose among frechet, precision"),
            (f"mlp {data_digits} --evaluate frechet --best-by recall", "the best by 'recall' here: choose among fr"),
            (f"mlp {data_digits} --evaluate memorisation", "memorisation is for runs that are finished"),
            (f"mlp {data_digits} --evaluate frechet,beauty", "no measure 'beauty' of samples: choose among frechet"),
            (f"mlp {data_digits} --evaluate-samples 99", "--evaluate-samples must be a whole number, from 100"),
            ("mlp --evaluate-every 0", "--evaluate-every must be a whole number, 1 or more"),
            ("mlp --data digits --best-by recall", "--best-by is for --evaluate-every: give that, too"),
            ("--resume runs/mlp --evaluate-every 5", "--evaluate-every cannot be given with --resume")):
        fails(f"train {arguments}", capsys, tmp_path, words)


def test_without_mnist_it_is_said_what_to_do(capsys, tmp_path):
    fails("train mlp --data digits --device cpu --steps 2 --evaluate-every 1", capsys, tmp_path,
          "Evaluations need MNIST, which was not found in", "`scratchgan data fetch mnist` gets it")
