"""Make weights of the package again, from what they were made of, by one command.

    python scripts/train_released.py mt_lw_efficientnet_lite2.nyu --data ../shared/data/nyudv2
    python scripts/train_released.py mt_lw_efficientnet_lite2.nyu --data ../shared/data/nyudv2 --together 2 --minutes 60
    python scripts/train_released.py rf_lw_mobilenetv2.camvid --data ../shared/data/camvid --set backbone_weights=FILE

released.toml says of what: which runs of their recipe, from which commit's files of the package, and whether the mean of them was
taken. Those files come out of this repository's history; the runs are worked through by train_queue.py, so the same command,
given again, goes on where it was stopped. At the end stands OUTPUT/NAME/NAME.safetensors, which `lwrefinenet evaluate` scores.

Seeds, crops and order are those of the first time; another machine rounds otherwise, so the score comes out nearly the same.
"""

import argparse
import json
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import train_queue

from lwrefinenet import weights
from lwrefinenet.average import average_weights
from lwrefinenet.errors import LwRefineNetError
from lwrefinenet.files import write_atomically
from lwrefinenet.training.recipe import Recipe

ROOT = Path(__file__).parents[1]
SHIPPED = "src/lwrefinenet/shipped"


@dataclass(frozen=True)
class Released:
    """One table of released.toml.

    runs: of each training the fields that differ from the recipe.  commit: of the files that the recipe names; empty for none.
    averaged: with the file that they went on from.  backbone: what the first file of all began with, its licence and origin.
    """

    name: str
    runs: Sequence[Sequence[str]]
    backbone: Sequence[str]
    commit: str = ""
    averaged: bool = False

    @property
    def recipe(self) -> Path:
        return ROOT / "recipes" / f"{stem_of(self.name)}.toml"

    @property
    def ingredients(self) -> list[str]:
        """The weights of the package that the recipe begins with or learns from, each once."""
        recipe = Recipe.from_toml(self.recipe)
        named = (recipe.initial_weights, *recipe.teachers)
        return [name for name in dict.fromkeys(named) if name in weights.SHIPPED]


def main() -> None:
    """Fetch the former files, train, take the mean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(released()), metavar="name", help="of weights of the package")
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    parser.add_argument("--output", type=Path, default=Path("runs"), help="folder in which that of the name is made")
    parser.add_argument("--together", type=int, default=1, help="how many runs are trained at once")
    parser.add_argument("--minutes", type=float, help="of all runs together, which can be gone on with")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="as of `lwrefinenet train`, for every run"
    )
    arguments = parser.parse_args()
    try:
        again(released()[arguments.name], arguments)
    except LwRefineNetError as error:
        raise SystemExit(f"{arguments.name}: {error}") from None


def stem_of(name: str) -> str:
    """What the recipe and the results are called."""
    network, kind = name.split(".")
    return f"{kind}_{network}"


def released(path: Path = ROOT / "scripts" / "released.toml") -> dict[str, Released]:
    """All that is known of how weights were made, by their names."""
    return {name: Released(name, **table) for name, table in tomllib.loads(path.read_text()).items()}


def again(made: Released, arguments: argparse.Namespace) -> None:
    """Make the weights, or go on with it.  SystemExit where the runs have failed or are to be gone on with."""
    folder = arguments.output / made.name
    former = {name: fetched(name, made.commit, folder / "former" / made.commit) for name in made.ingredients}
    queue = folder / "queue.toml"
    write_atomically(queue, queue_of(made, arguments.data, former, arguments.set).encode())
    given = argparse.Namespace(**{**vars(arguments), "queue": queue, "output": folder, "fit": False})
    states = set(train_queue.work_through(train_queue.read_queue(queue), given).values())
    if "failed" in states:
        raise SystemExit(f"{made.name}: a run has failed, and says why above; the same command tries it again.")
    if states != {"finished"}:
        raise SystemExit(f"{made.name}: not all runs are finished; the same command goes on with them.")
    target = folder / f"{made.name}{weights.SUFFIX}"
    finish(made, [folder / run / "best.safetensors" for run in run_names(made)], former, target)
    print(f"Wrote {target}. What it is worth: lwrefinenet evaluate {target} --data {arguments.data}")


def fetched(name: str, commit: str, folder: Path) -> Path:
    """The file of these weights that the package had at that commit, written into the folder unless it is there."""
    file = folder / f"{name}{weights.SUFFIX}"
    if not file.is_file():
        shown = subprocess.run(
            ["git", "-C", ROOT, "show", f"{commit}:{SHIPPED}/{file.name}"], check=False, capture_output=True
        )
        if shown.returncode:
            raise LwRefineNetError(
                f"commit {commit} of {ROOT} has no {SHIPPED}/{file.name} ({shown.stderr.decode().strip()}); the former "
                "files are in the whole history of a clone: git fetch --unshallow."
            )
        write_atomically(file, shown.stdout)
    return file


def queue_of(made: Released, data: Path, former: Mapping[str, Path], fields: Sequence[str] = ()) -> str:
    """What train_queue.py is to work through, as TOML: the runs, with former files in place of names of the package.

    fields: of each run that differ from what released.toml says.
    """
    recipe = Recipe.from_toml(made.recipe)
    given = []
    if recipe.initial_weights in former:
        given.append(f"initial_weights={_toml(str(former[recipe.initial_weights]))}")
    if recipe.teachers:
        given.append(f"teacher={_toml([str(former.get(name, name)) for name in recipe.teachers])}")
    tables = []
    for name, own in zip(run_names(made), made.runs, strict=True):
        values = {"name": name, "recipe": str(made.recipe), "data": [str(data)], "set": [*given, *own, *fields]}
        tables.append("\n".join(["[[run]]", *(f"{key} = {_toml(value)}" for key, value in values.items())]))
    return "\n\n".join(tables) + "\n"


def _toml(value: str | Sequence[str]) -> str:
    """Text, or a list of it, as TOML has it, which is as JSON has it."""
    return json.dumps(value, ensure_ascii=False)


def run_names(made: Released) -> list[str]:
    """The folder of each run."""
    return [f"run{number}" for number in range(1, len(made.runs) + 1)]


def finish(made: Released, trained: Sequence[Path], former: Mapping[str, Path], target: Path) -> None:
    """Write what is shipped: the one run, or the mean of all, with the file that they went on from where that was taken too."""
    begun = Recipe.from_toml(made.recipe).initial_weights
    files = [*trained, former[begun]] if made.averaged and begun else list(trained)
    if len(files) == 1:
        write_atomically(target, files[0].read_bytes())
    else:
        average_weights(files, target)


if __name__ == "__main__":
    main()
