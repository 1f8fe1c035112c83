"""The rooms of course_utils and the direction of their imports, read from the source with ast.

The table below is the one of the design: a room may import the rooms named beside it, itself, and
the ground floor: `arguments` and `runtime`, on which all others stand.
"""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import course_utils as cu

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "course_utils"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

ROOMS = {
    "arguments": set(),
    "runtime": set(),
    "measuring": set(),
    "activations": set(),
    "theory": {"activations"},
    "data": set(),
    "networks": {"activations"},
    "recording": {"measuring"},
    "training": {"measuring", "recording"},
    "diagnosis": {"theory", "recording", "measuring"},
    "claims": set(),
    "plots": set(),
    "exercises": {"theory", "networks"},
}
ROOMS = {name: below | {"arguments", "runtime"} for name, below in ROOMS.items()}
ROOMS["arguments"] = set()
ROOMS["explorers"] = set(ROOMS)
TYPES_ONLY = {"plots": {"recording", "training", "theory"}}
# Only these rooms may import what is slow to load; everything else starts without it.
HEAVY = {
    "matplotlib": {"plots", "explorers"},
    "sklearn": {"data"},
    "pooch": {"data"},
    "ipywidgets": {"explorers"},
    "anywidget": {"explorers"},
    "traitlets": {"explorers"},
    "IPython": {"explorers"},
    "tqdm": {"training"},
    "pandas": {"recording"},
    "scipy": set(),
}
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = sorted(
    path
    for folder in ("course_utils", "tests", "tools", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
COMMITTED = [
    path
    for pattern in ("*.*", "*/*.*", "*/*/*.*", ".github/**/*.*", ".ci/*", "Makefile", "LICENSE")
    for path in ROOT.glob(pattern)
    if path.suffix not in (".png", ".lock")
    and not any(part in (".git", ".venv") or part.endswith("_cache") for part in path.parts)
    and "__pycache__" not in path.parts
    and ".hypothesis" not in path.parts
    and path.is_file()
]


def at(path, line=None):
    """Where an offender stands."""
    return f"{path.relative_to(ROOT)}{f':{line}' if line else ''}"


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def room(path):
    """Room a file of the package belongs to; "" for the package's own __init__."""
    return (
        "" if path == PACKAGE / "__init__.py" else path.relative_to(PACKAGE).parts[0].split(".")[0]
    )


def imported(path):
    """(dotted name, only for types) of everything a file imports, functions' insides included."""
    tree = parse(path)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in node.body
        for inner in ast.walk(child)
    }
    package = ["course_utils", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(tree):
        types = id(node) in for_types
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, types
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *([node.module] if node.module else [])]
            for alias in node.names:
                yield ".".join([*base, alias.name]), types


def test_every_module_lives_in_a_room_of_the_design():
    assert [at(path) for path in MODULES if room(path) not in {"", *ROOMS}] == []


def test_imports_only_point_down():
    offenders = []
    for path in MODULES:
        here = room(path)
        for name, types in imported(path):
            parts = name.split(".")
            if parts[0] != "course_utils" or not here:
                continue
            allowed = {here} | ROOMS[here] | (TYPES_ONLY.get(here, set()) if types else set())
            # One part is the front door: an import names the room.
            if len(parts) == 1 or parts[1] not in allowed:
                offenders.append(f"{at(path)} imports {name}")
    assert offenders == []


def test_no_import_goes_round_the_face_of_a_room():
    offenders = []
    for path in MODULES:
        package = ["course_utils", *path.relative_to(PACKAGE).parts[:-1]]
        for node in ast.walk(parse(path)):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            base = package[: len(package) - node.level + 1] if node.level else []
            target = [*base, *node.module.split(".")]
            if target[0] == "course_utils" and len(target) > 2 and target[1] != room(path):
                offenders.append(f"{at(path, node.lineno)}: {ast.unparse(node)}")
    assert offenders == []


def test_private_names_of_torch_stand_in_one_file():
    offenders = []
    for path in MODULES:
        if path == PACKAGE / "measuring" / "torch_internals.py":
            continue
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Attribute):
                name = ast.unparse(node)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                name = " ".join(f"{node.module}.{alias.name}" for alias in node.names)
            else:
                continue
            if re.search(r"^torch\.(\w+\.)*_[a-z]", name):
                offenders.append(f"{at(path, node.lineno)}: {name}")
    assert offenders == []


def test_the_table_itself_has_no_circle():
    done = set()
    while len(done) < len(ROOMS):
        ready = {name for name, below in ROOMS.items() if below - {name} <= done} - done
        assert ready, f"a circle among {set(ROOMS) - done}"
        done |= ready


def test_slow_libraries_are_imported_only_where_they_are_needed():
    offenders = []
    for path in MODULES:
        for name, types in imported(path):
            if not types and room(path) not in HEAVY.get(name.split(".")[0], {room(path)}):
                offenders.append(f"{at(path)} imports {name}")
    assert offenders == []


@pytest.mark.parametrize(
    "code", ["cu", "cu.mlp, cu.theory, cu.record, cu.claims, cu.default_device, cu.ACTIVATIONS"]
)
def test_importing_the_package_loads_no_slow_library(code):
    program = (
        "import sys, course_utils as cu\n"
        f"{code}\n"
        f"print(*sorted({set(HEAVY) - {'tqdm'}!r} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == ""


def test_importing_the_package_loads_no_room():
    program = "import sys, course_utils\nprint([n for n in sys.modules if 'course_utils.' in n])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr


def test_every_library_imported_is_a_declared_dependency():
    names = {Requirement(line).name for line in PYPROJECT["project"]["dependencies"]}
    declared = {"scikit-learn": "sklearn"}
    known = {declared.get(name, name) for name in names} | set(sys.stdlib_module_names)
    # These come with ipywidgets and pooch; pandas is used where it is there and asked for.
    known |= {"course_utils", "traitlets", "IPython", "requests", "pandas"}
    offenders = [
        f"{at(path)} imports {name}"
        for path in MODULES
        for name, types in imported(path)
        if not types and name.split(".")[0] not in known
    ]
    assert offenders == []


def test_there_is_no_star_import_and_no_sys_path():
    offenders = []
    for path in SOURCES:
        for node in ast.walk(parse(path)):
            star = isinstance(node, ast.ImportFrom) and "*" in [a.name for a in node.names]
            if star or (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path"):
                offenders.append(at(path, node.lineno))
    assert offenders == []


def test_no_room_is_a_drawer_for_odds_and_ends():
    drawers = {"utils", "util", "helpers", "helper", "common", "misc"}
    parts = {path: path.relative_to(PACKAGE).with_suffix("").parts for path in MODULES}
    assert [at(p) for p, names in parts.items() if drawers & {n.strip("_") for n in names}] == []


# Names and their docstrings


def test_every_public_name_has_a_docstring():
    offenders = []
    for path in MODULES:
        tree = parse(path)
        if not ast.get_docstring(tree):
            offenders.append(at(path))
        for scope in [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]:
            if getattr(scope, "name", "").startswith("_"):
                continue
            for node in scope.body:
                if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name[0] == "_":
                    continue
                overload = any("setter" in ast.unparse(d) for d in node.decorator_list)
                if not overload and not ast.get_docstring(node):
                    offenders.append(f"{at(path, node.lineno)} {node.name}")
    assert offenders == []


def test_the_face_that_checkers_see_is_the_one_that_python_loads():
    (block,) = (n for n in parse(PACKAGE / "__init__.py").body if isinstance(n, ast.If))
    seen = {(alias.name, node.module) for node in block.body for alias in node.names}
    assert seen == {*cu._NAMES.items(), *((name, None) for name in cu._ROOMS)}
    assert all(a.asname == a.name for node in block.body for a in node.names)


def test_old_names_are_gone():
    old = {
        cu: ["slope", "device", "compare", "through_time"],
        cu.GradientRecord: ["rows", "decay", "span"],
        cu.Finding: ["runs"],
        cu.theory: ["gd_rate", "heavy_ball_rate", "rate_per_step"],
    }
    assert [
        (o.__name__, name) for o, names in old.items() for name in names if hasattr(o, name)
    ] == []


def test_every_public_name_of_the_package_can_be_loaded_and_is_documented():
    for name in cu.__all__:
        value = getattr(cu, name)
        assert inspect.getdoc(value), name
        assert name in dir(cu)


@pytest.mark.parametrize("place", ["", "theory", "plots", "explorers", "claims", "runtime"])
def test_every_argument_of_a_public_function_is_explained(place):
    module = getattr(cu, place) if place else cu
    names = getattr(module, "__all__", [name for name in vars(module) if name[0] != "_"])
    unexplained = []
    for name in names:
        function = getattr(module, name)
        if not inspect.isfunction(function) or "course_utils" not in function.__module__:
            continue
        doc = inspect.getdoc(function) or ""
        for argument, parameter in inspect.signature(function).parameters.items():
            stars = {parameter.VAR_KEYWORD: r"\*\*", parameter.VAR_POSITIONAL: r"\*"}
            written = stars.get(parameter.kind, "") + argument
            if not re.search(rf"(?m)^ +(\w+, )*{written}(, \w+)*:", doc):
                unexplained.append(f"{name}({argument})")
    assert not unexplained


@pytest.mark.parametrize("name", ["colour", "mpl", "gradients"])
def test_an_unknown_name_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=name):
        getattr(cu, name)


# Packaging


def test_the_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert cu.__version__ == PYPROJECT["project"]["version"] == version("course_utils")
    assert f"\nversion: {cu.__version__}\n" in citation
    assert f"## {cu.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_dependency_says_what_it_is_for():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lists = re.findall(r"^(?:dependencies|lab|test) = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in lists for line in block.splitlines()]
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert len(lines) == len(PYPROJECT["project"]["dependencies"]) + sum(map(len, extras.values()))
    for line in lines:
        assert re.fullmatch(r' {4}"[^"]+", +# \S.{5,}', line), line


def test_constraints_are_exact_public_versions_of_what_is_needed():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r"[\w.-]+==\d[\w.]*", line), line
    pins = dict(line.lower().replace("_", "-").split("==") for line in lines)
    assert pins["torch"] == "2.13.0"
    extras = PYPROJECT["project"]["optional-dependencies"]
    for line in [*PYPROJECT["project"]["dependencies"], *extras["lab"], *extras["test"]]:
        needed = Requirement(line)
        assert pins[needed.name] in needed.specifier, line


def test_dependencies_are_listed_in_one_place():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert "-e .[lab]" in text
    # conda-forge names the build without CUDA; its version is the tested one.
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    (torch,) = re.findall(r"^  - pytorch-cpu=(\S+)", text, re.MULTILINE)
    assert f"\ntorch=={torch}\n" in pins
    rest = re.sub(r"(?m)^  - pytorch-cpu=.*$", "", text)
    for line in PYPROJECT["project"]["dependencies"]:
        assert Requirement(line).name not in rest


def test_no_file_names_a_package_registry():
    """Behind a mirror or a proxy another host serves the packages; the constraints stay valid."""
    hosts = ("pypi." + "org", "python" + "hosted", "anaconda." + "org", "download." + "pytorch")
    texts = {path: path.read_text(encoding="utf-8") for path in COMMITTED}
    assert [at(path) for path, text in texts.items() if any(h in text for h in hosts)] == []


@pytest.mark.parametrize(
    "target", ["lab", "test", "test-browser", "types", "notebooks", "bench", "help"]
)
def test_make_has_the_targets_that_the_readme_names(target):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"(?m)^{target}:", makefile)
    assert f"make {target}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_continuous_integration_runs_what_the_readme_names():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"(?m)^make test$", script) and re.search(r"(?m)^make test-browser$", script)
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100
