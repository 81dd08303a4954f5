"""int8 by NNCF, after training, with the user's pictures, guarded by the score on labelled ones. The only importer of nncf."""

import copy
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from lwrefinenet.confusion import ConfusionMatrix
from lwrefinenet.data.dataset import LabelledPictures
from lwrefinenet.errors import UsageError, WeightsError
from lwrefinenet.evaluate import Evaluation, evaluate
from lwrefinenet.export.formats import Format
from lwrefinenet.images import read_picture
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.predict import Maps, Predictor
from lwrefinenet.runtimes.exported import Export

# nncf looks for a CUDA that it does not need here.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
try:
    import nncf
    from nncf.quantization.advanced_parameters import QuantizationParameters
except ModuleNotFoundError as error:
    raise UsageError("int8 needs nncf: pip install 'lwrefinenet[export]'.") from error

logging.getLogger("nncf").setLevel(logging.ERROR)

Predict = Callable[[np.ndarray], np.ndarray]  # (H, W, 3) uint8 RGB -> (H, W) uint8 class indices
BACK_AND_FORTH = "to which pictures are resized (bilinear) and from which masks are brought back (nearest)"


@dataclass(frozen=True)
class Guard:
    """What int8 is measured with, and how much it may cost.

    calibration: files of pictures that show the values to be expected, without labels.  labelled: what scores are taken on, at
    the pictures' own size; for a graph of one size they are resized to it, and the masks brought back.
    max_drop: of the mean IoU, 0-1.  progress: wraps the indices of an evaluation.
    """

    calibration: Sequence[Path]
    labelled: LabelledPictures
    max_drop: float = 0.005
    progress: Callable[[Iterable[int]], Iterable[int]] = iter


@dataclass(frozen=True)
class Int8Report:
    """Scores in float32 and in int8; mixed: whether layers had to stay in float32."""

    before: Evaluation
    after: Evaluation
    mixed: bool

    @property
    def drop(self) -> float:
        return self.before.mean_iou - self.after.mean_iou

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the file."""
        scores = {"before": self.before.mean_iou, "after": self.after.mean_iou, "mixed": self.mixed}
        per_class = {"before": self.before.per_class_iou, "after": self.after.per_class_iou}
        return {**scores, "per_class_iou": per_class, "protocol": str(self.before.protocol)}


def quantise(
    graph: Any, export: Export, meta: WeightsMeta, *, form: Format, guard: Guard, say: Callable[[str], None]
) -> tuple[Any, Int8Report]:
    """An int8 graph of a float32 one, and what it cost.

    Where all layers in int8 cost more than allowed, those that hurt most go back to float32 until the score is kept.
    WeightsError where even that costs too much.
    """
    score = _scorer(form, export, meta, guard)
    say("Scoring in float32.")
    before = score(graph)
    say(f"Mean IoU {before.mean_iou:.2%}. Quantising with {len(guard.calibration)} pictures.")
    images = _Pictures(guard.calibration, export.size)
    smaller = quantised(graph, images, form)
    everywhere = form.quantisers(smaller)
    report = Int8Report(before, score(smaller), mixed=False)
    if not report.drop <= guard.max_drop:
        say(f"All layers in int8 cost {100 * report.drop:.2f} points; putting back to float32 those that hurt most.")
        smaller = _with_accuracy_control(graph, images, form, guard, export)
        mixed = form.quantisers(smaller) < everywhere
        report = Int8Report(before, score(smaller), mixed)
    if not report.drop <= guard.max_drop:  # not a number is not a score that was kept
        raise WeightsError(
            f"int8 costs {100 * report.drop:.2f} points of mean IoU on {guard.labelled.name} {guard.labelled.split} "
            f"({before.mean_iou:.2%} in float32), allowed are {100 * guard.max_drop:.2f}. Give more calibration pictures like "
            "those of use, or a larger --max-drop. No file was kept."
        )
    return smaller, report


def quantised(graph: Any, pictures: Sequence[np.ndarray], form: Format) -> Any:
    """A copy of the graph with all its layers in int8, their ranges taken from pictures, (H, W, 3) uint8; form: of the graph."""
    return nncf.quantize(
        copy.deepcopy(graph), _shown(pictures), **_settings(pictures, form)
    )  # NNCF may change what it is given


def _scorer(form: Format, export: Export, meta: WeightsMeta, guard: Guard) -> Callable[[Any], Evaluation]:
    resize = "bilinear" if export.size is None else f"bilinear to {export.size[1]}x{export.size[0]}, {BACK_AND_FORTH}"

    def score(graph: Any) -> Evaluation:
        predict = _at(export.size, Predictor(form.network(graph, export), meta).predict_mask)
        masks = lambda pixels: Maps(predict(pixels))  # noqa: E731 - classes alone guard int8
        return evaluate(masks, guard.labelled, labels=meta.labels, resize=resize, progress=guard.progress)

    return score


def _with_accuracy_control(
    graph: Any, pictures: Sequence[np.ndarray], form: Format, guard: Guard, export: Export
) -> Any:
    labelled = guard.labelled

    def mean_iou(model: Any, indices: Iterable[int]) -> tuple[float, None]:
        run = form.whole(model, export)
        predict = _at(export.size, lambda pixels: run(torch.from_numpy(pixels)[None])["mask"][0].numpy())
        matrix = ConfusionMatrix(len(labelled.labels), labelled.labels.ignore_index)
        for index in indices:
            pixels, target = labelled[index]
            matrix.update(predict(pixels), target)
        return matrix.mean_iou, None

    return nncf.quantize_with_accuracy_control(
        copy.deepcopy(graph),
        _shown(pictures),
        nncf.Dataset(list(range(len(labelled)))),
        validation_fn=mean_iou,
        max_drop=guard.max_drop,
        drop_type=nncf.DropType.ABSOLUTE,
        **_settings(pictures, form),
    )


def _shown(pictures: Sequence[np.ndarray]) -> Any:
    return nncf.Dataset(range(len(pictures)), lambda index: {"image": pictures[index][None]})


def _settings(pictures: Sequence[np.ndarray], form: Format) -> dict[str, Any]:
    # OpenVINO 2026.4.1 crashes on AMX in convolutions whose results are clamped by channel: one range for all channels there.
    ranges = QuantizationParameters(per_channel=False if form.name == "openvino" else None)
    return {
        "preset": nncf.QuantizationPreset.MIXED,
        "subset_size": len(pictures),
        "advanced_parameters": nncf.AdvancedQuantizationParameters(activations_quantization_params=ranges),
    }


class _Pictures(Sequence[np.ndarray]):
    """Files, read when they are asked for, and resized for a graph of one size."""

    def __init__(self, files: Sequence[Path], size: tuple[int, int] | None) -> None:
        self.files = files
        self.size = size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> Any:
        pixels = read_picture(self.files[index]).pixels
        return pixels if self.size is None else _resized(pixels, self.size, PIL.Image.Resampling.BILINEAR)


def _at(size: tuple[int, int] | None, predict: Predict) -> Predict:
    """What predicts pictures of every size with a graph that takes one: shown at `size`, the mask brought back to their own."""
    if size is None:
        return predict

    def predict_any(pixels: np.ndarray) -> np.ndarray:
        mask = predict(_resized(pixels, size, PIL.Image.Resampling.BILINEAR))
        return _resized(mask, pixels.shape[:2], PIL.Image.Resampling.NEAREST)

    return predict_any


def _resized(array: np.ndarray, size: tuple[int, ...], resampling: PIL.Image.Resampling) -> np.ndarray:
    height, width = size
    return np.array(PIL.Image.fromarray(array).resize((width, height), resampling))
