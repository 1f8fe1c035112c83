"""The workflows and forms of the repository, by linters that need no network."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = [GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml" for name in ("bug", "chapter", "diagnosis")]


def passes(tool, *arguments):
    command = [Path(sys.executable).parent / tool, *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.github-issue-forms", FORMS),
        ("vendor.github-issue-config", [GITHUB / "ISSUE_TEMPLATE" / "config.yml"]),
        ("vendor.dependabot", [GITHUB / "dependabot.yml"]),
    ],
)
def test_a_file_is_what_its_schema_asks_for(schema, files):
    passes("check-jsonschema", "--builtin-schema", schema, *files)


def test_the_linter_of_workflows_finds_nothing():
    passes("zizmor", "--offline", "--no-progress", "--quiet", GITHUB)


def test_a_workflow_calls_what_the_makefile_has():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?m)^([\w./-]+):", makefile))
    texts = "".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    called = set(re.findall(r"run: make ([\w./-]+)", texts))
    assert "test" in called <= targets and "run: .ci/run\n" in texts


def test_the_oldest_torch_that_is_tested_is_the_oldest_that_is_allowed():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needed = Requirement(re.search(r'"(torch>=[^"]+)"', text)[1])
    oldest = re.search(r'torch: \["", "([\d.]+)\.\*"\]', (WORKFLOWS[1]).read_text())[1]
    assert f">={oldest}" == str(needed.specifier)


def test_the_form_for_a_diagnosis_asks_for_the_ten_lines_it_prints():
    form = (GITHUB / "ISSUE_TEMPLATE" / "diagnosis.yml").read_text(encoding="utf-8")
    assert "first ten lines of print(cu.diagnose(" in form


def test_the_container_of_an_editor_is_described_in_plain_json():
    folder = ROOT / ".devcontainer"
    described = json.loads((folder / "devcontainer.json").read_text(encoding="utf-8"))
    assert (folder / described["build"]["dockerfile"]).is_file()


def test_the_job_for_the_stacks_fails_where_the_resolver_would_bring_cuda(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("stacks", ROOT / "tools" / "install_stacks.py")
    stacks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stacks)
    ran = []

    def run(names):
        def answer(command, **_):
            ran.append(command)
            report = {"install": [{"metadata": {"name": name}} for name in names]}
            return subprocess.CompletedProcess(command, 0, json.dumps(report))

        return answer

    monkeypatch.setattr(stacks.subprocess, "run", run(["lightning", "torchmetrics", "nvidia-nccl"]))
    assert stacks.main() == 1 and len(ran) == 1 and "--dry-run" in ran[0]
    assert "would install nvidia-nccl:" in capsys.readouterr().out
    monkeypatch.setattr(stacks.subprocess, "run", run(["lightning", "torch"]))
    assert stacks.main() == 1 and "would install torch:" in capsys.readouterr().out
    monkeypatch.setattr(stacks.subprocess, "run", run(["lightning", "torchmetrics"]))
    ran.clear()
    assert stacks.main() == 0 and len(ran) == 2 and "--dry-run" not in ran[1]
    assert any(word.startswith("lightning") for word in ran[1])
