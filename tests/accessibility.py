"""What a page owes to people who use a keyboard, hear it, or see less of it; looked up in a browser."""

from __future__ import annotations

from selenium import webdriver

CHECK = r"""
const faults = [];
const say = (rule, node) => faults.push(`${rule}: ${node.outerHTML.slice(0, 160)}`);
const all = (selector) => [...document.querySelectorAll(selector)];
const shown = (node) => node.checkVisibility();
const named = (node) => (node.getAttribute("aria-label") ?? node.textContent ?? "").trim() !== "";

if (!document.documentElement.lang) faults.push("no language");
if (!document.title) faults.push("no title");
for (const landmark of ["main", "body > header", "h1"]) {
  if (all(landmark).length !== 1) faults.push(`${all(landmark).length} × ${landmark}`);
}
let level = 0;
for (const heading of all("h1, h2, h3, h4, h5, h6")) {
  const own = Number(heading.tagName[1]);
  if (own > level + 1) say("a level of headings is left out", heading);
  level = own;
}
for (const image of all("img")) if (!image.hasAttribute("alt")) say("no alt", image);
for (const image of all("[role=img]")) if (!image.getAttribute("aria-label")) say("no label", image);
for (const field of all("input, select, textarea")) {
  if (![...(field.labels ?? [])].some(named)) say("no label", field);
}
for (const control of all("button, a[href], summary")) if (!named(control)) say("no name", control);
for (const section of all("section")) {
  if (!document.getElementById(section.getAttribute("aria-labelledby"))) say("no title", section);
}
for (const box of all("[aria-labelledby], label[for], output[for]")) {
  const names = `${box.getAttribute("aria-labelledby") ?? ""} ${box.getAttribute("for") ?? ""}`.trim().split(/\s+/);
  for (const name of names) if (!document.getElementById(name)) say(`there is no #${name}`, box);
}
for (const table of all("table")) if (!table.caption?.textContent.trim()) say("no caption", table);
for (const cell of all("th")) if (!cell.scope) say("no scope", cell);
for (const node of all("[tabindex]")) if (node.tabIndex > 0) say("out of the page's order", node);
for (const node of all("pre, .scroll")) {
  if (node.scrollWidth > node.clientWidth && node.tabIndex < 0) say("cannot be scrolled by keys", node);
}
const ids = all("[id]").map((node) => node.id);
for (const id of new Set(ids)) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push(`two of id ${id}`);

const channels = (colour) => {
  const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number);
  return { rgb: [r, g, b], a };
};
const luminance = (rgb) => {
  const [r, g, b] = rgb.map((x) => x / 255).map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (node) => {
  for (let each = node; each; each = each.parentElement) {
    const found = channels(getComputedStyle(each).backgroundColor);
    if (found.a === 1) return found.rgb;
  }
  return [255, 255, 255];
};
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const node = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || node.closest("script, style, svg") || !shown(node)) continue;
  const css = getComputedStyle(node);
  const [low, high] = [luminance(channels(css.color).rgb), luminance(ground(node))].sort((a, b) => a - b);
  const large = parseFloat(css.fontSize) >= 24 || (parseFloat(css.fontSize) >= 18.66 && Number(css.fontWeight) >= 700);
  const contrast = (high + 0.05) / (low + 0.05);
  if (contrast < (large ? 3 : 4.5)) say(`contrast ${contrast.toFixed(2)}`, node);
}
return faults;
"""


def faults(driver: webdriver.Chrome) -> list[str]:
    """Return what is amiss with a page: names, labels, landmarks, the order of headings, ids, contrast of text."""
    return list(driver.execute_script(CHECK))
