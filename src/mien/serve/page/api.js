// The server's answers. Addresses are relative to the page, so that it works below a prefix as well.

import { byId } from "./dom.js";

const KEY = "mien-token"; // in sessionStorage: gone with the tab
const PLAIN = "The server does not answer. Is it still running?";

/** What went wrong, in the server's own line. status: of HTTP, 0 when there was no answer. */
export class Problem extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

const NO_ANSWER = new Set([0, 502, 503, 504]); // nobody, a proxy that reaches nobody, a server with too much to do
const OUTAGE_MS = 60_000, RETRY_MS = 1000;

/** Whether an error may pass by itself: the server, or the way to it, is away for a moment, or its answer broke off. */
export const mayPass = (error) => (error instanceof Problem ? NO_ANSWER.has(error.status) : error.name !== "AbortError");

/** Do what asks the server, again over outages shorter than a minute. away: called meanwhile with a line, "" at the end. */
export async function overOutages(request, away) {
  const ends = performance.now() + OUTAGE_MS;
  for (let said = false; ;) {
    try {
      const found = await request();
      if (said) away("");
      return found;
    } catch (error) {
      if (!mayPass(error) || performance.now() > ends) throw error;
      said = true;
      away(`${error instanceof Problem ? error.message : "The server's answer broke off."} Trying again …`);
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

const address = (path) => new URL(path, document.baseURI);
export const token = () => sessionStorage.getItem(KEY) ?? "";
const headers = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

/** Fetch below /v1, asking for the token where the server wants one; raises Problem. type: of the body, if it has one. */
export async function ask(path, { type = "", ...options } = {}) {
  for (;;) {
    let answer;
    try {
      answer = await fetch(address(path), { ...options, headers: type ? { ...headers(), "Content-Type": type } : headers() });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(PLAIN);
    }
    if (answer.ok) return answer;
    if (answer.status !== 401 || !(await askForToken())) throw problemOf(answer.status, await answer.text());
  }
}

/** What the server says about itself; its limits are kept, because an upload that it breaks off shows only as no answer. */
export async function models() {
  const answer = await (await ask("v1/models")).json();
  limits = answer.limits ?? {};
  return answer;
}
let limits = {};

/** One line when a file is larger than the server takes, otherwise an empty text. kind: "picture" or "video". */
export function tooLarge(file, kind) {
  const most = kind === "video" ? limits.max_video_bytes : limits.max_bytes;
  const mega = (bytes) => `${Math.ceil(bytes / 1e6)} MB`;
  return file.size > most ? `${file.name} has ${mega(file.size)}; this server takes a ${kind} of up to ${mega(most)}.` : "";
}

/** The one line of a problem, which is a problem+json or that line itself. */
export const lineOf = (problem) => problem?.detail ?? problem?.title ?? problem;

/** Analyse pictures, Files or Blobs with names; returns the answer of POST /v1/analyze. */
export async function analyze(files, signal) {
  const body = new FormData();
  for (const file of files) body.append("pictures", file, file.name || "picture");
  return (await ask("v1/analyze", { method: "POST", body, signal })).json();
}

/**
 * Send a video; returns {promise, cancel}. progress: called with the share that is sent, 0 to 1. fetch() cannot say how far
 * an upload is, so this is the one place with XMLHttpRequest.
 */
export function sendVideo(file, progress) {
  const request = new XMLHttpRequest();
  const promise = new Promise((resolve, reject) => {
    const send = () => {
      request.open("POST", address("v1/videos"));
      for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
      const body = new FormData();
      body.append("video", file, file.name || "video");
      request.send(body);
    };
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) progress(event.loaded / event.total);
    });
    request.addEventListener("load", async () => {
      if (request.status < 300) resolve(JSON.parse(request.responseText));
      else if (request.status === 401 && (await askForToken())) send();
      else reject(problemOf(request.status, request.responseText));
    });
    request.addEventListener("error", () => reject(new Problem(PLAIN)));
    request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    send();
  });
  return { promise, cancel: () => request.abort() };
}

export const videoState = async (id) => (await ask(`v1/videos/${id}`)).json();
export const videoResult = (id, format) => ask(`v1/videos/${id}/result?format=${format}`);
export const dropVideo = (id) => ask(`v1/videos/${id}`, { method: "DELETE" });

/** Open the live channel. A browser cannot give a WebSocket a header, so the token travels as a subprotocol. */
export function openLive() {
  const url = address("v1/live");
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url, token() ? ["mien", `bearer.${token()}`] : []);
  socket.binaryType = "arraybuffer";
  return socket;
}

/** The line that a problem+json carries, or something fit to read where a proxy answered instead. */
function problemOf(status, text) {
  let line = "";
  try {
    line = lineOf(JSON.parse(text));
  } catch { /* not from mien */ }
  return new Problem(typeof line === "string" && line ? line : `The server answered ${status}.`, status);
}

let asking = null;

/** Ask for the server's token; false when the visitor has none. Questions at the same time share one answer. */
function askForToken() {
  asking ??= new Promise((resolve) => {
    const [dialog, field] = [byId("token-dialog"), byId("token")];
    byId("token-wrong").hidden = !token();
    field.value = "";
    dialog.returnValue = "";
    dialog.addEventListener("close", () => {
      asking = null;
      const given = dialog.returnValue === "send" && field.value.trim();
      if (given) sessionStorage.setItem(KEY, given);
      resolve(Boolean(given));
    }, { once: true });
    byId("token-cancel").onclick = () => dialog.close("");
    dialog.showModal();
  });
  return asking;
}
