// The charts: rows from the page's own data, drawn with Observable Plot. Colours are the page's
// CSS variables, so that light, dark and print need no second drawing.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const GRID = [0, 25, 50, 75, 100];
const INK = "var(--ink)", SOFT = "var(--soft)", RULE = "var(--rule)", PAPER = "var(--paper)";
const LOST = "var(--lost)", GAINED = "var(--gained)";

const whole = (value) => value.toFixed(0);
const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const tenth = (value) => `${value.toFixed(1)} %`;
const frame = (chart) => ({
  width: chart.clientWidth,
  style: { background: "none", color: INK, fontFamily: "inherit", fontSize: "12px", overflow: "visible" },
  ariaLabel: chart.dataset.label,
});
const tip = { fill: PAPER, stroke: RULE, textPadding: 8, pathFilter: "none" };

function grid(axis) {
  const rule = axis === "y" ? Plot.ruleY : Plot.ruleX;
  return rule(GRID, { stroke: RULE, strokeWidth: (at) => (at === 0 ? 1.25 : 0.6) });
}

function percentAxis(axis, options = {}) {
  const make = axis === "y" ? Plot.axisY : Plot.axisX;
  return make({ ticks: GRID, tickSize: 0, tickFormat: whole, label: null, fill: SOFT, ...options });
}

// Retention by level: the share with its interval, the counts below, the mean as a line.
function levels(chart) {
  const rows = data.levels[chart.dataset.domain];
  const mean = [data.scores[chart.dataset.domain]].filter(Boolean);
  const scored = rows.filter((row) => row.share !== null);
  const counts = new Map(rows.map((row) => [row.level, row]));
  const said = (row) =>
    `Level ${row.level}: ${row.kept} of ${row.known} kept, ${tenth(row.share)}\n` +
    `95 % interval ${row.low.toFixed(1)} to ${tenth(row.high)}`;
  return Plot.plot({
    ...frame(chart), height: 248, marginLeft: 30, marginRight: 56, marginTop: 14, marginBottom: 46,
    x: { type: "point", domain: [1, 2, 3, 4], padding: 0.4 },
    y: { domain: [0, 100] },
    marks: [
      grid("y"),
      percentAxis("y"),
      Plot.axisX({
        tickSize: 0, label: null, lineHeight: 1.35, fill: SOFT, tickPadding: 8,
        tickFormat: (level) => `level ${level}\n${counts.get(level).kept} of ${counts.get(level).known}`,
      }),
      Plot.rect(mean.filter((one) => one.low !== null), { y1: "low", y2: "high", fill: INK, fillOpacity: 0.06 }),
      Plot.ruleY(mean, { y: "value", stroke: INK, strokeDasharray: "2 3" }),
      Plot.text(mean, {
        y: "value", frameAnchor: "right", dx: 8, textAnchor: "start", lineHeight: 1.1,
        text: (one) => `mean\n${one.value.toFixed(1)}${one.low === null ? "" : `\n[${whole(one.low)}, ${whole(one.high)}]`}`,
      }),
      Plot.ruleX(scored, { x: "level", y1: "low", y2: "high", stroke: INK, strokeWidth: 1.5, strokeOpacity: 0.55 }),
      Plot.dot(scored, { x: "level", y: "share", r: 4.5, fill: INK, stroke: PAPER }),
      Plot.text(scored, { x: "level", y: "share", text: (row) => whole(row.share), dx: 9, textAnchor: "start", fontWeight: 600, stroke: PAPER, strokeWidth: 4, fill: INK }),
      Plot.tip(scored, Plot.pointerX({ x: "level", y: "share", title: said, ...tip })),
    ],
  });
}

// Lost, kept, gained, still wrong: each level a bar of 100 %, the counts written in it.
const FATES = [
  { key: "lost", name: "lost", fill: LOST, ink: "var(--on-lost)" },
  { key: "kept", name: "kept", fill: "var(--kept)", ink: "var(--on-kept)" },
  { key: "gained", name: "gained", fill: GAINED, ink: "var(--on-gained)" },
  { key: "wrong", name: "wrong before and after", fill: "var(--wrong)", ink: "var(--on-wrong)" },
];

function parts(rows) {
  return rows.flatMap((row) => {
    let start = 0;
    const n = FATES.reduce((sum, fate) => sum + row[fate.key], 0);
    return FATES.map((fate) => {
      const from = start;
      start += (100 * row[fate.key]) / n;
      return { level: row.level, n, count: row[fate.key], from, to: start, fate };
    }).filter((part) => part.count > 0);
  });
}

function outcomes(chart) {
  const rows = data.outcomes[chart.dataset.domain];
  const left = 78;
  const shown = parts(rows);
  const scale = (chart.clientWidth - left) / 100;
  const fits = (part) => (part.to - part.from) * scale > 9 + 7 * String(part.count).length;
  return Plot.plot({
    ...frame(chart), height: 34 * rows.length + 26, marginLeft: left, marginRight: 0, marginTop: 2, marginBottom: 24,
    x: { domain: [0, 100] },
    y: { domain: rows.map((row) => row.level), padding: 0.18, axis: null },
    marks: [
      percentAxis("x", { ticks: [0, 25, 50, 75] }),
      percentAxis("x", { ticks: [100], textAnchor: "end", tickFormat: (at) => `${at} %` }),
      Plot.text(rows, { y: "level", frameAnchor: "left", textAnchor: "start", dx: -left, text: (row) => `level ${row.level}` }),
      Plot.text(shown.filter((part) => part.from === 0), { y: "level", frameAnchor: "left", textAnchor: "end", dx: -8, fill: SOFT, text: (part) => part.n.toLocaleString("en") }),
      Plot.barX(shown, { x1: "from", x2: "to", y: "level", fill: (part) => part.fate.fill, insetLeft: 0.5, insetRight: 0.5 }),
      ...FATES.map((fate) => Plot.text(shown.filter((part) => part.fate === fate && fits(part)), {
        x: (part) => (part.from + part.to) / 2, y: "level", text: (part) => part.count.toLocaleString("en"), fill: fate.ink,
      })),
      Plot.tip(shown, Plot.pointer({
        x: (part) => (part.from + part.to) / 2, y: "level", ...tip,
        title: (part) => `Level ${part.level}: ${part.count} of ${part.n} ${part.fate.name}, ${tenth(part.to - part.from)}`,
      })),
    ],
  });
}

// Points with room for a figure, the last first: close to each other, some have none.
function spaced(points, across) {
  const kept = points.slice(-1);
  for (const row of points.slice(0, -1).reverse()) {
    if (across(kept[0]) - across(row) >= 25) kept.unshift(row);
  }
  return kept;
}

// The restore curve: what comes back of the lost against what stays of the gained.
function restore(chart) {
  const rows = data.restore[chart.dataset.domain];
  const size = { width: chart.clientWidth, left: 30, right: 72, inset: 8 };
  const most = Math.max(...rows.map((row) => row.percent)) || 100;
  const across = (at) => Math.sqrt(at / most) * (size.width - size.left - size.right - 2 * size.inset);
  const base = rows.some((row) => row.retention !== null) ? [100] : [];
  const limited = rows.filter((row) => row.low !== null);
  const line = (measure, other, colour) => {
    const points = rows.filter((row) => row[measure] !== null);
    const at = { x: "percent", y: measure };
    // The figure stands on the side away from the other line, or beside a point at the bottom.
    const side = (row) => {
      if (row[measure] > (row[other] ?? -1) || (row[measure] === row[other] && measure === "retention")) return "above";
      return row[measure] < 10 ? "beside" : "below";
    };
    // Beside an interval, not on it; the last one to the left, away from the name of the base.
    const shift = (row) => {
      const end = side(row) === "above" ? row.high : row.low;
      if (measure !== "retention" || row.low === null || Math.abs(end - row.retention) < 4) return 0;
      return row === points.at(-1) ? -11 : 11;
    };
    const figures = (where, options) => [-11, 0, 11].map((dx) => Plot.text(spaced(points, (row) => across(row.percent)).filter((row) => side(row) === where && shift(row) === dx), {
      ...at, text: (row) => whole(row[measure]), fill: colour, stroke: PAPER, strokeWidth: 4, fontWeight: 600, dx, ...options,
    }));
    return {
      lines: [
        Plot.line(points, { ...at, stroke: colour, strokeWidth: 2 }),
        Plot.dot(points, { ...at, r: 4, fill: colour, stroke: PAPER }),
      ],
      figures: [figures("above", { dy: -12 }), figures("below", { dy: 13 }), figures("beside", { dx: 9, textAnchor: "start" })],
    };
  };
  const gains = line("preserved", "retention", GAINED);
  const kept = line("retention", "preserved", INK);
  return Plot.plot({
    ...frame(chart), height: 258, marginLeft: size.left, marginRight: size.right, marginTop: 20, marginBottom: 44,
    x: { type: "sqrt", domain: [0, most], inset: size.inset },
    y: { domain: [0, 100] },
    marks: [
      grid("y"),
      percentAxis("y"),
      Plot.axisX({ ticks: rows.map((row) => row.percent), tickSize: 4, label: null, fill: SOFT, lineHeight: 1.35, tickFormat: (at) => (at === 0 ? "0\ntuned" : String(at)) }),
      Plot.ruleY(base, { stroke: INK, strokeDasharray: "2 3" }),
      Plot.text(base, { y: (at) => at, frameAnchor: "right", dx: 8, textAnchor: "start", lineHeight: 1.1, text: () => "base\nretention" }),
      Plot.ruleX(limited, { x: "percent", y1: "low", y2: "high", stroke: INK, strokeWidth: 1.5, strokeOpacity: 0.4 }),
      ...gains.lines, ...kept.lines, ...gains.figures, ...kept.figures,
      Plot.tip(rows, Plot.pointerX({
        x: "percent", y: (row) => row.retention ?? row.preserved, ...tip,
        title: (row) => [row.name, row.retention === null ? null : `retention ${tenth(row.retention)}`, row.low === null ? null : `95 % interval ${row.low.toFixed(1)} to ${tenth(row.high)}`, row.preserved === null ? null : `gains preserved ${tenth(row.preserved)}`].filter(Boolean).join("\n"),
      })),
    ],
  });
}

// Series of restores by what they have in common: a colour and a shape each.
const SERIES = {
  colours: [INK, ...[2, 3, 4, 5, 6].map((number) => `var(--series-${number})`)],
  shapes: ["circle", "square", "triangle", "diamond", "star", "wye", "cross"],
};

function seriesOf(rows) {
  const names = [...new Set(rows.map((row) => row.series).filter(Boolean))];
  return names.map((name, place) => ({
    name,
    // What departs from the plain criterion stands in a line of its own, cut where it is long.
    lines: name.split(/ (?=\()/).map((line) => cut(line, 18)),
    colour: SERIES.colours[place % SERIES.colours.length],
    shape: SERIES.shapes[place % SERIES.shapes.length],
    // Every series starts from the tuned model.
    rows: rows.filter((row) => row.series === name || row.series === ""),
  }));
}

// Sets points that would hide each other side by side; null where there is no room for that.
function spread(series, across) {
  const apart = (step) => {
    const at = series.flatMap((one, place) => one.rows.filter((row) => row.series).map((row) => ({
      place, x: across(row.removed) + (place - (series.length - 1) / 2) * step,
    }))).sort((a, b) => a.x - b.x);
    return at.every((one, i) => i === 0 || one.place === at[i - 1].place || one.x - at[i - 1].x >= 4.5);
  };
  const step = [0, 5, 6, 7, 8].find((one) => one * (series.length - 1) <= 32 && apart(one));
  return step === undefined ? null : (place) => (place - (series.length - 1) / 2) * step;
}

// Moves labels apart, each as little as the others allow: [{ at, size }] gets `y`.
function dodge(labels, top, bottom) {
  labels.sort((a, b) => a.at - b.at);
  let edge = top;
  for (const one of labels) {
    one.y = Math.max(one.at, edge + one.size / 2);
    edge = one.y + one.size / 2;
  }
  edge = bottom;
  for (const one of labels.toReversed()) {
    one.y = Math.min(one.y, edge - one.size / 2);
    edge = one.y - one.size / 2;
  }
  return labels;
}

// Criteria at equal removed norm: retention above, what stays of the gains below.
function criteria(chart) {
  const all = Object.values(data.criteria).flat();
  const rows = data.criteria[chart.dataset.domain];
  const series = seriesOf(rows);
  const longest = Math.max(5, ...series.flatMap((one) => one.lines.map((line) => line.length)));
  const size = { width: chart.clientWidth, left: 30, right: Math.min(20 + 6.4 * longest, 0.4 * chart.clientWidth) };
  const most = Math.ceil(Math.max(...all.map((row) => row.removed))) || 100;
  const across = (at) => (at / most) * (size.width - size.left - size.right - 2 * INSET);
  const shift = spread(series, across);
  const panels = [
    { measure: "retention", title: "retention (mean over levels), %", height: 246, bounds: shift !== null },
    { measure: "preserved", title: "gains preserved, %", height: 224, bounds: false },
  ].filter((panel) => rows.some((row) => row[panel.measure] !== null));
  const box = document.createElement("div");
  panels.forEach((panel, place) => box.append(criteriaPanel(chart, {
    ...panel, series, size, most, across, shift: shift ?? (() => 0), last: place === panels.length - 1,
    values: all.flatMap((row) => [row[panel.measure], panel.bounds ? row.low : null]).filter((one) => one !== null),
    tuned: rows.find((row) => row.series === ""),
  })));
  return box;
}

const INSET = 10;

function criteriaPanel(chart, panel) {
  const { measure, series, size, most, height } = panel;
  const top = 34, bottom = panel.last ? 56 : 10;
  const least = Math.max(0, Math.min(80, 10 * Math.floor((Math.min(...panel.values) - 2) / 10)));
  const ticks = d3.ticks(least, 100, 4);
  const down = (value) => top + ((100 - value) / (100 - least)) * (height - top - bottom);
  const place = (pixels) => 100 - ((pixels - top) / (height - top - bottom)) * (100 - least);
  const per = most / panel.across(most);
  // A series keeps its distance from the others at every point but the tuned model's.
  const lines = series.map((one, number) => ({
    ...one,
    points: one.rows.filter((row) => row[measure] !== null).map((row) => ({
      ...row, x: row.removed + (row.series ? panel.shift(number) * per : 0),
    })),
  })).filter((one) => one.points.some((row) => row.series));
  lines.forEach((one) => one.points.sort((a, b) => a.removed - b.removed));
  const ends = lines.map((one) => ({ ...one, end: one.points.at(-1), size: 14 * one.lines.length }));
  const base = measure === "retention" ? [{ lines: ["base"], colour: INK, size: 14, end: null, at: down(100) }] : [];
  const labels = dodge([...base, ...ends.map((one) => ({ ...one, at: down(one.end[measure]) }))], top - 8, height - bottom + 8);
  // A single line has room for figures; several have the table.
  const figures = lines.length === 1 ? spaced(lines[0].points.filter((row) => row.series || measure === "retention"), (row) => panel.across(row.x)) : [];
  const limited = [panel.tuned].filter((row) => panel.bounds && row.low !== null);
  const dots = lines.flatMap((one) => one.points.filter((row) => row.series));
  return Plot.plot({
    ...frame(chart), ariaLabel: `${chart.dataset.label}: ${measure}`,
    height, marginLeft: size.left, marginRight: size.right, marginTop: top, marginBottom: bottom,
    x: { domain: [0, most], inset: INSET },
    y: { domain: [least, 100] },
    symbol: { type: "identity" },
    marks: [
      Plot.ruleY(ticks, { stroke: RULE, strokeWidth: (at) => (at === least ? 1.25 : 0.6) }),
      percentAxis("y", { ticks }),
      Plot.text([panel.title], { frameAnchor: "top-left", textAnchor: "start", dx: -size.left, dy: -26, fill: SOFT }),
      Plot.axisX({ ticks: d3.ticks(0, most, size.width < 380 ? 3 : 5), tickSize: 4, label: null, fill: SOFT, lineHeight: 1.35, tickFormat: (at) => (!panel.last ? "" : at === 0 ? "0\ntuned" : String(at)) }),
      ...(panel.last ? [Plot.text(["removed norm, % of the update's"], { frameAnchor: "bottom-right", textAnchor: "end", dy: 50, fill: SOFT })] : []),
      Plot.ruleY(base.length ? [100] : [], { stroke: INK, strokeDasharray: "2 3" }),
      Plot.ruleY([panel.tuned[measure]].filter((one) => one !== null && measure === "retention"), { stroke: SOFT, strokeDasharray: "1 4" }),
      Plot.ruleX(limited, { x: 0, y1: "low", y2: "high", stroke: INK, strokeWidth: 1.5, strokeOpacity: 0.4 }),
      ...(panel.bounds ? lines.map((one) => Plot.ruleX(one.points.filter((row) => row.series && row.low !== null), { x: "x", y1: "low", y2: "high", stroke: one.colour, strokeWidth: 1.5, strokeOpacity: 0.4 })) : []),
      Plot.link(labels.filter((one) => one.end), { x1: (one) => one.end.x, x2: most + per * (INSET + 2), y1: (one) => one.end[measure], y2: (one) => place(one.y), stroke: (one) => one.colour, strokeWidth: 0.75, strokeOpacity: 0.45 }),
      ...lines.map((one) => Plot.line(one.points, { x: "x", y: measure, stroke: one.colour, strokeWidth: 1.75 })),
      ...lines.map((one) => Plot.dot(one.points.filter((row) => row.series), { x: "x", y: measure, r: 4, symbol: () => one.shape, fill: one.colour, stroke: PAPER })),
      Plot.dot([panel.tuned].filter((row) => row[measure] !== null), { x: 0, y: measure, r: 4, fill: PAPER, stroke: INK, strokeWidth: 1.5 }),
      Plot.text(figures, { x: "x", y: measure, text: (row) => whole(row[measure]), dy: -12, fill: INK, stroke: PAPER, strokeWidth: 4, fontWeight: 600 }),
      Plot.text(labels, { x: most, y: (one) => place(one.y), text: (one) => one.lines.join("\n"), lineHeight: 1.1, dx: INSET + 4, textAnchor: "start", fill: (one) => one.colour }),
      Plot.tip(dots, Plot.pointer({
        x: "x", y: measure, ...tip,
        title: (row) => [row.name, `removed norm ${tenth(row.removed)}`, row.retention === null ? null : `retention ${tenth(row.retention)}`, row.low === null ? null : `95 % interval ${row.low.toFixed(1)} to ${tenth(row.high)}`, row.preserved === null ? null : `gains preserved ${tenth(row.preserved)}`].filter(Boolean).join("\n"),
      })),
    ],
  });
}

// Relations: from base to tuned, and what a constant guess or an echo would score.
function relations(chart) {
  const rows = data.relations[chart.dataset.domain];
  const longest = Math.max(...rows.map((row) => row.relation.length));
  const left = Math.min(14 + 6.7 * longest, 0.38 * chart.clientWidth);
  const colour = (row) => (row.tuned < row.base ? LOST : GAINED);
  const baseline = (measure, options) => Plot.text(rows.filter((row) => row[measure] !== null), { x: measure, y: "relation", fill: SOFT, ...options });
  return Plot.plot({
    ...frame(chart), height: 25 * rows.length + 46, marginLeft: left, marginRight: 44, marginTop: 16, marginBottom: 28,
    x: { domain: [0, 100] },
    y: { domain: rows.map((row) => row.relation), padding: 0.5, axis: null },
    marks: [
      grid("x"),
      percentAxis("x", { tickFormat: (at) => (at === 100 ? `${at} %` : whole(at)) }),
      Plot.text(rows, { y: "relation", frameAnchor: "left", textAnchor: "start", dx: -left, text: "relation", textOverflow: "ellipsis-end", lineWidth: left / 12.6 }),
      Plot.text(rows, { y: "relation", frameAnchor: "right", textAnchor: "end", dx: 44, fill: SOFT, text: (row) => row.n.toLocaleString("en") }),
      Plot.text(["facts"], { frameAnchor: "top-right", textAnchor: "end", dx: 44, dy: -12, fill: SOFT }),
      Plot.tickX(rows.filter((row) => row.majority !== null), { x: "majority", y: "relation", stroke: SOFT, strokeWidth: 2, insetTop: -2, insetBottom: -2 }),
      baseline("echo", { text: () => "×", fontSize: 15 }),
      Plot.link(rows, { x1: "base", x2: "tuned", y1: "relation", y2: "relation", stroke: colour, strokeWidth: 2 }),
      Plot.dot(rows, { x: "base", y: "relation", r: 4, fill: PAPER, stroke: INK, strokeWidth: 1.5 }),
      Plot.dot(rows, { x: "tuned", y: "relation", r: 4.5, fill: INK, stroke: PAPER }),
      Plot.tip(rows, Plot.pointerY({
        x: "tuned", y: "relation", ...tip,
        title: (row) => [`${row.relation}, ${row.n} facts`, `base ${tenth(row.base)}, tuned ${tenth(row.tuned)}`, row.majority === null ? null : `majority answer ${tenth(row.majority)}, echo ${tenth(row.echo)}`].filter(Boolean).join("\n"),
      })),
    ],
  });
}

// A task's figure against retention: what the fine-tune was for and what it cost.
function tasks(chart) {
  const rows = data.tasks[chart.dataset.task].flatMap((row) =>
    Object.entries(row.retention).map(([domain, kept]) => ({ ...row, domain, kept })));
  if (!rows.length) return document.createTextNode("no variant has both figures");
  const error = (row) => row.stderr ?? 0;
  const least = Math.min(...rows.map((row) => row.value - error(row)));
  const most = Math.max(...rows.map((row) => row.value + error(row)));
  const room = (most - least || Math.abs(most) || 1) * 0.15;
  const size = { width: chart.clientWidth, height: 290, left: 30, right: 24, top: 26, bottom: 44 };
  const x = [least - room, most + room];
  const lowest = Math.min(...rows.map((row) => row.kept)) - 8;  // room for a name
  const y = [Math.max(0, Math.min(75, 25 * Math.floor(lowest / 25))), 100];
  const across = (size.width - size.left - size.right) / (x[1] - x[0]);
  const up = (size.height - size.top - size.bottom) / (y[1] - y[0]);
  const series = seriesOf(rows);
  const several = series.length > 1;
  const colours = new Map(series.map((one) => [one.name, several ? one.colour : INK]));
  const colour = (row) => colours.get(row.series) ?? INK;
  const name = (row) => {
    if (!row.series) return row.name;
    return several ? row.series : row.restored === null ? row.name : `${row.restored} %`;
  };
  // Names go to base, tuned and the largest restore first, and to others where there is room; of
  // several series, each has its name once, above or below its last points.
  const ends = series.flatMap((one) => {
    const last = one.rows.filter((row) => row.name === one.rows.at(-1).name).sort((a, b) => b.kept - a.kept);
    return [{ ...last[0], dy: -13 }, { ...last.at(-1), dy: 14 }];
  });
  const plain = (row) => ({ ...row, dy: row.name === "tuned" ? 14 : -13 });
  const restored = several ? ends : rows.filter((row) => row.series).reverse().map(plain);
  const named = [];
  for (const row of [...rows.filter((one) => !one.series).map(plain), ...restored]) {
    const wide = (other) => Math.max(44, 3.1 * (name(row).length + name(other).length) + 8);
    const high = (other) => Math.abs((other.kept - row.kept) * up - (several ? other.dy - row.dy : 0));
    const clash = named.some((other) =>
      (several && row.series && other.series === row.series) || (Math.abs(other.value - row.value) * across < wide(other) && high(other) < 16));
    if (!clash) named.push(row);
  }
  // A name keeps within the picture.
  const anchor = (row) => {
    const half = 3.1 * name(row).length;
    const at = size.left + (row.value - x[0]) * across;
    return at < half ? "start" : at > size.width - half ? "end" : "middle";
  };
  const names = [-13, 14].flatMap((dy) => ["start", "middle", "end"].map((textAnchor) => Plot.text(named.filter((row) => row.dy === dy && anchor(row) === textAnchor), {
    x: "value", y: "kept", text: name, dy, textAnchor, stroke: PAPER, strokeWidth: 4, fill: colour,
  })));
  const isBase = (row) => row.name === "base";
  return Plot.plot({
    ...frame(chart), height: size.height, marginLeft: size.left, marginRight: size.right, marginTop: size.top, marginBottom: size.bottom,
    x: { domain: x },
    y: { domain: y },
    symbol: { type: "identity" },
    marks: [
      Plot.ruleY(GRID.filter((at) => at >= y[0]), { stroke: RULE, strokeWidth: (at) => (at === y[0] ? 1.25 : 0.6) }),
      percentAxis("y", { ticks: GRID.filter((at) => at >= y[0]) }),
      Plot.axisX({ ticks: 4, tickSize: 4, fill: SOFT, label: chart.dataset.task, labelAnchor: "center", labelArrow: "none" }),
      ...series.map((one) => Plot.line(one.rows.filter((row) => !isBase(row)), { x: "value", y: "kept", z: "domain", stroke: several ? one.colour : SOFT, strokeWidth: 1 })),
      Plot.ruleY(rows.filter((row) => row.stderr !== null), { y: "kept", x1: (row) => row.value - row.stderr, x2: (row) => row.value + row.stderr, stroke: INK, strokeOpacity: 0.4 }),
      Plot.dot(rows, { x: "value", y: "kept", symbol: (row) => (row.domain === "in" ? "circle" : "diamond2"), r: 4.5, fill: (row) => (isBase(row) ? PAPER : colour(row)), stroke: (row) => (isBase(row) ? INK : PAPER) }),
      ...names,
      Plot.tip(rows, Plot.pointer({
        x: "value", y: "kept", ...tip,
        title: (row) => `${row.name}, ${row.domain === "in" ? "in-domain" : "out-of-domain"}\n${chart.dataset.task} ${row.value.toPrecision(4)}\nretention ${tenth(row.kept)}`,
      })),
    ],
  });
}

// What was forgotten: each variant and noise of its size a line, with its interval.
function forgetting(chart) {
  const rows = data.forgetting[chart.dataset.domain];
  const all = Object.values(data.forgetting).flat();
  // One scale for both domains, so that they can be compared.
  const most = Math.max(...all.flatMap((row) => [row.high ?? row.value, ...row.draws]), 4);
  const ticks = d3.ticks(0, most, 4);
  const end = Math.max(most, ticks.at(-1));
  const noise = rows.find((row) => row.kind === "noise");
  const draws = rows.flatMap((row) => row.draws.map((value) => ({ name: row.name, value })));
  const colour = (row) => (row.kind === "noise" ? SOFT : INK);
  const figure = (row) => row.value.toFixed(1) + (row.low === null ? "" : ` [${whole(row.low)}, ${whole(row.high)}]`);
  const label = (row) => row.name.split(/ (?=\()/).map((line) => cut(line, 22)).join("\n");
  const variants = rows.filter((row) => row.kind !== "noise");
  const longest = Math.max(...variants.flatMap((row) => label(row).split("\n").map((line) => line.length)));
  const left = Math.max(104, 7 * longest), right = 104;
  const drawn = rows.filter((row) => row.low !== null);
  return Plot.plot({
    ...frame(chart), height: 34 * rows.length + 34, marginLeft: left, marginRight: right, marginTop: 6, marginBottom: 26,
    x: { domain: [0, end] },
    y: { domain: rows.map((row) => row.name), padding: 0.4, axis: null },
    marks: [
      Plot.ruleX(ticks, { stroke: RULE, strokeWidth: (at) => (at === 0 ? 1.25 : 0.6) }),
      Plot.axisX({ ticks, tickSize: 0, label: null, fill: SOFT, tickFormat: (at) => String(at) }),
      Plot.ruleX([noise.value], { stroke: SOFT, strokeDasharray: "2 3" }),
      Plot.text(rows, { y: "name", frameAnchor: "left", textAnchor: "start", dx: -left, text: label, fill: colour, lineHeight: 1.15 }),
      Plot.text(rows, { y: "name", frameAnchor: "right", textAnchor: "end", dx: right, text: figure, fill: colour }),
      Plot.ruleY(drawn, { y: "name", x1: "low", x2: "high", stroke: colour, strokeWidth: 1.5, strokeOpacity: 0.55 }),
      Plot.dot(draws, { x: "value", y: "name", r: 3.5, stroke: SOFT, fill: PAPER, strokeWidth: 1.25 }),
      Plot.dot(rows, { x: "value", y: "name", r: 4.5, fill: colour, stroke: PAPER }),
      Plot.tip(rows, Plot.pointerY({
        x: "value", y: "name", ...tip,
        title: (row) => [`${row.name}: ${tenth(row.value)} forgotten`, row.low === null ? null : `95 % interval ${row.low.toFixed(1)} to ${tenth(row.high)}`, row.draws.length ? `draws ${row.draws.map((one) => one.toFixed(1)).join(", ")}` : null].filter(Boolean).join("\n"),
      })),
    ],
  });
}

// Puts a drawing in place. To a screen reader it is a picture with a name; figures are in tables.
function put(chart, drawing) {
  chart.replaceChildren(drawing);
  chart.querySelectorAll("svg").forEach((svg) => svg.setAttribute("role", "img"));
  chart.querySelectorAll("g[aria-label]").forEach((part) => part.removeAttribute("aria-label"));
}

// Draws the charts that a script has functions for, and again when their width changes.
function drawAll(functions) {
  const draw = (chart) => {
    const width = chart.clientWidth;
    if (!width || Number(chart.dataset.width) === width) return;
    chart.dataset.width = width;
    put(chart, functions[chart.dataset.chart](chart));
  };
  const resized = new ResizeObserver((entries) => entries.forEach((entry) => draw(entry.target)));
  document.querySelectorAll(".chart").forEach((chart) => {
    if (!Object.hasOwn(functions, chart.dataset.chart)) return;
    draw(chart);
    resized.observe(chart);
  });
}

const DRAW = { levels, outcomes, forgetting, restore, criteria, relations, tasks };

drawAll(DRAW);
