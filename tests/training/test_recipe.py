from pathlib import Path

import pytest

from lwrefinenet.errors import RecipeError
from lwrefinenet.models.zoo import MODELS
from lwrefinenet.training.recipe import Recipe
from tests.test_docs import script_named

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
LEAST = {"model": "rf_lw_resnet50", "epochs": 3}


def test_a_misspelt_key_is_refused_with_the_nearest_name():
    with pytest.raises(RecipeError, match="unknown field 'epocs'; did you mean 'epochs'"):
        Recipe.from_dict({**LEAST, "epocs": 3})


def test_a_crop_is_mixed_in_one_way_or_the_other():
    with pytest.raises(RecipeError, match=r"cut_mix is 0.6; expected at most 1 with class_mix \(0.5\)"):
        Recipe.from_dict({**LEAST, "class_mix": 0.5, "cut_mix": 0.6})
    with pytest.raises(RecipeError, match=r"balanced_mix is True; expected false without class_mix or cut_mix"):
        Recipe.from_dict({**LEAST, "balanced_mix": True})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "epochs is 0; expected at least 1"),
        ("epochs", "ten", "epochs is 'ten'; expected a whole number"),
        ("epochs", True, "epochs is True; expected a whole number"),
        ("crop_size", [480], r"crop_size is \[480\]; expected \[two numbers\]"),
        ("crop_size", [480, 8], r"expected at least \[32, 32\]"),
        ("scale_range", [2.0, 0.5], "0.05 <= low <= high <= 20"),
        ("scale_range", [1e-6, 1.0], "0.05 <= low"),  # a crop would be cut from a picture of terabytes
        ("optimizer", "lion", "'lion'; expected one of adamw, sgd"),
        ("ema_decay", 1.5, "expected 0 to 1"),
        ("late_epochs", 2, "late_crop_size or late_scale_range"),
        ("late_scale_range", [0.5, 1.0], "late_crop_size or late_scale_range"),
        ("color_jitter", 6, "expected 0 to 1"),
        ("rotation", -1, "rotation is -1.0; expected 0 to 180 degrees"),
        ("rotation", 181, "rotation is 181.0; expected 0 to 180 degrees"),
        ("drop_path", 1.1, "drop_path is 1.1; expected 0 to 1"),
        ("input_scale", 3, "input_scale is 3.0; expected 0.25 to 2"),
        ("size_multiple", 257, "size_multiple is 257; expected 1 to 256"),
        ("stage_epochs", [1, 1], "stages that make 3 epochs together"),
        ("stage_lr_scales", [1.0], "nothing without stage_epochs"),
        ("stage_data", "voc", "stage_data is 'voc'; expected a list of texts"),
        ("milestones", [2], 'a list with schedule "multistep"'),
        ("decay_epochs", 2, 'a number with schedule "wsd"'),
        ("schedule", "wsd", 'decay_epochs is 0; expected a number with schedule "wsd"'),
        ("schedule", "multistep", r"milestones is \(\); expected a list"),
        ("trackers", ["tensorbord"], "trackers holds 'tensorbord'; expected tensorboard, wandb"),
        ("device_batch", 0, "device_batch is 0; expected at least 1"),
        ("lovasz_stride", 0, "lovasz_stride is 0; expected at least 1"),
        ("lovasz_stride", 2, "lovasz_stride is 2; expected 1 without lovasz_weight"),
        ("seed", 2**64, r"seed is \d+; expected 0 or more"),
    ],
)
def test_a_value_out_of_range_is_refused(field, value, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.from_dict({**LEAST, field: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stage_epochs": [1, 2], "stage_lr_scales": [1.0, -0.1]}, "stage_lr_scales is .*factors above 0"),
        ({"crop_size": [32, 32], "device_batch": 1}, "crop_size is .*more than one cell"),
        ({"crop_size": [32, 32], "batch_size": 9, "device_batch": 4}, "crop_size is .*more than one cell"),
        ({"batch_size": 1, "late_epochs": 1, "late_crop_size": [32, 32]}, "late_crop_size is .*more than one cell"),
        ({"teacher_channel_weight": 2.0}, "teacher_channel_weight is 2.0; expected 0 without a teacher"),
        ({"teacher_flip": True}, "teacher_flip is True; expected false without a teacher"),
    ],
)
def test_values_that_do_not_go_together_are_refused(values, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.from_dict({**LEAST, **values})


def test_overrides_replace_values_of_the_file(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('model = "rf_lw_resnet50"\nepochs = 100\n')
    recipe = Recipe.from_toml(path, ["epochs=20", "crop_size=[64, 96]", "backbone_weights=none"])
    assert (recipe.epochs, recipe.crop_size, recipe.backbone_weights) == (20, (64, 96), "none")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("teacher_flip=true", "teacher_flip is True; expected false without a teacher."),
        ("teacher_flip=2", "teacher_flip is 2; expected true or false."),
        ("loss=hinge", "loss is 'hinge'; expected one of "),
        ('trackers=["visdom"]', "trackers holds 'visdom'; expected "),
    ],
)
def test_whatever_does_not_fit_names_the_file_once(tmp_path, override, message):
    path = tmp_path / "r.toml"
    path.write_text('model = "rf_lw_resnet50"\nepochs = 100\n')
    with pytest.raises(RecipeError) as error:
        Recipe.from_toml(path, [override])
    assert str(error.value).startswith(f"{path}: {message}")


def test_an_override_whose_list_lost_its_quotes_says_how_lists_are_written(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('model = "rf_lw_mobilenetv2"\nepochs = 1\n')
    assert Recipe.from_toml(path, ['teacher=["a", "b"]']).teachers == ("a", "b")
    assert Recipe.from_toml(path, ["teacher=a"]).teachers == ("a",)
    with pytest.raises(RecipeError, match=r"--set 'teacher=\[a, b\]': is no list as TOML has it"):
        Recipe.from_toml(path, ["teacher=[a, b]"])


def test_an_override_without_equals_sign_says_what_is_expected(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('model = "rf_lw_resnet50"\nepochs = 100\n')
    with pytest.raises(RecipeError, match="expected key=value"):
        Recipe.from_toml(path, ["epochs"])


def test_what_is_written_reads_back_equal(tmp_path):
    stages = {"stage_epochs": [1, 2], "stage_data": ["sbd:train_noval", "voc"], "stage_lr_scales": [1, 0.5]}
    late = {"late_crop_size": [64, 64], "late_epochs": 1}
    recipe = Recipe.from_dict({**LEAST, **late, **stages, "trackers": [], "backbone_weights": 'say "hi"\\'})
    path = tmp_path / "r.toml"
    path.write_text(recipe.to_toml())
    assert Recipe.from_toml(path) == recipe


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"none\.toml: no readable recipe"):
        Recipe.from_toml(tmp_path / "none.toml")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid_and_names_its_own_command(path):
    assert Recipe.from_toml(path).model in MODELS
    assert f"lwrefinenet train recipes/{path.name} --data" in path.read_text()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_waiting_of_any_recipe_can_be_measured_in_an_epoch(path):
    """Whatever its stages, late epochs and schedule are."""
    recipe = script_named("measure_waiting").one_epoch(Recipe.from_toml(path))
    assert recipe.epochs == 1 and Recipe.from_toml(path).batch_size == recipe.batch_size
