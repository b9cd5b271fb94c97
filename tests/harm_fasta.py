"""FASTA: the genome of `mfd preprocess`."""

from __future__ import annotations

from harm import Change, Kind, any_file, any_text

CHANGES = [*any_file(), *any_text()]

KINDS = [Kind("fasta", "genome.fa", ("preprocess", "-q", "--threads", "1"), ("dataset",), CHANGES)]
