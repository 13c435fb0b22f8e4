// A client of `mien serve` for browsers and Node. Its types are made from the server's own description (openapi.json).
//
// mien names the expression that people would see in a picture; it does not read feelings.

import createClient, { type Client as Fetching } from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Schemas = components["schemas"];
export type Face = Schemas["Face"];
export type Picture = Schemas["Analysis"]["pictures"][number];
export type VideoState = Schemas["VideoState"];
export type VideoResult = Schemas["VideoResult"];
export type Models = Schemas["Models"];

/** What the server says of a request that it does not answer (RFC 9457), in one line. status: of HTTP, 0 without an answer. */
export class MienError extends Error {
  constructor(message: string, readonly status: number) {
    super(message);
    this.name = "MienError";
  }
}

export interface Options {
  /** As https://faces.example.org. */
  address: string;
  /** What the server was started with, or this client's own. */
  token?: string;
  /**
   * Seconds for which a request is repeated while the server has too much to do; and for which a video that it works on is
   * asked after again when the connection drops or the server is started anew, counted from its last answer. Default: 60.
   */
  patience?: number;
}

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

const RETRY_S = 1; // between two tries to reach a server
const FORGET_MS = 5000; // to delete a result that has been fetched: the server does it by itself in time
const NO_ANSWER = [0, 502, 504]; // of nobody, of a proxy that reaches nobody

/** Each call takes a signal that cancels it; it then rejects with the signal's reason. */
export class Client {
  private readonly api: Fetching<paths>;
  private readonly address: string;
  private readonly patience: number;

  constructor({ address, token, patience = 60 }: Options) {
    const headers = token ? { Authorization: `Bearer ${token}` } : undefined;
    this.address = address.replace(/\/+$/, "");
    this.api = createClient<paths>({ baseUrl: this.address, headers });
    this.patience = patience;
  }

  /** The faces in a picture, the largest first; no face: an empty list. */
  async analyze(picture: Blob, signal?: AbortSignal): Promise<Face[]> {
    const found = await this.ask(() =>
      this.api.POST("/v1/analyze", {
        body: picture as never,
        bodySerializer: (body: unknown) => body as Blob,
        headers: { "Content-Type": "application/octet-stream" },
        signal,
      }),
      signal,
    );
    const [only] = found.pictures;
    return only && "faces" in only ? only.faces : []; // one that cannot be read alone is an error of the request
  }

  /** The faces of each picture; one that cannot be read carries a `problem`, also where it is the only one. */
  async analyzeBatch(pictures: Blob[], signal?: AbortSignal): Promise<Picture[]> {
    if (!pictures.length) return [];
    try {
      const found = await this.ask(() => {
        const form = new FormData();
        pictures.forEach((picture, place) => form.append("pictures", picture, pictureName(place)));
        return this.api.POST("/v1/analyze", { body: form as never, bodySerializer: (body: unknown) => body as FormData, signal });
      }, signal);
      return found.pictures;
    } catch (error) {
      // Of one picture alone the whole request is answered so.
      if (pictures.length > 1 || !(error instanceof MienError && error.status === 422)) throw error;
      const problem = { type: "about:blank", title: "Unprocessable Content", status: 422, detail: error.message };
      return [{ name: pictureName(0), problem }];
    }
  }

  /**
   * Follow the faces through a video, and delete it on the server, also when it is cancelled. Once the video is there, it goes on
   * over outages that are shorter than `patience`.
   * progress: told the share that is done, 0 to 1.
   */
  async analyzeVideo(video: Blob, progress: (share: number) => void = () => {}, signal?: AbortSignal): Promise<VideoResult> {
    const { id } = await this.ask(() =>
      this.api.POST("/v1/videos", {
        body: video as never,
        bodySerializer: (body: unknown) => body as Blob,
        headers: { "Content-Type": "application/octet-stream" },
        signal,
      }),
      signal,
    );
    const job = { params: { path: { job: id } } };
    try {
      for (;;) {
        const state = await this.askAgain(() => this.api.GET("/v1/videos/{job}", { ...job, signal }), signal);
        if (state.problem) throw new MienError(state.problem.detail, state.problem.status);
        if (!["queued", "running"].includes(state.status)) break;
        progress(state.progress);
        await pause(0.25, signal);
      }
      const result = await this.askAgain(() => this.api.GET("/v1/videos/{job}/result", { ...job, signal }), signal);
      return result as VideoResult; // CSV comes on request only
    } finally {
      await this.api.DELETE("/v1/videos/{job}", { ...job, signal: AbortSignal.timeout(FORGET_MS) }).catch(() => {});
    }
  }

  /** The network, its heads and labels, and the limits of a request. */
  models(signal?: AbortSignal): Promise<Models> {
    return this.ask(() => this.api.GET("/v1/models", { signal }), signal);
  }

  /** Ask over short outages as well. */
  private async askAgain<T>(request: () => Promise<Answer<T>>, signal?: AbortSignal): Promise<T> {
    const ends = Date.now() + 1000 * this.patience;
    for (;;) {
      try {
        return await this.ask(request, signal);
      } catch (error) {
        if (!(error instanceof MienError && NO_ANSWER.includes(error.status)) || Date.now() + 1000 * RETRY_S > ends) throw error;
      }
      await pause(RETRY_S, signal);
    }
  }

  private async ask<T>(request: () => Promise<Answer<T>>, signal?: AbortSignal): Promise<T> {
    const ends = Date.now() + 1000 * this.patience;
    for (;;) {
      const { data, error, response } = await request().catch((reason: unknown) => {
        throw signal?.aborted ? signal.reason : this.unanswered(reason);
      });
      const asked = response.headers.get("retry-after") ?? "";
      const wait = /^\d+$/.test(asked) ? Number(asked) : 1; // a proxy may send a date
      if (response.status !== 503 || Date.now() + 1000 * wait > ends) {
        if (data !== undefined) return data;
        const detail = (error as { detail?: string } | undefined)?.detail;
        throw new MienError(detail ?? this.noJson(response.status), response.status);
      }
      await pause(wait, signal);
    }
  }

  private noJson(status: number): string {
    return NO_ANSWER.includes(status) && status
      ? `a proxy at ${this.address} cannot reach mien serve (it answers ${status}); does it run there?`
      : `${this.address} is not mien serve: it answers no JSON`;
  }

  private unanswered(reason: unknown): MienError {
    if (reason instanceof SyntaxError) return new MienError(this.noJson(0), 0);
    const error = reason as Error & { cause?: Error }; // Node tells why in the cause
    const why = error.cause?.message || error.message;
    return new MienError(`${this.address} cannot be asked: ${why}; does mien serve run there?`, 0);
  }
}

function pictureName(place: number): string {
  return `picture ${place + 1}`;
}

function pause(seconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((done, failed) => {
    const ended = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", ended);
      if (signal?.aborted) failed(signal.reason);
      else done();
    };
    const timer = setTimeout(ended, signal?.aborted ? 0 : 1000 * seconds);
    signal?.addEventListener("abort", ended);
  });
}
