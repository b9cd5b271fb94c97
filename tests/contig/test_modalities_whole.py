"""Several modalities from files to results: every command as it is typed, what it writes, and every kind of faulty input."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from kit import cohorts
from kit.harm import Outcome, in_process, snapshot
from mfd_cli.contig.batches import PairedSplit, fixed_images
from mfd_cli.contig.config import ContigProject, load_contig
from mfd_cli.contig.core.ranks import measures, ranks
from mfd_cli.contig.data.cohort import Cohort, open_cohort
from mfd_cli.contig.data.packed_calls import unpacked
from mfd_cli.contig.data.persons import SPLITS
from mfd_cli.contig.data.plink import open_plink, write_plink
from mfd_cli.contig.data.tables import read_table
from mfd_cli.contig.over_all import similarities
from mfd_cli.contig.prepare import check, prepare
from mfd_cli.contig.run import load_run
from mfd_cli.contig.seen import see
from mfd_cli.contig.train import train

KINDS = ("burden", "pgs", "snps", "table")
QUIET = ["--gpus", "0", "--threads", "1", "-q"]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Outcome]]:
    """Every command once, in order, in a folder of its own."""
    folder = tmp_path_factory.mktemp("story")
    words = ["--modalities", "snps,pgs,burden,table", "--missing", "0.3", "--h2", "0.85", "--nuisance", "0.2"]
    done = {"simulate": in_process(["contig", "simulate", "p", *words, "-q"], folder)}
    lines = {
        "check": ["check", "--images", "50", "-q"],
        "prepare": ["prepare", "-q"],
        "train": ["train", "--epochs", "2", "--controls", "random,shuffled", *QUIET],
        "inner": [
            "train",
            "--epochs",
            "1",
            "--join",
            "inner",
            "--modalities",
            "snps, burden",
            "--run",
            "inner",
            *QUIET,
        ],
        "embed": ["embed", "--by", "person", "--projections", *QUIET],
        "retrieve": ["retrieve", *QUIET],
        "complete": ["retrieve", "--join", "inner", "-o", "complete", *QUIET],
        "explain": ["explain", *QUIET],
        "gwas": ["gwas", *QUIET[:-1]],
    }
    for name, line in lines.items():
        done[name] = in_process(["contig", *line], folder / "p")
    return folder / "p", done


@pytest.fixture(scope="module")
def project(story: tuple[Path, dict[str, Outcome]]) -> ContigProject:
    return load_contig(story[0] / "contig.toml")


@pytest.fixture(scope="module")
def cohort(project: ContigProject) -> Cohort:
    return open_cohort(project.cohort)


def test_every_command_works(story: tuple[Path, dict[str, Outcome]]) -> None:
    folder, done = story
    assert {name: outcome.code for name, outcome in done.items()} == dict.fromkeys(done, 0), done
    assert "modalities: snps, pgs, burden, table" in done["simulate"].said
    assert "left out: 1 scores of pgs, with fewer than 50% of the variants genotyped" in done["prepare"].said
    assert "persons have burden + pgs + snps + table\n" in done["check"].said
    assert "contig, all: AUC 0." in done["retrieve"].said and "contig, table: AUC 0." in done["retrieve"].said
    assert "% of all attribution (" in done["explain"].said
    assert "sex, age: covariates here, and what contig was trained with (modality table)" in done["gwas"].told
    assert "what contig was trained with" in (folder / "gwas" / "report.html").read_text()
    assert set(load_run(folder / "inner").inputs) == {"snps", "burden"}
    assert "  other inputs: " in in_process(["info", "cohort"], folder).said
    assert "  other inputs: " in in_process(["info", "inner"], folder).said
    names = pq.read_table(folder / "features.parquet").column_names
    assert [name for name in names if name.endswith(".0")] == ["biological.0", *(f"z.{name}.0" for name in KINDS)]


def test_the_cohort_holds_what_the_files_hold(project: ContigProject, cohort: Cohort) -> None:
    """Row by row: calls, numbers, and nothing of those who are not in a file."""
    plink, exome = open_plink(project.folder / "genotypes.bed"), open_plink(project.folder / "exome.bed")
    table = read_table(project.folder / "measurements.tsv")
    files = {"snps": plink.persons, "pgs": plink.persons, "burden": exome.persons, "table": table.persons}
    calls = np.concatenate([block for _, block in plink.blocks()])
    height = np.asarray(table.columns["height"])
    column = cohort.columns["table"].variants.name.index("height")
    missing = np.isnan(np.column_stack([height, table.columns["age"]]))  # the two columns of numbers
    for split in ("train", "test"):
        share = cohort.share(split)
        names = [cohort.people.persons[place] for place in share.persons]
        for name, persons in files.items():
            there = [person in set(persons) for person in names]
            if name == "table":  # a row with more than half missing is absent too
                assert (share.has[name] <= np.array(there)).all()
                gone = [names[row] for row in np.flatnonzero(np.array(there) & ~share.has[name])]
                assert all(missing[table.persons.index(person)].any() for person in gone)
            else:
                assert share.has[name].tolist() == there
        rows = np.flatnonzero(share.has["snps"])
        copies = unpacked(share.codes["snps"].take(rows), len(cohort.columns["snps"]))
        places = [plink.persons.index(names[row]) for row in rows]
        chosen = [plink.variants.name.index(name) for name in cohort.columns["snps"].variants.name]
        assert np.array_equal(copies, np.where(calls < 0, 3, calls)[np.ix_(chosen, places)].T)
        rows = np.flatnonzero(share.has["table"])
        expected = height[[table.persons.index(names[row]) for row in rows]]
        stats = cohort.columns["table"]
        expected = np.nan_to_num((expected - stats.mean[column]) / stats.sd[column])
        assert np.allclose(cohort.inputs(share, "table", rows)[:, column], expected, atol=1e-6)
    persons = pa.ipc.open_file(str(project.cohort / "persons.arrow")).read_all()
    assert [name for name in persons.column_names if name.startswith("has.")] == [f"has.{name}" for name in KINDS]
    place = persons["person"].to_pylist().index(exome.persons[0])
    assert persons["has.burden"][place].as_py() is True


def test_a_polygenic_score_of_the_other_strand_is_the_same_score(project: ContigProject, cohort: Cohort) -> None:
    rows = {row["score"]: row for row in rows_of(project.folder / "cohort-report" / "scores.tsv")}
    truth = {row["score"]: row for row in rows_of(project.folder / "truth" / "scores.tsv")}
    assert set(rows) == set(truth)
    for name, row in rows.items():
        assert row["kept"] == truth[name]["known"]
        assert int(row["flipped"]) == (int(row["variants"]) if truth[name]["other_strand"] == "yes" else 0)
    names = cohort.columns["pgs"].variants.name
    share = cohort.share("train")
    scores = cohort.inputs(share, "pgs", np.flatnonzero(share.has["pgs"]))
    # Both hold the true weights of the same trait, each with noise of its own of the same variance.
    assert np.corrcoef(scores[:, names.index("PGS900001")], scores[:, names.index("PGS900004")])[0, 1] > 0.2


def test_scores_of_the_same_assembly_are_matched_by_position(tmp_path: Path) -> None:
    """Even those whose rsIDs nobody has; the others are the same to the bit."""
    one, two = (
        cohorts.planted_many(tmp_path / name, *settings)
        for name, settings in (("one", ()), ("two", ["data.assembly=hg38"]))
    )
    for each in (one, two):
        prepare(each)
    shares = [open_cohort(each.cohort).share("train") for each in (one, two)]
    names = [open_cohort(each.cohort).columns["pgs"].variants.name for each in (one, two)]
    assert names[1] == (*names[0], "PGS900008")
    having = np.flatnonzero(shares[0].has["pgs"])
    by_name, by_place = (share.codes["pgs"].take(having) for share in shares)
    assert np.array_equal(by_place[:, :-1], by_name)


def test_the_report_counts_patterns_and_missing_cells(project: ContigProject, cohort: Cohort) -> None:
    rows = rows_of(project.folder / "cohort-report" / "patterns.tsv")
    assert sum(int(row["persons"]) for row in rows) == len(cohort.people.persons)
    assert all(sum(int(row[split]) for split in ("train", "validation", "test")) == int(row["persons"]) for row in rows)
    share = cohort.share("train")
    everything = int(np.stack(list(share.has.values())).all(0).sum())
    row = next(row for row in rows if row["modalities"] == "burden + pgs + snps + table")
    assert abs(int(row["train"]) - everything) <= 1  # a person of whom no picture can be used is in no shard
    columns = rows_of(project.folder / "cohort-report" / "columns.tsv")
    assert len(columns) == sum(map(len, cohort.columns.values()))
    height = next(row for row in columns if row["column"] == "height")
    assert 0 < float(height["missing"]) < 0.1 and 165 < float(height["mean"]) < 175


def test_retrieval_over_all_is_of_the_sum_of_the_alignments(project: ContigProject, cohort: Cohort) -> None:
    run = load_run(project.run)
    seen = see(run, cohort, "test", torch.device("cpu"))
    who = seen.share.joined(KINDS, "outer")
    tables = list(similarities(run, seen, fixed_images(run.config, seen.people), who, torch.device("cpu")))
    assert [name for name, *_ in tables] == [*KINDS, "all"]
    total = np.zeros((len(who), len(who)))
    for name, rows, table in tables[:-1]:
        assert rows.tolist() == np.flatnonzero(seen.share.has[name]).tolist() and table.shape == (len(rows),) * 2
        total[np.ix_(rows, rows)] += table.numpy()
    complete = np.flatnonzero(np.stack(list(seen.share.has.values())).all(0))
    _, rows, sums = tables[-1]
    assert len(rows) == len(who)
    assert np.allclose(sums.numpy()[np.ix_(complete, complete)], total[np.ix_(complete, complete)], atol=1e-5)
    value = {(row["modality"], row["measure"]): row for row in rows_of(project.folder / "retrieve" / "retrieval.tsv")
             if row["run"] == "contig" and row["direction"] == "image to person"}  # fmt: skip
    auc = measures(ranks(sums, seen.share.family[rows]))["auc"].mean()
    assert float(value["all", "auc"]["value"]) == pytest.approx(auc, abs=1e-5)
    assert int(value["burden", "auc"]["persons"]) == seen.share.has["burden"].sum()
    inner = rows_of(project.folder / "complete" / "retrieval.tsv")
    assert {row["persons"] for row in inner if row["run"] == "contig"} == {str(len(complete))}


def test_a_lacking_modality_moves_an_image_neither_way(project: ContigProject, cohort: Cohort) -> None:
    """In the sum: whoever lacks one has there the mean of the others."""
    run = load_run(project.run)
    seen = see(run, cohort, "test", torch.device("cpu"))
    images = fixed_images(run.config, seen.people)
    who = seen.share.joined(KINDS, "outer")
    *parts, (_, _, sums) = list(similarities(run, seen, images, who, torch.device("cpu")))
    model, place = run.model, int(np.flatnonzero(~seen.share.has["burden"] & seen.share.has["snps"])[0])
    z = {name: model.image_projection(name, torch.from_numpy(seen.features[images])) for name in KINDS}
    expected = torch.zeros(len(who))
    for name, rows, _ in parts:
        inputs = torch.from_numpy(cohort.inputs(seen.share, name, rows))
        with torch.no_grad():
            table = z[name] @ model.person_projection(name, inputs).T / model.temperature(name, 0.01)
        own = np.flatnonzero(rows == place)
        expected = expected + (table[:, own[0]] if len(own) else table.mean(1))
    assert torch.allclose(sums[:, place], expected, atol=1e-5)


def test_shares_and_bounds_are_those_of_the_attributions(project: ContigProject, cohort: Cohort) -> None:
    folder = project.folder / "explain" / "contig"
    table = pa.ipc.open_file(str(folder / "attributions.arrow")).read_all()
    share = cohort.share("test")
    sums, signed = {}, {}
    for name in KINDS:
        there = table[name].is_valid().to_numpy()
        assert np.array_equal(there, share.has[name]) and table[f"{name}.error"].null_count == int((~there).sum())
        sums[name] = np.array([np.nan if row is None else np.abs(row).sum() for row in table[name].to_pylist()])
        signed[name] = np.array([np.nan if row is None else np.sum(row) for row in table[name].to_pylist()])
    complete = np.isfinite(np.stack(list(sums.values()))).all(0)
    whole = sum(each[complete].sum() for each in sums.values())
    rows = {row["modality"]: row for row in rows_of(folder / "modalities.tsv")}
    for name in KINDS:
        row = rows[name]
        assert float(row["share"]) == pytest.approx(sums[name][complete].sum() / whole, rel=1e-4)
        assert float(row["sum_signed"]) == pytest.approx(signed[name][complete].mean(), rel=1e-4, abs=1e-7)
        assert float(row["low"]) < float(row["share"]) < float(row["high"]) and int(row["persons"]) == complete.sum()
        assert float(row["mean_abs_per_feature"]) * int(row["features"]) == pytest.approx(
            float(row["sum_abs"]), rel=1e-4
        )
    features = rows_of(folder / "attribution.tsv")
    noise = [row for row in features if row["feature"].startswith("noise.")]
    bound = max(float(row["mean_abs"]) + 1.96 * float(row["se"]) for row in noise)
    assert len(noise) == 5 and {row["above_noise"] for row in noise} == {"no"}
    for row in features:
        assert (row["above_noise"] == "yes") == (float(row["mean_abs"]) > bound) or abs(
            float(row["mean_abs"]) / bound - 1
        ) < 1e-4
    assert {row["chromosome"] for row in features if row["modality"] == "table"} == {""}
    assert all(row["chromosome"] and row["position"] for row in features if row["modality"] == "burden")


# -- other ways in ---------------------------------------------------------------------------------------------------------


def as_vcf(bed: Path, path: Path) -> None:
    """Write the calls of a .bed as a packed VCF, with GT and DS."""
    file = open_plink(bed)
    those, columns = (
        file.variants,
        ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *file.persons],
    )
    about = '##FORMAT=<ID={0},Number={1},Type={2},Description="{0}">'
    lines = [
        "##fileformat=VCFv4.2",
        about.format("GT", 1, "String"),
        about.format("DS", "A", "Float"),
        "\t".join(columns),
    ]
    words = np.array(["0/0:0", "0/1:1", "1/1:2", "./.:."])
    for row, calls in enumerate(np.concatenate([block for _, block in file.blocks()])):
        place = [those.chromosome[row], str(those.position[row]), those.name[row]]
        alleles = [those.other_allele[row], those.effect_allele[row]]
        lines.append("\t".join([*place, *alleles, ".", ".", ".", "GT:DS", *words[calls].tolist()]))
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))


def test_a_vcf_gives_the_same_weights_and_the_same_gwas(tmp_path: Path) -> None:
    """Its calls do, and dosages that are whole numbers; a GWAS tests calls alone."""
    project = cohorts.planted(tmp_path / "p")
    as_vcf(project.folder / "genotypes.bed", project.folder / "g.vcf.gz")
    sources = {"bed": ["data.genotypes=genotypes.bed"], "gt": ["data.genotypes=g.vcf.gz"]}
    sources["ds"] = ["data.genotypes=g.vcf.gz", "data.dosage=DS"]
    digests, done = [], {}
    for name, source in sources.items():
        settings = [*source, "train.epochs=1", "train.batch_size=50", f"data.cohort={name}", f"data.run=run-{name}"]
        one = load_contig(project.file, settings)
        prepare(one, force=True)
        digests.append(train(one, gpus=0).digest)
        words = [word for setting in settings for word in ("--set", setting)]
        done[name] = in_process(["contig", "gwas", *QUIET, "-o", f"gwas-{name}", *words], project.folder)
    assert len(set(digests)) == 1
    assert (done["bed"].code, done["gt"].code, done["ds"].code) == (0, 0, 2), done
    assert "a GWAS tests calls, and data.dosage is DS" in done["ds"].told and "plink2 --vcf g.vcf.gz" in done["ds"].told
    tables = [project.folder / f"gwas-{name}" / "PC01.ssf.tsv.gz" for name in ("bed", "gt")]
    assert gzip.decompress(tables[0].read_bytes()) == gzip.decompress(tables[1].read_bytes())


def test_a_person_with_most_calls_missing_lacks_the_modality(tmp_path: Path) -> None:
    """The split of everybody stays as it is, and what the calls that are left say changes nothing."""
    digests = []
    for name, call in (("one", 0), ("two", 2)):
        project = cohorts.planted(tmp_path / name)
        file = open_plink(project.folder / "genotypes.bed")
        calls = np.concatenate([block for _, block in file.blocks()])
        calls[:30, :12] = -1
        calls[30:, :12] = call
        write_plink(project.folder / "genotypes.bed", file.persons, file.families, file.variants, calls)
        report = prepare(project)
        assert report.left_out["rows of snps with more than half missing"] == 12
        assert sum(report.persons.values()) == 400
        assert [(row["modalities"], row["persons"]) for row in report.patterns] == [("snps", 388), ("none of them", 12)]
        cohort, lacking = open_cohort(project.cohort), set[str]()
        before = open_cohort(cohorts.prepared(tmp_path / f"{name}-before").cohort).people
        assert np.array_equal(cohort.people.split, before.split) and cohort.people.persons == before.persons
        for split in SPLITS:
            share, joined = cohort.share(split), PairedSplit.of(cohort, split, join="outer").share
            names = [cohort.people.persons[place] for place in share.persons.tolist()]
            lacking |= {name for name, has in zip(names, share.has["snps"].tolist()) if not has}
            assert len(joined.persons) == share.has["snps"].sum()
        assert lacking <= set(file.persons[:12]) and len(lacking) > 8
        digests.append([(file.name, file.read_bytes()) for file in sorted(project.cohort.rglob("*.arrow"))])
    assert digests[0] == digests[1]


# -- faulty input ------------------------------------------------------------------------------------------------------------


def changed(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    """Change the text of a file of the project."""

    def apply(folder: Path) -> None:
        path = folder / name
        path.write_text(change(path.read_text()))

    return apply


def score_with(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "scores" / "bad.txt").write_text(text)


def nothing(folder: Path) -> None:
    pass


PGS = "#pgs_id=BAD\nrsID\teffect_allele\teffect_weight\n"
BAD: dict[str, tuple[Callable[[Path], None], list[str], str]] = {
    "a weight that is none": (
        score_with(f"{PGS}rs1000\tA\tmuch\n"), ["modalities.pgs.scores=['scores/*']"],
        "scores/bad.txt:3: effect_weight is 'much', no number",
    ),
    "a score twice": (
        lambda folder: shutil.copy(folder / "scores" / "PGS900001.txt.gz", folder / "scores" / "z.txt.gz"), [],
        "scores/z.txt.gz: is score PGS900001, as ",
    ),
    "no score": (nothing, ["modalities.pgs.scores=['scores/*.tsv']"], "modalities.pgs.scores: there is no file scores/*.tsv"),
    "scores of unknown variants": (
        nothing, ["modalities.pgs.scores=['scores/PGS900008.txt.gz']"],
        "modalities.pgs: all 1 scores are with fewer than 50% of the variants genotyped; PGS900008: 0 of 50",
    ),
    "an annotation that is cut": (
        changed("annotation.txt", lambda t: t[:-8]), [], "annotation.txt:400: has 2 words, and a line has 3",
    ),
    "a class that nobody has": (
        changed("masks.txt", lambda t: t.replace("LoF ", "lof lof,")), [],
        "masks.txt:1: class 'lof' is that of no variant; did you mean LoF?",
    ),
    "other variants": (
        changed("sets.txt", lambda t: t.replace("rare", "v")), [], "sets.txt: names no variant of exome.bed (v001, v002, v003",
    ),
    "no file of the exome": (lambda folder: (folder / "exome.bim").unlink(), [], "exome.bim: no such file"),
    "a person twice": (
        changed("measurements.tsv", lambda t: t + t.splitlines()[1] + "\n"), [], "measurements.tsv:",
    ),
    "a number that is none": (
        changed("measurements.tsv", lambda t: "\n".join([*t.splitlines()[:3], "P99999\told\tmale\t1\tno", ""])), [],
        "measurements.tsv:4: column age: 'old' is no number",
    ),
    "a column of many words": (
        changed("measurements.tsv", lambda t: t.replace("\tno\n", "\tperhaps\n", 3)), [],
        "measurements.tsv: column smoker has 3 different words (no, perhaps, yes)",
    ),
    "a column that is not there": (
        nothing, ["modalities.table.columns=['weight']"],
        "modalities.table.columns names 'weight', which measurements.tsv does not",
    ),
    "a column called noise": (
        changed("measurements.tsv", lambda t: t.replace("height", "noise.1", 1)), [], "a column is called noise.N, as",
    ),
    "nobody in common": (
        changed("measurements.tsv", lambda t: t.replace("\nP", "\nQ")), [], "is in measurements.tsv (Q",
    ),
    "a setting of another kind": (nothing, ["modalities.snps.noise=3"], "noise is a setting of kind table, not of snps"),
    "no scores": (nothing, ["modalities.pgs.scores=[]"], "kind pgs needs scores"),
    "masks alone": (
        nothing, ["modalities.more.kind=burden", "modalities.more.masks=masks.txt"],
        "burden: annotation, sets and masks belong together, and masks alone is given",
    ),
    "weights without a build": (
        nothing, ["modalities.burden.weights=a:B"], 'burden: build = "weighted" and weights = "FILE:COLUMN"',
    ),
    "weights that are not there": (
        nothing, ["modalities.burden.weights=w.tsv:B", "modalities.burden.build=weighted"], "w.tsv: no such file",
    ),
    "a kind that is none": (
        nothing, ["modalities.snps.kind=snp"], "modalities.snps.kind: Input should be 'snps', 'pgs', 'burden' or 'table'",
    ),
    "a VCF that is none": (
        lambda folder: (folder / "g.vcf").write_text("no\n"), ["data.genotypes=g.vcf"],
        "g.vcf:1: does not start with ##fileformat",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD))
def test_a_mistake_is_one_plain_line_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    make, settings, says = BAD[name]
    folder = cohorts.planted_many(tmp_path / "p").folder
    make(folder)
    before = snapshot(folder)
    words = [word for setting in settings for word in ("--set", setting)]
    done = in_process(["contig", "prepare", "-q", *words], folder)
    assert done.code == 2 and says in done.told and "Traceback" not in done.told, done.told
    assert done.told.count("mfd: error:") == 1 and snapshot(folder) == before


def test_several_faults_are_told_together(tmp_path: Path) -> None:
    project = cohorts.planted_many(tmp_path / "p")
    (project.folder / "exome.bim").unlink()
    (project.folder / "measurements.tsv").write_text("who\tage\nA\t1\n")
    (project.folder / "scores" / "bad.txt.gz").write_text("no")
    done = in_process(["contig", "check", "-q"], project.folder)
    assert done.code == 2 and all(name in done.told for name in ("exome.bim", "measurements.tsv", "scores/bad.txt.gz"))


def test_modalities_that_are_none(story: tuple[Path, dict[str, Outcome]], tmp_path: Path) -> None:
    folder, _ = story
    for line, says in (
        (["train", "--modalities", "snip"], "--modalities names 'snip', which the project has not"),
        (["train", "--join", "left"], "objective.join: Input should be 'outer' or 'inner'"),
        (["retrieve", "--join", "left", "-o", "new"], "--join is 'left', not one of outer, inner"),
        (["simulate", str(tmp_path / "new"), "--modalities", "snps,genes"], "modalities: there is no 'genes'"),
        (["simulate", str(tmp_path / "new"), "--missing", "0.95"], "missing is 0.95; it must be between 0 and 0.9"),
    ):
        done = in_process(["contig", *line, "-q"], folder)
        assert done.code == 2 and says in done.told and "Traceback" not in done.told, done.told
    assert not (tmp_path / "new").exists()


def test_check_says_the_same_as_prepare(tmp_path: Path) -> None:
    project = cohorts.prepared_many(tmp_path / "p")
    before = snapshot(project.folder)
    found = check(project)
    assert snapshot(project.folder) == before
    rows = rows_of(project.folder / "cohort-report" / "patterns.tsv")
    assert [{name: str(value) for name, value in row.items()} for row in found.patterns] == rows
    told = json.loads(in_process(["contig", "check", "--images", "10", "--json", "-q"], project.folder).said)
    assert told["patterns"] == found.patterns and told["kinds"]["burden"] == "burden"
