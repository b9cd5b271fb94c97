"""`mfd info --card`: a model card, Markdown with the YAML header that model hubs read, of a run and its evaluations."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from mfd_cli.base.errors import MfdError, RunError, few
from mfd_cli.base.files import check_input
from mfd_cli.base.stored_json import Natural, Stored, check_stored
from mfd_cli.core.metadata import MetadataEncoder
from mfd_cli.experiments.confounds import worst_confounds
from mfd_cli.runs.folder import read_description
from mfd_cli.settings.config import Config
from mfd_cli.settings.parse import parse_config

Averages = dict[str, float | int | None]
METHOD = (
    "Metadata-guided Feature Disentanglement (Rakowski et al., Bioinformatics 2024, doi 10.1093/bioinformatics/btae403)"
)
TAGS = ("genomics", "epigenomics", "dna", "variant-effect-prediction")
MEASURES = {
    "auroc": "AUROC",
    "auroc_median": "AUROC, median over tracks",
    "auroc_occupied": "AUROC among bins in which any track has a peak",
    "auprc": "AUPRC",
    "prevalence": "share of bins with a peak, which is the AUPRC of chance",
    "pearson": "Pearson correlation of signals",
    "spearman": "Spearman correlation of signals",
    "deviance_explained": "share of the signals' deviance that is explained",
}
"""Averages of an evaluation's summary, and what they are called in words."""
SHOWN_LEVELS = 8
SHOWN_CONFOUNDS = 10
"""Sentences on factors that cannot be told apart, at most so many of a kind."""
LIMITS = (
    "A score of a variant is the change of a prediction. It is not a measure of pathogenicity.",
    "The shared part of a prediction is what all tracks have in common. It is not biology as such, since G+C content and "
    "mappability are in it too.",
    "Where two factors always go together, nothing can tell them apart. The numbers split the credit all the same.",
    "A combination of levels that no training track has is extrapolated, and predictions of it are less well backed.",
    "What is measured here holds for this genome and for experiments like these. Other species, tissues and assays were not "
    "measured.",
)
"""What holds for every model."""


def model_card(folder: Path) -> str:
    """Return the card of the run in a folder, as Markdown.

    An evaluation (evaluation-SPLIT, in the run or beside the runs of several seeds) is shown where it is of these very weights.
    Raises RunError where the folder is no run, or an evaluation's summary cannot be read; MfdError where it is a dataset.
    """
    if (folder / "manifest.json").is_file():
        raise MfdError("is a dataset; a model card is of a run", path=folder, hint="mfd info --card RUN")
    stored = read_description(folder)
    config = parse_config(stored["configuration"])
    own, others = evaluations_of(folder, stored["about"]["weights_sha256"])
    sections = (
        introduction(stored, config),
        data_section(stored, config),
        factor_section(stored, config),
        confound_section(stored, config),
        training_section(stored, config),
        accuracy_section(own, others),
        limit_section(stored, config),
    )
    return "\n".join([*header(stored, own), *(line for section in sections for line in ["", *section])]) + "\n"


def evaluations_of(folder: Path, weights: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the summaries of the evaluations of these weights, and the names of the folders that are of others."""
    places = [folder, *([folder.parent] if folder.name.startswith("seed-") else [])]
    own, others = list[dict[str, Any]](), list[str]()
    for file in (file for place in places for file in sorted(place.glob("evaluation-*/summary.json"))):
        summary = read_summary(file)
        if summary["model"] == weights:
            own.append(summary)
        else:
            others.append(file.parent.name)
    return own, others


class StoredEvaluation(Stored):
    """What summary.json of an evaluation must hold, as far as a card shows it."""

    split: str
    bins: Natural
    model: str
    training_tracks: Averages = Field(default_factory=dict)
    baselines: dict[str, dict[str, Averages]] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


def read_summary(file: Path) -> dict[str, Any]:
    """Return what an evaluation's summary.json says; RunError where it is not what an evaluation says."""
    hint = "mfd evaluate writes it again"
    try:
        summary: dict[str, Any] = json.loads(check_input(file, RunError).read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RunError("is not JSON text", path=file, hint=hint) from error
    check_stored(summary, StoredEvaluation, file, RunError, hint)
    return summary


# -- the header --------------------------------------------------------------------------------------------------------


def header(stored: Mapping[str, Any], evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the YAML header; the licence of a model is its maker's to choose, and is left out."""
    lines = ["---", "library_name: mfd", "tags:", *(f"- {tag}" for tag in TAGS)]
    if evaluations:
        lines += ["model-index:", f"- name: {quoted(title_of(stored))}", "  results:"]
    for summary in evaluations:
        lines += [
            "  - task:",
            "      type: other",
            "      name: epigenomic tracks from DNA",
            "    dataset:",
            "      type: mfd-dataset",
            f"      name: {quoted(stored['about']['dataset_digest'])}",
            f"      split: {quoted(summary['split'])}",
            "    metrics:",
            *(
                line
                for name, _, value in measured(summary)
                for line in (f"    - type: {name}", f"      value: {value}")
            ),
        ]
    return [*lines, "---"]


def quoted(value: object) -> str:
    """Return a text as YAML, which reads JSON's strings."""
    return json.dumps(str(value))


def title_of(stored: Mapping[str, Any]) -> str:
    """Return what the model is called: by the digest of its weights, which nothing else has."""
    return f"mfd model {stored['about']['weights_sha256'][:12]}"


# -- the sections ------------------------------------------------------------------------------------------------------


def introduction(stored: Mapping[str, Any], config: Config) -> list[str]:
    """Return the title and what the model does."""
    model, size, tracks = stored["model"], config.bins.size, len(stored["tracks"])
    if model["head"] == "free":
        telling = "with an ordinary output layer, which does not tell groups of factors apart"
    else:
        telling = f"and says which part of each prediction belongs to which group of factors: {listed(sorted(model['groups']))}"
    return [
        f"# {title_of(stored)}",
        "",
        f"This model predicts {counted(tracks, 'track')} from DNA sequence, {telling}. It reads {model['window']:,} bp "
        f"and predicts the {size} bp in their middle. It was trained with mfd {stored['about'].get('mfd_version', '')}, "
        f"which carries {METHOD} further.",
    ]


def data_section(stored: Mapping[str, Any], config: Config) -> list[str]:
    """Return on what the model was trained, and what was kept from it."""
    about, kinds = stored["about"], [track["kind"] for track in stored["tracks"]]
    held_out = stored["trained"].count(False) or "none"
    return [
        "## Data",
        "",
        f"The genome has {counted(len(about['contigs']), 'contig')} and {sum(about['contigs'].values()):,} bp. The tracks are "
        f"{counted(kinds.count('peaks'), 'peak set')} and {counted(kinds.count('signal'), 'signal')}, {held_out} of which "
        f"{'were' if held_out != 1 else 'was'} held out of training. {added_sentence(stored)}"
        f"The model was trained on {listed(about['trained_on'])}. "
        f"{kept('test', config.split.test)} {kept('validation', config.split.validation)}",
        "",
        f"- digest of the genome: `{about['genome_digest']}`",
        f"- digest of the dataset: `{about['dataset_digest']}`",
        f"- sha256 of the weights: `{about['weights_sha256']}`",
    ]


def added_sentence(stored: Mapping[str, Any]) -> str:
    """Return a sentence on tracks that were added to a run after its training, with a space behind it; empty where none was."""
    other = stored["about"].get("added_to")
    if other is None:
        return ""
    return (
        f"{sum(stored['added'])} of the tracks were added after the training to the model of {escaped(other['path'])} (sha256 "
        f"of its weights `{other['weights_sha256']}`): their output weights alone were fitted. "
    )


def kept(split: str, contigs: Any) -> str:
    """Return a sentence on what was kept for a split: contigs, or a share of the others."""
    if isinstance(contigs, float):
        return f"A share of {contigs:.0%} of these, in blocks, was kept for {split}."
    return f"The {split} bins are on {listed(contigs)}." if contigs else f"There are no {split} bins."


def factor_section(stored: Mapping[str, Any], config: Config) -> list[str]:
    """Return the table of factors: where each stands in the metadata, and its levels."""
    lines = ["## Factors", "", "| factor | column | group | type | levels |", "|---|---|---|---|---|"]
    for name, factor in stored["metadata"].items():
        levels = factor.get("vocabulary")
        shown = "numbers" if levels is None else f"{len(levels):,}: {few(levels, SHOWN_LEVELS)}"
        cells = (name, factor["column"], config.factors[name].group, factor["type"], shown)
        lines.append(f"| {' | '.join(map(escaped, cells))} |")
    return lines


def confound_section(stored: Mapping[str, Any], config: Config) -> list[str]:
    """Return what the design of the experiments leaves open."""
    rows = [track["metadata"] for track, trained in zip(stored["tracks"], stored["trained"]) if trained]
    alone = MetadataEncoder.from_json(stored["metadata"]).sole_levels()
    sentences = [f"The factor {name} has one level, {level}, and contributes nothing" for name, level in alone.items()]
    sentences += worst_confounds(rows, config.factors, SHOWN_CONFOUNDS)
    return [
        "## What cannot be told apart",
        "",
        "This is what the metadata of the training tracks say. Where factors go together, the credit of each is not known, and "
        "only their joint contribution is.",
        "",
        *(f"- {escaped(text)}." for text in sentences or ["No factor goes with another on most tracks"]),
    ]


def training_section(stored: Mapping[str, Any], config: Config) -> list[str]:
    """Return the network, how long it was trained, and what validation chose it by."""
    model, about = stored["model"], stored["about"]
    of_groups = listed([f"{count} {group}" for group, count in model["groups"].items()])
    latents = f" ({of_groups})" if config.has_subspaces else ""
    figures = [f"| `{name}` | {value:.4g} |" for name, value in about["validation"].items()]
    return [
        "## Training",
        "",
        f"The network is a {model['backbone']} backbone of width {model['width']} on {model['kmer']}-mers with a "
        f"{model['head']} head and {model['latent']} latents{latents}. The weights were taken after {about['windows']:,} "
        f"windows, with seed {config.train.seed}, a learning rate of {config.train.lr:g} and batches of "
        f"{config.train.batch_size} bins.{started_sentence(about, config)}",
        "",
        "These weights were chosen on the validation bins, where they measured what follows. That they were chosen there makes "
        "the figures a little too good.",
        "",
        "| measure | on the validation bins |",
        "|---|---|",
        *figures,
    ]


def started_sentence(about: Mapping[str, Any], config: Config) -> str:
    """Return a sentence on the run that the training started from, with the share of it in which the backbone stayed as it was;
    empty where it started from none."""
    source, thaw = about.get("source"), config.train.thaw
    if source is None:
        return ""
    frozen = {0.0: "", 1.0: ", which stayed as it was"}.get(thaw, f", which stayed as it was for {thaw:.0%} of it")
    return (
        f" The training started from the backbone of {escaped(source['path'])} (sha256 of its weights "
        f"`{source['weights_sha256']}`){frozen}."
    )


def accuracy_section(evaluations: Sequence[Mapping[str, Any]], others: Sequence[str]) -> list[str]:
    """Return what `mfd evaluate` measured, split by split, with the baselines; or that nothing was."""
    lines = ["## Measured accuracy"]
    if not evaluations:
        lines += ["", "No evaluation of these weights is there. `mfd evaluate` measures one."]
    for summary in evaluations:
        lines += ["", *evaluation_lines(summary)]
    if others:
        lines += ["", f"Not shown, since they are of other weights: {listed(others)}."]
    return lines


def evaluation_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the averages of an evaluation, its baselines on the same tracks, and its notes."""
    averages = summary.get("training_tracks", {})
    peaks, signals = averages.get("rated_tracks", 0), averages.get("signal_tracks", 0)
    lines = [
        f"On the {summary['split']} bins ({summary['bins']:,}), the mean over {counted(peaks, 'peak track')} with enough peaks "
        f"and {counted(signals, 'signal track')}, held-out tracks aside:",
        "",
        "| measure | value |",
        "|---|---|",
        *(f"| {words} | {value:.4f} |" for _, words, value in measured(summary)),
    ]
    baselines = summary.get("baselines", {}).get("training_tracks", {})
    compared = [(name, row) for name, row in baselines.items() if row.get("auroc") is not None]
    if compared:
        lines += ["", "| baseline | its AUROC | the model's on the same tracks |", "|---|---|---|"]
        lines += [f"| {escaped(name)} | {row['auroc']:.4f} | {row['model_auroc']:.4f} |" for name, row in compared]
    notes = [f"- Note: {escaped(note)}." for note in summary.get("notes", [])]
    return [*lines, *([""] if notes else []), *notes]


def measured(summary: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Yield the averages over training tracks that were measured: their name, what they are in words, and the value."""
    averages = summary.get("training_tracks", {})
    for name, words in MEASURES.items():
        if averages.get(name) is not None:
            yield name, words, averages[name]


def limit_section(stored: Mapping[str, Any], config: Config) -> list[str]:
    """Return what the model must not be taken for."""
    own = [f"Predictions are made for bins of {config.bins.size} bp."]
    if len({track["kind"] for track in stored["tracks"]}) > 1:
        own.append(
            "Peak tracks and signals were trained together: the parts of the signals are less to be trusted, since they have "
            "another scale."
        )
    return ["## Limits", "", *(f"- {sentence}" for sentence in (*own, *LIMITS))]


# -- words -------------------------------------------------------------------------------------------------------------


def counted(count: int, what: str) -> str:
    """Return a count with its noun: 1 track, 2 tracks."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Return names in a sentence: a, b and c; of many only the first."""
    shown = [escaped(name) for name in names]
    if len(shown) > SHOWN_LEVELS:
        return f"{', '.join(shown[:SHOWN_LEVELS])} and {len(shown) - SHOWN_LEVELS:,} more"
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else "".join(shown)


def escaped(text: str) -> str:
    """Return a text of a user's in one line, so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split()))
