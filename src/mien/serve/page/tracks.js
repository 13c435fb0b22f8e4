// The probabilities of a followed face over time, and the band that shows them: as in mien's own timeline plot, the height
// of a colour is the probability of that expression, and a band is empty where the face was not seen.

import { css } from "./colours.js";
import { sharp } from "./annotate.js";

export class Track {
  constructor(number, labels) {
    this.number = number;
    this.labels = labels;
    this.times = [];
    this.shares = []; // one array of probabilities for each time
    this.ends = []; // when the frame after each was shown
  }

  /** end: when the next frame is shown, which says where the face is then; unset: nobody knows yet. */
  add(time, face, end = Infinity) {
    this.times.push(time);
    this.ends.push(end);
    this.shares.push(this.labels.map((label) => face.probabilities[label]));
  }

  /** Forget what is older than a time. */
  forget(before) {
    const kept = firstFrom(this.times, before);
    if (kept < 64) return; // in portions, because each one moves the rest
    this.times.splice(0, kept);
    this.shares.splice(0, kept);
    this.ends.splice(0, kept);
  }

  /** The mean probabilities from one time to another; what was seen last, where nothing is new and it is no older than hold. */
  mean(from, to, hold) {
    const [first, end] = [firstFrom(this.times, from), firstFrom(this.times, to)];
    if (end === first) {
      const last = first - 1;
      return first && from < this.ends[last] && from - this.times[last] <= hold ? this.shares[last] : null;
    }
    const sums = new Array(this.labels.length).fill(0);
    for (let place = first; place < end; place++) this.shares[place].forEach((share, label) => { sums[label] += share; });
    return sums.map((sum) => sum / (end - first));
  }
}

/** The place of the first time that is not before another one, by bisection. */
export function firstFrom(times, time) {
  let [low, high] = [0, times.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Draw a track from one time to another over the whole width of a canvas. hold: seconds for which a frame stands. */
export function paintBand(canvas, track, colours, [from, to], hold) {
  const { context, ratio } = sharp(canvas);
  const { width, height } = canvas;
  const fills = colours.map(css);
  const column = Math.max(1, Math.round(ratio));
  for (let x = 0; x < width; x += column) {
    const at = (pixel) => from + ((to - from) * pixel) / width;
    const shares = track.mean(at(x), at(x + column), hold);
    if (!shares) continue;
    let below = height;
    shares.forEach((share, label) => {
      context.fillStyle = fills[label];
      const high = share * height;
      context.fillRect(x, below - high, column, high + 0.5); // half a pixel more, so that no seam shines through
      below -= high;
    });
  }
}
