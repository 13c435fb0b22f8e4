"""`mien live`: the camera with the faces marked, in a window or, where none can be shown, on the page."""

from __future__ import annotations

import argparse
import re
import sys

from mien.cli.inputs import FACE_LIMITS, add_face_limits, add_network_options, open_analyzer
from mien.errors import ConfigError

HELP = "Show a camera with the faces marked, in a window or in the browser. q or Escape ends it."
EXAMPLES = """examples:
  mien live                        the first camera
  mien live --camera 1             another one
  mien live --camera talk.mp4      a video file, at its own pace
  mien live --camera rtsp://192.168.1.9/stream1
  mien live --model models/mine    with a network of your own
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_network_options(parser)
    add_face_limits(parser)
    parser.add_argument(
        "--camera",
        default="0",
        metavar="CAMERA",
        help="number of a camera, from 0, a video file, or an rtsp:// address (default: 0)",
    )
    parser.add_argument(
        "--no-smoothing",
        dest="smoothing",
        action="store_false",
        help="name every frame by itself, without averaging over time",
    )


def run(options: argparse.Namespace) -> int:
    from mien.predict.annotate import annotated_frame
    from mien.video.analyze import VideoSettings, detect_in_frame
    from mien.video.camera import Window, open_camera
    from mien.video.reader import configure_ffmpeg
    from mien.video.tracking import HALF_LIFE_S, Tracker

    configure_ffmpeg()
    try:
        window = Window("mien live: q ends it")
    except ConfigError as reason:
        return _on_the_page(options, str(reason))
    try:
        analyzer = open_analyzer(options, search=FACE_LIMITS)
        tracker = Tracker(analyzer.head, half_life_s=HALF_LIFE_S if options.smoothing else None)
        with open_camera(options.camera) as camera:
            for time_s, image in camera.frames():
                found = detect_in_frame(image, analyzer, VideoSettings.detect_size)
                faces = tracker.update(time_s, analyzer.classify_faces([image], [found])[0])
                marked = annotated_frame(image, [one.face for one in faces], [one.track for one in faces])
                if not window.show(marked):
                    return 0
    finally:
        window.close()
    return 0


def _on_the_page(options: argparse.Namespace, reason: str) -> int:
    """Serve the page and open it where it shows the camera, which the browser chooses and asks for."""
    from mien.cli import serve
    from mien.video.camera import has_display

    if not re.fullmatch(r"\d+", options.camera):
        raise ConfigError(
            f"{reason}, and the page shows this machine's cameras alone, not {options.camera}; for a file use: "
            "mien video FILE"
        )
    if not options.smoothing:
        raise ConfigError(f"{reason}, and the page always smooths; leave --no-smoothing out")
    print(f"mien: {reason}; the page shows the camera instead", file=sys.stderr)
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    asked = vars(parser.parse_args(["--port", "0", *(["--open"] if has_display() else [])]))
    chosen = {name: value for name, value in vars(options).items() if name in asked}  # network and detector
    return serve.run(argparse.Namespace(**{**asked, **chosen}), view="#camera")
