"""The command line: results, exit codes, one clear line a bad input, and nothing overwritten on failure."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from scrimp.cli import app
from scrimp.cli.outcome import reporting
from scrimp.errors import BudgetExceeded

RNG = np.random.default_rng(0)


def run(*args, code=0):
    """Run a command in this process and check its exit code."""
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == code, result.output
    return result


def refused(*args, code=4):
    """Run a command that must fail, and return the one line that it says."""
    result = run(*args, code=code)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("error: ")
    return result.stderr


def read_json(path, command):
    document = json.loads(path.read_text())
    assert document["schema"] == f"scrimp.{command}/1"
    return document


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "model.safetensors"
    weight = RNG.normal(size=(64, 128)).astype(np.float32)
    save_file({"w": weight, "norm": np.ones(64, np.float32), "ids": np.arange(5)}, path)
    return path


# all commands ------------------------------------------------------------------------------------

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_that_parses(command):
    text = " ".join(run(command, "--help").stdout.split())
    assert f"Example: scrimp {command}" in text


def test_module_and_script_are_the_same_command():
    by_module = subprocess.run(
        [sys.executable, "-m", "scrimp", "--version"], capture_output=True, text=True, check=True
    )
    assert by_module.stdout.startswith("scrimp ")
    script = Path(sys.executable).with_name("scrimp")
    if script.exists():
        by_script = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
        assert by_script.stdout == by_module.stdout


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from scrimp.cli import app; app(['--help'], standalone_mode=False);"
        "heavy = {'sklearn', 'scipy', 'pandas', 'torch', 'pyarrow', 'matplotlib'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    "args",
    [
        ["quantize"],
        ["nonsense"],
        ["quantize", "x", "--out", "y", "--codec", "int7"],
        ["info", "--no-such-option"],
    ],
)
def test_wrong_usage_exits_with_2(args):
    run(*args, code=2)


def test_unknown_codec_lists_the_known(checkpoint, tmp_path):
    result = run("quantize", checkpoint, "--out", tmp_path / "q", "--codec", "int7", code=2)
    assert "int4" in result.stderr
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            BudgetExceeded("budget of 1 usd: spent 2", "ckpt"),
            3,
            "saved in ckpt, the same command goes on from there",
        ),
        (BudgetExceeded("budget of 1 usd: spent 2"), 3, "budget of 1 usd"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError("9 GB"), 1, "out of memory: 9 GB"),
        (OSError(28, "No space left on device"), 1, "No space left"),
    ],
)
def test_errors_become_one_line_and_their_exit_code(capsys, error, code, said):
    import typer

    def command():
        raise error

    with pytest.raises(typer.Exit) as end:
        reporting(command)()
    assert end.value.exit_code == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_a_bug_keeps_its_traceback():
    def command():
        raise AssertionError("bug")

    with pytest.raises(AssertionError):
        reporting(command)()


def test_reader_that_leaves_early_is_no_traceback_and_costs_no_result(checkpoint, tmp_path):
    command = f"{sys.executable} -m scrimp info {checkpoint} --json {tmp_path}/i.json | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    read_json(tmp_path / "i.json", "info")


def test_names_are_shown_as_they_are(tmp_path):
    save_file({"x[bold]:smile:[/]": np.ones(3, np.float32)}, tmp_path / "m.safetensors")
    assert "x[bold]:smile:[/]" in run("info", tmp_path / "m.safetensors").stdout


# quantize, dequantize ----------------------------------------------------------------------------


def test_quantize_shows_and_writes_errors_and_sizes(checkpoint, tmp_path):
    out, result = tmp_path / "q.safetensors", tmp_path / "r.json"
    shown = run(
        "quantize", checkpoint, "--codec", "int4", "--rule", "norm=f16", "--out", out, "--json", result
    )
    document = read_json(result, "quantize")
    by_name = {t["name"]: t for t in document["tensors"]}
    assert by_name["w"]["codec"] == "int4"
    assert 0 < by_name["w"]["relative_mse"] < 0.02
    assert by_name["norm"]["codec"] == "f16"
    assert by_name["ids"]["codec"] == "copied"
    assert document["file_bytes_after"] == out.stat().st_size < checkpoint.stat().st_size / 4
    for text in ("relative MSE", "int4", "3 tensors"):
        assert text in shown.stdout
    assert shown.stderr == ""


def test_dequantize_gives_the_plain_file_back(checkpoint, tmp_path):
    run("quantize", checkpoint, "-c", "int8", "-o", tmp_path / "q.safetensors")
    result = tmp_path / "r.json"
    run("dequantize", tmp_path / "q.safetensors", "-o", tmp_path / "b.safetensors", "--json", result)
    back, plain = load_file(tmp_path / "b.safetensors"), load_file(checkpoint)
    assert np.abs(back["w"] - plain["w"]).max() < 0.02
    np.testing.assert_array_equal(back["ids"], plain["ids"])
    assert read_json(result, "dequantize")["file_bytes_after"] == (tmp_path / "b.safetensors").stat().st_size


def test_info_looks_inside_a_quantized_file(checkpoint, tmp_path):
    run("quantize", checkpoint, "-c", "int4", "-o", tmp_path / "q.safetensors")
    shown = run("info", tmp_path / "q.safetensors", "--json", tmp_path / "i.json").stdout
    assert "64×128" in shown
    tensors = {t["name"]: t for t in read_json(tmp_path / "i.json", "info")["tensors"]}
    assert (tensors["w"]["type"], tensors["w"]["shape"]) == ("int4", [64, 128])


@pytest.mark.parametrize("rule", ["norm", "=f16", "(=f16", "norm=int7"])
def test_rule_that_makes_no_sense_is_wrong_usage(checkpoint, tmp_path, rule):
    run("quantize", checkpoint, "--rule", rule, "-o", tmp_path / "q", code=2)


def test_bad_checkpoint_is_one_line_and_leaves_the_old_output(checkpoint, tmp_path):
    out = tmp_path / "q.safetensors"
    out.write_bytes(b"old")
    whole = checkpoint.read_bytes()
    bad = tmp_path / "bad.safetensors"
    for content in (b"", b"not a model at all, but long enough", whole[:100], whole[:-1]):
        bad.write_bytes(content)
        assert str(bad) in refused("quantize", bad, "-o", out)
    assert "No such file" in refused("quantize", tmp_path / "none", "-o", out)
    assert "not a quantized file" in refused("dequantize", checkpoint, "-o", out)
    assert out.read_bytes() == b"old"


def test_output_that_cannot_be_written_is_found_out_first(checkpoint, tmp_path):
    assert "there is no folder" in refused("quantize", checkpoint, "-o", tmp_path / "no" / "q", code=1)
    args = ("-o", tmp_path / "q", "--json", tmp_path / "no" / "r")
    assert "there is no folder" in refused("quantize", checkpoint, *args, code=1)
    assert not (tmp_path / "q").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_one_clear_line(checkpoint):
    assert "No space left on device" in refused("quantize", checkpoint, "-o", "/dev/full", code=1)


def test_results_go_to_stdout_and_progress_to_a_terminal_only(checkpoint, tmp_path):
    command = [sys.executable, "-m", "scrimp", "quantize", str(checkpoint), "-o", str(tmp_path / "q")]
    quiet = subprocess.run(command, capture_output=True, text=True, check=True)
    assert quiet.stderr == ""
    leader, follower = pty.openpty()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower, text=True) as process:
        os.close(follower)
        stdout = process.stdout.read()
        assert process.wait() == 0
    assert stdout == quiet.stdout
    assert b"quantizing" in os.read(leader, 1 << 16)
    os.close(leader)


def test_interrupt_exits_with_130_and_leaves_the_old_output(checkpoint, tmp_path):
    """Ctrl-C in the middle of the second tensor."""
    out = tmp_path / "q.safetensors"
    out.write_bytes(b"old")
    code = (
        "import os, signal, sys\nfrom scrimp.cli import main\nfrom scrimp.tensor_file import recode\n"
        "recode.unpack = lambda packet: os.kill(os.getpid(), signal.SIGINT)\nmain()\n"
    )
    command = [sys.executable, "-c", code, "quantize", str(checkpoint), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")
    assert out.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["model.safetensors", "q.safetensors"]


# bill, info --------------------------------------------------------------------------------------


def write_result(path, **document):
    path.write_text(json.dumps(document))
    return path


def own_prices(path):
    return write_result(
        path,
        schema="scrimp.prices/1",
        name="ours",
        source="contract",
        date="2026-01",
        usd_per={"cpu_hour": 36},
    )


def test_bill_prices_every_usage_it_finds(tmp_path):
    rungs = [
        {"name": "baseline", "wall_s": 1.0, "cpu_s": 2.0},
        {"name": "sharded", "wall_s": 1, "cpu_s": 4, "usd": 9},
    ]
    saved = {"sharded": {"wall_s": -3.0, "cpu_s": -1.0}}
    demo = write_result(tmp_path / "demo.json", schema="scrimp.demo/1", rungs=rungs, saved=saved)
    fit = write_result(
        tmp_path / "fit.json", schema="scrimp.train/1", bill={"usage": {"wall_s": 1, "cpu_s": 1}}
    )
    result = tmp_path / "bill.json"
    shown = run("bill", demo, fit, "--prices", own_prices(tmp_path / "p.json"), "--json", result).stdout
    document = read_json(result, "bill")
    assert document["total_usd"] == pytest.approx(0.07)
    assert [part["name"] for part in document["parts"]] == ["demo 1 baseline", "demo 2 sharded", "fit"]
    assert "$0.07" in shown
    assert "ours (2026-01)" in shown


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("{}", "holds no usage"),
        ("[1]", "holds no usage"),
        ('{"schema": "scrimp.plan/1", "predicted": {"usage": {"wall_s": 1, "cpu_s": 1}}}', "a plan foresees"),
        (
            '{"schema": "scrimp.quantize/1", "tensors": []}',
            "holds no usage (wall_s, cpu_s, …): the result of `scrimp quantize`",
        ),
        ('{"wall_s": "x", "cpu_s": 1}', "wall_s must be a number from 0 to 1e+100, got 'x'"),
        ('{"wall_s": NaN, "cpu_s": 1}', "not JSON: NaN is no number"),
        ('{"wall_s": 1e999, "cpu_s": 1}', "wall_s must be a number from 0 to 1e+100, got inf"),
        ('{"wall_s": -1, "cpu_s": 1}', "wall_s must be a number from 0 to 1e+100, got -1"),
    ],
)
def test_bill_of_something_else_is_one_clear_line(tmp_path, content, said):
    path = tmp_path / "r.json"
    path.write_text(content)
    assert said in refused("bill", path)


def test_bad_price_file_is_one_clear_line(tmp_path):
    result = write_result(tmp_path / "r.json", wall_s=1, cpu_s=1)
    assert "schema must be" in refused("bill", result, "--prices", result)
    assert "No such file" in refused("bill", tmp_path / "none")


def test_info_describes_the_installation(tmp_path):
    assert "codecs" in run("info", "--json", tmp_path / "i.json").stdout
    document = read_json(tmp_path / "i.json", "info")
    assert "int4" in document["codecs"]
    assert document["cpus"] >= 1


def test_info_describes_a_data_file(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,x\n,y\n")
    shown = run("info", tmp_path / "t.csv", "--json", tmp_path / "i.json").stdout
    assert "2 rows" in shown
    features = read_json(tmp_path / "i.json", "info")["features"]
    assert features == [
        {"name": "a", "type": "float64", "missing": 1},
        {"name": "b", "type": "text", "missing": 0},
    ]


# demo, report ------------------------------------------------------------------------------------


def small_demo():
    from scrimp.demo import DemoResult, RungResult
    from scrimp.usage import Usage

    def rung(name, wall_s):
        return RungResult(name, f"adds {name}", 0.9, Usage(wall_s=wall_s, cpu_s=1.0), 100, 10, 0.1)

    return DemoResult(
        "flights", "r2", 1000, 200, 8, (rung("baseline", 1.0), rung("sharded", 0.5)), ("A note.",)
    )


def test_demo_prints_the_table_and_names_the_page(tmp_path, monkeypatch):
    import scrimp.demo

    asked = {}

    def run_demo(*args, **more):
        asked.update(args=args, more=more)
        return small_demo()

    monkeypatch.setattr(scrimp.demo, "run_demo", run_demo)
    page, result = tmp_path / "d.html", tmp_path / "d.json"
    shown = run("demo", "--html", page, "--json", result, "--max-rows", 2000, "--quiet").stdout
    assert asked == {"args": ("flights", result, page, True), "more": {"max_rows": 2000}}
    assert "sharded" in shown
    assert "A note." in shown
    assert str(page) in shown


def test_demo_of_unknown_data_is_one_clear_line(tmp_path):
    assert "unknown dataset 'moons'" in refused("demo", "moons", "--html", tmp_path / "d.html")


def test_report_of_a_demo_is_its_page(tmp_path):
    from scrimp.demo.page import demo_page

    result = write_result(tmp_path / "d.json", **small_demo().to_dict())
    run("report", result, "-o", tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == demo_page(small_demo()).html()


def test_report_shows_facts_bills_and_tensors(checkpoint, tmp_path):
    run("quantize", checkpoint, "-o", tmp_path / "q", "--json", tmp_path / "q.json")
    spent = write_result(tmp_path / "spent.json", wall_s=1.0, cpu_s=3600.0)
    run("bill", spent, "--json", tmp_path / "b.json")
    run("report", tmp_path / "q.json", tmp_path / "b.json", "-o", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    for text in ("quantize: ", "relative_mse", "int4", "64×128", "bill: ", "CPU·h", "list price"):
        assert text in page
    assert "<td>total</td><td></td><td>$0.0405</td>" in page


def test_sentences_on_a_page_are_broken_and_dollars_are_written_as_in_bills(tmp_path):
    reasons = {"rows": "all of them, " * 40}
    options = [{"solver": "gram", "usd": 3.7e-07}]
    plan = write_result(tmp_path / "p.json", schema="scrimp.plan/1", reasons=reasons, options=options)
    run("report", plan, "-o", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert f'<td class="text">{reasons["rows"]}</td>' in page
    assert "<td>$0.00000037</td>" in page


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("[]", "not a result of scrimp"),
        ('{"schema": "other/1"}', "its schema is 'other/1'"),
        ('{"schema": "scrimp.demo/1"}', "a damaged result"),
        ('{"schema": "scrimp.demo/1", "rungs": [], "notes": []}', "a damaged result"),
        ('{"schema": "scrimp.train/1", "bill": {"lines": [{"name": "cpu"}]}}', "a damaged result"),
        ('{"schema": "scrimp.plan/1", "options": [null]}', "a damaged result"),
        ('{"schema": "scrimp.train/1", "model_bytes": 1%s}' % ("0" * 400), "a damaged result"),
    ],
)
def test_report_of_something_else_is_one_clear_line(tmp_path, content, said):
    path = tmp_path / "r.json"
    path.write_text(content)
    assert said in refused("report", path, "-o", tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()
