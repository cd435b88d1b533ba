"use strict";
(() => {
  const data = JSON.parse(document.getElementById("timeline-data").textContent);
  const report = JSON.parse(document.getElementById("report").textContent);
  const svg = document.getElementById("timeline");
  const tip = document.getElementById("tip");
  const LEFT = 84, RIGHT = 12, TOP = 8, LANE = 50, CURVE = 60, GAP = 8, STRIP = 7, AXIS = 26;
  const CLOCK_NS = 10, LEAST = 20;
  const number = new Intl.NumberFormat("en-US").format;

  // Slices of a unit: absolute first and last cycle from the gaps and lengths in the file.
  const lanes = Object.entries(data.units).map(([name, unit], index) => {
    const count = unit.length.length;
    const begin = new Float64Array(count), end = new Float64Array(count);
    let at = 0;
    for (let i = 0; i < count; i++) {
      begin[i] = at + unit.gap[i];
      at = end[i] = begin[i] + unit.length[i];
    }
    return { name, unit, begin, end, top: TOP + CURVE + GAP + index * (LANE + GAP) };
  });
  const height = TOP + CURVE + GAP + lanes.length * (LANE + GAP) + AXIS;
  const kindOf = ({ unit }, i) =>
    data.opcodes[unit.opcode[i]].kind ?? data.layers[unit.layer[i]].kind;
  let view = [0, data.cycles];

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const plot = () => Math.max(svg.clientWidth - LEFT - RIGHT, 50);
  const xOf = (cycle) => LEFT + (cycle - view[0]) / (view[1] - view[0]) * plot();
  const cycleAt = (x) => view[0] + (x - LEFT) / plot() * (view[1] - view[0]);
  const escape = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

  /** Index of the first element of an ascending list that is above `value`. */
  function above(list, value) {
    let low = 0, high = list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle] > value) high = middle; else low = middle + 1;
    }
    return low;
  }

  /** Slices in view; neighbours of one layer that no gap of a pixel parts become one. */
  function visible(lane) {
    const found = [], pixel = (view[1] - view[0]) / plot();
    for (let i = above(lane.end, view[0]); i < lane.begin.length; i++) {
      const begin = lane.begin[i], end = lane.end[i], layer = lane.unit.layer[i];
      if (begin >= view[1]) break;
      const last = found[found.length - 1], kind = kindOf(lane, i);
      const near = last && begin - last.end < pixel;
      const thin = last && last.end - last.begin < pixel;
      if (near && (last.layer === layer || thin && last.kind === kind)) {
        last.end = end;
      } else if (near && !thin && end - last.end < pixel / 2) {
        continue;  // thinner than half a pixel, beside something that is seen
      } else {
        found.push({ begin, end, layer, kind });
      }
    }
    return found;
  }

  /** Outline of a rectangle from cycle to cycle, as far as it is in view; and its place. */
  function box(begin, end, top, tall, least = 0) {
    const from = Math.max(xOf(begin), LEFT), to = Math.min(xOf(end), LEFT + plot());
    const width = Math.max(to - from, least), shown = width.toFixed(1);
    return { from, width, path: `M${from.toFixed(1)} ${top}h${shown}v${tall}h-${shown}z` };
  }
  const pathOf = (name, lane, parts) =>
    `<path class="slice ${name}" data-unit="${lane.name}" data-count="${parts.length}" ` +
    `d="${parts.join("")}"/>`;
  const rule = (y) => `<line class="rule" x1="${LEFT}" x2="${LEFT + plot()}" y1="${y}" y2="${y}"/>`;
  const note = (x, y, text, more = "") => `<text ${more} x="${x}" y="${y}">${text}</text>`;

  /** Strips under the gaps that can be seen, in the colour of what ended last. */
  function drawWaits(lane) {
    const paths = {}, pixel = (view[1] - view[0]) / plot();
    for (let i = above(lane.begin, view[0]); i < lane.begin.length; i++) {
      const gap = lane.begin[i] - (i ? lane.end[i - 1] : data.start);
      if (lane.begin[i] - gap >= view[1]) break;
      if (lane.unit.cause[i] < 0 || gap < pixel) continue;
      const { path } = box(lane.begin[i] - gap, lane.begin[i], lane.top + LANE - STRIP, STRIP);
      (paths[data.causes[lane.unit.cause[i]]] ??= []).push(path);
    }
    return Object.entries(paths).map(([cause, parts]) =>
      pathOf(`wait c-${cause.replaceAll(" ", "-")}`, lane, parts)).join("");
  }

  function drawLane(lane) {
    const paths = {}, labels = [], middle = lane.top + LANE / 2 + 4;
    for (const slice of visible(lane)) {
      const { from, width, path } = box(slice.begin, slice.end, lane.top, LANE, 0.5);
      (paths[`k-${slice.kind} ${slice.layer % 2 ? "odd" : "even"}`] ??= []).push(path);
      const text = data.layers[slice.layer].name, room = Math.floor((width - 8) / 6.8);
      if (room >= 4) {
        const short = text.length > room ? "…" + text.slice(text.length - room + 1) : text;
        labels.push(note((from + 4).toFixed(1), middle, escape(short), 'class="inside"'));
      }
    }
    return note(8, middle, lane.name) + rule(lane.top + LANE) +
      Object.entries(paths).map(([kind, parts]) => pathOf(kind, lane, parts)).join("") +
      drawWaits(lane) + labels.join("");
  }

  function drawCurve() {
    const base = TOP + CURVE, width = data.window;
    let path = "";
    for (let i = Math.floor(view[0] / width); i < data.useful.length && i * width < view[1]; i++) {
      const from = Math.max(xOf(i * width), LEFT).toFixed(1);
      const to = Math.min(xOf((i + 1) * width), LEFT + plot()).toFixed(1);
      path += path ? "L" : `M${from} ${base}L`;
      path += `${from} ${(base - CURVE * data.useful[i]).toFixed(1)}H${to}`;
    }
    return note(8, TOP + 14, "array use") + note(8, TOP + 32, "0–100 %", 'class="faint"') +
      rule(TOP) + (path ? `<path class="area" d="${path}V${base}z"/>` : "") + rule(base);
  }

  function drawAxis() {
    const rough = (view[1] - view[0]) / Math.max(plot() / 110, 2);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = Math.max([1, 2, 5, 10].find((factor) => factor * power >= rough) * power, 1);
    let out = "";
    for (let tick = Math.ceil(view[0] / step) * step; tick <= view[1]; tick += step) {
      const x = xOf(tick).toFixed(1);
      out += `<line class="rule" x1="${x}" x2="${x}" y1="${TOP}" y2="${height - AXIS + 2}"/>` +
        note(x, height - 9, number(tick), 'class="faint" text-anchor="middle"');
    }
    return out + note(8, height - 9, "cycle", 'class="faint"');
  }

  function draw() {
    svg.setAttribute("viewBox", `0 0 ${svg.clientWidth} ${height}`);
    svg.style.height = `${height}px`;
    svg.innerHTML = drawAxis() + drawCurve() + lanes.map(drawLane).join("");
    const [first, last] = view.map(Math.round), count = last - first;
    document.getElementById("view").textContent = `cycles ${number(first)} – ${number(last)} ` +
      `(${number(count)}, ${number(count * CLOCK_NS / 1000)} µs)`;
    for (const map of document.querySelectorAll("svg.synced")) {
      const [, , , tall] = map.getAttribute("viewBox").split(" ");
      map.setAttribute("viewBox", `${first} 0 ${Math.max(count, 1)} ${tall}`);
    }
    for (const [name, cycle] of [[".from", first], [".to", last]]) {
      for (const end of document.querySelectorAll(name)) end.textContent = `cycle ${number(cycle)}`;
    }
  }

  function show(first, last) {
    const width = clamp(last - first, Math.min(LEAST, data.cycles), data.cycles);
    const begin = clamp((first + last - width) / 2, 0, data.cycles - width);
    view = [begin, begin + width];
    draw();
  }
  function zoom(factor, around = (view[0] + view[1]) / 2) {
    const width = clamp((view[1] - view[0]) * factor, Math.min(LEAST, data.cycles), data.cycles);
    const share = (around - view[0]) / (view[1] - view[0]);
    show(around - share * width, around + (1 - share) * width);
  }
  const move = (share) => {
    const shift = share * (view[1] - view[0]);
    const bounded = clamp(shift, -view[0], data.cycles - view[1]);
    show(view[0] + bounded, view[1] + bounded);
  };
  const whole = () => show(0, data.cycles);

  /** What is at a place of the picture, null for nothing. */
  function describe(x, y) {
    const lane = lanes.find(({ top }) => y >= top && y < top + LANE), cycle = cycleAt(x);
    if (x < LEFT || cycle >= view[1]) return null;
    if (!lane) {
      const share = y < TOP + CURVE ? data.useful[Math.floor(cycle / data.window)] : undefined;
      if (share === undefined) return null;
      return `array use ${(100 * share).toFixed(1)} % (over ${number(data.window)} cycles)`;
    }
    const { unit, begin, end } = lane, i = above(end, cycle);
    if (i >= begin.length) return `${lane.name} does nothing until the end`;
    const name = data.layers[unit.layer[i]].name, cause = data.causes[unit.cause[i]];
    if (begin[i] > cycle) {
      return `${lane.name} does nothing until cycle ${number(begin[i])}` +
        (cause ? `,\nthen ${name}; at last it waits for ${cause}` : "");
    }
    const gap = unit.gap[i] - (i ? 0 : data.start);
    return `${name}\n${data.opcodes[unit.opcode[i]].name}, ` +
      `cycles ${number(begin[i])} – ${number(end[i] - 1)} (${number(unit.length[i])})` +
      (cause ? `\nbefore: ${number(gap)} cycles without work, at last for ${cause}` : "");
  }

  let held = null;
  svg.addEventListener("pointerdown", (event) => {
    held = { x: event.clientX, view: [...view] };
    svg.classList.add("held");
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointerup", () => { held = null; svg.classList.remove("held"); });
  svg.addEventListener("pointermove", (event) => {
    if (held) {
      const shift = (held.x - event.clientX) / plot() * (held.view[1] - held.view[0]);
      const bounded = clamp(shift, -held.view[0], data.cycles - held.view[1]);
      tip.hidden = true;
      show(held.view[0] + bounded, held.view[1] + bounded);
      return;
    }
    const box = svg.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    const text = describe(x, y);
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    tip.style.left = `${clamp(x + 14, 0, Math.max(box.width - tip.offsetWidth - 4, 0))}px`;
    tip.style.top = `${y + 18}px`;
  });
  svg.addEventListener("pointerleave", () => { tip.hidden = true; });
  const cycleOf = (event) => cycleAt(event.clientX - svg.getBoundingClientRect().left);
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.3 : 1 / 1.3, cycleOf(event));
  }, { passive: false });
  svg.addEventListener("dblclick", (event) => zoom(0.4, cycleOf(event)));
  svg.addEventListener("keydown", (event) => {
    const actions = { "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), Home: whole,
      ArrowLeft: () => move(-0.25), ArrowRight: () => move(0.25) };
    if (!actions[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    actions[event.key]();
  });
  for (const [name, action] of [["zoom", zoom], ["move", move]]) {
    for (const button of document.querySelectorAll(`[data-${name}]`)) {
      button.addEventListener("click", () => action(+button.dataset[name]));
    }
  }
  for (const button of document.querySelectorAll("[data-view]")) {
    const part = button.dataset.view === "binary" ? data.binary : [0, data.cycles];
    button.disabled = !part;
    button.addEventListener("click", () => show(...part));
  }

  const select = document.getElementById("layer-view");
  for (const row of report.layers) select.add(new Option(row.name));
  select.addEventListener("change", () => {
    const row = report.layers[select.selectedIndex - 1];
    if (row) show(row.first_cycle - 0.05 * row.cycles, row.last_cycle + 0.05 * row.cycles);
  });

  // #cycles=FIRST-LAST opens the page at a part of the frame.
  function fromAddress() {
    const part = /^#cycles=(\d+)-(\d+)$/.exec(location.hash);
    if (part && +part[1] < +part[2]) show(+part[1], +part[2]); else draw();
  }
  addEventListener("hashchange", fromAddress);
  new ResizeObserver(draw).observe(svg);
  fromAddress();
})();
