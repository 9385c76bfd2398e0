// Buttons that copy: <button data-copy="text">.
import { announce } from "./announce.js";

export function start() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    const done = await copied(button.dataset.copy);
    announce(done ? "Copied" : "This browser does not allow copying");
    button.classList.toggle("is-copied", done);
    setTimeout(() => button.classList.remove("is-copied"), 1_500);
  });
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Over plain http from elsewhere there is no clipboard: the old way.
    const area = Object.assign(document.createElement("textarea"), { value: text, className: "unseen", readOnly: true });
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return done;
  }
}
