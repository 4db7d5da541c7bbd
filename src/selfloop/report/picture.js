"use strict";
// Pictures of the cards of this page, as they stand on it: SVG is put together from what is drawn, PNG is drawn from it.
(() => {
  const [MARGIN, GAP, SCALE] = [14, 14, 2];  // pixels, pixels, and those of a PNG per pixel of the page
  const LOOKS = [
    "fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin",
    "vector-effect", "font-family", "font-size", "text-anchor",
  ];
  const seen = (colour) => colour !== "transparent" && !/, 0\)$/.test(colour);
  const spot = (box, origin) => ({ x: box.left - origin.left, y: box.top - origin.top, width: box.width, height: box.height });

  function element(name, attributes = {}, children = []) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);  // strings become text, never markup
    return node;
  }

  // Characters that XML has no way to write, and halves of surrogate pairs.
  const written = (text) => text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "\ufffd").toWellFormed();

  // Each word where it stands, so that lines break as on the page.
  function words(text, origin) {
    const css = getComputedStyle(text.parentElement);
    const range = document.createRange();
    return [...text.data.matchAll(/\S+/g)].flatMap((found) => {
      range.setStart(text, found.index);
      range.setEnd(text, found.index + found[0].length);
      return [...range.getClientRects()].slice(0, 1).map((box) => element("text", {
        x: box.left - origin.left, y: box.top + box.height / 2 - origin.top, "dominant-baseline": "central",
        fill: css.color, "font-family": css.fontFamily, "font-size": css.fontSize, "font-weight": css.fontWeight,
      }, [written(found[0])]));
    });
  }

  function boxes(node, css, origin) {
    const box = node.getBoundingClientRect();
    const right = parseFloat(css.borderRightWidth);
    const found = seen(css.backgroundColor) ? [element("rect", { ...spot(box, origin), fill: css.backgroundColor, "fill-opacity": css.opacity })] : [];
    if (right > 1) found.push(element("rect", { ...spot(box, origin), x: box.right - right - origin.left, width: right, fill: css.borderRightColor }));
    return found;
  }

  function copied(drawing, at) {
    const twin = drawing.cloneNode(true);
    const [from, to] = [drawing, twin].map((each) => [...each.querySelectorAll("*")]);
    from.forEach((each, i) => {
      const css = getComputedStyle(each);
      for (const key of LOOKS) to[i].style.setProperty(key, css.getPropertyValue(key));
    });
    for (const [key, value] of Object.entries(at)) twin.setAttribute(key, value);
    return twin;
  }

  function plotted(chart, at) {
    const drawing = chart.plot.export("svg", false).canvas;
    for (const [key, value] of Object.entries(at)) drawing.setAttribute(key, value);
    return drawing;
  }

  function drawn(node, origin) {
    if (node instanceof Text) return words(node, origin);
    if (!(node instanceof Element) || node.matches("input, .links, .print, [hidden]")) return [];
    const [box, css] = [node.getBoundingClientRect(), getComputedStyle(node)];
    if (!box.width || !box.height) return [];
    const at = spot(box, origin);
    if (node.plot) return [plotted(node, at)];
    if (node instanceof SVGElement) return [copied(node, at)];
    if (node instanceof HTMLImageElement) {
      return node.src ? [element("image", { ...at, href: node.src, style: `image-rendering: ${css.imageRendering}` })] : [];
    }
    const inside = (from) => [...node.childNodes].flatMap((child) => drawn(child, from));
    const clipped = css.overflowX !== "visible";
    return [...boxes(node, css, origin), ...(clipped ? [element("svg", at, inside(box))] : inside(origin))];
  }

  // The settings that a chart shows and what of them, line by line below it; and how high that is.
  function legend(plot, width) {
    const shown = new Set(plot.renderers.filter((renderer) => renderer.visible).flatMap((renderer) => renderer.tags.slice(0, 2)));
    const boxes = [...document.querySelectorAll(".toggles input")].filter((box) => shown.has(box.dataset.role ?? Number(box.value)));
    const found = [];
    let [x, y, line] = [0, 0, 0];
    for (const label of boxes.map((box) => box.parentElement)) {
      const box = label.getBoundingClientRect();
      const { left } = label.querySelector("svg").getBoundingClientRect();  // after its check box
      if (x && x + box.right - left > width) [x, y, line] = [0, y + line, 0];
      found.push(...drawn(label, { left: left - MARGIN - x, top: box.top - y }));
      [x, line] = [x + box.right - left + GAP, Math.max(line, box.height)];
    }
    return [element("g", {}, found), y + line];
  }

  function picture(card) {
    const [box, css] = [card.getBoundingClientRect(), getComputedStyle(card)];
    const chart = card.querySelector(".chart");
    const kept = [...card.querySelectorAll(":not(.links, .links *, :has(.links), .print)")];
    const ends = kept.map((each) => each.getBoundingClientRect().bottom);
    let height = Math.max(...ends) - box.top + MARGIN;
    const parts = [...card.childNodes].flatMap((child) => drawn(child, box));
    if (chart) {
      const [below, more] = legend(chart.plot.model, box.width - 2 * MARGIN);
      below.setAttribute("transform", `translate(0 ${height})`);
      parts.push(below);
      height += more && more + MARGIN;
    }
    const back = element("rect", { width: box.width, height, fill: css.backgroundColor });
    return element("svg", { width: box.width, height, viewBox: `0 0 ${box.width} ${height}` }, [back, ...parts]);
  }

  async function raster(text, width, height) {
    const image = new Image();
    image.src = `data:image/svg+xml,${encodeURIComponent(text)}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [SCALE * width, SCALE * height];
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  function named(card, kind) {
    const at = card.closest("section").querySelector("output");
    const parts = [
      document.querySelector("h1").textContent,
      card.dataset.file ?? card.querySelector("figcaption").firstElementChild?.textContent ?? card.querySelector("figcaption").textContent,
      at ? `generation ${parseInt(at.textContent, 10)}` : "",
    ];
    const plain = parts.map((part) => part.replace(/[^\p{L}\p{N}_.∞]+/gu, "-").slice(0, 40).replace(/^[-.]+|[-.]+$/g, ""));
    return `${plain.filter(Boolean).join("-")}.${kind}`;
  }

  async function save(card, kind) {
    const drawing = picture(card);
    const text = new XMLSerializer().serializeToString(drawing);
    const [width, height] = ["width", "height"].map((key) => Number(drawing.getAttribute(key)));
    const blob = kind === "svg" ? new Blob([text], { type: "image/svg+xml" }) : await raster(text, width, height);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = named(card, kind);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-save]");
    if (button) save(button.closest("figure"), button.dataset.save);
  });
})();
