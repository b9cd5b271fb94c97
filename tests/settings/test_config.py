"""Configuration: presets, shares that become counts, overrides, and errors that name the key, the line and the nearest."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfd_cli.base.errors import ConfigError
from mfd_cli.settings.network import ModelConfig, resolve_model
from mfd_cli.settings.parse import parse_config
from mfd_cli.settings.project import load_project


@given(
    latent=st.integers(4, 500),
    shares=st.dictionaries(st.sampled_from("abcd"), st.floats(0.01, 100), min_size=1, max_size=4),
)
def test_shares_become_counts_that_sum_to_the_latent(latent: int, shares: dict[str, float]) -> None:
    resolved = resolve_model(ModelConfig(latent=latent, groups=shares))
    assert sum(resolved.groups.values()) == latent
    assert list(resolved.groups) == list(shares) and min(resolved.groups.values()) >= 1


def test_presets_fix_what_is_not_given() -> None:
    wide = resolve_model(ModelConfig(preset="wide-2176"))
    assert (wide.width, wide.window, wide.latent, wide.kmer) == (768, 2176, 1536, 2)
    assert resolve_model(ModelConfig(preset="paper-1152", width=30)).latent == 60
    equal = resolve_model(ModelConfig(preset="paper-1152", groups={"biological": 0.5, "technical": 0.5}))
    assert equal.groups == {"biological": 120, "technical": 120}


def test_a_group_of_its_own_gets_room() -> None:
    config = parse_config({"factors": {"donor": {"column": "Donor", "group": "biological"}}})
    assert config.groups == ("biological", "technical")
    own = parse_config({"factors": {"donor": {"column": "Donor", "group": "individual"}}})
    assert own.groups == ("biological", "technical", "individual")
    meant = parse_config(
        {
            "model": {"groups": {"biological": 1, "Technical": 1}},
            "factors": {"lab": {"column": "Lab", "group": "Technical"}},
        }
    )
    assert meant.groups == ("biological", "Technical")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[train]\nepoch = 3\n", 2, "unknown key train.epoch; did you mean epochs?"),
        ('[factors.all]\ncolumn = "Lab"\ngroup = "technical"\n', 1, "no factor can be called 'all'"),
        (
            '\n[factors.Kind]\ncolumn = "Lab"\ngroup = "technical"\n',
            2,
            "no factor can be called 'Kind': tables have another",
        ),
        ('[factors.share_lab]\ncolumn = "Lab"\ngroup = "technical"\n', 1, "(write [factors.my_share_lab])"),
        ("[model]\ngroups = {biological = 1, Shared = 1}\n", 2, "no group can be called 'Shared'"),
        ("[model]\ngroups = {biological = 1, bio_sd = 1}\n", 2, "no group can be called 'bio_sd'"),
        ("[model]\ngroups = {lab-a = 1, lab_A = 1}\n", 2, "the names 'lab-a' and 'lab_A' are too much alike"),
        ("[trian]\nepochs = 3\n", 1, "unknown key trian; did you mean train?"),
        ("[train]\nepochs = 0\n", 2, "train.epochs: Input should be greater than or equal to 1 (0)"),
        (
            '[factors.lab]\ncolumn = "Lab"\ngruop = "technical"\n',
            3,
            "unknown key factors.lab.gruop; did you mean group?",
        ),
        (
            '[factors.lab]\ncolumn = "Lab"\ngroup = "technical"\ntype = "catgory"\n',
            4,
            "factors.lab.type: Input should be",
        ),
        ("[train\n", 1, "is not TOML"),
        ("[train]\nEPOCHS = 3\n", 2, "unknown key train.EPOCHS; did you mean epochs?"),
        ("[train]\nepochs = true\n", 2, "train.epochs: Input should not be true or false (true)"),
        ("[train]\nlr = inf\n", 2, "train.lr: Input should be a finite number"),
        (
            '[split]\ntest = "chr1"\n',
            2,
            'split.test: Input should be a list, such as ["a", "b"] or be a number ("chr1")',
        ),
        ("[split]\nvalidation = 0.7\n", 2, "split.validation: Input should be a list"),
        ('[factors.lab]\ncolumn = "Lab"\n', 1, "factors.lab.group: Field required"),
        ('[factors.lab]\ncolumn = "Lab"\ngroup = "Technical"\n', 3, "did you mean technical?"),
        ("[objective.penalties.distnace]\nweight = 1\n", 1, "distnace; did you mean distance?"),
        ("[model]\nwidth = 7\n", 2, "model.width is 7"),
    ],
)
def test_errors_name_key_line_and_nearest(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = tmp_path / "mfd.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_project(path)
    assert caught.value.line == line and message in str(caught.value)


def test_overrides_win_over_the_file_and_flags_over_both(tmp_path: Path) -> None:
    path = tmp_path / "mfd.toml"
    path.write_text('[train]\nepochs = 3\n[data]\nfasta = "g.fa"\n')
    project = load_project(path, ["train.epochs=5", 'split.test=["chrI"]', "train.draw=peaks"], {"train.seed": 7})
    config = project.config
    assert (config.train.epochs, config.train.seed, config.split.test) == (5, 7, ("chrI",))
    assert project.path("g.fa") == tmp_path / "g.fa"
    for wrong in ("train.epochs", "=3", "train.epochs.x=3"):
        with pytest.raises(ConfigError):
            load_project(path, [wrong])
