"""The coloured shapes of examples/make_shapes.py, for the tests."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "examples" / "make_shapes.py"
_spec = importlib.util.spec_from_file_location("make_shapes", SCRIPT)
_script = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_script)
CLASS_NAMES = _script.CLASS_NAMES
shapes_picture, write_shapes = _script.shapes_picture, _script.write_shapes
