// Photographs: drop, choose or paste; boxes on the picture, one face beside it in bars.

import { annotated } from "./annotate.js";
import { analyze, ask, lineOf, tooLarge } from "./api.js";
import { bars, colourOf, inWords, said, verdict } from "./bars.js";
import { css, inkOn } from "./colours.js";
import { announce, byId, count, icon, make, percent, save, shape, stem, tell } from "./dom.js";

const CROWDED = 8; // with more faces, only the chosen one carries its name on the picture
const ENLARGED = 2.5; // times, at most
const AT_ONCE = 2; // requests; the server gathers them
const FORMATS = { "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp" };

let shots = []; // {file, url, image, answer, problem, chosen} for each picture that was given
let shown = null;
let made = {}; // model, head and labels of the last answer
let round = 0; // what is under way for older pictures is dropped

/** mood: called with the face that is looked at, or null. */
export function setUpPhoto(mood) {
  const field = byId("photo-file");
  const choose = () => field.click();
  byId("photo-choose").addEventListener("click", choose);
  byId("photo-again").addEventListener("click", () => {
    byId("photo-start").hidden = false;
    byId("photo-work").hidden = true;
    tell(byId("photo-notice"), "");
    byId("photo-choose").focus();
    mood(null);
  });
  field.addEventListener("change", () => {
    if (field.files.length) take([...field.files]);
    field.value = "";
  });
  for (const button of document.querySelectorAll("[data-sample]")) {
    button.addEventListener("click", () => takeSample(button.dataset.sample));
  }
  byId("photo-json").addEventListener("click", saveJson);
  byId("photo-save").addEventListener("click", savePicture);
  onFace = mood;
}
let onFace = () => {};

async function takeSample(name) {
  try {
    const blob = await (await ask(`samples/${name}`)).blob();
    await take([new File([blob], name, { type: "image/jpeg" })]);
  } catch (error) {
    tell(byId("photo-notice"), error.message);
  }
}

/** Show and analyse pictures: Files, at least one. */
export async function take(files) {
  const mine = ++round;
  for (const shot of shots) URL.revokeObjectURL(shot.url);
  shots = files.map((file) => ({ file, url: URL.createObjectURL(file), chosen: 0 }));
  byId("photo-start").hidden = true;
  byId("photo-work").hidden = false;
  tell(byId("photo-notice"), "");
  drawFilm();
  show(shots[0]);
  const waiting = [...shots];
  const work = async () => {
    while (waiting.length && mine === round) await look(waiting.shift(), mine);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

async function look(shot, mine) {
  try {
    shot.problem = tooLarge(shot.file, "picture");
    if (!shot.problem) {
      const { pictures, ...rest } = await analyze([shot.file]);
      made = rest;
      if (pictures[0].problem) shot.problem = lineOf(pictures[0].problem);
      else shot.answer = pictures[0];
    }
  } catch (error) {
    shot.problem = error.message;
  }
  if (mine !== round) return;
  drawFilm();
  if (shot === shown) show(shot);
}

/** Show one of the pictures; its boxes once they are known. */
function show(shot) {
  const fresh = shown !== shot;
  shown = shot;
  const stage = byId("photo-stage");
  if (fresh || !shot.image) {
    shot.image = make("img", { src: shot.url, alt: shot.file.name || "The picture" });
    shot.image.addEventListener("load", () => {
      if (shot === shown) shape(stage, shot.image.naturalWidth, shot.image.naturalHeight, ENLARGED * shot.image.naturalWidth);
    });
    shot.image.addEventListener("error", () => {
      if (shot !== shown) return;
      stage.classList.add("blind");
      stage.prepend(make("p", {}, "This browser cannot show this picture."));
    });
    stage.classList.remove("blind");
    stage.replaceChildren(shot.image);
  }
  const waiting = !shot.answer && !shot.problem;
  stage.classList.toggle("busy", waiting);
  stage.setAttribute("aria-busy", String(waiting));
  tell(byId("photo-notice"), shot.problem ?? "");
  byId("photo-json").disabled = !shots.some(({ answer }) => answer);
  byId("photo-save").disabled = !shot.answer;
  if (shot.answer) drawBoxes(shot);
  drawPanel(shot);
  if (shot.answer) announceFaces(shot.answer.faces);
}

function announceFaces(faces) {
  const first = faces.slice(0, 6).map((face, place) => inWords(face, `Face ${place + 1}`));
  announce(faces.length ? `${count(faces.length, "face")} found. ${first.join(". ")}.` : "No face found.");
}

function drawBoxes(shot) {
  const { faces, width, height } = shot.answer;
  const layer = make("div", {
    class: `boxes${faces.length > CROWDED ? " crowded" : ""}${faces.length === 1 ? " alone" : ""}`,
    role: "group", "aria-label": "Faces in the picture",
  });
  faces.forEach((face, place) => {
    const [x, y] = [Math.max(0, face.box[0]), Math.max(0, face.box[1])]; // a face at the border reaches beyond it
    const wide = Math.min(width, face.box[0] + face.box[2]) - x;
    const high = Math.min(height, face.box[1] + face.box[3]) - y;
    const colour = colourOf(face);
    const [above, below] = [y, height - y - high].map((room) => room >= 0.08 * height);
    const nameAt = above ? "" : below ? " low" : " inside";
    layer.append(make("button", {
      class: `box${face.uncertain ? " uncertain" : ""}${nameAt}`,
      "aria-pressed": String(place === shot.chosen),
      "aria-label": inWords(face, `Face ${place + 1}`),
      style: {
        left: `${(100 * x) / width}%`, top: `${(100 * y) / height}%`,
        width: `${(100 * wide) / width}%`, height: `${(100 * high) / height}%`,
        "--tone": css(colour), "--on-tone": css(inkOn(colour)),
      },
      onclick: () => choose(place),
      onfocus: () => choose(place),
    }, make("span", { class: "tag" }, said(face), make("small", {}, percent(face.probability)))));
  });
  shot.image.parentElement.querySelector(".boxes")?.remove();
  shot.image.after(layer);
}

function choose(place) {
  if (shown.chosen === place) return;
  shown.chosen = place;
  document.querySelectorAll("#photo-stage .box").forEach((box, other) => box.setAttribute("aria-pressed", String(other === place)));
  drawPanel(shown);
}

function drawPanel(shot) {
  const panel = byId("photo-panel");
  const { answer } = shot;
  if (!answer) {
    onFace(null);
    panel.replaceChildren(shot.problem ? make("p", { class: "quiet" }, "Nothing to show for this picture.") : waitingPanel());
    return;
  }
  const face = answer.faces[shot.chosen];
  const small = (words) => make("p", { class: "quiet small warning" }, words);
  const warnings = [
    answer.coarse && small("This picture is so large that faces under about 1 % of its longer side may be missed; a part cut out of it shows more."),
    answer.warning && small(answer.warning),
  ].filter(Boolean);
  onFace(face ?? null);
  if (!face) {
    panel.replaceChildren(
      make("p", { class: "word" }, "No face found"),
      make("p", { class: "quiet" }, "mien looks for faces that are at least about 20 pixels wide and turned towards the camera. A larger or brighter picture may help."),
      ...warnings);
    return;
  }
  panel.replaceChildren(
    make("div", { class: "portrait" }, portrait(shot, face), stepper(shot)),
    ...verdict(face).filter(Boolean),
    bars(face),
    make("p", { class: "quiet small" }, `${shot.file.name || "picture"} · ${answer.width} × ${answer.height}`),
    ...warnings);
}

const waitingPanel = () => make("div", { class: "skeleton", "aria-hidden": "true" }, Array.from({ length: 6 }, () => make("span")));

/** Cut the face out of the picture that the browser shows, with a little room. */
function portrait(shot, face) {
  const canvas = make("canvas", { width: 192, height: 192, "aria-hidden": "true" });
  const [x, y, width, height] = face.box;
  const side = 1.35 * Math.max(width, height);
  const draw = () => {
    const scale = shot.image.naturalWidth / shot.answer.width;
    if (!scale) return;
    canvas.getContext("2d").drawImage(shot.image, scale * (x + width / 2 - side / 2), scale * (y + height / 2 - side / 2),
      scale * side, scale * side, 0, 0, 192, 192);
  };
  if (shot.image.complete) draw();
  else shot.image.addEventListener("load", draw, { once: true });
  return canvas;
}

function stepper(shot) {
  const { faces } = shot.answer;
  const step = (by) => choose((shot.chosen + by + faces.length) % faces.length);
  const words = make("span", {}, faces.length === 1 ? "1 face" : `Face ${shot.chosen + 1} of ${faces.length}`);
  if (faces.length === 1) return make("div", { class: "stepper" }, words);
  const button = (name, label, by) => make("button", {
    class: "round small", "aria-label": label,
    onclick: () => {
      step(by);
      byId("photo-panel").querySelector(`[aria-label="${label}"]`).focus();
    },
  }, icon(name));
  return make("div", { class: "stepper" }, button("previous", "Previous face", -1), words, button("next", "Next face", 1));
}

/** The pictures in a row, where there is more than one. */
function drawFilm() {
  const film = byId("photo-film");
  film.hidden = shots.length < 2;
  if (film.hidden) return;
  film.replaceChildren(...shots.map((shot, place) => {
    const state = shot.problem ? "problem" : shot.answer ? count(shot.answer.faces.length, "face") : "waiting";
    return make("button", {
      class: "frame", "aria-pressed": String(shot === shown), "aria-label": `Picture ${place + 1}, ${shot.file.name}: ${state}`,
      onclick: () => {
        show(shot);
        drawFilm();
        film.children[place].focus();
      },
    }, make("img", { src: shot.url, alt: "", onerror: (event) => event.target.remove() }), make("span", {}, shot.problem ? "!" : shot.answer ? String(shot.answer.faces.length) : "…"));
  }));
}

function saveJson() {
  const pictures = shots.map(({ answer, problem, file }) => answer ?? { name: file.name, problem: problem ?? "not looked at yet" });
  const name = shots.length === 1 ? stem(shots[0].file.name) : "faces";
  save(new Blob([JSON.stringify({ ...made, pictures }, null, 2)], { type: "application/json" }), `${name}.json`);
}

async function savePicture() {
  const { image, answer, file } = shown;
  const type = file.type in FORMATS ? file.type : "image/png";
  const blob = await annotated(image, answer.width, answer.height, answer.faces, type);
  save(blob, `${stem(file.name)}-faces.${FORMATS[type]}`);
}
