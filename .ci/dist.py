"""Build the wheel and the sdist into a folder, the same bytes from the same tree: `python .ci/dist.py FOLDER`.

Times are those of SOURCE_DATE_EPOCH (default: the last commit); the sdist is packed anew, since gzip and tar note the hour and
the user who packed it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    told = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or told or "1767225600"
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": epoch},
        stdout=subprocess.DEVNULL,
    )
    for sdist in folder.glob("*.tar.gz"):
        sdist.write_bytes(packed(sdist.read_bytes(), int(epoch)))
    for file in sorted(folder.iterdir()):
        print(hashlib.sha256(file.read_bytes()).hexdigest(), file.name)


def packed(raw: bytes, epoch: int) -> bytes:
    """A tar.gz with its files in order, and without times and users."""
    plain = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(raw)) as old,
        tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda one: one.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    return gzip.compress(plain.getvalue(), mtime=0)


if __name__ == "__main__":
    main()
