// npm test, with the address of a server that runs: MIEN_ADDRESS=http://localhost:8000
// pictures: two files, MIEN_PICTURES=one.jpg:two.jpg; a film of some seconds: MIEN_VIDEO=talk.mp4
import assert from "node:assert/strict";
import { openAsBlob } from "node:fs";
import { connect, createServer } from "node:net";
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
  const alone = await client.analyzeBatch([new Blob(["no picture"])]);
  assert.deepEqual([alone.length, alone[0].problem.status], [1, 422]);
  assert.match(alone[0].problem.detail, /^picture 1 is not a picture/);
  assert.deepEqual(await client.analyzeBatch([]), []);
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

/** Passes connections on to the server; go away: breaks them, and each that comes within some milliseconds. */
async function relay() {
  const { hostname, port } = new URL(process.env.MIEN_ADDRESS ?? "http://localhost:8000");
  const open = new Set();
  let away = false;
  const server = createServer((here) => {
    if (away) { here.destroy(); return; }
    const there = connect(Number(port || 80), hostname);
    for (const [one, other] of [[here, there], [there, here]]) {
      open.add(one);
      one.pipe(other).on("error", () => {});
      one.on("error", () => other.destroy()).on("close", () => { open.delete(one); other.destroy(); });
    }
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return {
    address: `http://127.0.0.1:${server.address().port}`,
    goAway(ms) { away = true; for (const one of open) one.destroy(); setTimeout(() => { away = false; }, ms).unref(); },
    close() { server.close(); for (const one of open) one.destroy(); },
  };
}

const needsVideo = { skip: !process.env.MIEN_VIDEO && "needs MIEN_VIDEO" };

test("a video goes on over a short outage", needsVideo, async () => {
  const video = await openAsBlob(process.env.MIEN_VIDEO);
  const between = await relay();
  const token = process.env.MIEN_TOKEN;
  try {
    let outages = 0;
    const away = (ms) => () => { if (!outages) { outages += 1; between.goAway(ms); } };
    const { rows } = await new Client({ address: between.address, token }).analyzeVideo(video, away(2500));
    assert.ok(outages === 1 && rows.length > 0);

    outages = 0;
    const hasty = new Client({ address: between.address, token, patience: 2 });
    await assert.rejects(hasty.analyzeVideo(video, away(6000)), (error) => error instanceof MienError && error.status === 0);
    assert.equal(outages, 1);
    await new Promise((done) => setTimeout(done, 5000));

    outages = 0;
    const stop = new AbortController();
    const waiting = new Client({ address: between.address, token }).analyzeVideo(video, (share) => {
      away(20000)(share);
      setTimeout(() => stop.abort(), 1500);
    }, stop.signal);
    const begun = Date.now();
    await assert.rejects(waiting, { name: "AbortError" });
    assert.ok(Date.now() - begun < 10_000, "an outage does not hold up who cancels");
  } finally {
    between.close();
  }
});

test("what a proxy answers is understood", async () => {
  for (const [answer, line] of [["503 Busy\r\nRetry-After: Fri, 27 Nov 2026 21:00:00 GMT", /answers no JSON/], ["502 Bad Gateway", /cannot reach mien serve/]]) {
    let asked = 0;
    const proxy = createServer((here) => {
      here.on("error", () => {}).on("data", () => { asked += 1; here.end(`HTTP/1.1 ${answer}\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>`); });
    });
    await new Promise((done) => proxy.listen(0, "127.0.0.1", done));
    await assert.rejects(new Client({ address: `http://127.0.0.1:${proxy.address().port}`, patience: 1.5 }).models(), (error) => line.test(error.message));
    assert.ok(asked <= 3, `it waits between two tries, and asked ${asked} times`);
    proxy.close();
  }
});
