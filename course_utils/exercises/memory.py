"""Which exercises this learner has solved, kept in a small local file.

The file is `~/.course_gradients/progress.json`, or the one that `COURSE_PROGRESS` names. It never
stands in the way: one that is corrupt or cannot be read or written counts as empty, and
`problem()` says so where progress is shown.
"""

import json
import os
import tempfile
from pathlib import Path


def path() -> Path:
    """Where progress is kept: `COURSE_PROGRESS`, or `~/.course_gradients/progress.json`."""
    named = os.environ.get("COURSE_PROGRESS")
    try:
        return (Path(named) if named else Path("~/.course_gradients/progress.json")).expanduser()
    except RuntimeError:  # a user without a home folder, as in some containers
        return Path(tempfile.gettempdir()) / "course_gradients" / "progress.json"


def solved() -> dict[str, list[str]]:
    """Names of the solved exercises by chapter; empty where the file is absent or corrupt."""
    return _load()[0]


def problem() -> str:
    """Why progress is not remembered, in a sentence; "" where all is well."""
    return _load()[1] or _obstacle()


def remember(chapter: str, name: str) -> None:
    """Add a solved exercise; a file that cannot be written is no reason to fail.

    What cannot be read is kept beside the new file, with `.corrupt` added to its name.

    Args:
        chapter: Module of the exercise.
        name: Its name there.
    """
    data, unreadable = _load()
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
            if unreadable:
                os.replace(target, target.with_name(target.name + ".corrupt"))
            os.replace(temporary, target)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
    except OSError:
        return


def _load() -> tuple[dict[str, list[str]], str]:
    """What the file holds, and what is wrong with it ("" if nothing)."""
    file = path()
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}, ""
    except OSError as error:
        return {}, f"The file {file} cannot be read ({error.strerror})."
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        return {}, (
            f"The file {file} is damaged and counts as empty. It is made anew with the next "
            "exercise you solve; check the ones you have solved again to fill it."
        )
    return {
        chapter: sorted({name for name in names if isinstance(name, str)})
        for chapter, names in data.items()
        if isinstance(names, list)
    }, ""


def _obstacle() -> str:
    """Why the file cannot be written; "" if it can."""
    file = path()
    folder = next((parent for parent in file.parents if parent.exists()), file.parent)
    if folder.is_dir() and os.access(folder, os.W_OK):
        return ""
    return (
        f"Progress cannot be written to {file}. Name a file that can be written in the "
        "environment variable COURSE_PROGRESS, then restart the kernel."
    )
