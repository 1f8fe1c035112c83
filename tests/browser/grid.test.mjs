// What grid.js computes, without a browser: numbers, arrays, ticks and lines. The oracles are
// Python's number formats (number_format.json, read by both languages) and geometry by hand.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

// grid.js stands in no package that calls it a module, so its text is imported.
const read = (path) => readFileSync(new URL(path, import.meta.url), "utf-8");
const source = read("../../course_utils/explorers/grid.js");
const grid = await import(`data:text/javascript;base64,${Buffer.from(source).toString("base64")}`);

const PLOT = { left: 0, right: 100, top: 0, bottom: 100, x: (v) => v, y: (v) => v, logY: false };
const near = (found, wanted) => {
  assert.equal(found.length, wanted.length);
  found.forEach((v, i) => assert.ok(Math.abs(v - wanted[i]) < 1e-9, `${found} is not ${wanted}`));
};
const corners = (path) => [...path.matchAll(/[ML](\S+?) (\S+?)(?=[ML]|$)/g)].map((m) => [+m[1], +m[2]]);

test("numbers read as in the table that Python reads too", () => {
  const cases = JSON.parse(read("number_format.json"));
  assert.ok(cases.length > 20);
  for (const [value, format, text] of cases) {
    assert.equal(grid.formatNumber(Number(value), format), text, `${value} as ${format}`);
  }
});

test("a reader finds the points of every setting, whatever the array depends on", () => {
  const bytes = new Uint8Array(8 + 8 * 6);
  new Float64Array(bytes.buffer, 8).set([0, 1, 2, 3, 4, 5]);
  const at = grid.reader(new DataView(bytes.buffer), 2);
  const both = at({ offset: 8, type: "f8", grid: [3, 2], points: 1 });
  assert.deepEqual([...both.at([2, 1])], [5]);
  assert.deepEqual([both.follows(0), both.follows(1)], [true, true]);
  const second = at({ offset: 8, type: "f8", grid: [1, 2], points: 3 });
  assert.deepEqual([...second.at([2, 1])], [3, 4, 5]);
  assert.deepEqual([second.follows(0), second.follows(1)], [false, true]);
});

test("a reader takes single precision, and bytes that begin inside their buffer", () => {
  const buffer = new ArrayBuffer(20);
  new Float32Array(buffer, 8).set([1.5, -2, 3]);
  const at = grid.reader(new DataView(buffer, 8), 1);
  assert.deepEqual([...at({ offset: 0, type: "f4", grid: [3], points: 1 }).at([1])], [-2]);
});

test("a scale sends its limits to the ends and the middle to the middle", () => {
  const linear = grid.makeScale("linear", [-1, 3], 10, 50);
  near([linear(-1), linear(1), linear(3)], [10, 30, 50]);
  const log = grid.makeScale("log", [1e-2, 1e4], 60, 0);
  near([log(1e-2), log(10), log(1e4)], [60, 30, 0]);
  assert.ok(!Number.isFinite(log(0)) && Number.isNaN(log(-1)));
});

test("linear ticks are the multiples of a round step inside the limits", () => {
  for (const [low, high, count, values, labels] of [
    [0, 10, 5, [0, 2, 4, 6, 8, 10], ["0", "2", "4", "6", "8", "10"]],
    [-0.5, 1.05, 4, [-0.5, 0, 0.5, 1], ["−0.5", "0", "0.5", "1.0"]],
    [0, 1, 4, [0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.50", "0.75", "1.00"]],
    [0, 4e6, 4, [0, 1e6, 2e6, 3e6, 4e6], ["0", "1×10⁶", "2×10⁶", "3×10⁶", "4×10⁶"]],
  ]) {
    const ticks = grid.niceTicks(low, high, count);
    near(ticks.values, values);
    assert.deepEqual(ticks.labels, labels);
  }
});

test("linear ticks are evenly spaced, never outside, and no more than asked for by far", () => {
  for (let i = 0; i < 500; i++) {
    const low = Math.sin(i) * 10 ** ((i % 13) - 6);
    const high = low + (1 + (i % 7)) * 10 ** ((i % 11) - 5);
    const count = 2 + (i % 9);
    const { values, labels } = grid.niceTicks(low, high, count);
    const slack = 1e-6 * (high - low) + 1e-15 * Math.abs(low); // and the rounding of floats
    assert.ok(values.length >= 1 && values.length <= count + 1, `${low} ${high} ${values}`);
    assert.equal(labels.length, values.length);
    values.forEach((v) => assert.ok(v >= low - slack && v <= high + slack));
    const steps = values.slice(1).map((v, k) => v - values[k]);
    steps.forEach((step) => assert.ok(Math.abs(step - steps[0]) <= slack));
  }
});

test("log ticks are powers of ten, written as powers over a wide range", () => {
  const wide = grid.logTicks(1e-12, 1e12, 6);
  near(wide.values.map(Math.log10), [-12, -8, -4, 0, 4, 8, 12]);
  assert.deepEqual(wide.labels, ["10⁻¹²", "10⁻⁸", "10⁻⁴", "10⁰", "10⁴", "10⁸", "10¹²"]);
  assert.deepEqual(grid.logTicks(0.01, 100, 9).labels, ["0.01", "0.1", "1", "10", "100"]);
});

test("log ticks of a short range have 2 and 5, and linear ones step in where none would do", () => {
  assert.deepEqual(grid.logTicks(0.25, 15, 6).values, [0.5, 1, 2, 5, 10]);
  assert.deepEqual(grid.logTicks(2.1, 4.1, 4).labels, grid.niceTicks(2.1, 4.1, 4).labels);
});

test("ticks along x are thinned until their labels stand apart", () => {
  const measure = (label) => 9 * label.length;
  for (const width of [60, 150, 300, 900]) {
    const { labels } = grid.roomyTicks("linear", [0, 12000], width, measure);
    const widest = Math.max(...labels.map(measure));
    assert.ok(labels.length <= 2 || labels.length * (widest + 12) <= width + widest);
  }
});

test("a segment is cut at the box, and one outside is none", () => {
  const box = { left: 0, right: 10, top: 0, bottom: 10 };
  assert.deepEqual(grid.clipped(1, 2, 8, 9, box), [1, 2, 8, 9]);
  near(grid.clipped(-10, 5, 20, 5, box), [0, 5, 10, 5]);
  near(grid.clipped(-5, -5, 15, 15, box), [0, 0, 10, 10]);
  assert.equal(grid.clipped(-5, -1, 15, -1, box), null);
  assert.equal(grid.clipped(-5, 8, 3, 16, box), null);
});

test("a line goes through its points, and what is not finite breaks it", () => {
  const whole = grid.polyline([1, 2, 3], [10, 20, 15], PLOT);
  assert.deepEqual(corners(whole), [[1, 10], [2, 20], [3, 15]]);
  for (const gap of [NaN, Infinity]) {
    const broken = grid.polyline([1, 2, 3, 4, 5], [1, 2, gap, 4, 5], PLOT);
    assert.equal(broken.split("M").length - 1, 2);
    assert.deepEqual(corners(broken), [[1, 1], [2, 2], [4, 4], [5, 5]]);
  }
  assert.equal(grid.polyline([1], [1], PLOT), "");
});

test("a line that leaves by far is cut in its own direction and comes back", () => {
  const away = grid.polyline([50, 50 + 1e9, 50], [50, 50 + 1e9, 60], PLOT);
  const found = corners(away);
  found.flat().forEach((v) => assert.ok(Math.abs(v) <= 4100.5));
  assert.deepEqual(found[1], [4100, 4100]);
  assert.deepEqual(found.at(-1), [50, 60]);
  assert.equal(away.split("M").length - 1, 2);
});

test("markers stand inside the plot only, each color in a shape of its own", () => {
  const count = (path) => path.split("M").length - 1;
  assert.equal(count(grid.markers([5, 200, NaN, 50], [5, 5, 5, -3], PLOT, 0, 3)), 1);
  const shapes = [0, 1, 2, 3, 4, 5, 6].map((color) => grid.markers([50], [50], PLOT, color, 3));
  assert.equal(new Set(shapes).size, 7);
});

test("what a log axis cannot hold becomes a triangle on its lower edge", () => {
  const log = { ...PLOT, logY: true, y: grid.makeScale("log", [1, 100], 100, 0) };
  const path = grid.lowered([10, 20, 30, 40, 500], [1, 0, -2, NaN, 0], log);
  assert.equal(path.split("M").length - 1, 2);
  assert.equal(path, grid.lowered([20, 30], [0, 0], log));
  assert.equal(grid.lowered([20], [0], PLOT), "");
});
