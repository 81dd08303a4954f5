"""What can go wrong for a user, one class per kind; each message says which file, what came, what was expected, what to do."""


class LwRefineNetError(Exception):
    """A failure that the user can mend; the command line prints it in one sentence and exits with 1."""


class UsageError(LwRefineNetError):
    """A wrong argument: an unknown name, an option that does not exist; the command line exits with 2."""


class ImageError(LwRefineNetError):
    """A picture or mask that cannot be read or written."""


class DataError(LwRefineNetError):
    """A data set whose folders, files or labels are not what its reader expects."""


class WeightsError(LwRefineNetError):
    """A weights file or published checkpoint that is damaged, incomplete or made for something else."""


class RecipeError(UsageError):
    """A recipe with an unknown field or a value out of range."""


class RunError(LwRefineNetError):
    """A training run that cannot start, go on or be resumed."""
