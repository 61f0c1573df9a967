"""The README's Python runs as it stands there, with fewer steps."""

import re
from pathlib import Path

import pytest
from torch_oracle import torch_module

import scratchgan
from scratchgan import gradcheck
from scratchgan.gradcheck.oracles import relative_error

README = Path(__file__).parent.parent / "README.md"


def python_blocks():
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)


def is_excerpt(block):
    """Code of the package, shown: not to be run by itself."""
    return block.startswith(("class Linear(", "@kernels."))


def test_what_is_shown_of_the_package_stands_there():
    layers = [path.read_text(encoding="utf-8") for path in (README.parent / "scratchgan/layers").glob("*.py")]
    excerpts = [block for block in python_blocks() if is_excerpt(block)]
    assert len(excerpts) == 2
    for block in excerpts:
        lines = [line for line in block.splitlines() if line.strip()]
        assert any(all(line in text for line in lines) for text in layers), block


def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = [block for block in python_blocks() if "from torch" not in block and not is_excerpt(block)]
    names = {}
    for block in blocks:
        exec(re.sub(r"steps=\d+", "steps=20", block), names)
    assert len(blocks) == 3 and names["images"].shape == (64, 1, 28, 28)
    assert (tmp_path / "runs/first/metrics.csv").exists()
    assert "Scale(), x (4, 3): ok" in capsys.readouterr().out


def test_weights_go_to_pytorch_and_back():
    torch = torch_module()
    (block,) = [block for block in python_blocks() if "from torch" in block]
    names = {"scratchgan": scratchgan}
    exec(block, names)
    z = names["game"].latent.draw(3, 0, "test")
    theirs = names["theirs"].eval()(torch.from_numpy(z.reshape(3, 100, 1, 1))).detach().numpy()
    assert relative_error(names["game"].generate(z), theirs)[0] <= 1e-5


def test_the_table_of_gradient_checks_has_its_form():
    """Its head, a line of each kind, and its end; the numbers of checks and of errors are those of some day."""
    shown = re.search(r"\$ scratchgan gradcheck\n(.*?)```", README.read_text(encoding="utf-8"), re.S)[1].splitlines()
    head, _, linear, *_, last = gradcheck.table(gradcheck.run(["Linear"])).splitlines()
    assert shown[0].split() == head.split() and re.split(r"  +", linear)[:2] == re.split(r"  +", shown[2])[:2]
    assert re.sub(r"\d+", "...", shown[-1]) == re.sub(r"\d+", "...", last)


@pytest.mark.parametrize("page", ["README.md", "docs/gallery.md"])
def test_pictures_and_links_exist(page):
    page = README.parent / page
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert len(targets) > 10
    assert [target for target in targets if not (page.parent / target).exists()] == []
