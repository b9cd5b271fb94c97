"""What the annotated VCF says of its fields: the header lines, and a record's INFO entries."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mfd_cli import __version__
from mfd_cli.formats.fixed_point import largest_error
from mfd_cli.formats.vcf_reader import VariantFile
from mfd_cli.genome.sequence import Genome
from mfd_cli.settings.names import SURE
from mfd_cli.variants.background import QUANTILE_FIELDS, Background
from mfd_cli.variants.scorer import Scorer

PLACEMENTS = {
    "centred": "variant in the middle of its bin",
    "grid": "bins of the genome's grid, mean of two near an edge",
}
DESCRIPTIONS = {
    "MFD_MAX_DLOGIT": "Change of the most affected track's logit, alternate minus reference",
    "MFD_SHARED": "Change of the part of the logit that all tracks share, alternate minus reference",
    "MFD_DEBIASED": "Root mean square over tracks of the change of the logit without its technical part",
}
OTHER_FIELDS = ("MFD_TRACK", "MFD_FLAGS", *QUANTILE_FIELDS.values())
FLAGS = (
    "Warnings joined by &: mostly_technical (the technical part changes more than all the rest), extrapolated (the track's "
    "combination of levels is not backed by training tracks; of an average: no other condition of it is)"
)


def header_of(
    variants: VariantFile,
    scorer: Scorer,
    genome: Genome,
    note: str,
    background: Background | None,
    phased: str | None,
    contig_name: Callable[[str], str] = str,
) -> list[bytes]:
    """Return the header of the output: the input's, our fields in place of older ones, the model, the genome, the settings.

    `contig_name` is what the file calls a contig of the genome; `note` says which other genome was used, `phased` which sample.
    """
    fields = (f"##INFO=<ID={name},".encode() for name in own_names(scorer, variants.header))
    older = (*fields, b"##mfd_")
    of_input = [line for line in variants.header[:-1] if not line.startswith(older)]
    added = [*field_lines(scorer, background), *provenance_lines(scorer, background, phased)]
    added += note_lines(note)
    if not variants.contigs:
        added += contig_lines(genome, contig_name)
    return [*of_input, *(line.encode() for line in added), variants.header[-1]]


def about_lines(scorer: Scorer, note: str, decimals: int) -> list[str]:
    """Return the header lines that say what numbers of fixed decimals are, and how they were made."""
    rounding = f"##mfd_rounding=<decimals={decimals},largest_error={largest_error(decimals):g}>"
    return [*field_lines(scorer, None), *provenance_lines(scorer, None, None), *note_lines(note), rounding]


def contig_lines(genome: Genome, contig_name: Callable[[str], str] = str) -> list[str]:
    """Return the header lines of the genome's contigs."""
    return [f"##contig=<ID={contig_name(name)},length={length}>" for name, length in genome.lengths.items()]


def note_lines(note: str) -> list[str]:
    """Return the header line that says which other genome was used; none for an empty note."""
    return [f'##mfd_genome="{_plain(note)}"'] if note else []


def field_lines(scorer: Scorer, background: Background | None) -> list[str]:
    """Return the header lines of our INFO fields."""
    group_of = {scorer.field_of(group): group for group in scorer.groups}
    lines = []
    for name in scorer.info_fields:
        if name in scorer.error_fields:
            text = f"Root mean square over tracks of the posterior SD of the split behind {name.removesuffix(SURE)}"
            lines.append(_info(name, "Float", text))
            continue
        text = DESCRIPTIONS.get(name) or (
            f"Root mean square over tracks of the change of the {group_of[name]} part of the logit"
        )
        lines.append(_info(name, "Float", f"{text}; not a measure of pathogenicity"))
        if name == "MFD_MAX_DLOGIT":
            lines.append(_info("MFD_TRACK", "String", "Track of MFD_MAX_DLOGIT"))
    lines.append(_info("MFD_FLAGS", "String", FLAGS))
    for field, name in QUANTILE_FIELDS.items():
        if background is not None and field in scorer.fields:
            text = f"Share of the background's variants whose {field} is smaller in size"
            lines.append(_info(name, "Float", f"{text}; not a measure of pathogenicity"))
    return lines


def provenance_lines(scorer: Scorer, background: Background | None, phased: str | None) -> list[str]:
    """Return the header lines that say which models were used, and in which way."""
    settings, about = scorer.settings, scorer.run.about
    digests = f'model="{",".join(run.digest for run in scorer.runs)}",genome={about["genome_digest"]}'
    unfinished = ",training=unfinished" if any(run.unfinished for run in scorer.runs) else ""
    chosen = f'tracks="{_plain(settings.tracks or "all")}",fix="{_plain(" ".join(settings.fixes) or "none")}"'
    return [
        f"##mfd_model=<version={__version__},{digests},head={scorer.run.model.settings.head},"
        f'trained_on="{_plain(" ".join(about["trained_on"]))}"{unfinished}>',
        f'##mfd_scoring=<scale=logit,strands={scorer.strands},placement="{PLACEMENTS[settings.placement]}",'
        f'precision={settings.precision},{chosen},phased="{_plain(phased or "no")}",'
        'indels="both haplotypes at matching places, both edges, three bins",'
        f'background="{_plain(str(background)) if background else "none"}">',
    ]


def own_names(scorer: Scorer, header: Sequence[bytes]) -> set[str]:
    """Return the INFO fields that are ours: those of this model, and in the `header` of a file that was scored before, those
    of that model too. Beside new scores they would be taken for this model's."""
    names = {*scorer.info_fields, *OTHER_FIELDS}
    if any(line.startswith(b"##mfd_") for line in header):
        names |= {match.group(1).decode() for line in header if (match := re.match(rb"##INFO=<ID=(MFD_\w+),", line))}
    return names


def _info(name: str, kind: str, text: str) -> str:
    """Return the header line of one of our INFO fields."""
    return f'##INFO=<ID={name},Number=A,Type={kind},Description="{_plain(text)}">'


def _plain(text: str) -> str:
    """Return text that may stand between the quotes of a header line, whatever a file or a group is called."""
    return re.sub(r'[\x00-\x1f\x7f"\\]', "_", text)


def info_columns(columns: Mapping[str, Any], scorer: Scorer) -> dict[str, list[str]]:
    """Return the texts of the INFO fields, one per scored allele; six digits are what float32 has."""
    numbers = [*scorer.info_fields, *(name for name in QUANTILE_FIELDS.values() if name in columns)]
    texts = {name: [f"{value:.6g}" for value in columns[name].tolist()] for name in numbers}
    return texts | {
        "MFD_TRACK": [percent_encoded(name) for name in columns["MFD_TRACK"]],
        "MFD_FLAGS": list(columns["MFD_FLAGS"]),
    }


def info_of(rows: Sequence[int | None], infos: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the INFO entries of a record: of each alternate allele the text of its row, a dot where it was not scored."""
    return {name: ",".join("." if row is None else texts[row] for row in rows) for name, texts in infos.items()}


def percent_encoded(text: str) -> str:
    """Return a value as it may stand in INFO (VCF 4.3, section 1.2)."""
    return "".join(f"%{ord(c):02X}" if c in " %;=,\t\n\r" else c for c in text)
