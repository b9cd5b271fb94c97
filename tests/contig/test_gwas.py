"""The whole verb on a small planted world: what was planted is found, nothing else, and files are as the format asks."""

from __future__ import annotations

import dataclasses
import datetime
import gzip
import hashlib
import shutil
import stat
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from kit.genetic_world import CAUSAL, GeneticWorld, genetic_world, variants_of
from mfd_cli.base.errors import ConfigError, InputError, MfdError, OutputError
from mfd_cli.contig.config import GwasSection
from mfd_cli.contig.core.association import inverse_normal, orthonormal, principal_components
from mfd_cli.contig.data.plink import PlinkFile, open_plink, write_plink
from mfd_cli.contig.data.tables import Table
from mfd_cli.contig.gwas.gwas import GwasResult, gwas
from mfd_cli.contig.gwas.inputs import Features
from mfd_cli.formats.tables import read_tsv

SETTINGS = GwasSection(genetic_pcs=0, pcs=5, p1=1e-4, p2=1e-3)
DATE = datetime.date(2026, 11, 30)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> GeneticWorld:
    return genetic_world(tmp_path_factory.mktemp("world"))


def noise_of(features: Features, seed: int = 3) -> Features:
    matrix = np.random.default_rng(seed).standard_normal(features.matrix.shape)
    return dataclasses.replace(features, name="random", matrix=matrix)


@pytest.fixture(scope="module")
def done(world: GeneticWorld, tmp_path_factory: pytest.TempPathFactory) -> GwasResult:
    beside = {"random": noise_of(world.features)}
    output = tmp_path_factory.mktemp("done") / "gwas"
    return gwas(world.features, world.genotypes, world.covariates, SETTINGS, output, beside=beside, date=DATE)


def ssf_rows(path: Path) -> list[dict[str, str]]:
    header, *lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"))) for line in lines]


# -- what is found -----------------------------------------------------------------------------------------------------


def test_the_planted_variant_is_found_and_nothing_else(world: GeneticWorld, done: GwasResult) -> None:
    rows = read_tsv(done.output / "loci.tsv", ("variant",), ("beta", "n", "members", "start", "end", "frequency"))
    assert [row["variant"] for row in rows] == [f"rs{CAUSAL + 1}"] == [row["variant"] for row in done.loci]
    row = rows[0]
    assert row["pc"] == "PC01" and abs(row["beta"]) > 0.3
    assert row["effect_allele"] == world.genotypes.variants.effect_allele[CAUSAL]
    known = world.dosages[CAUSAL] >= 0
    assert row["n"] == known.sum() and row["frequency"] == pytest.approx(
        world.dosages[CAUSAL][known].mean() / 2, rel=1e-5
    )
    assert row["start"] <= world.genotypes.variants.position[CAUSAL] <= row["end"]
    assert all(0.3 < size < 2.5 for size in done.lambdas) and len(done.lambdas) == 5
    assert "1 locus" in done.lines()


def test_a_control_stands_beside(done: GwasResult) -> None:
    model, random = read_tsv(done.output / "beside.tsv", ("run",), ("loci", "chi_square", "regions", "lambda"))
    assert (model["run"], random["run"]) == ("model", "random")
    assert (model["loci"], random["loci"], model["regions"]) == (1, 0, 1)
    assert model["chi_square"] > 2.5 * random["chi_square"] > 0


def test_known_regions_are_compared(world: GeneticWorld, tmp_path: Path) -> None:
    """A region of a BED file begins at 0 and ends before its end: the causal variant alone, and a place without any."""
    position = int(world.genotypes.variants.position[CAUSAL])
    (tmp_path / "known.bed").write_text(f"chr1\t{position - 1}\t{position}\nchr1\t5\t900\n")
    result = gwas(
        world.features, world.genotypes, world.covariates, SETTINGS, tmp_path / "o", regions=tmp_path / "known.bed"
    )
    assert [row["regions"] for row in result.beside] == [1]
    t = result.loci[0]["beta"] / result.loci[0]["standard_error"]
    assert result.beside[0]["chi_square"] == pytest.approx(t * t, rel=1e-5)


def test_every_file_is_there_for_its_owner_alone(done: GwasResult) -> None:
    names = {path.name for path in done.output.iterdir()} - {".mfd-folder"}
    tables = {f"PC{number:02d}.ssf.tsv.gz" for number in range(1, 6)}
    assert names == tables | {f"{name}-meta.yaml" for name in tables} | {
        "minp.parquet", "per-pc.parquet", "loci.tsv", "skipped.tsv", "beside.tsv", "persons.txt", "report.html",
        "manhattan.png", "manhattan.svg", "qq.png", "qq.svg",
    }  # fmt: skip
    assert stat.S_IMODE(done.output.stat().st_mode) == 0o700


def test_tables_agree_with_each_other(world: GeneticWorld, done: GwasResult) -> None:
    minp = pq.read_table(done.output / "minp.parquet").to_pydict()
    per_pc = pq.read_table(done.output / "per-pc.parquet").to_pydict()
    assert minp["variant"] == list(world.genotypes.variants.name)
    chances = np.array(per_pc["neg_log_10_p"])
    assert np.allclose(minp["neg_log_10_p"], np.maximum(chances.max(axis=1) - np.log10(5), 0), atol=1e-5)
    assert minp["pc"] == [f"PC{1 + index:02d}" for index in chances.argmax(axis=1)]
    third = ssf_rows(done.output / "PC03.ssf.tsv.gz")
    assert np.allclose([float(row["beta"]) for row in third], np.array(per_pc["beta"])[:, 2], rtol=1e-5)
    assert [int(row["n"]) for row in third] == minp["n"]


def test_nothing_to_test_is_said(world: GeneticWorld, tmp_path: Path) -> None:
    """Empty tables and pictures, and a word; not an error, since a control may be so."""
    ones = np.ones_like(world.dosages)
    write_plink(tmp_path / "g.bed", world.genotypes.persons, world.genotypes.families, world.genotypes.variants, ones)
    beside = {"random": noise_of(world.features)}
    genotypes = open_plink(tmp_path / "g.bed")
    result = gwas(world.features, genotypes, world.covariates, SETTINGS, tmp_path / "o", beside=beside)
    assert result.skipped == {"monomorphic": 60} and result.loci == [] and result.tested == 0
    assert "no variant could be tested" in result.lines()
    assert ssf_rows(tmp_path / "o" / "PC01.ssf.tsv.gz") == []
    assert pq.read_table(tmp_path / "o" / "minp.parquet").num_rows == 0


def test_workers_and_runs_beside_change_no_number(world: GeneticWorld, done: GwasResult, tmp_path: Path) -> None:
    gwas(world.features, world.genotypes, world.covariates, SETTINGS, tmp_path / "o", date=DATE, workers=3)
    for name in ("PC01.ssf.tsv.gz", "PC05.ssf.tsv.gz"):
        for mine, theirs in zip(ssf_rows(tmp_path / "o" / name), ssf_rows(done.output / name)):
            assert float(mine["beta"]) == pytest.approx(float(theirs["beta"]), rel=1e-6)
    assert not (tmp_path / "o" / "beside.tsv").exists()


def test_the_page_says_what_was_found(done: GwasResult) -> None:
    page = (done.output / "report.html").read_text()
    for text in ("1 locus (P of at most 0.0001)", f"rs{CAUSAL + 1}", "Beside other runs", "random", "data:image/png"):
        assert text in page
    assert "p0001" not in page  # nobody is named


# -- GWAS-SSF ----------------------------------------------------------------------------------------------------------


def test_columns_stand_in_the_order_of_the_format(done: GwasResult) -> None:
    lines = gzip.decompress((done.output / "PC01.ssf.tsv.gz").read_bytes()).decode().splitlines()
    assert lines[0].split("\t") == [
        "chromosome", "base_pair_location", "effect_allele", "other_allele", "beta", "standard_error",
        "effect_allele_frequency", "neg_log_10_p_value", "rsid", "n",
    ]  # fmt: skip
    assert len(lines) == 61 and all(len(line.split("\t")) == 10 for line in lines)
    for row in ssf_rows(done.output / "PC01.ssf.tsv.gz"):
        assert 1 <= int(row["chromosome"]) <= 25 and int(row["base_pair_location"]) > 0
        assert set(row["effect_allele"] + row["other_allele"]) <= set("ACGT")
        assert float(row["standard_error"]) > 0 and float(row["neg_log_10_p_value"]) >= 0
        assert 0 <= float(row["effect_allele_frequency"]) <= 1


def test_metadata_say_what_was_done(done: GwasResult) -> None:
    path = done.output / "PC01.ssf.tsv.gz"
    about = yaml.safe_load(path.with_name(path.name + "-meta.yaml").read_text())
    assert about["data_file_md5sum"] == hashlib.md5(path.read_bytes()).hexdigest()
    assert about["data_file_name"] == path.name and about["file_type"] == "GWAS-SSF v1.0"
    assert about["date_metadata_last_modified"] == DATE
    assert about["coordinate_system"] == "1-based" and about["genome_assembly"] == "NR"
    assert about["samples"] == [{"sample_size": 400, "sample_ancestry": ["NR"]}]
    assert about["adjusted_covariates"] == ["sex", "age"] and about["genotyping_technology"] == ["NR"]
    assert about["is_sorted"] is True and about["is_harmonised"] is False
    assert about["trait_description"][0].startswith("PC01") and about["minor_allele_freq_lower_limit"] == 0.01


def test_what_the_format_cannot_hold_is_listed(world: GeneticWorld, tmp_path: Path) -> None:
    """Chromosomes by PLINK's numbers, long names, other alleles; what is not tested says why."""
    variants = world.genotypes.variants
    chromosome, name, effect = list(variants.chromosome), list(variants.name), list(variants.effect_allele)
    position = variants.position.copy()
    chromosome[-1], chromosome[-2], chromosome[-3], chromosome[-4] = "26", "chrX", "HLA", "0"
    effect[0], name[1], position[2], effect[3] = "<DEL>", ".", 0, "acg"
    dosages = world.dosages.copy()
    dosages[5], dosages[6, :300], dosages[7], dosages[7, 0] = 1, -1, 0, 1
    odd = dataclasses.replace(
        variants,
        chromosome=tuple(chromosome),
        name=tuple(name),
        effect_allele=tuple(effect),
        position=position,
    )
    write_plink(tmp_path / "g.bed", world.genotypes.persons, world.genotypes.families, odd, dosages)
    said = list[str]()
    result = gwas(
        world.features, open_plink(tmp_path / "g.bed"), world.covariates, SETTINGS, tmp_path / "o", warn=said.append
    )
    assert result.skipped == {"maf": 1, "missing": 1, "monomorphic": 1} and result.tested == 57
    assert any("X, Y and MT" in text for text in said)
    reasons = {row["variant"]: row["reason"] for row in read_tsv(tmp_path / "o" / "skipped.tsv", ("variant", "reason"))}
    assert [reasons[f"rs{row}"] for row in (6, 7, 8)] == ["monomorphic", "missing", "maf"]
    assert reasons["rs1"].endswith("alleles are not A, C, G, T") and reasons["rs3"].endswith("position is 0")
    assert (
        {reasons["rs58"], reasons["rs57"]} == {reasons["rs58"]}
        and "chromosome" in reasons["rs58"]
        and len(reasons) == 7
    )
    rows = ssf_rows(tmp_path / "o" / "PC01.ssf.tsv.gz")
    assert len(rows) == 53 and [row["chromosome"] for row in rows[-2:]] == ["23", "25"]
    assert rows[0]["rsid"] == "#NA" and rows[1]["effect_allele"] == "ACG"
    about = yaml.safe_load((tmp_path / "o" / "PC01.ssf.tsv.gz-meta.yaml").read_text())
    assert about["is_sorted"] is True


# -- who is tested -----------------------------------------------------------------------------------------------------


def test_one_of_a_family_is_tested(world: GeneticWorld, tmp_path: Path) -> None:
    """The one with most images, then the one whose id comes first."""
    persons = world.features.persons
    family = dict.fromkeys(persons, "")
    family |= {person: person for person in persons} | dict.fromkeys(("p0001", "p0002", "p0003"), "one")
    family |= dict.fromkeys(("p0010", "p0009"), "two")
    images = np.array([5 if person == "p0002" else 1 for person in persons])
    related = dataclasses.replace(world.features, families=tuple(family[person] for person in persons), images=images)
    said = list[str]()
    result = gwas(related, world.genotypes, world.covariates, SETTINGS, tmp_path / "o", warn=said.append)
    tested = {line.split("\t")[1] for line in (tmp_path / "o" / "persons.txt").read_text().splitlines()[1:]}
    assert set(persons) - tested == {"p0001", "p0003", "p0010"} and result.persons == 397
    assert said == ["3 persons are left out: related to somebody tested"]
    everyone = gwas(related, world.genotypes, world.covariates, SETTINGS, tmp_path / "all", related=True)
    assert everyone.persons == 400 and "related" in everyone.warnings[0]


def test_who_lacks_a_covariate_is_left_out(world: GeneticWorld, tmp_path: Path) -> None:
    age = np.array(world.covariates.columns["age"])
    age[:7] = np.nan
    sex = ("",) + tuple(world.covariates.columns["sex"][1:])
    half = Table(None, world.covariates.persons, {"age": age, "sex": sex})
    result = gwas(world.features, world.genotypes, half, SETTINGS, tmp_path / "o")
    assert result.persons == 393 and "7 persons are left out: without all covariates" in result.warnings


def test_the_order_of_features_and_covariates_does_not_matter(
    world: GeneticWorld, done: GwasResult, tmp_path: Path
) -> None:
    order = np.random.default_rng(3).permutation(400)
    people = tuple(world.features.persons[index] for index in order)
    turned = Features("model", people, world.features.matrix[order], people, np.ones(400))
    columns = {"sex": world.covariates.columns["sex"][::-1], "age": world.covariates.columns["age"][::-1]}
    result = gwas(
        turned, world.genotypes, Table(None, world.covariates.persons[::-1], columns), SETTINGS, tmp_path / "o"
    )
    assert (tmp_path / "o" / "persons.txt").read_bytes() == (done.output / "persons.txt").read_bytes()
    for mine, theirs in zip(result.loci, done.loci):
        assert mine["neg_log_10_p"] == pytest.approx(theirs["neg_log_10_p"], rel=1e-9)


def test_the_same_inputs_give_the_same_bytes(
    world: GeneticWorld, done: GwasResult, tmp_path: Path, every_sketch: None
) -> None:
    """Only the date of the metadata may differ."""
    beside = {"random": noise_of(world.features)}
    gwas(world.features, world.genotypes, world.covariates, SETTINGS, tmp_path / "o", beside=beside, date=DATE)
    for path in sorted(done.output.iterdir()):
        assert (tmp_path / "o" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.skipif(not shutil.which("plink2"), reason="no plink2")
def test_plink2_gives_the_same_with_genetic_components(world: GeneticWorld, tmp_path: Path) -> None:
    """Through the files: persons.txt as --keep, the traits and covariates as they were used, PC02 to 2e-5 of se."""
    gwas(world.features, world.genotypes, world.covariates, SETTINGS, tmp_path / "o")
    place = {person: row for row, person in enumerate(world.features.persons)}
    matrix = world.features.matrix[[place[person] for person in world.genotypes.persons]]
    sex = np.array([float(text == "M") for text in world.covariates.columns["sex"]])
    basis = orthonormal(np.stack([sex, world.covariates.columns["age"]], axis=1))[0]
    components = principal_components(matrix, 5)
    trait = inverse_normal(components - basis @ (basis.T @ components))[:, 1].tolist()
    rows = zip(world.genotypes.persons, trait, sex.tolist(), world.covariates.columns["age"].tolist())
    (tmp_path / "t").write_text("#IID\tY\tsex\tage\n" + "".join(f"{p}\t{y!r}\t{s!r}\t{a!r}\n" for p, y, s, a in rows))
    command = (
        f"plink2 --bfile {world.genotypes.path.with_suffix('')} --keep o/persons.txt --pheno t --pheno-name Y --covar t "
        "--covar-name sex,age --covar-variance-standardize --glm hide-covar --threads 1 --out x"
    )
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    header, *lines = [line.split("\t") for line in (tmp_path / "x.Y.glm.linear").read_text().splitlines()]
    at = {name: index for index, name in enumerate(header)}
    ours = {row["rsid"]: row for row in ssf_rows(tmp_path / "o" / "PC02.ssf.tsv.gz")}
    assert len(ours) == len(lines) == 60
    for cells in lines:
        row = ours[cells[at["ID"]]]
        sign = 1 if cells[at["A1"]] == row["effect_allele"] else -1
        error = float(row["standard_error"])
        assert abs(sign * float(cells[at["BETA"]]) - float(row["beta"])) < 2e-5 * error
        assert abs(float(cells[at["SE"]]) - error) < 2e-5 * error
        assert cells[at["OBS_CT"]] == row["n"]


def test_genetic_components_take_structure_out(tmp_path: Path) -> None:
    """Two populations that differ in frequencies and in a feature: inflated without components, not with them."""
    rng = np.random.default_rng(4)
    persons, count = 900, 400
    population = np.arange(persons) % 2
    frequency = np.clip(
        rng.uniform(0.2, 0.8, (count, 1)) + np.outer(rng.normal(0, 0.08, count), population - 0.5), 0.05, 0.95
    )
    dosages = rng.binomial(2, frequency).astype(np.int8)

    ids = tuple(f"p{number}" for number in range(persons))
    write_plink(tmp_path / "g.bed", ids, ids, variants_of(count), dosages)
    tested = slice(0, 500)
    matrix = rng.standard_normal((500, 4))
    matrix[:, 0] += 1.5 * population[tested]
    features = Features("model", ids[tested], matrix, ids[tested], np.ones(500))
    genotypes = open_plink(tmp_path / "g.bed")
    settings = GwasSection(pcs=1, genetic_pcs=0, p1=1e-6, p2=1e-5)
    plain = gwas(features, genotypes, None, settings, tmp_path / "plain")
    said = list[str]()
    clean = gwas(
        features, genotypes, None, settings.model_copy(update={"genetic_pcs": 2}), tmp_path / "clean", warn=said.append
    )
    assert plain.lambdas[0] > 1.5 and 0.75 < clean.lambdas[0] < 1.25
    assert any("no covariates are given: not adjusted for sex, age" in text for text in said)
    assert any("variants only" in text for text in said) and not any("fitted on the tested" in text for text in said)
    about = yaml.safe_load((tmp_path / "clean" / "PC01.ssf.tsv.gz-meta.yaml").read_text())
    assert about["adjusted_covariates"] == ["genetic PC 1", "genetic PC 2"]


# -- what is wrong -----------------------------------------------------------------------------------------------------


def refused(world: GeneticWorld, tmp_path: Path, error: type[MfdError], match: str, **changed: object) -> MfdError:
    """The error of a run with something changed; nothing is left in the folder."""
    given = {
        "features": world.features, "genotypes": world.genotypes, "covariates": world.covariates, "settings": SETTINGS,
        "output": tmp_path / "o", **changed,
    }  # fmt: skip
    with pytest.raises(error, match=match) as caught:
        gwas(**given)  # type: ignore[arg-type]
    assert not (tmp_path / "o").exists() and not list(tmp_path.glob(".o*"))
    return caught.value


def renamed(features: Features, prefix: str) -> Features:
    return dataclasses.replace(features, persons=tuple(f"{prefix}{person}" for person in features.persons))


def test_no_shared_person_shows_three_ids_of_each_side(world: GeneticWorld, tmp_path: Path) -> None:
    error = refused(world, tmp_path, InputError, "share no person", features=renamed(world.features, "x"))
    assert "p0000, p0001, p0002, ... " in f"{error} " and str(error).count("xp") == 3


def test_no_shared_person_with_covariates(world: GeneticWorld, tmp_path: Path) -> None:
    other = dataclasses.replace(world.covariates, persons=tuple(f"c{person}" for person in world.covariates.persons))
    refused(world, tmp_path, InputError, r"no genotyped person has all covariates \(sex, age\)", covariates=other)


def test_too_few_persons(world: GeneticWorld, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"least_persons": 401})
    refused(
        world,
        tmp_path,
        InputError,
        r"400 persons can be tested, fewer than gwas.least_persons \(401\)",
        settings=settings,
    )


def test_an_unknown_covariate(world: GeneticWorld, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"covariates": ("sexx",)})
    refused(world, tmp_path, ConfigError, "gwas.covariates names 'sexx'.*did you mean sex", settings=settings)


def test_a_covariate_of_many_texts(world: GeneticWorld, tmp_path: Path) -> None:
    names = Table(Path("c.tsv"), world.covariates.persons, {"name": world.covariates.persons})
    settings = SETTINGS.model_copy(update={"covariates": ("name",)})
    refused(
        world, tmp_path, InputError, "c.tsv: column name has 400 different texts", covariates=names, settings=settings
    )


def test_other_runs_are_of_the_same_persons(world: GeneticWorld, tmp_path: Path) -> None:
    other = renamed(noise_of(world.features), "x")
    refused(world, tmp_path, InputError, "features random lack 400 of the 400 persons", beside={"random": other})
    refused(world, tmp_path, InputError, "two runs are called model", beside={"model": world.features})


def test_features_without_differences(world: GeneticWorld, tmp_path: Path) -> None:
    same = dataclasses.replace(world.features, matrix=np.ones((400, 3)))
    refused(world, tmp_path, InputError, "are the same for all persons", features=same)
    with pytest.raises(InputError, match="those of 1 persons are not finite"):
        dataclasses.replace(world.features, matrix=np.where(np.arange(400)[:, None] == 3, np.nan, 1.0))
    with pytest.raises(InputError, match="1 persons are there twice"):
        dataclasses.replace(world.features, persons=("p0001", *world.features.persons[1:]))


def test_too_few_variants_for_genetic_components(world: GeneticWorld, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"genetic_pcs": 30})
    error = refused(world, tmp_path, InputError, "30 genetic components cannot be made of", settings=settings)
    assert error.hint and "gwas.genetic_pcs = 0" in error.hint


def test_a_folder_of_others_is_not_replaced(world: GeneticWorld, tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "thesis.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(OutputError):
            gwas(world.features, world.genotypes, world.covariates, SETTINGS, tmp_path / "o", force=force)
    assert (tmp_path / "o" / "thesis.txt").read_text() == "mine"


def test_an_older_result_is_replaced_when_asked(world: GeneticWorld, tmp_path: Path) -> None:
    gwas(world.features, world.genotypes, world.covariates, SETTINGS, tmp_path / "o")
    (tmp_path / "o" / "loci.tsv").write_text("old")
    with pytest.raises(OutputError, match="exists already"):
        gwas(world.features, world.genotypes, world.covariates, SETTINGS, tmp_path / "o")
    gwas(world.features, world.genotypes, world.covariates, SETTINGS, tmp_path / "o", force=True)
    assert (tmp_path / "o" / "loci.tsv").read_text().startswith("locus\t")


def test_a_file_that_breaks_on_the_way_leaves_nothing(world: GeneticWorld, tmp_path: Path) -> None:
    shorter = tmp_path / "g.bed"
    shorter.write_bytes(world.genotypes.path.read_bytes()[:-50])
    broken = PlinkFile(shorter, world.genotypes.persons, world.genotypes.families, world.genotypes.variants)
    refused(world, tmp_path, InputError, "has become shorter", genotypes=broken)
