"""Pairing, motion, births and deaths of tracks, and smoothing over time."""

from __future__ import annotations

import copy as copies
import itertools
import json
import math
import pickle
from dataclasses import asdict

import numpy as np
import pytest

from mien.detect.base import Box
from mien.errors import ConfigError, DataError
from mien.model.metadata import Head
from mien.predict.results import Face
from mien.video.analyze import VideoFrame
from mien.video.tracking import (
    BoxTracker,
    KalmanFilter,
    Smoother,
    TrackedFace,
    Tracker,
    TrackerSettings,
    diou,
    linear_assignment,
)

HEAD = Head(name="light", labels=("dark", "bright"), threshold=0.6)


def face(x: float, dark: float, y: float = 0.0) -> Face:
    shares = {"dark": dark, "bright": 1 - dark}
    emotion = max(shares, key=shares.__getitem__)
    return Face(
        emotion=emotion,
        probability=shares[emotion],
        probabilities=shares,
        head="light",
        box=(x, y, 20.0, 20.0),
    )


def numbers(tracker: BoxTracker, time_s: float, *xs: float) -> list[int | None]:
    return [track.number for track in tracker.update(time_s, [(x, 0.0, 20.0, 20.0) for x in xs])]


def test_closeness_by_hand() -> None:
    boxes = np.array([[0, 0, 2, 2], [1, 0, 2, 2], [10, 0, 2, 2]], float)
    # Shifted by half: IoU 2/6; centres 1 apart, diagonal of the outer box sqrt(9 + 4).
    np.testing.assert_allclose(diou(boxes[:1], boxes)[0], [1, 1 / 3 - 1 / 13, -100 / (144 + 4)])


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 5), (5, 2), (4, 4), (6, 5)])
def test_the_pairing_is_the_best_of_all(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(shape[0] * 10 + shape[1])
    for _ in range(40):
        gain = random.uniform(-1, 1, shape)
        chosen = linear_assignment(gain, 0.0)
        assert len({row for row, _ in chosen}) == len({column for _, column in chosen}) == len(chosen)
        assert all(gain[pair] > 0 for pair in chosen)
        wide = gain if shape[0] <= shape[1] else gain.T
        best = max(
            sum(max(wide[row, column], 0) for row, column in enumerate(columns))
            for columns in itertools.permutations(range(wide.shape[1]), wide.shape[0])
        )
        assert sum(gain[pair] for pair in chosen) == pytest.approx(best)


def test_equal_gains_and_no_boxes() -> None:
    assert sorted(column for _, column in linear_assignment(np.ones((3, 3)), 0.0)) == [0, 1, 2]
    assert linear_assignment(np.zeros((2, 2)), 0.0) == []
    assert linear_assignment(np.empty((0, 3)), 0.0) == []


def test_a_steady_face_is_expected_where_it_will_be() -> None:
    for step_s in (0.02, 0.1):  # whatever the frame rate
        times = np.arange(0, 1.01, step_s)
        kalman = KalmanFilter((0.0, 0.0, 20.0, 20.0), 0.0)
        for time_s in times[1:]:
            kalman.update((40 * time_s, 0.0, 20.0, 20.0), float(time_s))
        x, y, width, height = kalman.predict(float(times[-1]) + 0.1)
        assert x == pytest.approx(40 * (times[-1] + 0.1), abs=2.0)  # a tenth of the face
        assert (y, width, height) == pytest.approx((0, 20, 20), abs=0.1)
        far = kalman.predict(float(times[-1]) + 100)[0]
        assert far == pytest.approx(40 * (times[-1] + 0.3), abs=6.0)  # an unseen face stops within sight


def test_faces_keep_their_numbers_while_they_pass_each_other() -> None:
    tracker = BoxTracker(TrackerSettings(min_hits=1))
    for step in range(30):  # a slow one below, a fast one that overtakes it
        boxes: list[Box] = [(10.0 + step, 14.0, 20.0, 20.0), (4.0 * step - 20, 0.0, 20.0, 20.0)]
        swapped = step % 2 == 1
        tracks = tracker.update(step / 30, boxes[::-1] if swapped else boxes)
        assert [track.number for track in tracks] == ([2, 1] if swapped else [1, 2])


def test_a_face_is_born_at_its_third_look_in_a_row() -> None:
    tracker = BoxTracker()
    assert [numbers(tracker, t / 10, 0.0) for t in range(4)] == [[None], [None], [1], [1]]
    assert numbers(tracker, 0.5, 0.0, 100.0) == [1, None]
    assert numbers(tracker, 0.6, 0.0) == [1]  # the other one was missed once: it begins again
    assert [numbers(tracker, 0.7 + t / 10, 100.0) for t in range(3)] == [[None], [None], [2]]


def test_a_face_keeps_its_number_over_a_gap_and_no_longer() -> None:
    tracker = BoxTracker(TrackerSettings(min_hits=1, max_age_s=1.0))
    assert numbers(tracker, 0.0, 0.0) == [1]
    assert numbers(tracker, 0.5) == []
    assert numbers(tracker, 1.0, 2.0) == [1]
    assert numbers(tracker, 1.5) == []
    assert numbers(tracker, 2.01, 2.0) == [2]
    assert numbers(tracker, 2.1, 40.0) == [3]  # too far for one tenth of a second


def test_looks_may_be_rarer_than_a_face_may_be_out_of_sight() -> None:
    tracker = BoxTracker()
    assert [numbers(tracker, 2.0 * look, 0.0) for look in range(4)] == [[None], [None], [1], [1]]
    assert numbers(tracker, 8.0) == []
    assert numbers(tracker, 10.0, 0.0) == [None], "it was looked for, and was not there"


def test_the_end_gives_undecided_faces_the_benefit_of_the_doubt() -> None:
    tracker = BoxTracker()
    (track,) = tracker.update(0.0, [(0.0, 0.0, 9.0, 9.0)])
    tracker.end_shot()
    assert track.number == 1


def test_times_must_grow() -> None:
    tracker = BoxTracker()
    numbers(tracker, 1.0)
    with pytest.raises(DataError, match=r"times must grow: got 1.0 s after 1.0 s"):
        numbers(tracker, 1.0)
    with pytest.raises(DataError, match=r"times must grow: got inf s after 1.0 s"):
        numbers(tracker, math.inf)


def test_a_face_of_another_head_is_refused() -> None:
    tracker = Tracker(
        Head(name="light", labels=("bright", "dark"), threshold=0.6), TrackerSettings(min_hits=1)
    )
    with pytest.raises(
        DataError, match="labels dark, bright, the head of the tracker has bright, dark; give it"
    ):
        tracker.update(0.0, [face(0, 0.9)])


@pytest.mark.parametrize(
    "settings",
    [
        {"min_hits": 0},
        {"max_age_s": -1.0},
        {"max_age_s": float("nan")},
        {"min_hits": 1.5},
        {"max_age_s": "1"},
    ],
)
def test_tracker_settings_are_checked(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(settings))} must be"):
        TrackerSettings(**settings)  # type: ignore[arg-type]


def test_smoothing_halves_by_time_not_by_frames() -> None:
    smoother = Smoother(0.5)
    assert smoother.add(0.0, [1.0, 0.0]) == [1.0, 0.0]
    assert smoother.add(0.5, [0.0, 1.0]) == pytest.approx([1 / 3, 2 / 3])  # weights 1/2 and 1
    assert smoother.add(1.5, [0.0, 1.0]) == pytest.approx([1 / 11, 10 / 11])  # 1/8, 1/4 and 1
    ends = []
    for fps in (10, 60):  # half a second of one answer after a second of another
        smoother = Smoother(0.25)
        for frame in range(round(1.5 * fps)):
            answer = smoother.add(frame / fps, [float(frame < fps), float(frame >= fps)])
        ends.append(answer[0])
    assert ends[0] == pytest.approx(ends[1], abs=0.05)
    assert 0.15 < ends[1] < 0.3
    assert Smoother(None).add(0.0, [0.3, 0.7]) == [0.3, 0.7]
    with pytest.raises(ConfigError, match="half_life_s must be above 0"):
        Smoother(0.0)
    with pytest.raises(ConfigError, match="half_life_s must be above 0 seconds, got '1'"):
        Smoother("1")  # type: ignore[arg-type]


def test_a_live_tracker_smooths_each_face_by_itself() -> None:
    tracker = Tracker(HEAD, TrackerSettings(min_hits=2), half_life_s=1.0)
    assert tracker.update(0.0, [face(0, 0.9), face(60, 0.2)]) == ()
    left, right = tracker.update(1.0, [face(1, 0.5), face(61, 0.2)])
    assert (left.track, right.track) == (1, 2)
    assert left.face.probabilities["dark"] == pytest.approx((0.9 / 2 + 0.5) / 1.5)
    assert left.raw == {"dark": 0.5, "bright": 0.5}
    assert (left.face.emotion, left.face.uncertain) == ("dark", False)
    assert right.face.probabilities["bright"] == pytest.approx(0.8)
    (left,) = tracker.update(2.0, [face(2, 0.3)])
    assert (left.face.emotion, left.face.uncertain) == ("bright", True)  # 0.557 is below the threshold
    assert json.loads(json.dumps(left.to_dict()))["raw_probabilities"] == {"dark": 0.3, "bright": 0.7}


def test_a_name_stays_until_another_is_ahead() -> None:
    """By ten points; without smoothing every frame is named by itself."""
    dark = [0.6, 0.47, 0.46, 0.44, 0.52, 0.54, 0.56, 0.48]
    names = {}
    for half_life_s in (0.001, None):  # so short that each frame's answer stands by itself
        tracker = Tracker(HEAD, TrackerSettings(min_hits=1), half_life_s=half_life_s)
        faces = [tracker.update(time_s, [face(0, share)])[0].face for time_s, share in enumerate(dark)]
        assert [one.probability for one in faces] == [one.probabilities[one.emotion] for one in faces]
        names[half_life_s] = "".join(one.emotion[0] for one in faces)
    assert names == {0.001: "dddbbbdd", None: "dbbbdddb"}


def test_results_are_checked() -> None:
    with pytest.raises(DataError, match="number of a track"):
        TrackedFace(track=0, face=face(0, 0.5), raw={"dark": 0.5, "bright": 0.5})
    with pytest.raises(DataError, match="raw must have the labels"):
        TrackedFace(track=1, face=face(0, 0.5), raw={"dark": 1.0})


def test_results_travel_and_are_short_to_read() -> None:
    """To another process, into a copy, into plain dictionaries, to JSON."""
    found = Face(
        emotion="happy",
        probability=0.81237,
        probabilities={"happy": 0.81237, "sad": 0.18763},
        head="x",
        box=(10.04, 20.0, 30.0, 40.0),
    )
    tracked = TrackedFace(track=3, face=found, raw={"happy": 0.51234, "sad": 0.48766})
    frame = VideoFrame(index=7, time_s=0.2333333, faces=(tracked,), image=np.zeros((4, 6, 3), np.uint8))
    for copy in (pickle.loads(pickle.dumps(frame)), copies.deepcopy(frame)):
        assert copy == frame
        assert (copy.image == frame.image).all()
    assert asdict(tracked)["raw"] == {"happy": 0.51234, "sad": 0.48766}
    assert repr(tracked) == f"TrackedFace(3, {found!r})"
    written = json.loads(json.dumps(frame.to_dict()))
    assert written["time_s"] == 0.2333
    assert written["faces"][0]["raw_probabilities"] == {"happy": 0.5123, "sad": 0.4877}
    with pytest.raises(TypeError, match="read-only"):
        tracked.raw["happy"] = 1.0  # type: ignore[index]
