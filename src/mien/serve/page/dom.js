// Making and finding elements, and putting numbers into words.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/**
 * Make an element. Properties starting with "on" are listeners, "style" is an object (the content policy allows no style
 * attribute), the others are attributes; false, null and undefined are left out.
 */
export function make(name, properties = {}, ...children) {
  return filled(document.createElement(name), properties, children);
}

export function makeSvg(name, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, name), properties, children);
}

function filled(element, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") {
      for (const [name, worth] of Object.entries(value)) element.style.setProperty(name, worth);
    } else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** One of the icons that lie in the page itself, so that they show even when the server has gone. */
export function icon(name) {
  const link = makeSvg("use", { href: `#icon-${name}` });
  return makeSvg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, link);
}

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** A probability, 0.934, as "93%", in the command's words: none reads as certain or as impossible. */
export function percent(share) {
  if (share >= 0.995) return ">99%";
  return share < 0.005 ? "<1%" : `${Math.round(100 * share)}%`;
}

/** Seconds as "1:02" or "1:00:02"; with tenths where a whole video is short. */
export function clock(seconds, tenths = false) {
  const whole = Math.floor(seconds + 1e-6);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const two = (number) => String(number).padStart(2, "0");
  const rest = tenths ? `.${Math.floor((seconds + 1e-6 - whole) * 10)}` : "";
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}${rest}`;
}

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en-GB")} ${number === 1 ? one : many}`;

/** Tell a screen reader something that is plain to see. */
export function announce(text) {
  byId("status").textContent = text;
}

/** Show one line about what went wrong, in the notice of a view; an empty text takes it away. */
export function tell(notice, text) {
  notice.hidden = !text;
  notice.replaceChildren(...(text ? [icon("alert"), make("span", {}, text)] : []));
}

/** Give a stage the shape of what it shows, so that it can be as large as the window allows. widest: CSS pixels. */
export function shape(stage, width, height, widest) {
  stage.style.setProperty("--ratio", String(width / height));
  stage.style.setProperty("--widest", widest ? `${widest}px` : "9999px");
}

/** Offer a Blob as a file. */
export function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export const stem = (name) => name.replace(/\.[^.]+$/, "") || "picture";

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
