// What to label: the start of a list that a budget of recordings, audio, or money allows.
const budgetForm = byId("budget");
const AT_ONCE = 50; // rows; more at a press

// A number as options take it: no exponent, no trailing zeros.
const decimal = (value) => value.toFixed(9).replace(/0+$/, "").replace(/\.$/, "");

function made(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

// The start of the list as a file: pieces of the first recordings, and what ends a file.
async function saved({ saves, rows }, count, at) {
  const bytes = Uint8Array.from(atob(saves[at].packed), (one) => one.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const pieces = await new Response(stream).json();
  save([...pieces.slice(0, count), ...pieces.slice(rows.length)].join(""), saves[at].file);
}

function save(text, name) {
  const link = made("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// A value and its standard error on a line from zero.
function errorBar([value, stderr], most) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const draw = (tag, attributes) => {
    const part = document.createElementNS(svg.namespaceURI, tag);
    for (const [name, of] of Object.entries(attributes)) part.setAttribute(name, String(of));
    svg.append(part);
  };
  const at = (x) => Math.max(0, (100 * x) / most);
  svg.setAttribute("viewBox", "-3 0 106 10");
  svg.setAttribute("class", "error-bar");
  svg.setAttribute("aria-hidden", "true");
  draw("line", { x1: 0, x2: 100, y1: 5, y2: 5, class: "axis" });
  draw("line", { x1: at(value - stderr), x2: at(value + stderr), y1: 5, y2: 5 });
  draw("circle", { cx: at(value), cy: 5, r: 3 });
  return svg;
}

function marked(pieces) {
  if (pieces.length === 0) return [made("span", "(empty)", "nothing")];
  return pieces.map(([kind, text]) => made({ "+": "ins", "-": "del" }[kind] ?? "span", text));
}

function readingsOf(readings) {
  const details = made("details");
  details.append(made("summary", `${readings.length} most probable readings, and where they differ from the first`));
  const table = made("table");
  const head = table.createTHead().insertRow();
  for (const name of ["reading", "probability"]) {
    const cell = made("th", name);
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  for (const [probability, pieces] of readings) {
    const row = body.insertRow();
    const text = row.insertCell();
    text.dir = "auto";
    text.append(...marked(pieces));
    row.insertCell().textContent = probability;
  }
  details.append(table);
  return details;
}

function pickRow(picks, at, most) {
  const row = picks.rows[at];
  const tr = made("tr");
  const role = (cell, name) => { cell.setAttribute("role", name); tr.append(cell); return cell; };
  tr.setAttribute("role", "row");
  const rank = role(made("th", (at + 1).toLocaleString("en-US"), "rank"), "rowheader");
  rank.scope = "row";

  const about = role(made("td", undefined, "sound"), "cell");
  const id = made("bdi");
  id.append(...breakable(row.id));
  const name = made("p", undefined, "id");
  if (row.number) {
    const link = made("a");
    link.href = `#pick-${row.number}`;
    link.addEventListener("click", () => showListen(""));
    link.append(id);
    name.append(link);
    if (document.querySelector(`#pick-${row.number} audio`)) {
      const play = made("button", "Play", "play");
      play.type = "button";
      play.dataset.plays = row.number;
      play.setAttribute("aria-label", `Play rank ${at + 1}`);
      about.append(play);
    }
  } else {
    name.append(id);
  }
  const tags = made("ul", undefined, "tags");
  tags.append(made("li", `${row.seconds.toFixed(1)}\u00a0s`));
  if (row.outlier) tags.append(made("li", "outlier", "flag"));
  if (row.copies) {
    const copies = made("li", "copies left out: ", "flag");
    copies.append(made("bdi", row.copies.join(", ")));
    tags.append(copies);
  }
  about.append(name, tags);

  const heard = role(made("td"), "cell");
  const why = made("ul", undefined, "why");
  why.append(...row.why.map((phrase) => made("li", picks.phrases[phrase])));
  const said = made("p", undefined, "heard");
  said.dir = "auto";
  said.textContent = row.heard;
  if (row.heard === "") said.append(made("span", "(empty)", "nothing"));
  heard.append(said, why);
  if (row.readings && row.readings.length > 1) heard.append(readingsOf(row.readings));

  const score = role(made("td", undefined, "scored"), "cell");
  const number = (value, digits) => people(Number(value.toPrecision(digits)));
  // With its error bar, a score is said once.
  if (row.score !== undefined && !(row.bar && picks.barLabel === picks.label)) {
    score.append(made("div", `${picks.label} ${number(row.score, 3)}`));
  }
  if (row.bar) {
    const [value, stderr] = row.bar;
    score.append(
      made("div", `${picks.barLabel} ${number(value, 3)}\u00a0\u00b1\u00a0${number(stderr, 2)}`),
      errorBar(row.bar, most));
  }
  return tr;
}

if (budgetForm) {
  const { picks } = data;
  const { rows } = picks;
  const slider = byId("budget-slider");
  const fields = {
    count: byId("budget-count"), audio: byId("budget-audio"), money: byId("budget-money"),
  };
  const body = byId("budget-list").tBodies[0];
  const more = byId("budget-more");
  const mostBar = Math.max(...rows.map((row) => (row.bar ? row.bar[0] + row.bar[1] : 0)));
  const sums = (of) => { let sum = 0; return [0, ...rows.map((row) => (sum += of(row)))]; };
  const seconds = sums((row) => row.seconds);
  const words = sums((row) => row.words);
  const total = rows.length;
  const unit = seconds[total] >= 7200 ? { size: 3600, name: "Hours", sign: "h", digits: 2 }
    : { size: 60, name: "Minutes", sign: "m", digits: 1 };
  const short = { h: "h", m: "min" }[unit.sign];
  let shown = AT_ONCE;
  let count = Math.max(1, Math.min(picks.start, total));
  let by = "count"; // the field that says how much

  const price = (name) => Number(budgetForm.elements[name].value);
  const prices = () => [price("each"), price("second"), price("word")];
  const money = (n, [each, second, word] = prices()) =>
    each * n + second * seconds[n] + word * words[n];

  // The longest start of the list that a budget pays for; a rounded sum is not above its limit.
  function within(limit, spent) {
    let [low, high] = [0, total];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (spent(middle) <= limit * (1 + 1e-12)) low = middle; else high = middle - 1;
    }
    return low;
  }

  // What is wrong with a number that was typed, or "".
  function problem() {
    const all = [...budgetForm.querySelectorAll("input[type=number]")];
    // The other two amounts follow from the one that was typed.
    const typed = all.filter((one) => one === fields[by] || one.closest(".prices"));
    const wrong = typed.find((one) => !one.validity.valid);
    for (const one of all) one.setAttribute("aria-invalid", String(one === wrong));
    if (!wrong) return "";
    const name = wrong.labels[0].textContent.trim();
    return `${name[0].toUpperCase()}${name.slice(1)}: ${wrong.validity.rangeOverflow
      ? `there are only ${people(total)} on this page` : wrong === fields.count
        ? "give a whole number above zero" : "give a number that is not below zero"}.`;
  }

  function afforded() {
    if (problem()) return 0;
    const amount = Number(fields[by].value);
    if (!(amount > 0)) return 0;
    if (by === "count") return Math.min(total, Math.floor(amount));
    if (by === "audio") return within(amount * unit.size, (n) => seconds[n]);
    const own = prices();
    return within(amount, (n) => money(n, own));
  }

  function said(isPriced) {
    const of = (part, all) => `${part.toLocaleString("en-US")} of ${all.toLocaleString("en-US")}`;
    const fixed = (value, digits) => Number(value.toFixed(digits));
    if (count === 0) {
      if (problem()) return problem();
      return Number(fields[by].value) > 0
        ? `The first recording alone takes ${by === "money" ? people(fixed(money(1), 4))
          : `${seconds[1].toFixed(1)} s`}: give a larger budget.`
        : "Give a budget above zero.";
    }
    const [own, all] = [seconds[count], seconds[total]]
      .map((sum) => fixed(sum / unit.size, unit.digits));
    const left = by !== "count" && count === total && Number(fields[by].value)
      > (by === "money" ? money(total) : seconds[total] / unit.size) * (1 + 1e-6);
    const parts = [`${of(count, total)} recordings`, `${of(own, all)} ${short} of audio`];
    if (isPriced) parts.push(`cost ${of(fixed(money(count), 2), fixed(money(total), 2))}`);
    return `${parts.join(", ")}.${left ? " Part of the budget is left over." : ""}`;
  }

  function budgetOption() {
    if (by === "audio") return `--budget ${decimal(Number(fields.audio.value))}${unit.sign}`;
    if (by === "count") return `--budget ${count}`;
    const terms = prices().map((of, at) => (of ? decimal(of) + ["", "*seconds", "*words"][at] : ""));
    const cost = terms.filter(Boolean).join(" + ");
    return `--budget ${decimal(Number(fields.money.value))} --cost "${cost}"`;
  }

  function show() {
    const isPriced = prices().some((one) => one > 0);
    fields.money.disabled = !isPriced;
    if (by === "money" && !isPriced) by = "count";
    const own = { count, audio: +(seconds[count] / unit.size).toFixed(unit.digits + 1),
      money: isPriced ? +money(count).toFixed(2) : "" };
    for (const name of Object.keys(fields)) if (name !== by) fields[name].value = own[name];
    slider.value = String(Math.max(1, count));
    const text = said(isPriced);
    slider.setAttribute("aria-valuetext", text);
    byId("budget-status").textContent = text;
    const command = byId("budget-command");
    if (command) {
      const said = count ? `${picks.command} ${budgetOption()} --out picks.jsonl` : "\u2013";
      command.replaceChildren(...said.split(/(?= )/).flatMap((word) => word.startsWith(" ")
        ? [" ", made("span", word.slice(1), "word")] : [made("span", word, "word")]));
    }
    for (const button of document.querySelectorAll("[data-save]")) button.disabled = count === 0;
    const visible = Math.min(count, shown);
    while (body.rows.length > visible) body.rows[body.rows.length - 1].remove();
    while (body.rows.length < visible) body.append(pickRow(picks, body.rows.length, mostBar));
    more.hidden = visible === count;
    more.textContent = `Show ${Math.min(AT_ONCE, count - visible)} more`;
  }

  const update = () => { count = afforded(); show(); };
  budgetForm.addEventListener("submit", (event) => event.preventDefault());
  slider.addEventListener("input", () => {
    by = "count";
    count = Number(slider.value);
    fields.count.value = count;
    show();
  });
  for (const [name, field] of Object.entries(fields)) {
    field.addEventListener("input", () => { by = name; update(); });
  }
  for (const name of ["each", "second", "word"]) {
    budgetForm.elements[name].addEventListener("input", () => {
      if (prices().every((one) => !one)) by = by === "money" ? "count" : by;
      update();
    });
  }
  more.addEventListener("click", () => {
    const next = body.rows.length;
    shown += AT_ONCE;
    show();
    const first = body.rows[next].querySelector("a, button, summary");
    if (first) first.focus();
  });
  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", () => saved(picks, count, Number(button.dataset.save)));
  }
  body.addEventListener("click", (event) => {
    const number = event.target.dataset.plays;
    if (!number) return;
    const player = document.querySelector(`#pick-${number} audio`);
    if (player.paused) { player.currentTime = 0; player.play(); } else player.pause();
  });
  for (const kind of ["play", "pause", "ended"]) {
    document.addEventListener(kind, (event) => {
      const row = event.target.closest("[id^=pick-]");
      const button = row && body.querySelector(`[data-plays="${row.id.slice(5)}"]`);
      if (button) button.textContent = event.target.paused ? "Play" : "Stop";
    }, true);
  }
  byId("budget-unit").textContent = unit.name;
  slider.max = String(total);
  fields.count.value = count;
  show();
}
