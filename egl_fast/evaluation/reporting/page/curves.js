// Figure 1, and the comparison with random selection.
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
