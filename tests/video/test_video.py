"""Reading videos with the right times, following and recognising the faces in them, and drawing the timeline."""

from __future__ import annotations

import copy
import io
import os
import threading
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.detect.search import PhotoSearch
from mien.errors import ConfigError, ImageError
from mien.images.canvas import RAIL, label_colours
from mien.model.classifier import Classifier
from mien.predict.analyzer import Analyzer
from mien.video.analyze import VideoFrame, VideoSettings, analyze_video
from mien.video.reader import Clock, Video, open_video, prefetch
from mien.video.timeline import Timeline, draw_timeline
from mien.video.writer import BackgroundWriter, ConstantFrameRate, constant_rate

from ..model.tiny_onnx import write_folder
from .video_files import (
    Squares,
    scene,
    stretched,
    turned,
    with_shares_of_time,
    without_first_cluster,
    write_video,
)


@pytest.fixture
def analyzer(tmp_path: Path) -> Analyzer:
    return Analyzer(Classifier(write_folder(tmp_path / "tiny")), Squares())


def times(path: Path) -> list[float]:
    with open_video(path) as video:
        return [frame.time_s for frame in video.frames()]


def two_squares(path: Path, count: int = 12, fps: float = 30.0) -> Path:
    """A dark and a bright square that move; the bright one comes at the fourth frame."""
    frames = [
        scene([(4 + 2 * n, 8, 60), *([(120 - 2 * n, 60, 220)] if n >= 4 else [])]) for n in range(count)
    ]
    return write_video(path, frames, fps)


@pytest.mark.parametrize(("name", "code"), [("a.mp4", "mp4v"), ("a.avi", "MJPG"), ("a.mkv", "MJPG")])
def test_2997_frames_a_second(tmp_path: Path, name: str, code: str) -> None:
    fps = 30000 / 1001
    path = write_video(tmp_path / name, [scene([])] * 60, fps, code)
    np.testing.assert_allclose(times(path), np.arange(60) / fps, atol=1.1e-3)  # Matroska rounds to 1 ms


def test_a_variable_frame_rate_has_the_times_of_the_file(tmp_path: Path) -> None:
    shares = [0.5, 0.5, 2.0, 1.0, 0.25, 0.25, 0.5, 3.0]
    path = write_video(tmp_path / "a.mp4", [scene([])] * 8)
    path.write_bytes(with_shares_of_time(path.read_bytes(), shares))
    np.testing.assert_allclose(times(path), np.cumsum([0, *shares[:-1]]) / 10, atol=1e-4)


def test_a_portrait_is_upright(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [scene([(0, 0, 250)])] * 2)
    path.write_bytes(turned(path.read_bytes()))
    with open_video(path) as video:
        image = next(video.frames()).image
        assert video.size_px == (96, 160)
    assert image.shape == (160, 96, 3)
    assert (image[5, 90, 0] > 200, image[5, 5, 0] > 50) == (True, False)  # the corner came from the left


def test_pixels_that_are_no_squares_are_shown_as_players_show_them(tmp_path: Path) -> None:
    """A squeezed face has another expression: a neutral one was answered with surprise."""
    path = write_video(tmp_path / "a.mp4", [scene([(100, 8, 250)])] * 2)
    path.write_bytes(stretched(path.read_bytes(), 2))
    with open_video(path) as video:
        image = next(video.frames()).image
        assert (video.size_px, image.shape) == ((320, 96), (96, 320, 3))
        assert (image[20, 195, 0] < 50, image[20, 205, 0] > 200, image[20, 243, 0] > 200) == (
            True,
            True,
            True,
        )
    with open_video(path) as video:
        assert video.at(0.0).shape == (96, 320, 3)


def test_an_interlaced_video_is_read_right_or_refused(tmp_path: Path) -> None:
    """OpenCV 4.13 gives old memory for each of its frames, which may be of another video, and says nothing."""
    frames = [scene([(100 * n, 8, 250)], (720, 576), 90) for n in range(4)]
    path = write_video(tmp_path / "a film.avi", frames, 25.0, "dvsd")  # DV is always interlaced

    def corners(video: Video) -> list[list[bool]]:
        return [
            [frame.image[50, x * 16 // 15, 0] > 150 for x in (50, 150, 250, 350)] for frame in video.frames()
        ]

    with path.open("rb") as file:
        for stream in (io.BytesIO(file.read()), file, None):
            with open_video(path, stream) as video:
                if stream is None:
                    path.unlink()  # as the server does
                assert video.size_px == (768, 576)
                if tuple(map(int, cv2.__version__.split(".")[:2])) < (4, 13):
                    np.testing.assert_array_equal(corners(video), np.eye(4, dtype=bool))
                    continue
                with pytest.raises(ImageError, match="is interlaced") as caught:
                    corners(video)
            assert f"ffmpeg -i '{path}' -vf yadif converted.mp4" in str(caught.value)


def test_a_picture_that_stands_still_is_no_sign_of_interlacing(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [scene([(8, 8, 250)])] * 6)
    with open_video(path) as video:
        assert [frame.image[20, 20, 0] > 200 for frame in video.frames()] == [True] * 6


def test_clocks_that_fail() -> None:
    def shown(*stamps: float) -> list[float]:
        clock = Clock(0.1)
        return [round(clock.read(stamp), 3) for stamp in stamps]

    assert shown(0, 0, 0, 0) == [0, 0.1, 0.2, 0.3]  # a raw stream has no timestamps
    assert shown(5.0, 5.1, 5.3) == [0, 0.1, 0.3]  # from the first frame
    assert shown(0, 0.1, 0.1, 0.2) == [0, 0.1, 0.101, 0.2]  # rounded
    assert shown(0, 0.1, 0.2, 7000.0, 7000.1) == [0, 0.1, 0.2, 0.3, 0.4]  # a broken clock
    assert shown(0, 3.0, 6.0, 1.0, 1.5) == [0, 3.0, 6.0, 6.1, 6.6]  # two parts, one behind the other


def test_a_video_that_is_cut_off_gives_what_it_has(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", [scene([(n, n, 200)]) for n in range(40)], code="MJPG")
    whole = path.read_bytes()
    with open_video(path) as video:
        assert len(list(video.frames())) == 40
        assert video.problem == ""
    path.write_bytes(whole[: len(whole) // 2])
    with open_video(path) as video:
        count = len(list(video.frames()))
        assert 10 < count < 30
        assert f"ends after {count / 10:.1f} of 4.0 seconds" in video.problem


def test_a_video_whose_clock_does_not_begin_at_zero_is_whole(tmp_path: Path) -> None:
    """Matroska's length counts from 0, the times here from the first frame."""
    path = write_video(tmp_path / "a.mkv", [scene([(n, n, 200)]) for n in range(20)], code="MJPG")
    data, gone = without_first_cluster(path.read_bytes())
    path.write_bytes(data)
    assert gone >= 6
    with open_video(path) as video:
        assert [frame.time_s for frame in video.frames()] == pytest.approx(np.arange(20 - gone) / 10)
        assert (video.length_s, video.problem) == (2.0, "")


def test_a_wrong_ending_does_not_matter(tmp_path: Path) -> None:
    assert len(times(two_squares(tmp_path / "a.mp4").rename(tmp_path / "a.txt"))) == 12


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\1\2\3\0" * 5000, "is not a video"),
        ("Grüße\n".encode() * 900, "is a text"),
        (b"#EXTM3U\nhttp://127.0.0.1:1/a.ts\n", "is a text"),
        (None, "cannot read"),
    ],
)
def test_what_is_no_video_is_one_line(
    tmp_path: Path, content: bytes | None, said: str, analyzer: Analyzer
) -> None:
    path = tmp_path / "a.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=said) as caught:
        next(analyze_video(path, analyzer))
    assert "\n" not in str(caught.value)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, analyzer: Analyzer) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(
        ImageError, match="is a pipe, socket or device, in which a video cannot be searched; save it"
    ):
        next(analyze_video(tmp_path / "a.mp4", analyzer))


def check_squares(frames: list[VideoFrame]) -> None:
    assert [frame.index for frame in frames] == list(range(12))
    for frame in frames:
        found = {tracked.track: tracked for tracked in frame.faces}
        assert found[1].face.box == pytest.approx((4 + 2 * frame.index, 8, 24, 24), abs=1.1)
        assert found[1].face.emotion == "dark"
        assert (2 in found) == (frame.index >= 4)
        if 2 in found:
            assert found[2].face.box == pytest.approx((120 - 2 * frame.index, 60, 24, 24), abs=1.1)
            assert found[2].face.emotion == "bright"


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_faces_are_followed_and_interpolated(tmp_path: Path, analyzer: Analyzer, stride: int) -> None:
    path = two_squares(tmp_path / "a.mp4")
    frames = list(analyze_video(path, analyzer, VideoSettings(stride=stride)))
    check_squares(frames)
    between = [frame.index for frame in frames if frame.faces[0].interpolated]
    assert between == [n for n in range(11) if n % stride]  # the last frame is always searched
    assert isinstance(analyzer.detector, Squares)
    assert len(analyzer.detector.sizes) == 12 - len(between)


def test_frames_are_searched_small_and_boxes_are_not(tmp_path: Path, analyzer: Analyzer) -> None:
    path = two_squares(tmp_path / "a.mp4")
    check_squares(list(analyze_video(path, analyzer, VideoSettings(detect_size=80, stride=1))))
    assert isinstance(analyzer.detector, Squares)
    assert set(analyzer.detector.sizes) == {(48, 80, 3)}


def test_faces_are_followed_where_frames_come_more_seldom_than_once_a_second(
    tmp_path: Path, analyzer: Analyzer
) -> None:
    path = write_video(tmp_path / "slow.mp4", [scene([(50, 30, 200)]) for _ in range(6)], fps=0.5)
    assert [[face.track for face in frame.faces] for frame in analyze_video(path, analyzer)] == [[1]] * 6
    quick = write_video(tmp_path / "quick.mp4", [scene([(50, 30, 200)]) for _ in range(61)], fps=10)
    rarely = list(analyze_video(quick, analyzer, VideoSettings(stride=20)))
    assert [[face.track for face in frame.faces] for frame in rarely] == [[1]] * 61


def test_a_stride_lasts_a_fifteenth_of_a_second() -> None:
    counts = [VideoSettings().stride_at(fps, (1920, 1080)) for fps in (1, 10, 24, 25, 29.97, 60, 120)]
    assert counts == [1, 1, 2, 2, 2, 4, 8]
    assert VideoSettings(stride=5).stride_at(30, (3840, 2160)) == 5
    assert VideoSettings(stride=500).stride_at(30, (640, 360)) == 388  # a GB of frames
    assert VideoSettings(stride=500).stride_at(30, (30000, 30000)) == 1


def test_smoothing_can_be_switched_off(tmp_path: Path, analyzer: Analyzer) -> None:
    frames = [scene([(50, 30, 60 if n < 6 else 220)]) for n in range(12)]
    path = write_video(tmp_path / "a.mp4", frames, 30)
    smooth = [frame.faces[0] for frame in analyze_video(path, analyzer)]
    plain = [frame.faces[0] for frame in analyze_video(path, analyzer, VideoSettings(smoothing=False))]
    assert all(face.face.probabilities == face.raw for face in plain)
    assert [face.raw for face in smooth] == [face.raw for face in plain]
    bright = [face.face.probabilities["bright"] for face in smooth]
    assert bright[:6] == sorted(bright[:6], reverse=True) or max(bright[:6]) < 0.2
    assert bright[6:] == sorted(bright[6:])  # climbs, rather than jumps
    assert bright[6] < 0.5 < plain[6].face.probabilities["bright"]


def test_a_flash_is_no_face(tmp_path: Path, analyzer: Analyzer) -> None:
    frames = [scene([(50, 30, 200)] if n == 5 else []) for n in range(12)]
    path = write_video(tmp_path / "a.mp4", frames, 30)
    assert not any(frame.faces for frame in analyze_video(path, analyzer, VideoSettings(stride=1)))
    (only,) = analyze_video(write_video(tmp_path / "b.mp4", frames[5:6]), analyzer)
    assert [face.track for face in only.faces] == [1]  # a video of one frame has no second look
    strict = copy.copy(analyzer)
    strict.search = PhotoSearch(min_face=only.faces[0].face.box.width + 1)
    assert not any(frame.faces for frame in analyze_video(tmp_path / "b.mp4", strict))


def test_leaving_early_ends_the_thread(tmp_path: Path, analyzer: Analyzer) -> None:
    before = set(threading.enumerate())  # other tests of this process may have left threads of their own
    frames = analyze_video(two_squares(tmp_path / "a.mp4", 60), analyzer)
    next(frames)
    frames.close()
    assert not set(threading.enumerate()) - before


@pytest.mark.parametrize(
    "settings",
    [{"stride": 0}, {"detect_size": 8}, {"half_life_s": 0.0}, {"min_hits": 0}, {"max_age_s": -1.0}],
)
def test_settings_are_checked(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(settings))} must be"):
        VideoSettings(**settings)  # type: ignore[arg-type]


def test_threads_pass_errors_on_and_end() -> None:
    def numbers() -> object:
        yield 1
        raise ValueError("broken")

    items = prefetch(numbers(), 2)  # type: ignore[var-annotated, arg-type]
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)

    def work(number: int) -> None:
        if number == 2:
            raise OSError("full")

    behind = BackgroundWriter(work, 1)
    with pytest.raises(OSError, match="full"):
        for number in range(50):  # an error must end the call that feeds the thread, however small its queue
            behind.add(number)
    behind.cancel()


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        *(
            (30000 / 1001, Fraction(30000, 1001)),
            (24000 / 1001, Fraction(24000, 1001)),
            (60.02, Fraction(3001, 50)),
        ),
        *((25, 25), (10, 30), (15.25, Fraction(61, 2)), (120, 60), (1, 24)),
    ],
)
def test_the_rate_that_is_written(fps: float, rate: Fraction) -> None:
    assert constant_rate(fps) == rate


def test_pacing_keeps_the_time() -> None:
    pacer: ConstantFrameRate[str] = ConstantFrameRate(Fraction(10))
    written: list[str] = []
    for time_s, name in ((0.0, "a"), (0.09, "b"), (0.31, "c"), (0.34, "d"), (0.5, "e")):
        frame, count = pacer.next(time_s, name)
        written += [frame] * count if frame else []
    frame, count = pacer.end(0.7)
    written += [frame] * count if frame else []
    assert "".join(written) == "abbddee"  # at 0.0, 0.1, ... 0.6 s; c was replaced after 30 ms


def test_the_timeline_shows_colours_where_and_when(tmp_path: Path, analyzer: Analyzer) -> None:
    timeline = Timeline(analyzer.head.labels, 30)
    for frame in analyze_video(two_squares(tmp_path / "a.mp4", 30), analyzer):
        timeline.add(frame)
    picture = draw_timeline(timeline, "a.mp4")
    assert picture.shape == (110 + 2 * 186 + 56, 1600, 3)
    dark, bright = label_colours(("dark", "bright"))
    first, second = picture[110 + 64 + 50], picture[110 + 186 + 64 + 80]
    assert tuple(first[1500]) == dark
    assert tuple(second[1500]) == bright
    assert tuple(second[220]) == RAIL  # the second face has not come yet
    empty = draw_timeline(Timeline(("a", "b"), 30), "nothing.mp4")
    assert empty.shape == (110 + 186 + 56, 1600, 3)


def test_thumbnails_stay_few(analyzer: Analyzer) -> None:
    timeline = Timeline(analyzer.head.labels, 1)
    image = scene([(10, 10, 200)])
    (face,) = analyzer.analyze(image)
    from mien.video.tracking import TrackedFace

    tracked = TrackedFace(track=1, face=face, raw=face.probabilities)
    for index in range(500):
        timeline.add(VideoFrame(index=index, time_s=float(index), faces=(tracked,), image=image))
    (history,) = timeline.faces()
    times_s = [time_s for time_s, _ in history.thumbnails]
    assert 20 <= len(times_s) <= 48
    assert times_s[0] == 0
    assert times_s[-1] > 450
    assert history.frames == 500
    edges_s = np.array([498.5, 499, 499.5, 500, 500.5])
    assert history.seen_px(edges_s, 1.0)[1].tolist() == [
        True,
        True,
        True,
        False,
    ]  # the last one lasts no longer


def test_every_expression_has_its_colour() -> None:
    assert label_colours(("Happiness", "sad")) == label_colours(("happy", "sadness"))
    labels = ("happy", "sleepy", "bored", "angry")
    assert len(set(label_colours(labels))) == 4
