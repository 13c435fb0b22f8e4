// All faces and what was said about them, as the server told; and telling it more. Everybody who shows something listens.

import { Problem, ask, mayPass } from "../static/api.js";

const POLL_MS = 1500, AWAY_MS = 10_000, WHO = "mien-label-who";

/** What is known. Arrays go by place: the number of a face in the table, from 0. people: name to word, or null. */
export const state = {
  session: "", folder: "", seq: 0, count: 0, ids: [], source: [], sources: [], group: [], groups: [], time: [], track: [],
  sharpness: [], score: [], table: [], twin: [], found: [], compared: [], label: [], status: [], people: [], kept: [],
  classes: [], everybody: {}, agreement: {}, pace: null, who: "", waiting: 0, problem: "",
  guesses: null, // {session, version, classes, of: [], share: [], helpful: [], alike: [], doubts: [[place, class, percent]], likely}
  learner: null, // {step, note, done, total, accuracy, expected, curve, …}
};

const bus = new EventTarget();
/**
 * Events: "loaded" (detail: where a face of a place before is now, -1 for nowhere), "grown" (detail: the place of the first new
 * face), "answers" (detail: a Set of places), "classes", "progress", "guesses", "trouble" (detail: a line).
 */
export const on = (name, listener) => bus.addEventListener(name, (event) => listener(event.detail));
const emit = (name, detail) => bus.dispatchEvent(new CustomEvent(name, { detail }));
let refused = ""; // why, of rows of the table or what was said last: the line stays until something is stored
const tellTrouble = () => emit("trouble", refused || state.problem);

export const isAnswered = (place) => state.people[place] !== null;
export const isDisputed = (place) => isAnswered(place) && !state.label[place] && state.status[place] === "";
/** Set aside by mien faces, not by a person: blurred, tiny, doubtful, a duplicate. */
export const isAside = (place) => !isAnswered(place) && state.status[place] !== "";
export const isOpen = (place) => !isAnswered(place) && state.status[place] === "";
export const nameOf = (path) => path.split(/[\\/]/).pop();

/** The guess about a face that nobody has labelled: {class, share}, or null. */
export function guessOf(place) {
  const guesses = state.guesses;
  const number = guesses ? guesses.of[place] ?? -1 : -1;
  return number < 0 ? null : { class: guesses.classes[number], share: guesses.share[place] };
}

export async function load() {
  const told = await (await ask("v1/faces")).json();
  const count = told.id.length, before = state.ids;
  // Faces that came behind all others leave every place, guess and picture as it is.
  const grown = before.length > 0 && before.length <= count && before.every((id, place) => id === told.id[place]);
  Object.assign(state, {
    session: told.session, folder: told.folder, count, ids: told.id, source: told.source, sources: told.sources,
    group: told.group, groups: told.groups, time: told.time_s, track: told.track, sharpness: told.sharpness,
    score: told.score, table: told.status, twin: told.duplicate_of, found: told.duplicate_of.slice(), compared: new Array(count).fill(false), status: told.status.slice(),
    label: new Array(count).fill(""), people: new Array(count).fill(null), kept: new Array(count).fill(""),
    guesses: grown ? state.guesses : null,
  });
  state.who ||= stored() ?? told.default_who;
  if (told.problems?.length) refused = `${told.problems[0]}${told.problems.length > 1 ? " (and more)" : ""}`;
  take(told.answers);
  summary(told);
  tellTrouble();
  if (grown) emit("grown", before.length);
  else emit("loaded", (place) => told.id.indexOf(before[place]));
  if (!before.length) sendLeftovers();
}

function stored() {
  try { return localStorage.getItem(WHO); } catch { return null; } // storage may be blocked
}

export function setWho(name) {
  state.who = name;
  state.pace = null;
  try { localStorage.setItem(WHO, name); } catch { /* then it lasts until the page is left */ }
  emit("progress");
}

/** Listen for what others do, for as long as the page is open. */
export async function follow() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, document.hidden ? AWAY_MS : POLL_MS));
    if (state.waiting) continue; // an answer of ours brings the news along
    try {
      await accept(await (await ask(`v1/changes?since=${state.seq}&who=${encodeURIComponent(state.who)}`)).json());
      tellTrouble();
    } catch (error) {
      emit("trouble", error.message);
    }
  }
}

/**
 * Say something about faces. It shows at once. While the server cannot be reached it waits, and is sent when that answers
 * again; where the server refuses it, it is taken off again and the reason is told.
 * about: {action, class, target}. Returns whether it was stored.
 */
export const say = (places, about) => tellOf([...places], () => about, { faces: [...places].map((place) => state.ids[place]), ...about });

/** Give faces classes, each its own, as one answer that one undo takes back. classOf: Map of place to class. */
export const sayEach = (classOf) => tellOf([...classOf.keys()], (place) => ({ action: "label", class: classOf.get(place) }),
  { labels: Object.fromEntries([...classOf].map(([place, name]) => [state.ids[place], name])) });

function tellOf(places, aboutOf, body) {
  const { session, who } = state;
  const before = places.map((place) => [state.label[place], state.status[place], state.people[place]]);
  for (const place of places) foresee(place, aboutOf(place));
  emit("answers", new Set(places));
  return send("v1/answers", { who, ...body }, () => {
    if (session !== state.session) return; // the faces were loaded anew, without it
    places.forEach((place, number) => { [state.label[place], state.status[place], state.people[place]] = before[number]; });
    emit("answers", new Set(places));
  });
}

function foresee(place, { action, class: name }) {
  const word = action === "label" || action === "settle" ? name : action;
  if (!["label", "settle", "cannot tell", "no face"].includes(action)) return;
  state.people[place] = action === "settle" ? { [state.who]: word } : { ...state.people[place], [state.who]: word };
  const words = new Set(Object.values(state.people[place]));
  if (words.size > 1) return; // the server counts
  state.label[place] = word === "cannot tell" || word === "no face" ? "" : word;
  state.status[place] = state.label[place] ? "" : word;
}

export const undo = () => send("v1/undo", {});
export const editClasses = (about) => send("v1/classes", about);

let queue = Promise.resolve(); // one after the other, in the order of the keys

// What waits is kept until it is stored, so that it outlives a reload, and a tab that a phone has put away. [folder, path, what]
const WAITING = "mien-label-waiting";
const unsent = [];
const keepUnsent = () => { try { sessionStorage.setItem(WAITING, JSON.stringify(unsent)); } catch { /* blocked or full: then it waits here alone */ } };

/** Send what waited when the page was left; what had been stored by then is not stored twice. */
function sendLeftovers() {
  let left = [];
  try { left = JSON.parse(sessionStorage.getItem(WAITING) ?? "[]"); } catch { /* nothing that can be used */ }
  for (const [folder, path, said] of left) if (folder === state.folder) enqueue(path, said);
  keepUnsent();
}

/** Send again until the server answers: it may have stored what it could not reply to, and stores nothing twice under one key. */
function send(path, body, takeBack) {
  const key = [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(36)).join("-");
  // known: what is known now, so that the server sees which names of classes are meant, whenever it hears of it
  return enqueue(path, { who: state.who, known: state.seq, idempotency_key: key, ...body }, takeBack);
}

function enqueue(path, said, takeBack = () => {}) {
  const entry = [state.folder, path, said];
  unsent.push(entry);
  keepUnsent();
  const done = () => { state.waiting -= 1; unsent.splice(unsent.indexOf(entry), 1); keepUnsent(); };
  state.waiting += 1;
  emit("progress");
  const sent = queue.then(async () => {
    const begun = performance.now();
    let told;
    try {
      told = await askUntilAnswered(path, () => ({ method: "POST", body: JSON.stringify({ ...said, since: state.seq }), type: "application/json" }));
    } catch (error) {
      done();
      takeBack();
      emit("progress");
      refused = error.message;
      tellTrouble();
      return null;
    }
    state.storedIn = performance.now() - begun;
    done();
    refused = "";
    try {
      await accept(told);
      tellTrouble();
    } catch (error) { // of loading the faces anew: what was said is stored, and the next news try again
      emit("trouble", error.message);
    }
    return told;
  });
  queue = sent;
  return sent;
}

async function askUntilAnswered(path, options) {
  for (;;) {
    try {
      return await (await ask(path, options())).json();
    } catch (error) {
      if (!mayPass(error)) throw error;
      const line = error instanceof Problem ? error.message : "The server's answer broke off.";
      emit("trouble", `${line} What you say meanwhile waits in this page (${state.waiting}) and is stored once it answers.`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
}

async function accept(told) {
  if (told.session !== state.session) {
    await load(); // faces were added
    return;
  }
  const places = take(told.answers);
  summary(told);
  if (places.size) emit("answers", places);
}

function take(answers) {
  const places = new Set();
  for (const [place, label, status, people, kept, twin] of answers) {
    state.label[place] = label;
    state.status[place] = status;
    state.people[place] = Object.keys(people).length ? people : null;
    state.kept[place] = kept;
    state.compared[place] = twin !== null;
    state.twin[place] = twin ?? state.found[place]; // found: by mien faces
    places.add(place);
  }
  return places;
}

function summary(told) {
  const renamed = JSON.stringify(told.classes) !== JSON.stringify(state.classes);
  Object.assign(state, {
    seq: told.seq, classes: told.classes, everybody: told.people, agreement: told.agreement, problem: told.problem,
    pace: told.pace_s ?? state.pace, learner: told.learner ?? null, training: told.training ?? null,
  });
  if (renamed) emit("classes");
  const [version, known] = [told.learner?.version, state.guesses];
  if (version && (version !== known?.version || state.session !== known.session)) loadGuesses();
  emit("progress");
}

let loading = false;

/** The labels in doubt that nobody has decided about since: [place, class, percent] of each. */
export function openDoubts() {
  return (state.guesses?.doubts ?? []).filter(([place, name]) =>
    state.label[place] && state.label[place] !== name && state.kept[place] !== state.label[place]);
}

async function loadGuesses() {
  if (loading) return;
  loading = true;
  const { session } = state;
  try {
    const told = await (await ask(`v1/guesses?session=${session}`)).json();
    state.guesses = {
      session, version: told.version, classes: told.classes, of: told.guess, share: told.share, helpful: told.helpful,
      alike: told.alike, doubts: told.doubts, likely: told.likely,
    };
    emit("guesses");
  } catch (error) {
    emit("trouble", error.message);
  } finally {
    loading = false;
  }
}
