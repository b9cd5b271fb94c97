"""What `mfd --help` shows: the commands in sections, in the order of use, and examples at the end of each command's help."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

SECTIONS = {
    "Start": ("doctor", "init", "fetch-inputs", "simulate", "settings", "check-design", "preprocess"),
    "Model": ("train", "add-tracks", "evaluate", "report", "qc", "impute", "predict", "embed"),
    "Variants": ("background", "score-variants", "enrich"),
    "Explain": ("explain", "view"),
    "Files": ("info", "verify", "gather"),
    "Images and genetics": ("contig",),
}
"""Commands by section. Those that no section names are shown in one of their own, the last."""
LONGEST_SUMMARY = 1000
"""Letters of what a command does, at most: more than any has."""
UNSORTED = "More"
"""The section of commands that SECTIONS does not name."""

EXAMPLES = {
    "doctor": ("mfd doctor", "mfd doctor --json"),
    "init": ("mfd init --fasta genome.fa --metadata metadata.tsv",),
    "fetch-inputs": ("mfd fetch-inputs --dry-run", "mfd fetch-inputs --from-metadata metadata.tsv"),
    "simulate": ("mfd simulate planted --size tiny", "mfd simulate harder --size tiny --interaction 1"),
    "settings": ("mfd settings train", "mfd settings model.preset --json"),
    "check-design": ("mfd check-design", "mfd check-design -o design"),
    "preprocess": ("mfd preprocess --dry-run", "mfd preprocess"),
    "train": ("mfd train --dry-run", "mfd train --set train.epochs=5 --run short"),
    "add-tracks": ("mfd add-tracks more --dataset new-dataset",),
    "evaluate": ("mfd evaluate", "mfd evaluate --split validation --json"),
    "report": ("mfd report", "mfd report --json"),
    "qc": ("mfd qc --factor target",),
    "impute": ("mfd impute --metadata wanted.tsv",),
    "predict": ("mfd predict -r chr1:1001-3000", "mfd predict -R regions.bed --fix technical=average -o debiased"),
    "embed": ("mfd embed regions.bed", "mfd embed chr1:1001-2000 -o one.parquet"),
    "background": ("mfd background", "mfd background --match input.vcf"),
    "score-variants": ("mfd score-variants input.vcf", "mfd score-variants --saturate chr1:1001-1100"),
    "enrich": ("mfd enrich input.mfd.parquet --labels labels.tsv",),
    "explain": ("mfd explain --factor assay", "mfd explain --factor all"),
    "view": ("mfd view", "mfd view input.mfd.vcf.gz --variants 50"),
    "info": ("mfd info", "mfd info --card"),
    "verify": ("mfd verify", "mfd verify dataset"),
    "gather": ("mfd gather predictions",),
    "contig simulate": ("mfd contig simulate planted", "mfd contig simulate larger --size small"),
    "contig check": ("mfd contig check", "mfd contig check --images 100"),
    "contig prepare": ("mfd contig prepare",),
    "contig train": ("mfd contig train --controls random,shuffled", "mfd contig train --epochs 5 --run short"),
    "contig embed": ("mfd contig embed", "mfd contig embed --by person -o persons.parquet"),
    "contig retrieve": ("mfd contig retrieve", "mfd contig retrieve --split validation -o validated"),
    "contig explain": ("mfd contig explain",),
    "contig gwas": ("mfd contig gwas", "mfd contig gwas --json"),
    "contig finetune": (
        "mfd contig finetune labels.tsv --column grade --task ordinal",
        "mfd contig finetune labels.tsv --column disc_radius --fraction 0.1,1",
    ),
}
"""Lines that work inside a project, by command: at most two, the most common one first."""


class Listed(TyperGroup):
    """A group whose help says in full what its commands do."""

    def sections(self, names: list[str]) -> dict[str, list[str]]:
        """Return the names of the commands by the title under which they are shown."""
        return {"Commands": names}

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the sections, with what the commands do aligned over all of them."""
        names = self.list_commands(ctx)
        longest = max(map(len, names), default=0)
        for title, members in self.sections(names).items():
            with formatter.section(title):
                # In full: what is cut off is what tells two commands apart.
                shown = [(name, self.commands[name].get_short_help_str(LONGEST_SUMMARY)) for name in members]
                formatter.write_dl([(name.ljust(longest), text) for name, text in shown])


class Sections(Listed):
    """One whose help shows its commands in sections."""

    def sections(self, names: list[str]) -> dict[str, list[str]]:
        """Return the names by section."""
        return sections_of(names)


WORDS = "mfd.words"
"""Under this name a command's context has the words of its line, as they were typed."""


class WithExamples(TyperCommand):
    """A command whose help ends with examples, and that knows the words it was typed with."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line, and keep them."""
        ctx.meta[WORDS] = [ctx.info_name, *args]
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the command's examples as they are typed; nothing where it has none."""
        lines = EXAMPLES.get(ctx.command_path.removeprefix("mfd "), ())
        if lines:
            with formatter.section("Examples"):
                for line in lines:
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def sections_of(names: list[str]) -> dict[str, list[str]]:
    """Return the names by section, in the order of SECTIONS; those that it does not name come last.

    >>> sections_of(["train", "dance", "init"])
    {'Start': ['init'], 'Model': ['train'], 'More': ['dance']}
    """
    sorted_in = {name for members in SECTIONS.values() for name in members}
    every = {**SECTIONS, UNSORTED: [name for name in names if name not in sorted_in]}
    chosen = {title: [name for name in members if name in names] for title, members in every.items()}
    return {title: members for title, members in chosen.items() if members}
