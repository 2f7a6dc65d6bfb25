"""Tables and plots of a sweep's finished points."""

import json

import pytest

from zeroseg_jax.evaluation.sweep_tables import collect

POINTS = [
    {"optim.base_rate": rate, "run.seed": seed} for rate in (0.1, 0.2, 0.4) for seed in (0, 1)
]


@pytest.fixture
def ran(tmp_path):
    """Write six points as runs leave them; the last has not begun."""
    for number, point in enumerate(POINTS[:-1]):
        place = tmp_path / f"{number:03d}"
        (place / "reports" / "full").mkdir(parents=True)
        loss = 10 * point["optim.base_rate"] + point["run.seed"]
        lines = [{"step": 1, "loss": 99.0}, {"step": 2, "loss": loss}]
        (place / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
        report = {"miou": loss / 2, "benchmark": "full", "diagnostics": {"oracle_miou": loss}}
        (place / "reports" / "full" / "report.json").write_text(json.dumps(report))
    return tmp_path


def test_collect_tells_mean_and_spread_over_seeds(ran):
    table = collect(ran, dict(enumerate(POINTS)), metric="loss", against="")
    assert "| 0.1 | 1.5 | 0.7071 | 2 |" in table and "| 0.4 | 4 |  | 1 |" in table
    assert "5 of 6 points" in table
    rows = (ran / "sweep.csv").read_text().splitlines()
    assert len(rows) == 6 and rows[0].startswith("point,optim.base_rate,run.seed,step,loss")
    table = collect(ran, dict(enumerate(POINTS)), metric="reports/full/miou", against="run.seed")
    assert table.count("\n| 0") == 5
    table = collect(
        ran, dict(enumerate(POINTS)), metric="reports/full/diagnostics/oracle_miou", against=""
    )
    assert "| 0.1 | 1.5 | 0.7071 | 2 |" in table
    with pytest.raises(ValueError, match="--metric: no point has 'mIoU'; known: step, loss"):
        collect(ran, dict(enumerate(POINTS)), metric="mIoU", against="")
    with pytest.raises(ValueError, match="--against: 'name' is not swept"):
        collect(ran, dict(enumerate(POINTS)), metric="loss", against="name")


def test_a_torn_last_line_is_not_read(ran):
    """As a training leaves it that runs, or was killed while it wrote."""
    path = ran / "000" / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 3, "loss": 1')
    assert "| 0.1 | 1.5 |" in collect(ran, dict(enumerate(POINTS)), metric="loss", against="")
    for content in ("[]\n[]\n", '{"a\n{"a\n'):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"000/metrics.jsonl: its last two lines are damaged"):
            collect(ran, dict(enumerate(POINTS)), metric="loss", against="")


def test_collect_plots(ran):
    pytest.importorskip("matplotlib", reason="matplotlib is an extra")
    collect(ran, dict(enumerate(POINTS)), metric="loss", against="optim.base_rate")
    assert (ran / "sweep-loss-optim.base_rate.png").read_bytes().startswith(b"\x89PNG")


def test_collect_of_nothing_is_said(tmp_path):
    with pytest.raises(ValueError, match="no point of .* has logged anything"):
        collect(tmp_path, dict(enumerate(POINTS)), metric="loss", against="")
