import json
import math
import os
import re
import shutil
import signal
import tomllib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from lwrefinenet import predict, weights
from lwrefinenet.data.folder import folder_dataset
from lwrefinenet.errors import DataError, RecipeError, RunError, UsageError, WeightsError
from lwrefinenet.evaluate import evaluate
from lwrefinenet.models.zoo import create_model
from lwrefinenet.predict import Predictor
from lwrefinenet.preprocess import Preprocess
from lwrefinenet.training import interruption, loop, pace, saves
from lwrefinenet.training import train as training
from lwrefinenet.training.recipe import Recipe
from lwrefinenet.training.run_dir import RunDir, fingerprint
from lwrefinenet.training.start import augmentation, freezes_batch_norm
from lwrefinenet.training.train import train
from tests.shapes import write_shapes

CPU = torch.device("cpu")


class Quiet:
    """A listener that keeps what it hears, and may act after a step."""

    def __init__(self, after_step=lambda report: None):
        self.losses, self.sentences, self.after_step = [], [], after_step

    def say(self, sentence):
        self.sentences.append(sentence)

    def stepped(self, report):
        self.losses.append(report.loss)
        self.after_step(report)

    def validated(self, epoch, evaluation, *, best):
        pass

    def watch(self, indices, *, what):
        return indices


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=8, val=4)


def recipe(**changes):
    settings = {
        "model": "rf_lw",
        "backbone": "test_resnet",
        "decoder_channels": 32,
        "backbone_weights": "none",
        "epochs": 2,
        "batch_size": 4,
        "crop_size": [64, 80],
        "scale_range": [0.8, 1.25],
        "color_jitter": 0.1,
        "backbone_lr": 5e-3,
        "decoder_lr": 5e-3,
        "warmup_steps": 5,
        "ema_decay": 0.9,
        "validate_every": 1,
        "workers": 0,
        "trackers": [],
    }
    return Recipe.from_dict({**settings, **changes})


def run(shapes, folder, the_recipe, listener=None, **settings):
    return train(the_recipe, {"": shapes}, folder, device=CPU, listener=listener or Quiet(), **settings)


def tensors(path):
    return weights.load(path)[0].state_dict()


def test_training_learns_the_shapes(shapes, tmp_path):
    dataset = folder_dataset(shapes, "val")
    torch.manual_seed(0)
    untrained = create_model("rf_lw", 3, backbone="test_resnet", decoder_channels=32)
    done = run(shapes, tmp_path / "run", recipe(epochs=40, validate_every=40))
    model, meta = weights.load(done.best)
    before = evaluate(Predictor.from_model(untrained, meta, "cpu").predict_maps, dataset, labels=meta.labels).mean_iou
    after = evaluate(Predictor.from_model(model, meta, "cpu").predict_maps, dataset, labels=meta.labels).mean_iou
    assert before < 0.35
    assert after > 0.8


def test_crops_at_the_input_scale_are_learnt_as_they_are_and_scored_on_whole_pictures(shapes, tmp_path):
    plain, scaled = Quiet(), Quiet()
    run(shapes, tmp_path / "plain", recipe(), plain)
    done = run(shapes, tmp_path / "scaled", recipe(input_scale=0.5, crops_at_input_scale=True), scaled)
    assert scaled.losses == plain.losses
    assert weights.read_meta(done.best).arguments["input_scale"] == 0.5
    model, meta = weights.load(done.best)
    predictor = Predictor.from_model(model, meta, "cpu")
    whole = evaluate(predictor.predict_maps, folder_dataset(shapes, "val"), labels=meta.labels)
    assert meta.scores[0].value == pytest.approx(whole.mean_iou, abs=1e-6)


def test_whole_multiples_change_nothing_for_crops_of_such_sizes_and_go_with_the_weights(shapes, tmp_path):
    plain, multiples = Quiet(), Quiet()
    run(shapes, tmp_path / "plain", recipe(crop_size=(32, 64)), plain)
    done = run(shapes, tmp_path / "multiples", recipe(crop_size=(32, 64), size_multiple=32), multiples)
    assert multiples.losses == plain.losses
    assert weights.load(done.best)[0].size_multiple == 32


def test_crops_at_the_input_scale_hold_the_depth_that_will_be_predicted_at_it():
    def usual(**changes):
        return augmentation(recipe(**changes), Preprocess(), 255).usual_scale

    assert usual(input_scale=0.5, crops_at_input_scale=True) == 0.5
    assert usual(input_scale=0.5) == usual(crops_at_input_scale=True) == 1.0


def test_a_field_that_came_later_leaves_runs_from_before_it_resumable():
    # Found when none of those in CAME_LATER was there; a new field belongs there.
    assert fingerprint(Recipe(model="rf_lw_mobilenetv2", epochs=1)).startswith("3a8a31624da6c632")
    for later in ({"crops_at_input_scale": True}, {"depth_loss": "squared"}):
        assert fingerprint(Recipe(model="rf_lw_mobilenetv2", epochs=1, **later))[:16] != "3a8a31624da6c632"


def test_a_run_stopped_in_the_middle_of_an_epoch_and_resumed_gives_equal_weights(shapes, tmp_path):
    whole = Quiet()
    run(shapes, tmp_path / "whole", recipe(epochs=3), whole)
    stopped = Quiet(lambda report: report.done == 3 and os.kill(os.getpid(), signal.SIGTERM))
    run(shapes, tmp_path / "parts", recipe(epochs=3), stopped)
    rest = Quiet()
    run(shapes, tmp_path / "parts", recipe(epochs=3), rest, resume=True)
    assert stopped.losses + rest.losses == whole.losses
    expected, found = tensors(tmp_path / "whole/best.safetensors"), tensors(tmp_path / "parts/best.safetensors")
    assert all(torch.equal(value, found[key]) for key, value in expected.items())


def test_a_time_limit_stops_cleanly_and_says_how_to_go_on(shapes, tmp_path):
    listener = Quiet()
    done = run(shapes, tmp_path / "run", recipe(), listener, time_limit=0)
    assert len(listener.losses) == 1
    assert (done.path / "last" / "checkpoint.pt").is_file()
    assert "Stopped by the time limit; go on with --resume." in listener.sentences


def test_the_best_weights_say_what_they_are(shapes, tmp_path):
    done = run(shapes, tmp_path / "run", recipe(epochs=1))
    meta = weights.read_meta(done.best)
    assert meta.labels.class_names == ("nothing", "square", "disc")
    assert meta.arguments == {"backbone": "test_resnet", "decoder_channels": 32}
    assert meta.scores[0].protocol.startswith(f"{shapes.name} val, 4 pictures at 80x64")
    assert Recipe.from_toml(done.recipe).to_toml() == meta.recipe


def test_each_validation_is_logged_with_its_protocol(shapes, tmp_path):
    done = run(shapes, tmp_path / "run", recipe())
    lines = [json.loads(line) for line in (done.path / "metrics.jsonl").read_text().splitlines()]
    scores = [line for line in lines if "mean_iou" in line]
    assert [line["epoch"] for line in scores] == [1, 2]
    assert scores[0]["protocol"]["split"] == "val"


def test_each_epoch_is_logged_with_the_time_it_took_and_the_time_it_waited_for_pictures(shapes, tmp_path):
    done = run(shapes, tmp_path / "run", recipe())
    lines = [json.loads(line) for line in (done.path / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if "loss" in line]
    assert [line["epoch"] for line in epochs] == [1, 2]
    assert all(line["seconds"] > 0 and line["waiting"] > 0 for line in epochs)


def test_pictures_kept_in_memory_give_the_same_weights(shapes, tmp_path):
    run(shapes, tmp_path / "decoded", recipe(epochs=1))
    listener = Quiet()
    run(shapes, tmp_path / "kept", recipe(epochs=1, cache="memory", workers=1), listener)
    assert f"8 pictures and masks of {shapes.name} kept in memory: 0.00 GB." in listener.sentences
    expected, found = tensors(tmp_path / "decoded/best.safetensors"), tensors(tmp_path / "kept/best.safetensors")
    assert all(torch.equal(value, found[key]) for key, value in expected.items())


def test_a_folder_that_holds_a_run_is_not_trained_over(shapes, tmp_path):
    run(shapes, tmp_path / "run", recipe(), time_limit=0)
    with pytest.raises(RunError, match="holds a run already.*--resume"):
        run(shapes, tmp_path / "run", recipe())


def test_a_run_is_not_resumed_with_another_recipe(shapes, tmp_path):
    run(shapes, tmp_path / "run", recipe(), time_limit=0)
    with pytest.raises(RunError, match=r"another recipe: batch_size was 4 and is 2"):
        run(shapes, tmp_path / "run", recipe(batch_size=2), resume=True)
    with pytest.raises(
        RunError, match=r"another recipe: validate_every was 1 and is 2"
    ):  # it decides which is the best
        run(shapes, tmp_path / "run", recipe(validate_every=2), resume=True)


def test_a_run_is_not_resumed_on_other_data(shapes, tmp_path):
    run(shapes, tmp_path / "run", recipe(), time_limit=0)
    other = write_shapes(tmp_path / "others", train=5)
    with pytest.raises(
        RunError, match=r"learnt from \S+ train with 8 pictures .* this is others train with 5 pictures"
    ):
        run(other, tmp_path / "run", recipe(), resume=True)


def test_what_changes_no_result_may_change_on_resumption(shapes, tmp_path):
    run(shapes, tmp_path / "run", recipe(), time_limit=0)
    listener = Quiet()
    run(shapes, tmp_path / "run", recipe(workers=1, checkpoint_minutes=99), listener, resume=True)
    assert len(listener.losses) == 3


def test_a_recipe_that_cannot_start_leaves_the_folder_free_for_a_better_one(shapes, tmp_path):
    with pytest.raises(UsageError):
        run(shapes, tmp_path / "runs" / "first", recipe(backbone="resnet1"))
    assert not (tmp_path / "runs").exists()
    (tmp_path / "run").mkdir()  # one that was there stays
    with pytest.raises(UsageError):
        run(shapes, tmp_path / "run", recipe(backbone="resnet1"))
    run(shapes, tmp_path / "run", recipe(), time_limit=0)


def test_the_logged_loss_is_that_of_the_whole_epoch_also_after_a_stop(shapes, tmp_path):
    stopped = Quiet(lambda report: report.done == 1 and os.kill(os.getpid(), signal.SIGTERM))
    run(shapes, tmp_path / "run", recipe(epochs=1), stopped)
    rest = Quiet()
    done = run(shapes, tmp_path / "run", recipe(epochs=1), rest, resume=True)
    logged = json.loads((done.path / "metrics.jsonl").read_text().splitlines()[0])
    assert logged["loss"] == pytest.approx(sum(stopped.losses + rest.losses) / 2)


def test_the_stated_score_is_that_of_the_file(shapes, tmp_path):
    done = run(shapes, tmp_path / "run", recipe(epochs=1))
    dataset = folder_dataset(shapes, "val")
    model, meta = weights.load(done.best)
    found = evaluate(Predictor.from_model(model, meta, "cpu").predict_maps, dataset, labels=meta.labels)
    assert meta.scores[0].value == found.mean_iou


def test_class_weights_gradient_clipping_and_frozen_statistics_reach_the_run(shapes, tmp_path):
    plain, weighted = Quiet(), Quiet()
    settings = {"epochs": 1, "val_split": "", "ema_decay": 0.0, "optimizer": "sgd", "weight_decay": 0.0}
    run(shapes, tmp_path / "plain", recipe(**settings), plain)
    run(shapes, tmp_path / "weighted", recipe(**settings, class_weight_power=1.0), weighted)
    assert plain.losses[0] != weighted.losses[0]
    run(shapes, tmp_path / "still", recipe(**settings, clip_grad_norm=1e-12, freeze_batch_norm=True))
    torch.manual_seed(0)
    start = create_model("rf_lw", 3, backbone="test_resnet", decoder_channels=32).state_dict()
    for name, moved in (("still", False), ("plain", True)):
        found = tensors(tmp_path / name / "best.safetensors")
        for key in ("head.weight", "backbone.net.bn1.running_mean"):
            stored = start[key].half().float() if start[key].ndim > 1 else start[key]
            assert torch.equal(found[key], stored) != moved, (name, key)


def test_checkpoints_are_written_between_epochs_when_their_time_has_come(shapes, tmp_path):
    folder = tmp_path / "run"
    seen = []
    listener = Quiet(lambda report: seen.append((folder / "last" / "checkpoint.pt").exists()))
    run(shapes, folder, recipe(epochs=1, batch_size=2, checkpoint_minutes=1e-9), listener)
    assert seen == [False, True, True, True]


def test_nothing_to_resume_is_said(shapes, tmp_path):
    with pytest.raises(RunError, match="holds no run to resume"):
        run(shapes, tmp_path / "run", recipe(), resume=True)


def test_a_checkpoint_cut_short_is_refused_by_name(shapes, tmp_path):
    done = run(shapes, tmp_path / "run", recipe(), time_limit=0)
    checkpoint = done.path / "last" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(RunError, match=r"last/checkpoint\.pt: it was cut short \(1000 of \d+ bytes\)"):
        run(shapes, tmp_path / "run", recipe(), resume=True)


def test_a_loss_that_is_no_number_stops_with_the_names_of_the_pictures(shapes, tmp_path):
    with pytest.raises(RunError, match=r"the loss became (nan|inf) in epoch 1, step \d, on 00\d\.png"):
        run(shapes, tmp_path / "run", recipe(optimizer="sgd", backbone_lr=1e25, decoder_lr=1e25, warmup_steps=0))


def test_backbone_weights_that_cannot_be_had_are_no_silent_random_start(shapes, tmp_path):
    with pytest.raises(WeightsError, match=r"none\.safetensors: no such file"):
        run(shapes, tmp_path / "run", recipe(backbone_weights=str(tmp_path / "none.safetensors")))
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_without_a_validation_split_the_last_weights_are_kept(shapes, tmp_path):
    done = run(shapes, tmp_path / "run", recipe(epochs=1, val_split=""))
    assert weights.read_meta(done.best).scores == ()


LENGTHENED = {"schedule": "wsd", "decay_epochs": 2, "late_epochs": 1, "late_crop_size": [64, 64], "validate_every": 2}


@pytest.fixture(scope="module")
def as_long_from_the_start(shapes, tmp_path_factory):
    """The folder of a run of five epochs, of which the first three are those of a run of any length."""
    return run(shapes, tmp_path_factory.mktemp("whole"), recipe(epochs=5, **LENGTHENED)).path


def equal(left, right):
    right = tensors(right)
    return all(torch.equal(value, right[name]) for name, value in tensors(left).items())


def epochs_logged(folder):
    return [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_finished_run_made_longer_is_one_that_was_as_long_from_the_start(shapes, tmp_path, as_long_from_the_start):
    """Learnt again from where the lengths part; what the shorter run gave stays."""
    short = run(shapes, tmp_path, recipe(epochs=4, **LENGTHENED))
    shutil.copy(short.best, tmp_path / "before.safetensors")
    listener = Quiet()
    run(shapes, tmp_path, recipe(epochs=5, **LENGTHENED), listener, resume=True)
    assert "The run had 4 epochs and has 5 now; both learn alike up to here." in listener.sentences
    assert f"Of the 4 epochs is kept: {tmp_path / 'best_of_4_epochs.safetensors'}." in listener.sentences
    assert not [sentence for sentence in listener.sentences if "refused" in sentence]
    assert equal(tmp_path / "best_of_4_epochs.safetensors", tmp_path / "before.safetensors")
    assert equal(short.best, as_long_from_the_start / "best.safetensors")
    assert epochs_logged(tmp_path) == epochs_logged(as_long_from_the_start) == [1, 2, 2, 3, 4, 4, 5, 5]
    assert (tmp_path / "metrics_of_4_epochs.jsonl").read_text().count("\n") == 6


@pytest.fixture
def ticking(monkeypatch):
    """A clock that goes on by a second whenever a run asks for the time; what it says."""
    now = [0.0]

    def tick():
        now[0] += 1
        return now[0]

    for module in (loop, pace, saves, interruption, training):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=tick))
    return now


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_fitted_to_its_time_is_one_that_was_as_long_from_the_start(shapes, tmp_path, ticking, workers):
    """However many epochs its recipe has; late crops are as large as the others, since by this clock each takes as long."""
    listener = Quiet()
    settings = {**LENGTHENED, "late_crop_size": [64, 80], "late_scale_range": [1.0, 1.1], "workers": workers}
    fitted = run(shapes, tmp_path / "fitted", recipe(epochs=1000, **settings), listener, time_limit=200, fit=True)
    assert not [sentence for sentence in listener.sentences if sentence.startswith("Stopped")]
    assert 170 < ticking[0] < 205  # an epoch is 14 of its seconds, and a few go by when the run has ended
    chosen = Recipe.from_toml(tmp_path / "fitted" / "recipe.toml")
    closing = recipe(epochs=5, **LENGTHENED).epochs - recipe(epochs=5, **LENGTHENED).open_epochs
    assert 3 < chosen.epochs < 20 and chosen == recipe(epochs=chosen.epochs, **settings)
    assert f"{chosen.epochs} epochs fit the time limit: the closing {closing} begin." in listener.sentences
    whole = run(shapes, tmp_path / "whole", chosen)
    assert equal(fitted.best, whole.best)
    assert weights.read_meta(fitted.best).recipe == weights.read_meta(whole.best).recipe
    assert epochs_logged(tmp_path / "fitted") == epochs_logged(tmp_path / "whole")


def test_a_fitted_run_that_is_stopped_in_its_closing_epochs_goes_on_with_these(shapes, tmp_path, ticking):
    """Its weights so far are there, and the same command ends what it had begun."""
    endless = recipe(epochs=1000, val_split="", **LENGTHENED)

    def dawdle(report):
        if report.epochs < 1000:  # in the closing epochs
            ticking[0] += 500

    stopped = Quiet(dawdle)
    run(shapes, tmp_path, endless, stopped, time_limit=200, fit=True)
    fitted = Recipe.from_toml(tmp_path / "recipe.toml").epochs
    assert (
        f"Stopped by the time limit in epoch {fitted - 1} of {fitted}; go on with --resume --set epochs={fitted}."
        in (stopped.sentences)
    )
    assert weights.read_meta(tmp_path / "best.safetensors").network == "rf_lw"
    run(shapes, tmp_path, endless, time_limit=200, fit=True, resume=True)
    whole = run(shapes, tmp_path / "whole", recipe(epochs=fitted, val_split="", **LENGTHENED))
    assert equal(tmp_path / "best.safetensors", whole.best)


def test_a_resumed_run_knows_from_its_log_what_epochs_take(shapes, tmp_path, ticking):
    """Where its closing epochs should begin at once they do; without the log, one more epoch would tell."""
    short = run(shapes, tmp_path, recipe(epochs=5, **LENGTHENED))
    before = tensors(short.best)
    slow = [json.loads(line) for line in short.metrics.read_text().splitlines()]
    slow = [{**line, "seconds": 40} if "seconds" in line else line for line in slow]
    short.metrics.write_text("".join(json.dumps(line) + "\n" for line in slow))
    endless = recipe(epochs=1000, **LENGTHENED)
    listener = Quiet()
    run(shapes, tmp_path, endless, listener, time_limit=150, fit=True, resume=True)
    assert [sentence for sentence in listener.sentences if re.search("closing 2 epochs? begin", sentence)]
    assert Recipe.from_toml(tmp_path / "recipe.toml").epochs == 5
    assert all(torch.equal(value, before[name]) for name, value in tensors(tmp_path / "best.safetensors").items())


def test_closing_epochs_for_which_there_is_no_time_are_announced(shapes, tmp_path, ticking):
    listener = Quiet()
    run(shapes, tmp_path, recipe(epochs=1000, **LENGTHENED), listener, time_limit=20, fit=True)
    (warning,) = (sentence for sentence in listener.sentences if sentence.startswith("warning: the closing"))
    assert re.search(r"closing \d epochs begin, and take about \d\.\d min, and \d\.\d are left", warning)


def test_to_fit_a_run_to_no_time_is_refused(shapes, tmp_path):
    with pytest.raises(UsageError, match="fits a run to a time limit; give one"):
        run(shapes, tmp_path / "run", recipe(epochs=5, **LENGTHENED), fit=True)


def test_a_run_can_be_fitted_to_a_time_only_where_its_length_is_open(shapes, tmp_path):
    with pytest.raises(RecipeError, match=r'schedule = "wsd".*this one has schedule \'poly\' and 2 epochs'):
        run(shapes, tmp_path / "run", recipe(), time_limit=60, fit=True)
    assert not (tmp_path / "run").exists()


def test_a_run_stopped_in_its_decay_is_made_longer_from_before_it(shapes, tmp_path, as_long_from_the_start):
    def interrupt(report):
        if report.done == 5:  # a step into the decay of the short run
            os.kill(os.getpid(), signal.SIGTERM)

    run(shapes, tmp_path, recipe(epochs=4, **LENGTHENED), Quiet(interrupt))
    run(shapes, tmp_path, recipe(epochs=5, **LENGTHENED), resume=True)
    assert equal(tmp_path / "best.safetensors", as_long_from_the_start / "best.safetensors")


def test_what_a_shorter_run_gave_survives_a_longer_one_that_is_killed_at_once(shapes, tmp_path):
    short = run(shapes, tmp_path, recipe(epochs=4, **LENGTHENED))
    shutil.copy(short.best, tmp_path / "before.safetensors")

    def kill(report):
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(shapes, tmp_path, recipe(epochs=5, **LENGTHENED), Quiet(kill), resume=True)
    assert equal(tmp_path / "best_of_4_epochs.safetensors", tmp_path / "before.safetensors")
    run(shapes, tmp_path, recipe(epochs=4, **LENGTHENED), resume=True)
    assert equal(short.best, tmp_path / "before.safetensors")


def test_what_was_set_aside_once_is_not_written_over(tmp_path):
    for content in (b"first", b"second"):
        (tmp_path / "best.safetensors").write_bytes(content)
        RunDir(tmp_path).set_aside(4)
    assert (tmp_path / "best_of_4_epochs.safetensors").read_bytes() == b"first"


def test_a_run_made_shorter_than_where_the_lengths_part_cannot_go_on(shapes, tmp_path, as_long_from_the_start):
    shutil.copytree(as_long_from_the_start, tmp_path, dirs_exist_ok=True)
    with pytest.raises(
        RunError, match="epoch 3, step 0 of a run of 5 epochs, and one of 4 learns otherwise after epoch 2"
    ):
        run(shapes, tmp_path, recipe(epochs=4, **LENGTHENED), resume=True)


def test_late_epochs_use_their_own_crops(shapes, tmp_path, monkeypatch):
    seen = []
    original = torch.nn.Module.__call__

    def spy(module, *args):
        if type(module).__name__ == "Learner" and module.training:
            seen.append(tuple(args[0].shape[-2:]))
        return original(module, *args)

    monkeypatch.setattr(torch.nn.Module, "__call__", spy)
    late = {"late_epochs": 1, "late_crop_size": [32, 40]}
    run(shapes, tmp_path / "run", recipe(epochs=2, val_split="", **late))
    assert seen == [(64, 80), (64, 80), (32, 40), (32, 40)]


def test_stages_learn_from_their_own_data_with_their_own_rates(shapes, tmp_path):
    other = write_shapes(tmp_path / "more", train=4)
    seen = []
    listener = Quiet(lambda report: seen.append((report.epoch, round(report.decoder_lr, 6))))
    stages = {"stage_data": ["more", "shapes"], "stage_epochs": [1, 2], "stage_lr_scales": [1.0, 0.1]}
    the_recipe = recipe(epochs=3, schedule="constant", warmup_steps=0, decoder_lr=0.01, reset_optimizer=True, **stages)
    folders = {"more": other, "shapes": shapes}
    done = train(the_recipe, folders, tmp_path / "run", device=CPU, listener=listener)
    assert seen == [(1, 0.01), *[(2, 0.001)] * 2, *[(3, 0.001)] * 2]
    meta = weights.read_meta(done.best)
    assert [source.name for source in meta.sources] == ["more train", f"{shapes.name} train"]
    assert meta.scores[0].protocol.startswith(f"{shapes.name} val")


def test_several_folders_without_stages_are_learnt_from_together(shapes, tmp_path):
    other = write_shapes(tmp_path / "more", train=4)
    listener = Quiet()
    train(recipe(epochs=1), {"shapes": shapes, "more": other}, tmp_path / "run", device=CPU, listener=listener)
    assert len(listener.losses) == (8 + 4) // 4


def test_a_run_in_stages_stopped_between_them_and_resumed_gives_equal_weights(shapes, tmp_path):
    folders = {"more": write_shapes(tmp_path / "more", train=4), "shapes": shapes}
    stages = {"stage_data": ["more", "shapes+more"], "stage_epochs": [2, 1], "reset_optimizer": True}
    the_recipe = recipe(epochs=3, validate_every=3, **stages)
    train(the_recipe, folders, tmp_path / "whole", device=CPU, listener=Quiet())
    stopped = Quiet(lambda report: report.done == 2 and os.kill(os.getpid(), signal.SIGTERM))
    train(the_recipe, folders, tmp_path / "parts", device=CPU, listener=stopped)
    train(the_recipe, folders, tmp_path / "parts", device=CPU, listener=Quiet(), resume=True)
    expected, found = tensors(tmp_path / "whole/best.safetensors"), tensors(tmp_path / "parts/best.safetensors")
    assert all(torch.equal(value, found[key]) for key, value in expected.items())


def test_early_stopping_ends_a_run_that_gets_no_better(shapes, tmp_path):
    listener = Quiet()
    still = recipe(
        epochs=9, backbone_lr=1e-30, decoder_lr=1e-30, ema_decay=0.0, freeze_batch_norm=True, early_stopping=2
    )
    run(shapes, tmp_path / "run", still, listener)
    assert len(listener.losses) == 2 * 3  # the first epoch is the best, and two more were waited for
    assert "Stopped early: no better score since epoch 1." in listener.sentences
    again = Quiet()
    run(shapes, tmp_path / "run", still, again, resume=True)
    assert again.losses == []


def test_a_run_folder_in_use_is_refused(shapes, tmp_path):
    folder = RunDir(tmp_path / "run")
    with folder.in_use(), pytest.raises(RunError, match="another process is training in this folder"):
        run(shapes, tmp_path / "run", recipe())
    run(shapes, tmp_path / "run", recipe(epochs=1))


def test_batch_norms_are_frozen_by_default_for_small_batches_on_trained_backbones():
    small, random = recipe(backbone_weights="auto"), recipe()
    assert [freezes_batch_norm(small, size) for size in (7, 8)] == [True, False]
    assert not freezes_batch_norm(random, 2)
    assert freezes_batch_norm(recipe(freeze_batch_norm=True), 64)


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "ohem"},
        {"dice_weight": 0.5, "lovasz_weight": 0.5},
        {"auxiliary_weight": 0.4},
        {"drop_path": 0.5},
        {"blur": 1.0},
        {"balanced_crops": 1.0},
        {"class_mix": 1.0},
        {"cut_mix": 1.0},
        {"class_mix": 1.0, "balanced_mix": True},
        {"hidden_patches": 1.0},
        {"rotation": 20.0},
        {"label_smoothing": 0.1},
        {"device_batch": 2},
        {"precision": "bfloat16"},
        {"scale_sampling": "uniform", "short_side": 96},
    ],
    ids=str,
)
def test_every_option_of_the_loss_and_step_reaches_the_run(shapes, tmp_path, settings):
    plain, other = Quiet(), Quiet()
    usual = {"epochs": 2, "val_split": "", "precision": "float32"}  # which "auto" is not on every processor
    run(shapes, tmp_path / "plain", recipe(**usual), plain)
    run(shapes, tmp_path / "other", recipe(**{**usual, **settings}), other)
    assert plain.losses != other.losses
    assert other.losses[-1] < other.losses[0]


def test_float16_needs_a_gpu(shapes, tmp_path):
    with pytest.raises(RecipeError, match='precision is "float16", which needs a CUDA GPU; this run is on cpu'):
        run(shapes, tmp_path / "run", recipe(precision="float16"))


def test_metrics_of_epochs_that_are_done_again_stand_once(shapes, tmp_path):
    done = run(shapes, tmp_path / "run", recipe(epochs=2))
    shutil.rmtree(done.path / "last")  # as after a kill: the metrics are ahead of the checkpoint
    with done.metrics.open("a") as file:
        file.write('{"epoch": 2, "mean_i')
    run(shapes, tmp_path / "run", recipe(epochs=2), resume=True)
    epochs = [json.loads(line)["epoch"] for line in done.metrics.read_text().splitlines()]
    assert epochs == [1, 1, 2, 2]  # the loss and the score of each


def test_a_run_killed_before_its_first_checkpoint_starts_over_with_its_metrics(shapes, tmp_path):
    done = run(shapes, tmp_path / "run", recipe(epochs=1))
    shutil.rmtree(done.path / "last")
    run(shapes, tmp_path / "run", recipe(epochs=1), resume=True)
    assert len(done.metrics.read_text().splitlines()) == 2


def test_weights_that_are_no_numbers_are_neither_saved_nor_shipped(shapes, tmp_path):
    """A step of infinite length after a finite loss, with one step in an epoch."""
    settings = {"batch_size": 8, "optimizer": "sgd", "backbone_lr": math.inf, "decoder_lr": math.inf, "warmup_steps": 0}
    with pytest.raises(RunError, match="the weights are no finite numbers any more after epoch 1, step 1"):
        run(shapes, tmp_path / "run", recipe(**settings))
    assert not {"last", "best.safetensors"} & {path.name for path in (tmp_path / "run").iterdir()}


def test_whether_statistics_are_frozen_is_decided_once_for_a_run(shapes, tmp_path, monkeypatch):
    whole, rest = Quiet(), Quiet()
    run(shapes, tmp_path / "whole", recipe(), whole)
    run(shapes, tmp_path / "parts", recipe(), time_limit=0)
    monkeypatch.setattr("lwrefinenet.training.train.freezes_batch_norm", lambda *_: True)  # as a smaller device would
    run(shapes, tmp_path / "parts", recipe(), rest, resume=True)
    assert rest.losses == whole.losses[1:]


def test_validation_data_of_other_classes_is_refused_before_the_first_step(shapes, tmp_path):
    other = write_shapes(tmp_path / "other", train=4, val=2)
    description = (other / "dataset.toml").read_text()
    (other / "dataset.toml").write_text(description.replace("disc", "ring"))
    listener = Quiet()
    with pytest.raises(DataError, match="other val is to validate and has 3 classes.*val_data"):
        train(
            recipe(stage_data=["shapes"], stage_epochs=[2], val_data="other"),
            {"shapes": shapes, "other": other},
            tmp_path / "run",
            device=CPU,
            listener=listener,
        )
    assert listener.losses == []


def test_a_split_without_a_labelled_pixel_is_refused_before_the_first_step(shapes, tmp_path):
    """Its mean IoU would be no number, and no weights ever the best."""
    other = write_shapes(tmp_path / "other", train=4, val=1)
    Image.new("L", (80, 64), 255).save(other / "masks/val/000.png")
    with pytest.raises(DataError, match="other val: not one of its pixels has a class"):
        run(other, tmp_path / "run", recipe())


def test_a_score_of_large_pictures_says_that_they_were_cut(shapes, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "USUALLY_WHOLE", 32 * 32)
    monkeypatch.setattr(predict, "USUAL_TILE", 128)
    (score,) = weights.read_meta(run(shapes, tmp_path / "run", recipe(epochs=1)).best).scores
    assert ", single scale, no flip, large pictures in tiles of 128x128, one confusion matrix" in score.protocol


def test_a_teacher_is_learnt_from_and_named_among_the_sources(shapes, tmp_path):
    first = run(shapes, tmp_path / "teacher", recipe(epochs=1))
    taught = recipe(epochs=1, teacher=str(first.best), teacher_weight=5.0)
    listener, alone = Quiet(), Quiet()
    meta = weights.read_meta(run(shapes, tmp_path / "taught", taught, listener).best)
    run(shapes, tmp_path / "alone", recipe(epochs=1), alone)
    assert listener.losses[0] > alone.losses[0] + 0.01  # the same first batch, and a distance on top of its loss
    assert [source.origin for source in meta.sources if source.role == "teacher"] == [str(first.best)]
    by_class = Quiet()
    run(shapes, tmp_path / "by class", replace(taught, teacher_weight=0.0, teacher_channel_weight=5.0), by_class)
    assert by_class.losses[0] > alone.losses[0] + 0.01
    both_ways = Quiet()
    run(shapes, tmp_path / "both ways", replace(taught, teacher_flip=True), both_ways)
    assert both_ways.losses[0] > alone.losses[0] + 0.01
    assert both_ways.losses != listener.losses
    other = run(shapes, tmp_path / "other", recipe(epochs=1, seed=5))
    both = recipe(epochs=1, teacher=(str(first.best), str(other.best)), teacher_weight=5.0)
    meta = weights.read_meta(run(shapes, tmp_path / "by both", both).best)
    assert [source.origin for source in meta.sources if source.role == "teacher"] == [str(first.best), str(other.best)]
    assert tomllib.loads(meta.recipe)["teacher"] == [str(first.best), str(other.best)]


TASKS = ["segmentation", "depth", "normals"]


@pytest.fixture(scope="module")
def shapes_with_depth(tmp_path_factory):
    """Training pictures whose depth follows from their classes, but for the last, which has none."""
    root = write_shapes(tmp_path_factory.mktemp("deep"), train=8, val=4)
    with (root / "dataset.toml").open("a") as file:
        file.write("\ndepth_scale = 0.001\nfocal_length = 80\n")
    for split, count in (("train", 7), ("val", 4)):
        (root / "depth" / split).mkdir(parents=True)
        for number in range(count):
            mask = np.array(Image.open(root / "masks" / split / f"{number:03}.png"))
            Image.fromarray(1000 + 500 * mask.astype(np.uint16)).save(root / "depth" / split / f"{number:03}.png")
    return root


def several(**changes):
    return recipe(model="mt_lw", tasks=TASKS, normals_from_depth=True, **changes)


def test_several_tasks_are_learnt_at_once_and_a_cache_changes_nothing(shapes_with_depth, tmp_path):
    plain = run(shapes_with_depth, tmp_path / "plain", several(workers=1))
    kept = run(shapes_with_depth, tmp_path / "kept", several(cache="memory"))
    assert all(torch.equal(value, tensors(kept.best)[key]) for key, value in tensors(plain.best).items())
    assert weights.read_meta(plain.best).tasks == tuple(TASKS)


def test_tasks_that_find_their_weights_are_resumed_bit_for_bit(shapes_with_depth, tmp_path):
    the_recipe = several(uncertainty_weights=True, epochs=3)
    whole = run(shapes_with_depth, tmp_path / "whole", the_recipe)
    run(shapes_with_depth, tmp_path / "parts", the_recipe, time_limit=0.0)
    run(shapes_with_depth, tmp_path / "parts", the_recipe, resume=True)
    assert all(
        torch.equal(value, tensors(tmp_path / "parts" / "best.safetensors")[k])
        for k, value in tensors(whole.best).items()
    )


def test_a_set_with_masks_alone_and_one_with_depth_alone_teach_one_network(shapes, shapes_with_depth, tmp_path):
    deep = tmp_path / "deep"
    shutil.copytree(shapes_with_depth, deep)
    shutil.rmtree(deep / "masks" / "train")
    (deep / "images" / "train" / "007.png").unlink()  # which has no depth
    both = {"plain": shapes, "deep": deep}
    listener = Quiet()
    the_recipe = recipe(model="mt_lw", tasks=["segmentation", "depth"], val_data="plain", batch_size=4)
    done = train(the_recipe, both, tmp_path / "run", device=CPU, listener=listener)
    assert "warning: shapes" in " ".join(listener.sentences) and "has no depth and does not teach it" in " ".join(
        listener.sentences
    )
    assert weights.read_meta(done.best).tasks == ("segmentation", "depth")
    (deep / "depth" / "train" / "003.png").unlink()
    with pytest.raises(
        DataError, match=r"images/train/003\.png: has neither mask nor depth; expected .*depth/train/003\.png. 1 of 7"
    ):
        folder_dataset(deep, "train")


def test_depth_is_learnt(shapes_with_depth, tmp_path):
    listener = Quiet()
    run(shapes_with_depth, tmp_path / "run", several(epochs=12, depth_weight=5.0), listener)
    assert sum(listener.losses[-4:]) < 0.7 * sum(listener.losses[:4])


def test_a_task_without_labels_is_refused_with_what_would_help(shapes, tmp_path):
    with pytest.raises(
        DataError, match=r"the network gives depth, and no picture has any to learn it from; give a data set with"
    ):
        run(shapes, tmp_path / "run", recipe(model="mt_lw", tasks=["segmentation", "depth"]))


def test_a_run_begins_with_what_fits_of_other_weights(shapes, shapes_with_depth, tmp_path):
    first = run(shapes, tmp_path / "first", recipe(epochs=1))
    listener = Quiet()
    again = several(epochs=1, initial_weights=str(first.best), backbone_lr=1e-9, decoder_lr=1e-9, ema_decay=0.0)
    second = run(shapes_with_depth, tmp_path / "second", again, listener)
    before, after = tensors(first.best), tensors(second.best)
    for key in ("backbone.net.conv1.0.weight", "decoder.levels.0.adapt.0.0.weight"):
        torch.testing.assert_close(after[key], before[key], rtol=1e-2, atol=1e-3)
    (said,) = [sentence for sentence in listener.sentences if sentence.startswith("Beginning with")]
    assert "heads.depth.2" in said and "backbone" not in said
    assert weights.read_meta(second.best).sources[0].origin == str(first.best)


def test_what_went_on_from_weights_is_under_their_licence_too(shapes, tmp_path):
    first = run(shapes, tmp_path / "first", recipe(epochs=1))
    model, meta = weights.load(first.best)
    borrowed = tmp_path / "borrowed.safetensors"
    weights.save(borrowed, model, replace(meta, licence="research use"))
    second = run(shapes, tmp_path / "second", recipe(epochs=1, initial_weights=str(borrowed)))
    assert weights.read_meta(second.best).licence == f"research use; {meta.licence}"


def test_initial_weights_of_another_backbone_are_refused(shapes, tmp_path):
    first = run(shapes, tmp_path / "first", recipe(epochs=1))
    with pytest.raises(
        WeightsError, match=r"is a rf_lw, whose backbone does not fit .*give initial_weights with the same"
    ):
        run(shapes, tmp_path / "second", recipe(backbone="resnet18", initial_weights=str(first.best)))
