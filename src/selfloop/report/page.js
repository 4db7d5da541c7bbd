"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const items = read("charts-data");
  const pictures = read("pictures-data");
  const boxes = [...document.querySelectorAll(".setting-toggle")];
  const roles = new Map([...document.querySelectorAll("[data-role]")].map((box) => [box.dataset.role, box]));
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  const plots = () => Bokeh.documents.flatMap((doc) => doc.roots());

  function show() {
    for (const plot of plots()) {
      for (const renderer of plot.renderers) {
        const [setting, role] = renderer.tags;
        if (role !== undefined) {
          renderer.visible = (boxes[setting]?.checked ?? true) && (roles.get(role)?.checked ?? true);
        }
      }
    }
    for (const card of document.querySelectorAll("[data-setting]")) {
      card.hidden = !boxes[card.dataset.setting].checked;
    }
  }

  // As the scheme says, or as a page is that has the light one.
  function dress(paper = null) {
    const css = getComputedStyle(paper ?? document.documentElement);
    const [ink, soft, edge] = ["--ink", "--soft", "--edge"].map((name) => css.getPropertyValue(name).trim());
    for (const plot of plots()) {
      for (const axis of [...plot.below, ...plot.left]) {
        axis.setv({
          axis_label_text_color: ink, major_label_text_color: soft, axis_line_color: edge,
          major_tick_line_color: edge, minor_tick_line_color: null, axis_label_text_font_style: "normal",
        });
      }
      for (const grid of plot.center) {
        if ("grid_line_color" in grid) grid.grid_line_color = edge;
        if ("label_text_color" in grid) grid.label_text_color = soft;
      }
      for (const renderer of plot.renderers) {
        const [, role, onLight, onDark] = renderer.tags;
        if (role === undefined) continue;
        for (const key of ["line_color", "fill_color"]) {
          if (key in renderer.glyph) renderer.glyph[key] = dark.matches && !paper ? onDark : onLight;
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
  // Paper is narrower than the window, and charts are as wide as that: what is printed are drawings that give way.
  function engrave() {
    const paper = document.body.appendChild(document.createElement("div"));
    paper.className = "paper print";
    dress(paper);
    for (const chart of document.querySelectorAll(".chart")) {
      for (const view of chart.plot.renderer_views.values()) view.set_visuals?.();  // now: printing waits for nobody
      const drawing = chart.plot.export("svg", false).canvas;
      drawing.setAttribute("viewBox", `0 0 ${chart.clientWidth} ${chart.clientHeight}`);
      for (const side of ["width", "height"]) drawing.removeAttribute(side);
      const place = document.createElement("div");
      place.className = "print";
      place.append(drawing);
      chart.after(place);
    }
  }

  function erase() {
    for (const place of document.querySelectorAll(".print")) place.remove();
    dress();
  }

  for (const box of [...boxes, ...roles.values()]) box.addEventListener("change", show);
  dark.addEventListener("change", () => dress());
  window.addEventListener("beforeprint", engrave);
  window.addEventListener("afterprint", erase);
  Promise.all(items.map((item) => Bokeh.embed.embed_item(item))).then((found) => {
    found.forEach((views, i) => {
      [document.getElementById(items[i].target_id).plot] = views.roots;
    });
    dress();
    show();
    document.documentElement.dataset.ready = "true";
  });
})();
