// An explorer: sliders over a precomputed grid. It picks the entries of the current setting and
// draws them as SVG. It asks no kernel, interpolates nothing and loads nothing.

const SVG = "http://www.w3.org/2000/svg";
const FONT = 11; // pixels, of tick labels
const FAR = 4000; // pixels outside a panel where a line is cut, so that no coordinate overflows
const SUPERSCRIPTS = "⁻⁰¹²³⁴⁵⁶⁷⁸⁹";
const NARROWEST = 250; // pixels, of a panel
let views = 0;

// ---------------------------------------------------------------- small things

function svg(tag, attributes, parent) {
  const node = document.createElementNS(SVG, tag);
  for (const name in attributes) node.setAttribute(name, attributes[name]);
  if (parent) parent.appendChild(node);
  return node;
}

function html(tag, className, parent, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  if (parent) parent.appendChild(node);
  return node;
}

/** Change an attribute only where it differs, so that nothing is painted in vain. */
function put(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function superscript(integer) {
  return String(integer).replace(/./g, (c) => SUPERSCRIPTS["-0123456789".indexOf(c)]);
}

/** Python's number formats g, f, e, d and %, with a real minus and powers of ten as powers. */
export function formatNumber(value, format) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const [, plus, comma, digits, kind] = /^(\+?)(,?)(?:\.(\d+))?([gfed%])$/.exec(format);
  const long = "fd%".includes(kind) && Math.abs(value) >= 1e15;
  const type = long ? "g" : kind;
  const precision = long ? 3 : digits === undefined ? 6 : Number(digits);
  let text;
  if (type === "d") text = value.toFixed(0);
  else if (type === "f") text = value.toFixed(precision);
  else if (type === "%") text = (100 * value).toFixed(precision) + "%";
  else if (type === "e") text = value.toExponential(precision);
  else {
    const significant = Math.max(precision, 1);
    text = value.toExponential(significant - 1);
    const exponent = Number(text.split("e")[1]);
    if (exponent >= -4 && exponent < significant) text = value.toFixed(significant - 1 - exponent);
    const [mantissa, power] = text.split("e");
    const short = mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa;
    text = power === undefined ? short : `${short}e${power}`;
  }
  if (Object.is(value, -0) && !text.startsWith("-")) text = "-" + text;
  if (plus && !text.startsWith("-")) text = "+" + text;
  if (comma) text = text.replace(/\d+/, (whole) => whole.replace(/\B(?=(\d{3})+$)/g, ","));
  const [mantissa, power] = text.split("e");
  if (power !== undefined) text = `${mantissa}×10${superscript(Number(power))}`;
  return text.replace("-", "−");
}

let ruler;
/** How wide a text is in pixels, in the font of the panels. */
function textWidth(text, family, size = FONT) {
  ruler = ruler || document.createElement("canvas").getContext("2d");
  ruler.font = `${size}px ${family}`;
  return ruler.measureText(text).width;
}

// ---------------------------------------------------------------- data

/** Arrays inside the block of bytes: where the points of a setting begin, and what they are. */
function reader(view, axes) {
  const bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
  return (ref) => {
    const count = ref.grid.reduce((a, b) => a * b, 1) * ref.points;
    const Kind = ref.type === "f8" ? Float64Array : Float32Array;
    const flat = new Kind(bytes, ref.offset, count);
    const strides = new Array(axes);
    let stride = ref.points;
    for (let i = axes - 1; i >= 0; i--) {
      strides[i] = ref.grid[i] === 1 ? 0 : stride;
      stride *= ref.grid[i];
    }
    return {
      follows: (axis) => strides[axis] > 0,
      at(index) {
        let start = 0;
        for (let i = 0; i < axes; i++) start += strides[i] * index[i];
        return flat.subarray(start, start + ref.points);
      },
    };
  };
}

// ---------------------------------------------------------------- axes

/** Pixels from values along one axis. */
function makeScale(kind, [low, high], from, to) {
  if (kind === "log") {
    const a = Math.log10(low);
    const k = (to - from) / (Math.log10(high) - a);
    return (v) => from + (Math.log10(v) - a) * k;
  }
  const k = (to - from) / (high - low);
  return (v) => from + (v - low) * k;
}

function niceTicks(low, high, count) {
  const raw = (high - low) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((s) => s * power >= raw * 0.999) * power;
  const values = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) {
    values.push(k * step);
  }
  const largest = Math.max(Math.abs(low), Math.abs(high));
  const fine = String(Number((step / power).toPrecision(3))).includes(".") ? 1 : 0;
  const decimals = Math.max(0, fine - Math.floor(Math.log10(step) + 1e-9));
  const e = Math.floor(Math.log10(largest));
  const labels = values.map((v) => {
    if (v === 0) return "0";
    if (largest < 1e5 && step >= 1e-4) return formatNumber(v, `.${Math.min(decimals, 9)}f`);
    const shown = Number((v / 10 ** e).toPrecision(6));
    return `${String(shown).replace("-", "−")}×10${superscript(e)}`;
  });
  return { values, labels };
}

function logTicks(low, high, count) {
  const a = Math.log10(low);
  const b = Math.log10(high);
  const inside = (v) => v >= low * 0.999 && v <= high * 1.001;
  const plain = low >= 0.9e-3 && high <= 1.1e4;
  const write = (digit, e) => {
    if (plain) return String(Number((digit * 10 ** e).toPrecision(3)));
    return (digit === 1 ? "10" : `${digit}×10`) + superscript(e);
  };
  const every = Math.max(1, Math.ceil((b - a) / Math.max(count, 1)));
  const values = [];
  const labels = [];
  const add = (digit, e) => {
    const v = Number(`${digit}e${e}`);
    if (inside(v)) {
      values.push(v);
      labels.push(write(digit, e));
    }
  };
  for (let e = Math.floor(a); e <= Math.ceil(b); e++) {
    if (e % every !== 0) continue;
    add(1, e);
    if (b - a < 2.2 && count >= 4) {
      add(2, e);
      add(5, e);
    }
  }
  return values.length >= 2 ? { values, labels } : niceTicks(low, high, count);
}

function ticksAlong(kind, limits, count) {
  return (kind === "log" ? logTicks : niceTicks)(limits[0], limits[1], count);
}

/** As many ticks along x as fit without touching. */
function roomyTicks(kind, limits, width, measure) {
  for (let count = Math.max(2, Math.floor(width / 50)); ; count--) {
    const ticks = ticksAlong(kind, limits, count);
    const widest = Math.max(0, ...ticks.labels.map(measure));
    if (count <= 1 || ticks.labels.length * (widest + 12) <= width + widest) return ticks;
  }
}

// ---------------------------------------------------------------- shapes

const round = (v) => Math.round(v * 10) / 10;

/** One marker as a path, centered at (x, y), by the color's index: the order of plots/style.py. */
function marker(color, x, y, r) {
  const X = round(x);
  const Y = round(y);
  const R = round(r);
  const D = round(2 * r);
  switch (color) {
    case 1:
      return `M${round(x - r * 0.9)} ${round(y - r * 0.9)}h${round(1.8 * r)}v${round(1.8 * r)}h${round(-1.8 * r)}z`;
    case 2:
      return `M${X} ${round(y - 1.1 * r)}l${R} ${round(1.9 * r)}h${-D}z`;
    case 3:
      return `M${X} ${round(y - 1.2 * r)}l${R} ${round(1.2 * r)}l${-R} ${round(1.2 * r)}l${-R} ${round(-1.2 * r)}z`;
    case 4:
      return `M${X} ${round(y + 1.1 * r)}l${R} ${round(-1.9 * r)}h${-D}z`;
    case 5:
      return `M${round(x - r)} ${round(y - r / 3)}h${round((2 * r) / 3)}v${round((-2 * r) / 3)}h${round((2 * r) / 3)}v${round((2 * r) / 3)}h${round((2 * r) / 3)}v${round((2 * r) / 3)}h${round((-2 * r) / 3)}v${round((2 * r) / 3)}h${round((-2 * r) / 3)}v${round((-2 * r) / 3)}h${round((-2 * r) / 3)}z`;
    case 6:
      return `M${round(x - r)} ${round(y - r)}l${D} ${D}m0 ${-D}l${-D} ${D}`;
    default:
      return `M${round(x - r)} ${Y}a${R} ${R} 0 1 0 ${D} 0a${R} ${R} 0 1 0 ${-D} 0z`;
  }
}

/** The piece of a segment inside the box, as [x0, y0, x1, y1], or null (Liang and Barsky). */
function clipped(x0, y0, x1, y1, box) {
  let from = 0;
  let to = 1;
  const dx = x1 - x0;
  const dy = y1 - y0;
  const sides = [
    [-dx, x0 - box.left],
    [dx, box.right - x0],
    [-dy, y0 - box.top],
    [dy, box.bottom - y0],
  ];
  for (const [p, q] of sides) {
    if (p === 0) {
      if (q < 0) return null;
    } else if (p < 0) {
      if (q / p > to) return null;
      if (q / p > from) from = q / p;
    } else {
      if (q / p < from) return null;
      if (q / p < to) to = q / p;
    }
  }
  return [x0 + from * dx, y0 + from * dy, x0 + to * dx, y0 + to * dy];
}

function polyline(xs, ys, plot) {
  const far = {
    left: plot.left - FAR,
    right: plot.right + FAR,
    top: plot.top - FAR,
    bottom: plot.bottom + FAR,
  };
  let path = "";
  let previous = null; // last point, in pixels
  let open = false; // whether the path ends at it
  for (let i = 0; i < xs.length; i++) {
    const x = plot.x(xs[i]);
    const y = plot.y(ys[i]);
    if (!Number.isFinite(x) || !Number.isFinite(y)) {
      previous = null;
      open = false;
      continue;
    }
    if (previous) {
      const outside = x < far.left || x > far.right || y < far.top || y > far.bottom;
      if (open && !outside) {
        path += `L${round(x)} ${round(y)}`;
      } else {
        const piece = clipped(previous[0], previous[1], x, y, far);
        if (piece) {
          if (!open) path += `M${round(piece[0])} ${round(piece[1])}`;
          path += `L${round(piece[2])} ${round(piece[3])}`;
        }
        open = piece !== null && !outside;
      }
    }
    previous = [x, y];
  }
  return path;
}

function isInside(x, y, plot) {
  return x >= plot.left - 1 && x <= plot.right + 1 && y >= plot.top - 1 && y <= plot.bottom + 1;
}

function markers(xs, ys, plot, color, r) {
  let path = "";
  for (let i = 0; i < xs.length; i++) {
    const x = plot.x(xs[i]);
    const y = plot.y(ys[i]);
    if (isInside(x, y, plot)) path += marker(color, x, y, r);
  }
  return path;
}

/** Triangles on the lower edge for what a log axis cannot hold. */
function lowered(xs, ys, plot) {
  if (!plot.logY) return "";
  let path = "";
  for (let i = 0; i < ys.length; i++) {
    const x = plot.x(xs[i]);
    if (ys[i] <= 0 && x >= plot.left - 1 && x <= plot.right + 1) {
      path += marker(4, x, plot.bottom - 3, 4);
    }
  }
  return path;
}

// ---------------------------------------------------------------- marks
// Each maker adds its nodes to a group and returns a function that redraws them at a setting.

const DASHES = { solid: "none", dashed: "7 4", dotted: "1.5 4" };

function makeLine(mark, group, plot) {
  const color = `var(--cu-color-${mark.color})`;
  const line = svg(
    "path",
    {
      fill: "none",
      stroke: color,
      "stroke-width": mark.width,
      "stroke-dasharray": DASHES[mark.dash],
      "stroke-linejoin": "round",
      "stroke-linecap": mark.dash === "dotted" ? "round" : "butt",
      "clip-path": `url(#${plot.clip})`,
    },
    group,
  );
  const dots = mark.marker && svg("path", { fill: color, stroke: color }, group);
  const zeros = plot.logY && svg("path", { class: "cu-zero", stroke: color }, group);
  return (index) => {
    const xs = mark.x.at(index);
    const ys = mark.y.at(index);
    put(line, "d", polyline(xs, ys, plot));
    if (dots) put(dots, "d", markers(xs, ys, plot, mark.color, 3));
    if (zeros) put(zeros, "d", lowered(xs, ys, plot));
  };
}

function makePoints(mark, group, plot) {
  const color = `var(--cu-color-${mark.color})`;
  const dots = svg("path", { fill: color, stroke: color }, group);
  if (mark.hollow) dots.setAttribute("class", "cu-hollow");
  if (mark.color === 6) dots.setAttribute("stroke-width", "2");
  const zeros = plot.logY && svg("path", { class: "cu-zero", stroke: color }, group);
  return (index) => {
    const xs = mark.x.at(index);
    const ys = mark.y.at(index);
    put(dots, "d", markers(xs, ys, plot, mark.color, mark.size / 2));
    if (zeros) put(zeros, "d", lowered(xs, ys, plot));
  };
}

function makeBars(mark, group, plot) {
  const color = `var(--cu-color-${mark.color})`;
  const clip = `url(#${plot.clip})`;
  const bars = svg("path", { fill: color, "clip-path": clip }, group);
  const zeros = plot.logY && svg("path", { class: "cu-zero", stroke: color }, group);
  const each = 0.8 / mark.of;
  const shift = (mark.place - (mark.of - 1) / 2) * each;
  const places = mark.names.map((_, i) => i + shift);
  return (index) => {
    const heights = mark.height.at(index);
    const base = plot.logY ? plot.bottom : plot.y(0);
    let path = "";
    for (let i = 0; i < heights.length; i++) {
      const top = Math.min(Math.max(plot.y(heights[i]), plot.top - FAR), plot.bottom + FAR);
      if (!Number.isFinite(top)) continue;
      const left = plot.x(places[i] - 0.46 * each);
      const right = plot.x(places[i] + 0.46 * each);
      path += `M${round(left)} ${round(base)}V${round(top)}H${round(right)}V${round(base)}z`;
    }
    put(bars, "d", path);
    if (zeros) put(zeros, "d", lowered(places, heights, plot));
  };
}

function makeText(mark, group, plot) {
  const count = mark.numbers ? mark.numbers.at(plot.first).length : mark.words.length;
  const nodes = Array.from({ length: count }, () =>
    svg(
      "text",
      {
        class: "cu-words",
        "text-anchor": mark.anchor,
        dy: "0.35em",
        fill: `var(--cu-ink-${mark.color})`,
      },
      group,
    ),
  );
  const before = { start: 0, middle: 0.5, end: 1 }[mark.anchor];
  return (index) => {
    const xs = mark.x.at(index);
    const ys = mark.y.at(index);
    const numbers = mark.numbers && mark.numbers.at(index);
    for (let i = 0; i < count; i++) {
      const words = numbers ? formatNumber(numbers[i], mark.format) : mark.words[i];
      const text = (mark.prefix[i] || "") + words;
      const x = plot.x(xs[i]);
      const y = plot.y(ys[i]);
      const shown = isInside(x, y, plot);
      put(nodes[i], "visibility", shown ? "visible" : "hidden");
      if (!shown) continue;
      const width = plot.measure(text, 12); // keep the words inside the panel
      const right = plot.width - 2 - (1 - before) * width;
      put(nodes[i], "x", String(round(Math.max(2 + before * width, Math.min(x, right)))));
      put(nodes[i], "y", String(round(y)));
      say(nodes[i], text);
    }
  };
}

const MAKERS = { line: makeLine, points: makePoints, bars: makeBars, text: makeText };
const ARRAYS = ["x", "y", "height", "numbers"];

// ---------------------------------------------------------------- a panel

function makePanel(panel, read, root, uid) {
  const figure = html("figure", "cu-panel", root);
  html("figcaption", "cu-panel-title", figure, panel.title);
  if (panel.ylabel && panel.axes) html("div", "cu-ylabel", figure, panel.ylabel);
  const picture = svg("svg", { role: "img" });
  figure.appendChild(picture);
  const xlabel = panel.xlabel && panel.axes && html("div", "cu-xlabel", figure, panel.xlabel);
  makeLegend(panel.marks, figure);

  const marks = panel.marks.map((mark) => {
    const own = { ...mark };
    for (const name of ARRAYS) if (mark[name]) own[name] = read(mark[name]);
    own.follows = (axis) => ARRAYS.some((name) => own[name] && own[name].follows(axis));
    return own;
  });
  let updates = [];

  /** Lay out the panel anew for a width in pixels. */
  function layout(width, index, family) {
    const measure = (text, size) => textWidth(text, family, size);
    picture.replaceChildren();
    const plot = frame(panel, width, measure);
    const { height } = plot;
    put(picture, "width", String(width));
    put(picture, "height", String(height));
    put(picture, "viewBox", `0 0 ${width} ${height}`);
    plot.clip = `cu-clip-${uid}`;
    plot.first = index;
    const clip = svg("clipPath", { id: plot.clip }, svg("defs", {}, picture));
    const pad = panel.axes ? 1 : 0;
    svg(
      "rect",
      {
        x: plot.left - pad,
        y: plot.top - pad,
        width: plot.right - plot.left + 2 * pad,
        height: plot.bottom - plot.top + 2 * pad,
      },
      clip,
    );
    if (panel.axes) drawAxes(panel, plot, picture);
    if (xlabel) {
      xlabel.style.marginLeft = `${plot.left}px`;
      xlabel.style.marginRight = `${width - plot.right}px`;
    }
    const group = svg("g", { class: "cu-marks" }, picture);
    updates = marks.map((mark) => MAKERS[mark.kind](mark, svg("g", {}, group), plot));
    updates.forEach((update) => update(index));
  }

  return {
    figure,
    layout,
    update(index, axis) {
      marks.forEach((mark, i) => {
        if (mark.follows(axis)) updates[i](index);
      });
    },
    describe: (text) => put(picture, "aria-label", `${panel.title}. ${text}`),
  };
}

/** Where the plot lies in its panel, its scales and its ticks. */
function frame(panel, width, measure) {
  const height = Math.round(width * (panel.equal ? 1 : 0.74)); // at most
  const bars = panel.marks.find((mark) => mark.kind === "bars");
  const plot = { width, height, measure, logY: panel.yscale === "log", turned: false };
  if (!panel.axes) {
    Object.assign(plot, { left: 6, right: width - 6, top: 6, bottom: height - 6 });
  } else {
    plot.yTicks = ticksAlong(panel.yscale, panel.ylim, Math.max(3, Math.floor(height / 42)));
    plot.left = Math.ceil(Math.max(8, ...plot.yTicks.labels.map((l) => measure(l)))) + 10;
    plot.top = 8;
    plot.right = width - 12;
    plot.bottom = height - 20;
    if (bars) {
      const names = bars.names;
      const slot = (plot.right - plot.left) / (panel.xlim[1] - panel.xlim[0]);
      const widest = Math.max(...names.map((name) => measure(name)));
      plot.turned = widest > slot - 6;
      if (plot.turned) {
        plot.bottom = height - 16;
        plot.height = height + Math.ceil(0.58 * widest);
      }
      plot.xTicks = { values: names.map((_, i) => i), labels: names };
    } else {
      plot.xTicks = roomyTicks(panel.xscale, panel.xlim, plot.right - plot.left, (l) => measure(l));
      const last = plot.xTicks.labels.length ? measure(plot.xTicks.labels.at(-1)) : 0;
      plot.right = width - Math.max(12, Math.ceil(last / 2));
    }
  }
  if (panel.equal) {
    const spanX = panel.xlim[1] - panel.xlim[0];
    const spanY = panel.ylim[1] - panel.ylim[0];
    const unit = Math.min((plot.right - plot.left) / spanX, (plot.bottom - plot.top) / spanY);
    const spareX = (plot.right - plot.left - unit * spanX) / 2;
    const spareY = plot.bottom - plot.top - unit * spanY;
    plot.left += spareX;
    plot.right -= spareX;
    plot.bottom -= spareY;
    plot.height = Math.ceil(height - spareY);
    if (panel.axes) {
      const tall = Math.max(3, Math.floor((plot.bottom - plot.top) / 36));
      plot.yTicks = ticksAlong(panel.yscale, panel.ylim, tall);
      plot.xTicks = roomyTicks(panel.xscale, panel.xlim, plot.right - plot.left, (l) => measure(l));
    }
  }
  plot.x = makeScale(panel.xscale, panel.xlim, plot.left, plot.right);
  plot.y = makeScale(panel.yscale, panel.ylim, plot.bottom, plot.top);
  return plot;
}

function drawAxes(panel, plot, picture) {
  const group = svg("g", { class: "cu-axes", "aria-hidden": "true" }, picture);
  let grid = "";
  plot.yTicks.values.forEach((value, i) => {
    const y = round(plot.y(value));
    grid += `M${round(plot.left)} ${y}H${round(plot.right)}`;
    const at = { x: round(plot.left - 6), y, dy: "0.35em", "text-anchor": "end", class: "cu-tick" };
    svg("text", at, group).textContent = plot.yTicks.labels[i];
  });
  plot.xTicks.values.forEach((value, i) => {
    const x = round(plot.x(value));
    const y = round(plot.bottom + 15);
    if (!plot.turned) grid += `M${x} ${round(plot.bottom)}v4`;
    const at = plot.turned
      ? { transform: `translate(${x + 3} ${y - 3}) rotate(-35)`, "text-anchor": "end" }
      : { x, y, "text-anchor": "middle" };
    svg("text", { ...at, class: "cu-tick" }, group).textContent = plot.xTicks.labels[i];
  });
  svg("path", { class: "cu-grid", d: grid }, group);
  const zero = !plot.logY && panel.ylim[0] < 0 && panel.ylim[1] > 0;
  const base = round(zero && panel.marks.some((m) => m.kind === "bars") ? plot.y(0) : plot.bottom);
  const axis =
    `M${round(plot.left)} ${round(plot.top)}V${round(plot.bottom)}` +
    `M${round(plot.left)} ${base}H${round(plot.right)}`;
  svg("path", { class: "cu-axis", d: axis }, group);
}

/** Under the panel, so that it never covers data. */
function makeLegend(marks, figure) {
  const seen = new Set();
  const named = marks.filter(
    (mark) => mark.label && !seen.has(mark.label) && seen.add(mark.label),
  );
  if (!named.length) return;
  const legend = html("div", "cu-legend", figure);
  for (const mark of named) {
    const entry = html("span", "cu-legend-entry", legend);
    const sample = svg("svg", { width: 26, height: 12, "aria-hidden": "true" }, entry);
    const color = `var(--cu-color-${mark.color})`;
    if (mark.kind === "bars") {
      svg("rect", { x: 7, y: 1, width: 12, height: 10, fill: color }, sample);
    }
    if (mark.kind === "line") {
      const stroke = {
        d: "M1 6H25",
        fill: "none",
        stroke: color,
        "stroke-width": Math.min(mark.width, 3),
        "stroke-dasharray": DASHES[mark.dash],
        "stroke-linecap": mark.dash === "dotted" ? "round" : "butt",
      };
      svg("path", stroke, sample);
    }
    if (mark.kind === "points" || mark.marker) {
      const r = mark.marker ? 3 : Math.min(mark.size / 2, 5);
      const dot = { d: marker(mark.color, 13, 6, r), fill: color, stroke: color };
      if (mark.hollow) dot.class = "cu-hollow";
      svg("path", dot, sample);
    }
    html("span", "", entry, mark.label);
  }
}

// ---------------------------------------------------------------- controls

function makeSlider(slider, root, id, moved) {
  const box = html("div", "cu-control", root);
  const head = html("div", "cu-control-head", box);
  const label = html("label", "cu-control-label", head, slider.label);
  label.htmlFor = id;
  const value = html("output", "cu-control-value", head);
  value.htmlFor = id;
  value.setAttribute("aria-live", "off"); // the input's own value text is read out
  const input = html("input", "cu-slider", box);
  const attributes = {
    type: "range",
    id,
    min: 0,
    max: slider.shown.length - 1,
    step: 1,
    name: slider.name,
    autocomplete: "off",
    "aria-label": slider.label,
    "data-lm-suppress-shortcuts": "true", // or JupyterLab takes the arrow keys
  };
  for (const name in attributes) input.setAttribute(name, attributes[name]);
  input.addEventListener("input", () => moved(Number(input.value)));
  return {
    show(position) {
      if (Number(input.value) !== position) input.value = String(position);
      put(input, "aria-valuetext", slider.shown[position]);
      say(value, slider.shown[position]);
    },
  };
}

function makeReadout(readout, read, root) {
  const box = html("div", "cu-readout", root);
  html("span", "cu-readout-label", box, readout.label);
  const value = html("span", "cu-readout-value", box);
  const array = read(readout.values);
  return {
    show(index) {
      const text = formatNumber(array.at(index)[0], readout.format);
      say(value, text);
      return `${readout.label}: ${text}`;
    },
  };
}

// ---------------------------------------------------------------- the whole

function render({ model, el }) {
  const spec = model.get("_spec");
  const names = spec.sliders.map((slider) => slider.name);
  const read = reader(model.get("_data"), names.length);
  const id = `cu-${++views}`;
  const current = () => names.map((name) => model.get(name));

  const root = html("div", "cu-explorer", el);
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", spec.title);
  html("div", "cu-title", root, spec.title);
  const controlBox = html("div", "cu-controls", root);
  const panelBox = html("div", "cu-panels", root);
  const readoutBox = html("div", "cu-readouts", root);
  readoutBox.setAttribute("role", "status");

  const controls = spec.sliders.map((slider, axis) =>
    makeSlider(slider, controlBox, `${id}-${slider.name}`, (position) => {
      model.set(names[axis], position); // redraws every view of this model at once
      model.save_changes(); // tells the kernel, where there is one
    }),
  );
  const panels = spec.panels.map((panel, i) => makePanel(panel, read, panelBox, `${id}-${i}`));
  const readouts = spec.readouts.map((readout) => makeReadout(readout, read, readoutBox));
  if (!readouts.length) readoutBox.remove();

  function describe(index) {
    controls.forEach((control, axis) => control.show(index[axis]));
    const settings = spec.sliders.map((slider, i) => `${slider.label} = ${slider.shown[index[i]]}`);
    const figures = readouts.map((readout) => readout.show(index));
    const text = [settings.join(", "), ...figures].join(". ");
    panels.forEach((panel) => panel.describe(text));
  }

  let laidOut = 0;
  function layout() {
    const room = panelBox.clientWidth;
    if (!room || room === laidOut) return;
    laidOut = room;
    const family = getComputedStyle(root).fontFamily || "sans-serif";
    const gap = 20;
    const most = Math.max(1, Math.floor((room + gap) / (NARROWEST + gap)));
    let columns = Math.min(panels.length, most, 3);
    if (panels.length === 4 && columns === 3) columns = 2;
    const width = Math.floor(Math.min((room - gap * (columns - 1)) / columns, 540));
    const index = current();
    for (const panel of panels) {
      panel.figure.style.width = `${width}px`;
      panel.layout(width, index, family);
    }
    describe(index);
  }

  const changed = names.map((name, axis) => () => {
    const index = current();
    panels.forEach((panel) => panel.update(index, axis));
    describe(index);
  });
  names.forEach((name, axis) => model.on(`change:${name}`, changed[axis]));

  const observer = new ResizeObserver(layout);
  observer.observe(panelBox);
  layout();
  describe(current());

  return () => {
    observer.disconnect();
    names.forEach((name, axis) => model.off(`change:${name}`, changed[axis]));
    root.remove();
  };
}

export { clipped, logTicks, lowered, makeScale, markers, niceTicks, polyline, reader, roomyTicks };
export default { render };
