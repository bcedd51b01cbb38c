(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const charts = chartsOf(data.looks);
  const drawn = {}; // what each chart shows: {view, draw}, to redraw it or take it down
  const NARROW = 560; // pixels; below, labels at the lines' ends would cover the lines

  // ---- charts -------------------------------------------------------------------------------

  // A number as people write it, whatever the browser's language; so are those in the tables.
  function people(value) {
    const size = Math.abs(value);
    if (size === 0) return "0";
    if (size >= 1e-4 && size < 1e7) {
      return value.toLocaleString("en-US", { maximumSignificantDigits: 6 }).replace("-", "\u2212");
    }
    const [mantissa, exponent] = value.toExponential(5).split("e");
    const raised = [...exponent.replace("+", "")].map((sign) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[sign] ?? "⁻").join("");
    const digits = String(Number(mantissa)).replace("-", "\u2212");
    return digits === "1" ? `10${raised}` : `${digits}\u00d710${raised}`;
  }

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("role", "tooltip");
  document.body.append(tip);

  function tooltip(_handler, event, item, value) {
    tip.hidden = value === null || value === undefined || value === "";
    if (tip.hidden) return;
    // The nearest point's row is wrapped once more, and Vega-Lite's own text misses it there.
    tip.textContent = (item.datum.datum ?? item.datum).said;
    const box = tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, innerWidth - box.width - 8);
    const above = event.clientY - box.height - 12;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${above > 8 ? above : event.clientY + 16}px`;
  }

  // Drawings of one chart queue up: a slow one must not come after, and over, its successor.
  async function draw(id, spec, datasets, ready) {
    const before = drawn[id];
    let done;
    const mine = { finished: new Promise((resolve) => { done = resolve; }) };
    drawn[id] = mine;
    if (before) {
      await before.finished;
      if (before.result) before.result.finalize();
    }
    if (drawn[id] === mine) {
      const options = {
        mode: "vega-lite", ast: true, actions: false, renderer: "svg", defaultStyle: false,
        tooltip, config: charts.config(), hover: false, logLevel: 1,
        expressionFunctions: { people },
      };
      mine.result = await window.vegaEmbed(byId(id), { ...spec, datasets }, options);
      if (ready) ready(mine.result.view);
    }
    done();
  }

  const redraws = [];
  function redrawAll() { for (const redraw of redraws) redraw(); }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
  let width = innerWidth;
  let pending = 0;
  addEventListener("resize", () => {
    if (innerWidth === width) return; // phones resize when their bars come and go
    width = innerWidth;
    clearTimeout(pending);
    pending = setTimeout(redrawAll, 150);
  });

  const label = (place) => data.looks[place].label;

  // ---- Figure 1, and the comparison with random ----------------------------------------------

  const curveForm = byId("curve-controls");

  function curveState() {
    const form = new FormData(curveForm);
    return {
      metric: Number(form.get("metric")),
      x: form.get("x"),
      all: form.get("range") === "all",
      seeds: form.has("seeds"),
      shown: new Set(form.getAll("series").map(Number)),
    };
  }

  function spread(values, gap, low, high) {
    // Labels in the order of their values, no two closer than the gap, all within the chart.
    const placed = values.map((value, at) => ({ value, at })).sort((a, b) => a.value - b.value);
    let floor = low;
    for (const one of placed) { one.y = Math.max(one.value, floor); floor = one.y + gap; }
    let ceiling = high;
    for (const one of placed.slice().reverse()) {
      one.y = Math.min(one.y, ceiling);
      ceiling = one.y - gap;
    }
    const result = [];
    for (const one of placed) result[one.at] = one.y;
    return result;
  }

  function drawCurves() {
    const state = curveState();
    const points = data.points.filter((p) => state.shown.has(p.s) && (state.all || !p.end));
    const metric = data.metrics[state.metric];
    const amount = (p) => (state.x === "recordings" ? `${+p.recordings.toFixed(1)}% of the recordings`
      : p.hours >= 2 ? `${p.hours.toFixed(2)} h` : `${(p.hours * 60).toFixed(1)} min`);
    const means = points.map((p) => ({
      series: label(p.s), x: p[state.x], y: p.y[state.metric],
      said: `${label(p.s)}, ${amount(p)}\n${p.said[state.metric]}\nseeds: ${
        p.seeds[state.metric].map((y) => y.toFixed(2)).join(", ")}`,
    }));
    const seeds = !state.seeds ? [] : points.flatMap((p) =>
      p.seeds[state.metric].map((y, seed) => ({ series: label(p.s), seed, x: p[state.x], y })));
    const amounts = state.x === "recordings" ? "% of the pool's recordings" : "hours of audio";
    const spec = charts.curves(`labeled, ${amounts}`, metric.title);
    const wide = byId("curves").clientWidth >= NARROW;
    const callouts = wide ? calloutsOf(points, state, means, seeds, spec) : [];
    const drawnLayers = { means, seeds, callouts };
    spec.layer = spec.layer.filter((layer) => drawnLayers[layer.data.name].length);
    draw("curves", spec, drawnLayers);
  }

  function calloutsOf(points, state, means, seeds, spec) {
    // All curves meet where everything is labeled: they are named at their last own point, from
    // above, where falling curves leave room.
    const last = new Map();
    for (const p of points) if (!p.end) last.set(p.s, p);
    const ends = [...last.values()];
    if (ends.length === 0) return [];
    const xs = means.map((m) => m.x);
    const ys = [...means, ...seeds].map((m) => m.y);
    const lowest = Math.min(...ys);
    const highest = Math.max(...ys);
    const right = Math.max(...ends.map((p) => p[state.x]));
    const span = Math.max(...xs) - Math.min(...xs) || 1;
    const labelX = right + span * (state.all ? 0.09 : 0.04);
    const gap = (highest - lowest) * 0.058;
    const values = ends.map((p) => p.y[state.metric]);
    const heights = state.all
      ? raised(values, gap, highest, tallest(points, state, labelX))
      : spread(values, gap, lowest, highest);
    if (!state.all) {
      for (const layer of spec.layer) {
        layer.encoding.x.scale = { domainMax: right + span * 0.28 };
      }
    }
    return ends.map((p, at) => ({
      series: label(p.s), x: p[state.x], y: values[at], label_x: labelX, label_y: heights[at],
    }));
  }

  function tallest(points, state, x) {
    // The highest curve where the labels begin.
    let top = -Infinity;
    for (const place of state.shown) {
      const own = points.filter((p) => p.s === place);
      const right = own.findIndex((p) => p[state.x] >= x);
      if (right < 1) continue;
      const [a, b] = [own[right - 1], own[right]];
      const share = (x - a[state.x]) / (b[state.x] - a[state.x]);
      top = Math.max(top, a.y[state.metric] * (1 - share) + b.y[state.metric] * share);
    }
    return top;
  }

  function raised(values, gap, highest, floor) {
    // One above the other in the order of the curves, all above the highest of them.
    const order = values.map((value, at) => ({ value, at })).sort((a, b) => a.value - b.value);
    const start = Math.min(
      Math.max(order[0].value, floor) + gap * 1.2, highest - gap * (order.length - 1));
    const result = [];
    order.forEach((one, place) => { result[one.at] = start + gap * place; });
    return result;
  }

  function drawReductions() {
    const state = curveState();
    const rows = data.reductions.filter((r) => r.m === state.metric && state.shown.has(r.s));
    const means = rows.map((r) => ({
      series: label(r.s), query: r.q, y: r.y, low: r.low, high: r.high,
      said: `${label(r.s)} at ${r.q}\n${r.y.toFixed(1)}% lower than random\n95% interval ${
        r.low.toFixed(1)} to ${r.high.toFixed(1)}%`,
    }));
    const seeds = state.seeds
      ? rows.flatMap((r) => r.seeds.map((y) => ({ series: label(r.s), query: r.q, y }))) : [];
    const order = [...new Set(data.reductions.map((r) => r.s))]
      .filter((place) => state.shown.has(place)).map(label);
    const title = `${data.metrics[state.metric].label}, % lower than random`;
    draw("reductions", charts.reductions(title, order), { means, seeds });
  }

  function showMetric() {
    const { metric } = curveState();
    for (const one of document.querySelectorAll("[data-metric]")) {
      one.hidden = Number(one.dataset.metric) !== metric;
    }
  }

  if (curveForm) {
    curveForm.addEventListener("submit", (event) => event.preventDefault());
    const update = () => {
      showMetric();
      drawCurves();
      if (data.reductions.length) drawReductions();
    };
    curveForm.addEventListener("change", update);
    redraws.push(drawCurves);
    if (data.reductions.length) redraws.push(drawReductions);
    showMetric();
  }

  // ---- Figure 2 -----------------------------------------------------------------------------

  const rankForm = byId("rank-controls");
  const MOST_ROWS = 60;
  // What is selected, or null. To begin with: what one ranking wants and the other does not.
  let bounds = { x: [0, 0.3], y: [0.8, 1] };

  const minus = (value) => value.toFixed(2).replace("-", "\u2212");

  function pair() {
    return [Number(rankForm.elements.x.value), Number(rankForm.elements.y.value)];
  }

  function cellsOf(one, other) {
    const { strategies, grids, gridSize } = data.ranking;
    const names = [strategies[one].key, strategies[other].key];
    const straight = grids[`${names[0]}/${names[1]}`];
    const counts = straight || grids[`${names[1]}/${names[0]}`];
    if (!counts) return []; // a strategy against itself
    const cells = [];
    for (let row = 0; row < gridSize; row++) {
      for (let column = 0; column < gridSize; column++) {
        const count = counts[row * gridSize + column];
        if (!count) continue;
        const [x, y] = straight ? [row, column] : [column, row];
        cells.push({
          x: x / gridSize, x2: (x + 1) / gridSize, y: y / gridSize, y2: (y + 1) / gridSize, count,
          said: `${count.toLocaleString("en-US")} recording${count === 1 ? "" : "s"}`,
        });
      }
    }
    return cells;
  }

  function drawRanks() {
    const { ranks, utterances, strategies, rho, sampled } = data.ranking;
    const [one, other] = pair();
    const names = [strategies[one].label, strategies[other].label];
    const points = utterances.map((u, at) => ({
      x: ranks[one][at] / 9999, y: ranks[other][at] / 9999, marked: u.k !== "",
      said: `${u.id}\n${u.d.toFixed(1)} s${u.k ? `, ${u.k}` : ""}\n${u.t || u.h || ""}`.trim(),
    }));
    const height = Math.max(260, Math.min(440, byId("ranks").clientWidth));
    const spec = charts.ranks(`rank by ${names[0]}`, `rank by ${names[1]}`, height, sampled, bounds);
    draw("ranks", spec, sampled ? { points, cells: cellsOf(one, other) } : { points }, (view) => {
      view.addSignalListener("brush", (_, value) => {
        const empty = !value || !value.x || !value.y;
        setBounds(empty ? null : { x: snapped(value.x), y: snapped(value.y) });
      });
    });
    const [estimate, low, high] = rho[one][other];
    byId("correlation").textContent = estimate === null
      ? `${names[0]} against ${names[1]}: one of the two gives all recordings the same score.`
      : `${names[0]} against ${names[1]}: rank correlation ${minus(estimate)} (95% interval ${
        minus(low)} to ${minus(high)}).`;
    fillTable();
  }

  const sorted = (range) => [Math.min(...range), Math.max(...range)];

  // No hand hits the very edge, where the most and the least informative recording stand.
  function snapped(range) {
    const [low, high] = sorted(range);
    return [low < 0.02 ? 0 : low, high > 0.98 ? 1 : high];
  }

  function setBounds(next) {
    bounds = next;
    const fields = rankForm.elements;
    for (const axis of ["x", "y"]) {
      fields[`${axis}0`].value = next ? next[axis][0].toFixed(2) : "";
      fields[`${axis}1`].value = next ? next[axis][1].toFixed(2) : "";
    }
    fillTable();
  }

  // A path may be broken behind its slashes and the like, rather than within a name.
  function breakable(text) {
    return text.split(/(?<=[/\\_=@,;])(?=[^/\\_=@,;])/).flatMap((part, at) =>
      (at ? [document.createElement("wbr"), part] : [part]));
  }

  function cell(row, text, className) {
    const made = row.insertCell();
    made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function fillTable() {
    const { ranks, utterances, strategies } = data.ranking;
    const [one, other] = pair();
    const table = byId("brushed");
    const body = table.tBodies[0];
    body.replaceChildren();
    table.hidden = !bounds;
    if (!bounds) {
      byId("brush-status").textContent = "Nothing selected.";
      return;
    }
    table.querySelector(".x-name").textContent = strategies[one].label;
    table.querySelector(".y-name").textContent = strategies[other].label;
    const inside = [];
    for (let at = 0; at < utterances.length; at++) {
      const x = ranks[one][at] / 9999;
      const y = ranks[other][at] / 9999;
      if (x >= bounds.x[0] && x <= bounds.x[1] && y >= bounds.y[0] && y <= bounds.y[1]) {
        inside.push({ at, x, y });
      }
    }
    inside.sort((a, b) => b.x + b.y - a.x - a.y);
    for (const { at, x, y } of inside.slice(0, MOST_ROWS)) {
      const u = utterances[at];
      const row = body.insertRow();
      const name = document.createElement("th");
      name.scope = "row";
      const id = document.createElement("bdi");
      id.append(...breakable(u.id));
      if (u.n) {
        const link = document.createElement("a");
        link.href = `#pick-${u.n}`;
        link.append(id);
        link.addEventListener("click", () => showListen(""));
        name.append(link);
      } else {
        name.append(id);
      }
      row.append(name);
      cell(row, x.toFixed(2), "num");
      cell(row, y.toFixed(2), "num");
      cell(row, u.d.toFixed(1), "num");
      const words = cell(row, u.t || (u.k ? `(${u.k})` : "(unknown)"));
      words.dir = "auto";
      const heard = document.createElement("span");
      heard.className = "below note";
      heard.dir = "auto";
      heard.textContent = u.h || "(empty)";
      words.append(document.createElement("br"), heard);
    }
    const found = `${inside.length.toLocaleString("en-US")} ${
      data.ranking.sampled ? "sampled " : ""}recording${inside.length === 1 ? "" : "s"} selected`;
    byId("brush-status").textContent = inside.length > MOST_ROWS
      ? `${found}. The ${MOST_ROWS} most informative:` : `${found}.`;
  }

  if (rankForm) {
    const { strategies } = data.ranking;
    const at = (key) => strategies.findIndex((s) => s.key === key);
    const first = Math.max(0, at("entropy"));
    const second = at("egl") >= 0 ? at("egl") : Math.min(1, strategies.length - 1);
    rankForm.elements.x.value = String(first);
    rankForm.elements.y.value = String(second);
    rankForm.addEventListener("submit", (event) => event.preventDefault());
    rankForm.addEventListener("reset", (event) => {
      event.preventDefault();
      setBounds(null);
      drawRanks();
    });
    rankForm.addEventListener("change", (event) => {
      if (event.target.type === "number") {
        const read = (name, otherwise) => {
          const text = rankForm.elements[name].value;
          const value = Number(text);
          return text === "" || !Number.isFinite(value) ? otherwise : Math.max(0, Math.min(1, value));
        };
        bounds = { x: sorted([read("x0", 0), read("x1", 1)]), y: sorted([read("y0", 0), read("y1", 1)]) };
      }
      drawRanks();
    });
    setBounds(bounds);
    redraws.push(drawRanks);
  }

  // ---- durations, histograms ------------------------------------------------------------------

  if (data.durations) {
    redraws.push(() => {
      const rows = data.durations;
      draw("durations", charts.durations(rows[0].series, 30 * rows.length), { rows });
    });
  }
  (data.histograms || []).forEach((one, at) => {
    const element = document.querySelector(`[data-histogram="${at}"]`);
    element.id = `histogram-${at}`;
    redraws.push(() => draw(element.id, charts.histogram(one.place, one.log), { rows: one.rows }));
  });

  // ---- listening ----------------------------------------------------------------------------

  const listenOf = byId("listen-of");

  function showListen(place) {
    listenOf.value = place;
    const body = document.querySelector(".listen tbody");
    const rows = [...body.rows].filter((row) => row.dataset.top);
    let shown = 0;
    const ranked = rows.map((row) => {
      const top = JSON.parse(row.dataset.top);
      const rank = place === "" ? Number(row.id.slice(5)) : top[place];
      row.hidden = rank === undefined;
      if (!row.hidden) { row.cells[0].textContent = String(rank); shown += 1; }
      return { row, rank: rank ?? Infinity };
    });
    ranked.sort((a, b) => a.rank - b.rank);
    body.append(...ranked.map((one) => one.row));
    byId("listen-status").textContent = `${shown} recording${shown === 1 ? "" : "s"}`;
  }

  if (listenOf) {
    byId("listen-controls").addEventListener("submit", (event) => event.preventDefault());
    listenOf.addEventListener("change", () => showListen(listenOf.value));
    const strategies = [...listenOf.options].slice(1); // behind "every strategy"
    showListen((strategies.find((one) => one.text === "EGL") ?? strategies[0]).value);
    // One player at a time.
    document.addEventListener("play", (event) => {
      for (const player of document.querySelectorAll("audio")) {
        if (player !== event.target) player.pause();
      }
    }, true);
  }

  redrawAll();
  window.reportCharts = drawn;
})();
