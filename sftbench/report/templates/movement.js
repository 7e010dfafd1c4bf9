// How the weights moved: a heat map of layers and modules for each measure.
"use strict";

{
  const said = (value) => Number(value.toPrecision(3)).toString().replace("-", "−");
  const mixed = (colour, part) => `color-mix(in srgb, ${colour} ${(100 * part).toFixed(1)}%, var(--faint))`;
  const shade = (part) => mixed(INK, part);
  const turn = (part) => mixed(part < 0 ? LOST : GAINED, Math.abs(part));

  // Shares keep their whole scale, so that an even map looks even. Norms have none of their own:
  // theirs is of ratios, at least ten times from end to end, so that even ones look even as well.
  function scaleOf(measure, values) {
    if (measure === "cosine") return { ends: [-1, 1], colour: turn, steps: [-1, 0, 1] };
    if (measure !== "relative") return { ends: [0, 100], colour: (value) => shade(value / 100), steps: [0, 1] };
    const most = Math.max(...values);
    const least = Math.min(most / 10, Math.max(most / 100, Math.min(...values.filter((one) => one > 0))));
    const depth = (value) => Math.min(1, Math.max(0, Math.log(value / least) / Math.log(most / least)));
    const colour = (value) => (value > 0 ? shade(0.08 + 0.92 * depth(value)) : shade(0));
    return { ends: [least, most], colour, steps: [0.08, 1], under: values.some((one) => one < least), note: "by ratio" };
  }

  function keyOf({ ends, steps, colour, under, note }, missing) {
    const key = document.createElement("p");
    key.className = "legend mapkey";
    const span = (text) => {
      const made = document.createElement("span");
      made.textContent = text;
      key.append(made);
      return made;
    };
    span((under ? "≤ " : "") + said(ends[0]));
    const bar = document.createElement("i");
    const stops = steps.map((step) => (ends[0] < 0 ? turn(step) : shade(step)));
    bar.style.background = `linear-gradient(to right in srgb, ${stops.join(", ")})`;
    key.append(bar);
    span(said(ends[1]) + (note ? ` (${note})` : ""));
    if (missing) span("· no such figure").style.color = SOFT;
    return key;
  }

  function movement(chart) {
    const { modules, cells } = data.movement[chart.dataset.domain];
    const known = cells.filter((cell) => cell.value !== null);
    const missing = cells.filter((cell) => cell.value === null);
    const scale = scaleOf(chart.dataset.domain, known.map((cell) => cell.value));
    const layers = d3.range(d3.min(cells, (cell) => cell.layer), d3.max(cells, (cell) => cell.layer) + 1);
    const most = chart.clientWidth < 380 ? 18 : 26;
    const left = 6.5 * Math.max(...modules.map((name) => Math.min(name.length, most))) + 10;
    const width = (chart.clientWidth - left) / layers.length;
    const every = [1, 2, 5, 10, 20, 50, 100].find((step) => step * width >= 24) ?? 100;
    const box = document.createElement("div");
    box.append(Plot.plot({
      ...frame(chart), height: 20 * modules.length + 42, marginLeft: left, marginRight: 0, marginTop: 2, marginBottom: 40,
      x: { type: "band", domain: layers, padding: width < 8 ? 0 : 0.06 },
      y: { type: "band", domain: modules, padding: 0.1, axis: null },
      marks: [
        Plot.axisX({ tickSize: 0, fill: SOFT, label: null, ticks: layers.filter((at) => at % every === 0), tickFormat: String }),
        Plot.text(["layer"], { frameAnchor: "bottom", dy: 34, fill: SOFT }),
        Plot.text(modules, { y: (name) => name, frameAnchor: "left", textAnchor: "end", dx: -8, text: (name) => cut(name, most) }),
        Plot.text(missing, { x: "layer", y: "module", text: () => "·", fill: SOFT }),
        Plot.cell(known, { x: "layer", y: "module", fill: (cell) => scale.colour(cell.value) }),
        Plot.tip(known, Plot.pointer({
          x: "layer", y: "module", ...tip, title: (cell) => `layer ${cell.layer}, ${cell.module}\n${said(cell.value)}${chart.dataset.domain === "cosine" ? "" : " %"}`,
        })),
      ],
    }), keyOf(scale, missing.length > 0));
    return box;
  }

  drawAll({ movement });
}
