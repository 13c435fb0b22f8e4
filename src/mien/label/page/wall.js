// The wall of faces: only the tiles in and near the window exist, however many faces there are.

import { css, inkOn } from "../static/colours.js";
import { make } from "../static/dom.js";
import { colourOf } from "./classes.js";
import { cropOf, onlyWant, roughly, useCrops } from "./crops.js";
import { guessOf, isAside, isDisputed, state } from "./faces.js";

const GAP = 8, DRAG_PX = 6, HOLD_MS = 450, TALLEST_PX = 12_000_000; // browsers end at 17 to 33 million
const byPlace = new Map(); // place to tile, of the tiles that exist

/** A wall in a scrolling element. events: moved(place), opened(place), chosen(). */
export class Wall {
  constructor(scroller, canvas, rubber, events) {
    Object.assign(this, { scroller, canvas, rubber, events });
    this.view = [];
    this.where = new Map(); // place to its number in the view
    this.tiles = new Map(); // number in the view to tile
    this.spare = [];
    this.chosen = new Set(); // places
    this.cursor = -1; // number in the view
    this.anchor = -1;
    this.size = 120;
    scroller.addEventListener("scroll", () => this.later(), { passive: true });
    new ResizeObserver(() => this.measure()).observe(scroller);
    this.setUpPointer();
  }

  get place() { return this.view[this.cursor] ?? -1; }

  /** Show other faces. places: in their order. keep: the face to stay at, if it is among them. */
  show(places, keep = this.place) {
    this.view = places;
    this.where = new Map(places.map((place, number) => [place, number]));
    this.chosen = new Set([...this.chosen].filter((place) => this.where.has(place)));
    const stay = this.where.get(keep);
    this.cursor = stay ?? (places.length ? Math.min(Math.max(this.cursor, 0), places.length - 1) : -1);
    if (stay === undefined) this.cursor = places.length ? 0 : -1;
    this.anchor = this.cursor;
    this.drop();
    this.measure();
    if (this.cursor >= 0) this.intoSight(this.cursor);
    this.events.moved(this.place);
  }

  /** Show further faces behind those that are shown. places: all, in their order. */
  extend(places) {
    this.view = places;
    this.where = new Map(places.map((place, number) => [place, number]));
    this.measure();
    if (this.cursor < 0 && places.length) this.go(0);
  }

  setSize(size) {
    const keep = this.cursor >= 0 ? this.cursor : this.first();
    this.size = size;
    this.drop();
    this.measure();
    if (keep >= 0) this.intoSight(keep);
  }

  /** Draw faces again about which something has changed. */
  repaint(places) {
    if (places.size > 500) { for (const [number, tile] of this.tiles) this.paint(tile, number); return; }
    for (const place of places) this.repaintOne(place);
  }

  repaintOne(place) {
    const tile = byPlace.get(place);
    if (tile) this.paint(tile, this.where.get(place));
  }

  /** Move the cursor. keep: to where the choice reaches from the anchor. */
  go(number, { choose = false, quiet = false } = {}) {
    if (!this.view.length) return;
    const before = this.cursor;
    this.cursor = Math.min(Math.max(number, 0), this.view.length - 1);
    const changed = new Set(this.chosen);
    this.chosen.clear();
    if (choose) {
      const [from, to] = [this.anchor, this.cursor].sort((one, other) => one - other);
      for (let at = Math.max(from, 0); at <= to; at++) this.chosen.add(this.view[at]);
    } else {
      this.anchor = this.cursor;
    }
    for (const place of this.chosen) changed.add(place);
    changed.add(this.view[before]).add(this.place);
    this.repaint(changed);
    if (!quiet) this.intoSight(this.cursor);
    this.events.moved(this.place);
    this.events.chosen();
  }

  step(key, choose) {
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / this.pitch) - 1) * this.columns;
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, PageUp: -page, PageDown: page,
      Home: -this.view.length, End: this.view.length,
    };
    if (!(key in steps)) return false;
    const next = this.cursor + steps[key];
    if ((key === "ArrowUp" && next < 0) || (key === "ArrowDown" && next >= this.view.length && this.cursor % this.columns <= (this.view.length - 1) % this.columns && this.view.length - 1 - this.cursor < this.columns)) return true;
    this.go(next, { choose });
    return true;
  }

  choose(places, { add = false } = {}) {
    const changed = new Set(this.chosen);
    if (!add) this.chosen.clear();
    for (const place of places) { this.chosen.add(place); changed.add(place); }
    this.repaint(changed);
    this.events.chosen();
  }

  toggle(place) {
    if (!this.chosen.delete(place)) this.chosen.add(place);
    const before = this.place;
    this.cursor = this.anchor = this.where.get(place);
    this.repaint(new Set([before, place]));
    this.events.moved(place);
    this.events.chosen();
  }

  /** The faces that a key is about: those that are chosen, or the one at the cursor. */
  get targets() {
    if (this.chosen.size) return [...this.chosen];
    return this.place < 0 ? [] : [this.place];
  }

  // Where things are

  measure() {
    if (!this.scroller.clientWidth) return; // another view is shown; where the wall is scrolled to stays
    const wide = this.scroller.clientWidth - 2 * GAP;
    this.columns = Math.max(1, Math.floor((wide + GAP) / (this.size + GAP)));
    this.side = Math.floor((wide + GAP) / this.columns) - GAP;
    this.pitch = this.side + GAP;
    const rows = Math.ceil(this.view.length / this.columns);
    this.tall = rows * this.pitch + GAP;
    // A wall taller than browsers allow scrolls faster than it moves under the thumb; near the window all is exact.
    this.ratio = Math.max(1, this.tall / TALLEST_PX);
    this.canvas.style.height = `${Math.ceil(this.tall / this.ratio)}px`;
    this.scroller.style.setProperty("--side", `${this.side}px`);
    const laidOut = `${this.columns} ${this.side} ${devicePixelRatio}`;
    if (laidOut !== this.laidOut) { // a window that only grew higher leaves the tiles where they are
      this.laidOut = laidOut;
      useCrops(this.side, (place) => this.repaintOne(place));
      this.drop();
    }
    this.draw();
  }

  top() {
    const most = this.canvas.offsetHeight - this.scroller.clientHeight;
    if (this.ratio === 1 || most <= 0) return this.scroller.scrollTop;
    return (this.scroller.scrollTop / most) * (this.tall - this.scroller.clientHeight);
  }

  first() { return Math.floor(this.top() / this.pitch) * this.columns; }

  intoSight(number) {
    const row = Math.floor(number / this.columns);
    const [from, to] = [row * this.pitch, (row + 1) * this.pitch + GAP];
    const [top, high] = [this.top(), this.scroller.clientHeight];
    const next = from < top ? from : to > top + high ? to - high : top;
    if (next !== top) {
      const most = this.canvas.offsetHeight - high;
      this.scroller.scrollTop = this.ratio === 1 ? next : (next / (this.tall - high)) * most;
    }
    this.draw();
  }

  // Drawing

  later() { this.due ??= requestAnimationFrame(() => { this.due = undefined; this.draw(); }); }

  drop() {
    for (const tile of this.tiles.values()) this.putAside(tile);
    this.tiles.clear();
    byPlace.clear();
  }

  putAside(tile) {
    tile.hidden = true;
    tile.removeAttribute("id");
    this.spare.push(tile);
  }

  draw() {
    if (!this.columns || !this.scroller.clientHeight) return;
    const [top, high] = [this.top(), this.scroller.clientHeight];
    const from = Math.max(0, Math.floor((top - high / 2) / this.pitch)) * this.columns;
    const to = Math.min(this.view.length, Math.ceil((top + 1.5 * high) / this.pitch) * this.columns);
    for (const [number, tile] of this.tiles) {
      if (number >= from && number < to) continue;
      this.putAside(tile);
      this.tiles.delete(number);
      if (byPlace.get(tile.place) === tile) byPlace.delete(tile.place);
    }
    onlyWant((place) => byPlace.has(place));
    const shift = this.scroller.scrollTop - top; // 0 unless the wall is taller than browsers allow
    for (let number = from; number < to; number++) {
      let tile = this.tiles.get(number);
      if (!tile) {
        tile = this.spare.pop() ?? this.newTile();
        tile.hidden = false;
        this.tiles.set(number, tile);
        this.paint(tile, number);
      }
      const [x, y] = [GAP + (number % this.columns) * this.pitch, GAP + Math.floor(number / this.columns) * this.pitch + shift];
      tile.style.transform = `translate(${x}px, ${y}px)`;
    }
  }

  newTile() {
    const tile = make("div", { class: "tile", role: "option" },
      make("img", { alt: "", draggable: "false", decoding: "async" }), make("span", { class: "says" }), make("span", { class: "mark" }));
    this.canvas.append(tile);
    return tile;
  }

  paint(tile, number) {
    const place = this.view[number];
    const [image, says] = tile.children;
    if (tile.place !== place || byPlace.get(place) !== tile) {
      if (byPlace.get(tile.place) === tile) byPlace.delete(tile.place);
      tile.place = place;
      byPlace.set(place, tile);
    }
    tile.id = `face-${place}`;
    const address = cropOf(place) ?? roughly(place);
    if (image.dataset.address !== (address ?? "")) {
      image.dataset.address = address ?? "";
      if (address) image.src = address;
      else image.removeAttribute("src");
    }
    tile.classList.toggle("missing", address === "");
    const chosen = this.chosen.has(place);
    const words = wordsOf(place);
    tile.classList.toggle("chosen", chosen);
    tile.classList.toggle("here", number === this.cursor);
    tile.classList.toggle("done", words.kind !== "guess" && words.kind !== "none");
    tile.classList.toggle("aside", words.kind === "aside" || words.kind === "no face");
    tile.setAttribute("aria-selected", String(chosen || number === this.cursor));
    tile.setAttribute("aria-posinset", number + 1); // only what is near the window exists
    tile.setAttribute("aria-setsize", this.view.length);
    tile.setAttribute("aria-label", `Face ${place + 1}: ${words.told}`);
    says.className = `says ${words.kind.replace(" ", "-")}`;
    says.textContent = words.text;
    const colour = words.class ? colourOf(words.class) : null;
    says.style.setProperty("--tone", colour ? css(colour) : "");
    says.style.setProperty("--on-tone", colour ? css(inkOn(colour)) : "");
    tile.style.setProperty("--tone", colour && words.kind === "label" ? css(colour) : "");
    if (number === this.cursor) this.scroller.setAttribute("aria-activedescendant", tile.id);
  }

  // Mouse, finger, pen

  setUpPointer() {
    let press = null;
    const at = (event) => {
      const box = this.scroller.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top + this.top()];
    };
    this.scroller.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.clientX > this.scroller.getBoundingClientRect().left + this.scroller.clientWidth) return;
      const place = event.target.closest?.(".tile")?.place; // now: tiles are used again for other faces
      press = { place, touch: event.pointerType === "touch", from: at(event), moved: false, add: event.shiftKey || event.ctrlKey || event.metaKey };
      if (press.touch) {
        press.hold = setTimeout(() => {
          if (press && this.where.has(place)) { this.go(this.where.get(place), { quiet: true }); this.events.opened(place); press = null; }
        }, HOLD_MS);
      }
    });
    addEventListener("pointermove", (event) => {
      if (!press) return;
      const [x, y] = at(event);
      if (!press.moved && Math.hypot(x - press.from[0], y - press.from[1]) < DRAG_PX) return;
      clearTimeout(press.hold);
      if (press.touch) { press = null; return; } // it scrolls
      if (!press.moved) {
        press.moved = true;
        press.before = press.add ? [...this.chosen] : [];
        this.scroller.setPointerCapture(event.pointerId);
      }
      press.last = event;
      this.stretch(press, x, y);
      this.scrollAtTheEdge(event, () => press?.moved && this.stretch(press, ...at(press.last)));
    });
    addEventListener("pointerup", (event) => {
      if (!press) return;
      clearTimeout(press.hold);
      const { place, moved, touch } = press;
      press = null;
      this.rubber.hidden = true;
      if (moved) return;
      if (place === undefined) { if (!touch) this.choose([]); return; }
      const number = this.where.get(place);
      if (number === undefined) return; // it went out of the view while it was pressed
      if (touch || event.ctrlKey || event.metaKey) this.toggle(place);
      else if (event.shiftKey) this.go(number, { choose: true, quiet: true });
      else this.go(number, { quiet: true });
    });
    addEventListener("pointercancel", () => { clearTimeout(press?.hold); press = null; this.rubber.hidden = true; });
    this.scroller.addEventListener("dblclick", (event) => {
      const tile = event.target.closest?.(".tile");
      if (tile) this.events.opened(tile.place);
    });
    this.scroller.addEventListener("contextmenu", (event) => event.pointerType === "touch" && event.preventDefault());
  }

  /** Draw the band and choose the faces that it touches. */
  stretch(press, x, y) {
    const [left, right] = [press.from[0], x].sort((one, other) => one - other);
    const [top, bottom] = [press.from[1], y].sort((one, other) => one - other);
    this.rubber.hidden = false;
    Object.assign(this.rubber.style, {
      left: `${left}px`, top: `${top + this.scroller.scrollTop - this.top()}px`, width: `${right - left}px`, height: `${bottom - top}px`,
    });
    const places = [...press.before];
    const [firstRow, lastRow] = [Math.max(0, Math.floor((top - GAP) / this.pitch)), Math.floor((bottom - GAP) / this.pitch)];
    for (let row = firstRow; row <= lastRow; row++) {
      for (let column = 0; column < this.columns; column++) {
        const number = row * this.columns + column;
        if (number >= this.view.length) break;
        const [from, high] = [GAP + column * this.pitch, GAP + row * this.pitch];
        if (from <= right && from + this.side >= left && high <= bottom && high + this.side >= top) places.push(this.view[number]);
      }
    }
    this.choose(places);
  }

  scrollAtTheEdge(event, then) {
    const box = this.scroller.getBoundingClientRect();
    const speed = event.clientY < box.top + 24 ? -14 : event.clientY > box.bottom - 24 ? 14 : 0;
    clearInterval(this.scrolling);
    if (!speed) return;
    this.scrolling = setInterval(() => {
      if (this.rubber.hidden) { clearInterval(this.scrolling); return; }
      this.scroller.scrollTop += speed;
      then();
    }, 16);
  }
}

/** What a tile says: kind is "label", "disputed", "cannot tell", "no face", "aside", "guess" or "none". */
export function wordsOf(place) {
  const label = state.label[place];
  if (label) return { kind: "label", text: label, class: label, told: label };
  if (isDisputed(place)) {
    const words = [...new Set(Object.values(state.people[place]))];
    return { kind: "disputed", text: words.join(" / "), told: `disputed, ${words.join(" or ")}` };
  }
  const status = state.status[place];
  if (isAside(place)) return { kind: "aside", text: status, told: `set aside, ${status}` };
  if (status) return { kind: status === "duplicate" ? "aside" : status, text: status, told: status };
  const guess = guessOf(place);
  if (guess) return { kind: "guess", text: `${guess.class} ${guess.share}%`, class: guess.class, told: `not labelled, guess ${guess.class}, ${guess.share} percent` };
  return { kind: "none", text: "", told: "not labelled" };
}
