"use strict";
(() => {
  const data = JSON.parse(document.getElementById("columns-data").textContent);
  if (!data.settings) return;
  const find = (id) => document.getElementById(id);
  const [slider, choice] = [find("columns-generation"), find("columns-setting")];
  const percent = (share) => `${(share / 100).toFixed(1)} %`;

  function element(name, attributes = {}, children = []) {
    const node = ["svg", "rect", "path", "text", "title", "line"].includes(name)
      ? document.createElementNS("http://www.w3.org/2000/svg", name)
      : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);  // strings become text, never markup
    return node;
  }

  function card(title, hint, body, label) {
    const caption = element("figcaption", {}, [element("span", {}, [title]), element("span", { class: "hint" }, [hint])]);
    const drawn = element("div", { role: "img", "aria-label": label }, body);
    const button = (kind) => element("button", { type: "button", "data-save": kind, "aria-label": `${label} as ${kind.toUpperCase()}` }, [kind.toUpperCase()]);
    const save = element("p", { class: "links save" }, ["Picture: ", button("png"), " ", button("svg")]);
    return element("figure", { class: "card" }, [caption, drawn, save]);
  }

  function upright(column, shares) {
    const top = Math.max(1, 1.2 * Math.max(...column.real), ...(shares ?? []));
    const width = 100 / column.labels.length;
    const y = (share) => 60 - 60 * share / top;
    const bars = column.labels.map((label, i) => {
      const now = shares ? shares[i] : 0;
      const words = `${label}: real ${percent(column.real[i])}${shares ? `, generated ${percent(now)}` : ""}`;
      const hover = element("rect", { class: "hover", x: i * width, y: 0, width, height: 60 }, [element("title", {}, [words])]);
      return [element("rect", { class: "now", x: i * width, y: y(now), width: width * 0.92, height: 60 - y(now) }), hover];
    });
    const steps = column.real.map((share, i) => `H${i * width}V${y(share)}H${(i + 1) * width}`).join("");
    const line = element("path", { class: "real", d: `M0 60${steps}V60` });
    const ends = [column.labels[0], column.labels[column.labels.length - 1]].map((label) => element("span", {}, [label]));
    return [
      element("svg", { viewBox: "0 0 100 60", preserveAspectRatio: "none" }, [...bars.map((bar) => bar[0]), line, ...bars.map((bar) => bar[1])]),
      element("p", { class: "hint ends" }, ends),
    ];
  }

  function level(column, shares) {
    const top = Math.max(1, ...column.real, ...(shares ?? []));
    return column.labels.map((label, i) => {
      const at = (share) => `${100 * share / top}%`;
      const bars = [element("span", { class: "real", style: `width: ${at(column.real[i])}` })];
      if (shares) bars.unshift(element("span", { class: "now", style: `width: ${at(shares[i])}` }));
      const words = `${label}: real ${percent(column.real[i])}${shares ? `, generated ${percent(shares[i])}` : ""}`;
      return element("div", { class: "level", title: words }, [
        element("span", { class: "name" }, [label]),
        element("span", { class: "track" }, bars),
        element("span", { class: "share" }, [shares ? percent(shares[i]) : "–"]),
      ]);
    });
  }

  function shapes(setting, frame) {
    find("columns-shapes").replaceChildren(...setting.columns.map((column, i) => {
      const shares = frame ? frame.shares[i] : null;
      const body = column.kind === "number" ? upright(column, shares) : level(column, shares);
      const error = frame ? `distance ${frame.errors[i].toFixed(3)}` : setting.ended;
      return card(column.name, error, body, `${column.name}, real and generated rows: ${error}`);
    }));
  }

  function heat(title, names, value, strength) {
    const k = names.length;
    const cells = names.flatMap((row, i) => names.map((column, j) => {
      const v = i === j ? null : value(i, j);
      const words = v === null ? row : `${row}, ${column}: ${(v / 100).toFixed(2)}`;
      const style = v === null ? "fill: var(--edge)" : `fill: ${v < 0 ? "var(--minus)" : "var(--plus)"}; fill-opacity: ${Math.min(1, strength * Math.abs(v) / 100)}`;
      return element("rect", { x: j, y: i, width: 0.94, height: 0.94, style }, [element("title", {}, [words])]);
    }));
    const lines = names.map((name) => element("span", { title: name }, [name]));
    const grid = element("div", { class: "heat" }, [
      element("div", { class: "names" }, lines),
      element("svg", { viewBox: `0 0 ${k} ${k}`, preserveAspectRatio: "none" }, cells),
    ]);
    return card(title, "", [grid], `Associations of ${k} columns: ${title}`);
  }

  function associations(setting, frame) {
    const { names, real } = setting.pairs;
    const place = new Map();
    for (let i = 0, at = 0; i < names.length; i += 1) for (let j = i + 1; j < names.length; j += 1) place.set(`${i},${j}`, at++);
    const of = (values) => (i, j) => values[place.get(`${Math.min(i, j)},${Math.max(i, j)}`)];
    const maps = [heat("Real", names, of(real), 1)];
    if (frame) {
      maps.push(heat("Generated", names, of(frame.pairs), 1));
      maps.push(heat("Generated − real", names, of(frame.pairs.map((v, i) => v - real[i])), 2));
    }
    find("columns-pairs").replaceChildren(...(names.length > 1 ? maps : []));
  }

  function survival(setting, frame, at) {
    const box = find("columns-levels");
    if (!box) return;
    const last = Math.max(1, data.generations[data.generations.length - 1]);
    const x = (t) => 100 * t / last;
    const charts = setting.bands.map((band, b) => {
      const points = setting.frames.map((f, i) => f && [x(data.generations[i]), 60 - 58 * f.left[b] / band.levels]).filter(Boolean);
      const path = element("path", { class: "left", d: points.map((p, i) => `${i ? "L" : "M"}${p[0]} ${p[1]}h0`).join("") });
      const here = element("line", { class: "here", x1: x(data.generations[at]), x2: x(data.generations[at]), y1: 0, y2: 60 });
      const count = `${frame ? frame.left[b] : "–"} of ${band.levels} left`;
      const axis = element("p", { class: "hint ends" }, [element("span", {}, ["0"]), element("span", {}, [`generation ${last}`])]);
      return card(`Levels ${band.label}`, count, [element("svg", { viewBox: "0 0 100 60", preserveAspectRatio: "none" }, [here, path]), axis], `Levels ${band.label}: ${count}`);
    });
    box.replaceChildren(...charts);
    const more = frame && frame.gone > frame.lost.length ? `, and ${frame.gone - frame.lost.length} more` : "";
    find("columns-lost").textContent = !frame || !setting.bands.length ? "" : frame.gone ? `Not there: ${frame.lost.join(", ")}${more}.` : "All levels of the real rows are there.";
  }

  function turn() {
    const setting = data.settings[Number(choice.value)];
    const at = Number(slider.value);
    const [t, frame] = [data.generations[at], setting.frames[at]];
    const words = t === 0 ? "no retraining" : `${t} retraining${t === 1 ? "" : "s"}`;
    find("columns-label").textContent = `${t}: ${words}${frame ? "" : `, ${setting.ended}`}`;
    slider.setAttribute("aria-valuetext", words);
    const swatch = document.querySelectorAll(".setting-toggle")[setting.index].parentElement.style;
    for (const key of ["--light", "--dark"]) find("columns").style.setProperty(key, swatch.getPropertyValue(key));
    shapes(setting, frame);
    associations(setting, frame);
    survival(setting, frame, at);
  }

  slider.addEventListener("input", turn);
  choice.addEventListener("change", turn);
  turn();
})();
