// How the weights moved: a heat map of layers and modules for each measure.
"use strict";

{
  const said = (value) => (value === null ? "none" : Number(value.toPrecision(3)).toString());

  function movement(chart) {
    const measure = chart.dataset.domain;
    const { modules, cells } = data.movement[measure];
    const known = cells.filter((cell) => cell.value !== null);
    const values = known.map((cell) => cell.value);
    const signed = measure === "cosine";
    // Shares keep their whole scale, so that an even map looks even; norms have none of their own.
    const least = signed ? -1 : measure === "relative" ? 0 : Math.min(0, ...values);
    const most = signed ? 1 : measure === "relative" ? Math.max(...values) : Math.max(100, ...values);
    const depth = (cell) => (signed ? Math.abs(cell.value) : (cell.value - least) / (most - least || 1));
    const layers = d3.range(d3.min(cells, (cell) => cell.layer), d3.max(cells, (cell) => cell.layer) + 1);
    const longest = Math.max(...modules.map((name) => Math.min(name.length, 22)));
    const left = 6.6 * longest + 12, height = 20 * modules.length + 62;
    const width = (chart.clientWidth - left) / layers.length;
    const every = Math.ceil(26 / Math.max(width, 1));
    const steps = d3.range(0, 1.0001, 0.05);
    const key = Math.min(130, chart.clientWidth - left);
    return Plot.plot({
      ...frame(chart), height, marginLeft: left, marginRight: 0, marginTop: 2, marginBottom: 58,
      x: { type: "band", domain: layers, padding: 0.06 },
      y: { type: "band", domain: modules, padding: 0.1, axis: null },
      opacity: { type: "identity" },
      marks: [
        Plot.axisX({ tickSize: 0, fill: SOFT, label: null, ticks: layers.filter((at) => at % every === 0), tickFormat: String }),
        Plot.text(modules, { y: (name) => name, frameAnchor: "left", textAnchor: "end", dx: -8, text: (name) => cut(name, 22) }),
        Plot.cell(cells, { x: "layer", y: "module", fill: "var(--faint)", fillOpacity: 0.55 }),
        Plot.cell(known, {
          x: "layer", y: "module", fillOpacity: (cell) => Math.max(0.02, depth(cell)),
          fill: (cell) => (signed && cell.value < 0 ? LOST : signed ? GAINED : INK),
        }),
        ...steps.map((step) => Plot.text(["■"], {
          frameAnchor: "bottom-left", textAnchor: "start", dx: (step * (key - 12)), dy: 50, fontSize: 12,
          fill: signed ? (step < 0.5 ? LOST : GAINED) : INK, fillOpacity: Math.max(0.05, signed ? Math.abs(2 * step - 1) : step),
        })),
        Plot.text([said(least)], { frameAnchor: "bottom-left", textAnchor: "end", dx: -6, dy: 50, fill: SOFT }),
        Plot.text([said(most)], { frameAnchor: "bottom-left", textAnchor: "start", dx: key + 4, dy: 50, fill: SOFT }),
        Plot.tip(known, Plot.pointer({
          x: "layer", y: "module", ...tip, title: (cell) => `Layer ${cell.layer}, ${cell.module}\n${said(cell.value)}`,
        })),
      ],
    });
  }

  drawAll({ movement });
}
