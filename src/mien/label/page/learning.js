// What is learnt beside the people who label: how far it is, what is expected of more labels.

import { makeSvg, byId, count, make, percent } from "../static/dom.js";
import { countByClass } from "./classes.js";
import { on, openDoubts, state } from "./faces.js";

const [WIDE, HIGH, LEFT, LOW] = [276, 96, 34, 16];

/** Keep the panel up to date. check: opens the view of doubtful labels. */
export function setUpLearning(check) {
  let drawn = "";
  const draw = () => {
    const told = state.learner, doubts = openDoubts().length;
    const key = JSON.stringify([told, doubts, state.classes.length, state.guesses?.version, whenGuesses()]);
    if (key === drawn) return;
    drawn = key;
    byId("learning").replaceChildren(...(told ? parts(told, doubts, check).filter(Boolean) : []));
    if (byId("doubts")) byId("doubts").textContent = doubts || "";
  };
  for (const name of ["progress", "loaded", "guesses", "answers"]) on(name, draw);
}

const ENOUGH = 10; // active.ENOUGH

/** When there are guesses: a server that has just started still has to fit them to labels that are there. */
export function whenGuesses() {
  const enough = state.learner?.enough ?? ENOUGH;
  const filled = [...countByClass().values()].filter((number) => number >= enough).length;
  return filled > 1 ? "come in a moment" : `begin when two classes have ${enough} faces each`;
}

function parts(told, doubts, check) {
  const small = (text) => make("p", { class: "quiet small" }, text);
  if (told.step === "off") return [make("h2", {}, "No guesses"), small(told.note)];
  if (told.step === "waiting" || (told.step === "looking" && !told.labelled)) {
    return [make("h2", {}, "Looking at the faces"),
      make("progress", { max: told.total || 1, value: told.done, "aria-label": "Faces looked at" }),
      small(`${told.done.toLocaleString("en-GB")} of ${count(told.total, "face")}; label meanwhile.`)];
  }
  if (told.expected === null || told.expected === undefined || !state.guesses) {
    return [make("h2", {}, "It learns from you"), small(`Guesses ${whenGuesses()}.`)];
  }
  const curve = told.curve;
  const last = curve.labels.length - 1;
  return [
    make("h2", {}, "It learns from you"),
    make("p", { class: "small" }, make("b", {}, `About ${percent(told.expected)}`), " of its guesses are right, by its own estimate."),
    curve.labels.length > 1 ? chart(curve) : null,
    last >= curve.known ? small(`With ${count(curve.labels[last], "label")} about ${percent(curve.accuracy[last])} are expected.`) : null,
    told.needed && state.classes.length > 1 ? small(`More faces of “${told.needed}” would help most.`) : null,
    doubts ? make("p", { class: "small" }, make("button", { class: "link", onclick: check }, `${count(doubts, "label")} to check`)) : null,
  ];
}

/** Accuracy against labels: what was found drawn through, what is foretold dashed. */
function chart({ labels, accuracy, known }) {
  const [least, most] = [Math.max(0, Math.floor(10 * Math.min(...accuracy) - 0.5) / 10), 1];
  const x = (value) => LEFT + ((WIDE - LEFT - 8) * value) / labels.at(-1);
  const y = (value) => 6 + (HIGH - LOW - 6) * (1 - (value - least) / (most - least));
  const path = (from, to) => labels.slice(from, to).map((value, number) => `${number ? "L" : "M"}${x(value).toFixed(1)} ${y(accuracy[from + number]).toFixed(1)}`).join("");
  const text = (at, high, words, anchor) => makeSvg("text", { x: at, y: high, "text-anchor": anchor }, words);
  const told = `Accuracy expected of the guesses: ${labels.map((value, number) => `${percent(accuracy[number])} with ${value} labels`).join(", ")}`;
  return makeSvg("svg", { class: "curve", viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": told },
    ...[least, (least + most) / 2, most].map((value) => makeSvg("line", { x1: LEFT, x2: WIDE - 8, y1: y(value), y2: y(value), class: "grid" })),
    text(LEFT - 6, y(most) + 4, "100%", "end"), text(LEFT - 6, y(least) + 3, `${Math.round(100 * least)}%`, "end"),
    text(x(labels[known - 1]), HIGH - 3, labels[known - 1].toLocaleString("en-GB"), "middle"),
    known < labels.length ? text(x(labels.at(-1)), HIGH - 3, labels.at(-1).toLocaleString("en-GB"), "end") : "",
    makeSvg("path", { d: path(0, known), class: "line" }),
    known < labels.length ? makeSvg("path", { d: path(known - 1, labels.length), class: "line foretold" }) : "",
    makeSvg("circle", { cx: x(labels[known - 1]), cy: y(accuracy[known - 1]), r: 4.5, class: "now" }));
}
