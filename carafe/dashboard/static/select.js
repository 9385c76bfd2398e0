// Choosing rows: a box for the page, shift-click for a stretch, "all that match", how many are chosen; buttons that need a
// choice wait for one. The form works without this: ticked boxes are sent as they are.

let last = null; // the box that was ticked before, for shift-click

export function start() {
  document.addEventListener("click", (event) => {
    const box = event.target.closest?.('form[data-select] input[name="selected"]');
    if (!box) return;
    const boxes = boxesOf(box.form);
    if (event.shiftKey && last && boxes.includes(last)) {
      const [from, to] = [boxes.indexOf(last), boxes.indexOf(box)].sort((a, b) => a - b);
      for (const one of boxes.slice(from, to + 1)) one.checked = box.checked;
    }
    last = box;
  });
  document.addEventListener("change", (event) => {
    const form = event.target.form;
    if (!form?.matches("[data-select]")) return;
    if (event.target.matches("[data-select-page]")) {
      for (const box of boxesOf(form)) box.checked = event.target.checked;
    }
    if (event.target.name !== "all" && form.elements.all) form.elements.all.checked = false;
    show(form);
  });
  document.addEventListener("carafe:patched", showAll);
  addEventListener("pageshow", showAll);
  showAll();
}

const boxesOf = (form) => [...form.querySelectorAll('input[name="selected"]')];

function showAll() {
  for (const form of document.querySelectorAll("form[data-select]")) show(form);
}

function show(form) {
  const boxes = boxesOf(form);
  const all = Boolean(form.elements.all?.checked);
  const chosen = boxes.filter((box) => box.checked).length;
  for (const box of boxes) box.closest("[data-row]")?.classList.toggle("is-selected", all || box.checked);
  const page = form.querySelector("[data-select-page]");
  if (page) {
    page.checked = chosen > 0 && chosen === boxes.length;
    page.indeterminate = chosen > 0 && chosen < boxes.length;
  }
  const count = form.querySelector("[data-selected-count]");
  const text = all ? "all that match" : chosen ? `${chosen.toLocaleString("en")} selected` : "";
  if (count && count.textContent !== text) count.textContent = text;
  for (const button of form.querySelectorAll('button[name="action"]')) button.disabled = !all && chosen === 0;
}
