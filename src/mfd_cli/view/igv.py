"""igv.js, the genome browser of a page, as the package igv-notebook carries it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from mfd_cli.base.errors import ConfigError

PACKAGE = "igv_notebook"
FILE = "js/igv.min.js"


def igv_script() -> str:
    """Return the text of igv.js. ConfigError where the extra `view` is not installed.

    The package is looked up and not imported: importing it needs IPython, and only its file is wanted.
    """
    spec = find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(folder) / FILE
        if file.is_file():
            return file.read_text("utf-8")
    raise ConfigError("mfd view needs igv.js, which is not installed", hint="pip install 'mfd-cli[view]'")
