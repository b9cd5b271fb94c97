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
from mfd_cli.base.words import counted
from mfd_cli.core.inseparable import joined
from mfd_cli.core.metadata import MetadataEncoder
from mfd_cli.experiments.confounds import worst_confounds
from mfd_cli.runs.description import is_trunk, seen_sentence
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
        accuracy_section(list(own.values()), others),
        limit_section(stored, config),
    )
    return (
        "\n".join([*header(stored, list(own.values())), *(line for section in sections for line in ["", *section])])
        + "\n"
    )


def evaluations_of(folder: Path, weights: str) -> tuple[dict[Path, dict[str, Any]], list[str]]:
    """Return the evaluations of these weights, folder -> summary, and the names of the folders that are of other weights."""
    places = [folder, *([folder.parent] if folder.name.startswith("seed-") else [])]
    own, others = dict[Path, dict[str, Any]](), list[str]()
    for file in (file for place in places for file in sorted(place.glob("evaluation-*/summary.json"))):
        summary = read_summary(file)
        if summary["model"] == weights:
            own[file.parent] = summary
        else:
            others.append(file.parent.name)
    return own, others


class StoredCalibration(Stored):
    """What an evaluation's reliability curve says in numbers."""

    tracks: Natural
    predicted_over_observed: float | None
    slope: float | None


class StoredPart(Stored):
    """Means over tracks of how far a part lies from the truth."""

    deviation: float
    error: float
    reliability: float


class StoredSeeds(Stored):
    """How far a score spreads over runs that differ by the seed."""

    runs: Natural
    mean: float
    sd: float


class StoredEvaluation(Stored):
    """What summary.json of an evaluation must hold, as far as a card and a report show it."""

    split: str
    bins: Natural
    model: str
    training_tracks: Averages = Field(default_factory=dict)
    held_out_tracks: Averages = Field(default_factory=dict)
    baselines: dict[str, dict[str, Averages]] = Field(default_factory=dict)
    calibration: StoredCalibration | None = None
    parts: dict[str, StoredPart] = Field(default_factory=dict)
    seeds: dict[str, StoredSeeds] = Field(default_factory=dict)
    independence: list[dict[str, Any]] = Field(default_factory=list)
    weights: list[dict[str, Any]] = Field(default_factory=list)
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
    return [f"# {title_of(stored)}", "", escaped(model_words(stored, config))]


def model_words(stored: Mapping[str, Any], config: Config) -> str:
    """Return what the model does, in sentences."""
    model, size, tracks = stored["model"], config.bins.size, len(stored["tracks"])
    if model["head"] == "free":
        telling = "with an ordinary output layer, which does not tell groups of factors apart"
    else:
        telling = f"and says which part of each prediction belongs to which group of factors: {listed(sorted(model['groups']))}"
    return (
        f"This model predicts {counted(tracks, 'track')} from DNA sequence, {telling}. It reads {model['window']:,} bp "
        f"and predicts the {size} bp in their middle. It was trained with mfd {stored['about'].get('mfd_version', '')}, "
        f"which carries {METHOD} further."
    )


def data_section(stored: Mapping[str, Any], config: Config) -> list[str]:
    """Return on what the model was trained, and what was kept from it."""
    about = stored["about"]
    return [
        "## Data",
        "",
        escaped(data_words(stored, config)),
        "",
        f"- digest of the genome: `{about['genome_digest']}`",
        f"- digest of the dataset: `{about['dataset_digest']}`",
        f"- sha256 of the weights: `{about['weights_sha256']}`",
    ]


def data_words(stored: Mapping[str, Any], config: Config) -> str:
    """Return on what the model was trained, and what was kept from it, in sentences."""
    about, kinds = stored["about"], [track["kind"] for track in stored["tracks"]]
    held_out = stored["trained"].count(False) or "none"
    return (
        f"The genome has {counted(len(about['contigs']), 'contig')} and {sum(about['contigs'].values()):,} bp. The tracks are "
        f"{counted(kinds.count('peaks'), 'peak set')} and {counted(kinds.count('signal'), 'signal')}, {held_out} of which "
        f"{'were' if held_out != 1 else 'was'} held out of training. {added_sentence(stored)}"
        f"The model was trained on {listed(about['trained_on'])}. {kept('test', config.split.test)} "
        f"{kept('validation', config.split.validation)}"
    )


def added_sentence(stored: Mapping[str, Any]) -> str:
    """Return a sentence on tracks that were added to a run after its training, with a space behind it; empty where none was."""
    other = stored["about"].get("added_to")
    if other is None:
        return ""
    return (
        f"{sum(stored['added'])} of the tracks were added after the training to the model of {other['path']} (sha256 "
        f"of its weights {other['weights_sha256']}): their output weights alone were fitted. "
    )


def kept(split: str, contigs: Any) -> str:
    """Return a sentence on what was kept for a split: contigs, or a share of the others."""
    if isinstance(contigs, float):
        return f"A share of {contigs:.0%} of these, in blocks, was kept for {split}."
    return f"The {split} bins are on {listed(contigs)}." if contigs else f"There are no {split} bins."


def factor_section(stored: Mapping[str, Any], config: Config) -> list[str]:
    """Return the table of factors: where each stands in the metadata, and its levels."""
    rows = factor_rows(stored, config)
    lines = ["## Factors", "", "| factor | column | group | type | levels |", "|---|---|---|---|---|"]
    return [*lines, *(f"| {' | '.join(map(escaped, row.values()))} |" for row in rows)]


def factor_rows(stored: Mapping[str, Any], config: Config) -> list[dict[str, str]]:
    """Return one row per factor: its column, group and type, and its first levels."""
    rows = []
    for name, factor in stored["metadata"].items():
        levels = factor.get("vocabulary")
        shown = "numbers" if levels is None else f"{len(levels):,}: {few(levels, SHOWN_LEVELS)}"
        own = {"column": factor["column"], "group": config.factors[name].group, "type": factor["type"]}
        rows.append({"factor": name, **own, "levels": shown})
    return rows


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
    about = stored["about"]
    figures = [f"| `{name}` | {value:.4g} |" for name, value in about["validation"].items()]
    return [
        "## Training",
        "",
        escaped(training_words(stored, config)),
        "",
        "These weights were chosen on the validation bins, where they measured what follows. That they were chosen there makes "
        "the figures a little too good.",
        "",
        "| measure | on the validation bins |",
        "|---|---|",
        *figures,
    ]


def training_words(stored: Mapping[str, Any], config: Config) -> str:
    """Return what the network is and how long it was trained, in sentences."""
    model = stored["model"]
    filters = model.get("filters") or "no"
    own = (
        f"a {model['backbone']} backbone of width {model['width']} on {model['kmer']}-mers with {filters} motif filters"
    )
    network = f"the trunk of {model['backbone']}" if model.get("architecture") else own
    return (
        f"The network is {network}, a {model['head']} head and {config.latent_words}. The weights were taken "
        f"after {stored['about']['windows']:,} windows, with seed {config.train.seed}, a learning rate of {config.train.lr:g} "
        f"and batches of {config.train.batch_size} bins.{started_sentence(stored['about'], config)}"
    )


def started_sentence(about: Mapping[str, Any], config: Config) -> str:
    """Return a sentence on the run or the trunk that the training started from, with the share of it in which the
    backbone stayed as it was; empty where it started from none."""
    source, thaw = about.get("source"), config.thaw
    if source is None:
        return ""
    what = "weights" if is_trunk(source) else "backbone"
    frozen = {0.0: "", 1.0: ", which stayed as it was"}.get(thaw, f", which stayed as it was for {thaw:.0%} of it")
    return (
        f" The training started from the {what} of {source['path']} (sha256 of its weights "
        f"{source['weights_sha256']}){frozen}.{seen_sentences(about)}"
    )


def seen_sentences(about: Mapping[str, Any]) -> str:
    """Return sentences, each with a space before it, on what of the held-out bins the run before had been trained on."""
    told = (seen_sentence(about, split) for split in ("test", "validation"))
    return "".join(f" {sentence[0].upper()}{sentence[1:]}." for sentence in told if sentence)


def accuracy_section(evaluations: Sequence[Mapping[str, Any]], others: Sequence[str]) -> list[str]:
    """Return what `mfd evaluate` measured, split by split, with the baselines; or that nothing was."""
    lines = ["## Measured accuracy"]
    if not evaluations:
        lines += ["", "No evaluation of these weights is there. `mfd evaluate` measures one."]
    for summary in evaluations:
        lines += ["", *evaluation_lines(summary)]
    if others:
        lines += ["", f"Not shown, since they are of other weights: {escaped(listed(others))}."]
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


def measured(summary: Mapping[str, Any], tracks: str = "training_tracks") -> Iterator[tuple[str, str, float]]:
    """Yield the averages over training (or held-out) tracks that were measured: name, what it is in words, value."""
    averages = summary.get(tracks, {})
    for name, words in MEASURES.items():
        if averages.get(name) is not None:
            yield name, words, averages[name]


def limit_section(stored: Mapping[str, Any], config: Config) -> list[str]:
    """Return what the model must not be taken for."""
    return ["## Limits", "", *(f"- {sentence}" for sentence in limits(stored, config))]


def limits(stored: Mapping[str, Any], config: Config) -> list[str]:
    """Return sentences on what the model must not be taken for."""
    own = [f"Predictions are made for bins of {config.bins.size} bp."]
    if len({track["kind"] for track in stored["tracks"]}) > 1:
        own.append(
            "Peak tracks and signals were trained together: the parts of the signals are less to be trusted, since they have "
            "another scale."
        )
    return [*own, *LIMITS]


# -- words -------------------------------------------------------------------------------------------------------------


def listed(names: Sequence[str]) -> str:
    """Return names in a sentence: a, b and c; of many only the first."""
    if len(names) > SHOWN_LEVELS:
        return f"{', '.join(names[:SHOWN_LEVELS])} and {len(names) - SHOWN_LEVELS:,} more"
    return joined(names)


def escaped(text: str) -> str:
    """Return a text of a user's in one line, so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split()))
