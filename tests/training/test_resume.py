"""A run that was interrupted and resumed has the bits of one that was not."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_recipe
from threadpoolctl import threadpool_info
from tiny_recipe import Crash, CrashAt, metrics, weights

from scratchgan import training
from scratchgan.errors import UserError
from scratchgan.training import checkpoint, environment

STEPS = 300  # of a process that is killed: enough for it to be still there when it is
CHILD = Path(tiny_recipe.__file__).with_name("child.py")


def resume(folder, data, **options):
    return training.resume(folder, lambda config: data, **{"announce": lambda line: None, **options})


def assert_same_run(a, b):
    assert weights(a) == weights(b)
    assert metrics(a) == metrics(b)


@pytest.mark.parametrize("log_every, checkpoint_every", [(5, 5), (4, 6), (7, 3), (10, 4), (3, 100), (100, 7)])
def test_crashes_leave_no_trace(begun, data, tmp_path, log_every, checkpoint_every):
    options = {"steps": 23, "log_every": log_every, "checkpoint_every": checkpoint_every, "flip": True}
    whole = begun(**options, out=tmp_path / "whole")
    broken = begun(**options, crash=9, out=tmp_path / "broken")
    for step in (10, 18):  # 10: the process gets less far than a checkpoint
        with pytest.raises(Crash):
            resume(broken, data, callbacks=[CrashAt(step)])
    run = resume(broken, data)
    assert run.step == 23 and run.finished
    assert_same_run(whole, broken)
    assert len(metrics(whole)) == -(-23 // log_every)
    with pytest.raises(AssertionError):  # the comparison can tell runs apart
        assert_same_run(whole, begun(**options, seed=1, out=tmp_path / "other"))


def test_more_steps_give_what_a_longer_run_gives(begun, data, tmp_path):
    longer = begun(31, out=tmp_path / "longer")
    shorter = begun(17, out=tmp_path / "shorter")
    assert [row["step"] for row in metrics(shorter)] == ["5", "10", "15", "17"]
    run = resume(shorter, data, steps=31)
    assert_same_run(longer, shorter)
    assert run.history == training.RunFolder.open(shorter).rows()
    assert training.RunFolder.open(shorter, lock=False).config["steps"] == 31


def test_a_finished_run_says_so_and_is_left_alone(begun, data):
    folder, lines = begun(20), []
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    run = training.resume(folder, lambda config: pytest.fail("no need of the data"), announce=lines.append)
    assert run.finished and len(run.history) == 4 and run.epoch == 5
    assert len(lines) == 1 and "is finished: 20 steps" in lines[0]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    resume(folder, data, steps=21)  # the folder is not locked any more


def test_fit_resumes_a_system_of_ones_own(data, tmp_path):
    def system():
        game = tiny_recipe.make(3, "cpu", hidden=8, lr=1e-3)
        assert game.record is None
        return game
    options = {"batch_size": 20, "seed": 5, "log_every": 4, "checkpoint_every": 3, "keep": 2}
    history = training.fit(system(), data, 14, tmp_path / "whole", **options)
    with pytest.raises(Crash):
        training.fit(system(), data, 14, tmp_path / "broken", [CrashAt(11)], **options)
    again = training.fit(system(), data, 14, tmp_path / "broken", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "broken")
    times = "images_per_second", "seconds"
    assert ([{k: v for k, v in row.items() if k not in times} for row in again]
            == [{k: v for k, v in row.items() if k not in times} for row in history])
    assert history[-1]["step"] == 14
    with pytest.raises(UserError, match="networks of one's own"):
        resume(tmp_path / "whole", data, steps=20)
    with pytest.raises(UserError, match="batch_size 20, not 10"):
        training.fit(system(), data, 20, tmp_path / "whole", resume=True, batch_size=10)
    with pytest.raises(UserError, match="Nothing to resume"):
        training.fit(system(), data, 20, resume=True)


def test_other_data_are_refused(begun, data):
    folder = begun(20, crash=12)
    other = tiny_recipe.dataset(seed=1)
    with pytest.raises(UserError, match=f"{other.sha256}.*{data.sha256}"):
        resume(folder, other)
    assert resume(folder, data).finished


def test_another_recipe_or_setting_is_refused(begun, data):
    folder = begun(20, crash=12)
    with pytest.raises(UserError, match=r"has settings .*'hidden': 8.*, not .*'hidden': 9"):
        training.fit(tiny_recipe.RECIPE.build(hidden=9), data, 20, folder, resume=True)
    with pytest.raises(UserError, match="has recipe tiny, not None"):
        training.fit(tiny_recipe.make(), data, 20, folder, resume=True)


def test_a_run_killed_before_its_first_checkpoint_starts_again(begun, data, tmp_path):
    whole, folder, lines = begun(8), begun(8, crash=3, out=tmp_path / "killed"), []
    shutil.rmtree(folder / "checkpoints" / "step-00000000")
    resume(folder, data, announce=lines.append)
    assert len(lines) == 1 and "from the beginning" in lines[0]
    assert_same_run(whole, folder)


def test_a_damaged_checkpoint_is_announced_and_an_older_one_taken(begun, data, tmp_path):
    whole = begun(20)
    folder, lines = begun(20, crash=17, out=tmp_path / "damaged"), []
    bad = folder / "checkpoints" / "step-00000015"
    (bad / "generator.safetensors").write_bytes((bad / "generator.safetensors").read_bytes()[:-1])
    resume(folder, data, announce=lines.append)
    assert len(lines) == 1
    assert "generator.safetensors is damaged" in lines[0] and "step 10 instead" in lines[0] and str(bad) in lines[0]
    assert_same_run(whole, folder)
    assert [step for step, _ in checkpoint.found(folder / "checkpoints")] == [10, 15, 20]
    assert (folder / "checkpoints" / "damaged-step-00000015").is_dir()


def test_damaged_checkpoints_do_not_push_good_ones_out(begun, data):
    folder = begun(20, crash=17)
    (folder / "checkpoints" / "step-00000015" / "state.json").write_text("{")
    with pytest.raises(Crash):
        training.resume(folder, lambda config: data, callbacks=[CrashAt(12)], announce=lambda line: None)
    assert 10 in dict(checkpoint.found(folder / "checkpoints"))


def test_all_checkpoints_damaged(begun, data):
    folder = begun(20, crash=17)
    for _, path in checkpoint.found(folder / "checkpoints"):
        (path / "optimizers.safetensors").unlink()
    with pytest.raises(UserError, match=r"step-00000015/optimizers\.safetensors is missing, and there is no older"):
        resume(folder, data)


def test_threads_are_recorded_restored_and_given_back(begun, data):
    def threads():
        return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}
    if not threads():
        pytest.skip("this BLAS cannot be asked for its threads")

    class Note(training.Callback):
        def on_step(self, run):
            self.seen = threads()

    with environment.using_threads(2):
        note = Note()
        folder = begun(20, crash=12, threads=1)
        assert threads() == {2}
        run = resume(folder, data, callbacks=[note])
        assert note.seen == {1} and threads() == {2} and run.config["threads"] == 1
        lines = []
        run = resume(folder, data, callbacks=[note], steps=25, threads=2, announce=lines.append)
        assert note.seen == {2} and run.config["threads"] == 2
        assert len(lines) == 1 and "threads 1 is now 2" in lines[0]


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_runs_that_overlap_give_the_threads_back(first_to_end):
    def threads():
        return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}
    if not threads():
        pytest.skip("this BLAS cannot be asked for its threads")
    with environment.using_threads(3):
        runs = [environment.using_threads(1), environment.using_threads(None), environment.using_threads(2)]
        for run in runs:
            run.__enter__()
        assert threads() == {2}
        runs[0 if first_to_end == 0 else 2].__exit__(None, None, None)
        assert threads() == {2 if first_to_end == 0 else 1}
        runs[2 if first_to_end == 0 else 0].__exit__(None, None, None)
        assert threads() == {3}


def test_leftovers_of_a_killed_process_are_removed(begun, data):
    folder = begun(20, crash=17)
    for name in (".step-00000016.tmp", ".step-00000003.old"):
        (folder / "checkpoints" / name).mkdir()
        (folder / "checkpoints" / name / "generator.safetensors").write_text("half")
    (folder / ".config.json.0a1b2c3d.part").write_text("half")
    (folder / "samples" / ".epoch-001.png.0a1b2c3d.part").write_text("half")
    resume(folder, data)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        "step-00000010", "step-00000015", "step-00000020"]
    assert not list(folder.rglob("*.part"))


def test_lost_rows_are_announced(begun, data):
    folder, lines = begun(20, crash=17), []
    text = (folder / "metrics.csv").read_text().splitlines(keepends=True)
    (folder / "metrics.csv").write_text("".join(text[:2]) + "10,0,torn")
    resume(folder, data, announce=lines.append)
    assert len(lines) == 1 and "1 of 3 rows up to step 15" in lines[0]
    assert [row["step"] for row in metrics(folder)] == ["5", "20"]


def test_a_metric_that_comes_later_adds_a_column(begun, data):
    folder = begun(20, crash=17)
    text = (folder / "metrics.csv").read_text()
    (folder / "metrics.csv").write_text(text.replace("loss_d", "loss_x"))
    history = resume(folder, data).history
    assert "loss_d" not in history[2] and history[2]["loss_x"] > 0 and "loss_x" not in history[3]
    assert training.RunFolder.open(folder, lock=False).rows() == history
    header, *lines = (folder / "metrics.csv").read_text().splitlines()
    assert header.startswith("step,epoch,loss_d,loss_x,d_real,") and len({line.count(",") for line in lines}) == 1


def test_a_torn_last_row_is_cut(begun, data, tmp_path):
    whole, folder = begun(20), begun(20, crash=19, out=tmp_path / "torn")
    rows = training.RunFolder.open(folder, lock=False).rows()
    for torn in ("1", "1000,3" + 8 * ",0.5" + ",0.2"):  # the beginnings of a number and of the last number
        text = (folder / "metrics.csv").read_text()
        (folder / "metrics.csv").write_text(text[:text.rindex("\n") + 1] + torn)
        assert training.RunFolder.open(folder, lock=False).rows() == rows
    assert [row["step"] for row in rows] == [5, 10, 15]
    resume(folder, data)
    assert_same_run(whole, folder)


def test_one_process_at_a_time(begun, data):
    folder = begun(20, crash=12)
    training.RunFolder.open(folder, lock=False)
    holder = training.RunFolder.open(folder)
    with pytest.raises(UserError, match="Another process is training"):
        resume(folder, data)
    holder.close()
    assert resume(folder, data).finished


def test_two_runs_begun_at_once_in_one_folder(begun, tmp_path, monkeypatch):
    """The other one writes config.json between our look and our lock: it keeps its folder."""
    config = begun(20, out=tmp_path / "any") / "config.json"
    lock, out = training.RunFolder.lock, tmp_path / "run"

    def late(folder):
        (out / "config.json").write_bytes(config.read_bytes())
        lock(folder)
    monkeypatch.setattr(training.RunFolder, "lock", late)
    with pytest.raises(UserError, match="already holds a run"):
        begun(20, out=out)
    assert (out / "config.json").read_bytes() == config.read_bytes()


# -- killed ------------------------------------------------------------------------------------------------------


def child(folder, resumed=0, moment=0, pause=0, wait=True):
    process = subprocess.Popen([sys.executable, CHILD, folder, *map(str, (STEPS, resumed, moment, pause))],
                               stdout=subprocess.PIPE, text=True)
    if wait:
        process.communicate(timeout=60)
    return process


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert child(folder).returncode == 0
    return folder


@pytest.mark.parametrize("after, seconds", [("step 3", 0.0), ("step 21", 0.003), ("step 33", 0.007)])
def test_killed_between_any_two_instructions(uninterrupted, tmp_path, after, seconds):
    folder = tmp_path / "run"
    process = child(folder, pause=20, wait=False)  # seconds from the end, however late we are
    with process:
        for line in process.stdout:
            if line.strip() == after:
                break
        time.sleep(seconds)
        process.kill()
    assert process.returncode == -9
    assert child(folder, resumed=1).returncode == 0
    assert_same_run(uninterrupted, folder)


# A checkpoint takes seven calls: three array files, state.json, the folder, the rename, the folder above. The first
# three make config.json; a row of metrics.csv adds two to the next checkpoint.
@pytest.mark.parametrize("moment", [12, 17, 30])
def test_killed_while_a_checkpoint_is_written(uninterrupted, tmp_path, moment):
    folder = tmp_path / "run"
    assert child(folder, moment=moment).returncode == -9
    assert child(folder, resumed=1).returncode == 0
    assert_same_run(uninterrupted, folder)
    assert not list((folder / "checkpoints").glob(".*"))


def test_killed_before_the_run_was_there(tmp_path):
    assert child(tmp_path / "run", moment=1).returncode == -9
    with pytest.raises(UserError, match="no run in"):
        resume(tmp_path / "run", None)
    assert child(tmp_path / "run").returncode == 0  # and the folder can be used
    assert json.loads((tmp_path / "run" / "config.json").read_text())["steps"] == STEPS
