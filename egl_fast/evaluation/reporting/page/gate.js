// What the gate leaves out: how typical it is, and each group to hear at one press.
if (data.typicality) {
  const { rows, threshold, said } = data.typicality;
  const middle = (Math.min(...rows.map((row) => row.low)) + Math.max(...rows.map((row) => row.high))) / 2;
  const layers = {
    pool: rows.filter((row) => row.of === "pool"),
    trusted: rows.filter((row) => row.of === "trusted"),
    threshold: threshold === null ? [] : [{ at: threshold, said }],
  };
  redraws.push(() => {
    const spec = charts.typicality(threshold < middle);
    spec.layer = spec.layer.filter((layer) => layers[layer.data.name].length);
    draw("typicality", spec, layers);
  });
}

for (const button of document.querySelectorAll(".play-all")) {
  const players = [...button.closest(".group").querySelectorAll("audio")];
  const name = button.textContent;
  let current = null; // the player that this button has started
  const stop = () => { current = null; button.textContent = name; };
  const start = (at) => {
    current = players[at] ?? null;
    if (!current) { stop(); return; }
    button.textContent = `Stop (${at + 1} of ${players.length})`;
    current.currentTime = 0;
    current.play();
  };
  button.hidden = players.length === 0;
  button.addEventListener("click", () => {
    const playing = current;
    if (playing) { stop(); playing.pause(); } else start(0);
  });
  players.forEach((player, at) => {
    player.addEventListener("ended", () => { if (player === current) start(at + 1); });
    // Stopped by its own button, or because another one plays.
    player.addEventListener("pause", () => { if (player === current && !player.ended) stop(); });
  });
}
