"""The command line: every command once through its real entry point, on planted data; what users get when they err."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from kit import harm, warm
from kit.places import TESTS
from mfd_cli.evaluation import qc
from mfd_cli.simulate.simulate import simulate

MFD = [sys.executable, "-m", "mfd_cli"]
ANEW = str(TESTS / "kit" / "anew.py")
COLD = {"simulate", "preprocess", "train", "score-variants", "explain"}
"""Commands that a shell starts here until they have done their work once; the others are started so that they import what is
the program's own (kit/anew.py)."""
DONE: set[str] = set()


def mfd(*words: str, folder: Path, expect: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """`mfd words` in a process of its own, in which its modules are not there before it has done its work once."""
    if words[0] in DONE:
        done = warm.run(["-m", "mfd_cli", *words], folder, stdin)
    elif words[0] not in COLD:
        done = warm.run([ANEW, *words], folder, stdin)
    else:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*MFD, *words], cwd=folder, capture_output=True, text=True, env=environment, input=stdin, timeout=300
        )
    if expect == 0 == done.returncode:
        DONE.add(words[0])
    assert done.returncode == expect, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def call(*words: str, folder: Path) -> harm.Outcome:
    """The same inside this process, where importing torch once is enough."""
    done = harm.in_process(words, folder)
    assert done.code == 0 and "Traceback" not in done.told, f"{words}: {done.code}\n{done.said}\n{done.told}"
    return done


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny planted project on which the four lines have been run, with a smaller network than a user gets."""
    folder = tmp_path_factory.mktemp("cli") / "planted"
    mfd("simulate", str(folder), "--size", "tiny", "-q", folder=folder.parent)
    shrink(folder)
    mfd("preprocess", "--threads", "1", folder=folder)
    mfd("train", "--gpus", "0", folder=folder)
    mfd("score-variants", "input.vcf", folder=folder)
    mfd("explain", "--factor", "assay", folder=folder)
    return folder


def shrink(folder: Path) -> None:
    toml = (folder / "mfd.toml").read_text()
    shape = "width = 8\nwindow = 384\nlatent = 16\nhidden = 8\nfilters = 4"
    smaller = toml.replace('preset = "small"', f'preset = "small"\n{shape}')
    (folder / "mfd.toml").write_text(smaller.replace("epochs = 4", "epochs = 2"))
    assert "width = 8" in smaller and "epochs = 4" in smaller


def test_the_four_lines_leave_what_they_promise(project: Path) -> None:
    for name in (
        "dataset/manifest.json",
        "run/model.safetensors",
        "run/model.json",
        "run/metrics.jsonl",
        "run/curves.png",
        "input.mfd.vcf.gz",
        "input.mfd.vcf.gz.tbi",
        "input.mfd.parquet",
        "input.mfd.skipped.tsv",
        "explain/assay/report.html",
        "explain/assay/levels.tsv",
        "explain/assay/attributions.arrow",
        "explain/assay/ChIP-seq.bw",
    ):
        assert (project / name).stat().st_size > 0, name
    records = sum(not line.startswith("#") for line in (project / "input.vcf").read_text().splitlines())
    assert len(pq.read_table(project / "input.mfd.parquet")) == records + 1  # one record has two alleles


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_second_line_says_so_in_one_line(project: Path) -> None:
    done = mfd("train", "--gpus", "1", folder=project, expect=2)
    assert done.stderr.splitlines() == ["mfd: error: no CUDA GPU is available here", "hint: --gpus 0 runs on the CPU"]


def test_evaluate_info_verify_and_check_design(project: Path) -> None:
    told = json.loads(mfd("evaluate", "--json", "-q", folder=project).stdout)
    assert told["split"] == "test" and told["tracks"] == 14
    assert "AUROC" in call("evaluate", "-q", "--no-probes", folder=project).said.upper()
    said = mfd("report", "--explanations", "explain", folder=project).stdout
    assert said.endswith("page: run/report.html\n") and "accuracy on the test bins" in said
    assert '<a href="../explain/assay/report.html">assay</a>' in (project / "run/report.html").read_text()
    info = mfd("info", folder=project).stdout
    assert "dataset: dataset" in info and "run: run" in info and "peak tracks: 12" in info
    assert "as it was written" in mfd("verify", folder=project).stdout
    design = mfd("check-design", "-o", "design", folder=project)
    assert "13 tracks" in design.stdout and (project / "design" / "design.png").is_file()


def test_impute_and_sweep(project: Path) -> None:
    told = mfd("impute", "-q", folder=project).stdout
    assert "same target: AUROC" in told and (project / "impute" / "predictions.parquet").is_file()
    summary = json.loads(call("impute", "--json", "-q", "--force", folder=project).said)
    assert summary["experiments"] == summary["scored"] == 1
    words = [
        "--sweep",
        "train.lr=0.001,0.004",
        "--seeds",
        "1",
        "--epochs",
        "1",
        "--run",
        "sweeping",
        "--gpus",
        "0",
        "-q",
    ]
    told = call("train", *words, folder=project).said
    assert "recommended: --set train.lr=0.004" in told or "no change is recommended from --set train.lr=0.001" in told
    for seed in (1, 2):  # one seed would not tell what seeds alone make
        assert (project / "sweeping" / "sweep" / "0.004" / f"seed-{seed}" / "model.safetensors").is_file()
    assert harm.in_process(("train", "--sweep", "train.lr=0.001"), project).code == 2


def test_init_writes_a_project_that_works(project: Path, tmp_path: Path) -> None:
    work = tmp_path / "own"
    shutil.copytree(project, work, ignore=shutil.ignore_patterns("dataset", "run", "explain", "input.mfd*", "mfd.toml"))
    done = mfd("init", "--fasta", "genome.fa", "--metadata", "metadata.tsv", folder=work)
    for factor in ("target", "biosample", "assay", "lab", "year"):
        assert f"  {factor} " in done.stdout
    call("preprocess", "-q", "--threads", "1", folder=work)
    assert harm.in_process(("init", "--fasta", "genome.fa", "--metadata", "metadata.tsv"), work).code == 2


def test_standard_input_to_standard_output(project: Path, tmp_path: Path) -> None:
    text = (project / "input.vcf").read_text()
    done = mfd(
        "score-variants",
        "-",
        "-o",
        "-",
        "--set",
        f"data.run={project / 'run'}",
        "-c",
        str(project / "mfd.toml"),
        folder=tmp_path,
        stdin=text,
    )
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert len(lines) == sum(not line.startswith("#") for line in text.splitlines())
    assert all("MFD_BIO=" in line for line in lines)


def test_the_same_seed_gives_the_same_scores(project: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    simulate(again, size="tiny", seed=1)
    shrink(again)
    call("preprocess", "-q", "--threads", "2", folder=again)
    for name in ("manifest.json", "tracks.arrow", "genome.arrow"):
        assert (again / "dataset" / name).read_bytes() == (project / "dataset" / name).read_bytes()
    call("train", "--gpus", "0", "-q", folder=again)
    curves = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in (f / "run/metrics.jsonl").open()]
        for f in (again, project)
    ]
    assert curves[0] == curves[1]
    call("score-variants", "input.vcf", "-q", folder=again)
    assert (again / "input.mfd.parquet").read_bytes() == (project / "input.mfd.parquet").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["preprocess", "--fasta", "nothing.fa", "--force"], "nothing.fa: no such file"),
        (["preprocess", "--set", "bins.exclud=x.bed"], "unknown key bins.exclud; did you mean exclude?"),
        (
            ["preprocess", "--set", "bins.min_overlap=500"],
            "bins.min_overlap: Input should be less than or equal to 128 (500)",
        ),
        (["preprocess"], "dataset: exists already"),
        (["preprocess", "-c", "nothing.toml"], "nothing.toml: no such configuration file"),
        (["score-variants", "input.vcf", "-O", "x", "--force"], "-O is 'x', not one of v, z, b, u"),
        (["score-variants", "input.vcf", "--sample", "x", "--force"], "--sample goes with --phased"),
        (["score-variants", "input.vcf", "--phased", "--force"], "input.vcf: has no samples, so no phased genotypes"),
        (["score-variants", "input.vcf", "--bed", "x", "--force"], "x"),
        (["score-variants", "input.vcf", "--tracks", "nope == 1", "--force"], "nope"),
        (["score-variants", "input.vcf", "--fix", "assay=Chip", "--force"], "assay has no level 'Chip'"),
        (["score-variants", "input.vcf", "--ensemble", "--force"], "holds no runs of several seeds"),
        (["score-variants", "input.vcf", "-r", "chr99:1-5", "--force"], "'chr99:1-5' is no region of the genome"),
        (["background", "input.vcf", "--match", "input.vcf"], "--match goes with random substitutions"),
        (["predict"], "which part of the genome?"),
        (["predict", "-r", "chr1", "--experiment", "assay=ATAC"], "assay has no level 'ATAC'"),
        (["predict", "-r", "chr1", "--part", "half"], "--part 'half': the model has total"),
        (["embed", "nothing.bed"], "nothing.bed: no such file"),
        (["qc", "--factor", "asay"], "did you mean assay"),
        (["train", "--gpus", "0", "--seeds", "1,1"], "expected different whole numbers"),
        (["train", "--gpus", "0"], "run: holds a run already"),
        (["train", "--gpus", "0", "--run", "new", "--dataset", "nothing"], "there is no dataset here"),
        (["train", "--gpus", "0", "--run", "new", "--dataset", "nothing"], "hint: run mfd preprocess first"),
        (["train", "--gpus", "0", "--run", "new", "--set", "model.window=1000"], "model.window is 1000"),
        (["explain", "--factor", "asay"], "the model has no factor 'asay'; did you mean assay?"),
        (["score-variants", "nothing.vcf"], "nothing.vcf: no such file"),
        (["score-variants", "input.vcf"], "input.mfd.vcf.gz: exists already"),
        (["score-variants", "input.vcf", "--run", "nothing"], "there is no trained model here"),
        (["score-variants", "http://example.org/x.vcf", "-o", "x.vcf"], "is a URL"),
        (["score-variants", "metadata.tsv", "-o", "x.vcf"], "metadata.tsv:1: does not start with ##fileformat"),
        (["train", "--gpus", "2", "--sweep", "train.lr=0.1,0.2"], "the trainings of a sweep use one GPU each"),
        (["score-variants"], "give either a file of variants or --saturate REGION"),
        (["score-variants", "input.vcf", "--saturate", "chr1"], "give either a file of variants or --saturate REGION"),
        (["explain", "--factor", "assay", "--track", "T1", "--shard", "1/2"], "--shard goes with one factor or track"),
        (["score-variants", "--saturate", "chr99"], "'chr99' is no region of the genome"),
        (["score-variants", "--saturate", "chr1", "--shard", "0/2"], "--shard '0/2' is not I/N"),
        (["score-variants", "input.vcf", "-o", "x.vcf", "--placement", "middle"], "--placement is 'middle'"),
        (["score-variants", "input.vcf", "-o", "x.vcf", "--gpus", "3"], "no CUDA GPU is available here"),
        (["qc", "--gpus", "3"], "this command uses one GPU"),
        (["evaluate", "--split", "tset"], "--split is 'tset'"),
        (["info", "tracks"], "is neither a dataset"),
        (["simulate", "x", "--size", "smal"], "size is 'smal'; did you mean small?"),
    ],
)
def test_errors_are_one_plain_line_and_exit_code_2(project: Path, words: list[str], message: str) -> None:
    before = sorted(str(path) for path in project.rglob("*"))
    done = harm.in_process(words, project)
    assert done.code == 2 and "Traceback" not in done.told
    errors = [line for line in done.told.splitlines() if not line.startswith("hint: ")]
    assert len(errors) == 1 and errors[0].startswith("mfd: error: ") and message in done.told, done.told
    assert sorted(str(path) for path in project.rglob("*")) == before


def test_saturation_and_grid_placement(project: Path, tmp_path: Path) -> None:
    contig = (project / "genome.fa").read_text().split(maxsplit=1)[0].removeprefix(">")
    words = ["score-variants", "--saturate", f"{contig}:1001-1100", "-o", str(tmp_path / "s.parquet"), "-q"]
    assert "300 substitutions at 100 positions scored" in call(*words, folder=project).told
    assert pq.read_table(tmp_path / "s.parquet").num_rows == 300
    call("score-variants", "input.vcf", "-o", str(tmp_path / "g.vcf.gz"), "--placement", "grid", "-q", folder=project)
    with gzip.open(tmp_path / "g.vcf.gz", "rt") as file:
        assert "placement=\"bins of the genome's grid" in file.read()


def test_backgrounds_ensembles_and_every_option_of_scoring(project: Path, tmp_path: Path) -> None:
    work = tmp_path / "own"
    shutil.copytree(project, work, ignore=shutil.ignore_patterns("explain", "input.mfd*"))
    told = call("background", "-n", "150", "--match", "input.vcf", "--seed", "3", "-q", folder=work).told
    assert "background variants (random substitutions in the contexts of input.vcf)" in told
    contig = (work / "genome.fa").read_text().split(maxsplit=1)[0].removeprefix(">")
    (work / "genes.gtf").write_text(f'{contig}\tx\tgene\t101\t900\t.\t+\t.\tgene_id "G1";\n')
    (work / "some.bed").write_text(f"{contig}\t0\t20000\tall of it\n")
    told = call(
        "score-variants", "input.vcf", "-q", "--gtf", "genes.gtf", "--bed", "here=some.bed", "--per-track", folder=work
    ).told
    assert re.search("quantiles against 1[345][0-9] background variants .random substitutions in the contexts", told)
    table = pq.read_table(work / "input.mfd.parquet")
    assert {"gene", "in.here", "MFD_BG_QUANTILE", "p.MFD_DEBIASED", "MFD_FLAGS"} <= set(table.column_names)
    words = [
        "--tracks",
        "target == ABF1",
        "--fix",
        "technical=average",
        "-r",
        contig,
        "-O",
        "b",
        "-o",
        "f.bcf",
        "--check-ref",
        "warn",
    ]
    told = call("score-variants", "input.vcf", *words, folder=work).told
    assert "other settings" in told and (work / "f.bcf.csi").exists()
    call("train", "--gpus", "0", "--seeds", "1,2", "--run", "seeds", "--epochs", "1", "-q", folder=work)
    told = call("score-variants", "input.vcf", "--run", "seeds", "--ensemble", "-o", "e.vcf.gz", folder=work).told
    assert "spread.MFD_BIO" in pq.read_table(work / "e.parquet").column_names
    assert "there is no trained model" not in call("info", "seeds/seed-2", folder=work).told
    call("score-variants", "input.vcf", "--run", "seeds", "-o", "first.vcf.gz", folder=work)  # the first seed's


def test_phased_haplotypes_and_regions_from_a_file(project: Path, tmp_path: Path) -> None:
    """Two neighbours in cis are one change, through the command, by pipe and out of a BED file's regions."""
    lines = (project / "genome.fa").read_text().split(">")[1].splitlines()
    contig, bases = lines[0], "".join(lines[1:])
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1\tS2\n"
    records = []
    for position in (3001, 3003, 9001):
        ref = bases[position - 1]
        records.append(f"{contig}\t{position}\t.\t{ref}\t{'ACGT'['ACGT'.index(ref) - 1]}\t.\t.\t.\tGT\t0/1\t0|1\n")
    (tmp_path / "r.bed").write_text(f"{contig}\t3000\t3500\n")
    words = [
        "score-variants",
        "-",
        "--phased",
        "--sample",
        "S2",
        "-R",
        str(tmp_path / "r.bed"),
        "-o",
        "-",
        "--skipped",
        "s.tsv",
    ]
    done = mfd(
        *words,
        "--table",
        "t.parquet",
        "-c",
        str(project / "mfd.toml"),
        folder=tmp_path,
        stdin=header + "".join(records),
    )
    scored = [line.split("\t") for line in done.stdout.splitlines() if not line.startswith("#")]
    assert [cells[1] for cells in scored] == ["3001", "3003"] and "2 scored together" in done.stderr
    table = pq.read_table(tmp_path / "t.parquet").to_pydict()
    assert len(set(table["MFD_BIO"])) == 1 and table["haplotype"] == [2, 2] and all(table["phased_with"])
    assert 'phased="S2"' in done.stdout and len((tmp_path / "s.tsv").read_text().splitlines()) == 1
    told = mfd(*words, folder=tmp_path, stdin=header + "".join(records), expect=2).stderr  # no project here
    assert told.startswith("mfd: error: ") and len(told.splitlines()) <= 2


def test_a_reader_that_goes_away_is_no_fault(project: Path) -> None:
    """As `mfd score-variants ... -o - | head -1`: exit code 141, as other tools, and not a word."""
    command = [*MFD, "score-variants", "input.vcf", "-o", "-", "-q"]
    child = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()
    assert child.wait(120) == 141 and child.stderr.read() == b""
    child.stderr.close()


def test_predictions_latents_and_quality_control(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contig = (project / "genome.fa").read_text().split(maxsplit=1)[0].removeprefix(">")
    words = [
        "predict",
        "-r",
        f"{contig}:1-3000",
        "--tracks",
        "target == ABF1",
        "--part",
        "total",
        "--part",
        "technical",
        "-q",
    ]
    done = mfd(*words, "-o", str(tmp_path / "p"), "--hub-genome", "planted", folder=project)
    assert "outputs on 24 bins" in done.stdout and (tmp_path / "p/hub/planted/trackDb.txt").exists()
    assert len(list((tmp_path / "p").glob("*.technical.bw"))) * 2 == len(list((tmp_path / "p").glob("*.bw"))) > 0
    words = [
        "predict",
        "-r",
        contig,
        "--experiment",
        "target=ABF1",
        "--experiment",
        "assay=CUT&RUN",
        "--no-bigwig",
        "-q",
    ]
    assert "support of target=ABF1,assay=CUT&RUN: " in call(*words, "-o", str(tmp_path / "e"), folder=project).said
    (tmp_path / "r.bed").write_text(f"{contig}\t100\t900\n")
    done = mfd("embed", str(tmp_path / "r.bed"), "-o", str(tmp_path / "l.parquet"), "-q", folder=project)
    assert "1 regions" in done.stdout and "latent.0" in pq.read_table(tmp_path / "l.parquet").column_names
    monkeypatch.setattr(qc, "STEPS", 40)  # which level fits best is test_qc's
    done = call("qc", "-q", "-o", str(tmp_path / "qc"), folder=project)
    assert "pairs of track and factor judged" in done.said and (tmp_path / "qc/tracks.tsv").exists()


def test_enrich_on_planted_variants(project: Path, tmp_path: Path) -> None:
    kinds = [line.split("\t") for line in (project / "truth/variants.tsv").read_text().splitlines()]
    head, rows = kinds[0], kinds[1:]
    place = {name: head.index(name) for name in ("chrom", "pos", "ref", "alt", "kind")}
    lines = ["chrom\tpos\tref\talt\tlabel"]
    for row in rows:
        if row[place["kind"]] in ("biological", "none"):
            cells = [row[place[name]] for name in ("chrom", "pos", "ref", "alt", "kind")]
            lines.append("\t".join([*cells[:4], "yes" if cells[4] == "biological" else "no"]))
    (tmp_path / "labels.tsv").write_text("\n".join(lines) + "\n")
    words = [
        "enrich",
        str(project / "input.mfd.parquet"),
        "--labels",
        "labels.tsv",
        "--positive",
        "yes",
        "-o",
        "out",
    ]
    done = mfd(*words, folder=tmp_path)
    assert {"features.tsv", "quantiles.tsv", "raw_vs_debiased.tsv", "summary.json"} <= {
        p.name for p in (tmp_path / "out").iterdir()
    }
    assert "MFD_BIO" in (tmp_path / "out/features.tsv").read_text() and done.stdout
    assert "exists already" in mfd(*words, folder=tmp_path, expect=2).stderr


def test_usage_errors_and_help(tmp_path: Path) -> None:
    assert "no such option" in mfd("train", "--gpu", folder=tmp_path, expect=2).stderr.lower()
    text = mfd("--help", folder=tmp_path).stdout
    for command in ("init", "check-design", "simulate", "preprocess", "train", "evaluate", "score-variants", "explain"):
        assert command in text
    assert mfd("--version", folder=tmp_path).stdout == "mfd 0.1.0\n"


def test_a_config_error_names_the_line(project: Path, tmp_path: Path) -> None:
    text = (project / "mfd.toml").read_text().replace("batch_size", "batchsize")
    (tmp_path / "mfd.toml").write_text(text)
    number = next(i for i, line in enumerate(text.splitlines(), 1) if "batchsize" in line)
    done = mfd("preprocess", folder=tmp_path, expect=2)
    assert f"mfd.toml:{number}: unknown key train.batchsize; did you mean batch_size?" in done.stderr


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "pyarrow", "numpy", "pysam", "pydantic")
    code = f"import sys, mfd_cli.cli.app; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
