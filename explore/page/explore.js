"use strict";
(() => {
  const data = JSON.parse(document.getElementById("designs-data").textContent);
  const scatter = document.getElementById("scatter"), parallel = document.getElementById("parallel");
  const tip = document.getElementById("design-tip");
  const number = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 6 }).format;
  const text = (value) => value === null || value === undefined ? "–"
    : typeof value === "number" ? number(value) : String(value);
  const escape = (value) => String(value).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const slug = (name) => name.replaceAll(" ", "-");
  const byNumber = new Map(data.designs.map((design) => [design.number, design]));
  const front = data.front.map((name) => byNumber.get(name));
  let picked = null;

  const selects = ["x", "y"].map((axis) => document.getElementById(`axis-${axis}`));
  for (const select of selects) for (const name of data.figures) select.add(new Option(name));
  const wanted = data.objectives.filter((name) => data.figures.includes(name));
  selects[0].value = wanted[0] ?? data.figures[0];
  selects[1].value = wanted[1] ?? data.figures.find((name) => name !== selects[0].value);

  /** Places of values from `low` to `high` pixels. */
  function scale(values, low, high) {
    const least = Math.min(...values), most = Math.max(...values), span = most - least || 1;
    return (value) => low + (value - least + (most === least ? 0.5 : 0)) / span * (high - low);
  }
  function ticks(values) {
    const least = Math.min(...values), most = Math.max(...values);
    if (least === most) return [least];
    const power = 10 ** Math.floor(Math.log10((most - least) / 4));
    const step = [1, 2, 5, 10].find((factor) => factor * power >= (most - least) / 6) * power;
    const found = [];
    for (let at = Math.ceil(least / step) * step; at <= most; at += step) found.push(at);
    return found;
  }
  const state = (design) => `${design.broken.length ? " broken" : ""}` +
    `${design.number === data.chosen ? " chosen" : ""}${design.number === picked ? " picked" : ""}`;

  function drawScatter() {
    const [across, up] = selects.map((select) => select.value);
    const wide = Math.max(scatter.clientWidth, 300), tall = 420;
    const shown = data.designs.filter((d) => d[across] !== null && d[up] !== null);
    document.getElementById("shown").textContent = `${shown.length} designs`;
    scatter.setAttribute("viewBox", `0 0 ${wide} ${tall}`);
    if (!shown.length) { scatter.innerHTML = ""; return; }
    const xs = shown.map((d) => d[across]), ys = shown.map((d) => d[up]);
    const x = scale(xs, 90, wide - 30), y = scale(ys, tall - 50, 24);
    const joined = data.objectives.length > 2 ? [] : front.filter((d) => d[across] !== null && d[up] !== null)
      .sort((a, b) => a[across] - b[across]);
    scatter.innerHTML =
      ticks(xs).map((at) => `<line class="rule" x1="${x(at)}" x2="${x(at)}" y1="16" y2="${tall - 40}"/>` +
        `<text class="faint" text-anchor="middle" x="${x(at)}" y="${tall - 24}">${number(at)}</text>`).join("") +
      ticks(ys).map((at) => `<line class="rule" x1="80" x2="${wide - 20}" y1="${y(at)}" y2="${y(at)}"/>` +
        `<text class="faint" text-anchor="end" x="74" y="${y(at) + 4}">${number(at)}</text>`).join("") +
      `<text text-anchor="middle" x="${wide / 2}" y="${tall - 6}">${across}</text>` +
      `<text x="8" y="14">${up}</text>` +
      (joined.length > 1 ? `<path class="joined" d="M${joined.map((d) => `${x(d[across])} ${y(d[up])}`).join("L")}"/>` : "") +
      shown.map((d) => `<circle class="design b-${slug(d.bound)}${state(d)}" data-number="${d.number}" ` +
        `cx="${x(d[across]).toFixed(1)}" cy="${y(d[up]).toFixed(1)}" r="${front.includes(d) ? 7 : 4}"/>`).join("");
  }

  function drawParallel() {
    const wide = Math.max(parallel.clientWidth, 300), tall = 420, top = 40, low = tall - 30;
    const axes = [...data.varied.map((name) => ({ name, of: (d) => d.parameters[name] })),
      ...data.objectives.map((name) => ({ name, of: (d) => d[name] }))];
    const shown = data.designs.filter((d) => axes.every((axis) => axis.of(d) !== null));
    parallel.setAttribute("viewBox", `0 0 ${wide} ${tall}`);
    if (!shown.length) { parallel.innerHTML = ""; return; }
    axes.forEach((axis, index) => {
      axis.x = 60 + index * (wide - 120) / Math.max(axes.length - 1, 1);
      const values = shown.map(axis.of), numbers = values.every((v) => typeof v === "number");
      const kinds = [...new Set(values.map(String))].sort();
      const place = numbers ? scale(values, low, top) : scale(kinds.map((_, i) => i), low, top);
      axis.y = numbers ? (d) => place(axis.of(d)) : (d) => place(kinds.indexOf(String(axis.of(d))));
      axis.marks = numbers ? [...new Set([Math.min(...values), Math.max(...values)])]
        .map((v) => [place(v), number(v)]) : kinds.map((v, i) => [place(i), v]);
    });
    const thread = (d) => `<path class="thread b-${slug(d.bound)}${front.includes(d) ? " front" : ""}` +
      `${state(d)}" data-number="${d.number}" d="M${axes.map((axis) => `${axis.x.toFixed(1)} ${axis.y(d).toFixed(1)}`).join("L")}"/>`;
    parallel.innerHTML = shown.map(thread).join("") + axes.map((axis) =>
      `<line class="limit" x1="${axis.x}" x2="${axis.x}" y1="${top}" y2="${low}"/>` +
      `<text class="axis" text-anchor="middle" x="${axis.x}" y="16">${escape(axis.name)}</text>` +
      axis.marks.map(([y, mark]) => `<text class="faint" x="${axis.x + 5}" y="${y + 4}">${escape(mark)}</text>`).join("")).join("");
  }

  function draw() {
    drawScatter();
    drawParallel();
    for (const row of document.querySelectorAll("tr[data-number]")) {
      row.classList.toggle("picked", +row.dataset.number === picked);
    }
  }

  const describe = (d) => [`design ${d.number}`,
    ...Object.entries(d.parameters).map(([name, value]) => `${name} = ${text(value)}`), "",
    ...data.figures.map((name) => `${name} ${text(d[name])}`), `bound by the ${d.bound}`,
    ...d.broken].join("\n");
  const under = (event) => byNumber.get(+event.target.closest?.("[data-number]")?.dataset.number);
  for (const picture of [scatter, parallel]) {
    picture.addEventListener("pointermove", (event) => {
      const design = under(event);
      tip.hidden = !design || picture !== scatter;
      if (tip.hidden) return;
      tip.textContent = describe(design);
      const box = scatter.getBoundingClientRect();
      const most = Math.max(box.width - tip.offsetWidth - 4, 0);
      tip.style.left = `${Math.min(event.clientX - box.left + 14, most)}px`;
      tip.style.top = `${event.clientY - box.top + 18}px`;
    });
    picture.addEventListener("pointerleave", () => { tip.hidden = true; });
    picture.addEventListener("click", (event) => {
      const design = under(event);
      picked = design && design.number !== picked ? design.number : null;
      draw();
    });
  }
  for (const select of selects) select.addEventListener("change", drawScatter);
  new ResizeObserver(draw).observe(scatter);
  draw();
})();
