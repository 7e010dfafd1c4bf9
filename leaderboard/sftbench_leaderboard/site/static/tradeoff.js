// The trade-off: retention against task gain, with the models that nothing beats in both.
"use strict";

{
  const { groups, pages } = data;
  const of = columnsOf(data.columns);
  const byId = (id) => document.getElementById(id);
  const places = [...Array(pages.length).keys()];
  const taskOf = (at) => `${of.task(at)} ${of.metric(at)}`;
  const ids = groupOrder(groups).filter((id) => places.some((at) => of.group(at) === id));
  let state = {};

  function pointsOf() {
    const key = `${state.domain}_retention`;
    const share = isShare();
    return places.filter((at) => of.group(at) === state.g && taskOf(at) === state.task && KINDS[state.kind].includes(of.kind(at)) && of[key](at) !== null).map((at) => ({
      page: pages[at], kind: of.kind(at), method: of.method(at), size: of.size(at),
      name: of.model(at) + (of.label(at) === null ? "" : `, ${of.label(at)}`),
      gain: share * of.gain(at), error: of.stderr(at) === null ? null : share * of.stderr(at),
      retention: 100 * of[key](at), low: of[`${key}_low`](at), high: of[`${key}_high`](at),
    }));
  }

  // A metric that stays between 0 and 1 is a share, and gains are points; others keep their unit.
  function isShare() {
    const of_task = places.filter((at) => of.group(at) === state.g && taskOf(at) === state.task);
    return of_task.every((at) => [of.value(at), of.base_value(at)].every((one) => one >= 0 && one <= 1)) ? 100 : 1;
  }
  const unit = () => (isShare() === 100 ? "points" : "in the metric's unit");

  // From the largest gain down, those that keep more than all with more gain.
  function frontOf(points) {
    const found = [];
    for (const one of [...points].sort((a, b) => b.gain - a.gain || b.retention - a.retention)) {
      if (!found.length || one.retention > found.at(-1).retention) found.push(one);
    }
    return found;
  }

  function chartOf(points, front) {
    const chart = element("div", { class: "chart", "data-label": "Retention against task gain; the models on the line are in the table below" });
    const draw = () => {
      if (!chart.clientWidth) return;
      const bounded = points.filter((one) => one.low !== null), erring = points.filter((one) => one.error !== null);
      const few = points.length <= 60; // of more, the intervals would hide the points
      const fill = (one) => (one.kind === "tuned" ? INK : one.kind === "restored" ? GAINED : SOFT);
      const lows = few ? bounded.map((one) => 100 * one.low) : [];
      const least = Math.max(0, 10 * Math.floor(Math.min(...points.map((one) => one.retention), ...lows) / 10));
      put(chart, Plot.plot({
        ...frame(chart), height: 420, marginLeft: 36, marginRight: 24, marginTop: 26, marginBottom: 44,
        x: { nice: true, inset: 12 }, y: { domain: [least, 100] },
        marks: [
          Plot.ruleY(d3.ticks(least, 100, 5), { stroke: RULE, strokeWidth: 0.6 }),
          Plot.axisY({ ticks: d3.ticks(least, 100, 5), tickSize: 0, label: null, fill: SOFT }),
          Plot.axisX({ tickSize: 4, label: null, fill: SOFT, tickFormat: (at) => (at > 0 ? `+${at}` : String(at).replace("-", MINUS)) }),
          Plot.text(["retention (mean over levels), %"], { frameAnchor: "top-left", textAnchor: "start", dx: -36, dy: -20, fill: SOFT }),
          Plot.text([`task gain, ${unit()}`], { frameAnchor: "bottom-right", textAnchor: "end", dy: 38, fill: SOFT }),
          Plot.ruleX([0], { stroke: RULE }),
          Plot.line(front, { x: "gain", y: "retention", stroke: SOFT, strokeDasharray: "3 3", curve: "step-after" }),
          ...(few ? [
            Plot.ruleX(bounded, { x: "gain", y1: (one) => 100 * one.low, y2: (one) => 100 * one.high, stroke: fill, strokeOpacity: 0.4, strokeWidth: 1.5 }),
            Plot.ruleY(erring, { y: "retention", x1: (one) => one.gain - 2 * one.error, x2: (one) => one.gain + 2 * one.error, stroke: fill, strokeOpacity: 0.25, strokeWidth: 1.5 }),
          ] : []),
          Plot.dot(points, { x: "gain", y: "retention", r: 5, fill, stroke: PAPER }),
          Plot.text(front.slice(0, 8), { x: "gain", y: "retention", text: (one) => cut(one.name.split("/").at(-1), 28), dy: -12, fill: INK, stroke: PAPER, strokeWidth: 4 }),
          Plot.tip(points, Plot.pointer({ x: "gain", y: "retention", ...tip, title: (one) => `${one.name}\ngain ${figureOf(one.gain)}\nretention ${tenth(one.retention)}${one.low === null ? "" : ` [${percentOf(one.low, 0)}, ${percentOf(one.high, 0)}]`}` })),
        ],
      }));
    };
    new ResizeObserver(draw).observe(chart);
    // The point that the pointer is near opens its model; the table below has links.
    chart.addEventListener("click", () => {
      const near = chart.querySelector("svg").value;
      if (near) location.href = `models/${near.page}`;
    });
    return element("figure", { class: "tall" }, chart);
  }

  function tableOf(front) {
    const rows = front.map((one) => element("tr", {},
      element("th", { scope: "row" }, element("a", { href: `models/${one.page}` }, one.name)),
      element("td", { class: "num" }, `${one.gain > 0 ? "+" : ""}${figureOf(one.gain)}`.replace("-", MINUS)),
      element("td", { class: "num" }, one.retention.toFixed(1), " ", element("small", { class: "bracket" }, bracketOf(one.low, one.high))),
      element("td", {}, one.method ?? MISSING), element("td", { class: "num" }, countOf(one.size))));
    return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Models on the line" }, element("table", {},
      element("caption", {}, element("span", {}, "On the line: nothing has both more gain and more retention")),
      element("thead", {}, element("tr", {}, ...["Model", `task gain, ${unit()}`, "retention, %", "method", "tuned on, facts"].map((text, at) => element("th", { scope: "col", class: [1, 2, 4].includes(at) ? "num" : null }, text)))),
      element("tbody", {}, ...rows)));
  }

  function legend() {
    const dot = (kind) => element("i", { class: `dot ${kind}` });
    return element("p", { class: "legend" }, element("span", {}, dot(""), "tuned"), element("span", {}, dot("gained"), "restored"), state.kind === "all" ? element("span", {}, dot("soft"), "control restore") : null);
  }

  function draw() {
    const tasks = [...new Set(places.filter((at) => of.group(at) === state.g).map(taskOf))];
    if (!tasks.includes(state.task)) state.task = tasks[0];
    optionsOf(byId("task"), tasks.map((one) => [one, one]));
    ["task", "domain", "kind"].forEach((name) => { byId(name).value = state[name]; });
    byId("group").value = state.g;
    const points = pointsOf();
    const front = frontOf(points);
    byId("said").textContent = `${countOf(points.length)} records, ${countOf(front.length)} on the line.`;
    byId("found").replaceChildren(...(points.length ? [legend(), chartOf(points, front), tableOf(front)] : []));
  }

  function change(changes) {
    state = { ...state, ...changes };
    draw();
    writeState(state);
  }

  function fromAddress() {
    const read = readState();
    state = { g: ids.includes(read.g) ? read.g : ids[0], task: read.task ?? "", domain: read.domain === "out" ? "out" : "in", kind: Object.hasOwn(KINDS, read.kind ?? "") ? read.kind ?? "" : "" };
    draw();
  }

  if (places.length) {
    byId("controls").hidden = false;
    optionsOf(byId("group"), ids.map((id) => [id, longGroupName(groups, id)]));
    optionsOf(byId("kind"), KIND_NAMES);
    ["task", "domain", "kind"].forEach((name) => byId(name).addEventListener("change", (event) => change({ [name]: event.target.value })));
    byId("group").addEventListener("change", (event) => change({ g: event.target.value }));
    addEventListener("hashchange", fromAddress);
    fromAddress();
  } else {
    byId("said").textContent = "No record has task figures: run `sftbench compare --tasks ...` before submitting.";
  }
}
