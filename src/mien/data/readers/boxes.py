"""Faces marked with boxes and classes: COCO's .json, Pascal VOC's and CVAT's .xml, YOLO's .txt, LabelMe's .json.

Each box is one face with its label; it is cut out. A label without a box is that of the whole picture. Any set of one
of these forms is read, whoever made it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from operator import eq
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeVar
from xml.etree import ElementTree

from mien.data.dataset import SPLITS
from mien.data.index import Found, LabelledFile
from mien.data.pictures import Box
from mien.data.readers.csv_text import lines_of
from mien.data.readers.name_lists import name_lists
from mien.data.readers.public import shown_below, split_above
from mien.data.readers.words import LABEL_COLUMNS, pick_columns, split_in, split_of
from mien.errors import DataError, ImageError
from mien.files import clipped, plain_text
from mien.images.headers import read_header
from mien.terminal import counted

_MOST_BYTES = 1_000_000_000  # of a COCO file
_TRIED = 20  # files that are looked at to know the form
_Told = TypeVar("_Told")
_YOLO_LINE = re.compile(r"\d+(\s+-?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?){4,}\s*", re.IGNORECASE)


@dataclass(frozen=True)
class _Marked:
    """A face in a picture. picture: its path. label: a name, or a number that nothing names. box: None: all of it.

    attributes: what else was said of it, by name.
    """

    picture: Path
    label: str
    box: Box | None
    attributes: Mapping[str, str] = field(default_factory=dict)


def find_boxes(root: Path, pictures: Sequence[Path], others: Sequence[Path]) -> Found | None:
    """Read faces with boxes; None where no such files lie beside the pictures, or all boxes have one label.

    pictures, others: all below `root`.
    """
    for name, read in (
        ("COCO", _coco),
        ("Pascal VOC", _voc),
        ("CVAT", _cvat),
        ("LabelMe", _labelme),
        ("YOLO", _yolo),
    ):
        if marked := read(root, pictures, others):
            return _found(name, marked, root, pictures, others)
    return None


def _found(
    name: str, marked: Sequence[_Marked], root: Path, pictures: Sequence[Path], others: Sequence[Path]
) -> Found | None:
    """Return the faces that files of a form mark, and what is said of them. name: of the form."""
    attribute = ""
    if len({face.label for face in marked}) < 2:  # boxes of faces, whose labels stand elsewhere
        marked, attribute = _by_attribute(marked)
        if not attribute:
            return None
    files = []
    for number, face in enumerate(marked):
        shown = shown_below(face.picture, root)
        files.append(
            LabelledFile(
                face.picture, f"{shown} face {number}", face.label, split_above(face.picture, root),
                group=shown, box=face.box,
            )
        )  # fmt: skip
    told = _splits_listed(files, others)
    files = [replace(file, split=told[file.path]) for file in files if file.path in told] if told else files
    whole = sum(face.box is None for face in marked)
    notes = [f"faces are cut out by the boxes of {name} files"] if whole < len(marked) else []
    if whole:
        notes.append(f"taken whole: pictures of {counted(whole, 'label')} of {name} files without a box")
    if attribute:
        notes.append(f"labels are those of the attribute {clipped(attribute)!r}, as all boxes have one label")
    if told:
        notes.append("the splits are those of lists such as train.txt and val.txt")
        if without := len({face.picture for face in marked} - set(told)):
            notes.append(f"not used: {counted(without, 'picture')} in none of these lists")
    if rest := len(set(pictures) - {face.picture for face in marked}):
        notes.append(f"not used: {counted(rest, 'picture')} without a {'label' if whole else 'box'}")
    return Found(plain_text(root.resolve().name), files, tuple(notes))


def _by_attribute(marked: Sequence[_Marked]) -> tuple[list[_Marked], str]:
    """Return faces with the attribute that is called like a label for their labels, and its name; '' for none.

    So CVAT has them where the label is 'face'. One that a face lacks, or that is the same for all, is none.
    """
    names = list(dict.fromkeys(name for face in marked for name in face.attributes))
    for place in pick_columns(names, LABEL_COLUMNS).values():
        values = [face.attributes.get(names[place], "") for face in marked]
        if all(values) and len(set(values)) > 1:
            named = [replace(face, label=value) for face, value in zip(marked, values, strict=True)]
            return named, names[place]
    return list(marked), ""


def _splits_listed(files: Sequence[LabelledFile], others: Sequence[Path]) -> dict[Path, str]:
    """Return the split of each picture that lists name, such as Darknet's train.txt and VOC's ImageSets/Main/val.txt.

    Nothing where folders say the splits, or the lists name one split only; a picture in two lists (trainval.txt) is of
    the later split.
    """
    paths = list(dict.fromkeys(file.path for file in files))
    stems = {path.stem: path for path in paths}
    if {file.split for file in files} != {"train"} or len(stems) < len(paths):
        return {}
    lists = [
        (split, file) for file in others if file.suffix.lower() == ".txt" and (split := split_of(file.stem))
    ]
    told: dict[Path, str] = {}
    for split, file in sorted(lists, key=lambda one: SPLITS.index(one[0])):
        names = [PureWindowsPath(line.strip()).stem for line in lines_of(file) if line.strip()]
        named = [stems[name] for name in names if name in stems]
        if 2 * len(named) >= len(names):
            told |= dict.fromkeys(named, split)
    return told if len(set(told.values())) > 1 else {}


def _of_form(
    others: Sequence[Path], suffix: str, read: Callable[[Path], _Told | None], tried: int | None = None
) -> Iterator[tuple[Path, _Told]]:
    """Yield the files with a suffix that are of a form, and what each says; one at a time, as they may be large.

    read: returns None for a file of another form. tried: nothing is yielded where none of so many is of the form.
    """
    files = [file for file in others if file.suffix.lower() == suffix]
    if tried is None or any(read(file) is not None for file in files[:tried]):
        for file in files:
            if (told := read(file)) is not None:
                yield file, told


def _coco(root: Path, pictures: Sequence[Path], others: Sequence[Path]) -> list[_Marked]:
    """Lin et al. 2014, arXiv:1405.0312: images, categories, and annotations with bbox (left, top, width, height)."""
    marked, places = [], _by_name(pictures)
    for file, told in _of_form(others, ".json", _coco_file):
        try:
            names = {one["id"]: str(one["name"]) for one in told["categories"]}
            images = {one["id"]: str(one["file_name"]) for one in told["images"]}
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{shown_below(file, root)} has a category or picture without id and name ({error!r}); export it again"
            ) from error
        if _are_shares(told["annotations"]):
            raise DataError(
                f"{shown_below(file, root)} has boxes from 0 to 1, and COCO counts in pixels; export it again"
            )
        for number, one in enumerate(told["annotations"], start=1):
            try:
                box = None
                if given := one.get("bbox"):
                    left, top, width, height = map(float, given)
                    box = _box(left, top, left + width, top + height)
                name, label = images[one["image_id"]], names[one["category_id"]]
            except KeyError as error:
                what = (
                    "names no picture or category"
                    if error.args[0] in ("image_id", "category_id")
                    else (
                        f"names a picture or category {clipped(str(error.args[0]))} that is not among those of the file"
                    )
                )
                raise DataError(
                    f"{shown_below(file, root)} annotation {number} {what}; export it again"
                ) from error
            except (AttributeError, TypeError, ValueError) as error:
                raise DataError(
                    f"{shown_below(file, root)} annotation {number} is damaged ({error!r}); export it again"
                ) from error
            picture = _nearest(places.get(Path(name).name), file) or file.parent / name
            marked.append(_Marked(picture, label, box, _texts(one.get("attributes"))))
    return marked


def _texts(told: object) -> dict[str, str]:
    """Return attributes that are texts or numbers, as texts."""
    if not isinstance(told, dict):
        return {}
    return {str(name): plain_text(str(value)) for name, value in told.items() if isinstance(value, str | int)}


def _are_shares(annotations: Sequence[Any]) -> bool:
    """Say whether all boxes are shares of their pictures' sizes, and not pixels."""
    boxes = [box for one in annotations if isinstance(one, dict) and isinstance(box := one.get("bbox"), list)]
    numbers = [number for box in boxes for number in box]
    return bool(numbers) and all(isinstance(number, int | float) and number <= 1 for number in numbers)


def _coco_file(file: Path) -> dict[str, Any] | None:
    try:
        if file.stat().st_size > _MOST_BYTES:
            return None
        value = json.loads("".join(lines_of(file)))
        whole = all(isinstance(value[key], list) for key in ("images", "annotations", "categories"))
    except (DataError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return value if whole else None


def _by_name(pictures: Sequence[Path], *, stem: bool = False) -> dict[str, list[Path]]:
    places: dict[str, list[Path]] = {}
    for path in pictures:
        places.setdefault(path.stem if stem else path.name, []).append(path)
    return places


def _nearest(alike: Sequence[Path] | None, file: Path) -> Path | None:
    """Return which of the pictures of one name a file speaks of: the one that shares most folders with it.

    train/ and test/ often number their pictures alike. Of those that share as many, one in a folder of the split that
    the file's own name tells: annotations/instances_val2017.json is about val2017/.
    """
    own = split_in(file.stem)

    def likeness(picture: Path) -> tuple[int, bool]:
        shared = sum(1 for _ in takewhile(bool, map(eq, picture.parts, file.parts)))
        return shared, own is not None and any(split_of(part) == own for part in picture.parts[shared:-1])

    return max(alike, key=likeness) if alike else None


def _voc(root: Path, pictures: Sequence[Path], others: Sequence[Path]) -> list[_Marked]:
    """Everingham et al. 2010: a .xml for each picture, with <object><name> and <bndbox> (from 1, ends included)."""
    marked, stems = [], _by_name(pictures, stem=True)
    for file, told in _of_form(
        others, ".xml", partial(_xml, tag="annotation", inside="object/bndbox"), _TRIED
    ):
        named = told.findtext("filename") or f"{file.stem}.jpg"
        picture = _nearest(stems.get(Path(named).stem) or stems.get(file.stem), file) or file.parent / named
        for number, one in enumerate(told.iter("object"), start=1):
            corners = [one.findtext(f"bndbox/{side}") or "" for side in ("xmin", "ymin", "xmax", "ymax")]
            try:
                left, top, right, bottom = map(float, corners)
                box = _box(max(left - 1, 0), max(top - 1, 0), right, bottom)
            except ValueError as error:
                raise DataError(
                    f"{shown_below(file, root)} object {number} has no box of four numbers; export it again"
                ) from error
            told_of = {a.findtext("name"): a.findtext("value") for a in one.iter("attribute")}
            label = plain_text((one.findtext("name") or "").strip())
            marked.append(_Marked(picture, label, box, _texts(told_of)))
    return marked


def _xml(file: Path, tag: str, inside: str) -> ElementTree.Element | None:
    """Return what a file holds, where its outermost tag is called so and has such a one inside."""
    try:
        text = "".join(lines_of(file))
        if "<!DOCTYPE" in text:  # entities can unpack without end
            return None
        told = ElementTree.fromstring(text)
    except (DataError, ElementTree.ParseError, ValueError):
        return None
    return told if told.tag == tag and told.find(inside) is not None else None


def _cvat(root: Path, pictures: Sequence[Path], others: Sequence[Path]) -> list[_Marked]:
    """CVAT for images 1.1: one .xml with an <image> for each, in it <box>, <polygon> or <tag>, all with a label.

    See https://docs.cvat.ai/docs/manual/advanced/xml_format.
    """
    marked, places = [], _by_name(pictures)
    for file, told in _of_form(others, ".xml", partial(_xml, tag="annotations", inside="image")):
        for image in told.iter("image"):
            named = image.get("name", "")
            picture = (
                _nearest(places.get(PurePosixPath(named).name), file.parent / named) or file.parent / named
            )
            for number, one in enumerate(image, start=1):
                if one.tag not in ("box", "polygon", "tag"):
                    continue
                try:
                    box = _of_points(_cvat_points(one)) if one.tag != "tag" else None
                except ValueError as error:
                    raise DataError(
                        f"{shown_below(file, root)} image {clipped(named)} mark {number} has no box; export it again"
                    ) from error
                told_of = {a.get("name", ""): a.text for a in one.iter("attribute")}
                label = plain_text(one.get("label", "").strip())
                marked.append(_Marked(picture, label, box, _texts(told_of)))
    return marked


def _cvat_points(one: ElementTree.Element) -> list[tuple[float, float]]:
    if one.tag == "polygon":
        pairs = [pair.split(",") for pair in one.get("points", "").split(";")]
        return [(float(x), float(y)) for x, y in pairs]
    left, top, right, bottom = (float(one.get(side, "")) for side in ("xtl", "ytl", "xbr", "ybr"))
    return [(left, top), (right, bottom)]


def _labelme(root: Path, pictures: Sequence[Path], others: Sequence[Path]) -> list[_Marked]:
    """LabelMe (https://github.com/wkentaro/labelme): a .json for each picture, of shapes with a label and points.

    Where a picture has no shape and one of its flags is set, that is its label.
    """
    marked, places = [], _by_name(pictures)
    for file, told in _of_form(others, ".json", _labelme_file, _TRIED):
        name = PureWindowsPath(str(told.get("imagePath"))).name
        picture = _nearest(places.get(name), file) or file.parent / name
        given = told.get("flags")
        flags = [flag for flag, is_set in given.items() if is_set] if isinstance(given, dict) else []
        if not told["shapes"] and len(flags) == 1:
            marked.append(_Marked(picture, plain_text(flags[0]), None))
        for number, one in enumerate(told["shapes"], start=1):
            try:
                points = [(float(x), float(y)) for x, y in one["points"]]
                if one.get("shape_type") == "circle":  # its centre, and a point on it
                    (x, y), on = points
                    around = math.dist((x, y), on)
                    points = [(x - around, y - around), (x + around, y + around)]
                marked.append(_Marked(picture, plain_text(str(one["label"]).strip()), _of_points(points)))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{shown_below(file, root)} shape {number} has no label and points; mend or delete it"
                ) from error
    return marked


def _labelme_file(file: Path) -> dict[str, Any] | None:
    try:
        value = json.loads("".join(lines_of(file)))
        known = isinstance(value["shapes"], list) and isinstance(value["imagePath"], str)
    except (DataError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return value if known else None


def _of_points(points: Sequence[tuple[float, float]]) -> Box:
    across, down = zip(*points, strict=True)
    return _box(min(across), min(down), max(across), max(down))


def _yolo(root: Path, pictures: Sequence[Path], others: Sequence[Path]) -> list[_Marked]:
    """A .txt for each picture, beside it or in labels/ for images/: lines of a class's number and a box.

    The box is its centre, width and height in shares of the picture's; a polygon (more numbers) is read as its box.
    """
    texts = {file for file in others if file.suffix.lower() == ".txt"}
    pairs = [(path, text) for path in pictures if (text := _yolo_text(path, root)) in texts]
    if not any(_is_yolo(text) for _, text in pairs[:_TRIED]):
        return []
    lost = texts.difference(text for _, text in pairs)
    pairs += [(text.with_suffix(".jpg"), text) for text in sorted(lost) if _is_yolo(text)]
    names = _yolo_names(root, others)
    marked = []
    for picture, text in pairs:
        lines = [line for line in lines_of(text) if line.strip()]
        size = _size(picture) if lines else (1, 1)
        for number, line in enumerate(lines, start=1):
            if not _YOLO_LINE.fullmatch(line):
                raise DataError(
                    f"{shown_below(text, root)} line {number} is {clipped(line.strip())!r}, not the number of a class "
                    "and a box; mend or delete it"
                )
            label, *values = line.split()
            if names and int(label) not in names:
                raise DataError(
                    f"{shown_below(text, root)} line {number} is of class {label}, and the names of the classes "
                    f"(data.yaml, classes.txt) are those of {min(names)} to {max(names)}; YOLO counts from 0: mend the "
                    "names or the numbers"
                )
            marked.append(
                _Marked(picture, names.get(int(label), label), _scaled(list(map(float, values)), size))
            )
    return marked


def _yolo_text(picture: Path, root: Path) -> Path:
    """Return where the boxes of a picture stand: in labels/ where it lies in images/, else beside it."""
    parts = list(picture.relative_to(root).with_suffix(".txt").parts)
    places = [place for place, part in enumerate(parts[:-1]) if part.lower() == "images"]
    if places:
        parts[places[-1]] = "labels"
    return root.joinpath(*parts)


def _is_yolo(text: Path) -> bool:
    try:
        line = next(lines_of(text), "")
    except DataError:
        return False
    return bool(_YOLO_LINE.fullmatch(line)) and all(abs(float(value)) <= 1 for value in line.split()[1:])


def _yolo_names(root: Path, others: Sequence[Path]) -> dict[int, str]:
    """Return what the numbers mean: names in data.yaml (a list on one line or several, or numbered), or classes.txt."""
    for file in others:
        if file.suffix.lower() in (".yaml", ".yml") and (names := _names_in_yaml("".join(lines_of(file)))):
            return names
    return next((found.names for found in name_lists(root)), {})


def _names_in_yaml(text: str) -> dict[int, str]:
    """Return the names of a YOLO data.yaml.

    >>> _names_in_yaml("nc: 2\\nnames: ['angry', happy]")
    {0: 'angry', 1: 'happy'}
    >>> _names_in_yaml("names:\\n- angry\\n- happy\\nnc: 2"), _names_in_yaml("names:\\n  0: angry\\n  1: happy")
    ({0: 'angry', 1: 'happy'}, {0: 'angry', 1: 'happy'})
    """
    if found := re.search(r"^names:\s*\[(.*?)\]", text, re.MULTILINE | re.DOTALL):
        return {place: name.strip(" '\"\n") for place, name in enumerate(found[1].split(","))}
    found = re.search(r"^names:[^\S\n]*\n((?:(?:\s+\d+\s*:|\s*-).*\n?)+)", text, re.MULTILINE)
    if not found:
        return {}
    lines = [re.sub(r"\s+#.*", "", line).strip() for line in found[1].splitlines() if line.strip()]
    return {
        int(line.partition(":")[0]) if line[0].isdigit() else place: re.sub(r"^(\d+\s*:|-)", "", line).strip(
            " '\""
        )
        for place, line in enumerate(lines)
    }


def _size(picture: Path) -> tuple[int, int]:
    """Return width and height of a picture as it is shown; 1, 1 where it cannot be read, which indexing reports."""
    try:
        header = read_header(picture.read_bytes(), picture.name)
    except (OSError, ImageError):
        return 1, 1
    return (header.height, header.width) if header.orientation >= 5 else (header.width, header.height)


def _scaled(values: list[float], size: tuple[int, int]) -> Box:
    width, height = size
    if len(values) in (4, 5):  # a fifth: how sure a network was
        x, y, wide, high = values[:4]
        across, down = [x - wide / 2, x + wide / 2], [y - high / 2, y + high / 2]
    else:
        across, down = values[::2], values[1::2]
    return _box(min(across) * width, min(down) * height, max(across) * width, max(down) * height)


def _box(left: float, top: float, right: float, bottom: float) -> Box:
    return round(left), round(top), round(right), round(bottom)
