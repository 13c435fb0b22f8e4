"""Which network and face finder a server uses, in a form that travels to other processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mien.predict.analyzer import Analyzer, load, model_folder
from mien.predict.model_folder import CARD_FILE


@dataclass(frozen=True, kw_only=True)
class Network:
    """See `mien.predict.analyzer.load` for the fields."""

    model: str | None = None
    head: str | None = None
    precision: str = "auto"
    detector: str = "auto"
    detector_file: Path | None = None

    def open(self) -> Analyzer:
        """Load it; raises MienError in one line."""
        return load(
            self.model,
            head=self.head,
            precision=self.precision,
            detector=self.detector,
            detector_file=self.detector_file,
        )

    def card(self) -> str:
        """Return the model's card, Markdown; empty where it has none."""
        card = model_folder(self.model) / CARD_FILE
        return card.read_text(encoding="utf-8") if card.is_file() else ""
