"""The structure of the package: allowed imports, public names and the time of --help."""

import ast
import resource
import subprocess
import sys

import pytest
from conftest import ROOT
from generate import README, TABLE_HEADER, read_table, stub_text

import keras_arch
from keras_arch.architectures.registry import ARCHITECTURES

PACKAGE = ROOT / "keras_arch"


def imports_of(path):
    """Return the other packages and the modules of keras_arch that a file imports anywhere."""
    outside, own = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            package = path.relative_to(PACKAGE).parent.parts
            package = package[: len(package) - node.level + 1]
            base = ".".join((*package, *filter(None, [node.module])))
            own |= (
                {base}
                if node.module
                else {".".join(filter(None, [base, alias.name])) for alias in node.names}
            )
        elif isinstance(node, ast.ImportFrom):
            outside.add(node.module.split(".")[0])
    return outside - set(sys.stdlib_module_names), own


# {directory: modules and directories that it may import}, from recipe to report.
LEAVES = {
    *("class_names", "datasets", "downloads", "errors", "files", "keras_private", "machine"),
    *("models", "options", "plugins", "published", "text"),
}
ALLOWED = {
    "architectures": {"errors", "published", "weights"},
    "weights": {"class_names", "downloads", "errors", "files", "models", "published", "text"},
    "images": {"errors", "files"},
    "quantization": LEAVES,
    "artifacts": {"class_names", "errors", "files", "machine", "models", "published", "text"},
    "data": LEAVES | {"images", "recipes"},
    "runs": LEAVES | {"recipes"},
    "training": LEAVES | {"recipes", "data", "runs", "quantization"},
    "evaluation": LEAVES | {"images", "artifacts", "data"},
    "export": LEAVES
    | {"formats", "images", "artifacts", "data", "runs", "evaluation", "quantization"},
    "reports": LEAVES | {"recipes", "results", "formats", "data", "runs", "evaluation", "export"},
    "demo": LEAVES
    | {"formats", "images", "artifacts", "data", "runs", "evaluation", "export", "reports"},
}


@pytest.mark.parametrize("directory", ALLOWED)
def test_a_directory_imports_only_what_the_table_allows(directory):
    files = list((PACKAGE / directory).rglob("*.py"))
    assert files
    for path in files:
        _, own = imports_of(path)
        assert {name.split(".")[0] for name in own} - {directory} <= ALLOWED[directory], path


def test_every_directory_is_in_the_table():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ALLOWED)


def test_architectures_import_only_keras_and_not_each_other():
    for path in (PACKAGE / "architectures").rglob("*.py"):
        outside, own = imports_of(path)
        assert outside <= {"keras"}, path
        if path.stem not in ("registry", "__init__"):
            family = ".".join(path.relative_to(PACKAGE).parent.parts)
            inside = {name for name in own if name.startswith("architectures")}
            assert {name for name in inside if not name.startswith(f"{family}.")} <= {
                "architectures.layers"
            }, path
            if family == "architectures":
                assert inside <= {"architectures.layers"}, path


def test_only_reports_print_and_draw():
    """Exceptions: `cli` prints for scripts, and training prints its progress."""
    printing = {"cli.py", "training/callbacks.py", "export/verification/probe.py"}
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "reports" or str(path.relative_to(PACKAGE)) in printing:
            continue
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "print" not in calls, path
        assert "matplotlib" not in imports_of(path)[0] or path.name == "grad_cam.py", path


def test_init_files_only_import():
    for path in PACKAGE.rglob("__init__.py"):
        kinds = {type(node).__name__ for node in ast.parse(path.read_text()).body}
        if path.parent != PACKAGE:
            assert kinds <= {"Expr", "ImportFrom", "Assign"}, path


def test_the_stub_file_has_the_public_names():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    named = {
        alias.asname: node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert named == keras_arch._MODULE_OF
    assert (PACKAGE / "__init__.pyi").read_text() == stub_text(), "run make generate"


def test_the_table_of_models_in_the_readme_has_all_rows():
    """`test_readme_has_the_numbers` compares its numbers with the models."""
    table = read_table("models", README.read_text())
    assert table.startswith(TABLE_HEADER)
    found = [line.split(" | ") for line in table.removeprefix(TABLE_HEADER).splitlines()]
    assert [(builder, paper) for builder, _, _, paper in found] == [
        (f"| `{row.builder}`", f"{row.paper} |") for row in ARCHITECTURES.values()
    ]


def test_the_package_imports_neither_scripts_nor_tests():
    for path in PACKAGE.rglob("*.py"):
        outside, _ = imports_of(path)
        assert not outside & {"scripts", "tests", "examples", "benchmarks"}, path


def test_import_does_not_import_keras_or_numpy():
    code = "import sys, keras_arch, keras_arch.recipes; keras_arch.available(); import keras_arch.datasets; print(*({'keras', 'tensorflow', 'numpy'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == ""


def test_public_names_exist_and_have_docstrings():
    for name in keras_arch.__all__:
        assert getattr(keras_arch, name).__doc__
    with pytest.raises(AttributeError, match="ResNet19"):
        _ = keras_arch.ResNet19


@pytest.mark.parametrize(
    "typed",
    [
        "train.py --help",
        "train.py digits --help",
        "export.py --help",
        "evaluate.py --help",
        "calibrate.py --help",
        "predict.py --help",
        "compare.py --help",
        "cost.py --help",
        "demo.py --help",
        "show_data.py --help",
    ],
)
def test_help_takes_less_than_a_second(typed):
    script, *arguments = typed.split()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, ROOT / "scripts" / script, *arguments], check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # CPU time does not depend on other processes. Importing TensorFlow takes more than a second.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_scripts_import_only_keras_arch_tyro_and_the_standard_library():
    """Computations belong in the package."""
    allowed = {"keras_arch", "tyro", *sys.stdlib_module_names}
    for path in (ROOT / "scripts").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert {name.split(".")[0] for name in names} <= allowed, path


def imports_outside_quiet(path):
    """Return the import statements of a script that no `with quiet()` block contains."""
    tree = ast.parse(path.read_text())
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.With)]
    hidden = {id(node) for block in blocks for node in ast.walk(block)}
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom)) and id(node) not in hidden
    ]


def test_scripts_import_tensorflow_only_where_its_notices_are_hidden():
    scripts = sorted((ROOT / "scripts").glob("*.py"))
    statements = [line for path in scripts for line in imports_outside_quiet(path)]
    code = "\n".join([*statements, "import sys", "print('tensorflow' in sys.modules)"])
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
