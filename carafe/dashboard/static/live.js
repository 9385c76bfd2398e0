// Keeps the page current. The stream only names what changed; the page then fetches that part from its own address and
// patches it in. Without a stream (too many open, a proxy that cuts it, the server away) the same parts are polled.
// A hidden tab holds no stream. Nothing under the pointer moves: lists hold, and what grew above is scrolled away.
import { conditions, saySignedOut } from "./conditions.js";
import { holdWhile, patch, release } from "./patch.js";

const POLL = 5_000;
const STREAM_AGAIN = 20_000;
const WITHOUT_STREAM = 4_000; // this long without one, and the page polls

const WORDS = {
  on: ["live", "Live: this page updates automatically"],
  polling: ["every 5 s", "No live stream: this page updates every 5 seconds"],
  off: ["not live", "The server does not answer; retrying"],
};

const root = document.documentElement.dataset.root ?? "";
const states = new WeakMap();
let source = null;
let polling = 0;
let again = 0;
let pointer = null;

export function start() {
  document.addEventListener("pointermove", (event) => (pointer = event.pointerType === "touch" ? null : event), { passive: true });
  document.documentElement.addEventListener("pointerleave", () => (pointer = null));
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : go()));
  addEventListener("pagehide", stop);
  addEventListener("pageshow", (event) => event.persisted && go());
  holdWhile(isRead);
  retryWhileAway();
  logs(document).forEach(toEnd);
  if (!document.hidden) go(false);
}

/** Shows everything that lists keep back. */
export function releaseAll() {
  for (const list of document.querySelectorAll("[data-hold]")) if (list.heldBack) release(list);
}

const fragments = () => [...document.querySelectorAll("[data-fragment]")];
const topicsOf = (fragment) => (fragment.dataset.topic ?? "").split(/[\s,]+/).filter(Boolean);

function isRead(list) {
  const box = list.getBoundingClientRect();
  const under = pointer !== null && pointer.clientY >= box.top;
  return under || box.top < 0 || list.contains(document.activeElement) || list.querySelector("input:checked, details[open]") !== null;
}

function go(refetch = true) {
  if (!fragments().length || source) return;
  connect();
  if (refetch) fragments().forEach(fetchSoon);
}

function stop() {
  source?.close();
  source = null;
  clearTimeout(again);
  poll(false);
}

function connect() {
  const topics = [...new Set(fragments().flatMap(topicsOf))].slice(0, 50);
  if (!topics.length) return;
  clearTimeout(again);
  const mine = (source = new EventSource(`${root}/events?topics=${encodeURIComponent(topics.join(","))}`));
  const pollUnlessOpen = () => source === mine && mine.readyState !== EventSource.OPEN && poll(true);
  const late = setTimeout(pollUnlessOpen, WITHOUT_STREAM);
  let before = false;
  mine.addEventListener("open", () => {
    clearTimeout(late);
    poll(false);
    show("on");
    // What happened between two streams was told to nobody.
    if (before) fragments().forEach(fetchSoon);
    before = true;
  });
  mine.addEventListener("changed", (event) => {
    for (const fragment of fragments()) if (topicsOf(fragment).includes(event.data)) fetchSoon(fragment);
  });
  mine.addEventListener("state", (event) => conditions(JSON.parse(event.data)));
  mine.addEventListener("ended", (event) => {
    if (event.data === "signed out") signedOut();
  });
  mine.addEventListener("error", () => {
    if (source !== mine) return;
    if (mine.readyState === EventSource.CLOSED) {
      // Refused (too many streams, signed out), not merely interrupted.
      clearTimeout(late);
      source = null;
      poll(true);
      again = setTimeout(connect, STREAM_AGAIN);
    } else if (!polling) {
      setTimeout(pollUnlessOpen, WITHOUT_STREAM);
    }
  });
}

function poll(on) {
  if (on === Boolean(polling) || (on && document.hidden)) return;
  clearInterval(polling);
  polling = on ? setInterval(() => fragments().forEach(fetchSoon), POLL) : 0;
  if (on) {
    show("polling");
    fragments().forEach(fetchSoon);
  }
}

function fetchSoon(fragment) {
  const state = states.get(fragment) ?? { last: performance.now(), timer: 0, busy: false, dirty: false };
  states.set(fragment, state);
  if (state.busy) state.dirty = true;
  if (state.busy || state.timer) return;
  const wait = state.last + Number(fragment.dataset.every || 1) * 1000 - performance.now();
  state.timer = setTimeout(() => fetchNow(fragment, state), Math.max(0, wait));
}

async function fetchNow(fragment, state) {
  state.timer = 0;
  if (document.hidden || !fragment.isConnected) return;
  state.busy = true;
  state.dirty = false;
  try {
    const answer = await fetch(fragment.dataset.fragment, { headers: { "X-Fragment": "1" } });
    if (answer.status === 401) signedOut();
    else if (answer.ok && !answer.redirected) replace(fragment, await answer.text());
    if (polling) show(answer.ok ? "polling" : "off");
  } catch {
    if (polling) show("off");
  } finally {
    state.busy = false;
    state.last = performance.now();
    if (state.dirty) fetchSoon(fragment);
  }
}

function replace(fragment, text) {
  const page = new DOMParser().parseFromString(text, "text/html");
  const fresh = page.getElementById(fragment.id);
  if (!fresh) return;
  const still = pointer && document.elementFromPoint(pointer.clientX, pointer.clientY)?.closest("a, button, tr, li, section, dl");
  const top = still?.getBoundingClientRect().top;
  const followed = logs(fragment).filter((log) => log.scrollHeight - log.scrollTop - log.clientHeight < 8);
  patch(fragment, document.adoptNode(fresh));
  fragment.dispatchEvent(new CustomEvent("carafe:patched", { bubbles: true }));
  followed.forEach(toEnd);
  const moved = still?.isConnected ? still.getBoundingClientRect().top - top : 0;
  if (Math.abs(moved) >= 1) scrollBy({ top: moved, behavior: "instant" });
}

// Logs stand at their end, and follow what is added while they do.
const logs = (place) => [...place.querySelectorAll('[role="log"]')];
const toEnd = (log) => (log.scrollTop = log.scrollHeight);

// The last 503 page of a page that never came: ask until it comes.
function retryWhileAway() {
  const seconds = Number(document.querySelector("[data-retry]")?.dataset.retry ?? 0);
  if (!seconds) return;
  const timer = setInterval(async () => {
    const answer = await fetch(location.href, { headers: { "X-Fragment": "1" } }).catch(() => null);
    if (!answer || answer.status === 503) return;
    clearInterval(timer);
    // What was posted to is not always a page.
    location.replace(answer.status === 404 || answer.status === 405 ? `${root}/` : location.href);
  }, seconds * 1000);
}

function signedOut() {
  stop();
  show("off");
  saySignedOut();
}

function show(state) {
  const light = document.getElementById("live");
  if (!light) return;
  light.hidden = false;
  light.dataset.live = state;
  light.title = WORDS[state][1];
  document.getElementById("live-text").textContent = WORDS[state][0];
}
