"""Published checkpoints: the networks' own outputs from their own names, wrappers, and files that are not what they should be."""

import importlib.util
import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from lwrefinenet.errors import UsageError, WeightsError
from lwrefinenet.models.published import PUBLISHED, _published_name, import_published
from lwrefinenet.models.zoo import create_model

NETWORK = "rf_lw_mobilenetv2"


@pytest.fixture(scope="module")
def filling(parity_folder):
    spec = importlib.util.spec_from_file_location("deterministic_fill", parity_folder / "deterministic_fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def published(parity_folder, filling):
    """Reads a fixture: the state dict of a published network, and its output for a picture of 97x131."""

    def read(name):
        with np.load(parity_folder / f"{name}.npz") as file:
            shapes = {key: tuple(json.loads(shape)) for key, shape in zip(file["keys"], file["shapes"], strict=True)}
            state = {str(key): torch.from_numpy(filling.fill(str(key), shape)) for key, shape in shapes.items()}
            return state, torch.from_numpy(file["output0_97x131"])

    return read


@pytest.fixture(scope="module")
def multi_task_state(published):
    return published("mt_mobilenetv2_40_depth")[0]


@pytest.fixture(scope="module")
def mobilenet_state(published):
    return published("rf_lw_mobilenetv2_21")[0]


@pytest.fixture
def written(tmp_path):
    """Writes what a checkpoint file holds and gives its path."""

    def write(content, **options):
        torch.save(content, tmp_path / "checkpoint.pth.tar", **options)
        return tmp_path / "checkpoint.pth.tar"

    return write


@pytest.mark.parametrize("name", ["rf_lw_resnet50", "rf_lw_mobilenetv2", "rf_resnet101"])
def test_imported_network_gives_the_published_logits(name, published, filling, written):
    state, expected = published(f"{name}_21")
    model = import_published(written(state), name)
    with torch.no_grad():
        logits = model(torch.from_numpy(filling.network_input(97, 131)))
        fused = model.fuse()(torch.from_numpy(filling.network_input(97, 131)))
    assert not model.training
    assert (logits - expected).abs().max() / expected.std() < 1e-4
    assert (fused - expected).abs().max() / expected.std() < 1e-4


def test_imported_multi_task_network_gives_the_published_results(parity_folder, multi_task_state, filling, written):
    model = import_published(written({"state_dict": multi_task_state}), "mt_lw_mobilenetv2")
    assert not model.training
    with torch.no_grad():
        results = model(torch.from_numpy(filling.network_input(97, 131)))
    assert list(results) == ["segmentation", "depth"]
    with np.load(parity_folder / "mt_mobilenetv2_40_depth.npz") as file:
        for number, result in enumerate(results.values()):
            expected = torch.from_numpy(file[f"output{number}_97x131"])
            assert (result - expected).abs().max() / expected.std() < 1e-4


def multi_task_file(num_classes, tasks):
    """What a published multi-task checkpoint of random values holds."""
    state = create_model("mt_lw_mobilenetv2", num_classes, tasks=tasks).state_dict()
    return {_published_name(key, PUBLISHED["mt_lw_mobilenetv2"]): value for key, value in state.items()}


@pytest.mark.parametrize(
    ("num_classes", "tasks"),
    [
        (40, ("segmentation", "depth")),
        (6, ("segmentation", "depth")),
        (46, ("segmentation", "depth")),
        (40, ("segmentation", "depth", "normals")),
    ],
)
def test_classes_and_tasks_are_those_of_the_file(num_classes, tasks, written):
    state = multi_task_file(num_classes, tasks)
    model = import_published(written({"state_dict": state}), "mt_lw_mobilenetv2", tasks=list(tasks))
    assert (model.num_classes, model.tasks) == (num_classes, tasks)
    assert torch.equal(model.heads["depth"][0].weight, state["pre_depth.weight"])
    assert torch.equal(model.decoder.levels[3].pooling.convs[0].weight, state["crp1.0.1_outvar_dimred.weight"])


@pytest.mark.parametrize(
    ("network", "key", "value", "message"),
    [
        ("mt_lw_mobilenetv2", "pre_segm.weight", None, r"1 missing \(pre_segm.weight\)"),
        ("mt_lw_mobilenetv2", "depth.bias", None, r"1 missing \(depth.bias\)"),
        (
            "mt_lw_mobilenetv2",
            "pre_normal.weight",
            torch.zeros(256, 1, 1, 1),
            r"2 missing \(normal.weight, normal.bias\)",
        ),
        (
            "mt_lw_mobilenetv2",
            "depth.weight",
            torch.zeros(2, 256, 3, 3),
            r"depth.weight \(2, 256, 3, 3\) instead of \(1,",
        ),
        ("mt_lw_mobilenetv2", "segm.weight", None, r"segm.weight, the head, is missing"),
        ("mt_lw_mobilenetv2", "depth.weight", None, r"1 missing \(depth.weight\)"),
        ("mt_lw_mobilenetv2", "clf_conv.weight", torch.zeros(21, 256, 3, 3), r"1 unexpected \(clf_conv.weight\)"),
        ("rf_lw_mobilenetv2", "x", None, r"holds a multi-task network \(segmentation, depth\).*as mt_lw_mobilenetv2"),
    ],
)
def test_misfits_of_multi_task_files_are_named(network, key, value, message, multi_task_state, written):
    state = {k: v for k, v in (multi_task_state | {key: value}).items() if v is not None}
    with pytest.raises(WeightsError, match=f"checkpoint.pth.tar.*{message}"):
        import_published(written(state), network)


def test_other_tasks_than_asked_for_are_refused(multi_task_state, written):
    with pytest.raises(WeightsError, match=r"its tasks are segmentation, depth, not segmentation, depth, normals\."):
        import_published(written(multi_task_state), "mt_lw_mobilenetv2", tasks=("segmentation", "depth", "normals"))


def test_a_network_of_one_task_is_no_multi_task_network(mobilenet_state, written):
    with pytest.raises(
        WeightsError, match="holds no heads of depth or normals, but mt_lw_mobilenetv2 has several tasks"
    ):
        import_published(written(mobilenet_state), "mt_lw_mobilenetv2")


def densetorch_names(state):
    """The state of RF-LW-MobileNet-v2 under the names of DenseTorch's encoder and decoder in sequence."""
    convs = {f"conv{8 - i}.weight": f"1.stem_convs.{i}.weight" for i in range(6)}
    adapts = {f"conv_adapt{4 - i}.weight": f"1.adapt_convs.{i}.weight" for i in range(3)}
    names = {**convs, **adapts, "segm.weight": "1.segm.weight", "segm.bias": "1.segm.bias"}
    for key in state:
        if key.startswith("crp"):
            names[key] = f"1.crp_blocks.{4 - int(key[3])}{key[4:]}"
    return {names.get(key, f"0.{key}"): value for key, value in state.items()}


def test_densetorchs_names_are_read_as_the_published_ones(mobilenet_state, written):
    renamed = densetorch_names(mobilenet_state)
    assert "1.crp_blocks.3.0.4_outvar_dimred.weight" in renamed
    model = import_published(written({"state_dict": renamed, "epoch": 3}), NETWORK)
    expected = import_published(written(mobilenet_state), NETWORK).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


def test_densetorchs_multi_task_decoder_is_refused(mobilenet_state, written):
    state = densetorch_names(mobilenet_state) | {"1.heads.0.0.weight": torch.zeros(256, 1, 1, 1)}
    with pytest.raises(
        WeightsError, match="multi-task network of DenseTorch, which resizes between its levels in another"
    ):
        import_published(written(state), "mt_lw_mobilenetv2")


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: OrderedDict(state),
        lambda state: {"module." + key: value for key, value in state.items()},
        lambda state: {
            "segmenter": {"module." + key: value for key, value in state.items()},
            "epoch_start": 3,
            "best_val": np.float64(0.5),
        },
        lambda state: {"model": state, "epoch": 3, "optimisers": [{"state": {}, "param_groups": [{"lr": 0.1}]}]},
        lambda state: {"state_dict": state, "epoch": np.int64(3), "best_val": np.float32(0.5)},
    ],
    ids=["flat", "parallel", "first trainer", "second trainer", "state_dict"],
)
def test_training_checkpoints_around_the_state_are_taken_off(wrapped, mobilenet_state, written):
    model = import_published(written(wrapped(mobilenet_state)), NETWORK)
    assert torch.equal(model.head.bias, mobilenet_state["segm.bias"])
    assert torch.equal(model.decoder.levels[0].adapt[1][0].weight, mobilenet_state["conv7.weight"])


def test_files_from_before_torch_1_6_are_read(mobilenet_state, written):
    model = import_published(written(mobilenet_state, _use_new_zipfile_serialization=False), NETWORK)
    assert torch.equal(model.head.weight, mobilenet_state["segm.weight"])


def test_number_of_classes_is_the_heads(mobilenet_state, written):
    state = mobilenet_state | {"segm.weight": torch.zeros(7, 256, 3, 3), "segm.bias": torch.arange(7.0)}
    assert import_published(written(state), NETWORK).head.bias.tolist() == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("crp4.0.1_outvar_dimred.weight", None, r"1 missing \(crp4.0.1_outvar_dimred.weight\)"),
        ("layer2.0.output.0.1.num_batches_tracked", None, r"1 missing \(layer2.0.output.0.1.num_batches_tracked\)"),
        ("pre_segm.weight", torch.zeros(256, 1, 1, 1), r"1 unexpected \(pre_segm.weight\)"),
        ("conv8.weight", torch.zeros(256, 96, 1, 1), r"conv8.weight \(256, 96, 1, 1\) instead of \(256, 320, 1, 1\)"),
        ("segm.bias", torch.zeros(20), r"segm.bias \(20,\) instead of \(21,\)"),
        ("segm.weight", None, r"segm.weight, the head, is missing"),
        ("segm.weight", torch.zeros(300, 256, 3, 3), r"segm.weight has shape \(300, 256, 3, 3\)"),
        ("segm.weight", torch.zeros(21), r"segm.weight has shape \(21,\)"),
        ("conv8.weight", 3, "entry 'conv8.weight' is of type int"),
    ],
)
def test_misfits_are_named_as_the_file_names_them(key, value, message, mobilenet_state, written):
    state = {k: v for k, v in (mobilenet_state | {key: value}).items() if v is not None}
    with pytest.raises(WeightsError, match=f"checkpoint.pth.tar.*{message}"):
        import_published(written(state), NETWORK)


def test_checkpoint_of_another_network_is_refused(mobilenet_state, written):
    with pytest.raises(
        WeightsError, match=r"clf_conv\.weight, the head, is missing.*network that the file was made for"
    ):
        import_published(written(mobilenet_state), "rf_lw_resnet50")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("rf_lw_resnet101", r"306 missing \(layer3\.6\.conv1\.weight,"),
        (
            "rf_resnet50",
            r"60 missing \(adapt_stage1_b\.0\.1_conv\.weight,.*26 misshapen \(p_ims1d2_outl1_dimred\.weight ",
        ),
    ],
)
def test_resnet_of_another_depth_or_decoder_is_refused(network, message, tmp_path, parity_folder):
    with np.load(parity_folder / "rf_lw_resnet50_21.npz") as file:
        state = {
            str(key): torch.zeros(()).expand(json.loads(shape))
            for key, shape in zip(file["keys"], file["shapes"], strict=True)
        }
    torch.save(state, tmp_path / "r50.pth")
    with pytest.raises(WeightsError, match=f"does not fit {network}: {message}"):
        import_published(tmp_path / "r50.pth", network)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"<!DOCTYPE html><html>not found</html>",
        lambda data: data[:2000] + bytes(2000),
    ],
    ids=["empty", "cut off", "web page", "overwritten"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_files_are_refused(damage, zipped, written):
    path = written({"segm.weight": torch.zeros(21, 256, 3, 3)}, _use_new_zipfile_serialization=zipped)
    path.write_bytes(damage(path.read_bytes()))
    size = path.stat().st_size
    with pytest.raises(WeightsError, match=f"checkpoint.pth.tar: {size} bytes that are no readable torch checkpoint"):
        import_published(path, NETWORK)


def test_objects_are_not_unpickled(written):
    with pytest.raises(WeightsError, match="holds Python objects besides tensors") as caught:
        import_published(written({"model": nn.Linear(2, 2)}), NETWORK)
    assert "weights_only" not in str(caught.value)


def test_pickles_cannot_run_code(tmp_path):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    path.write_bytes(f"cos\nsystem\n(S'touch {trace}'\ntR.".encode())
    with pytest.raises(WeightsError, match="could run any code"):
        import_published(path, NETWORK)
    assert not trace.exists()


def test_numpy_numbers_leave_no_mark_on_torch(mobilenet_state, written):
    before = set(torch.serialization.get_safe_globals())
    import_published(written({"model": mobilenet_state, "best_val": np.float64(0.5)}), NETWORK)
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("content", [torch.zeros(2), [1, 2]])
def test_something_else_than_a_state_dict_is_refused(content, written):
    with pytest.raises(WeightsError, match=f"holds a {type(content).__name__}; expected a state dict"):
        import_published(written(content), NETWORK)


def test_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="nowhere.pth: no such file"):
        import_published(tmp_path / "nowhere.pth", NETWORK)


@pytest.mark.parametrize("network", ["rf_lw_efficientnet_lite0", "rf_lw_resnet18", "anything"])
def test_unknown_network_gives_those_it_knows(network, tmp_path):
    with pytest.raises(UsageError, match=f"'{network}' can be imported; take .*rf_lw_"):
        import_published(tmp_path / "x.pth", network)
