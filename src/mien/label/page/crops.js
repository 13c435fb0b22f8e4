// Small crops of faces: asked for by the hundred, the ones in sight first, and kept while there is room.

import { ask } from "../static/api.js";
import { state } from "./faces.js";

const SIDES = [96, 192, 384];
const MOST = 60, AT_ONCE = 3, KEPT = 6000, RETRY_MS = 1500;
const kept = new Map(); // "side/place" to address of a blob; "" where the crop cannot be read. Oldest use first.
const wanted = new Map(); // key to place; the last asked for is the first to be fetched
let running = 0, timer = 0, side = 96, show = () => {};

/** Choose the side for tiles of so many CSS pixels. shown: called with a place once its crop has come. */
export function useCrops(tilePx, shown) {
  const needed = tilePx * Math.min(devicePixelRatio || 1, 2);
  side = SIDES.find((one) => one >= 0.9 * needed) ?? SIDES.at(-1);
  show = shown;
}

const keyOf = (place) => `${side}/${place}`;

/** The address of a crop, "" where it cannot be read, or null: then it is fetched. */
export function cropOf(place) {
  const key = keyOf(place);
  const address = kept.get(key);
  if (address !== undefined) {
    kept.delete(key);
    kept.set(key, address);
    return address;
  }
  wanted.delete(key);
  wanted.set(key, place);
  timer ||= setTimeout(fetchSome, 0);
  return null;
}

/** Forget what was asked for and has gone out of sight. inSight: says so of a place. */
export function onlyWant(inSight) {
  for (const [key, place] of wanted) if (!inSight(place)) wanted.delete(key);
}

/** Any size of a crop that is here already, for the moment until the right one comes. */
export const roughly = (place) => SIDES.map((one) => kept.get(`${one}/${place}`)).find(Boolean) ?? null;

export function forgetCrops() {
  for (const address of kept.values()) if (address) URL.revokeObjectURL(address);
  kept.clear();
  wanted.clear();
}

function fetchSome() {
  timer = 0;
  while (running < AT_ONCE && wanted.size) {
    const batch = [...wanted].reverse().slice(0, MOST).reverse();
    for (const [key] of batch) wanted.delete(key);
    running += 1;
    fetchBatch(batch, side, state.session).finally(() => {
      running -= 1;
      if (wanted.size) timer ||= setTimeout(fetchSome, 0);
    });
  }
}

async function fetchBatch(batch, side_, session) {
  const places = batch.map(([, place]) => place);
  let data;
  try {
    data = await (await ask(`v1/small?session=${session}&side=${side_}&faces=${places.join(",")}`)).arrayBuffer();
  } catch {
    setTimeout(() => { for (const place of places) show(place); }, RETRY_MS); // which asks again for those in sight
    return;
  }
  const view = new DataView(data);
  let at = 0;
  for (const [key, place] of batch) {
    const length = view.getUint32(at, true);
    const blob = new Blob([new Uint8Array(data, at + 4, length)], { type: "image/jpeg" });
    at += 4 + length;
    kept.set(key, length ? URL.createObjectURL(blob) : "");
    show(place);
  }
  for (const [key, address] of kept) {
    if (kept.size <= KEPT) break;
    if (address) URL.revokeObjectURL(address);
    kept.delete(key);
  }
}
