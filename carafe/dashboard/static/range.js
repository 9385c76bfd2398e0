// The charts: a line under the pointer through all of them with the values there, and a stretch of time that is dragged over
// opens the jobs in it. By keyboard the form and the table beneath do the same.
const SVG = "http://www.w3.org/2000/svg";
const LEAST = 6; // pixels: less is a click

let from = null; // where the drag began, as a share of the width
let over = null; // where the pointer is

export function start() {
  document.addEventListener("pointerdown", (event) => {
    const plot = event.target.closest?.(".plot");
    if (!plot || event.button !== 0 || event.pointerType === "touch") return;
    from = share(plot, event);
    plot.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  document.addEventListener("pointermove", (event) => {
    const plot = from === null ? event.target.closest?.(".plot") : document.querySelector(".plot");
    if (!plot) {
      if (over !== null) clear();
      return;
    }
    over = share(plot, event);
    draw();
  });
  document.addEventListener("pointerup", (event) => {
    if (from === null) return;
    const plot = event.target.closest?.(".plot") ?? document.querySelector(".plot");
    const to = share(plot, event);
    const wide = Math.abs(to - from) * plot.getBoundingClientRect().width >= LEAST;
    const [since, until] = [Math.min(from, to), Math.max(from, to)];
    clear();
    if (wide) openJobs(since, until);
  });
  document.addEventListener("pointercancel", clear);
  document.addEventListener("keydown", (event) => event.key === "Escape" && clear());
  document.addEventListener("carafe:patched", () => over !== null && draw());
}

const charts = () => document.querySelector(".charts[data-since]");

function share(plot, event) {
  const box = plot.getBoundingClientRect();
  return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
}

function moment(part) {
  const { since, until } = charts().dataset;
  return Date.parse(since) + part * (Date.parse(until) - Date.parse(since));
}

function openJobs(since, until) {
  const { jobs, kind } = charts().dataset;
  const query = new URLSearchParams({ since: iso(moment(since)), until: iso(moment(until)) });
  if (kind) query.set("kind", kind);
  location.assign(`${jobs}?${query}`);
}

const iso = (at) => new Date(at).toISOString();

function draw() {
  for (const plot of document.querySelectorAll(".plot")) {
    const chosen = part(plot, "rect", "chosen");
    const [left, right] = from === null ? [0, 0] : [Math.min(from, over), Math.max(from, over)];
    set(chosen, { x: `${left * 100}%`, width: `${(right - left) * 100}%`, y: 8, height: 80 });
    set(part(plot, "line", "crosshair"), { x1: `${over * 100}%`, x2: `${over * 100}%`, y1: 8, y2: 88 });
  }
  const row = rowAt(moment(over));
  values(row);
  const stretch = from === null ? "" : `${iso(moment(Math.min(from, over))).slice(11, 19)} to ${iso(moment(Math.max(from, over))).slice(11, 19)} UTC: release to see its jobs.`;
  say(stretch || (row ? `At ${row.cells[0].textContent} UTC.` : ""));
}

function clear() {
  from = over = null;
  for (const one of document.querySelectorAll(".plot > .chosen, .plot > .crosshair")) one.remove();
  for (const place of document.querySelectorAll("[data-value]")) place.textContent = place.dataset.latest;
  say("Newest values. Drag across a chart to see the jobs of that time range.");
}

function part(plot, name, kind) {
  const found = plot.querySelector(`:scope > .${kind}`);
  if (found) return found;
  const made = document.createElementNS(SVG, name);
  made.setAttribute("class", kind);
  return plot.appendChild(made);
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}

// The table under the charts holds the numbers, newest first.
function rowAt(at) {
  const rows = [...document.querySelectorAll(".chart-table tbody tr")];
  return rows.find((row) => Number(row.dataset.key) <= at) ?? rows.at(-1) ?? null;
}

function values(row) {
  const columns = [...document.querySelectorAll(".chart-table thead th")].map((head) => head.dataset.series);
  for (const place of document.querySelectorAll("[data-value]")) {
    const text = row ? row.cells[columns.indexOf(place.dataset.value)]?.textContent : null;
    if (text && place.textContent !== text) place.textContent = text;
  }
}

function say(text) {
  const place = document.getElementById("readout");
  if (place && text) place.textContent = text;
}
