"""The networks of `mfd contig`: an image becomes a feature, the feature and a person's data become what is compared.

To add an image network or a genetic encoder: write it, and list it in IMAGE_NETWORKS or ENCODERS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mfd_cli.core.backbones import ChannelNorm

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
    ) -> None:
        """`encoders` says of each modality: the kind of its encoder, its inputs, and its hidden width."""
        super().__init__()
        self.features = features
        self.trunk = IMAGE_NETWORKS[network](width, features)
        self.heads = nn.ModuleDict({name: projection_head(features, head, projection) for name in encoders})
        self.encoders = nn.ModuleDict(
            {name: ENCODERS[kind](inputs, hidden, projection) for name, (kind, inputs, hidden) in encoders.items()}
        )
        start = torch.tensor(float(temperature)).log()
        self.log_temperature = nn.ParameterDict({name: nn.Parameter(start.clone()) for name in encoders})
        self.register_buffer("pixel_mean", torch.zeros(COLOURS))
        self.register_buffer("pixel_scale", torch.ones(COLOURS))

    def standardised(self, pictures: Tensor) -> Tensor:
        """Bytes (images, 3, side, side) to float32 of mean 0 and sd 1 per colour, over training pictures."""
        scale = self.pixel_scale[:, None, None]
        return (pictures.float() / 255 - self.pixel_mean[:, None, None]) / scale

    def feature(self, standardised: Tensor) -> Tensor:
        """Standardised pictures (images, 3, side, side) to features (images, features)."""
        out: Tensor = self.trunk(standardised)
        return out

    def image_projection(self, name: str, feature: Tensor) -> Tensor:
        """Features (images, features) to what is compared in a modality's space (images, projection), of length one."""
        return F.normalize(self.heads[name](feature), dim=1)

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
