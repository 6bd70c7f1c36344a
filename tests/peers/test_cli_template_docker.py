"""Our `--format` beside Docker's own command: `docker context` needs no daemon, and formats with the same templates."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from typing import Any

import pytest

from orlop.base import errors
from orlop.doors.cli import template

pytestmark = [pytest.mark.peer, pytest.mark.skipif(shutil.which("docker") is None, reason="no docker command")]

_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "DOCKER_CONFIG": "/nonexistent"}
_BETWEEN = "\n@@@@\n"


def _docker(*args: str) -> tuple[int, str, str]:
    done = subprocess.run(["docker", "context", *args], capture_output=True, text=True, env=_ENV, timeout=60)
    return done.returncode, done.stdout.removesuffix("\n"), done.stderr.strip()


@cache
def _context() -> dict[str, Any]:
    told: list[dict[str, Any]] = json.loads(_docker("inspect")[1])
    return told[0]


def _compare(templates: list[str]) -> None:
    """Each template gives what Docker gives; Docker is run once for all."""
    code, out, complaint = _docker("inspect", "-f", _BETWEEN.join(templates))
    assert (code, complaint) == (0, "")
    theirs = dict(zip(templates, out.split(_BETWEEN), strict=True))
    ours = {each: template.render(each, _context()) for each in templates}
    assert ours == theirs


def test_expressions_print_what_docker_prints() -> None:
    _compare(
        [
            "{{.Name}}",
            "{{json .Endpoints}}",
            "{{.Endpoints}} {{.Endpoints.docker.Host}} {{.Endpoints.x}} {{.Endpoints.x.y}}",
            '{{(index .Endpoints "docker").Host}} {{len .Endpoints}}',
            '{{upper .Name}} {{lower "ABÇ"}} {{title "hello wORLD foo-bar a_b x.y"}}',
            '{{truncate .Name 3}} {{truncate "ab" 9}} {{pad "x" 2 3}}|{{pad "" 2 3}}|',
            '{{split "a:b:c" ":"}} {{join (split "a:b:c" ":") "-"}} {{split "" ","}} {{split "abc" ""}}',
            '{{len "é"}} {{len (split "a,b" ",")}} {{index (split "a,b" ",") 1}} {{index "abc" 1}}',
            '{{slice "abcdef" 1 3}} {{slice "abcdef" 2}} {{slice "abcdef"}}',
            '{{eq 1 1}} {{eq 1 2 3 1}} {{ne "a" "b"}} {{lt 1 2}} {{le 2 2}} {{gt 1.5 1.0}} {{ge "b" "a"}}',
            '{{and 1 0 2}} {{or 0 "" "x"}} {{and "a" "b"}} {{or 0 false}} {{not 0}} {{not "a"}} {{not nil}}',
            "{{eq nil nil}} {{eq nil 1}} {{eq 1 nil}} {{json nil}}",
            '{{print 1 2 "a" 3 4 true nil}} {{println "a" 1 true}} {{print}}| {{print 1.0 2}}',
            '{{range $i,$e := split "a,b,c" ","}}{{$i}}={{$e}};{{end}}',
            '{{range split "a,b,c" ","}}{{.}}{{if eq . "b"}}{{break}}{{end}}{{end}}',
            '{{range split "a,b,c" ","}}{{if eq . "b"}}{{continue}}{{end}}{{.}}{{end}}',
            '{{range $e := split "a,b" ","}}{{$e}}{{end}}{{range 3}}{{.}}{{end}}{{range $i := 3}}{{$i}}{{end}}',
            "{{range $k,$v := .Endpoints}}{{$k}}{{end}}{{range 0}}x{{else}}none{{end}}{{range -1}}x{{end}}",
            '{{with .Name}}{{.}}{{$.Name}}{{else}}no{{end}}{{with ""}}x{{else with "y"}}{{.}}{{end}}',
            '{{if false}}a{{else if 0}}b{{else if "x"}}c{{else}}d{{end}}{{if $x := .Name}}{{$x}}{{end}}',
            "{{$x := 1}}{{if true}}{{$x = 2}}{{$y := 3}}{{$y}}{{end}}{{$x}}",
            "{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}",
            'a {{- " b " -}} c {{" d "}} e {{- /* hi */ -}} f{{/* {{ }} */}}g {{- 3}}{{-3}}',
            '{{"a" | printf "%s-%s" "b"}} {{("x")}} {{ (print "x") | upper }} {{ .Name|upper }}',
            "{{1_000}} {{0x1F}} {{0o17}} {{017}} {{0b11}} {{1e3}} {{.5}} {{-3}} {{+4}} {{1.0}} {{1e100}}",
            "{{12345678901234567890.0}} {{0.1}} {{100000.5}} {{1000000.5}} {{1e6}} {{123456.0}} {{0.0001}} {{0.00001}}",
            "{{'a'}} {{'\\n'}} {{'\\u00e4'}} {{`raw \"x\" \\n`}} {{\"\\t\\u00e4\\x41\\101\\\\\\\"\"}}",
            '{{json "<&>\\u2028é"}} {{json 1.0}} {{json 1.5}} {{json true}} {{json (split "a,b" ",")}}',
            '{{if and .Name (gt (len .Name) 3)}}long{{end}} {{printf "%s" .Name | printf "%q"}}',
            '{{$a := 1}}{{$b := 2}}{{$a}}{{$b}}\n{{"multi"}}\n \t{{- 1 -}} \n\n 2',
        ]
    )


_ODD = ('"%d %d" 1', '"%d" 1 2', '"%"', '"%%x"', '"%*d|" 5 3', '"%-*d|" 5 3', '"%.*f" 2 1.5', '"%z"')


def test_printf_formats_what_docker_formats() -> None:
    values = [
        '"hi"', '"a\\"b\\n\\x01é"', "42", "-7", "0", "3.5", "-0.25", "1e21", "0.00001", "100000000.5", "true", "nil",
        '(split "a,b" ",")', "`r\\aw`", "'x'",
    ]  # fmt: skip
    flags = ["", "+", "-8", "8", "08", ".2", "#", "8.3", " ", "+08", ".0"]
    floats = {"3.5", "-0.25", "1e21", "0.00001", "100000000.5"}
    _compare(
        [
            f'{{{{printf "[%{flag}{verb}]" {value}}}}}'
            for verb in "vsqdtxXobcUefgGTz"
            for flag in flags
            for value in values
            if not (verb in "xXb" and value in floats)  # floats in hexadecimal and as fractions are left out
            and not (verb in "sqdtxXobcUz" and flag == ".0" and value in floats)
        ]
        + [f"{{{{printf {arguments}}}}}" for arguments in _ODD]
    )


@pytest.mark.parametrize(
    "bad",
    [
        "{{", "{{.Name", "{{foo}}", "{{if}}", "{{end}}", "{{else}}", '{{.Name "x"}}', "{{upper 1}}", "{{upper}}",
        "{{upper nil}}", "{{$y}}", "{{.Name.x}}", "{{.Foo}}", "{{1 2}}", '{{"a" "b"}}', "{{nil}}", "{{.Name | nil}}",
        "{{.Name | 1}}", '{{index (split "a" ",") 5}}', "{{index 1 2}}", "{{index nil 1}}", "{{len 3}}", '{{eq 1 "a"}}',
        "{{eq 1}}", "{{lt true false}}", "{{range 1.5}}{{end}}", "{{range true}}{{end}}", "{{break}}", '{{"abc}}',
        "{{`abc}}", "{{'ab'}}", "{{1x}}", "{{3-}}", "{{.Name)}}", "{{(.Name}}", "{{.Name..x}}", "{{. .}}", "{{a b}}",
        "{{range $a,$b,$c := .}}{{end}}", "{{$x, $y := 1}}", "{{with}}{{end}}", "{{/* x }}", "{{/* x */ y}}",
        "{{.Name.}}", '{{"a".x}}', "{{printf}}", "{{!}}", '{{slice "abc" 5}}', '{{truncate "a" "b"}}', "{{and}}",
        "{{not}}", '{{"x" | .Name}}', "{{.Name:=1}}", "{{if $x := 1}}{{end}}{{$x}}", "{{else if}}",
        "{{if 1}}{{else}}{{else}}{{end}}", '{{printf("x")}}', "\n\n {{.Foo}}", "{{ /*a*/}}",
    ],
)  # fmt: skip
def test_complaints_are_dockers_word_for_word(bad: str) -> None:
    code, _, complaint = _docker("inspect", "-f", bad)
    assert code in (1, 64)  # Docker's inspect says 64 to what it cannot parse; ours is always 1
    with pytest.raises(errors.InvalidArgument) as caught:
        template.render(bad, _context(), "context.contextWithTLSListing")
    assert caught.value.message == complaint
    assert caught.value.exit_code == 1


_HEADERS = {"Name": "NAME", "Description": "DESCRIPTION", "DockerEndpoint": "DOCKER ENDPOINT", "Error": "ERROR"}


@pytest.mark.parametrize(
    "form",
    [
        "json",
        "{{json .}}",
        "{{.Name}}\\t{{.Current}}\\n",
        " {{.Name}} ",
        "table {{.Name}}\\t{{.Description}}\\t{{.DockerEndpoint}}",
        "table {{.Name}}\t{{upper .Name}}\t{{title .Description}} {{len .Name}}",
        "table{{.Name}}",
        "table {{.Name}}\\tä\\tö\\nlonger cell\\tx\\nno tab\\n{{.Name}}\\tb\\tc",
        "table {{.Name}}\\t{{.Error}}\\t{{.Description}}",
        "table {{.Name}}\\t{{.Error}}",
        'table {{join (split .Name "f") "-"}}\\t{{.Current}}',
        "table {{range split .Name \"f\"}}{{.}},{{end}}\\t{{truncate .DockerEndpoint 4}}",
    ],
)  # fmt: skip
def test_lists_are_laid_out_as_dockers(form: str) -> None:
    code, out, complaint = _docker("ls", "--format", form)
    assert (code, complaint) == (0, "")
    row = json.loads(_docker("ls", "--format", "json")[1])
    ours = template.render_list(form, [row], _HEADERS)
    # Docker leaves blanks at the ends of lines whose last cell is empty.
    assert ours.split("\n") == [line.rstrip(" ") if form.startswith("table") else line for line in out.split("\n")]
