// Rank against rank, with a table of what is selected.
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
    x: ranks[one][at] / 9999, y: ranks[other][at] / 9999, marked: Boolean(u.k),
    said: `${u.id}\n${u.d.toFixed(1)} s${u.k ? `, ${u.k}` : ""}\n${u.t || u.h || ""}`.trim(),
  }));
  const height = Math.max(260, Math.min(440, byId("ranks").clientWidth));
  const spec = charts.ranks(`normalized rank by ${names[0]}`, `normalized rank by ${names[1]}`, height, sampled, bounds);
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
      const { name, value } = event.target;
      if (value !== "") event.target.value = String(read(name, value)); // as far as there are ranks
      bounds = { x: sorted([read("x0", 0), read("x1", 1)]), y: sorted([read("y0", 0), read("y1", 1)]) };
    }
    drawRanks();
  });
  setBounds(bounds);
  redraws.push(drawRanks);
}
