"""The networks of `mfd contig`: an image becomes a feature, the feature and a person's data become what is compared.

To add an image network or a genetic encoder: write it, and list it in IMAGE_NETWORKS or ENCODERS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mfd_cli.contig.core.slices import slices_of
from mfd_cli.core.backbones import ChannelNorm
from mfd_cli.settings.names import BIOLOGICAL, TECHNICAL

COLOURS = 3


class SmallNetwork(nn.Module):
    """Four 3 x 3 convolutions of stride 2, each with a norm and a GELU, then the mean over all places."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        sizes = (COLOURS, width, 2 * width, 4 * width, features)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False) for before, after in pairwise(sizes)
        )
        self.norms = nn.ModuleList(ChannelNorm(size) for size in sizes[1:])

    def forward(self, pictures: Tensor) -> Tensor:
        """(images, 3, side, side) to (images, features)."""
        x = pictures
        for convolution, norm in zip(self.convolutions, self.norms):
            x = convolution(x)
            places = x.shape[2:]
            x = F.gelu(norm(x.flatten(2)), approximate="tanh").unflatten(2, places)
        return x.mean((2, 3))


class LinearEncoder(nn.Module):
    """One layer over all inputs: what a few thousand persons can teach. It has no head."""

    def __init__(self, inputs: int, hidden: int, projection: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, projection)

    def forward(self, x: Tensor) -> Tensor:
        """(persons, inputs) to (persons, projection)."""
        out: Tensor = self.layer(x)
        return out


class HiddenEncoder(nn.Module):
    """So many hidden layers (Linear, ReLU, batch norm), then a head (Linear, ReLU, Linear), as published."""

    def __init__(self, layers: int, inputs: int, hidden: int, projection: int) -> None:
        super().__init__()
        sizes = [inputs, *[hidden] * layers]
        self.hidden = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(before, after), nn.ReLU(), nn.BatchNorm1d(after))
                for before, after in pairwise(sizes)
            )
        )
        self.head = projection_head(sizes[-1], hidden, projection)

    def forward(self, x: Tensor) -> Tensor:
        """(persons, inputs) to (persons, projection)."""
        out: Tensor = self.head(self.hidden(x))
        return out


def projection_head(inputs: int, hidden: int, projection: int) -> nn.Module:
    """Return Linear, ReLU, Linear: what stands between a feature and what is compared."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, projection))


class ContigModel(nn.Module):
    """An image network, and for each modality an image head, an encoder and a temperature.

    `pixel_mean` and `pixel_scale` (3,) standardise the colours; they are of the training pictures.
    """

    pixel_mean: Tensor
    pixel_scale: Tensor

    def __init__(
        self,
        network: str,
        width: int,
        features: int,
        head: int,
        projection: int,
        encoders: Mapping[str, tuple[str, int, int]],
        temperature: float,
        technical: int = 0,
        factors: Mapping[str, int] | None = None,
    ) -> None:
        """`encoders` says of each modality: the kind of its encoder, its inputs, and its hidden width. The last `technical`
        features are the technical slice, `factors` has of each factor how many logits it takes."""
        super().__init__()
        self.features = features
        self.slices = slices_of(features, technical)
        biological = features - technical
        self.trunk = IMAGE_NETWORKS[network](width, features)
        self.heads = nn.ModuleDict({name: projection_head(biological, head, projection) for name in encoders})
        self.encoders = nn.ModuleDict(
            {name: ENCODERS[kind](inputs, hidden, projection) for name, (kind, inputs, hidden) in encoders.items()}
        )
        start = torch.tensor(float(temperature)).log()
        self.log_temperature = nn.ParameterDict({name: nn.Parameter(start.clone()) for name in encoders})
        self.register_buffer("pixel_mean", torch.zeros(COLOURS))
        self.register_buffer("pixel_scale", torch.ones(COLOURS))
        # Without a scale a penalty between the slices cannot be cheated by shrinking one of them.
        self.norm = nn.BatchNorm1d(features, affine=False) if technical else nn.Identity()
        # With a prefix, since a module of torch cannot be called as one of its own methods, such as "type".
        self.factors = nn.ModuleDict({f"of_{name}": nn.Linear(technical, n) for name, n in (factors or {}).items()})

    def standardised(self, pictures: Tensor) -> Tensor:
        """Bytes (images, 3, side, side) to float32 of mean 0 and sd 1 per colour, over training pictures."""
        scale = self.pixel_scale[:, None, None]
        return (pictures.float() / 255 - self.pixel_mean[:, None, None]) / scale

    def feature(self, standardised: Tensor) -> Tensor:
        """Standardised pictures (images, 3, side, side) to features (images, features)."""
        out: Tensor = self.norm(self.trunk(standardised))
        return out

    def parts(self, feature: Tensor) -> dict[str, Tensor]:
        """Features (images, features) to their slices, biological and, where there is one, technical (images, size)."""
        return {name: feature[:, place] for name, place in self.slices.items()}

    def image_projection(self, name: str, feature: Tensor) -> Tensor:
        """Features (images, features) to what is compared in a modality's space (images, projection), of length one.

        The biological slice alone is read.
        """
        return F.normalize(self.heads[name](feature[:, self.slices[BIOLOGICAL]]), dim=1)

    def factor_logits(self, feature: Tensor) -> dict[str, Tensor]:
        """Features (images, features) to what is predicted of each factor (images, levels), from the technical slice alone."""
        technical = feature[:, self.slices[TECHNICAL]]
        return {name.removeprefix("of_"): head(technical) for name, head in self.factors.items()}

    def person_projection(self, name: str, inputs: Tensor) -> Tensor:
        """Standardised inputs (persons, inputs) to what is compared (persons, projection), of length one."""
        return F.normalize(self.encoders[name](inputs), dim=1)

    def temperature(self, name: str, least: float) -> Tensor:
        """The temperature of a modality, a scalar that does not fall below `least`."""
        return self.log_temperature[name].exp().clamp_min(least)


IMAGE_NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {"small": SmallNetwork}
ENCODERS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "linear": LinearEncoder,
    "none": lambda inputs, hidden, projection: HiddenEncoder(0, inputs, hidden, projection),
    "h1": lambda inputs, hidden, projection: HiddenEncoder(1, inputs, hidden, projection),
    "h12": lambda inputs, hidden, projection: HiddenEncoder(2, inputs, hidden, projection),
}
