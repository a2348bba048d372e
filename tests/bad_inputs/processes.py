"""Run cases, each in a process of its own that is forked from this one, which has imported everything."""

from __future__ import annotations

import atexit
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.bad_inputs.case import Case, Outcome

AT_ONCE = 2
PATIENCE = 2  # on the clock, in units of a case's limit of computing: others may use the machine too
MORE_ADDRESSES = 4 << 30  # bytes beyond what this process has: no command may take the machine's memory
OURS = ("stdout", "stderr", "before.json")  # our own files in a case's folder


def import_everything() -> None:
    """Import what commands import, so that a forked process has it already; no thread may be started."""
    from harness.data.audio import prepare_audio

    prepare_audio()
    import librosa  # noqa: F401
    import onnxruntime  # noqa: F401
    import torch._dynamo
    import torch.export

    import harness.cli
    import harness.compare
    import harness.export.predict
    import harness.study
    import harness.sweep.doctor
    import harness.sweep.driver
    import harness.sweep.reproduce
    import harness.tracking  # noqa: F401
    from harness.tracking.client import prepare_mlflow

    torch.set_num_threads(1)
    prepare_mlflow()


@dataclass(frozen=True, slots=True)
class _Running:
    case: Case
    pid: int
    folder: Path
    started: float


def run_cases(cases: Iterable[Case], root: Path, environment: dict[str, str]) -> Iterator[tuple[Case, Outcome]]:
    """Run the cases, two at once, and yield each with its outcome when it has ended."""
    waiting = iter(cases)
    running: list[_Running] = []
    number = 0
    while True:
        while len(running) < AT_ONCE and (case := next(waiting, None)) is not None:
            number += 1
            running.append(_start(case, root / f"c{number:04d}", environment))
        if not running:
            return
        ended = [each for each in running if _is_over(each)]
        for each in ended:
            running.remove(each)
            yield each.case, _outcome(each)
            shutil.rmtree(each.folder, ignore_errors=True)
        if not ended:
            time.sleep(0.005)


def _start(case: Case, folder: Path, environment: dict[str, str]) -> _Running:
    for name in ("here", "tmp"):
        (folder / name).mkdir(parents=True)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            _child(case, folder, environment)
        finally:
            os._exit(70)
    return _Running(case, pid, folder, time.monotonic())


def _child(case: Case, folder: Path, environment: dict[str, str]) -> None:
    """Prepare the input, run the command, and leave; this is the forked process."""
    os.setsid()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MORE_ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    _redirect(folder)
    own = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "XDG_STATE_HOME": str(folder / "state")}
    os.environ.update({**own, **environment, **case.environment})
    os.chdir(folder / "here")
    try:
        arguments = case.prepare(folder / "here")
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        os._exit(71)
    about = {"arguments": arguments, "files": sorted(_listing(folder))}
    (folder / "before.json").write_text(json.dumps(about))
    os._exit(_call(case, arguments))


def _redirect(folder: Path) -> None:
    """Have the standard streams where a command has them: nothing to read, and files to write to."""
    for descriptor, path in ((0, os.devnull), (1, folder / "stdout"), (2, folder / "stderr")):
        opened = os.open(path, os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    # As the interpreter opens them.
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def _call(case: Case, arguments: list[str]) -> int:
    """Return the exit status of the command, as the interpreter would make it."""
    status = 0
    try:
        case.program(arguments)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _is_over(running: _Running) -> bool:
    """Whether the process has ended or has used up its time or its memory; it is not waited for yet."""
    if time.monotonic() - running.started > PATIENCE * running.case.seconds:
        return True
    if _cpu_seconds(running.pid) > running.case.seconds:
        return True
    if _megabytes(running.pid) > running.case.megabytes * 1.2:
        return True
    return os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _megabytes(pid: int) -> float:
    """Return the memory that a process has now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def _cpu_seconds(pid: int) -> float:
    """Return the time that a process and what it has waited for have computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(each) for each in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def _outcome(running: _Running) -> Outcome:
    seconds = time.monotonic() - running.started
    in_time = os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(running.pid, signal.SIGKILL)  # and whatever it has started
    _, status, usage = os.wait4(running.pid, 0)
    folder = running.folder
    text = {name: (folder / name).read_text(errors="replace") for name in ("stdout", "stderr")}
    before = {"arguments": ["(not prepared)"], "files": []}
    if (folder / "before.json").exists():
        before = json.loads((folder / "before.json").read_text())
    return Outcome(
        arguments=tuple(before["arguments"]),
        folder=folder,
        status=os.waitstatus_to_exitcode(status) if in_time else None,
        stdout=text["stdout"],
        stderr=text["stderr"],
        seconds=seconds,
        megabytes=usage.ru_maxrss / 1024,
        left=tuple(sorted(_listing(folder) - set(before["files"]))),
    )


def _listing(folder: Path) -> set[str]:
    """Return the files and folders below a case's folder, without following links."""
    found = set()
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.relpath(os.path.join(parent, name), folder)  # noqa: PTH118 - names that are not UTF-8
            found.add(path)
    return {path.encode(errors="surrogateescape").decode(errors="replace") for path in found - set(OURS)}
