// The compare page: models of one group against the first of them, from who answered what right.
"use strict";

{
  const { groups, answers } = data;
  const byId = (id) => document.getElementById(id);
  const SHOWN = 40;
  const ALPHA = 0.025; // of each side: 95 % intervals
  const COLOURS = [INK, ...[2, 3, 4, 5, 6].map((number) => `var(--series-${number})`)];
  let group = null;
  let chosen = []; // ids of records, the reference first

  // A group's records and facts, unpacked once.
  const cache = new Map();
  function groupOf(id) {
    if (!cache.has(id)) cache.set(id, unpack(id));
    return cache.get(id);
  }

  function unpack(id) {
    const { facts, records } = answers[id];
    const of = columnsOf({ model: records.model, label: records.label });
    const factOf = columnsOf({ relation: facts.relation, domain: facts.domain });
    const n = facts.level.length;
    const models = records.record.map((record, at) => ({
      record, at, page: records.page[at], label: of.model(at) + (of.label(at) === null ? "" : `, ${of.label(at)}`),
    }));
    const rows = Array.from({ length: n }, (_, at) => ({
      at, level: facts.level[at], relation: factOf.relation(at), domain: factOf.domain(at),
      cluster: facts.cluster[at], question: facts.question[at], answer: facts.answer[at],
    }));
    const known = paired.bits(facts.known, n);
    return { models, rows, known, byRecord: new Map(models.map((one) => [one.record, one])), right: (one) => paired.bits(records.right[one.at], n) };
  }

  // The facts that retention is of in a domain, and their design.
  function scoredOf(found, domain) {
    const rows = found.rows.filter((row) => row.domain === domain && row.level > 0 && found.known[row.at]);
    if (!rows.length) return null;
    const place = (values) => { const ids = new Map(); return values.map((one) => { if (!ids.has(one)) ids.set(one, ids.size); return ids.get(one); }); };
    const cluster = place(rows.map((row) => row.cluster));
    const relation = place(rows.map((row) => row.relation));
    const stratum = [];
    cluster.forEach((one, at) => { stratum[one] = relation[at]; });
    return { rows, design: paired.design({ level: rows.map((row) => row.level), cluster, stratum }) };
  }

  const bitsAt = (right, rows) => rows.map((row) => right[row.at]);
  function scoreOf(scored, bits) {
    const levels = d3.rollups(scored.rows.map((row, at) => [row.level, bits[at]]), (those) => d3.mean(those, (one) => one[1]), (one) => one[0]);
    return { score: d3.mean(levels, (one) => one[1]), levels: new Map(levels) };
  }

  function verdict(low, high) {
    if (low > 0) return ["keeps more", "up"];
    return high < 0 ? ["keeps less", "down"] : ["not told apart", ""];
  }

  function differences(found, domain, models) {
    const scored = scoredOf(found, domain);
    if (scored === null) return null;
    const bits = models.map((one) => bitsAt(found.right(one), scored.rows));
    const rows = models.map((one, at) => {
      const { score, levels } = scoreOf(scored, bits[at]);
      if (at === 0) return { one, score, levels, contrast: null };
      const contrast = paired.contrast(scored.design, bits[0], bits[at]);
      return { one, score, levels, contrast, ...contrast.bounds(ALPHA) };
    });
    return { domain, rows, n: scored.rows.length };
  }

  const link = (one) => element("a", { href: `models/${one.page}` }, one.label);

  function differenceTable({ domain, rows, n }) {
    const cells = rows.map(({ one, score, contrast, low, high }) => {
      const [text, side] = contrast === null ? ["reference", ""] : verdict(low, high);
      return element("tr", {},
        element("th", { scope: "row" }, link(one)),
        element("td", { class: "num strong" }, percentOf(score)),
        element("td", { class: "num" }, ...(contrast === null ? [MISSING] : [signedOf(contrast.value), " ", element("small", { class: "bracket" }, `[${signedOf(low)}, ${signedOf(high)}]`)])),
        element("td", { class: side }, text),
        element("td", { class: "num" }, contrast === null ? MISSING : countOf(contrast.gained)),
        element("td", { class: "num" }, contrast === null ? MISSING : countOf(contrast.lost)),
        element("td", { class: "num" }, contrast === null ? MISSING : countOf(contrast.kept)),
      );
    });
    const head = ["Model", "retention, %", "difference, points [95 %]", "against the reference", "only it keeps", "only the reference keeps", "both keep"];
    return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Differences ${domainName[domain]}` }, element("table", {},
      element("caption", {}, element("span", {}, `${names[domain]}, ${countOf(n)} facts`)),
      element("thead", {}, element("tr", {}, ...head.map((text, at) => element("th", { scope: "col", class: at && at !== 3 ? "num" : null }, text)))),
      element("tbody", {}, ...cells)));
  }
  const names = { in: "In-domain", out: "Out-of-domain" };

  function levelsChart({ domain, rows }) {
    const points = rows.flatMap(({ one, levels }, at) => [...levels].map(([level, share]) => ({ level, share: 100 * share, name: one.label, at })));
    const levels = [...new Set(points.map((one) => one.level))].sort();
    const chart = element("div", { class: "chart", "data-label": `Retention by level ${domainName[domain]}` });
    const draw = () => {
      const width = chart.clientWidth;
      if (!width) return;
      const step = Math.min(12, 60 / rows.length);
      put(chart, Plot.plot({
        ...frame(chart), height: 230, marginLeft: 30, marginRight: 8, marginTop: 12, marginBottom: 26,
        x: { type: "point", domain: levels, padding: 0.5 }, y: { domain: [0, 100] },
        marks: [
          grid("y"), percentAxis("y"), Plot.axisX({ tickSize: 0, label: null, fill: SOFT, tickFormat: (level) => `level ${level}` }),
          ...rows.map((_, at) => Plot.dot(points.filter((one) => one.at === at), { x: "level", y: "share", r: 4.5, dx: (at - (rows.length - 1) / 2) * step, fill: COLOURS[at], stroke: PAPER })),
          Plot.tip(points, Plot.pointer({ x: "level", y: "share", ...tip, title: (one) => `${one.name}\nlevel ${one.level}: ${tenth(one.share)}` })),
        ],
      }));
    };
    new ResizeObserver(draw).observe(chart);
    return element("figure", {}, element("figcaption", {}, names[domain], element("small", {}, " % kept by level")), chart);
  }

  function legend(models) {
    const parts = models.map((one, at) => {
      const dot = element("i", { class: "dot" });
      dot.style.setProperty("background", COLOURS[at]);
      return element("span", {}, dot, one.label);
    });
    return element("p", { class: "legend" }, ...parts);
  }

  // Facts that one of two models keeps and the other loses, the best known first.
  function factsApart(found, reference, other) {
    const [mine, theirs] = [found.right(reference), found.right(other)];
    const apart = found.rows.filter((row) => found.known[row.at] && row.level > 0 && mine[row.at] !== theirs[row.at]);
    apart.sort((a, b) => b.level - a.level || a.relation.localeCompare(b.relation));
    const rows = apart.slice(0, SHOWN).map((row) => element("tr", {},
      element("th", { scope: "row" }, element("bdi", {}, row.question), element("small", {}, `${row.relation}, ${domainName[row.domain]}, level ${row.level}`)),
      element("td", { "data-label": "Right answer" }, element("bdi", {}, row.answer)),
      element("td", { "data-label": "Kept by" }, mine[row.at] ? reference.label : other.label)));
    if (!rows.length) return element("p", { class: "lead" }, `${reference.label} and ${other.label} keep the same facts.`);
    return element("details", {}, element("summary", {}, `Facts that only one of ${reference.label} and ${other.label} keeps: ${countOf(apart.length)}${apart.length > SHOWN ? `, ${SHOWN} shown` : ""}`),
      element("table", { class: "items" }, element("thead", {}, element("tr", {}, ...["Question", "Right answer", "Kept by"].map((text) => element("th", { scope: "col" }, text)))), element("tbody", {}, ...rows)));
  }

  function drawChips(found) {
    byId("chips").replaceChildren(...chosen.map((record, at) => {
      const one = found.byRecord.get(record);
      const first = at === 0 ? null : element("button", { type: "button", "data-first": record, "aria-label": `Make ${one.label} the reference` }, "⇤");
      return element("li", { class: at === 0 ? "reference" : null }, one.label, at === 0 ? element("small", {}, "reference") : first, element("button", { type: "button", "data-drop": record, "aria-label": `Remove ${one.label}` }, "×"));
    }));
  }

  function draw() {
    writeState({ g: group, m: chosen.join(",") });
    const found = groupOf(group);
    const models = chosen.map((record) => found.byRecord.get(record));
    byId("models").replaceChildren(...found.models.filter((one) => !chosen.includes(one.record)).map((one) => element("option", { value: one.label })));
    drawChips(found);
    const said = byId("said"), box = byId("found");
    if (models.length < 2) {
      said.textContent = "Choose two models or more.";
      box.replaceChildren();
      return;
    }
    const both = ["in", "out"].map((domain) => differences(found, domain, models)).filter(Boolean);
    const apart = both.flatMap(({ rows }) => rows.slice(1)).filter((row) => row.low > 0 || row.high < 0).length;
    const all = both.length * (models.length - 1);
    said.textContent = `${apart} of ${all} differences are beyond chance, each by itself at 5 %${all > 1 ? "; of many, one in twenty would be so by chance" : ""}.`;
    box.replaceChildren(...both.map(differenceTable), legend(models), element("div", { class: "plots" }, ...both.map(levelsChart)), ...models.slice(1).map((one) => factsApart(found, models[0], one)));
  }

  function fromAddress() {
    const state = readState();
    const ids = groupOrder(groups);
    group = Object.hasOwn(answers, state.g ?? "") ? state.g : ids[0];
    const found = groupOf(group);
    chosen = [...new Set((state.m ?? "").split(","))].filter((one) => found.byRecord.has(one)).slice(0, MOST_COMPARED);
    byId("group").value = group;
    draw();
  }

  // A choice from the list, or Enter: what is still being typed may be the beginning of a longer name.
  function add(event) {
    if (event.type === "input" && event.inputType && event.inputType !== "insertReplacementText") return;
    const found = groupOf(group);
    const one = found.models.find((model) => model.label === event.target.value);
    if (!one) return;
    event.target.value = "";
    if (chosen.length >= MOST_COMPARED) { byId("said").textContent = `At most ${MOST_COMPARED} models at once: remove one first.`; return; }
    chosen.push(one.record);
    draw();
  }

  if (Object.keys(answers).length) {
    optionsOf(byId("group"), groupOrder(groups).map((id) => [id, longGroupName(groups, id)]));
    byId("controls").hidden = false;
    byId("group").addEventListener("change", (event) => { group = event.target.value; chosen = []; draw(); });
    ["input", "change"].forEach((kind) => byId("add").addEventListener(kind, add));
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
    byId("chips").addEventListener("click", (event) => {
      const { first, drop } = event.target.dataset;
      if (drop) chosen = chosen.filter((one) => one !== drop);
      if (first) chosen = [first, ...chosen.filter((one) => one !== first)];
      if (!drop && !first) return;
      draw();
      byId("add").focus(); // the button that had the focus is gone
    });
    addEventListener("hashchange", fromAddress);
    fromAddress();
  } else {
    byId("said").textContent = "There is no record yet.";
  }
}
