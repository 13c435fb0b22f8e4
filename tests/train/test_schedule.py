"""Learning rates, plateaus, early stopping and time limits as plain functions."""

import pytest

from mien.errors import ConfigError
from mien.train.config import TrainConfig
from mien.train.schedule import after_epoch, learning_rate, planned_epochs, seconds_of
from mien.train.state import Progress


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
        seconds_of(text)


def test_a_time_limit_plans_anew_after_the_slow_first_epoch_and_then_only_shrinks():
    first = Progress(phase_epoch=1, phase_epochs=30, seconds=10)
    assert planned_epochs(first, 100, 10) == 1 + 8  # 95 s less the 10 that are gone, at 10 s an epoch
    second = Progress(phase_epoch=2, phase_epochs=9, seconds=15)
    assert planned_epochs(second, 100, 5) == 2 + 16
    later = Progress(phase_epoch=4, phase_epochs=9, seconds=40)
    assert planned_epochs(later, 100, 5) == 9
    assert planned_epochs(later, 100, 20) == 4 + 2
