"""What a trained network makes of a split: features of every image, projections, and means over the images of a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mfd_cli.base.arrays import Doubles, Floats, Ints
from mfd_cli.base.errors import ConfigError
from mfd_cli.base.progress import Progress
from mfd_cli.contig.batches import PairedSplit
from mfd_cli.contig.data.cohort import Cohort, Share
from mfd_cli.contig.gwas.inputs import Features
from mfd_cli.contig.run import CONTROLS, ContigRun, check_fit, load_run, new_persons
from mfd_cli.engine.checkpoint import DESCRIPTION
from mfd_cli.settings.names import ALL, BIOLOGICAL, TECHNICAL

PARTS = (BIOLOGICAL, TECHNICAL, ALL)
"""What --part chooses of the features: a slice, or all of them."""
AT_ONCE = 512
"""Images that go through the network together."""


@dataclass(frozen=True)
class SeenSplit:
    """The features (images, features) of a split, in the order of its images."""

    people: PairedSplit
    split: str
    features: Floats

    @property
    def share(self) -> Share:
        """The split in the cohort."""
        return self.people.share

    def of_persons(self) -> Doubles:
        """Return the mean of the features over the images of each person (persons, features)."""
        owner, count = self.share.images.owner, len(self.share.persons)
        sums = np.zeros((count, self.features.shape[1]))
        np.add.at(sums, owner, self.features)
        return sums / np.bincount(owner, minlength=count)[:, None]

    def persons(self) -> tuple[str, ...]:
        """Return who is in the split."""
        names = self.people.cohort.people.persons
        return tuple(names[place] for place in self.share.persons.tolist())


@torch.no_grad()
def see(
    run: ContigRun, cohort: Cohort, split: str, device: torch.device, progress: Progress | None = None
) -> SeenSplit:
    """Return the features of all images of a split. ConfigError where the cohort has other variants than the run's."""
    check_fit(run, cohort)
    people = PairedSplit.of(cohort, split)
    model, count = run.model.to(device).eval(), len(people.share.images.owner)
    parts = []
    for low in range(0, count, AT_ONCE):
        rows = np.arange(low, min(low + AT_ONCE, count))
        pictures = torch.from_numpy(people.share.pictures(rows)).to(device)
        parts.append(model.feature(model.standardised(pictures)).float().cpu().numpy())
        if progress:
            progress(f"looking at images ({run.name}, {split})", int(rows[-1]) + 1, count)
    return SeenSplit(people, split, np.concatenate(parts))


def see_new(
    run: ContigRun,
    cohort: Cohort,
    split: str,
    allow_trained: bool,
    device: torch.device,
    progress: Progress | None = None,
) -> SeenSplit:
    """Return what `see` does, of persons that the run was not trained on. ConfigError, before any work, where it was on one of
    them, unless `allow_trained`."""
    people = cohort.people
    new_persons(run, [people.persons[place] for place in people.of(split).tolist()], allow_trained)
    return see(run, cohort, split, device, progress)


def having(seen: SeenSplit, name: str) -> Ints:
    """Return which persons of a split (rows) have a modality."""
    return np.flatnonzero(seen.share.has[name])


@torch.no_grad()
def projected(
    run: ContigRun, seen: SeenSplit, name: str, images: Ints, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what is compared of a modality, of those persons who have it: the image of each of them (persons, projection), of
    `images`, one of every person, and their genetic data."""
    model, rows = run.model.to(device).eval(), having(seen, name)
    z = model.image_projection(name, torch.from_numpy(seen.features[images[rows]]).to(device))
    inputs = seen.people.cohort.inputs(seen.share, name, rows)
    return z, model.person_projection(name, torch.from_numpy(inputs).to(device))


def as_features(run: ContigRun, seen: SeenSplit, part: str = BIOLOGICAL) -> Features:
    """Return a part of the features of a split's persons as `mfd contig gwas` takes them. ConfigError where there is none."""
    share = seen.share
    counts = np.bincount(share.images.owner, minlength=len(share.persons)).astype(np.int64)
    matrix = seen.of_persons()[:, part_of(run, part)]
    name = run.name if part == BIOLOGICAL else f"{run.name} {part}"
    return Features(name, seen.persons(), matrix, tuple(map(str, share.family.tolist())), counts)


def part_of(run: ContigRun, part: str) -> slice:
    """Return where a part of the features lies: a slice of them, or all. ConfigError where the run has no such slice."""
    if part == ALL:
        return slice(0, run.model.features)
    if part not in run.model.slices:
        raise ConfigError(
            f"{run.path} has no {part} slice: it was trained without technical factors",
            hint='[factors.camera] with column = "camera" declares one, before mfd contig prepare and train',
        )
    return run.model.slices[part]


def controls_of(run: ContigRun) -> dict[str, ContigRun]:
    """Return the controls that were trained beside a run, by name."""
    folders = {name: run.path / f"control-{name}" for name in CONTROLS}
    return {name: load_run(folder) for name, folder in folders.items() if (folder / DESCRIPTION).is_file()}


def runs_beside(run: ContigRun, others: Sequence[Path]) -> Mapping[str, ContigRun]:
    """Return the controls of a run and other runs, by a name of their own. ConfigError where two have the same folder name."""
    beside = controls_of(run)
    for path in others:
        if path.name in beside:
            raise ConfigError(f"--beside names two runs called {path.name}")
        beside[path.name] = load_run(path)
    return beside


NO_CONTROLS = "there is no control beside this run: mfd contig train --resume --controls random,shuffled makes them"
"""What is said where a result stands alone."""
