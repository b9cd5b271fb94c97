"""The twin with a regression: the parts that a linear mixed model finds in the weights of a free head, once it is trained.

It is the control that a head which knows the metadata has to beat: a training that knows nothing of them, and then the
textbook's analysis of variance of its output weights, with variances by restricted maximum likelihood.
"""

from __future__ import annotations

import numpy as np
import torch

from mfd_cli.base.arrays import Doubles, Floats
from mfd_cli.base.errors import ConfigError
from mfd_cli.core.head import FreeHead
from mfd_cli.core.mixed_head import MixedHead
from mfd_cli.core.model import MfdModel
from mfd_cli.settings.names import RESIDUAL

ITERATIONS = 300
"""Iterations for the variances, which are learnt once."""


@torch.no_grad()
def regressed(model: MfdModel, covariance: Doubles, information: Doubles, latents: Floats | None = None) -> MfdModel:
    """Return a model that predicts what one with a free head does, and has parts: those of a mixed head on joint subspaces.

    `covariance` (latent, latent) is that of its latents over bins; `information` (tracks,) says how well the data determine
    each track's weights: bins times the mean of p (1 - p). Of some `latents` (bins, latent) the axes are learnt too along which
    the mixed head looks for parts; without them each term has one variance, as in the textbook, and no product is of two
    groups. ConfigError for a model without a free head, or without factors.
    """
    if not isinstance(model.head, FreeHead):
        raise ConfigError("a regression on the metadata is for a model with a free head")
    if not model.factors:
        raise ConfigError("a regression on the metadata needs factors")
    settings = model.settings.model_copy(update={"head": "mixed", "subspaces": "joint"})
    bias = model.head.bias.detach().cpu().numpy()
    with torch.random.fork_rng(devices=[]):
        result = MfdModel(settings, model.metadata, model.factors, model.rows, np.asarray(model.trained), bias)
    result.stranded = model.stranded
    result.backbone.load_state_dict(model.backbone.state_dict())
    result.norm.load_state_dict(model.norm.state_dict())
    head = result.head
    assert isinstance(head, MixedHead)
    head.weight.copy_(model.head.weight.cpu())
    head.get_buffer("covariance").copy_(torch.from_numpy(covariance))
    head.get_buffer("curvature").copy_(torch.from_numpy(information))
    if latents is None:  # of all weights at once products between groups would take what tracks have of their own
        for space in head.spaces:
            head.variances(space)[[*(term.group == RESIDUAL for term in space.terms), False]] = 0
    head.learn_variances(ITERATIONS, shrunk=False)
    if latents is not None:
        head.learn_axes(torch.from_numpy(latents))
    head.fill_held_out()
    return result.eval()
