"""Data: the digits as they are, MNIST only if it is MNIST, and points made up on the spot."""

import gzip
import hashlib
import math
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import requests
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits as of_sklearn

from course_utils import data
from course_utils.data import DataError, adding_problem, load_digits, load_mnist, spirals
from course_utils.runtime import seeded

MNIST = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "mnist"
needs_mnist = pytest.mark.skipif(
    not MNIST.is_dir(), reason="MNIST is not at hand: ../shared/data/mnist is not there"
)
NAMES = tuple(data._MNIST_FILES)


# ---------------------------------------------------------------- digits


def test_digits_come_without_importing_scikit_learn():
    code = "import sys, course_utils as cu; cu.load_digits(); assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_digits_come_from_the_loader_of_scikit_learn_should_the_file_be_elsewhere(monkeypatch):
    usual = load_digits()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    other = load_digits()
    assert torch.equal(usual.train_x, other.train_x) and torch.equal(usual.test_y, other.test_y)


def test_digits_are_all_images_of_scikit_learn_once_each():
    digits = load_digits()
    pixels, labels = of_sklearn(return_X_y=True)
    ours = torch.cat(
        [
            torch.cat([x * 16, y[:, None]], dim=1)
            for x, y in ((digits.train_x, digits.train_y), (digits.test_x, digits.test_y))
        ]
    )
    theirs = np.column_stack([pixels, labels])
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.tolist()))
    assert digits.train_x.dtype == torch.float32 and digits.train_y.dtype == torch.int64


def test_the_split_is_balanced_from_the_first_images_on():
    digits = load_digits()
    assert digits.test_y.bincount().tolist() == [36] * 10
    assert digits.train_y[:1000].bincount().tolist() == [100] * 10
    assert (len(digits.train_x), len(digits.test_x)) == (1437, 360)
    assert digits.classes == tuple("0123456789") and digits.shape == (1, 8, 8)


def test_the_split_is_the_same_on_every_machine():
    digits = load_digits()
    pixels = digits.train_x.mul(16).to(torch.uint8).numpy().tobytes()
    assert hashlib.sha256(pixels).hexdigest()[:16] == "fab98f8c9bd3231c"


def test_flat_and_square_images_are_the_same():
    flat, square = load_digits(), load_digits(flat=False)
    assert square.train_x.shape == (1437, 1, 8, 8)
    assert torch.equal(flat.train_x.reshape(-1, 1, 8, 8), square.train_x)
    assert torch.equal(flat.test_x, square.test_x.flatten(1))


def test_normalizing_uses_the_training_images_only_and_all_of_them():
    plain, scaled = load_digits(), load_digits(normalize=True, n=50)
    mean, std = plain.train_x.double().mean(), plain.train_x.double().std()
    assert torch.allclose(scaled.test_x.double(), (plain.test_x.double() - mean) / std, atol=1e-5)
    assert torch.allclose(
        scaled.train_x.double(), (plain.train_x[:50].double() - mean) / std, atol=1e-5
    )


@given(st.integers(10, 1437))
@settings(max_examples=10)
def test_the_first_n_are_the_first_of_all(n):
    few, all_of_them = load_digits(n=n), load_digits()
    assert torch.equal(few.train_x, all_of_them.train_x[:n])
    assert torch.equal(few.train_y, all_of_them.train_y[:n]) and len(few.test_x) == 360
    few.train_x.zero_()
    assert load_digits(n=n).train_x.any()


def test_a_number_of_images_that_cannot_be_had_is_refused():
    with pytest.raises(ValueError, match=r"n=1438 must be from 10 to 1437\..*None takes all"):
        load_digits(n=1438)


# ---------------------------------------------------------------- MNIST


@needs_mnist
@pytest.mark.parametrize("place", ["folder", "COURSE_DATA", "COURSE_DATA, one above"])
def test_mnist_is_what_its_files_say(monkeypatch, place):
    if place == "folder":
        monkeypatch.setenv("COURSE_DATA", "/nowhere")
        mnist = load_mnist(folder=MNIST)
    else:
        monkeypatch.setenv("COURSE_DATA", str(MNIST if place == "COURSE_DATA" else MNIST.parent))
        mnist = load_mnist()
    for x, y, images, labels in (
        (mnist.train_x, mnist.train_y, *NAMES[:2]),
        (mnist.test_x, mnist.test_y, *NAMES[2:]),
    ):
        raw = gzip.decompress((MNIST / f"{images}.gz").read_bytes())
        _, count, height, width = struct.unpack(">4I", raw[:16])
        assert x.shape == (count, height * width)
        for index in (0, 1, 777, count - 1):
            start = 16 + index * height * width
            assert x[index].mul(255).round().int().tolist() == list(
                raw[start : start + height * width]
            )
        answers = gzip.decompress((MNIST / f"{labels}.gz").read_bytes())[8:]
        assert y.tolist() == list(answers)
    assert mnist.train_y[:5].tolist() == [5, 0, 4, 1, 9]
    assert math.isclose(mnist.train_x.double().mean(), 0.1307, abs_tol=5e-5)


@needs_mnist
def test_mnist_can_be_cut_shaped_and_normalized():
    mnist = load_mnist(folder=str(MNIST), n=100, flat=False, normalize=True)
    assert mnist.train_x.shape == (100, 1, 28, 28) and mnist.test_x.shape == (10_000, 1, 28, 28)
    assert math.isclose(mnist.train_x.min(), -0.1307 / 0.3081, rel_tol=1e-3)
    assert "mnist: 100 training and 10000 test images of 28×28" in repr(mnist)


@needs_mnist
def test_mnist_may_lie_there_decompressed(tmp_path):
    for name in NAMES:
        (tmp_path / name).write_bytes(gzip.decompress((MNIST / f"{name}.gz").read_bytes()))
    assert len(load_mnist(folder=tmp_path, n=10).test_x) == 10_000


# A small MNIST of the same kind: four IDX files, with the checksums that they have.


def content(shape):
    random = np.random.default_rng(len(shape)).integers(0, 10, shape).astype(np.uint8)
    return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes() + random.tobytes()


SMALL = {
    name: content(shape)
    for name, shape in zip(NAMES, [(30, 28, 28), (30,), (12, 28, 28), (12,)], strict=True)
}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """MNIST with 30 and 12 images, a cache of its own, and nobody at the other end of the line."""
    monkeypatch.setattr(
        data,
        "_MNIST_FILES",
        {
            name: (
                hashlib.sha256(raw).hexdigest(),
                tuple(struct.unpack(f">{raw[3]}I", raw[4:start])),
            )
            for name, raw in SMALL.items()
            for start in [4 + 4 * raw[3]]
        },
    )
    monkeypatch.delenv("COURSE_DATA", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda _: tmp_path / "cache")
    return tmp_path


@pytest.fixture
def folder(small):
    """A folder with the four files, two of them packed."""
    place = small / "files"
    place.mkdir()
    for index, (name, raw) in enumerate(SMALL.items()):
        if index % 2:
            (place / name).write_bytes(raw)
        else:
            (place / f"{name}.gz").write_bytes(gzip.compress(raw))
    return place


class Mirrors:
    """What the two mirrors answer, and what they were asked."""

    def __init__(self, monkeypatch):
        self.asked, self.answers = [], {}
        monkeypatch.setattr("pooch.HTTPDownloader", lambda **_: self)

    def __call__(self, url, output_file, _pooch):
        mirror, _, name = url.rpartition("/")
        self.asked.append(url)
        answer = self.answers.get(data._MNIST_MIRRORS.index(mirror + "/"), "right")
        if isinstance(answer, Exception):
            Path(output_file).write_bytes(b"half")
            raise answer
        packed = gzip.compress(SMALL[name.removesuffix(".gz")])
        Path(output_file).write_bytes(
            {
                "right": packed,
                "truncated": packed[: len(packed) // 2],
                "page": b"<html>no such file</html>",
                "other": gzip.compress(b"something else"),
                "empty": b"",
            }[answer]
        )


def files_below(place):
    return sorted(str(p.relative_to(place)) for p in place.rglob("*") if p.is_file())


def test_files_in_a_folder_are_read_without_the_net(folder, monkeypatch):
    mirrors = Mirrors(monkeypatch)
    before = files_below(folder)
    mnist = load_mnist(folder=folder)
    assert (len(mnist.train_x), len(mnist.test_x)) == (30, 12) and mirrors.asked == []
    assert files_below(folder) == before


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("harm", [cut, flip, lambda p: p.write_bytes(b""), Path.unlink])
def test_a_harmed_file_in_a_folder_is_one_clear_error(folder, index, harm):
    name = NAMES[index]
    path = next(p for p in folder.iterdir() if p.name.startswith(name))
    harm(path)
    before = files_below(folder)
    with pytest.raises(DataError, match=name) as caught:
        load_mnist(folder=folder)
    text = str(caught.value)
    assert "COURSE_DATA" in text and "cu.load_digits()" in text
    assert caught.value.__cause__ is None and files_below(folder) == before


def test_a_folder_that_is_not_there_is_named(small, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(small / "nothing"))
    with pytest.raises(DataError, match=r"nothing' does not exist.*COURSE_DATA"):
        load_mnist()


def test_a_file_that_cannot_be_read_is_named(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(data, "_unpack", refuse)
    with pytest.raises(DataError, match="cannot be read \\(Permission denied\\)"):
        load_mnist(folder=folder)


def test_a_bomb_is_not_unpacked(folder):
    path = folder / f"{NAMES[0]}.gz"
    path.write_bytes(gzip.compress(bytes(200_000_000), compresslevel=1))
    assert len(data._unpack(path)) == 16 + 60_000 * 28 * 28 + 1
    with pytest.raises(DataError, match="SHA-256"):
        load_mnist(folder=folder)


def test_a_right_checksum_of_a_wrong_shape_is_still_refused(folder, monkeypatch):
    files = dict(data._MNIST_FILES)
    files[NAMES[1]] = (files[NAMES[1]][0], (31,))
    monkeypatch.setattr(data, "_MNIST_FILES", files)
    with pytest.raises(DataError, match="no IDX file of shape \\(31,\\)"):
        load_mnist(folder=folder)


def test_mnist_is_fetched_once_and_kept_unpacked(small, monkeypatch, capsys):
    mirrors = Mirrors(monkeypatch)
    first = load_mnist()
    assert [url.rpartition("/")[2] for url in mirrors.asked] == [f"{name}.gz" for name in NAMES]
    again = load_mnist()
    assert len(mirrors.asked) == 4 and torch.equal(first.train_x, again.train_x)
    assert files_below(small / "cache") == sorted(f"mnist/{name}" for name in NAMES)
    for name in NAMES:
        assert (small / "cache" / "mnist" / name).read_bytes() == SMALL[name]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "answer", [requests.ConnectionError("down"), "truncated", "page", "other", "empty"]
)
def test_where_the_first_mirror_fails_the_second_is_asked(small, monkeypatch, answer):
    mirrors = Mirrors(monkeypatch)
    mirrors.answers[0] = answer
    assert len(load_mnist().test_x) == 12 and len(mirrors.asked) == 8
    assert files_below(small / "cache") == sorted(f"mnist/{name}" for name in NAMES)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (requests.ConnectionError("down"), "does not answer (ConnectionError)"),
        (requests.Timeout("slow"), "does not answer (Timeout)"),
        (requests.HTTPError("404"), "does not answer (HTTPError)"),
        ("truncated", "sent something else"),
        ("page", "sent something else"),
        ("other", "sent something else"),
        ("empty", "sent something else"),
    ],
)
def test_without_a_mirror_there_is_one_error_and_no_file(small, monkeypatch, answer, says):
    mirrors = Mirrors(monkeypatch)
    mirrors.answers = {0: answer, 1: answer}
    with pytest.raises(DataError) as caught:
        load_mnist()
    text = str(caught.value)
    assert text.count(says) == 2 and NAMES[0] in text and "COURSE_DATA" in text
    assert files_below(small / "cache") == []


def test_a_cache_that_was_tampered_with_is_mended_and_without_the_net_an_error(small, monkeypatch):
    mirrors = Mirrors(monkeypatch)
    load_mnist()
    file = small / "cache" / "mnist" / NAMES[2]
    flip(file)
    load_mnist()
    assert len(mirrors.asked) == 5 and file.read_bytes() == SMALL[NAMES[2]]
    flip(file)
    mirrors.answers = {0: requests.ConnectionError(), 1: requests.ConnectionError()}
    with pytest.raises(DataError, match="could not be downloaded"):
        load_mnist()


def test_a_cache_that_cannot_be_written_is_an_error_with_a_way_out(small, monkeypatch):
    Mirrors(monkeypatch)
    (small / "cache").write_text("a file stands where the folder should be")
    with pytest.raises(DataError, match=r"cannot be used.*COURSE_DATA"):
        load_mnist()


def test_a_read_only_cache_is_an_error_with_a_way_out(small, monkeypatch):
    Mirrors(monkeypatch)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pooch.core.make_local_storage", refuse)
    with pytest.raises(DataError, match=r"Permission denied.*writable.*COURSE_DATA"):
        load_mnist()
    assert files_below(small) == []


def test_an_interrupted_download_leaves_nothing(small, monkeypatch):
    mirrors = Mirrors(monkeypatch)
    mirrors.answers[0] = RuntimeError("the kernel was killed")
    with pytest.raises(RuntimeError, match="killed"):
        load_mnist()
    assert files_below(small / "cache") == []


def test_the_checksums_are_those_of_the_real_files():
    assert [sha256[:8] for sha256, _ in data._MNIST_FILES.values()] == [
        "ba891046",
        "65a50cbb",
        "0fa7898d",
        "ff7bcfd4",
    ]


# ---------------------------------------------------------------- spirals


@given(n=st.integers(5, 60), classes=st.integers(1, 5), seed=st.integers(0, 999))
def test_points_without_noise_lie_on_their_spiral(n, classes, seed):
    x, y = spirals(n, classes, 0.0, generator=seeded(seed))
    radius = x.norm(dim=1)
    turns = torch.atan2(x[:, 1], x[:, 0]) / (2 * math.pi) - y / classes - radius
    inside = radius > 1e-3
    assert (turns - turns.round())[inside].abs().max() < 1e-3
    assert radius.max() <= 1 and y.tolist() == [k % classes for k in range(n)]
    assert x.dtype == torch.float32 and y.dtype == torch.int64


def test_noise_has_the_standard_deviation_asked_for():
    clean, _ = spirals(4000, 4, 0.0, generator=seeded(1))
    noisy, _ = spirals(4000, 4, 0.2, generator=seeded(1))
    assert math.isclose((noisy - clean).std(), 0.2, rel_tol=0.05)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"n": 2}, ValueError, "n=2"),
        ({"noise": -1}, ValueError, "noise=-1"),
        ({"noise": math.nan}, ValueError, "noise=nan"),
        ({"noise": "a"}, ValueError, "noise='a'"),
        ({"generator": 0}, TypeError, "generator=0"),
    ],
)
def test_spirals_that_cannot_be_drawn_are_refused(arguments, error, says):
    with pytest.raises(error, match=says):
        spirals(**{"generator": seeded(0), **arguments})
    with pytest.raises(TypeError, match="generator=None"):
        adding_problem(5, 5, generator=None)


# ---------------------------------------------------------------- the adding problem


@given(n=st.integers(1, 40), steps=st.integers(2, 31), seed=st.integers(0, 999))
def test_the_answer_is_the_sum_of_one_value_from_each_half(n, steps, seed):
    x, y = adding_problem(n, steps, generator=seeded(seed))
    assert x.shape == (n, steps, 2) and y.shape == (n, 1)
    for sequence, answer in zip(x.tolist(), y[:, 0].tolist(), strict=True):
        marked = [t for t, (_, mark) in enumerate(sequence) if mark == 1]
        assert len(marked) == 2 and marked[0] < steps // 2 <= marked[1]
        assert math.isclose(answer, sum(sequence[t][0] for t in marked), rel_tol=1e-6)
        assert all(0 <= value < 1 and mark in (0, 1) for value, mark in sequence)


def test_forgetting_the_first_value_costs_a_twelfth_and_guessing_a_sixth():
    x, y = adding_problem(20_000, 7, generator=seeded(0))
    y = y.double()
    second = (x[:, 3:, 0] * x[:, 3:, 1]).sum(1, keepdim=True).double()
    assert math.isclose(((y - 1) ** 2).mean(), 1 / 6, rel_tol=0.03)
    assert math.isclose(((y - second - 0.5) ** 2).mean(), 1 / 12, rel_tol=0.03)


def test_every_step_is_marked_about_as_often_as_any_other_of_its_half():
    x, _ = adding_problem(12_000, 6, generator=seeded(0))
    assert torch.allclose(x[..., 1].mean(0), torch.full((6,), 1 / 3), atol=0.02)
