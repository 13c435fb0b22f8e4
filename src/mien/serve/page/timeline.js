// The timeline under a video: a lane for each face, a cursor, and a slider for mouse, finger, keyboard and screen reader.

import { badge, colourOf, said } from "./bars.js";
import { css, labelColours } from "./colours.js";
import { byId, capital, clock, count, make } from "./dom.js";
import { glyph } from "./glyphs.js";
import { Track, firstFrom, paintBand } from "./tracks.js";

const MOST_LANES = 12; // those that are seen longest; a crowd would make a picture that nobody reads
const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
const HOLD_FRAMES = 3; // a face between two slow frames is not gone

/** The rows of a video's result: who is there at a time, and the tracks. */
export class Rows {
  constructor(result) {
    this.rows = result.rows;
    this.labels = result.labels;
    this.times = this.rows.map(({ time_s: time }) => time);
    this.length = Math.max(result.duration_s, this.times.at(-1) ?? 0, 0.001);
    this.hold = this.times.length > 1 ? (HOLD_FRAMES * this.times.at(-1)) / (this.times.length - 1) : this.length;
    this.tracks = new Map();
    this.rows.forEach((row, place) => {
      for (const face of row.faces) this.#track(face).add(row.time_s, face, this.times[place + 1]);
    });
  }

  #track(face) {
    if (!this.tracks.has(face.track)) this.tracks.set(face.track, new Track(face.track, this.labels));
    return this.tracks.get(face.track);
  }

  /** The most faces at one time. */
  most() {
    return this.rows.reduce((most, row) => Math.max(most, row.faces.length), 0);
  }

  /** The faces at a time. */
  at(time) {
    const place = firstFrom(this.times, time + 1e-3) - 1;
    return place >= 0 && time - this.times[place] <= this.hold ? this.rows[place].faces : [];
  }

  /** The tracks that get a lane, in the order of their numbers. */
  lanes() {
    const longest = [...this.tracks.values()].sort((one, other) => other.times.length - one.times.length);
    return longest.slice(0, MOST_LANES).sort((one, other) => one.number - other.number);
  }
}

/** The widget. seek: called with the time that is asked for. */
export class Timeline {
  constructor(seek) {
    this.root = byId("timeline");
    this.seek = seek;
    this.rows = null;
    this.time = 0;
    this.root.addEventListener("keydown", (event) => this.#key(event));
    this.root.addEventListener("pointerdown", (event) => {
      this.root.setPointerCapture(event.pointerId);
      this.#point(event);
    });
    this.root.addEventListener("pointermove", (event) => {
      if (event.buttons) this.#point(event);
    });
    new ResizeObserver(() => this.#paint()).observe(this.root);
  }

  show(rows) {
    this.rows = rows;
    const lanes = rows.lanes();
    this.bands = lanes.map((track) => ({ track, canvas: make("canvas", { class: "band" }) }));
    byId("lanes").replaceChildren(...this.bands.map(({ track, canvas }) =>
      make("div", { class: "lane", "data-track": track.number },
        make("div", { class: "who" }, make("canvas", { class: "thumb", width: 96, height: 96 }), badge(track.number)), canvas)));
    if (!lanes.length) byId("lanes").append(make("p", { class: "quiet" }, "No face was followed in this video."));
    this.root.setAttribute("aria-valuemax", rows.length.toFixed(1));
    this.#legend();
    const more = rows.tracks.size - lanes.length;
    byId("video-more").hidden = more <= 0;
    byId("video-more").textContent = `The ${lanes.length} faces that are seen longest. ${count(more, "more face")} in the CSV and JSON.`;
    this.#paint();
    this.move(0);
  }

  /** Put the cursor at a time, in seconds. */
  move(time) {
    this.time = Math.max(0, Math.min(time, this.rows.length));
    const cursor = byId("cursor");
    cursor.style.setProperty("--share", String(this.time / this.rows.length));
    cursor.dataset.time = this.#clock(this.time);
    this.root.setAttribute("aria-valuenow", this.time.toFixed(1));
    const faces = this.rows.at(this.time).map((face) => `face ${face.track} ${said(face)}`);
    this.root.setAttribute("aria-valuetext", [this.#clock(this.time), ...faces].join(", "));
  }

  #clock(time) {
    return clock(time, this.rows.length < 120);
  }

  #legend() {
    const colours = labelColours(this.rows.labels);
    byId("legend").replaceChildren(...this.rows.labels.map((label, place) =>
      make("li", {}, glyph(label, colours[place], { size: 20 }), capital(label))));
  }

  #paint() {
    if (!this.rows) return;
    const colours = labelColours(this.rows.labels);
    for (const { track, canvas } of this.bands) paintBand(canvas, track, colours, [0, this.rows.length], this.rows.hold);
    const axis = byId("axis");
    const most = Math.max(2, Math.floor(axis.clientWidth / 80));
    const step = STEPS_S.find((seconds) => this.rows.length / seconds <= most) ?? this.rows.length;
    const ticks = Array.from({ length: Math.floor(this.rows.length / step + 1e-6) + 1 }, (_, place) => place * step);
    axis.replaceChildren(...ticks.map((time) =>
      make("span", { style: { "--share": String(time / this.rows.length) } }, clock(time, step < 1))));
  }

  #point(event) {
    const { left, width } = byId("axis").getBoundingClientRect();
    this.#go(((event.clientX - left) / width) * this.rows.length);
  }

  #key(event) {
    const jump = Math.max(1, this.rows.length / 10);
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -jump, PageUp: jump };
    if (event.key in steps) this.#go(this.time + steps[event.key] * (event.shiftKey ? 0.1 : 1));
    else if (event.key === "Home") this.#go(0);
    else if (event.key === "End") this.#go(this.rows.length);
    else return;
    event.preventDefault();
  }

  #go(time) {
    this.move(time);
    this.seek(this.time);
  }
}

/** Cut a picture of each face out of the video, from the middle of its time, into the lanes. A video that does not play has none. */
export async function portraits(url, result, lanes) {
  const video = make("video", { src: url, preload: "auto", muted: true });
  const event = (name) => new Promise((resolve, reject) => {
    video.addEventListener(name, resolve, { once: true });
    video.addEventListener("error", reject, { once: true });
  });
  await event("loadeddata");
  for (const track of lanes) {
    const time = track.times[track.times.length >> 1];
    const face = result.at(time).find(({ track: number }) => number === track.number);
    const canvas = document.querySelector(`.lane[data-track="${track.number}"] .thumb`);
    if (!face || !canvas) continue;
    const sought = event("seeked");
    video.currentTime = time;
    await sought;
    const [x, y, width, height] = face.box;
    const side = 1.3 * Math.max(width, height);
    canvas.getContext("2d").drawImage(video, x + width / 2 - side / 2, y + height / 2 - side / 2, side, side, 0, 0, 96, 96);
    canvas.style.setProperty("--tone", css(colourOf(face)));
  }
}
