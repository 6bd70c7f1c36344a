"""`--help`: printed from the table, in Docker's layout. Loaded only when help is asked for."""

from __future__ import annotations

from .table import COMMANDS, GLOBAL_FLAGS, GROUPS, SECTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .parse import Flag


_WHAT = "A complete container platform: pulls, runs and ships OCI images, with no daemon."


def _wrap(text: str, width: int, indent: int) -> str:
    import textwrap

    return ("\n" + " " * indent).join(textwrap.wrap(text, max(20, width - indent)) or [""])


def _columns() -> int:
    import os

    try:
        return max(60, os.get_terminal_size(1).columns)
    except OSError:
        return 80


def flags_text(flags: tuple[Flag, ...]) -> str:
    rows = []
    for long, short, kind, value, text in flags:
        if kind == "alias" or not text:
            continue
        left = (f"  -{short}, " if short else "      ") + f"--{long}" + (f" {value}" if kind != "bool" else "")
        rows.append((left, text))
    if not rows:
        return ""
    column = min(max(len(left) for left, _ in rows), 34) + 3
    width = _columns()
    lines = []
    for left, text in rows:
        body = _wrap(text, width, column)
        if len(left) + 2 > column:
            lines.append(left + "\n" + " " * column + body)
        else:
            lines.append(left.ljust(column) + body)
    return "\n".join(lines)


def main_text() -> str:
    lines = ["Usage:  orlop [OPTIONS] COMMAND", "", _WHAT, ""]
    for title, names in SECTIONS:
        lines.append(f"{title}:")
        lines.extend(f"  {name.ljust(11)} {COMMANDS[name][2]}" for name in names)
        lines.append("")
    lines.append("Groups:")
    lines.extend(f"  {name.ljust(11)} {GROUPS[name][0]}" for name in GROUPS)
    lines += ["", "Global options:", flags_text(GLOBAL_FLAGS), "", "Run 'orlop COMMAND --help' for more on a command."]
    return "\n".join(lines)


def group_text(group: str) -> str:
    title, commands = GROUPS[group]
    lines = [f"Usage:  orlop {group} COMMAND", "", title, "", "Commands:"]
    lines.extend(f"  {word.ljust(11)} {COMMANDS[target.split()[0]][2]}" for word, target in commands.items())
    return "\n".join(lines)


def command_text(name: str) -> str:
    _, usage, summary, flags, _, _, _, examples = COMMANDS[name]
    lines = [f"Usage:  orlop {usage}", "", summary]
    aliases = [
        f"orlop {group} {word}"
        for group, (_, words) in GROUPS.items()
        for word, to in words.items()
        if to.split()[0] == name
    ]
    if "_" not in name:
        aliases.insert(0, f"orlop {name}")
    if len(aliases) > 1:
        lines += ["", "Aliases:", "  " + ", ".join(aliases)]
    text = flags_text(flags)
    if text:
        lines += ["", "Options:", text]
    if examples:
        lines += ["", "Examples:", f"  {examples}"]
    return "\n".join(lines)
