// Beside the wall: the photograph of the chosen face, and how far the work is.

import { ask, mayPass } from "../static/api.js";
import { css } from "../static/colours.js";
import { byId, clock, count, icon, make } from "../static/dom.js";
import { glyph } from "../static/glyphs.js";
import { colourOf, countByClass } from "./classes.js";
import { cropOf, roughly } from "./crops.js";
import { isAside, isDisputed, isOpen, nameOf, on, state } from "./faces.js";
import { wordsOf } from "./wall.js";

const WAIT_MS = 140, KEPT = 24;
const photographs = new Map(); // place to {address, box} or {problem}
let shown = -1, timer = 0;

export function setUpPanel() {
  on("answers", (places) => { if (places.has(shown)) drawFacts(); later(); });
  for (const news of ["classes", "grown"]) on(news, later);
  on("progress", () => { if (state.waiting) byId("stored").textContent = "storing …"; later(); });
  on("loaded", () => { for (const one of photographs.values()) if (one.address) URL.revokeObjectURL(one.address); photographs.clear(); shown = -1; later(); });
}

/** Show another face; its photograph comes when the cursor rests. */
export function showFace(place) {
  shown = place;
  clearTimeout(timer);
  if (place < 0) { byId("photo").replaceChildren(); return; }
  drawFacts();
  if (photographs.has(place) && !photographs.get(place).passes) drawPhotograph(byId("photo-frame"), place);
  else timer = setTimeout(() => photograph(place).then(() => shown === place && drawPhotograph(byId("photo-frame"), place)), WAIT_MS);
}

async function photograph(place) {
  if (photographs.has(place) && !photographs.get(place).passes) return;
  let found;
  try {
    const answer = await ask(`v1/photograph/${place}?session=${state.session}`);
    const box = (answer.headers.get("X-Face-Box") ?? "").split(",").filter(Boolean).map(Number);
    found = { address: URL.createObjectURL(await answer.blob()), box };
  } catch (error) {
    // A server that was started again does not know this page's faces until the next news, which load them anew.
    found = { problem: error.message, passes: mayPass(error) || error.status === 409 };
  }
  photographs.set(place, found);
  for (const [old, { address }] of photographs) {
    if (photographs.size <= KEPT) break;
    if (old === place) continue;
    if (address) URL.revokeObjectURL(address);
    photographs.delete(old);
  }
}

function drawPhotograph(frame, place) {
  if (!frame) return;
  const found = photographs.get(place);
  if (found.problem) {
    frame.querySelector("p")?.remove();
    frame.append(make("p", { class: "small quiet" }, found.problem));
    return;
  }
  const image = make("img", { src: found.address, alt: `The photograph: ${nameOf(state.sources[state.source[place]])}` });
  fill(frame, make("div", { class: "whole" }, image, markOf(found.box)));
}

/** Put children into an element; null stands for none. */
const fill = (element, ...children) => element.replaceChildren(...children.filter((child) => child !== null));

function markOf(box) {
  if (box.length !== 4) return null;
  const [left, top, width, height] = box.map((share) => `${(100 * share).toFixed(2)}%`);
  return make("span", { class: "marked", style: { left, top, width, height } });
}

/** Show the whole photograph as large as the window, with the face marked. keys: handled by the page, so that labels go on. */
export async function openPhotograph(place) {
  const [dialog, large] = ["photo-dialog", "photo-large"].map(byId);
  fill(large, make("p", { class: "quiet" }, "…"));
  if (!dialog.open) dialog.showModal();
  await photograph(place);
  if (shown !== place && shown >= 0) return;
  const found = photographs.get(place);
  const words = wordsOf(place);
  const close = make("button", { class: "round", "aria-label": "Close", onclick: () => dialog.close() }, icon("close"));
  const title = make("p", { class: "row caption" }, labelOf(words), make("span", { class: "quiet" }, whereOf(place)), make("span", { class: "push" }), close);
  if (found?.address) {
    fill(large, make("div", { class: "whole" }, make("img", { src: found.address, alt: "" }), markOf(found.box)), title);
  } else {
    const crop = cropOf(place) || roughly(place);
    fill(large, crop ? make("img", { class: "alone", src: crop, alt: "" }) : null, make("p", { class: "quiet" }, found?.problem ?? ""), title);
  }
}

function labelOf(words) {
  if (words.class) {
    return make("span", { class: "row tight" }, glyph(words.class, colourOf(words.class), { size: 26 }),
      make("b", {}, words.kind === "guess" ? `${words.text}?` : words.text));
  }
  return make("b", {}, words.text || "Not labelled");
}

function whereOf(place) {
  const name = nameOf(state.sources[state.source[place]] ?? "");
  const time = state.time[place];
  return time === null ? name : `${name} at ${clock(time, true)}`;
}

function drawFacts() {
  const place = shown;
  const words = wordsOf(place);
  const crop = roughly(place) || cropOf(place);
  const said = Object.entries(state.people[place] ?? {});
  const frame = make("div", { class: "photo", id: "photo-frame" }, crop ? make("img", { class: "alone", src: crop, alt: "" }) : null);
  const before = byId("photo-frame");
  const same = before && byId("photo").dataset.place === String(place);
  byId("photo").dataset.place = place;
  fill(byId("photo"),
    same ? before : frame,
    make("div", { class: "facts" },
      make("p", { class: "row" }, labelOf(words)),
      make("p", { class: "quiet small" }, [whereOf(place), isAside(place) ? `set aside: ${state.status[place]}` : ""].filter(Boolean).join(" · ")),
      said.length ? make("ul", { class: "said small" }, ...said.map(([who, word]) => make("li", {}, make("b", {}, who), ` ${word}`))) : null));
}

// How far the work is

let due = 0;
function later() { due ||= setTimeout(() => { due = 0; drawProgress(); }, 120); }

function drawProgress() {
  let [open, aside, disputed, labelled, none] = [0, 0, 0, 0, 0];
  for (let place = 0; place < state.count; place++) {
    if (isOpen(place)) open += 1;
    else if (isAside(place)) aside += 1;
    else if (isDisputed(place)) disputed += 1;
    else if (state.label[place]) labelled += 1;
    else none += 1;
  }
  const done = labelled + disputed + none;
  const all = done + open;
  const counts = [...countByClass()].filter(([, number]) => number);
  const parts = [...counts.map(([name, number]) => [number, css(colourOf(name))]), [disputed + none, "var(--soft)"]];
  const { alpha, faces } = state.agreement;
  fill(byId("progress"),
    make("h2", {}, `${done.toLocaleString("en-GB")} of ${all.toLocaleString("en-GB")}`),
    make("div", { class: "shares", role: "img", "aria-label": `${done} of ${all} faces labelled` },
      ...parts.map(([number, tone]) => make("span", { style: { width: `${(100 * number) / Math.max(all, 1)}%`, background: tone } }))),
    make("p", { class: "quiet small" }, timeLeft(open)),
    make("p", { class: "quiet small" }, [
      disputed ? `${count(disputed, "disagreement")}` : "", none ? `${none.toLocaleString("en-GB")} without a class` : "",
      aside ? `${aside.toLocaleString("en-GB")} set aside` : ""].filter(Boolean).join(" · ")),
    faces ? make("p", { class: "small agreement" }, agreementWords(alpha, faces)) : null);
  byId("stored").textContent = state.waiting ? "storing …" : done ? "all stored" : "";
}

/** How long is left at one's own pace, without breaks; said only when there is enough to tell it from. */
export function timeLeft(open) {
  if (!open) return "Nothing is left to do.";
  if (!state.pace) return `${count(open, "face")} to do. The time left shows after a dozen answers of yours.`;
  const seconds = open * state.pace;
  const time = seconds < 30 ? "less than a minute" : seconds < 90 ? "about a minute" : seconds < 5400 ? `about ${Math.round(seconds / 60)} minutes` : `about ${(seconds / 3600).toFixed(1)} hours`;
  return `${count(open, "face")} to do: ${time} at your pace (${state.pace < 0.95 ? state.pace.toFixed(2) : state.pace.toFixed(1)} s a face)`;
}

function agreementWords(alpha, faces) {
  const both = `${count(faces, "face")} labelled by two or more`;
  return alpha === null ? `${both}; all are one class, so agreement cannot be measured.` : `Krippendorff's α = ${alpha.toFixed(2)} on ${both}`;
}
