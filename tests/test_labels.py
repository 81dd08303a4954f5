"""Class names and colours, against facts that others published."""

from dataclasses import replace

import pytest

from lwrefinenet.labels import (
    CAMVID,
    CITYSCAPES,
    CONTEXT,
    CONTEXT_59,
    KITTI,
    LABEL_SETS,
    NYU,
    PERSON_PART,
    VOC,
    LabelSet,
    voc_palette,
)


@pytest.mark.parametrize(
    ("labels", "count"),
    [
        (VOC, 21),
        (PERSON_PART, 7),
        (CONTEXT, 60),
        (CONTEXT_59, 59),
        (NYU, 40),
        (CAMVID, 11),
        (CITYSCAPES, 19),
        (KITTI, 6),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_class_counts_are_the_benchmarks(labels, count):
    assert len(labels) == count
    assert len(set(labels.class_names)) == count


def test_table_finds_each_set_by_its_name():
    assert sorted(LABEL_SETS) == ["camvid", "cityscapes", "context", "context59", "kitti", "nyu", "person_part", "voc"]
    assert all(name == labels.name for name, labels in LABEL_SETS.items())


@pytest.mark.parametrize(
    ("index", "colour"),
    [
        (0, (0, 0, 0)),
        (1, (128, 0, 0)),
        (2, (0, 128, 0)),
        (4, (0, 0, 128)),
        (8, (64, 0, 0)),
        (15, (192, 128, 128)),
        (20, (0, 64, 128)),
        (64, (32, 0, 0)),
        (255, (224, 224, 192)),
    ],
)
def test_voc_palette_is_the_published_one(index, colour):
    assert voc_palette(256)[index] == colour


def test_voc_palette_never_repeats():
    assert len(set(voc_palette(256))) == 256


@pytest.mark.parametrize(
    ("labels", "name", "index"),
    [
        (VOC, "aeroplane", 1),
        (VOC, "person", 15),
        (VOC, "tvmonitor", 20),
        (NYU, "wall", 0),
        (NYU, "floor", 1),
        (NYU, "otherprop", 39),
        (CITYSCAPES, "road", 0),
        (CITYSCAPES, "bicycle", 18),
        (CAMVID, "sky", 0),
        (CAMVID, "bicyclist", 10),
        (PERSON_PART, "head", 1),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_index_of_a_class_is_the_benchmarks(labels, name, index):
    assert labels.class_names[index] == name


def test_context_starts_with_the_classes_of_voc_and_goes_on_by_its_own_order():
    same = [a == b for a, b in zip(CONTEXT.class_names, VOC.class_names, strict=False)]
    assert [index for index, equal in enumerate(same) if not equal] == [11]  # table, VOC's diningtable
    assert CONTEXT.class_names[21] == "bag"
    assert CONTEXT.class_names[42:44] == ("curtain", "platform")
    assert CONTEXT.class_names[59] == "wood"


def test_context_without_background_keeps_order_and_colours():
    assert CONTEXT_59.class_names == CONTEXT.class_names[1:]
    assert CONTEXT_59.palette[0] == (128, 0, 0)


def test_camvid_shows_the_same_colours_as_kitti_for_what_both_hold():
    camvid, kitti = (dict(zip(labels.class_names, labels.palette, strict=True)) for labels in (CAMVID, KITTI))
    assert all(camvid[name] == kitti[name] for name in ("sky", "building", "road"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ()}, "has 0 classes"),
        ({"palette": voc_palette(20)}, "has 21 classes but 20 palette colours"),
        ({"ignore_index": 20}, r"ignore index 20 is also a class \(0-20\)"),
        ({"class_names": tuple(map(str, range(256))), "palette": voc_palette(256)}, "has 256 classes"),
    ],
)
def test_label_set_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(VOC, **change)


def test_ignore_index_may_follow_right_after_the_classes():
    assert LabelSet("x", ("a", "b"), voc_palette(2), ignore_index=2).ignore_index == 2
