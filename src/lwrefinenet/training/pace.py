"""How many epochs fit a time limit: the constant part of a "wsd" run ends in time for its decay."""

import time
from dataclasses import dataclass, field

from lwrefinenet.errors import RecipeError
from lwrefinenet.training.recipe import Recipe

RESERVE = 1.05  # an epoch may take longer than those before it


@dataclass
class Pace:
    """Watches the clock at the end of each epoch.

    deadline: by `time.monotonic`, when the run must have ended.  slowest: seconds of the slowest epoch so far, with validation and
    checkpoint; epochs on late crops are reckoned by their pixels.
    """

    deadline: float
    slowest: float = 0.0
    since: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """The first step is next: what came before it is no part of an epoch."""
        self.since = time.monotonic()

    def epochs(self, recipe: Recipe, done: int) -> int:
        """How long the run should be, after so many epochs: as the recipe has it, or just these and the closing ones."""
        now = time.monotonic()
        self.slowest, self.since = max(self.slowest, now - self.since), now
        closing = recipe.epochs - recipe.open_epochs
        late = recipe.late_epochs * _pixels(recipe.late_crop_size or recipe.crop_size) / _pixels(recipe.crop_size)
        needed = 1 + closing - recipe.late_epochs + late  # one more open epoch and the end, in epochs like those so far
        fits = now + RESERVE * self.slowest * needed <= self.deadline
        return recipe.epochs if fits or done >= recipe.open_epochs else done + closing


def require_open_epochs(recipe: Recipe) -> None:
    """RecipeError where the recipe has no epochs that a run of another length has as well."""
    if recipe.open_epochs == 0:
        raise RecipeError(
            f'recipe: a run can be fitted to a time limit with schedule = "wsd" alone, without stages, and with more epochs than '
            f"those of the decay; this one has schedule {recipe.schedule!r} and {recipe.epochs} epochs."
        )


def _pixels(size: tuple[int, int]) -> int:
    return size[0] * size[1]
