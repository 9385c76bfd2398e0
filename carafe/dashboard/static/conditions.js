// The lines under the header: what is down, that the queue is paused, that the session has ended.
import { announce } from "./announce.js";

/** What is down, or paused, by name: text, or null once it is over. */
export function conditions(told) {
  const place = document.getElementById("conditions");
  for (const [key, text] of Object.entries(told)) {
    const shown = place.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (!text) {
      if (shown) announce(`${key}: working again`);
      shown?.remove();
    } else if (!shown) {
      const notice = document.createElement("div");
      notice.className = `notice tone-${key === "postgres" ? "critical" : "warning"}`;
      notice.dataset.key = key;
      notice.textContent = text;
      place.append(notice);
    } else if (!shown.textContent.includes(text)) {
      shown.textContent = text;
    }
  }
}

/** Says that the session has ended. What was typed stays: nothing is reloaded by itself. */
export function saySignedOut() {
  const notice = Object.assign(document.createElement("div"), { className: "notice tone-warning" });
  notice.dataset.key = "session";
  const link = Object.assign(document.createElement("a"), { href: location.href, textContent: "Sign in again" });
  notice.append("You are signed out, so this page no longer updates. ", link);
  const place = document.getElementById("conditions");
  if (!place.querySelector('[data-key="session"]')) place.append(notice);
}
