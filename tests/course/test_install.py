"""tools/install.sh and the Makefile with Pythons that are made up: what is said, what is run.

The Pythons are shell scripts. They write down how they were called, pretend to be of a version,
and make a .venv that holds a copy of themselves; nothing is installed.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDED = "sh sed dirname rm touch tr cat cp mkdir id uname make env".split()
PYTHON = """#!/bin/sh
echo "$@" >> "$LOG"
case "$1 $2" in
  "-m venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  "-m pip") [ "$3" = --version ] || exit "${{PIP_STATUS:-0}}" ;;
  "-c "*) exec {real} "$@" ;;
  "- ") exec {real} -c 'import sys
sys.version_info = {version}
if {broken}: sys.modules["ensurepip"] = None
exec(sys.stdin.read())' ;;
  "--version ") echo "Python {version}" ;;
esac
"""

pytestmark = pytest.mark.skipif(
    os.name != "posix" or shutil.which("make") is None, reason="needs a POSIX shell and make"
)


class Machine:
    """A machine with an empty course folder and the Pythons it is given."""

    def __init__(self, folder):
        self.folder, self.bin, self.log = folder / "course", folder / "bin", folder / "log"
        self.environment = {"PATH": str(self.bin), "LOG": str(self.log), "HOME": str(folder)}
        self.bin.mkdir()
        for name in NEEDED:
            (self.bin / name).symlink_to(shutil.which(name))
        (self.folder / "tools").mkdir(parents=True)
        for name in ("tools/install.sh", "tools/lab.sh", "Makefile", "constraints.txt"):
            shutil.copy(ROOT / name, self.folder / name)
        shutil.copy(ROOT / "pyproject.toml", self.folder)

    def python(self, name, version=(3, 12, 1), broken=False, place=None):
        path = (place or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PYTHON.format(real=sys.executable, version=version, broken=broken))
        path.chmod(0o755)
        return path

    def run(self, *command, **variables):
        self.log.write_text("")
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.folder,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def install(self, what="lab", **variables):
        return self.run("sh", "tools/install.sh", what, **variables)

    @property
    def calls(self):
        return self.log.read_text().splitlines()

    @property
    def installations(self):
        return [call for call in self.calls if call.startswith("-m pip install")]

    def has(self, name):
        return (self.folder / ".venv" / name).exists()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def ready(machine):
    """A machine with a Python that does."""
    machine.python("python3")
    return machine


# Which Python


REFUSED = [
    *(
        ({"python3": {"version": version}}, [f"python3 is Python {version[0]}.{version[1]}"])
        for version in ((3, 9, 18), (3, 10, 0), (3, 14, 0), (2, 7, 18), (4, 0, 0))
    ),
    ({}, ["no python3 on this machine"]),
    (
        {"python3": {"broken": True}},
        ["python3 is Python 3.12 without venv", "apt install python3-venv"],
    ),
    (
        {"python3": {"version": (3, 9, 1)}, "python3.11": {"broken": True}},
        ["python3 is Python 3.9", "python3.11 is Python 3.12 without venv"],
    ),
]


@pytest.mark.parametrize(("pythons", "said"), REFUSED)
def test_every_python_that_does_not_do_is_named_with_its_version_and_the_way_out(
    machine, pythons, said
):
    for name, options in pythons.items():
        machine.python(name, **options)
    run = machine.install()
    assert run.returncode == 1
    for part in (*said, "needs Python 3.11, 3.12 or 3.13", "PYTHON=/path/to/python3.12 make lab"):
        assert part in run.stderr
    assert not machine.has("")


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 7), (3, 13, 2)])
def test_a_newer_python_beside_an_old_one_is_found(machine, version):
    machine.python("python3", (3, 9, 1))
    machine.python(f"python3.{version[1]}", version)
    assert machine.install().returncode == 0
    assert machine.has(".installed-lab")


def test_the_python_that_is_named_is_the_only_one_tried(ready):
    run = ready.install(PYTHON="/nowhere/python")
    assert run.returncode == 1 and "/nowhere/python is not there" in run.stderr
    other = ready.python("python", (3, 10, 1), place=ready.folder / "elsewhere")
    run = ready.install(PYTHON=str(other))
    assert run.returncode == 1 and f"{other} is Python 3.10" in run.stderr
    other = ready.python("python", (3, 13, 0), place=ready.folder / "elsewhere")
    assert ready.install(PYTHON=str(other)).returncode == 0


def test_a_venv_of_an_old_python_is_not_used_and_not_removed(ready):
    ready.python("python", (3, 10, 4), place=ready.folder / ".venv" / "bin")
    run = ready.install()
    assert run.returncode == 1
    assert ".venv holds a Python that is Python 3.10" in run.stderr
    assert "Remove the folder .venv" in run.stderr
    assert ready.has("bin/python") and not ready.installations


# What is installed


@pytest.mark.parametrize(("what", "asked"), [("lab", ".[lab]"), ("test", ".[test]")])
def test_the_course_is_installed_with_the_tested_versions(ready, what, asked):
    assert ready.install(what).returncode == 0
    (call,) = ready.installations
    assert call.endswith(f"--constraint constraints.txt --editable {asked}")
    assert ready.has(".installed-lab") and ready.has(".installed-test") == (what == "test")


def test_an_installation_that_fails_leaves_no_stamp_and_says_what_to_do(ready):
    run = ready.install(PIP_STATUS="1")
    assert run.returncode == 1
    assert "did not finish" in run.stderr and "Troubleshooting" in run.stderr
    assert not ready.has(".installed-lab")
    assert ready.install().returncode == 0 and ready.has(".installed-lab")


@pytest.mark.parametrize(
    ("asked", "taken"), [("2.6.*", "constraint .venv/constraints.txt"), ("newest", "/dev/null")]
)
def test_another_torch_takes_other_constraints(ready, asked, taken):
    assert ready.install("test", TORCH=asked).returncode == 0
    assert taken in ready.installations[0]
    changed = ready.folder / ".venv" / "constraints.txt"
    assert not changed.exists() or "torch==2.6.*" in changed.read_text().splitlines()


def test_what_to_install_must_be_said(machine):
    assert machine.install("everything").returncode == 2


# When it is installed


def test_a_second_call_of_make_installs_nothing(ready):
    assert ready.run("make", "lab").returncode == 0
    assert len(ready.installations) == 1 and "jupyterlab" in ready.calls[-1]
    assert ready.run("make", "lab").returncode == 0
    assert ready.installations == [] and "jupyterlab" in ready.calls[-1]
    # The test extra is more than what is there, so it is installed once, and lab stays done.
    assert ready.run("make", "test").returncode == 0
    assert len(ready.installations) == 1
    for target in ("test", "lab", "notebooks", "bench", "test-browser"):
        assert ready.run("make", target).returncode == 0
        assert ready.installations == [], target


@pytest.mark.parametrize("file", ["pyproject.toml", "constraints.txt"])
def test_make_installs_again_when_the_list_of_dependencies_changed(ready, file):
    ready.run("make", "lab")
    stamp = ready.folder / ".venv" / ".installed-lab"
    later = stamp.stat().st_mtime + 10
    os.utime(ready.folder / file, (later, later))
    ready.run("make", "lab")
    assert len(ready.installations) == 1


def test_make_installs_again_in_a_folder_that_was_moved(ready):
    ready.run("make", "lab")
    ready.folder = ready.folder.rename(ready.folder.with_name("moved"))
    ready.run("make", "lab")
    assert len(ready.installations) == 1
    ready.run("make", "lab")
    assert ready.installations == []


def test_an_old_python_stops_make_with_a_status(machine):
    machine.python("python3", (3, 8, 10))
    run = machine.run("make", "test")
    assert run.returncode != 0
    assert "python3 is Python 3.8" in run.stderr and "pytest" not in machine.log.read_text()


def test_make_alone_lists_the_targets_and_installs_nothing(machine):
    for command in (["make"], ["make", "help"]):
        run = machine.run(*command)
        assert run.returncode == 0
        for target in ("lab", "test", "test-browser", "notebooks", "bench", "help"):
            assert f"make {target} " in run.stdout
        assert not machine.has("")


# JupyterLab


def test_lab_makes_the_learners_copy_opens_its_first_notebook_and_hands_options_on(ready):
    ready.run("make", "lab", "LAB=--port 9000")
    *_, made, call = ready.calls
    assert made == "tools/make_workbook.py"
    assert "default_url=/lab/tree/workbook/00_start_here.ipynb" in call
    assert call.endswith("--port 9000")


def test_lab_opens_the_chapters_as_they_are_stored_for_those_who_edit_them(ready):
    (ready.folder / "notebooks").mkdir()
    ready.run("make", "lab", "FOLDER=notebooks")
    assert "default_url=/lab/tree/notebooks/00_start_here.ipynb" in ready.calls[-1]
    assert "tools/make_workbook.py" not in ready.calls
    run = ready.run("make", "lab", "FOLDER=notebook")
    assert run.returncode != 0 and "There is no folder notebook here" in run.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="asks about the display of Linux")
def test_without_a_screen_the_address_is_printed_instead_of_a_browser_opened(ready):
    ready.run("make", "lab")
    assert "--no-browser" in ready.calls[-1]
    ready.run("make", "lab", DISPLAY=":0")
    assert "--no-browser" not in ready.calls[-1]
