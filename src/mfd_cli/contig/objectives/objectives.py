"""The objectives by name. To add one: write it in a file of its own, list it here, and name it in `objective.kind`."""

from __future__ import annotations

from mfd_cli.contig.objectives.alignment import Alignment
from mfd_cli.contig.objectives.eyes import TwoEyes
from mfd_cli.contig.objectives.objective import Objective
from mfd_cli.contig.objectives.supervised import Supervised
from mfd_cli.contig.objectives.views import TwoChanges

OBJECTIVES: dict[str, Objective] = {
    "contig": Alignment(),
    "simclr": TwoChanges(),
    "simclr-eyes": TwoEyes(),
    "supervised": Supervised(),
}
