"""The arguments of `nandoctor record`: what is asked, and words for what cannot be."""

import os
import re
import subprocess
import sys

import pytest
import typer

from nandoctor.cli import record as typers
from nandoctor.cli.record_arguments import FLAGS, WITH_VALUE, read
from nandoctor.errors import UserError
from nandoctor.launch.request import Request, checked
from tests.launch.commands import nandoctor, plain

ASKED = [
    (["--", "python", "t.py", "-o", "x"], Request(("python", "t.py", "-o", "x"))),
    (["-o", "a.parquet", "--", "x"], Request(("x",), output="a.parquet")),
    (["--output=a.parquet", "--quiet", "--", "x"], Request(("x",), output="a.parquet", quiet=True)),
    (["-oa.parquet", "--", "x", "--"], Request(("x", "--"), output="a.parquet")),
    (["--layers", "fc.*", "--watch-step", "7", "--", "x"], Request(("x",), layers="fc.*", watch_step=7)),
    (["--probe", "--", "x"], Request(("x",), probe=True)),
    (["--budget", "0", "--whole-steps=7", "--max-size", "1.5G", "--", "x"],
     Request(("x",), budget=0.0, whole_steps=7, max_size=3 * 2**29)),
    (["--recover", "run.parquet.spool"], "run.parquet.spool"),
]


@pytest.mark.parametrize(("arguments", "wish"), ASKED)
def test_the_arguments_are_read_as_typer_reads_them(arguments, wish, monkeypatch):
    wishes = []
    monkeypatch.setattr(typers, "start", lambda wish: wishes.append(wish) or 0)
    app = typer.Typer()
    app.command()(typers.record)

    app(args=arguments, standalone_mode=False)

    assert read(arguments) == wishes[0] == wish


def test_the_help_is_typers_and_names_every_option(tmp_path):
    plain_text = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100"}
    seen = nandoctor("record", "--help", folder=tmp_path, env=plain_text)
    text = seen.stdout.decode()
    assert "Usage: nandoctor record" in text and seen.returncode == 0
    assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", text)) == {*WITH_VALUE, *FLAGS, "--help"}


@pytest.mark.parametrize(
    ("arguments", "title", "code"),
    [
        ([], "NO COMMAND", 2),
        (["--"], "NO COMMAND", 2),
        (["python", "train.py"], "NO -- BEFORE THE COMMAND", 2),
        (["--lr", "1", "--", "x"], "UNKNOWN OPTION", 2),
        (["-o", "--", "x"], "CANNOT USE THIS OPTION", 2),
        (["-o", ".", "--", "x"], "THE OUTPUT IS A FOLDER", 2),
        (["-o", "file/run.parquet", "--", "x"], "CANNOT WRITE THERE", 2),
        (["--layers", "(", "--", "x"], "NOT A PATTERN", 2),
        (["--watch-step", "soon", "--", "x"], "CANNOT USE THIS OPTION", 2),
        (["--", "no-such-command"], "COMMAND NOT FOUND", 127),
        (["--", "./file"], "CANNOT RUN THE COMMAND", 126),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_starts(tmp_path, arguments, title, code):
    (tmp_path / "file").write_text("echo not executable")
    seen = nandoctor("record", *arguments, folder=tmp_path)

    assert seen.stderr.decode().startswith(f"-- {title} -")
    assert seen.returncode == code
    assert seen.stdout == b""
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("output", ["/proc/x.parquet", "/sys/x.parquet", "n" * 252 + ".p"])
def test_a_place_where_no_spool_can_be_made_is_refused_before_the_training(tmp_path, output):
    if not os.path.isdir(os.path.dirname(os.path.abspath(output))):
        pytest.skip("no such folder on this system")
    seen = nandoctor("record", "-o", output, "--", "touch", "started", folder=tmp_path)
    assert seen.returncode == 2 and seen.stderr.decode().startswith("-- CANNOT WRITE THERE -")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_may_not_be_written_is_said(tmp_path, monkeypatch):
    def refused(path, *mode):  # root may write everywhere
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "mkdir", refused)
    with pytest.raises(UserError, match="Permission denied"):
        checked(Request(("x",), output=str(tmp_path / "run.parquet")))


def test_trying_the_place_leaves_nothing_behind(tmp_path):
    for name in ("run.parquet", "r"):
        checked(Request(("x",), output=str(tmp_path / name)))
    assert os.listdir(tmp_path) == []


def test_the_help_lists_each_command_in_one_line_and_no_types_of_switches(tmp_path):
    from nandoctor.cli import COMMANDS

    seen = nandoctor("--help", folder=tmp_path, env={**os.environ, "COLUMNS": "80"}).stdout.decode()
    options, commands = seen.split("Options:")[1].split("Commands:")
    assert [line.split() for line in commands.splitlines() if line] == [
        [name, *words.split()] for name, words in COMMANDS.items()
    ]
    assert "--version" in options and "--help" in options and "<" not in options
    for name in COMMANDS:
        told = nandoctor(name, "--help", folder=tmp_path).stdout.decode()
        assert "bool" not in told and "[[" not in told


def test_the_parent_loads_nothing_heavy_before_and_without_a_training(tmp_path):
    command = [sys.executable, "-X", "importtime", "-m", "nandoctor", "record", "--", "true"]
    seen = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    loaded = {line.rpartition("|")[2].strip() for line in seen.stderr.splitlines()}
    assert "nandoctor.launch.session" in loaded
    heavy = {"typer", "rich", "pandas", "pyarrow", "numpy", "torch"}
    assert not heavy & {name.partition(".")[0] for name in loaded}


def test_the_command_nandoctor_and_its_version(tmp_path):
    from nandoctor import __version__

    assert nandoctor("--version", folder=tmp_path).stdout.decode() == f"nandoctor {__version__}\n"
    light = "import sys, nandoctor; print({'numpy', 'pandas', 'pyarrow', 'typer'} & set(sys.modules))"
    assert plain([sys.executable, "-c", light], tmp_path).stdout == b"set()\n"
