"""Run folders that were changed by hand: one sentence, or what can be done."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import fails

from scratchgan.cli import main

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "--data", "digits", "--steps", "2", "--threads", "1", "--device", "cpu", "--quiet",
                 "--out", str(folder)]) == 0
    return folder


CONFIG = {"batch_size": "64", "log_every": 0, "checkpoint_every": None, "steps": 2.5, "keep": "3", "settings": None,
          "data": {}, "versions": None, "threads": "two", "flip": "no", "seed": True, "recipe": 3, "panels": [1],
          "facts": [], "drop_last": 1, "format": "1", "sample_every": -1, "dtype": "float16",
          "evaluation": {"every": 5, "measures": ["frechet"], "best_by": "recall", "samples": 10_000}}


@pytest.mark.parametrize("name", CONFIG)
def test_config_of_other_types(name, capsys, tmp_path, trained):
    shutil.copytree(trained, "RUN")
    config = json.loads(Path("RUN/config.json").read_text())
    Path("RUN/config.json").write_text(json.dumps(config | {name: CONFIG[name]}))
    for command in ("train --resume RUN --steps 9", "plot RUN", "sample RUN"):
        fails(command, capsys, tmp_path, f"config.json is damaged: {name}")


@pytest.mark.parametrize("name, value", [("every", 0), ("measures", "frechet"), ("measures", [["frechet"]]),
                                         ("best_by", ["frechet"]), ("samples", 99), ("nonesuch", 1)])
def test_evaluations_of_other_types(name, value, capsys, tmp_path, trained):
    shutil.copytree(trained, "RUN")
    config = json.loads(Path("RUN/config.json").read_text())
    config["evaluation"] = {"every": 5, "measures": ["frechet"], "best_by": "frechet", "samples": 100} | {name: value}
    Path("RUN/config.json").write_text(json.dumps(config))
    fails("plot RUN", capsys, tmp_path, "config.json is damaged: evaluation")


@pytest.mark.parametrize("name, value", [("size", "many"), ("size", 0), ("shape", 28), ("shape", ["1"]),
                                         ("sha256", None)])
def test_data_of_other_types(name, value, capsys, tmp_path, trained):
    shutil.copytree(trained, "RUN")
    config = json.loads(Path("RUN/config.json").read_text())
    config["data"][name] = value
    Path("RUN/config.json").write_text(json.dumps(config))
    fails("train --resume RUN --steps 9", capsys, tmp_path, f"config.json is damaged: data.{name} is {value!r}, not ")


@pytest.mark.parametrize("name, value", [("z_dim", "64"), ("z_dim", 0), ("lr_g", None), ("widths_g", []),
                                         ("nonesuch", 1)])
def test_settings_of_other_types(name, value, capsys, tmp_path, trained):
    shutil.copytree(trained, "RUN")
    config = json.loads(Path("RUN/config.json").read_text())
    config["settings"][name] = value
    Path("RUN/config.json").write_text(json.dumps(config))
    fails("sample RUN", capsys, tmp_path, "ecipe mlp", name)


@pytest.mark.parametrize("value", [3, None, "28", [], [1, "28", 28], [1, 0, 28], {"1": 28}, [[1], [28], [28]]])
def test_facts_of_other_types(value, capsys, tmp_path, trained):
    shutil.copytree(trained, "RUN")
    config = json.loads(Path("RUN/config.json").read_text())
    Path("RUN/config.json").write_text(json.dumps(config | {"facts": {"shape": value}}))
    for command in ("train --resume RUN --steps 9", "sample RUN"):
        fails(command, capsys, tmp_path, "ecipe mlp: the fact shape must be whole numbers, 1 or more")


@pytest.mark.parametrize("name, value", [("step", "2"), ("seconds", "long"), ("pending", None),
                                         ("pending", [{"loss": "1"}]), ("optimizers", []), ("sha256", []),
                                         ("system", 3)])
def test_state_of_other_types(name, value, capsys, tmp_path, trained):
    shutil.copytree(trained, "RUN")
    for path in Path("RUN").glob("checkpoints/*/state.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    for command in ("train --resume RUN --steps 9", "sample RUN"):
        fails(command, capsys, tmp_path, f"state.json is damaged: {name} is {value!r}, not ")
    for path in Path("RUN").glob("checkpoints/*/state.json"):
        path.write_text(json.dumps({key: each for key, each in json.loads(path.read_text()).items() if key != name}))
    fails("sample RUN", capsys, tmp_path, f"state.json is damaged: {name} is missing")


def test_metrics_with_other_separators(capsys, tmp_path, trained):
    shutil.copytree(trained, "RUN")
    text = Path("RUN/metrics.csv").read_text()
    Path("RUN/metrics.csv").write_text(text.replace(",", ";"))
    for command in ("plot RUN", "train --resume RUN --steps 9"):
        fails(command, capsys, tmp_path, "metrics.csv is not as a run writes it, its first line is 'step;epoch;")


@pytest.mark.parametrize("command", ["plot RUN", "train --resume RUN --steps 4 --quiet"])
def test_metrics_as_a_spreadsheet_saves_them(command, trained):
    """With a byte order mark and lines that end as on Windows."""
    shutil.copytree(trained, "RUN")
    text = Path("RUN/metrics.csv").read_text()
    Path("RUN/metrics.csv").write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    assert main(command.split()) == 0
    if "train" in command:
        assert Path("RUN/metrics.csv").read_text().startswith(text)


def test_a_folder_of_checkpoints_that_cannot_be_read(capsys, tmp_path, trained, monkeypatch):
    shutil.copytree(trained, "RUN")
    iterdir = Path.iterdir

    def refuse(path):
        if path.name == "checkpoints":
            raise PermissionError(13, "Permission denied")
        return iterdir(path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refuse)
        for command in ("sample RUN", "train --resume RUN --steps 9"):
            before = Path("RUN/config.json").read_bytes()
            assert main(command.split()) == 2 and Path("RUN/config.json").read_bytes() == before
            assert "Cannot read RUN/checkpoints: Permission denied" in capsys.readouterr().err


def test_a_deleted_folder_of_checkpoints_begins_again(capsys, trained):
    shutil.copytree(trained, "RUN")
    shutil.rmtree("RUN/checkpoints")
    shutil.rmtree("RUN/samples")
    assert main(["train", "--resume", "RUN"]) == 0
    assert "starts from the beginning" in capsys.readouterr().out
    assert Path("RUN/checkpoints/step-00000002").is_dir() and list(Path("RUN/samples").iterdir())
