"""Getting a public data set through kagglehub, where the network and Kaggle allow."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from mien.data.convert import refuse_existing
from mien.errors import DataError, need
from mien.files import whole_folder

# The sets of the projects that mien grew from, by the names that they are known by here.
KAGGLE = {
    "fer2013": "msambare/fer2013",
    "face-expression": "jonathanoheix/face-expression-recognition-dataset",
    "human-emotions": "muhammadhananasghar/human-emotions-datasethes",
}
DRAWN = "drawn"
_SLUG = re.compile(r"[\w-]+/[\w.-]+")


def get(name: str, folder: Path) -> str:
    """Download a data set into a new folder; return where it came from.

    name: one of KAGGLE, or any `owner/name` of kaggle.com/datasets. Raises DataError for another name or when
    the download fails, MissingExtra without kagglehub, OutputError where `folder` is taken. Nothing is left
    half done.
    """
    slug = KAGGLE.get(name, name)
    if not _SLUG.fullmatch(slug):
        known = ", ".join((*KAGGLE, DRAWN))
        raise DataError(
            f"no data set named {name!r}; known are {known}, or give owner/name as on kaggle.com/datasets"
        )
    refuse_existing(folder)
    kagglehub = need("kagglehub", "download", "downloading data sets")
    address = f"https://www.kaggle.com/datasets/{slug}"
    try:
        found = Path(kagglehub.dataset_download(slug))
    except Exception as error:  # kagglehub's own errors have no common base; each means the same here
        raise DataError(
            f"{slug} cannot be downloaded ({_reason(error)}); check the network and your "
            f"Kaggle access, or download {address} with a browser and give mien the unpacked folder"
        ) from error
    with whole_folder(folder) as inside:
        shutil.copytree(found, inside, dirs_exist_ok=True)
    return address


def _reason(error: Exception) -> str:
    """Word what kagglehub met: its network errors are pages long and say only this."""
    kind = type(error).__name__
    if any(word in kind for word in ("Connection", "Timeout", "Proxy")):
        return "no connection to Kaggle"
    return f"{kind}: {(str(error).strip().splitlines() or [''])[0][:200]}"
