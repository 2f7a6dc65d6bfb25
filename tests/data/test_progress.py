"""Progress lines: when they come, their rate, and the time left."""

import pytest

from zeroseg_jax.data import progress


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_rates_leave_out_the_first_call(clock):
    lines = []
    log = progress.ProgressLog("prepare", 100, "images", lines.append)
    for seconds, count in ((60.0, 10), (5.0, 10), (3.0, 10), (35.0, 70)):
        clock[0] += seconds
        log.add(count)
    assert lines == [
        "prepare: 20/100 images, 2.0 images/s, 40 s left",
        "prepare: 100/100 images, 2.1 images/s, 0 s left",
    ]


def test_one_line_every_five_seconds_and_one_at_the_end(clock):
    lines = []
    log = progress.ProgressLog("verify", 40, "images", lines.append)
    for _ in range(40):
        clock[0] += 0.5
        log.add()
    assert [line.split()[1] for line in lines] == ["10/40", "20/40", "30/40", "40/40"]
    assert lines[0] == "verify: 10/40 images, 2.0 images/s, 15 s left"


def test_a_single_call_is_timed_from_the_start(clock):
    lines = []
    log = progress.ProgressLog("regions", 8, "images", lines.append)
    clock[0] += 4.0
    log.add(8)
    assert lines == ["regions: 8/8 images, 2.0 images/s, 0 s left"]


def test_durations_have_the_unit_that_suits_them():
    found = [progress.render_duration(s) for s in (0.4, 119, 600, 90_000)]
    assert found == ["0 s", "2 min", "10 min", "25.0 h"]


def test_a_folder_shows_count_and_time_left_without_the_first_image(clock):
    progress_of = progress.ImageProgress(4)
    lines = []
    for seconds in (60.0, 0.5, 0.7, 2.4):
        clock[0] += seconds
        lines.append(progress_of.add())
    assert lines == ["", "2/4, 0.5 s an image, 1 s left", "", "4/4, 1.2 s an image, 0 s left"]
    assert [progress.ImageProgress(1).add(), progress.ImageProgress(0).add()] == ["", ""]
