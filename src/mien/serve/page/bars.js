// One face in words and bars: the same card beside a photograph, a camera and a video.

import { css, labelColours, trackColour } from "./colours.js";
import { capital, make, percent } from "./dom.js";
import { glyph } from "./glyphs.js";

/** The probabilities as a list of bars. order: "likeliest" first, or as the network has them ("fixed"), which holds still. */
export function bars(face, order = "likeliest") {
  const labels = Object.keys(face.probabilities);
  const colours = labelColours(labels);
  const rows = labels.map((label, place) => [label, face.probabilities[label], colours[place]]);
  if (order === "likeliest") rows.sort((one, other) => other[1] - one[1]);
  return make("ul", { class: "bars" }, rows.map(([label, share, colour]) =>
    make("li", { class: label === face.emotion ? "first" : null },
      glyph(label, colour, { size: 22 }),
      make("span", { class: "label" }, capital(label)),
      make("span", { class: "rail" },
        make("span", { class: "fill", style: { "background-color": css(colour), width: `${100 * share}%` } })),
      make("span", { class: "share" }, percent(share)))));
}

// What speaks against relying on an answer, as the server names it, in a sentence.
const REASONS = {
  "no face?": "This may not be a face at all.",
  unsure: "It is not sure that this is a face.",
  "covered?": "Something seems to cover a part of the face.",
  turned: "The face is turned further than those that the network has learnt from.",
  small: "The face is small: fewer than 24 pixels.",
  "low contrast": "The face could be found only after its contrast was raised.",
};

/** What to call the expression of a face: "Happy", or "Happy?" where the model says that it is uncertain. */
export const said = (face) => capital(face.emotion) + (face.uncertain ? "?" : "");

/** The colour of a face's expression. */
export function colourOf(face) {
  const labels = Object.keys(face.probabilities);
  return labelColours(labels)[labels.indexOf(face.emotion)];
}

/** What speaks against relying on an answer. Results of videos that an older mien kept do not say. */
const reasons = (face) => face.reasons ?? [];

/** A sentence for who cannot see the boxes. */
export function inWords(face, name) {
  const doubts = [...(face.uncertain ? ["uncertain"] : []), ...reasons(face)];
  return [`${name}: ${capital(face.emotion)}`, percent(face.probability), ...doubts].join(", ");
}

/** The headline of a face, with what speaks against relying on it. */
export function verdict(face) {
  const doubts = reasons(face).map((reason) => REASONS[reason] ?? capital(reason));
  if (face.uncertain && !reasons(face).includes("no face?")) {
    doubts.push("No expression reaches the probability from which this model can be relied on. The bars show what it wavers between.");
  }
  return [
    make("div", { class: "verdict" },
      glyph(face.emotion, colourOf(face), { size: 44 }),
      make("div", {},
        make("p", { class: "word" }, said(face)),
        make("p", { class: "sure" }, face.uncertain ? `uncertain, ${percent(face.probability)}` : `${percent(face.probability)} sure`))),
    doubts.length ? make("p", { class: "doubt" }, doubts.join(" ")) : null,
  ];
}

/**
 * Cards of followed faces that are kept from frame to frame, because a screen reader and an eye both lose what is replaced
 * ten times a second. below: what to put under the bars of a new card.
 */
export class Cards {
  constructor(list, { below = () => null } = {}) {
    this.list = list;
    this.below = below;
    this.cards = new Map();
  }

  /** Show these faces; cards of faces that are gone stay for whom `keep` says so, dimmed. */
  show(faces, keep = () => false) {
    const here = new Map(faces.map((face) => [face.track, face]));
    for (const [track, card] of this.cards) {
      if (!here.has(track) && !keep(track)) {
        card.root.remove();
        this.cards.delete(track);
      }
    }
    for (const [track, face] of here) this.#update(this.cards.get(track) ?? this.#add(track, face), face);
    for (const [track, card] of this.cards) card.root.classList.toggle("gone", !here.has(track));
    this.expect(faces.length);
  }

  /** Make room for so many cards at once: more than two would stand far below the picture at their side, so they go below it. */
  expect(most) {
    if (most > 2) this.list.closest(".work").classList.add("many");
  }

  clear() {
    this.show([]);
    this.list.closest(".work").classList.remove("many");
  }

  #add(track, face) {
    const labels = Object.keys(face.probabilities);
    const colours = labelColours(labels);
    const rows = new Map(labels.map((label, place) => {
      const fill = make("span", { class: "fill", style: { "background-color": css(colours[place]) } });
      const share = make("span", { class: "share" });
      const row = make("li", {}, glyph(label, colours[place], { size: 18 }),
        make("span", { class: "label" }, capital(label)), make("span", { class: "rail" }, fill), share);
      return [label, { row, fill, share }];
    }));
    const headline = make("div", { class: "headline" });
    const root = make("li", { class: "card", "data-track": track },
      headline, make("ul", { class: "bars small" }, [...rows.values()].map(({ row }) => row)), this.below(track));
    const after = [...this.cards.entries()].filter(([other]) => other > track).sort(([a], [b]) => a - b)[0];
    this.list.insertBefore(root, after ? after[1].root : null);
    const card = { root, rows, headline, said: null };
    this.cards.set(track, card);
    return card;
  }

  #update(card, face) {
    for (const [label, { row, fill, share }] of card.rows) {
      fill.style.width = `${100 * face.probabilities[label]}%`;
      share.textContent = percent(face.probabilities[label]);
      row.classList.toggle("first", label === face.emotion);
    }
    const doubts = reasons(face).join(", ");
    const words = `${said(face)} ${doubts}`;
    if (card.said === words) return;
    card.said = words;
    card.headline.replaceChildren(badge(face.track),
      glyph(face.emotion, colourOf(face), { size: 30 }), make("span", { class: "word" }, said(face)), make("span", { class: "quiet small" }, doubts));
  }
}

/** The number that a face keeps. */
export const badge = (track) =>
  make("span", { class: "badge", style: { "background-color": css(trackColour(track)) } },
    make("span", { class: "hidden" }, "Face "), String(track));
