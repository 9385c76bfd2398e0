// The keyboard: j and k walk the rows, x selects, Enter opens (the row's own link has the focus), / searches, n shows what
// was held back, ? helps. Letters only where nobody types, and never with a modifier.
import { help } from "./dialogs.js";
import { releaseAll } from "./live.js";

const TYPING = "input:not([type=checkbox], [type=radio], [type=submit], [type=button]), textarea, select, [contenteditable]";

let here = null; // the row's key: rows are patched, and may come again

export function start() {
  document.addEventListener("keydown", press);
  document.addEventListener("focusin", (event) => {
    const row = event.target.closest?.("[data-row]");
    if (row) mark(row);
  });
  document.addEventListener("carafe:patched", () => mark(find()));
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.key === "Escape") {
    if (document.activeElement?.matches(TYPING)) document.activeElement.blur();
    document.querySelector(".narrow-nav[open]")?.removeAttribute("open");
    return;
  }
  if (event.target.closest?.(TYPING) || document.querySelector("dialog[open]")) return;
  const act = {
    j: () => step(1),
    k: () => step(-1),
    x: toggle,
    n: releaseAll,
    "/": () => document.getElementById("search")?.select() ?? document.getElementById("search")?.focus(),
    "?": help,
    Enter: () => open(event),
  }[event.key];
  if (!act || act() === false) return;
  event.preventDefault();
}

const rows = () => [...document.querySelectorAll("[data-row]")];
const find = () => rows().find((row) => row.dataset.key === here);

function step(by) {
  const all = rows();
  if (!all.length) return false;
  const at = all.findIndex((row) => row.dataset.key === here);
  const row = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1)];
  mark(row);
  (row.querySelector("a[href]") ?? row.querySelector("button, input, summary"))?.focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
  return true;
}

function mark(row) {
  for (const one of document.querySelectorAll(".is-here")) if (one !== row) one.classList.remove("is-here");
  if (!row) return;
  here = row.dataset.key;
  row.classList.add("is-here");
}

function toggle() {
  const box = find()?.querySelector("input[type=checkbox]");
  if (!box) return false;
  box.click();
  return true;
}

function open(event) {
  // A focused link, button or summary does what it does; otherwise the row that is marked opens.
  if (event.target.closest?.("a, button, summary, input")) return false;
  const link = find()?.querySelector("a[href]");
  if (!link) return false;
  link.click();
  return true;
}
