"""The generic explorer in JupyterLab: what it draws, how it is steered, who can read it."""

import re
import statistics
from pathlib import Path

import numpy as np
import pytest

from course_utils.explorers.number_format import format_number

SHOWN, SHOWN_AGAIN = 1, 2  # cells of the demo notebook
SCRIPT = Path(__file__).parents[2] / "course_utils" / "explorers" / "grid.js"

# Where the tick labels stand, in pixels of the panel, and what they say.
TICKS = """(panel) => [...panel.querySelectorAll('.cu-tick')].map((t) => ({
  text: t.textContent, anchor: t.getAttribute('text-anchor'),
  x: Number(t.getAttribute('x')), y: Number(t.getAttribute('y')) }))"""

# Text and background color of every word in an explorer, as [r, g, b, a] each.
COLORS = """(root) => {
  const rgba = (css) => { const c = document.createElement('canvas').getContext('2d');
    c.clearRect(0, 0, 1, 1); c.fillStyle = css; c.fillRect(0, 0, 1, 1);
    return [...c.getImageData(0, 0, 1, 1).data].map((v, i) => i === 3 ? v / 255 : v); };
  const background = rgba(getComputedStyle(root).backgroundColor);
  const words = [...root.querySelectorAll('*')].filter((n) =>
    [...n.childNodes].some((c) => c.nodeType === Node.TEXT_NODE && c.textContent.trim()));
  return words.map((n) => ({ text: n.textContent, background, color: rgba(
    n instanceof SVGElement ? getComputedStyle(n).fill : getComputedStyle(n).color) }));
}"""

BOXES = """(root) => [...root.querySelectorAll('.cu-panel svg text, .cu-panel-title, .cu-ylabel,'
  + '.cu-xlabel, .cu-legend-entry, .cu-control-label, .cu-control-value, .cu-readout')]
  .filter((n) => getComputedStyle(n).visibility === 'visible')
  .map((n) => { const b = n.getBoundingClientRect();
    return { text: n.textContent, kind: n.getAttribute('class'), panel:
      [...root.querySelectorAll('.cu-panel')].indexOf(n.closest('.cu-panel')),
      left: b.left, right: b.right, top: b.top, bottom: b.bottom }; })"""


@pytest.fixture
def explorer(demo):
    """The first view of the demo explorer, every slider at its first value."""
    explorer = demo.explorer(SHOWN)
    for slider in explorer.sliders:
        explorer.press(slider, "Home")
    return explorer


def vertices(path: str) -> np.ndarray:
    return np.array(
        [[float(a), float(b)] for a, b in re.findall(r"[ML](\S+?) (\S+?)(?=[MLz]|$)", path)]
    )


def number(text: str) -> float:
    text = text.replace("−", "-")
    power = re.fullmatch(r"(?:([\d.-]+)×)?10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", text)
    if not power:
        return float(text)
    exponent = power[2].translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    return float(power[1] or 1) * 10.0 ** int(exponent)


def units(panel, log_y: bool = False):
    """From pixels to the values that the tick labels say."""
    ticks = panel.evaluate(TICKS)
    x = [(t["x"], number(t["text"])) for t in ticks if t["anchor"] == "middle"]
    y = [(t["y"], number(t["text"])) for t in ticks if t["anchor"] == "end"]
    assert len(x) >= 2 and len(y) >= 2
    fit_x = np.polyfit(*np.array(x).T, 1)
    pixels, values = np.array(y).T
    fit_y = np.polyfit(pixels, np.log10(values) if log_y else values, 1)

    def convert(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value = np.polyval(fit_y, points[:, 1])
        return np.polyval(fit_x, points[:, 0]), 10**value if log_y else value

    return convert


def test_the_line_is_the_data_of_the_setting_and_nan_breaks_it(explorer):
    explorer.press(explorer.slider("first"), "ArrowRight")
    for _ in range(3):
        explorer.press(explorer.slider("lr"), "ArrowRight")  # to η = 0.4, first weight 3
    panel = explorer.root.locator(".cu-panel").first
    path = panel.locator(".cu-marks path").first.get_attribute("d")
    step, weight = units(panel)(vertices(path))
    expected = np.array([t for t in range(31) if t not in (10, 20)])
    np.testing.assert_allclose(step, expected, atol=0.02)
    np.testing.assert_allclose(weight, 3 * 0.6**expected, atol=0.01)
    assert path.count("M") == 3


def test_a_log_axis_holds_the_data_and_marks_zeros_on_its_lower_edge(explorer):
    explorer.press(explorer.slider("lr"), "End")  # η = 2.4: the loss grows, ends at ½ 1.4⁶⁰
    panel = explorer.root.locator(".cu-panel").nth(1)
    line, zeros = panel.locator(".cu-marks path").all()
    step, loss = units(panel, log_y=True)(vertices(line.get_attribute("d")))
    np.testing.assert_allclose(np.log10(loss), np.log10(0.5 * 1.4 ** (2 * step)), atol=0.05)
    assert step[-1] == pytest.approx(30, abs=0.02)
    assert zeros.get_attribute("d") == ""
    explorer.press(explorer.slider("first"), "End")  # starts at the minimum: the loss is 0
    assert line.get_attribute("d") == ""
    assert zeros.get_attribute("d").count("M") == 31


def test_arrow_home_end_and_page_keys_move_the_slider_and_leave_the_notebook_alone(demo, explorer):
    slider = explorer.slider("lr")
    for key, position in (
        ("ArrowRight", 1),
        ("ArrowUp", 2),
        ("ArrowLeft", 1),
        ("ArrowDown", 0),
        ("End", 6),
        ("PageDown", 5),
        ("PageUp", 6),
        ("Home", 0),
    ):
        explorer.press(slider, key)
        assert int(slider.input_value()) == position, key
        active = "() => jupyterapp.shell.currentWidget.content.activeCellIndex"
        assert demo.page.evaluate(active) == SHOWN, key


def test_the_mouse_drags_the_slider_and_the_picture_follows(explorer):
    slider = explorer.slider("lr")
    before = explorer.drawing()
    explorer.drag(slider, 0.5)
    assert int(slider.input_value()) == 3
    halfway = explorer.drawing()
    explorer.drag(slider, 1.0)
    assert int(slider.input_value()) == 6
    assert before != halfway != explorer.drawing() != before


def test_a_slider_redraws_only_what_depends_on_it(explorer):
    static = explorer.root.locator(".cu-panel").first.locator(".cu-marks path").nth(2)
    watch = """(node) => { window.__touched = 0; new MutationObserver((list) => {
      window.__touched += list.length; }).observe(node, { attributes: true }); }"""
    static.evaluate(watch)
    before = explorer.drawing()
    explorer.press(explorer.slider("lr"), "ArrowRight")
    assert explorer.drawing() != before
    assert explorer.page.evaluate("window.__touched") == 0


def test_key_press_to_changed_picture_takes_a_frame_at_most(explorer):
    rounds = []
    for _ in range(3):  # a busy machine gets another try
        times = sorted(explorer.latencies(explorer.slider("lr")))
        assert len(times) == 20
        rounds.append((statistics.median(times), times[18]))
        if rounds[-1][0] <= 16 and rounds[-1][1] <= 50:
            break
    print("demo: " + ", ".join(f"median {m:.1f} ms, p95 {p:.1f} ms" for m, p in rounds))
    assert rounds[-1][0] <= 16 and rounds[-1][1] <= 50, rounds


def test_every_control_and_picture_says_what_it_is(explorer):
    assert explorer.root.get_attribute("role") == "group"
    assert explorer.root.get_attribute("aria-label") == "Descend a parabola"
    for slider, label in zip(explorer.sliders, ("learning rate η", "first weight"), strict=True):
        assert slider.get_attribute("aria-label") == label
        assert slider.get_attribute("data-lm-suppress-shortcuts") == "true"
        name = slider.get_attribute("id")
        assert explorer.root.locator(f'label[for="{name}"]').text_content() == label
    explorer.press(explorer.slider("lr"), "ArrowRight")
    assert explorer.slider("lr").get_attribute("aria-valuetext") == "0.1"
    assert explorer.slider("first").get_attribute("aria-valuetext") == "near"
    shown = explorer.root.locator(".cu-control-value").all_text_contents()
    assert shown == ["0.1", "near"]
    loss = format_number(0.5 * 0.9**60, ".3g")
    pictures = explorer.root.locator("svg[role=img]")
    assert pictures.count() == 4
    for picture in pictures.all():
        said = picture.get_attribute("aria-label")
        assert f"learning rate η = 0.1, first weight = near. loss after 30 steps: {loss}" in said
    assert explorer.root.locator(".cu-readouts").get_attribute("role") == "status"
    assert explorer.root.locator(".cu-readout-value").all_text_contents() == [loss, "1"]


def test_a_cell_below_reads_where_the_learner_left_the_sliders(demo, explorer):
    explorer.press(explorer.slider("lr"), "End")
    explorer.drag(explorer.slider("first"), 1.0)
    demo.page.wait_for_timeout(100)
    assert demo.run_code("print(explorer.lr, explorer.values)") == (
        "2.4 {'lr': 2.4, 'first': 'at the minimum'}\n"
    )


def test_python_moves_the_slider_in_every_view_and_refuses_what_lies_between(demo, explorer):
    again = demo.explorer(SHOWN_AGAIN)
    demo.run_code("explorer.lr = 0.4; explorer.first = 'far'")
    for view in (explorer, again):
        slider = view.slider("lr")
        view.page.wait_for_function(
            "(s) => s.getAttribute('aria-valuetext') === '0.4'", arg=slider.element_handle()
        )
        assert slider.input_value() == "3"
        assert view.slider("first").input_value() == "1"
    assert explorer.drawing() == again.drawing()
    refused = demo.run_code("explorer.lr = 0.3")
    assert refused.startswith("ValueError: lr=0.3 is no position of this slider")
    assert "The nearest is 0.2" in refused or "The nearest is 0.4" in refused


def test_two_views_of_one_explorer_move_together(demo, explorer):
    again = demo.explorer(SHOWN_AGAIN)
    before = explorer.drawing()
    again.press(again.slider("lr"), "ArrowRight")
    assert explorer.slider("lr").input_value() == again.slider("lr").input_value() == "1"
    assert explorer.drawing() == again.drawing() != before


def relative_luminance(rgb) -> float:
    """WCAG 2.2, definition of relative luminance."""
    c = np.asarray(rgb) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_every_word_stands_out_from_its_background(demo, theme):
    change = "(theme) => jupyterapp.commands.execute('apputils:change-theme', { theme })"
    try:
        demo.page.evaluate(change, theme)
        light = "true" if theme.endswith("Light") else "false"
        demo.page.wait_for_function(
            "(light) => document.body.dataset.jpThemeLight === light", arg=light
        )
        explorer = demo.explorer(SHOWN)
        words = explorer.root.evaluate(COLORS)
        assert len(words) > 40
        for word in words:
            under, over = np.array(word["background"]), np.array(word["color"])
            assert under[3] == 1, "the explorer paints its own background"
            color = over[3] * over[:3] + (1 - over[3]) * under[:3]
            lights = sorted(map(relative_luminance, (color, under[:3])))
            contrast = (lights[1] + 0.05) / (lights[0] + 0.05)
            assert contrast >= 4.5, f"{word['text']!r} has {contrast:.1f} in {theme}"
        assert (relative_luminance(words[0]["background"][:3]) > 0.5) == (light == "true")
    finally:
        demo.page.evaluate(change, "JupyterLab Light")


@pytest.mark.parametrize("width", [480, 800, 1400])
def test_no_label_is_cut_or_covers_another_at_any_width(demo, width):
    try:
        demo.page.set_viewport_size({"width": width, "height": 900})
        demo.page.evaluate("() => jupyterapp.shell.collapseLeft()")
        explorer = demo.explorer(SHOWN)
        demo.page.wait_for_timeout(300)
        outer = explorer.root.bounding_box()
        boxes = explorer.root.evaluate(BOXES)
        assert len(boxes) > 40
        for box in boxes:
            assert box["left"] >= outer["x"] - 1, box
            assert box["right"] <= outer["x"] + outer["width"] + 1, box
        rows = explorer.root.evaluate(
            "(r) => new Set([...r.querySelectorAll('.cu-panel')].map((p) => p.offsetTop)).size"
        )
        assert rows == {480: 4, 800: 2, 1400: 2}[width]
        upright = [b for b in boxes if b["kind"] != "cu-tick" or b["text"] not in BAR_NAMES]
        for i, a in enumerate(upright):
            for b in upright[:i]:
                apart = (
                    a["left"] >= b["right"] - 0.5
                    or b["left"] >= a["right"] - 0.5
                    or a["top"] >= b["bottom"] - 3
                    or b["top"] >= a["bottom"] - 3
                )
                assert apart, (a, b)
    finally:
        demo.page.set_viewport_size({"width": 1400, "height": 900})


BAR_NAMES = ("weight at the end", "loss at the end", "one")


def test_numbers_read_the_same_in_the_browser_and_in_python(demo):
    generator = np.random.default_rng(0)
    values = generator.normal(size=400) * 10.0 ** generator.integers(-12, 7, size=400)
    edges = [0.0, -0.0, 1.0, -1.0, 1e-5, 0.0001, 99999.5, 123456.0, 9e14, 1e15, -1e21, 1e300]
    values = [*edges, *values.tolist()]  # no exact halves: Python rounds them to even
    formats = [".3g", "g", ".1f", ".2f", ".0f", "d", ".2e", ".1%", "+.3g", ",.1f", "+,d", ".1g"]
    source = SCRIPT.read_text(encoding="utf-8")
    asked = """async ([source, values, formats]) => {
      const url = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }));
      const { formatNumber } = await import(url);
      const every = [...values, NaN, Infinity, -Infinity];
      return formats.map((format) => every.map((value) => formatNumber(value, format)));
    }"""
    answers = demo.page.evaluate(asked, [source, values, formats])
    every = [*values, float("nan"), float("inf"), float("-inf")]
    for spec, answer in zip(formats, answers, strict=True):
        for value, text in zip(every, answer, strict=True):
            assert text == format_number(value, spec), (value, spec)


def test_a_finger_moves_the_slider(fresh_demo):
    explorer = fresh_demo.explorer(SHOWN)
    slider = explorer.slider("lr")
    before = explorer.drawing()
    box = slider.bounding_box()
    explorer.page.touchscreen.tap(box["x"] + box["width"] - 10, box["y"] + box["height"] / 2)
    assert slider.input_value() == "6"
    assert explorer.drawing() != before


def test_the_explorer_moves_on_when_its_kernel_is_gone(fresh_demo):
    explorer = fresh_demo.explorer(SHOWN)
    explorer.press(explorer.slider("lr"), "Home")
    fresh_demo.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    before = explorer.drawing()
    explorer.press(explorer.slider("lr"), "ArrowRight")
    assert explorer.slider("lr").input_value() == "1"
    assert explorer.drawing() != before
    assert not [problem for problem in fresh_demo.problems if problem.startswith("page")]


def test_closing_a_view_leaves_no_listener_behind(fresh_demo):
    explorer = fresh_demo.explorer(SHOWN)
    fresh_demo.run_code("explorer.close()")
    explorer.root.wait_for(state="detached")
    assert fresh_demo.page.locator(".cu-explorer").count() == 0
    assert fresh_demo.problems == []
