"""Strict loading of parameters: every entry fits, or the error names the first few that do not."""

from collections.abc import Mapping

from torch import Tensor, nn

from lwrefinenet.errors import WeightsError


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], *, origin: str, network: str) -> None:
    """Load `state` into `module`, entry for entry.

    origin: the file or place the state comes from, network: what it is meant for; both only for the message.
    WeightsError if an entry is missing, extra, or of another shape; the module is then unchanged.
    """
    own = module.state_dict()
    complaints = [
        _listed("missing", [key for key in own if key not in state]),
        _listed("unexpected", [key for key in state if key not in own]),
        _listed(
            "misshapen",
            [
                f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
                for key, value in own.items()
                if key in state and state[key].shape != value.shape
            ],
        ),
    ]
    if found := "; ".join(complaint for complaint in complaints if complaint):
        raise WeightsError(f"{origin} does not fit {network}: {found}. Give the network that the file was made for.")
    module.load_state_dict(dict(state), strict=True)


def _listed(kind: str, entries: list[str], shown: int = 3) -> str:
    if not entries:
        return ""
    more = f" and {len(entries) - shown} more" if len(entries) > shown else ""
    return f"{len(entries)} {kind} ({', '.join(entries[:shown])}{more})"
