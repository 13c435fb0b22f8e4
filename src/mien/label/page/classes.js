// The classes: their colours, the keys at the foot of the page, and the dialogs that add, rename and merge them.

import { css, inkOn, labelColours } from "../static/colours.js";
import { byId, make, tell } from "../static/dom.js";
import { glyph } from "../static/glyphs.js";
import { editClasses, on, state } from "./faces.js";

let colours = new Map();
const GREY = [150, 150, 150];

/** The colour of a class, [red, green, blue]; grey for one that is no longer on the list. */
export const colourOf = (name) => colours.get(name) ?? GREY;

/** How many faces have each class now. */
export function countByClass() {
  const counts = new Map(state.classes.map((name) => [name, 0]));
  for (const label of state.label) if (label) counts.set(label, (counts.get(label) ?? 0) + 1);
  return counts;
}

/** Keep the dock up to date. give: called with the name of a class. */
export function setUpClasses(give) {
  const draw = () => {
    colours = new Map(labelColours(state.classes).map((colour, place) => [state.classes[place], colour]));
    byId("answers").replaceChildren(...state.classes.map((name, place) => chip(name, place, give)),
      make("button", { class: "add", id: "add-class", title: "A new class (N)", onclick: () => askForClass() },
        plus(), make("span", {}, state.classes.length ? "Class" : "Add your first class"), make("kbd", {}, "N")));
    recount();
  };
  let due = 0;
  const recount = () => {
    due = 0;
    const counts = countByClass();
    for (const button of byId("answers").querySelectorAll("[data-class]")) {
      button.querySelector(".count").textContent = (counts.get(button.dataset.class) ?? 0).toLocaleString("en-GB");
    }
  };
  on("classes", draw);
  on("loaded", draw);
  for (const news of ["answers", "grown"]) on(news, () => { due ||= requestAnimationFrame(recount); });
  byId("class-cancel").addEventListener("click", () => byId("class-dialog").close(""));
  byId("merge-cancel").addEventListener("click", () => byId("merge-dialog").close(""));
}

function plus() {
  const svg = document.querySelector("#undo svg").cloneNode(true);
  svg.firstElementChild.setAttribute("href", "#icon-plus");
  return svg;
}

function chip(name, place, give) {
  const colour = colourOf(name);
  const pen = plus();
  pen.firstElementChild.setAttribute("href", "#icon-pen");
  return make("span", { class: "chip", style: { "--tone": css(colour), "--on-tone": css(inkOn(colour)) } },
    make("button", { class: "give", "data-class": name, title: `${name}: for the chosen faces`, onclick: () => give(name) },
      place < 9 ? make("kbd", {}, String(place + 1)) : null, glyph(name, colour, { size: 22 }),
      make("span", { class: "name" }, name), make("span", { class: "count" }, "0")),
    make("button", { class: "pen", "aria-label": `Rename or merge ${name}`, onclick: () => askForClass(name) }, pen));
}

/** Ask for the name of a new class, or for another name of one. */
export function askForClass(old = "") {
  const [dialog, field, problem] = ["class-dialog", "class-name", "class-problem"].map(byId);
  byId("class-title").textContent = old ? `Rename “${old}”` : "A new class";
  byId("class-help").textContent = old
    ? "All answers for it go by the new name. Z takes it back."
    : "An expression as people would see it: a short name, in any language.";
  byId("class-merge").hidden = !old || state.classes.length < 2;
  byId("class-merge").onclick = () => { dialog.close(""); askForMerge(old); };
  field.value = old;
  tell(problem, "");
  dialog.returnValue = "";
  dialog.addEventListener("close", async () => {
    const name = field.value.trim();
    if (dialog.returnValue !== "send" || !name || name === old) return;
    await editClasses(old ? { action: "rename", name: old, to: name } : { action: "add", name });
  }, { once: true });
  dialog.showModal();
  field.select();
}

function askForMerge(old) {
  const [dialog, list] = ["merge-dialog", "merge-into"].map(byId);
  byId("merge-title").textContent = `Merge “${old}”`;
  list.replaceChildren(...state.classes.filter((name) => name !== old).map((name) => make("option", { value: name }, name)));
  dialog.returnValue = "";
  dialog.addEventListener("close", () => {
    if (dialog.returnValue === "send") editClasses({ action: "merge", name: old, to: list.value });
  }, { once: true });
  dialog.showModal();
}

/** Give a class by the beginning of its name: for those without a key. */
export function findClass(give) {
  const [dialog, field, list] = ["find-dialog", "find-name", "find-list"].map(byId);
  let found = [];
  const draw = () => {
    const text = field.value.trim().toLowerCase();
    const begins = state.classes.filter((name) => name.toLowerCase().startsWith(text));
    found = [...begins, ...state.classes.filter((name) => !begins.includes(name) && name.toLowerCase().includes(text))].slice(0, 9);
    list.replaceChildren(...found.map((name, place) => make("li", {},
      make("button", { type: "button", class: place ? "" : "first", onclick: () => dialog.close(name) }, glyph(name, colourOf(name), { size: 22 }), name))));
  };
  field.value = "";
  field.oninput = draw;
  dialog.returnValue = "";
  dialog.querySelector("form").onsubmit = (event) => { event.preventDefault(); dialog.close(found[0] ?? ""); };
  dialog.addEventListener("close", () => { if (state.classes.includes(dialog.returnValue)) give(dialog.returnValue); }, { once: true });
  draw();
  dialog.showModal();
}
