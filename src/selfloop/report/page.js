"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const items = read("charts-data");
  const pictures = read("pictures-data");
  const boxes = [...document.querySelectorAll(".setting-toggle")];
  const seeds = document.getElementById("seeds-toggle");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  const plots = () => Bokeh.documents.flatMap((doc) => doc.roots());

  function show() {
    for (const plot of plots()) {
      for (const renderer of plot.renderers) {
        const [setting, role] = renderer.tags;
        if (role !== undefined) {
          renderer.visible = boxes[setting].checked && (role !== "seeds" || seeds.checked);
        }
      }
    }
    for (const card of document.querySelectorAll("[data-setting]")) {
      card.hidden = !boxes[card.dataset.setting].checked;
    }
  }

  function dress() {
    const css = getComputedStyle(document.documentElement);
    const [ink, soft, edge] = ["--ink", "--soft", "--edge"].map((name) => css.getPropertyValue(name).trim());
    const colours = boxes.map((box) => box.parentElement.style.getPropertyValue(dark.matches ? "--dark" : "--light").trim());
    for (const plot of plots()) {
      for (const axis of [...plot.below, ...plot.left]) {
        axis.setv({
          axis_label_text_color: ink, major_label_text_color: soft, axis_line_color: edge,
          major_tick_line_color: edge, minor_tick_line_color: null, axis_label_text_font_style: "normal",
        });
      }
      for (const grid of plot.center) {
        if ("grid_line_color" in grid) grid.grid_line_color = edge;
      }
      for (const renderer of plot.renderers) {
        const [setting, role] = renderer.tags;
        if (role === undefined) continue;
        for (const key of ["line_color", "fill_color"]) {
          if (key in renderer.glyph) renderer.glyph[key] = colours[setting];
        }
      }
    }
  }

  function turn() {
    const slider = document.getElementById("generation");
    const frame = pictures.frames[Number(slider.value)];
    const words = frame.t === 0 ? "no retraining" : `${frame.t} retraining${frame.t === 1 ? "" : "s"}`;
    document.getElementById("generation-label").textContent = `${frame.t}: ${words}`;
    slider.setAttribute("aria-valuetext", words);
    document.querySelectorAll(".sample").forEach((place, i) => {
      const [source, note] = [frame.pictures[i], frame.notes[i]];
      const name = `Samples of ${pictures.labels[i]}, ${words}${source === null ? `: ${note}` : ""}`;
      if (place instanceof HTMLImageElement) {
        if (source === null) place.removeAttribute("src");
        else place.src = source;
        place.alt = name;
      } else {
        place.replaceChildren(...(source ?? []).map(line));
        place.setAttribute("aria-label", name);
      }
      place.nextElementSibling.textContent = note;
    });
  }

  function line(text) {
    const item = document.createElement("li");
    item.appendChild(document.createElement("bdi")).textContent = text;
    return item;
  }

  if (pictures.frames.length) {
    document.getElementById("generation").addEventListener("input", turn);
    turn();
  }
  for (const box of [...boxes, seeds]) box.addEventListener("change", show);
  dark.addEventListener("change", dress);
  Promise.all(items.map((item) => Bokeh.embed.embed_item(item))).then(() => {
    dress();
    show();
    document.documentElement.dataset.ready = "true";
  });
})();
