import pytest
import torch

from lwrefinenet.data.mixing import Mixing, half_of_the_classes, laid_over, rectangle

MASK = torch.tensor([[0, 0, 3, 3], [0, 5, 5, 255], [7, 7, 7, 255]])


pytestmark = pytest.mark.usefixtures("seeded")


def test_half_of_the_classes_come_whole_and_pixels_without_one_never():
    seen = set()
    for _ in range(100):
        inside = half_of_the_classes(MASK, 255)
        classes = MASK[inside].unique().tolist()
        assert len(classes) == 2
        assert torch.equal(inside, torch.isin(MASK, torch.tensor(classes)))
        seen.update(classes)
    assert seen == {0, 3, 5, 7}


def test_of_an_odd_number_of_classes_the_larger_half_comes_and_of_none_nothing():
    assert half_of_the_classes(torch.tensor([[4, 4], [4, 255]]), 255).tolist() == [[True, True], [True, False]]
    assert not half_of_the_classes(torch.full((3, 3), 255), 255).any()


def test_the_class_that_a_crop_was_drawn_for_is_among_the_half_where_the_crop_holds_it():
    wanted = [half_of_the_classes(MASK, 255, 5) for _ in range(50)]
    assert all(inside[MASK == 5].all() for inside in wanted)
    assert {len(MASK[inside].unique()) for inside in wanted} == {2}
    found = torch.cat([MASK[inside] for inside in wanted]).unique()
    assert found.tolist() == [0, 3, 5, 7]  # the other one at random
    missing = half_of_the_classes(MASK, 255, 9)
    assert len(MASK[missing].unique()) == 2


def test_other_crops_are_drawn_for_each_class_alike_often_however_few_pictures_hold_it():
    everywhere, rare = tuple(range(10)), (7,)
    drawn = [Mixing(class_mix=1.0, holders=(everywhere, (), rare)).draw_other(10) for _ in range(1000)]
    assert {number for number, wanted in drawn if wanted == 0} == set(everywhere)
    assert {number for number, wanted in drawn if wanted == 2} == {7}
    assert sum(wanted == 2 for _, wanted in drawn) / 1000 == pytest.approx(0.5, abs=0.06)
    assert {wanted for _, wanted in drawn} == {0, 2}


@pytest.mark.parametrize("holders", [(), ((), ())])
def test_without_holders_every_picture_is_as_likely_and_for_no_class(holders):
    drawn = {Mixing(class_mix=1.0, holders=holders).draw_other(3) for _ in range(100)}
    assert drawn == {(0, None), (1, None), (2, None)}


def test_rectangles_have_the_proportions_of_the_crop_and_lie_anywhere_in_it():
    mask, shares, covered = torch.zeros(60, 80), [], torch.zeros(60, 80)
    for _ in range(400):
        inside = rectangle(mask, 255)
        rows, columns = inside.any(dim=1).sum().item(), inside.any(dim=0).sum().item()
        assert inside.sum().item() == rows * columns  # filled, and so in one piece unless it has gaps
        assert abs(rows / 60 - columns / 80) < 0.02
        shares.append(inside.float().mean().item())
        covered += inside
    assert sum(shares) / 400 == pytest.approx(0.5, abs=0.05)
    assert min(shares) < 0.05
    assert max(shares) > 0.95
    assert covered.min() > 0


def test_what_is_laid_over_brings_its_pixels_and_all_its_labels_and_leaves_the_rest():
    def crop(value):
        targets = {
            "segmentation": torch.full((2, 3), value),
            "depth": torch.full((2, 3), value / 2),
            "normals": torch.full((3, 2, 3), value / 4),
        }
        return torch.full((3, 2, 3), value, dtype=torch.uint8), targets

    inside = torch.tensor([[True, False, False], [False, False, True]])
    under, over = crop(1), crop(2)
    image, targets = laid_over(under, over, inside)
    assert image.dtype == torch.uint8
    assert targets["segmentation"].dtype == torch.int64
    for mixed, below, above in (
        (image, under[0], over[0]),
        *((targets[task], under[1][task], over[1][task]) for task in under[1]),
    ):
        assert torch.equal(mixed[..., inside], above[..., inside])
        assert torch.equal(mixed[..., ~inside], below[..., ~inside])


def test_crops_are_mixed_as_often_as_asked_for():
    drawn = [Mixing(class_mix=0.5, cut_mix=0.2).draw() for _ in range(1000)]
    assert drawn.count(half_of_the_classes) == pytest.approx(500, abs=50)
    assert drawn.count(rectangle) == pytest.approx(200, abs=40)
    assert drawn.count(None) == pytest.approx(300, abs=50)
    assert {Mixing(class_mix=1.0).draw() for _ in range(50)} == {half_of_the_classes}
    assert {Mixing().draw() for _ in range(50)} == {None}
