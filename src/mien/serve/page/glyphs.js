// A small drawn face for each expression: its shape says what its colour says, for whoever does not see the colour.

import { canonical, css, inkOn } from "./colours.js";
import { makeSvg } from "./dom.js";

const round = (radius) => [[17, 21], [31, 21]].map(([x, y]) => makeSvg("circle", { cx: x, cy: y, r: radius, class: "solid" }));
const lines = (path) => [makeSvg("path", { d: path, class: "stroke" })];

// In a box of 48: brows and mouth are lines unless they are closed.
const FACES = {
  angry: { eyes: () => round(2.5), brows: "M11.5 13.5 20 17.3M36.5 13.5 28 17.3", mouth: "M17 34.5Q24 29 31 34.5" },
  disgust: { eyes: () => lines("M13.5 21.5H20M28 21.5H34.5"), brows: "M12.5 15.5 20.5 17M35.5 15.5 27.5 17", mouth: "M14.5 33.2q3.2-3.6 6.4 0t6.4 0 6.4 0" },
  fear: { eyes: () => round(3.1), brows: "M11.5 15Q15 11.5 20 11.2M36.5 15Q33 11.5 28 11.2", mouth: "M16.5 35Q24 26.5 31.5 35Z" },
  happy: { eyes: () => lines("M13 22q4-5.4 8 0M27 22q4-5.4 8 0"), brows: "", mouth: "M13.5 27.5Q24 42.5 34.5 27.5Z" },
  sad: { eyes: () => round(2.5), brows: "M12 16.6 19.5 13M36 16.6 28.5 13", mouth: "M17.5 35Q24 29.4 30.5 35" },
  surprise: { eyes: () => round(3.1), brows: "M12.5 13Q16.5 9 20.5 12M35.5 13Q31.5 9 27.5 12", mouth: "M24 28.4a4.2 5 0 0 1 0 10a4.2 5 0 0 1 0-10Z" },
  neutral: { eyes: () => round(2.5), brows: "", mouth: "M17 32.5H31" },
  contempt: { eyes: () => lines("M14 21.5H20M28 21.5H34"), brows: "M28 16Q32 12 36 14", mouth: "M17 33.5Q26 34.5 31.5 29" },
};
const UNKNOWN = { eyes: () => round(2.5), brows: "", mouth: "M20.5 32.5H27.5" };

/** A face for a label in its colour, [red, green, blue]; decoration, because the label always stands beside it. */
export function glyph(label, colour, { size = 24 } = {}) {
  const face = FACES[canonical(label)] ?? UNKNOWN;
  const shape = (path) => (path ? [makeSvg("path", { d: path, class: path.endsWith("Z") ? "solid" : "stroke" })] : []);
  const ink = makeSvg("g", { style: { color: css(inkOn(colour)) } },
    makeSvg("g", { class: "eyes" }, face.eyes()), shape(face.brows), shape(face.mouth));
  return makeSvg("svg", { class: "glyph", viewBox: "0 0 48 48", width: size, height: size, "aria-hidden": "true" },
    makeSvg("circle", { cx: 24, cy: 24, r: 23, fill: css(colour), class: "head" }), ink);
}
