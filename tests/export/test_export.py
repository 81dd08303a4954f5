import copy
import filecmp
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lwrefinenet import weights
from lwrefinenet.errors import UsageError, WeightsError
from lwrefinenet.export import export as exporting
from lwrefinenet.export.export import PICTURE, export_weights
from lwrefinenet.export.formats import SUFFIXES, Format
from lwrefinenet.export.parity import SIZES, measure
from lwrefinenet.predict import Predictor
from lwrefinenet.runtimes import onnx_runtime, openvino_runtime
from lwrefinenet.runtimes.deployable import Deployable
from tests.tiny import TINY_META, build_tiny

pytestmark = pytest.mark.usefixtures("converted_once")
EXAMPLE = Path(__file__).parents[2] / "examples" / "street.jpg"


def test_the_command_offers_every_format():
    from lwrefinenet.cli.export import ExportFormat

    assert {each.value for each in ExportFormat} == set(SUFFIXES)


@pytest.fixture
def broken(monkeypatch):
    """Conversions lose a little of the network, as a wrong operator would."""

    def breaking(runtime, factor):
        convert = runtime.to_graph

        def convert_wrongly(deployable, size=None):
            other = copy.deepcopy(deployable)
            other.network.head.weight.data *= factor
            return convert(other, size)

        monkeypatch.setattr(runtime, "to_graph", convert_wrongly)

    return breaking


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("name", "precision", "written"),
    [
        ("openvino", "fp32", ["tiny.xml", "tiny.bin"]),
        ("openvino", "fp16", ["tiny.xml", "tiny.bin"]),
        ("onnx", "fp32", ["tiny.onnx"]),
        ("onnx", "fp16", ["tiny.onnx"]),
    ],
)
def test_an_export_is_proven_and_says_so_inside(tmp_path, tiny_file, name, precision, written):
    out = tmp_path / "out"
    exported = export_weights(tiny_file, out / written[0], Format.named(name, precision), precision=precision)
    assert [file.name for file in exported.files] == written
    assert files_in(out) == sorted(written)
    parity = exported.parity
    assert parity.equal_pixels >= (0.9999 if precision == "fp32" else 0.99)
    assert 0 < parity.relative_difference < (1e-4 if precision == "fp32" else 0.1)
    assert list(parity.sizes) == [f"{width}x{height}" for height, width in SIZES]
    assert any(width % 2 or height % 2 for height, width in SIZES)
    _, meta, export = Format.named(name, precision).runtime.read(out / written[0])
    assert meta == TINY_META
    assert (export.precision, export.size, export.sha256) == (precision, None, weights.sha256_of(tiny_file))
    assert export.parity == json.loads(json.dumps(parity.to_dict()))
    parameters = sum(parameter.numel() for parameter in build_tiny().parameters())
    if name == "openvino":
        assert exported.files[1].stat().st_size == pytest.approx(
            parameters * {"fp32": 4, "fp16": 2}[precision], rel=0.1
        )
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    expected = Predictor.from_model(build_tiny(), TINY_META, "cpu").predict_mask(pixels)
    assert (Predictor.from_weights(out / written[0]).predict_mask(pixels) == expected).mean() > 0.98


@pytest.mark.parametrize(("name", "runtime"), [("openvino", openvino_runtime), ("onnx", onnx_runtime)])
def test_a_broken_graph_does_not_pass_the_gate_and_leaves_no_file(tmp_path, tiny_file, broken, name, runtime):
    broken(runtime, 0.9)
    form = Format.named(name, "fp32")
    with pytest.raises(
        WeightsError, match=rf"as {name} fp32: the exported graph gives the same class on \d+\.\d+% of the pixels"
    ):
        export_weights(tiny_file, tmp_path / "out" / f"tiny{form.suffix}", form, size=(97, 131))  # one converts quickly
    assert files_in(tmp_path / "out") == []


def test_a_file_of_somebody_else_beside_it_is_not_overwritten_unasked(tmp_path, tiny_file):
    (tmp_path / "best.bin").write_bytes(b"somebody's")
    with pytest.raises(UsageError, match=r"best\.bin exists; give --overwrite"):
        export_weights(tiny_file, tmp_path / "best.xml", Format.named("openvino", "fp32"))
    assert (tmp_path / "best.bin").read_bytes() == b"somebody's"


def test_logits_that_are_not_numbers_are_no_small_difference(tmp_path):
    def broken(image):
        return {"mask": torch.zeros(image.shape[:3], dtype=torch.uint8)}, torch.full((1, 3, 8, 8), float("nan"))

    found = measure(broken, build_tiny(), TINY_META, [np.zeros((32, 32, 3), np.uint8)], "fp32", [(32, 32)])
    assert found.logit_difference == float("inf")


def test_what_was_there_stays_when_a_new_export_fails(tmp_path, tiny_file, broken):
    form = Format.named("openvino", "fp32")
    export_weights(tiny_file, tmp_path / "tiny.xml", form)
    before = (tmp_path / "tiny.xml").read_bytes(), (tmp_path / "tiny.bin").read_bytes()
    broken(openvino_runtime, -1)
    with pytest.raises(WeightsError, match="No file was kept"):
        export_weights(tiny_file, tmp_path / "tiny.xml", form, overwrite=True)
    assert ((tmp_path / "tiny.xml").read_bytes(), (tmp_path / "tiny.bin").read_bytes()) == before


def test_the_gate_looks_at_the_mask_that_others_will_see_and_not_only_at_logits():
    """The tail of the graph may be wrong while its logits are right."""
    model = build_tiny()
    deployable = Deployable(model, TINY_META.preprocess, TINY_META.channels)

    def shifted(image):
        with torch.inference_mode():
            mask, logits = deployable(image)
        return {"mask": mask.roll(8, dims=2)}, logits

    picture = np.asarray(Predictor.from_model(model, TINY_META, "cpu")(EXAMPLE).picture.pixels)
    parity = measure(shifted, model, TINY_META, [picture], "fp32")
    assert parity.relative_difference < 1e-4
    assert not parity.holds


def test_a_static_export_is_proven_at_its_size(tmp_path, tiny_file):
    exported = export_weights(tiny_file, tmp_path / "t.xml", Format.named("openvino", "fp32"), size=(96, 129))
    assert list(exported.parity.sizes) == ["129x96"]
    with pytest.raises(WeightsError, match="exported for pictures of 129x96 only"):
        Predictor.from_weights(tmp_path / "t.xml").predict_mask(np.zeros((96, 128, 3), np.uint8))


def test_it_is_proven_on_the_pictures_that_were_given(tmp_path, tiny_file, monkeypatch):
    seen = []

    def noted(images):
        for image in images:
            seen.append(image)
            yield image

    monkeypatch.setattr(
        exporting,
        "measure",
        lambda run, model, meta, images, *rest: measure(run, model, meta, noted(images), *rest),
    )
    export_weights(tiny_file, tmp_path / "t.xml", Format.named("openvino", "fp32"), pictures=[EXAMPLE, EXAMPLE])
    assert len(seen) == 2


def test_the_picture_of_the_package_is_that_of_the_examples():
    assert filecmp.cmp(PICTURE, EXAMPLE, shallow=False)


@pytest.mark.parametrize(
    ("name", "precision", "complaint"),
    [
        ("tflite", "fp32", "format 'tflite' is not known; expected onnx or openvino"),
        ("onnx", "fp8", "precision 'fp8' is not known; expected fp32, bf16, fp16 or int8"),
        ("onnx", "bf16", "ONNX Runtime cannot run bf16 on a CPU"),
    ],
)
def test_formats_and_precisions_that_do_not_exist_are_misuse(name, precision, complaint):
    with pytest.raises(UsageError, match=complaint):
        Format.named(name, precision)


def test_bf16_is_only_exported_where_it_can_be_proven(monkeypatch):
    monkeypatch.setattr(openvino_runtime, "processor_has", lambda _: False)
    with pytest.raises(UsageError, match="this processor has no bfloat16 .* so that the file could not be proven"):
        Format.named("openvino", "bf16")


def test_an_output_is_named_after_its_format_and_not_replaced_unasked(tmp_path, tiny_file):
    form = Format.named("openvino", "fp32")
    with pytest.raises(UsageError, match=r"t\.onnx: files of openvino end in \.xml"):
        export_weights(tiny_file, tmp_path / "t.onnx", form)
    (tmp_path / "t.xml").write_text("mine")
    with pytest.raises(UsageError, match=r"t\.xml exists; give --overwrite to replace it"):
        export_weights(tiny_file, tmp_path / "t.xml", form)
    assert (tmp_path / "t.xml").read_text() == "mine"


def test_unknown_weights_are_named(tmp_path):
    with pytest.raises(UsageError, match="no weights are named 'rf_lw_lite0'"):
        export_weights("rf_lw_lite0", tmp_path / "t.xml", Format.named("openvino", "fp32"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path, tiny_file):
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match=r"nothing can be written here"):
        export_weights(tiny_file, tmp_path / "file" / "t.xml", Format.named("openvino", "fp32"))
