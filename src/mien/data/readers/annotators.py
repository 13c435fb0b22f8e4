"""What annotation tools export as rows: Label Studio's JSON, and JSON, projects and CSV of VIA.

Each picture, or each face that was marked in one, becomes a row with the picture's path, what was said of it under the
tool's own names, and the face's box in pixels (x, y, width, height).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mien.errors import DataError

Row = dict[str, object]
_VIA_CSV = ("filename", "file_attributes", "region_shape_attributes", "region_attributes")


def exported_rows(value: object) -> list[Row] | None:
    """Return the rows of a JSON file of one of these tools; None for any other. DataError where one is damaged."""
    try:
        return _exported(value)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"a mark that an annotation tool exported is damaged ({error!r}); export it again"
        ) from error


def _exported(value: object) -> list[Row] | None:
    if isinstance(value, list) and value and all(map(_is_task, value)):
        return _marked_ones(row for task in value for row in _of_task(task))
    if isinstance(value, dict):
        pictures = value.get("_via_img_metadata", value)
        if isinstance(pictures, dict) and pictures and all(map(_is_via, pictures.values())):
            return _marked_ones(row for one in pictures.values() for row in _of_via(one))
    return None


def via_rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[Row] | None:
    """Return the rows of VIA's CSV, whose cells hold JSON; None where it is another table, or damaged."""
    found: list[Row] = []
    try:
        places = [header.index(name) for name in _VIA_CSV]
        for row in rows:
            name, *told = (row[place] for place in places)
            about, shape, region = (json.loads(cell or "{}") for cell in told)
            regions = [{"shape_attributes": shape, "region_attributes": region}] if shape else []
            found += _of_via({"filename": name, "file_attributes": about, "regions": regions})
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return None
    return _marked_ones(found)


def _marked_ones(rows: Iterable[Row]) -> list[Row]:
    """Leave out pictures in which no face was marked, where faces were marked in others."""
    found = list(rows)
    return [row for row in found if "width" in row] or found


def _is_task(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("data"), dict) and "annotations" in value


def _of_task(task: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the faces that were marked in a picture of Label Studio, else the picture with what was chosen of it.

    Of several people each answer counts once. See https://labelstud.io/guide/task_format.
    """
    given = task["data"]
    path = next((given[name] for name in ("image", "img", "picture") if name in given), None)
    path = path or next((text for text in given.values() if isinstance(text, str)), "")
    results = [
        one
        for answer in task["annotations"] or ()
        if isinstance(answer, dict) and not answer.get("was_cancelled")
        for one in answer.get("result") or ()
        if isinstance(one, dict) and isinstance(one.get("value"), dict)
    ]
    chosen = [label for one in results for label in one["value"].get("choices") or ()]
    boxes = [one for one in results if "rectanglelabels" in one["value"]]
    for one in boxes:
        told, wide, high = one["value"], one.get("original_width", 0), one.get("original_height", 0)
        yield {
            "image": path,
            "label": "|".join(told["rectanglelabels"]),
            "x": told["x"] * wide / 100,
            "y": told["y"] * high / 100,
            "width": told["width"] * wide / 100,
            "height": told["height"] * high / 100,
        }
    if chosen and not boxes:
        yield {"image": path, "label": "|".join(dict.fromkeys(map(str, chosen)))}


def _is_via(value: object) -> bool:
    return isinstance(value, dict) and "filename" in value and "regions" in value


def _of_via(picture: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the regions of a picture of VIA 1 and 2 (https://www.robots.ox.ac.uk/~vgg/software/via), or itself."""
    regions = picture["regions"]
    regions = list(regions.values()) if isinstance(regions, dict) else regions or []
    about = {"image": picture["filename"], **_attributes(picture.get("file_attributes"))}
    for region in regions:
        if box := _via_box(region.get("shape_attributes") or {}):
            yield {
                **about,
                **_attributes(region.get("region_attributes")),
                **dict(zip(("x", "y", "width", "height"), box, strict=True)),
            }
    if not regions:
        yield about


def _attributes(told: object) -> Row:
    """Return what was said, as texts; of check boxes those that are ticked."""
    if not isinstance(told, dict):
        return {}
    return {
        name: "|".join(word for word, ticked in value.items() if ticked) if isinstance(value, dict) else value
        for name, value in told.items()
    }


def _via_box(shape: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """Return left, top, width and height of a shape; None for a point."""
    if "width" in shape:
        return shape["x"], shape["y"], shape["width"], shape["height"]
    if "cx" in shape and ("r" in shape or "rx" in shape):
        across, down = shape.get("rx", shape.get("r", 0)), shape.get("ry", shape.get("r", 0))
        return shape["cx"] - across, shape["cy"] - down, 2 * across, 2 * down
    if shape.get("all_points_x"):
        xs, ys = shape["all_points_x"], shape["all_points_y"]
        return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
    return None
