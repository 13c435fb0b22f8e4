// Where the page starts: what keys and buttons do.

import { labelColours } from "../static/colours.js";
import { announce, byId, count, make, tell } from "../static/dom.js";
import { glyph } from "../static/glyphs.js";
import { askForClass, findClass, setUpClasses } from "./classes.js";
import { forgetCrops } from "./crops.js";
import { leaveCheck, onCheckKey, setUpCheck } from "./check.js";
import { follow, guessOf, isOpen, load, on, say, sayEach, setWho, state, undo } from "./faces.js";
import { setUpLearning } from "./learning.js";
import { openPhotograph, setUpPanel, showFace } from "./panel.js";
import { hasGuesses, placesShown, setUpViews, told, view, whyEmpty } from "./views.js";
import { openTraining, setUpTraining } from "./training.js";
import { Wall } from "./wall.js";

const SIZE = "mien-label-size", FIFTY = 50;
const VIEWS = { faces: "Faces", check: "Check", train: "Train" };
const wall = new Wall(byId("wall"), byId("canvas"), byId("rubber"), {
  moved: (place) => { showFace(place); if (byId("photo-dialog").open && place >= 0) openPhotograph(place); },
  opened: openPhotograph,
  chosen: tellChosen,
});
let places = [];
let begun = false; // somebody has answered, or chosen an order, since the page was loaded
let orderedBy = null; // the guesses that the wall is ordered by

setUpClasses(give);
setUpViews(() => show(-1));
setUpPanel();
setUpLearning(() => open("check"));
setUpCheck();
setUpTraining(toFace);
setUpTabs();
setUpButtons();
setUpLists();
setUpSize();
setUpWho();
byId("mascot").append(glyph("happy", labelColours(["happy"])[0], { size: 30 }));
on("loaded", (nowAt) => {
  forgetCrops();
  byId("folder").textContent = state.folder;
  document.title = `${state.folder} · mien label`;
  const here = nowAt(wall.place);
  wall.choose([]); // what was chosen by place would be other faces
  show(here);
});
on("grown", (from) => {
  // Behind all that is shown, in their order: nothing moves under a hand.
  places = [...places, ...placesShown().filter((place) => place >= from)];
  wall.extend(places);
  wall.repaint(new Set(places));
  tellEmpty();
  tellTidy();
  tellChosen();
});
on("answers", (changed) => { wall.repaint(changed); tellTidy(); });
on("classes", () => wall.repaint(new Set(places)));
on("guesses", () => { if (!presort()) wall.repaint(new Set(places)); tellTidy(); tellChosen(); });
for (const id of ["show", "order"]) byId(id).addEventListener("change", () => { begun = true; });
on("trouble", (line) => tell(byId("notice"), line));
on("progress", () => { byId("who-name").textContent = state.who; });
addEventListener("keydown", onKey);
addEventListener("beforeunload", (event) => { if (state.waiting) event.preventDefault(); }); // it would be lost
start();

async function start() {
  try {
    await load();
    wall.scroller.focus({ preventScroll: true });
  } catch (error) {
    tell(byId("notice"), error.message);
    return;
  }
  follow();
}

function show(keep) {
  places = placesShown();
  wall.show(places, keep);
  // What the key C will confirm is plain to see, and a face can be taken out with Ctrl and a click.
  if (byId("order").value === "surest") wall.choose(places.filter((place) => isOpen(place) && guessOf(place)).slice(0, FIFTY));
  tellEmpty();
  tellTidy();
  tellChosen();
}

function tellEmpty() {
  byId("empty").hidden = places.length > 0;
  byId("empty").textContent = whyEmpty();
}

/** Sort the wall once there is something to sort by, unless the work has begun: nothing must move under a hand. */
function presort() {
  if (begun || byId("order").value !== "table") return false;
  byId("order").value = hasGuesses() ? "helpful" : "alike";
  orderedBy = state.guesses;
  show(-1);
  return true;
}

// What a key does to faces

function give(name) { answer({ action: "label", class: name }); }

/** Answer for the chosen faces, and go on to the next that is not answered. */
function answer(about) {
  const targets = wall.targets;
  if (!targets.length) return;
  const several = wall.chosen.size > 0;
  begun = true;
  say(targets, about);
  announce(`${about.class ?? about.action}: ${count(targets.length, "face")}`);
  const from = Math.max(...targets.map((place) => wall.where.get(place) ?? -1));
  if (several) wall.choose([]);
  goOn(from);
}

function goOn(from) {
  for (let number = from + 1; number < places.length; number++) {
    if (isOpen(places[number]) || byId("show").value !== "open") { wall.go(number); return; }
  }
  wall.go(from);
}

async function takeBack() {
  const done = await undo();
  if (!done) return;
  if (!done.undone) { announce("There is nothing of yours to take back."); return; }
  announce(`Taken back: ${done.class ?? done.undone}`);
  const back = (done.faces ?? []).find((place) => wall.where.has(place));
  if (back !== undefined) wall.go(wall.where.get(back));
}

/** Say yes to the guesses about the chosen faces. */
function confirm() {
  const sure = guessed();
  if (!sure.length) return;
  begun = true;
  sayEach(new Map(sure.map((place) => [place, guessOf(place).class])));
  announce(`Confirmed: ${count(sure.length, "guess", "guesses")}`);
  const from = Math.max(...sure.map((place) => wall.where.get(place)));
  wall.choose([]);
  if (byId("order").value === "surest") show(-1);
  else goOn(from);
}

const guessed = () => [...wall.chosen].filter((place) => isOpen(place) && guessOf(place));

// What the toolbar says

function tellChosen() {
  const number = wall.chosen.size;
  byId("shown").textContent = number ? `${number.toLocaleString("en-GB")} of ${told(places)} chosen` : told(places);
  document.body.classList.toggle("choosing", number > 0);
  const sure = guessed().length;
  byId("confirm").hidden = !sure;
  byId("confirm-text").textContent = `Confirm ${count(sure, "guess", "guesses")}`;
}

function tellTidy() {
  const done = byId("show").value === "open" ? places.filter((place) => !isOpen(place)).length : 0;
  const anew = byId("order").value === "helpful" && state.guesses && state.guesses !== orderedBy;
  byId("tidy").hidden = !done && !anew;
  byId("tidy-text").textContent = done ? `Put away ${done.toLocaleString("en-GB")} done` : "Order anew";
}

function tidy() {
  orderedBy = state.guesses;
  const number = wall.cursor;
  show(places.slice(Math.max(number, 0)).find(isOpen));
}

// Views

function setUpTabs() {
  byId("tabs").replaceChildren(...Object.entries(VIEWS).map(([name, text]) =>
    make("button", { id: `tab-${name}`, onclick: () => open(name) }, text, name === "check" ? make("span", { class: "count", id: "doubts" }) : null)));
  open("faces");
}

/** Show one face on the wall, among all others. */
function toFace(place) {
  view({ show: "all" });
  open("faces");
  show(place);
  wall.go(wall.where.get(place));
}

function open(name) {
  for (const other of Object.keys(VIEWS)) {
    byId(`view-${other}`).hidden = other !== name;
    byId(`tab-${other}`).setAttribute("aria-current", other === name ? "page" : "false");
  }
  byId("dock").hidden = name !== "faces";
  if (name === "faces") { leaveCheck(); wall.measure(); wall.scroller.focus({ preventScroll: true }); }
  else document.activeElement?.blur();
  if (name === "check") dispatchEvent(new Event("check"));
  openTraining(name === "train");
}

// Keys and buttons

function onKey(event) {
  const typing = event.target.matches?.("input:not([type=range]), textarea, select");
  const dialog = document.querySelector("dialog[open]");
  if (typing || (dialog && dialog.id !== "photo-dialog")) return;
  if (!byId("view-check").hidden) {
    const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
    const clicked = event.target.matches?.("button") && (event.key === "Enter" || event.key === " ");
    if (plain && !clicked && onCheckKey(event.key.length === 1 ? event.key.toLowerCase() : event.key)) event.preventDefault();
    return;
  }
  if (byId("view-faces").hidden) return;
  if (event.key === "a" && (event.ctrlKey || event.metaKey)) { wall.choose(places); event.preventDefault(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches?.("button") && (event.key === "Enter" || event.key === " ")) return;
  if (event.target.id === "size" && event.key.startsWith("Arrow")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (act(key, event.shiftKey)) event.preventDefault();
}

function act(key, shift) {
  if (wall.step(key, shift)) return true;
  if (key >= "1" && key <= "9" && key.length === 1) {
    const name = state.classes[Number(key) - 1];
    if (name) give(name);
    return true;
  }
  const keys = {
    0: () => answer({ action: "cannot tell" }), x: () => answer({ action: "no face" }), z: takeBack,
    Delete: () => answer({ action: "clear" }), Backspace: () => answer({ action: "clear" }),
    Enter: () => wall.place >= 0 && (byId("photo-dialog").open ? byId("photo-dialog").close() : openPhotograph(wall.place)),
    " ": () => wall.place >= 0 && wall.toggle(wall.place), c: confirm, r: tidy, g: () => findClass(give), n: () => askForClass(),
    "+": () => resize(16), "=": () => resize(16), "-": () => resize(-16), "?": () => byId("keys-dialog").showModal(),
    Escape: () => (byId("photo-dialog").open ? byId("photo-dialog").close() : wall.choose([])),
  };
  if (!(key in keys)) return false;
  keys[key]();
  return true;
}

function setUpButtons() {
  byId("cannot-tell").addEventListener("click", () => answer({ action: "cannot tell" }));
  byId("no-face").addEventListener("click", () => answer({ action: "no face" }));
  byId("undo").addEventListener("click", takeBack);
  byId("look").addEventListener("click", () => wall.place >= 0 && openPhotograph(wall.place));
  byId("tidy").addEventListener("click", tidy);
  byId("confirm").addEventListener("click", confirm);
  byId("keys").addEventListener("click", () => byId("keys-dialog").showModal());
  byId("photo").addEventListener("click", () => wall.place >= 0 && openPhotograph(wall.place));
  for (const id of ["keys-dialog", "photo-dialog"]) {
    let beside = false; // pressed there as well: the finger whose long press opened it leaves the glass over it
    byId(id).addEventListener("pointerdown", (event) => { beside = event.target === byId(id); });
    byId(id).addEventListener("click", (event) => { if (beside && event.target === byId(id)) byId(id).close(); beside = false; });
  }
  byId("photo-dialog").addEventListener("close", () => wall.scroller.focus({ preventScroll: true }));
  // A button keeps the focus, and the next key would be about it instead of the wall.
  byId("dock").addEventListener("click", (event) => event.detail && wall.scroller.focus({ preventScroll: true }));
  document.querySelector(".brand").addEventListener("click", (event) => { event.preventDefault(); view({ show: "open" }); show(); });
}

/** After a choice by mouse or finger the keys are about the faces again; who goes by keys stays in the list. */
function setUpLists() {
  for (const list of document.querySelectorAll(".toolbar select, .filters select")) {
    let pointed = false;
    list.addEventListener("pointerdown", () => { pointed = true; });
    list.addEventListener("keydown", () => { pointed = false; });
    list.addEventListener("change", () => { if (pointed) wall.scroller.focus({ preventScroll: true }); pointed = false; });
  }
}

function setUpSize() {
  const slider = byId("size");
  let size = matchMedia("(max-width: 640px)").matches ? 104 : 132;
  try { size = Number(localStorage.getItem(SIZE)) || size; } catch { /* storage may be blocked */ }
  slider.value = size;
  wall.setSize(Number(slider.value));
  slider.addEventListener("input", () => resize(0));
}

function resize(by) {
  const slider = byId("size");
  slider.value = Number(slider.value) + by;
  try { localStorage.setItem(SIZE, slider.value); } catch { /* then it lasts until the page is left */ }
  wall.setSize(Number(slider.value));
}

function setUpWho() {
  const [dialog, field] = [byId("who-dialog"), byId("who-field")];
  byId("who").addEventListener("click", () => {
    field.value = state.who;
    dialog.returnValue = "";
    dialog.showModal();
    field.select();
  });
  dialog.addEventListener("close", () => {
    if (dialog.returnValue === "send" && field.value.trim()) { setWho(field.value.trim()); show(); }
  });
}
