"""Where the native libraries are that come with the package. Loads none."""

import sys
from pathlib import Path

_PACKAGE = sys.modules[__name__.partition(".")[0]].__path__
_PLACES = [Path(folder) / "lib" for folder in _PACKAGE]  # of a checkout that is installed for editing, both it and what was built
LIB_DIR = next((place for place in _PLACES if place.is_dir()), _PLACES[0])
