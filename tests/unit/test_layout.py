"""Does the code keep the project's own rules, those that a machine can check and no linter knows?

Each rule is a pure function over one parsed module, so that the end of this file can break it on purpose and see it
caught.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from moorage import errors

ROOT = Path(__file__).resolve().parents[2]
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60
VAGUE_NAMES = frozenset({"common", "core", "helper", "helpers", "misc", "util", "utils"})


@dataclass(frozen=True, slots=True)
class Module:
    """One source file, read and parsed."""

    path: str
    """From the root of the project, with slashes."""
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)


def _modules(*folders: str) -> list[Module]:
    return [
        Module(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]


def _functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


# -- the rules: what is wrong with a module, one line each -------------------------------------------


def without_docstring(module: Module) -> list[str]:
    return [] if ast.get_docstring(module.tree) else [f"{module.path} does not say which question it answers"]


def too_long(module: Module) -> list[str]:
    lines = module.text.count("\n")
    return [f"{module.path} has {lines} lines"] if lines > MAX_MODULE_LINES else []


def long_functions(module: Module) -> list[str]:
    """Decorators and docstring count: they are read with the rest."""
    found = []
    for function in _functions(module):
        first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
        lines = (function.end_lineno or first) - first + 1
        if lines > MAX_FUNCTION_LINES:
            found.append(f"{module.path}:{first} {function.name} has {lines} lines")
    return found


def vague_name(module: Module) -> list[str]:
    vague = VAGUE_NAMES.intersection(Path(module.path).with_suffix("").parts)
    return [f"{module.path}: {name} is no word of the glossary" for name in sorted(vague)]


def hidden_imports(module: Module) -> list[str]:
    """An own import inside a function hides a cycle, and import-linter's picture of the layers would still be true."""
    return [
        f"{module.path}:{node.lineno} imports {name} inside {function.name}"
        for function in _functions(module)
        for node in _imports(function)
        for name in _imported(node)
        if name.split(".")[0] == "moorage"
    ]


def root_imports(module: Module) -> list[str]:
    """`import moorage` from inside reaches the facade on top, and through it everything."""
    return [
        f"{module.path}:{node.lineno} imports the package's own front"
        for node in _imports(module.tree)
        for name in _imported(node)
        if name == "moorage" and not (isinstance(node, ast.ImportFrom) and _names_submodules(node))
    ]


def _imports(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for found in ast.walk(node):
        if isinstance(found, ast.Import | ast.ImportFrom):
            yield found


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return ["moorage" if node.level else node.module or ""]


def _names_submodules(node: ast.ImportFrom) -> bool:
    package = ROOT / "src" / "moorage"
    return all((package / alias.name).is_dir() or (package / f"{alias.name}.py").is_file() for alias in node.names)


Rule = Callable[[Module], list[str]]


@pytest.mark.parametrize(
    "rule", [without_docstring, too_long, long_functions, vague_name, hidden_imports, root_imports]
)
def test_every_module_of_the_package_keeps_the_rule(rule: Rule) -> None:
    assert [wrong for module in _modules("src") for wrong in rule(module)] == []


@pytest.mark.parametrize("rule", [without_docstring, vague_name])
def test_every_test_module_keeps_the_rule(rule: Rule) -> None:
    assert [wrong for module in _modules("tests", "benchmarks") for wrong in rule(module)] == []


# -- errors: kinds are append-only ------------------------------------------------------------------

KINDS = {
    # class: (kind, what it is a case of)
    "AlreadyExistsError": ("already_exists", "MoorageError"),
    "AmbiguousRevisionError": ("ambiguous_revision", "InvalidInputError"),
    "CommandNotExecutableError": ("command_not_executable", "InvalidInputError"),
    "CommandNotFoundError": ("command_not_found", "NotFoundError"),
    "ConflictError": ("conflict", "MoorageError"),
    "CorruptDataError": ("corrupt", "DataError"),
    "DataError": ("data", "MoorageError"),
    "FormatError": ("format", "MoorageError"),
    "InvalidInputError": ("invalid_input", "MoorageError"),
    "KeyNotFoundError": ("key_not_found", "NotFoundError"),
    "LockedError": ("locked", "MoorageError"),
    "MergeConflictError": ("merge_conflict", "ConflictError"),
    "MissingObjectError": ("missing_object", "DataError"),
    "MoorageError": ("error", "Exception"),
    "MountDeniedError": ("mount_denied", "MountError"),
    "MountError": ("mount_failed", "MoorageError"),
    "MountNotFoundError": ("mount_not_found", "NotFoundError"),
    "NewerFormatError": ("newer_format", "FormatError"),
    "NotFoundError": ("not_found", "MoorageError"),
    "OutcomeUnknownError": ("outcome_unknown", "StorageError"),
    "PathNotFoundError": ("path_not_found", "NotFoundError"),
    "ReadOnlyError": ("read_only", "MoorageError"),
    "RefMovedError": ("ref_moved", "ConflictError"),
    "RefNotFoundError": ("ref_not_found", "NotFoundError"),
    "RepositoryNotFoundError": ("repository_not_found", "NotFoundError"),
    "SnapshotNotFoundError": ("snapshot_not_found", "NotFoundError"),
    "SourceChangedError": ("source_changed", "ConflictError"),
    "SourceNotFoundError": ("source_not_found", "NotFoundError"),
    "StorageDeniedError": ("storage_denied", "StorageError"),
    "StorageError": ("storage", "MoorageError"),
    "StorageFullError": ("storage_full", "StorageError"),
    "UnreadableSourceError": ("unreadable_source", "InvalidInputError"),
    "UnsupportedFileError": ("unsupported_file", "InvalidInputError"),
    "WrongKindError": ("wrong_kind", "InvalidInputError"),
}
"""Programs compare kinds: add lines, and change none."""


def _error_classes() -> list[type[errors.MoorageError]]:
    found = [value for value in vars(errors).values() if isinstance(value, type)]
    return [value for value in found if issubclass(value, errors.MoorageError)]


def test_the_error_tree_is_pinned() -> None:
    tree = {error.__name__: (error.kind, error.__bases__[0].__name__) for error in _error_classes()}
    assert tree == KINDS


def test_no_two_errors_share_a_kind() -> None:
    kinds = [error.kind for error in _error_classes()]
    assert sorted(kinds) == sorted(set(kinds))


def test_builtin_handlers_catch_what_they_should() -> None:
    assert issubclass(errors.NotFoundError, LookupError)
    assert issubclass(errors.InvalidInputError, ValueError)


def test_errors_are_defined_in_one_module_only() -> None:
    """What users catch is all in one place; an error outside the tree would pass every `except MoorageError`."""
    own = {"errors.py"}
    found = [
        f"{module.path}:{node.lineno} {node.name}"
        for module in _modules("src")
        if Path(module.path).name not in own
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error") and not node.name.startswith("_")
    ]
    assert found == []


# -- negative controls ------------------------------------------------------------------------------

BROKEN: list[tuple[Rule, Module]] = [
    (without_docstring, Module("src/moorage/a.py", "import os\n")),
    (too_long, Module("src/moorage/a.py", "x = 1\n" * (MAX_MODULE_LINES + 1))),
    (long_functions, Module("src/moorage/a.py", "@cache\ndef f():\n" + "    x = 1\n" * (MAX_FUNCTION_LINES - 1))),
    (vague_name, Module("src/moorage/index/utils.py", "")),
    (vague_name, Module("src/moorage/core/chunks.py", "")),
    (hidden_imports, Module("src/moorage/a.py", "def f():\n    from moorage.model import digest\n")),
    (hidden_imports, Module("src/moorage/a.py", "class A:\n    def f(self):\n        import moorage.model\n")),
    (hidden_imports, Module("src/moorage/a.py", "def f():\n    from .model import digest\n")),
    (root_imports, Module("src/moorage/a.py", "import moorage\n")),
    (root_imports, Module("src/moorage/a.py", "from moorage import Repository\n")),
]


@pytest.mark.parametrize(("rule", "module"), BROKEN)
def test_a_broken_rule_is_caught(rule: Rule, module: Module) -> None:
    assert len(rule(module)) == 1


KEPT: list[tuple[Rule, Module]] = [
    (long_functions, Module("src/moorage/a.py", "def f():\n" + "    x = 1\n" * (MAX_FUNCTION_LINES - 1))),
    (hidden_imports, Module("src/moorage/a.py", "def f():\n    import numpy\n")),
    (root_imports, Module("src/moorage/a.py", "from moorage import errors\nfrom moorage.errors import DataError\n")),
]


@pytest.mark.parametrize(("rule", "module"), KEPT)
def test_a_kept_rule_is_not_blamed(rule: Rule, module: Module) -> None:
    assert rule(module) == []
