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

/** What to call the expression of a face: "Happy", or "Happy?" where the model says that it is uncertain. */
export const said = (face) => capital(face.emotion) + (face.uncertain ? "?" : "");

/** The colour of a face's expression. */
export function colourOf(face) {
  const labels = Object.keys(face.probabilities);
  return labelColours(labels)[labels.indexOf(face.emotion)];
}

/** A sentence for who cannot see the boxes. */
export function inWords(face, name) {
  const doubt = face.uncertain ? ", uncertain" : "";
  return `${name}: ${capital(face.emotion)}, ${percent(face.probability)}${doubt}`;
}

/** The headline of a face, with the reason when it is uncertain. */
export function verdict(face) {
  return [
    make("div", { class: "verdict" },
      glyph(face.emotion, colourOf(face), { size: 44 }),
      make("div", {},
        make("p", { class: "word" }, said(face)),
        make("p", { class: "sure" }, face.uncertain ? `uncertain, only ${percent(face.probability)}` : `${percent(face.probability)} sure`))),
    face.uncertain ? make("p", { class: "doubt" },
      "No expression reaches the probability from which this model can be relied on. The bars show what it wavers between.") : null,
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
    if (card.said === said(face)) return;
    card.said = said(face);
    card.headline.replaceChildren(badge(face.track),
      glyph(face.emotion, colourOf(face), { size: 30 }), make("span", { class: "word" }, said(face)));
  }
}

/** The number that a face keeps. */
export const badge = (track) =>
  make("span", { class: "badge", style: { "background-color": css(trackColour(track)) } },
    make("span", { class: "hidden" }, "Face "), String(track));
