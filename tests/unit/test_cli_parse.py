"""The command line's grammar, its table, its help and its exit codes."""

from __future__ import annotations

import pytest

from orlop.base import errors
from orlop.doors.cli import help as help_
from orlop.doors.cli import main, parse, table

FLAGS = (
    ("detach", "d", "bool", "", "x"),
    ("rm", "", "bool", "", "x"),
    ("interactive", "i", "bool", "", "x"),
    ("env", "e", "list", "X", "x"),
    ("name", "", "string", "X", "x"),
    ("time", "t", "int", "X", "x"),
    ("timeout", "", "alias", "time", ""),
    ("cpus", "", "float", "X", "x"),
    ("memory", "m", "size", "X", "x"),
)


def parsed(*argv: str, interspersed: bool = False) -> tuple[dict[str, object], list[str]]:
    return parse.parse_flags(list(argv), FLAGS, interspersed, "run")


@pytest.mark.parametrize(
    ("argv", "values", "arguments"),
    [
        (["-di", "img", "-d"], {"detach": True, "interactive": True}, ["img", "-d"]),
        (["-e", "A=1", "-eB=2", "--env=C=3", "--env", "D", "img"], {"env": ["A=1", "B=2", "C=3", "D"]}, ["img"]),
        (["--rm=false", "img"], {"rm": False}, ["img"]),
        (["-dt5", "img"], {"detach": True, "time": 5}, ["img"]),
        (["-t=-1", "img"], {"time": -1}, ["img"]),
        (["--timeout", "3", "img"], {"time": 3}, ["img"]),
        (["--cpus", "1.5", "-m", "64m", "img"], {"cpus": 1.5, "memory": 64 << 20}, ["img"]),
        (["--name=", "--", "--rm"], {"name": ""}, ["--rm"]),
        (["-"], {}, ["-"]),
    ],
)
def test_flags_are_read_as_pflag_reads_them(argv: list[str], values: dict[str, object], arguments: list[str]) -> None:
    assert parsed(*argv) == (values, arguments)


def test_an_interspersed_command_takes_flags_after_arguments() -> None:
    assert parsed("a", "-d", "b", "--", "-i", interspersed=True) == ({"detach": True}, ["a", "b", "-i"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--foo"], "unknown flag: --foo"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["-dx"], "unknown shorthand flag: 'x' in -dx"),
        (["--name"], "flag needs an argument: --name"),
        (["-e"], "flag needs an argument: 'e' in -e"),
        (["--rm=perhaps"], 'invalid argument "perhaps" for "--rm" flag'),
        (["-t", "soon"], 'invalid argument "soon" for "-t, --time" flag'),
        (["--cpus", "nan"], 'invalid argument "nan" for "--cpus" flag'),
        (["-m", "12q"], 'invalid argument "12q" for "-m, --memory" flag'),
    ],
)
def test_a_bad_flag_is_named_and_ends_with_125(argv: list[str], message: str) -> None:
    with pytest.raises(errors.UsageError) as caught:
        parsed(*argv)
    assert message in caught.value.message
    assert caught.value.exit_code == 125


def test_the_table_is_sound() -> None:
    kinds = {"bool", "string", "list", "int", "float", "size", "alias"}
    for name, (module, usage, _, flags, _, least, most, _) in table.COMMANDS.items():
        assert f"{usage} ".startswith(f"{name.replace('_', ' ').strip() if name[0] != '_' else name} ")
        longs = [flag[0] for flag in flags]
        shorts = [flag[1] for flag in flags if flag[1]]
        assert len(set(longs)) == len(longs), name
        assert len(set(shorts)) == len(shorts), name
        for flag in flags:
            assert flag[2] in kinds, (name, flag)
            assert flag[2] != "alias" or flag[3] in longs
        assert most < 0 or least <= most
        __import__(f"orlop.doors.cli.commands.{module}")
    for _, words in table.GROUPS.values():
        assert {line.split()[0] for line in words.values()} <= set(table.COMMANDS)
    listed = {name for _, names in table.SECTIONS for name in names}
    assert listed == {name for name in table.COMMANDS if "_" not in name}
    grouped = {line.split()[0] for _, words in table.GROUPS.values() for line in words.values()}
    assert {name for name in table.COMMANDS if "_" in name[1:]} <= grouped


def test_every_flag_has_help_and_every_command_prints_it(capfd: pytest.CaptureFixture[str]) -> None:
    for name in table.COMMANDS:
        if name.startswith("_"):
            continue
        assert main.main([*name.split("_"), "--help"]) == 0
        text = capfd.readouterr().out
        assert text.startswith(f"Usage:  orlop {name.replace('_', ' ')}")
        for flag in table.COMMANDS[name][3]:
            if flag[2] != "alias" and flag[4]:
                assert f"--{flag[0]}" in text
    for group in table.GROUPS:
        assert main.main([group, "--help"]) == 0
        assert f"orlop {group} COMMAND" in capfd.readouterr().out
    assert "Containers:" in help_.main_text()


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (["run", "--foo"], 125, "unknown flag: --foo"),
        (["rnu"], 125, "did you mean 'run'?"),
        (["run"], 125, "requires at least 1 argument"),
        (["tag", "a"], 125, "requires exactly 2 arguments"),
        (["ps", "x"], 125, "accepts no arguments"),
        (["image", "frob"], 125, "'frob' is not a command of 'orlop image'"),
    ],
)
def test_a_bad_line_is_told_in_one_line_with_its_exit_code(
    argv: list[str], code: int, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.main(argv) == code
    err = capfd.readouterr().err
    assert text in err.splitlines()[0]
    assert "Traceback" not in err


def test_version_needs_no_engine(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    assert main.main(["version", "--format", "{{.Client.Os}}"]) == 0
    assert capfd.readouterr().out.splitlines()[1] == "linux"
