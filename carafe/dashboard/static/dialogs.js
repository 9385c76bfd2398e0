// Questions before an act, and the help, as native dialogs. Without this a question folds open in place, and help is a page.
const root = document.documentElement.dataset.root ?? "";

export function start() {
  document.addEventListener("click", (event) => {
    const menu = document.querySelector(".narrow-nav[open]");
    if (menu && !menu.contains(event.target)) menu.removeAttribute("open");
    const summary = event.target.closest?.("details[data-confirm] > summary");
    if (summary) {
      event.preventDefault();
      ask(summary);
    } else if (event.target.closest?.("#help") && plain(event)) {
      event.preventDefault();
      help();
    } else if (event.target.closest?.("[data-close]")) {
      event.target.closest("dialog")?.close();
    } else if (event.target instanceof HTMLDialogElement && outside(event)) {
      event.target.close();
    }
  });
}

/** Opens the help, or goes to its page if it cannot be fetched. */
export async function help() {
  if (document.querySelector("dialog[open]")) return;
  const answer = await fetch(`${root}/help`).catch(() => null);
  const page = answer?.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
  const content = page?.getElementById("help-content");
  if (!content) {
    location.assign(`${root}/help`);
    return;
  }
  const close = Object.assign(document.createElement("button"), { type: "button", className: "button", textContent: "Close" });
  close.dataset.close = "";
  const buttons = Object.assign(document.createElement("p"), { className: "buttons" });
  buttons.append(close);
  open("Help and keys", [document.adoptNode(content), buttons], "help-dialog", () => {});
}

function ask(summary) {
  const details = summary.parentElement;
  const panel = details.querySelector(":scope > .confirm-panel");
  if (!panel) return;
  // A list may be patched meanwhile: the dialog keeps the panel, and puts it back if its place is still there.
  open(summary.textContent.trim().replace(/…$/, ""), [panel], "", () => {
    if (!details.querySelector(":scope > .confirm-panel")) details.append(panel);
    if (summary.isConnected) summary.focus();
  });
}

function open(title, content, name, closed) {
  const dialog = document.createElement("dialog");
  dialog.className = name;
  const heading = Object.assign(document.createElement("h2"), { id: "dialog-title", textContent: title });
  dialog.setAttribute("aria-labelledby", heading.id);
  dialog.append(heading, ...content);
  dialog.addEventListener("close", () => {
    closed();
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
}

function outside(event) {
  const box = event.target.getBoundingClientRect();
  return event.clientX < box.left || event.clientX > box.right || event.clientY < box.top || event.clientY > box.bottom;
}

const plain = (event) => event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey;
