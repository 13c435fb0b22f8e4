"""Recipes: what the originals' files say, and what is said about a wrong file."""

import dataclasses
from pathlib import Path

import pytest

from mien.errors import ConfigError
from mien.model.folder import SHIPPED, read_model_folder
from mien.settings import to_mapping
from mien.train.config import TrainConfig
from mien.train.recipes import config_from, load_recipe, recipe_names
from mien.train.start import is_pretrained

ORIGINALS = (
    "happy-nothappy", "happy-sad-angry", "happy-sad-angry-vgg16", "lenet5", "fer2013-cnn",
    "fer2013-cnn-augmented", "fer2013-resnet50", "fer2013-vgg16", "face-expression",
)  # fmt: skip
PLATEAU = {"schedule": "plateau", "plateau_factor": 0.5}
HAPPY_SAD_ANGRY = {
    **PLATEAU, "plateau_patience": 3, "plateau_floor": 1e-6, "patience": 5, "monitor": "loss",
    "batch_size": 32, "learning_rate": 1e-3, "rotation": 30.0, "shift": 0.2, "shear": 0.2, "zoom": 0.2,
    "flip": True, "fill": "nearest", "contrast": 0.0, "classes": ("angry", "happy", "sad"), "split_seed": 42,
    "h5": True,
}  # fmt: skip
# What docs/explanation/five-projects.md knows of each; epochs are per phase.
KNOWN = {
    "happy-nothappy": {
        "learning_rate": 1e-3, "schedule": "constant", "batch_size": 32, "augment": False, "patience": 0,
        "monitor": "last", "h5": True,
    },
    "happy-sad-angry": HAPPY_SAD_ANGRY,
    "happy-sad-angry-vgg16": {"weights": "imagenet", "unfreeze": 0, **HAPPY_SAD_ANGRY},
    "lenet5": {
        "learning_rate": 1e-3, "schedule": "constant", "batch_size": 32, "flip": True, "rotation": 9.0,
        "zoom": 0.1, "contrast": 0.1, "shift": 0.0, "cutmix": 2.0, "mixup_prob": 1.0, "mixup_until": 1.0,
        "monitor": "accuracy", "dropout": 0.0, "l2": 0.0, "classes": ("angry", "happy", "sad"),
    },
    "fer2013-cnn": {"learning_rate": 1e-3, "augment": False, "monitor": "accuracy", **PLATEAU},
    "fer2013-cnn-augmented": {
        "network": "fer2013-cnn", "learning_rate": 1e-4, "rotation": 20.0, "zoom": 0.15, "flip": True,
        "shift": 0.0, "contrast": 0.0, **PLATEAU,
    },
    "fer2013-resnet50": {"weights": "imagenet", "unfreeze": 0, "monitor": "accuracy", **PLATEAU},
    "fer2013-vgg16": {"weights": "imagenet", "unfreeze": 0, "learning_rate": 1e-4, **PLATEAU},
    "face-expression": {
        "learning_rate": 1e-4, "patience": 3, "schedule": "plateau", "monitor": "accuracy", "augment": True,
        "h5": True,
    },
}  # fmt: skip
EPOCHS = {
    "happy-nothappy": [30], "happy-sad-angry": [30], "happy-sad-angry-vgg16": [30], "lenet5": [10, 10],
    "fer2013-cnn": [10], "fer2013-cnn-augmented": [31], "fer2013-resnet50": [10, 33], "fer2013-vgg16": [2, 3],
    "face-expression": [100],
}  # fmt: skip
# What mien adds and none of the projects had; `fill` and so on do not matter where nothing is varied.
NOT_THEIRS = ("votes_weight", "label_smoothing", "mixup", "weight_decay", "ema")
NOT_VARIED = ("brightness", "noise", "blur", "erasing")
PUBLISHED = {
    "happy-nothappy": "68.18 %", "happy-sad-angry-vgg16": ".9021", "lenet5": ".79", "fer2013-cnn": "49.0 %",
    "fer2013-cnn-augmented": "56.2 %", "fer2013-resnet50": "64.4 %", "fer2013-vgg16": "55.4 %",
}  # fmt: skip


@pytest.mark.parametrize("name", ORIGINALS)
def test_a_recipe_says_what_is_known_of_the_original(name):
    config = config_from(load_recipe(name), {})
    known = {"network": name, "optimizer": "adam", "class_weights": "none", **KNOWN[name]}
    assert {key: getattr(config, key) for key in known} == known
    assert [phase.epochs for phase in config.in_phases()] == EPOCHS[name]
    assert {key: getattr(config, key) for key in NOT_THEIRS} == dict.fromkeys(NOT_THEIRS, 0.0)
    if config.augment:
        assert {key: getattr(config, key) for key in NOT_VARIED} == dict.fromkeys(NOT_VARIED, 0.0)
    if name != "lenet5":
        assert config.cutmix == 0


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_gives_the_published_figure(name):
    assert PUBLISHED[name] in load_recipe(name).published


def test_lenet5_balances_classes_in_its_second_phase():
    first, second = config_from(load_recipe("lenet5"), {}).in_phases()
    assert (first.class_weights, first.schedule, first.patience) == ("none", "constant", 0)
    assert (second.class_weights, second.schedule, second.patience) == ("full", "plateau", 5)
    assert (second.plateau_factor, second.plateau_patience, second.learning_rate) == (0.5, 3, 1e-3)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("mobilenet", 38),
        ("efficientnet", 75),
        ("fer2013-resnet50", 32),
        ("fer2013-vgg16", 4),
        ("fine-tune", -1),
    ],
)
def test_transfer_recipes_fit_the_head_first(name, layers):
    first, second = config_from(load_recipe(name), {}).in_phases()
    assert (first.unfreeze, second.unfreeze) == (0, layers)
    assert second.learning_rate <= first.learning_rate


@pytest.mark.parametrize("name", ["mobilenet", "efficientnet"])
def test_what_the_originals_planned_is_used(name):
    config = config_from(load_recipe(name), {})
    assert min(config.l2, config.shear, config.noise, config.brightness, config.shift, config.patience) > 0


def test_the_shipped_network_was_trained_by_its_recipe():
    metadata = read_model_folder(SHIPPED / "mien").metadata
    stored = metadata.training["settings"]
    pictures = sum(metadata.training["data"]["counts"]["train"].values())
    asked = to_mapping(config_from(load_recipe("mien"), {}).cutting_like(None).for_pictures(pictures))
    how = {"precision": stored["precision"]}  # depends on the machine, not on what is learnt
    last_steps = {"network": "slim", "size": 48, "blend": 0.65}  # see docs/models-changelog.md
    assert {name: asked[name] for name in stored} | how | last_steps == stored
    assert metadata.preprocess.margin == asked["margin"]
    assert not Path(metadata.training["data"]["path"]).is_absolute()  # says nothing of whose machine it was


def test_on_a_pretrained_base_the_head_learns_by_adamw():
    """SGD's rate for whole networks makes the loss of a head on frozen features rise before it falls."""
    for how, wanted in (
        ({}, ("sgd", 0.08)),
        ({"network": "wide"}, ("sgd", 0.08)),
        ({"network": "efficientnet-lite0"}, ("adamw", 0.003)),
        ({"network": "MobileNetV2", "unfreeze": -1}, ("adamw", 0.0003)),
        ({"network": "fer2013-vgg16", "weights": "none"}, ("sgd", 0.08)),
        ({"init_from": "mien"}, ("adamw", 0.003)),
    ):
        config = TrainConfig(**how)
        config = config.for_pictures(28709, pretrained=is_pretrained(config))
        assert (config.optimizer, pytest.approx(config.learning_rate)) == wanted, how


def test_default_is_the_defaults():
    assert config_from(load_recipe("default"), {}) == TrainConfig() == config_from(None, {})


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_explains_itself(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description.endswith((".", "it"))
    assert recipe.source
    assert recipe.command.startswith("mien train ")


def test_options_win_over_the_recipe_and_the_recipe_over_the_defaults():
    config = config_from(load_recipe("fer2013-cnn"), {"batch_size": 7, "flip": False})
    assert (config.batch_size, config.flip, config.learning_rate) == (7, False, 1e-3)
    assert config.seed == TrainConfig().seed


def test_an_option_replaces_every_value_that_the_recipe_gives():
    lenet5 = config_from(
        load_recipe("lenet5"), {"epochs": 2, "patience": 1, "class_weights": "sqrt"}
    ).in_phases()
    assert [(phase.epochs, phase.patience, phase.class_weights) for phase in lenet5] == [(2, 1, "sqrt")] * 2
    mobilenet = config_from(load_recipe("mobilenet"), {"unfreeze": 9}).in_phases()
    assert [phase.unfreeze for phase in mobilenet] == [0, 9]


def test_a_recipe_stays_as_it_was_read():
    recipe = load_recipe("lenet5")
    config_from(recipe, {"epochs": 1})
    assert recipe.settings["epochs"] == 10
    assert recipe.settings["phases"][0]["epochs"] == 10


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "my own" / "mine.toml"
    path.parent.mkdir()
    path.write_text(
        '[recipe]\ndescription = "mine"\n[expected]\nscore = "70 %"\ntime = "1 h"\nhardware = "a laptop"\n'
        '[train]\nmerge = ["nothappy=sad+angry"]\nepochs = 3\n[[phases]]\nepochs = 2\n',
        encoding="utf-8",
    )
    recipe = load_recipe(str(path))
    assert (recipe.name, recipe.command) == ("mine", f"mien train DATA --recipe '{path}'")
    assert dataclasses.astuple(recipe.expected) == ("70 %", "1 h", "a laptop")
    config = config_from(recipe, {})
    assert config.merge == ("nothappy=sad+angry",)
    assert [phase.epochs for phase in config.in_phases()] == [3, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nepoch = 3\n", "there is no setting 'epoch'; did you mean 'epochs'"),
        ("[train]\nepochs = -3\n", "epochs must be above 0, got -3"),
        ('[train]\nepochs = "3"\n', "epochs must be of type int"),
        ('[train]\noptimizer = "lion"\n', "optimizer must be one of sgd, adam, adamw"),
        ("[train]\n[[phases]]\nbatch_size = 3\n", "a phase cannot change batch_size"),
        ('[train]\n[[phases]]\nepochs = "many"\n', "epochs must be of type int"),
        ("[train]\n[[phases]]\nlearning_rate = -1\n", "learning_rate must be above 0"),
        ("[train]\nphases = []\n", r"write later phases as \[\[phases\]\]"),
        ("[phases]\nepochs = 1\n", r"each later phase as a table of its own"),
        ("train = 3\n", r"train must be a table"),
        ("[trian]\nepochs = 3\n", "there is no table 'trian'"),
        ("[recipe]\nauthor = 'me'\n", "there is no setting 'author'"),
        ("[expected]\nscore = '3'\n", "table expected lacks hardware, time"),
        ("[train\n", "is not TOML"),
    ],
)
def test_a_wrong_file_is_named_in_one_line(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe(str(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_names_the_nearest_and_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match="no recipe 'lenet'; did you mean 'lenet5'"):
        load_recipe("lenet")
    with pytest.raises(ConfigError, match=r"known: default, .*mobilenet"):
        load_recipe("qqq")
    with pytest.raises(ConfigError, match=r"cannot read the recipe .*none\.toml: No such file"):
        load_recipe(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match="not text in UTF-8"):
        load_recipe(str(tmp_path / "latin.toml"))


def test_a_wrong_option_is_an_error():
    with pytest.raises(ConfigError, match="settings: there is no setting 'epoch'"):
        config_from(None, {"epoch": 3})
    with pytest.raises(ConfigError, match="learning_rate must be above 0"):
        config_from(load_recipe("lenet5"), {"learning_rate": -1.0})
