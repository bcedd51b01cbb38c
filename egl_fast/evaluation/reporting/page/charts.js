// The page's charts as Vega-Lite specifications without data; `datasets` brings the rows. Colors
// are read from the style sheet each time, so a chart that is redrawn follows it from light to dark.
function chartsOf(looks) {
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const number = (field, more) => ({ field, type: "quantitative", ...more });
  const layer = (name, mark, encoding, more) => ({ data: { name }, mark, encoding, ...more });
  const chart = (more) =>
    ({ width: "container", autosize: { type: "fit-x", contains: "padding" }, ...more });
  const said = { description: { field: "said" }, tooltip: { field: "said" } };

  const labels = looks.map((look) => look.label);
  const colors = () => looks.map((_, place) => css(`--c${place}`));
  const bySeries = (range, domain = labels) =>
    ({ field: "series", type: "nominal", scale: { domain, range }, legend: null });
  const color = () => bySeries(colors());
  const shape = bySeries(looks.map((look) => look.shape));
  const dashes = looks.map((look) => (look.dashed ? [6, 4] : [1, 0]));
  // Filled, with a rim in the page's color.
  const marker = (more) => ({
    type: "point", filled: true, opacity: 1, stroke: css("--page"), strokeWidth: 1, ...more,
  });

  // What all charts share.
  function config() {
    const [soft, line] = [css("--soft"), css("--line")];
    return {
      background: null,
      font: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
      view: { stroke: null },
      axis: {
        labelColor: soft, titleColor: soft, gridColor: line, domainColor: line, tickColor: line,
        labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelPadding: 6,
        titlePadding: 10,
      },
      // The page's own function: 2,000 rather than 2e+3.
      axisQuantitative: { labelExpr: "people(datum.value)" },
    };
  }

  // Fig. 1: a metric against what was labeled. `means` {series, x, y, said}, `seeds` {series, seed,
  // x, y}, `callouts` {series, x, y, label_x, label_y}: the last budget's point and its label's place.
  function curves(xTitle, yTitle) {
    const place = {
      x: number("x", { axis: { title: xTitle, grid: false, tickCount: 10 } }),
      y: number("y", { scale: { zero: false, nice: true }, axis: { title: yTitle, tickCount: 6 } }),
      color: color(),
    };
    const name = {
      type: "text", align: "left", dx: 5, baseline: "middle", fontSize: 12.5, fontWeight: 600,
    };
    const nearest = { type: "point", on: "pointerover", nearest: true, clear: "pointerout" };
    const size = { condition: { param: "hover", empty: false, value: 190 }, value: 75 };
    return chart({
      height: 400,
      layer: [
        layer("seeds", { type: "line", strokeWidth: 1, opacity: 0.28 },
          { ...place, detail: { field: "seed" } }),
        layer("callouts", { type: "rule", strokeWidth: 0.75, opacity: 0.7 },
          { ...place, x2: { field: "label_x" }, y2: { field: "label_y" } }),
        layer("callouts", name, {
          x: number("label_x"), y: number("label_y"), text: { field: "series" }, color: color(),
        }),
        layer("means", { type: "line", strokeWidth: 2.25, strokeJoin: "round" },
          { ...place, strokeDash: bySeries(dashes) }),
        layer("means", marker(), { ...place, shape, size, ...said },
          { params: [{ name: "hover", select: nearest }] }),
      ],
    });
  }

  // How trainings went. `epochs` {series, training, x, y, said}; `other` is the series of no strategy.
  function training(yTitle, other) {
    const place = {
      x: number("x", {
        scale: { zero: false }, axis: { title: "epoch", grid: false, tickMinStep: 1 },
      }),
      y: number("y", { scale: { zero: false, nice: true }, axis: { title: yTitle, tickCount: 6 } }),
      color: bySeries([...colors(), css("--soft")], [...labels, other]),
      detail: { field: "training" },
    };
    return chart({
      height: 320,
      layer: [
        layer("epochs", { type: "line", strokeWidth: 1.5, opacity: 0.75 },
          { ...place, strokeDash: bySeries([...dashes, [1, 0]], [...labels, other]) }),
        layer("epochs", marker({ size: 32 }), { ...place, ...said }),
      ],
    });
  }

  // How much lower than with random selection. `means` {series, query, y, low, high, said}, `seeds`
  // {series, query, y}; `order`: labels of the series, side by side at each budget.
  function reductions(yTitle, order) {
    const axis = { title: yTitle, tickCount: 6, grid: true };
    const place = {
      x: {
        field: "query", type: "ordinal", sort: null,
        scale: { paddingInner: 0.28, paddingOuter: 0.14 },
        axis: { title: "labeled", labelAngle: 0, grid: false, ticks: false },
      },
      xOffset: { field: "series", sort: order },
      y: number("y", { axis }),
      color: color(),
    };
    const zero = { datum: 0, type: "quantitative", axis };
    const tick = {
      type: "tick", orient: "horizontal", opacity: 0.55, thickness: 1.5, width: 7,
    };
    return chart({
      height: 300,
      layer: [
        {
          data: { values: [{}] },
          mark: { type: "rule", strokeWidth: 1.25, color: css("--soft") },
          encoding: { y: zero },
        },
        layer("means", { type: "rule", strokeWidth: 2 },
          { ...place, y: number("low", { axis }), y2: { field: "high" } }),
        layer("seeds", tick, place),
        layer("means", marker({ size: 85 }), { ...place, shape, ...said }),
      ],
    });
  }

  // Fig. 2: rank against rank, with a brush. `points` {x, y, marked, said}; of a large pool, which
  // is `sampled`, also `cells` {x, x2, y, y2, count, said}.
  function ranks(xTitle, yTitle, height, sampled, bounds) {
    const axis = (name, title) =>
      number(name, { scale: { domain: [0, 1], nice: false }, axis: { title, tickCount: 5 } });
    const place = { x: axis("x", xTitle), y: axis("y", yTitle) };
    const mark = { fill: css("--accent"), fillOpacity: 0.12, stroke: css("--accent") };
    const brush = { name: "brush", select: { type: "interval", encodings: ["x", "y"], mark } };
    if (bounds) brush.value = { x: [...bounds.x], y: [...bounds.y] };
    const dot = {
      type: "circle", size: sampled ? 22 : 46, stroke: css("--page"), strokeWidth: 0.5,
    };
    const marked = { test: "datum.marked", value: css("--marked") };
    const points = layer("points", dot, {
      ...place,
      color: { condition: marked, value: css("--dot") },
      opacity: { condition: { param: "brush", value: sampled ? 0.55 : 0.85 }, value: 0.18 },
      ...said,
    }, { params: [brush] });
    const range = [css("--cell-low"), css("--cell-high")];
    const cells = layer("cells", { type: "rect", stroke: null }, {
      ...place, x2: { field: "x2" }, y2: { field: "y2" },
      color: number("count", { scale: { type: "sqrt", range }, legend: null }),
      tooltip: said.tooltip,
    });
    return chart({ height, layer: sampled ? [cells, points] : [points] });
  }

  // Lengths of the picked recordings: middle half, median, 10th to 90th percentile. `rows` {series,
  // p10, p25, p50, p75, p90, said}; the first is the whole pool's.
  function durations(pool, height) {
    const x = (field) =>
      number(field, { scale: { zero: false }, axis: { title: "seconds", tickCount: 8 } });
    const axis = { title: null, grid: false, ticks: false, domain: false, labelLimit: 170 };
    const page = css("--page");
    return chart({
      height,
      data: { name: "rows" },
      encoding: {
        y: { field: "series", type: "nominal", sort: null, axis },
        color: bySeries([css("--soft"), ...colors()], [pool, ...labels]),
      },
      layer: [
        { mark: { type: "rule", strokeWidth: 1.5 }, encoding: { x: x("p10"), x2: { field: "p90" } } },
        {
          mark: { type: "bar", height: 13, cornerRadius: 3, opacity: 0.85 },
          encoding: { x: x("p25"), x2: { field: "p75" }, ...said },
        },
        {
          mark: { type: "tick", height: 13, thickness: 2.5, color: page },
          encoding: { x: x("p50"), color: { value: page } },
        },
      ],
    });
  }

  // How a score is distributed. `rows` {low, high, count, said}; `log`: of its decimal logarithm.
  function histogram(place, log) {
    const axis = { title: null, grid: false, tickCount: 4, labelFlush: false };
    if (log) Object.assign(axis, { tickMinStep: 1, labelExpr: "people(pow(10, datum.value))" });
    return chart({
      height: 120,
      ...layer("rows", { type: "bar", color: css(`--c${place}`), binSpacing: 1 }, {
        x: number("low", { bin: { binned: true }, scale: { zero: false }, axis }),
        x2: { field: "high" },
        y: number("count", { axis: { title: null, tickCount: 3, tickMinStep: 1 } }),
        ...said,
      }),
    });
  }

  // Typicality. `pool` {low, high, share, out, said}: bars, those left out in another color; `trusted`
  // {low, high, share, said}: lines at the same heights; `threshold` {at, said}: where a gate cuts.
  function typicality(left) {
    const x = number("low", {
      scale: { zero: false, nice: false }, axis: { title: "typicality", grid: false, tickCount: 8 },
    });
    const y = number("share", { axis: { title: "% of recordings", tickCount: 4 } });
    const out = { condition: { test: "datum.out", value: css("--marked") }, value: css("--dot") };
    const rule = { type: "rule", strokeWidth: 1.5, strokeDash: [5, 3], color: css("--ink") };
    const name = {
      type: "text", align: left ? "left" : "right", dx: left ? 6 : -6, y: 8, fontSize: 12.5,
      fontWeight: 600, color: css("--ink"),
    };
    return chart({
      height: 190,
      layer: [
        layer("pool", { type: "bar", binSpacing: 1 },
          { x: { ...x, bin: { binned: true } }, x2: { field: "high" }, y, color: out, ...said }),
        layer("trusted", { type: "rule", strokeWidth: 2.5, color: css("--accent") },
          { x, x2: { field: "high" }, y, ...said }),
        layer("threshold", rule, { x: number("at") }),
        layer("threshold", name, { x: number("at"), text: { field: "said" } }),
      ],
    });
  }

  return { config, curves, training, reductions, ranks, durations, histogram, typicality };
}
