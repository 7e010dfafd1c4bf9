// The charts of the kinds of loss: facts lost by kind, levels before and after, calibration.
"use strict";

{
  const KINDS = [
    { key: "format", name: "format", fill: "var(--format)", ink: "var(--on-format)" },
    { key: "access", name: "access", fill: "var(--access)", ink: "var(--on-access)" },
    { key: "knowledge", name: "knowledge", fill: LOST, ink: "var(--on-lost)" },
    { key: "undecided", name: "undecided", fill: "var(--wrong)", ink: "var(--on-wrong)" },
  ];
  const shown = (value) => (Number.isInteger(value) ? value.toLocaleString("en") : value.toFixed(1));

  // Facts lost, each variant a bar whose parts are the kinds; the controls are named in grey.
  function kinds(chart) {
    const rows = data.kinds[chart.dataset.domain];
    const most = Math.max(...rows.map((row) => row.lost), 1);
    const ticks = d3.ticks(0, most, 4).filter(Number.isInteger);
    const label = (row) => row.name.split(/ (?=\(|against)/).map((line) => cut(line, 20)).join("\n");
    const control = (row) => row.series === "noise" || row.series === "itself";
    const longest = Math.max(...rows.flatMap((row) => label(row).split("\n").map((line) => line.length)));
    const left = Math.max(90, 6.9 * longest + 8), right = 48;
    const scale = (chart.clientWidth - left - right) / most;
    const parts = rows.flatMap((row) => {
      let start = 0;
      return KINDS.map((kind) => {
        const from = start;
        start += row[kind.key];
        return { row, name: row.name, kind, count: row[kind.key], from, to: start };
      }).filter((part) => part.count > 0);
    });
    const fits = (part) => (part.to - part.from) * scale > 9 + 7 * shown(part.count).length;
    const bold = rows.filter((row) => !control(row)), grey = rows.filter(control);
    const names = (those, fill) => Plot.text(those, { y: "name", frameAnchor: "left", textAnchor: "start", dx: -left, text: label, fill, lineHeight: 1.15 });
    return Plot.plot({
      ...frame(chart), height: 36 * rows.length + 30, marginLeft: left, marginRight: right, marginTop: 4, marginBottom: 26,
      x: { domain: [0, most] },
      y: { domain: rows.map((row) => row.name), padding: 0.22, axis: null },
      marks: [
        Plot.ruleX(ticks, { stroke: RULE, strokeWidth: (at) => (at === 0 ? 1.25 : 0.6) }),
        Plot.axisX({ ticks, tickSize: 0, label: null, fill: SOFT, tickFormat: (at) => at.toLocaleString("en") }),
        names(bold, INK), names(grey, SOFT),
        Plot.barX(parts, { x1: "from", x2: "to", y: "name", fill: (part) => part.kind.fill, insetLeft: 0.5, insetRight: 0.5 }),
        ...KINDS.map((kind) => Plot.text(parts.filter((part) => part.kind === kind && fits(part)), {
          x: (part) => (part.from + part.to) / 2, y: "name", text: (part) => shown(part.count), fill: kind.ink,
        })),
        Plot.text(rows, { x: "lost", y: "name", text: (row) => shown(row.lost), dx: 6, textAnchor: "start", fill: INK, fontWeight: 600 }),
        Plot.tip(parts, Plot.pointer({
          x: (part) => (part.from + part.to) / 2, y: "name", ...tip,
          title: (part) => `${part.name}: ${shown(part.count)} of ${shown(part.row.lost)} lost, ${part.kind.name}\n${tenth((100 * part.count) / part.row.lost)}`,
        })),
      ],
    });
  }

  const MOVES = [
    { key: "fell", fill: LOST, ink: "var(--on-lost)" },
    { key: "stayed", fill: SOFT, ink: PAPER },
    { key: "rose", fill: GAINED, ink: "var(--on-gained)" },
  ];
  const LEVELS = [0, 1, 2, 3, 4];

  // Facts by their level in the card (rows) and measured again (columns).
  function mastery(chart) {
    const cells = data.mastery[chart.dataset.domain];
    const rows = cells.filter((cell) => cell.again === 0);
    const left = 52, right = 50;
    const dark = (cell) => cell.share > 0.5;
    const texts = (those, fill) => Plot.text(those, { x: "again", y: "level", text: (cell) => cell.facts.toLocaleString("en"), fill });
    const filled = cells.filter((cell) => cell.facts);
    return Plot.plot({
      ...frame(chart), height: 232, marginLeft: left, marginRight: right, marginTop: 20, marginBottom: 40,
      x: { type: "band", domain: LEVELS, padding: 0.04, label: null },
      y: { type: "band", domain: LEVELS.toReversed(), padding: 0.06, axis: null },
      opacity: { type: "identity" },
      marks: [
        Plot.axisX({ tickSize: 0, fill: INK, label: null, tickFormat: String }),
        Plot.text(["level measured again"], { frameAnchor: "bottom", dy: 34, fill: SOFT }),
        Plot.text(rows, { y: "level", frameAnchor: "left", textAnchor: "end", dx: -10, text: (cell) => String(cell.level) }),
        Plot.text(["card"], { frameAnchor: "top-left", textAnchor: "end", dx: -10, dy: -16, fill: SOFT }),
        Plot.text(rows, { y: "level", frameAnchor: "right", textAnchor: "end", dx: right, fill: SOFT, text: (cell) => cell.of.toLocaleString("en") }),
        Plot.text(["facts"], { frameAnchor: "top-right", textAnchor: "end", dx: right, dy: -16, fill: SOFT }),
        Plot.cell(cells, { x: "again", y: "level", fill: "var(--faint)", fillOpacity: 0.55 }),
        ...MOVES.flatMap((move) => {
          const mine = filled.filter((cell) => cell.move === move.key);
          return [
            Plot.cell(mine, { x: "again", y: "level", fill: move.fill, fillOpacity: (cell) => 0.1 + 0.9 * cell.share }),
            texts(mine.filter(dark), move.ink),
            texts(mine.filter((cell) => !dark(cell)), INK),
          ];
        }),
        Plot.tip(filled, Plot.pointer({
          x: "again", y: "level", ...tip,
          title: (cell) => `Level ${cell.level} in the card, ${cell.again} measured again\n${cell.facts} of ${cell.of} facts, ${tenth(100 * cell.share)}`,
        })),
      ],
    });
  }

  // Confidence of the model's own answer against how often that is right, in bins of equal size.
  function reliability(chart) {
    const bins = data.reliability[chart.dataset.domain];
    const isBase = chart.dataset.domain.endsWith(" base");
    return Plot.plot({
      ...frame(chart), height: 270, marginLeft: 34, marginRight: 14, marginTop: 24, marginBottom: 44,
      x: { domain: [0, 100], inset: 6 },
      y: { domain: [0, 100], inset: 6 },
      marks: [
        Plot.ruleY(GRID, { stroke: RULE, strokeWidth: 0.6 }),
        Plot.ruleX(GRID, { stroke: RULE, strokeWidth: 0.6 }),
        percentAxis("y", { tickPadding: 8 }),
        percentAxis("x", { tickPadding: 8 }),
        Plot.text(["right, %"], { frameAnchor: "top-left", textAnchor: "start", dx: -34, dy: -18, fill: SOFT }),
        Plot.text(["probability of the answer, %"], { frameAnchor: "bottom", dy: 38, fill: SOFT }),
        Plot.link([0], { x1: 0, y1: 0, x2: 100, y2: 100, stroke: SOFT, strokeDasharray: "2 3" }),
        Plot.ruleX(bins, { x: "confidence", y1: "low", y2: "high", stroke: INK, strokeWidth: 1.5, strokeOpacity: 0.5 }),
        Plot.line(bins, { x: "confidence", y: "accuracy", stroke: INK, strokeWidth: 1, strokeOpacity: 0.6 }),
        Plot.dot(bins, { x: "confidence", y: "accuracy", r: 4.5, fill: isBase ? PAPER : INK, stroke: isBase ? INK : PAPER, strokeWidth: 1.5 }),
        Plot.tip(bins, Plot.pointer({
          x: "confidence", y: "accuracy", ...tip,
          title: (bin) => `${bin.n} facts: probability ${tenth(bin.confidence)}, right ${tenth(bin.accuracy)}\n95 % interval ${bin.low.toFixed(1)} to ${tenth(bin.high)}`,
        })),
      ],
    });
  }

  drawAll({ kinds, mastery, reliability });
}
