// Which faces are shown, and in which order.

import { byId, count, make } from "../static/dom.js";
import { guessOf, isAnswered, isAside, isDisputed, isOpen, nameOf, on, state } from "./faces.js";

const SHOWS = {
  open: ["To do", isOpen],
  "not-mine": ["Not labelled by me", (place) => !isAside(place) && !(state.people[place] && state.who in state.people[place])],
  labelled: ["Labelled", (place) => state.label[place] !== ""],
  disputed: ["Disagreements", isDisputed],
  none: ["Cannot tell, no face", (place) => isAnswered(place) && (state.status[place] === "cannot tell" || state.status[place] === "no face")],
  aside: ["Set aside", (place) => isAside(place) || state.status[place] === "duplicate"],
  all: ["All faces", () => true],
};
const ORDERS = { table: "As they were found", alike: "Alike together", helpful: "Most helpful first", surest: "Surest guess first", class: "By class", sharp: "Sharpest first" };
const DOUBTS = { "": "any", unsure: "unsure, below 50%", fair: "50 to 80%", sure: "sure, above 80%" };
const FILTERS = ["by-class", "by-doubt", "by-source", "by-group", "by-person"];
const value = (id) => byId(id).value;
const MOST_OPTIONS = 2000;

/** Keep the choices up to date. changed: called when other faces are to be shown. */
export function setUpViews(changed) {
  fill("show", Object.entries(SHOWS).map(([key, [text]]) => [key, text]));
  drawOrders();
  fill("by-doubt", Object.entries(DOUBTS));
  for (const id of ["show", "order", ...FILTERS]) byId(id).addEventListener("change", () => { mark(); changed(); });
  byId("more").addEventListener("click", () => {
    byId("filters").hidden = !byId("filters").hidden;
    byId("more").setAttribute("aria-expanded", String(!byId("filters").hidden));
  });
  byId("unfilter").addEventListener("click", () => {
    for (const id of FILTERS) byId(id).value = "";
    mark();
    changed();
  });
  const drawSources = () => {
    fill("by-source", numbered(state.sources, state.source, nameOf));
    fill("by-group", numbered(state.groups, state.group));
  };
  on("loaded", () => { drawSources(); drawClasses(); });
  on("grown", drawSources);
  on("classes", drawClasses);
  on("progress", drawPeople);
  on("guesses", drawOrders);
}

/** Choose what is shown from elsewhere, as {show, "by-class", …}; all other filters are cleared. */
export function view(choices) {
  for (const id of FILTERS) byId(id).value = "";
  for (const [id, chosen] of Object.entries(choices)) byId(id).value = chosen;
  mark();
}

function mark() {
  byId("filtered").hidden = !FILTERS.some((id) => value(id));
}

function fill(id, pairs) {
  const list = byId(id);
  const before = list.value;
  list.replaceChildren(...pairs.map(([key, text]) => make("option", { value: key }, text)));
  if (pairs.some(([key]) => String(key) === before)) list.value = before;
}

function numbered(words, column, worded = (word) => word) {
  const counts = new Array(words.length).fill(0);
  for (const number of column) counts[number] += 1;
  const pairs = words.map((word, number) => [number, `${worded(word) || "(none)"} · ${counts[number].toLocaleString("en-GB")}`]);
  pairs.sort((one, other) => one[1].localeCompare(other[1], undefined, { numeric: true }));
  return [["", "any"], ...pairs.slice(0, MOST_OPTIONS)];
}

function drawClasses() { fill("by-class", [["", "any"], ...state.classes.map((name) => [name, name])]); }

let drawn = "";
function drawPeople() {
  const people = Object.entries(state.everybody);
  if (String(people) === drawn) return;
  drawn = String(people);
  fill("by-person", [["", "anybody"], ...people.map(([name, faces]) => [name, `${name} · ${faces.toLocaleString("en-GB")}`])]);
}

export const hasGuesses = () => Boolean(state.guesses?.of.some((number) => number >= 0));

function drawOrders() {
  const known = { alike: state.guesses, helpful: state.guesses, surest: hasGuesses() };
  fill("order", Object.entries(ORDERS).filter(([key]) => !(key in known) || known[key]));
}

/** The faces that are shown now, in their order. */
export function placesShown() {
  const wanted = SHOWS[value("show")][1];
  const tests = [];
  const [name, doubt, source, group, person] = FILTERS.map(value);
  if (name) tests.push((place) => (state.label[place] ? state.label[place] === name : guessOf(place)?.class === name || (state.people[place] && Object.values(state.people[place]).includes(name))));
  if (doubt) {
    const [least, most] = { unsure: [0, 50], fair: [50, 80], sure: [80, 101] }[doubt];
    tests.push((place) => { const guess = guessOf(place); return guess && guess.share >= least && guess.share < most; });
  }
  if (source) tests.push((place) => state.source[place] === Number(source));
  if (group) tests.push((place) => state.group[place] === Number(group));
  if (person) tests.push((place) => state.people[place] && person in state.people[place]);
  const places = [];
  for (let place = 0; place < state.count; place++) {
    if (wanted(place) && tests.every((test) => test(place))) places.push(place);
  }
  return ordered(places, value("order"));
}

function ordered(places, order) {
  const by = (key) => {
    const keys = new Map(places.map((place) => [place, key(place)]));
    return places.sort((one, other) => keys.get(one) - keys.get(other) || one - other);
  };
  if (order === "helpful" || order === "alike") {
    const rank = new Map(state.guesses?.[order].map((place, number) => [place, number]));
    return by((place) => rank.get(place) ?? Infinity);
  }
  if (order === "surest") return by((place) => -(guessOf(place)?.share ?? -1));
  if (order === "sharp") return by((place) => -(state.sharpness[place] ?? -1));
  if (order === "class") {
    const rank = new Map(state.classes.map((name, number) => [name, number]));
    return by((place) => (rank.get(state.label[place] || guessOf(place)?.class) ?? rank.size) - (guessOf(place)?.share ?? 0) / 1000);
  }
  return places;
}

/** What to say where no face is shown. */
export function whyEmpty() {
  if (FILTERS.some((id) => value(id))) return "No face passes these filters.";
  const words = {
    open: state.count ? "Every face is labelled. Well done." : "There are no faces.",
    "not-mine": "You have labelled every face.",
    labelled: "Nothing is labelled yet.", disputed: "Nobody disagrees.", none: "There is no such face.", aside: "Nothing was set aside.",
  };
  return words[value("show")] ?? "There are no faces.";
}

export const told = (places) => count(places.length, "face");
