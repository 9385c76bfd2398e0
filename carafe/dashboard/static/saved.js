// Filters of the jobs page that somebody has given a name. They are kept in this browser alone, like bookmarks, which do the
// same without scripts: a filter stands in the page's address. Each user of the browser has their own, since a filter may name
// what another user may not see.
import { announce } from "./announce.js";

const MOST = 50;
const LONGEST = 60;

const root = document.documentElement.dataset.root ?? "";
const KEY = `carafe-filters${root} ${document.documentElement.dataset.viewer ?? ""}`;

export function start() {
  const place = document.getElementById("saved");
  if (place) show(place, read());
}

function show(place, saved) {
  const query = filter();
  const parts = [];
  if (saved.length) {
    const list = element("ul", { className: "chips" });
    for (const one of saved) list.append(chip(place, one, one.query === query));
    parts.push(element("span", { className: "note", textContent: "Saved filters" }), list);
  }
  const known = saved.some((one) => one.query === query);
  if (query && !known && saved.length < MOST) parts.push(form(place, query));
  place.replaceChildren(...parts);
  place.hidden = !parts.length;
}

function chip(place, { name, query }, current) {
  const link = element("a", { href: `${root}/jobs${query}`, textContent: name });
  if (current) link.setAttribute("aria-current", "page");
  const remove = element("button", { type: "button", className: "chip-remove", title: "Remove this saved filter" });
  remove.append(
    hiddenFromReaders("×"),
    element("span", { className: "unseen", textContent: `Remove the saved filter ${name}` }),
  );
  remove.addEventListener("click", () => {
    const left = read().filter((one) => one.name !== name);
    if (!write(left)) return;
    show(place, left);
    announce("Removed");
    (place.querySelector("a, summary") ?? document.getElementById("main"))?.focus();
  });
  const item = element("li", { className: "chip" });
  item.append(link, " ", remove);
  return item;
}

function form(place, query) {
  const input = element("input", { type: "text", id: "saved-name", maxLength: LONGEST, required: true, autocomplete: "off" });
  const label = element("label", { htmlFor: "saved-name", textContent: "Name" });
  const save = element("button", { className: "button tone-plain", textContent: "Save" });
  const made = element("form", { className: "save-filter" });
  made.append(label, " ", input, " ", save);
  made.addEventListener("submit", (event) => {
    event.preventDefault();
    const name = input.value.trim();
    if (!name) return;
    const saved = [...read().filter((one) => one.name !== name), { name, query }].slice(-MOST);
    saved.sort((a, b) => a.name.localeCompare(b.name));
    if (!write(saved)) return;
    show(place, saved);
    announce(`Saved as ${name}`);
    place.querySelector("[aria-current]")?.focus();
  });
  const details = element("details", { className: "more" });
  details.append(element("summary", { textContent: "Save this filter" }), made);
  details.addEventListener("toggle", () => details.open && input.focus());
  return details;
}

/** The page's filter as it stands in the address, without its place in the list; empty if it has none. */
function filter() {
  const query = new URLSearchParams(location.search);
  for (const name of ["cursor", "q", "search"]) query.delete(name);
  const text = query.toString();
  return text && `?${text}`;
}

/** What is stored, and nothing that was not stored by this script. */
function read() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    const valid = (one) => typeof one?.name === "string" && typeof one.query === "string" && one.query.startsWith("?");
    return Array.isArray(found) ? found.filter(valid).slice(0, MOST) : [];
  } catch {
    return []; // storage is forbidden, or something else is stored there
  }
}

function write(saved) {
  try {
    localStorage.setItem(KEY, JSON.stringify(saved));
    return true;
  } catch {
    announce("This browser does not allow storing filters");
    return false;
  }
}

const element = (name, properties) => Object.assign(document.createElement(name), properties);

function hiddenFromReaders(text) {
  const made = element("span", { textContent: text });
  made.setAttribute("aria-hidden", "true");
  return made;
}
