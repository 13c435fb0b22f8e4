// The camera: frames go to the server as fast as it answers, the newest one each time; faces are drawn over the live picture.

import { drawFaces, sharp } from "./annotate.js";
import { lineOf, openLive } from "./api.js";
import { Cards, inWords } from "./bars.js";
import { labelColours } from "./colours.js";
import { announce, byId, calm, make, shape, tell } from "./dom.js";
import { Track, paintBand } from "./tracks.js";

const LONGEST_PX = 640; // of a frame that is sent; faces are searched at this size
const QUALITY = 0.8;
const WINDOW_S = 20; // of the rolling timeline
const GONE_S = 1.5; // after which the card of a face goes
const PATIENCE = 6; // frames in a row that the server did not answer with faces
const WAIT_MS = 500;
const QUIET_MS = 4000; // between two sentences for a screen reader
const REFUSALS = {
  NotAllowedError: "The camera is not allowed. Allow it for this page in the browser's address bar, then switch it on again.",
  NotFoundError: "No camera was found. Connect one, then switch it on again; a photograph or a video works without.",
  NotReadableError: "The camera is in use by another program. Close that one, then switch the camera on again.",
  OverconstrainedError: "That camera is not there any more. Choose another one.",
};

let session = null;
let mood = () => {};

/** onMood: called with the largest face in view, or null. */
export function setUpCamera(onMood) {
  mood = onMood;
  byId("camera-go").addEventListener("click", () => start());
  byId("camera-stop").addEventListener("click", () => {
    stop();
    byId("camera-go").focus();
  });
  byId("camera-which").addEventListener("change", (event) => start(event.target.value));
  byId("camera-mirror").addEventListener("click", (event) => mirror(event.currentTarget.getAttribute("aria-pressed") !== "true"));
}

async function start(device) {
  stop();
  if (!navigator.mediaDevices?.getUserMedia) {
    tell(byId("camera-notice"), "Browsers give the camera only to pages from this machine or over https. Open this page as http://localhost or through https.");
    return;
  }
  tell(byId("camera-notice"), "");
  byId("camera-go").disabled = true;
  try {
    const which = device ? { deviceId: { exact: device } } : { facingMode: "user" };
    const stream = await navigator.mediaDevices.getUserMedia({ video: { ...which, width: { ideal: 1280 }, height: { ideal: 720 } } });
    session = new Session(stream);
    await listCameras(stream);
  } catch (error) {
    tell(byId("camera-notice"), REFUSALS[error.name] ?? `The camera cannot be used: ${error.message}`);
  }
  byId("camera-go").disabled = false;
}

/** Switch the camera off; safe to call at any time. why: what to tell. */
export function stop(why = "") {
  const had = session;
  session = null;
  had?.end();
  if (had) mood(null);
  tell(byId("camera-notice"), why);
}

async function listCameras(stream) {
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
  const used = stream.getVideoTracks()[0].getSettings();
  byId("camera-choice").hidden = cameras.length < 2;
  byId("camera-which").replaceChildren(...cameras.map(({ deviceId, label }, place) =>
    make("option", { value: deviceId, selected: deviceId === used.deviceId }, label || `Camera ${place + 1}`)));
  mirror(used.facingMode !== "environment"); // one's own picture is expected as in a mirror
}

function mirror(on) {
  byId("camera-mirror").setAttribute("aria-pressed", String(on));
  byId("camera-stage").classList.toggle("mirrored", on);
}

const seconds = () => performance.now() / 1000;

/** One time between switching on and switching off. */
class Session {
  constructor(stream) {
    this.stream = stream;
    this.video = byId("camera-video");
    this.overlay = byId("camera-overlay");
    this.frame = document.createElement("canvas");
    this.tracks = new Map();
    this.answers = []; // the times of the last ones
    this.hold = 1; // seconds between two answers after which a face counts as out of sight
    this.bad = 0;
    this.faces = [];
    this.size = [1, 1];
    this.drawn = new Map(); // where each box is on the screen, on its way to where it was found
    this.cards = new Cards(byId("camera-cards"), { below: (track) => make("canvas", { class: "rolling", "data-track": track, "aria-hidden": "true" }) });
    this.said = { words: "", at: 0 };
    this.video.srcObject = stream;
    stream.getVideoTracks()[0].addEventListener("ended", () => {
      if (session === this) stop("The camera was switched off or unplugged.");
    });
    byId("camera-start").hidden = true;
    byId("camera-work").hidden = false;
    this.#run();
  }

  async #run() {
    await this.video.play().catch(() => {}); // a stop in the same moment is no error
    if (session !== this) return;
    shape(byId("camera-stage"), this.video.videoWidth, this.video.videoHeight);
    this.socket = openLive();
    this.socket.addEventListener("open", () => this.#send());
    this.socket.addEventListener("message", (event) => this.#take(JSON.parse(event.data)));
    this.socket.addEventListener("close", ({ reason }) => {
      if (session === this) stop(reason || "The server closed the live channel. Is it still running? Switch the camera on to try again.");
    });
    this.#draw();
  }

  /** Send what the camera sees now. One frame is under way at a time, so the server is never behind. */
  #send() {
    if (session !== this || this.socket.readyState !== WebSocket.OPEN) return;
    const { videoWidth: width, videoHeight: height } = this.video;
    if (document.hidden || !width) {
      setTimeout(() => this.#send(), 200);
      return;
    }
    const scale = Math.min(1, LONGEST_PX / Math.max(width, height));
    [this.frame.width, this.frame.height] = [Math.round(scale * width), Math.round(scale * height)];
    this.frame.getContext("2d").drawImage(this.video, 0, 0, this.frame.width, this.frame.height);
    this.sentAt = seconds();
    this.frame.toBlob((blob) => {
      if (blob && this.socket.readyState === WebSocket.OPEN) this.socket.send(blob);
    }, "image/jpeg", QUALITY);
  }

  #take(answer) {
    if (session !== this) return;
    if (!answer.faces) {
      this.bad += 1;
      if (this.bad === PATIENCE) stop(lineOf(answer.problem) ?? "The server could not read the camera's frames.");
      else setTimeout(() => this.#send(), WAIT_MS); // it may only be busy
      return;
    }
    this.bad = 0;
    const now = seconds();
    this.faces = answer.faces;
    this.size = [answer.width, answer.height];
    this.#meter(now);
    this.#remember(now);
    mood(this.faces[0] ?? null);
    this.#speak(now);
    this.#afterNextFrame(() => this.#send());
  }

  /** Wait for a frame that was not sent yet, where the browser can say so. */
  #afterNextFrame(then) {
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(then);
    else requestAnimationFrame(then);
  }

  #meter(now) {
    this.answers = [...this.answers.filter((time) => now - time < 3), now];
    byId("camera-latency").textContent = `${Math.round(1000 * (now - this.sentAt))} ms`;
    const span = now - this.answers[0];
    if (span < 0.3) return;
    const rate = (this.answers.length - 1) / span;
    byId("camera-rate").textContent = rate.toFixed(1);
    this.hold = Math.max(0.4, 3 / rate);
  }

  #remember(now) {
    for (const face of this.faces) {
      if (!this.tracks.has(face.track)) this.tracks.set(face.track, new Track(face.track, Object.keys(face.probabilities)));
      this.tracks.get(face.track).add(now, face);
    }
    for (const [number, track] of this.tracks) {
      track.forget(now - WINDOW_S - 1);
      if (now - track.times.at(-1) > WINDOW_S) this.tracks.delete(number);
    }
    this.cards.show(this.faces, (number) => now - (this.tracks.get(number)?.times.at(-1) ?? -Infinity) < GONE_S);
    byId("camera-none").hidden = this.cards.cards.size > 0;
    for (const canvas of document.querySelectorAll("#camera-cards .rolling")) {
      const track = this.tracks.get(Number(canvas.dataset.track));
      paintBand(canvas, track, labelColours(track.labels), [now - WINDOW_S, now], this.hold);
    }
  }

  #speak(now) {
    const words = this.faces.map((face) => inWords(face, `Face ${face.track}`).replace(/, [<>]?\d+%/, "")).join(". ") || "No face in view";
    if (words === this.said.words || 1000 * (now - this.said.at) < QUIET_MS) return;
    this.said = { words, at: now };
    announce(`${words}.`);
  }

  /** Draw the faces; boxes glide to where they were found, because answers come less often than the screen is drawn. */
  #draw() {
    if (session !== this) return;
    const { context, ratio } = sharp(this.overlay);
    const [width, height] = this.size;
    const scale = [this.overlay.width / width, this.overlay.height / height];
    const mirrored = byId("camera-stage").classList.contains("mirrored");
    const share = calm() ? 1 : 0.35;
    const places = new Map();
    for (const { track, box } of this.faces) {
      const before = this.drawn.get(track) ?? box;
      places.set(track, box.map((value, place) => before[place] + share * (value - before[place])));
    }
    this.drawn = places;
    const faces = this.faces.map((face) => ({ ...face, box: places.get(face.track) }));
    drawFaces(context, faces, ([x, y, wide, high]) => {
      const left = mirrored ? width - x - wide : x;
      return [left * scale[0], y * scale[1], wide * scale[0], high * scale[1]];
    }, ratio);
    requestAnimationFrame(() => this.#draw());
  }

  end() {
    for (const track of this.stream.getTracks()) track.stop();
    this.socket?.close();
    this.video.srcObject = null;
    this.cards.clear();
    for (const meter of ["camera-latency", "camera-rate"]) byId(meter).textContent = "–";
    byId("camera-none").hidden = false;
    byId("camera-start").hidden = false;
    byId("camera-work").hidden = true;
  }
}
