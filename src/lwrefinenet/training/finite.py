"""Losses and weights that are no finite numbers stop a run before they are saved, with what to do."""

from collections.abc import Sequence

from lwrefinenet.errors import RunError
from lwrefinenet.training.state import TrainingState


def require_finite(state: TrainingState) -> None:
    """RunError for weights that are spoilt: a finite loss may have gradients that are not."""
    if not all(bool(parameter.isfinite().all()) for parameter in state.learner.parameters()):
        raise RunError(
            f"the weights are no finite numbers any more after epoch {state.epoch + 1}, step {state.step}. The "
            "last checkpoint is from before; lower the learning rates or set clip_grad_norm."
        )


def no_number(loss: float, state: TrainingState, pictures: Sequence[str]) -> RunError:
    """What to say of a loss that is none, with the names of the pictures that it came of."""
    return RunError(
        f"the loss became {loss} in epoch {state.epoch + 1}, step {state.step + 1}, on {', '.join(pictures)}. The last "
        "checkpoint is from before; lower the learning rates or look at these pictures."
    )
