// A network of one's own: started here, watched while it is trained, and how to use it.

import { ask } from "../static/api.js";
import { css } from "../static/colours.js";
import { byId, clock, count, icon, make, makeSvg } from "../static/dom.js";
import { glyph } from "../static/glyphs.js";
import { colourOf, countByClass } from "./classes.js";
import { on, state } from "./faces.js";

const POLL_MS = 1500, FEW = 20, LEAST = 2;
const [WIDE, HIGH, LEFT, LOW] = [260, 130, 36, 16];
let open = false, told = { state: "none" }, problem = "", timer = 0, batch = "";

export function setUpTraining() {
  on("answers", () => open && told.state !== "running" && draw());
  on("classes", () => open && told.state !== "running" && draw());
}

/** Show the view, or stop asking how far it is. */
export function openTraining(yes) {
  open = yes;
  clearTimeout(timer);
  if (yes) { draw(); look(); }
}

async function look() {
  clearTimeout(timer);
  try {
    told = await (await ask("v1/training")).json();
    if (told.batch && batch !== told.folder) await fetchBatch();
  } catch (error) {
    problem = error.message;
  }
  if (!open) return;
  draw();
  if (told.state === "running") timer = setTimeout(look, POLL_MS);
}

let batchAddress = "";
async function fetchBatch() {
  const blob = await (await ask("v1/training/batch")).blob();
  if (batchAddress) URL.revokeObjectURL(batchAddress);
  batchAddress = URL.createObjectURL(blob);
  batch = told.folder;
}

async function send(body) {
  problem = "";
  try {
    told = await (await ask("v1/training", { method: "POST", body: JSON.stringify(body), type: "application/json" })).json();
  } catch (error) {
    problem = error.message;
  }
  look();
}

function draw() {
  byId("view-train").replaceChildren(make("div", { class: "train" },
    make("div", { class: "panel" }, ...begin()), make("div", { class: "panel" }, ...course())));
}

function begin() {
  const counts = [...countByClass()].filter(([name]) => state.classes.includes(name));
  const labelled = counts.reduce((sum, [, number]) => sum + number, 0);
  const most = Math.max(1, ...counts.map(([, number]) => number));
  const few = counts.filter(([, number]) => number < FEW);
  const running = told.state === "running";
  const chosen = byId("epochs")?.value ?? "";
  const epochs = make("select", { id: "epochs" }, ...[["", "as the recipe has them"], ["5", "5 a phase, as a trial"], ["30", "30 a phase"], ["60", "60 a phase"]].map(([value, text]) =>
    make("option", { value, selected: value === chosen }, text)));
  return [
    make("h2", {}, "A network of your own"),
    make("p", { class: "quiet" }, `From ${count(labelled, "label")} and the network that comes with mien. Faces of one group stay on one side of the split.`),
    make("ul", { class: "bars" }, ...counts.map(([name, number]) => make("li", {}, glyph(name, colourOf(name), { size: 22 }), make("span", { class: "label" }, name),
      make("span", { class: "rail" }, make("span", { class: "fill", style: { width: `${(100 * number) / most}%`, background: css(colourOf(name)) } })),
      make("span", { class: number < FEW ? "share few" : "share" }, number.toLocaleString("en-GB"))))),
    few.length ? make("p", { class: "quiet small" }, `Red: fewer than ${FEW} faces; more of them would help.${few.some(([, number]) => number < LEAST) ? ` With fewer than ${LEAST} a class is left out.` : ""}`) : "",
    make("label", { class: "epochs" }, "Epochs", epochs),
    problem ? make("p", { class: "notice" }, icon("alert"), make("span", {}, problem)) : "",
    make("p", { class: "row" }, running
      ? make("button", { id: "cancel-training", onclick: () => send({ cancel: true }) }, icon("close"), "Cancel")
      : make("button", { class: "primary", id: "train", onclick: () => send(epochs.value ? { epochs: Number(epochs.value) } : {}) }, told.state === "none" ? "Train" : "Train again")),
  ].filter((part) => part !== "");
}

function course() {
  if (told.state === "none") return [make("h2", {}, "Nothing is trained yet"), make("p", { class: "quiet" }, "Curves, the time left and the commands to use the network appear here. You can go on labelling meanwhile.")];
  const done = told.curve.loss.length;
  const parts = [];
  if (told.state === "running") {
    parts.push(make("p", { class: "word" }, told.epochs ? `Epoch ${Math.min(done + 1, told.epochs)} of ${told.epochs}` : "Reading the faces"),
      make("progress", { max: told.epochs || 1, value: done, "aria-label": "Epochs done" }),
      make("p", { class: "quiet small" }, told.left_s === null ? "The time left shows after the first epoch." : `about ${clock(told.left_s)} left for the epochs, then the report`));
  } else {
    const words = { done: "Your network is ready", stopped: "Cancelled", failed: "It could not be trained" };
    parts.push(make("p", { class: "word" }, words[told.state]));
    if (told.headline) parts.push(make("p", {}, told.headline));
    if (told.state !== "done") parts.push(make("pre", {}, told.lines.slice(-3).join("\n")));
  }
  if (done) {
    parts.push(make("div", { class: "curves" },
      figure("Accuracy", told.curve.accuracy, told.curve.validation_accuracy, (value) => `${Math.round(100 * value)}%`, [0, 1]),
      figure("Loss", told.curve.loss, told.curve.validation_loss, (value) => value.toFixed(1))));
    parts.push(make("figcaption", {}, make("span", { class: "key" }, "faces that it does not learn from"), make("span", { class: "key thin" }, "in training, with noise")));
  }
  if (told.state === "done") {
    parts.push(make("h3", {}, "Use it"), make("ul", { class: "use" }, ...told.use.map((line) => make("li", {}, make("code", {}, line), copier(line)))));
    if (told.report) parts.push(make("p", { class: "quiet small" }, `The report: ${told.report}`));
  }
  if (told.left_out?.length) parts.push(make("p", { class: "quiet small" }, `Left out, too few faces: ${told.left_out.join(", ")}.`));
  if (batchAddress && batch === told.folder) parts.push(make("figure", {}, make("img", { class: "batch", src: batchAddress, alt: "Faces as the network sees them in training" }), make("figcaption", {}, "Faces as the network sees them in training")));
  return parts;
}

function copier(line) {
  return make("button", { class: "round small", "aria-label": `Copy: ${line}`, onclick: ({ currentTarget }) => {
    navigator.clipboard?.writeText(line).then(() => currentTarget.replaceChildren(icon("check")), () => {});
  } }, icon("copy"));
}

function figure(title, learning, checked, worded, fixed = null) {
  const values = [...learning, ...checked].filter((value) => value !== null);
  const [least, most] = fixed ?? [0, Math.max(...values, 0.1)];
  const last = Math.max(learning.length - 1, 1);
  const x = (number) => LEFT + ((WIDE - LEFT - 6) * number) / last;
  const y = (value) => 6 + (HIGH - LOW - 6) * (1 - (value - least) / (most - least));
  const path = (column) => column.map((value, number) => (value === null ? "" : `${number ? "L" : "M"}${x(number).toFixed(1)} ${y(value).toFixed(1)}`)).join("").replace(/^L/, "M");
  const text = (at, high, words, anchor) => makeSvg("text", { x: at, y: high, "text-anchor": anchor }, words);
  return make("figure", {}, make("figcaption", {}, title),
    makeSvg("svg", { class: "curve", viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": `${title}, last ${worded(checked.at(-1) ?? learning.at(-1) ?? 0)}` },
      ...[least, (least + most) / 2, most].map((value) => makeSvg("line", { x1: LEFT, x2: WIDE - 6, y1: y(value), y2: y(value), class: "grid" })),
      text(LEFT - 6, y(most) + 4, worded(most), "end"), text(LEFT - 6, y(least) + 3, worded(least), "end"), text(WIDE - 6, HIGH - 2, `epoch ${learning.length}`, "end"),
      makeSvg("path", { d: path(learning), class: "line thin" }), makeSvg("path", { d: path(checked), class: "line" })));
}
