"""Parquet and Arrow files with pictures inside, as Hugging Face Datasets writes them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from mien.data import open_dataset
from mien.errors import DataError

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

FEATURES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["sad", "happy"]}}


@pytest.fixture
def table(face):
    """Make a table of pictures in bytes and of labels 0 and 1, the first picture from a seed."""

    def make(count: int, seed: int = 0):
        pictures = [cv2.imencode(".png", face(seed + n, 24))[1].tobytes() for n in range(count)]
        columns = {
            "image": [{"bytes": content, "path": None} for content in pictures],
            "label": [n % 2 for n in range(count)],
        }
        about = {b"huggingface": json.dumps({"info": {"features": FEATURES}}).encode()}
        return arrow.table(columns).replace_schema_metadata(about)

    return make


def write_arrow(path: Path, table, *, stream: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = arrow.ipc.new_stream if stream else arrow.ipc.new_file
    with arrow.OSFile(str(path), "wb") as file, opened(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return path


def sizes(dataset) -> dict[str, int]:
    return {name: len(split) for name, split in dataset.splits.items()}


@pytest.mark.parametrize("stream", [True, False])
def test_an_arrow_file(tmp_path, table, face, stream):
    path = write_arrow(tmp_path / "faces.arrow", table(8), stream=stream)
    train = open_dataset(path, carve_validation=False).splits["train"]
    assert train.labels.tolist() == [1, 0] * 4  # of the classes happy and sad
    assert (train.pictures.read(5) == face(5, 24)).all()


def test_a_data_set_as_save_to_disk_writes_it(tmp_path, table):
    write_arrow(tmp_path / "train/data-00000-of-00002.arrow", table(6))
    write_arrow(tmp_path / "train/data-00001-of-00002.arrow", table(4, seed=6))
    write_arrow(tmp_path / "test/data-00000-of-00001.arrow", table(4, seed=10))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for split in ("train", "test"):
        (tmp_path / split / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
        (tmp_path / split / "state.json").write_text('{"_split": "train", "_data_files": []}')
    whole = open_dataset(tmp_path, carve_validation=False)
    assert sizes(whole) == {"train": 10, "test": 4} and whole.classes == ("happy", "sad")
    assert sizes(open_dataset(tmp_path / "train", carve_validation=False)) == {"train": 10}


def test_a_damaged_arrow_file(tmp_path, table):
    path = write_arrow(tmp_path / "faces.arrow", table(8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="is not an Arrow file that can be read"):
        open_dataset(path)


def test_of_two_columns_of_bytes_the_one_that_is_called_like_pictures(tmp_path, table, face):
    path = tmp_path / "faces.parquet"
    parquet.write_table(table(8).add_column(0, "audio", [[b"RIFF"] * 8]), path)
    train = open_dataset(path, carve_validation=False).splits["train"]
    assert (train.pictures.read(5) == face(5, 24)).all()


def test_names_beside_pictures_in_bytes_are_no_pictures(tmp_path, table, face):
    path = tmp_path / "faces.parquet"
    for name, prefix in (("file_name", ""), ("url", "https://example.org/")):
        parquet.write_table(table(8).add_column(0, name, [[f"{prefix}{n}.jpg" for n in range(8)]]), path)
        train = open_dataset(path, carve_validation=False).splits["train"]
        assert (train.pictures.read(5) == face(5, 24)).all()
