// How the predictions moved: divergence by position, and retention, drift and size together.
"use strict";

{
  const INKS = { tuned: INK, restored: GAINED, noise: SOFT, floor: SOFT };
  const nats = (value) => Number(value.toPrecision(2)).toString();
  const powers = (low, high) => d3.range(Math.floor(Math.log10(low)), Math.ceil(Math.log10(high)) + 1).map((at) => 10 ** at);

  function drift(chart) {
    const rows = data.drift[chart.dataset.domain];
    const names = [...new Set(rows.map((row) => row.name))];
    const last = names.map((name) => rows.filter((row) => row.name === name).at(-1));
    const ticks = powers(d3.min(rows, (row) => row.low ?? row.value), d3.max(rows, (row) => row.high ?? row.value));
    const right = 7 * Math.min(22, d3.max(names, (name) => name.length)) + 6;
    const of = (name) => rows.filter((row) => row.name === name);
    // Names at the ends of lines, moved apart where lines end close to each other.
    const height = 270, top = 8, bottom = 40;
    const y = d3.scaleLog([ticks[0], ticks.at(-1)], [height - bottom, top]);
    const places = last.map((row) => ({ row, at: y(row.value) })).sort((one, two) => one.at - two.at);
    places.forEach((place, i) => { if (i) place.at = Math.max(place.at, places[i - 1].at + 14); });
    return Plot.plot({
      ...frame(chart), height, marginLeft: 44, marginRight: right, marginTop: top, marginBottom: bottom,
      x: { domain: d3.extent(rows, (row) => row.position), inset: 6 },
      y: { type: "log", domain: [ticks[0], ticks.at(-1)] },
      marks: [
        Plot.ruleY(ticks, { stroke: RULE, strokeWidth: 0.6 }),
        Plot.axisY({ ticks, tickSize: 0, label: null, fill: SOFT, tickFormat: (at) => (at < 0.001 ? at.toExponential(0) : String(at)) }),
        Plot.axisX({ ticks: [...new Set(rows.map((row) => row.position))], tickSize: 0, label: null, fill: SOFT, tickFormat: String }),
        Plot.text(["position"], { frameAnchor: "bottom", dy: 34, fill: SOFT }),
        ...names.flatMap((name) => {
          const mine = of(name), ink = INKS[mine[0].series];
          return [
            Plot.ruleX(mine.filter((row) => row.low !== null), { x: "position", y1: "low", y2: "high", stroke: ink, strokeOpacity: 0.4 }),
            Plot.line(mine, { x: "position", y: "value", stroke: ink, strokeWidth: mine[0].series === "tuned" ? 2 : 1.25, strokeDasharray: mine[0].series === "floor" ? "2 3" : null }),
            Plot.dot(mine, { x: "position", y: "value", r: 3, fill: ink, stroke: PAPER, strokeWidth: 0.75 }),
          ];
        }),
        ...places.map((place) => Plot.text([place.row], { frameAnchor: "top-right", textAnchor: "start", dx: 8, dy: place.at - top, lineAnchor: "middle", fill: INKS[place.row.series], text: (row) => cut(row.name, 22) })),
        Plot.tip(rows, Plot.pointer({ x: "position", y: "value", ...tip, title: (row) => `${row.name}, position ${row.position}\n${nats(row.value)} nats` })),
      ],
    });
  }

  function together(chart) {
    const rows = data.together[chart.dataset.domain];
    const ticks = powers(d3.min(rows, (row) => row.kl), d3.max(rows, (row) => row.kl));
    const least = Math.max(0, Math.floor((d3.min(rows, (row) => row.retention) - 8) / 10) * 10);
    // The tuned model is named below its point, restores above theirs, higher where names meet.
    const across = d3.scaleLog([ticks[0], ticks.at(-1)], [34, chart.clientWidth - 20]);
    const down = d3.scaleLinear([least, 100], [270 - 42 - 10, 16 + 10]);
    const labels = [];
    rows.filter((row) => row.series !== "noise").forEach((row) => {
      const x = across(row.kl), own = down(row.retention);
      let y = own + (row.series === "tuned" ? 19 : -17);
      while (labels.some((one) => Math.abs(one.x - x) < 86 && Math.abs(one.y - y) < 13)) y -= 13;
      labels.push({ row, x, y, dy: y - own });
    });
    const dots = (those) => Plot.dot(those, {
      x: "kl", y: "retention", r: (row) => 2 + 9 * (row.norm / 100), fill: (row) => INKS[row.series], fillOpacity: 0.75, stroke: PAPER,
    });
    return Plot.plot({
      ...frame(chart), height: 270, marginLeft: 34, marginRight: 20, marginTop: 16, marginBottom: 42,
      x: { type: "log", domain: [ticks[0], ticks.at(-1)] },
      y: { domain: [least, 100], inset: 10 },
      r: { type: "identity" },
      marks: [
        Plot.ruleY(d3.ticks(least, 100, 5), { stroke: RULE, strokeWidth: 0.6 }),
        Plot.ruleX(ticks, { stroke: RULE, strokeWidth: 0.6 }),
        Plot.axisY({ ticks: 5, tickSize: 0, label: null, fill: SOFT }),
        Plot.axisX({ ticks, tickSize: 0, label: null, fill: SOFT, tickFormat: (at) => (at < 0.001 ? at.toExponential(0) : String(at)) }),
        Plot.text(["KL(variant || base), nats"], { frameAnchor: "bottom", dy: 36, fill: SOFT }),
        dots(rows),
        ...labels.map((one) => Plot.text([one.row], { x: "kl", y: "retention", dy: one.dy, text: (row) => cut(row.name, 24), fill: INKS[one.row.series], stroke: PAPER, strokeWidth: 4 })),
        Plot.tip(rows, Plot.pointer({
          x: "kl", y: "retention", ...tip,
          title: (row) => `${row.name}\n${nats(row.kl)} nats, retention ${tenth(row.retention)}\nnorm left ${tenth(row.norm)}`,
        })),
      ],
    });
  }

  drawAll({ drift, together });
}
