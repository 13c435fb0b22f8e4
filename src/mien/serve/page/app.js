// Where the page starts: tabs, what is dropped or pasted anywhere, the note, and the little face that looks back.

import { models } from "./api.js";
import { colourOf } from "./bars.js";
import { setUpCamera, stop } from "./camera.js";
import { canonical, labelColours } from "./colours.js";
import { byId, calm, capital, count, make, tell } from "./dom.js";
import { glyph } from "./glyphs.js";
import { setUpPhoto, take } from "./photo.js";
import { setUpVideo, takeVideo } from "./video.js";

const VIEWS = ["photo", "camera", "video"];
const CROWD = ["surprise", "angry", "disgust", "happy", "neutral", "sad", "fear"]; // until the model has said what it knows

setUpPhoto(showMood);
setUpCamera(showMood);
setUpVideo(showMood);
setUpTabs();
setUpDropping();
setUpDialogs();
showMood(null);
byId("detector-face").append(glyph("happy", labelColours(["happy"])[0], { size: 84 }));
drawCrowd(CROWD);
drawBands();
lookAtThePointer();
byId("host").textContent = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname) ? "this machine" : location.host;
nameModel();

/** The face beside the name wears the expression that is on show. */
function showMood(face) {
  const [label, colour] = face && !face.uncertain ? [face.emotion, colourOf(face)] : ["happy", labelColours(["happy"])[0]];
  const mascot = byId("mascot");
  if (mascot.dataset.mood === label) return;
  mascot.dataset.mood = label;
  mascot.replaceChildren(glyph(label, colour, { size: 34 }));
}

function setUpTabs() {
  const tabs = VIEWS.map((view) => byId(`tab-${view}`));
  tabs.forEach((tab, place) => {
    tab.addEventListener("click", () => open(VIEWS[place]));
    tab.addEventListener("keydown", ({ key }) => {
      const steps = { ArrowRight: place + 1, ArrowLeft: place + 2, Home: 0, End: VIEWS.length - 1 };
      if (!(key in steps)) return;
      const next = steps[key] % VIEWS.length;
      open(VIEWS[next]);
      tabs[next].focus();
    });
  });
  addEventListener("hashchange", fromAddress);
  fromAddress();
}

function fromAddress() {
  const view = location.hash.slice(1);
  open(VIEWS.includes(view) ? view : "photo", { replace: true });
}

function open(view, { replace = false } = {}) {
  for (const other of VIEWS) {
    const chosen = other === view;
    byId(other).hidden = !chosen;
    const tab = byId(`tab-${other}`);
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
  }
  if (view !== "camera") stop(); // nobody is filmed by a view that is not open
  if (view !== "video") byId("video-player").pause();
  if (!replace && location.hash !== `#${view}`) history.pushState(null, "", `#${view}`);
}

/** A picture or a video may be dropped anywhere, and a picture pasted. */
function setUpDropping() {
  let depth = 0; // dragenter and dragleave come for every element under the pointer
  const over = (by) => {
    depth = by === null ? 0 : depth + by;
    document.body.classList.toggle("dragging", depth > 0);
  };
  addEventListener("dragenter", (event) => event.dataTransfer?.types.includes("Files") && over(1));
  addEventListener("dragleave", (event) => event.dataTransfer?.types.includes("Files") && over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(null);
    accept([...(event.dataTransfer?.files ?? [])]);
  });
  addEventListener("paste", (event) => accept([...(event.clipboardData?.files ?? [])]));
}

function accept(files) {
  if (!files.length) return;
  const video = files.find(({ type }) => type.startsWith("video/"));
  const open_ = video && !files.some(({ type }) => type.startsWith("image/")) ? "video" : "photo";
  open(open_);
  if (open_ === "video") takeVideo(video);
  else take(files.filter((file) => file !== video));
}

function setUpDialogs() {
  const dialog = byId("about-dialog");
  for (const name of ["about", "about-too"]) byId(name).addEventListener("click", () => dialog.showModal());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it
}

async function nameModel() {
  try {
    const answer = await models();
    const model = answer.models?.[0] ?? answer;
    const head = model.heads?.find(({ name }) => name === model.default_head) ?? model.heads?.[0] ?? model;
    const labels = head.labels ?? [];
    byId("model").textContent = `Model ${model.name} · ${count(labels.length, "expression")}`;
    if (labels.length > 2 && labels.length < 10) drawCrowd([...labels].sort(inCrowd));
  } catch (error) {
    tell(byId("offline"), error.message);
  }
}

const inCrowd = (one, other) => CROWD.indexOf(canonical(one)) - CROWD.indexOf(canonical(other));

function drawCrowd(labels) {
  const colours = labelColours(labels);
  byId("crowd").replaceChildren(...labels.map((label, place) =>
    make("span", { title: capital(label) }, glyph(label, colours[place], { size: 64 }))));
}

/** A sketch of what a timeline will look like. */
function drawBands() {
  const labels = ["happy", "surprise", "neutral", "sad"];
  const colours = labelColours(labels);
  byId("bands").replaceChildren(...labels.map((label, place) => glyph(label, colours[place], { size: 44 })));
}

/** The drawn faces follow the pointer with their eyes. */
function lookAtThePointer() {
  if (calm()) return;
  addEventListener("pointermove", ({ clientX, clientY }) => {
    for (const face of document.querySelectorAll("#crowd svg, #detector-face svg, #mascot svg, #bands svg")) {
      const { left, top, width, height } = face.getBoundingClientRect();
      if (!width) continue;
      const [dx, dy] = [clientX - left - width / 2, clientY - top - height / 2];
      const far = Math.max(1, Math.hypot(dx, dy) / 2.2);
      face.style.setProperty("--look-x", `${(dx / far).toFixed(2)}px`);
      face.style.setProperty("--look-y", `${(dy / far).toFixed(2)}px`);
    }
  }, { passive: true });
}
