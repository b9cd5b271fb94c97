"""`python crash_at.py N words...` runs `mfd words` and kills itself, by SIGKILL, before the N-th moment at which something
reaches the disk for good (a sync, a rename); 0: never. At the end it says how many such moments there were. Chunks are small,
so that there are several, and their scores are kept however quickly they were made.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Count moments; at the wanted one, die."""
    wanted, moments = int(sys.argv[1]), 0
    parent = os.getpid()

    def counted(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal moments
            if os.getpid() == parent:
                moments += 1
                if moments == wanted:
                    os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    os.fsync = counted(os.fsync)
    Path.replace = counted(Path.replace)  # type: ignore[method-assign]
    import mfd_cli.engine.jobs
    import mfd_cli.variants.records
    from mfd_cli.cli import app as cli

    mfd_cli.variants.records.CHUNK, mfd_cli.engine.jobs.WORTH = 4, 0.0
    sys.argv = ["mfd", *sys.argv[2:]]
    try:
        cli.main()
    finally:
        print(f"moments {moments}", file=sys.stderr)


if __name__ == "__main__":
    main()
