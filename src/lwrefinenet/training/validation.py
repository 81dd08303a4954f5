"""The score of the weights as they would be shipped: rounded as in their file, and only then measured."""

from dataclasses import dataclass, replace
from pathlib import Path

from lwrefinenet import weights
from lwrefinenet.data.dataset import LabelledPictures
from lwrefinenet.evaluate import Evaluation, evaluate
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.models.refinenet import RefineNet
from lwrefinenet.predict import Predictor
from lwrefinenet.training.processes import Processes
from lwrefinenet.training.progress import Listener


@dataclass(frozen=True)
class Trial:
    """Weights and what they scored."""

    model: RefineNet
    predictor: Predictor
    evaluation: Evaluation

    def keep(self, path: Path) -> None:
        """Write the weights with their score; parameters are those that were measured."""
        weights.save(path, self.model, replace(self.predictor.meta, scores=self.evaluation.stated), half=True)


def score_as_shipped(
    model: RefineNet,
    meta: WeightsMeta,
    pictures: LabelledPictures,
    processes: Processes,
    listener: Listener,
) -> Trial:
    """Score the weights as their file will hold them (float16), each process a share of the pictures; the same for all of them."""
    processes.take_buffers_of_main(model)
    stored = weights.rounded(model, meta)
    predictor = Predictor.from_model(stored.fuse(), meta, processes.device)
    evaluation = evaluate(
        predictor.predict_maps,
        pictures,
        labels=meta.labels,
        tasks=meta.tasks,
        views=lambda: predictor.views,
        progress=lambda indices: listener.watch(indices, what="validating"),
        share=(processes.number, processes.count),
        gather=processes.gather,
    )
    return Trial(stored, predictor, evaluation)
