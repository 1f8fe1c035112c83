"""Data sets: digits (embedded), MNIST (fetched once, verified), spirals, the adding problem."""

import gzip
import hashlib
import importlib.util
import math
import os
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .arguments import check_generator, integer, number


class DataError(RuntimeError):
    """A data set cannot be had, or is not what it should be. The message says what to do."""


@dataclass(frozen=True)
class ImageData:
    """Labeled images, split into a training and a test set.

    Attributes:
        train_x: Training images, float32; (N, pixels) if flat, else (N, channels, height, width).
        train_y: Their labels, int64, (N,).
        test_x: Test images, shaped likewise.
        test_y: Their labels.
        classes: Names of the classes; label k is classes[k].
        name: "digits" or "mnist".
        shape: (channels, height, width) of one image.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: tuple[str, ...]
    name: str
    shape: tuple[int, int, int]

    def __repr__(self) -> str:
        return (
            f"ImageData({self.name}: {len(self.train_x)} training and {len(self.test_x)} test "
            f"images of {self.shape[1]}×{self.shape[2]}, {len(self.classes)} classes)"
        )


DIGITS_TEST_PER_CLASS = 36


def load_digits(*, flat: bool = True, normalize: bool = False, n: int | None = None) -> ImageData:
    """1797 handwritten digits of 8×8 pixels, embedded in scikit-learn: no network needed.

    The split is fixed: 36 images of each class (360 in all) are the test set, the other 1437
    are the training set. Training images are ordered 0, 1, …, 9, 0, 1, …, so the first n are
    balanced too. Pixels are scaled from 0…16 to [0, 1].

    Args:
        flat: Images as rows of 64 pixels; else as (1, 8, 8).
        normalize: Subtract the mean and divide by the standard deviation of all training pixels.
        n: Keep the first n training images only, 10 to 1437; all of them when None.

    Returns:
        The images and labels.

    Raises:
        TypeError: If `n` is no integer.
        ValueError: If `n` is out of range.

    References:
        E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
        Learning Repository, 1998.

    >>> load_digits()
    ImageData(digits: 1437 training and 360 test images of 8×8, 10 classes)
    """
    pixels, digits = _digits_of_scikit_learn()
    random = np.random.RandomState(0)  # NumPy keeps this stream the same in all versions
    members = [random.permutation(np.flatnonzero(digits == k)) for k in range(10)]
    test = np.concatenate([rows[:DIGITS_TEST_PER_CLASS] for rows in members])
    train = _interleave([rows[DIGITS_TEST_PER_CLASS:] for rows in members])
    images = torch.from_numpy(pixels).float().div(16).reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(digits).long()
    return _image_data(
        (images[train], labels[train], images[test], labels[test]), "digits", flat, normalize, n
    )


def _digits_of_scikit_learn() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (1797, 64), float, and labels (1797,), integer.

    Read from the file in the package scikit-learn without importing the package, which would take
    as long as importing torch. Should a version keep the file elsewhere, its own loader is asked.
    """
    package = importlib.util.find_spec("sklearn")
    if package and package.origin:
        file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            table = np.loadtxt(file, delimiter=",")
            return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits as embedded

    return embedded(return_X_y=True)


def _interleave(members: list[np.ndarray]) -> np.ndarray:
    """One of each class in turn, as long as the class lasts."""
    rounds = range(max(len(rows) for rows in members))
    return np.array([rows[i] for i in rounds for rows in members if i < len(rows)])


def _image_data(
    split: tuple[Tensor, Tensor, Tensor, Tensor],
    name: str,
    flat: bool,
    normalize: bool,
    n: int | None,
) -> ImageData:
    """Scale, cut and reshape a split of images (N, 1, height, width)."""
    train_x, train_y, test_x, test_y = split
    if n is not None:
        hint = (
            f"{name} has {len(train_x)} training images; None takes all, 10 hold each class once."
        )
        n = integer("n", n, 10, len(train_x), hint=hint)
    if normalize:
        mean, std = train_x.mean(), train_x.std()
        train_x, test_x = (train_x - mean) / std, (test_x - mean) / std
    channels, height, width = train_x.shape[1:]
    if n is not None:
        train_x, train_y = train_x[:n].clone(), train_y[:n].clone()
    if flat:
        train_x, test_x = train_x.flatten(1), test_x.flatten(1)
    classes = tuple(str(k) for k in range(10))
    shape = (channels, height, width)
    return ImageData(train_x, train_y, test_x, test_y, classes, name, shape)


# ---------------------------------------------------------------- MNIST

_MNIST_FILES = {  # name: (SHA-256 of the decompressed file, shape)
    "train-images-idx3-ubyte": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        (60_000, 28, 28),
    ),
    "train-labels-idx1-ubyte": (
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        (60_000,),
    ),
    "t10k-images-idx3-ubyte": (
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        (10_000, 28, 28),
    ),
    "t10k-labels-idx1-ubyte": (
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        (10_000,),
    ),
}
_MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_WAY_OUT = (
    "What you can do: put the four files of MNIST (" + ", ".join(_MNIST_FILES) + "; as they are or "
    "as .gz) into a folder and set the environment variable COURSE_DATA to it, or use "
    "cu.load_digits(), which needs no download."
)


def load_mnist(
    *,
    flat: bool = True,
    normalize: bool = False,
    n: int | None = None,
    folder: str | os.PathLike | None = None,
) -> ImageData:
    """70 000 handwritten digits of 28×28 pixels: 60 000 to train on, 10 000 to test on.

    The four files are taken from `folder`, or from the folder that the environment variable
    COURSE_DATA names (there or in its subfolder mnist, decompressed or as .gz). With neither, they
    are downloaded once, 11 MB, into the cache folder of your system (`pooch.os_cache`). Each file
    is read only if the SHA-256 of its decompressed content is the known one. Pixels are scaled
    from 0…255 to [0, 1]; the order is that of the files.

    Args:
        flat: Images as rows of 784 pixels; else as (1, 28, 28).
        normalize: Subtract the mean (0.1307) and divide by the standard deviation (0.3081) of all
            training pixels.
        n: Keep the first n training images only, 10 to 60 000; all of them when None.
        folder: Where the files are; COURSE_DATA decides when None.

    Returns:
        The images and labels, 220 MB in all.

    Raises:
        DataError: If a file is missing, truncated or altered, the cache cannot be written, or no
            mirror answers. Nothing is left half-written.
        TypeError: If `n` is no integer.
        ValueError: If `n` is out of range.

    References:
        Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-Based Learning Applied to
        Document Recognition", Proceedings of the IEEE 86(11), 1998.
    """
    place = folder if folder is not None else os.environ.get("COURSE_DATA", "").strip() or None
    arrays = []
    for name, (sha256, shape) in _MNIST_FILES.items():
        raw = _from_cache(name, sha256) if place is None else _from_folder(name, sha256, place)
        arrays.append(_parse_idx(raw, name, shape))
    train_x, test_x = (
        torch.from_numpy(images).float().div_(255).unsqueeze(1) for images in arrays[::2]
    )
    train_y, test_y = (torch.from_numpy(labels).long() for labels in arrays[1::2])
    return _image_data((train_x, train_y, test_x, test_y), "mnist", flat, normalize, n)


def _from_folder(name: str, sha256: str, folder: str | os.PathLike) -> bytes:
    """Verified content of a file in a folder of the learner's."""
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DataError(f"The data folder {str(root)!r} does not exist. {_WAY_OUT}")
    for path in (
        parent / candidate
        for parent in (root, root / "mnist")
        for candidate in (name, f"{name}.gz")
    ):
        if path.is_file():
            return _read_verified(path, sha256)
    raise DataError(f"{name} is missing in the data folder {str(root)!r}. {_WAY_OUT}")


def _from_cache(name: str, sha256: str) -> bytes:
    """Verified content of a file in the cache folder, downloaded if it is not there."""
    import pooch
    import requests

    cache = Path(pooch.os_cache("course_utils")) / "mnist"
    logger = pooch.get_logger()
    level, reasons = logger.level, []
    logger.setLevel("ERROR")  # its notes would stand in the notebook's output
    try:
        for mirror in _MNIST_MIRRORS:
            try:
                path = pooch.retrieve(
                    f"{mirror}{name}.gz",
                    known_hash=f"sha256:{sha256}",
                    fname=name,
                    path=cache,
                    downloader=_download_and_unpack,
                )
                return _read_verified(Path(path), sha256)
            except requests.exceptions.RequestException as error:
                reasons.append(f"{mirror} does not answer ({type(error).__name__})")
            except (ValueError, EOFError, zlib.error, gzip.BadGzipFile):
                reasons.append(f"{mirror} sent something else (wrong SHA-256, or truncated)")
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"The cache folder {str(cache)!r} cannot be used ({error.strerror or error}). Make it "
            f"writable, or choose another place: {_WAY_OUT}"
        ) from None
    finally:
        logger.setLevel(level)
    raise DataError(f"{name} could not be downloaded: {'; '.join(reasons)}. {_WAY_OUT}")


def _download_and_unpack(url: str, output_file: str, _pooch: object) -> None:
    """Fetch a .gz and write what is in it: pooch then verifies that and moves it into place."""
    import pooch

    with tempfile.TemporaryDirectory() as scratch:
        packed = Path(scratch) / "packed.gz"
        pooch.HTTPDownloader(progressbar=False, timeout=30)(url, str(packed), None)
        Path(output_file).write_bytes(_unpack(packed))


def _unpack(path: Path) -> bytes:
    """Content of a file, decompressed if its name ends in .gz; no more than MNIST can have."""
    largest = 16 + 60_000 * 28 * 28
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return file.read(largest + 1)


def _read_verified(path: Path, sha256: str) -> bytes:
    """Content of a file whose SHA-256 is the known one."""
    try:
        content = _unpack(path)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(
            f"{str(path)!r} is truncated or damaged: delete it and fetch it again. {_WAY_OUT}"
        ) from None
    except OSError as error:
        raise DataError(
            f"{str(path)!r} cannot be read ({error.strerror or error}). {_WAY_OUT}"
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(
            f"{str(path)!r} is not the file it should be: the SHA-256 of its decompressed content "
            f"is {found[:12]}…, {sha256[:12]}… is expected. It is truncated, altered or another "
            f"file: delete it and fetch it again. {_WAY_OUT}"
        )
    return content


def _parse_idx(content: bytes, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """An IDX file of unsigned bytes: 0, 0, 8, number of axes, each axis as uint32, the values."""
    start = 4 + 4 * len(shape)
    header = bytes([0, 0, 8, len(shape)]) + np.array(shape, dtype=">u4").tobytes()
    if content[:start] != header or len(content) != start + math.prod(shape):
        raise DataError(f"{name} is no IDX file of shape {shape}. {_WAY_OUT}")
    return np.frombuffer(bytearray(content), dtype=np.uint8, offset=start).reshape(shape)


# ---------------------------------------------------------------- made up on the spot


def spirals(
    n: int = 300, classes: int = 3, noise: float = 0.05, *, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Points on interleaved spirals in the plane: no straight line tells the classes apart.

    A point of class k has radius r, uniform in [0, 1], and angle 2π(k/K + r), and is then moved by
    N(0, noise²) in each coordinate. Class k holds every K-th point, starting at point k.

    Args:
        n: Number of points, at least one per class.
        classes: K, number of spirals, at least 1.
        noise: Standard deviation of the displacement, at least 0, in units of the largest radius.
        generator: Source of the numbers, for example `cu.seeded(0)`.

    Returns:
        x, float32, (n, 2), and y, int64, (n,).

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is of the wrong type.

    >>> from course_utils import seeded
    >>> x, y = spirals(300, generator=seeded(0))
    >>> x.shape, y.bincount().tolist()
    (torch.Size([300, 2]), [100, 100, 100])
    """
    classes = integer("classes", classes, 1)
    n = integer("n", n, classes, hint="Every class has one point at least.")
    noise = number("noise", noise, least=0)
    check_generator(generator)
    y = torch.arange(n) % classes
    radius = torch.rand(n, generator=generator)
    angle = 2 * math.pi * (y / classes + radius)
    x = radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    return x + noise * torch.randn(n, 2, generator=generator), y


def adding_problem(n: int, steps: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences whose answer is the sum of two marked values: a test of memory over T steps.

    x_t = (value, marker): values are uniform in [0, 1]; the marker is 1 at two steps, one drawn
    from the first half of the sequence and one from the second, and 0 elsewhere. The target is the
    sum of the two marked values. Whoever has not remembered the first value cannot do better than
    a mean squared error of 1/12; whoever always answers the mean, 1, has 2/12 = 1/6, since the
    variance of a uniform value is 1/12.

    This is the form in which the problem is used today. Hochreiter and Schmidhuber's has values in
    [−1, 1], lengths from T to T + T/10, the first marker within the first ten steps, the other
    within the first T/2 − 1 of those left, −1 as marker of the first and last step, and
    0.5 + (X₁ + X₂)/4 as target.

    Args:
        n: Number of sequences, at least 1.
        steps: T, steps of each sequence, at least 2.
        generator: Source of the numbers, for example `cu.seeded(0)`.

    Returns:
        x, float32, (n, steps, 2), and y, float32, (n, 1).

    Raises:
        ValueError: If a size is out of range.
        TypeError: If an argument is of the wrong type.

    References:
        S. Hochreiter and J. Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997,
        section 5.4.

    >>> from course_utils import seeded
    >>> x, y = adding_problem(5, 20, generator=seeded(0))
    >>> bool(torch.allclose((x[..., 0] * x[..., 1]).sum(1, keepdim=True), y))
    True
    """
    n, steps = integer("n", n, 1), integer("steps", steps, 2)
    check_generator(generator)
    values = torch.rand(n, steps, generator=generator)
    half = steps // 2
    first = torch.randint(0, half, (n, 1), generator=generator)
    second = torch.randint(half, steps, (n, 1), generator=generator)
    marks = torch.zeros(n, steps).scatter_(1, torch.cat([first, second], dim=1), 1.0)
    return torch.stack([values, marks], dim=2), (values * marks).sum(1, keepdim=True)
