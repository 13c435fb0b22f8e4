// A network of one's own: started here, watched while it is trained, and how to use it.

import { ask, token } from "../static/api.js";
import { css } from "../static/colours.js";
import { byId, clock, count, icon, make, makeSvg } from "../static/dom.js";
import { glyph } from "../static/glyphs.js";
import { colourOf, countByClass } from "./classes.js";
import { isDisputed, on, state } from "./faces.js";

const POLL_MS = 1500, FEW = 20, LEAST = 2, FOLDS = 5, MISTAKES = 24, BATCH_COLUMNS = 8;
const [WIDE, HIGH, LEFT, LOW] = [260, 130, 36, 16];
let open = false, told = { state: "none" }, problem = "", timer = 0, batch = "", more = false, away = false, goTo = () => {};
const crops = new Map(); // place to address of a small crop

/** face: called with a place, to show that face on the wall. */
export function setUpTraining(face) {
  goTo = face;
  on("loaded", () => { for (const address of crops.values()) URL.revokeObjectURL(address); crops.clear(); });
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
    if (told.batch && batch !== `${told.folder} ${told.fold}`) await fetchBatch();
    await fetchCrops(shownMistakes().map(([place]) => place));
    if (away) problem = "";
    away = false;
  } catch (error) {
    problem = error.message;
    away = true; // the line goes once the server answers; why a training was refused stays
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
  batch = `${told.folder} ${told.fold}`;
}

/** Fetch the crops of mistakes that are not here yet. */
async function fetchCrops(places) {
  const missing = [...new Set(places)].filter((place) => !crops.has(place));
  if (!missing.length) return;
  const data = await (await ask(`v1/small?session=${state.session}&side=192&faces=${missing.join(",")}`)).arrayBuffer();
  const view = new DataView(data);
  let from = 0;
  for (const place of missing) {
    const length = view.getUint32(from, true);
    crops.set(place, length ? URL.createObjectURL(new Blob([new Uint8Array(data, from + 4, length)], { type: "image/jpeg" })) : "");
    from += 4 + length;
  }
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

let begun = "", shown = "";
function draw() {
  const view = byId("view-train");
  if (!view.firstChild) view.append(make("div", { class: "train" }, make("div", { class: "panel" }), make("div", { class: "panel" })));
  const [left, right] = view.firstChild.children;
  // A list that somebody has opened must not close under their hand.
  const now = JSON.stringify([[...countByClass()], countDisputed(), state.classes, told.state, problem]);
  if (now !== begun) left.replaceChildren(...begin());
  begun = now;
  const course_ = JSON.stringify([told, batch, more, crops.size]);
  if (course_ !== shown) right.replaceChildren(...course()); // or a click would be lost between two drawings
  shown = course_;
}

const countDisputed = () => state.label.filter((_, place) => isDisputed(place)).length;

function begin() {
  const counts = [...countByClass()].filter(([name]) => state.classes.includes(name));
  const labelled = counts.reduce((sum, [, number]) => sum + number, 0);
  const disputed = countDisputed();
  const most = Math.max(1, ...counts.map(([, number]) => number));
  const few = counts.filter(([, number]) => number < FEW);
  const running = told.state === "running";
  const chooser = (id, pairs) => {
    const chosen = byId(id)?.value ?? "";
    return make("select", { id }, ...pairs.map(([value, text]) => make("option", { value, selected: value === chosen }, text)));
  };
  const epochs = chooser("epochs", [["", "as the recipe has them"], ["5", "5 a phase, as a trial"], ["30", "30 a phase"], ["60", "60 a phase"]]);
  const folds = chooser("folds", [["", "faces that are kept back"], [FOLDS, `every face, in ${FOLDS} folds: ${FOLDS + 1} trainings`]]);
  return [
    make("h2", {}, "A network of your own"),
    make("p", { class: "quiet" }, `From ${count(labelled, "label")}${disputed ? `, the votes for ${count(disputed, "disputed face")}` : ""} and the network that comes with mien. Faces of one group stay on one side of the split.`),
    make("ul", { class: "bars" }, ...counts.map(([name, number]) => make("li", {}, glyph(name, colourOf(name), { size: 22 }), make("span", { class: "label" }, name),
      make("span", { class: "rail" }, make("span", { class: "fill", style: { width: `${(100 * number) / most}%`, background: css(colourOf(name)) } })),
      make("span", { class: number < FEW ? "share few" : "share" }, number.toLocaleString("en-GB"))))),
    few.length ? make("p", { class: "quiet small" }, `Red: fewer than ${FEW} faces; more of them would help.${few.some(([, number]) => number < LEAST) ? ` With fewer than ${LEAST} a class is left out.` : ""}`) : "",
    make("label", { class: "epochs" }, make("span", {}, "Epochs"), epochs),
    make("label", { class: "epochs" }, make("span", {}, "Judged on"), folds),
    problem ? make("p", { class: "notice" }, icon("alert"), make("span", {}, problem)) : "",
    make("p", { class: "row" }, running
      ? make("button", { id: "cancel-training", onclick: () => send({ cancel: true }) }, icon("close"), "Cancel")
      : make("button", { class: "primary", id: "train", onclick: () => send({ epochs: epochs.value ? Number(epochs.value) : null, folds: Number(folds.value) }) }, told.state === "none" ? "Train" : "Train again")),
  ].filter((part) => part !== "");
}

function course() {
  if (told.state === "none") return [make("h2", {}, "Nothing is trained yet"), make("p", { class: "quiet" }, "Curves, the time left and the commands to use the network appear here. You can go on labelling meanwhile.")];
  const done = told.curve.loss.length;
  const parts = [];
  if (told.state === "running") {
    const part = !told.folds ? "" : told.fold > told.folds ? "All faces: " : `Fold ${told.fold} of ${told.folds}: `;
    parts.push(make("p", { class: "word" }, told.epochs ? `${part}${part ? "epoch" : "Epoch"} ${Math.min(done + 1, told.epochs)} of ${told.epochs}` : `${part}${part ? "reading" : "Reading"} the faces`),
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
    if (told.report) parts.push(make("p", {}, reportLink(), make("span", { class: "quiet small" }, ` ${told.report}`)));
  }
  if (told.left_out?.length) parts.push(make("p", { class: "quiet small" }, `Left out, too few faces: ${told.left_out.join(", ")}.`));
  if (told.mistakes?.length) parts.push(mistakes());
  if (batchAddress && batch === `${told.folder} ${told.fold}`) parts.push(batchFigure());
  return parts;
}

const shownMistakes = () => (told.mistakes ?? []).slice(0, more ? undefined : MISTAKES);

/** What the network of the newest epoch got wrong of the faces that it does not learn from, the surest first. */
function mistakes() {
  const rest = told.mistakes.length - shownMistakes().length;
  const when = told.state === "running" ? "Mistakes of this epoch" : told.folds ? "Mistakes, each by a network that had not seen it" : "Mistakes of the last epoch";
  return make("section", { class: "mistakes", "aria-label": when }, make("h3", {}, when),
    make("ul", {}, ...shownMistakes().map(([place, label, answer, share]) => make("li", {}, make("button", {
      title: `Labelled ${label}, taken for ${answer}: to the face`, "data-place": place, style: { "--tone": css(colourOf(answer)) }, onclick: () => goTo(place),
    }, make("img", { alt: "", src: crops.get(place) || false }), make("b", {}, `${answer} ${share}%`), make("small", {}, label))))),
    rest > 0 ? make("button", { class: "link", onclick: () => { more = true; look(); } }, `${rest} more`) : null,
    make("p", { class: "quiet small" }, "Answer, how sure, and below it the label. A click leads to the face: is the label right?"));
}

/** The batch as it is drawn, eight in a row; each leads to its face. */
function batchFigure() {
  const rows = Math.ceil(told.batch_faces.length / BATCH_COLUMNS);
  const spots = told.batch_faces.map((place, number) => (place < 0 ? null : make("button", {
    "aria-label": `To face ${place + 1}`, onclick: () => goTo(place),
    style: { left: `${(100 * (number % BATCH_COLUMNS)) / BATCH_COLUMNS}%`, top: `${(100 * Math.floor(number / BATCH_COLUMNS)) / rows}%`, width: `${100 / BATCH_COLUMNS}%`, height: `${100 / rows}%` },
  })));
  return make("figure", {}, make("h3", {}, "As the network sees them"),
    make("div", { class: "batch" }, make("img", { src: batchAddress, alt: "Faces as the network sees them in training" }), ...spots),
    make("figcaption", {}, "Turned, shifted and lit anew in every epoch. A click leads to the face."));
}

/** The report in a tab of its own. A link cannot carry a token: then it is fetched, and saved as a file. */
function reportLink() {
  if (!token()) return make("a", { href: "v1/training/report", target: "_blank", rel: "noopener", id: "report" }, "Open the report");
  return make("button", { class: "link", id: "report", onclick: async () => {
    const address = URL.createObjectURL(await (await ask("v1/training/report")).blob());
    make("a", { href: address, download: "report.html" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  } }, "Save the report");
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
