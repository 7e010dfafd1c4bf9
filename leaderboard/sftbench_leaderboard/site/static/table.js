// The table: filters, search, sorting, columns on demand; the state stands in the address.
"use strict";

{
  const { columns, pages, groups } = storedData();
  const of = columnsOf(columns);
  const total = pages.length;
  const STEP = 50; // rows at first: more would make every click wait for them
  const byId = (id) => document.getElementById(id);
  const names = { in: "In-domain", out: "Out-of-domain" };

  const whisker = (value, low, high) => {
    const bar = element("span", { class: "whisker", "aria-hidden": "true" });
    const part = (kind, left, width) => {
      const made = element("i", { class: kind });
      made.style.setProperty("left", `${100 * left}%`);
      if (width !== undefined) made.style.setProperty("width", `${100 * width}%`);
      bar.append(made);
    };
    if (low !== null) part("span", low, high - low);
    part("at", value);
    return bar;
  };

  const share = (key) => (at) => {
    const value = of[key](at);
    if (value === null) return [MISSING];
    const [low, high] = [of[`${key}_low`](at), of[`${key}_high`](at)];
    return [element("b", {}, percentOf(value)), " ", element("small", { class: "bracket" }, bracketOf(low, high)), whisker(value, low, high)];
  };
  const ranked = (domain) => (at) => {
    const rank = of[`${domain}_rank`](at), tied = of[`${domain}_tied`](at);
    if (rank === null) return [MISSING];
    return [String(rank), tied > 1 ? element("small", { title: "models of this rank are not told apart from the best of it" }, ` tie of ${tied}`) : null];
  };
  const ratio = (domain) => (at) => (of[`${domain}_known`](at) === null ? MISSING : `${countOf(of[`${domain}_kept`](at))} of ${countOf(of[`${domain}_known`](at))}`);
  const domainColumns = (domain) => [
    { key: `${domain}_rank`, title: `Rank ${domain}`, hint: `${names[domain]}: within its base, facts and prompt`, num: true, cell: ranked(domain), start: true, up: true },
    { key: `${domain}_retention`, title: `Retention ${domain}`, hint: `${names[domain]}: knowledge-retention score, %, 95 % interval`, num: true, cell: share(`${domain}_retention`), start: true },
    { key: `${domain}_kept`, title: `Kept ${domain}`, hint: `${names[domain]}: facts of level 1 to 4 kept of those that the base answers right`, num: true, cell: ratio(domain) },
    { key: `${domain}_lost`, title: `Lost ${domain}`, hint: "facts of all levels", num: true, cell: (at) => countOf(of[`${domain}_lost`](at)) },
    { key: `${domain}_gained`, title: `Gained ${domain}`, hint: "facts of all levels", num: true, cell: (at) => countOf(of[`${domain}_gained`](at)) },
    { key: `${domain}_gain`, title: `Gain ${domain}`, hint: "% of what the base has wrong", num: true, cell: (at) => percentOf(of[`${domain}_gain`](at)) },
    { key: `${domain}_accuracy`, title: `Accuracy ${domain}`, hint: "%, mean over levels", num: true, cell: (at) => percentOf(of[`${domain}_accuracy`](at)) },
    { key: `${domain}_forgotten_by_noise`, title: `Noise ${domain}`, hint: "% that random changes of its size forget", num: true, cell: (at) => percentOf(of[`${domain}_forgotten_by_noise`](at)) },
  ];
  const variantName = (at) => (of.label(at) === null ? null : element("small", {}, of.label(at)));
  const COLUMNS = [
    { key: "model", title: "Model", always: true, up: true, cell: (at) => [element("a", { href: `models/${pages[at]}` }, of.model(at)), variantName(at)] },
    { key: "base", title: "Base", up: true, cell: (at) => of.base(at) },
    ...domainColumns("in"),
    ...domainColumns("out"),
    { key: "method", title: "Method", start: true, up: true, cell: (at) => of.method(at) ?? MISSING },
    { key: "level", title: "Level", hint: "mastery level of the facts it was tuned on", up: true, cell: (at) => of.level(at) ?? MISSING },
    { key: "size", title: "Tuned on", hint: "facts", num: true, start: true, cell: (at) => countOf(of.size(at)) },
    { key: "learning_rate", title: "Learning rate", num: true, cell: (at) => figureOf(of.learning_rate(at)) },
    { key: "in_base_accuracy", title: "Base accuracy in", hint: "In-domain: of the base, %, mean over levels", num: true, cell: (at) => percentOf(of.in_base_accuracy(at)) },
    { key: "out_base_accuracy", title: "Base accuracy out", hint: "Out-of-domain: of the base, %, mean over levels", num: true, cell: (at) => percentOf(of.out_base_accuracy(at)) },
    { key: "base_apart", title: "Base apart", hint: "facts that its base answered otherwise than in most runs", num: true, cell: (at) => countOf(of.base_apart(at)) },
    { key: "tokens", title: "Tokens", hint: "in training", num: true, cell: (at) => shortOf(of.tokens(at)) },
    { key: "parameters", title: "Parameters", num: true, cell: (at) => shortOf(of.parameters(at)) },
    { key: "update_norm", title: "Update", hint: "L2 norm", num: true, start: true, cell: (at) => figureOf(of.update_norm(at)) },
    { key: "removed", title: "Taken back", hint: "% of the update's norm", num: true, cell: (at) => percentOf(of.removed(at)) },
    { key: "drift", title: "Drift", hint: "KL from the base, nats a token", num: true, start: true, cell: (at) => figureOf(of.drift(at)) },
    { key: "training_seconds", title: "Training", hint: "seconds", num: true, cell: (at) => figureOf(of.training_seconds(at)) },
    { key: "seconds", title: "Evaluation", hint: "seconds", num: true, cell: (at) => figureOf(of.seconds(at)) },
    { key: "suite", title: "Facts and prompt", up: true, cell: (at) => of.suite(at) },
    { key: "made", title: "Date", up: false, cell: (at) => of.made(at).slice(0, 10) },
  ];
  const SIZES = [[0, 2e8, "under 200 M"], [2e8, 1e9, "200 M to 1 B"], [1e9, 4e9, "1 to 4 B"], [4e9, 1e10, "4 to 10 B"], [1e10, Infinity, "over 10 B"]];
  const places = [...Array(total).keys()];
  const present = COLUMNS.filter((one) => one.always || places.some((at) => of[one.key](at) !== null));
  const count = (value, those = places) => {
    const found = new Map();
    for (const at of those) found.set(value(at), (found.get(value(at)) ?? 0) + 1);
    return [...found].filter(([one]) => one !== null).sort((a, b) => b[1] - a[1]);
  };
  // A ranking is of one group; "*" shows all bases, without ranks.
  const ordered = groupOrder(groups);
  const bases = [...new Set(ordered.map((id) => groups[id].base))];
  const groupsOf = (base) => ordered.filter((id) => groups[id].base === base);
  const FIXED = { method: "", parameters: "", kind: "", q: "", sort: "", cols: "", m: "", n: "" };
  const defaultsOf = (base) => ({ base: bases[0] ?? "", group: base === "*" ? "" : groupsOf(base)[0] ?? "", ...FIXED });
  let state = {};

  const shownColumns = () => {
    const chosen = state.cols ? state.cols.split(",") : null;
    return present.filter((one) => one.always || (chosen ? chosen.includes(one.key) : one.start || (one.key === "base" && state.base === "*")))
      .filter((one) => groups[state.group]?.canonical || !one.key.endsWith("_rank"));
  };

  function matches(at) {
    const [low, high] = state.parameters ? SIZES[Number(state.parameters)] : [0, Infinity];
    const size = of.parameters(at);
    return (state.group ? of.group(at) === state.group : state.base === "*")
      && (!state.method || of.method(at) === state.method)
      && (!state.parameters || (size !== null && size >= low && size < high))
      && KINDS[state.kind].includes(of.kind(at))
      && words().every((word) => `${of.model(at)} ${of.label(at) ?? "tuned"} ${of.variant(at)} ${of.base(at)}`.toLowerCase().includes(word));
  }
  const words = () => state.q.toLowerCase().split(/\s+/).filter(Boolean);

  function order(rows) {
    if (!state.sort) return rows;
    const down = state.sort.startsWith("-");
    const value = of[state.sort.replace(/^-/, "")];
    const compared = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null);  // what has no figure comes last
      const found = typeof x === "string" ? x.localeCompare(y) : x - y;
      return down ? -found : found;
    };
    return rows.sort((a, b) => compared(a, b) || a - b);
  }

  // Made anew only where other columns are shown, so that a button keeps the focus.
  let heads = "";
  function head(shown) {
    const keys = shown.map((one) => one.key).join(",");
    if (keys !== heads) {
      heads = keys;
      const cells = shown.map((one) => element("th", { scope: "col", class: one.num ? "num" : null }, element("button", { type: "button", title: one.hint, "data-sort": one.key }, one.title)));
      byId("head").replaceChildren(element("th", { scope: "col" }, element("span", { class: "visually-hidden" }, "Compare")), ...cells);
    }
    const sorted = state.sort.replace(/^-/, "");
    for (const button of byId("head").querySelectorAll("button")) {
      if (button.dataset.sort !== sorted) button.parentElement.removeAttribute("aria-sort");
      else button.parentElement.setAttribute("aria-sort", state.sort.startsWith("-") ? "descending" : "ascending");
    }
  }

  function row(at, shown, chosen) {
    const box = element("input", { type: "checkbox", "aria-label": `Compare ${of.model(at)}, ${of.variant(at)}`, value: of.record(at) });
    box.checked = chosen.has(of.record(at));
    const cells = shown.map((one) => {
      const content = [one.cell(at)].flat();
      return element(one.always ? "th" : "td", { scope: one.always ? "row" : null, class: one.num ? "num" : null }, ...content);
    });
    return element("tr", {}, element("td", { class: "pick" }, box), ...cells);
  }

  const chosenIds = () => new Set(state.m ? state.m.split(",") : []);

  function compareLink(rows) {
    const chosen = chosenIds();
    const ticked = places.filter((at) => chosen.has(of.record(at)));
    const held = new Set(ticked.map((at) => of.group(at)));
    const hidden = ticked.filter((at) => !rows.includes(at)).length;
    const link = byId("compare"), note = byId("compare-note");
    link.hidden = !(ticked.length >= 2 && held.size === 1);
    const most = ticked.length > MOST_COMPARED;
    link.textContent = most ? `Compare the first ${MOST_COMPARED} of ${ticked.length}` : `Compare ${ticked.length} models`;
    if (!link.hidden) link.href = `compare.html#${new URLSearchParams({ g: [...held][0], m: state.m })}`;
    note.textContent = held.size > 1 ? "Models of different bases, facts or cards cannot be compared."
      : ticked.length < 2 ? "Tick two or more models to compare them." : hidden ? `${hidden} of those ticked are not shown.` : "";
  }

  function draw() {
    const shown = shownColumns();
    const rows = order(places.filter(matches));
    const most = Number(state.n) > STEP ? Number(state.n) : STEP;
    const chosen = chosenIds();
    head(shown);
    byId("body").replaceChildren(...rows.slice(0, most).map((at) => row(at, shown, chosen)));
    byId("count").textContent = rows.length ? `${countOf(Math.min(most, rows.length))} of ${countOf(rows.length)} records` : "No record is left: loosen the filters.";
    byId("more").hidden = rows.length <= most;
    byId("apart").hidden = !state.group || groups[state.group].canonical;
    document.querySelectorAll("#columns input").forEach((box) => { box.checked = shown.some((one) => one.key === box.value); });
    compareLink(rows);
  }

  // Only what differs from the defaults stands in the address.
  function save() {
    const defaults = defaultsOf(state.base);
    writeState(Object.fromEntries(Object.entries(state).filter(([key, value]) => value !== defaults[key])));
  }

  function change(changes) {
    state = { ...state, n: "", ...changes };
    if (changes.base) state.group = defaultsOf(state.base).group;
    save();
    fillGroups();
    draw();
  }

  const fillGroups = () => {
    optionsOf(byId("group"), state.base === "*" ? [["", "all"]] : groupsOf(state.base).map((id) => [id, groupName(groups, id)]));
    byId("group").value = state.group;
  };

  // What an old or mistyped address holds that is not here is left out.
  const FILTERS = ["base", "group", "kind", "method", "parameters"];
  function fromAddress() {
    const read = readState();
    const base = read.base === "*" || bases.includes(read.base) ? read.base : groups[read.group]?.base ?? bases[0] ?? "";
    state = { ...defaultsOf(base), ...read, base };
    state = Object.fromEntries(Object.keys(defaultsOf(base)).map((key) => [key, state[key]]));
    fillGroups();
    for (const name of FILTERS) {
      byId(name).value = state[name];
      if (byId(name).selectedIndex < 0) byId(name).value = state[name] = defaultsOf(base)[name];
    }
    const known = new Set(present.map((one) => one.key));
    if (!known.has(state.sort.replace(/^-/, ""))) state.sort = "";
    state.cols = state.cols.split(",").filter((one) => known.has(one)).join(",");
    byId("q").value = state.q;
    draw();
  }

  function sortBy(key) {
    const column = COLUMNS.find((one) => one.key === key);
    const start = column.up ? key : `-${key}`;
    const turned = start.startsWith("-") ? key : `-${key}`;
    change({ sort: state.sort === start ? turned : start });
  }

  function columnBoxes() {
    byId("columns").replaceChildren(...present.filter((one) => !one.always).map((one) => {
      const box = element("input", { type: "checkbox", value: one.key });
      return element("label", {}, box, ` ${one.title}`, one.hint ? element("small", {}, ` ${one.hint}`) : null);
    }));
    byId("columns").addEventListener("change", () => {
      const chosen = [...document.querySelectorAll("#columns input:checked")].map((box) => box.value);
      change({ cols: chosen.join(",") || "model" });
    });
  }

  const sized = (at) => places.some((one) => { const size = of.parameters(one); return size !== null && size >= SIZES[at][0] && size < SIZES[at][1]; });
  optionsOf(byId("base"), [...bases.map((base) => [base, base]), ...(bases.length > 1 ? [["*", "all bases, no ranks"]] : [])]);
  optionsOf(byId("kind"), KIND_NAMES);
  optionsOf(byId("method"), [["", "all"], ...count((at) => of.method(at)).map(([one]) => [one, one])]);
  optionsOf(byId("parameters"), [["", "all"], ...SIZES.map((one, at) => [String(at), one[2]]).filter(([at]) => sized(at))]);
  columnBoxes();
  FILTERS.forEach((name) => byId(name).addEventListener("change", (event) => change({ [name]: event.target.value })));
  byId("q").addEventListener("input", (event) => change({ q: event.target.value }));
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("head").addEventListener("click", (event) => { const key = event.target.closest("button")?.dataset.sort; if (key) sortBy(key); });
  byId("body").addEventListener("change", (event) => {
    const chosen = chosenIds();
    if (event.target.checked) chosen.add(event.target.value); else chosen.delete(event.target.value);
    state.m = [...chosen].join(",");
    save();
    compareLink(order(places.filter(matches)));
  });
  byId("more").addEventListener("click", () => change({ n: String((Number(state.n) || STEP) + 4 * STEP) }));
  addEventListener("hashchange", fromAddress);
  byId("table").hidden = byId("controls").hidden = false;
  fromAddress();
  document.documentElement.dataset.drawn = performance.now().toFixed(0);
}
