"""A video in, frames with followed faces out: look, follow, recognise, smooth."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from mien.predict.analyzer import Analyzer
from mien.predict.results import Face
from mien.video.looks import Look, Place, looks
from mien.video.reading import Frame, Video, open_video
from mien.video.results import TrackedFace, VideoFrame
from mien.video.settings import VideoSettings
from mien.video.smoothing import TrackSmoothing
from mien.video.threads import ahead
from mien.video.tracking import BoxTracker

_AHEAD, _TOGETHER = 8, 4  # frames decoded in advance; looks whose faces go to the network in one call
_BYTES = 1 << 25  # of frames in each of these two places: fewer of them where frames are large


def analyze_video(
    path: str | Path, analyzer: Analyzer, settings: VideoSettings | None = None
) -> Generator[VideoFrame]:
    """Yield every frame of a video file with its faces, in order.

    Raises ImageError, before the first frame, for what is no video. A file that ends too early gives what it has; to
    be told, use `open_video` and `analyze_frames`, and read `Video.problem` afterwards.
    """
    with open_video(Path(path)) as video:
        yield from analyze_frames(video, analyzer, settings)


def analyze_frames(
    video: Video, analyzer: Analyzer, settings: VideoSettings | None = None
) -> Generator[VideoFrame]:
    """Like analyze_video, for a video that is open. A thread decodes ahead; memory does not grow with the length."""
    settings = settings or VideoSettings()
    every = settings.frames_a_look(video.fps)
    frame_bytes = max(1, 3 * video.size_px[0] * video.size_px[1])
    together = max(1, min(_TOGETHER, _BYTES // (frame_bytes * every)))
    tracker = BoxTracker(settings.tracker())
    results = _Recognition(analyzer, settings)
    # Later looks say whether a new face is one, and where faces are until then: so long a look waits for its turn.
    undecided = max(1, settings.birth_looks - 1)
    waiting: list[Look] = []
    frames = ahead(video.frames(), max(2, min(_AHEAD, _BYTES // frame_bytes)))
    try:
        for look in looks(frames, every, analyzer.detector, settings.search_px, tracker):
            waiting.append(look)
            if len(waiting) == undecided + together:
                yield from results.of(waiting[: together + 1])
                del waiting[:together]
        tracker.settle()
        for start in range(0, len(waiting), together):
            yield from results.of([*waiting, None][start : start + together + 1])
    finally:
        frames.close()


class _Recognition:
    """Recognises and smooths the faces of looks that are decided. Looks must come in order, each once."""

    def __init__(self, analyzer: Analyzer, settings: VideoSettings) -> None:
        self._analyzer = analyzer
        half_life_s = settings.half_life_s if settings.smoothing else None
        self._smoothing = TrackSmoothing(analyzer.head, half_life_s)

    def of(self, row: Sequence[Look | None]) -> Iterator[VideoFrame]:
        """Yield the frames of all looks but the last of the row, with one call of the network."""
        scenes = [
            (frame, _largest_first(look.places_in(frame, following)))
            for look, following in pairwise(row)
            if look is not None
            for frame in look.frames
        ]
        faces = self._analyzer.recognise_faces(
            [frame.image for frame, _ in scenes],
            [tuple(place.found for place in places) for _, places in scenes],
        )
        for (frame, places), found in zip(scenes, faces, strict=True):
            yield VideoFrame(
                index=frame.index,
                time_s=frame.time_s,
                faces=tuple(
                    self._tracked(frame, place, face) for place, face in zip(places, found, strict=True)
                ),
                image=frame.image,
            )

    def _tracked(self, frame: Frame, place: Place, face: Face) -> TrackedFace:
        assert place.track.number is not None  # the others were left out
        return TrackedFace(
            track=place.track.number,
            face=self._smoothing.add(place.track, frame.time_s, face),
            raw=face.probabilities,
            interpolated=place.interpolated,
        )


def _largest_first(places: Sequence[Place]) -> tuple[Place, ...]:
    confirmed = (place for place in places if place.track.number is not None)
    return tuple(sorted(confirmed, key=lambda place: -place.found.area))
