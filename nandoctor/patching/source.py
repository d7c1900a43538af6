"""The user's script as lines and as a syntax tree, and edits of single lines of it."""

import ast
from dataclasses import dataclass, field
from pathlib import Path

LARGEST = 2_000_000  # bytes: no training script is longer


@dataclass
class Source:
    name: str  # relative to the working directory, as the diff names it
    text: str
    tree: ast.Module = field(init=False)
    lines: list[str] = field(init=False)
    replaced: dict[int, str] = field(default_factory=dict)  # line number from 1 -> new line
    before: dict[int, list[str]] = field(default_factory=dict)
    after: dict[int, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tree = ast.parse(self.text)
        self.lines = self.text.splitlines()

    # --- reading ---------------------------------------------------------------------------------------------
    def calls(self, *names: str) -> list[ast.Call]:
        """Calls of functions or methods of these last names, in order of lines."""
        found = [n for n in ast.walk(self.tree) if isinstance(n, ast.Call) and last_name(n.func) in names]
        return sorted(found, key=lambda call: (call.lineno, call.col_offset))

    def part(self, node: ast.AST) -> str:
        return ast.get_source_segment(self.text, node) or ""

    def indent(self, line: int) -> str:
        text = self.lines[line - 1]
        return text[: len(text) - len(text.lstrip())]

    def alone(self, node: ast.expr) -> ast.stmt | None:
        """The statement that holds this expression, if it stands on lines of its own."""
        for statement in ast.walk(self.tree):
            if isinstance(statement, (ast.Expr, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return)):
                if any(inner is node for inner in ast.walk(statement)):
                    return statement
        return None

    # --- changing --------------------------------------------------------------------------------------------
    def swap(self, node: ast.expr, new: str) -> bool:
        """Put new text in the place of an expression that lies on one line."""
        if node.end_lineno != node.lineno or node.end_col_offset is None:
            return False
        line = self.replaced.get(node.lineno, self.lines[node.lineno - 1])
        if node.lineno in self.replaced:
            old = self.part(node)
            if line.count(old) != 1:
                return False
            self.replaced[node.lineno] = line.replace(old, new)
            return True
        raw = self.lines[node.lineno - 1].encode()
        self.replaced[node.lineno] = (raw[: node.col_offset] + new.encode() + raw[node.end_col_offset :]).decode()
        return True

    def insert_before(self, line: int, text: str) -> bool:
        self.before.setdefault(line, []).append(self.indent(line) + text)
        return True

    def insert_after(self, statement: ast.stmt, text: str) -> bool:
        self.after.setdefault(statement.end_lineno or statement.lineno, []).append(self.indent(statement.lineno) + text)
        return True

    def remove(self, statement: ast.stmt) -> bool:
        """A statement alone on its line; `pass` stays where a block would be empty."""
        if statement.end_lineno != statement.lineno or ";" in self.lines[statement.lineno - 1]:
            return False
        self.replaced[statement.lineno] = self.indent(statement.lineno) + "pass"
        return True

    def changed(self) -> list[str]:
        found: list[str] = []
        for number, line in enumerate(self.lines, 1):
            found += self.before.get(number, [])
            found.append(self.replaced.get(number, line))
            found += self.after.get(number, [])
        return found


def last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def read_script(folder: Path, name: str) -> Source | None:
    """A Python file below the folder; a trace may come from a stranger and name any file."""
    try:
        path = (folder / name).resolve()
        inside = path.relative_to(folder.resolve())
        if path.suffix != ".py" or not path.is_file() or path.stat().st_size > LARGEST:
            return None
        return Source(inside.as_posix(), path.read_text(encoding="utf-8"))
    except (ValueError, OSError, SyntaxError, RecursionError):
        return None
