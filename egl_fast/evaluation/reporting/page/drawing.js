// What every figure of the page needs: its data, numbers for people, tooltips, drawing.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const charts = chartsOf(data.looks);
const drawn = {}; // what each chart shows: {view, draw}, to redraw it or take it down
const NARROW = 560; // pixels; below, labels at the lines' ends would cover the lines

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
  if (byId(id).clientWidth === 0) return; // hidden where there is no room; its table is not
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
    // Lines at zero and the like say nothing; Vega still has a screen reader announce them.
    for (const mark of byId(id).querySelectorAll("[role=graphics-symbol]:not([aria-label])")) {
      mark.setAttribute("aria-hidden", "true");
    }
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
