// Boxes and names on a canvas: over a moving picture, and on the copy of a photograph that can be kept.

import { colourOf, said } from "./bars.js";
import { css, inkOn, trackColour } from "./colours.js";
import { percent } from "./dom.js";

const FONT = '"Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif';

/**
 * Draw faces on a context. place: box of a face -> [x, y, width, height] on the canvas. unit: how many canvas pixels a line of
 * normal thickness takes half of; names grow with it.
 */
export function drawFaces(context, faces, place, unit) {
  for (const face of faces) frame(context, place(face.box), face, unit);
  for (const face of faces) name(context, place(face.box), face, unit); // above every frame
}

function frame(context, [x, y, width, height], face, unit) {
  const round = Math.min(10 * unit, width / 6);
  const outline = (thick, colour, dashes) => {
    context.beginPath();
    context.roundRect(x, y, width, height, round);
    context.setLineDash(dashes);
    context.lineWidth = thick * unit;
    context.strokeStyle = colour;
    context.stroke();
  };
  outline(5, "rgb(0 0 0 / 45%)", []); // on any ground, light or dark
  outline(3, css(colourOf(face)), face.uncertain ? [8 * unit, 7 * unit] : []);
  context.setLineDash([]);
}

function name(context, [x, y, width, height], face, unit) {
  const colour = colourOf(face);
  const text = `${said(face)}  ${percent(face.probability)}`;
  context.font = `600 ${14 * unit}px ${FONT}`;
  context.textBaseline = "middle";
  const number = face.track ? String(face.track) : "";
  const [high, pad] = [26 * unit, 9 * unit];
  const numberWide = number ? Math.max(high, context.measureText(number).width + 1.4 * pad) : 0;
  const wide = numberWide + context.measureText(text).width + 2 * pad;
  const left = Math.max(0, Math.min(x, context.canvas.width - wide));
  const above = y - high - 5 * unit;
  const top = above >= 0 ? above : Math.min(y + height + 5 * unit, context.canvas.height - high);
  pill(context, [left, top, wide, high], css(colour), 7 * unit);
  context.fillStyle = css(inkOn(colour));
  context.textAlign = "left";
  context.fillText(text, left + numberWide + pad, top + high / 2 + unit);
  if (!number) return;
  pill(context, [left, top, numberWide, high], css(trackColour(face.track)), 7 * unit);
  context.fillStyle = "white";
  context.textAlign = "center";
  context.fillText(number, left + numberWide / 2, top + high / 2 + unit);
}

function pill(context, [x, y, width, height], colour, round) {
  context.beginPath();
  context.roundRect(x, y, width, height, round);
  context.fillStyle = colour;
  context.fill();
}

/** Return a Blob of a picture (anything drawable of that size) with its faces marked, in its own size. */
export function annotated(picture, width, height, faces, type) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0, width, height);
  drawFaces(context, faces, (box) => box, Math.max(1, Math.max(width, height) / 900));
  return new Promise((resolve) => canvas.toBlob(resolve, type, 0.92));
}

/** Fit a canvas to its own size on the screen, in device pixels; returns its context and those pixels a CSS pixel. */
export function sharp(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  return { context, ratio };
}
