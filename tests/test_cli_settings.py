"""The settings of recipes on the command line, and what `scratchgan recipes` says of them."""

import pytest
from command_line import call

import scratchgan
from scratchgan import training
from scratchgan.cli import main

pytestmark = pytest.mark.usefixtures("alone")


def test_settings_of_a_recipe_are_options():
    options = "--z-dim 8 --widths-g 16,8 --widths-d=4 --beta1 0.5 --lr 1e-3 --lr-d 2e-3 --steps 2 --quiet"
    assert main(["train", *options.split(), "--data", "digits", "mlp"]) == 0  # in any order
    settings = training.RunFolder.open("runs/mlp").config["settings"]
    usual = {setting.name: setting.default for setting in scratchgan.recipes.get("mlp").settings}
    assert settings == {**usual, "z_dim": 8, "widths_g": [16, 8], "widths_d": [4], "negative_slope": 0.1, "lr_g": 1e-3,
                        "lr_d": 2e-3, "beta1": 0.5}
    assert scratchgan.load("runs/mlp").generator[0].params["weight"].shape == (16, 8)
    tiny = "--ngf 2 --ndf 2 --z-dim 3 --steps 1 --batch-size 4 --quiet --data digits"
    for flag, value in (("--joint-batch", True), ("--no-joint-batch", False)):
        assert main(["train", "dcgan28", flag, "--out", flag[2:], *tiny.split()]) == 0
        assert training.RunFolder.open(flag[2:]).config["settings"]["joint_batch"] is value


def test_rates_decay_when_asked_to():
    options = "--schedule cosine --lr-final 0.1 --widths-g 8 --widths-d 8 --data digits --steps 3 --quiet"
    assert main(["train", "mlp", *options.split()]) == 0
    settings = training.RunFolder.open("runs/mlp", lock=False).config["settings"]
    assert (settings["schedule"], settings["lr_final"], settings["decay_steps"]) == ("cosine", 0.1, 3)
    assert main(["train", "--resume", "runs/mlp", "--steps", "5", "--quiet"]) == 0
    game = scratchgan.load("runs/mlp")
    assert game.record["settings"]["decay_steps"] == 3 and game.optimizer_g.steps == 5
    assert {optimizer.lr for optimizer in game.optimizers.values()} == {3e-4 * 0.1}


@pytest.mark.parametrize("given, needed", [
    ("mlp --lr-final 0.5", "--schedule is constant"), ("mlp --beta2-final 0.9", "--schedule is constant"),
    ("mlp --r1 1 --gamma-final 0.5", "--schedule is constant"), ("mlp --unroll-lr 0.1", "--unroll is 0"),
    ("mlp --instance-noise-steps 9", "--instance-noise is 0"), ("mlp --decay-steps 2", "--schedule is constant"),
    ("mlp --gamma-final 0.5 --schedule linear", "--r1 is 0 and --r2 is 0: give --r1 or --r2, too"),
    ("mlp --schedule cosine", "nothing changes (--lr-final 1, --beta2-final 0, --gamma-final 1)"),
    ("stacked --lr-final 1 --beta2-final 0 --gamma-final 1 --schedule linear", "nothing changes (--lr-final 1")])
def test_a_setting_without_effect_is_refused(given, needed, capsys):
    assert main(["train", *given.split(), "--steps", "1", "--data", "digits"]) == 2
    message = capsys.readouterr().err
    assert "has no effect while" in message and needed in message


def test_help_of_a_recipe_shows_its_settings(capsys):
    general, *others = (" ".join(call(capsys, *arguments, "--help").split()) for arguments in (
        ["train"], ["train", "mlp"], ["train", "dcgan28"], ["profile", "mlp"]))
    for name, text in zip(("mlp", "dcgan28", "mlp"), others):
        recipe = scratchgan.recipes.get(name)
        assert f"settings of {name}:" in text and "--batch-size N" in text and "--lr X sets --lr-g, --lr-d" in text
        for setting in recipe.settings:
            assert setting.option in text and setting.option not in general.replace("--lr-d 1e-4", "")
        assert "numbers in a noise vector (default: " in text
        assert text.index("--z-dim") < text.index("objective and parts of the game") < text.index("--gp ")
    assert "--ngf" not in others[0] and "--widths-g" not in others[1]
    assert "scratchgan train mlp --help" in general and "settings of mlp:" not in general
    assert others[0].count(" --z-dim ") == 1


def test_options_of_recipes_do_not_hide_those_of_the_command():
    """An option stands for one thing, whatever the recipe."""
    from scratchgan.cli import parser
    from scratchgan.cli.settings import by_option
    from scratchgan.settings import option
    actions = next(action for action in parser()._actions if action.choices).choices
    for command in ("train", "profile"):
        own = {name for action in actions[command]._actions if action.help != "==SUPPRESS=="
               for name in action.option_strings}
        for name in scratchgan.recipes.names():
            assert own.isdisjoint(map(option, by_option(scratchgan.recipes.get(name))))


def test_recipes_lists_names_and_sources(capsys):
    lines = [" ".join(line.split()) for line in call(capsys, "recipes").splitlines()]
    recipes = [scratchgan.recipes.get(name) for name in scratchgan.recipes.names()]
    assert lines == [f"{recipe.name} {recipe.summary} source: {recipe.source}" for recipe in recipes]


@pytest.mark.parametrize("name", scratchgan.recipes.names())
def test_recipes_describes_one(capsys, name):
    recipe = scratchgan.recipes.get(name)
    lines = [" ".join(line.split()) for line in call(capsys, "recipes", name).splitlines()]
    assert lines[:2] == [f"{name}: {recipe.summary}", f"source: {recipe.source}"]
    assert any(line.startswith("objective: ") for line in lines)
    optimizers = recipe.build().optimizers
    for player, optimizer in optimizers.items():
        assert any(line.startswith(f"optimizer of {player}: {type(optimizer).__name__}(lr=") for line in lines)
    length = (f"{recipe.epochs} epochs, at least {recipe.min_steps:,} steps" if recipe.steps is None
              else f"{recipe.steps:,} steps")
    schedule = f"schedule: {length}; batches of {recipe.batch_size} "
    assert any(line.startswith(schedule) for line in lines)
    for setting in recipe.settings:
        assert any(line.startswith(f"{setting.option} ") and setting.help in line for line in lines)
    system = recipe.build()
    shown = [name for name in system.networks if name != "average"]
    assert all(f"{network} output parameters" in lines for network in shown)
    counts = [int(line.rpartition(" ")[2].replace(",", "")) for line in lines if line.startswith("in all ")]
    assert counts == [system.networks[network].theta.size for network in shown]
    if name == "mlp":
        assert "0 Linear(64, 256) 256 16,640" in lines and "4 Linear(128, 1) 1 129" in lines and "input 64" in lines
