"""The conditioned head fitted anew on latents that are there already: seconds instead of a training.

What a head says of a track that took no part in fitting it is not what that track's own labels taught it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from mfd_cli.base.arrays import Bools, Floats
from mfd_cli.core.head import ConditionedHead
from mfd_cli.core.metadata import MetadataEncoder, fit_metadata
from mfd_cli.core.model import MfdModel, centre_weights
from mfd_cli.settings.config import FactorConfig

UNKNOWN_SHARE, LEAST_SHARE = 0.01, 1e-4
"""The share of positive bins that a track's bias starts from: where none was measured, and at least."""


class RefittedHead:
    """A head that was fitted anew and the metadata encoder that belongs to it; it has output weights for any rows."""

    def __init__(
        self, head: ConditionedHead, metadata: MetadataEncoder, slices: Mapping[str, slice], shared: Floats
    ) -> None:
        self.head, self.metadata, self.slices, self.shared = head, metadata, slices, shared

    @torch.no_grad()
    def weights(self, rows: Sequence[Mapping[str, str]]) -> Floats:
        """Return the output weights (rows, latent) of metadata rows, without bias.

        A level that no fitted track has counts as the mean level.
        """
        codes = {n: torch.from_numpy(v) for n, v in self.metadata.encode(rows, unseen="mean").items()}
        result = np.tile(self.shared, (len(rows), 1))
        for group, subspace in self.slices.items():
            own = {name: codes[name] for name in self.head.factors_of[group]}
            if own:
                result[:, subspace] += self.head.group_weights(group, own).numpy()
        return result


def refit_head(
    model: MfdModel,
    rows: Sequence[Mapping[str, str]],
    latents: Floats,
    labels: Floats,
    fitted: Bools,
    *,
    steps: int = 600,
    batch: int = 1024,
    lr: float = 0.01,
    seed: int = 0,
) -> RefittedHead:
    """Fit a fresh conditioned head to the peak labels of the `fitted` tracks, by cross-entropy, and return it.

    `rows` are the metadata and `labels` (bins, tracks) the 0/1 or NaN of the same tracks; `latents` is (bins, latent). The
    factors, groups and sizes are the model's; so is how weights are centred (`model.centre`), over the fitted tracks. `steps`
    of Adam, whose rate falls from `lr` to 0, on `batch` random bins each; `seed` fixes the first weights and the bins.
    """
    settings, factors = model.settings, dict[str, FactorConfig](model.factors)
    metadata = fit_metadata(rows, factors, fitted.tolist())
    centre = centre_weights(settings, factors, metadata, rows, fitted)
    # Where a bias starts matters little; log odds must be finite, also of tracks without any positive or negative.
    share = np.clip(np.nan_to_num(np.nanmean(labels, 0), nan=UNKNOWN_SHARE), LEAST_SHARE, 1 - LEAST_SHARE)
    bias = torch.from_numpy(np.log(share / (1 - share)).astype(np.float32))
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = ConditionedHead(
            settings.groups,
            factors,
            metadata.encode(rows, unseen="mean"),
            centre,
            bias,
            settings.hidden,
            False,
        )
    x, y = torch.from_numpy(latents), torch.from_numpy(labels)
    used = torch.from_numpy(fitted)
    optimiser = torch.optim.Adam(head.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        index = torch.randint(0, len(x), (min(batch, len(x)),), generator=generator)
        weights = head.weights()
        logits = x[index] @ weights.matrix()[used].T + weights.bias[used]
        target = y[index][:, used]
        known = ~torch.isnan(target)
        loss = F.binary_cross_entropy_with_logits(logits[known], target[known])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return RefittedHead(head, metadata, head.slices, head.shared.detach().numpy())
