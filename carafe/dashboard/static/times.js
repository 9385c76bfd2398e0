// Keeps "3 min ago" true, by the server's clock whatever this machine's says. Adds the local time to times in UTC: behind those
// that are written out, in the title of all others. Where the local time is UTC, nothing is added.
// Says the same words as carafe/dashboard/view/formatting.py.

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

let ahead = 0; // milliseconds that the server's clock is ahead of ours
const here = new WeakMap(); // by element: the time whose local time stands behind it
const titled = new WeakMap(); // by element: the time whose local time is in its title

export function start() {
  const made = Date.parse(document.documentElement.dataset.now ?? "");
  const came = performance.timeOrigin + (performance.getEntriesByType("navigation")[0]?.responseStart ?? 0);
  if (made) ahead = made - came;
  tick();
  setInterval(() => document.hidden || tick(), 1_000);
  document.addEventListener("carafe:patched", tick);
  const where = document.getElementById("zone");
  if (where && new Date().getTimezoneOffset() !== 0) where.textContent = `; in parentheses: ${zone(new Date())}, the time of this browser`;
  document.addEventListener("pointerover", (event) => addLocal(event.target.closest?.("time[datetime]")));
}

function tick() {
  const now = Date.now() + ahead;
  for (const time of document.querySelectorAll("time[data-time]")) {
    const seconds = (now - Date.parse(time.dateTime)) / 1000;
    const text = time.dataset.time === "ago" ? ago(seconds) : time.dataset.time === "elapsed" ? duration(seconds) : null;
    if (text !== null && time.textContent !== text) time.textContent = text;
  }
  for (const time of document.querySelectorAll("time:is([data-time=full], [data-time=clock])")) addHere(time);
}

function addHere(time) {
  const at = new Date(time.dateTime);
  // A patch may have given it another time.
  if (here.get(time) === time.dateTime || Number.isNaN(at.getTime()) || at.getTimezoneOffset() === 0) return;
  here.set(time, time.dateTime);
  const [date, clock] = at.toLocaleString("sv-SE").split(" ");
  time.dataset.here = `${date === time.dateTime.slice(0, 10) ? "" : `${date} `}${clock} ${zone(at)}`;
  keep(time, "data-here");
}

/** Lets a patch leave this attribute alone. */
function keep(time, attribute) {
  const mine = new Set((time.dataset.mine ?? "").split(" ").filter(Boolean)).add(attribute);
  time.dataset.mine = [...mine].join(" ");
}

const zone = (at) =>
  new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" }).formatToParts(at).find((part) => part.type === "timeZoneName").value;

function ago(seconds) {
  const size = Math.abs(seconds);
  if (size < 1) return "just now";
  const [unit, length] = UNITS.find(([, one]) => size >= one);
  const amount = `${Math.floor(size / length).toLocaleString("en")} ${unit}`;
  return seconds > 0 ? `${amount} ago` : `in ${amount}`;
}

/** Seconds that pass before one's eyes: whole ones, in at most two units. */
function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  const at = UNITS.findIndex(([, one]) => whole >= one);
  const [unit, length] = UNITS[at];
  const [small, smaller] = UNITS[at + 1];
  const rest = Math.floor((whole % length) / smaller);
  return `${Math.floor(whole / length).toLocaleString("en")} ${unit}${rest ? ` ${rest} ${small}` : ""}`;
}

function addLocal(time) {
  if (!time || titled.get(time) === time.dateTime) return;
  const at = new Date(time.dateTime);
  if (Number.isNaN(at.getTime())) return;
  titled.set(time, time.dateTime);
  const utc = `${at.toISOString().slice(0, 19).replace("T", " ")} UTC`;
  const since = time.dataset.time === "elapsed" ? "since " : "";
  time.title = `${since}${utc} · ${at.toLocaleString(undefined, { timeZoneName: "short" })}`;
  keep(time, "title");
}
