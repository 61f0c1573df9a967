import pytest
import tiny_recipe
from tiny_recipe import Crash, CrashAt

import scratchgan.recipes
from scratchgan import training


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """The recipe "tiny" is there."""
    monkeypatch.setitem(scratchgan.recipes._RECIPES, "tiny", tiny_recipe.RECIPE)


@pytest.fixture
def data():
    return tiny_recipe.dataset()


@pytest.fixture
def begun(tmp_path, data):
    """begun(steps, crash=None, **settings) -> the folder of a run that went that far, or that crashed after a step."""
    def run(steps=20, crash=None, out=None, **options):
        folder = out or tmp_path / "run"
        settings = {"log_every": 5, "checkpoint_every": 5, "device": "cpu", **options}
        if crash is None:
            training.start("tiny", data, folder, steps=steps, **settings)
        else:
            with pytest.raises(Crash):
                training.start("tiny", data, folder, steps=steps, callbacks=[CrashAt(crash)], **settings)
        return folder
    return run
