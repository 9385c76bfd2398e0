// Says something to those who listen instead of look.
export function announce(text) {
  const place = document.getElementById("announce");
  if (place) place.textContent = text;
}
