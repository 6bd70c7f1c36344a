"""`--format`: Go templates over what a command would print, as Docker's users write them.

{{.Field}}, {{json .}}, {{range}}, {{if}}, {{with}}, variables, pipelines, trim markers, and Docker's functions; in
lists also "table …", "json" and "raw". Imported only when --format is given.

Values are JSON-like. A callable is called when it is first used (a field that costs something); `Method` is one that
takes arguments. The value given is a struct: a field it does not have is an error; so is any dict within whose keys are
all capitalised. Other dicts, and every `Map`, are maps: a key that is not there prints as "<no value>".
"""

from __future__ import annotations

from ...base import errors
from . import _template_functions as functions
from . import _template_syntax as syntax
from . import _template_values as values
from . import tables
from ._template_run import Runner
from ._template_values import Map, Method, NilMap
from .human import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

__all__ = ["Map", "Method", "NilMap", "Template", "label_header", "render", "render_inspect", "render_list"]


class Template:
    """A parsed template; `render` it over as many values as you like. InvalidArgument when it is none."""

    __slots__ = ("_nodes", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self._nodes = syntax.parse(source, functions.NAMES)

    def render(self, value: Any, what: str = "") -> str:
        """The text for a value. what: its kind, for messages ("container").

        Raises InvalidArgument when the value has not what the template asks for.
        """
        return Runner(self.source, value, what).run(self._nodes)

    def header(self, headers: Mapping[str, Any]) -> str:
        """The header row of a table whose rows this template makes; as Docker, what fails is left out."""
        runner = Runner(self.source, Map(headers), "", functions.HEADER_FUNCTIONS)
        try:
            return runner.run(self._nodes)
        except errors.OrlopError:
            return "".join(runner.out)


def render(format: str, value: Any, what: str = "") -> str:
    """One value by a template, or by "json" (one line). Raises InvalidArgument."""
    return Template("{{json .}}" if format.strip() == "json" else format).render(value, what)


def render_inspect(format: str, items: Iterable[Any], what: str = "") -> str:
    """`inspect`: each item by the template on a line of its own, or "json" for all of them in one array."""
    if format.strip() == "json":
        return "[" + ",".join(values.to_json(value) for value in items) + "]"
    template = Template(format)
    return "\n".join(template.render(value, what) for value in items)


def render_list(
    format: str,
    rows: Iterable[Mapping[str, Any]],
    headers: Mapping[str, str],
    *,
    table: str = "",
    raw: str = "",
    what: str = "",
) -> str:
    r"""Rows by a template, without a newline at the end.

    format: a template for each row, "table TEMPLATE" (aligned at tabs, with a header), "table", "json" or "raw". "\t"
    and "\n" written out mean tab and newline. headers: field → its header. table, raw: the templates that "table" and
    "raw" alone stand for (default: all fields that have headers).

    A row's "Labels" that is a dict prints as "a=1,b=2" and gives a method {{.Label "a"}}, as in Docker's lists. JSON
    has the fields in alphabetical order. Raises InvalidArgument.
    """
    text = format.strip(" ").replace(r"\t", "\t").replace(r"\n", "\n")
    is_table = text.startswith("table")
    if is_table:
        text = text.removeprefix("table").strip(" ") or table or "\t".join(f"{{{{.{name}}}}}" for name in headers)
    elif text == "json":
        text = "{{json .}}"
    elif text == "raw":
        text = raw or "".join(f"{name.lower()}: {{{{.{name}}}}}\n" for name in headers)
    template = Template(text)
    lines = [template.render(_row(row, in_table=is_table), what) for row in rows]
    if is_table:
        lines.insert(0, template.header({"Label": Method(label_header), **headers}))
        lines = tables.align([line.split("\t") for line in "\n".join(lines).split("\n")])
    return "\n".join(lines)


def _row(row: Mapping[str, Any], in_table: bool) -> dict[str, Any]:
    out = dict(sorted(row.items()))
    labels = out.get("Labels")
    if isinstance(labels, dict):
        if in_table:
            labels = {visible(key): visible(value) for key, value in labels.items()}
        out["Labels"] = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        out.setdefault("Label", Method(lambda name: labels.get(name, "")))
    if in_table:  # a tab or a newline within a value must not make cells and lines
        out.update((key, visible(value)) for key, value in out.items() if isinstance(value, str))
    return out


def label_header(name: str) -> str:
    """The header of a column {{.Label "com.example.some-name"}}: the last part, "some name"."""
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")
