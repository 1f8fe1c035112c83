"""Which exercises this learner has solved, kept in a small local file.

The file is `~/.course_gradients/progress.json`, or the one that `COURSE_PROGRESS` names. It never stands
in the way: a corrupt or unwritable file is treated as empty, and said so where progress is shown.
"""

import json
import os
import tempfile
from pathlib import Path


def path() -> Path:
    """Where progress is kept: `COURSE_PROGRESS`, or `~/.course_gradients/progress.json`."""
    return Path(
        os.environ.get("COURSE_PROGRESS") or Path.home() / ".course_gradients" / "progress.json"
    )


def solved() -> dict[str, list[str]]:
    """Names of the solved exercises by chapter; empty where the file is absent or corrupt."""
    try:
        data = json.loads(path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(data, dict):
        return {}
    return {
        chapter: sorted({name for name in names if isinstance(name, str)})
        for chapter, names in data.items()
        if isinstance(chapter, str) and isinstance(names, list)
    }


def remember(chapter: str, name: str) -> None:
    """Add a solved exercise; a file that cannot be written is no reason to fail."""
    data = solved()
    if name in data.get(chapter, []):
        return
    data.setdefault(chapter, []).append(name)
    target = path()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".progress-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(data, file, indent=1, sort_keys=True)
            os.replace(temporary, target)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
    except OSError:
        return
