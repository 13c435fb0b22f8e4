// npm test, with the address of a server that runs: MIEN_ADDRESS=http://localhost:8000
// pictures: two files, MIEN_PICTURES=one.jpg:two.jpg; a film of some seconds: MIEN_VIDEO=talk.mp4
import assert from "node:assert/strict";
import { openAsBlob } from "node:fs";
import { test } from "node:test";
import { Client, MienError } from "../dist/index.js";

const client = new Client({ address: process.env.MIEN_ADDRESS ?? "http://localhost:8000", token: process.env.MIEN_TOKEN });
const files = (process.env.MIEN_PICTURES ?? "").split(":").filter(Boolean);

test("a picture has the faces that several have", async () => {
  const pictures = await Promise.all(files.map((file) => openAsBlob(file)));
  const faces = await client.analyze(pictures[0]);
  assert.ok(faces.length > 0 && faces[0].probability > 0);
  const all = await client.analyzeBatch([...pictures, new Blob(["no picture"])]);
  assert.deepEqual(all[0].faces, faces);
  assert.equal(all.length, files.length + 1);
  assert.match(all.at(-1).problem.detail, /not a picture/);
});

test("what is wrong is one line", async () => {
  await assert.rejects(client.analyze(new Blob(["no picture"])), (error) => error instanceof MienError && error.status === 422);
  await assert.rejects(client.analyzeVideo(new Blob(["no video"])), MienError);
});

test("models say what answers", async () => {
  assert.ok((await client.models()).models[0].heads.length > 0);
});

test("who does not answer is one line", async () => {
  const nobody = new Client({ address: "http://localhost:9" });
  await assert.rejects(nobody.models(), (error) => error instanceof MienError && error.status === 0 && /localhost:9 cannot be asked/.test(error.message));
});

test("a call is cancelled by its signal", async () => {
  await assert.rejects(client.models(AbortSignal.abort()), { name: "AbortError" });
});

test("a video tells how far it is, and is cancelled in the middle", { skip: !process.env.MIEN_VIDEO && "needs MIEN_VIDEO" }, async () => {
  const video = await openAsBlob(process.env.MIEN_VIDEO);
  const shares = [];
  assert.ok((await client.analyzeVideo(video, (share) => shares.push(share))).rows.length > 0);
  assert.ok(shares.length > 0 && shares.every((share, place) => share <= 1 && share >= (shares[place - 1] ?? 0)));
  const stop = new AbortController();
  await assert.rejects(client.analyzeVideo(video, () => stop.abort(), stop.signal), { name: "AbortError" });
});
