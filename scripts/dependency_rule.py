#!/usr/bin/env python3
"""Check who may import what, and that modules stay small and free of import cycles.

The blocks wing imports neither of the others, net imports blocks, fs imports blocks, and only
the composition root, fs/mount.py, sees all three. RULES has this and the libraries that are
known in one place alone.
"""

import argparse
import ast
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "libernet"
WINGS = ("blocks", "net", "fs")

MAX_MODULE_LINES = 500
"""Modules that are longer do more than one job; tests may be."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Nobody in the wings imports *module*, or what is inside it, but the files *allowed*.

    *allowed* are paths below the project's root; one that ends in a slash is a whole folder.
    """

    module: str
    allowed: tuple[str, ...]
    reason: str

    def is_broken_by(self, path: str, imported: str) -> bool:
        """Tell whether the file at *path* must not import *imported*."""
        return is_inside(imported, self.module) and not any(
            path.startswith(place) if place.endswith("/") else path == place
            for place in self.allowed
        )


NET_PLACES = ("net/", "fs/mount.py")
DHT_PLACES = ("net/dht/",)
RULES = (
    Rule("libernet.fs", ("fs/",), "only fs imports fs"),
    Rule("libernet.net", NET_PLACES, "only net and fs/mount.py import net"),
    Rule("trio", ("net/", "fs/"), "blocks is synchronous"),
    Rule("pyfuse3", ("fs/fuse/",), "only fs/fuse/ speaks to the kernel"),
    Rule("asyncio", DHT_PLACES, "only net/dht/ runs asyncio"),
    Rule("kademlia", DHT_PLACES, "only net/dht/ knows the DHT's library"),
    Rule("rpcudp", DHT_PLACES, "only net/dht/ knows the DHT's library"),
    Rule("appdirs", ("fs/places.py",), "only fs/places.py decides where state lives"),
)


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, by absolute name.

    *at_load* is false for imports that do not run when their module is loaded: those inside
    functions and under TYPE_CHECKING.
    """

    module: str
    line: int
    at_load: bool


@dataclass(frozen=True, slots=True)
class Module:
    """A parsed Python file: its path below the root, its dotted name and what it imports."""

    path: str
    name: str
    lines: int
    imports: tuple[Import, ...]


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """A broken rule and where."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def is_inside(module: str, package: str) -> bool:
    """Tell whether *module* is *package* or something in it."""
    return module == package or module.startswith(package + ".")


def module_name(path: str) -> str:
    """Return the dotted import name of the file at *path*, relative to the root."""
    parts = path.removesuffix(".py").split("/")
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join([PACKAGE, *parts] if parts[0] in WINGS else parts)


def python_files(root: Path) -> Iterator[str]:
    """Yield the Python files of the project, relative to *root*; each once, whatever the links."""
    found = sorted((root / PACKAGE).glob("*.py"))
    for folder in (*WINGS, "scripts", "tests"):
        found += sorted((root / folder).rglob("*.py"))
    for path in found:
        yield path.relative_to(root).as_posix()


def is_type_checking(test: ast.expr) -> bool:
    """Tell whether an if-statement's *test* is TYPE_CHECKING, plain or as an attribute."""
    return "TYPE_CHECKING" in (getattr(test, "id", None), getattr(test, "attr", None))


def import_nodes(
    nodes: Iterable[ast.AST], *, at_load: bool = True
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Yield every import statement below *nodes*, and whether it runs at load time."""
    for node in nodes:
        match node:
            case ast.Import() | ast.ImportFrom():
                yield node, at_load
            case ast.If(test=test, body=body, orelse=orelse) if is_type_checking(test):
                yield from import_nodes(body, at_load=False)
                yield from import_nodes(orelse, at_load=at_load)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from import_nodes(node.body, at_load=False)
            case _:
                yield from import_nodes(ast.iter_child_nodes(node), at_load=at_load)


def base_of(node: ast.ImportFrom, importer: str, *, is_package: bool) -> str:
    """Return the absolute name of the module that a from-import names, relative ones too."""
    if not node.level:
        return node.module or ""
    package = importer.split(".") if is_package else importer.split(".")[:-1]
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def imports_of(
    tree: ast.Module, importer: str, names: set[str], *, is_package: bool
) -> list[Import]:
    """List what *tree* imports; ``from x import y`` means x.y where y is a module or a wing."""
    found = []
    modules = names | {f"{PACKAGE}.{wing}" for wing in WINGS}
    for node, at_load in import_nodes([tree]):
        if isinstance(node, ast.Import):
            targets = {alias.name for alias in node.names}
        else:
            base = base_of(node, importer, is_package=is_package)
            inner = {f"{base}.{alias.name}" for alias in node.names}
            targets = {name if name in modules else base for name in inner}
        found += [Import(target, node.lineno, at_load) for target in sorted(targets)]
    return found


def parse(root: Path) -> tuple[list[Module], list[Violation]]:
    """Parse every checked file; one that is not valid Python becomes a violation."""
    paths = list(python_files(root))
    names = {module_name(path) for path in paths}
    modules: list[Module] = []
    broken: list[Violation] = []
    for path in paths:
        source = (root / path).read_bytes()
        name = module_name(path)
        try:
            tree = ast.parse(source, path)
        except SyntaxError as exc:
            broken.append(Violation(path, exc.lineno or 1, f"is not valid Python: {exc.msg}"))
            continue
        imports = imports_of(tree, name, names, is_package=path.endswith("__init__.py"))
        modules.append(Module(path, name, len(source.splitlines()), tuple(imports)))
    return modules, broken


def is_program(module: Module) -> bool:
    """Tell whether *module* is part of what is installed, not a script or a test."""
    return is_inside(module.name, PACKAGE)


def forbidden_imports(module: Module) -> Iterator[Violation]:
    """Yield the imports of *module* that break a rule."""
    for imported in module.imports:
        top = imported.module.partition(".")[0]
        if top in WINGS:
            message = f"imports {imported.module} by a name that only works in this folder; "
            yield Violation(module.path, imported.line, f"{message}write {PACKAGE}.{top}")
        for rule in RULES:
            if is_program(module) and rule.is_broken_by(module.path, imported.module):
                message = f"imports {imported.module}, but {rule.reason}"
                yield Violation(module.path, imported.line, message)


def too_long(module: Module) -> Iterator[Violation]:
    """Yield a violation if *module* has more lines than a module should."""
    if not module.path.startswith("tests/") and module.lines > MAX_MODULE_LINES:
        message = f"has {module.lines} lines, the limit is {MAX_MODULE_LINES}; split it"
        yield Violation(module.path, MAX_MODULE_LINES + 1, message)


def cycle_through(start: str, edges: dict[str, dict[str, int]]) -> list[str]:
    """Return a shortest way from *start* along *edges* back to it, or nothing."""
    ways = deque([[start]])
    seen = set()
    while ways:
        way = ways.popleft()
        for target in edges.get(way[-1], {}):
            if target == start:
                return [*way, start]
            if target not in seen:
                seen.add(target)
                ways.append([*way, target])
    return []


def import_cycles(modules: Iterable[Module]) -> Iterator[Violation]:
    """Yield one violation for each set of modules that need each other to be loaded."""
    by_name = {module.name: module for module in modules}
    edges = {
        name: {
            imported.module: imported.line
            for imported in reversed(module.imports)
            if imported.at_load and imported.module in by_name
        }
        for name, module in by_name.items()
    }
    reported: set[str] = set()
    for name, module in by_name.items():
        cycle = cycle_through(name, edges)
        if cycle and not reported.intersection(cycle):
            reported.update(cycle)
            message = f"import cycle: {' -> '.join(cycle)}"
            yield Violation(module.path, edges[name][cycle[1]], message)


def violations(root: Path) -> list[Violation]:
    """Return everything below *root* that breaks the dependency rule, by file and line.

    Raises ValueError when there is no module in the wings, so that a check of the wrong folder
    does not pass.
    """
    modules, found = parse(root)
    if not found and not any(map(is_program, modules)):
        raise ValueError(f"{root} has no Python module in {', '.join(WINGS)}")
    for module in modules:
        found += [*forbidden_imports(module), *too_long(module)]
    return sorted([*found, *import_cycles(modules)])


def main() -> int:
    """Print each violation on a line and return the exit code: 1 if there was any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).parents[1])
    found = violations(parser.parse_args().root)
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
