"""What libraries say on standard error: noise is left out, everything else comes through."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from panokit.cli.noise import is_noise

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")

NOISE = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795759566.386887   15997 port.cc:153] oneDNN custom operations are on.",
    "W0000 00:00:1795759566.386887   15997 computation_placer.cc:177] already registered",
    "W1127 06:06:13.775000 15997 torch/utils/_pytree.py:630] deprecated",
    "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",
    "2026-11-27 06:06:13.775: I tensorflow/core/platform/cpu_feature_guard.cc:182] optimized",
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow.",
    "E0000 00:00:1 1 cuda_dnn.cc:8579] Unable to register cuDNN factory: Attempting to register",
]
NEWS = [
    "E0000 00:00:1795759566.386887   15997 x.cc:1] out of memory",
    "F0000 00:00:1795759566.386887   15997 x.cc:1] Check failed: a == b",
    "ERROR: Node number 3 (CONV_2D) failed to prepare.",
    "WARNING: I lost your file",
    "free(): invalid pointer",
    "Fatal Python error: Segmentation fault",
    "Information: 5",
    "panokit: photo.jpg: is empty",
    "I would like to tell you",
]


@pytest.mark.parametrize("line", NOISE)
def test_noise(line: str) -> None:
    assert is_noise(line)


@pytest.mark.parametrize("line", NEWS)
def test_news(line: str) -> None:
    assert not is_noise(line)


def run(code: str, **options: str) -> subprocess.CompletedProcess[str]:
    """Run code inside the filter, as the program does."""
    head = "import os, sys, logging, signal, subprocess, warnings\n"
    head += "from panokit.cli.noise import our_log, without_noise\nwith without_noise():\n"
    body = "".join(f"    {line}\n" for line in code.splitlines())
    return subprocess.run(
        [sys.executable, "-c", head + body],
        capture_output=True, text=True, check=False, timeout=60, env=os.environ | options,
    )  # fmt: skip


@posix
def test_native_lines_are_sorted_and_all_news_arrives() -> None:
    lines = [*NOISE, *NEWS, "last"]
    done = run(f"os.write(2, {chr(10).join(lines)!r}.encode())")
    assert done.stderr == "\n".join([*NEWS, "last"])
    assert done.returncode == 0


@posix
def test_lines_that_come_in_pieces() -> None:
    code = (
        "import time\n"
        "for piece in (b'INFO: Crea', b'ted\\nreal ', b'error\\nhalf a question? '):\n"
        "    os.write(2, piece); time.sleep(0.05)\n"
        "time.sleep(0.5)\n"
        "os.write(2, b'yes\\n')\n"
    )
    assert run(code).stderr == "real error\nhalf a question? yes\n"


@posix
def test_the_last_words_of_a_process_that_is_killed_arrive() -> None:
    code = "os.write(2, b'Check failed: x\\n')\nos.kill(os.getpid(), signal.SIGKILL)"
    done = run(code)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "Check failed: x\n")


@posix
def test_processes_that_are_started_are_sorted_as_well() -> None:
    code = "subprocess.run(['sh', '-c', 'echo INFO: x >&2; echo oops >&2'])"
    assert run(code).stderr == "oops\n"


def test_pythons_own_warnings_and_logs() -> None:
    code = (
        "warnings.warn('deprecated, says a library')\n"
        "our_log()\n"
        "logging.getLogger('somebody').warning('theirs')\n"
        "logging.getLogger('somebody').error('theirs')\n"
        "logging.getLogger('panokit.pool').warning('ours [1]')\n"
        "logging.getLogger('panokit_lab').info('too little')\n"
        "logging.getLogger('panokitten').error('not ours')\n"
        "print('W1127 06:06:13.775000 15 torch/x.py:630] noise', file=sys.stderr)\n"
        "print('said', file=sys.stderr)\n"
    )
    assert run(code).stderr == "ours [1]\nsaid\n"


def test_warnings_are_shown_to_who_asks_for_them() -> None:
    assert "deprecated" in run("warnings.warn('deprecated')", PYTHONWARNINGS="default").stderr


@posix
def test_the_output_ends_when_the_program_does() -> None:
    """The process between holds no standard output: a reader would wait for it."""
    code = "subprocess.Popen(['sleep', '5'], stdout=subprocess.DEVNULL)\nprint('done')"

    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", "from panokit.cli.noise import without_noise\nimport subprocess\n"
         "with without_noise():\n    " + code.replace("\n", "\n    ")],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.communicate(timeout=30)[0] == b"done\n"
    assert time.monotonic() - started < 4.5
