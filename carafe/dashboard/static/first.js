// Before the first paint, so that nothing flashes: the theme that was chosen, and that scripts run. Everything else is a module.
"use strict";
try {
  const theme = localStorage.getItem("carafe-theme");
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is forbidden: the system's theme it is.
}
document.documentElement.classList.add("scripted");
