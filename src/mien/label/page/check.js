// Labels in doubt and faces that repeat others, one after the other: keep, change or take out, each at one key.

import { css } from "../static/colours.js";
import { byId, count, make, percent } from "../static/dom.js";
import { glyph } from "../static/glyphs.js";
import { ask } from "../static/api.js";
import { colourOf } from "./classes.js";
import { nameOf, on, openDoubts, say, state, undo } from "./faces.js";
import { whenGuesses } from "./learning.js";
import { openPhotograph, showFace } from "./panel.js";

const OTHERS = 5; // faces of each class to compare with
const large = new Map(); // place to address of the crop as it is
const POLL_MS = 1500;
let kind = "doubts", queue = [], at = 0, open = false;
let copies = { state: "none", pairs: [] }, problem = "", timer = 0;

export function setUpCheck() {
  addEventListener("check", () => { open = true; gather(); if (kind === "copies") lookForCopies(); });
  for (const news of ["guesses", "grown"]) on(news, () => { if (open && at >= queue.length) gather(); });
  on("answers", () => { if (open) draw(); });
  on("loaded", () => { for (const address of large.values()) URL.revokeObjectURL(address); large.clear(); if (open) gather(); });
}

export function leaveCheck() { open = false; clearTimeout(timer); }

/** Doubtful labels that nobody has decided about since, or repeated faces. The queue stays as it is while one works. */
function gather() {
  queue = kind === "doubts"
    ? openDoubts().map(([place, name, share]) => ({ place, name, share, label: state.label[place] }))
    : kind === "twins"
      ? state.twin.flatMap((twin, place) => (twin >= 0 && state.status[place] === "duplicate" && !state.compared[place] ? [{ place, twin }] : []))
      : copies.pairs.map(([twin, place, how]) => ({ place, twin, how }));
  at = 0;
  draw();
}

/** Have the server look for copies, and ask until it has. */
async function lookForCopies() {
  clearTimeout(timer);
  const before = copies.state;
  problem = "";
  try {
    copies = await (await ask(`v1/copies?session=${state.session}`)).json();
  } catch (error) {
    problem = error.message;
  }
  if (!open || kind !== "copies") return;
  if (copies.state === "ready" && (before !== "ready" || at >= queue.length)) gather();
  else draw();
  if (copies.state === "reading" || copies.state === "comparing") timer = setTimeout(lookForCopies, POLL_MS);
}

export function onCheckKey(key) {
  const item = queue[at];
  if (key === "z") { back(); return true; }
  if (key === "ArrowRight") { go(1); return true; }
  if (key === "ArrowLeft") { go(-1); return true; }
  if (!item) return false;
  if (kind === "doubts") {
    if (key >= "1" && key <= "9" && key.length === 1) {
      const name = state.classes[Number(key) - 1];
      if (name) settle(item, name);
      return true;
    }
    const keys = { k: () => keep(item), Enter: () => settle(item, item.name), c: () => settle(item, item.name), 0: () => out(item, "cannot tell"), x: () => out(item, "no face"), p: () => look(item.place) };
    if (!(key in keys)) return false;
    keys[key]();
    return true;
  }
  const keys = { s: () => same(item), Enter: () => same(item), d: () => distinct(item), p: () => look(item.place) };
  if (!(key in keys)) return false;
  keys[key]();
  return true;
}

const go = (step) => { at = Math.min(Math.max(at + step, 0), queue.length); draw(); };
const look = (place) => { showFace(place); openPhotograph(place); };

function decide(item, what, send) {
  item.decision = what;
  send();
  go(1);
}

const keep = (item) => decide(item, `kept ${item.label}`, () => say([item.place], { action: "keep", class: item.label }));
const settle = (item, name) => (name === item.label ? keep(item) : decide(item, `now ${name}`, () => say([item.place], { action: "settle", class: name })));
const out = (item, action) => decide(item, action, () => say([item.place], { action: "settle", class: action }));
const same = (item) => decide(item, "one face", () => say([item.place], { action: "duplicate", target: state.ids[item.twin] }));
const distinct = (item) => decide(item, "two faces", () => say([item.place], { action: "distinct", target: state.ids[item.twin] }));

async function back() {
  const done = await undo();
  if (!done?.undone) return;
  const place = done.faces?.[0];
  const number = queue.findIndex((item) => item.place === place);
  if (number >= 0) { delete queue[number].decision; at = number; }
  draw();
}

function draw() {
  const view = byId("view-check");
  const doubts = openDoubts().length;
  const twins = state.twin.filter((twin, place) => twin >= 0 && state.status[place] === "duplicate" && !state.compared[place]).length;
  const tab = (name, text) => make("button", { "aria-pressed": String(kind === name), onclick: () => { kind = name; gather(); if (name === "copies") lookForCopies(); } }, text);
  const head = make("div", { class: "check-head" },
    make("div", { class: "tabs" }, tab("doubts", `Labels in doubt${doubts ? ` · ${doubts}` : ""}`), tab("twins", `Repeated faces${twins ? ` · ${twins}` : ""}`), tab("copies", `Copies and leaks${copies.pairs.length ? ` · ${copies.pairs.length}` : ""}`)),
    make("p", { class: "quiet" }, queue.length ? `${Math.min(at + 1, queue.length)} of ${queue.length}` : ""));
  const buttons = () => [...view.querySelectorAll("button")];
  const focused = buttons().indexOf(document.activeElement);
  view.replaceChildren(head, body());
  if (focused >= 0) buttons()[focused]?.focus(); // who goes by Tab stays where they are, also when others answer
}

function body() {
  const item = queue[at];
  if (!item) return make("div", { class: "check-empty" }, make("h2", {}, queue.length ? "That was the last one." : whyNone()), make("p", { class: "quiet" }, about()),
    queue.length ? make("p", {}, make("button", { onclick: gather }, "Look again")) : "");
  return kind === "doubts" ? doubt(item) : pair(item);
}

function whyNone() {
  if (kind === "twins") return "No repeated faces are left to decide.";
  if (kind === "copies") {
    if (problem || copies.state === "off") return problem || copies.note;
    if (copies.state !== "ready") return copies.state === "comparing" ? `Comparing: ${copies.done.toLocaleString("en-GB")} of ${count(copies.total, "face")}` : "Looking at the faces";
    return "No copies are left to decide.";
  }
  if (!state.learner) return "This server does not learn, so it doubts nothing.";
  return state.guesses?.of.some((number) => number >= 0) ? "No label is in doubt." : `Doubts come with the guesses, which ${whenGuesses()}.`;
}

const ABOUT = {
  doubts: "A label is in doubt when what was learnt from the other faces, of other photographs and films, says something else.",
  twins: "A face that nearly repeats another is listed once. Say here where two were taken for one.",
  copies: "The same picture twice, cropped, mirrored or retouched, counts double; in two groups, training could learn one and be judged by the other.",
};
const about = () => ABOUT[kind];

function doubt(item) {
  const now = state.label[item.place];
  return make("div", { class: "check" },
    make("div", { class: "check-face" }, picture(item.place), make("p", { class: "quiet small" }, nameOf(state.sources[state.source[item.place]] ?? ""))),
    make("div", { class: "check-words" },
      make("p", { class: "verdict" }, chip(item.label), make("span", {}, "or"), chip(item.name, `${percent(item.share / 100)}`), make("span", {}, "?")),
      make("p", { class: "quiet" }, item.decision ? `Decided: ${item.decision}` : now !== item.label ? `Now: ${now || state.status[item.place]}` : `${whoSaid(item)} Learnt from the other faces, it looks like ${item.name}.`),
      make("div", { class: "row wrap actions" },
        key("K", `Keep ${item.label}`, () => keep(item)), key("C", `Change to ${item.name}`, () => settle(item, item.name), "primary"),
        key("0", "Cannot tell", () => out(item, "cannot tell")), key("X", "No face", () => out(item, "no face")),
        key("P", "Photograph", () => look(item.place)), key("Z", "Undo", back)),
      make("p", { class: "quiet small" }, "Keys 1 to 9 give any other class. What is kept is not asked again."),
      compare(item.label, item.place), compare(item.name, item.place)));
}

/** Who gave the label that is doubted: those who said something else are not among them. */
function whoSaid({ place, label }) {
  const said = Object.entries(state.people[place] ?? {}).filter(([, word]) => word === label).map(([who]) => (who === state.who ? "you" : who));
  const people = said.join(", ");
  return people ? `${people[0].toUpperCase()}${people.slice(1)} said ${label}.` : `The label is ${label}.`;
}

function pair(item) {
  const [shown, other] = [item.twin, item.place].map((place) => state.label[place]);
  const leak = item.how && state.group[item.place] !== state.group[item.twin];
  const words = [
    shown && other && shown !== other ? "They were labelled differently." : "",
    leak ? "They are of two groups: training could learn one and be judged by the other." : "One face counts once, and stays on one side of the split."];
  const figure = (place, first) => make("figure", {}, picture(place),
    make("figcaption", { class: "small" }, make("b", {}, first ? "stays" : item.how ?? "repeats it"), ` ${nameOf(state.sources[state.source[place]] ?? "")}`, state.label[place] ? chip(state.label[place]) : ""));
  return make("div", { class: "check" },
    make("div", { class: "pair" }, figure(item.twin, true), figure(item.place, false)),
    make("div", { class: "check-words" },
      make("h2", {}, "One face, or two?"),
      make("p", { class: "quiet" }, item.decision ? `Decided: ${item.decision}` : words.filter(Boolean).join(" ")),
      make("div", { class: "row wrap actions" }, key("S", "One face", () => same(item), "primary"), key("D", "Two faces: keep both", () => distinct(item)), key("P", "Photograph", () => look(item.place)), key("Z", "Undo", back))));
}

const key = (letter, text, act, look_ = "") => make("button", { class: look_, onclick: act }, make("kbd", {}, letter), text);
const chip = (name, more = "") => make("span", { class: "word-chip", style: { "--tone": css(colourOf(name)) } }, glyph(name, colourOf(name), { size: 30 }), make("b", {}, name), more ? make("small", {}, more) : "");

/** Other faces that people gave this class, the surest of them. */
function compare(name, except) {
  const places = [];
  for (let place = 0; place < state.count; place++) if (place !== except && state.label[place] === name) places.push(place);
  const share = (place) => (state.guesses.classes[state.guesses.of[place]] === name ? state.guesses.share[place] : 0);
  places.sort((one, other) => share(other) - share(one));
  return places.length ? make("div", { class: "others-of" }, make("p", { class: "small" }, make("b", {}, name), ` elsewhere`), make("div", { class: "row" }, ...places.slice(0, OTHERS).map((place) => picture(place)))) : "";
}

function picture(place) {
  const image = make("img", { alt: `Face ${place + 1}`, onclick: () => look(place) });
  if (large.has(place)) image.src = large.get(place);
  else {
    ask(`v1/crop/${place}?session=${state.session}`).then((answer) => answer.blob()).then((blob) => {
      if (!large.has(place)) large.set(place, URL.createObjectURL(blob));
      image.src = large.get(place);
    }, (error) => { image.alt = error.message; });
  }
  return image;
}

