"use strict";

/* Zoom, contrast and switches of whole groups. All else of the page works without a script. */

document.documentElement.classList.add("scripted");

/** Sets the boxes that a box of a whole group stands for, then each such box by its group. */
function switchGroups(viewer, changed) {
  const members = (box) =>
    [...box.closest("fieldset").querySelectorAll("input[type=checkbox]:not([data-all])")];
  if (changed?.matches("[data-all]")) {
    members(changed).forEach((box) => { box.checked = changed.checked; });
  }
  for (const box of viewer.querySelectorAll("[data-all]")) {
    const shown = members(box).map((member) => member.checked);
    box.checked = shown.every(Boolean);
    box.indeterminate = !box.checked && shown.some(Boolean);
  }
}

/** Gives the pictures the contrast and brightness of the sliders. */
function filter(viewer) {
  for (const slider of viewer.querySelectorAll("[data-filter]")) {
    viewer.style.setProperty(`--${slider.dataset.filter}`, slider.value);
  }
}

/** Zooms a picture by a factor about the middle of what is seen; a factor of 0 shows all of it. */
function zoom(figure, factor) {
  const pane = figure.querySelector(".pane");
  const before = Number(pane.dataset.zoom ?? 1);
  const after = factor === 0 ? 1 : Math.min(Math.max(before * factor, 1), 8);
  const middle = [
    (pane.scrollLeft + pane.clientWidth / 2) / before,
    (pane.scrollTop + pane.clientHeight / 2) / before,
  ];
  pane.dataset.zoom = after;
  pane.classList.toggle("zoomed", after > 1);
  pane.firstElementChild.style.width = `${100 * after}%`;
  pane.scrollLeft = middle[0] * after - pane.clientWidth / 2;
  pane.scrollTop = middle[1] * after - pane.clientHeight / 2;
  figure.querySelector("output").textContent = `${Math.round(100 * after)} %`;
}

const STEP = 1.5;
const KEYS = { "+": STEP, "=": STEP, "-": 1 / STEP, 0: 0 };

function connectFigure(figure) {
  const pane = figure.querySelector(".pane");
  for (const button of figure.querySelectorAll("[data-zoom-by]")) {
    button.addEventListener("click", () => zoom(figure, Number(button.dataset.zoomBy)));
  }
  pane.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
    event.preventDefault();
    zoom(figure, KEYS[event.key]);
  });
  pane.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoom(figure, event.deltaY < 0 ? STEP : 1 / STEP);
  }, { passive: false });
  pane.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && event.button === 0) pane.setPointerCapture(event.pointerId);
  });
  pane.addEventListener("pointermove", (event) => {
    if (pane.hasPointerCapture(event.pointerId)) pane.scrollBy(-event.movementX, -event.movementY);
  });
}

for (const viewer of document.querySelectorAll(".viewer")) {
  viewer.addEventListener("change", (event) => switchGroups(viewer, event.target));
  viewer.addEventListener("input", () => filter(viewer));
  viewer.querySelector("[data-reset]").addEventListener("click", () => {
    viewer.querySelectorAll("[data-filter]").forEach((slider) => { slider.value = 1; });
    filter(viewer);
  });
  viewer.querySelectorAll("figure").forEach(connectFigure);
  switchGroups(viewer);
  filter(viewer);
}
