"""Takes from a program everything by which it could be recognised: comments, docstrings, names of its own.

Lines stay where they are. Renamed are classes, functions and variables that the program itself defines and that occur
nowhere as an attribute, keyword or inside a string; attributes stay, since they name the layers.
"""

import ast
import builtins
import io
import keyword
import random
import tokenize

KEPT = {*dir(builtins), "SEED", "self", "cls", *keyword.kwlist}


def disguised(program: str, seed: int) -> str:
    """The same program, line by line, under names that say nothing."""
    names = _own_names(program)
    letters = random.Random(seed)
    taken: set[str] = set()
    new = {}
    for name in sorted(names):
        while True:
            chosen = "".join(letters.choices("abcdefghijklmnopqrstuvwxyz", k=7))
            if chosen not in taken and chosen not in KEPT:
                break
        taken.add(chosen)
        new[name] = chosen.capitalize() if name[:1].isupper() else chosen
    return _without_docstrings(_renamed(program, new))


def _own_names(program: str) -> set[str]:
    tree = ast.parse(program)
    own: set[str] = set()
    foreign: set[str] = set()
    methods = {child for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for child in node.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) or (isinstance(node, ast.FunctionDef) and node not in methods):
            own.add(node.name)
        elif isinstance(node, ast.FunctionDef):
            foreign.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.Attribute):
            foreign.add(node.attr)
        elif isinstance(node, ast.keyword) and node.arg:
            foreign.add(node.arg)
        elif isinstance(node, ast.arg):
            own.add(node.arg)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            foreign.update(part for module in modules for part in module.split("."))
            foreign.update(alias.asname for alias in node.names if alias.asname)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            foreign.update(node.value.replace("{", " ").replace("}", " ").split())
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            foreign.update(node.names)
    # f-strings are one token before Python 3.12: names inside them would stay behind
    inside = {name.id for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
              for name in ast.walk(node) if isinstance(name, ast.Name)}  # fmt: skip
    return {name for name in own - foreign - inside - KEPT if not name.startswith("__")}


def _renamed(program: str, new: dict[str, str]) -> str:
    lines = program.splitlines()
    tokens = list(tokenize.generate_tokens(io.StringIO(program).readline))
    for token in reversed(tokens):
        row, column = token.start
        if token.type == tokenize.COMMENT:
            lines[row - 1] = lines[row - 1][:column].rstrip()
        elif token.type == tokenize.NAME and token.string in new:
            line = lines[row - 1]
            lines[row - 1] = line[:column] + new[token.string] + line[token.end[1] :]
    return "\n".join(lines) + "\n"


def _without_docstrings(program: str) -> str:
    lines = program.splitlines()
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node, clean=False):
            text = node.body[0]
            end = text.end_lineno or text.lineno
            lines[text.lineno - 1 : end] = ["" for _ in range(text.lineno, end + 1)]
            if len(node.body) == 1:
                lines[text.lineno - 1] = " " * text.col_offset + "pass"
    return "\n".join(lines) + "\n"
