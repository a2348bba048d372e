"""Messages to a pipe that nobody reads any more."""

import os
import subprocess
import sys

import pytest

from harness.core.streams import Messages, say


def test_what_nobody_reads_is_dropped() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        messages = Messages(stream)
        messages.write("heard\n")
        messages.flush()
        assert messages.lost is None
        assert os.read(reading, 100) == b"heard\n"
        os.close(reading)
        for _ in range(2):
            messages.write("not heard\n")
            messages.flush()
        assert isinstance(messages.lost, BrokenPipeError)
        assert messages.fileno() == writing
    # Closing the stream flushed its buffer once more, and did not fail.


@pytest.mark.parametrize("code", [0, 75])
def test_the_exit_code_stays(code: int) -> None:
    program = f"""
import sys
sys.stdin.readline()
from harness.core.streams import say
say("nobody reads this")
say("nor this")
print("done")
sys.exit({code})
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    process.stderr.close()
    assert process.stdin is not None
    process.stdin.write("go on\n")
    process.stdin.flush()
    assert process.stdout is not None
    assert process.stdout.read() == "done\n"
    assert process.wait(timeout=60) == code
    process.stdin.close()
    process.stdout.close()


def test_no_text_of_a_worker_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("error: a genre \x1b[2J\x9b1m\u202e\nwith a line more")
    assert capsys.readouterr().err == "error: a genre ?[2J?1m?\nwith a line more\n"
