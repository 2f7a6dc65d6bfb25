"""Index of reports: one link to each report and comparison, best first, other files left out."""

import re
import shutil
from pathlib import Path

import pytest

from zeroseg_jax.data.files import write_json
from zeroseg_jax.evaluation import comparison
from zeroseg_jax.evaluation.report_index import write_index


def test_index_links_every_report_and_comparison(runs, tmp_path):
    for name, run in zip(("x y", "best"), reversed(runs), strict=True):
        shutil.copytree(run.directory, tmp_path / "reports" / name)
    write_json(tmp_path / "bank/regions/report.json", {"images": 3})
    directories = [str(tmp_path / "reports" / name) for name in ("best", "x y")]
    comparison.compare(directories, tmp_path / "compare", draws=100, images=0)
    assert write_index(tmp_path) == 3
    targets = re.findall(r"\]\(<(.+?)>\)", (tmp_path / "index.md").read_text())
    wanted = ["reports/best/report.html", "reports/x y/report.html", "compare/compare.html"]
    assert targets == wanted and all((tmp_path / target).is_file() for target in targets)
    page = (tmp_path / "index.html").read_text()
    assert re.findall('href="(.+?)"', page) == [t.replace(" ", "%20") for t in wanted]


def test_no_report_or_a_damaged_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no report of zeroseg evaluate"):
        write_index(tmp_path)
    write_json(Path(tmp_path / "report.json"), {"benchmark": "voc21"})
    with pytest.raises(ValueError, match="boundary_miou is missing; evaluate again"):
        write_index(tmp_path)
