"""The contrastive loss of ContIG: own and other persons' data told apart, in both directions, and what guessing would cost.

Taleb et al. (CVPR 2022), section 3: image to gene and gene to image, no pairs of images and no pairs of genes. Ours differs
where the published form cannot say what is meant: several images of a person are several positives, each scored alone;
relatives are never each other's negatives; and the temperature may be learnt. With one image a person, no relatives and a
fixed temperature of 0.1 it is the published loss.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Contrast(NamedTuple):
    """A loss and what guessing would cost, both scalars in nats. `chance - loss` is the skill."""

    loss: Tensor
    chance: Tensor


def contrast(z: Tensor, u: Tensor, owner: Tensor, family: Tensor, temperature: Tensor, alpha: float) -> Contrast:
    """Return the loss of one modality in a batch.

    `z` (images, size) and `u` (persons, size) are projections of length one, `owner` (images,) the row of `u` that belongs to
    each image, `family` (persons,) numbers that relatives share, `temperature` a scalar. `alpha` is the share of the direction
    from image to person. Zero where there is nobody to tell a person from: fewer than two families.

    Candidates of image i are its own person and all persons of other families; those of person j, asked from image i, are image
    i and all images of other families. So another image of a person is neither a right nor a wrong answer.
    """
    if len(u) == 0 or len(z) == 0 or bool((family == family[0]).all()):
        nothing = (z.sum() + u.sum()) * 0.0
        return Contrast(nothing, nothing.detach())
    similarity = z.float() @ u.float().T / temperature  # (images, persons)
    rows = torch.arange(len(z), device=z.device)
    own = similarity[rows, owner]
    stranger = family[owner][:, None] != family[None, :]  # (images, persons): of another family
    # From an image: all strangers, and its own person, who is added apart: the diagonal is no diagonal with several images.
    others = torch.where(stranger, similarity, -torch.inf)
    to_person = torch.logaddexp(torch.logsumexp(others, 1), own) - own
    # From the person of each image: the images of strangers, and this image.
    to_image = torch.logaddexp(torch.logsumexp(others, 0)[owner], own) - own
    persons = stranger.sum(1) + 1
    images = stranger.sum(0)[owner] + 1
    chance = alpha * persons.double().log().mean() + (1 - alpha) * images.double().log().mean()
    return Contrast(alpha * to_person.mean() + (1 - alpha) * to_image.mean(), chance)
