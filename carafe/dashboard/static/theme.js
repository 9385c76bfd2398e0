// The theme's button: as the system has it, light, dark. Kept in this browser; first.js puts it on before the first paint.
const KEY = "carafe-theme";
const THEMES = ["auto", "light", "dark"];

export function start() {
  const button = document.getElementById("theme");
  if (!button) return;
  button.hidden = false;
  show(button, document.documentElement.dataset.theme ?? "auto");
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % THEMES.length];
    if (next === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try {
      if (next === "auto") localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, next);
    } catch {
      // Storage is forbidden: for this page only, then.
    }
    show(button, next);
  });
}

function show(button, theme) {
  button.textContent = { auto: "◐", light: "☀", dark: "☾" }[theme];
  button.setAttribute("aria-label", `Theme: ${theme === "auto" ? "the system's" : theme}. Change it.`);
  button.title = `Theme: ${theme}`;
}
