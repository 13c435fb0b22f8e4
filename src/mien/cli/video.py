"""`mien video`: a video in; out come a marked copy, a table with a row a face and time, and a timeline to look at."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mien.cli.inputs import FACE_LIMITS, add_face_limits, add_network_options, new_folder, open_analyzer
from mien.terminal import put_off, stopped_code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mien.predict.analyzer import Analyzer
    from mien.video.analyze import VideoFrame, VideoSettings
    from mien.video.places import Place
    from mien.video.reader import Video
    from mien.video.timeline import Timeline

HELP = "Follow the faces in a video: a marked copy, a table of expressions over time, and a timeline."
EXAMPLES = """examples:
  mien video talk.mp4                                    writes talk-faces/: video, table, timeline
  mien video talk.mp4 --to results --jsonl
  mien video talk.mp4 --no-smoothing     every frame on its own
  mien video talk.mp4 --stride 1         look for faces in every frame
  mien video talk.mp4 --no-video         table and timeline alone, faster
"""
_NAMED = 3  # expressions in a line of the summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from mien.settings import add_settings
    from mien.video.analyze import VideoSettings

    parser.add_argument("file", metavar="FILE", type=Path, help="a video of any kind that FFmpeg decodes")
    add_network_options(parser)
    add_face_limits(parser)
    parser.add_argument(
        "--to",
        type=new_folder,
        metavar="DIR",
        help="folder for the results (default: NAME-faces in this folder; where that is another video's, NAME-2-faces)",
    )
    parser.add_argument("--jsonl", action="store_true", help="also write a line of JSON a frame")
    parser.add_argument("--no-video", action="store_true", help="write no marked video")
    add_settings(parser, VideoSettings)


def run(options: argparse.Namespace) -> int:
    from mien.images.listing import picture_name
    from mien.settings import from_options
    from mien.video.analyze import VideoSettings
    from mien.video.places import results_place
    from mien.video.reader import configure_ffmpeg, open_video

    configure_ffmpeg()
    settings = from_options(VideoSettings, options)
    with open_video(options.file) as video, results_place(options.file, options.to) as place:
        if place.note:
            print(f"mien: {picture_name(place.note)}", file=sys.stderr)
        analyzer = open_analyzer(options, search=FACE_LIMITS)
        return _analyse(video, analyzer, settings, place, options)


def _analyse(
    video: Video, analyzer: Analyzer, settings: VideoSettings, place: Place, options: argparse.Namespace
) -> int:
    from mien.images.listing import picture_name
    from mien.video.analyze import analyze_frames
    from mien.video.sinks import Outputs

    stopped: KeyboardInterrupt | None = None
    kinds = {"jsonl": options.jsonl, "marked": not options.no_video}
    with Outputs(video, place, analyzer.head.labels, **kinds) as outputs:
        frames = analyze_frames(video, analyzer, settings)
        try:
            for frame in _shown(frames, video):
                with put_off():  # half a frame in a table or in the timeline would be kept
                    outputs.add(frame)
        except KeyboardInterrupt as stop:
            if not outputs.length_s:
                raise  # nothing is there to be kept
            stopped = stop
        finally:
            frames.close()
        written = outputs.finish()
    for note in (*outputs.notes, video.problem):
        if note:
            print(f"mien: {note}", file=sys.stderr)
    print(summary(outputs.timeline))
    for path in written:
        print(f"wrote  {picture_name(path)}")
    if stopped:
        print(
            f"mien: stopped after {outputs.length_s:.1f} seconds of the video; what was written up to there is whole",
            file=sys.stderr,
        )
        return stopped_code(stopped)
    return 1 if video.problem else 0


def summary(timeline: Timeline) -> str:
    """Return a line a face for people: when it was seen, and which expressions were named in how much of that time."""
    from mien.terminal import columns, percent
    from mien.video.timeline import clock

    rows = [["face", "from", "to", "expressions"]]
    for face in timeline.faces():
        shares = face.named()
        ranked = [place for place in shares.argsort()[::-1].tolist() if shares[place] > 0]
        words = ", ".join(f"{timeline.labels[place]} {percent(shares[place])}" for place in ranked[:_NAMED])
        rows.append([str(face.number), clock(face.times_s[0]), clock(face.times_s[-1]), words])
    return columns(rows, right=False) if len(rows) > 1 else "no face was found in this video"


def _shown(frames: Iterator[VideoFrame], video: Video) -> Iterator[VideoFrame]:
    """Pass frames on, with a bar on stderr."""
    from mien.terminal import ProgressBar

    bar = ProgressBar("frames", round((video.length_s or 0) * video.fps))
    try:
        for frame in frames:
            yield frame
            bar.show(frame.index + 1)
    finally:
        bar.end()
