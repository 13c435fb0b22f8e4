"""`mien live`: the camera in a window, with the faces marked."""

from __future__ import annotations

import argparse

from mien.cli.network_options import add_network_options, open_analyzer

HELP = "Show a camera in a window with the faces marked. q or Escape ends it."
EXAMPLES = """examples:
  mien live                        the first camera
  mien live --camera 1             another one
  mien live --no-smoothing         every picture on its own
  mien live --model models/mine    with a network of your own
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_network_options(parser)
    parser.add_argument(
        "--camera", type=int, default=0, metavar="N", help="which camera, from 0 (default: 0)"
    )
    parser.add_argument(
        "--no-smoothing",
        dest="smoothing",
        action="store_false",
        help="do not average each face's probabilities over time",
    )


def run(options: argparse.Namespace) -> int:
    from mien.predict.annotate import annotated_frame
    from mien.video.analyze import detect_resized
    from mien.video.camera import Window, open_camera
    from mien.video.reader import configure_ffmpeg
    from mien.video.settings import HALF_LIFE_S, VideoSettings
    from mien.video.tracking import Tracker

    configure_ffmpeg()
    window = Window("mien live: q ends it")
    try:
        analyzer = open_analyzer(options)
        tracker = Tracker(analyzer.head, half_life_s=HALF_LIFE_S if options.smoothing else None)
        with open_camera(options.camera) as camera:
            for time_s, image in camera.frames():
                found = detect_resized(image, analyzer.detector, VideoSettings.detect_size)
                faces = tracker.update(time_s, analyzer.classify_faces([image], [found])[0])
                if not window.show(
                    annotated_frame(image, [face.face for face in faces], [face.track for face in faces])
                ):
                    return 0
    finally:
        window.close()
    return 0
