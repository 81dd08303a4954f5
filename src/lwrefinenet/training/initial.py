"""Beginning a run where another one ended: with the parameters of trained weights, as far as they fit."""

import torch

from lwrefinenet import weights
from lwrefinenet.errors import WeightsError
from lwrefinenet.models.pretrained import BackboneStart
from lwrefinenet.models.refinenet import RefineNet


def begin_with(model: RefineNet, name_or_path: str) -> tuple[BackboneStart, list[str]]:
    """Fill the model with every entry of these weights that has its name and shape; the rest stays as it is.

    What they say of depth is brought to the model's `input_scale`.
    name_or_path: as `weights.load`.  Returns what the weights expect and where they are from, and the modules that begin anew
    (heads for other classes, for instance).  WeightsError where the backbone is another one.
    """
    donor, meta = weights.load(name_or_path)
    donor.see_at(model.input_scale)
    own, given = model.state_dict(), donor.state_dict()
    anew = [key for key, value in own.items() if key not in given or given[key].shape != value.shape]
    if strange := [key for key in anew if key.startswith("backbone.")]:
        raise WeightsError(
            f"{name_or_path}: is a {meta.network}, whose backbone does not fit ({len(strange)} entries, {strange[0]} first); give "
            "initial_weights with the same backbone, or leave them out."
        )
    with torch.no_grad():
        model.load_state_dict({key: own[key] if key in anew else given[key] for key in own})
    source = meta.as_source("initial weights", name_or_path)
    return BackboneStart(meta.preprocess, source), list(dict.fromkeys(key.rpartition(".")[0] for key in anew))
