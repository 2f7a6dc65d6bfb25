"""`zeroseg reproduce-baselines`: cells that the data allow, measured once."""

import json

import layouts
import pytest


def test_cells_are_measured_once(zeroseg, tmp_path):
    layouts.write_voc(tmp_path / "data")
    command = (
        "reproduce-baselines", f"--data_dir={tmp_path / 'data'}", f"--output={tmp_path / 'out'}",
        "--rows=sclip,maskclip_plain", "--benchmarks=voc20,ade150", "--clip=playground",
        "--set=short_side_px=48,prompts=playground,window=whole,window_px=0",
    )  # fmt: skip
    done = zeroseg(*command)
    assert done.returncode == 1, done.stderr  # ADE20K is not there
    table = json.loads((tmp_path / "out/table.json").read_text())["cells"]
    measured = {(row["method"], row["benchmark"]): row for row in table}
    assert measured["SCLIP", "ade150"]["measured"] is None
    assert "ADEChallengeData2016" in measured["SCLIP", "ade150"]["missing"]
    for method, published in (("SCLIP", 81.54), ("MaskCLIP", 49.5)):
        row = measured[method, "voc20"]
        assert row["published"] == published and row["images"] == 2
        assert row["difference"] == pytest.approx(row["measured"] - published, abs=0.006)
        assert any("short_side_px is 48" in line for line in row["differences"])
    report = tmp_path / "out/sclip/voc20/report.json"
    before = report.stat().st_mtime_ns
    again = zeroseg(*command)
    assert "SCLIP on voc20 is measured already" in again.stdout
    assert report.stat().st_mtime_ns == before
