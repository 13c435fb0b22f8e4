// The colour of each expression: the same as src/mien/images/canvas.py gives it, and a test compares both.
// Okabe & Ito 2008, told apart with red-green blindness as well. On this page colour means an expression, or the
// number of a face, and nothing else.

const COLOURS = {
  angry: [213, 94, 0],
  disgust: [0, 158, 115],
  fear: [204, 121, 167],
  happy: [240, 205, 50],
  sad: [0, 114, 178],
  surprise: [86, 180, 233],
  neutral: [205, 205, 205],
  contempt: [110, 90, 75],
};
const OTHERS = [
  [213, 94, 0], [0, 114, 178], [240, 205, 50], [0, 158, 115],
  [204, 121, 167], [86, 180, 233], [110, 90, 75], [150, 150, 150],
];
const TRACKS = [[0, 92, 175], [176, 58, 0], [0, 110, 80], [140, 60, 110], [120, 90, 0], [70, 70, 70]];

// As src/mien/labels.py: class names are free, and Anger is angry.
const ALIASES = {
  anger: "angry", disgusted: "disgust", afraid: "fear", fearful: "fear", scared: "fear", happiness: "happy",
  joy: "happy", sadness: "sad", surprised: "surprise", contemptuous: "contempt", natural: "neutral",
};

/** The common spelling of an expression's name, or the name itself in lower case. */
export function canonical(name) {
  const plain = name.trim().toLowerCase();
  return ALIASES[plain] ?? plain;
}

/** A colour [red, green, blue], 0-255, for each label: its own where mien knows the expression, else a free one. */
export function labelColours(labels) {
  const known = labels.map((label) => COLOURS[canonical(label)]);
  const taken = new Set(known.filter(Boolean).map(String));
  let free = OTHERS.filter((colour) => !taken.has(String(colour)));
  if (!free.length) free = OTHERS;
  let strangers = 0;
  return known.map((colour) => colour ?? free[strangers++ % free.length]);
}

/** The colour of a face's number, which is from 1; dark enough for white digits. */
export const trackColour = (number) => TRACKS[(number - 1) % TRACKS.length];

export const css = (colour) => `rgb(${colour.join(" ")})`;

/** Near-black or white, whichever stands out more on a colour: WCAG 2.2's relative luminance, so that text keeps AA. */
export function inkOn(colour) {
  return luminance(colour) > 0.18 ? [20, 20, 20] : [255, 255, 255];
}

function luminance(colour) {
  const [red, green, blue] = colour.map((level) => {
    const share = level / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
