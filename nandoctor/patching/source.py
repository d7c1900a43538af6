"""The user's script as lines and as a syntax tree, and edits of single lines of it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LARGEST = 2_000_000  # bytes: no training script is longer
Mark = tuple[dict[int, str], dict[int, list[str]], dict[int, list[str]]]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass
class Source:
    name: str  # relative to the working directory, as the diff names it
    text: str
    tree: ast.Module = field(init=False)
    lines: list[str] = field(init=False)
    replaced: dict[int, str] = field(default_factory=dict)  # line number from 1 -> new line
    before: dict[int, list[str]] = field(default_factory=dict)
    after: dict[int, list[str]] = field(default_factory=dict)
    parents: dict[ast.AST, ast.AST] = field(init=False)
    named: dict[str, list[ast.FunctionDef]] = field(init=False)

    def __post_init__(self) -> None:
        self.tree = ast.parse(self.text)
        self.lines = self.text.splitlines()
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}
        self.named = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef):
                self.named.setdefault(node.name, []).append(node)
            elif isinstance(node, ast.ClassDef):
                made = [m for m in node.body if isinstance(m, ast.FunctionDef) and m.name == "__init__"]
                self.named.setdefault(node.name, []).extend(made)

    # --- reading ---------------------------------------------------------------------------------------------
    def calls(self, *names: str) -> list[ast.Call]:
        """Calls of functions or methods of these last names, in order of lines."""
        found = [n for n in ast.walk(self.tree) if isinstance(n, ast.Call) and last_name(n.func) in names]
        return sorted(found, key=lambda call: (call.lineno, call.col_offset))

    def part(self, node: ast.AST) -> str:
        first, last = getattr(node, "lineno", None), getattr(node, "end_lineno", None)
        if first is None or first != last or first > len(self.lines):
            return ast.get_source_segment(self.text, node) or ""
        # ast splits the whole text at each call: a long script has thousands of such parts
        begin, end = getattr(node, "col_offset", 0), getattr(node, "end_col_offset", None)
        return str(self.lines[first - 1].encode()[begin:end].decode())

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

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """What it stands in, the innermost first."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def statement(self, node: ast.AST) -> ast.stmt | None:
        return next((up for up in self.above(node) if isinstance(up, ast.stmt)), None)

    def scope(self, node: ast.AST) -> ast.AST:
        """The function around it, else the module."""
        return next((up for up in self.above(node) if isinstance(up, FUNCTIONS)), self.tree)

    def loop(self, node: ast.AST) -> ast.For | ast.While | None:
        """The loop that runs it, in the same function."""
        for up in self.above(node):
            if isinstance(up, (ast.For, ast.While)):
                return up
            if isinstance(up, FUNCTIONS):
                return None
        return None

    def functions(self, name: str) -> list[ast.FunctionDef]:
        """Those of this name; of a class what makes it."""
        return self.named.get(name, [])

    def imports(self, name: str) -> bool:
        """`import torch` at the top."""
        return any(
            isinstance(node, ast.Import) and any((a.asname or a.name) == name for a in node.names)
            for node in self.tree.body
        )

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

    def above_it(self, statement: ast.stmt, *texts: str) -> bool:
        """Lines before a statement; False where it shares its line with another."""
        if not self._begins_its_line(statement):
            return False
        return all([self.insert_before(_first_line(statement), text) for text in texts])

    def below_it(self, statement: ast.stmt, *texts: str) -> bool:
        if not self._begins_its_line(statement) or ";" in self.lines[(statement.end_lineno or 1) - 1]:
            return False
        return all([self.insert_after(statement, text) for text in texts])

    def _begins_its_line(self, statement: ast.stmt) -> bool:
        return self.lines[statement.lineno - 1][: statement.col_offset].isspace() or statement.col_offset == 0

    def rewrite(self, statement: ast.stmt, *texts: str) -> bool:
        """Other lines in the place of a statement on one line of its own."""
        line = statement.lineno
        alone = self._begins_its_line(statement) and statement.end_lineno == line and ";" not in self.lines[line - 1]
        if not alone or line in self.replaced or not texts:
            return False
        self.replaced[line] = "\n".join(self.indent(line) + text for text in texts)
        return True

    def mark(self) -> Mark:
        """What has been changed so far: for back()."""
        before = {line: list(texts) for line, texts in self.before.items()}
        return dict(self.replaced), before, {line: list(texts) for line, texts in self.after.items()}

    def back(self, mark: Mark) -> None:
        self.replaced, self.before, self.after = mark

    def sound(self) -> bool:
        """What was changed can be read by Python."""
        try:
            ast.parse("\n".join(self.changed()))
        except (SyntaxError, ValueError):
            return False
        return True

    def changed(self) -> list[str]:
        found: list[str] = []
        for number, line in enumerate(self.lines, 1):
            found += self.before.get(number, [])
            found += self.replaced.get(number, line).split("\n")
            found += self.after.get(number, [])
        return found


def _first_line(statement: ast.stmt) -> int:
    """A decorated function or class begins with its decorators."""
    decorators = statement.decorator_list if isinstance(statement, (ast.FunctionDef, ast.ClassDef)) else []
    return min([statement.lineno, *(one.lineno for one in decorators)])


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
