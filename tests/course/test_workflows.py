"""The files that GitHub reads: well-formed, safe, and running only commands of the Makefile."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def passes(tool, *arguments):
    command = [Path(sys.executable).parent / tool, *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_what_github_reads_follows_its_schema():
    passes("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)
    passes("check-jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml")


def test_the_workflow_linter_finds_nothing():
    passes("zizmor", "--offline", "--quiet", ".github")


def test_every_step_runs_a_command_that_exists():
    targets = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"))
    known = {".ci/run", *(f"make {target}" for target in targets)}
    texts = [path.read_text(encoding="utf-8") for path in WORKFLOWS]
    runs = {run for text in texts for run in re.findall(r"(?m)^ +- run: (.+)$", text)}
    assert runs and runs <= known
