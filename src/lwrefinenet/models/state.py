"""Strict loading of parameters: every entry fits, or the error names the first few that do not."""

from collections.abc import Mapping

from torch import Tensor, nn

from lwrefinenet.errors import WeightsError


def load_strictly(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    origin: str,
    network: str,
    foreign_names: Mapping[str, str] | None = None,
) -> None:
    """Load `state` into `module`, entry for entry.

    origin: the file or place the state comes from, network: what it is meant for; both only for the message.
    foreign_names: what `state` calls each entry of the module, where it uses other names; messages speak of those.
    WeightsError if an entry is missing, extra, or of another shape; the module is then unchanged.
    """
    names = foreign_names or {key: key for key in module.state_dict()}
    own = {names[key]: value for key, value in module.state_dict().items()}
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
    module.load_state_dict({key: state[name] for key, name in names.items()}, strict=True)


def _listed(kind: str, entries: list[str], shown: int = 3) -> str:
    if not entries:
        return ""
    more = f" and {len(entries) - shown} more" if len(entries) > shown else ""
    return f"{len(entries)} {kind} ({', '.join(entries[:shown])}{more})"
