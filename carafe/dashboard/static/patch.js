// Makes a part of the page like a fresh copy of it, changing only what differs: elements stay the same objects, so focus,
// selection, scroll positions, typed text and open details stay too. Children with a data-key (or an id) are told apart by it.
//
// Lists marked data-hold never move while somebody reads them: rows that are there are updated in place, those that went are
// marked, new ones are kept back and offered ("12 new").

const OWN = new Set(["is-selected", "is-here", "is-gone", "is-new", "is-copied"]); // classes that scripts put on

let reading = () => false;

/** Sets who decides whether a list must not move now: a function of the list. */
export function holdWhile(decides) {
  reading = decides;
}

/** Makes `current` like `fresh`, an element of the same name. */
export function patch(current, fresh) {
  if (current.hasAttribute("data-own")) return;
  attributes(current, fresh);
  if (current.hasAttribute("data-hold")) list(current, fresh);
  else children(current, fresh);
}

/** Shows what was kept back in a list. */
export function release(held) {
  const fresh = held.heldBack;
  held.heldBack = null;
  offer(held, 0, 0);
  if (fresh) {
    const before = keys(held);
    children(held, fresh);
    arrived(held, before);
  }
}

function list(current, fresh) {
  const before = keys(current);
  if (before.size && reading(current)) {
    const now = keys(fresh);
    for (const [key, row] of before) {
      if (now.has(key)) patch(row, now.get(key).cloneNode(true));
      row.classList.toggle("is-gone", !now.has(key));
    }
    const more = [...now.keys()].filter((key) => !before.has(key)).length;
    const gone = [...before.keys()].filter((key) => !now.has(key)).length;
    current.heldBack = more || gone ? fresh : null;
    offer(current, more, gone);
    return;
  }
  current.heldBack = null;
  offer(current, 0, 0);
  children(current, fresh);
  if (before.size) arrived(current, before);
}

function keys(parent) {
  return new Map([...parent.children].filter((one) => one.dataset.key).map((one) => [one.dataset.key, one]));
}

function arrived(current, before) {
  for (const [key, row] of keys(current)) row.classList.toggle("is-new", !before.has(key));
}

function offer(held, more, gone) {
  const place = held.closest(".table-box") ?? held;
  let bar = place.previousElementSibling?.classList.contains("offer") ? place.previousElementSibling : null;
  if (!more && !gone) {
    bar?.remove();
    return;
  }
  if (!bar) {
    bar = document.createElement("div");
    bar.className = "offer";
    bar.setAttribute("role", "status");
    const button = document.createElement("button");
    button.type = "button";
    button.addEventListener("click", () => release(held));
    bar.append(button);
    place.before(bar);
  }
  const words = [more ? `${more} new` : "", gone ? `${gone} gone` : ""].filter(Boolean).join(", ");
  const text = `${words} – show`;
  if (bar.firstChild.textContent !== text) bar.firstChild.textContent = text;
}

function attributes(current, fresh) {
  for (const { name, value } of [...fresh.attributes]) {
    if (kept(current, name)) continue;
    const wanted = name === "class" ? withOwn(current, value) : value;
    if (current.getAttribute(name) !== wanted) current.setAttribute(name, wanted);
  }
  for (const { name } of [...current.attributes]) {
    if (fresh.hasAttribute(name) || kept(current, name)) continue;
    const own = name === "class" ? withOwn(current, "") : "";
    if (own) current.className = own;
    else current.removeAttribute(name);
  }
}

// What the person did, or a script of ours, stays.
function kept(element, name) {
  if (name === "open") return element.localName === "details";
  if (name === "value" || name === "checked") return element.localName === "input" && element.type !== "hidden";
  return name === "data-mine" || element.dataset.mine?.split(" ").includes(name);
}

function withOwn(current, value) {
  const own = [...current.classList].filter((one) => OWN.has(one));
  return [...value.split(/\s+/).filter(Boolean), ...own].join(" ");
}

function children(current, fresh) {
  const left = [...current.childNodes].filter((one) => !one.classList?.contains("offer"));
  const byKey = new Map(left.filter(keyOf).map((one) => [keyOf(one), one]));
  const unkeyed = left.filter((one) => !keyOf(one));
  const wanted = [...fresh.childNodes].map((one) => [one, match(one, byKey, unkeyed)]);
  const used = new Set(wanted.map(([, found]) => found));
  for (const one of left) if (!used.has(one)) one.remove();
  let here = current.firstChild;
  for (const [one, found] of wanted) {
    while (here?.classList?.contains("offer")) here = here.nextSibling;
    if (found && found === here) {
      here = here.nextSibling;
    } else {
      current.insertBefore(found ?? one, here);
    }
    if (!found) continue;
    if (found.nodeType === Node.ELEMENT_NODE) patch(found, one);
    else if (found.data !== one.data) found.data = one.data;
  }
}

function match(one, byKey, unkeyed) {
  const key = keyOf(one);
  if (key) return byKey.get(key);
  // The first of the same kind that is left; what stands before it has no fresh counterpart and goes.
  const at = unkeyed.findIndex((old) => old.nodeName === one.nodeName);
  return at < 0 ? undefined : unkeyed.splice(0, at + 1)[at];
}

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.dataset?.key || node.id || "" : "";
}
