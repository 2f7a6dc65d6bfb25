"""Endurance of the commands in 20 minutes: kills, damaged state files, hostile settings, the page.

    python -m bench.endurance.everything
    python -m bench.endurance.everything --phase=kills --count=2

Each row runs a module of this folder in a process of its own with a limit of time; a row fails if
the module finds a fault or is not done in time. The results go to docs/results/endurance.json and
as a table into docs/reliability.md. `make endurance` runs this.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.endurance.kills import COMMANDS
from zeroseg_jax.commands import flags
from zeroseg_jax.data.files import read_json, write_text
from zeroseg_jax.evaluation.render import render_markdown_table

PAGE = Path("docs/reliability.md")
_BEGIN, _END = "<!-- endurance: begin -->\n", "<!-- endurance: end -->\n"
_PATIENCE_SECONDS = 20.0  # for the children of a row to end after Ctrl-C
# Recorded once for all rows.
_OF_THE_MACHINE = {
    "command", "python", "packages", "machine", "devices", "device_count", "commit",
}  # fmt: skip

Found = dict[str, Any]
Row = tuple[str, str, list[str], str, int, Callable[[Found], str]]


def _describe_kills(found: Found) -> str:
    row = next(iter(found["rows"].values()))
    return row["fault"] or (
        f"{row['kills']} kills in {row['starts']} starts, {row['runs']} results equal"
    )


def _describe_state_files(found: Found) -> str:
    return f"{found['damages']} damages, {found['fault']} without a sentence"


def _describe_settings(found: Found) -> str:
    return f"{found['cases']} command lines, {found['fault']} faults"


def _describe_hostile(found: Found) -> str:
    memory = [entry["rss_mb"] for entry in found["memory"]]
    return f"still answering, {memory[len(memory) // 4]:.0f} MB, {memory[-1]:.0f} MB at the end"


def _describe_clients(found: Found) -> str:
    return found["fault"] or (
        f"{found['requests']} requests of {found['clients']} clients, answers equal, "
        f"{found['mb_after_a_quarter']:.0f} MB after a quarter, {found['mb_at_the_end']:.0f} at "
        "the end"
    )


def _describe_attack(found: Found) -> str:
    return found["fault"] or (
        f"{found['connections']} slow connections of {len(found['rows']) - 1} kinds: longest "
        f"answer {found['longest_seconds']} s"
    )


# Phase, label, words of the command, flag of its size, its limit in seconds, text of its results.
ROWS: list[Row] = [
    *(
        ("kills", name, ["kills", f"--commands={name}"], "kills", 420, _describe_kills)
        for name in COMMANDS
    ),
    ("faults", "state files", ["state_files"], "", 180, _describe_state_files),
    ("faults", "settings", ["settings", "--cases=100"], "cases", 240, _describe_settings),
    ("page", "hostile requests", ["serve_hostile", "--requests=200"], "requests", 240,
     _describe_hostile),
    ("page", "16 clients", ["serve_clients"], "requests", 300, _describe_clients),
    ("page", "slow connections", ["serve_attack"], "rounds", 240, _describe_attack),
]  # fmt: skip


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_enum("phase", "all", ["all", "kills", "faults", "page"], "phase to run")
    absl_flags.DEFINE_integer(
        "count", 0, "size of each row: kills, cases, requests, rounds; 0: the usual", lower_bound=0
    )
    absl_flags.DEFINE_integer("limit_seconds", 1200, "limit of all rows together", lower_bound=1)
    record.define_output("endurance")


def main(arguments: list[str]) -> int:
    """Run the rows, record and print them; 1 if one failed."""
    del arguments
    rows: list[dict[str, Any]] = []
    # Children of a background job would ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end = time.monotonic() + FLAGS.limit_seconds
    with tempfile.TemporaryDirectory() as folder:
        # Programs compile once for all rows.
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{folder}/cache")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
        for row in ROWS:
            if FLAGS.phase in ("all", row[0]):
                rows.append(run_row(row, Path(folder) / "row.json", end - time.monotonic()))
                print(render_table(rows[-1:]).splitlines()[-1], flush=True)
                record.write({"seconds": sum(row["seconds"] for row in rows), "rows": rows})
    print(render_table(rows))
    if FLAGS.phase == "all" and not FLAGS.count:
        write_table(read_json(FLAGS.output))
    return 0 if all(row["good"] for row in rows) else 1


def run_row(row: Row, output: Path, seconds_left: float) -> dict[str, Any]:
    """Run the module of a row; return its label, seconds, result and what it recorded.

    Args:
      row: a row of ROWS.
      output: JSON file of the module's results, replaced.
      seconds_left: time that is left for all rows.
    """
    phase, label, words, size, limit, describe = row
    output.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"bench.endurance.{words[0]}", *words[1:]]
    command += [
        f"--output={output}",
        *([f"--{size}={FLAGS.count}"] if FLAGS.count and size else []),
    ]
    begin = time.monotonic()
    told = "no time was left" if seconds_left <= 0 else ""
    if not told:
        # A group of its own: what it started ends with it.
        with subprocess.Popen(command, process_group=0, stdout=subprocess.DEVNULL) as process:
            try:
                code = process.wait(min(limit, seconds_left))
                told = "" if code == 0 else f"FAILED, exit code {code}"
            except subprocess.TimeoutExpired:
                told = f"FAILED: not done in {min(limit, seconds_left):.0f} s"
            finally:
                _end(process)
    found = read_json(output) if output.is_file() else {}
    results = {key: value for key, value in found.items() if key not in _OF_THE_MACHINE}
    text = describe(found) if found else ""
    return {
        "phase": phase, "row": label, "seconds": round(time.monotonic() - begin, 1),
        "good": not told, "result": "; ".join(filter(None, [told, text])), "recorded": results,
    }  # fmt: skip


def _end(process: subprocess.Popen) -> None:
    """End a process that is still running: Ctrl-C, so that it ends its children, then SIGKILL."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def render_table(rows: list[dict[str, Any]]) -> str:
    """Render the rows as a Markdown table."""
    cells = [[row["phase"], row["row"], row["result"], row["seconds"]] for row in rows]
    return render_markdown_table(["phase", "what", "result", "seconds"], cells)


def write_table(content: dict[str, Any], page: Path = PAGE) -> None:
    """Write the recorded table into the page, between its two marks.

    Args:
      content: content of endurance.json.
      page: Markdown file with the marks.
    """
    text = page.read_text()
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    packages = content["packages"]
    facts = (
        f"Commit {str(content['commit'])[:7]}, {content['machine']}, Python {content['python']}, "
        f"jax {packages['jax']}, flax {packages['flax']}, orbax-checkpoint "
        f"{packages['orbax-checkpoint']}; {content['seconds'] / 60:.1f} minutes."
    )
    table = render_table(content["rows"])
    write_text(page, f"{before}{_BEGIN}\n{facts}\n\n{table}\n\n{_END}{after}")


if __name__ == "__main__":
    flags.run(main, define_flags)
