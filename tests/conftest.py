"""What several test files need: the folders of shared fixtures, and a network small enough to build for every test."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lwrefinenet import cli, weights
from lwrefinenet.meta import WeightsMeta
from lwrefinenet.models.refinenet import LightWeightRefineNet
from lwrefinenet.predict import Predictor
from lwrefinenet.preprocess import Preprocess
from lwrefinenet.runtimes import choose
from tests.colours import COLOURS, StrongestColour
from tests.tiny import TINY_META, build_tiny

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """On tiny networks several threads mostly wait for each other, all the more beside other work."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory):
    """What tests find out about their data sets stays out of the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def seeded():
    """torch's random numbers are the same in every run of the test, and its generator as before afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(autouse=True)
def pytorch_unless_asked(request, monkeypatch):
    """Tests that are not about runtimes run in PyTorch, whatever is installed."""
    if not {"runtimes", "export", "benchmark"} & set(request.path.parts):
        monkeypatch.setattr(choose, "find_spec", lambda name: None)


@pytest.fixture(scope="session")
def parity_folder() -> Path:
    """Names, shapes and outputs of the published networks (see its README)."""
    return _shared("parity")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real pictures and masks (see its README)."""
    return _shared("data")


@pytest.fixture
def tiny_model() -> LightWeightRefineNet:
    """0.4 M random parameters, three classes, evaluation mode; the same ones every time."""
    return build_tiny()


@pytest.fixture
def tiny_meta() -> WeightsMeta:
    """What `tiny_model` is."""
    return TINY_META


@pytest.fixture
def tiny_file(tmp_path, tiny_model, tiny_meta) -> Path:
    """The weights of `tiny_model`."""
    weights.save(tmp_path / "tiny.safetensors", tiny_model, tiny_meta)
    return tmp_path / "tiny.safetensors"


@pytest.fixture(scope="session")
def converted_graphs():
    """What `converted_once` has converted."""
    return {}


@pytest.fixture
def converted_once(monkeypatch, converted_graphs):
    """Networks that were converted in an earlier test are not converted again."""
    from tests.conversions import convert_once  # runtimes are optional

    convert_once(monkeypatch, converted_graphs)


@pytest.fixture
def colour_predictor():
    meta = WeightsMeta("colours", COLOURS, Preprocess(mean=(0, 0, 0), std=(1, 1, 1)))
    return Predictor.from_model(StrongestColour(), meta, "cpu")


@pytest.fixture
def colour_blocks():
    """(16, 24, 3) in blocks of 8x8: red, green, blue above blue, green, blue; unlike its turned and mirrored copies."""
    classes = np.array([[0, 1, 2], [2, 1, 2]]).repeat(8, axis=0).repeat(8, axis=1)
    return np.eye(3, dtype=np.uint8)[classes] * np.uint8(255)


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: these fixtures stand outside the repository")
    return folder


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command line in this process: its exit code, standard output and standard error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["lwrefinenet", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        out, err = capsys.readouterr()
        return leaving.value.code or 0, out, err

    return call
