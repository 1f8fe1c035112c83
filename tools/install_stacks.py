"""Install the extra `stacks` into this Python, unless that would bring packages for CUDA.

pip is first asked what it would install. torch is there already, as the build for the CPU; where
the resolver would fetch another build of it, gigabytes of CUDA would come along, so this fails
and names them.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CUDA = re.compile(r"^(nvidia|cuda|cupy|triton|torch$|pytorch-triton)", re.IGNORECASE)


def wanted() -> list[str]:
    """What the extra asks for, without the course itself."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]["optional-dependencies"]["stacks"]


def of_cuda(report: dict) -> list[str]:
    """Names in a report of `pip install --dry-run --report` that CUDA would come with."""
    names = [item["metadata"]["name"] for item in report["install"]]
    return sorted(name for name in names if CUDA.match(name))


def main() -> int:
    """Ask, and install if the answer holds no CUDA; 1 and its names if it does."""
    pip = [sys.executable, "-m", "pip", "install"]
    asked = subprocess.run(
        [*pip, "--dry-run", "--quiet", "--report", "-", *wanted()],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    if found := of_cuda(json.loads(asked.stdout)):
        print(f"The extra `stacks` would install {', '.join(found)}: nothing was installed.")
        return 1
    return subprocess.run([*pip, *wanted()], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
