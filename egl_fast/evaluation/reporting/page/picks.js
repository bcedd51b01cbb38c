// Lengths of the picks, distributions of the scores, the listening table.
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

const listenOf = byId("listen-of");

function showListen(place) {
  if (!listenOf) return; // a single list, all of it shown
  listenOf.value = place;
  const body = document.querySelector("#listen .listen tbody");
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
  const first = strategies.find((one) => ["what to label", "EGL"].includes(one.text));
  showListen((first ?? strategies[0]).value);
}
