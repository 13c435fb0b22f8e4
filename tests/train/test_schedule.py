"""Learning rates, plateaus, early stopping and time limits as plain functions."""

import pytest

from mien.errors import ConfigError
from mien.train.checkpoint import Progress
from mien.train.config import TrainConfig, seconds_of
from mien.train.schedule import after_epoch, learning_rate, planned_epochs


def test_cosine_warms_up_peaks_and_ends_near_zero():
    config = TrainConfig(learning_rate=0.1, warmup=0.1)
    rates = [
        learning_rate(config, Progress(phase_epoch=epoch, phase_epochs=20), part)
        for epoch in range(20)
        for part in (0.0, 0.5)
    ]
    assert rates[0] == pytest.approx(0.001)
    assert max(rates) == pytest.approx(0.1)
    assert rates.index(max(rates)) == 4  # two epochs of warm-up
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] < 0.0005


def test_plateau_halves_after_patience_and_stops_at_the_floor():
    config = TrainConfig(learning_rate=1e-3, schedule="plateau", plateau_patience=3, plateau_floor=2e-4)
    progress = Progress()
    factors = []
    for loss in [1.0, 0.9, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95]:
        assert not after_epoch(config, progress, loss)
        factors.append(learning_rate(config, progress, 0) / 1e-3)
    assert factors == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2])


def test_early_stopping_counts_epochs_without_improvement():
    config = TrainConfig(patience=2)
    progress = Progress()
    assert [after_epoch(config, progress, loss) for loss in (1.0, 1.1, 0.9, 0.95, 0.9)] == [False] * 4 + [
        True
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("90", 5400), ("1h30m", 5400), ("45s", 45), ("1h", 3600), ("1.5h", 5400)],
)
def test_time_limits_are_read(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "0", "5 days", "30m1h"])
def test_other_time_limits_are_refused(text):
    with pytest.raises(ConfigError, match="time_limit must look like"):
        TrainConfig(time_limit=text)
    with pytest.raises(ConfigError, match="time_limit must look like"):
        seconds_of(text)


def at(epoch, planned, *seconds):
    """Return the progress after `epoch` epochs, with the seconds of all but the latest in its history."""
    rows = [{"seconds": taken} for taken in seconds[:-1]]
    return (
        Progress(phase_epoch=epoch, phase_epochs=planned, seconds=sum(seconds), history=rows),
        100,
        seconds[-1],
    )


def test_a_time_limit_plans_anew_after_the_slow_first_epoch_and_later_only_shrinks():
    assert planned_epochs(*at(1, 30, 10)) == 1 + 8  # 95 s less the 10 that are gone, at 10 s an epoch
    assert planned_epochs(*at(2, 9, 10, 5)) == 2 + 16
    assert planned_epochs(*at(4, 9, 25, 5, 5, 5)) == 9  # 11 more would fit
    assert planned_epochs(*at(4, 9, 10, 10, 20, 20)) == 4 + 1


def test_one_slow_epoch_does_not_shrink_the_plan_for_good():
    assert planned_epochs(*at(3, 18, 10, 5, 15)) == 3 + 6  # in its first quarter a median of two cannot tell
    assert planned_epochs(*at(4, 18, 10, 5, 5, 15)) == 4 + 12
    assert planned_epochs(*at(4, 16, 5, 1, 10, 1)) == 4 + 78  # and grows back


def test_the_epochs_of_an_earlier_phase_do_not_count():
    progress, limit, latest = at(2, 9, 40, 40, 5, 5)
    assert planned_epochs(progress, limit, latest) == 2 + 1  # 95 s less 90, at 5 s an epoch
