"""The pages of docs/ say what the code does."""

import importlib.util
import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from PIL import Image

from lwrefinenet import weights
from lwrefinenet.cli.data_convert import Format
from lwrefinenet.data.benchmarks import cityscapes, nyu, pascal
from lwrefinenet.data.layouts import READERS
from lwrefinenet.models.zoo import MODELS, needs_backbone
from lwrefinenet.runtimes.scales import USUAL_SCALES
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.run_dir import FREE_TO_CHANGE

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def script_named(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_pages_are_what_the_script_writes_from_code_and_results():
    script = script_named("make_docs")
    pages = script.pages()
    assert {path.name for path in pages} == {"recipe.md", "README.md", "deploy.md", "networks.md"}
    for path, text in pages.items():
        assert path.read_text() == text, f"{path}: run python scripts/make_docs.py"
    assert all(f"| `{entry.name}` |" in pages[script.RECIPE_FIELDS] for entry in fields(Recipe))


def test_every_shipped_weights_has_a_card_that_is_up_to_date():
    script = script_named("make_cards")
    pages = script.pages()
    for path, text in pages.items():
        assert path.read_text() == text, f"{path}: run python scripts/make_cards.py"
    cards = set(pages) - {script.README, script.INDEX}
    assert {path for path in PAGES if path.parent == script.CARDS} == {*cards, script.INDEX}
    assert {path.stem for path in cards} == set(weights.SHIPPED)
    for name in weights.SHIPPED:
        assert f"({name}.md)" in pages[script.INDEX]
        with Image.open(ROOT / "docs" / "pictures" / "failures" / f"{name}.jpg") as picture:
            assert picture.info["comment"].decode() == weights.SHIPPED[name].sha256, (
                f"python scripts/make_failures.py {name}"
            )


def test_the_speeds_beside_the_scores_are_of_one_run_with_all_weights():
    speed = result("weights_speed")
    assert set(weights.SHIPPED) < set(speed["subjects"])
    assert all(set(found["ways"]) == {"pytorch", "openvino"} for found in speed["subjects"].values())
    assert all(speed["subjects"][name]["sha256"] == shipped.sha256 for name, shipped in weights.SHIPPED.items())


def test_what_is_said_of_the_targets_is_true():
    """The page names those that are reached, and no other."""
    script = script_named("make_cards")
    goals = script.published()["targets"]
    assert {goal["weights"] for goal in goals} <= set(weights.SHIPPED)
    reached = [goal["weights"] for goal in goals if script.reaches(script.scored_for(goal), goal["target"])]
    said = re.search(r"\*\*Reached: (.*?)\.\*\*", script.INDEX.read_text())
    assert said and re.findall(r"`(.*?)`", said[1]) == reached


def test_what_the_readme_says_beside_a_published_network_is_true():
    assert (
        "42.6 % mean IoU on NYUv2, where the\n"
        "published RF-LW-ResNet-50 had 41.7 %, and 42.4-42.5 % when it was trained anew in 2020 (on the same crop), with 4.8 M "
        "parameters for 27 M, in well under half"
    ) in (ROOT / "README.md").read_text()
    (published,) = (
        other for other in script_named("make_cards").published()["nyu"] if other["name"] == "RF-LW-ResNet-50"
    )
    assert published["mean_iou"] == "41.7" and published["note"].startswith("2020: 42.4-42.5;")
    assert 0.4255 <= result("nyu_rf_lw_efficientnet_lite2_test_crop")["mean_iou"] < 0.4265
    ours, theirs = (
        result("weights_speed")["subjects"][name] for name in ("rf_lw_efficientnet_lite2.nyu", "rf_lw_resnet50")
    )
    assert ours["parameters"] < 4.85e6
    for way in ("pytorch", "openvino"):
        assert ours["ways"][way]["end_to_end"]["p50"] < theirs["ways"][way]["end_to_end"]["p50"] / 2.5


def test_a_target_of_two_tasks_is_reached_by_both():
    reaches = script_named("make_cards").reaches
    assert reaches({"mean_iou": 0.425}, "42.5 %")
    assert not reaches({"mean_iou": 0.4249}, "42.5 %")
    assert reaches({"mean_iou": 0.41, "depth": {"rmse": 0.6}}, "40.0 %, 0.60 m")
    assert not reaches({"mean_iou": 0.41, "depth": {"rmse": 0.61}}, "40.0 %, 0.60 m")
    assert not reaches({"mean_iou": 0.39, "depth": {"rmse": 0.5}}, "40.0 %, 0.60 m")


def test_failures_are_the_worst_of_each_part_of_the_pictures():
    script = script_named("make_failures")
    scores = [0.5, 0.2, 0.9, float("nan"), 0.1, 0.6, 0.8, 0.7]
    assert script.worst_of_parts(scores) == [1, 2, 4, 7]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_page_on_data_names_every_reader_and_format():
    page = (ROOT / "docs" / "data.md").read_text()
    assert not [name for name in [*READERS, *(each.value for each in Format)] if f"`{name}`" not in page]


def test_the_page_on_training_names_every_recipe_and_free_field():
    page = (ROOT / "docs" / "training.md").read_text()
    names = [path.name for path in (ROOT / "recipes").glob("*.toml")]
    assert not [name for name in [*names, *FREE_TO_CHANGE] if f"`{name}`" not in page]


def result(name):
    return json.loads((ROOT / "results" / f"{name}.json").read_text())


def test_the_stated_worth_of_whole_multiples_is_the_measured_one():
    """One row of the page for each way, one column for each scale, and the loss that docs/networks.md states."""
    found = result("camvid_whole_multiples")["scales"]
    page = (ROOT / "docs/training.md").read_text()
    by_way = {}
    for multiple, row in ((32, "the nearest whole multiples of 32"), (1, "the picture's size times that, as it comes")):
        scores = {one["input_scale"]: 100 * one["mean_iou"] for one in found if one["size_multiple"] == multiple}
        assert f"| {row} | {' | '.join(f'{score:.1f}' for score in scores.values())} |" in page
        assert f"| seen at | {' | '.join(f'{scale:g}' for scale in scores)} |" in page
        by_way[multiple] = scores
    most, scale = max((by_way[32][scale] - score, scale) for scale, score in by_way[1].items())
    said = f"lost up to {most:.1f} points of mean IoU on CamVid's val without, at {scale:g} of the pictures' size"
    assert said in (ROOT / "docs/networks.md").read_text()


def test_the_stated_worth_of_whole_multiples_for_padding_on_both_sides_is_the_measured_one():
    found = result("nyu_rf_lw_mobilenetv2_whole_multiples")
    assert found["protocol"]["published_crop"]
    by_way = {one["size_multiple"]: round(100 * one["mean_iou"], 1) for one in found["scales"]}
    page = (ROOT / "docs/training.md").read_text()
    assert f"has {by_way[1]:.1f} % on NYUv2's 625x468 crop as it comes, and {by_way[32]:.1f} % at 640x480" in page
    said = f"worth {by_way[32] - by_way[1]:.1f} points on NYUv2's 625x468 crop, on pictures that it has learnt"
    assert said in (ROOT / "docs/networks.md").read_text()


def test_the_stored_sizes_are_those_of_the_networks():
    script, stored = script_named("measure_networks"), result("networks")["networks"]
    assert set(stored) == set(script.NETWORKS)
    for label in ("rf_lw_mobilenetv2", "rf_lw_nano_mobilenetv2", "rf_lw_nasnet_mobile", "mt_lw_mobilenetv2, 3 tasks"):
        assert script.size_of(label) == stored[label]


def test_every_network_with_a_size_of_its_own_is_measured_and_the_published_ones_are_as_published():
    script = script_named("make_docs")
    stored, published = result("networks")["networks"], tomllib.loads(script.PUBLISHED.read_text())
    assert {found["network"] for found in stored.values()} == {name for name in MODELS if not needs_backbone(name)}
    assert set(published) <= set(stored)
    for label in ("rf_lw_resnet50", "rf_lw_resnet101", "rf_lw_mobilenetv2"):
        found, stated = stored[label], published[label]
        digits = len(stated["multiply_adds"].partition(".")[2])
        assert round(found["multiply_adds"]["512x512"] / 1e9, digits) == float(stated["multiply_adds"])
        assert round(found["parameters"] / 1e6, digits) == float(stated["parameters"])


def test_the_readme_states_every_networks_size():
    readme, networks = (ROOT / "README.md").read_text(), result("networks")["networks"]
    for label, found in networks.items():
        assert f"| {found['parameters']:,} |" in readme, label
    fewer = (40 - 21) * (9 * 256 + 1)  # of the head
    found = networks["rf_resnet101"]["parameters"] - fewer
    assert f"{found:,} parameters for 101 layers and 21 classes" in readme


def test_the_stated_speeds_are_the_measured_ones():
    page = (ROOT / "docs" / "training.md").read_text()
    rate, waiting = result("loader_rate"), result("loader_waiting")
    measured = {
        "training_speed": "rf_lw_mobilenetv2`, ",
        "training_speed_bfloat16": "rf_lw_efficientnet_lite0` in bfloat16, ",
    }
    for name, subject in measured.items():
        speed = result(name)
        row = next(line for line in page.splitlines() if f"a step of `{subject}6 crops of 500x500" in line)
        assert f"{speed['ratio']:.1f} times as fast by the clock, {speed['core_ratio']:.1f} times by the work" in row
        assert (speed["model"], speed["batch_size"], speed["crop_size"]) == (subject.partition("`")[0], 6, [500, 500])
        assert speed["ways"]["ours"].startswith("bfloat16") == ("bfloat16" in subject)
    pictures = rate["pictures_per_core_second"]
    assert f"{pictures['none']['median']:.0f} pictures a second; {pictures['memory']['median']:.0f} with" in page
    assert f"{waiting['share_waiting']:.1%}".replace("%", " %") + " of the epoch" in page


def test_the_picture_of_scores_and_milliseconds_is_of_todays_files():
    page, drawn = (ROOT / "README.md").read_text(), result("inference_avx2")
    assert drawn["command"].endswith("--output results/inference_avx2.json --plot docs/pictures/accuracy_speed.png")
    trained = {name: found["sha256"] for name, found in drawn["subjects"].items() if found["trained"]}
    assert trained and trained == {name: weights.SHIPPED[name].sha256 for name in trained}
    nano, resnet = (
        drawn["subjects"][name]["ways"]["openvino"]
        for name in ("rf_lw_nano_efficientnet_lite0.camvid", "rf_lw_resnet50")
    )
    now, then = (
        result(file)["subjects"]["rf_lw_nano_efficientnet_lite0.camvid"]["macs"]
        for file in ("inference_avx2", "inference")
    )
    assert f"in place of 0.8, for {now / then:.1f} times the work" in page
    took = f"takes {nano['end_to_end']['p50']:.0f} ms, {nano['ratio']:.1f} times as fast as the published way in the same run"
    assert f"{took}, and `rf_lw_resnet50` {resnet['end_to_end']['p50']:.0f} ms" in page


def test_the_stated_way_from_logits_to_colours_is_the_measured_one():
    page, tail = (ROOT / "docs" / "deploy.md").read_text(), result("tail")
    assert f"takes {1000 * tail['seconds']['ours']:.1f} ms on two cores, {tail['ratio']:.1f} times as fast" in page
    assert tail["equal_labels"] == 1
    assert "4000x3000 pixels with 60 classes stay under 2 GB" in (ROOT / "README.md").read_text()
    assert tail["large"]["usual"] < 2000


def test_the_stated_cost_of_int8_is_the_measured_one():
    page, scores = (ROOT / "docs" / "deploy.md").read_text(), result("int8_camvid_rf_lw_mobilenetv2")["int8"]
    assert (
        f"goes from {scores['before']:.1%} to {scores['after']:.1%} mean IoU on CamVid val with all layers in int8"
        in page
    )
    assert not scores["mixed"]


def test_the_stated_journey_is_the_measured_one():
    page, journey = (ROOT / "README.md").read_text(), result("own_data_journey")
    for command, lines in journey["output"].items():
        assert "\n".join([f"$ {command}", *lines]) in page
    scores = f"from {journey['mean_iou_before']:.1%} mean IoU on val before its first step to {journey['mean_iou_after']:.1%}"
    assert scores.replace("%", " %") in page
    assert f"after {sum(journey['seconds'].values()):.0f} seconds" in page
    assert sum(journey["seconds"].values()) < 180


def test_the_stored_proofs_hold():
    killed, processes = result("kill_test"), result("ddp_equality")
    assert killed["holds"] and killed["weights_equal"] and killed["last_checkpoint_equal"]
    assert len(killed["kills"]) >= 5
    assert any(kill["checkpoint_step"] for kill in killed["kills"])  # in the middle of an epoch
    assert processes["holds"]
    assert processes["largest_relative_difference"] < 1e-4


def test_the_page_on_scores_tells_what_dumped_files_are_called():
    page = (ROOT / "docs" / "evaluate.md").read_text()
    assert f"`{pascal._to_the_server('test').path(Path('2008_000006.jpg'))}`" in page
    assert f"`{cityscapes.TO_THE_SERVER.path(Path('berlin_000000_000019_leftImg8bit.png'))}`" in page
    assert f"at {', '.join(f'{scale:g}' for scale in USUAL_SCALES[:-1])} and {USUAL_SCALES[-1]:g} of its size" in page
    assert f"{2 * sum(scale**2 for scale in USUAL_SCALES):.0f} times the work" in page
    rows, columns = nyu.PUBLISHED_CROP
    assert f"rows {rows.start}-{rows.stop - 1} and columns {columns.start}-{columns.stop - 1}" in page
