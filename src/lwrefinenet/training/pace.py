"""How many epochs fit a time limit: the constant part of a "wsd" run ends in time for its closing epochs."""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from lwrefinenet.errors import RecipeError
from lwrefinenet.training.recipe import Recipe

RECENT = 5  # epochs, whose median tells how long the next ones take: one that other work slowed decides nothing
RESERVE = 1.05  # they may take longer than those


@dataclass
class Pace:
    """Knows the clock and what epochs take; asked after each one, and before the first of a resumed run.

    deadline: by `time.monotonic`, when the run must have ended.
    learning: seconds of the last few epochs up to their last step; those on late crops are reckoned by their pixels.
    remembered: whether these are of the run's log instead.
    saving, validating: seconds of the slowest checkpoint, and of the slowest validation with its checkpoint, None before the first.
    """

    deadline: float
    learning: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    remembered: bool = False
    saving: float = 0.0
    validating: float | None = None

    def remember(self, logged: Sequence[float]) -> None:
        """What epochs took before the run was resumed, until one of this process has ended.

        The quickest of the last few counts, as others may have been trained beside them: a run that has begun to close stays so.
        """
        if logged:
            self.learning.append(min(logged[-RECENT:]))
            self.remembered = True

    def epoch_took(self, recipe: Recipe, done: int, *, learning: float, ending: float) -> None:
        """Note the epoch that ended just now, the `done`-th of the run.  ending: seconds for validation and checkpoint."""
        if self.remembered:
            self.learning.clear()
            self.remembered = False
        self.learning.append(learning)
        if recipe.validates_after(done):
            self.validating = max(self.validating or 0.0, ending)
        else:
            self.saving = max(self.saving, ending)

    def plan(self, recipe: Recipe, done: int) -> tuple[Recipe, float, float]:
        """After so many epochs: the recipe as long as it should be, what the rest of it needs, and what is left, in seconds.

        The recipe is as it was, or has just these epochs and the closing ones; as it was where no epoch tells how long others take.
        """
        left = self.deadline - time.monotonic()
        if not self.learning:
            return recipe, 0.0, left
        if done < recipe.open_epochs and self.needed(recipe.with_open_epochs(done + 1), done) > left:
            recipe = recipe.with_open_epochs(done)
        return recipe, self.needed(recipe, done), left

    def needed(self, recipe: Recipe, done: int) -> float:
        """Seconds, reckoned with reserve, for what follows these epochs to the end of the recipe."""
        late = recipe.late_epochs * _pixels(recipe.late_crop_size or recipe.crop_size) / _pixels(recipe.crop_size)
        alike = recipe.epochs - done - recipe.late_epochs + late  # in epochs like those so far
        usual = median(self.learning)
        validations = sum(map(recipe.validates_after, range(done + 1, recipe.epochs + 1)))
        validating = usual if self.validating is None else self.validating
        saves = recipe.epochs - done - validations
        validations += 3 * recipe.adjust_logits  # which looks at the pictures twice, and searches
        return RESERVE * (alike * usual + validations * validating + saves * self.saving)


def require_fittable(recipes: Iterable[Recipe]) -> None:
    """RecipeError for one that has no epochs that a run of another length has as well."""
    for recipe in recipes:
        if recipe.open_epochs == 0:
            raise RecipeError(
                f'recipe: a run can be fitted to a time limit with schedule = "wsd" alone, without stages, and with more epochs '
                f"than the closing ones; this one has schedule {recipe.schedule!r} and {recipe.epochs} epochs."
            )


def _pixels(size: tuple[int, int]) -> int:
    return size[0] * size[1]
