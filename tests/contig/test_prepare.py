"""From pictures and genotypes to a cohort: who is in it, how they are split, what is refused, and the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image

from kit import cohorts
from kit.harm import snapshot
from mfd_cli.base.errors import CohortError, ConfigError, GenotypeError, ImageError, InputError, MfdError, OutputError
from mfd_cli.contig.config import ContigProject, SplitSection, load_contig
from mfd_cli.contig.data.cohort import open_cohort
from mfd_cli.contig.data.manifest import ImageRow
from mfd_cli.contig.data.packed_calls import packed, unpacked
from mfd_cli.contig.data.persons import SPLITS, dealt
from mfd_cli.contig.data.plink import open_plink
from mfd_cli.contig.prepare import check, prepare


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> ContigProject:
    """A prepared project; read only."""
    return cohorts.prepared(tmp_path_factory.mktemp("ready") / "p")


@given(some.integers(1, 40), some.integers(0, 9))
def test_dosages_are_packed_four_in_a_byte(variants: int, persons: int) -> None:
    copies = np.random.default_rng(variants).integers(0, 4, (persons, variants)).astype(np.uint8)
    codes = packed(copies)
    assert codes.shape == (persons, -(-variants // 4)) and np.array_equal(unpacked(codes, variants), copies)


def test_a_byte_by_hand() -> None:
    assert packed(np.array([[1, 2, 0, 3, 2]], np.uint8)).tolist() == [[1 | 2 << 2 | 3 << 6, 2]]


def test_the_cohort_holds_the_pictures_and_calls_of_the_files(ready: ContigProject) -> None:
    cohort, file = open_cohort(ready.cohort), open_plink(ready.folder / "genotypes.bed")
    calls = np.concatenate([block for _, block in file.blocks()])
    place = {person: number for number, person in enumerate(file.persons)}
    persons = []
    for split in SPLITS:
        share = cohort.share(split)
        names = [cohort.people.persons[number] for number in share.persons]
        persons += names
        copies = unpacked(share.codes["snps"].take(np.arange(len(names))), len(cohort.columns["snps"]))
        rows = [file.variants.name.index(name) for name in cohort.columns["snps"].variants.name]
        expected = calls[np.ix_(rows, [place[name] for name in names])].T
        assert np.array_equal(copies, np.where(expected < 0, 3, expected))
        first = share.images.name[5]
        stored = share.pictures(np.array([5]))[0]
        pixels = np.asarray(Image.open(ready.folder / first))
        if share.images.eye[5] == "right":
            pixels = pixels[:, ::-1]
        assert np.array_equal(stored, pixels.transpose(2, 0, 1))
    assert len(set(persons)) == len(persons) > 390


def test_families_are_never_divided_and_shares_are_as_asked(ready: ContigProject) -> None:
    people = open_cohort(ready.cohort).people
    for family in np.unique(people.family):
        assert len(set(people.split[people.family == family].tolist())) == 1
    shares = np.bincount(people.split) / len(people.split)
    assert np.allclose(shares, (0.5, 0.25, 0.25), atol=0.01)
    assert len(np.unique(people.family)) == 370


@given(some.lists(some.integers(1, 6), min_size=12, max_size=60), some.integers(0, 99))
def test_any_families_are_dealt_whole(sizes: list[int], seed: int) -> None:
    names = [f"f{number}" for number, size in enumerate(sizes) for _ in range(size)]
    persons = [f"p{number:03}" for number in range(len(names))]
    rows = {person: ImageRow(person, person, Path(person), "", "", 1) for person in persons}
    try:
        people = dealt(persons, dict(zip(persons, names)), SplitSection(seed=seed), rows, Path("images.tsv"))
    except ConfigError:
        return  # a split of one family
    of: dict[str, set[int]] = {}
    for name, split in zip(names, people.split.tolist()):
        of.setdefault(name, set()).add(split)
    assert all(len(splits) == 1 for splits in of.values())
    share = (people.split == 0).mean()
    assert abs(share - 0.7) <= max(sizes) / len(names) + 1e-9


def test_statistics_are_of_training_persons_alone(ready: ContigProject) -> None:
    cohort = open_cohort(ready.cohort)
    share, columns = cohort.share("train"), cohort.columns["snps"]
    copies = unpacked(share.codes["snps"].take(np.arange(len(share.persons))), len(columns)).astype(float)
    copies[copies == 3] = np.nan
    # A person whose pictures are all faulty is not in a shard, but was counted: at most one in a hundred.
    assert np.allclose(columns.mean, np.nanmean(copies, 0), atol=0.02)
    pixels = share.pictures(np.arange(len(share.pixels))) / 255
    assert np.allclose(cohort.manifest["pixel_mean"], pixels.mean((0, 2, 3)), atol=1e-12)
    assert np.allclose(cohort.manifest["pixel_scale"], pixels.std((0, 2, 3)), atol=1e-9)
    dosages = cohort.dosages(share, "snps", np.arange(len(share.persons)))
    assert abs(dosages.mean()) < 0.01 and abs(dosages.std() - 1) < 0.02 and (dosages[np.isnan(copies)] == 0).all()


def test_the_same_inputs_give_the_same_bytes(ready: ContigProject, tmp_path: Path) -> None:
    again = cohorts.planted(tmp_path / "p")
    prepare(again)
    assert snapshot(again.cohort) == snapshot(ready.cohort)
    assert snapshot(again.folder / "cohort-report") == snapshot(ready.folder / "cohort-report")
    assert again.cohort.stat().st_mode & 0o077 == 0  # personal data
    with pytest.raises(OutputError, match="exists already"):
        prepare(again)


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    project = cohorts.prepared(tmp_path / "p")
    for file in sorted(project.cohort.rglob("*.arrow")):
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 1
        before = file.read_bytes()
        file.write_bytes(raw)
        with pytest.raises(CohortError, match="is damaged: its sha256"):
            open_cohort(project.cohort)
        file.write_bytes(before)
    manifest = project.cohort / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"size": 16', '"size": 32'))
    with pytest.raises(CohortError, match="is damaged: it says something else"):
        open_cohort(project.cohort)
    shutil.rmtree(project.cohort)
    with pytest.raises(CohortError, match="there is no cohort here"):
        open_cohort(project.cohort)


def test_check_says_the_same_and_writes_nothing(ready: ContigProject, tmp_path: Path) -> None:
    project = cohorts.planted(tmp_path / "p")
    before = snapshot(project.folder)
    report = check(project)
    assert snapshot(project.folder) == before
    shown = "\n".join(report.lines())
    assert "400 persons of 370 families (200 train, " in shown and "snps: 50 variants" in shown
    assert "images, is damaged or was cut short" in shown


def line_changed(name: str, number: int, change: Callable[[str], str]) -> Callable[[ContigProject], None]:
    """Change a line (from 1) of a file of the project."""

    def apply(project: ContigProject) -> None:
        path = project.folder / name
        lines = path.read_text().splitlines()
        lines[number - 1] = change(lines[number - 1])
        path.write_text("\n".join(lines) + "\n")

    return apply


def cell(number: int, text: str) -> Callable[[str], str]:
    return lambda line: "\t".join(text if place == number else old for place, old in enumerate(line.split("\t")))


def every_picture_is_text(project: ContigProject) -> None:
    for path in (project.folder / "images").iterdir():
        path.write_text("no picture")


BAD: dict[str, tuple[Callable[[ContigProject], None], type[MfdError], str]] = {
    "no column path": (
        line_changed("images.tsv", 1, lambda _: "person\tfile\teye\tcamera"), ImageError, r":1: has no column 'path'",
    ),
    "an eye that is none": (line_changed("images.tsv", 4, cell(2, "middle")), ImageError, r"images\.tsv:4: eye is 'middle'"),
    "a person without a name": (line_changed("images.tsv", 4, cell(0, "")), ImageError, r"images\.tsv:4: person is empty"),
    "a path out of the folder": (line_changed("images.tsv", 3, cell(1, "../a.png")), ImageError, r":3: path leads out of"),
    "a URL": (line_changed("images.tsv", 3, cell(1, "https://a.org/a.png")), ImageError, r":3: path is a URL"),
    "a picture twice": (
        line_changed("images.tsv", 3, lambda _: "P9\timages/P00000_left.png\tleft\tA"), ImageError, "stands on line",
    ),
    "a family changes": (
        lambda p: (p.folder / "families.tsv").write_text("person\tfamily\nA\t1\nA\t2\n"), InputError,
        r"families\.tsv:3: a person has another family than on line 2",
    ),
    "nobody is in both": (
        lambda p: (p.folder / "genotypes.fam").write_text("\n".join(f"F{n} X{n} 0 0 0 -9" for n in range(400)) + "\n"),
        InputError, r"no person of .*images\.tsv \(P\d+, P\d+, P\d+, \.\.\.\) is in .*genotypes\.bed \(X0, X1, X2",
    ),
    "a .bed that is too short": (
        lambda p: (p.folder / "genotypes.bed").write_bytes((p.folder / "genotypes.bed").read_bytes()[:-1]), GenotypeError,
        "genotypes.bed",
    ),
    "every picture faulty": (every_picture_is_text, ImageError, "more than 5% of 800 pictures are faulty; line"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD))
def test_bad_input_is_one_line_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    make, error, says = BAD[name]
    project = cohorts.planted(tmp_path / "p")
    make(project)
    before = snapshot(project.folder)
    with pytest.raises(error, match=says):
        prepare(project)
    assert snapshot(project.folder) == before
    with pytest.raises(MfdError):
        check(project)


def test_several_faults_are_told_together(tmp_path: Path) -> None:
    project = cohorts.planted(tmp_path / "p")
    (project.folder / "genotypes.bim").unlink()
    (project.folder / "families.tsv").write_text("person\tkin\nA\t1\n")
    with pytest.raises(InputError) as raised:
        prepare(project)
    told = str(raised.value)
    assert "genotypes.bim" in told and "families.tsv:1: has no column 'family'" in told


def test_variants_that_teach_nothing_are_left_out_with_the_reason(tmp_path: Path) -> None:
    project = cohorts.planted(tmp_path / "p")
    bim = project.folder / "genotypes.bim"
    lines = bim.read_text().splitlines()
    lines[0] = lines[0].replace("1\t", "X\t", 1)
    bim.write_text("\n".join(lines) + "\n")
    rare = load_contig(project.file, ["modalities.snps.maf=0.2", "modalities.snps.every=2"])
    report = prepare(rare)
    shown = "\n".join(report.lines())
    assert "1 variants of snps, not on chromosomes 1 to 22" in shown
    assert "rarer than 0.2 in training persons" in shown and "passed over by every = 2" in shown
    with pytest.raises(GenotypeError, match=r"modalities\.snps: no variant is left"):
        prepare(load_contig(project.file, ["modalities.snps.maf=0.5"]), force=True)


def test_settings_are_checked(tmp_path: Path) -> None:
    project = cohorts.planted(tmp_path / "p")
    with pytest.raises(ConfigError, match=r"contig\.toml:\d+: unknown key images\.sise; did you mean size\?"):
        text = (project.folder / "contig.toml").read_text().replace("size = ", "sise = ")
        (project.folder / "bad").mkdir()
        (project.folder / "bad" / "contig.toml").write_text(text)
        load_contig(project.folder / "bad" / "contig.toml")
    with pytest.raises(ConfigError, match="three positive numbers that add up to 1"):
        load_contig(project.file, ["split.fractions=[0.5, 0.2, 0.2]"])
    with pytest.raises(ConfigError, match="there is no modality"):
        (project.folder / "contig.toml").write_text("[data]\n")
        prepare(load_contig(project.folder / "contig.toml"))


def test_a_column_may_say_the_split_and_must_not_divide_a_family(tmp_path: Path) -> None:
    project = cohorts.planted(tmp_path / "p")
    manifest = project.folder / "images.tsv"
    header, *rows = manifest.read_text().splitlines()
    families = dict(line.split("\t") for line in (project.folder / "families.tsv").read_text().splitlines()[1:])
    persons = [row.split("\t")[0] for row in rows]
    said = [SPLITS[int(families[person][1:6]) % 3] for person in persons]
    manifest.write_text("\n".join([f"{header}\tset", *(f"{row}\t{split}" for row, split in zip(rows, said))]) + "\n")
    chosen = load_contig(project.file, ["split.column=set"])
    prepare(chosen)
    people = open_cohort(chosen.cohort).people
    assert all(
        SPLITS[split] == said[persons.index(person)] for person, split in zip(people.persons, people.split.tolist())
    )
    twins = next(name for name in families.values() if list(families.values()).count(name) == 2)
    one = next(person for person, family in families.items() if family == twins)
    other = [f"{row}\t{'test' if person == one else 'train'}" for row, person in zip(rows, persons)]
    manifest.write_text("\n".join([f"{header}\tset", *other]) + "\n")
    with pytest.raises(ImageError, match=r"column set: the persons of lines \d+ and \d+ are of one family"):
        prepare(chosen, force=True)


def test_of_many_pictures_of_an_eye_the_sharpest_are_used(tmp_path: Path) -> None:
    project = cohorts.planted(tmp_path / "p")
    manifest = project.folder / "images.tsv"
    first = manifest.read_text().splitlines()[1].split("\t")
    blurred = Image.open(project.folder / first[1]).resize((4, 4)).resize((16, 16))
    blurred.save(project.folder / "images" / "blurred.png")
    with manifest.open("a") as file:
        file.write(f"{first[0]}\timages/blurred.png\t{first[2]}\tA\n")
    one = load_contig(project.file, ["images.most=1"])
    report = prepare(one)
    assert report.faulty["sharper ones of the same eye are used"] == 1
    table = (project.folder / "cohort-report" / "images.tsv").read_text()
    assert any(line.startswith("images/blurred.png\t") and "\tno\t" in line for line in table.splitlines())
