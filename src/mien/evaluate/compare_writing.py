"""The comparison folder, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from mien.evaluate.compare import Comparison
from mien.evaluate.compare_chart import draw_comparison
from mien.evaluate.compare_page import to_html
from mien.evaluate.compare_text import to_markdown, write_csv
from mien.files import check_replaceable, whole_folder

JSON_FILE = "comparison.json"
PAGE_FILE = "comparison.html"


def write_comparison(comparison: Comparison, out: Path) -> None:
    """Write comparison.json, .md, .csv, .html and .png into the folder `out`.

    An older comparison there is replaced once the new one is complete. Raises OutputError where `out` holds
    something else, or cannot be written.
    """
    check_replaceable(out, "a comparison", JSON_FILE)
    with whole_folder(out) as folder:
        (folder / JSON_FILE).write_text(comparison.to_json() + "\n", encoding="utf-8")
        (folder / "comparison.md").write_text(to_markdown(comparison), encoding="utf-8")
        (folder / PAGE_FILE).write_text(to_html(comparison), encoding="utf-8")
        write_csv(comparison, folder / "comparison.csv")
        draw_comparison(comparison, folder / "comparison.png")
