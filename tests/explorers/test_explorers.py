"""The generic explorer without a browser: what it packs, refuses, remembers and draws as a PNG.

The oracles are the arrays handed in, Python's own number formats, and struct and json, which read
what travels to the browser. How it looks and moves there is tested in tests/browser.
"""

import base64
import inspect
import io
import json
import math
import re
import struct
from dataclasses import FrozenInstanceError, replace
from itertools import pairwise
from pathlib import Path

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from course_utils import explorers
from course_utils.explorers import Bars, GridExplorer, Line, Panel, Points, Readout, Slider, Text
from course_utils.explorers.browser_data import MAX_BYTES, pack
from course_utils.explorers.number_format import format_number
from course_utils.explorers.picture import figure
from course_utils.plots import COLORS

ROOM = Path(explorers.__file__).parent
CASES = Path(__file__).parents[1] / "browser" / "number_format.json"
MADE = [name for name in explorers.__all__ if name.endswith("_explorer")]
MADE.remove("record_explorer")  # shows a record of yours: no notebook's, with its own tests
LR = Slider("lr", "learning rate η", (0.1, 0.2, 0.4))
MODE = Slider("mode", "norm", ("none", "batch"))
X = np.arange(5.0)
DOTS = Points(X, X)


def packed(*marks, sliders=(LR, MODE), readouts=(), title="Title", **panel):
    """An explorer of one panel, packed."""
    panel = {"title": "panel", "xlabel": "x", "ylabel": "y", "marks": marks or (DOTS,)} | panel
    return pack(title, sliders, [Panel(**panel)], readouts)


def whole(sliders=(LR, MODE), marks=(DOTS,), readouts=(), **panel):
    """An explorer of one panel, with what is to be different."""
    return GridExplorer("Title", sliders, [Panel("panel", "x", "y", marks, **panel)], readouts)


def refs(node):
    """Every reference into the block of bytes, wherever it stands in the description."""
    if isinstance(node, dict):
        if "offset" in node:
            yield node
        for value in node.values():
            yield from refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from refs(value)


def unpacked(result, ref):
    """The whole array behind a reference, read by struct as a browser would."""
    count = math.prod(ref["grid"]) * ref["points"]
    kind = {"f4": "f", "f8": "d"}[ref["type"]]
    values = struct.unpack_from(f"<{count}{kind}", result.data, ref["offset"])
    return np.array(values).reshape(*ref["grid"], ref["points"])


# Numbers as words


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["g", ".3g", ".1g", ".0e", ".4e", "+.3g", "+.2e"]),
)
def test_a_number_reads_back_as_what_python_writes(value, spec):
    text = format_number(value, spec)
    assert "-" not in text and "e" not in text
    plain = re.sub(r"×10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", lambda m: "e" + m[1], text).replace("−", "-")
    plain = plain.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    assert float(plain) == float(format(value, spec))
    assert plain.startswith("+") == format(value, spec).startswith("+")


@given(st.floats(-9e14, 9e14), st.sampled_from([".0f", ".2f", ",.1f", "+.3f", ".1%", "f"]))
def test_a_decimal_is_that_of_python_with_a_real_minus(value, spec):
    if "%" in spec:
        value /= 1e3
    assert format_number(value, spec) == format(value, spec).replace("-", "−")


@pytest.mark.parametrize(("value", "spec", "text"), json.loads(CASES.read_text("utf-8")))
def test_numbers_read_as_in_the_table_that_the_tests_of_the_script_read_too(value, spec, text):
    assert format_number(float(value), spec) == text


@pytest.mark.parametrize("spec", ["", "x", ".3", "3g", ".3s", "%%", ".123f", " .3g", "{:.3g}", 3])
def test_a_format_that_the_browser_does_not_know_is_refused(spec):
    with pytest.raises(ValueError, match=r"format=.*'\.3g'"):
        format_number(1.0, spec)


# What travels to the browser


SHAPES = st.tuples(*(st.sampled_from((1, n)) for n in (3, 2)), st.integers(1, 7))


@given(SHAPES, SHAPES, st.integers(0, 2**32 - 1))
def test_every_setting_gets_the_points_that_were_measured_there(shape_x, shape_y, seed):
    generator = np.random.default_rng(seed)
    shape_y = (*shape_y[:-1], shape_x[-1])
    x, y = generator.normal(size=shape_x), generator.normal(size=shape_y)
    figures = generator.normal(size=(3, 1))
    result = packed(Line(x, y), readouts=[Readout("r", figures)])
    mark = result.spec["panels"][0]["marks"][0]
    grid = (3, 2, shape_x[-1])
    for i in range(3):
        for j in range(2):
            for name, array in (("x", x), ("y", y)):
                expected = np.broadcast_to(array, grid)[i, j].astype(np.float32)
                np.testing.assert_array_equal(result.array(mark[name], (i, j)), expected)
            readout = result.spec["readouts"][0]["values"]
            assert result.array(readout, (i, j)) == figures[i, 0]
    np.testing.assert_array_equal(unpacked(result, mark["y"]), y.astype(np.float32))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_arrays_lie_one_after_the_other_where_a_browser_can_read_them(lengths):
    marks = [Points(np.zeros(n), np.zeros((3, 2, n))) for n in lengths]
    result = packed(*marks, readouts=[Readout("r", np.zeros((3, 2)))])
    end = 0
    for ref in refs(result.spec):
        size = {"f4": 4, "f8": 8}[ref["type"]]
        assert ref["offset"] % 8 == 0  # a Float64Array may begin nowhere else
        assert end <= ref["offset"] < end + 8
        end = ref["offset"] + size * math.prod(ref["grid"]) * ref["points"]
    assert end == len(result.data)


@pytest.mark.parametrize("extreme", [1e300, -1e39, 1e-300, 3e-39, -5e-324, 3e38])
def test_only_what_a_float32_would_lose_travels_as_float64(extreme):
    y = np.array([1.0, extreme, np.nan, 0.0, np.inf, -np.inf])
    result = packed(Line(np.arange(6.0), y))
    ref = result.spec["panels"][0]["marks"][0]["y"]
    assert ref["type"] == ("f4" if extreme == 3e38 else "f8")
    np.testing.assert_array_equal(unpacked(result, ref)[0, 0], y.astype(ref["type"]))


def test_printed_numbers_keep_all_their_digits():
    third = np.full((3, 2, 5), 1 / 3)
    result = packed(Text(X, X, third), readouts=[Readout("r", third[..., 0])])
    text, readout = result.spec["panels"][0]["marks"][0], result.spec["readouts"][0]
    assert result.array(text["numbers"], (2, 1))[0] == 1 / 3
    assert result.array(readout["values"], (0, 1))[0] == 1 / 3


def test_the_description_is_json_though_the_data_are_not_finite():
    y = np.array([np.nan, np.inf, 1.0, -np.inf, 2.0])
    result = packed(Line(X, y), Points(X, y), readouts=[Readout("r", np.array(np.nan))])
    spec = json.loads(json.dumps(result.spec, allow_nan=False))
    assert spec == result.spec
    assert result.shown([0, 0])[1] == ["r: NaN"]


@pytest.mark.parametrize(
    "array",
    [
        torch.arange(5.0, requires_grad=True),
        torch.arange(5),
        torch.arange(5, dtype=torch.bfloat16),
        [0, 1, 2, 3, 4],
        range(5),
        np.arange(5, dtype=np.uint8),
    ],
    ids=lambda array: str(getattr(array, "dtype", type(array).__name__)),
)
def test_arrays_come_from_torch_numpy_or_lists(array):
    result = packed(Line(array, array))
    np.testing.assert_array_equal(
        result.array(result.spec["panels"][0]["marks"][0]["y"], (0, 0)), np.arange(5.0)
    )


def test_one_megabyte_is_the_limit_and_the_error_names_what_is_largest():
    assert MAX_BYTES == 1_000_000
    y = np.zeros((3, 2, 50_000))
    with pytest.raises(ValueError, match=r"1,400,000 bytes.*1,000,000.*marks\[0\]\.y 1,200,000"):
        packed(Line(np.zeros(50_000), y))
    half = np.zeros(125_000)  # of 4 bytes each
    assert len(packed(Line(half, half)).data) == MAX_BYTES
    with pytest.raises(ValueError, match="1,000,0"):
        packed(Line(np.zeros(125_001), np.zeros(125_001)))


# Limits of the axes


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9))
def test_automatic_limits_hold_every_point_of_every_setting(values):
    y = np.array(values)
    low, high = packed(Line(np.arange(len(y)), y)).spec["panels"][0]["ylim"]
    assert low < y.min() and y.max() < high
    assert high - low <= 1.0801 * np.ptp(y) or np.ptp(y) == 0 or high - low <= 1.2


def test_automatic_limits_come_from_all_settings_and_not_from_the_first():
    y = np.zeros((3, 2, 5))
    y[2, 1, 4] = 100
    low, high = packed(Line(X, y)).spec["panels"][0]["ylim"]
    assert low < 0 and 100 < high < 110


@pytest.mark.parametrize(
    ("y", "lows", "highs"),
    [
        ([0.0, -3.0, 1e-8, 1e4, np.nan], (1e-9, 1e-8), (1e4, 1e5)),
        ([1e-308, 1.0, 1e308, 1.0, 1.0], (0, 1), (1, np.inf)),
    ],
)
def test_a_log_axis_takes_its_limits_from_what_is_positive(y, lows, highs):
    low, high = packed(Line(X, y), yscale="log").spec["panels"][0]["ylim"]
    assert lows[0] < low < lows[1] and highs[0] < high < highs[1]


@pytest.mark.parametrize(("sign", "inside"), [(1, (0.0, 4.16)), (-1, (-4.16, 0.0))])
def test_bars_stand_on_zero_and_leave_room_at_the_sides(sign, inside):
    heights = sign * np.array([1.0, 4.0, 2.0])
    panel = packed(Bars(("a", "b", "c"), heights)).spec["panels"][0]
    assert panel["xlim"] == [-0.6, 2.6]
    assert panel["ylim"] == pytest.approx(inside)


def test_limits_that_are_given_are_kept():
    panel = packed(xlim=(-3, 7), ylim=(1, np.float32(2.5)), yscale="log").spec["panels"][0]
    assert panel["xlim"] == [-3.0, 7.0] and panel["ylim"] == [1.0, 2.5]


# What is refused


def lr(**change):
    return whole(sliders=[replace(LR, **change)])


def line(y, x=X, **panel):
    return whole(marks=(Line(x, y),), **panel)


def text(said, **look):
    return whole(marks=(Text(X, X, said, **look),))


def bars(*names, height=X[:2], **panel):
    return whole(marks=tuple(Bars(each, height) for each in names), **panel)


TWO = ("a", "b")
WRONG = {
    "no slider": (lambda: whole(sliders=()), "sliders is empty"),
    "a slider instead of a list": (lambda: whole(sliders=LR), r"sliders=Slider.*list of Slider"),
    "a word among the sliders": (lambda: whole(sliders=["lr"]), r"sliders\[0\]='lr'.*of Slider"),
    "sliders that are a number": (lambda: whole(sliders=3), "sliders=3"),
    "a name that is no identifier": (lambda: lr(name="learning rate"), "identifier"),
    "a name that is a keyword": (lambda: lr(name="lambda"), "identifier"),
    "a name twice": (lambda: whole(sliders=[LR, replace(MODE, name="lr")]), "the same name"),
    "a private name": (lambda: lr(name="_lr"), "'lr_value'"),
    "a single value": (lambda: lr(values=(1.0,)), "at least two"),
    "one word as values": (lambda: lr(values="ab"), "values='ab' must be a list"),
    "words and numbers": (lambda: lr(values=("a", 1.0)), "at least two strings"),
    "truth values": (lambda: lr(values=(True, False)), "finite numbers"),
    "values that are no list": (lambda: lr(values=3), "not iterable"),
    "a slider at NaN": (lambda: lr(values=(0.1, math.nan)), "finite"),
    "a value twice": (lambda: lr(values=(1, 2, 1)), "shown as '1'. Leave one out"),
    "start beyond the end": (lambda: lr(start=3), r"start=3.*0 to 2"),
    "start from the end": (lambda: lr(start=-1), "start=-1"),
    "start that is a value": (lambda: lr(start=0.1), "index of a value"),
    "start that is True": (lambda: lr(start=True), "index of a value"),
    "two values that look the same": (lambda: lr(values=(1.0, 1.0001)), "'1'.*more digits"),
    "an unknown format": (lambda: lr(format="%.3f"), "format='%.3f'"),
    "no mark": (lambda: whole(marks=()), "marks is empty"),
    "a mark instead of a tuple": (lambda: whole(marks=DOTS), r"marks=Points.*\(only,\)"),
    "marks that are a number": (lambda: whole(marks=3), "marks=3"),
    "an array among the marks": (lambda: whole(marks=(X,)), r"(?s)marks\[0\].*Line or .* or Text"),
    "an axis too many": (lambda: line(np.zeros((3, 2, 1, 5))), r"\(3, 2, 1, 5\)"),
    "an axis too few": (lambda: line(np.zeros((3, 5))), r"3 \(lr\) or 1, 2 \(mode\) or 1"),
    "axes of the wrong length": (lambda: line(np.zeros((2, 3, 5))), "not fit"),
    "no points": (lambda: line(np.zeros(0), np.zeros(0)), "is empty"),
    "x and y of other lengths": (lambda: line(X[:4]), "5 points and y has 4"),
    "complex positions": (lambda: line(1j * X), r"marks\[0\]\.y.*real numbers"),
    "words as positions": (lambda: line(list("abcde")), "real numbers"),
    "nested lists of other lengths": (lambda: line([[1], [1, 2]]), "inhomogen"),
    "a color that is not there": (lambda: replace(DOTS, color=7), r"color=7.*0 to 6"),
    "a color by name": (lambda: replace(DOTS, color="red"), "index into the palette"),
    "an unknown dash": (lambda: Line(X, X, dash="--"), "solid, dashed, dotted"),
    "a line without width": (lambda: Line(X, X, width=0), "width=0"),
    "points of infinite size": (lambda: replace(DOTS, size=math.inf), "size=inf"),
    "a size that is True": (lambda: replace(DOTS, size=True), "size=True"),
    "an unknown scale": (lambda: whole(yscale="symlog"), "yscale='symlog'.*linear, log"),
    "equal units on a log axis": (lambda: whole(yscale="log", equal=True), "=True needs linear"),
    "a log axis without positives": (lambda: line(-X, yscale="log"), "is positive.*set .*ylim"),
    "an axis without a finite value": (lambda: line(X * np.nan), "finite; set"),
    "limits the wrong way round": (lambda: whole(ylim=(2, 1)), "lower number first"),
    "limits that are equal": (lambda: whole(ylim=(1, 1)), "lower number first"),
    "one limit": (lambda: whole(ylim=(1,)), "two numbers"),
    "a limit at NaN": (lambda: whole(ylim=(0, math.nan)), "ylim=nan.*finite"),
    "a log limit at zero": (lambda: whole(ylim=(0, 1), yscale="log"), "above 0 on a log axis"),
    "bars without a name": (lambda: bars(TWO, height=np.zeros(3)), "2 entries for 3"),
    "bars with one word": (lambda: bars("ab"), "names='ab' must be a list of str"),
    "bars of other names": (lambda: bars(TWO, ("a", "c")), "the same names"),
    "bars on a log axis": (lambda: bars(TWO, xscale="log"), "cannot hold"),
    "words for other positions": (lambda: text(TWO), "2 entries for 5"),
    "numbers for other positions": (lambda: text(X[:2]), "2 entries for 5"),
    "prefixes for other positions": (lambda: text(X, prefix=("a",)), "1 entries for 5"),
    "an unknown anchor": (lambda: Text(X, X, X, anchor="left"), "start, middle, end"),
    "a text of unknown format": (lambda: Text(X, X, X, format="x"), "format='x'"),
    "a readout with an axis too many": (
        lambda: whole(readouts=[Readout("r", np.zeros((3, 2, 5)))]),
        r"\(3, 2, 5\).*or \(\) where",
    ),
    "a readout of unknown format": (lambda: Readout("r", 1.0, "x"), "format='x'"),
}


@pytest.mark.parametrize(("build", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_description_is_an_error_that_says_what_is_wrong(build, said):
    with pytest.raises((ValueError, TypeError), match=said):
        build()


@pytest.mark.parametrize("name", ["values", "comm", "keys", "layout", "observe", "nbytes", "send"])
def test_a_slider_cannot_take_the_name_of_what_the_explorer_has(name):
    with pytest.raises(ValueError, match=f"{name}.*every explorer has already"):
        whole([replace(LR, name=name)])


@pytest.mark.parametrize(
    "part",
    [
        LR,
        Line(X, X),
        DOTS,
        Bars(TWO, X[:2]),
        Text(X, X, X),
        Panel("panel", "x", "y", (DOTS,)),
        Readout("r", X),
    ],
    ids=lambda part: type(part).__name__,
)
def test_what_an_explorer_is_made_of_is_frozen(part):
    with pytest.raises(FrozenInstanceError):
        part.label = "other"


# Sliders as attributes


def test_a_slider_starts_where_it_was_told_and_moves_where_it_is_set():
    e = whole([replace(LR, start=1), MODE])
    assert e.values == {"lr": 0.2, "mode": "none"}
    e.lr, e.mode = 0.4, "batch"
    assert (e.lr, e.mode, e.values) == (0.4, "batch", {"lr": 0.4, "mode": "batch"})


@pytest.mark.parametrize(
    "value", [0.2, np.float32(0.2), np.float64(0.2), torch.tensor(0.2), np.array(0.2), 0.2000001]
)
def test_a_number_of_any_kind_sets_the_slider_to_its_own_value(value):
    e = whole()
    e.lr = value
    assert e.lr == 0.2 and type(e.lr) is float


def test_whole_numbers_stay_whole():
    for values in ((1, 2, 4), np.array([1, 2, 4]), torch.tensor([1, 2, 4])):
        e = whole([Slider("depth", "depth", values)])
        e.depth = 4.0
        assert e.depth == 4 and type(e.depth) is int


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("lr", 0.25, r"lr=0\.25.*nothing is interpolated.*0\.1, 0\.2, 0\.4.*nearest is 0\.2"),
        *(
            ("lr", value, r"finite number.*choose one of 0\.1, 0\.2, 0\.4")
            for value in (math.nan, True, "0.1", None, np.array([0.1, 0.2]), math.inf)
        ),
        ("mode", "bath", "did you mean 'batch'.*none, batch"),
        ("mode", 0, "Known: none, batch"),
    ],
)
def test_a_value_between_or_beside_the_positions_is_refused_and_nothing_moves(name, value, said):
    e = whole()
    with pytest.raises(ValueError, match=said):
        setattr(e, name, value)
    assert e.values == {"lr": 0.1, "mode": "none"}


def test_many_positions_are_shortened_in_the_message():
    e = whole([Slider("lr", "η", np.linspace(0, 1, 101), format=".2f")])
    with pytest.raises(ValueError, match=r"0, 0\.01, 0\.02, 0\.03, …, 0\.99, 1\. The nearest"):
        e.lr = 0.005


def test_the_browser_speaks_of_indices_and_python_of_values():
    e = whole()
    heard = []
    e.observe(lambda change: heard.append((change.old, change.new)), "lr")
    e.set_state({"lr": 2})
    assert e.lr == 0.4 and heard == [(0.1, 0.4)]
    e.mode = "batch"
    assert {name: e.get_state()[name] for name in ("lr", "mode")} == {"lr": 2, "mode": 1}


@pytest.mark.parametrize("index", [3, -1, 1.5, "1", None])
def test_an_index_that_is_none_of_the_slider_is_refused(index):
    e = whole()
    with pytest.raises(ValueError, match="lr: the browser sent index"):
        e.set_state({"lr": index})
    assert e.lr == 0.1


def test_explorers_do_not_share_their_sliders():
    one, two = whole(), whole([replace(LR, values=(5, 6))])
    one.lr, two.lr = 0.4, 6
    assert (one.lr, two.lr) == (0.4, 6)
    assert "mode" not in two.values and not hasattr(GridExplorer, "lr")


def test_the_bytes_that_travel_are_counted():
    e = whole(marks=(Line(np.zeros(7), np.zeros((3, 2, 7))),))
    assert e.nbytes == len(e.get_state()["_data"]) == 4 * 7 + 4 + 4 * 42


# The stored picture


def test_a_page_without_scripts_gets_a_picture_and_words_of_the_first_setting():
    after = np.array([[0.9, 0.8], [0.7, 0.6], [0.5, 0.25]])
    e = whole([replace(LR, start=2), replace(MODE, start=1)], readouts=[Readout("end", after)])
    data, _ = e._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"].splitlines() == [
        "Title",
        "learning rate η = 0.4",
        "norm = batch",
        "end: 0.25",
    ]
    pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(data["image/png"])), format="png")
    assert pixels.shape[0] > 300 and pixels.shape[1] > 400 and len(np.unique(pixels)) > 20
    e.lr = 0.1
    moved, _ = e._repr_mimebundle_()
    assert moved["image/png"] == data["image/png"] and moved["text/plain"] == data["text/plain"]


@pytest.fixture
def drawn():
    """A function from marks to the Axes of the picture at one setting."""
    before = plt.get_fignums()

    def draw(*marks, index=(1, 1), **panel):
        (ax,) = figure(packed(*marks, **panel), list(index)).axes
        return ax

    yield draw
    assert plt.get_fignums() == before, "the picture belongs to no window"


Y = np.arange(30.0).reshape(3, 2, 5) + 1


def test_the_picture_of_a_setting_has_the_line_of_that_setting(drawn):
    ax = drawn(Line(X, Y, color=3, dash="dotted"), index=(2, 1), yscale="log", ylim=(0.5, 40))
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xydata(), np.column_stack([X, Y[2, 1]]))
    assert to_hex(line.get_color()) == COLORS[3].lower() and line.get_linestyle() != "-"
    assert (ax.get_xlabel(), ax.get_yscale(), ax.get_ylim()) == ("x", "log", (0.5, 40))


def test_nan_and_infinity_break_a_line(drawn):
    y = np.array([1.0, np.nan, 3.0, np.inf, 5.0])
    np.testing.assert_array_equal(drawn(Line(X, y)).lines[0].get_ydata(), [1, np.nan, 3, np.nan, 5])


@pytest.mark.parametrize(
    "mark", [lambda y: Line(X, y), lambda y: Points(X, y), lambda y: Bars(tuple("abcde"), y)]
)
def test_zero_and_below_are_triangles_on_the_lower_edge_of_a_log_axis(drawn, mark):
    y = np.array([1.0, 0.0, 3.0, -2.0, 5.0])
    ax = drawn(mark(y), yscale="log", ylim=(0.1, 10))
    edge = next(line for line in ax.lines if line.get_marker() == "v")
    np.testing.assert_array_equal(edge.get_xydata(), [[1, 0.1], [3, 0.1]])


def test_points_are_hollow_when_asked(drawn):
    ax = drawn(Points(X, Y, hollow=True, size=10), index=(0, 1))
    (dots,) = ax.lines
    np.testing.assert_array_equal(dots.get_ydata(), Y[0, 1])
    assert dots.get_linestyle() == "None" and to_hex(dots.get_markerfacecolor()) == "#ffffff"


def test_bars_of_one_name_stand_side_by_side_with_the_name_under_them(drawn):
    heights = Y[..., :3]
    ax = drawn(Bars(("a", "b", "c"), heights), Bars(("a", "b", "c"), 2 * heights), index=(0, 1))
    assert [bar.get_height() for bar in ax.patches] == [*heights[0, 1], *(2 * heights[0, 1])]
    sides = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches)
    assert all(right <= left for (_, right), (left, _) in pairwise(sides))
    for i in range(3):
        pair = [side for side in sides if i - 0.5 < side[0] and side[1] < i + 0.5]
        assert len(pair) == 2 and np.mean(pair) == pytest.approx(i)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c"]


def test_words_follow_the_setting_and_nan_hides_them(drawn):
    x = np.array([0.0, 1.0, np.nan, 3.0, 4.0])
    ax = drawn(Text(x, X, Y, format=".1f", prefix=("y = ",) * 5), index=(1, 0))
    said = [text.get_text() for text in ax.texts if text.get_text().startswith("y = ")]
    assert said == [f"y = {value:.1f}" for value in Y[1, 0, [0, 1, 3, 4]]]


def test_labels_appear_once_in_the_legend_and_dollars_are_no_formula(drawn):
    ax = drawn(Line(X, X, "costs $3, not $4"), Points(X, X, "costs $3, not $4"), Line(X, -X))
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [r"costs \$3, not \$4"]
    ax.figure.canvas.draw()


def test_a_diagram_has_no_axes_and_equal_units(drawn):
    ax = drawn(Points(X, X), equal=True, axes=False)
    assert not ax.axison and ax.get_aspect() == 1.0


def test_the_picture_says_title_sliders_and_readouts():
    result = packed(title="What is $5?", readouts=[Readout("end", np.array(0.5))])
    said = "\n".join(text.get_text() for text in figure(result).texts)
    for part in (r"What is \$5?", "learning rate η = 0.1", "norm = none", "end: 0.5"):
        assert part in said


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (3, 3), (4, 2), (5, 3)])
def test_four_panels_fill_two_rows_of_two(count, columns):
    panels = [Panel(f"panel {i}", "x", "y", (DOTS,)) for i in range(count)]
    axes = figure(pack("Title", (LR, MODE), panels, ())).axes
    assert len({round(ax.get_position().x0, 6) for ax in axes}) == columns


STARTS = {
    "activations": {"activation": "sigmoid", "std": 1.0},
    "chain_rule": {"edge": "x → a", "weight": 1.5, "x": 0.5, "activation": "linear"},
    "clinic": {"activation": "relu", "depth": 30, "scale": 3**-0.5, "wiring": "nothing"},
    "clipping": {"weight": 4.5, "distance": 0.0, "lr": 0.1, "max_norm": 1.0},
    "eigenvalues": {"first": 0.9, "second": 0.8, "angle": 3.0},
    "gate": {"kind": "LSTM", "bias": 1.0, "variance": 1 / 3, "lag": 50},
    "gradient_descent": {"landscape": "valley (κ = 30)", "lr": 1.8, "momentum": 0.0},
    "initialization": {"activation": "tanh", "weight_std": 1.0, "bias_std": 0.0, "depth": 30},
    "normalization": {"norm": "batch", "depth": 50, "batch": 64, "scale": 1.0},
    "precision": {"format": "float16", "center": -26, "spread": 3.0, "log2_scale": 0},
    "residual": {"norm": "batch", "strength": 1.0, "depth": 50},
}


@pytest.mark.parametrize(("name", "start"), STARTS.items())
def test_every_explorer_is_below_a_megabyte_starts_as_said_and_covers_no_text(name, start):
    made = getattr(explorers, f"{name}_explorer")()
    assert made.nbytes <= MAX_BYTES and made.values == pytest.approx(start)
    drawn = figure(made._packed)
    drawn.canvas.draw()
    width, height = drawn.bbox.size
    boxes = [text.get_window_extent() for text in drawn.texts]
    boxes += [ax.get_tightbbox() for ax in drawn.axes]
    for i, box in enumerate(boxes):
        assert 0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
    for ax in drawn.axes:
        if ax.get_legend() and ax.axison:
            assert ax.get_legend().get_window_extent().y1 <= ax.xaxis.get_tightbbox().y0 + 1


# The component that draws in the browser


def test_the_component_loads_nothing_and_runs_no_text_as_code():
    script, sheet = (ROOM / "grid.js").read_text("utf-8"), (ROOM / "grid.css").read_text("utf-8")
    assert re.findall(r"https?://[^\"]*", script + sheet) == ["http://www.w3.org/2000/svg"]
    for word in ("import ", "import(", "fetch(", "eval(", "Function(", "innerHTML", "XMLHttp"):
        assert word not in script, word
    assert "@import" not in sheet and not re.search(r"url\(", sheet)


def test_page_and_picture_have_the_palette_of_the_figures():
    sheet = (ROOM / "grid.css").read_text("utf-8")
    light = sheet.split("}")[0]
    colors = re.findall(r"--cu-color-(\d): (#\w+);", light)
    assert [(int(i), color.upper()) for i, color in colors] == list(enumerate(COLORS))
    dark = sheet.split("}")[1]
    assert len(re.findall(r"--cu-color-\d:", dark)) == len(COLORS)
    assert len(re.findall(r"--cu-ink-\d:", light)) == len(re.findall(r"--cu-ink-\d:", dark)) == 7


def test_every_explorer_of_the_room_is_called_after_its_chapter_and_has_tests():
    defined = {
        path.stem for path in ROOM.glob("*.py") if f"def {path.stem}_explorer(" in path.read_text()
    } - {"record"}
    assert {name.removesuffix("_explorer") for name in MADE} == defined == set(STARTS)
    for name in MADE:
        assert Path(__file__).with_name(f"test_{name.removesuffix('_explorer')}.py").is_file()
        assert not inspect.signature(getattr(explorers, name)).parameters


def test_every_explorer_is_shown_in_one_notebook_and_every_chapter_shows_one():
    folder = Path(__file__).resolve().parents[2] / "notebooks"
    shown = {}
    for path in folder.glob("[0-9]*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        shown[path.stem] = re.findall(r"(\w+_explorer)\(\)", code)
    assert shown.pop("00_start_here") == []
    assert all(len(called) == 1 for called in shown.values()), shown
    assert sorted(name for (name,) in shown.values()) == sorted(MADE)
