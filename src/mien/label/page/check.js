// Labels in doubt and faces that repeat others, one after the other: keep, change or take out, each at one key.

import { css } from "../static/colours.js";
import { byId, make, percent } from "../static/dom.js";
import { glyph } from "../static/glyphs.js";
import { ask } from "../static/api.js";
import { colourOf } from "./classes.js";
import { nameOf, on, say, state, undo } from "./faces.js";
import { openPhotograph, showFace } from "./panel.js";

const OTHERS = 5; // faces of each class to compare with
const large = new Map(); // place to address of the crop as it is
let kind = "doubts", queue = [], at = 0, open = false;

export function setUpCheck() {
  addEventListener("check", () => { open = true; gather(); });
  on("guesses", () => { if (open && at >= queue.length) gather(); });
  on("answers", () => { if (open) draw(); });
  on("loaded", () => { for (const address of large.values()) URL.revokeObjectURL(address); large.clear(); if (open) gather(); });
}

export function leaveCheck() { open = false; }

/** Doubtful labels that nobody has decided about since, or repeated faces. The queue stays as it is while one works. */
function gather() {
  queue = kind === "doubts"
    ? (state.guesses?.doubts ?? []).filter(([place, name]) => state.label[place] && state.label[place] !== name && state.kept[place] !== state.label[place])
      .map(([place, name, share]) => ({ place, name, share, label: state.label[place] }))
    : state.twin.flatMap((twin, place) => (twin >= 0 && state.status[place] === "duplicate" && !decided.has(place) ? [{ place, twin }] : []));
  at = 0;
  draw();
}
const decided = new Set(); // pairs that were said to be one face: they stay duplicates

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
const same = (item) => decide(item, "one face", () => { decided.add(item.place); say([item.place], { action: "duplicate", target: state.ids[item.twin] }); });
const distinct = (item) => decide(item, "two faces", () => say([item.place], { action: "distinct", target: state.ids[item.twin] }));

async function back() {
  const done = await undo();
  if (!done?.undone) return;
  const place = done.faces?.[0];
  const number = queue.findIndex((item) => item.place === place);
  if (number >= 0) { delete queue[number].decision; decided.delete(place); at = number; }
  draw();
}

function draw() {
  const view = byId("view-check");
  const doubts = (state.guesses?.doubts ?? []).length;
  const twins = state.twin.filter((twin, place) => twin >= 0 && state.status[place] === "duplicate").length;
  const tab = (name, text) => make("button", { "aria-selected": String(kind === name), onclick: () => { kind = name; gather(); } }, text);
  const head = make("div", { class: "check-head" },
    make("div", { class: "tabs" }, tab("doubts", `Labels in doubt${doubts ? ` · ${doubts}` : ""}`), tab("twins", `Repeated faces${twins ? ` · ${twins}` : ""}`)),
    make("p", { class: "quiet" }, queue.length ? `${Math.min(at + 1, queue.length)} of ${queue.length}` : ""));
  view.replaceChildren(head, body());
}

function body() {
  const item = queue[at];
  if (!item) return make("div", { class: "check-empty" }, make("h2", {}, queue.length ? "That was the last one." : whyNone()), make("p", { class: "quiet" }, about()),
    queue.length ? make("p", {}, make("button", { onclick: gather }, "Look again")) : "");
  return kind === "doubts" ? doubt(item) : pair(item);
}

function whyNone() {
  if (kind === "twins") return "No repeated faces are left to decide.";
  if (!state.learner) return "This server does not learn, so it doubts nothing.";
  return state.guesses?.of.some((number) => number >= 0) ? "No label is in doubt." : "Doubts come with the guesses, when two classes have ten faces each.";
}

const about = () => (kind === "doubts"
  ? "A label is in doubt when heads that were fitted without this face, and without its group, say something else."
  : "A face that nearly repeats another is listed once. Say here where two were taken for one.");

function doubt(item) {
  const now = state.label[item.place];
  return make("div", { class: "check" },
    make("div", { class: "check-face" }, picture(item.place), make("p", { class: "quiet small" }, nameOf(state.sources[state.source[item.place]] ?? ""))),
    make("div", { class: "check-words" },
      make("p", { class: "verdict" }, chip(item.label), make("span", {}, "or"), chip(item.name, `${percent(item.share / 100)}`), make("span", {}, "?")),
      make("p", { class: "quiet" }, item.decision ? `Decided: ${item.decision}` : now !== item.label ? `Now: ${now || state.status[item.place]}` : `${Object.keys(state.people[item.place] ?? {}).join(", ")} said ${item.label}. Learnt from the other faces, it looks like ${item.name}.`),
      make("div", { class: "row wrap actions" },
        key("K", `Keep ${item.label}`, () => keep(item)), key("C", `Change to ${item.name}`, () => settle(item, item.name), "primary"),
        key("0", "Cannot tell", () => out(item, "cannot tell")), key("X", "No face", () => out(item, "no face")),
        key("P", "Photograph", () => look(item.place)), key("Z", "Undo", back)),
      make("p", { class: "quiet small" }, "Keys 1 to 9 give any other class. What is kept is not asked again."),
      compare(item.label, item.place), compare(item.name, item.place)));
}

function pair(item) {
  const labels = [item.place, item.twin].map((place) => state.label[place]);
  return make("div", { class: "check" },
    make("div", { class: "pair" }, ...[item.twin, item.place].map((place, number) => make("figure", {}, picture(place),
      make("figcaption", { class: "small" }, make("b", {}, number ? "repeats it" : "shown"), ` ${nameOf(state.sources[state.source[place]] ?? "")}`, state.label[place] ? chip(state.label[place]) : "")))),
    make("div", { class: "check-words" },
      make("h2", {}, "One face, or two?"),
      make("p", { class: "quiet" }, item.decision ? `Decided: ${item.decision}` : labels[0] && labels[1] && labels[0] !== labels[1] ? "They were labelled differently." : "One face counts once, and stays on one side of the split."),
      make("div", { class: "row wrap actions" }, key("S", "One face", () => same(item), "primary"), key("D", "Two faces: show both", () => distinct(item)), key("Z", "Undo", back))));
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
    }, () => { image.alt = "The crop is missing"; });
  }
  return image;
}

