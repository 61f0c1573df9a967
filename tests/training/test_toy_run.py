"""A run on data without end whose rows have measures: interrupted, resumed, seldom logged."""

import pytest
from tiny_recipe import Crash, CrashAt, metrics, weights

from scratchgan import data, training
from scratchgan.cli import datasets, main
from scratchgan.training import checkpoint

MEASURES = ("modes", "fair", "hq", "kl")
OPTIONS = {"device": "cpu", "log_every": 5, "checkpoint_every": 6, "announce": None}


def test_killed_and_resumed_to_the_bit(tmp_path):
    ring = data.load("ring8")
    training.start("ring8", ring, tmp_path / "whole", steps=40, **OPTIONS)
    with pytest.raises(Crash):
        training.start("ring8", ring, tmp_path / "killed", steps=40, callbacks=[CrashAt(21)], **OPTIONS)
    training.resume(tmp_path / "killed", datasets.of_run, announce=None)
    assert weights(tmp_path / "whole") == weights(tmp_path / "killed")
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "killed")
    loaded = training.load(tmp_path / "killed")
    assert loaded.measure() == {name: pytest.approx(float(metrics(tmp_path / "whole")[-1][name])) for name in MEASURES}


def test_measures_are_of_the_step_and_of_nothing_else():
    runs = [training.start("grid25", data.load("grid25"), announce=None, device="cpu", steps=6, log_every=every)
            for every in (2, 3)]
    assert [runs[0].history[-1][name] for name in MEASURES] == [runs[1].history[-1][name] for name in MEASURES]
    assert runs[0].measured == MEASURES and (runs[0].system.generator.theta == runs[1].system.generator.theta).all()


@pytest.mark.usefixtures("alone")
def test_the_command_finds_a_sampler_again(tmp_path, capsys):
    options = ("--device", "cpu", "--threads", "1", "--checkpoint-every", "4", "--log-every", "5",
               "--sample-every", "12", "--decay-steps", "12", "--out")
    assert main(["train", "spiral", "--steps", "12", *options, "whole"]) == 0
    assert main(["train", "spiral", "--steps", "7", *options, "short"]) == 0
    assert main(["train", "--resume", "short", "--steps", "12"]) == 0
    work = tmp_path / "work"
    assert weights(work / "whole") == weights(work / "short") and metrics(work / "whole") == metrics(work / "short")
    assert checkpoint.found(work / "short" / "checkpoints")[-1][0] == 12
    capsys.readouterr()
    assert main(["train", "--resume", "short", "--steps", "20", "--data", "ring8"]) == 2
    assert "The data are not those of the run: ring8 has SHA-256" in capsys.readouterr().err
    assert main(["train", "--resume", "short", "--epochs", "2"]) == 2
    assert "the data of the run have no end; give --steps" in capsys.readouterr().err
