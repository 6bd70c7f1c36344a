"""`--format`: Go templates, Docker's functions, and the forms of lists. (tests/peers compares with Docker itself.)"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.base.record import Record
from orlop.doors.cli import template
from orlop.doors.cli.template import Map, Method

CONTAINER: dict[str, Any] = {
    "Id": "0123456789ab",
    "Name": "web",
    "Running": True,
    "Pid": 42,
    "Ratio": 1.5,
    "Nothing": None,
    "Names": ["web", "alias"],
    "Empty": [],
    "Labels": {"com.example.tier": "front", "b": "2"},
    "NoLabels": {},
    "State": {"Status": "running", "Health": None},
    "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "443/tcp": None},
    "Mounts": [{"Source": "/a", "Destination": "/x"}, {"Source": "/b", "Destination": "/y"}],
}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("", ""),
        ("plain text }} {", "plain text }} {"),
        ("{{.Name}}", "web"),
        ("{{ .Name }}!", "web!"),
        ("{{.ID}} {{.Id}}", "0123456789ab 0123456789ab"),
        ("{{.State.Status}}", "running"),
        ("{{.Pid}} {{.Ratio}} {{.Running}} {{.Nothing}}", "42 1.5 true <nil>"),
        ("{{.Names}} {{.Labels}} {{.State}}", "[web alias] map[b:2 com.example.tier:front] {running <nil>}"),
        ('{{index .Labels "com.example.tier"}} {{index .Labels "none"}}|', "front |"),
        ("{{.Labels.b}} {{.Labels.none}} {{.Labels.none.deeper}}", "2 <no value> <no value>"),
        ('{{index .NoLabels "x"}}|{{index .Nothing "x"}}|{{.NoLabels.x}}', "||<no value>"),
        ("{{range .Mounts}}{{.Source}}:{{.Destination}} {{end}}", "/a:/x /b:/y "),
        ("{{range $i, $m := .Mounts}}{{if $i}}, {{end}}{{$m.Source}}{{end}}", "/a, /b"),
        ("{{range $p, $b := .Ports}}{{$p}}->{{range $b}}{{.HostPort}}{{else}}none{{end}} {{end}}",
         "443/tcp->none 80/tcp->8080 "),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        ("{{range .Empty}}x{{else}}empty{{end}}", "empty"),
        ("{{if .Running}}up{{else}}down{{end}}", "up"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
        ('{{if eq .Name "db"}}1{{else if eq .Name "web"}}2{{else}}3{{end}}', "2"),
        ("{{with .State}}{{.Status}} of {{$.Name}}{{end}}", "running of web"),
        ("{{with .Nothing}}x{{else with .Name}}{{.}}{{end}}", "web"),
        ("{{$n := .Name}}{{range .Names}}{{$n = .}}{{end}}{{$n}}", "alias"),
        ('{{join .Names ", " | upper}}', "WEB, ALIAS"),
        ('{{.Name | printf "%-6s|%q" .Id}}', '0123456789ab|"web"'),
        ('{{printf "%5d|%05.1f|%x|%t|%v" .Pid .Ratio 255 .Running .Names}}', "   42|001.5|ff|true|[web alias]"),
        ("{{truncate .Id 4}} {{title .Name}} {{len .Names}} {{slice .Id 2 5}}", "0123 Web 2 234"),
        ('{{and .Running (gt .Pid 1) (lt .Ratio 2.0) (ne .Name "x") (not .Empty)}}', "true"),
        ("{{or .Nothing .Empty .Name}} {{and .Name .Empty}}", "web []"),
        ("{{and .Nothing .Nope}}", "<nil>"),
        ("a {{- .Name -}} \n b", "awebb"),
        ("{{/* a comment with }} in it */}}x {{- /* trimmed */ -}} y", "xy"),
        ("{{println .Name 1}}{{print 1 2}}", "web 1\n1 2"),
        ("{{json .Labels}} {{json .Nothing}}", '{"b":"2","com.example.tier":"front"} null'),
        ("{{json .Names}}", '["web","alias"]'),
        ('{{json .State}}{{json "<&é"}}', '{"Status":"running","Health":null}"<&é"'),
    ],
)  # fmt: skip
def test_a_value_is_rendered(source: str, text: str) -> None:
    assert template.render(source, CONTAINER, "container") == text


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{{.Nope}}", 'template: :1:2: executing "" at <.Nope>: can\'t evaluate field Nope in type container'),
        (
            "\n{{.State.Nope}}",
            'template: :2:8: executing "" at <.State.Nope>: can\'t evaluate field Nope in type struct',
        ),
        ("{{.State.Health.Status}}", "nil pointer evaluating Status"),
        ("{{.Name.Nope}}", "can't evaluate field Nope in type string"),
        ('{{.Name "x"}}', "Name has arguments but cannot be invoked as function"),
        ("{{range .Name}}{{end}}", "range can't iterate over web"),
        ('{{join .Name ","}}', "at <.Name>: wrong type for value; expected []string; got string"),
        ("{{upper .Pid}}", "at <.Pid>: wrong type for value; expected string; got int"),
        ("{{.Pid | lower}}", "expected string; got int"),
        ("{{index .Names 2}}", "error calling index: index out of range: 2"),
        ('{{index .Names "a"}}', "cannot index slice/array with type string"),
        ("{{eq .State 1}}", "non-comparable type"),
        ('{{lt .Pid "a"}}', "incompatible types for comparison"),
        ("{{truncate .Name}}", "wrong number of args for truncate: want 2 got 1"),
        ('{{printf "%*d" 99999999 1}}', "is no width"),
        ("{{", "unclosed action"),
        ("{{if .Name}}", "unexpected EOF: an {{end}} is missing"),
        ("{{nope .Name}}", 'function "nope" not defined'),
        ('{{define "x"}}{{end}}', "{{define}} is not supported here"),
        ("{{$x}}", 'undefined variable "$x"'),
        ("{{if .Name}}{{$y := 1}}{{else}}{{$y}}{{end}}", 'undefined variable "$y"'),
        ('{{"\\q"}}', "invalid escape in a quoted string"),
        ("{{" + "(" * 200 + "1" + ")" * 200 + "}}", "nested too deeply"),
        ("{{if 1}}" * 200 + "{{end}}" * 200, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_said_where(source: str, says: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        template.render(source, CONTAINER, "container")
    assert caught.value.message.startswith("template parsing error: template: ")
    assert says in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 1


def test_an_unknown_field_comes_with_those_there_are() -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        template.render("{{.State.Nope}}", CONTAINER)
    assert caught.value.advice == "the fields are .Health, .Status"


def test_a_struct_is_told_from_a_map() -> None:
    assert template.render("{{.a}}{{.M.Capital}}", {"a": 1, "M": Map(Other=1)}) == "1<no value>"
    with pytest.raises(errors.InvalidArgument):
        template.render("{{.b}}", {"a": 1})
    assert template.render("{{.b}}", Map(a=1)) == "<no value>"
    assert template.render("{{json .}}", {"B": Map(Z=1, A=2), "A": 1}) == '{"B":{"A":2,"Z":1},"A":1}'


def test_costly_fields_are_computed_only_when_used() -> None:
    asked: list[str] = []

    def size() -> str:
        asked.append("size")
        return "5MB"

    value = {"Name": "x", "Size": size, "Label": Method(lambda key: f"<{key}>")}
    assert template.render('{{.Name}}{{.Label "a"}}{{"b" | .Label}}', value) == "x<a><b>"
    assert asked == []
    assert template.render("{{.Size}} {{json .}}", value) == '5MB {"Name":"x","Size":"5MB"}'
    with pytest.raises(errors.InvalidArgument, match="wrong arguments for Label"):
        template.render("{{.Label}}", value)


def test_records_are_rendered_as_their_fields() -> None:
    class Swept(Record):
        size: int
        items: tuple[str, ...] = ()

    assert template.render("{{.size}} {{range .items}}{{.}};{{end}}{{json .}}", Swept(3, ("a", "b"))) == (
        '3 a;b;{"items":["a","b"],"size":3}'
    )


def test_json_alone_is_the_whole_value() -> None:
    assert json.loads(template.render("json", CONTAINER)) == CONTAINER
    assert template.render_inspect(" json ", [{"A": 1}, {"A": 2}]) == '[{"A":1},{"A":2}]'
    assert template.render_inspect("{{.A}}", [{"A": 1}, {"A": 2}]) == "1\n2"
    assert template.render(r"{{.A}}\t", {"A": 1}) == r"1\t"


def test_endless_output_is_stopped() -> None:
    with pytest.raises(errors.ResourceExhausted):
        template.render('{{range 1000}}{{pad "x" 500000 500000}}{{end}}', {})


ROWS = [
    {"ID": "aaaaaaaaaaaa", "Names": "web", "Labels": {"b": "2", "com.example.some-tier": "front"}},
    {"ID": "bbbbbbbbbbbb", "Names": "a-longer-name", "Labels": {}},
]
HEADERS = {"ID": "CONTAINER ID", "Names": "NAMES", "Labels": "LABELS"}


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("{{.ID}}: {{.Names}}", "aaaaaaaaaaaa: web\nbbbbbbbbbbbb: a-longer-name"),
        (r" {{.ID}}\t{{.Names}} ", "aaaaaaaaaaaa\tweb\nbbbbbbbbbbbb\ta-longer-name"),
        (
            r"table {{.Names}}\t{{.ID}}",
            "NAMES           CONTAINER ID\nweb             aaaaaaaaaaaa\na-longer-name   bbbbbbbbbbbb",
        ),
        (
            "table {{upper .Names}}\t{{truncate .ID 3}}",
            "NAMES           CONTAINER ID\nWEB             aaa\nA-LONGER-NAME   bbb",
        ),
        (
            r'table {{.ID}}\t{{.Label "com.example.some-tier"}}',
            "CONTAINER ID   some tier\naaaaaaaaaaaa   front\nbbbbbbbbbbbb",
        ),
        ("{{.Labels}}|", "b=2,com.example.some-tier=front|\n|"),
        (
            "table",
            "CONTAINER ID   NAMES           LABELS\naaaaaaaaaaaa   web             b=2,com.example.some-tier=front\n"
            "bbbbbbbbbbbb   a-longer-name",
        ),
        (
            "json",
            '{"ID":"aaaaaaaaaaaa","Labels":"b=2,com.example.some-tier=front","Names":"web"}\n'
            '{"ID":"bbbbbbbbbbbb","Labels":"","Names":"a-longer-name"}',
        ),
        (
            "raw",
            "id: aaaaaaaaaaaa\nnames: web\nlabels: b=2,com.example.some-tier=front\n\n"
            "id: bbbbbbbbbbbb\nnames: a-longer-name\nlabels: \n",
        ),
    ],
)
def test_a_list_is_rendered(form: str, text: str) -> None:
    assert template.render_list(form, ROWS, HEADERS, what="container") == text


def test_table_and_raw_alone_may_stand_for_given_templates() -> None:
    options = {"table": "{{.Names}}\t{{.ID}}", "raw": "name: {{.Names}}"}
    assert (
        template.render_list("table", ROWS[:1], HEADERS, **options) == "NAMES     CONTAINER ID\nweb       aaaaaaaaaaaa"
    )
    assert template.render_list("raw", ROWS[:1], HEADERS, **options) == "name: web"


def test_an_empty_list_is_nothing_or_a_header() -> None:
    assert template.render_list("{{.ID}}", [], HEADERS) == ""
    assert template.render_list("json", [], HEADERS) == ""
    assert template.render_list(r"table {{.ID}}\t{{.Names}}", [], HEADERS) == "CONTAINER ID   NAMES"


def test_a_list_refuses_an_unknown_field_and_its_rows_are_left_alone() -> None:
    with pytest.raises(errors.InvalidArgument, match="can't evaluate field Nope in type container"):
        template.render_list("table {{.Nope}}", ROWS, HEADERS, what="container")
    assert ROWS[0]["Labels"] == {"b": "2", "com.example.some-tier": "front"}


_pieces = st.sampled_from(
    [
        "{{", "}}", "{{-", " -}}", ".", "$", "$x", ":=", "=", "|", "(", ")", " ", "\n", '"', "`", "'", "\\", "/*", "*/",
        "-", "1", "0x", "1e9", ".Name", ".Nope", ".Labels", ".Names", ".State", "if ", "else", "end", "range ", "with ",
        "break", "continue", "nil", "true", "eq ", "index ", "printf ", '"%5.2v%q"', "json ", "join ", "len ", "and ",
        "not ", "x", "é",
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(_pieces, max_size=14), st.booleans())
def test_any_template_is_rendered_or_refused(pieces: list[str], wrapped: bool) -> None:
    source = "{{" + " ".join(pieces) + "}}" if wrapped else "".join(pieces)
    try:
        assert isinstance(template.render(source, CONTAINER), str)
    except errors.InvalidArgument:
        return


@settings(max_examples=200, deadline=None)
@given(
    st.text(alphabet="%+-# 0123.*vsqdtxXobcUefgTz!a", max_size=8),
    st.sampled_from(["Name", "Pid", "Ratio", "Names", "Nothing"]),
)
def test_any_format_is_formatted_or_refused(form: str, field: str) -> None:
    try:
        template.render(f'{{{{printf "{form}" .{field} .Labels}}}}', CONTAINER)
    except errors.InvalidArgument as error:
        if "is no width" not in error.message:
            raise
