// What every page of the site shares: its data, its state in the address, figures as text.
"use strict";

// Data come in columns; a text that repeats is a place in a list of texts.
function columnsOf(packed) {
  const of = (column) => (Array.isArray(column) ? (at) => column[at] : (at) => (column.at[at] === null ? null : column.texts[column.at[at]]));
  return Object.fromEntries(Object.entries(packed).map(([name, column]) => [name, of(column)]));
}

const storedData = () => JSON.parse(document.getElementById("data").textContent);

// The state stands after the "#", so that it needs no server, and an address can be passed on.
const readState = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
function writeState(state) {
  const kept = Object.entries(state).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(kept).toString();
  history.replaceState(null, "", text ? `#${text}` : `${location.pathname}${location.search}`);
}

const MISSING = "–";
const MINUS = "−";
const percentOf = (fraction, digits = 1) => (fraction === null ? MISSING : (100 * fraction).toFixed(digits));
const bracketOf = (low, high, digits = 0) => (low === null ? "" : `[${(100 * low).toFixed(digits)}, ${(100 * high).toFixed(digits)}]`);
const signedOf = (fraction, digits = 1) => {
  const text = Math.abs(100 * fraction).toFixed(digits);
  return Number(text) === 0 ? `0.${"0".repeat(digits)}` : `${fraction < 0 ? MINUS : "+"}${text}`;
};
const counts = new Intl.NumberFormat("en");
const countOf = (number) => (number === null ? MISSING : counts.format(number));
const shortOf = (number) => {
  if (number === null) return MISSING;
  for (const [size, unit] of [[1e12, "T"], [1e9, "B"], [1e6, "M"]]) if (number >= size) return `${Number((number / size).toPrecision(3))} ${unit}`;
  return countOf(number);
};
const figureOf = (number) => (number === null ? MISSING : String(Number(number.toPrecision(3))));
const domainName = { in: "in-domain", out: "out-of-domain" };

// An element with attributes and children. Text is text: nothing of it is read as markup.
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((one) => one !== null && one !== undefined));
  return made;
}

const optionsOf = (select, rows) => select.replaceChildren(...rows.map(([value, text]) => element("option", { value }, text)));

// Groups of records that can be compared, the ranked and the largest first, and what each is called.
const groupOrder = (groups) => Object.keys(groups).sort((a, b) => groups[b].canonical - groups[a].canonical || groups[b].records - groups[a].records);
function groupName(groups, id) {
  const one = groups[id];
  const text = (it) => `${it.suite}, ${countOf(it.asked)} facts${it.canonical ? "" : ", another card (not ranked)"}`;
  const twice = Object.values(groups).some((it) => it.id !== id && it.base_digest === one.base_digest && text(it) === text(one));
  return text(one) + (twice ? ` #${id.slice(0, 6)}` : "");
}
const longGroupName = (groups, id) => `${groups[id].base}: ${groupName(groups, id)}`;

// What is shown of a model: as it was tuned; restored in part; restored otherwise, to compare.
const KINDS = { "": ["tuned"], restored: ["tuned", "restored"], all: ["tuned", "restored", "control"] };
const KIND_NAMES = [["", "tuned"], ["restored", "tuned and restored"], ["all", "with control restores"]];
const MOST_COMPARED = 6;

// Light or dark stays as it was chosen from page to page, where the browser keeps it.
try {
  const chosen = localStorage.getItem("sftbench-theme");
  if (chosen && !new URLSearchParams(location.search).has("theme")) document.documentElement.dataset.theme = chosen;
  document.getElementById("theme").addEventListener("click", () => localStorage.setItem("sftbench-theme", document.documentElement.dataset.theme));
} catch {
  // No storage: the page follows the system.
}
