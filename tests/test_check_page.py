import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from lwrefinenet.check_page.page import page
from lwrefinenet.data.check import check_folder
from lwrefinenet.data.doctor.examples import chosen_examples
from tests.shapes import CLASS_NAMES, write_shapes

VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Collects texts and tags, and insists that every tag is closed in its turn."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.tags, self.sources = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def read(report):
    reader = Reader()
    reader.feed(page(report))
    assert reader.open == []
    return reader, " ".join(reader.texts)


@pytest.fixture
def root(tmp_path):
    return write_shapes(tmp_path / "blocks", train=4, val=2)


def test_the_page_holds_census_and_samples_and_nothing_from_outside(root):
    reader, text = read(check_folder(root))
    for name in CLASS_NAMES:
        assert name in text
    assert "Ready for training" in text
    assert "square-root scale" in text
    assert "script" not in reader.tags
    assert len(reader.sources) == 6
    assert all(source.startswith("data:image/jpeg;base64,") for source in reader.sources)


def test_the_bars_follow_the_square_root_of_the_shares(root):
    report = check_folder(root)
    widths = [float(width) for width in re.findall(r'<rect class="bar"[^>]* width="([\d.]+)"', page(report))]
    shares = [census.shares[index] for index in range(3) for census in report.censuses]
    assert np.allclose(np.square(widths) / widths[0] ** 2, np.array(shares) / shares[0], rtol=0.02)


def test_samples_are_painted_in_the_palette(root):
    (root / "dataset.toml").write_text(
        'class_names = ["nothing", "square", "disc"]\npalette = [[0, 0, 0], [0, 255, 0], [255, 255, 0]]\n'
    )
    report = check_folder(root)
    census, index = chosen_examples(report.censuses)[0]
    shown = Image.open(io.BytesIO(base64.b64decode(read(report)[0].sources[0].partition(",")[2])))
    square = census.dataset[index][1] == 1
    red, green, blue = np.asarray(shown)[square].mean(axis=0)  # reddish picture under green paint
    assert green > 1.4 * red > blue


def test_every_class_is_among_the_examples_even_in_a_crowd(root):
    for number in range(4, 60):
        pixels = np.full((8, 8, 3), number, np.uint8)
        Image.fromarray(pixels).save(root / "images" / "train" / f"{number:03}.png")
        mask = np.zeros((8, 8), np.uint8)
        mask[0, :2] = 2 if number == 37 else 0
        Image.fromarray(mask).save(root / "masks" / "train" / f"{number:03}.png")
    for number in range(4):
        Image.fromarray(np.zeros((64, 80), np.uint8)).save(root / "masks" / "train" / f"{number:03}.png")
    report = check_folder(root, ["train"])
    shown = {census.pairs[index].sample.image.name for census, index in chosen_examples(report.censuses)}
    assert "037.png" in shown
    assert len(shown) == 12


def test_findings_and_names_are_escaped(root):
    (root / "dataset.toml").write_text('class_names = ["nothing", "<b>square", "disc & co"]\n')
    path = root / "masks" / "train" / "000.png"
    Image.fromarray(np.full((64, 80), 7, np.uint8)).save(path)
    (root / "images" / "val" / "000.png").rename(root / "images" / "val" / "<u>.png")
    (root / "masks" / "val" / "000.png").rename(root / "masks" / "val" / "<u>.png")
    reader, text = read(check_folder(root))
    assert not {"b", "u"} & set(reader.tags)
    assert "<b>square" in text
    assert "disc & co" in text
    assert "<u>.png" in text
    assert "unknown class ids" in text
    assert "1 error: training would fail" in text
    assert "the mask is not usable" in text


def test_a_page_without_any_picture_still_has_its_findings(root):
    for path in (root / "images").rglob("*.png"):
        path.unlink()
    assert "no splits" in read(check_folder(root))[1]
