"""Predicted masks as files, in the form that each data set's server wants."""

import json
import math

import numpy as np
import pytest
from PIL import Image
from torch import nn

from lwrefinenet import weights
from lwrefinenet.data.benchmarks.cityscapes import EVALUATED_IDS
from lwrefinenet.data.layouts import open_dataset, open_pictures
from lwrefinenet.dump import Dump
from lwrefinenet.errors import LwRefineNetError, UsageError
from lwrefinenet.evaluate import evaluate
from lwrefinenet.images import as_stored, read_mask, upright
from lwrefinenet.labels import CITYSCAPES, VOC, voc_palette
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.models.zoo import create_model
from lwrefinenet.predict import Maps
from lwrefinenet.preprocess import Preprocess
from tests.pictures import write_array, write_list, write_picture
from tests.shapes import write_shapes

STEMS = ("frankfurt_000000_000294", "frankfurt_000001_000019", "lindau_000000_000019")
# Present in the masks, at random; fence and train occur nowhere, and rider only where it is predicted.
IDS = [0, 3, 5, 7, 8, 9, 11, 12, 14, 17, 19, 20, 21, 22, 23, 24, 26, 27, 28, 30, 32, 33]
PREDICTED = [index for index, name in enumerate(CITYSCAPES.class_names) if name not in ("fence", "train")]


@pytest.fixture
def cityscapes(tmp_path):
    """Pictures and masks of val, and the pictures of test with masks of nothing but 'unlabelled', in the published layout."""
    root, random = tmp_path / "cityscapes", np.random.default_rng(0)
    for split, stems in (("val", STEMS), ("test", ("berlin_000000_000019", "munich_000000_000019"))):
        for stem in stems:
            place = f"{split}/{stem.partition('_')[0]}/{stem}"
            write_picture(root / "leftImg8bit" / f"{place}_leftImg8bit.png", (32, 64))
            ids = random.choice(IDS if split == "val" else [0], (32, 64)).astype(np.uint8)
            write_array(root / "gtFine" / f"{place}_gtFine_labelIds.png", ids)
    return root


def half_right(dataset, seed=1):
    """A `predict` that gives the true class of every other pixel, by chance, and some class elsewhere, in void too."""
    random, truth = np.random.default_rng(seed), iter([dataset[index][1] for index in range(len(dataset))])

    def predict(pixels):
        mask, guess = next(truth), random.choice(PREDICTED, pixels.shape[:2]).astype(np.uint8)
        return Maps(np.where((random.random(mask.shape) < 0.5) & (mask != 255), mask, guess))

    return predict


def test_scores_are_those_of_cityscapes_own_script_on_the_dumped_pngs(cityscapes, tmp_path, monkeypatch):
    name = "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
    theirs = pytest.importorskip(name, reason="cityscapesscripts is not installed: pip install '.[dev]'")
    dataset = open_dataset(cityscapes)
    dump = Dump(tmp_path / "results", dataset)
    ours = evaluate(half_right(dataset), dataset, labels=CITYSCAPES, keep=dump.write)

    monkeypatch.setenv("CITYSCAPES_RESULTS", str(tmp_path / "results"))
    options = {"evalInstLevelScore": False, "JSONOutput": False, "quiet": True, "predictionPath": None}
    for option, value in {**options, "predictionWalk": None}.items():
        monkeypatch.setattr(theirs.args, option, value)
    truths = sorted(map(str, cityscapes.glob("gtFine/val/*/*_gtFine_labelIds.png")))
    predictions = [theirs.getPrediction(theirs.args, truth) for truth in truths]
    published = theirs.evaluateImgLists(predictions, truths, theirs.args)

    assert len(set(predictions)) == 3
    for label, iou in ours.per_class_iou.items():
        score = published["classScores"][label]
        assert math.isnan(score) if iou is None else score == pytest.approx(iou, abs=1e-12)
    assert published["averageScoreClasses"] == pytest.approx(ours.mean_iou, abs=1e-12)
    # Both leave out what occurs nowhere, and count what is only predicted.
    assert ours.absent == ["fence", "train"]
    assert ours.per_class_iou["rider"] == 0
    assert 0.2 < ours.mean_iou < 0.6


def test_cityscapes_masks_hold_ids_in_one_channel_under_the_names_that_the_server_looks_for(cityscapes, tmp_path):
    pictures = open_pictures(cityscapes, "test")
    dump = Dump(tmp_path / "out", pictures)
    classes = np.arange(32 * 64, dtype=np.uint8).reshape(32, 64) % 19
    for index in range(2):
        dump.write(index, classes)
    names = ["berlin_000000_000019_labelIds.png", "munich_000000_000019_labelIds.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    with Image.open(tmp_path / "out" / names[0]) as image:
        assert (image.mode, image.size) == ("L", (64, 32))
        stored = np.asarray(image)
    assert stored[0, :19].tolist() == [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert np.array_equal(np.searchsorted(EVALUATED_IDS, stored), classes)


def test_voc_masks_lie_where_the_server_wants_them_in_vocs_palette(tmp_path):
    write_list(tmp_path / "ImageSets" / "Segmentation" / "test.txt", "2008_000006")
    write_picture(tmp_path / "JPEGImages" / "2008_000006.jpg", (5, 21))
    pictures = open_pictures(tmp_path, "test", name="voc")
    Dump(tmp_path / "out", pictures).write(0, np.tile(np.arange(21, dtype=np.uint8), (5, 1)))
    with Image.open(tmp_path / "out/results/VOC2012/Segmentation/comp6_test_cls/2008_000006.png") as image:
        assert image.mode == "P"
        assert np.asarray(image).tolist() == [list(range(21))] * 5
        assert np.asarray(image.convert("RGB"))[0].tolist() == [list(colour) for colour in voc_palette(21)]


def test_other_sets_get_class_indices_by_stem_that_line_up_with_the_stored_picture(tmp_path):
    data = write_shapes(tmp_path / "blocks")
    first = open_dataset(data).images[0]
    with Image.open(first) as image:
        exif = image.getexif()
        exif[274] = 6  # stored lying, seen standing
        image.save(first, exif=exif)
    dataset = open_dataset(data)
    mask = upright(np.array(read_mask(dataset.samples[0].mask)), 6)
    Dump(tmp_path / "out", dataset).write(0, mask)
    dumped = read_mask(tmp_path / "out" / f"{first.stem}.png")
    assert dumped.shape == (64, 80)
    assert np.array_equal(dumped, as_stored(mask, 6))


def test_what_would_be_lost_is_refused_before_any_work(tmp_path):
    data = write_shapes(tmp_path / "blocks")
    dataset = open_dataset(data)
    Dump(tmp_path / "out", dataset).write(1, np.zeros((64, 80), np.uint8))
    with pytest.raises(UsageError, match=r"out/.*\.png: exists.*--overwrite"):
        Dump(tmp_path / "out", dataset)
    Dump(tmp_path / "out", dataset, overwrite=True)
    for path in (data / "masks" / "val").iterdir():
        for folder in ("depth", "normals"):
            (data / folder / "val").mkdir(parents=True, exist_ok=True)
            write_array(data / folder / "val" / path.name, np.zeros((64, 80), np.uint8))
    dataset = open_dataset(data)
    for folder in ("masks", "images", "depth", "normals"):
        with pytest.raises(UsageError, match="belongs to the data set and would be written over"):
            Dump(data / folder / "val", dataset, overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(LwRefineNetError, match="nothing can be written here"):
        Dump(tmp_path / "file", dataset)


def test_pictures_of_one_stem_are_refused_before_any_work(tmp_path):
    data = write_shapes(tmp_path / "blocks")
    for street in ("a", "b"):
        write_picture(data / "images" / street / "1.png")
        write_array(data / "masks" / street / "1.png", np.zeros((8, 8), np.uint8))
    write_list(data / "streets.txt", "a/1.png", "b/1.png")
    with pytest.raises(UsageError, match=r"a/1\.png and .*b/1\.png would both be written as .*out/1\.png"):
        Dump(tmp_path / "out", open_dataset(data, "streets"))
    assert not (tmp_path / "out").exists()


# On the command line


def weights_file(path, labels):
    model = create_model("rf_lw", len(labels), backbone="test_resnet", decoder_channels=8)
    nn.init.normal_(model.head.bias, std=0.1)
    arguments = {"backbone": "test_resnet", "decoder_channels": 8}
    weights.save(path, model, WeightsMeta("rf_lw", labels, Preprocess(), arguments=arguments))
    return path


def test_evaluate_dumps_what_it_scores(run, cityscapes, tmp_path):
    file = weights_file(tmp_path / "w.safetensors", CITYSCAPES)
    arguments = ("evaluate", file, "--data", cityscapes, "--dump", tmp_path / "out")
    code, out, _ = run(*arguments, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["dump"] == str(tmp_path / "out")
    masks = iter([read_mask(tmp_path / "out" / f"{stem}_labelIds.png") for stem in STEMS])
    again = evaluate(
        lambda _: Maps(np.searchsorted(EVALUATED_IDS, next(masks)).astype(np.uint8)),
        open_dataset(cityscapes),
        labels=CITYSCAPES,
    )
    assert again.mean_iou == found["mean_iou"]
    code, _, err = run(*arguments)
    assert (code, "exists, as do 2 more of 3 masks; give --overwrite" in err) == (2, True)
    code, out, _ = run(*arguments, "--overwrite")
    assert (code, f"3 masks of cityscapes val are in {tmp_path / 'out'}." in out.replace("\n", "")) == (0, True)


def test_a_split_without_public_masks_is_dumped_and_not_scored(run, cityscapes, tmp_path):
    file = weights_file(tmp_path / "w.safetensors", CITYSCAPES)
    arguments = ("evaluate", file, "--data", cityscapes, "--split", "test")
    code, _, err = run(*arguments)
    assert (code, "cityscapes test cannot be scored" in err, "--dump FOLDER" in err) == (1, True, True)
    code, out, err = run(*arguments, "--dump", tmp_path / "out")
    assert code == 0
    assert "cityscapes test is predicted and not scored: its public masks hold no class" in err
    assert "2 masks of cityscapes test are in" in out
    assert "IoU" not in out
    assert read_mask(tmp_path / "out" / "munich_000000_000019_labelIds.png").shape == (32, 64)
    code, out, _ = run(*arguments, "--dump", tmp_path / "out", "--overwrite", "--json")
    found = json.loads(out)
    assert (code, found["pictures"], "mean_iou" in found) == (0, 2, False)
    assert found["not_scored"].startswith("its public masks hold no class")


def test_weights_of_other_classes_dump_nothing(run, cityscapes, tmp_path):
    file = weights_file(tmp_path / "w.safetensors", VOC)
    code, _, err = run("evaluate", file, "--data", cityscapes, "--split", "test", "--dump", tmp_path / "out")
    assert (code, "the weights know 21 classes" in err) == (1, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [(512, 1024), (1024, 2048)])
def test_pictures_of_the_published_sizes_are_scored_whole_and_in_tiles(run, tmp_path, size):
    stem = tmp_path / "leftImg8bit" / "val" / "ulm" / "ulm_000000_000019_leftImg8bit.png"
    write_array(stem, np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    ids = np.repeat(EVALUATED_IDS, -(-size[1] // 19))[: size[1]].astype(np.uint8)
    write_array(tmp_path / "gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png", np.tile(ids, (size[0], 1)))
    file = weights_file(tmp_path / "w.safetensors", CITYSCAPES)
    for tile in (0, 512):
        folder = tmp_path / f"out{tile}"
        arguments = ("evaluate", file, "--data", tmp_path, "--tile", tile, "--dump", folder, "--json")
        protocol = json.loads(run(*arguments)[1])["protocol"]
        assert protocol["size"] == f"{size[1]}x{size[0]}"
        assert protocol["scales"] == ("single scale, no flip" + (", in tiles of 512x512" if tile else ""))
        assert read_mask(folder / "ulm_000000_000019_labelIds.png").shape == size
