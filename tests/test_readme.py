"""The README's Python runs as it stands there, with fewer steps."""

import re
from pathlib import Path

from scratchgan.gradcheck import catalogue
from scratchgan.recipes import names

README = Path(__file__).parent.parent / "README.md"


def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    names = {}
    for block in blocks[1:]:  # the first is an excerpt of a class
        exec(re.sub(r"steps=\d+", "steps=20", block), names)
    assert len(blocks) == 4 and names["images"].shape == (64, 1, 28, 28)
    assert (tmp_path / "runs/first/metrics.csv").exists()
    assert "Scale(), x (4, 3): ok" in capsys.readouterr().out


def test_as_many_gradient_checks_as_it_says():
    cases = [*catalogue.layer_cases().values(), *catalogue.loss_cases().values(), *[("G", "D", "game")] * len(names())]
    assert f"{sum(map(len, cases))} checked, " in README.read_text(encoding="utf-8")


def test_pictures_and_links_exist():
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert len(links) > 10
    assert [link for link in links if not (README.parent / link).exists()] == []
