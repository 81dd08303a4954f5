"""Write what is known of the shipped weights: their cards, the table of what was aimed at, and the scores in the README.

python scripts/make_cards.py
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pages import with_table
from train_released import released, stem_of

from lwrefinenet import weights
from lwrefinenet.files import write_atomically
from lwrefinenet.meta import WeightsMeta

ROOT = Path(__file__).parents[1]
README, CARDS = ROOT / "README.md", ROOT / "docs" / "weights"
INDEX = CARDS / "README.md"
RESULTS = ROOT / "results"
SPEED = RESULTS / "weights_speed.json"
PUBLISHED, NETWORKS = (ROOT / "scripts" / f"published_{what}.toml" for what in ("scores", "networks"))
DATA = {"camvid": "camvid", "nyu": "nyudv2"}  # folder of the data, by the second half of a name
SPLITS = {"test": "test", "test_crop": "test, 625x468 crop", "val": "val"}
BEGINS = "<!-- {} written by scripts/make_cards.py -->\n"
LIMITS = {
    "camvid": "Learnt from 367 frames of drives through Cambridge, one camera behind a windscreen, by day and at dusk. Other "
    "cities, cameras, weather and night are unknown to it, and so is all that is none of the 11 classes: it gets one of them "
    "nevertheless. Frames of a video are alike, so that 233 test pictures say less than they seem to; some masks of the test "
    "split are wrong themselves.",
    "nyu": "Learnt from 795 pictures of flats, offices and shops in the USA, taken by a Kinect. Outdoors nothing can be expected.",
}
DEPTH_LIMIT = " Cameras with another field of view make its depths wrong by a factor."


def card(name: str) -> str:
    """The whole page of one file of weights."""
    path, meta = weights.locate(name), weights.read_meta(name)
    kind = name.partition(".")[2]
    data = f"../shared/data/{DATA[kind]}"
    parts = [
        f"# `{name}`",
        f"`{meta.network}` for {len(meta.labels)} classes{_further(meta)}{_seen(name)}: {_megabytes(name)} in float16, sha256 "
        f"`{weights.sha256_of(path)}`. Licence: {meta.licence}.",
        _commands(name, data, meta),
        "## What it is made of",
        _ingredients(name, meta),
        _training(name),
        "## Scores",
        _scores(name),
        "## Classes",
        _classes(name),
        "## Speed",
        _speed(name),
        "## Where it fails",
        "Of each quarter of the test pictures the one with the lowest mean IoU over its own classes: the truth on the left, the "
        f"prediction on the right. `python scripts/make_failures.py {name} --data {data}`",
        f"![Four test pictures, true and predicted classes](../pictures/failures/{name}.jpg)",
        LIMITS[kind] + (DEPTH_LIMIT if "depth" in meta.tasks else ""),
    ]
    return "\n\n".join(parts) + "\n"


def _further(meta: WeightsMeta) -> str:
    return f", {' and '.join(meta.tasks[1:])}" if len(meta.tasks) > 1 else ""


def _seen(name: str) -> str:
    model = weights.load(name)[0]
    seen = [f"at {float(model.input_scale):g} of their size"] if model.input_scale != 1 else []
    if model.size_multiple != 1:
        seen.append(f"at the nearest whole multiples of {model.size_multiple} pixels")
    return f", which sees pictures {', '.join(seen)}" if seen else ""


def _commands(name: str, data: str, meta: WeightsMeta) -> str:
    scored = " --normals-from-depth" if "normals" in meta.tasks else ""
    begun = (source.origin for source in meta.sources if source.role == "backbone weights")
    elsewhere = "".join(f" --set backbone_weights=PATH/TO/{file}" for file in begun if file.endswith(weights.SUFFIX))
    return (
        "```sh\n"
        f"lwrefinenet predict picture.jpg --weights {name}\n"
        f"lwrefinenet evaluate {name} --data {data}{scored}   # repeats the test score below\n"
        f"python scripts/train_released.py {name} --data {data}{elsewhere}   # trains it again, in a clone of the repository\n"
        "```"
    )


def _ingredients(name: str, meta: WeightsMeta) -> str:
    """What the file says of itself, and the backbone with which its first predecessor began."""
    role = "backbone weights" + (", of the first file of all" if released()[name].commit else "")
    later = [source for source in meta.sources if source.role != "backbone weights"]
    rows = [(role, *released()[name].backbone)]
    rows += [(source.role, source.name, source.licence, source.origin) for source in later]
    return "\n".join(
        ["| role | what | licence | from |", "|---|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    )


def _training(name: str) -> str:
    stem, files, runs = stem_of(name), _logs(name), _runs(name)
    logs = ", ".join(f"`results/{file.name}`" for file in files)
    return (
        f"[recipes/{stem}.toml](../../recipes/{stem}.toml), {runs}: {_effort(name)}, validations not counted ({logs}). "
        f"[What it taught](../../results/training_log.md).{_offsets(name)}"
    )


def _runs(name: str) -> str:
    """How many, and in what each differs from the recipe."""
    runs = released()[name].runs
    words = [f"with {', '.join(f'`{field}`' for field in run)}" if run else "as it stands" for run in runs]
    number = "one run" if len(runs) == 1 else f"{len(runs)} runs"
    return f"{number} ({'; '.join(words)})" if any(runs) else number


def _offsets(name: str) -> str:
    adjustment = weights.read_meta(name).adjustment
    return f" [Offsets for its classes](../training.md#offsets-for-the-classes): {adjustment}." if adjustment else ""


def _scores(name: str) -> str:
    rows = ["| split | mean IoU | 95 % interval | pixel accuracy | further |", "|---|---|---|---|---|"]
    for split, found in _found(name).items():
        low, high = found["mean_iou_interval"]
        rows.append(
            f"| {SPLITS[split]}{_where_offsets_were_found(name, found)} "
            f"| {100 * found['mean_iou']:.1f} % | {100 * low:.1f}-{100 * high:.1f} % | "
            f"{100 * found['pixel_accuracy']:.1f} % | {_dense(found)} |"
        )
    protocol = _found(name)["test"]["protocol"]
    note = (
        f"Test: {protocol['pictures']} pictures at {protocol['size']}, {protocol['void_rule']}, logits resized "
        f"{protocol['resize_rule']}, {protocol['scales']}; one confusion matrix over the set. The interval is that of other "
        "pictures of this kind ([evaluate.md](../evaluate.md)), not of other seeds."
    )
    return "\n".join(rows) + "\n\n" + note


def _dense(found: dict[str, Any]) -> str:
    words = []
    if depth := found.get("depth"):
        words.append(
            f"depth RMSE {depth['rmse']:.3f} m, relative {depth['abs_rel']:.3f}, delta < 1.25 {depth['delta_1']:.1%}"
        )
    if normals := found.get("normals"):
        words.append(
            f"normals {normals['mean_degrees']:.1f} degrees off in the mean, {normals['median_degrees']:.1f} in the median"
        )
    return "; ".join(words)


def _classes(name: str) -> str:
    found = _found(name)
    rows = [f"| IoU % | {' | '.join(SPLITS[split] for split in found)} |", f"|---|{'---|' * len(found)}"]
    for label in found["test"]["per_class_iou"]:
        values = (result["per_class_iou"][label] for result in found.values())
        rows.append(f"| {label} | {' | '.join('absent' if iou is None else f'{100 * iou:.1f}' for iou in values)} |")
    return "\n".join(rows)


def _speed(name: str) -> str:
    result = json.loads(SPEED.read_text())
    rows = ["| way | network | JPEG to colour mask | peak memory |", "|---|---|---|---|"]
    for way, found in result["subjects"][name]["ways"].items():
        network, whole = found["milliseconds"]["network"]["p50"], found["end_to_end"]["p50"]
        rows.append(f"| {way} | {network:.0f} ms | {whole:.0f} ms | {found['peak_megabytes']:.0f} MB |")
    words = (
        f"One picture of 625x468 on {result['threads']} threads of {result['machine']['processor']}, float32, median of "
        f"{result['rounds']} rounds (`results/weights_speed.json`, by `make bench`)."
    )
    return "\n".join(rows) + "\n\n" + words


def scores_table(kind: str) -> str:
    """The weights for one kind of data beside what was published, as Markdown, best first of each."""
    heads = ("weights", "mean IoU, test (95 %)", "further", "parameters", "PyTorch", "OpenVINO", "file", "licence")
    rows = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    names = [name for name in weights.SHIPPED if name.endswith(f".{kind}")]
    for name in sorted(names, key=lambda name: -_found(name)["test"]["mean_iou"]):
        found, speed = _found(name), _facts(name)
        low, high = (100 * bound for bound in found["test"]["mean_iou_interval"])
        score = f"**{100 * found['test']['mean_iou']:.1f} %** ({low:.1f}-{high:.1f})"
        licence = weights.read_meta(name).licence.partition("(")[0].strip()
        row = (
            f"[`{name}`](docs/weights/{name}.md)",
            score,
            _beside(name, found),
            f"{speed['parameters']:,}",
            *_times(name),
        )
        rows.append(f"| {' | '.join((*row, _megabytes(name), licence))} |")
    for other in sorted(published()[kind], key=lambda other: -float(other["mean_iou"].removeprefix("~"))):
        depth = f"depth RMSE {other['depth_rmse']} m" if "depth_rmse" in other else ""
        further = "; ".join(filter(None, (depth, other.get("note"))))
        parameters = f"{other['parameters']} M" if "parameters" in other else ""
        times = _times(other["network"]) if "network" in other else ("", "")
        row = (f"{other['name']}, published", f"{other['mean_iou']} %", further, parameters, *times, "", "")
        rows.append(f"| {' | '.join(row)} |")
    return "\n".join(rows) + "\n"


def _beside(name: str, found: dict[str, dict[str, Any]]) -> str:
    """Scores on other splits and of other tasks."""
    words = [
        f"{100 * found[split]['mean_iou']:.1f} % on {place}{_where_offsets_were_found(name, found[split])}"
        for split, place in (("test_crop", "the 625x468 crop"), ("val", "val"))
        if split in found
    ]
    if depth := found["test"].get("depth"):
        words.append(f"depth RMSE {depth['rmse']:.3f} m")
    if normals := found["test"].get("normals"):
        words.append(f"normals {normals['mean_degrees']:.1f} degrees off")
    return "; ".join(words)


def _where_offsets_were_found(name: str, score: dict[str, Any]) -> str:
    """A remark, if the pictures of a score are those."""
    protocol = score["protocol"]
    there = weights.read_meta(name).has_offsets_from(protocol["dataset"], protocol["split"])
    return ", where its offsets were found" if there else ""


def targets_table() -> str:
    """What the weights were to reach, and what they did, as Markdown; bold where that is the target or more."""
    rows = ["| weights | target | aim | test | parameters | trained |", "|---|---|---|---|---|---|"]
    for goal in published()["targets"]:
        name = goal["weights"]
        reached, size, effort = "not trained yet", "", ""
        if name in weights.SHIPPED:
            found = scored_for(goal)
            depth = f", {found['depth']['rmse']:.3f} m" if "depth" in found else ""
            reached, size = f"{100 * found['mean_iou']:.1f} %{depth}", f"{_facts(name)['parameters']:,}"
            reached = f"**{reached}**" if reaches(found, goal["target"]) else reached
            reached += f" at {found['protocol']['size']}"
            effort = _effort(name)
        rows.append(f"| `{name}` | {goal['target']} | {goal['aim']} | {reached} | {size} | {effort} |")
    return "\n".join(rows) + "\n"


def scored_for(goal: Mapping[str, str]) -> dict[str, Any]:
    """What was measured by the protocol for which the target was set."""
    return _found(goal["weights"])[goal.get("split", "test")]


def reaches(found: dict[str, Any], goal: str) -> bool:
    """Whether a score on test is at least that good: "40.0 %" of mean IoU, or "40.0 %, 0.60 m" with the error of depth."""
    iou, _, metres = goal.partition(",")
    deep = not metres or found["depth"]["rmse"] <= float(metres.removesuffix("m"))
    return 100 * found["mean_iou"] >= float(iou.removesuffix("%")) and deep


def published() -> dict[str, list[dict[str, str]]]:
    """What published_scores.toml says, `camvid`, `nyu` and `targets`, with what was published of the networks themselves."""
    said, networks = tomllib.loads(PUBLISHED.read_text()), tomllib.loads(NETWORKS.read_text())
    for other in said["nyu"]:
        if network := networks.get(other["network"]):
            score, _, later = network["nyu"].partition(" ")
            note = "; ".join(filter(None, (later.strip("()"), f"weights {network['weights']}")))
            other.update(mean_iou=score, parameters=network["parameters"], note=note)
    return said


def _facts(subject: str) -> dict[str, Any]:
    """What the benchmark says of weights or of a network."""
    facts: dict[str, Any] = json.loads(SPEED.read_text())["subjects"][subject]
    return facts


def _times(subject: str) -> tuple[str, str]:
    """From JPEG to colour mask in PyTorch and OpenVINO."""
    ways = _facts(subject)["ways"]
    pytorch, openvino = (f"{ways[way]['end_to_end']['p50']:.0f} ms" for way in ("pytorch", "openvino"))
    return pytorch, openvino


def _megabytes(name: str) -> str:
    return f"{weights.locate(name).stat().st_size / 1e6:.1f} MB"


def _logs(name: str) -> list[Path]:
    """Of the run that made these weights, or of each whose mean they are."""
    stem = stem_of(name)
    return [RESULTS / f"{stem}_training.jsonl", *sorted(RESULTS.glob(f"{stem}_training_*.jsonl"))]


def _lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def _effort(name: str) -> str:
    """Epochs, the time that they took and where, and the weights that had learnt before."""
    runs = [_lines(log) for log in _logs(name)]
    minutes = sum(float(line.get("seconds", 0)) for run in runs for line in run) / 60
    time = f"{minutes:.0f} minutes" if minutes < 60 else f"{minutes / 60:.1f} hours"
    said = dict.fromkeys(line["device"] for run in runs for line in run if "device" in line)
    devices = [device if device[0].isdigit() else f"one {device}" for device in said]  # "2 threads of ...", or a GPU
    machine = " and ".join(devices) or "two shared CPU cores"
    before, taught, mean = (_of_role(role, name) for role in ("initial weights", "teacher", "averaged weights"))
    before, taught = before and f", after {before}", taught and f", taught by {taught}"
    others = mean and f" with {mean}"
    averaged = f", then averaged{others}" if mean or len(runs) > 1 else ""
    epochs = " + ".join(str(max(line["epoch"] for line in run)) for run in runs)
    return f"{epochs} epochs in {time} of {machine}{before}{taught}{averaged}"


def _of_role(role: str, name: str) -> str:
    """The weights that took this part in others, each named once; not what the recipe of these made."""
    origins = [source.origin for source in weights.read_meta(name).sources if source.role == role]
    return " and ".join(dict.fromkeys(_called(origin, name) for origin in origins if not origin.startswith("recipes/")))


def _called(origin: str, name: str) -> str:
    """Weights that others learnt from, as their metadata say: a name, and the commit that had its file where it has another now."""
    other, _, commit = origin.partition(" of commit ")
    if other == name:
        return "its former file"
    return f"`{other}`" + (f" of commit {commit}" if commit else "")


def _found(name: str) -> dict[str, dict[str, Any]]:
    """What was measured, by split."""
    files = {split: RESULTS / f"{stem_of(name)}_{split}.json" for split in SPLITS}
    return {split: json.loads(file.read_text()) for split, file in files.items() if file.is_file()}


def pages() -> dict[Path, str]:
    """Every page, with its whole text."""
    readme = README.read_text()
    for kind in DATA:
        readme = with_table(readme, BEGINS.format(kind), scores_table(kind))
    cards = {CARDS / f"{name}.md": card(name) for name in weights.SHIPPED}
    return {README: readme, INDEX: with_table(INDEX.read_text(), BEGINS.format("targets"), targets_table()), **cards}


if __name__ == "__main__":
    for page, text in pages().items():
        write_atomically(page, text.encode())
