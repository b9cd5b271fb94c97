# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From a planted world to an explanation
#
# This notebook plants a genome in which every cause is known, trains a model on it, measures the model, scores variants, and
# explains the model. It needs `mfd-cli` and pandas, and takes less than a minute on one core.
#
# The size `tiny` shows how everything is called. Its 800 training bins are too few to learn much from. `"small"` with 10 epochs
# is what `make demo` trains on, in some minutes; then the numbers below are worth reading.

# %%
from pathlib import Path

import pandas
from IPython.display import Image

from mfd_cli import Predictor, ScoreOptions, Scorer, Variant, bin_latents, load_project, open_dataset, score_variants
from mfd_cli.dataset.preprocess import preprocess
from mfd_cli.evaluation.evaluate import evaluate
from mfd_cli.explain.factor import explain
from mfd_cli.explain.overview import explain_all
from mfd_cli.predictions.embed import embed
from mfd_cli.simulate.simulate import simulate
from mfd_cli.training.train import train

SIZE, EPOCHS = "tiny", 4
folder = Path("planted")

# %% [markdown]
# ## A project
#
# A project is a folder with an `mfd.toml`. Here it is simulated; `mfd init` makes one of your own files.

# %%
simulate(folder, size=SIZE, force=True)

# %% [markdown]
# The metadata table says how each track was made. `mfd.toml` says which of its columns are factors, and whether a factor is
# biological or technical.

# %%
pandas.read_csv(folder / "metadata.tsv", sep="\t").head()

# %%
project = load_project(folder / "mfd.toml", overrides=[f"train.epochs={EPOCHS}"])
project

# %% [markdown]
# ## A dataset
#
# Genome, peaks and signals become bins of 128 bp.

# %%
preprocess(project, force=True)

# %%
dataset = open_dataset(project.dataset)
dataset

# %% [markdown]
# ## A model

# %%
run = train(project, gpus=0, force=True)
run

# %% [markdown]
# The command line works in the same folders.

# %%
# !mfd info {project.run}

# %% [markdown]
# How good is the model on the test contig, track by track, and how sure are its parts?

# %%
evaluation = evaluate(run, dataset, force=True)
evaluation

# %%
pandas.DataFrame(evaluation.tracks)[["track", "kind", "auroc", "auprc", "prevalence"]].head()

# %% [markdown]
# ## Logits and their parts
#
# The latents of a bin times a track's output weights are its logit. The weights are a sum: what all tracks share, and what
# each group of factors adds.

# %%
bins = dataset.split("test").thinned(100)
latents = bin_latents(run, dataset, bins)  # (bins, latents)
head = Predictor(run.model).head
logits = head.logits(latents)  # (bins, tracks)
parts = {group: head.group_part(group, latents) for group in head.groups}
whole = head.bias + head.shared_part(latents)[:, None] + sum(parts.values())
abs(logits - whole).max()

# %% [markdown]
# ## Variants
#
# A file is scored into an annotated VCF and a table. Of each allele the table says how much the most affected track changes,
# and how much of the change is biological (`MFD_BIO`) and technical (`MFD_TECH`).

# %%
options = ScoreOptions(folder / "scored.vcf.gz", force=True)
score_variants(run, dataset.genome, folder / "input.vcf", options)

# %%
scores = pandas.read_parquet(folder / "scored.parquet")
columns = ["key", "MFD_TRACK", "MFD_MAX_DLOGIT", "MFD_SHARED", "MFD_BIO", "MFD_TECH", "MFD_FLAGS"]
scores.sort_values("MFD_MAX_DLOGIT", key=abs, ascending=False)[columns].head()

# %% [markdown]
# Variants that come from no file are scored in the same way.

# %%
contig = next(iter(dataset.genome.lengths))
ref = dataset.genome.bases(contig, 4999, 5000)
variants = [Variant(contig, 5000, ref, alt) for alt in "ACGT" if alt != ref]
pandas.DataFrame(Scorer(run).columns(variants, dataset.genome), index=map(str, variants))

# %% [markdown]
# ## Explanations
#
# What are the predictions made of, over all factors?

# %%
explain_all(run, dataset, folder / "explain" / "all", force=True)

# %%
Image(folder / "explain" / "all" / "parts.png")

# %% [markdown]
# And which DNA letters drive one factor? `report.html` in the folder has the whole answer.

# %%
explain(run, dataset, "target", folder / "explain" / "target", force=True)

# %%
Image(folder / "explain" / "target" / "level-01.png")

# %% [markdown]
# ## Latents for other work
#
# Regions become rows of numbers for scikit-learn and the like. `h5ad=folder / "latents.h5ad"` would write them for scanpy.

# %%
embed(run, dataset.genome, f"{contig}:1-2000", folder / "latents.parquet", force=True)

# %%
pandas.read_parquet(folder / "latents.parquet")
