"""`python anew.py WORDS...` is `mfd WORDS...` in a process of warm.py, but that the modules of mfd are imported anew, each
where it is first asked for: one that needs another and does not say so, or two that need each other, fail here."""

from __future__ import annotations

import runpy
import sys

if __name__ == "__main__":
    for name in [name for name in sys.modules if name.split(".")[0] == "mfd_cli"]:
        del sys.modules[name]
    sys.argv[0] = "mfd"
    runpy.run_module("mfd_cli", run_name="__main__", alter_sys=True)
