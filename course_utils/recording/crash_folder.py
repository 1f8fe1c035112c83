"""The folder that a flight recorder leaves: a step that can be run again, without pickle."""

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .gradient_record import GradientRecord

WORDS, ARRAYS, RECORD = "step.json", "arrays.npz", "record.npz"
VERSION = 1


def write_folder(
    place: Path, words: dict[str, Any], arrays: dict[str, np.ndarray], record: GradientRecord
) -> Path:
    """Write a folder beside its place, and move it there when it is whole.

    A place that is taken is left alone: the new folder gets the next free name, `place-2`.

    Args:
        place: Where the folder goes.
        words: What JSON holds.
        arrays: What the words refer to.
        record: The rows.

    Returns:
        The folder.

    Raises:
        OSError: If it cannot be written; then nothing is left of it.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(
        tempfile.mkdtemp(prefix=f".{place.name}-", suffix="-unfinished", dir=place.parent)
    )
    try:
        record.save(beside / RECORD)
        with open(beside / ARRAYS, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # names are numbers, none is taken
            _to_disk(file)
        with open(beside / WORDS, "w", encoding="utf-8") as file:
            json.dump({"version": VERSION, **words}, file, indent=1, allow_nan=False)
            _to_disk(file)
        os.chmod(beside, 0o777 & ~_umask())  # mkdtemp's are for the owner alone
        return _moved(beside, place)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _to_disk(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _moved(beside: Path, place: Path) -> Path:
    """Rename to the first name that is free."""
    number = 1
    while True:
        free = place if number == 1 else place.with_name(f"{place.name}-{number}")
        if not os.path.lexists(free):
            try:
                os.rename(beside, free)
                return free
            except FileExistsError:  # another process was faster
                pass
        number += 1


@dataclass(frozen=True)
class SavedStep:
    """What such a folder holds.

    Attributes:
        folder: Where it was read.
        words: What its JSON holds.
        arrays: The arrays that the words refer to.
    """

    folder: Path
    words: dict[str, Any]
    arrays: Mapping[str, np.ndarray]

    def state(self, kind: str) -> dict[str, dict[str, Any]]:
        """Parameters or buffers by name, as encoded."""
        held: dict[str, dict[str, Any]] = self.words[kind]
        return held


def read_folder(folder: str | os.PathLike) -> SavedStep:
    """What a flight recorder left in a folder.

    Args:
        folder: The folder itself; of several processes, that of one: `folder/rank1`.

    Raises:
        TypeError: If it is no path.
        FileNotFoundError: If there is no such folder.
        ValueError: If it is not one that a flight recorder left.
    """
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(
            f"folder={folder!r} must be the path that `save=` named, or recorder.folder, which is "
            "None where no step failed."
        )
    place = Path(folder)
    if not place.is_dir():
        raise FileNotFoundError(f"folder={str(folder)!r}: there is no such folder.")
    try:
        words = json.loads((place / WORDS).read_text(encoding="utf-8"))
        with np.load(place / ARRAYS, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        version = words["version"]
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        ranks = sorted(path.name for path in place.glob("rank*") if (path / WORDS).is_file())
        if ranks:
            raise ValueError(
                f"folder={str(folder)!r} holds one folder for each process that stopped: "
                f"{', '.join(ranks)}. Name one, for example {str(place / ranks[0])!r}."
            ) from error
        raise ValueError(
            f"folder={str(folder)!r} holds no step that record(..., save=folder) left: {error}"
        ) from error
    if version != VERSION:
        raise ValueError(f"folder={str(folder)!r} is of version {version}, expected {VERSION}.")
    return SavedStep(place, words, arrays)


def generators() -> dict[str, Any]:
    """The states of torch's random generators, as nests: CPU, and CUDA where it is in use."""
    states: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def set_generators(states: Mapping[str, Any]) -> None:
    """Put torch's random generators into these states, as many as there are here."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        for device, state in list(enumerate(states["cuda"]))[: torch.cuda.device_count()]:
            torch.cuda.set_rng_state(state, device)
