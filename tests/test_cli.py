import dataclasses
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from typer.main import get_command

import lwrefinenet
from lwrefinenet import cli, provenance, weights
from lwrefinenet.errors import LwRefineNetError
from lwrefinenet.images import read_mask
from lwrefinenet.labels import LABEL_SETS
from lwrefinenet.meta import Score
from lwrefinenet.models.published import PUBLISHED, _published_name
from lwrefinenet.models.zoo import create_model
from lwrefinenet.training.recipe import Recipe
from tests.shapes import shapes_picture, write_shapes
from tests.tiny import TINY_META, build_tiny

TINY_RECIPE = (
    'model = "rf_lw"\nbackbone = "test_resnet"\ndecoder_channels = 8\nbackbone_weights = "none"\nepochs = 9\n'
    "batch_size = 4\ncrop_size = [32, 32]\nworkers = 0\n"
)


@pytest.fixture
def tiny_weights(tmp_path, tiny_model, tiny_meta):
    weights.save(tmp_path / "tiny.safetensors", tiny_model, tiny_meta)
    return tmp_path / "tiny.safetensors"


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(shapes_picture(seed=0)[0]).save(tmp_path / "street.png")
    return tmp_path / "street.png"


def test_predict_writes_mask_and_overlay_and_says_what_it_found(run, tmp_path, picture, tiny_weights):
    code, out, _ = run("predict", picture, "--weights", tiny_weights, "--output", tmp_path / "out")
    mask = read_mask(tmp_path / "out" / "street_mask.png")
    shares = {name: float(share) for name, share in re.findall(r"(nothing|square|disc) +([\d.]+)%", out)}
    assert code == 0
    for index, name in enumerate(("nothing", "square", "disc")):
        assert shares.get(name, 0.0) == pytest.approx(100 * (mask == index).mean(), abs=0.06)
    for step in ("decode", "prepare", "network", "upsample+argmax", "save"):
        assert re.search(rf"{re.escape(step)} \d+ ms", out)
    assert str(tmp_path / "out" / "street_overlay.jpg") in out


def test_predict_goes_on_after_a_bad_file_and_ends_with_1(run, tmp_path, picture, tiny_weights):
    (tmp_path / "empty.png").touch()
    code, out, err = run("predict", tmp_path / "*.png", "--weights", tiny_weights, "--output", tmp_path / "out")
    assert code == 1
    assert "1 of 2 pictures done" in out
    (complaint,) = (line for line in err.splitlines() if not line.startswith("Converting"))
    assert "empty.png: is empty (0 bytes)" in complaint
    assert (tmp_path / "out" / "street_mask.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["predict", "nowhere.jpg"], 2, "nowhere.jpg: there is no such file"),
        (["predict", "PICTURE", "--weights", "rf_lw_efficientnet_lite.camvid"], 2, "no weights are named"),
        (["predict", "PICTURE", "--weights", "gone.safetensors"], 2, "gone.safetensors: no such weights file"),
        (["predict", "PICTURE", "--weights", "PICTURE"], 1, "not a readable .safetensors file"),
        (["predict", "PICTURE", "--device", "gpu", "--weights", "WEIGHTS"], 2, "device 'gpu' is not known"),
        (
            ["predict", "PICTURE", "--weights", "WEIGHTS", "--max-pixels", "100"],
            1,
            "80x64 pixels (5,120), the limit is 100",
        ),
        (["predict", "PICTURE", "--weights", "WEIGHTS", "--output", "PICTURE/x"], 1, "nothing can be written here"),
        (["evaluate", "WEIGHTS", "--data", "nowhere"], 2, "nowhere: no such data folder"),
        (["train", "nowhere.toml", "--data", "."], 2, "nowhere.toml: no readable recipe"),
        (["import", "x.pth", "--network", "rf_lw_resnet50", "--dataset", "ade", "-o", "x"], 2, "'ade' is no label set"),
        (
            ["import", "PICTURE", "--network", "rf_lw_resnet50", "--dataset", "voc", "-o", "x.safetensors"],
            1,
            "no readable torch checkpoint",
        ),
        (["train", "r.toml", "--data", ".", "--fit"], 2, "--fit: fits a run to a time limit; give one"),
        (["train", "r.toml", "--data", ".", "--time-limit", "5"], 2, "--time-limit '5': expected a number with"),
        (["adjust", "WEIGHTS", "--data", ".", "-o", "x.onnx"], 2, "x.onnx: weights files end in .safetensors"),
        (
            ["adjust", "WEIGHTS", "--data", ".", "-o", "tiny.safetensors"],
            2,
            "tiny.safetensors exists; give --overwrite",
        ),
        (["average", "WEIGHTS", "-o", "x.safetensors"], 2, "a mean of 1 is none; give two files or more"),
        (["average", "WEIGHTS", "WEIGHTS", "-o", "x.onnx"], 2, "x.onnx: weights files end in .safetensors"),
        (["benchmark", "--train", "--loader"], 2, "--train and --loader are two measurements; give one of them"),
        (["benchmark", "a", "b", "--train"], 2, "--train measures one network, and 2 were given: a, b"),
        (["benchmark", "rf_lw_resnet5"], 2, "no weights are named 'rf_lw_resnet5'"),
        (
            ["benchmark", "--backends", "tensorrt"],
            2,
            "backend 'tensorrt' is not known; expected published, published-cuda, pytorch",
        ),
        (["benchmark", "--against", "torchvision:unet"], 2, "torchvision has no segmentation network 'unet'; it has"),
        (["export", "rf_lw_resnet5", "--format", "openvino"], 2, "no weights are named 'rf_lw_resnet5'"),
        (["export", "WEIGHTS", "--format", "openvino", "-o", "x.onnx"], 2, "x.onnx: files of openvino end in .xml"),
        (["export", "WEIGHTS", "--format", "openvino", "--static", "9"], 2, "--static '9': expected HEIGHTxWIDTH"),
        (["export", "WEIGHTS", "--format", "openvino", "--precision", "int8"], 2, "int8 needs pictures"),
        (
            ["export", "WEIGHTS", "--format", "onnx", "--data", "."],
            2,
            "--calibration and --data are for --precision int8",
        ),
        (["predict", "PICTURE", "--weights", "gone.onnx"], 2, "gone.onnx: no such file"),
        (
            ["predict", "PICTURE", "--weights", "WEIGHTS", "--tile", "16"],
            2,
            "a tile of 16 pixels shows a network too little",
        ),
        (
            ["predict", "PICTURE", "--weights", "WEIGHTS", "--tta-scales", "1,x"],
            2,
            "--tta-scales '1,x': expected numbers",
        ),
        (["predict", "PICTURE", "--weights", "WEIGHTS", "--tta-scales", "9"], 2, "numbers from 0.1 to 4"),
        (["benchmark", "rf_lw_resnet5", "--train"], 2, "no network is named 'rf_lw_resnet5'"),
        (["benchmark", "--train", "--size", "500"], 2, "--size '500': expected WIDTHxHEIGHT"),
        (["benchmark", "--loader", "--recipe", "nowhere.toml", "--data", "."], 2, "nowhere.toml: no readable recipe"),
        (
            ["import", "PICTURE", "--network", "rf_lw_resnet", "--dataset", "voc", "-o", "x.safetensors"],
            2,
            "rf_lw_resnet50",
        ),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_an_exit_code(
    run, tmp_path, picture, tiny_weights, monkeypatch, arguments, code, message
):
    monkeypatch.chdir(tmp_path)
    known = {"PICTURE": "street.png", "WEIGHTS": "tiny.safetensors", "PICTURE/x": "street.png/x"}
    found, _, err = run(*[known.get(argument, argument) for argument in arguments])
    assert found == code
    (sentence,) = (line for line in err.splitlines() if not line.startswith("Converting"))
    assert message in sentence


def test_version_needs_no_command(run):
    assert run("--version")[:2] == (0, f"lwrefinenet {lwrefinenet.__version__}\n")


def test_train_help_explains_every_field_of_a_recipe(run):
    out = run("train", "--help")[1]
    for field in dataclasses.fields(Recipe):
        assert f"{field.name} = " in out


def test_debug_shows_the_traceback():
    command = [sys.executable, "-m", "lwrefinenet.cli", "predict", "nowhere.jpg", "--debug"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr
    assert done.returncode == 1


def test_debug_may_stand_before_the_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lwrefinenet", "--debug", "predict", "nowhere.jpg"])
    with pytest.raises(LwRefineNetError, match="nowhere"):
        cli.main()


def test_evaluate_prints_json_with_protocol_command_and_weights(run, tmp_path, tiny_weights):
    data = write_shapes(tmp_path / "blocks")
    arguments = ("evaluate", tiny_weights, "--data", data, "--json", "--output", tmp_path / "score.json")
    code, out, _ = run(*arguments)
    found = json.loads(out)
    assert code == 0
    assert found["protocol"]["dataset"] == "blocks"
    assert found["weights"]["sha256"] == weights.sha256_of(tiny_weights)
    assert found["command"].startswith("lwrefinenet evaluate")
    assert json.loads((tmp_path / "score.json").read_text()) == found


@pytest.mark.parametrize("command", ["evaluate", "benchmark"])
def test_a_pipe_that_closes_early_does_not_lose_the_file(run, tmp_path, tiny_weights, monkeypatch, command):
    def closed(*_):
        raise BrokenPipeError

    report = {"evaluate": "evaluation_report", "benchmark": "loader_rate_report"}[command]
    monkeypatch.setattr(sys.modules[f"lwrefinenet.cli.{command}"], report, closed)
    data, output = write_shapes(tmp_path / "blocks"), tmp_path / "found.json"
    arguments = {"evaluate": [tiny_weights], "benchmark": ["--loader", "--size", "64x32", "--rounds", "1"]}[command]
    assert run(command, *arguments, "--data", data, "--output", output)[0] != 0
    assert json.loads(output.read_text())["command"].startswith(f"lwrefinenet {command}")


def test_multi_scale_testing_stands_in_the_protocol(run, tmp_path, tiny_weights):
    data = write_shapes(tmp_path / "blocks")
    found = {
        option: json.loads(run("evaluate", tiny_weights, "--data", data, "--json", *option)[1])
        for option in ((), ("--tta",), ("--tta-scales", "0.5,1"))
    }
    assert [each["protocol"]["scales"] for each in found.values()] == [
        "single scale, no flip", "scales 0.5 0.75 1 1.25 1.5 1.75, with flip", "scales 0.5 1, with flip",
    ]  # fmt: skip
    assert len({each["mean_iou"] for each in found.values()}) == 3


def test_evaluate_prints_a_table_in_percent(run, tmp_path, tiny_weights):
    data = write_shapes(tmp_path / "blocks", val=10)
    found = json.loads(run("evaluate", tiny_weights, "--data", data, "--json")[1])
    code, out, _ = run("evaluate", tiny_weights, "--data", data)
    assert code == 0
    assert re.search(rf"mean IoU\D+{100 * found['mean_iou']:.1f}", out)
    low, high = found["mean_iou_interval"]
    assert f"Mean IoU on other pictures of this kind: {100 * low:.1f} to {100 * high:.1f} (95 %," in out
    assert "Protocol: blocks val, 10 pictures at 80x64" in out


def test_train_by_a_recipe_gives_weights_that_predict_takes(run, tmp_path, picture):
    data = write_shapes(tmp_path / "blocks")
    recipe = tmp_path / "shapes.toml"
    recipe.write_text(TINY_RECIPE)
    code, out, err = run("train", recipe, "--data", data, "--output", tmp_path / "run", "--set", "epochs=1")
    assert (code, err) == (0, "")
    assert "validation mean IoU" in out
    best = tmp_path / "run" / "best.safetensors"
    assert run("predict", picture, "--weights", best, "--output", tmp_path / "out")[0] == 0


def write_coloured(root):
    """The shapes with masks in colours, not split, as people have them."""
    colours = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)
    for number in range(8):
        pixels, mask = shapes_picture(seed=number)
        for folder, array in (("images", pixels), ("masks", colours[mask])):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / folder / f"{number}.png")
    return root


def test_coloured_masks_are_converted_to_a_folder_that_train_takes(run, tmp_path):
    source, data, table = write_coloured(tmp_path / "labelled"), tmp_path / "my_data", tmp_path / "colours.toml"
    arguments = ("data", "convert", source, "--from", "rgb", "--output", data)
    code, out, err = run(*arguments)
    assert (code, "class_1 = [" in out, data.exists()) == (2, True, False)
    assert "--write-colours FILE" in err
    assert run(*arguments, "--write-colours", table)[0] == 0
    names = {"[0, 0, 0]": "nothing", "[255, 0, 0]": "square", "[0, 0, 255]": "disc"}
    text = re.sub(r"class_\d = (\[.*?\])", lambda found: f"{names[found[1]]} = {found[1]}", table.read_text())
    table.write_text(text)
    code, out, err = run(*arguments, "--colours", table, "--val-share", "0.3", "--classes", "nothing,square,disc")
    assert (code, err) == (0, "")
    assert re.search(r"Wrote .*my_data: \d in train, \d in val\.", out)
    assert f"lwrefinenet data check {data}" in out
    assert f"lwrefinenet train recipes/custom.toml --data {data}" in out
    share = np.mean([shapes_picture(seed=number)[1] == 1 for number in range(8)])
    assert float(re.search(r"square +([\d.]+)%", out)[1]) == pytest.approx(100 * share, abs=0.006)
    recipe = tmp_path / "shapes.toml"
    recipe.write_text(TINY_RECIPE)
    assert run("train", recipe, "--data", data, "--output", tmp_path / "run", "--set", "epochs=1")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--from", "binary"], "nowhere: no such folder"),
        (["nowhere", "--from", "coco"], "nowhere: no such folder or file"),
        (["nowhere", "--from", "yolo"], "nowhere: no such folder or file"),
        (["nowhere", "--from", "labelme"], "nowhere: holds no JSON"),
        (["nowhere", "--from", "labelme", "--tolerance", "3"], "--tolerance means nothing with --from labelme"),
        (["labelled", "--from", "binary", "--val-share", "2"], "--val-share 2.0: expected a fraction"),
        (["labelled", "--from", "binary", "--output", "."], ".: exists already"),
    ],
)
def test_what_cannot_be_converted_is_one_sentence(run, tmp_path, monkeypatch, arguments, message):
    write_coloured(tmp_path / "labelled")
    monkeypatch.chdir(tmp_path)
    output = [] if "--output" in arguments else ["--output", "d"]
    code, _, err = run("data", "convert", *arguments, *output)
    assert (code, err.count("\n")) == (2, 1), err
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["labelled"]


def test_polygons_without_pycocotools_say_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    for name in ("coco", "yolo", "polygons"):
        monkeypatch.delitem(sys.modules, f"lwrefinenet.data.convert.{name}", raising=False)
    code, _, err = run("data", "convert", tmp_path, "--from", "coco", "--output", tmp_path / "d")
    assert code == 2
    assert "this command needs pycocotools: pip install 'lwrefinenet[datasets]'." in err


def test_benchmark_writes_what_it_measured_with_its_command_and_machine(run, tmp_path):
    data = write_shapes(tmp_path / "blocks")
    recipe = tmp_path / "shapes.toml"
    recipe.write_text('model = "rf_lw_mobilenetv2"\nepochs = 1\ncolor_jitter = 0.1\n')
    output = tmp_path / "rate.json"
    arguments = ("--data", data, "--recipe", recipe, "--set", "flip=0", "--size", "64x32", "--rounds", "1")
    code, out, err = run("benchmark", "--loader", *arguments, "--output", output)
    assert (code, err) == (0, "")
    found = json.loads(output.read_text())
    assert (found["crop_size"], found["flip"], found["color_jitter"]) == ([32, 64], 0, 0.1)
    assert found["command"].startswith("lwrefinenet benchmark --loader")
    assert f"{found['pictures_per_core_second']['memory']['median']:.0f}" in out


def test_benchmark_compares_a_training_step_with_the_published_way(run, tmp_path):
    output = tmp_path / "speed.json"
    arguments = ("--train", "--size", "64x32", "--batch", "2", "--rounds", "1", "--output", output)
    code, out, _ = run("benchmark", "rf_lw_mobilenetv2", *arguments)
    assert code == 0
    found = json.loads(output.read_text())
    assert (found["crop_size"], found["batch_size"]) == ([32, 64], 2)
    assert f"Ours is {found['ratio']:.2f} times as fast" in out


def test_benchmark_shows_where_the_time_goes_and_draws_score_against_time(run, tmp_path, picture):
    scored = dataclasses.replace(
        TINY_META,
        scores=(Score("mean_iou", 0.5, "shapes val, 3 pictures"), Score("mean_iou", 0.4, "shapes test, 3 pictures")),
    )
    weights.save(tmp_path / "scored.safetensors", build_tiny(), scored)
    output, plot = tmp_path / "speed.json", tmp_path / "plot.png"
    arguments = ("--backends", "published,pytorch,openvino", "--size", "96x64", "--rounds", "2", "--picture", picture)
    code, out, _ = run("benchmark", tmp_path / "scored.safetensors", *arguments, "--plot", plot, "--output", output)
    assert code == 0
    found = json.loads(output.read_text())
    ((_, subject),) = found["subjects"].items()
    assert (found["size"], found["rounds"]) == ([64, 96], 2)
    assert (subject["score"], subject["score_protocol"], subject["trained"]) == (0.4, "shapes test", True)
    assert list(subject["ways"]) == ["published", "pytorch", "openvino"]
    assert "published" in out
    assert f"{subject['ways']['openvino']['ratio']:.1f}x" in out
    assert Image.open(plot).size[0] > 500


def test_export_says_how_equal_the_file_is_and_predict_takes_it(run, tmp_path, picture, tiny_weights, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("export", tiny_weights, "--format", "openvino", "--pictures", picture, "--report", "report.json")
    assert code == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["parity"]["equal_pixels"] == 1
    assert (report["files"], report["precision"]) == (["tiny.fp32.xml", "tiny.fp32.bin"], "fp32")
    assert "machine" in report
    assert re.search(r"Pixels with the same class as in PyTorch: 100\.000% \(640x480 ", out)
    assert "Wrote tiny.fp32.xml and tiny.fp32.bin: " in out
    code, out, _ = run("predict", picture, "--weights", "tiny.fp32.xml")
    assert code == 0
    assert "weights tiny.fp32.xml, OpenVINO fp32 on cpu" in out


def write_published_checkpoint(path, num_classes):
    names = PUBLISHED["rf_lw_mobilenetv2"]
    state = create_model("rf_lw_mobilenetv2", num_classes).state_dict()
    torch.save({_published_name(key, names): value for key, value in state.items()}, path)


def test_a_folder_that_may_not_be_entered_is_no_fault_of_ours(run, tmp_path, picture, monkeypatch):
    """Root may enter all of them, so that the system's refusal is acted."""

    def refused(path):
        raise PermissionError(13, "Permission denied", "locked/best.safetensors")

    monkeypatch.setattr(weights, "locate", refused)
    code, _, err = run("predict", picture, "--weights", "locked/best.safetensors", "--output", tmp_path / "out")
    advice = "check its permissions, and those of the folders that it is in."
    assert code == 1 and f"locked/best.safetensors: Permission denied; {advice}" in err


def test_import_turns_a_published_checkpoint_into_weights_that_predict_takes(run, tmp_path, picture):
    write_published_checkpoint(tmp_path / "old.pth", 21)
    output = tmp_path / "voc.safetensors"
    code, _, _ = run("import", tmp_path / "old.pth", "--network", "rf_lw_mobilenetv2", "--dataset", "voc", "-o", output)
    assert code == 0
    assert weights.read_meta(output).labels == LABEL_SETS["voc"]
    assert "academic use" in weights.read_meta(output).licence
    assert run("predict", picture, "--weights", output, "--output", tmp_path / "out")[0] == 0


def test_adjust_says_what_it_found_and_writes_weights_that_evaluate_takes(run, tmp_path, tiny_weights):
    data, output = write_shapes(tmp_path / "shapes", val=8), tmp_path / "adjusted.safetensors"
    code, out, _ = run("adjust", tiny_weights, "--data", data, "-o", output)
    assert code == 0
    found, written = out.splitlines()
    assert re.match(r"Offsets for the classes raise the mean IoU from [\d.]+ % to [\d.]+ %; pictures that the", found)
    assert written.startswith(f"Wrote {output}.")
    before, after = (json.loads(run("evaluate", each, "--data", data, "--json")[1]) for each in (tiny_weights, output))
    assert before["mean_iou"] < after["mean_iou"]
    assert "offsets" not in before["weights"] and after["weights"]["offsets"] == "found on shapes val"
    assert run("adjust", output, "--data", data, "-o", tmp_path / "again.safetensors")[0] == 1  # nothing more to gain
    assert not (tmp_path / "again.safetensors").exists()


def test_average_writes_weights_that_evaluate_takes_and_nothing_over_a_file(run, tmp_path, tiny_weights):
    data, output = write_shapes(tmp_path / "shapes", val=2), tmp_path / "mean.safetensors"
    code, out, _ = run("average", tiny_weights, tiny_weights, "-o", output)
    assert code == 0 and out.startswith(
        f"Wrote {output}, the mean of 2. What it is worth: lwrefinenet evaluate {output}"
    )
    one, mean = (json.loads(run("evaluate", each, "--data", data, "--json")[1]) for each in (tiny_weights, output))
    assert one["mean_iou"] == mean["mean_iou"]
    assert run("average", tiny_weights, tiny_weights, "-o", output)[0] == 2


def test_evaluate_says_where_offsets_were_found_on_what_it_scores(run, tmp_path, tiny_weights):
    data, output = write_shapes(tmp_path / "shapes", train=8, val=8), tmp_path / "adjusted.safetensors"
    run("adjust", tiny_weights, "--data", data, "-o", output)
    sentence = "The offsets of its classes were found on these very pictures: others may well score lower."
    assert sentence in run("evaluate", output, "--data", data, "--split", "val")[1]
    assert sentence not in run("evaluate", output, "--data", data, "--split", "train")[1]
    other, mean = tmp_path / "other.safetensors", tmp_path / "mean.safetensors"
    assert run("adjust", tiny_weights, "--data", data, "-o", other, "--split", "train")[0] == 0
    run("average", output, other, "-o", mean)  # offsets of both are in it
    assert all(sentence in run("evaluate", mean, "--data", data, "--split", split)[1] for split in ("val", "train"))


def test_import_writes_over_nothing_unasked(run, tmp_path):
    """Not over the checkpoint itself, and not under a name that is read as something else."""
    write_published_checkpoint(tmp_path / "old.pth", 21)
    (tmp_path / "best.safetensors").write_bytes(b"trained for weeks")
    arguments = ["import", tmp_path / "old.pth", "--network", "rf_lw_mobilenetv2", "--dataset", "voc", "-o"]
    code, _, err = run(*arguments, tmp_path / "best.safetensors")
    assert code == 2 and "best.safetensors exists; give --overwrite" in err
    assert (tmp_path / "best.safetensors").read_bytes() == b"trained for weeks"
    for name in ("old.pth", "new.onnx"):
        code, _, err = run(*arguments, tmp_path / name)
        assert code == 2 and "weights files end in .safetensors" in err
    assert run(*arguments, tmp_path / "best.safetensors", "--overwrite")[0] == 0
    assert weights.read_meta(tmp_path / "best.safetensors").network == "rf_lw_mobilenetv2"


def test_imported_multi_task_weights_say_which_tasks_they_have(run, tmp_path):
    state = create_model("mt_lw_mobilenetv2", 40, tasks=["segmentation", "depth", "normals"]).state_dict()
    names = PUBLISHED["mt_lw_mobilenetv2"]
    published = {_published_name(key, names): value for key, value in state.items()}
    torch.save({"state_dict": published}, tmp_path / "three.ckpt")
    output = tmp_path / "nyu.safetensors"
    arguments = ("--network", "mt_lw_mobilenetv2", "--dataset", "nyu", "-o", output)
    assert run("import", tmp_path / "three.ckpt", *arguments)[0] == 0
    assert weights.load(output)[0].tasks == ("segmentation", "depth", "normals")


@pytest.mark.parametrize(("dataset", "kept"), [("nyu", slice(0, 40)), ("kitti", slice(40, 46))])
def test_the_joint_checkpoint_is_imported_with_the_classes_of_one_data_set(run, tmp_path, dataset, kept):
    torch.manual_seed(0)
    joint = create_model("mt_lw_mobilenetv2", 46).eval()
    names = PUBLISHED["mt_lw_mobilenetv2"]
    published = {_published_name(key, names): value for key, value in joint.state_dict().items()}
    torch.save({"state_dict": published}, tmp_path / "joint.ckpt")
    output = tmp_path / "one.safetensors"
    arguments = ("--network", "mt_lw_mobilenetv2", "--dataset", dataset, "-o", output)
    assert run("import", tmp_path / "joint.ckpt", *arguments)[0] == 0
    network, meta = weights.load(output)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = joint(images), network(images)
    torch.testing.assert_close(found["segmentation"], expected["segmentation"][:, kept])
    torch.testing.assert_close(found["depth"], expected["depth"])
    assert meta.labels == LABEL_SETS[dataset]


def test_import_refuses_a_label_set_of_another_size(run, tmp_path):
    write_published_checkpoint(tmp_path / "old.pth", 7)
    arguments = ("--network", "rf_lw_mobilenetv2", "--dataset", "voc", "-o", tmp_path / "x.safetensors")
    code, _, err = run("import", tmp_path / "old.pth", *arguments)
    assert code == 2
    assert "gives 7 classes, but voc has 21" in err
    assert not (tmp_path / "x.safetensors").exists()


def test_models_lists_every_network_and_every_shipped_weights_with_licence(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    _, out, _ = run("models")
    assert "27,357,525" in out
    for name in (*lwrefinenet.MODELS, *weights.SHIPPED):
        assert name in out
    for name in weights.SHIPPED:
        assert weights.read_meta(name).licence in out
    assert "on camvid val 480x360, where its offsets were found" in out
    protocol = (
        "value 11 (void) ignored, logits resized bilinear, single scale, no flip, one confusion matrix over the set"
    )
    assert f"camvid test 480x360: 233 pictures at 480x360, 11 classes, {protocol}\n" in out


def test_models_shows_names_whole_on_a_narrow_screen(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run("models")
    assert all(name in out for name in weights.SHIPPED)


def test_the_public_face_is_what_was_promised():
    assert set(lwrefinenet.__all__) == {
        "LABEL_SETS", "MODELS", "LabelSet", "LwRefineNetError", "Predictor", "Segmentation", "WeightsError",
        "__version__", "create_model", "import_published",
    }  # fmt: skip


def test_data_check_prints_the_census_and_ends_with_0_for_a_sound_folder(run, tmp_path):
    data = write_shapes(tmp_path / "blocks")
    code, out, err = run("data", "check", data)
    assert (code, err) == (0, "")
    assert "blocks train: 8 pictures, 80x64 (8); 0.0% of the pixels ignored" in out
    assert re.search(r"disc +\d+\.\d\d% +8 +\d+\.\d\d% +4", out)
    assert f"{data}: nothing to mend. Ready for training." in out


def test_data_check_ends_with_1_for_errors_and_says_what_mends_them(run, tmp_path):
    data = write_shapes(tmp_path / "blocks")
    (data / "dataset.toml").write_text('class_names = ["nothing", "square"]\n')
    code, out, _ = run("data", "check", data, "--html", tmp_path / "page.html")
    assert code == 1
    assert "error: unknown class ids" in out
    assert 'class_names = ["unlabelled", "nothing", "square"]' in out
    assert "unknown class ids" in (tmp_path / "page.html").read_text()


def test_data_check_prints_json(run, tmp_path):
    data = write_shapes(tmp_path / "blocks")
    code, out, _ = run("data", "check", data, "--split", "val", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["sound"], found["findings"]) == (True, [])
    assert [split["pictures"] for split in found["splits"]] == [4]
    assert found["splits"][0]["sizes"] == {"80x64": 4}


def test_the_flags_are_what_was_promised():
    flags = dict(_flags(get_command(cli.app)))
    assert flags == {
        "predict": ["--compile", "--device", "--help", "--max-pixels", "--no-overlay", "--output", "--overlay", "--overwrite",
                    "--precision", "--resize", "--runtime", "--sheet", "--tile", "--tta", "--tta-scales", "--weights"],
        "evaluate": ["--compile", "--data", "--device", "--dump", "--help", "--json", "--normals-from-depth", "--output",
                     "--overwrite", "--precision", "--published-crop", "--resize", "--runtime", "--split", "--tile", "--tta",
                     "--tta-scales"],
        "train": ["--data", "--device", "--fit", "--help", "--output", "--resume", "--set", "--time-limit"],
        "import": ["--dataset", "--help", "--network", "--output", "--overwrite"],
        "adjust": ["--data", "--device", "--help", "--output", "--overwrite", "--split"],
        "average": ["--help", "--output", "--overwrite"],
        "export": ["--calibration", "--data", "--format", "--help", "--max-drop", "--output", "--overwrite", "--pictures",
                   "--precision", "--report", "--split", "--static"],
        "benchmark": ["--against", "--backends", "--batch", "--classes", "--data", "--help", "--loader", "--output", "--picture",
                      "--plot", "--precision", "--recipe", "--rounds", "--set", "--size", "--train"],
        "models": ["--help"],
        "data check": ["--help", "--html", "--json", "--split"],
        "data convert": ["--classes", "--colours", "--copy", "--from", "--help", "--link", "--output", "--tolerance",
                         "--transparent-ignore", "--val-share", "--write-colours"],
    }  # fmt: skip


def test_every_command_that_writes_takes_its_output_as_o():
    spelt = [option.opts for _, command in _commands(get_command(cli.app)) for option in command.params]
    outputs = [names for names in spelt if "--output" in names]
    assert len(outputs) == 9 and all("-o" in names for names in outputs)


def _commands(group, path=()):
    """Every command with its name, groups opened."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def _flags(group):
    """The long options of every command, by its name."""
    for name, command in _commands(group):
        options = [option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)]
        yield name, sorted({"--help", *(option for option in options if option.startswith("--"))})


def test_a_commit_of_another_project_is_not_ours(tmp_path, monkeypatch):
    """Installed into an environment inside a repository, the package lies in that, and is nothing of it."""
    package = tmp_path / ".venv" / "lwrefinenet"
    package.mkdir(parents=True)
    (package / "provenance.py").touch()
    (tmp_path / "theirs.py").touch()
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    git = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "theirs.py"], ["commit", "-qm", "theirs"]):
        subprocess.run([*git, *arguments], check=True)
    assert provenance._commit() is None
    for arguments in (["add", "-f", package / "provenance.py"], ["commit", "-qm", "ours"]):
        subprocess.run([*git, *arguments], check=True)
    assert len(provenance._commit()) == 40


def test_names_that_the_terminal_cannot_show_do_no_harm(tmp_path, tiny_file):
    name = os.fsdecode(b"caf\xe9.png")
    Image.fromarray(shapes_picture(0)[0]).save(tmp_path / name)
    command = [sys.executable, "-m", "lwrefinenet.cli", "predict", tmp_path / name, "--weights", tiny_file]
    command += ["--output", tmp_path / "out", "--runtime", "pytorch"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"})
    assert done.returncode == 0, done.stderr
    assert b"caf\\udce9.png" in done.stdout
