"""One video of a run, which many actors can work at, step by step.

    outline    where it can be cut
    look       a piece: the faces in its keyframes
    wanted     all pieces, in order: which faces are to be named
    name       a piece: what the network says of them
    table      all pieces, in order: the rows of `mien video`

`mien.video.pieces` does it. What a step has said is a file in the folder of the run until the table is written, so that
a killed run goes on in the middle of a video.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from mien.batch.part import CRASH, DAMAGED, DEATHS_ALONE, UNREADABLE, Answer, Job, Part, encoded, what_died
from mien.batch.plan import Shard
from mien.batch.storage import Target, is_address
from mien.errors import ImageError
from mien.images.listing import picture_name, picture_path
from mien.predict.analyzer import Analyzer
from mien.predict.results import arrow_schema, arrow_table
from mien.video import pieces
from mien.video.analyze import VideoSettings
from mien.video.reader import configure_ffmpeg
from mien.video.sinks import video_columns, video_rows

_SETTINGS = VideoSettings()  # those of `mien video` without options
_OUTLINE, _LOOK, _WANTED, _NAME, _TABLE = "outline", "look", "wanted", "name", "table"


def pieces_folder(shard: Shard) -> str:
    """Return where in the folder of the run the steps of a video leave what they have found."""
    return f"pieces/{shard.number:07}"


class VideoWork:
    """The steps of one video, and their files."""

    def __init__(self, shard: Shard, to: Target, told: Callable[[str, int, int], None]) -> None:
        self._shard, self._to, self._told = shard, to, told
        self._folder = pieces_folder(shard)
        self._stored = set(to.names(self._folder))
        self._there = {
            name: _loaded(to.read(f"{self._folder}/{name}"))
            for name in (_OUTLINE, _WANTED)
            if name in self._stored
        }
        self._out: set[str] = set()
        self._again: deque[Part] = deque()
        self._deaths: Counter[str] = Counter()
        self._result: bytes | None = None

    def next(self) -> Part | None:
        if self._again:
            return self._again.popleft()
        names = self._names()
        for needed in (_OUTLINE, _LOOK, _WANTED, _NAME):
            missing = [name for name in names if _step(name) == needed and name not in self._stored]
            if missing:
                name = next((name for name in missing if name not in self._out), None)
                return self._part(name) if name else None
        return None if _TABLE in self._out else self._part(_TABLE)

    def answered(self, part: Part, answer: Answer) -> None:
        name = _name(part)
        self._out.discard(name)
        if self._is_stale(part):
            return
        if answer.is_table:
            self._result = answer.content[0]
        elif answer.unlike:
            self._take_as_one()
        elif part.step == _WANTED:
            for number, content in enumerate(answer.content):
                self._to.write(f"{self._folder}/for-{number}", content)
            filled = [number for number, content in enumerate(answer.content) if _loaded(content)]
            self._store(_WANTED, _dumped(filled))
        else:
            self._store(name, answer.content[0])
        names = self._names()
        done = sum(one in self._stored for one in names)
        self._told(picture_name(self._shard.items[0].file), done, len(names) + 1)

    def again(self, part: Part) -> None:
        if self._is_stale(part):
            self._out.discard(_name(part))
        else:
            self._again.append(part)

    def died(self, part: Part, why: str) -> None:
        if self._is_stale(part):
            self._out.discard(_name(part))
            return
        name = _name(part)
        self._deaths[name] += 1
        if self._deaths[name] < DEATHS_ALONE:
            self._again.append(part)
        else:
            self._again.append(Part(self._shard, problem=what_died(why), step=_TABLE))

    def result(self) -> bytes | None:
        return self._result

    def _names(self) -> list[str]:
        """Return the steps that are known to be needed before the table, in their order."""
        names = [_OUTLINE]
        if plan := self._there.get(_OUTLINE):
            count = len(plan["firsts"])
            names += [f"{_LOOK}-{number}" for number in range(count)]
            names += [_WANTED, *(f"{_NAME}-{number}" for number in self._there.get(_WANTED, range(count)))]
        return names

    def _part(self, name: str) -> Part:
        self._out.add(name)
        step, _, piece = name.partition("-")
        given = [] if step == _OUTLINE else [self._to.read(f"{self._folder}/{_OUTLINE}")]
        count = len(self._there[_OUTLINE]["firsts"]) if given else 0
        if step in (_WANTED, _TABLE):
            given += [self._to.read(f"{self._folder}/{_LOOK}-{number}") for number in range(count)]
        if step == _TABLE:
            filled = self._there[_WANTED]
            given += [self._to.read(f"{self._folder}/{_NAME}-{number}") for number in filled]
        if step == _NAME:
            given.append(self._to.read(f"{self._folder}/for-{piece}"))
        return Part(self._shard, step=step, piece=int(piece or 0), given=tuple(given))

    def _store(self, name: str, content: bytes) -> None:
        self._to.write(f"{self._folder}/{name}", content)
        self._stored.add(name)
        if name in (_OUTLINE, _WANTED):
            self._there[name] = _loaded(content)

    def _is_stale(self, part: Part) -> bool:
        """Say whether a part is about pieces that are no longer those of the video."""
        return bool(part.given) and _loaded(part.given[0]) != self._there[_OUTLINE]

    def _take_as_one(self) -> None:
        """Begin anew, with the whole video as one piece. What others still say of its pieces is dropped."""
        plan = _plan(self._there[_OUTLINE])
        if len(plan.firsts) == 1:
            return
        self._to.remove_folder(self._folder)
        self._stored.clear()
        self._there.clear()
        self._out -= set(map(_name, self._again))  # nobody is at these, and nobody will be
        self._again.clear()
        self._store(_OUTLINE, _dumped(asdict(plan.whole())))


def answered_video(part: Part, job: Job, analyzer: Analyzer) -> Answer:
    """Do one step of a video, in an actor."""
    (item,) = part.shard.items
    shown = picture_name(item.file)
    if part.problem:
        return Answer([_failed(part, job, analyzer, f"{shown} {part.problem}", CRASH)])
    try:
        if not is_address(item.file):
            return _done(part, job, analyzer, job.storage.root / item.file, None)
        if part.step in (_WANTED, _TABLE):  # which do not look at it
            return _done(part, job, analyzer, Path(item.file), None)
        with job.storage.video(item.file, shown) as stream:
            return _done(part, job, analyzer, Path(shown), stream)
    except pieces.NotAlike as error:
        if len(_plan(_loaded(part.given[0])).firsts) > 1:
            return Answer([], is_table=False, unlike=True)
        return Answer([_failed(part, job, analyzer, f"{shown}: {error}", DAMAGED)])
    except ImageError as error:
        readable = not is_address(item.file) and (job.storage.root / item.file).is_file()
        text = str(error).replace(str(job.storage.root / item.file), shown)
        return Answer([_failed(part, job, analyzer, text, DAMAGED if readable else UNREADABLE)])


def _done(part: Part, job: Job, analyzer: Analyzer, path: Path, stream: IO[bytes] | None) -> Answer:
    configure_ffmpeg()
    if part.step == _OUTLINE:
        return _said(asdict(pieces.outline(path, stream=stream)))
    first, *given = part.given
    plan = _plan(_loaded(first))
    if part.step == _LOOK:
        return _said(pieces.look(path, plan, part.piece, analyzer, _SETTINGS, stream=stream))
    if part.step == _NAME:
        return _said(pieces.name(path, plan, part.piece, _loaded(given[0]), analyzer, stream=stream))
    looks = [_loaded(one) for one in given[: len(plan.firsts)]]
    if part.step == _WANTED:
        pieces.problem(path, plan, looks)  # an ImageError where there is no frame
        return Answer([_dumped(one) for one in pieces.wanted(plan, looks, _SETTINGS)], is_table=False)
    shares = (row for one in given[len(plan.firsts) :] for row in _loaded(one))
    return Answer([_table(part, job, analyzer, plan, looks=looks, shares=shares, path=path)])


def _table(
    part: Part,
    job: Job,
    analyzer: Analyzer,
    plan: pieces.Outline,
    *,
    looks: Sequence[Any],
    shares: Iterator[Any],
    path: Path,
) -> bytes:
    """Return the Parquet file of a video: a row a face and frame, as in the table of `mien video`."""
    (item,) = part.shard.items
    shown, source = picture_name(item.file), job.sources[item.source]
    name = picture_path(item.file)
    counts: Counter[str] = Counter(videos=1)
    tracks: set[int] = set()
    rows: list[list[Any]] = []
    for frame in pieces.answers(plan, looks, shares, analyzer, _SETTINGS):
        counts["video frames"] += 1
        tracks |= {face.track for face in frame.faces}
        rows += ([name, *row, None, source, None] for row in video_rows(frame))
    counts["faces in videos"] = len(tracks)
    empty = [None] * len(video_columns(analyzer.head.labels))
    if trouble := pieces.problem(path, plan, looks).replace(str(path), shown):
        counts["failed"] += 1
        counts[f"error {DAMAGED}"] += 1
    if trouble or not rows:
        rows.append([name, *empty, trouble or None, source, DAMAGED if trouble else None])
    return _encoded(rows, analyzer, counts, job)


def _failed(part: Part, job: Job, analyzer: Analyzer, problem: str, error: str) -> bytes:
    (item,) = part.shard.items
    empty = [None] * len(video_columns(analyzer.head.labels))
    row = [picture_path(item.file), *empty, problem, job.sources[item.source], error]
    return _encoded([row], analyzer, Counter({"videos": 1, "failed": 1, f"error {error}": 1}), job)


def _encoded(rows: Sequence[Sequence[Any]], analyzer: Analyzer, counts: Counter[str], job: Job) -> bytes:
    names = ["path", *video_columns(analyzer.head.labels), "problem", "source", "error"]
    return encoded(arrow_table(rows, arrow_schema(names)), counts, job.run)


def _name(part: Part) -> str:
    return f"{part.step}-{part.piece}" if part.step in (_LOOK, _NAME) else part.step


def _step(name: str) -> str:
    return name.partition("-")[0]


def _plan(plain: Any) -> pieces.Outline:
    begins, firsts = tuple(plain["begins_s"]), tuple(plain["firsts"])
    width, height = plain["size_px"]
    return pieces.Outline(plain["fps"], (width, height), plain["length_s"], begins, firsts)


def _said(plain: Any) -> Answer:
    return Answer([_dumped(plain)], is_table=False)


def _dumped(plain: Any) -> bytes:
    return zlib.compress(json.dumps(plain).encode(), 1)


def _loaded(content: bytes) -> Any:
    return json.loads(zlib.decompress(content))
