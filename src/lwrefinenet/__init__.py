"""Real-time dense prediction with the Light-Weight RefineNet family: networks, weights, training, evaluation, inference."""

from lwrefinenet.errors import LwRefineNetError, WeightsError
from lwrefinenet.labels import LABEL_SETS, LabelSet
from lwrefinenet.models.published import import_published
from lwrefinenet.models.zoo import MODELS, create_model
from lwrefinenet.predict import Predictor, Segmentation

__version__ = "0.1.0"

__all__ = [
    "LABEL_SETS",
    "MODELS",
    "LabelSet",
    "LwRefineNetError",
    "Predictor",
    "Segmentation",
    "WeightsError",
    "__version__",
    "create_model",
    "import_published",
]
