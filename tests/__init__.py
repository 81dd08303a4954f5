"""Before anything of the package is imported: the tests choose the width of the screen."""

import os

os.environ.pop("COLUMNS", None)  # pytest-xdist tells its workers a width, which rich would keep for good
