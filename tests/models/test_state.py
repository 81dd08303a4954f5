"""Strict loading: what fits is loaded whole, what does not is named and changes nothing."""

import pytest
import torch
from torch import nn

from lwrefinenet.errors import WeightsError
from lwrefinenet.models.state import load_strictly


def linear_state(*, offset: float = 5.0) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((2, 3), offset), "bias": torch.full((2,), offset)}


def test_everything_is_loaded():
    module = nn.Linear(3, 2)
    load_strictly(module, linear_state(), origin="x", network="y")
    assert module(torch.ones(1, 3)).tolist() == [[20.0, 20.0]]


def test_entries_under_foreign_names_are_loaded():
    module = nn.Linear(3, 2)
    state = {"w": torch.ones(2, 3), "b": torch.zeros(2)}
    load_strictly(module, state, origin="x", network="y", foreign_names={"weight": "w", "bias": "b"})
    assert module(torch.ones(1, 3)).tolist() == [[3.0, 3.0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, r"1 missing \(bias\)"),
        ({"scale": torch.zeros(1)}, r"1 unexpected \(scale\)"),
        ({"weight": torch.zeros(3, 2)}, r"1 misshapen \(weight \(3, 2\) instead of \(2, 3\)\)"),
        ({"bias": None, "scale": torch.zeros(1)}, r"1 missing \(bias\); 1 unexpected \(scale\)"),
        ({key: torch.zeros(1) for key in "abcde"}, r"5 unexpected \(a, b, c and 2 more\)"),
    ],
)
def test_every_misfit_is_named_and_nothing_is_loaded(change, message):
    module = nn.Linear(3, 2)
    before = module.weight.clone()
    state = {key: value for key, value in (linear_state() | change).items() if value is not None}
    with pytest.raises(WeightsError, match=f"file.pth does not fit some_net: {message}"):
        load_strictly(module, state, origin="file.pth", network="some_net")
    assert torch.equal(module.weight, before)


def test_messages_speak_the_foreign_names():
    with pytest.raises(WeightsError, match=r"1 missing \(w\); 1 unexpected \(weight\)"):
        load_strictly(
            nn.Linear(3, 2, bias=False),
            {"weight": torch.zeros(2, 3)},
            origin="x",
            network="y",
            foreign_names={"weight": "w"},
        )
