"""Where the numbers of each validation go: metrics.jsonl, the picture of its curves, and TensorBoard if that is wanted.

run/metrics.jsonl    one line per validation
    curves.png       the same as a picture, drawn anew as the training goes on, and at its end
    tensorboard/     the same for TensorBoard, with train.tensorboard
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mfd_cli.base.errors import ConfigError
from mfd_cli.engine.checkpoint import METRICS
from mfd_cli.engine.curve import add_to_curve, read_curve
from mfd_cli.settings.config import Config

CURVES, BOARD = "curves.png", "tensorboard"
"""The names of the picture and of TensorBoard's folder in a run folder."""
DRAWING, SHARE = 1.0, 0.02
"""Seconds that the first picture is expected to take, with loading what draws it, and the share of the time that pictures may
take."""


@dataclass
class Record:
    """The record of a training in its run folder. `writer` is TensorBoard's SummaryWriter, or None where none is wanted.

    `undrawn` are the lines of the curves where the picture lacks some, `drawn_at` and `drawing` (s) when it was last drawn and
    how long that took.
    """

    folder: Path
    warn: Callable[[str], None] | None = None
    writer: Any = None
    failed: set[str] = field(default_factory=set)
    undrawn: list[dict[str, Any]] = field(default_factory=list)
    drawn_at: float = field(default_factory=time.monotonic)
    drawing: float = field(default_factory=lambda: DRAWING)

    def add(self, line: Mapping[str, Any]) -> None:
        """Record the numbers of a validation, name -> number; they count from `step`."""
        self.undrawn = add_to_curve(self.folder / METRICS, line)
        if time.monotonic() - self.drawn_at > self.drawing / SHARE:
            self.draw()
        if self.writer is not None:
            self._beside(BOARD, lambda: self._tell_board(line))

    def draw(self) -> None:
        """Draw the curves, if the picture lacks a point."""
        if self.undrawn:
            lines, self.undrawn, started = self.undrawn, [], time.monotonic()
            self._beside(CURVES, lambda: draw(self.folder / CURVES, lines))
            self.drawn_at = time.monotonic()
            self.drawing = self.drawn_at - started

    def close(self) -> None:
        """End the record."""
        self.draw()
        if self.writer is not None:
            self.writer.close()

    def _tell_board(self, line: Mapping[str, Any]) -> None:
        """Write every number of a line but its step, which is where it stands."""
        for name, value in line.items():
            if name != "step":
                self.writer.add_scalar(name, float(value), line["step"])
        self.writer.flush()

    def _beside(self, name: str, write: Callable[[], None]) -> None:
        """Write something that the training can do without: a failure is a warning, once."""
        try:
            write()
        except Exception as error:  # whatever a library raises, hours of training must not be lost by a picture
            if self.warn and name not in self.failed:
                self.warn(f"{self.folder / name} is not written, and training goes on: {' '.join(str(error).split())}")
            self.failed.add(name)


def draw(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write the picture of curves. Its libraries are loaded when it is drawn, not when training begins."""
    from mfd_cli.evaluation.curves_picture import write_curves

    write_curves(path, lines)


@contextmanager
def recording(folder: Path, config: Config, step: int, warn: Callable[[str], None] | None) -> Iterator[Record]:
    """Yield the record of a training that goes on from `step`; what TensorBoard has from behind it counts no more."""
    writer, metrics = None, folder / METRICS
    if config.train.tensorboard:
        writer = summary_writer()(str(folder / BOARD), purge_step=step + 1 if step else None)
    # Of a training that goes on, the picture may lack what was recorded just before it was killed.
    record = Record(folder, warn, writer, undrawn=read_curve(metrics) if step and metrics.exists() else [])
    try:
        yield record
    finally:
        record.close()


def check_board(config: Config) -> None:
    """Raise ConfigError where TensorBoard is wanted and not installed."""
    if config.train.tensorboard:
        summary_writer()


def summary_writer() -> Any:
    """Return the class that writes for TensorBoard; ConfigError where its package is missing, or does not work."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "train.tensorboard needs the package tensorboard, which is not installed here, or does not work",
            hint="pip install 'mfd-cli[tensorboard]', or train without it",
        ) from error
    return SummaryWriter
