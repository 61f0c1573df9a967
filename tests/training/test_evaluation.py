"""Evaluations of a run: they change nothing, survive what the run survives, and keep the best checkpoint."""

import json

import pytest
import tiny_recipe
from tiny_recipe import Crash, CrashAt, metrics, weights

from scratchgan import training
from scratchgan.errors import UserError
from scratchgan.metrics import measures
from scratchgan.training import checkpoint, evaluation
from scratchgan.training.evaluation import FIGURES, Evaluation


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """Samples are measured by their mean: no net, no MNIST, 6 x 6 pixels."""
    monkeypatch.setattr(Evaluation, "prepare", lambda *_: None)
    monkeypatch.setattr(Evaluation, "row", lambda self, system: {
        "frechet": float(system.sample(self.samples, 0).mean()), "frechet_se": 0.1})


@pytest.fixture
def scores(monkeypatch):
    """scores(4, 2, ...) -> the Frechet distances of the evaluations to come."""
    def give(*values):
        values = list(values)
        monkeypatch.setattr(Evaluation, "row", lambda *_: {"frechet": values.pop(0)})
    return give


def evaluated(folder):
    return training.RunFolder.open(folder, lock=False).evaluations()


def kept(folder):
    return [step for step, _ in checkpoint.found(folder / "checkpoints")]


def resume(folder, data, **more):
    return training.resume(folder, lambda config: data, announce=lambda line: None, **more)


def test_evaluations_change_no_bit_of_the_training(begun, tmp_path):
    without, folder = begun(23, out=tmp_path / "without"), begun(23, evaluation=Evaluation(4))
    assert weights(folder) == weights(without) and metrics(folder) == metrics(without)
    rows = evaluated(folder)
    assert [row["step"] for row in rows] == [4, 8, 12, 16, 20, 23] and rows[-1]["epoch"] == 5
    assert len({row["frechet"] for row in rows}) == 6
    assert not (without / "evaluations.jsonl").exists()


@pytest.mark.parametrize("crash", [3, 4, 9, 13, 17])
def test_a_run_that_crashed_has_each_evaluation_once(begun, data, tmp_path, crash):
    whole = begun(18, evaluation=Evaluation(4), out=tmp_path / "whole")
    folder = begun(18, crash=crash, evaluation=Evaluation(4))
    with open(folder / "evaluations.jsonl", "a") as file:  # a later process was killed while it wrote
        file.write('{"step": 20, "frechet": 0.0}\n{"step": 24, "fre')
    run = resume(folder, data)
    assert run.evaluations == evaluated(folder) == evaluated(whole)
    assert weights(folder) == weights(whole) and metrics(folder) == metrics(whole)
    assert run.config["evaluation"] == Evaluation(4).record() == json.loads((folder / "config.json").read_text())[
        "evaluation"]


def test_evaluations_of_steps_that_are_not_done_are_cut_at_once(begun, data):
    folder = begun(10, crash=7, evaluation=Evaluation(4))
    with open(folder / "evaluations.jsonl", "a") as file:
        file.write('{"step": 8, "frechet": 0.0}\n')

    class Look(training.Callback):
        def on_start(self, run):
            assert [row["step"] for row in evaluated(folder)] == [4]
            raise Crash
    with pytest.raises(Crash):
        resume(folder, data, callbacks=[Look()])


@pytest.mark.parametrize("line", ['{"step": 8, "fre', "[8]", '{"frechet": 1}', '{"step": "8"}'])
def test_what_follows_a_damaged_line_is_not_read(begun, line):
    folder = begun(2)
    (folder / "evaluations.jsonl").write_text(f'{{"step": 4}}\n{line}\n{{"step": 12}}\n')
    assert evaluated(folder) == [{"step": 4}]


class CrashAtCheckpoint(training.Callback):
    def __init__(self, step):
        self.step = step

    def on_checkpoint(self, run, path):
        if run.step == self.step:
            raise Crash


@pytest.mark.parametrize("step", [8, 18])
def test_killed_between_a_checkpoint_and_its_evaluation(begun, data, tmp_path, step):
    whole, folder = begun(18, evaluation=Evaluation(4), out=tmp_path / "whole"), tmp_path / "run"
    with pytest.raises(Crash):
        training.start("tiny", data, folder, steps=18, log_every=5, checkpoint_every=5, device="cpu",
                       evaluation=Evaluation(4), callbacks=[CrashAtCheckpoint(step)])
    assert len(evaluated(folder)) == len(evaluated(whole)) - (4 if step == 8 else 1)
    resume(folder, data)
    assert evaluated(folder) == evaluated(whole)
    assert weights(folder) == weights(whole) and metrics(folder) == metrics(whole)


def test_more_steps_go_on_with_it(begun, data):
    folder = begun(6, evaluation=Evaluation(4))
    resume(folder, data, steps=12)
    assert [row["step"] for row in evaluated(folder)] == [4, 6, 8, 12]
    before = (folder / "evaluations.jsonl").read_bytes()
    assert resume(folder, data).finished
    assert (folder / "evaluations.jsonl").read_bytes() == before


def test_the_best_checkpoint_stays_besides_the_newest(begun, data, scores, tmp_path):
    scores(5, 2, 4, 2, 3, 6)
    folder = begun(24, evaluation=Evaluation(4), keep=2, checkpoint_every=100)
    assert kept(folder) == [8, 20, 24]  # of two that are equal the first
    training.load(folder / "checkpoints" / "step-00000008")
    scores(1, 7)
    assert resume(folder, data, steps=32).best["step"] == 28
    assert kept(folder) == [28, 32]  # the one that was the best is gone
    scores(5, None, 4)
    assert kept(begun(12, evaluation=Evaluation(4), keep=1, checkpoint_every=1, out=tmp_path / "one")) == [12]


def test_of_some_figures_the_largest_is_the_best():
    rows = [{"step": 1, "frechet": 2, "recall": 0.1}, {"step": 2, "frechet": 1, "recall": None}, {"step": 3},
            {"step": 4, "frechet": 3, "recall": 0.3}]
    best = {by: Evaluation(1, best_by=by).best(rows) for by in ("frechet", "recall", "kl")}
    assert best == {"frechet": rows[1], "recall": rows[3], "kl": None}
    for by in evaluation.figures_of(FIGURES):
        rows = [{"step": step, by: value} for step, value in enumerate((0.2, 0.1, 0.3, 0.1, 0.3))]
        assert Evaluation(1, FIGURES, by).best(rows)["step"] == (1 if by in ("frechet", "kernel", "kl") else 2)


def test_what_is_not_written_is_evaluated_all_the_same(data):
    rows = []

    class Tell(training.Callback):
        def on_evaluation(self, run, row):
            rows.append(row)
            assert run.evaluations == rows
    training.fit(tiny_recipe.make(), data, 5, callbacks=[Tell()], evaluation=Evaluation(2), announce=None)
    assert [row["step"] for row in rows] == [2, 4, 5]


def test_a_system_of_ones_own_is_resumed_with_its_evaluation(data, tmp_path):
    options = {"checkpoint_every": 3, "announce": None}
    with pytest.raises(Crash):
        training.fit(tiny_recipe.make(), data, 9, tmp_path, [CrashAt(5)], evaluation=Evaluation(2), **options)
    with pytest.raises(UserError, match="leave evaluation out"):
        training.fit(tiny_recipe.make(), data, 9, tmp_path, evaluation=Evaluation(3), resume=True)
    training.fit(tiny_recipe.make(), data, 9, tmp_path, resume=True, announce=None)
    assert [row["step"] for row in evaluated(tmp_path)] == [2, 4, 6, 8, 9]


def test_every_measure_and_its_figures_are_known(rng):
    assert measures.MEASURES.keys() - FIGURES.keys() == {"memorisation", "inception-frechet"}  # of what is finished
    assert set(evaluation.LOWER) < set(evaluation.figures_of(FIGURES))
    for values, words in (({"every": 0}, "every must be a whole number, 1 or more, not 0"),
                          ({"every": 1, "samples": 99}, "samples must be a whole number, from 100 to 50,000"),
                          ({"every": 1, "measures": ["beauty"]}, "no measure 'beauty' of samples: choose among"),
                          ({"every": 1, "measures": []}, "no measure ''"),
                          ({"every": 1, "best_by": "density"}, "the best by 'density' here: choose among frechet")):
        with pytest.raises(UserError, match=words):
            Evaluation(**values)
