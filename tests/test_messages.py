"""Arguments that native code cannot take: the message names the argument, what was needed and what came."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import scrimp

INT8, X = scrimp.codec("int8"), np.ones(300, np.float32)


@pytest.mark.parametrize("name", ["seed", "step", "first_index"])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (-1, "{} must be >= 0 and below 2**64, got -1"),
        (2**64, "{} must be >= 0 and below 2**64, got 18446744073709551616"),
        (1.5, "{} must be a whole number, got 1.5"),
        ("a", "{} must be a whole number, got 'a'"),
    ],
)
def test_what_keys_rounding_is_a_count(name, value, said):
    with pytest.raises((ValueError, TypeError)) as error:
        INT8.encode(X, **{name: value})
    assert str(error.value) == said.format(name)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: INT8.encode(X, threads=1.5), "threads must be a whole number, got 1.5"),
        (lambda: INT8.encode(X, threads=10**12), "threads must be >= 0 and below 2**31, got 1000000000000"),
        (lambda: INT8.nbytes(1.5), "n must be a whole number, got 1.5"),
        (lambda: INT8.nbytes(2**70), "n must be >= 0 and below 2**60"),
        (lambda: INT8.nbytes(-1), "n must be >= 0 and below 2**60, got -1"),
        (lambda: INT8.encode(np.array([1.0, 1e300])), "x[1] = 1e+300 is beyond float32, which codecs read"),
        (lambda: INT8.encode(np.array([1.0, np.inf])), "x[1] = inf cannot be encoded by int8"),
        (lambda: INT8.decode("abc", 3), "buf must be a uint8 array or bytes, got str"),
        (lambda: scrimp.unpack("abc"), "packet must be bytes, or another contiguous buffer of them, got str"),
        (lambda: scrimp.unpack(None), "packet must be bytes, or another contiguous buffer of them, got None"),
        (lambda: scrimp.codec("step:k=1e300"), "k must be a positive number, got '1e300'"),
        (lambda: scrimp.load("/"), "/: is a folder, not a file"),
        (lambda: scrimp.QuantizedMatrix.from_array("a", 8), "X must be a 2-D array, got str"),
        (lambda: scrimp.QuantizedMatrix.from_array(np.eye(2), 8, seed=-1), "seed must be >= 0 and below"),
        (
            lambda: scrimp.gradient(np.eye(2), [1.0, 2], [0.0, 0], loss="huber", delta=-1),
            "delta must be a number above 0, got -1",
        ),
        (
            lambda: scrimp.minimize(lambda w, rows: (0.0, w), np.zeros(2), np.zeros((3, 1)), tol=-1),
            "tol must be a number >= 0, got -1",
        ),
    ],
)
def test_the_message_names_argument_need_and_value(call, said):
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    assert said in str(error.value)


def scrimp_in_shell(command):
    shell = command.replace("SCRIMP", f"{sys.executable} -m scrimp")
    return subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["info", "--help", "bill --help", "--version"])
def test_a_full_disk_behind_stdout_is_one_line(words, unbuffered):
    done = scrimp_in_shell(f"PYTHONUNBUFFERED={unbuffered} SCRIMP {words} > /dev/full")
    said = "error: cannot write to standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize("words", ["info", "--help"])
def test_a_reader_that_went_away_is_no_message(words):
    done = scrimp_in_shell(f"SCRIMP {words} | true; echo ${{PIPESTATUS[0]}}")
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "1")


WHERE = {
    "before the command line is loaded": "import builtins, sys; from scrimp.__main__ import main\n"
    "def stop(*a, real=builtins.__import__, **k):\n"
    "    if a[0].startswith('scrimp.cli'): raise KeyboardInterrupt\n"
    "    return real(*a, **k)\n"
    "builtins.__import__ = stop; main()",
    "in the last write": "import sys; from scrimp.__main__ import main; import scrimp.cli\n"
    "class Out:\n"
    "    def __getattr__(self, name): return getattr(sys.__stdout__, name)\n"
    "    def flush(self): raise KeyboardInterrupt\n"
    "sys.argv = ['scrimp', 'info']; sys.stdout = Out(); main()",
    "in an exit handler": "import atexit, os, signal, sys; from scrimp.__main__ import main\n"
    "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
    "sys.argv = ['scrimp', '--version']; main()",
}


@pytest.mark.parametrize("where", WHERE)
def test_an_interrupt_at_any_moment_is_130_and_one_line(where):
    done = subprocess.run([sys.executable, "-c", WHERE[where]], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")
