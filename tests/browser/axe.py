"""Runs axe, which finds obstacles for people with disabilities on a page.

Its contrast rule takes milliseconds for each text, and pages have hundreds of texts that differ only in their words: the
rows of a list, the head of every page. So elements that look alike, with all their children and parents, are checked only
once for each width of the window, on whatever page. If such an element is wrong, every page that has it is named. All other
rules check all of every page.
"""

from dataclasses import dataclass, field

from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import BrowserContext, Page

# `preload` fetches style sheets and media again, for rules about locked screens and about sound, which no page has.
JUDGED = """async ([known, all]) => {
    const LOOK = ["color", "backgroundColor", "backgroundImage", "opacity", "fontSize", "fontWeight", "textShadow", "filter",
        "mixBlendMode", "visibility", "display", "position", "transform", "clipPath", "overflow"];
    const numbers = new Map();
    const number = (text) => {
        if (!numbers.has(text)) {
            let high = 0xdeadbeef, low = 0x41c6ce57;
            for (let at = 0; at < text.length; at++) {
                high = Math.imul(high ^ text.charCodeAt(at), 2654435761);
                low = Math.imul(low ^ text.charCodeAt(at), 1597334677);
            }
            numbers.set(text, `${high >>> 0}.${low >>> 0}`);
        }
        return numbers.get(text);
    };
    const own = new Map(), whole = new Map(), place = new Map(), again = [];
    const before = new Set(known.split(" ")), seen = new Set(before);
    const look = (element) => {
        if (!element.checkVisibility()) return "hidden";
        const style = getComputedStyle(element);
        const disabled = element.matches(":disabled, [aria-disabled=true]") || element.control?.disabled;
        const text = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
        const more = LOOK.map((property) => style[property]);
        return [element.localName, element.type, element.getAttribute("class"), disabled, text, ...more].join("|");
    };
    for (const element of [document.body, ...document.body.querySelectorAll("*")].reverse()) {
        own.set(element, number(look(element)));
        whole.set(element, number(`${own.get(element)}(${[...element.children].map((child) => whole.get(child))})`));
    }
    const visit = (element, around) => {
        place.set(element, number(`${around} ${whole.get(element)}`));
        if (seen.has(place.get(element))) return again.push(element);
        seen.add(place.get(element));
        const within = number(`${around} ${own.get(element)}`);
        for (const child of element.children) visit(child, within);
    };
    visit(document.body, number(getComputedStyle(document.documentElement).backgroundColor));
    for (const element of again) {
        for (const one of [element, ...element.querySelectorAll("*")]) one.toggleAttribute("data-judged", true);
    }
    axe.configure({ rules: [{ id: "color-contrast", selector: ":not([data-judged])" }] });
    const options = { preload: false, elementRef: true, resultTypes: ["violations", "incomplete"] };
    const { violations, incomplete } = await axe.run(all ? options : { ...options, runOnly: ["color-contrast"] });
    for (const element of document.querySelectorAll("[data-judged]")) element.removeAttribute("data-judged");
    // What is wrong, or could not be judged since something covers it here, is looked at wherever it is met next.
    const open = [...violations, ...incomplete].filter(({ id }) => id === "color-contrast").flatMap(({ nodes }) => nodes);
    for (const { element } of open) {
        for (let one = element; one; one = one.parentElement) seen.delete(place.get(one));
    }
    const faults = violations
        .filter(({ impact }) => ["serious", "critical"].includes(impact))
        .map(({ id, help, nodes }) =>
            `${id}: ${help}: ${nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`);
    return [[...seen].filter((one) => !before.has(one)).join(" "), faults];
}"""


@dataclass
class Axe:
    """What was judged so far, of all pages that it looks at."""

    _judged: dict[int, str] = field(default_factory=dict)

    async def begin(self, context: BrowserContext) -> None:
        """Half a megabyte, which goes to the browser once."""
        await context.add_init_script(AXE_SCRIPT)

    async def faults(self, page: Page, *, all_rules: bool) -> list[str]:
        """What is serious, or worse, by all of its rules or by the one on contrast, at the page's width and in its theme."""
        if await page.evaluate("typeof axe === 'undefined'"):
            await page.evaluate(AXE_SCRIPT)
        width = await page.evaluate("innerWidth")
        judged = self._judged.get(width, "")
        found: list[str]
        new, found = await page.evaluate(JUDGED, [judged, all_rules])
        self._judged[width] = f"{judged} {new}"
        return found
