"""Tab-separated tables of positions out, in blocks of BGZF and with an index of tabix, as CADD's files are."""

from __future__ import annotations

from pathlib import Path

import pysam

from mfd_cli.base.files import check_space
from mfd_cli.formats.vcf_reader import quiet_htslib
from mfd_cli.formats.vcf_writer import VcfWriter


class TabixWriter(VcfWriter):
    """A table written as a compressed VCF is: header lines that begin with `#`, then lines in the order of the genome whose
    first columns are a contig and a position, which is 1-based."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "z")

    def index(self, path: Path, index: Path) -> bool:
        """Write an index (.tbi, or .csi for very long contigs) of the closed file; False where it cannot hold it."""
        quiet_htslib()
        try:
            pysam.tabix_index(
                str(path), force=True, seq_col=0, start_col=1, end_col=1, index=str(index), csi=index.suffix == ".csi"
            )
        except OSError as error:
            check_space(index, error)
            index.unlink(missing_ok=True)
            return False
        return True
