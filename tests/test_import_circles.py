"""No module of mien needs itself, not even through an import inside a function: one can read it from below."""

from __future__ import annotations

import ast
from pathlib import Path

import mien

ROOT = Path(mien.__file__).parent


def test_there_is_no_circle_of_imports() -> None:
    graph = {name: imports(path) for name, path in modules().items()}
    assert circles(graph) == []


def test_a_circle_is_found_where_there_is_one() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}
    assert sorted(map(sorted, circles(graph))) == [["b", "c"], ["d"]]


def modules() -> dict[str, Path]:
    """Return every module by its dotted name; a package by the name of its `__init__`."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = ("mien", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> set[str]:
    """Return the modules of mien that a module imports anywhere in its text, but for the annotations of types."""
    known = modules()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):  # what only a type checker imports is no import
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                found.add(below if below in known else node.module)
    return {one for one in found if one in known}


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of modules that reach each other (Tarjan's strongly connected components), and loops."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in graph[node]:
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            group = set(stack[stack.index(node) :])
            del stack[stack.index(node) :]
            if len(group) > 1 or node in graph[node]:
                found.append(group)

    for node in graph:
        if node not in order:
            visit(node)
    return found
