"""The command line as a whole: quick to start, one paragraph for an error, one JSON object for programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from tests.core.cli.process import only_object, within

from within.core.cli import main
from within.core.cli.application import COMMANDS

NAMES = [module.__name__.rpartition(".")[2].replace("_", "-") for module in COMMANDS]


def test_help_does_not_import_torch():
    """Would catch an import that makes every `--help` wait seconds for torch."""
    code = (
        "import sys\nfrom within.core.cli import main\n"
        "assert main(['--help']) == 0\nassert main(['trace', '--help']) == 0\n"
        "slow = {'torch', 'scipy', 'onnx', 'matplotlib', 'mmengine'} & set(sys.modules)\nassert not slow, slow"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_with_an_example(name, capsys):
    """Would catch a command without an example, without `--debug`, or without a sentence on what it does."""
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Example: within {name}" in shown
    assert "--debug" in shown


def test_unknown_commands_and_options_are_usage_errors(capsys):
    """Would catch a typing mistake that ends in a traceback, and a suggestion that is lost."""
    assert main(["benhc"]) == 2
    assert "Did you mean 'bench'" in capsys.readouterr().err
    assert main(["doctor", "--nope"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_user_error_is_one_paragraph_and_exit_2(plugins):
    """Would catch a traceback, a message on several lines, or one on standard output."""
    result = within("pretend", "fail", search=plugins)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == "within: The widget is bent. Where: widget.toml, line 3. What to do: straighten it.\n"


def test_debug_shows_the_traceback(plugins):
    """Would catch `--debug` that plugins do not take, or that shows nothing."""
    result = within("pretend", "fail", "--debug", search=plugins)
    assert result.returncode == 2
    assert "Traceback" in result.stderr
    assert "in fail" in result.stderr
    assert "--debug" in within("pretend", "fail", "--help", search=plugins).stdout


def test_defect_is_told_apart_from_user_error(plugins):
    """Would catch a defect of ours that is dressed up as a mistake of the user."""
    result = within("pretend", "crash", search=plugins)
    assert result.returncode == 1
    assert "ZeroDivisionError: by zero" in result.stderr
    assert "Traceback" not in result.stderr


def test_interrupt_is_one_line_and_exit_130(plugins):
    """Would catch a traceback on Ctrl-C, or an exit code that a shell does not take for an interrupt."""
    process = subprocess.Popen(
        [sys.executable, "-m", "within.core.cli", "pretend", "wait"],
        env={**os.environ, "PYTHONPATH": str(plugins)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output == ""
    assert errors.count("\n") == 1
    assert "Interrupted" in errors


def test_broken_plugins_harm_only_themselves(plugins):
    """Would catch a plugin that cannot be imported and takes `within --help` down with it."""
    shown = within("--help", search=plugins)
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in ("pretend", "broken", "wrong", "Pretends", *NAMES))
    broken = within("broken", "anything", search=plugins)
    assert broken.returncode == 2
    assert "library of another planet" in broken.stderr
    assert within("wrong", search=plugins).returncode == 2
    record = only_object(within("doctor", "--json", search=plugins).stdout)
    assert record["commands"]["pretend"] == "loads"
    assert any("another planet" in problem for problem in record["problems"])


@pytest.mark.parametrize("arguments", [["doctor"], ["methods"], ["bench"], ["reproduce"]])
def test_json_is_one_object_and_nothing_else(arguments):
    """Would catch a table, a log line or a warning on standard output beside the object."""
    only_object(within(*arguments, "--json").stdout)


def test_json_survives_libraries_that_print(tmp_path):
    """Would catch output of Python, of the C library or of a bare file descriptor before the object."""
    (tmp_path / "noisy.py").write_text(
        "import ctypes, os\n"
        "print('python')\nctypes.CDLL(None).printf(b'library\\n')\nos.write(1, b'descriptor\\n')\n"
        "os.system('echo child')\n"
    )
    code = (
        "from within.core.cli.output import print_json, standard_output_for_json\n"
        "with standard_output_for_json(True):\n    import noisy\n"
        "print_json({'value': float('inf')})"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert only_object(result.stdout) == {"value": "inf"}
    assert all(word in result.stderr for word in ("python", "library", "descriptor", "child"))


def test_main_returns_codes_instead_of_leaving(capsys):
    """Would catch a `main` that ends the process of whoever calls it."""
    assert main(["methods", "unknown-kind"]) == 2
    assert "choose one of" in capsys.readouterr().err
