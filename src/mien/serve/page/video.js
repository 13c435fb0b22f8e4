// Videos: sent and analysed with progress, then played with the faces drawn over them and a timeline below.

import { drawFaces, sharp } from "./annotate.js";
import { dropVideo, lineOf, overOutages, sendVideo, tooLarge, videoResult, videoState } from "./api.js";
import { Cards } from "./bars.js";
import { announce, byId, count, save, shape, stem, tell } from "./dom.js";
import { Rows, Timeline, portraits } from "./timeline.js";

const POLL_MS = 500;
const SENDING = 0.15; // of the bar: on the machine itself, sending takes far less time than looking
const STEPS = { sending: "Sending the video", queued: "Waiting for its turn", running: "Looking for faces and their expressions" };

let job = null; // {file, url, id?, upload?, rows?}
let timeline;
let cards;
let mood = () => {};

/** onMood: called with the largest face at the moment that is shown, or null. */
export function setUpVideo(onMood) {
  mood = onMood;
  timeline = new Timeline(seek);
  cards = new Cards(byId("video-cards"));
  const field = byId("video-file");
  byId("video-choose").addEventListener("click", () => field.click());
  field.addEventListener("change", () => {
    if (field.files.length) takeVideo(field.files[0]);
    field.value = "";
  });
  byId("video-again").addEventListener("click", () => leave());
  byId("video-cancel").addEventListener("click", () => leave());
  for (const format of ["csv", "json"]) byId(`video-${format}`).addEventListener("click", () => download(format));
  const player = byId("video-player");
  player.addEventListener("loadedmetadata", () => player.videoWidth && shape(byId("video-stage"), player.videoWidth, player.videoHeight));
  player.addEventListener("error", () => { byId("video-unplayable").hidden = !job; });
  for (const event of ["seeked", "timeupdate", "loadeddata"]) player.addEventListener(event, () => moment(player.currentTime));
  new ResizeObserver(() => job?.rows && moment(timeline.time)).observe(player);
}

/** Send a video, a File, and show what comes back. */
export async function takeVideo(file) {
  leave();
  const mine = { file, url: URL.createObjectURL(file) };
  job = mine;
  view("waiting");
  try {
    const large = tooLarge(file, "video");
    if (large) throw new Error(large);
    step("sending", 0);
    mine.upload = sendVideo(file, (share) => mine === job && step("sending", SENDING * share));
    mine.id = (await mine.upload.promise).id;
    if (mine !== job) {
      await dropVideo(mine.id); // cancelled in the moment in which it had arrived
      return;
    }
    await finished(mine);
    if (mine !== job) return;
    mine.rows = new Rows(await overOutages(async () => (await videoResult(mine.id, "json")).json(), away(mine)));
    if (mine === job) show(mine);
  } catch (error) {
    if (mine !== job || error.name === "AbortError") return;
    leave();
    tell(byId("video-notice"), error.message);
  }
}

/** Tells meanwhile that the server is out of reach: the video goes on there. */
const away = (mine) => (line) => mine === job && tell(byId("video-notice"), line);

async function finished(mine) {
  while (mine === job) {
    const state = await overOutages(() => videoState(mine.id), away(mine));
    if (state.status === "done" || mine !== job) return;
    if (state.status === "failed") throw new Error(lineOf(state.problem) ?? "The video could not be analysed.");
    if (state.status === "cancelled") throw new Error("The video was cancelled on the server.");
    step(state.status, SENDING + (1 - SENDING) * state.progress);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function step(name, share) {
  const words = STEPS[name] ?? STEPS.running;
  if (byId("video-step").textContent !== words) announce(words);
  byId("video-step").textContent = words;
  byId("video-progress").value = share;
  byId("video-share").textContent = `${Math.floor(100 * share)}%`;
}

function show(mine) {
  view("work");
  const { rows } = mine;
  const player = byId("video-player");
  byId("video-unplayable").hidden = true;
  player.src = mine.url;
  timeline.show(rows);
  cards.expect(rows.most());
  moment(0);
  follow(mine);
  portraits(mine.url, rows, rows.lanes()).catch(() => {}); // the player says why a video does not play
  announce(`Done. ${count(rows.tracks.size, "face")} followed.`);
}

/** Draw in step with the frames of the player, where the browser says when one is shown. */
function follow(mine) {
  const player = byId("video-player");
  const wait = player.requestVideoFrameCallback?.bind(player) ?? ((then) => requestAnimationFrame(() => then(0, { mediaTime: player.currentTime })));
  const next = (_, { mediaTime }) => {
    if (mine !== job) return;
    if (!player.seeking) moment(mediaTime); // otherwise it is a frame from before the jump
    wait(next);
  };
  wait(next);
}

/** Show the faces at a time: boxes, cards and the cursor. */
function moment(time) {
  if (!job?.rows) return;
  const faces = job.rows.at(time);
  timeline.move(time);
  cards.show(faces);
  byId("video-none").hidden = faces.length > 0;
  mood(faces[0] ?? null);
  const player = byId("video-player");
  const { context, ratio } = sharp(byId("video-overlay"));
  if (!player.videoWidth) return;
  const [across, down] = [(ratio * player.clientWidth) / player.videoWidth, (ratio * player.clientHeight) / player.videoHeight];
  drawFaces(context, faces, ([x, y, width, height]) => [x * across, y * down, width * across, height * down], ratio);
}

function seek(time) {
  const player = byId("video-player");
  if (player.videoWidth) player.currentTime = time;
  moment(time);
}

/** Go back to the start; what is under way is cancelled, here and on the server. */
function leave() {
  const had = job;
  job = null;
  view("start");
  tell(byId("video-notice"), "");
  if (!had) return;
  had.upload?.cancel();
  if (had.id) dropVideo(had.id).catch(() => {}); // it may be gone already
  const player = byId("video-player");
  player.removeAttribute("src");
  player.load();
  URL.revokeObjectURL(had.url);
  cards.clear();
  mood(null);
  byId("video-choose").focus();
}

function view(name) {
  for (const part of ["start", "waiting", "work"]) byId(`video-${part}`).hidden = part !== name;
}

async function download(format) {
  try {
    save(await (await videoResult(job.id, format)).blob(), `${stem(job.file.name)}.${format}`);
  } catch (error) {
    tell(byId("video-notice"), error.message);
  }
}
