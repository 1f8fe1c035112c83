"""The architecture: rooms, the direction of their imports, names, packaging.

Each test reads the sources with ast and lists what breaks its rule. The table below is the one of
the design: a room may import the rooms named beside it, itself, and the ground floor, `arguments`
and `runtime`, on which all others stand.
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
    "networks": {"activations", "measuring"},
    "recording": {"measuring"},
    "training": {"measuring", "recording"},
    "diagnosis": {"theory", "recording", "measuring"},
    "integrations": {"recording"},
    "claims": set(),
    "plots": set(),
    "exercises": {"theory", "networks", "diagnosis"},
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
    "lightning": {"integrations"},
    "transformers": {"integrations"},
    "scipy": set(),
}
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = sorted(
    path
    for folder in ("course_utils", "tests", "tools", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
COMMITTED = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
]
"""Every file of the repository; empty where the course was unpacked without it."""
# The public names of before: each must be gone.
OLD_NAMES = {
    cu: ("compare", "device", "slope", "through_time"),
    cu.GradientRecord: ("decay", "rows", "span", "through_time"),
    cu.Finding: ("runs",),
    cu.theory: ("gd_rate", "heavy_ball_rate", "rate_per_step"),
    cu.training: ("fit_stack",),
}


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


def where(path, what=""):
    """One line of a list of offenders."""
    return f"{path.relative_to(ROOT)}: {what}"


def other_rooms(path):
    """(parts of the dotted name, only for types) of what a file imports from the package."""
    for name, types in imported(path):
        if name.split(".")[0] == "course_utils":
            yield name.split(".")[1:], types


def test_every_module_lives_in_a_room_of_the_design():
    assert [where(path) for path in MODULES if room(path) not in {"", *ROOMS}] == []


def test_imports_only_point_down():
    offenders = []
    for path in filter(room, MODULES):  # not the package's own __init__, the front door
        here = room(path)
        for parts, types in other_rooms(path):
            allowed = {here} | ROOMS[here] | (TYPES_ONLY.get(here, set()) if types else set())
            if not parts or parts[0] not in allowed:
                offenders.append(where(path, ".".join(parts) or "the front door"))
    assert offenders == []


def test_a_room_is_entered_by_its_face():
    """`from ..room import name`, where name is no file of the room but one that its face gives.

    `measuring.torch_internals` is a face of its own.
    """
    offenders = []
    for path in filter(room, MODULES):
        for parts, _ in other_rooms(path):
            if parts[0] == room(path) or parts[:2] == ["measuring", "torch_internals"]:
                continue
            if len(parts) > 1 and (PACKAGE / parts[0]).is_dir():
                face = parse(PACKAGE / parts[0] / "__init__.py")
                given = [node for node in face.body if isinstance(node, ast.ImportFrom)]
                names = {alias.name for node in given for alias in node.names}
                if len(parts) > 2 or parts[1] not in names:
                    offenders.append(where(path, ".".join(parts)))
    assert offenders == []


def test_names_of_torch_that_are_not_documented_stand_in_one_file():
    """Attributes `torch._x`, `torch.x._y`, and imports from such modules."""
    offenders = []
    for path in MODULES:
        if path.name == "torch_internals.py":
            continue
        for node in ast.walk(parse(path)):
            name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if isinstance(node, ast.ImportFrom) and not node.level:
                name = f"{node.module}." + ",".join(alias.name for alias in node.names)
            if re.match(r"(torch|nn)\.(\w+[.,])*_[a-zA-Z]", name) and "__version__" not in name:
                offenders.append(where(path, name))
    assert offenders == []


def test_the_old_public_names_are_gone():
    found = [
        f"{getattr(place, '__name__', place)}.{name}"
        for place, names in OLD_NAMES.items()
        for name in names
        if hasattr(place, name)
    ]
    assert found == []


def test_what_editors_see_is_what_runs():
    """The block under TYPE_CHECKING names the rooms and names that are loaded on first use."""
    tree = parse(PACKAGE / "__init__.py")
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom) and node.names[0].asname == node.names[0].name
        seen[node.names[0].name] = (node.module or "").split(".")[0]
    assert seen == {**dict.fromkeys(cu._ROOMS, ""), **cu._NAMES}
    chapters = parse(PACKAGE / "exercises" / "__init__.py")
    block = next(node for node in chapters.body if isinstance(node, ast.If))
    assert {alias.name for node in block.body for alias in node.names} == set(cu.exercises.CHAPTERS)


def test_the_table_itself_has_no_circle():
    done = set()
    while len(done) < len(ROOMS):
        ready = {name for name, below in ROOMS.items() if below - {name} <= done} - done
        assert ready, f"a circle among {set(ROOMS) - done}"
        done |= ready


def test_slow_libraries_are_imported_only_where_they_are_needed():
    assert [
        where(path, name)
        for path in MODULES
        for name, types in imported(path)
        if not types and room(path) not in HEAVY.get(name.split(".")[0], {room(path)})
    ] == []


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
    # These come with ipywidgets and pooch; pandas and stacks are used where they are asked for.
    known |= {"course_utils", "traitlets", "IPython", "requests", "pandas"}
    known |= {"lightning", "transformers"}
    assert [
        where(path, name)
        for path in MODULES
        for name, types in imported(path)
        if not types and name.split(".")[0] not in known
    ] == []


def test_there_is_no_star_import_and_no_sys_path():
    offenders = []
    for path in SOURCES:
        for node in ast.walk(parse(path)):
            star = isinstance(node, ast.ImportFrom) and any(a.name == "*" for a in node.names)
            if star or (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path"):
                offenders.append(where(path, f"line {node.lineno}"))
    assert offenders == []


def test_no_room_is_a_drawer_for_odds_and_ends():
    drawers = {"utils", "util", "helpers", "helper", "common", "misc"}
    parts = [path.relative_to(PACKAGE).with_suffix("").parts for path in MODULES]
    assert [names for names in parts if drawers & {name.strip("_") for name in names}] == []


# Names and their docstrings


def test_every_public_name_has_a_docstring():
    bare = []
    for path in MODULES:
        tree = parse(path)
        bare += [] if ast.get_docstring(tree) else [where(path, "the module")]
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        for scope in [tree, *(node for node in classes if not node.name.startswith("_"))]:
            for node in scope.body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                    setter = any("setter" in ast.unparse(d) for d in node.decorator_list)
                    if not setter and not ast.get_docstring(node):
                        bare.append(where(path, node.name))
    assert bare == []


def test_every_public_name_of_the_package_can_be_loaded_and_is_documented():
    for name in cu.__all__:
        value = getattr(cu, name)
        assert inspect.getdoc(value), name
        assert name in dir(cu)


def test_every_argument_of_a_public_function_is_explained():
    unexplained = []
    for module in (cu, cu.theory, cu.plots, cu.explorers, cu.claims, cu.runtime):
        names = getattr(module, "__all__", [name for name in vars(module) if name[0] != "_"])
        for function in (getattr(module, name) for name in names):
            if not inspect.isfunction(function) or "course_utils" not in function.__module__:
                continue
            doc = inspect.getdoc(function) or ""
            for argument, parameter in inspect.signature(function).parameters.items():
                stars = {parameter.VAR_KEYWORD: r"\*\*", parameter.VAR_POSITIONAL: r"\*"}
                written = stars.get(parameter.kind, "") + argument
                if not re.search(rf"(?m)^ +(\w+, )*{written}(, \w+)*:", doc):
                    unexplained.append(f"{function.__name__}({argument})")
    assert unexplained == []


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
    extras = PYPROJECT["project"]["optional-dependencies"]
    names = "|".join(["dependencies", *extras])
    lists = re.findall(rf"^(?:{names}) = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in lists for line in block.splitlines()]
    assert len(lines) == sum(map(len, [PYPROJECT["project"]["dependencies"], *extras.values()]))
    assert [line for line in lines if not re.fullmatch(r' {4}"[^"]+", +# \S.{5,}', line)] == []


def test_constraints_are_exact_public_versions_of_what_is_needed():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r"[\w.-]+==\d[\w.]*", line), line
    pins = dict(line.lower().replace("_", "-").split("==") for line in lines)
    assert pins["torch"] == "2.13.0"
    extras = dict(PYPROJECT["project"]["optional-dependencies"])
    del extras["stacks"]  # tried in the versions that their users have
    for line in [
        *PYPROJECT["project"]["dependencies"],
        *(line for one in extras.values() for line in one),
    ]:
        needed = Requirement(line)
        assert needed.name == "course_utils" or pins[needed.name] in needed.specifier, line


def test_dependencies_are_listed_in_one_place():
    """But for PyTorch in environment.yml: conda-forge has a build for the CPU, of that version."""
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert "-e .[lab]" in text
    torch = re.search(r"(?m)^torch==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert re.findall(r"(?m)^  - pytorch-cpu=(.+)$", text) == [torch[1]]
    names = {Requirement(line).name for line in PYPROJECT["project"]["dependencies"]} - {"torch"}
    assert [name for name in names if name in text] == []


def test_no_file_names_a_package_registry():
    """So constraints, workflows and images stay right behind a mirror, which a variable names."""
    hosts = ("pypi." + "org", "python" + "hosted", "anaconda." + "org", "download." + "pytorch")
    texts = [
        path for path in COMMITTED if path.is_file() and path.suffix not in (".png", ".gz", ".npz")
    ]
    assert [
        where(path, host)
        for path in texts
        for host in hosts
        if host in path.read_text(encoding="utf-8")
    ] == []


@pytest.mark.parametrize(
    "target", ["lab", "test", "types", "test-browser", "notebooks", "bench", "help"]
)
def test_make_has_the_targets_that_the_readme_names(target):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"(?m)^{target}:", makefile)
    assert f"make {target}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_continuous_integration_runs_what_the_readme_names():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"(?m)^make test$", script) and re.search(r"(?m)^make test-browser$", script)
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100
