"""Speed beside what users would pick instead: same weights, same data, one run, one core. No test needs it.

    python examples/bench_others.py [--only WORDS ...] [--turns N] [--bigwigs FILE ...] [--json FILE]

Beside tangermeme (variants), genvarloader (windows of a genome), pybigtools (bigWig to bin means), and the training step of
the paper's research code, re-stated here from the description of the method. As in `bench_speed.py` the two take turns, and
the ratio is the median over turns. Times are processor seconds of all threads of the process, which a busy machine stretches
less than the clock. Variants, windows and bin means must be the same numbers in both before they are timed; the training steps
have the same network, batch and penalty, but each its own head. Rows of a package that is not installed are left out, which is
said. The packages go into an environment of their own, because genvarloader wants an older pyarrow than `constraints.txt`:

    python3 -m venv others
    others/bin/pip install torch==2.13.0
    others/bin/pip install -c constraints.txt -e .
    others/bin/pip install tangermeme==1.6.0 genvarloader==0.43.1 pybigtools==0.3.0
    others/bin/python examples/bench_others.py
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench_speed import Plain, Row, dense_bigwig, machine, measure
from mfd_cli.core.model import MfdModel
from mfd_cli.core.onehot import kmers, one_hot, other_strand
from mfd_cli.core.penalties import standardise
from mfd_cli.core.predictor import Predictor
from mfd_cli.dataset.preprocess import preprocess
from mfd_cli.formats.bigwig_reader import check_bigwig
from mfd_cli.formats.bin_means import bin_means
from mfd_cli.genome.alleles import Variant
from mfd_cli.genome.grid import BIN
from mfd_cli.genome.sequence import BASES, decode
from mfd_cli.runs.folder import Run
from mfd_cli.settings.project import Project, load_project
from mfd_cli.training.prepare import Ready, prepare
from mfd_cli.training.setup import outputs_of
from mfd_cli.training.step import draws, learn
from mfd_cli.variants.effects import Member, ScoreSettings

CPU = torch.device("cpu")
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "GVL_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS"), "1"
)
"""What libraries ask for how many threads they may use, most of them when they are imported."""
TRACKS, CONTIG, PEAKS = 2106, 2_000_000, 400
"""The planted project: tracks, bp of each of two contigs, peaks of a track. The paper has 2,106 human tracks."""
SAME = 1e-4
"""Logits that differ by less are the same."""
LEVELS = {"Target": 60, "Biosample": 120, "Organ": 40, "Assay": 5, "Lab": 8, "Year": 12}
"""Levels of the metadata columns: about those of the research code's sample configuration."""
FACTORS = """
[factors.target]
column = "Target"
group = "biological"
role = "direct"
[factors.biosample]
column = "Biosample"
group = "biological"
encode = "embed"
dim = 96
[factors.organ]
column = "Organ"
group = "biological"
[factors.assay]
column = "Assay"
group = "technical"
role = "both"
[factors.lab]
column = "Lab"
group = "technical"
[factors.year]
column = "Year"
group = "technical"
"""


def main() -> None:
    """Print one table."""
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", help="rows whose name holds one of these words")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--bigwigs", nargs="*", type=Path, default=[], help="real bigWigs to read besides the made one")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine(CPU))
    print(f"{'what':<84}{'mfd':>12}{'theirs':>12}{'ratio':>26}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for make in (isolated, saturation, windows, partial(bigwigs, files=options.bigwigs), training):
            name = make.func.__name__ if isinstance(make, partial) else make.__name__
            if not options.only or any(word in name for word in options.only):
                rows += [measure(row, options.turns, time.process_time) for row in make(Path(folder))]
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(CPU), "rows": rows}, indent=1) + "\n")


def package(module: str, rows: str) -> Any:
    """Return a module; None, which is said, where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        print(f"{rows}: not measured, {module.partition('.')[0]} is not installed")
        return None


def version(name: str) -> str:
    """Return a package with its version, as it stands in the table."""
    return f"{name} {importlib.metadata.version(name)}"


# -- the same data for both --------------------------------------------------------------------------------------------


def planted(folder: Path, *settings: str, tracks: int = TRACKS, contig: int = CONTIG) -> Project:
    """Return a project of random bases and peaks, with these settings of mfd.toml; it is made where it is not there yet."""
    home = folder / f"{tracks}-{contig}"
    if not home.exists():
        (home / "tracks").mkdir(parents=True)
        rng = np.random.default_rng(0)
        with (home / "genome.fa").open("w") as fasta:
            for name in ("chr1", "chr2"):
                fasta.write(f">{name}\n{BASES[rng.integers(0, 4, contig)].tobytes().decode()}\n")
        table = ["\t".join(["File accession", "File path", *LEVELS])]
        for track in range(tracks):
            starts = np.sort(rng.integers(0, contig - 1000, PEAKS)).tolist()
            text = "".join(f"chr{1 + i % 2}\t{start}\t{start + 300}\n" for i, start in enumerate(starts))
            (home / f"tracks/T{track}.bed").write_text(text)
            levels = [f"{column}{rng.integers(count)}" for column, count in LEVELS.items()]
            table.append("\t".join([f"T{track}", f"tracks/T{track}.bed", *levels]))
        (home / "metadata.tsv").write_text("\n".join(table) + "\n")
        data = '[data]\nfasta = "genome.fa"\nmetadata = "metadata.tsv"\n[split]\nvalidation = ["chr2"]\n'
        (home / "mfd.toml").write_text(data + FACTORS)
        preprocess(load_project(home / "mfd.toml"), threads=1)
    return load_project(home / "mfd.toml", settings)


def untrained(folder: Path, width: int, window: int) -> tuple[Ready, Run]:
    """Return a model of the planted project as training would begin with it, and the same as a run."""
    project = planted(
        folder, f"model.width={width}", f"model.window={window}", "model.groups={biological=1,technical=1}"
    )
    ready = prepare(project, CPU)
    model, tracks = ready.trainer.model.eval(), outputs_of(ready.dataset)
    return ready, Run(project.run, project.config, model, tracks, ready.scale, {})


# -- variants: tangermeme ----------------------------------------------------------------------------------------------


class OneHotModel(nn.Module):
    """A trained model as tangermeme takes one: one-hot bases (batch, 4, bp) to logits (batch, tracks), strands averaged.

    The layers stand there plainly, with torch's own pooling: what torch.export can take apart, and tangermeme makes faster.
    """

    def __init__(self, model: MfdModel) -> None:
        super().__init__()
        self.plain, self.norm, self.order = Plain(model.backbone), model.norm, model.settings.kmer
        weights = model.head.weights()
        self.head = nn.Linear(*weights.matrix().T.shape)
        self.head.weight, self.head.bias = nn.Parameter(weights.matrix().detach()), weights.bias
        self.eval()

    def forward(self, bases: Tensor) -> Tensor:
        """One-hot bases (batch, 4, bp), A C G T, to logits (batch, tracks)."""
        forward, reverse = (self.norm(self.plain(kmers(x, self.order))) for x in (bases, bases.flip(1, 2)))
        logits: Tensor = self.head((forward + reverse) / 2)
        return logits


def isolated(folder: Path) -> Iterator[Row]:
    """Substitutions far from each other, whose effect on every track is asked for, both strands averaged."""
    theirs = package("tangermeme.variant_effect", "isolated substitutions")
    for width, window, count in ((64, 1152, 112), (768, 2176, 8)) if theirs else ():
        yield isolated_row(theirs, folder, width, window, count)


def isolated_row(theirs: Any, folder: Path, width: int, window: int, count: int) -> Row:
    """Return the row of one model. Its windows are one-hot already for tangermeme; mfd cuts them from the genome."""
    ready, run = untrained(folder, width, window)
    member, model, genome = Member(run, CPU, 256, ScoreSettings()), OneHotModel(run.model), ready.dataset.genome
    places, centre = np.linspace(10_000, CONTIG - 10_000, count, dtype=int).tolist(), member.predictor.left + BIN // 2
    starts = [place - centre for place in places]
    codes = torch.from_numpy(np.stack([genome.codes("chr1", start, start + window) for start in starts]))
    old = codes[:, centre]
    new = (old + 1) % 4
    alleles = zip(places, decode(old.numpy()), decode(new.numpy()))
    variants = [Variant("chr1", place + 1, ref, alt) for place, ref, alt in alleles]
    edits = torch.stack([torch.arange(count), torch.full((count,), centre), new.long()], 1)
    x, batch = one_hot(codes), member.predictor.batch_size

    def ours() -> Any:
        return member.effects(variants, genome).total()

    def others() -> Any:
        before, after = theirs.substitution_effect(model, x, edits, batch_size=batch, device="cpu")
        return (after - before).numpy()

    assert np.abs(ours() - others()).max() < SAME
    what = f"isolated substitutions, C = {width}, {window:,} bp, float32"
    return Row(what, "variants", count, ours, others, f"{version('tangermeme')}, substitution_effect")


def saturation(folder: Path) -> Iterator[Row]:
    """All substitutions of whole bins, 384 each: enough of them for tangermeme to take its own fast path (over 30 seconds)."""
    theirs = package("tangermeme.saturation_mutagenesis", "saturation mutagenesis")
    for width, window, count, at_once in ((64, 1152, 96, 128), (768, 2176, 4, 16)) if theirs else ():
        yield saturation_row(theirs, folder, width, window, count, at_once)


def saturation_row(theirs: Any, folder: Path, width: int, window: int, count: int, at_once: int) -> Row:
    """Return the row of one model and so many bins. `at_once` edited windows make a batch of tangermeme's: of 16, 64, 128 and
    256 the fastest at C = 64, of 8, 16, 64 and 128 at C = 768 (two cores of an AMD EPYC)."""
    ready, run = untrained(folder, width, window)
    predictor, model = Predictor(run.model), OneHotModel(run.model)
    left, first = predictor.left, 10_000 + BIN * torch.arange(count)
    codes = ready.genome.stretches(first + int(ready.genome.offsets[0]), window)
    x = one_hot(codes)
    asked = {"start": left, "end": left + BIN, "raw_outputs": True, "batch_size": at_once, "device": "cpu"}

    def ours() -> Any:
        return np.stack([saturated(predictor, one[None]) for one in codes])

    def others() -> Any:
        return theirs.saturation_mutagenesis(model, x, **asked)

    before, after = others()
    changes = (after - before[:, None, None]).permute(0, 2, 1, 3)  # (windows, positions, bases, tracks)
    exchanged = x[:, :, left : left + BIN].transpose(1, 2) == 0
    assert (changes[exchanged].view(count, BIN, 3, -1) - torch.from_numpy(ours())).abs().max() < SAME
    what = f"all 384 substitutions of {count} bins, C = {width}, {window:,} bp, float32"
    return Row(what, "variants", 384 * count, ours, others, f"{version('tangermeme')}, saturation_mutagenesis")


def saturated(predictor: Predictor, codes: Tensor) -> Any:
    """Return the changes (positions, 3 other bases, tracks) of all logits by the substitutions of the bin of one window."""
    left, head = predictor.left, predictor.head
    reference, before = predictor.reference(codes, left, left + BIN - 1)
    base = torch.arange(4).repeat(BIN, 1)
    base = base[base != codes[0, left : left + BIN, None]]
    position = torch.arange(left, left + BIN).repeat_interleave(3)
    after = predictor.substituted(reference, torch.zeros_like(position), position, base)
    return ((after - before).numpy() @ head.matrix().T).reshape(BIN, 3, -1)


# -- windows of a genome: genvarloader ---------------------------------------------------------------------------------


def windows(folder: Path) -> Iterator[Row]:
    """One epoch of shuffled batches of 256 windows, moved by up to 3 bp, half of them on the other strand."""
    theirs = package("genvarloader", "windows")
    if not theirs:
        return
    import polars
    import seqpro

    window, batch, shift, contig = 2176, 256, 3, 20_000_000
    train = (f"train.batch_size={batch}", f"train.shift={shift}", "train.stretch=1")
    settings = ("model.width=64", f"model.window={window}", *train)
    ready = prepare(planted(folder, *settings, tracks=8, contig=contig), CPU)
    data, steps = ready.training_bins(), ready.trainer.pace.steps_per_epoch
    starts = data.bins.start - ready.trainer.model.left
    starts = starts[(starts >= shift) & (starts + window + shift <= contig)][: steps * batch]
    strands = np.where(np.arange(len(starts)) % 2, "-", "+")
    reference = theirs.Reference.from_path(ready.project.path("genome.fa"), ["chr1"])

    def regions(jitter: int) -> Any:
        places = {
            "chrom": "chr1",
            "chromStart": starts - jitter,
            "chromEnd": starts + window + jitter,
            "strand": strands,
        }
        return theirs.RefDataset(reference, polars.DataFrame(places), jitter, seed=0).with_len(window)

    some = torch.arange(1000, 1004)
    codes = ready.genome.stretches(starts[some] + int(ready.genome.offsets[0]), window)
    codes = torch.where(some[:, None] % 2 == 1, other_strand(codes), codes)
    assert [decode(one) for one in codes.numpy()] == [one.tobytes().decode() for one in regions(0)[some.numpy()]]
    loader = regions(shift).to_dataloader(batch, shuffle=True)

    def ours(encode: bool) -> None:
        for one in data.stream(islice(draws(ready.trainer, data.tiling, 0), steps), prefetch=False):
            if encode:
                one_hot(one.codes)

    def others(encode: bool) -> None:
        for one in loader:
            if encode:
                torch.from_numpy(seqpro.DNA.ohe(one)).transpose(1, 2).float()

    for name, encode in (("bytes", False), ("one-hot float32", True)):
        what = f"batches of 256 windows of {window:,} bp, shuffled, shifted, both strands, {name}"
        against = f"{version('genvarloader')}, RefDataset.to_dataloader"
        yield Row(what, "windows", steps * batch, partial(ours, encode), partial(others, encode), against)


# -- bigWig to bin means: pybigtools -----------------------------------------------------------------------------------


def bigwigs(folder: Path, files: Sequence[Path]) -> Iterator[Row]:
    """bigWigs to the means of all 128-bp bins, bases without data counting as 0."""
    theirs = package("pybigtools", "bigWig to bins")
    if not theirs:
        return
    yield bigwig_row(theirs, "made, runs of 20 bp", [dense_bigwig(folder / "dense.bw")])
    if files:
        yield bigwig_row(theirs, f"{len(files)} given files", files)


def bigwig_row(theirs: Any, name: str, paths: Sequence[Path]) -> Row:
    """Return the row of some files, one after the other."""
    lengths = {path: check_bigwig(path) for path in paths}
    bins = sum(length // BIN for of_file in lengths.values() for length in of_file.values())

    def ours() -> list[Any]:
        return [np.nan_to_num(bin_means(path, of_file)) for path, of_file in lengths.items()]

    def others() -> list[Any]:
        return [means_of_pybigtools(theirs, path, of_file) for path, of_file in lengths.items()]

    for one, other in zip(ours(), others()):
        assert np.allclose(one, other, rtol=1e-4, atol=1e-6 * np.abs(other).max())
    inflater = "with isal" if importlib.util.find_spec("isal") else "with zlib"
    what = f"bigWig to bins, {name}, {inflater}"
    return Row(what, "bins", bins, ours, others, f"{version('pybigtools')}, values(bins=...)")


def means_of_pybigtools(pybigtools: Any, path: Path, lengths: Mapping[str, int]) -> Any:
    """Return the means of all bins of a file, from the values themselves (`exact`) and not from its zoom levels."""
    asked = {"summary": "mean", "exact": True, "uncovered": 0.0, "fillna": 0.0}
    with pybigtools.open(str(path)) as file:
        parts = [(name, length // BIN) for name, length in lengths.items() if length >= BIN]
        return np.concatenate([file.values(name, 0, bins * BIN, bins=bins, **asked) for name, bins in parts])


# -- the research code's training step ---------------------------------------------------------------------------------


def embedding(inputs: int, outputs: int) -> nn.Sequential:
    """Return the map `embed` of a metadata column: codes (tracks, inputs) to (tracks, outputs)."""
    wide = 2 * outputs
    layers = nn.Linear(inputs, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, outputs)
    return nn.Sequential(*layers)


class ResearchGroup(nn.Module):
    """E of one group: direct columns as they are, the others through a network; to weights (tracks, latents of the group)."""

    def __init__(self, direct: Tensor, columns: Sequence[Tensor], embedded: Mapping[int, int], size: int, hidden: int):
        super().__init__()
        self.direct, self.columns = direct, list(columns)
        self.maps = nn.ModuleDict({str(i): embedding(columns[i].shape[1], width) for i, width in embedded.items()})
        inputs = sum(embedded.get(i, column.shape[1]) for i, column in enumerate(columns))
        wide = 2 * hidden
        layers = nn.Linear(inputs, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU()
        self.network = nn.Sequential(*layers, nn.Linear(wide, size - direct.shape[1]))

    def forward(self) -> Tensor:
        """Return the weights; metadata is a constant."""
        mapped = [self.maps[str(i)](x) if str(i) in self.maps else x for i, x in enumerate(self.columns)]
        return torch.cat([self.direct, self.network(torch.cat(mapped, 1))], 1)


INTERACTING = ("assay", "lab", "year"), ("biosample", "organ")
"""Factors of the technical and of the biological group that go through its network; assay and target also go around it."""


class ResearchModel(nn.Module):
    """The research code's model: network, batch norm with scales, output weights made from metadata at every step."""

    def __init__(self, model: MfdModel) -> None:
        super().__init__()
        self.network, latent = Plain(deepcopy(model.backbone)), model.settings.latent
        self.norm, self.bias = nn.BatchNorm1d(latent), nn.Parameter(torch.zeros(len(model.rows)))
        encoded = model.metadata.encode(model.rows)
        codes = {name: torch.from_numpy(np.asarray(values, np.float32)) for name, values in encoded.items()}
        technical, biological = ([codes[name] for name in names] for names in INTERACTING)
        self.technical = ResearchGroup(codes["assay"], technical, {}, latent // 2, 128)
        self.biological = ResearchGroup(codes["target"], biological, {0: 96}, latent - latent // 2, 256)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One-hot k-mers (batch, 4^k, bp) to probabilities (batch, tracks) and the latents of both groups."""
        latent = self.norm(self.network(x))
        technical, biological = latent.chunk(2, 1)
        logits = technical @ self.technical().T + biological @ self.biological().T + self.bias
        return torch.sigmoid(logits), technical, biological


def training(folder: Path) -> Iterator[Row]:
    """One step of the paper's documented sweep: C = 120, 2,176 bp, k = 2, 256 bins, 2,106 tracks, penalty 0.1 x ||R||."""
    batch = 256
    shape = ("model.width=120", "model.window=2176", "model.kmer=2", "model.hidden=256", f"train.batch_size={batch}")
    penalty = "objective.penalties={covariance={weight=0.1,published=true,warmup=0}}"
    settings = (
        *shape,
        "model.head=conditioned",
        penalty,
        f"objective.bins={batch}",
        "model.groups={biological=1,technical=1}",
    )
    ready = prepare(planted(folder, *settings, "train.stretch=1"), CPU)
    research = ResearchModel(ready.trainer.model)
    adam = torch.optim.Adam(research.parameters(), lr=1e-3, amsgrad=True)
    ready_made = next(ready.training_bins().stream(draws(ready.trainer, ready.training_bins().tiling), prefetch=False))
    x, y = ready.trainer.model.columns(ready_made.codes), ready_made.peaks

    def theirs() -> None:
        adam.zero_grad()
        probabilities, technical, biological = research(x)
        penalty = (standardise(technical).T @ standardise(biological) / len(x)).norm()
        (F.binary_cross_entropy(probabilities, y) + 0.1 * penalty).backward()
        adam.step()

    for name, more in KINDS_OF_STEP.items():
        what = f"training step, C = 120, 2,176 bp, k = 2, {TRACKS:,} tracks, {name}"
        ours = stepping(prepare(planted(folder, *settings, *more), CPU))
        yield Row(what, "bins", batch, ours, theirs, "the research code's step, re-stated, float32")


KINDS_OF_STEP = {
    "float32": ("train.stretch=1",),
    "bf16": ("train.stretch=1", "train.precision=bf16"),
    "stretches of 16, float32": ("train.stretch=16",),
}


def stepping(ready: Ready) -> Callable[[], None]:
    """Return what takes the next step of a training, its batch made from the genome and packed labels."""
    data = ready.training_bins()
    plan = draws(ready.trainer, data.tiling)
    return lambda: learn(ready.trainer, data.batch(*next(plan)), data.counts)


if __name__ == "__main__":
    main()
