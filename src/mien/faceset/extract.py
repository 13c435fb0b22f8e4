"""Photographs, folders, films and tables in, a face set out: `mien faces` and `mien.faces`.

Sources stream through: photographs are decoded and searched in parallel (`mien.images.prefetch`), films one after the
other, their frames in parallel (`films.py`). Crops are written at once; table and list of sources every few seconds. So
a run that was killed goes on where it was when it is given again, and a second run adds what is new.
"""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.detect.base import Box, Detector, iou
from mien.detect.registry import open_detector
from mien.detect.search import PhotoSearch
from mien.errors import ConfigError, DataError, ImageError
from mien.faceset.crops import Copies, cut_out, row_of, status_of, write_crop
from mien.faceset.films import FilmReport, SearchLog, content_of_film, film_faces
from mien.faceset.joining import join
from mien.faceset.row import DUPLICATE, SET_ASIDE, SHOWN, FaceRow
from mien.faceset.settings import FacesConfig
from mien.faceset.sources import (
    Entry,
    Ledger,
    PhotoFile,
    Seen,
    SeenError,
    Source,
    find_sources,
    search_key,
    shared_groups,
)
from mien.faceset.table import TABLE_FILE, FaceSet, source_file
from mien.files import check_replaceable, expanded, given_path, given_paths, plain_text
from mien.images.prefetch import Picture, process_many
from mien.label.history import class_name
from mien.locks import locked
from mien.settings import from_mapping
from mien.terminal import OnStage

Pixels = NDArray[np.uint8]
_STORE_EVERY_S = 10.0  # between two writings of the table
_STORE_SHARE = 0.05  # of the time that writing may take
_FRAME_S = 0.04  # within which two times of a film are one, at least
_SAME_IOU = 0.5  # intersection over union from which a box is that of a face that is there
PHOTOGRAPHS = "photographs"


@dataclass(frozen=True)
class Extraction:
    """What a run did.

    faces: the face set, with all that was in it before. new: faces that were added, by status ('' for those that are
    shown). photographs, films: looked at now. known: sources looked at before. without: looked at, without a face.
    problems: a line for each source or row that could not be used. notes: lines about what was decided or left out.
    """

    faces: FaceSet
    new: Mapping[str, int]
    photographs: int
    films: int
    known: int
    without: int
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def extract_faces(
    paths: str | Path | Sequence[str | Path],
    to: str | Path,
    config: FacesConfig | None = None,
    *,
    detector: str | Detector = "auto",
    detector_file: str | Path | None = None,
    progress: OnStage | None = None,
    warn: Callable[[str], None] | None = None,
    **settings: Any,
) -> Extraction:
    """Write the faces of photographs and films as a face set; add to it what is new where it is there already.

    paths: photographs, films, folders of both, globs, and tables of mien predict and mien video, in any mix. They are
    only read. to: folder of the face set. config, or settings by name: see `FacesConfig`. detector: a name as
    `mien.load` takes it, or one that is open. progress: told what is done, how many and of how many. warn: told each
    problem as soon as it is known. Raises ConfigError, OutputError, or DataError where no path names anything.
    """
    given = given_paths(paths)
    if config is not None and settings:
        raise ConfigError(f"give config or settings by name, not both (got {', '.join(settings)})")
    chosen = config or from_mapping(FacesConfig, settings, "mien.faces")
    folder = expanded(given_path(to))
    if isinstance(detector, str):
        detector = open_detector(detector, None if detector_file is None else Path(detector_file))
    check_replaceable(folder, "a face set", TABLE_FILE)
    sources = find_sources(given, folder, chosen)
    if not sources.photos and not sources.films and not sources.face_sets:
        raise DataError("; ".join([*sources.problems, *sources.notes]) or "no photograph or film is named")
    with locked(folder, "being filled with faces"):
        run = _Run(folder, chosen, detector, progress, warn)
        for line in sources.problems:
            run.problem(line)
        for other in sources.face_sets:
            run.join(other)
        try:
            run.group_moments([*sources.photos, *sources.films])
            run.photographs(sources.photos)
            for film in sources.films:
                run.film(film)
            run.group([*sources.photos, *sources.films])
            run.label([*sources.photos, *sources.films])
        except BaseException as error:
            if not isinstance(error, OSError):  # what is done is kept; a full disk has no room for it
                run.store()
            raise
        return run.finished(sources.notes)


@dataclass
class _Answer:
    """What came of a photograph. faces: rows with their thumbnails. outside: boxes of a table that are not in it."""

    faces: list[tuple[FaceRow, Pixels]] = field(default_factory=list)
    found: int = 0
    outside: int = 0
    warning: str = ""
    error: ImageError | None = None


class _Run:
    def __init__(
        self,
        folder: Path,
        config: FacesConfig,
        detector: Detector,
        progress: OnStage | None,
        warn: Callable[[str], None] | None,
    ) -> None:
        self._config, self._detector, self._progress, self._warn = config, detector, progress, warn
        self._search = PhotoSearch(detect_size=config.detect_size)
        self.faces = FaceSet.open(folder, create=True)
        if not (folder / TABLE_FILE).is_file():
            self.faces.write()  # by which the folder is known as a face set, even if this is killed soon
        self.ledger = Ledger(folder)
        self._new: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._problems: list[str] = []
        self._notes: list[str] = []
        self._stored_s, self._took_s = time.monotonic(), 0.0
        for line in self.faces.problems:
            self.problem(line)
        self._groups: Mapping[str, str] = {}
        self._unreadable: dict[str, str] = {}  # contents, to the first photograph that has it
        self._judged_anew()
        self._index()

    def _index(self) -> None:
        self._known_faces: defaultdict[str, list[FaceRow]] = defaultdict(list)
        for face in self.faces:
            self._known_faces[face.id.partition("-")[0]].append(face)
        self.copies = Copies(self.faces)

    def problem(self, line: str) -> None:
        self._problems.append(line)
        if self._warn:
            self._warn(line)

    def join(self, other: Path) -> None:
        """Add another face set."""
        done = join(self.faces, other)
        for line in done.problems:
            self.problem(line)
        self._notes += done.notes
        self._new.update(done.new)
        self._index()

    def group_moments(self, sources: Sequence[Source]) -> None:
        """Let a live photo and its film, and one photograph in two formats, be one group, also where they were two."""
        known = ((face.source, face.group) for face in self.faces)
        self._groups = shared_groups(known, (source.name for source in sources))
        for face in list(self.faces):
            if face.group == face.source and face.source in self._groups:
                self.faces.put(replace(face, group=self._groups[face.source]))

    # Photographs

    def photographs(self, sources: Sequence[Source]) -> None:
        files = [
            PhotoFile(source, self.ledger, search_key(source, self._config, self._detector))
            for source in sources
        ]

        def work(pictures: list[Picture]) -> list[_Answer]:
            return [self._looked_at(picture, files[picture.place]) for picture in pictures]

        if self._progress:
            self._progress(PHOTOGRAPHS, 0, len(files))
        with closing(process_many(files, work)) as answers:
            for done, (file, answer) in enumerate(zip(files, answers, strict=True), start=1):
                self._take(file, answer)
                if self._progress:
                    self._progress(PHOTOGRAPHS, done, len(files))
                self._store_if_due()

    def _looked_at(self, picture: Picture, file: PhotoFile) -> _Answer:
        """Find and cut the faces of a photograph, and write their crops. In one of several threads."""
        if isinstance(picture.decoded, ImageError):
            return _Answer(error=picture.decoded)
        pixels, source = picture.decoded.pixels, file.source
        answer = _Answer(warning=picture.decoded.warning)
        found = source.faces
        if found is None:
            found = self._search(self._detector, pixels)
        inside = [face for face in found if _is_inside(face.box, pixels)]
        answer.found, answer.outside = len(inside), len(found) - len(inside)
        for face in inside:
            if _match(face.box, None, self._known_faces.get(file.content_key, ())):
                continue
            cut = cut_out(pixels, face, self._config)
            row = row_of(cut, file.content_key, source.name, self._group(source), self._config)
            write_crop(self.faces.folder, row, cut)
            answer.faces.append((row, cut.thumbnail))
        return answer

    def _take(self, file: PhotoFile, answer: _Answer) -> None:
        source = file.source
        if isinstance(answer.error, SeenError) and answer.error.content in self._unreadable:
            first = self._unreadable[answer.error.content]
            answer = _Answer(
                error=ImageError(f"{source.title} is the same file as {first}, which cannot be used")
            )
        if isinstance(answer.error, SeenError):
            self._counts["known"] += 1
            if answer.error.content:
                self._take_known(file.seen, answer.error.content)
            return
        self._counts[PHOTOGRAPHS] += 1
        if answer.error:
            self.problem(str(answer.error))
            self._enter(file.seen, "", problem=str(answer.error))
            if file.content_key:
                self.ledger.forget(file.content_key, file.seen.search)
                self._unreadable[file.content_key] = source.title
            return
        if answer.warning:
            self._notes.append(answer.warning)
        if answer.outside:
            self.problem(
                f"{source.title}: {answer.outside} of its boxes lie outside of it or are far larger; is it the picture "
                "of the table?"
            )
        self._counts["without"] += not answer.found
        self._enter(file.seen, file.content_key, self._added(answer.faces))

    # Films

    def film(self, source: Source) -> None:
        """Add the faces of a film. Where a run was killed within it, what it had searched is not searched again."""
        seen = Seen(source, search_key(source, self._config, self._detector))
        if seen.is_unchanged(self.ledger):
            self._counts["known"] += 1
            return
        report = FilmReport()
        log: SearchLog | None = None
        content, rows = "", []
        try:
            content = content_of_film(source.path)
            if self.ledger.knows(content, seen.search):
                self._counts["known"] += 1
                self._take_known(seen, content)
                return
            self._counts["films"] += 1
            if source.frames is None:
                before = (face.id for face in self._known_faces.get(content, ()))
                log = SearchLog(self.faces.folder, content, seen.search, before)
            rows = self._film_rows(source, content, report, log)
        except ImageError as error:
            self._counts["films"] += not content
            self.problem(str(error))
            self._enter(seen, "", problem=str(error))
            if log:
                log.close(done=True)
            return
        except BaseException:
            if log:
                log.close(done=False)
            raise
        if report.problem:
            self.problem(report.problem)
        self._counts["without"] += not rows
        self._notes += report.lines(source.path.name)
        self._enter(seen, content, rows)
        self.store()
        if log:
            log.close(done=True)

    def _film_rows(
        self, source: Source, content: str, report: FilmReport, log: SearchLog | None
    ) -> list[FaceRow]:
        added: list[FaceRow] = []
        there = [face for face in self._known_faces.get(content, ()) if log is None or face.id in log.known]

        def progress(done: int, of: int) -> None:
            if self._progress:
                self._progress(source.path.name, done, of)

        with closing(
            film_faces(source, self._detector, self._config, report, log=log, progress=progress)
        ) as picks:
            for pick in picks:
                if _match(pick.cut.face.box, pick.time_s, there, max(self._config.every, _FRAME_S)):
                    continue
                row = row_of(
                    pick.cut,
                    content,
                    source.name,
                    self._group(source),
                    self._config,
                    time_s=pick.time_s,
                    track=pick.track,
                )
                if row.id in self.faces:  # by a run that was killed
                    added.append(self.faces[row.id])
                    continue
                write_crop(self.faces.folder, row, pick.cut)
                added += self._added([(row, pick.cut.thumbnail)])
                self._store_if_due()
        return added

    # Both

    def _added(self, found: Iterable[tuple[FaceRow, Pixels]]) -> list[FaceRow]:
        """Add faces to the set, those that repeat another one as its duplicates."""
        rows = []
        for row, small in found:
            if row.id in self.faces:
                continue
            original = self.copies.original(small)
            if original:
                row = replace(row, status=DUPLICATE, duplicate_of=original)  # noqa: PLW2901
            elif row.status == SHOWN:
                self.copies.add(row, small)
            self.faces.add([row])
            self._new[row.status] += 1
            rows.append(row)
        return rows

    def _group(self, source: Source) -> str:
        """Return the group of a source's faces: the source (of its moment), until `group` says more."""
        return self._groups.get(source.name, source.name)

    def group(self, sources: Sequence[Source]) -> None:
        """Put faces, also those that are there, into the groups that --group finds in the paths of their sources."""
        if self._config.group is None:
            return
        groups = {source.name: _matched(self._config.group, source) for source in sources}
        self._counts["ungrouped"] += sum(not group for group in groups.values())
        for face in list(self.faces):
            group = groups.get(face.source) or face.group
            if group != face.group:
                self._counts["grouped"] += 1
                self.faces.put(replace(face, group=group))

    def label(self, sources: Sequence[Source]) -> None:
        """Give faces the labels that --label finds in the paths of their sources, where nobody labelled them."""
        if self._config.label is None:
            return
        labels = {}
        for source in sources:
            text = _matched(self._config.label, source)
            try:
                labels[source.name] = class_name(text) if text else ""
            except ConfigError as error:
                self.problem(f"{source.title} is not labelled by --label: {error}")
        self._counts["unlabelled"] += sum(not label for label in labels.values())
        faces = sorted(self.faces, key=lambda face: face.box.width * face.box.height if face.box else 0.0)
        largest = {face.source: face.id for face in faces}
        for face in faces:
            label = labels.get(face.source)
            if not label or (face.time_s is None and face.id != largest[face.source]):
                continue
            if face.status == DUPLICATE:
                first = (
                    self.faces[face.duplicate_of].source if face.duplicate_of in self.faces else face.source
                )
                self._counts["contradicted"] += labels.get(first, label) != label
            elif face.status in (SHOWN, *SET_ASIDE) and not face.is_labelled:
                self._counts["labelled"] += 1
                self.faces.put(replace(face, label=label))

    def _enter(self, seen: Seen, content: str, rows: Sequence[FaceRow] = (), problem: str = "") -> None:
        source, status = seen.source, seen.status
        before = self.ledger.get(source.name)
        if before and before.content and content and before.content != content:
            self._counts["changed"] += 1
        size, modified = (status.st_size, status.st_mtime_ns) if status else (0, 0)
        count, aside = len(rows), sum(row.status != SHOWN for row in rows)
        if before and before.content == content:  # another search of the same
            count, aside = count + before.faces, aside + before.set_aside
        self.ledger.put(
            Entry(
                source.name, content, size, modified, count, aside, seen.search, self._config.limits, problem
            )
        )

    def _take_known(self, seen: Seen, content: str) -> None:
        """Enter a source whose content is known under another name; where that file is gone, it was renamed."""
        source = seen.source
        other = self.ledger.of_content(content)
        self._enter(seen, content)
        if (
            other is None
            or other.source == source.name
            or source_file(self.faces.folder, other.source).exists()
        ):
            return
        self._counts["renamed"] += 1
        self.ledger.rename(other, source.name)
        for face in self._known_faces.get(content, ()):
            if face.id not in self.faces:
                continue
            now = self.faces[face.id]
            if now.source == other.source:
                group = self._group(source) if now.group == other.source else now.group
                self.faces.put(replace(now, source=source.name, group=group))

    def _judged_anew(self) -> None:
        """Say again what is set aside where a limit is another one than before; what people decided stays."""
        entries = [entry for entry in self.ledger if entry.limits != self._config.limits]
        names = {entry.source for entry in entries}
        for face in self.faces:
            if face.source not in names or face.label or face.votes or face.box is None:
                continue
            if face.status == DUPLICATE or face.status not in (SHOWN, *SET_ASIDE):
                continue
            longer = max(face.box.width, face.box.height)
            status = status_of(longer, face.score, face.reasons, face.sharpness, self._config)
            if status != face.status:
                self._counts["judged"] += 1
                self.faces.put(replace(face, status=status))
        for entry in entries:
            self.ledger.put(replace(entry, limits=self._config.limits))

    def store(self) -> None:
        """Write table, list of sources and hashes. In this order: what only the list had would be lost."""
        begun = time.monotonic()
        self.faces.write()
        self.ledger.write()
        self.copies.save()
        self._stored_s = time.monotonic()
        self._took_s = self._stored_s - begun

    def _store_if_due(self) -> None:
        if time.monotonic() - self._stored_s > max(_STORE_EVERY_S, self._took_s / _STORE_SHARE):
            self.store()

    def finished(self, notes: Sequence[str]) -> Extraction:
        self.store()
        counts = self._counts
        said = {
            "renamed": "sources that have another name than before (their faces name the new one)",
            "changed": "sources that have changed since they were looked at (the faces of what they were stay)",
            "judged": "faces that are set aside, or shown again, by the new limits",
            "grouped": "faces grouped by --group",
            "ungrouped": "sources that match nothing of --group (their faces keep the group that they have)",
            "labelled": "faces labelled by --label",
            "unlabelled": "sources that match nothing of --label",
            "contradicted": "faces that repeat another one and that --label calls otherwise (they stay set aside)",
        }
        lines = [f"{line}: {counts[name]:,}" for name, line in said.items() if counts[name]]
        cut = {face.margin for face in self.faces if face.margin is not None} - {self._config.margin}
        if cut:
            lines.append(
                f"some crops in {self.faces.folder} have the margin {min(cut):g}, not {self._config.margin:g}; they "
                "stay as they are, each with its margin in the table"
            )
        return Extraction(
            self.faces,
            dict(self._new),
            counts[PHOTOGRAPHS],
            counts["films"],
            counts["known"],
            counts["without"],
            tuple(self._problems),
            (*notes, *self._notes, *lines),
        )


def _matched(pattern: str, source: Source) -> str:
    """Return what a pattern, or its first group, matches in the path of a source; '' for nothing."""
    found = re.search(pattern, source.path.absolute().as_posix())
    return plain_text((found[1] if found.re.groups else found[0]) or "") if found else ""


def _is_inside(box: Box, picture: Pixels) -> bool:
    """Say whether the middle of a box lies in a picture, and it is not far larger, as one in a wrong unit is."""
    x, y = box.x + box.width / 2, box.y + box.height / 2
    height, width = picture.shape[:2]
    return bool(0 <= x < width and 0 <= y < height and max(box.width, box.height) <= 2 * max(width, height))


def _match(box: Box, time_s: float | None, faces: Sequence[FaceRow], within_s: float = 0.0) -> bool:
    """Say whether a face is among those that are there: with a box in about the same place, at about the same time."""
    near = [
        face.box
        for face in faces
        if face.box
        and (time_s is None or (face.time_s is not None and abs(face.time_s - time_s) <= within_s))
    ]
    if not near:
        return False
    overlap = iou(np.array([box], np.float32), np.array(near, np.float32))[0]
    return float(overlap.max()) > _SAME_IOU
