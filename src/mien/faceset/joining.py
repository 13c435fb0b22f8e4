"""One face set added to another: its faces with their crops, and what people said about them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from mien.errors import DataError, MienError
from mien.faceset.row import FaceRow
from mien.faceset.sources import moment, source_name
from mien.faceset.table import FaceSet, source_file
from mien.files import cannot_write, plain_text, shell_word
from mien.images.marks import free_place
from mien.label.agreement import NOTHING
from mien.label.store import Store
from mien.terminal import counted


@dataclass(frozen=True)
class Joined:
    """What came of it. new: faces that were added, by status. problems: a line for each that could not be."""

    new: Mapping[str, int]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def join(faces: FaceSet, folder: Path) -> Joined:
    """Add the faces of the set in `folder`, and what was said about them, to another one, which is written.

    Faces are known by their ids: one that is there keeps its row and its crop. Answers are taken over as
    `Store.take_over` says, so nobody's are lost and none counts twice; a label that was typed into the other table is
    an answer by `table`. The other set is only read.
    """
    other = FaceSet.open(folder)
    name = plain_text(str(folder))
    problems = [f"{name}: {line}" for line in other.problems]
    new: Counter[str] = Counter()
    with Store.read(other.folder) or nullcontext() as theirs:
        agreed = theirs.agreed if theirs else {}
        typed = {
            face.id: face.label
            for face in other
            if face.label and agreed.get(face.id, NOTHING).label != face.label
        }
        said = {*agreed, *typed}
        for face in other:
            if face.id in faces:
                continue
            try:
                row = _moved(face, other, faces)
            except MienError as error:
                problems.append(f"{name}: {error}")
                continue
            # Answers say the label; a row that has one beside them would count as typed.
            faces.add([replace(row, label="", votes={}, who="", when="") if face.id in said else row])
            new[face.status] += 1
        faces.write()
        notes = []
        if said:
            notes = _take_answers(faces, theirs, typed, name)
    return Joined(new, tuple(problems), (f"{name}: {counted(new.total(), 'new face')}", *notes))


def _take_answers(faces: FaceSet, theirs: Store | None, typed: Mapping[str, str], name: str) -> list[str]:
    with closing(Store.open(faces.folder)):
        FaceSet.open(faces.folder).write()  # with answers beside it, which labels that were typed become
    with Store.open(faces.folder) as store:
        taken = store.take_over(theirs, typed, Path(name).name)
        disputed = sum(len(store.agreed[face].votes) > 1 for face in taken.faces)
    faces.write()
    lines = [f"{name}: answers about {counted(len(taken.faces), 'face')} taken over"]
    lines += [
        f"{old} has answered in both sets since they parted; there {old} is {new}"
        for old, new in taken.renamed
    ]
    if disputed:
        lines.append(
            f"about {counted(disputed, 'face')} of these people do not agree; decide in mien label "
            f"{shell_word(faces.folder)}, under Disagreements"
        )
    return lines


def _moved(face: FaceRow, other: FaceSet, faces: FaceSet) -> FaceRow:
    """Return a row as it is in another folder, where its crop then lies. DataError where there is none."""
    crop = other.crop_path(face)
    if not crop.is_file():
        raise DataError(f"there is no crop {plain_text(face.file)}; {face.id} is left out")
    place = free_place(faces.folder / face.file, "")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(crop, place)
    except OSError as error:
        raise cannot_write(place, error) from error

    def named(source: str) -> str:
        return source and source_name(source_file(other.folder, source), faces.folder)

    group = named(face.group) if moment(face.group) == moment(face.source) else face.group
    return replace(
        face, file=place.relative_to(faces.folder).as_posix(), source=named(face.source), group=group
    )
