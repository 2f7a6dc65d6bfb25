"""Published scores: their presets, and the plan without data."""

from zeroseg_jax.data.benchmarks import FILES
from zeroseg_jax.evaluation.published_scores import ROWS
from zeroseg_jax.evaluation.reproduction import estimate_flops, list_cells, render_plan
from zeroseg_jax.inference.preset_table import PROTOCOLS
from zeroseg_jax.teacher.aliases import ALIASES
from zeroseg_jax.teacher.readouts import READOUTS


def test_every_row_is_a_model_a_read_out_and_a_released_preset():
    for row in ROWS.values():
        assert row.readout in READOUTS and row.source
        assert set(row.model.split("+")) <= ALIASES.keys()
        for benchmark, score in row.scores.items():
            assert benchmark in FILES and benchmark in PROTOCOLS[row.preset]
            assert 0 < score < 100
    assert sum(len(row.scores) for row in ROWS.values()) == 53


def test_operations_of_a_window_by_hand():
    (cell,) = list_cells("", ["sclip"], ["cityscapes19"], {})
    # 1024 x 2048 becomes 560 x 1120: 4 x 9 windows of 224 px, 196 tokens each.
    one = 12 * 196 * (24 * 768**2 + 4 * 196 * 768)
    assert estimate_flops(cell) == 500 * 4 * 9 * one


def test_without_data_the_plan_says_what_is_missing_and_how_long():
    cells = list_cells("", ["sclip", "proxyclip"], ["voc21", "ade150"], {})
    lines = render_plan(cells)
    assert len(lines) == 5
    assert "missing: ade150: give --data_dir" in "\n".join(lines)
    assert "2 CPU cores" in lines[0] and "NVIDIA H100" in lines[0]
    assert lines[-1].startswith("0 of 4 cells have their data")
    assert "dino-b8+clip-b16" in lines[-1]
